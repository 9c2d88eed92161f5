//! The documents of devices: what they are in, whole, for whoever follows `devices/{id}/state`.

use serde_json::{Value, json};

use crate::{
    desired::{lamp, report, state, wish},
    support::{Events, Gateway, Proxy, Wire, wait_for},
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

/// A document of the lamp that is told before a history: what it says the lamp is in.
fn of_replay(wire: &mut Wire) -> Value {
    let frame = document(wire);
    let marks = (&frame["retain"], &frame["replay"], &frame["ahead"]);
    assert_eq!(marks, (&json!(true), &json!("devices/+/state"), &Value::Null));
    frame["payload"]["reported"].clone()
}

#[test]
fn who_comes_back_is_told_the_documents_as_they_are_before_its_history() {
    let mut gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    report(&mut gateway.as_device("lamp", &token), &json!({"bri": 1}));
    let mut follower = gateway.as_app(&key);
    follower.send(&json!({"type": "subscribe", "topic": "devices/+/state"}));
    let position = follower.next_of("subscribed")["position"].clone();
    assert_eq!(document(&mut follower)["payload"]["reported"], json!({"bri": 1}));
    let mut events = Events::open(&gateway, "topic=devices/%2B/state", &key, None);
    assert_eq!(events.next_of("message").data["payload"]["reported"], json!({"bri": 1}));
    gateway.kill();
    gateway.up();
    let mut lamp = gateway.as_device("lamp", &token);
    report(&mut lamp, &json!({"bri": 2}));
    wait_for("the report", || (state(&gateway, &key)["reported"]["bri"] == 2).then_some(()));
    let at = events.last_id.unwrap();
    for at in [at.as_str(), "xyz:1"] {
        let mut events = Events::open(&gateway, "topic=devices/%2B/state", &key, Some(at));
        let known = if at == "xyz:1" { events.next_of("gap").name } else { String::new() };
        let told = events.next();
        assert_eq!((told.name.as_str(), &told.id), ("message", &None), "behind {known:?}");
        assert_eq!(
            (&told.data["retain"], &told.data["payload"]["reported"]["bri"]),
            (&json!(true), &json!(2))
        );
        while events.next().name != "caught_up" {}
    }
    let mut follower = gateway.as_app(&key);
    for since in [json!({"after": position}), json!({"after": "xyz:1"}), json!("all")] {
        follower.send(&json!({"type": "subscribe", "topic": "devices/+/state", "since": since}));
        follower.next_of("subscribed");
        if since["after"] == "xyz:1" {
            assert_eq!(follower.next()["reason"], "epoch");
        }
        assert_eq!(of_replay(&mut follower), json!({"bri": 2}));
        while follower.next()["type"] != "caught_up" {}
    }
    report(&mut lamp, &json!({"bri": 3}));
    let changed = document(&mut follower);
    let marks = (&changed["ahead"], &changed["retain"], &changed["replay"]);
    assert_eq!(marks, (&json!(true), &Value::Null, &Value::Null));
    assert_eq!(changed["payload"]["reported"], json!({"bri": 3}));
}

#[test]
fn what_changes_while_a_history_is_told_is_told_behind_it() {
    let settings = ["limits.outbox_bytes_max=65536", "limits.bytes_per_second=1000000000"];
    let gateway = Gateway::with(&settings);
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let mut lamp = gateway.as_device("lamp", &token);
    report(&mut lamp, &json!({"bri": 1}));
    let mut sender = gateway.as_app(&key);
    // More history than any socket holds, in the same subscription.
    let large = "x".repeat(200_000);
    for n in 0..100 {
        let msgid = n.to_string();
        sender.send(
            &json!({"type": "publish", "topic": "a/b/state", "msgid": msgid, "payload": large}),
        );
        sender.next_of("ack");
    }
    let mut follower = gateway.as_app(&key);
    follower.send(&json!({"type": "subscribe", "topic": "+/+/state", "since": "all", "qos": 1}));
    follower.next_of("subscribed");
    assert_eq!(document(&mut follower)["payload"]["reported"], json!({"bri": 1}));
    // It reads no further meanwhile.
    let mut other = gateway.as_app(&key);
    other.send(&json!({"type": "subscribe", "topic": "devices/lamp/state"}));
    assert_eq!(document(&mut other)["payload"]["reported"], json!({"bri": 1}));
    report(&mut lamp, &json!({"bri": 2}));
    assert_eq!(document(&mut other)["payload"]["reported"], json!({"bri": 2}));
    for _ in 0..100 {
        let frame = follower.next_of("mqtt");
        assert_eq!((&frame["topic"], &frame["replay"]), (&json!("a/b/state"), &json!("+/+/state")));
    }
    assert_eq!(follower.next()["type"], "caught_up");
    let changed = document(&mut follower);
    assert_eq!((&changed["ahead"], &changed["replay"]), (&json!(true), &Value::Null));
    assert_eq!(changed["payload"]["reported"], json!({"bri": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_has_the_documents_through_a_restart_and_what_is_retained_behind_an_epoch() {
    use fieldgate_client::{Client, Event, Message, Since, Subscription};
    async fn message(subscription: &mut Subscription) -> Message {
        match subscription.next().await {
            Some(Event::Message(message)) => message,
            other => panic!("a message was expected, not {other:?}"),
        }
    }
    let mut gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    report(&mut gateway.as_device("lamp", &token), &json!({"bri": 1}));
    let proxy = Proxy::to(&gateway.address);
    let url = format!("ws://{}", proxy.address);
    let client = Client::builder(&url).token(&key).connect().await.unwrap();
    let mut documents = client.subscribe("devices/+/state").open().await.unwrap();
    let bri = |message: &Message| message.json::<Value>().unwrap()["reported"]["bri"].clone();
    assert_eq!(bri(&message(&mut documents).await), 1);
    gateway.kill();
    gateway.up();
    let mut lamp = gateway.as_device("lamp", &token);
    report(&mut lamp, &json!({"bri": 2}));
    // It comes back to where it was when all of that has happened.
    wait_for("the report", || (state(&gateway, &key)["reported"]["bri"] == 2).then_some(()));
    proxy.retarget(&gateway.address);
    assert_eq!(bri(&message(&mut documents).await), 2);
    while documents.next().await != Some(Event::CaughtUp) {}
    report(&mut lamp, &json!({"bri": 3}));
    assert_eq!(bri(&message(&mut documents).await), 3);
    client.publish("kept/a", "x").retain().qos1().send().await.unwrap();
    let of_another_life = Since::After("xyz:1".parse().unwrap());
    let mut kept = client.subscribe("kept/+").since(of_another_life).open().await.unwrap();
    assert!(matches!(kept.next().await, Some(Event::Gap(gap)) if gap.reason == "epoch"));
    let told = message(&mut kept).await;
    assert_eq!((&*told.topic, told.retain), ("kept/a", true));
    assert_eq!(kept.next().await, Some(Event::CaughtUp));
}
