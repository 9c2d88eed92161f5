//! Hostile input on a real gateway: bounded, with the right close code or status.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

use crate::support::{Gateway, LIMIT, Seen, Wire};

fn answer(gateway: &Gateway, request: &str) -> String {
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn bad_openings_get_their_status() {
    let gateway = Gateway::start();
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade, close\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (headers, status) in [
        (format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n"), "426"),
        (format!("{upgrade}Sec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13\r\n"), "400"),
        ("Connection: close\r\n".to_owned(), "426"),
    ] {
        let request = format!("GET /ws HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let answer = answer(&gateway, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers}: {answer}");
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert!(answer(&gateway, request).starts_with("HTTP/1.1 421"));
    let (status, body) = gateway.get("/nowhere", None);
    assert_eq!(status, 404);
    assert!(body.contains("\"code\":\"not_found\""), "{body}");
}

#[test]
fn a_head_that_drips_is_cut() {
    let gateway = Gateway::with(&["limits.handshake_ms=300"]);
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /ws HTTP/1.1\r\nHost:").unwrap();
    let mut rest = Vec::new();
    // The end of the stream is what counts; a reset is one too.
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("101"));
}

#[test]
fn who_does_not_authenticate_in_time_is_closed() {
    let gateway = Gateway::with(&["limits.auth_ms=200"]);
    assert_eq!(gateway.connect().closed(), Some(4401));
}

#[test]
fn a_silent_client_is_closed_after_the_heartbeat() {
    let gateway = Gateway::with(&["heartbeat.ping_ms=200", "heartbeat.silence_ms=600"]);
    let token = gateway.device("d");
    assert_eq!(gateway.as_device("d", &token).closed(), Some(4001));
}

#[test]
fn frames_above_the_limit_end_the_connection_before_they_are_read() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let mut device = gateway.as_device("d", &token);
    let mut header = vec![0x81, 0xFF];
    header.extend_from_slice(&(1_u64 << 30).to_be_bytes());
    header.extend_from_slice(&[0; 4]);
    device.raw(&header).unwrap();
    assert_eq!(device.closed(), Some(1009));
    let mut anonymous = gateway.connect();
    anonymous.send_text(&"x".repeat(20_000));
    assert_eq!(anonymous.closed(), Some(1009));
}

#[test]
fn what_is_no_websocket_ends_with_its_code() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    for (bytes, code) in [
        (&[0xF1, 0x80, 0, 0, 0, 0][..], 1002),
        (&[0x81, 0x01, b'x'][..], 1002),
        (&[0x81, 0x81, 0, 0, 0, 0, 0xFF][..], 1007),
    ] {
        let mut device = gateway.as_device("d", &token);
        device.raw(bytes).unwrap();
        assert_eq!(device.closed(), Some(code), "{bytes:?}");
    }
}

#[test]
fn deep_json_is_refused_and_the_connection_goes_on() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let mut device = gateway.as_device("d", &token);
    device.send_text(&format!("{{\"type\":\"status\",\"data\":{}", "[".repeat(100_000)));
    assert_eq!(device.next()["code"], "bad_json");
    device.send(&json!({"type": "ping"}));
    assert_eq!(device.next()["type"], "pong");
}

