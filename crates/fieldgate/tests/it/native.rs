//! The native dialect on a real gateway: frames of `docs/protocol/native.md`.

use fieldgate_dialects::ws::{self, Opcode};
use serde_json::{Value, json};

use crate::support::{Gateway, Seen, Wire, wait_for};

#[test]
fn a_device_sends_and_an_app_sees_it_live_and_again_after_a_reconnect() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("sensor-001"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1}));
    let position = app.next()["position"].clone();
    let mut device = gateway.as_device("sensor-001", &token);
    device
        .send_text(r#"{"type":"status","deviceId":"sensor-001","msgid":"m-1","data":{"t":21.30}}"#);
    let ack = device.next();
    assert_eq!((&ack["type"], &ack["msgid"]), (&json!("ack"), &json!("m-1")));
    let live = app.next();
    assert_eq!(live["topic"], "devices/sensor-001/telemetry");
    assert_eq!(live["payload"], json!({"t": 21.30}));
    assert_eq!(
        (&live["seq"], &live["ref"], &live["from"]),
        (&ack["seq"], &json!("m-1"), &json!("sensor-001"))
    );
    drop(app);
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1, "since": {"after": position}}));
    assert_eq!(app.next()["type"], "subscribed");
    let again = app.next();
    assert_eq!(
        (&again["msgid"], &again["replay"]),
        (&live["msgid"], &json!("devices/+/telemetry"))
    );
    assert_eq!(app.next()["type"], "caught_up");
}

#[test]
fn a_lessons_client_gets_payloads_as_strings() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut lesson = Wire::open(&gateway.address, &format!("/?token={key}"), &[]).unwrap();
    assert_eq!(lesson.next()["type"], "auth_response");
    lesson.send(&json!({"type": "subscribe", "topic": "#"}));
    assert_eq!(lesson.next()["type"], "subscribed");
    gateway.as_device("d", &token).send(&json!({"type": "status", "data": {"t": 1}}));
    assert_eq!(lesson.next()["payload"], r#"{"t":1}"#);
}

#[test]
fn a_repeat_is_acknowledged_again_and_routed_once_also_after_a_restart() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let frame = json!({"type": "status", "msgid": "same", "data": {"t": 1}});
    let mut first = gateway.as_device("d", &token);
    first.send(&frame);
    let seq = first.next()["seq"].clone();
    let mut second = gateway.as_device("d", &token);
    second.send(&frame);
    assert_eq!(second.next()["seq"], seq);
    gateway.kill();
    gateway.up();
    let mut third = gateway.as_device("d", &token);
    third.send(&frame);
    assert_eq!(third.next()["seq"], seq);
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "#", "since": "all"}));
    let mut count = 0;
    loop {
        let frame = app.next();
        match frame["type"].as_str().unwrap() {
            "mqtt" => count += 1,
            "caught_up" => break,
            _ => (),
        }
    }
    assert_eq!(count, 1);
}

#[test]
fn a_wrong_token_and_an_unknown_device_get_the_same_words() {
    let gateway = Gateway::start();
    gateway.device("known");
    let mut answers = Vec::new();
    for id in ["known", "unknown"] {
        let mut wire = gateway.connect();
        wire.send(&json!({"type": "auth", "deviceId": id, "token": "wrong-wrong-wrong"}));
        let mut answer = wire.next();
        answer["timestamp"] = json!(0);
        answers.push((answer, wire.closed()));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].1, Some(4403));
    let refused = Wire::open(&gateway.address, "/ws", &["Authorization: Bearer nonsense"]).err();
    assert!(refused.unwrap().contains("401"));
    assert!(Wire::open(&gateway.address, "/ws?token=x", &[]).err().unwrap().contains("401"));
}

#[test]
fn before_authentication_anything_else_ends_the_connection() {
    let gateway = Gateway::start();
    let mut wire = gateway.connect();
    wire.send(&json!({"type": "status", "data": {"t": 1}}));
    assert_eq!(wire.closed(), Some(4400));
}

