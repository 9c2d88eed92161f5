//! The client against a tiny server that says exactly what each test wants it to say.
//!
//! Real sockets on ports that the system chooses. No sleeps: every wait is for a frame or a state.

mod reopen;
mod stuck;

use std::time::Duration;

use crate::{Backoff, BufferLimits, Builder, Client, ConnectError, End, Event, SendError, Since};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_websockets::{CloseCode, Message, ServerBuilder, WebSocketStream};

const LIMIT: Duration = Duration::from_secs(5);

struct Server {
    listener: TcpListener,
    url: String,
}

struct Peer(WebSocketStream<TcpStream>);

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    fn client(&self) -> Builder {
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(10) };
        Client::builder(&self.url).token("secret").backoff(backoff)
    }

    /// Takes the next connection up to the welcome.
    async fn accept(&self) -> Peer {
        let mut peer = self.upgrade().await;
        peer.welcome().await;
        peer
    }

    async fn upgrade(&self) -> Peer {
        let (stream, _) = timeout(LIMIT, self.listener.accept()).await.unwrap().unwrap();
        let protocol = HeaderValue::from_static("fieldgate.v1.json");
        let builder = ServerBuilder::new();
        let builder = builder.add_header(header::SEC_WEBSOCKET_PROTOCOL, protocol).unwrap();
        Peer(builder.accept(stream).await.unwrap().1)
    }
}

