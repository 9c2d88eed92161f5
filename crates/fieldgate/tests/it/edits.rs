//! What people edit: parts of devices, API keys and persons, only by who knows what is there.

use serde_json::{Value, json};

use crate::support::{Gateway, exchange, post};

/// Status, `ETag` and body.
type Told = (u16, Option<String>, Value);

fn ask(gateway: &Gateway, key: &str, method: &str, path: &str, body: &Value, more: &str) -> Told {
    let head = format!("Authorization: Bearer {key}\r\n{more}");
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = exchange(&gateway.address, method, path, &head, &text);
    let tag = answer.header("etag").map(str::to_owned);
    (answer.status, tag, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
}

#[test]
fn a_device_is_edited_part_by_part() {
    let mut gateway = Gateway::start();
    let (admin, operator) = (gateway.key("admin"), gateway.key("operator"));
    gateway.admin(&["device", "add", "lamp", "--group", "hall", "--name", "Lamp"]);
    let path = "/v1/devices/lamp";
    let edit = |key: &str, body: Value, more: &str| ask(&gateway, key, "PATCH", path, &body, more);
    let (_, first, _) = ask(&gateway, &operator, "GET", path, &Value::Null, "");
    let known = format!("If-None-Match: {}\r\n", first.as_ref().unwrap());
    assert_eq!(ask(&gateway, &operator, "GET", path, &Value::Null, &known).0, 304);
    let condition = format!("If-Match: {}\r\n", first.unwrap());
    let (status, second, told) =
        edit(&operator, json!({"name": "Ceiling", "groups": ["attic", "attic"]}), &condition);
    assert_eq!(status, 200, "{told}");
    assert_eq!((&told["name"], &told["groups"]), (&json!("Ceiling"), &json!(["attic"])));
    let (status, _, late) = edit(&operator, json!({"name": null}), &condition);
    assert_eq!((status, &late["code"]), (412, &json!("conflict")));
    let condition = format!("If-Match: {}\r\n", second.unwrap());
    let (status, _, told) = edit(&operator, json!({"kind": "light"}), &condition);
    assert_eq!((status, &told["revision"]), (200, &json!(1)), "{told}");
    assert_eq!(told["profile"]["resources"][0]["name"], "on");
    let (_, _, told) = edit(&operator, json!({"kind": "plug", "name": null, "groups": null}), "");
    assert_eq!((&told["kind"], &told["profile"]["kind"]), (&json!("plug"), &json!("plug")));
    assert_eq!((&told["name"], &told["groups"]), (&Value::Null, &json!([])));
    // What a device may speak for is a right.
    let speaks = json!({"gateway_for": "sensor-1"});
    assert_eq!(edit(&operator, speaks.clone(), "").0, 403);
    assert_eq!(edit(&admin, speaks, "").2["gateway_for"], "sensor-1");
    for wrong in [
        json!({"kind": null}),
        json!({"kind": "toaster"}),
        json!({"name": ""}),
        json!({"groups": [""]}),
        json!({"gateway_for": "#/a"}),
        json!({"id": "other"}),
    ] {
        assert_eq!(edit(&admin, wrong.clone(), "").0, 400, "{wrong}");
    }
    assert_eq!(edit(&gateway.key("viewer"), json!({"name": "x"}), "").0, 403);
    assert_eq!(ask(&gateway, &admin, "PATCH", "/v1/devices/nobody", &json!({}), "").0, 404);
    let (_, tag, told) = ask(&gateway, &admin, "GET", path, &Value::Null, "");
    gateway.kill();
    gateway.up();
    let (_, again, after) = ask(&gateway, &admin, "GET", path, &Value::Null, "");
    assert_eq!((again, after), (tag, told));
}

#[test]
fn a_gateway_speaks_for_others_as_soon_as_it_may_and_no_longer() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    let mut hub = gateway.as_device("hub", &gateway.device("hub"));
    let mut say = || {
        hub.send(
            &json!({"type": "status", "deviceId": "lamp", "msgid": "m", "data": {"on": true}}),
        );
        hub.next()["type"].as_str().unwrap().to_owned()
    };
    let edit = |filter: Value| {
        let body = json!({"gateway_for": filter});
        assert_eq!(ask(&gateway, &admin, "PATCH", "/v1/devices/hub", &body, "").0, 200);
    };
    assert_eq!(say(), "error");
    edit(json!("lamp"));
    crate::support::wait_for("the right", || (say() == "ack").then_some(()));
    edit(Value::Null);
    crate::support::wait_for("the right to end", || (say() == "error").then_some(()));
}

