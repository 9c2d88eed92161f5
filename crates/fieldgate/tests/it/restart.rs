//! `kill -9` under load, again and again: everything acknowledged is there, once, in order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::support::{Gateway, Seen};

/// 50 rounds in a test run; more by `FIELDGATE_KILL_ROUNDS`.
fn rounds() -> u64 {
    std::env::var("FIELDGATE_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

#[test]
fn what_was_acknowledged_survives_every_kill_once_and_no_number_is_used_twice() {
    let mut gateway =
        Gateway::with(&["limits.messages_per_second=1000000", "limits.message_burst=1000000"]);
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..rounds() {
        let mut device = gateway.as_device("d", &token);
        // A kill after a number of acknowledgements that differs from round to round.
        let kill_after = 1 + (round * 7) % 40;
        for n in 0..200 {
            let msgid = format!("{round}-{n}");
            device.send(&json!({"type": "status", "msgid": msgid, "data": {"n": n}}));
        }
        for _ in 0..kill_after {
            let ack = device.next();
            let msgid = ack["msgid"].as_str().unwrap().to_owned();
            acknowledged.insert(msgid, ack["seq"].as_u64().unwrap());
        }
        gateway.kill();
        // What was on its way when the process ended counts too.
        while let Seen::Frame(ack) = device.see() {
            let msgid = ack["msgid"].as_str().unwrap().to_owned();
            acknowledged.insert(msgid, ack["seq"].as_u64().unwrap());
        }
        gateway.up();
    }
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/d/telemetry", "since": "all"}));
    let mut stored: BTreeMap<String, u64> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    let mut last = 0;
    loop {
        let frame = app.next();
        match frame["type"].as_str().unwrap() {
            "mqtt" => {
                let seq = frame["seq"].as_u64().unwrap();
                assert!(seq > last, "{seq} after {last}");
                last = seq;
                assert!(numbers.insert(seq), "{seq} was given twice");
                let before = stored.insert(frame["ref"].as_str().unwrap().to_owned(), seq);
                assert_eq!(before, None, "{frame}");
            }
            "caught_up" => break,
            _ => (),
        }
    }
    for (msgid, seq) in &acknowledged {
        assert_eq!(stored.get(msgid), Some(seq), "{msgid} was acknowledged");
    }
    assert!(acknowledged.len() as u64 >= rounds(), "{}", acknowledged.len());
}

#[test]
fn a_subscriber_with_since_sees_everything_once_through_restarts() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut position = json!("all");
    let mut seen = Vec::new();
    for round in 0..5 {
        let mut app = gateway.as_app(&key);
        app.send(
            &json!({"type": "subscribe", "topic": "devices/d/#", "qos": 1, "since": position}),
        );
        let mut device = gateway.as_device("d", &token);
        for n in 0..50 {
            let msgid = format!("{round}-{n}");
            device.send(&json!({"type": "status", "msgid": msgid, "data": {"n": round * 50 + n}}));
        }
        // Half of the rounds end in the middle of what comes.
        let wanted = if round % 2 == 0 { (round + 1) * 50 } else { round * 50 + 20 };
        while seen.len() < wanted {
            let frame = app.next();
            if frame["type"] == "mqtt" {
                seen.push(frame["payload"]["n"].as_u64().unwrap());
                position = json!({"after": frame["msgid"]});
            }
        }
        (0..50).for_each(|_| drop(device.next_of("ack")));
        if round % 2 == 0 {
            gateway.kill();
            gateway.up();
        }
    }
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
}
