//! What apps want of devices: relative commands, ends by reports, wishes.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, wait_for};

/// A lamp with names of its own, and its token.
fn lamp(gateway: &Gateway, assumed: bool) -> String {
    let made = gateway.admin(&["device", "add", "lamp", "--kind", "light", "--allow-profile"]);
    let token = made["token"].as_str().unwrap().to_owned();
    describe(&mut gateway.as_device("lamp", &token), assumed, 255);
    token
}

fn describe(lamp: &mut Wire, assumed: bool, bri_max: u64) {
    lamp.send(&json!({"type": "profile", "msgid": "p", "profile": {
    "kind": "light", "assumed": assumed, "resources": [
        {"name": "relay", "type": "bool", "writable": true},
        {"name": "bri", "type": "integer", "writable": true, "min": 0, "max": bri_max},
        {"name": "scene", "type": "json", "writable": true},
    ]}}));
    assert_eq!(lamp.next_of("ack")["msgid"], "p");
}

/// Reports, and returns when it is stored. Ids tell repeats apart: each is another.
fn report(device: &mut Wire, reported: &Value) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let msgid = format!("s{}", COUNT.fetch_add(1, Ordering::Relaxed));
    device.send(&json!({"type": "state", "msgid": msgid, "reported": reported}));
    assert_eq!(device.next_of("ack")["msgid"], msgid);
}

fn command(app: &mut Wire, msgid: &str, payload: &Value) -> Value {
    app.send(&json!({"type": "command", "to": "lamp", "msgid": msgid, "payload": payload}));
    loop {
        let answer = app.next();
        if answer["type"] == "ack" || answer["type"] == "error" {
            return answer;
        }
    }
}

/// The states that a command goes through, up to its end.
fn life(app: &mut Wire, reference: &str) -> Vec<String> {
    let mut states = Vec::new();
    loop {
        let frame = app.next_of("command_state");
        if frame["ref"] != reference {
            continue;
        }
        let state = frame["state"].as_str().unwrap().to_owned();
        let is_end = !["sent", "acknowledged"].contains(&state.as_str());
        states.push(state);
        if is_end {
            return states;
        }
    }
}

/// The state of the lamp by a request.
fn state(gateway: &Gateway, key: &str) -> Value {
    let (status, body) = gateway.get("/v1/devices/lamp/state", Some(key));
    if status == 200 { serde_json::from_str(&body).unwrap() } else { Value::Null }
}

#[test]
fn what_is_relative_arrives_as_what_it_comes_to() {
    let gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    let error = command(&mut app, "early", &json!({"toggle": ["on"]}));
    assert_eq!((&error["code"], &error["resource"]), (&json!("bad_value"), &json!("relay")));
    assert!(error["message"].as_str().unwrap().contains("reported nothing"), "{error}");
    let mut lamp = gateway.as_device("lamp", &token);
    report(&mut lamp, &json!({"relay": false, "bri": 200}));
    let payload = json!({"toggle": ["on"], "change": {"brightness": 0.5}, "transition": 1});
    assert_eq!(command(&mut app, "c", &payload)["type"], "ack");
    let control = lamp.next_of("control");
    let expected = json!({"set": {"bri": 255, "relay": true}, "transition": 1});
    assert_eq!(control["payload"], expected);
    let error = command(&mut app, "x", &json!({"change": {"relay": 1}}));
    assert_eq!((&error["code"], &error["resource"]), (&json!("bad_value"), &json!("relay")));
}

#[test]
fn a_report_of_all_that_is_set_completes_a_command() {
    let gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let (mut app, mut lamp) = (gateway.as_app(&key), gateway.as_device("lamp", &token));
    // What was so before says nothing of a command.
    report(&mut lamp, &json!({"relay": true, "bri": 128}));
    let set = json!({"set": {"on": true, "brightness": 0.5}});
    assert_eq!(command(&mut app, "c", &set)["type"], "ack");
    let control = lamp.next_of("control");
    // Half of it is no end, whatever it comes by, and a bad reading is none either.
    lamp.send(&json!({"type": "status", "data": {"bri": 128}}));
    lamp.send(&json!({"values": [{"tag": "relay", "value": true, "quality": "bad"}]}));
    report(&mut lamp, &json!({"scene": {"a": 1}}));
    lamp.send(&json!({"type": "status", "data": {"relay": 1}}));
    assert_eq!(life(&mut app, "c"), ["sent", "completed"]);
    // The reply comes too late to say anything, and is no mistake.
    lamp.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "error"}));
    assert_eq!(lamp.next()["type"], "ack");
    let of_it = format!("/v1/commands/{}", control["msgid"].as_str().unwrap());
    let (_, body) = gateway.get(&of_it, Some(&key));
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["state"], "completed");
}

#[test]
fn a_report_that_was_not_told_of_before_a_crash_is_told_after_it() {
    let mut gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    for n in 0..5 {
        let (mut app, mut lamp) = (gateway.as_app(&key), gateway.as_device("lamp", &token));
        let payload = json!({"set": {"bri": n}});
        assert_eq!(command(&mut app, &format!("c{n}"), &payload)["type"], "ack");
        let control = lamp.next_of("control");
        // Acknowledged is stored; whether its effect is, chance decides.
        report(&mut lamp, &json!({"bri": n}));
        gateway.kill();
        gateway.up();
        // Ends from before a start are told no more: not found is an end.
        let of_it = format!("/v1/commands/{}", control["msgid"].as_str().unwrap());
        wait_for("the end of the command", || {
            let (status, body) = gateway.get(&of_it, Some(&key));
            let told: Value = serde_json::from_str(&body).unwrap();
            (status == 404 || told["state"] == "completed").then_some(())
        });
    }
}

#[test]
fn a_reply_alone_is_a_state_where_the_profile_says_so() {
    let mut gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let (mut app, mut lamp) = (gateway.as_app(&key), gateway.as_device("lamp", &token));
    let mut set = |lamp: &mut Wire, msgid: &str, bri: u64| {
        let payload = json!({"set": {"bri": bri, "scene": {"n": bri}}});
        assert_eq!(command(&mut app, msgid, &payload)["type"], "ack");
        let control = lamp.next_of("control");
        lamp.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "ok"}));
        assert_eq!(lamp.next()["type"], "ack");
    };
    set(&mut lamp, "c1", 1);
    assert_eq!(state(&gateway, &key), Value::Null);
    describe(&mut lamp, true, 255);
    set(&mut lamp, "c2", 2);
    let assumed = wait_for("the state", || Some(state(&gateway, &key)).filter(Value::is_object));
    assert_eq!(assumed["reported"], json!({"bri": 2, "scene": {"n": 2}}));
    assert_eq!(assumed["meta"]["bri"]["quality"], "uncertain");
    gateway.kill();
    gateway.up();
    assert_eq!(state(&gateway, &key), assumed);
    // What it says itself is better.
    let mut lamp = gateway.as_device("lamp", &token);
    report(&mut lamp, &json!({"bri": 3}));
    let told = wait_for("the report", || {
        Some(state(&gateway, &key)).filter(|state| state["reported"]["bri"] == 3)
    });
    assert_eq!(told["meta"]["bri"]["quality"], Value::Null);
}
