//! Bounds of a tenant, of a device, and of all connections together: each with its word.

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, wait_for};

fn status(gateway: &Gateway, key: &str) -> Value {
    serde_json::from_str(&gateway.get("/v1/status", Some(key)).1).unwrap()
}

/// Sends a frame and returns its answer.
fn ask(wire: &mut Wire, frame: &Value) -> Value {
    wire.send(frame);
    wire.next()
}

#[test]
fn topics_above_the_configured_bounds_are_refused_by_name() {
    let gateway = Gateway::with(&["limits.topic_bytes_max=40", "limits.topic_levels_max=4"]);
    let mut app = gateway.as_app(&gateway.key("admin"));
    let (long, deep) = ("x".repeat(41), "a/b/c/d/e");
    for (topic, limit) in
        [(long.as_str(), "limits.topic_bytes_max"), (deep, "limits.topic_levels_max")]
    {
        for kind in ["publish", "subscribe"] {
            let frame = json!({"type": kind, "topic": topic, "payload": 1, "msgid": "m"});
            let answer = ask(&mut app, &frame);
            assert_eq!((&answer["code"], &answer["ref"]), (&json!("bad_topic"), &json!("m")));
            assert!(answer["message"].as_str().unwrap().contains(limit), "{answer}");
        }
    }
    let fits = json!({"type": "publish", "topic": "a/b/c/d", "payload": 1, "msgid": "m"});
    assert_eq!(ask(&mut app, &fits)["type"], "ack");
}

#[test]
fn a_device_that_acknowledges_has_so_many_commands_at_a_time() {
    let gateway = Gateway::with(&["limits.inflight_max=2"]);
    let (key, token) = (gateway.key("admin"), gateway.device("d"));
    let mut app = gateway.as_app(&key);
    for n in 0..5 {
        let command = json!({"type": "command", "to": "d", "payload": n, "msgid": n.to_string()});
        assert_eq!(ask(&mut app, &command)["type"], "ack");
    }
    let bearer = format!("Authorization: Bearer {token}");
    let headers = [bearer.as_str(), "Sec-WebSocket-Protocol: fieldgate.v1.json"];
    let mut device = Wire::open(&gateway.address, "/ws", &headers).unwrap();
    assert_eq!(device.next()["status"], "success");
    let (first, second) = (device.next(), device.next());
    assert_eq!((&first["payload"], &second["payload"]), (&json!(0), &json!(1)));
    // Whatever waited has come before the answer.
    assert_eq!(ask(&mut device, &json!({"type": "ping"}))["type"], "pong");
    device.send(&json!({"type": "ack", "msgid": first["msgid"]}));
    assert_eq!(device.next()["payload"], 2);
    device.send(&json!({"type": "reply", "msgid": second["msgid"], "status": "ok"}));
    let fourth = device.next_of("control");
    assert_eq!(fourth["payload"], 3, "{fourth}");
    device.send(&json!({"type": "reply", "msgid": fourth["msgid"], "status": "ok"}));
    assert_eq!(device.next_of("control")["payload"], 4);
}

#[test]
fn so_many_commands_wait_for_a_device_and_the_next_is_refused() {
    let gateway = Gateway::with(&["limits.messages_per_second=100000"]);
    let (key, _token) = (gateway.key("admin"), gateway.device("d"));
    let mut app = gateway.as_app(&key);
    for n in 0..1_000 {
        app.send(&json!({"type": "command", "to": "d", "payload": n, "msgid": n.to_string()}));
    }
    (0..1_000).for_each(|_| assert_eq!(app.next()["type"], "ack"));
    let one_more = json!({"type": "command", "to": "d", "payload": 1, "msgid": "more"});
    let answer = ask(&mut app, &one_more);
    assert_eq!((&answer["code"], &answer["ref"]), (&json!("queue_full"), &json!("more")));
}

#[test]
fn retained_messages_have_a_bound_in_number_and_in_bytes() {
    for setting in
        ["limits.retained_per_tenant_max=2", "limits.retained_bytes_per_tenant_max=\"2KiB\""]
    {
        let gateway = Gateway::with(&[setting]);
        let key = gateway.key("admin");
        let mut app = gateway.as_app(&key);
        let text = "x".repeat(700);
        for n in 0..3 {
            let topic = format!("t/{n}");
            let frame = json!({
                "type": "publish", "topic": topic, "payload": text, "retain": true, "msgid": topic
            });
            assert_eq!(ask(&mut app, &frame)["type"], "ack");
        }
        let dropped = wait_for("the drop", || {
            let dropped = status(&gateway, &key)["drops"]["retained_full"].as_u64();
            dropped.filter(|count| *count > 0)
        });
        assert_eq!(dropped, 1, "{setting}");
        let answer = ask(&mut app, &json!({"type": "subscribe", "topic": "t/#"}));
        assert_eq!(answer["type"], "subscribed");
        let retained = [app.next()["topic"].take(), app.next()["topic"].take()];
        assert_eq!(retained, ["t/0", "t/1"]);
    }
}

#[test]
fn more_retained_than_an_outbox_holds_come_all_and_cost_little() {
    let gateway = Gateway::with(&["limits.bytes_per_second=1000000000"]);
    let key = gateway.key("admin");
    let mut sender = gateway.as_app(&key);
    let (count, text) = (300, "x".repeat(100_000));
    for n in 0..count {
        let (topic, msgid) = (format!("t/{n:03}"), (n == count - 1).then_some("last"));
        sender.send(&json!({
            "type": "publish", "topic": topic, "payload": text, "retain": true, "qos": 1,
            "msgid": msgid
        }));
    }
    while sender.next_of("ack")["msgid"] != "last" {}
    let memory = gateway.memory_bytes();
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "t/#"}));
    assert_eq!(app.next()["type"], "subscribed");
    // Another of this worker is served meanwhile.
    assert_eq!(ask(&mut sender, &json!({"type": "ping"}))["type"], "pong");
    let grown = gateway.memory_bytes().saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} bytes more");
    for n in 0..count {
        let frame = app.next();
        assert_eq!(
            (frame["topic"].as_str(), &frame["retain"]),
            (Some(&*format!("t/{n:03}")), &json!(true))
        );
    }
}