impl Peer {
    async fn welcome(&mut self) {
        self.send(json!({
            "type": "auth_response", "status": "success", "timestamp": 1, "session": "s",
            "resumed": false, "epoch": "e", "heartbeatInterval": 30_000,
        }))
        .await;
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next text frame.
    async fn frame(&mut self) -> Value {
        loop {
            let message = timeout(LIMIT, self.0.next()).await.unwrap().unwrap().unwrap();
            if let Some(text) = message.as_text() {
                return serde_json::from_str(text).unwrap();
            }
        }
    }

    async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.frame().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    async fn refuse(&mut self, code: &str, msgid: &Value) {
        self.send(json!({"type": "error", "code": code, "message": "no", "ref": msgid})).await;
    }

    /// Says yes to the next frame, which asks for `a`; the frame.
    async fn subscribed(&mut self) -> Value {
        let ask = self.expect("subscribe").await;
        self.send(json!({"type": "subscribed", "topic": "a", "qos": 1, "position": "e:1"})).await;
        ask
    }

    async fn message(&mut self, seq: u64) {
        self.send(json!({
            "type": "mqtt", "topic": "devices/a/telemetry", "payload": {"n": seq}, "seq": seq,
            "timestamp": seq, "from": "a", "msgid": format!("e:{seq}"), "qos": 1,
        }))
        .await;
    }
}

async fn pair(server: &Server, builder: Builder) -> (Client, Peer) {
    let (client, peer) = tokio::join!(builder.connect(), server.accept());
    (client.unwrap(), peer)
}

async fn next(events: &mut crate::Subscription) -> Event {
    timeout(LIMIT, events.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_message_is_repeated_under_the_same_id_after_a_lost_connection() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let receipt = client.publish("t", json!({"a": 1})).qos1().enqueue().unwrap();
    let first = peer.expect("publish").await;
    drop(peer);
    let mut peer = server.accept().await;
    let second = peer.expect("publish").await;
    assert_eq!(first, second);
    peer.send(json!({"type": "ack", "msgid": second["msgid"], "seq": 7})).await;
    assert_eq!(timeout(LIMIT, receipt).await.unwrap().unwrap().seq, 7);
}

#[tokio::test]
async fn an_unanswered_message_is_repeated_on_the_same_connection() {
    let server = Server::new().await;
    let builder = server.client().ack_timeout(Duration::from_millis(20));
    let (client, mut peer) = pair(&server, builder).await;
    let receipt = client.publish("t", "x").qos1().enqueue().unwrap();
    let first = peer.expect("publish").await;
    assert_eq!(first, peer.expect("publish").await);
    peer.send(json!({"type": "ack", "msgid": first["msgid"], "seq": 1})).await;
    timeout(LIMIT, receipt).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_send_that_nobody_acknowledges_ends_with_its_patience() {
    let server = Server::new().await;
    let (client, _peer) = pair(&server, server.client()).await;
    let sent = client.publish("t", "x").qos1().patience(Duration::from_millis(20)).send().await;
    assert!(matches!(sent, Err(SendError::Unacknowledged { .. })));
}

#[tokio::test]
async fn a_refusal_reaches_the_sender_of_that_message() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let receipt = client.publish("t", "x").qos1().enqueue().unwrap();
    let msgid = peer.expect("publish").await["msgid"].clone();
    peer.refuse("not_allowed", &msgid).await;
    let answer = timeout(LIMIT, receipt).await.unwrap();
    assert!(matches!(answer, Err(SendError::Refused { code, .. }) if code == "not_allowed"));
}

#[tokio::test]
async fn an_offline_client_buffers_up_to_its_bound_and_then_says_so() {
    let server = Server::new().await;
    let limits = BufferLimits { records_max: 2, ..BufferLimits::default() };
    let client = server.client().buffer(limits).start().unwrap();
    let _a = client.publish("t", "1").enqueue().unwrap();
    let _b = client.publish("t", "2").qos1().enqueue().unwrap();
    let full = client.publish("t", "3").enqueue();
    assert!(matches!(full, Err(SendError::Full { records: 2, .. })));
    let mut peer = server.accept().await;
    assert_eq!(peer.expect("publish").await["payload"], "1");
    assert_eq!(peer.expect("publish").await["payload"], "2");
}

#[tokio::test]
async fn a_subscription_goes_on_behind_the_last_message_without_a_double() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let open = client.subscribe("devices/+/telemetry").qos1().open();
    let serve = async {
        let ask = peer.expect("subscribe").await;
        assert_eq!(ask.get("since"), None);
        let topic = &ask["topic"];
        peer.send(json!({"type": "subscribed", "topic": topic, "qos": 1, "position": "e:3"})).await;
    };
    let (events, ()) = tokio::join!(open, serve);
    let mut events = events.unwrap();
    peer.message(4).await;
    assert!(matches!(next(&mut events).await, Event::Message(m) if m.seq == 4));
    assert_eq!(peer.expect("ack").await["msgid"], "e:4");
    drop(peer);

    let mut peer = server.accept().await;
    let ask = peer.expect("subscribe").await;
    assert_eq!(ask["since"]["after"], "e:4");
    let filter = &ask["topic"];
    peer.send(json!({"type": "subscribed", "topic": filter, "qos": 1, "position": "e:4"})).await;
    peer.send(json!({
        "type": "mqtt", "topic": "devices/a/telemetry", "payload": 5, "seq": 5, "timestamp": 1,
        "from": "a", "msgid": "e:5", "replay": filter,
    }))
    .await;
    peer.send(json!({"type": "gap", "from": "e:6", "to": "e:6", "reason": "crash"})).await;
    peer.send(json!({"type": "caught_up", "topic": filter, "position": "e:7"})).await;
    peer.message(7).await;
    peer.message(8).await;
    assert!(matches!(next(&mut events).await, Event::Message(m) if m.seq == 5));
    assert!(matches!(next(&mut events).await, Event::Gap(gap) if gap.reason == "crash"));
    assert_eq!(next(&mut events).await, Event::CaughtUp);
    assert!(matches!(next(&mut events).await, Event::Message(m) if m.seq == 8), "7 was told");
    assert_eq!(events.position().unwrap().to_string(), "e:8");
}

#[tokio::test]
async fn a_refused_subscription_says_so_and_a_dropped_one_unsubscribes() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let refuse = async {
        let msgid = peer.expect("subscribe").await["msgid"].clone();
        peer.refuse("not_allowed", &msgid).await;
    };
    let (opened, ()) = tokio::join!(client.subscribe("#").since(Since::All).open(), refuse);
    assert!(opened.is_err());
    let allow = async {
        let topic = peer.expect("subscribe").await["topic"].clone();
        peer.send(json!({"type": "subscribed", "topic": topic, "qos": 0, "position": "e:1"})).await;
    };
    let (opened, ()) = tokio::join!(client.subscribe("a/b").open(), allow);
    drop(opened.unwrap());
    assert_eq!(peer.expect("unsubscribe").await["topic"], "a/b");
}

