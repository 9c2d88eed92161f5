//! Profiles on a real gateway: what a device is, who may say so, and which commands it takes.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, run};

/// Makes a device with these flags; its token.
fn device(gateway: &Gateway, id: &str, flags: &[&str]) -> String {
    let made = gateway.admin(&[&["device", "add", id], flags].concat());
    made["token"].as_str().unwrap().to_owned()
}

fn shown(gateway: &Gateway, id: &str) -> Value {
    gateway.admin(&["device", "show", id])
}

#[test]
fn a_device_gets_the_profile_of_its_kind() {
    let mut gateway = Gateway::start();
    device(&gateway, "lamp", &["--kind", "light"]);
    device(&gateway, "plain", &[]);
    let lamp = shown(&gateway, "lamp");
    let resources = json!([
        {"name": "on", "type": "bool", "writable": true},
        {"name": "brightness", "type": "number", "writable": true, "min": 0, "max": 1},
    ]);
    assert_eq!(lamp["profile"], json!({"kind": "light", "resources": resources}));
    assert_eq!((&lamp["kind"], &lamp["revision"]), (&json!("light"), &json!(1)));
    let plain = shown(&gateway, "plain");
    assert_eq!((&plain["profile"], &plain["revision"]), (&Value::Null, &Value::Null));
    let output = run(&["device", "add", "x", "--kind", "toaster"], &gateway.data());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("bad_value") && told.contains("thermostat"), "{told}");
    gateway.kill();
    gateway.up();
    assert_eq!(shown(&gateway, "lamp"), lamp);
    let words = crate::support::fieldgate()
        .args(["device", "show", "lamp", "--data"])
        .arg(gateway.data())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&words.stdout);
    assert!(words.contains("revision     1") && words.contains("brightness"), "{words}");
}

/// A lamp with names and units of its own.
fn lamp_profile(bri_max: u64) -> Value {
    json!({"kind": "light", "model": "L2", "resources": [
        {"name": "relay", "type": "bool", "writable": true},
        {"name": "bri", "type": "integer", "writable": true, "min": 0, "max": bri_max},
        {"name": "power", "type": "number", "unit": "W"},
    ]})
}

/// Sends a profile and returns the answer.
fn describe(wire: &mut Wire, profile: &Value) -> Value {
    wire.send(&json!({"type": "profile", "msgid": "p", "profile": profile}));
    wire.next()
}

