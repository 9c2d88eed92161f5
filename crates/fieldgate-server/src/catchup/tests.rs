//! Replays: of what the log has forgotten, near the present, and while the log shows nothing.

use std::{os::unix::fs::FileExt as _, sync::Arc};

use fieldgate_core::id::{Seq, TenantId};
use fieldgate_store::{Log as _, ReadFilter, log::LogOptions};
use serde_json::{Value, json};

use super::LAST_STEP_LEN_MAX;
use crate::{
    fabric::now,
    testing::{Client, Gateway, LIMIT, until},
};

#[tokio::test]
async fn who_comes_back_too_late_is_told_what_retention_took() {
    let log = LogOptions {
        segment_bytes: 64 << 10,
        retention_bytes: 256 << 10,
        tail_bytes_max: 64 << 10,
        ..LogOptions::default()
    };
    let settings = ["limits.messages_per_second=100000", "limits.bytes_per_second=1000000000"];
    let gateway = Gateway::on_log(log, &settings, 1).await;
    let key = gateway.key("k").await;
    let mut app = gateway.connect(&key).await;
    let log = &gateway.shared().log;
    let filler = "x".repeat(10_000);
    let started = std::time::Instant::now();
    let (mut first, mut count) = (Seq(0), 0_u64);
    while first == Seq(0) || log.oldest() <= first.next() {
        assert!(started.elapsed() < LIMIT, "nothing was forgotten");
        let msgid = format!("m{count}");
        app.send(json!({"type": "publish", "topic": "a", "payload": filler, "msgid": msgid})).await;
        let seq = Seq(app.next_of("ack").await["seq"].as_u64().unwrap());
        first = if count == 0 { seq } else { first };
        count += 1;
    }
    let position = gateway.shared().position(first).to_string();
    app.send(json!({"type": "subscribe", "topic": "a", "qos": 1, "since": {"after": position}}))
        .await;
    assert_eq!(app.next_of("subscribed").await["position"], position.as_str());
    let seq_of = |position: &Value| -> u64 {
        position.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
    };
    // What is in no gap comes: between them there is nothing.
    let (mut expected, mut forgotten) = (first.0 + 1, 0);
    loop {
        let frame = app.next().await;
        match frame["type"].as_str().unwrap() {
            "gap" => {
                assert_eq!(frame["reason"], "retention");
                assert_eq!(seq_of(&frame["from"]), expected);
                forgotten += seq_of(&frame["to"]) + 1 - expected;
                expected = seq_of(&frame["to"]) + 1;
            }
            "mqtt" => {
                assert_eq!(frame["seq"], expected);
                expected += 1;
            }
            other => break assert_eq!(other, "caught_up"),
        }
    }
    assert!(forgotten > 0 && expected == first.0 + count, "{forgotten} of {count}");
    gateway.running.drain().await;
}

/// A log that holds more than one step at once, most of it on the disk alone.
fn small() -> LogOptions {
    LogOptions { segment_bytes: 256 << 10, tail_bytes_max: 16 << 10, ..LogOptions::default() }
}

/// Publishes so many messages and waits until the last is routed; the position before them.
async fn fill(gateway: &Gateway, app: &mut Client, count: u64) -> String {
    let before = gateway.shared().routing().routed;
    for number in 1..=count {
        let msgid = format!("m{}", before.0 + number);
        let filler = "x".repeat(500);
        app.send(json!({"type": "publish", "topic": "a", "payload": filler, "msgid": msgid})).await;
        if number % 100 == 0 || number == count {
            while app.next_of("ack").await["msgid"] != msgid.as_str() {}
        }
    }
    until("the last", || gateway.shared().routing().routed >= Seq(before.0 + count)).await;
    gateway.shared().position(before).to_string()
}

fn since(position: &str) -> Value {
    json!({"type": "subscribe", "topic": "a", "qos": 1, "since": {"after": position}})
}

