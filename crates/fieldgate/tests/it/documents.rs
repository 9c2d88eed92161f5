//! The documents of devices: what they are in, whole, for whoever follows `devices/{id}/state`.

use serde_json::{Value, json};

use crate::{
    desired::{lamp, report, state, wish},
    support::{Events, Gateway, Wire, wait_for},
};

/// The next document of the lamp.
fn document(wire: &mut Wire) -> Value {
    let frame = wire.next_of("mqtt");
    assert_eq!(
        (&frame["topic"], &frame["from"]),
        (&json!("devices/lamp/state"), &json!("gateway"))
    );
    frame
}

#[test]
fn who_follows_the_document_gets_it_as_it_is_and_as_it_changes() {
    let gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let (mut app, mut lamp) = (gateway.as_app(&key), gateway.as_device("lamp", &token));
    report(&mut lamp, &json!({"relay": true, "bri": 10}));
    assert_eq!(wish(&mut app, "w", &json!({"bri": 20}), None)["type"], "ack");
    let mut follower = gateway.as_app(&key);
    follower.send(&json!({"type": "subscribe", "topic": "devices/+/state", "qos": 1}));
    assert_eq!(follower.next()["type"], "subscribed");
    let first = document(&mut follower);
    assert_eq!((&first["retain"], &first["ahead"]), (&json!(true), &Value::Null));
    assert_eq!(first["payload"], state(&gateway, &key));
    assert_eq!(first["payload"]["desired"], json!({"bri": 20}));
    lamp.send(
        &json!({"values": [{"tag": "bri", "value": 20, "unit": "x", "quality": "uncertain"}]}),
    );
    let met = loop {
        let next = document(&mut follower);
        assert_eq!((&next["retain"], &next["ahead"]), (&Value::Null, &json!(true)));
        if next["payload"]["desired"] == json!({}) {
            break next;
        }
    };
    assert_eq!(met["payload"], state(&gateway, &key));
    let of_bri = &met["payload"]["meta"]["bri"];
    assert_eq!((&of_bri["unit"], &of_bri["quality"]), (&json!("x"), &json!("uncertain")));
    // The position of a follower moves with what is in the log alone; a stream has no `id` for it.
    let mut events = Events::open(&gateway, "topic=devices/lamp/state", &key, None);
    let event = events.next_of("message");
    assert_eq!((&event.data["payload"], &event.id), (&met["payload"], &None));
    // Who is not asked for documents gets none, and nobody but the gateway writes them.
    let mut all = gateway.as_app(&key);
    all.send(&json!({"type": "subscribe", "topic": "devices/#"}));
    all.next_of("subscribed");
    report(&mut lamp, &json!({"relay": false}));
    assert_eq!(document(&mut follower)["payload"]["reported"]["relay"], false);
    assert_eq!(all.next()["topic"], "devices/lamp/state/reported");
    all.send(&json!({"type": "ping"}));
    assert_eq!(all.next()["type"], "pong");
    lamp.send(
        &json!({"type": "publish", "topic": "devices/lamp/state", "msgid": "x", "payload": {}}),
    );
    assert_eq!(lamp.next()["code"], "not_allowed");
    all.send(&json!({"type": "subscribe", "topic": "devices/lamp/state", "maxRate": 1}));
    assert_eq!(all.next()["code"], "bad_value");
    follower.send(&json!({"type": "unsubscribe", "topic": "devices/+/state"}));
    follower.next_of("unsubscribed");
    report(&mut lamp, &json!({"relay": true}));
    follower.send(&json!({"type": "ping"}));
    assert_eq!(follower.next()["type"], "pong");
}

#[test]
fn a_document_is_conflated_and_the_last_one_is_always_told() {
    let gateway = Gateway::with(&[
        "limits.messages_per_second=100000",
        "limits.message_burst=100000",
        "limits.bytes_per_second=1000000000",
    ]);
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let mut lamp = gateway.as_device("lamp", &token);
    let mut follower = gateway.as_app(&key);
    follower.send(&json!({"type": "subscribe", "topic": "devices/lamp/state"}));
    follower.next_of("subscribed");
    // While this one does not read, more documents are made than any socket holds.
    let large = "x".repeat(60_000);
    let last = 600;
    for n in 1..=last {
        lamp.send(&json!({"type": "status", "data": {"n": n, "large": large}}));
    }
    lamp.send(&json!({"type": "ping"}));
    assert_eq!(lamp.next()["type"], "pong");
    let mut count = 0;
    loop {
        let document = document(&mut follower);
        count += 1;
        if document["payload"]["reported"]["n"] == last {
            break;
        }
    }
    assert!(count < last, "{count} documents");
}

#[test]
fn a_thousand_documents_come_first_and_each_once() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let floor = gateway.admin(&["device", "add", "floor", "--gateway-for", "+"]);
    let mut floor = gateway.as_device("floor", floor["token"].as_str().unwrap());
    let count = 1_000;
    let large = "x".repeat(1_000);
    let items: Vec<Value> = (0..count)
        .map(|n| json!({"deviceId": format!("d{n}"), "data": {"n": n, "large": large}}))
        .collect();
    for (n, items) in items.chunks(100).enumerate() {
        floor.send(&json!({"type": "batch", "msgid": format!("b{n}"), "data": items}));
        assert_eq!(floor.next()["accepted"], 100);
    }
    wait_for("the last state", || {
        let path = format!("/v1/devices/d{}/state", count - 1);
        (gateway.get(&path, Some(&key)).0 == 200).then_some(())
    });
    let mut follower = gateway.as_app(&key);
    follower.send(&json!({"type": "subscribe", "topic": "+/+/state"}));
    follower.next_of("subscribed");
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < count {
        let frame = follower.next_of("mqtt");
        let is_first = seen.insert(frame["topic"].as_str().unwrap().to_owned());
        assert!(is_first && frame["retain"] == true, "{}", frame["topic"]);
    }
    floor.send(&json!({"type": "status", "deviceId": "d7", "data": {"n": -1}}));
    let changed = follower.next_of("mqtt");
    assert_eq!(
        (&changed["payload"]["reported"]["n"], &changed["ahead"]),
        (&json!(-1), &json!(true))
    );
}