#[test]
fn every_error_names_the_frame_that_it_refuses() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    for frame in [
        r#"{"type":"status","deviceId":"other","data":{"t":1},"msgid":"m"}"#,
        r#"{"type":"status","data":7,"msgid":"m"}"#,
        r#"{"type":"status","data":{},"data":{},"msgid":"m"}"#,
        r#"{"type":"batch","data":[{"data":7}],"msgid":"m"}"#,
        r#"{"type":"event","msgid":"m"}"#,
        r#"{"type":"subscribe","topic":"devices/+/telemetry","msgid":"m"}"#,
        r#"{"type":"unsubscribe","topic":"never","msgid":"m"}"#,
        r#"{"type":"publish","topic":"a/#","payload":1,"msgid":"m"}"#,
        r#"{"type":"command","to":"other","payload":1,"msgid":"m"}"#,
        r#"{"type":"reply","status":"ok","msgid":"m"}"#,
        r#"{"type":"cancel","msgid":"k3f9:1"}"#,
        r#"{"type":"auth","token":"t","msgid":"m"}"#,
        r#"{"type":"nonsense","msgid":"m"}"#,
    ] {
        // Ten errors would end one connection.
        let mut device = gateway.as_device("d", &token);
        device.send_text(frame);
        let error = device.next();
        let msgid = if frame.contains("cancel") { "k3f9:1" } else { "m" };
        assert_eq!((&error["type"], &error["ref"]), (&json!("error"), &json!(msgid)), "{frame}");
        assert!(error["msgid"].is_null(), "{error}");
    }
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let gateway = Gateway::with(&["limits.connections_per_address_max=5"]);
    let mut open: Vec<Wire> = (0..5).map(|_| gateway.connect()).collect();
    let refused = Wire::open(&gateway.address, "/ws", &[]).err().unwrap();
    assert!(refused.contains("429"), "{refused}");
    open.pop();
    crate::support::wait_for("a free place", || Wire::open(&gateway.address, "/ws", &[]).ok());
}

#[test]
fn guesses_are_limited_before_the_credential_is_looked_at() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=3"]);
    let token = gateway.device("d");
    for _ in 0..3 {
        assert!(Wire::open(&gateway.address, "/ws?token=x", &[]).err().unwrap().contains("401"));
    }
    let refused = Wire::open(&gateway.address, &format!("/ws?token={token}"), &[]).err();
    assert!(refused.unwrap().contains("429"));
}

#[test]
fn who_sends_too_fast_is_told_how_long_to_wait() {
    let gateway = Gateway::with(&["limits.messages_per_second=10", "limits.message_burst=10"]);
    let token = gateway.device("d");
    let mut device = gateway.as_device("d", &token);
    for n in 0..30 {
        device.send(&json!({"type": "status", "msgid": n.to_string(), "data": {"t": 1}}));
    }
    let error = device.next_of("error");
    assert_eq!(error["code"], "rate_limited");
    assert!(error["ref"].is_string(), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("limits.messages_per_second = 10") && message.contains(" ms"));
}

#[test]
fn connections_of_one_principal_share_its_rate_and_a_new_one_brings_no_new_burst() {
    let gateway = Gateway::with(&["limits.messages_per_second=1", "limits.message_burst=10"]);
    let key = gateway.key("admin");
    let mut refused = 0;
    for _ in 0..4 {
        let mut app = gateway.as_app(&key);
        for n in 0..5 {
            app.send(
                &json!({"type": "publish", "topic": "a", "payload": n, "msgid": n.to_string()}),
            );
            let answer = app.next();
            refused += u32::from(answer["code"] == "rate_limited");
        }
    }
    // Twenty were sent; some may have come in by the second.
    assert!((5..=10).contains(&refused), "{refused}");
    let mut device = gateway.as_device("d", &gateway.device("d"));
    device.send(&json!({"type": "status", "data": {"t": 1}, "msgid": "m"}));
    assert_eq!(device.next()["type"], "ack");
}

#[test]
fn bytes_and_the_elements_of_a_batch_count() {
    let gateway = Gateway::with(&[
        "limits.bytes_per_second=2000",
        "limits.messages_per_second=1",
        "limits.message_burst=10",
    ]);
    let mut device = gateway.as_device("d", &gateway.device("d"));
    let elements: Vec<_> = (0..8).map(|n| json!({"data": {"t": n}})).collect();
    for (msgid, answer) in [("one", "ack"), ("two", "error")] {
        device.send(&json!({"type": "batch", "msgid": msgid, "qos": 1, "data": elements}));
        assert_eq!(device.next()["type"], answer, "{msgid}");
    }
    let mut other = gateway.as_device("e", &gateway.device("e"));
    let text = "x".repeat(3_000);
    for (msgid, answer) in [("one", "ack"), ("two", "error")] {
        other.send(&json!({"type": "event", "event": "e", "data": text, "msgid": msgid}));
        assert_eq!(other.next()["type"], answer, "{msgid}");
    }
}

