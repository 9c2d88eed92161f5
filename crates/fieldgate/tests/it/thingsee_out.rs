//! Thingsee out: `/thingsee` sends arrays, and nothing else.

use fieldgate_dialects::ws::{self, Opcode};
use serde_json::{Value, json};

use crate::support::{Gateway, Seen, Wire, exchange, request, wait_for};

const T: u64 = 1_634_567_890_123;

/// Opens the address of arrays; the status line where it is refused.
fn open(gateway: &Gateway, key: &str, query: &str) -> Result<Wire, String> {
    let bearer = format!("Authorization: Bearer {key}");
    Wire::open(&gateway.address, &format!("/thingsee?{query}"), &[&bearer])
}

/// The next array. Whatever else came would end the clients of this wire.
#[track_caller]
fn array(wire: &mut Wire) -> Vec<Value> {
    let frame = wire.next();
    let Value::Array(objects) = frame else { panic!("no array: {frame}") };
    assert!(!objects.is_empty());
    objects
}

/// Sends telemetry and waits until it is stored.
fn tell(device: &mut Wire, id: &str, ms: u64, data: &Value) {
    device.send(&json!({"type": "status", "deviceId": id, "msgid": format!("{id}{ms}{data}"),
        "timestamp": ms, "data": data}));
    assert_eq!(device.next()["type"], "ack");
}

#[test]
fn the_last_state_comes_first_then_what_is_told_and_nothing_else() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("a"), gateway.key("viewer"));
    let mut device = gateway.as_device("a", &token);
    tell(&mut device, "a", T, &json!({"temp": 21.3, "oil": 7}));
    tell(&mut device, "a", T + 1_000, &json!({"batl": 99, "humd": 40}));
    let mut reader = open(&gateway, &key, "").unwrap();
    let last = json!([
        {"tsmId": 12100, "tsmEv": 10, "temp": 21.3, "tsmTs": 1_634_567_890.123, "tsmTuid": "a"},
        {"tsmId": 1110, "tsmEv": 10, "batl": 99, "tsmTs": 1_634_567_891.123, "tsmTuid": "a"},
        {"tsmId": 12100, "tsmEv": 10, "humd": 40, "tsmTs": 1_634_567_891.123, "tsmTuid": "a"},
    ]);
    assert_eq!(reader.next(), last);
    // What a client says is nothing, a ping is answered, and what has no row is no array.
    reader.send_text("{\"type\":\"ping\"}");
    reader.send_text("no JSON");
    reader.send_binary(&[0xff; 9]);
    let mask = [1, 2, 3, 4];
    reader.raw(&ws::frame_masked(Opcode::Ping, b"p", mask)).unwrap();
    assert_eq!(reader.see(), Seen::Pong(b"p".to_vec()));
    tell(&mut device, "a", T, &json!({"oil": 8}));
    device.send(&json!({"type": "event", "event": "button", "data": {"button": 2002}}));
    device
        .send(&json!({"type": "state", "msgid": "s", "timestamp": T, "reported": {"open": true}}));
    let state = json!([{"tsmId": 12101, "tsmEv": 7, "hall": 0, "tsmTs": 1_634_567_890.123, "tsmTuid": "a"}]);
    assert_eq!(reader.next(), state);
    // The reason of an end is in the close frame.
    gateway.admin(&["key", "revoke", "viewer-key", "--yes"]);
    assert_eq!(reader.see(), Seen::Close(Some(4403)));
}

