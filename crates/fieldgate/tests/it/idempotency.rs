//! `Idempotency-Key`: what is asked for twice is done once.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{Gateway, exchange, post, wait_for};

/// Status, whether it was told before, and body.
type Told = (u16, bool, Value);

fn ask(gateway: &Gateway, key: &str, path: &str, once: &str, body: &Value) -> Told {
    let head = format!("Authorization: Bearer {key}\r\nIdempotency-Key: {once}\r\n");
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let answer = exchange(&gateway.address, "POST", path, &head, &text);
    let again = answer.header("idempotent-replayed") == Some("true");
    (answer.status, again, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
}

#[test]
fn what_is_asked_for_twice_is_done_once_and_its_secret_told_once() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    let lamp = json!({"id": "lamp", "name": "Lamp"});
    let (status, again, first) = ask(&gateway, &admin, "/v1/devices", "\"k-1\"", &lamp);
    assert_eq!((status, again), (201, false), "{first}");
    let token = first["token"].as_str().unwrap();
    // In quotes or without, it is the same key.
    for once in ["\"k-1\"", "k-1"] {
        let told = json!({"tenant": "default", "id": "lamp", "token": null});
        assert_eq!(ask(&gateway, &admin, "/v1/devices", once, &lamp), (201, true, told));
    }
    drop(gateway.as_device("lamp", token));
    let (status, _, other) = ask(&gateway, &admin, "/v1/devices", "k-1", &json!({"id": "plug"}));
    assert_eq!((status, &other["code"]), (422, &json!("conflict")));
    // Other requests: of another address, of somebody else, with another key.
    assert_eq!(ask(&gateway, &admin, "/v1/keys", "k-1", &lamp).0, 422);
    let second = gateway.admin(&["key", "add", "second", "--role", "admin"]);
    let second = second["key"].as_str().unwrap();
    assert_eq!(ask(&gateway, second, "/v1/devices", "k-1", &lamp).0, 409);
    assert_eq!(ask(&gateway, &admin, "/v1/devices", "k-2", &lamp).0, 409);
    // Nothing came of what was refused: its key is free.
    assert_eq!(ask(&gateway, &admin, "/v1/devices", "k-3", &json!({"id": "a b"})).0, 400);
    assert_eq!(ask(&gateway, &admin, "/v1/devices", "k-3", &json!({"id": "plug"})).0, 201);
    for wrong in ["\"\"", "\"a", "a, b", "\"a\"; b=1"] {
        assert_eq!(ask(&gateway, &admin, "/v1/devices", wrong, &lamp).0, 400, "{wrong}");
    }
    assert_eq!(ask(&gateway, "nobody", "/v1/devices", "k-1", &lamp).0, 401);
    assert_eq!(ask(&gateway, &gateway.key("viewer"), "/v1/devices", "k-1", &lamp).0, 403);
}

#[test]
fn no_secret_is_told_a_second_time() {
    let mut gateway = Gateway::start();
    let admin = gateway.key("admin");
    gateway.device("lamp");
    let user = json!({"name": "ada", "role": "viewer", "password": "correct horse"});
    let requests = [
        ("/v1/keys", json!({"name": "app", "role": "viewer"}), "key"),
        ("/v1/devices/lamp/credentials", json!({}), "token"),
        ("/v1/devices/lamp/rotate", Value::Null, "token"),
        ("/v1/users", user, ""),
        ("/v1/tickets", json!({}), "ticket"),
        ("/v1/users/ada/login-link", Value::Null, "code"),
    ];
    for (number, (path, body, secret)) in requests.iter().enumerate() {
        let once = format!("k-{number}");
        let (status, _, mut first) = ask(&gateway, &admin, path, &once, body);
        assert_eq!(status, 201, "{path}: {first}");
        if !secret.is_empty() {
            assert!(first[secret].is_string(), "{path}: {first}");
            first[secret] = Value::Null;
        }
        assert_eq!(ask(&gateway, &admin, path, &once, body), (201, true, first), "{path}");
    }
    // A restart forgets the answers. A second secret is not made all the same.
    let path = "/v1/devices/lamp/credentials";
    assert_eq!(ask(&gateway, &admin, path, "again", &json!({})).0, 201);
    gateway.kill();
    gateway.up();
    let (status, again, told) = ask(&gateway, &admin, path, "again", &json!({}));
    assert_eq!((status, again, &told["code"]), (409, false, &json!("conflict")), "{told}");
    let (_, list) = gateway.get(path, Some(&admin));
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2, "{list}");
}

