//! Targets that hang, close with every code, answer late, do not let us in, lie, and speak TLS.

use std::{
    collections::VecDeque,
    io::{BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    ops::ControlFlow,
};

use fieldgate_dialects::ws::{self, Decoder, Event, Limits, Opcode};
use serde_json::{Value, json};

use super::{add, again, taker_that};
use crate::{
    support::{Gateway, LIMIT, NodeScript, node_modules, post, wait_for},
    thingsee_in,
};

/// What comes on a connection.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Batch(Vec<u64>),
    Ping(Vec<u8>),
    End,
}

/// A connection that the gateway made to a WebSocket target; it answers nothing by itself.
struct Peer {
    stream: BufReader<TcpStream>,
    decoder: Decoder,
    came: VecDeque<Came>,
}

impl Peer {
    /// The next connection that asks for a WebSocket.
    fn accept(listener: &TcpListener) -> Self {
        let (mut stream, key) = loop {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let mut stream = BufReader::new(stream);
            if let Some(key) = asked(&mut stream) {
                break (stream, key);
            }
        };
        let accept = ws::accept_key(&key);
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        // Whoever gave up meanwhile does not hear it; then this ends at once.
        let _ = stream.get_mut().write_all(answer.as_bytes());
        let limits =
            Limits { frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20, fragment_count_max: 1 };
        Self { stream, decoder: Decoder::server(limits), came: VecDeque::new() }
    }

    fn next(&mut self) -> Came {
        loop {
            if let Some(came) = self.came.pop_front() {
                return came;
            }
            let mut buffer = vec![0; 64 * 1024];
            let len = match self.stream.read(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                Err(error) => panic!("nothing came: {error}"),
            };
            if len == 0 {
                return Came::End;
            }
            let came = &mut self.came;
            let fed = self.decoder.feed(&mut buffer[..len], &mut |event| {
                came.extend(match event {
                    Event::Text(text) => Some(Came::Batch(numbers(text))),
                    Event::Ping(payload) => Some(Came::Ping(payload.to_vec())),
                    Event::Close { .. } => Some(Came::End),
                    Event::Pong(_) | Event::Binary(_) => None,
                });
                ControlFlow::Continue(())
            });
            assert!(fed.is_ok(), "{fed:?}");
        }
    }

    /// The next batch and the name of the ping behind it, neither of which is answered; nothing at the
    /// end. Pings at rest are answered.
    fn batch(&mut self) -> Option<(Vec<u64>, Vec<u8>)> {
        let mut batch = None;
        loop {
            match (self.next(), batch.take()) {
                (Came::Batch(numbers), None) => batch = Some(numbers),
                (Came::Ping(name), Some(numbers)) => return Some((numbers, name)),
                (Came::Ping(name), None) => self.pong(&name),
                (Came::End, _) => return None,
                (Came::Batch(next), Some(before)) => panic!("{next:?} behind {before:?}, unasked"),
            }
        }
    }

    /// The next batch, which is answered.
    fn taken(&mut self) -> Vec<u64> {
        let (numbers, name) = self.batch().expect("a batch comes");
        self.pong(&name);
        numbers
    }

    fn pong(&mut self, name: &[u8]) {
        // Whoever has gone does not hear it.
        let _ = self.stream.get_mut().write_all(&ws::frame(Opcode::Pong, name));
    }

    fn close(&mut self, code: u16) {
        self.stream.get_mut().write_all(&ws::close_echo(Some(code))).unwrap();
        while self.next() != Came::End {}
    }
}

/// The key of a request; nothing if whoever made it has gone.
fn asked(stream: &mut impl std::io::BufRead) -> Option<String> {
    let mut key = None;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-key") => {
                key = Some(value.to_owned());
            }
            None if line.trim().is_empty() => return key,
            _ => (),
        }
    }
}

fn numbers(text: &str) -> Vec<u64> {
    let items: Vec<Value> = serde_json::from_str(text).unwrap();
    items.iter().map(|item| item["payload"]["n"].as_u64().unwrap()).collect()
}

/// Whoever sends what is delivered.
struct Sender<'a> {
    gateway: &'a Gateway,
    key: &'a str,
}

impl Sender<'_> {
    fn send(&self, n: u64) {
        let body = json!({"topic": "a/b", "payload": {"n": n}}).to_string();
        assert_eq!(post(&self.gateway.address, "/v1/publish", self.key, &body).0, 201);
    }

    /// How the delivery does, once it does so.
    fn shown(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || Some(shown(self.gateway)).filter(|told| is_so(told)))
    }
}

fn shown(gateway: &Gateway) -> Value {
    gateway.admin(&["integration", "show", "out"])
}

fn error_of(shown: &Value) -> &str {
    shown["progress"]["last_error"].as_str().unwrap_or_default()
}