#[test]
fn who_asks_and_for_what_is_looked_at_before_the_upgrade() {
    let gateway = Gateway::start();
    let key = gateway.key("viewer");
    let refused = |path: &str, headers: &[&str]| {
        Wire::open(&gateway.address, path, headers).err().unwrap_or_else(|| panic!("{path} opened"))
    };
    assert!(refused("/thingsee", &[]).contains("401"));
    assert!(refused("/thingsee?token=fg_k_wrong", &[]).contains("401"));
    assert_eq!(gateway.get("/thingsee", Some(&key)).0, 426);
    for (query, status) in
        [("tsmid=1", "400"), ("device=a%2Fb", "400"), ("since=now", "400"), ("group=none", "404")]
    {
        let status_line = refused(&format!("/thingsee?{query}&token={key}"), &[]);
        assert!(status_line.contains(status), "{query}: {status_line}");
    }
    assert!(Wire::open(&gateway.address, &format!("/thingsee?token={key}"), &[]).is_ok());
    let (_, ticket) = request(&gateway.address, "POST", "/v1/tickets", &key, "{}");
    let path = format!("/thingsee?ticket={}", ticket["ticket"].as_str().unwrap());
    assert!(Wire::open(&gateway.address, &path, &[]).is_ok());
    assert!(refused(&path, &[]).contains("401"), "a ticket opens once");
    // The rights are those of a subscription.
    gateway.admin(&["device", "add", "a", "--group", "both"]);
    gateway.admin(&["device", "add", "b", "--group", "both"]);
    let made = gateway.admin(&["key", "add", "half", "--grant", "subscribe:devices/a/#"]);
    let half = made["key"].as_str().unwrap();
    for (query, status) in
        [("", "403"), ("device=b", "403"), ("device=a&device=b", "403"), ("group=both", "403")]
    {
        let told = open(&gateway, half, query).err().unwrap();
        assert!(told.contains(status), "{query}: {told}");
    }
    assert!(open(&gateway, half, "group=none").err().unwrap().contains("403"));
    assert!(open(&gateway, half, "device=a").is_ok());
}

#[test]
fn devices_and_ids_are_chosen_by_the_address() {
    let gateway = Gateway::start();
    let key = gateway.key("viewer");
    let (mut a, mut b) = (
        gateway.as_device("a", &gateway.device("a")),
        gateway.as_device("b", &gateway.device("b")),
    );
    tell(&mut b, "b", T, &json!({"temp": 1, "batl": 2}));
    let mut both = open(&gateway, &key, "device=a&device=b&tsmId=1110&tsmId=12101").unwrap();
    let ids = |objects: &[Value]| -> Vec<(String, u64)> {
        let id = |object: &Value| {
            (object["tsmTuid"].as_str().unwrap().to_owned(), object["tsmId"].as_u64().unwrap())
        };
        objects.iter().map(id).collect()
    };
    assert_eq!(ids(&array(&mut both)), [("b".to_owned(), 1_110)]);
    let mut one = open(&gateway, &key, "device=a").unwrap();
    tell(&mut b, "b", T + 1, &json!({"temp": 1, "batl": 2}));
    assert_eq!(ids(&array(&mut both)), [("b".to_owned(), 1_110)]);
    tell(&mut a, "a", T, &json!({"temp": 1, "hall": 2, "batl": 5}));
    assert_eq!(ids(&array(&mut both)), [("a".to_owned(), 1_110)]);
    let of_a = [("a".to_owned(), 1_110), ("a".to_owned(), 12_100)];
    assert_eq!(ids(&array(&mut one)), of_a);
}

