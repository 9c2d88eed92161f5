//! `/v1`: the one form of lists, messages by request, and the description.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Gateway, exchange, post, request, wait_for};

fn get(gateway: &Gateway, path: &str, key: &str) -> (u16, Value) {
    let (status, body) = gateway.get(path, Some(key));
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn a_list_is_read_page_by_page_and_shows_what_may_be_read() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    for number in 0..7 {
        gateway.device(&format!("lamp-{number}"));
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&gateway, &format!("/v1/devices?limit=3{cursor}"), &admin);
        assert_eq!(status, 200, "{page}");
        let ids = page["items"].as_array().unwrap().iter();
        seen.extend(ids.map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let all: Vec<_> = (0..7).map(|number| format!("lamp-{number}")).collect();
    assert_eq!(seen, all);
    for (query, words) in [("limit=0", "limit"), ("limit=x", "limit"), ("cursor=%25", "cursor")] {
        let (status, problem) = get(&gateway, &format!("/v1/devices?{query}"), &admin);
        assert_eq!((status, &problem["code"]), (400, &json!("bad_value")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    let some = gateway.admin(&["key", "add", "some", "--grant", "read:devices/lamp-3/#"]);
    let some = some["key"].as_str().unwrap();
    let (_, page) = get(&gateway, "/v1/devices", some);
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(get(&gateway, "/v1/devices/lamp-3", some).0, 200);
    let (status, problem) = get(&gateway, "/v1/devices/lamp-4", some);
    assert_eq!((status, &problem["code"]), (403, &json!("not_allowed")));
    assert_eq!(get(&gateway, "/v1/devices/lamp-9", &admin).0, 404);
    assert_eq!(get(&gateway, "/v1/nothing", &admin).0, 404);
}

#[test]
fn what_a_request_says_wrongly_is_named() {
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    gateway.device("lamp");
    for path in ["/v1/devices?limt=5", "/v1/devices/lamp?a=1", "/v1/status?limit=1", "/v1/keys?x"] {
        let (status, problem) = get(&gateway, path, &key);
        assert_eq!((status, &problem["code"]), (400, &json!("bad_value")), "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("there is no parameter"), "{problem}");
    }
    assert_eq!(get(&gateway, "/v1/devices?limit=5&tenant=default", &key).0, 200);
    for (path, body, code, words) in [
        ("/v1/devices", r#"{}"#, "missing_field", "missing field `id`"),
        ("/v1/keys", r#"{}"#, "missing_field", "missing field `name`"),
        ("/v1/devices", r#"{"id":5}"#, "bad_value", "id: invalid type"),
        ("/v1/devices", r#"{"id":"#, "bad_json", "EOF"),
        ("/v1/devices", r#"{"id":"a"} b"#, "bad_json", "trailing"),
        ("/v1/devices", r#"["a"]"#, "bad_json", "a JSON object"),
        (
            "/v1/tenants",
            r#"{"name":"t","limits":{"connections_max":"x"}}"#,
            "bad_value",
            "limits.connections_max: ",
        ),
    ] {
        let (status, problem) = post(&gateway.address, path, &key, body);
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{path} {body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{path} {body}: {problem}");
    }
}

#[test]
fn a_message_by_request_is_stored_when_it_is_answered_and_a_repeat_is_stored_once() {
    let mut gateway = Gateway::start();
    let key = gateway.key("admin");
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "#", "qos": 1}));
    app.next_of("subscribed");
    let frame = json!({"topic": "house/door", "payload": {"open": true}, "msgid": "m-1"});
    let publish = |gateway: &Gateway, frame: &Value| {
        post(&gateway.address, "/v1/publish", &key, &frame.to_string())
    };
    let (status, first) = publish(&gateway, &frame);
    assert_eq!((status, &first["accepted"]), (201, &json!(1)), "{first}");
    let seen = app.next_of("mqtt");
    assert_eq!((&seen["topic"], &seen["msgid"]), (&json!("house/door"), &first["position"]));
    assert_eq!((&seen["seq"], &seen["ref"]), (&first["seq"], &json!("m-1")));
    drop(app);
    gateway.kill();
    gateway.up();
    let (status, again) = publish(&gateway, &frame);
    assert_eq!((status, &again["seq"]), (201, &first["seq"]), "{again}");
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "house/#", "qos": 1, "since": "all"}));
    assert_eq!(app.next_of("mqtt")["seq"], first["seq"]);
    app.next_of("caught_up");
}

#[test]
fn a_batch_by_request_stores_what_stands_and_names_what_does_not() {
    let gateway = Gateway::start();
    let key = gateway.key("admin");
    let (good, bad) = (json!({"deviceId": "a", "data": {"t": 1}}), json!({"deviceId": "a b"}));
    let batch = json!({"type": "batch", "data": [good, bad, good]});
    let (status, stored) = post(&gateway.address, "/v1/publish", &key, &batch.to_string());
    assert_eq!((status, &stored["accepted"]), (201, &json!(2)), "{stored}");
    assert_eq!(stored["refused"][0]["index"], 1, "{stored}");
    let viewer = gateway.key("viewer");
    let refusals = [
        (&key, r#"{"topic":"a/+","payload":1}"#, 400, "bad_topic"),
        (&key, r#"{"topic":"a","payload":1"#, 400, "bad_json"),
        (&key, r#"{"payload":1}"#, 400, "missing_field"),
        (&key, r#"{"type":"subscribe","topic":"a"}"#, 400, "bad_value"),
        (&key, r#"{"type":"batch","data":[{"deviceId":"a"}]}"#, 400, "missing_field"),
        (&key, r#"{"type":"batch","data":[{},{}]}"#, 422, "batch_refused"),
        (&viewer, r#"{"topic":"a","payload":1}"#, 403, "not_allowed"),
    ];
    for (key, body, status, code) in refusals {
        let (is, problem) = post(&gateway.address, "/v1/publish", key, body);
        assert_eq!((is, &problem["code"]), (status, &json!(code)), "{body}: {problem}");
    }
    let large = format!(r#"{{"topic":"a","payload":"{}"}}"#, "x".repeat(300_000));
    let (status, problem) = post(&gateway.address, "/v1/publish", &key, &large);
    assert_eq!((status, &problem["code"]), (413, &json!("too_large")));
}

/// A change of the interface shows in review: `FIELDGATE_WRITE=1` writes the copy anew.
#[test]
fn the_description_is_the_one_in_the_documentation() {
    let gateway = Gateway::start();
    let (status, served) = gateway.get("/doc/openapi.yaml", None);
    assert_eq!(status, 200);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/openapi.yaml");
    if std::env::var_os("FIELDGATE_WRITE").is_some() {
        std::fs::write(&path, &served).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == served, "{} is not what is served: see FIELDGATE_WRITE", path.display());
    let (_, json) = gateway.get("/doc/openapi.json", None);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["openapi"], "3.1.0");
}

#[test]
fn who_is_connected_is_told_and_can_be_disconnected() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    let mut devices: Vec<_> = (0..3)
        .map(|number| {
            let id = format!("d{number}");
            gateway.as_device(&id, &gateway.device(&id))
        })
        .collect();
    let mut app = gateway.as_app(&admin);
    app.send(&json!({"type": "subscribe", "topic": "#"}));
    app.next_of("subscribed");
    let (mut clients, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&gateway, &format!("/v1/clients?limit=1{cursor}"), &admin);
        assert_eq!(status, 200, "{page}");
        clients.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let mut who: Vec<_> = clients.iter().map(|client| client["who"].as_str().unwrap()).collect();
    who.sort_unstable();
    assert_eq!(who, ["d0", "d1", "d2", "key:admin-key"]);
    let of = |name: &str| clients.iter().find(|client| client["who"] == name).unwrap();
    assert_eq!(
        (&of("key:admin-key")["subscriptions"], &of("d1")["kind"]),
        (&json!(1), &json!("device"))
    );
    let path = format!("/v1/clients/{}", of("d1")["id"].as_str().unwrap());
    assert_eq!(get(&gateway, &path, &admin).1["who"], "d1");
    assert_eq!(request(&gateway.address, "DELETE", &path, &gateway.key("viewer"), "").0, 403);
    assert_eq!(request(&gateway.address, "DELETE", &path, &admin, "").0, 200);
    assert_eq!(devices[1].closed(), Some(1008));
    assert_eq!(get(&gateway, &path, &admin).0, 404);
    assert_eq!(get(&gateway, "/v1/clients/9-9", &admin).0, 404);
    assert_eq!(get(&gateway, "/v1/clients/x", &admin).0, 400);
}

#[test]
fn a_profile_is_replaced_only_by_who_knows_it() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    gateway.device("lamp-1");
    let path = "/v1/devices/lamp-1/profile";
    let light = json!({"kind": "light", "resources": [
        {"name": "on", "type": "bool", "writable": true}]});
    let put = |condition: &str, profile: &Value| {
        let head = format!("Authorization: Bearer {admin}\r\n{condition}");
        exchange(&gateway.address, "PUT", path, &head, &profile.to_string())
    };
    assert_eq!(get(&gateway, path, &admin).0, 404);
    let first = put("If-None-Match: *\r\n", &light);
    assert_eq!((first.status, first.header("etag")), (200, Some("\"1\"")), "{}", first.body);
    let body: Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(body["resources"][0]["name"], "on");
    let second = put("If-None-Match: *\r\n", &json!({"kind": "plug"}));
    assert_eq!(second.status, 412, "{}", second.body);
    let third = put("If-Match: \"1\"\r\n", &json!({"kind": "plug"}));
    assert_eq!((third.status, third.header("etag")), (200, Some("\"2\"")), "{}", third.body);
    assert_eq!(put("If-Match: \"1\"\r\n", &light).status, 412);
    assert_eq!(put("If-Match: 2\r\n", &light).status, 400);
    assert_eq!(put("", &json!({"kind": "toaster"})).status, 400);
    let nothing_said = put("", &json!({"x": 1}));
    assert_eq!(nothing_said.status, 400);
    assert!(nothing_said.body.contains("missing_field"), "{}", nothing_said.body);
    assert_eq!(put("", &json!([])).status, 400);
    assert_eq!(put("", &light).header("etag"), Some("\"3\""));
    let known = format!("Authorization: Bearer {admin}\r\nIf-None-Match: \"3\"\r\n");
    assert_eq!(exchange(&gateway.address, "GET", path, &known, "").status, 304);
    let viewer = gateway.key("viewer");
    assert_eq!(request(&gateway.address, "PUT", path, &viewer, &light.to_string()).0, 403);
    assert_eq!(get(&gateway, path, &viewer).1["kind"], "light");
}

#[test]
fn a_command_by_request_can_be_waited_for() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    let mut lamp = gateway.as_device("lamp-1", &gateway.device("lamp-1"));
    gateway.device("lamp-2");
    let send = |query: &str, body: &Value| {
        post(&gateway.address, &format!("/v1/commands{query}"), &admin, &body.to_string())
    };
    let (status, sent) = send("", &json!({"to": "lamp-2", "payload": {"blink": 3}}));
    assert_eq!((status, &sent["devices"][0]["state"]), (201, &json!("queued")), "{sent}");
    let path = format!("/v1/commands/{}", sent["position"].as_str().unwrap());
    assert_eq!(get(&gateway, &path, &admin).1["device"], "lamp-2");
    let ended = std::thread::scope(|scope| {
        let body = json!({"to": "devices/+", "payload": {"blink": 1}});
        let asked = scope.spawn(move || send("?wait=1500ms", &body));
        let control = lamp.next_of("control");
        let reply = json!({"type": "reply", "msgid": control["msgid"], "status": "ok",
            "payload": {"blinked": 1}});
        lamp.send(&reply);
        asked.join().unwrap().1
    });
    let of = |id: &str| {
        let devices = ended["devices"].as_array().unwrap();
        devices.iter().find(|one| one["device"] == id).unwrap().clone()
    };
    assert_eq!(of("lamp-1")["state"], "completed", "{ended}");
    assert_eq!(
        (&of("lamp-1")["payload"], &of("lamp-2")["state"]),
        (&json!({"blinked": 1}), &json!("queued"))
    );
    let path = format!("/v1/commands/{}", of("lamp-1")["position"].as_str().unwrap());
    assert_eq!(get(&gateway, &path, &admin).1["state"], "completed");
    let viewer = gateway.key("viewer");
    let refused = |key: &str, query: &str, body: &str| {
        post(&gateway.address, &format!("/v1/commands{query}"), key, body).0
    };
    assert_eq!(refused(&viewer, "", r#"{"to":"lamp-1","payload":1}"#), 403);
    assert_eq!(refused(&admin, "", r#"{"to":"lamp-9","payload":1}"#), 404);
    assert_eq!(refused(&admin, "?wait=2m", r#"{"to":"lamp-1","payload":1}"#), 400);
    assert_eq!(refused(&admin, "?until=2s", r#"{"to":"lamp-1","payload":1}"#), 400);
    assert_eq!(refused(&admin, "", r#"{"topic":"a","payload":1,"type":"publish"}"#), 400);
    assert_eq!(get(&gateway, &path, &viewer).0, 404);
}

#[test]
fn the_last_state_of_a_device_is_read_whatever_it_came_by() {
    let mut gateway = Gateway::start();
    let admin = gateway.key("admin");
    let token = gateway.device("sensor-1");
    let path = "/v1/devices/sensor-1/state";
    assert_eq!(get(&gateway, path, &admin).0, 404);
    let publish = |gateway: &Gateway, frame: Value| {
        let (status, stored) = post(&gateway.address, "/v1/publish", &admin, &frame.to_string());
        assert_eq!(status, 201, "{stored}");
        stored["seq"].as_u64().unwrap()
    };
    publish(
        &gateway,
        json!({"type": "status", "deviceId": "sensor-1", "timestamp": 1_634_567_890_123_u64,
            "data": {"temperature": 21.5, "oil": {"level": 0.7}}}),
    );
    let second = publish(
        &gateway,
        json!({"deviceId": "sensor-1", "timestamp": 1_634_567_890_124_u64,
            "values": [{"tag": "pressure", "value": 101.3, "unit": "kPa"}], "quality": "uncertain"}),
    );
    let state = wait_for("the state", || {
        let (status, state) = get(&gateway, path, &admin);
        (status == 200 && state["reported"].get("pressure").is_some()).then_some(state)
    });
    let wanted = json!({"temperature": 21.5, "oil": {"level": 0.7}, "pressure": 101.3});
    assert_eq!(state["reported"], wanted);
    let meta = json!({"time": 1_634_567_890_124_u64, "seq": second, "unit": "kPa",
        "quality": "uncertain"});
    assert_eq!(state["meta"]["pressure"], meta);
    let known = format!("Authorization: Bearer {admin}\r\nIf-None-Match: \"{second}\"\r\n");
    assert_eq!(exchange(&gateway.address, "GET", path, &known, "").status, 304);
    gateway.kill();
    gateway.up();
    assert_eq!(get(&gateway, path, &admin).1, state);
    let other = gateway.admin(&["key", "add", "other", "--grant", "read:devices/lamp/#"]);
    assert_eq!(get(&gateway, path, other["key"].as_str().unwrap()).0, 403);
    drop(gateway.as_device("sensor-1", &token));
}