#[test]
fn a_connection_has_the_rights_of_now_and_ends_with_a_right_that_it_uses() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    let made = gateway.admin(&["key", "add", "app", "--grant", "subscribe:house/#"]);
    let app = made["key"].as_str().unwrap();
    let mut wire = gateway.as_app(app);
    wire.send(&json!({"type": "subscribe", "topic": "house/#"}));
    wire.next_of("subscribed");
    let grants = |grants: &[&str]| {
        let body = json!({"grants": grants});
        assert_eq!(ask(&gateway, &admin, "PATCH", "/v1/keys/app", &body, "").0, 200);
    };
    grants(&["subscribe:house/#", "publish:house/#"]);
    crate::support::wait_for("the right", || {
        let frame =
            json!({"type": "publish", "topic": "house/door", "payload": 1, "msgid": "m", "qos": 1});
        wire.send(&frame);
        loop {
            match wire.next()["type"].as_str().unwrap() {
                "ack" => break Some(()),
                "error" => break None,
                _ => (),
            }
        }
    });
    grants(&["publish:house/#"]);
    assert_eq!(wire.closed(), Some(4403));
    let mut wire = gateway.as_app(app);
    wire.send(&json!({"type": "subscribe", "topic": "house/#"}));
    assert_eq!(wire.next()["code"], "not_allowed");
}

#[test]
fn a_key_and_a_person_get_other_rights() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    let made = gateway.admin(&["key", "add", "app", "--grant", "publish:house/#"]);
    let app = made["key"].as_str().unwrap();
    let publish = |topic: &str| {
        let frame = json!({"topic": topic, "payload": 1}).to_string();
        post(&gateway.address, "/v1/publish", app, &frame).0
    };
    assert_eq!((publish("house/a"), publish("barn/a")), (201, 403));
    let path = "/v1/keys/app";
    let edit = |body: Value, more: &str| ask(&gateway, &admin, "PATCH", path, &body, more);
    let (_, tag, _) = ask(&gateway, &admin, "GET", path, &Value::Null, "");
    let condition = format!("If-Match: {}\r\n", tag.unwrap());
    let (status, _, told) = edit(json!({"grants": ["publish:barn/#"]}), &condition);
    assert_eq!((status, &told["grants"]), (200, &json!(["publish:barn/#"])), "{told}");
    assert_eq!((publish("house/a"), publish("barn/a")), (403, 201));
    assert_eq!(edit(json!({"role": "admin"}), &condition).0, 412);
    for wrong in [
        json!({"grants": null}),
        json!({"grants": ["fly:#"]}),
        json!({"role": "king"}),
        json!({"expires_ms": 1}),
        json!({"name": "other"}),
    ] {
        assert_eq!(edit(wrong.clone(), "").0, 400, "{wrong}");
    }
    assert_eq!(edit(json!({"expires_ms": 9_999_999_999_999_u64}), "").0, 200);
    assert_eq!(edit(json!({"expires_ms": null}), "").2["expires"], Value::Null);
    let new = json!({"name": "ada", "role": "viewer", "password": "correct horse"});
    assert_eq!(post(&gateway.address, "/v1/users", &admin, &new.to_string()).0, 201);
    let login = json!({"name": "ada", "password": "correct horse"}).to_string();
    let (_, signed_in) = post(&gateway.address, "/v1/login", &admin, &login);
    let ada = signed_in["access_token"].as_str().unwrap();
    let put = || ask(&gateway, ada, "PUT", "/v1/groups/hall", &json!({"devices": []}), "").0;
    assert_eq!(put(), 403);
    let path = "/v1/users/ada";
    let (_, tag, _) = ask(&gateway, &admin, "GET", path, &Value::Null, "");
    let condition = format!("If-Match: {}\r\n", tag.unwrap());
    let edit = |body: Value, more: &str| ask(&gateway, &admin, "PATCH", path, &body, more);
    let (status, _, told) = edit(json!({"role": "operator"}), &condition);
    assert_eq!((status, told), (200, json!({"name": "ada", "role": "operator"})));
    assert_eq!((put(), edit(json!({"role": "viewer"}), &condition).0), (200, 412));
    assert_eq!([edit(json!({"role": null}), "").0, edit(json!({"role": "x"}), "").0], [400, 400]);
    assert_eq!(ask(&gateway, ada, "PATCH", path, &json!({"role": "admin"}), "").0, 403);
    assert_eq!(ask(&gateway, &admin, "GET", "/v1/users/bob", &Value::Null, "").0, 404);
    let (_, _, audit) = ask(&gateway, &admin, "GET", "/v1/audit?act=user.edit", &Value::Null, "");
    let entry = audit["items"].as_array().unwrap().last().unwrap();
    assert_eq!((&entry["by"], &entry["target"]), (&json!("key:admin-key"), &json!("ada")));
    assert_eq!(entry["details"], json!([{"name": "role", "value": "operator"}]));
}