#[test]
fn the_stream_ends_behind_the_close_frame_without_waiting_for_the_peers_own() {
    let gateway = Gateway::start();
    let mut wire = gateway.connect();
    wire.send(&json!({"type": "status", "data": {"t": 1}}));
    assert_eq!(wire.closed(), Some(4400));
    let heard = std::time::Instant::now();
    assert_eq!(wire.see(), Seen::End);
    // For a second the gateway would listen for the peer's close frame.
    assert!(heard.elapsed() < std::time::Duration::from_secs(1), "{:?}", heard.elapsed());
}

#[test]
fn a_second_connection_of_a_device_takes_over() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let mut first = gateway.as_device("d", &token);
    let mut second = gateway.as_device("d", &token);
    assert_eq!(first.closed(), Some(4409));
    second.send(&json!({"type": "ping"}));
    assert_eq!(second.next()["type"], "pong");
}

#[test]
fn a_refusal_has_its_code_and_the_connection_goes_on() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let mut device = gateway.as_device("d", &token);
    for (frame, code) in [
        ("{", "bad_json"),
        (r#"{"type":"x","msgid":"m"}"#, "unknown_type"),
        (r#"{"type":"status","deviceId":"other","data":{}}"#, "not_allowed"),
        (r#"{"type":"subscribe","topic":"devices/+/telemetry"}"#, "not_allowed"),
        (r#"{"type":"publish","topic":"a/#","payload":1}"#, "bad_topic"),
        (r#"{"type":"unsubscribe","topic":"never"}"#, "not_found"),
    ] {
        device.send_text(frame);
        let error = device.next();
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)), "{frame}");
        assert!(error.get("msgid").is_none());
    }
    device.send(&json!({"type": "ping"}));
    assert_eq!(device.next()["type"], "pong");
    for _ in 0..10 {
        device.send_text("{");
    }
    assert_eq!(device.closed(), Some(4400));
}

#[test]
fn a_batch_is_one_group_and_its_bad_elements_are_named() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let mut device = gateway.as_device("d", &token);
    device.send(&json!({"type": "batch", "msgid": "b", "data": [
        {"data": {"t": 1}}, {"nonsense": true}, {"values": [{"tag": "p", "value": 2}]},
    ]}));
    let ack = device.next();
    assert_eq!(ack["accepted"], 2);
    assert_eq!(ack["refused"][0]["index"], 1);
}

#[test]
fn protobuf_telemetry_arrives_as_json() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("sensor-001"), gateway.key("viewer"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/#"}));
    app.next();
    let hex = "0a0a73656e736f722d30303110cbc9da9ec92f1a0e0a0474656d70150000bc411a01431a0f0a0568756d696415cdcc34421a0125";
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    gateway.as_device("sensor-001", &token).send_binary(&bytes);
    let message = app.next();
    assert_eq!(
        message["payload"]["values"][1],
        json!({"tag": "humid", "value": 45.2, "unit": "%"})
    );
    assert_eq!(message["timestamp"], 1_634_567_890_123_u64);
}

#[test]
fn a_subscription_starts_with_the_retained_message() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "publish", "topic": "plant/x", "payload": "on", "retain": true, "msgid": "1"}));
    assert_eq!(app.next()["type"], "ack");
    let mut late = gateway.as_app(&key);
    late.send(&json!({"type": "subscribe", "topic": "plant/#"}));
    assert_eq!(late.next()["type"], "subscribed");
    let retained = late.next();
    assert_eq!((&retained["payload"], &retained["retain"]), (&json!("on"), &json!(true)));
}