/// Sends a command under an id of its own, as one that repeats another's is answered as that was.
fn command(app: &mut Wire, to: &str, payload: &Value) -> Value {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let id = format!("command-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    app.send(&json!({"type": "command", "to": to, "msgid": id, "payload": payload}));
    let answer = app.next();
    let field = if answer["type"] == "ack" { "msgid" } else { "ref" };
    assert_eq!(answer[field], id, "{answer}");
    answer
}

#[test]
fn a_device_with_the_right_says_what_it_is() {
    let mut gateway = Gateway::start();
    let token = device(&gateway, "lamp", &["--kind", "light", "--allow-profile"]);
    let mut lamp = gateway.as_device("lamp", &token);
    let ack = describe(&mut lamp, &lamp_profile(255));
    assert_eq!((&ack["type"], &ack["msgid"]), (&json!("ack"), &json!("p")));
    // What is acknowledged is in force.
    let told = shown(&gateway, "lamp");
    assert_eq!((&told["revision"], &told["profile"]["model"]), (&json!(2), &json!("L2")));
    assert_eq!(told["profile"]["resources"][1]["max"], 255);
    // A repeat, and the same in an envelope, change nothing.
    assert_eq!(describe(&mut lamp, &lamp_profile(255))["type"], "ack");
    lamp.send(&json!({
        "ver": "1.0", "type": "profile", "from": "lamp", "to": "server", "msgid": "e",
        "payload": lamp_profile(255),
    }));
    assert_eq!(lamp.next()["msgid"], "e");
    assert_eq!(shown(&gateway, "lamp"), told);
    let mut wrong = lamp_profile(255);
    wrong["resources"][1]["min"] = json!(300);
    let error = describe(&mut lamp, &wrong);
    assert_eq!((&error["code"], &error["ref"]), (&json!("bad_value"), &json!("p")));
    assert!(error["message"].as_str().unwrap().contains("bri"), "{error}");
    gateway.kill();
    gateway.up();
    assert_eq!(shown(&gateway, "lamp"), told);
    gateway.as_device("lamp", &token);
}

#[test]
fn who_has_no_right_to_it_replaces_no_profile() {
    let gateway = Gateway::start();
    let flags = ["--gateway-for", "lamp", "--allow-profile"];
    let tokens = [
        ("hub", device(&gateway, "hub", &flags)),
        ("deaf", device(&gateway, "deaf", &["--gateway-for", "lamp"])),
        ("lamp", device(&gateway, "lamp", &["--kind", "light"])),
    ];
    device(&gateway, "other", &[]);
    let set = |who: usize, whose: &str| {
        let (id, token) = &tokens[who];
        let mut wire = gateway.as_device(id, token);
        wire.send(&json!({
            "type": "profile", "deviceId": whose, "msgid": "p", "profile": lamp_profile(255),
        }));
        let answer = wire.next();
        answer["code"].as_str().map(str::to_owned)
    };
    assert_eq!(set(2, "lamp").as_deref(), Some("not_allowed"));
    assert_eq!(set(1, "lamp").as_deref(), Some("not_allowed"));
    assert_eq!(set(0, "other").as_deref(), Some("not_allowed"));
    assert_eq!(shown(&gateway, "lamp")["revision"], 1);
    assert_eq!(set(0, "lamp"), None);
    assert_eq!(shown(&gateway, "lamp")["revision"], 2);
    gateway.admin(&["device", "remove", "lamp", "--yes"]);
    assert_eq!(set(0, "lamp").as_deref(), Some("not_found"));
    // A second credential has the right only if it was given.
    let second = gateway.admin(&["device", "credential", "add", "other", "--allow-profile"]);
    let mut other = gateway.as_device("other", second["token"].as_str().unwrap());
    assert_eq!(describe(&mut other, &json!({"kind": "plug"}))["type"], "ack");
    let rotated = gateway.admin(&["device", "rotate", "other", "--yes"]);
    let mut other = gateway.as_device("other", rotated["token"].as_str().unwrap());
    assert_eq!(describe(&mut other, &json!({"kind": "cover"}))["type"], "ack");
    assert_eq!(shown(&gateway, "other")["kind"], "cover");
}

#[test]
fn a_command_arrives_in_the_words_and_units_of_its_device() {
    let gateway = Gateway::start();
    let token = device(&gateway, "lamp", &["--kind", "light", "--allow-profile"]);
    let mut lamp = gateway.as_device("lamp", &token);
    assert_eq!(describe(&mut lamp, &lamp_profile(255))["type"], "ack");
    let mut app = gateway.as_app(&gateway.key("operator"));
    let payload = json!({"set": {"on": true, "brightness": 0.501_960_784}, "transition": 0.4});
    assert_eq!(command(&mut app, "lamp", &payload)["devices"], 1);
    let control = lamp.next();
    let expected = json!({"set": {"relay": true, "bri": 128}, "transition": 0.4});
    assert_eq!((&control["type"], &control["payload"]), (&json!("control"), &expected));
    lamp.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "ok"}));
    let states: Vec<_> = (0..2).map(|_| app.next_of("command_state")["state"].clone()).collect();
    assert_eq!(states, ["sent", "completed"]);
    for (payload, code, resource) in [
        (json!({"set": {"brightness": 1.5}}), "bad_value", json!("bri")),
        (json!({"set": {"bri": "full"}}), "bad_value", json!("bri")),
        (json!({"set": {"power": 1}}), "not_allowed", json!("power")),
        (json!({"set": {"colour": 1}}), "not_allowed", json!("colour")),
        (json!({"toggle": ["on"]}), "bad_value", json!("relay")),
        (json!({"change": {"bri": 1}}), "bad_value", json!("bri")),
        (json!({"action": "explode"}), "bad_value", Value::Null),
    ] {
        let error = command(&mut app, "lamp", &payload);
        assert_eq!(error["code"], code, "{payload}");
        assert_eq!(error["resource"], resource, "{payload}");
        if resource == "bri" && payload["change"].is_null() {
            assert_eq!((&error["min"], &error["max"]), (&json!(0), &json!(255)), "{payload}");
        }
    }
    // What names none of the keys is nobody's business but the device's.
    let free = json!({"anything": [1, {"colour": "red"}]});
    app.send(&json!({"type": "command", "to": "lamp", "msgid": "free", "payload": free}));
    assert_eq!(app.next()["devices"], 1);
    assert_eq!(lamp.next_of("control")["payload"], free);
}