#[tokio::test]
async fn a_command_is_followed_to_its_end() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let serve = async {
        let msgid = peer.expect("command").await["msgid"].clone();
        peer.send(json!({"type": "ack", "msgid": msgid, "seq": 9, "devices": 1})).await;
        for state in ["sent", "acknowledged", "completed"] {
            let payload = (state == "completed").then_some(json!({"on": true}));
            peer.send(json!({
                "type": "command_state", "ref": msgid, "deviceId": "lamp", "state": state,
                "payload": payload,
            }))
            .await;
        }
    };
    let wait = client.command("lamp", json!({"on": true})).wait(LIMIT);
    let (outcome, ()) = tokio::join!(wait, serve);
    let outcome = outcome.unwrap();
    assert_eq!((outcome.state.as_str(), outcome.is_end, outcome.seq), ("completed", true, 9));
    assert_eq!(outcome.payload.as_deref(), Some(r#"{"on":true}"#));
}

#[tokio::test]
async fn a_device_takes_each_command_once_however_often_it_comes() {
    let server = Server::new().await;
    let (connected, mut peer) = tokio::join!(server.client().device("lamp").connect(), async {
        let mut peer = server.upgrade().await;
        let auth = peer.expect("auth").await;
        assert_eq!((&auth["deviceId"], &auth["token"]), (&json!("lamp"), &json!("secret")));
        peer.welcome().await;
        peer
    });
    let client = connected.unwrap();
    let mut commands = client.commands();
    peer.send(control()).await;
    let command = timeout(LIMIT, commands.next()).await.unwrap().unwrap();
    assert_eq!(peer.expect("ack").await["msgid"], "e:5");
    peer.send(control()).await;
    assert_eq!(peer.expect("ack").await["msgid"], "e:5");
    let receipt = command.done(json!({"on": true})).unwrap();
    let reply = peer.expect("reply").await;
    assert_eq!((&reply["msgid"], &reply["status"]), (&json!("e:5"), &json!("ok")));
    peer.send(json!({"type": "ack", "msgid": "e:5", "seq": 6})).await;
    timeout(LIMIT, receipt).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_close_code_that_says_so_ends_the_client() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let code = CloseCode::try_from(4409).unwrap();
    peer.0.send(Message::close(Some(code), "Session taken over")).await.unwrap();
    let end = timeout(LIMIT, client.ended()).await.unwrap();
    assert!(matches!(end, End::ByServer { code: 4409, .. }), "{end:?}");
    assert!(matches!(client.publish("t", "x").enqueue(), Err(SendError::Ended(_))));
}

#[tokio::test]
async fn a_graceful_close_waits_for_what_is_not_acknowledged() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let receipt = client.publish("t", "x").qos1().enqueue().unwrap();
    let serve = async {
        let msgid = peer.expect("publish").await["msgid"].clone();
        peer.send(json!({"type": "ack", "msgid": msgid, "seq": 1})).await;
        let last = timeout(LIMIT, peer.0.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(last.as_close().unwrap().0, CloseCode::NORMAL_CLOSURE);
    };
    let (end, ()) = tokio::join!(client.close(), serve);
    assert!(matches!(end, End::Closed));
    receipt.await.unwrap();
}

#[tokio::test]
async fn a_refused_upgrade_is_told_apart_from_nobody_there() {
    let server = Server::new().await;
    let refuse = async {
        let (mut stream, _) = server.listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        stream
    };
    let (refused, _stream) = tokio::join!(server.client().connect(), refuse);
    assert!(matches!(refused, Err(ConnectError::Refused { status: Some(401), .. })));
    let builder = server.client();
    drop(server);
    assert!(matches!(builder.connect().await, Err(ConnectError::Unreachable { .. })));
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_pinged_before() {
    let server = Server::new().await;
    let habits = (Duration::from_millis(10), Duration::from_millis(50));
    // The peer is never read, so nothing answers the pings.
    let (client, _deaf) = pair(&server, server.client().heartbeat(habits.0, habits.1)).await;
    let _again = server.accept().await;
    assert!(client.publish("t", "x").enqueue().is_ok());
}

fn control() -> Value {
    json!({
        "type": "control", "msgid": "e:5", "deviceId": "lamp", "payload": {"on": true},
        "timestamp": 1, "qos": 1,
    })
}

/// Waits until the client has taken everything that was sent to it before.
async fn heard(client: &Client, peer: &mut Peer) {
    let receipt = client.publish("t", "x").qos1().enqueue().unwrap();
    let msgid = peer.expect("publish").await["msgid"].clone();
    peer.send(json!({"type": "ack", "msgid": msgid, "seq": 1})).await;
    timeout(LIMIT, receipt).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_command_that_nobody_took_is_not_acknowledged_and_comes_to_who_takes_commands_next() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let before = client.commands();
    peer.send(control()).await;
    peer.send(control()).await;
    // No acknowledgement goes before this one, though it waits and came twice.
    heard(&client, &mut peer).await;
    drop(before);
    peer.send(control()).await;
    heard(&client, &mut peer).await;
    let mut commands = client.commands();
    drop(peer);
    let mut peer = server.accept().await;
    peer.send(control()).await;
    let command = timeout(LIMIT, commands.next()).await.expect("nobody was given it").unwrap();
    assert_eq!(command.msgid, "e:5");
    assert_eq!(peer.expect("ack").await["msgid"], "e:5");
}

#[tokio::test]
async fn a_command_that_waits_for_two_is_given_to_one() {
    let server = Server::new().await;
    let (client, mut peer) = pair(&server, server.client()).await;
    let mut first = client.commands();
    peer.send(control()).await;
    heard(&client, &mut peer).await;
    let mut second = client.commands();
    peer.send(control()).await;
    heard(&client, &mut peer).await;
    let command = timeout(LIMIT, first.next()).await.unwrap().unwrap();
    assert_eq!((command.msgid.as_str(), first.next().await.is_none()), ("e:5", true));
    assert_eq!(peer.expect("ack").await["msgid"], "e:5");
    let other = json!({"type": "control", "msgid": "e:6", "deviceId": "lamp", "payload": 1});
    peer.send(other).await;
    assert_eq!(timeout(LIMIT, second.next()).await.unwrap().unwrap().msgid, "e:6");
}

/// A subscription to `a` that stood, and was asked for again on the connection that is told.
async fn resumed(server: &Server) -> (Client, Peer, crate::Subscription, Value) {
    let builder = server.client().ack_timeout(Duration::from_millis(20));
    let (client, mut peer) = pair(server, builder).await;
    let (opened, _) = tokio::join!(client.subscribe("a").qos1().open(), peer.subscribed());
    drop(peer);
    let mut peer = server.accept().await;
    let msgid = peer.expect("subscribe").await["msgid"].clone();
    (client, peer, opened.unwrap(), msgid)
}

#[tokio::test]
async fn a_refusal_of_something_else_ends_no_subscription() {
    let server = Server::new().await;
    let (client, mut peer, mut events, _) = resumed(&server).await;
    drop(client.publish("b", "x").enqueue().unwrap());
    peer.expect("publish").await;
    peer.send(json!({"type": "error", "code": "not_allowed", "message": "no"})).await;
    peer.send(json!({"type": "subscribed", "topic": "a", "qos": 1, "position": "e:1"})).await;
    peer.send(json!({"type": "caught_up", "topic": "a", "position": "e:1"})).await;
    assert_eq!(next(&mut events).await, Event::CaughtUp);
}

#[tokio::test]
async fn a_subscription_that_is_refused_for_now_is_asked_for_again() {
    let server = Server::new().await;
    let (_client, mut peer, mut events, msgid) = resumed(&server).await;
    peer.refuse("rate_limited", &msgid).await;
    let again = peer.subscribed().await;
    assert_eq!(again["since"]["after"], "e:1");
    assert_ne!(again["msgid"], msgid);
    peer.send(json!({"type": "caught_up", "topic": "a", "position": "e:1"})).await;
    assert_eq!(next(&mut events).await, Event::CaughtUp);
}

#[tokio::test]
async fn a_subscription_that_is_refused_for_good_says_so_before_it_ends() {
    let server = Server::new().await;
    let (client, mut peer, mut events, msgid) = resumed(&server).await;
    peer.refuse("not_allowed", &msgid).await;
    let (code, message) = ("not_allowed".to_owned(), "no".to_owned());
    assert_eq!(next(&mut events).await, Event::Refused { code, message });
    assert_eq!(timeout(LIMIT, events.next()).await.unwrap(), None);
    let (opened, _) = tokio::join!(client.subscribe("a").open(), peer.subscribed());
    assert!(opened.is_ok(), "its filter is free again");
}