#[test]
fn a_command_can_be_taken_back_the_moment_it_is_acknowledged() {
    let gateway = Gateway::with(&["limits.messages_per_second=100000"]);
    let (key, _token) = (gateway.key("admin"), gateway.device("d"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "nothing"}));
    let subscribed = app.next();
    let (epoch, _) = subscribed["position"].as_str().unwrap().split_once(':').unwrap();
    let count = 300;
    for n in 0..count {
        let msgid = format!("c{n}");
        app.send(&json!({"type": "command", "to": "d", "payload": n, "msgid": msgid}));
        let ack = loop {
            let frame = app.next();
            assert_ne!(frame["type"], "error", "{frame}");
            if frame["type"] == "ack" {
                break frame;
            }
        };
        app.send(&json!({"type": "cancel", "msgid": format!("{epoch}:{}", ack["seq"])}));
    }
    loop {
        let frame = app.next();
        assert_ne!(frame["type"], "error", "{frame}");
        if frame["type"] == "command_state" && frame["ref"] == format!("c{}", count - 1) {
            break assert_eq!(frame["state"], "cancelled");
        }
    }
}

#[test]
fn a_retained_message_is_there_the_moment_it_is_acknowledged() {
    let gateway = Gateway::with(&["limits.messages_per_second=100000"]);
    let key = gateway.key("admin");
    let (mut sender, mut app) = (gateway.as_app(&key), gateway.as_app(&key));
    for n in 0..200 {
        let topic = format!("t/{n}");
        let retained = json!({
            "type": "publish", "topic": topic, "payload": n, "retain": true, "msgid": topic
        });
        sender.send(&retained);
        assert_eq!(sender.next()["type"], "ack");
        app.send(&json!({"type": "subscribe", "topic": topic}));
        assert_eq!(app.next()["type"], "subscribed");
        let first = app.next();
        assert_eq!((&first["payload"], &first["retain"]), (&json!(n), &json!(true)));
    }
}

#[test]
fn history_behind_an_acknowledged_message_does_not_bring_it_again() {
    let gateway = Gateway::with(&[
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let mut device = gateway.as_device("d", &gateway.device("d"));
    let mut app = gateway.as_app(&gateway.key("admin"));
    app.send(&json!({"type": "subscribe", "topic": "nothing"}));
    let subscribed = app.next();
    let (epoch, _) = subscribed["position"].as_str().unwrap().split_once(':').unwrap();
    let items = vec![json!({"data": {"t": 1}}); 1_000];
    for n in 0..30 {
        // So many that they are durable some time before they are routed.
        device.send(&json!({"type": "batch", "msgid": n.to_string(), "data": items}));
        let last = device.next_of("ack")["seq"].as_u64().unwrap() + 999;
        let after = json!({"after": format!("{epoch}:{last}")});
        app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "since": after}));
        assert_eq!(app.next_of("caught_up")["topic"], "devices/+/telemetry");
        device.send(&json!({"type": "status", "data": {"end": n}}));
        assert_eq!(app.next()["payload"], json!({"end": n}));
        app.send(&json!({"type": "unsubscribe", "topic": "devices/+/telemetry"}));
        assert_eq!(app.next()["type"], "unsubscribed");
    }
}

#[test]
fn a_command_waits_for_its_device_and_its_life_comes_back() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("lamp-1"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "command", "to": "lamp-1", "msgid": "c1", "payload": {"on": true}}));
    assert_eq!(app.next()["devices"], 1);
    let mut lamp = gateway.as_device("lamp-1", &token);
    let control = lamp.next();
    assert_eq!((&control["type"], &control["payload"]), (&json!("control"), &json!({"on": true})));
    lamp.send(&json!({"type": "ack", "msgid": control["msgid"]}));
    lamp.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "ok", "payload": {"on": true}}));
    let states: Vec<_> = (0..3).map(|_| app.next_of("command_state")).collect();
    let words: Vec<_> = states.iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(words, ["sent", "acknowledged", "completed"]);
    assert_eq!((&states[2]["ref"], &states[2]["payload"]), (&json!("c1"), &json!({"on": true})));
    for (to, named) in
        [("nobody", "device nobody"), ("group:roof", "group roof"), ("devices/x/+", "devices/x/+")]
    {
        app.send(&json!({"type": "command", "to": to, "msgid": "c2", "payload": {}}));
        let error = app.next();
        assert_eq!(error["code"], "not_found");
        assert!(error["message"].as_str().unwrap().contains(named), "{error}");
    }
}

