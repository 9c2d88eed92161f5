//! Scenes: checked when they are made, stored from what was reported, recalled as one command.

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, exchange, wait_for};

/// Status, `ETag` and body.
type Told = (u16, Option<String>, Value);

fn ask(gateway: &Gateway, key: &str, method: &str, path: &str, body: &Value, more: &str) -> Told {
    let head = format!("Authorization: Bearer {key}\r\n{more}");
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = exchange(&gateway.address, method, path, &head, &text);
    let tag = answer.header("etag").map(str::to_owned);
    (answer.status, tag, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
}

fn device(gateway: &Gateway, id: &str, kind: &str) -> String {
    let made = gateway.admin(&["device", "add", id, "--kind", kind, "--group", "hall"]);
    made["token"].as_str().unwrap().to_owned()
}

fn evening() -> Value {
    json!({"name": "Evening", "group": "hall", "transition": 2.5, "members": [
        {"device": "plug", "set": {"on": false}},
        {"device": "lamp", "set": {"on": true, "brightness": 0.25}}]})
}

/// Answers the next command that comes.
fn obey(wire: &mut Wire) -> Value {
    let control = wire.next_of("control");
    wire.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "ok"}));
    control["payload"].clone()
}

#[test]
fn a_scene_is_checked_made_changed_and_kept() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    device(&gateway, "lamp", "light");
    device(&gateway, "plug", "plug");
    device(&gateway, "sensor", "sensor");
    let put = |gateway: &Gateway, body: &Value, more: &str| {
        ask(gateway, &key, "PUT", "/v1/scenes/evening", body, more)
    };
    let members = |members: Value| json!({"members": members});
    for (wrong, status, word) in [
        (members(json!([])), 400, "members"),
        (members(json!([{"device": "nobody", "set": {"on": true}}])), 404, "nobody"),
        (members(json!([{"device": "lamp", "set": {"brightness": 2}}])), 400, "lamp: "),
        (members(json!([{"device": "lamp", "set": {"colour": 1}}])), 403, "colour"),
        (members(json!([{"device": "sensor", "set": {"on": true}}])), 403, "sensor"),
        (members(json!([{"device": "lamp", "set": {}}])), 400, "set"),
        (members(json!([{"device": "lamp", "set": 1}])), 400, "set"),
        (json!({"members": evening()["members"], "group": "attic"}), 404, "attic"),
        (json!({"members": evening()["members"], "transition": -1}), 400, "transition"),
        (
            members(json!([{"device": "plug", "set": {"on": true}},
                {"device": "plug", "set": {"on": false}}])),
            400,
            "twice",
        ),
    ] {
        let (is, _, problem) = put(&gateway, &wrong, "");
        assert_eq!(is, status, "{wrong}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{wrong}: {problem}");
    }
    let (status, tag, made) = put(&gateway, &evening(), "If-None-Match: *\r\n");
    assert_eq!(status, 200, "{made}");
    let told = json!({"id": "evening", "number": 1, "name": "Evening", "group": "hall",
        "transition": 2.5, "device_count": 2, "members": [
            {"device": "lamp", "set": {"on": true, "brightness": 0.25}},
            {"device": "plug", "set": {"on": false}}]});
    assert_eq!(made, told);
    assert_eq!(put(&gateway, &evening(), "If-None-Match: *\r\n").0, 412);
    let known = format!("If-Match: {}\r\n", tag.unwrap());
    let mut later = evening();
    later["members"][1]["set"]["brightness"] = json!(0.5);
    assert_eq!(put(&gateway, &later, &known).0, 200);
    assert_eq!(put(&gateway, &later, &known).0, 412);
    // A group with scenes stays; a device that goes leaves them.
    let delete =
        |gateway: &Gateway, path: &str| ask(gateway, &key, "DELETE", path, &Value::Null, "").0;
    assert_eq!(delete(&gateway, "/v1/groups/hall"), 409);
    gateway.admin(&["device", "remove", "plug", "--yes"]);
    gateway.kill();
    gateway.up();
    let (_, _, kept) = ask(&gateway, &key, "GET", "/v1/scenes/evening", &Value::Null, "");
    let lamp = json!([{"device": "lamp", "set": {"on": true, "brightness": 0.5}}]);
    assert_eq!((&kept["members"], &kept["number"]), (&lamp, &json!(1)));
    let (_, _, list) = ask(&gateway, &key, "GET", "/v1/scenes", &Value::Null, "");
    assert_eq!(list["items"][0]["device_count"], 1, "{list}");
    let viewer = gateway.key("viewer");
    assert_eq!(ask(&gateway, &viewer, "GET", "/v1/scenes/evening", &Value::Null, "").0, 200);
    assert_eq!(ask(&gateway, &viewer, "PUT", "/v1/scenes/evening", &evening(), "").0, 403);
    assert_eq!(
        [delete(&gateway, "/v1/scenes/evening"), delete(&gateway, "/v1/scenes/evening")],
        [200, 404]
    );
    assert_eq!(delete(&gateway, "/v1/groups/hall"), 200);
}