/// A WebSocket target, and the delivery to it.
fn socket(gateway: &Gateway) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let ask = ["--kind", "websocket", "--url", &url, "--format", "native", "--filter", "a/#"];
    add(gateway, &ask);
    listener
}

#[test]
fn each_code_that_a_server_closes_with_has_its_meaning() {
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    let sender = Sender { gateway: &gateway, key: &key };
    let listener = socket(&gateway);
    let mut peer = Peer::accept(&listener);
    let codes = [1000, 1001, 1002, 1003, 1008, 1011, 4000];
    for (n, code) in (0..).zip(codes) {
        sender.send(n);
        assert_eq!(peer.batch().unwrap().0, [n]);
        peer.close(code);
        let is_told = |shown: &Value| error_of(shown).contains(&format!("with {code}"));
        if code == 1008 {
            sender.shown("who is not wanted", |told| told["state"] == "broken" && is_told(told));
            again(&gateway);
        }
        peer = Peer::accept(&listener);
        if code != 1003 {
            assert_eq!(peer.taken(), [n], "it was not taken before {code}");
        }
        sender.shown("the reason", is_told);
    }
    // Data that it does not accept are set aside; nothing else was.
    let told = sender.shown("all of it", |told| told["progress"]["delivered"] == 6);
    assert_eq!(told["progress"]["set_aside"], 1, "{told}");
    assert_eq!(told["state"], "running");
}

#[test]
fn who_answers_too_late_gets_the_same_again_under_its_name() {
    let gateway = Gateway::with(&["heartbeat.ping_ms=300", "heartbeat.silence_ms=1500"]);
    let key = gateway.key("admin");
    let sender = Sender { gateway: &gateway, key: &key };
    let listener = socket(&gateway);
    let (tell, came) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut is_first = true;
        loop {
            let mut peer = Peer::accept(&listener);
            while let Some((numbers, name)) = peer.batch() {
                if tell.send((numbers, name.clone())).is_err() {
                    return;
                }
                if std::mem::take(&mut is_first) {
                    // Patience ends before the answer.
                    while peer.next() != Came::End {}
                }
                peer.pong(&name);
            }
        }
    });
    sender.send(0);
    let first = came.recv_timeout(LIMIT).unwrap();
    assert_eq!(first.0, [0]);
    assert_eq!(came.recv_timeout(LIMIT).unwrap(), first, "what repeats it has its name");
    sender.shown("what was late", |told| {
        error_of(told).contains("no pong came in time") && told["progress"]["delivered"] == 1
    });
    sender.send(1);
    let mut next = std::iter::repeat_with(|| came.recv_timeout(LIMIT).unwrap());
    assert_eq!(next.find(|again| *again != first).unwrap().0, [1]);
}

#[test]
fn who_hangs_through_restarts_and_a_kill_gets_everything_in_order_when_it_is_back() {
    let mut gateway = Gateway::with(&["heartbeat.ping_ms=200", "heartbeat.silence_ms=1000"]);
    let key = gateway.key("admin");
    // The machine takes connections for it, and it says nothing.
    let listener = socket(&gateway);
    for round in 0..3 {
        let sender = Sender { gateway: &gateway, key: &key };
        (round * 20..(round + 1) * 20).for_each(|n| sender.send(n));
        let told = sender.shown("the next attempt", |told| {
            told["state"] == "waiting" && error_of(told).contains("no connection was made in time")
        });
        assert_eq!(told["progress"]["delivered"], 0, "{told}");
        if round == 1 {
            gateway.kill();
        } else {
            gateway.signal("TERM");
            assert_eq!(gateway.ended(), Some(0));
        }
        gateway.up();
    }
    let mut next = 0;
    while next < 60 {
        let mut peer = Peer::accept(&listener);
        while next < 60
            && let Some((numbers, name)) = peer.batch()
        {
            peer.pong(&name);
            for n in numbers {
                assert!(n <= next, "{n} before {next}");
                next = next.max(n + 1);
            }
        }
    }
}

#[test]
fn who_does_not_let_us_in_is_broken_until_it_does_and_loses_nothing() {
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    let sender = Sender { gateway: &gateway, key: &key };
    let (address, batches) = taker_that(|count| {
        if count == 0 { "401 Unauthorized\r\nContent-Length: 0" } else { "204 No Content" }
    });
    let url = format!("http://{address}/");
    add(&gateway, &["--kind", "rest", "--url", &url, "--format", "native", "--filter", "a/#"]);
    sender.send(0);
    let first = batches.recv_timeout(LIMIT).unwrap();
    let told = sender.shown("who is not let in", |told| told["state"] == "broken");
    assert_eq!(error_of(&told), "it answered with status 401");
    assert!(told["progress"]["retry_at"].is_u64(), "{told}");
    sender.send(1);
    again(&gateway);
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(batches.recv_timeout(LIMIT).unwrap().1);
    }
    assert!(came[0] == first.1[0] && came[1] > came[0], "{came:?} behind {first:?}");
    let told = sender.shown("both of them", |told| told["progress"]["delivered"] == 2);
    assert_eq!((&told["state"], &told["progress"]["set_aside"]), (&json!("running"), &json!(0)));
}