#[test]
fn a_command_that_nobody_took_expires() {
    let gateway = Gateway::start();
    gateway.device("lamp-1");
    let mut app = gateway.as_app(&gateway.key("operator"));
    let soon =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
            + 300;
    app.send(&json!({"type": "command", "to": "lamp-1", "msgid": "c", "payload": {}, "expires": u64::try_from(soon).unwrap()}));
    assert_eq!(app.next()["type"], "ack");
    assert_eq!(app.next_of("command_state")["state"], "expired");
    let (status, drops) = gateway.get("/v1/drops", Some(&gateway.key("admin")));
    assert_eq!(status, 200);
    assert!(drops.contains("expired"), "{drops}");
}

#[test]
fn what_a_subscription_leaves_out_because_its_time_has_passed_is_written_down() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let mut app = gateway.as_app(&key);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = u64::try_from(now.as_millis()).unwrap() + 500;
    for (topic, retain, expires) in
        [("a/short", false, Some(soon)), ("a/long", false, None), ("b", true, Some(soon))]
    {
        app.send(&json!({
            "type": "publish", "topic": topic, "payload": 1, "msgid": topic, "retain": retain,
            "expires": expires
        }));
        assert_eq!(app.next()["type"], "ack");
    }
    let drops =
        || -> Value { serde_json::from_str(&gateway.get("/v1/drops", Some(&key)).1).unwrap() };
    assert_eq!(drops()["totals"], json!({}));
    wait_for("the end of what is retained", || {
        app.send(&json!({"type": "subscribe", "topic": "b"}));
        app.send(&json!({"type": "ping"}));
        assert_eq!(app.next()["type"], "subscribed");
        let is_over = app.next()["type"] == "pong";
        if !is_over {
            assert_eq!(app.next()["type"], "pong");
        }
        is_over.then_some(())
    });
    assert_eq!(drops()["totals"], json!({"expired": 1}));
    app.send(&json!({"type": "subscribe", "topic": "a/+", "since": "all"}));
    assert_eq!(app.next()["type"], "subscribed");
    assert_eq!(app.next()["topic"], "a/long");
    assert_eq!(app.next()["type"], "caught_up");
    assert_eq!(drops()["totals"], json!({"expired": 2}));
    assert_eq!(drops()["items"][0]["who"], "key:operator-key");
}

#[test]
fn overlapping_subscriptions_deliver_once_at_the_highest_promise() {
    let gateway = Gateway::start();
    let mut app = gateway.as_app(&gateway.key("operator"));
    app.send(&json!({"type": "subscribe", "topic": "a/#", "qos": 0}));
    app.send(&json!({"type": "subscribe", "topic": "a/b", "qos": 1}));
    app.next();
    app.next();
    app.send(&json!({"type": "publish", "topic": "a/b", "payload": 1, "msgid": "1"}));
    app.send(&json!({"type": "publish", "topic": "a/c", "payload": 2, "msgid": "2"}));
    let (first, second) = (app.next_of("mqtt"), app.next_of("mqtt"));
    assert_eq!((&first["payload"], &first["qos"]), (&json!(1), &json!(1)));
    assert_eq!(second["payload"], 2);
}

#[test]
fn a_removed_device_is_closed_at_once() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let mut device = gateway.as_device("d", &token);
    gateway.admin(&["device", "remove", "d", "--yes"]);
    assert_eq!(device.closed(), Some(4403));
}

