//! `GET /v1/devices/{id}/history`: what was said, a page at a time, with the holes between.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::{Gateway, LIMIT};

fn get(gateway: &Gateway, query: &str, key: &str) -> (u16, Value) {
    let (status, body) = gateway.get(&format!("/v1/devices/d/history?{query}"), Some(key));
    (status, serde_json::from_str(&body).unwrap())
}

/// The items of all pages.
fn all(gateway: &Gateway, query: &str, key: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(gateway, &format!("{query}{cursor}"), key);
        assert_eq!(status, 200, "{page}");
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        cursor = format!("&cursor={next}");
    }
}

#[test]
fn a_history_has_all_kinds_as_they_came_and_its_kinds_alone() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let (mut device, mut app) = (gateway.as_device("d", &token), gateway.as_app(&key));
    let mut other = gateway.as_device("d2", &gateway.device("d2"));
    other.send(&json!({"type": "status", "msgid": "o", "data": {"t": 0}}));
    other.next_of("ack");
    device.send(&json!({"type": "status", "msgid": "s", "data": {"t": 21.50}}));
    let seq = device.next_of("ack")["seq"].clone();
    device.send(&json!({"type": "event", "msgid": "e", "event": "button", "data": {"n": 1}}));
    device.next_of("ack");
    app.send(&json!({"type": "command", "to": "d", "msgid": "c", "payload": {"on": true}}));
    app.next_of("ack");
    let items = all(&gateway, "limit=2", &key);
    let topics: Vec<_> = items.iter().map(|item| item["topic"].as_str().unwrap()).collect();
    assert_eq!(topics, ["devices/d/telemetry", "devices/d/events", "devices/d/commands"]);
    let first = &items[0];
    assert_eq!(
        (&first["payload"], &first["seq"], &first["ref"]),
        (&json!({"t": 21.5}), &seq, &json!("s"))
    );
    assert_eq!((&first["from"], &first["qos"]), (&json!("d"), &json!(1)));
    let (arrived, timestamp) = (&first["arrived"], &first["timestamp"]);
    assert!(arrived.as_u64().unwrap() >= timestamp.as_u64().unwrap(), "{first}");
    assert!(first["msgid"].as_str().unwrap().ends_with(&format!(":{seq}")), "{first}");
    let kinds = all(&gateway, "kind=events&kind=commands&order=desc", &key);
    let kinds: Vec<_> = kinds.iter().map(|item| item["topic"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["devices/d/commands", "devices/d/events"]);
    let (_, page) = get(&gateway, &format!("from={arrived}&to={arrived}&kind=telemetry"), &key);
    assert_eq!((&page["items"][0], &page["next"]), (first, &Value::Null));
}

#[test]
fn a_history_takes_the_right_to_read_there() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let key = |name: &str, grant: &str| {
        let made = gateway.admin(&["key", "add", name, "--grant", grant]);
        made["key"].as_str().unwrap().to_owned()
    };
    let (whole, part) = (key("a", "read:devices/d/#"), key("b", "read:devices/d/telemetry"));
    let others = [key("c", "read:devices/e/#"), key("s", "subscribe:devices/d/#"), token];
    assert_eq!(get(&gateway, "", &whole).0, 200);
    assert_eq!(get(&gateway, "kind=telemetry", &part).0, 200);
    let (status, problem) = get(&gateway, "", &part);
    assert_eq!((status, &problem["code"]), (403, &json!("not_allowed")));
    for other in others {
        assert_eq!(get(&gateway, "", &other).0, 403);
    }
    assert_eq!(get(&gateway, "", "wrong").0, 401);
    let (status, problem) = get(&gateway, "limit=0", &whole);
    assert_eq!((status, &problem["code"]), (400, &json!("bad_value")));
    assert_eq!(gateway.get("/v1/devices/%20/history", Some(&whole)).0, 400);
}

#[test]
fn a_history_tells_what_kills_took_in_either_order() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    for round in 0..3 {
        let mut device = gateway.as_device("d", &token);
        device.send(&json!({"type": "status", "msgid": round.to_string(), "data": {"n": round}}));
        device.next_of("ack");
        gateway.kill();
        gateway.up();
    }
    let told = |item: &Value| {
        if item["gap"].is_null() {
            item["payload"]["n"].clone()
        } else {
            item["gap"]["reason"].clone()
        }
    };
    let items = all(&gateway, "", &key);
    let crash = json!("crash");
    let wanted = [json!(0), crash.clone(), json!(1), crash.clone(), json!(2), crash];
    assert_eq!(items.iter().map(told).collect::<Vec<_>>(), wanted);
    let mut backwards = all(&gateway, "order=desc&limit=100", &key);
    backwards.reverse();
    assert_eq!(backwards, items);
    for order in ["asc", "desc"] {
        let mut one_by_one = all(&gateway, &format!("limit=1&order={order}"), &key);
        if order == "desc" {
            one_by_one.reverse();
        }
        assert_eq!(one_by_one.iter().map(told).collect::<Vec<_>>(), wanted, "{order}");
    }
    // A range that begins within a gap has the rest of it.
    let gap = &items[1]["gap"];
    let within = gap["to"].as_str().unwrap();
    let rest = all(&gateway, &format!("from={within}"), &key);
    assert_eq!((&rest[0]["gap"]["from"], &rest[0]["gap"]["to"]), (&gap["to"], &gap["to"]));
    assert_eq!(rest.len(), items.len() - 1);
}

#[test]
fn pages_beside_writers_miss_nothing_and_repeat_nothing() {
    let gateway = Gateway::with(&["limits.messages_per_second=100000", "log.level=warn"]);
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let (done, began) = (AtomicBool::new(false), std::time::Instant::now());
    let (sent, seen) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut device = gateway.as_device("d", &token);
            let mut sent = Vec::new();
            for n in 0..400 {
                device.send(&json!({"type": "status", "msgid": n.to_string(), "data": {"n": n}}));
                sent.push(device.next_of("ack")["seq"].as_u64().unwrap());
            }
            done.store(true, Ordering::SeqCst);
            sent
        });
        // Whoever comes to the end goes on behind the last that it saw.
        let (mut seen, mut at) = (Vec::new(), String::new());
        loop {
            assert!(began.elapsed() < LIMIT, "it does not end");
            let is_last = done.load(Ordering::SeqCst);
            let (_, page) = get(&gateway, &format!("limit=7{at}"), &key);
            for item in page["items"].as_array().unwrap() {
                seen.push(item["seq"].as_u64().unwrap());
                at = format!("&after={}", item["msgid"].as_str().unwrap());
            }
            match page["next"].as_str() {
                Some(next) => at = format!("&cursor={next}"),
                None if is_last => break,
                None => (),
            }
        }
        (writer.join().unwrap(), seen)
    });
    assert_eq!(seen, sent);
}