#[test]
fn a_recall_goes_to_each_device_or_to_none() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let tokens = [device(&gateway, "lamp", "light"), device(&gateway, "plug", "plug")];
    assert_eq!(ask(&gateway, &key, "PUT", "/v1/scenes/evening", &evening(), "").0, 200);
    let recall = |key: &str, query: &str| {
        let path = format!("/v1/scenes/evening/recall{query}");
        ask(&gateway, key, "POST", &path, &Value::Null, "")
    };
    let mut lamp = gateway.as_device("lamp", &tokens[0]);
    let mut plug = gateway.as_device("plug", &tokens[1]);
    let some = ["command:devices/lamp/#", "read:#"];
    let some = gateway.admin(&["key", "add", "some", "--grant", some[0], "--grant", some[1]]);
    let (status, _, refused) = recall(some["key"].as_str().unwrap(), "");
    assert_eq!((status, &refused["code"]), (403, &json!("not_allowed")));
    assert!(refused["detail"].as_str().unwrap().contains("plug"), "{refused}");
    assert_eq!(recall(&gateway.key("viewer"), "").0, 403);
    let (status, _, told) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| recall(&key, "?wait=20s"));
        let set = json!({"set": {"on": true, "brightness": 0.25}, "transition": 2.5});
        // What was refused before left nothing in the log: this is the first that comes.
        assert_eq!(obey(&mut lamp), set);
        assert_eq!(obey(&mut plug), json!({"set": {"on": false}, "transition": 2.5}));
        waiting.join().unwrap()
    });
    assert_eq!(status, 201, "{told}");
    let ends: Vec<_> = told["devices"].as_array().unwrap().iter().collect();
    let states: Vec<_> = ends.iter().map(|end| (&end["device"], &end["state"])).collect();
    let completed = json!("completed");
    assert_eq!(states, [(&json!("lamp"), &completed), (&json!("plug"), &completed)]);
    assert_eq!(told["position"], ends[0]["position"]);
    // One that no longer takes it fails alone, and says why.
    let sensor = json!({"kind": "sensor"});
    assert_eq!(ask(&gateway, &key, "PUT", "/v1/devices/plug/profile", &sensor, "").0, 200);
    let (status, _, told) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| recall(&key, "?wait=20s"));
        obey(&mut lamp);
        waiting.join().unwrap()
    });
    let plug = &told["devices"][1];
    assert_eq!((status, &plug["state"]), (201, &json!("failed")), "{told}");
    assert_eq!(plug["payload"]["error"]["code"], "not_allowed", "{told}");
    assert_eq!(ask(&gateway, &key, "POST", "/v1/scenes/dawn/recall", &Value::Null, "").0, 404);
    assert_eq!(recall(&key, "?wait=2m").0, 400);
}

#[test]
fn what_was_reported_is_stored() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let token = device(&gateway, "lamp", "light");
    device(&gateway, "plug", "plug");
    assert_eq!(ask(&gateway, &key, "PUT", "/v1/scenes/evening", &evening(), "").0, 200);
    let mut lamp = gateway.as_device("lamp", &token);
    let data = json!({"on": false, "brightness": 0.75, "temperature": 20});
    lamp.send(&json!({"type": "status", "msgid": "m", "data": data}));
    lamp.next_of("ack");
    let wanted = json!([
        {"device": "lamp", "set": {"brightness": 0.75, "on": false}},
        {"device": "plug", "set": {"on": false}}]);
    let stored = wait_for("the state to be stored", || {
        let (status, _, stored) =
            ask(&gateway, &key, "POST", "/v1/scenes/evening/store", &Value::Null, "");
        assert_eq!(status, 200, "{stored}");
        (stored["members"] == wanted).then_some(stored)
    });
    let (_, _, kept) = ask(&gateway, &key, "GET", "/v1/scenes/evening", &Value::Null, "");
    assert_eq!((&kept, &kept["transition"]), (&stored, &json!(2.5)));
    let viewer = gateway.key("viewer");
    assert_eq!(ask(&gateway, &viewer, "POST", "/v1/scenes/evening/store", &Value::Null, "").0, 403);
}
