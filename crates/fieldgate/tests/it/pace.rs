//! `maxRate`: a subscription gets each topic less often, and always its newest value.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, Wire};

fn subscribe(wire: &mut Wire, ask: &Value) {
    let mut frame = json!({"type": "subscribe"});
    frame.as_object_mut().unwrap().extend(ask.as_object().unwrap().clone());
    wire.send(&frame);
    assert_eq!(wire.next()["type"], "subscribed");
}

fn send(device: &mut Wire, data: &Value) {
    device.send(&json!({"type": "status", "data": data}));
}

#[test]
fn the_first_comes_at_once_and_the_newest_of_each_resource_when_it_is_due() {
    let gateway = Gateway::start();
    let (key, token) = (gateway.key("admin"), gateway.device("d"));
    let mut app = gateway.as_app(&key);
    subscribe(&mut app, &json!({"topic": "devices/+/telemetry", "maxRate": 0.5}));
    let mut device = gateway.as_device("d", &token);
    let start = Instant::now();
    send(&mut device, &json!({"t": 0}));
    assert_eq!(app.next()["payload"], json!({"t": 0}));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    send(&mut device, &json!({"h": 50}));
    for t in 1..=20 {
        send(&mut device, &json!({"t": t}));
    }
    let frame = app.next();
    assert!(start.elapsed() >= Duration::from_millis(1_990), "{:?}", start.elapsed());
    assert_eq!(frame["payload"], json!({"h": 50, "t": 20}));
    assert_eq!((&frame["conflated"], &frame["ahead"]), (&json!(21), &Value::Null));
    // Nothing is due now: the next one does not wait for more than its gap.
    send(&mut device, &json!({"t": 21}));
    assert_eq!(app.next()["payload"], json!({"t": 21}));
}

#[test]
fn a_message_that_another_subscription_gets_comes_once_and_at_once() {
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    let mut app = gateway.as_app(&key);
    subscribe(&mut app, &json!({"topic": "a/#", "maxRate": 0.001}));
    subscribe(&mut app, &json!({"topic": "a/+"}));
    let mut sender = gateway.as_app(&key);
    for n in 0..10 {
        sender.send(&json!({"type": "publish", "topic": "a/b", "payload": n}));
    }
    for n in 0..10 {
        assert_eq!(app.next()["payload"], n);
    }
}

#[test]
fn what_comes_behind_another_subscription_says_that_it_is_out_of_turn() {
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    let mut app = gateway.as_app(&key);
    subscribe(&mut app, &json!({"topic": "slow", "maxRate": 0.5}));
    subscribe(&mut app, &json!({"topic": "fast"}));
    let mut sender = gateway.as_app(&key);
    for (topic, payload) in [("slow", 1), ("slow", 2), ("fast", 3)] {
        sender.send(&json!({"type": "publish", "topic": topic, "payload": payload}));
    }
    let frames: Vec<Value> = (0..3).map(|_| app.next()).collect();
    let seen: Vec<_> = frames.iter().map(|f| (&f["payload"], f["ahead"] == true)).collect();
    assert_eq!(seen, [(&json!(1), false), (&json!(3), false), (&json!(2), true)]);
}

#[test]
fn a_rate_with_a_promise_or_of_nothing_is_refused() {
    let gateway = Gateway::start();
    let mut app = gateway.as_app(&gateway.key("admin"));
    for ask in [json!({"qos": 1, "maxRate": 1}), json!({"maxRate": 0}), json!({"maxRate": -1})] {
        let mut frame = json!({"type": "subscribe", "topic": "a"});
        frame.as_object_mut().unwrap().extend(ask.as_object().unwrap().clone());
        app.send(&frame);
        assert_eq!(app.next()["code"], "bad_value", "{ask}");
    }
}
