//! The edge: who is believed about an address, which page may ask, and how long anybody may take.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Gateway, LIMIT, Wire, wait_for};

fn stream(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Reads until the end of the stream, a reset included; how long it took.
fn until_the_end(stream: &mut TcpStream) -> (String, Duration) {
    let start = Instant::now();
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it was not ended");
    }
    (String::from_utf8_lossy(&bytes).into_owned(), start.elapsed())
}

/// One request on a connection of its own; the whole answer.
fn answer(address: &str, request: &str) -> String {
    let mut stream = stream(address);
    stream.write_all(request.as_bytes()).unwrap();
    until_the_end(&mut stream).0
}

/// One request on a connection that stays; the head and body of the answer, which is short.
fn kept(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    let mut byte = [0];
    while !(text.contains("\r\n\r\n") && text.ends_with('\n') && !text.ends_with("\r\n\r\n")) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{text}");
        text.push(char::from(byte[0]));
    }
    text
}

#[test]
fn who_opens_a_tls_connection_and_says_nothing_is_cut() {
    let gateway = Gateway::with(&["limits.handshake_ms=300", "--self-signed"]);
    for beginning in [&b""[..], &[0x16, 0x03, 0x01, 0x02, 0x00][..]] {
        let mut silent = stream(&gateway.address);
        silent.write_all(beginning).unwrap();
        until_the_end(&mut silent);
    }
    let mut app = gateway.as_app_over_tls(&gateway.key("admin"));
    app.send(&json!({"type": "ping"}));
    assert_eq!(app.next()["type"], "pong");
}

#[test]
fn a_connection_that_stays_has_its_time_and_a_head_that_drips_has_less() {
    let gateway = Gateway::with(&["limits.handshake_ms=500", "limits.idle_http_ms=2000"]);
    let mut resting = stream(&gateway.address);
    kept(&mut resting, "/healthz");
    let (left, took) = until_the_end(&mut resting);
    assert!(left.is_empty() && took >= Duration::from_millis(1_800), "{left} after {took:?}");
    let mut dripping = stream(&gateway.address);
    kept(&mut dripping, "/healthz");
    dripping.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
    let (left, took) = until_the_end(&mut dripping);
    assert!(left.is_empty() && took < Duration::from_millis(1_800), "{left} after {took:?}");
    let mut silent = stream(&gateway.address);
    assert!(until_the_end(&mut silent).1 < Duration::from_millis(1_800));
}

#[test]
fn many_connections_of_one_address_are_told_and_cost_no_files() {
    let gateway = Gateway::with(&["limits.connections_per_address_max=20"]);
    let files = gateway.open_files();
    let open: Vec<Wire> = (0..20).map(|_| gateway.connect()).collect();
    let mut others: Vec<TcpStream> = (0..500).map(|_| stream(&gateway.address)).collect();
    // Those that say nothing are refused and held for a handshake at most, and only so many.
    let bound = files + 20 + 256 + 32;
    wait_for("the excess to be dropped", || (gateway.open_files() < bound).then_some(()));
    let mut told = 0;
    for other in &mut others {
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        // Where it was dropped the write may fail, and the read tells.
        let _ = other.write_all(request);
        told += usize::from(until_the_end(other).0.starts_with("HTTP/1.1 429"));
    }
    assert!(told > 0, "nobody was told why");
    drop(open);
    wait_for("a free place", || Wire::open(&gateway.address, "/ws", &[]).ok());
}

