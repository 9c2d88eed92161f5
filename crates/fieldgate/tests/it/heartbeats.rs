//! When a gateway looks after who is silent: the first ping, and who pings and does not read.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use fieldgate_dialects::ws;
use serde_json::json;

use crate::support::{Gateway, Wire};

/// Time between pings.
const PING: Duration = Duration::from_millis(700);

fn gateway() -> Gateway {
    Gateway::with(&["heartbeat.ping_ms=700", "heartbeat.silence_ms=60000"])
}

#[test]
fn the_first_ping_comes_when_the_interval_is_over_and_not_before() {
    let gateway = gateway();
    let key = gateway.key("operator");
    let begun = Instant::now();
    let address = "/socket.io/?EIO=4&transport=websocket";
    let mut session = Wire::open(&gateway.address, address, &[]).unwrap().into_text();
    assert!(session.text().starts_with("0{"));
    assert_eq!(session.text(), "2");
    assert!(begun.elapsed() >= PING, "a ping of Engine.IO came after {:?}", begun.elapsed());
    let begun = Instant::now();
    let mut app = gateway.as_app(&key);
    app.pings(1);
    assert!(begun.elapsed() >= PING, "a ping came after {:?}", begun.elapsed());
}

#[test]
fn who_pings_without_end_and_does_not_read_is_read_no_further() {
    let gateway = Gateway::with(&[
        "limits.outbox_bytes_max=65536",
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let key = gateway.key("operator");
    let mut other = gateway.as_app(&key);
    let mut flood = gateway.as_app(&key);
    let before = gateway.memory_bytes();
    let ping = ws::frame_masked(ws::Opcode::Ping, &[b'x'; 125], [7; 4]);
    let pings = ping.repeat(512);
    let (sender, sent) = mpsc::channel();
    let flooding = std::thread::spawn(move || {
        for n in 0..1_000_usize {
            // The end of the gateway ends it.
            if flood.raw(&pings).is_err() || sender.send(n).is_err() {
                return;
            }
        }
    });
    // 64 MiB of pings, of which sockets and outboxes hold the smaller part: then writing waits.
    let mut count = 0;
    let end = loop {
        match sent.recv_timeout(Duration::from_secs(5)) {
            Ok(_) => count += 1,
            Err(end) => break end,
        }
    };
    assert_eq!(end, mpsc::RecvTimeoutError::Timeout, "all is read, or it was ended: {count}");
    let more = gateway.memory_bytes().saturating_sub(before);
    assert!(more < 32 << 20, "{more} bytes more for {count} times 512 pings");
    other.send(&json!({"type": "ping"}));
    assert_eq!(other.next()["type"], "pong");
    drop(gateway);
    flooding.join().unwrap();
}