#[test]
fn a_message_that_is_sent_twice_is_stored_once_also_after_a_kill() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    let frame = |open: bool| json!({"topic": "house/door", "payload": {"open": open}});
    let publish = |gateway: &Gateway, once: &str, frame: &Value| {
        ask(gateway, &key, "/v1/publish", once, frame)
    };
    let (status, _, first) = publish(&gateway, "k-1", &frame(true));
    assert_eq!(status, 201, "{first}");
    assert_eq!(publish(&gateway, "k-1", &frame(true)), (201, true, first.clone()));
    assert_eq!(publish(&gateway, "k-1", &frame(false)).0, 422);
    gateway.kill();
    gateway.up();
    let (status, again, told) = publish(&gateway, "k-1", &frame(true));
    assert_eq!((status, again, &told), (201, false, &first));
    assert_eq!(publish(&gateway, "k-1", &frame(false)).0, 422);
    gateway.kill();
    gateway.up();
    // No answer is there to compare with: another body is another message, and is not lost.
    let (status, again, other) = publish(&gateway, "k-1", &frame(false));
    assert_eq!((status, again), (201, false));
    assert!(other["seq"].as_u64() > first["seq"].as_u64(), "{other}");
    let (status, _, other) = publish(&gateway, "k-2", &frame(true));
    assert_eq!(status, 201);
    assert!(other["seq"].as_u64() > first["seq"].as_u64(), "{other}");
}

#[test]
fn a_batch_that_is_sent_twice_is_told_the_same_numbers() {
    let mut gateway = Gateway::start();
    gateway.device("lamp");
    let key = gateway.key("admin");
    let element = |n: u64| json!({"type": "status", "deviceId": "lamp", "data": {"n": n}});
    let elements: Vec<_> = (0..5).map(element).collect();
    let named = json!({"type": "batch", "msgid": "b-1", "data": elements});
    let each = |n: u64| json!({"type": "status", "deviceId": "lamp", "msgid": format!("e-{n}"), "data": {"n": n}});
    let each = json!({"type": "batch", "data": (0..5).map(each).collect::<Vec<_>>()});
    let publish = |gateway: &Gateway, body: &Value| {
        let (status, told) = post(&gateway.address, "/v1/publish", &key, &body.to_string());
        assert_eq!(status, 201, "{told}");
        told
    };
    for body in [&named, &each] {
        let first = publish(&gateway, body);
        assert_eq!(first["accepted"], 5, "{first}");
        assert_eq!(publish(&gateway, body), first);
        gateway.kill();
        gateway.up();
        assert_eq!(publish(&gateway, body), first);
        // The next message follows its five.
        let next = publish(&gateway, &json!({"topic": "house/door", "payload": 1}));
        assert!(next["seq"].as_u64() >= first["seq"].as_u64().map(|seq| seq + 5), "{next}");
    }
}

#[test]
fn a_command_that_is_sent_twice_goes_out_once_and_goes_on_without_who_asked() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    let token = gateway.device("lamp");
    let mut lamp = gateway.as_device("lamp", &token);
    let body = json!({"to": "lamp", "payload": {"blink": 3}});
    let path = "/v1/commands?wait=20s";
    let text = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
         Idempotency-Key: k-1\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    let mut asker = std::net::TcpStream::connect(&gateway.address).unwrap();
    asker.write_all(head.as_bytes()).unwrap();
    let control = lamp.next_of("control");
    // It waits for the device, and says so to who asks again.
    let (status, _, told) = ask(&gateway, &key, path, "k-1", &body);
    assert_eq!((status, &told["code"]), (409, &json!("conflict")), "{told}");
    assert!(told["detail"].as_str().unwrap().contains("still runs"), "{told}");
    drop(asker);
    lamp.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "ok"}));
    let told = wait_for("the answer", || {
        let (status, again, told) = ask(&gateway, &key, path, "k-1", &body);
        (status == 201 && again).then_some(told)
    });
    assert_eq!(told["devices"][0]["state"], "completed", "{told}");
    assert_eq!(told["position"], control["msgid"]);
    // After a kill the window of ids knows it.
    drop(lamp);
    gateway.kill();
    gateway.up();
    let (status, again, later) = ask(&gateway, &key, path, "k-1", &body);
    assert_eq!((status, again, &later["position"]), (201, false, &told["position"]), "{later}");
    assert_eq!(later["devices"][0]["state"], "ended", "{later}");
    let mut lamp = gateway.as_device("lamp", &token);
    ask(&gateway, &key, "/v1/commands", "k-2", &json!({"to": "lamp", "payload": 2}));
    assert_eq!(lamp.next_of("control")["payload"], 2);
}

#[test]
fn a_scene_that_is_recalled_twice_goes_out_once() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let made = gateway.admin(&["device", "add", "plug", "--kind", "plug"]);
    let scene = json!({"members": [{"device": "plug", "set": {"on": true}}]}).to_string();
    let head = format!("Authorization: Bearer {key}\r\n");
    assert_eq!(exchange(&gateway.address, "PUT", "/v1/scenes/s", &head, &scene).status, 200);
    let recall = |once: &str| ask(&gateway, &key, "/v1/scenes/s/recall", once, &Value::Null);
    let (status, _, first) = recall("k-1");
    assert_eq!(status, 201, "{first}");
    assert_eq!(recall("k-1"), (201, true, first.clone()));
    assert_eq!(recall("k-2").0, 201);
    let mut plug = gateway.as_device("plug", made["token"].as_str().unwrap());
    assert_eq!(plug.next_of("control")["msgid"], first["position"]);
    let second = plug.next_of("control");
    assert_eq!(second["payload"], json!({"set": {"on": true}}));
    plug.send(&json!({"type": "ping"}));
    assert_eq!(plug.next()["type"], "pong");
}
