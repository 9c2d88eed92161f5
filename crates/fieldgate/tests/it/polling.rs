//! What polling sessions of Socket.IO cost, and how long their requests may wait.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::support::{Gateway, post, sessions::Polling, wait_for};

/// A request on a connection that stays open behind it.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn poll(gateway: &Gateway, session: &Polling<'_>) -> Self {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let path = session.query();
        let head = format!("GET /socket.io/?{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// Waits for the answer.
    fn answer(&mut self) -> (String, String) {
        let (mut status, mut line, mut byte_len) = (String::new(), String::new(), 0);
        self.0.read_line(&mut status).unwrap();
        while line != "\r\n" {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "it was cut behind {status:?}");
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                byte_len = text.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; byte_len];
        self.0.read_exact(&mut body).unwrap();
        (status.trim().to_owned(), String::from_utf8(body).unwrap())
    }
}

fn authenticate(session: &Polling<'_>, key: &str) {
    assert_eq!(session.post("40/v2,").1, "ok");
    assert!(session.next().starts_with("40/v2,"));
    let event = json!(["authenticate", {"sessionToken": key}]);
    assert_eq!(session.post(&format!("42/v2,{event}")).1, "ok");
    assert!(session.next().contains("success"));
}

fn status(gateway: &Gateway, key: &str) -> Value {
    serde_json::from_str(&gateway.get("/v1/status", Some(key)).1).unwrap()
}

#[test]
fn a_poll_waits_longer_than_a_connection_at_rest_may() {
    let gateway = Gateway::with(&["limits.idle_http_ms=200", "heartbeat.ping_ms=1500"]);
    let (session, _) = Polling::open(&gateway, 4);
    let mut kept = Kept::poll(&gateway, &session);
    assert_eq!(kept.answer(), ("HTTP/1.1 200 OK".to_owned(), "2".to_owned()));
    // At rest it ends as every other.
    assert_eq!(kept.0.read(&mut [0]).unwrap(), 0);
}

#[test]
fn polls_of_sessions_that_are_somebodys_take_no_place_of_those_who_are_nobody() {
    const COUNT: usize = 12;
    let gateway = Gateway::with(&["limits.unauthenticated_max=4"]);
    let key = gateway.key("admin");
    let mut waiting = Vec::new();
    for nth in 0..COUNT {
        let (session, _) = Polling::open(&gateway, 4);
        authenticate(&session, &key);
        let event = json!(["subscribe", {"resource": "/me/resources/n"}]);
        assert_eq!(session.post(&format!("42/v2,{event}")).1, "ok");
        assert!(session.next().contains("subscribed"), "{nth}");
        waiting.push((Kept::poll(&gateway, &session), session));
    }
    // A poll that waits while its session becomes somebody's goes along.
    let (late, _) = Polling::open(&gateway, 4);
    assert_eq!(late.post("40/v2,").1, "ok");
    assert!(late.next().starts_with("40/v2,"));
    let mut first = Kept::poll(&gateway, &late);
    let event = json!(["authenticate", {"sessionToken": key}]);
    assert_eq!(late.post(&format!("42/v2,{event}")).1, "ok");
    assert!(first.answer().1.contains("success"));
    waiting.push((first, late));
    // What asks is one itself.
    let nobodys = || status(&gateway, &key)["links"]["unauthenticated"].as_u64().unwrap();
    wait_for("their places", || (nobodys() <= 1).then_some(()));
    let body = json!({"topic": "devices/d/telemetry", "qos": 1, "payload": {"n": 7}});
    assert_eq!(post(&gateway.address, "/v1/publish", &key, &body.to_string()).0, 201);
    for (kept, _) in waiting.iter_mut().take(COUNT) {
        let (status, body) = kept.answer();
        assert!(status.ends_with("200 OK") && body.contains("\"value\":7,"), "{status} {body}");
    }
    // Each has a place that it gives back.
    for (_, session) in waiting {
        assert_eq!(session.post("1").1, "ok");
    }
    wait_for("the end", || (status(&gateway, &key)["connections"] == 0).then_some(()));
}

#[test]
fn who_is_nobody_posts_no_more_than_a_first_frame() {
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    let body = "x".repeat(20_000);
    let event = format!("42/v2,{}", json!(["subscribe", {"resource": body}]));
    let (session, _) = Polling::open(&gateway, 4);
    let (status, told) = session.post(&event);
    assert_eq!(status, 413);
    assert!(told.contains("limits.unauthenticated_frame_bytes_max"), "{told}");
    wait_for("the end", || (session.poll().0 == 400).then_some(()));

    let (session, _) = Polling::open(&gateway, 4);
    authenticate(&session, &key);
    assert_eq!(session.post(&event).1, "ok");
    assert!(session.next().contains("\"code\":404"));
}
