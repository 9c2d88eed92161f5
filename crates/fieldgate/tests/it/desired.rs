//! What apps want of devices: relative commands, ends by reports, wishes.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, exchange, wait_for};

/// A lamp with names of its own, and its token.
pub(crate) fn lamp(gateway: &Gateway, assumed: bool) -> String {
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
pub(crate) fn report(device: &mut Wire, reported: &Value) {
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
pub(crate) fn state(gateway: &Gateway, key: &str) -> Value {
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
    // Stored is told before it is routed.
    wait_for("the report", || (state(&gateway, &key)["reported"]["bri"] == 200).then_some(()));
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

/// Wishes, and returns the answer.
pub(crate) fn wish(app: &mut Wire, msgid: &str, state: &Value, if_seq: Option<u64>) -> Value {
    let mut frame = json!({"type": "desired", "to": "lamp", "msgid": msgid, "state": state});
    if let Some(if_seq) = if_seq {
        frame["ifSeq"] = if_seq.into();
    }
    app.send(&frame);
    loop {
        let answer = app.next();
        if answer["type"] == "ack" || answer["type"] == "error" {
            return answer;
        }
    }
}

/// A request with a body; status, head and body.
fn patch(gateway: &Gateway, key: &str, head: &str, body: &Value) -> (u16, Value) {
    let head = format!("Authorization: Bearer {key}\r\n{head}");
    let path = "/v1/devices/lamp/desired";
    let answer = exchange(&gateway.address, "PATCH", path, &head, &body.to_string());
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn wait_for_desired(gateway: &Gateway, key: &str, expected: &Value) {
    wait_for("the wishes", || (state(gateway, key)["desired"] == *expected).then_some(()));
}

#[test]
fn a_wish_goes_to_its_device_at_once_and_ends_when_it_is_met() {
    let gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let (mut app, mut lamp) = (gateway.as_app(&key), gateway.as_device("lamp", &token));
    let mut follower = gateway.as_app(&key);
    follower.send(&json!({"type": "subscribe", "topic": "devices/+/state/desired"}));
    follower.next_of("subscribed");
    report(&mut lamp, &json!({"relay": true, "bri": 10}));
    let wished = json!({"on": true, "brightness": 0.501_960_784, "scene": {"a": 1}});
    assert_eq!(wish(&mut app, "w1", &wished, None)["type"], "ack");
    // What it is in already is no difference.
    let control = lamp.next_of("control");
    let expected = json!({"set": {"bri": 128, "scene": {"a": 1}}, "reason": "desired"});
    assert_eq!(control["payload"], expected);
    wait_for_desired(&gateway, &key, &json!({"bri": 128, "scene": {"a": 1}}));
    // A newer wish takes the place of the older one, member by member.
    let more = json!({"scene": {"b": 2}});
    assert_eq!(wish(&mut app, "w2", &more, None)["type"], "ack");
    let newer = lamp.next_of("control");
    let expected = json!({"set": {"bri": 128, "scene": {"a": 1, "b": 2}}, "reason": "desired"});
    assert_eq!(newer["payload"], expected);
    let command = |control: &Value| {
        let of_it = format!("/v1/commands/{}", control["msgid"].as_str().unwrap());
        let (_, body) = gateway.get(&of_it, Some(&key));
        serde_json::from_str::<Value>(&body).unwrap()["state"].clone()
    };
    assert_eq!(command(&control), "cancelled");
    // A repeat is no new wish.
    assert_eq!(wish(&mut app, "w2", &more, None)["type"], "ack");
    report(&mut lamp, &json!({"bri": 128.0}));
    wait_for_desired(&gateway, &key, &json!({"scene": {"a": 1, "b": 2}}));
    report(&mut lamp, &json!({"scene": {"b": 2.0, "a": 1}}));
    wait_for_desired(&gateway, &key, &json!({}));
    wait_for("the end of the command", || (command(&newer) == "completed").then_some(()));
    // Nobody fights a hand on the switch.
    report(&mut lamp, &json!({"bri": 3, "relay": false}));
    lamp.send(&json!({"type": "ping"}));
    assert_eq!(lamp.next()["type"], "pong");
    let told: Vec<Value> = std::iter::repeat_with(|| follower.next_of("mqtt"))
        .take(5)
        .map(|f| f["payload"].clone())
        .collect();
    assert_eq!(told[0], json!({"relay": true, "bri": 128, "scene": {"a": 1}}));
    assert_eq!(told[1], json!({"relay": null}));
    assert_eq!(told[2..], [more, json!({"bri": null}), json!({"scene": null})]);
}

#[test]
fn a_device_that_connects_tells_what_it_is_in_before_it_gets_what_is_wished() {
    let mut gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    let wished = json!({"on": true, "brightness": 1, "scene": {"a": 1}});
    assert_eq!(wish(&mut app, "w1", &wished, None)["type"], "ack");
    assert_eq!(wish(&mut app, "w2", &json!({"scene": null}), None)["type"], "ack");
    gateway.kill();
    gateway.up();
    wait_for_desired(&gateway, &key, &json!({"relay": true, "bri": 255}));
    let mut lamp = gateway.as_device("lamp", &token);
    lamp.send(&json!({"type": "ping"}));
    assert_eq!(lamp.next()["type"], "pong");
    report(&mut lamp, &json!({"relay": true, "bri": 0}));
    let control = lamp.next_of("control");
    assert_eq!(control["payload"], json!({"set": {"bri": 255}, "reason": "desired"}));
    // Gone and back without a word of its state: sent again, once, as a new command.
    drop(lamp);
    let mut lamp = gateway.as_device("lamp", &token);
    let again = lamp.next_of("control");
    assert_eq!(again["payload"], control["payload"]);
    assert_ne!(again["msgid"], control["msgid"]);
    let of_it = format!("/v1/commands/{}", control["msgid"].as_str().unwrap());
    let (_, body) = gateway.get(&of_it, Some(&key));
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["state"], "cancelled");
    // On the way somebody turned it by hand to what was wished: there is nothing to do any more.
    drop(lamp);
    let mut lamp = gateway.as_device("lamp", &token);
    // And turned it on at once: the wish was met all the same.
    report(&mut lamp, &json!({"bri": 255}));
    report(&mut lamp, &json!({"bri": 7}));
    wait_for_desired(&gateway, &key, &json!({}));
    lamp.send(&json!({"type": "ping"}));
    assert_eq!(lamp.next()["type"], "pong");
}

#[test]
fn a_wish_is_refused_where_it_does_not_fit_or_somebody_was_faster() {
    let gateway = Gateway::start();
    let (_token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    for (state, code) in [
        (json!({"bri": 256}), "bad_value"),
        (json!({"on": 3}), "bad_value"),
        (json!({"power": 1}), "not_allowed"),
        (json!({"power": null}), "not_allowed"),
        (json!({"bri": 1, "brightness": 1}), "bad_value"),
        (json!({}), "bad_value"),
        (json!([1]), "bad_value"),
    ] {
        assert_eq!(wish(&mut app, "bad", &state, None)["code"], code, "{state}");
    }
    app.send(&json!({"type": "desired", "to": "devices/+", "msgid": "g", "state": {"on": true}}));
    assert_eq!(app.next_of("error")["code"], "bad_value");
    app.send(&json!({"type": "desired", "to": "nobody", "msgid": "n", "state": {"on": true}}));
    assert_eq!(app.next_of("error")["code"], "not_found");
    let viewer_key = gateway.key("viewer");
    let mut viewer = gateway.as_app(&viewer_key);
    assert_eq!(wish(&mut viewer, "v", &json!({"on": true}), None)["code"], "not_allowed");
    // Who is refused so often is sent away.
    let mut app = gateway.as_app(&key);
    let first = wish(&mut app, "w1", &json!({"on": true, "bri": 1}), Some(0));
    let seq = first["seq"].as_u64().unwrap();
    assert_eq!(wish(&mut app, "w2", &json!({"bri": 2}), Some(seq))["type"], "ack");
    let late = wish(&mut app, "w3", &json!({"bri": 3}), Some(seq));
    assert_eq!((&late["code"], &late["resource"]), (&json!("conflict"), &json!("bri")));
    // Of another resource nobody was faster, and a repeat is told as it was.
    assert_eq!(wish(&mut app, "w4", &json!({"on": false}), Some(seq))["type"], "ack");
    assert_eq!(wish(&mut app, "w1", &json!({"on": true, "bri": 1}), Some(0))["seq"], seq);
    assert_eq!(state(&gateway, &key)["desired"], json!({"relay": false, "bri": 2}));
    let (status, wished) = patch(&gateway, &key, "", &json!({"brightness": 1, "on": null}));
    assert_eq!((status, &wished["desired"]), (200, &json!({"bri": 255})));
    let known = format!("If-Match: \"{}\"\r\n", wished["seq"]);
    assert_eq!(patch(&gateway, &key, &known, &json!({"bri": 7})).0, 200);
    let (status, told) = patch(&gateway, &key, &known, &json!({"bri": 8}));
    assert_eq!((status, &told["code"]), (412, &json!("conflict")));
    assert_eq!(patch(&gateway, &key, "", &json!({"bri": -1})).0, 400);
    assert_eq!(patch(&gateway, "fg_k_nobody", "", &json!({"bri": 1})).0, 401);
    assert_eq!(patch(&gateway, &viewer_key, "", &json!({"bri": 1})).0, 403);
}

#[test]
fn wishes_that_a_new_profile_does_not_take_are_written_down_and_gone() {
    let mut gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    assert_eq!(wish(&mut app, "w", &json!({"on": true, "bri": 200}), None)["type"], "ack");
    describe(&mut gateway.as_device("lamp", &token), false, 100);
    assert_eq!(state(&gateway, &key)["desired"], json!({"relay": true}));
    let drop = wait_for("the drop", || {
        let (_, body) = gateway.get("/v1/drops?reason=desired_unfit", Some(&key));
        serde_json::from_str::<Value>(&body).unwrap()["items"].get(0).cloned()
    });
    assert_eq!((&drop["who"], &drop["count"]), (&json!("lamp"), &json!(1)));
    for folder in ["", "tables", "exports"] {
        wait_for("an export", || {
            std::fs::read_dir(gateway.data().join("exports")).ok()?.next()?.ok()
        });
        gateway.kill();
        if !folder.is_empty() {
            std::fs::remove_dir_all(gateway.data().join("tables")).unwrap();
        }
        if folder == "exports" {
            std::fs::remove_dir_all(gateway.data().join(folder)).unwrap();
        }
        gateway.up();
        assert_eq!(state(&gateway, &key)["desired"], json!({"relay": true}), "without {folder:?}");
    }
    gateway.admin(&["device", "remove", "lamp", "--yes"]);
    assert_eq!(state(&gateway, &key), Value::Null);
}

/// Connects as the lamp, tells what it is in, obeys once, and returns with the connection; `kill_at`
/// says behind which of these steps the gateway dies.
fn obey(
    gateway: &mut Gateway,
    token: &str,
    bri: &mut u64,
    wished: u64,
    kill_at: usize,
) -> Option<Wire> {
    let mut lamp = gateway.as_device("lamp", token);
    report(&mut lamp, &json!({"bri": *bri}));
    for step in 0..3 {
        if step == kill_at {
            gateway.kill();
            gateway.up();
            return None;
        }
        match step {
            0 if *bri != wished => {
                let control = lamp.next_of("control");
                assert_eq!(control["payload"]["set"], json!({"bri": wished}));
                *bri = wished;
            }
            1 => report(&mut lamp, &json!({"bri": *bri})),
            _ => (),
        }
    }
    Some(lamp)
}

#[test]
fn a_crash_at_any_step_ends_with_the_wish_met_and_nobody_fights_a_hand() {
    let mut gateway = Gateway::start();
    let (token, key) = (lamp(&gateway, false), gateway.key("operator"));
    let mut bri = 0;
    for (wished, kill_at) in [(10, 0), (20, 1), (30, 2), (40, 0), (50, 2), (60, 1)] {
        let mut app = gateway.as_app(&key);
        let msgid = format!("w{wished}");
        assert_eq!(wish(&mut app, &msgid, &json!({"bri": wished}), None)["type"], "ack");
        assert!(obey(&mut gateway, &token, &mut bri, wished, kill_at).is_none());
        // What is left to do is done, and a repeat of the wish is none.
        let mut app = gateway.as_app(&key);
        assert_eq!(wish(&mut app, &msgid, &json!({"bri": wished}), None)["type"], "ack");
        let mut lamp = obey(&mut gateway, &token, &mut bri, wished, usize::MAX).unwrap();
        wait_for_desired(&gateway, &key, &json!({}));
        bri += 1;
        report(&mut lamp, &json!({"bri": bri}));
        assert_eq!(wish(&mut app, &msgid, &json!({"bri": wished}), None)["type"], "ack");
        lamp.send(&json!({"type": "ping"}));
        assert_eq!(lamp.next()["type"], "pong");
    }
}