#[tokio::test]
async fn a_replay_near_the_end_comes_whole_where_memory_has_little_of_it() {
    let settings = ["limits.messages_per_second=100000", "limits.outbox_bytes_max=65536"];
    let gateway = Gateway::on_log(small(), &settings, 1).await;
    let key = gateway.key("k").await;
    let (mut app, mut reader) = (gateway.connect(&key).await, gateway.connect(&key).await);
    let position = fill(&gateway, &mut app, 500).await;
    let log = &gateway.shared().log;
    let first = Seq(gateway.shared().routing().routed.0 - 499);
    assert!(log.read_recent(first, &ReadFilter::default(), 1).is_none(), "memory has all of it");
    reader.send(since(&position)).await;
    assert_eq!(reader.next_of("subscribed").await["position"], position.as_str());
    for seq in first.0..first.0 + 500 {
        assert_eq!(reader.next().await["seq"], seq);
    }
    assert_eq!(reader.next().await["type"], "caught_up");
    fill(&gateway, &mut app, 1).await;
    assert_eq!(reader.next().await["seq"], first.0 + 500);
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_reader_to_whom_the_log_shows_nothing_leaves_its_worker_to_others() {
    let gateway = Gateway::start(&[], 1).await;
    let key = gateway.key("k").await;
    let (mut app, mut reader) = (gateway.connect(&key).await, gateway.connect(&key).await);
    let position = fill(&gateway, &mut app, 1).await;
    // As while the log is stopped: what was routed without a promise is not shown to readers.
    let routed = {
        let mut routing = gateway.shared().routing();
        routing.routed = routing.routed.next();
        routing.routed
    };
    reader.send(since(&position)).await;
    assert_eq!(reader.next().await["type"], "subscribed");
    assert_eq!(reader.next().await["type"], "mqtt");
    app.send(json!({"type": "ping"})).await;
    assert_eq!(app.next().await["type"], "pong");
    app.send(json!({"type": "publish", "topic": "a", "payload": 1, "msgid": "next"})).await;
    assert_eq!(reader.next().await["seq"], routed.0);
    assert_eq!(reader.next().await["type"], "caught_up");
    gateway.running.drain().await;
}

#[tokio::test]
async fn who_took_its_subscription_back_before_its_turn_has_nothing_read() {
    let settings = ["limits.messages_per_second=100000", "limits.replays_per_principal_max=1"];
    // One segment, which is not sealed: the scrub takes one step into it, and does not come across the
    // damage behind that.
    let log = LogOptions { segment_bytes: 4 << 20, ..small() };
    let gateway = Gateway::on_log(log, &settings, 1).await;
    let key = gateway.key("k").await;
    let (mut app, mut reader) = (gateway.connect(&key).await, gateway.connect(&key).await);
    let position = fill(&gateway, &mut app, LAST_STEP_LEN_MAX + 500).await;
    // Whoever reads what is old comes across damage, which is counted.
    let folder = gateway.folder().join("log");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&[7; 64], 640 << 10).unwrap();
        }
    }
    let default = TenantId::default_tenant();
    let principal = gateway.shared().state.verify_token(&default, None, &key, now()).unwrap();
    let turns = Arc::clone(&gateway.shared().throttle.sender(&principal).log_turns);
    let turn = turns.acquire().await.unwrap();
    for _ in 0..20 {
        reader.send(since(&position)).await;
        assert_eq!(reader.next().await["type"], "subscribed");
    }
    reader.send(json!({"type": "unsubscribe", "topic": "a"})).await;
    assert_eq!(reader.next().await["type"], "unsubscribed");
    drop(turn);
    // Turns are had in the order in which they were asked for: this one is the last.
    drop(turns.acquire().await.unwrap());
    assert_eq!(gateway.shared().log.status().damaged, []);
    reader.send(since(&position)).await;
    assert_eq!(reader.next_of("gap").await["reason"], "damaged");
    assert_ne!(gateway.shared().log.status().damaged, []);
    gateway.running.drain().await;
}
