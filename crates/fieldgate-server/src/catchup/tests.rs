//! A replay of what the log has forgotten.

use fieldgate_core::id::Seq;
use fieldgate_store::{Log as _, log::LogOptions};
use serde_json::{Value, json};

use crate::testing::{Gateway, LIMIT};

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