#[test]
fn a_group_that_outgrows_a_reader_ends_it() {
    let gateway = Gateway::with(&["limits.topics_per_connection_max=2"]);
    let key = gateway.key("admin");
    for id in ["a", "b", "c"] {
        gateway.device(id);
    }
    let set = |devices: &str| {
        let body = format!(r#"{{"devices":{devices}}}"#);
        let (status, told) = request(&gateway.address, "PUT", "/v1/groups/hall", &key, &body);
        assert_eq!(status, 200, "{told}");
    };
    set(r#"["a","b","c"]"#);
    let refused = open(&gateway, &key, "group=hall").err().unwrap();
    assert!(refused.contains("413"), "{refused}");
    set(r#"["a","b"]"#);
    let mut reader = open(&gateway, &key, "group=hall").unwrap();
    set(r#"["a","b","c"]"#);
    assert_eq!(reader.see(), Seen::Close(Some(1008)));
}

#[test]
fn a_group_is_followed_while_its_devices_change() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let (mut a, mut b) = (
        gateway.as_device("a", &gateway.device("a")),
        gateway.as_device("b", &gateway.device("b")),
    );
    let member = |method: &str, id: &str| {
        let path = format!("/v1/groups/hall/devices/{id}");
        request(&gateway.address, method, &path, &key, "").0
    };
    let made = request(&gateway.address, "PUT", "/v1/groups/hall", &key, r#"{"devices":["a"]}"#);
    assert_eq!(made.0, 200, "{}", made.1);
    tell(&mut b, "b", T, &json!({"temp": 1}));
    let mut reader = open(&gateway, &key, "group=hall").unwrap();
    tell(&mut b, "b", T + 1_000, &json!({"temp": 2}));
    tell(&mut a, "a", T, &json!({"temp": 3}));
    assert_eq!(array(&mut reader)[0]["temp"], 3);
    // Who comes is told by its last state.
    assert_eq!(member("PUT", "b"), 200);
    assert_eq!(array(&mut reader)[0]["temp"], 2);
    tell(&mut b, "b", T + 2_000, &json!({"temp": 4}));
    assert_eq!(array(&mut reader)[0]["temp"], 4);
    // Behind its leaving nothing comes. A worker hears of it a moment after the answer: what both
    // send until then may come of both.
    assert_eq!(member("DELETE", "a"), 200);
    for n in 5..200 {
        tell(&mut a, "a", T + n, &json!({"temp": n}));
        tell(&mut b, "b", T + 2_000 + n, &json!({"temp": n}));
        if array(&mut reader)[0]["tsmTuid"] == "b" {
            return;
        }
        assert_eq!(array(&mut reader)[0]["tsmTuid"], "b");
    }
    panic!("it is followed still");
}

#[test]
fn history_is_arrays_too_and_another_life_of_the_log_is_told_by_the_last_state() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("a"), gateway.key("viewer"));
    let mut device = gateway.as_device("a", &token);
    let (mut app, mut positions) = (gateway.as_app(&key), Vec::new());
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1}));
    app.next_of("subscribed");
    for n in 0..3 {
        tell(&mut device, "a", T, &json!({"lght": n}));
        positions.push(app.next_of("mqtt")["msgid"].as_str().unwrap().to_owned());
    }
    let lights = |query: &str, count: usize| -> Vec<Value> {
        let mut reader = open(&gateway, &key, query).unwrap();
        (0..count).map(|_| array(&mut reader)[0]["lght"].clone()).collect()
    };
    assert_eq!(lights("since=all", 3), [0, 1, 2]);
    assert_eq!(lights(&format!("since={}", positions[0]), 2), [1, 2]);
    assert_eq!(lights("since=0", 3), [0, 1, 2]);
    assert_eq!(lights("", 1), [2]);
    assert_eq!(lights("since=1:1", 1), [2], "there is no such epoch: what is, once");
}

#[test]
fn who_reads_late_gets_every_message_in_order() {
    const COUNT: u64 = 40_000;
    let gateway = Gateway::with(&[
        "limits.outbox_bytes_max=16384",
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let (token, key) = (gateway.device("a"), gateway.key("admin"));
    let mut reader = open(&gateway, &key, "device=a").unwrap();
    let mut device = gateway.as_device("a", &token);
    let rows = |n: u64| {
        json!({"lght": n, "temp": 1, "batl": 2, "accx": 3, "hall": 0, "moveCount": 4, "dist": 5,
            "angle": 6, "carbonDioxide": 7, "tvoc": 8})
    };
    for first in (0..COUNT).step_by(1_000) {
        let each = (first..first + 1_000).map(|n| json!({"deviceId": "a", "data": rows(n)}));
        let data: Vec<Value> = each.collect();
        device.send(&json!({"type": "batch", "msgid": first.to_string(), "data": data}));
        assert_eq!(device.next()["type"], "ack");
    }
    wait_for("a reader that is behind", || {
        let clients = gateway.get("/v1/clients", Some(&key)).1;
        clients.contains("\"behind\":true").then_some(())
    });
    for n in 0..COUNT {
        let objects = array(&mut reader);
        let environment = objects.iter().find(|object| object["tsmId"] == 12_100).unwrap();
        assert_eq!((objects.len(), &environment["lght"]), (9, &json!(n)));
    }
}

#[test]
fn a_flood_from_a_reader_ends_its_connection() {
    let gateway = Gateway::with(&["limits.frame_bytes_max=1024"]);
    let key = gateway.key("viewer");
    let mut reader = open(&gateway, &key, "").unwrap();
    reader.send_text(&"x".repeat(1_025));
    assert_eq!(reader.closed(), Some(1_009));
    let answer = exchange(&gateway.address, "POST", "/thingsee", "", "");
    assert_eq!(answer.status, 405);
}