#[test]
fn a_position_of_another_life_is_answered_by_a_gap_and_all_that_is_retained() {
    let settings = ["limits.outbox_bytes_max=65536", "limits.bytes_per_second=1000000000"];
    let gateway = Gateway::with(&settings);
    let mut app = gateway.as_app(&gateway.key("operator"));
    // More than any socket holds: the end of the history is behind all of it.
    let large = "x".repeat(200_000);
    for n in 0..60 {
        app.send(&json!({"type": "publish", "topic": format!("kept/{n:02}"), "retain": true,
            "msgid": n.to_string(), "payload": large}));
        app.next_of("ack");
    }
    for topic in ["#", "kept/+"] {
        app.send(&json!({"type": "subscribe", "topic": topic, "since": {"after": "1:5"}}));
        assert_eq!(app.next()["type"], "subscribed");
        let gap = app.next();
        assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("epoch")));
        for n in 0..60 {
            let frame = app.next();
            let marks = (&frame["retain"], &frame["replay"]);
            assert_eq!(marks, (&json!(true), &json!(topic)), "{n}: {}", frame["topic"]);
        }
        assert_eq!(app.next()["type"], "caught_up");
    }
}

#[test]
fn a_slow_subscriber_costs_the_others_nothing_and_loses_nothing_at_qos_1() {
    let gateway = Gateway::with(&[
        "limits.outbox_bytes_max=65536",
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let key = gateway.key("operator");
    let (mut slow, mut fast, mut sender) =
        (gateway.as_app(&key), gateway.as_app(&key), gateway.as_app(&key));
    for wire in [&mut slow, &mut fast] {
        wire.send(&json!({"type": "subscribe", "topic": "load", "qos": 1}));
        wire.next();
    }
    let text = "x".repeat(4_000);
    let count = 5_000_u64;
    let reader = std::thread::spawn(move || {
        (0..count).for_each(|n| assert_eq!(fast.next()["payload"]["n"], n));
    });
    for n in 0..count {
        sender.send(&json!({"type": "publish", "topic": "load", "qos": 1, "payload": {"n": n, "text": text}}));
    }
    reader.join().unwrap();
    let mut last_seq = 0;
    for n in 0..count {
        let frame = slow.next_of("mqtt");
        assert_eq!(frame["payload"]["n"], n);
        assert!(frame["seq"].as_u64().unwrap() > last_seq);
        last_seq = frame["seq"].as_u64().unwrap();
    }
}

#[test]
fn a_burst_comes_once_and_in_order_whatever_the_subscriptions() {
    const COUNT: usize = 300;
    let gateway =
        Gateway::with(&["limits.messages_per_second=100000", "limits.message_burst=100000"]);
    let key = gateway.key("operator");
    let (mut both, mut one) = (gateway.as_app(&key), gateway.as_app(&key));
    let subscribe = |app: &mut Wire, filter: &str, qos: u8| {
        app.send(&json!({"type": "subscribe", "topic": filter, "qos": qos}));
        assert_eq!(app.next()["type"], "subscribed");
    };
    subscribe(&mut both, "a/#", 0);
    subscribe(&mut both, "a/b", 1);
    subscribe(&mut one, "a/b", 0);
    let mut burst = Vec::new();
    for number in 0..COUNT {
        let topic = if number % 10 == 9 { "a/c" } else { "a/b" };
        let frame = json!({"type": "publish", "topic": topic, "payload": number, "qos": number % 2, "msgid": number.to_string()});
        burst.extend(ws::frame_masked(Opcode::Text, frame.to_string().as_bytes(), [9, 8, 7, 6]));
    }
    let mut sender = gateway.as_app(&key);
    sender.raw(&burst).unwrap();
    let mut last = 0;
    for number in 0..COUNT {
        let frame = both.next();
        assert_eq!(frame["payload"], number, "{frame}");
        assert!(frame["seq"].as_u64().unwrap() > last);
        last = frame["seq"].as_u64().unwrap();
        let qos = frame["qos"].as_u64().unwrap_or(0) as usize;
        assert_eq!(qos, if number % 10 == 9 { 0 } else { number % 2 }, "{frame}");
    }
    for number in (0..COUNT).filter(|number| number % 10 != 9) {
        let frame = one.next();
        assert_eq!((&frame["payload"], &frame["qos"]), (&json!(number), &json!(null)));
    }
}