#[test]
fn of_several_devices_those_that_do_not_take_a_command_fail_and_say_why() {
    let gateway = Gateway::start();
    let token = device(&gateway, "lamp", &["--kind", "light", "--group", "hall"]);
    let sensor = device(&gateway, "sensor", &["--kind", "sensor", "--group", "hall"]);
    device(&gateway, "plain", &["--group", "hall"]);
    let (mut lamp, mut sensor) =
        (gateway.as_device("lamp", &token), gateway.as_device("sensor", &sensor));
    let mut app = gateway.as_app(&gateway.key("operator"));
    app.send(&json!({
        "type": "command", "to": "group:hall", "msgid": "c", "payload": {"set": {"on": true}},
    }));
    let (mut ends, mut device_count) = (Vec::new(), 0);
    while ends.len() < 3 || device_count == 0 {
        let frame = app.next();
        match frame["type"].as_str().unwrap() {
            "ack" => device_count = frame["devices"].as_u64().unwrap(),
            "command_state" => {
                assert_eq!(frame["ref"], "c");
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let code = text(&frame["payload"]["error"]["code"]);
                ends.push((text(&frame["deviceId"]), text(&frame["state"]), code));
            }
            other => panic!("{other}"),
        }
    }
    ends.sort();
    let end = |id: &str, state: &str, code: &str| (id.into(), state.into(), code.into());
    let failed = |id: &str| end(id, "failed", "not_allowed");
    assert_eq!(ends, [end("lamp", "sent", ""), failed("plain"), failed("sensor")]);
    assert_eq!(device_count, 3);
    assert_eq!(lamp.next()["payload"], json!({"set": {"on": true}}));
    sensor.send(&json!({"type": "ping"}));
    assert_eq!(sensor.next()["type"], "pong");
    // Where none takes it nothing is queued.
    for to in ["group:hall", "devices/+"] {
        let error = command(&mut app, to, &json!({"set": {"position": 1}}));
        assert_eq!(error["code"], "not_allowed");
        assert!(error["message"].as_str().unwrap().contains("none of 3 devices"), "{error}");
    }
    let error = command(&mut app, "plain", &json!({"set": {"on": true}}));
    assert_eq!(error["code"], "not_allowed");
    assert!(error["message"].as_str().unwrap().contains("no profile"), "{error}");
}

#[test]
fn a_command_that_waited_is_looked_at_again_when_it_is_sent() {
    let mut gateway = Gateway::start();
    let flags = ["--gateway-for", "lamp", "--allow-profile"];
    let hub = device(&gateway, "hub", &flags);
    let token = device(&gateway, "lamp", &["--kind", "light"]);
    let key = gateway.key("operator");
    let describe_lamp = |gateway: &Gateway, bri_max: u64| {
        let mut hub = gateway.as_device("hub", &hub);
        hub.send(&json!({
            "type": "profile", "deviceId": "lamp", "msgid": "p", "profile": lamp_profile(bri_max),
        }));
        assert_eq!(hub.next()["type"], "ack");
    };
    describe_lamp(&gateway, 255);
    let mut app = gateway.as_app(&key);
    for (msgid, bri) in [("much", 200), ("little", 50)] {
        let payload = json!({"set": {"bri": bri}});
        app.send(&json!({"type": "command", "to": "lamp", "msgid": msgid, "payload": payload}));
        assert_eq!(app.next()["devices"], 1);
    }
    describe_lamp(&gateway, 100);
    gateway.kill();
    gateway.up();
    let mut app = gateway.as_app(&key);
    let mut lamp = gateway.as_device("lamp", &token);
    let control = lamp.next();
    assert_eq!(control["payload"], json!({"set": {"bri": 50}}));
    let states: Vec<_> = (0..2).map(|_| app.next_of("command_state")).collect();
    let of = |reference: &str| states.iter().find(|state| state["ref"] == reference).unwrap();
    assert_eq!(of("little")["state"], "sent");
    assert_eq!(of("much")["state"], "failed");
    let error = &of("much")["payload"]["error"];
    assert_eq!((&error["code"], &error["max"]), (&json!("bad_value"), &json!(100)));
}