#[test]
fn who_insists_for_ten_seconds_is_closed() {
    let gateway = Gateway::with(&["limits.messages_per_second=10", "limits.message_burst=10"]);
    let mut device = gateway.as_device("d", &gateway.device("d"));
    let start = std::time::Instant::now();
    let code = loop {
        device.send(&json!({"type": "ping"}));
        match device.see() {
            Seen::Frame(_) | Seen::Ping | Seen::Pong(_) => (),
            Seen::Close(code) => break code,
            Seen::End => panic!("no close frame"),
        }
    };
    assert_eq!(code, Some(4429));
    assert!(start.elapsed() >= Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn past_the_limit_a_connection_is_told_and_closed_and_a_takeover_is_not() {
    let gateway = Gateway::with(&["limits.connections_max=2"]);
    let (key, token) = (gateway.key("admin"), gateway.device("d"));
    let (_app, mut device) = (gateway.as_app(&key), gateway.as_device("d", &token));
    assert_eq!(gateway.as_app(&key).closed(), Some(4503));
    let mut again = gateway.as_device("d", &token);
    assert_eq!(device.closed(), Some(4409));
    again.send(&json!({"type": "ping"}));
    assert_eq!(again.next()["type"], "pong");
}

#[test]
fn replays_take_turns_and_one_that_nobody_reads_holds_up_no_other() {
    let gateway =
        Gateway::with(&["limits.replays_per_principal_max=1", "limits.message_burst=9000"]);
    let mut device = gateway.as_device("d", &gateway.device("d"));
    let pad = "x".repeat(200);
    for round in 0..4 {
        let items = vec![json!({"data": {"pad": pad}}); 1_000];
        device.send(&json!({"type": "batch", "msgid": format!("b{round}"), "data": items}));
        assert_eq!(device.next()["type"], "ack");
    }
    let key = gateway.key("operator");
    let filters =
        ["#", "devices/#", "devices/d/#", "devices/+/telemetry", "+/d/telemetry", "+/+/+"];
    let subscribe = |wire: &mut Wire| {
        for filter in filters {
            wire.send(&json!({"type": "subscribe", "topic": filter, "since": "all"}));
        }
    };
    let mut stalled = gateway.as_app(&key);
    subscribe(&mut stalled);
    let mut reader = gateway.as_app(&key);
    subscribe(&mut reader);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let mut open = filters.len();
    while open > 0 {
        let frame = reader.next();
        if let Some(filter) = frame["replay"].as_str() {
            *counts.entry(filter.to_owned()).or_default() += 1;
        }
        open -= usize::from(frame["type"] == "caught_up");
    }
    assert_eq!(counts.len(), filters.len());
    assert!(counts.values().all(|count| *count == 4_000), "{counts:?}");
}

#[test]
fn no_secret_is_in_any_output() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("admin"));
    gateway.as_device("d", &token);
    drop(Wire::open(&gateway.address, &format!("/ws?token={key}"), &[]).unwrap());
    let _refused = Wire::open(&gateway.address, "/ws?token=guess-guess-guess", &[]);
    let (_, metrics) = gateway.get("/metrics", Some(&key));
    let (_, status) = gateway.get("/v1/status", Some(&key));
    let everything = format!("{}{metrics}{status}", gateway.output());
    for secret in [&token, &key, &"guess-guess-guess".to_owned()] {
        assert!(!everything.contains(secret.as_str()));
    }
    assert!(metrics.contains("fieldgate_connections"), "{metrics}");
    assert_eq!(gateway.get("/metrics", None).0, 401);
}