#[test]
fn what_somebody_said_it_took_and_did_not_comes_again_by_a_replay_alone() {
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    let sender = Sender { gateway: &gateway, key: &key };
    let listener = socket(&gateway);
    let mut peer = Peer::accept(&listener);
    for n in 0..2 {
        sender.send(n);
        // Its machine answers; it looks at nothing.
        peer.taken();
    }
    sender.shown("what it said", |told| told["progress"]["delivered"] == 2);
    gateway.admin(&["integration", "replay", "out", "--from", "all"]);
    let mut peer = Peer::accept(&listener);
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(peer.taken());
    }
    assert_eq!(came, [0, 1]);
}

/// An HTTP server as people write one, that checks who sent what it takes.
const NODE_HTTP: &str = "
const { createHmac, timingSafeEqual } = require('crypto');
const { readFileSync } = require('fs');
const server = require('http').createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    const { authorization, 'fieldgate-signature': signature } = request.headers;
    const [time, mac] = signature.split(',').map((part) => part.split('=')[1]);
    const wanted = createHmac('sha256', readFileSync('secret')).update(`${time}.${body}`);
    const isOurs = timingSafeEqual(Buffer.from(mac, 'hex'), wanted.digest());
    console.log(JSON.stringify([isOurs, authorization, JSON.parse(body)]));
    response.end('{\"ok\":true}');
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
";

#[test]
fn a_node_server_takes_batches_and_knows_who_sent_them() {
    let Some(modules) = node_modules() else { return };
    let script = NodeScript::new(&modules, NODE_HTTP, &[]);
    let server = script.start();
    let gateway = Gateway::start();
    let url = format!("http://127.0.0.1:{}/sensors/data#your-token", server.line());
    let made = gateway.admin(&[
        "integration",
        "add",
        "out",
        "--allow-private",
        "--kind",
        "rest",
        "--sign",
        "--url",
        &url,
        "--token-in",
        "hash:header:Authorization",
    ]);
    std::fs::write(script.path().join("secret"), made["signing_secret"].as_str().unwrap()).unwrap();
    let mut device = gateway.as_device("d", &gateway.device("d"));
    for temperature in [20, 21] {
        let data = json!({"temperature": temperature});
        device.send(&json!({"type": "status", "timestamp": 1_520_416_221_000_u64, "data": data}));
        let told: Value = serde_json::from_str(&server.line()).unwrap();
        let array = json!([{"tsmId": 12100, "tsmEv": 10, "temp": temperature,
            "tsmTs": 1_520_416_221, "tsmTuid": "d"}]);
        assert_eq!(told, json!([true, "Bearer your-token", array]));
    }
}

#[test]
fn over_tls_a_target_is_who_a_trusted_certificate_says_and_nobody_else() {
    let ours = thingsee_in::gateway(&["--self-signed"]);
    let brought = || ours.admin(&["integration", "show", "cloud"])["devices"].clone();
    let place = format!("{}/ingest/thingsee/cloud#{}", ours.address, thingsee_in::TOKEN);
    let mut gateway = Gateway::start();
    let mut names = Vec::new();
    for (name, scheme, kind, secret) in [
        ("socket", "wss", "websocket", "hash:query:token"),
        ("posts", "https", "rest", "hash:header:Authorization"),
    ] {
        let url = format!("{scheme}://{place}");
        let filter = format!("devices/{name}/telemetry");
        gateway.admin(&[
            "integration",
            "add",
            name,
            "--allow-private",
            "--kind",
            kind,
            "--url",
            &url,
            "--token-in",
            secret,
            "--filter",
            &filter,
        ]);
        let mut device = gateway.as_device(name, &gateway.device(name));
        device.send(&json!({"type": "status", "msgid": "m", "data": {"temperature": 20}}));
        assert_eq!(device.next()["type"], "ack");
        names.push(name);
    }
    for name in names {
        wait_for("a certificate that is not trusted", || {
            let told = gateway.admin(&["integration", "show", name]);
            (told["state"] == "waiting" && error_of(&told).contains("certificate")).then_some(())
        });
    }
    assert_eq!(brought(), 0);
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    gateway.trust(&ours.data().join("certs/self-signed.crt"));
    gateway.up();
    wait_for("both of them", || (brought() == 2).then_some(()));
    for name in ["socket", "posts"] {
        wait_for("its state", || {
            let told = gateway.admin(&["integration", "show", name]);
            (told["state"] == "running" && told["progress"]["delivered"] == 1).then_some(())
        });
    }
}