#[test]
fn behind_a_trusted_proxy_each_client_has_an_address_of_its_own() {
    let gateway = Gateway::with(&[
        "listen.trusted_proxies=127.0.0.1",
        "limits.connections_per_address_max=2",
        "limits.auth_failures_per_minute_max=2",
    ]);
    let open = |header: &str| Wire::open(&gateway.address, "/ws", &[header]);
    let (one, other) = ("X-Forwarded-For: 6.6.6.6, 192.0.2.1", "Forwarded: for=192.0.2.2");
    let held = [open(one), open(one), open(other)];
    assert!(held.iter().all(Result::is_ok));
    assert!(open(one).err().unwrap().contains("429"));
    // Guesses are counted where they come from.
    let guess =
        |header: &str| Wire::open(&gateway.address, "/ws?token=guess", &[header]).err().unwrap();
    let (bad, good) = ("X-Forwarded-For: 192.0.2.3", "X-Forwarded-For: 192.0.2.4");
    assert!([guess(bad), guess(bad)].iter().all(|status| status.contains("401")));
    assert!(guess(bad).contains("429") && guess(good).contains("401"));
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n\
                   Forwarded: for=6.6.6.6\r\nConnection: close\r\n\r\n";
    assert!(answer(&gateway.address, request).starts_with("HTTP/1.1 400"));
}

#[test]
fn whoever_is_no_trusted_proxy_is_not_believed() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=2"]);
    let guess = |n: u32| {
        let header = format!("X-Forwarded-For: 192.0.2.{n}");
        Wire::open(&gateway.address, "/ws?token=guess", &[&header]).err().unwrap()
    };
    assert!(guess(1).contains("401") && guess(2).contains("401") && guess(3).contains("429"));
}

#[test]
fn a_page_may_ask_with_its_own_token_and_not_with_what_needs_none() {
    let gateway =
        Gateway::with(&["listen.metrics=127.0.0.1:0", "listen.origins=https://ops.example"]);
    let (key, http) = (gateway.key("admin"), gateway.address.clone());
    let status: Value = serde_json::from_str(&gateway.get("/v1/status", Some(&key)).1).unwrap();
    let metrics = status["listeners"]["metrics"][0].as_str().unwrap();
    let ask = |address: &str, method: &str, path: &str, headers: &str| {
        answer(
            address,
            &format!(
                "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n"
            ),
        )
    };
    let page = "Origin: https://page.example\r\n";
    let with_key = format!("{page}Authorization: Bearer {key}\r\n");
    let answer = ask(&http, "GET", "/v1/status", &with_key);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("allow-origin: *"), "{answer}");
    let wish = format!("{page}Access-Control-Request-Method: GET\r\n");
    let answer = ask(&http, "OPTIONS", "/v1/status", &wish);
    assert!(answer.starts_with("HTTP/1.1 204") && answer.contains("authorization"), "{answer}");
    assert!(!answer.contains("allow-credentials"));
    assert!(ask(&http, "PUT", "/v1/status", "").starts_with("HTTP/1.1 405"));
    for (origin, expected) in [
        ("", "200"),
        ("Origin: https://ops.example\r\n", "200"),
        (&*format!("Origin: http://{metrics}\r\n"), "200"),
        (page, "403"),
        ("Origin: null\r\n", "403"),
    ] {
        let answer = ask(metrics, "GET", "/metrics", origin);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{origin}: {answer}");
        assert!(!answer.contains("allow-origin"));
    }
}

#[test]
fn ready_means_that_messages_are_taken_and_stored() {
    let gateway = Gateway::start();
    assert_eq!(gateway.get("/readyz", None), (200, "ok\n".to_owned()));
    drop(gateway);
    let full = Gateway::with(&["--set=store.free_bytes_min=1000TiB"]);
    wait_for("the low disk", || {
        let (status, body) = full.get("/readyz", None);
        (status == 503).then(|| assert_eq!(body, "storage\n"))
    });
    assert_eq!(full.get("/healthz", None).0, 200);
}

#[test]
fn while_it_drains_it_is_not_ready_and_a_connection_at_rest_holds_nothing_up() {
    let mut gateway = Gateway::with(&["drain.grace_ms=15000"]);
    let mut watching = stream(&gateway.address);
    assert!(kept(&mut watching, "/readyz").ends_with("ok\n"));
    let key = gateway.key("admin");
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "ping"}));
    assert_eq!(app.next()["type"], "pong");
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(app.next()["type"], "reconnect");
    assert!(kept(&mut watching, "/readyz").ends_with("draining\n"));
    assert_eq!(gateway.ended(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}