#[test]
fn all_slow_receivers_together_have_a_bound_and_lose_nothing_of_qos_1() {
    let gateway = Gateway::with(&[
        "limits.outbox_bytes_max=1048576",
        "limits.outbox_total_bytes_max=2MiB",
        "heartbeat.silence_ms=600000",
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let key = gateway.key("admin");
    let mut slow: Vec<Wire> = (0..16).map(|_| gateway.as_app(&key)).collect();
    for wire in &mut slow {
        let subscribe = json!({"type": "subscribe", "topic": "load", "qos": 1});
        assert_eq!(ask(wire, &subscribe)["type"], "subscribed");
    }
    let (count, text) = (3_000, "x".repeat(4_000));
    let mut sender = gateway.as_app(&key);
    for n in 0..count {
        let payload = json!({"n": n, "text": text});
        let msgid = (n == count - 1).then_some("last");
        sender.send(&json!({
            "type": "publish", "topic": "load", "qos": 1, "payload": payload, "msgid": msgid
        }));
    }
    while sender.next_of("ack")["msgid"] != "last" {}
    // Figures are told twice a second.
    let held = wait_for("receivers that fell behind", || {
        let links = status(&gateway, &key)["links"].take();
        (links["behind"].as_u64() == Some(16)).then(|| links["outbox_bytes"].as_u64().unwrap())
    });
    assert!(held > 0 && held < 6 << 20, "{held} bytes wait");
    for wire in &mut slow {
        for n in 0..count {
            assert_eq!(wire.next()["payload"]["n"], n);
        }
    }
}

#[test]
fn past_the_bound_of_unfinished_frames_reads_pause_and_go_on() {
    let gateway = Gateway::with(&[
        "limits.input_total_bytes_max=64KiB",
        "heartbeat.ping_ms=1000",
        "heartbeat.silence_ms=3000",
    ]);
    let key = gateway.key("admin");
    // Two begin a frame of 200 KB and send most of it.
    let frame =
        json!({"type": "publish", "topic": "a", "payload": "x".repeat(200_000), "msgid": "m"});
    let mut begun: Vec<Wire> = (0..2).map(|_| gateway.as_app(&key)).collect();
    let bytes = Wire::bytes_of(&frame);
    for wire in &mut begun {
        wire.raw(&bytes[..100_000]).unwrap();
    }
    // Another one is served.
    let mut other = gateway.as_app(&key);
    assert_eq!(ask(&mut other, &json!({"type": "ping"}))["type"], "pong");
    // Who holds too much is not read, and ends as silent; then there is room again.
    for mut wire in begun {
        assert_eq!(wire.closed(), Some(4001));
    }
    assert_eq!(ask(&mut gateway.as_app(&key), &frame)["type"], "ack");
}

#[test]
fn asking_often_for_what_is_retained_brings_it_once_and_costs_little() {
    let gateway = Gateway::with(&[
        "limits.outbox_bytes_max=65536",
        "limits.messages_per_second=100000000",
        "limits.message_burst=100000000",
        "heartbeat.silence_ms=600000",
    ]);
    let key = gateway.key("admin");
    let (retained, text) = (20, "x".repeat(6_000));
    let mut sender = gateway.as_app(&key);
    for n in 0..retained {
        let topic = format!("t/{n:02}");
        let frame = json!({
            "type": "publish", "topic": topic, "payload": text, "retain": true, "msgid": topic
        });
        assert_eq!(ask(&mut sender, &frame)["type"], "ack");
    }
    let mut app = gateway.as_app(&key);
    let count = 400;
    // Fifty bytes that are answered with a hundred thousand.
    (0..count).for_each(|_| app.send(&json!({"type": "subscribe", "topic": "t/#"})));
    let waiting = || status(&gateway, &key)["links"]["outbox_bytes"].as_u64().unwrap();
    let (mut subscribed, mut got, mut most) = (0, 0, 0);
    while subscribed < count || got < retained {
        if app.next()["type"] == "subscribed" {
            (subscribed, got) = (subscribed + 1, 0);
            most = most.max(waiting());
        } else {
            got += 1;
        }
    }
    assert!(most < 2 << 20, "{most} bytes waited");
}

#[test]
fn commands_of_a_device_that_does_not_read_wait_in_the_log_and_come_all() {
    let gateway = Gateway::with(&["limits.bytes_per_second=1000000000"]);
    let (key, token) = (gateway.key("admin"), gateway.device("d"));
    let mut device = gateway.as_device("d", &token);
    let mut app = gateway.as_app(&key);
    let (count, text) = (150, "x".repeat(200_000));
    for n in 0..count {
        let payload = json!({"n": n, "text": text});
        let command =
            json!({"type": "command", "to": "d", "payload": payload, "msgid": n.to_string()});
        app.send(&command);
        while app.next()["type"] != "ack" {}
    }
    let waiting = || status(&gateway, &key)["links"]["outbox_bytes"].as_u64().unwrap();
    let mut most = 0;
    for n in 0..count {
        most = most.max(waiting());
        assert_eq!(device.next_of("control")["payload"]["n"], n);
    }
    assert!(most < 3 << 20, "{most} bytes waited");
}
