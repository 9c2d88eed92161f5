//! Groups of devices: made, changed, commanded, and there after a restart.

use serde_json::{Value, json};

use crate::support::{Gateway, exchange};

struct Told {
    status: u16,
    tag: Option<String>,
    body: Value,
}

fn ask(gateway: &Gateway, key: &str, method: &str, path: &str, body: &Value, more: &str) -> Told {
    let head = format!("Authorization: Bearer {key}\r\n{more}");
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = exchange(&gateway.address, method, path, &head, &text);
    let tag = answer.header("etag").map(str::to_owned);
    let body = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    Told { status: answer.status, tag, body }
}

fn get(gateway: &Gateway, key: &str, path: &str) -> Value {
    let told = ask(gateway, key, "GET", path, &Value::Null, "");
    assert_eq!(told.status, 200, "{path}: {}", told.body);
    told.body
}

#[test]
fn a_group_is_made_changed_and_kept_and_its_number_stays() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    gateway.admin(&["device", "add", "a", "--group", "all", "--group", "all"]);
    gateway.device("b");
    gateway.device("c");
    let put = |gateway: &Gateway, id: &str, body: Value| {
        ask(gateway, &key, "PUT", &format!("/v1/groups/{id}"), &body, "")
    };
    let hall = put(&gateway, "hall", json!({"name": "Hall", "devices": ["c", "a"]}));
    let told = json!({"id": "hall", "number": 2, "name": "Hall", "device_count": 2,
        "devices": ["a", "c"]});
    assert_eq!((hall.status, &hall.body), (200, &told));
    assert_eq!(get(&gateway, &key, "/v1/devices/a")["groups"], json!(["all", "hall"]));
    let edit = |gateway: &Gateway, body: Value| {
        ask(gateway, &key, "PATCH", "/v1/groups/hall", &body, "").body
    };
    assert_eq!(edit(&gateway, json!({"devices": ["b"]}))["name"], "Hall");
    assert_eq!(edit(&gateway, json!({"name": null}))["devices"], json!(["b"]));
    let member = |gateway: &Gateway, method: &str, id: &str| {
        let path = format!("/v1/groups/hall/devices/{id}");
        ask(gateway, &key, method, &path, &Value::Null, "").status
    };
    assert_eq!([member(&gateway, "PUT", "a"), member(&gateway, "PUT", "a")], [200, 200]);
    assert_eq!([member(&gateway, "DELETE", "b"), member(&gateway, "DELETE", "b")], [200, 404]);
    assert_eq!(member(&gateway, "PUT", "nobody"), 404);
    assert_eq!(member(&gateway, "PUT", "c"), 200);
    gateway.admin(&["device", "remove", "c", "--yes"]);
    assert_eq!(put(&gateway, "first%20floor%2F2", json!({"devices": []})).status, 200);
    let path = "/v1/groups/first%20floor%2F2";
    assert_eq!(get(&gateway, &key, path)["id"], "first floor/2");
    let removed = ask(&gateway, &key, "DELETE", path, &Value::Null, "");
    assert_eq!(removed.status, 200, "{}", removed.body);
    gateway.kill();
    gateway.up();
    let told = json!({"id": "hall", "number": 2, "name": null, "device_count": 1,
        "devices": ["a"]});
    assert_eq!(get(&gateway, &key, "/v1/groups/hall"), told);
    let list = json!([
        {"id": "all", "number": 1, "name": null, "device_count": 1},
        {"id": "hall", "number": 2, "name": null, "device_count": 1},
    ]);
    assert_eq!(get(&gateway, &key, "/v1/groups")["items"], list);
    assert_eq!(put(&gateway, "again", json!({"devices": []})).body["number"], 4);
    assert_eq!(get(&gateway, &key, "/v1/groups?limit=1")["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_group_is_changed_only_by_who_knows_it_and_may() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    gateway.device("a");
    gateway.device("b");
    let path = "/v1/groups/hall";
    let change =
        |method: &str, body: Value, more: &str| ask(&gateway, &key, method, path, &body, more);
    assert_eq!(change("PATCH", json!({"name": "x"}), "").status, 404);
    let first = change("PUT", json!({"devices": ["a"]}), "If-None-Match: *\r\n");
    assert_eq!(first.status, 200, "{}", first.body);
    let tag = first.tag.unwrap();
    assert_eq!(change("PUT", json!({"devices": []}), "If-None-Match: *\r\n").status, 412);
    let known = change("GET", Value::Null, &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((known.status, known.tag.as_ref()), (304, Some(&tag)));
    let if_match = format!("If-Match: {tag}\r\n");
    let second = change("PATCH", json!({"devices": ["a", "b"]}), &if_match);
    assert_eq!(second.status, 200, "{}", second.body);
    for (method, body) in
        [("PUT", json!({"devices": []})), ("PATCH", json!({})), ("DELETE", Value::Null)]
    {
        let late = change(method, body, &if_match);
        assert_eq!((late.status, &late.body["code"]), (412, &json!("conflict")), "{method}");
    }
    assert_eq!(get(&gateway, &key, path)["devices"], json!(["a", "b"]));
    for wrong in [
        json!({"name": "x"}),
        json!({"devices": ["a b"]}),
        json!({"devices": [], "colour": 1}),
        json!({"devices": [], "name": "\u{7}"}),
        json!([]),
    ] {
        assert_eq!(change("PUT", wrong.clone(), "").status, 400, "{wrong}");
    }
    let unknown = change("PUT", json!({"devices": ["a", "nobody"]}), "");
    assert_eq!(unknown.status, 404);
    assert!(unknown.body["detail"].as_str().unwrap().contains("nobody"), "{}", unknown.body);
    let viewer = gateway.key("viewer");
    let refused = ask(&gateway, &viewer, "PUT", path, &json!({"devices": []}), "");
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("not_allowed")));
    assert_eq!(get(&gateway, &viewer, path)["id"], "hall");
    let some = gateway.admin(&["key", "add", "some", "--grant", "read:devices/a/#"]);
    let some = some["key"].as_str().unwrap();
    assert_eq!(ask(&gateway, some, "GET", path, &Value::Null, "").status, 403);
    assert_eq!(get(&gateway, some, "/v1/groups")["items"], json!([]));
    change("PUT", json!({"devices": ["a"]}), "");
    assert_eq!(get(&gateway, some, path)["devices"], json!(["a"]));
    assert_eq!(get(&gateway, some, "/v1/groups")["items"][0]["id"], "hall");
    assert_eq!(ask(&gateway, "fg_k_nobody", "GET", path, &Value::Null, "").status, 401);
}

#[test]
fn a_command_to_a_group_reaches_who_is_in_it_now() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let tokens = ["a", "b"].map(|id| gateway.device(id));
    let mut devices = [gateway.as_device("a", &tokens[0]), gateway.as_device("b", &tokens[1])];
    let mut app = gateway.as_app(&key);
    let mut command = |payload: u64| {
        app.send(&json!({"type": "command", "to": "group:hall", "msgid": payload.to_string(), "payload": payload}));
        loop {
            let frame = app.next();
            if frame["type"] != "command_state" {
                break frame;
            }
        }
    };
    assert_eq!(command(1)["code"], "not_found");
    let put = |devices: Value| {
        let told = ask(&gateway, &key, "PUT", "/v1/groups/hall", &json!({"devices": devices}), "");
        assert_eq!(told.status, 200, "{}", told.body);
    };
    put(json!(["b"]));
    assert_eq!(command(2)["devices"], 1);
    assert_eq!(devices[1].next_of("control")["payload"], 2);
    put(json!(["a"]));
    assert_eq!(command(3)["devices"], 1);
    assert_eq!(devices[0].next_of("control")["payload"], 3);
    gateway.admin(&["device", "remove", "a", "--yes"]);
    assert_eq!(command(4)["code"], "not_found");
}
