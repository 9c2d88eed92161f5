//! Sources where something fails, changes under them, or is more than usual.

use fieldgate_core::{
    id::{TenantId, UnixMs},
    message::Message,
};
use fieldgate_dialects::ws::{Opcode, frame_masked};
use fieldgate_store::{Log as _, Record, Store, StoreOptions, log::LogOptions};
use serde_json::{Value, json};

use crate::{
    support::{Gateway, Seen, Wire, exchange, post, wait_for},
    thingsee_in::{DEVICE, TOKEN, connect, dropped, element, gateway, history},
};

/// Posts a body as the source; status and what answers.
fn bring(gateway: &Gateway, body: &str) -> (u16, Value) {
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = exchange(&gateway.address, "POST", "/ingest/thingsee/cloud", &bearer, body);
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

#[test]
fn every_ping_behind_an_array_is_answered_in_order_when_it_is_stored() {
    let mut gateway = gateway(&[]);
    let key = gateway.key("operator");
    let mut cloud = connect(&gateway);
    let (mut sent, mut pings) = (Vec::new(), Vec::new());
    let mut ping = |sent: &mut Vec<u8>, text: String| {
        sent.extend(frame_masked(Opcode::Ping, text.as_bytes(), [1, 2, 3, 4]));
        pings.push(text);
    };
    ping(&mut sent, "before all".to_owned());
    for n in 0..300 {
        let array = json!([element("a", n, 1_520_416_221 + n)]).to_string();
        sent.extend(frame_masked(Opcode::Text, array.as_bytes(), [1, 2, 3, 4]));
        // Also two with nothing between them, and an array that nobody asks about.
        for nth in 0..n % 3 {
            ping(&mut sent, format!("{n} {nth}"));
        }
    }
    ping(&mut sent, "behind all".to_owned());
    cloud.raw(&sent).unwrap();
    for text in pings {
        assert_eq!(cloud.see(), Seen::Pong(text.into_bytes()));
    }
    gateway.kill();
    gateway.up();
    assert_eq!(history(&gateway, "a", &key).len(), 300);
}

#[test]
fn an_alias_comes_moves_and_goes_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fieldgate.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[thingsee]\npaths = { \"/old\" = \"cloud\" }\n");
    let gateway = gateway(&[&format!("--config={}", file.display())]);
    let opened = |path: &str| {
        Wire::open(&gateway.address, &format!("{path}?token={TOKEN}"), &[]).map(drop).err()
    };
    let mut before = Wire::open(&gateway.address, &format!("/old?token={TOKEN}"), &[]).unwrap();
    assert!(opened("/new").is_some_and(|status| status.contains("404")));
    write("[thingsee]\npaths = { \"/new\" = \"cloud\" }\n");
    gateway.signal("HUP");
    wait_for("the new alias", || opened("/new").is_none().then_some(()));
    assert!(opened("/old").is_some_and(|status| status.contains("404")));
    // Who came by the old one stays.
    let key = gateway.key("operator");
    before.send(&json!([element("a", 1, 1_520_416_221)]));
    wait_for("what it brings", || {
        (gateway.get("/v1/devices/a", Some(&key)).0 == 200).then_some(())
    });
    // The same again is no change, and a mistake changes nothing.
    write("[thingsee]\npaths = { \"no path\" = \"cloud\" }\n");
    gateway.signal("HUP");
    wait_for("the refusal", || {
        gateway.output().contains("the configuration stays as it was").then_some(())
    });
    assert_eq!(opened("/new"), None);
}

#[test]
fn on_a_full_disk_a_source_is_not_read_not_left_and_nothing_of_it_is_half_there() {
    let mut gateway = gateway(&["heartbeat.ping_ms=50", "heartbeat.silence_ms=400"]);
    let key = gateway.key("operator");
    let known = json!([element("a", 1, 1_520_416_221)]).to_string();
    assert_eq!(bring(&gateway, &known).0, 200);
    let stop = |gateway: &mut Gateway| {
        gateway.signal("TERM");
        assert_eq!(gateway.ended(), Some(0));
    };
    stop(&mut gateway);
    gateway.set("--set=store.free_bytes_min=1000TiB");
    gateway.up();
    wait_for("the low disk", || (gateway.get("/readyz", None).0 == 503).then_some(()));
    let more = json!([element("a", 2, 1_520_416_222), element("b", 3, 1_520_416_222)]).to_string();
    let (status, told) = bring(&gateway, &more);
    assert_eq!((status, &told["code"]), (503, &json!("storage_unavailable")), "{told}");
    let mut cloud = connect(&gateway);
    cloud.send_text(&more);
    // It answers no ping; while what it sent cannot be taken, that is no silence of its.
    cloud.pings(20);
    assert_eq!(gateway.get("/v1/devices/b", Some(&key)).0, 404);
    stop(&mut gateway);
    gateway.set("--set=store.free_bytes_min=0");
    gateway.up();
    // It comes back, and sends again what nobody took.
    let mut cloud = connect(&gateway);
    cloud.send_text(&more);
    wait_for("the new device", || {
        (gateway.get("/v1/devices/b", Some(&key)).0 == 200).then_some(())
    });
    wait_for("its messages", || {
        (history(&gateway, "a", &key).len() == 2 && history(&gateway, "b", &key).len() == 1)
            .then_some(())
    });
    for reason in ["source_bad", "source_full", "source_foreign"] {
        assert_eq!(dropped(&gateway, &key, reason), 0, "{reason}");
    }
}

#[test]
fn more_first_sights_at_once_than_a_source_may_have_are_as_many_as_it_may() {
    let gateway = gateway(&[
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let key = gateway.key("operator");
    let mut cloud = connect(&gateway);
    for round in 1..=2 {
        for from in (0..10_001).step_by(1_000) {
            let part = (from..10_001.min(from + 1_000))
                .map(|n| element(&format!("d{n}"), round, 1_520_416_221 + round));
            cloud.send(&Value::Array(part.collect()));
        }
        wait_for("the one too many", || {
            (dropped(&gateway, &key, "source_full") == round).then_some(())
        });
    }
    assert_eq!(gateway.admin(&["integration", "show", "cloud"])["devices"], 10_000);
    for device in ["d0", "d5000", "d9999"] {
        assert_eq!(history(&gateway, device, &key).len(), 2, "{device}");
    }
    assert_eq!(gateway.get("/v1/devices/d10000", Some(&key)).0, 404);
    let (_, answer) = bring(&gateway, &json!([element("d10000", 3, 1)]).to_string());
    assert_eq!(answer["refused"][0]["code"], "queue_full");
}

/// Puts a message of the device into the log of a gateway that is down, as one that was killed before
/// it looked at it leaves it there.
fn store(gateway: &Gateway, element: &Value) {
    let log = LogOptions { free_bytes_min: 0, ..LogOptions::default() };
    let store =
        Store::open(&gateway.data(), StoreOptions { log, ..StoreOptions::default() }).unwrap();
    let topic: fieldgate_core::topic::Topic =
        format!("devices/{DEVICE}/telemetry").parse().unwrap();
    let (tenant, time) = (TenantId::default_tenant(), UnixMs(1_600_000_000_000));
    let original = Some(element.to_string().into_bytes().into());
    let message = Message::json(tenant, topic, "source:cloud".into(), time, "{}");
    let message = Message { is_time_given: true, original, ..message };
    store.log.append(vec![Record::Message(message)], time).unwrap();
    store.log.close();
}

#[test]
fn an_echo_that_was_stored_when_the_process_ended_ends_its_command() {
    let mut gateway = gateway(&[]);
    let key = gateway.key("admin");
    let mut cloud = connect(&gateway);
    cloud.send(&json!([element(DEVICE, 1, 1_520_416_221)]));
    let device = format!("/v1/devices/{DEVICE}");
    wait_for("the device", || (gateway.get(&device, Some(&key)).0 == 200).then_some(()));
    let mut sent = Vec::new();
    for command in ["CELLLOCATE", "REBOOT"] {
        let payload = json!({"tsmId": 1402, "command": command, "payload": ""});
        let body = json!({"to": DEVICE, "payload": payload}).to_string();
        let (status, told) = post(&gateway.address, "/v1/commands", &key, &body);
        assert_eq!(status, 201, "{told}");
        let asked = cloud.next();
        let path = format!("/v1/commands/{}", told["devices"][0]["position"].as_str().unwrap());
        sent.push((path, asked[0]["transactionId"].clone()));
    }
    let state = |gateway: &Gateway, path: &str| -> Value {
        serde_json::from_str(&gateway.get(path, Some(&key)).1).unwrap()
    };
    for (path, _) in &sent {
        wait_for("what is written down", || {
            (state(&gateway, path)["state"] == "sent").then_some(())
        });
    }
    gateway.kill();
    let results = [(0, "completed"), (7, "failed")];
    for ((_, transaction), (result, _)) in sent.iter().zip(results) {
        let echo = json!({"tsmId": 1402, "tsmEv": 36, "result": result, "payload": "",
            "transactionId": transaction, "tsmTs": 1_600_000_000, "tsmTuid": DEVICE});
        store(&gateway, &echo);
    }
    gateway.up();
    for ((path, _), (result, end)) in sent.iter().zip(results) {
        let told = wait_for("the end", || {
            let told = state(&gateway, path);
            (told["state"] == end).then_some(told)
        });
        let said = if end == "completed" {
            &told["payload"]["result"]
        } else {
            &told["payload"]["other"]["result"]["got"]
        };
        assert_eq!(*said, result, "{told}");
    }
}

#[test]
fn a_device_of_no_source_gets_a_command_of_the_vendors_as_it_was_written() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("admin"));
    let mut device = gateway.as_device("d", &token);
    let payload = json!({"tsmId": 1402, "command": "CELLLOCATE", "payload": ""});
    let body = json!({"to": "d", "payload": payload}).to_string();
    let (status, told) = post(&gateway.address, "/v1/commands", &key, &body);
    assert_eq!(status, 201, "{told}");
    let got = device.next_of("control");
    assert_eq!(got["payload"], payload, "{got}");
}

#[test]
fn a_frame_above_what_the_log_takes_at_once_costs_none_of_its_elements() {
    let gateway = gateway(&["limits.frame_bytes_max=4194304", "limits.message_bytes_max=524288"]);
    let key = gateway.key("operator");
    let long = |nth: u64, len: usize| {
        let mut element = element("a", nth, 1_520_416_221 + nth);
        element["note"] = "x".repeat(len).into();
        element
    };
    let count = || {
        let (mut count, mut cursor) = (0, String::new());
        loop {
            let path = format!("/v1/devices/a/history?kind=telemetry&limit=1000{cursor}");
            let page: Value = serde_json::from_str(&gateway.get(&path, Some(&key)).1).unwrap();
            count += page["items"].as_array().unwrap().len();
            let Some(next) = page["next"].as_str() else { return count };
            cursor = format!("&cursor={next}");
        }
    };
    let frame: Vec<Value> = (0..900).map(|nth| long(nth, 1_500)).collect();
    let mut cloud = connect(&gateway);
    cloud.send_text(&json!(frame).to_string());
    // The pong says that all of it is stored.
    cloud.raw(&frame_masked(Opcode::Ping, b"all", [1, 2, 3, 4])).unwrap();
    assert_eq!(cloud.see(), Seen::Pong(b"all".to_vec()));
    assert_eq!(count(), 900);
    // Sent again they are known, one by one.
    let told = (200, json!({"accepted": 900, "refused": []}));
    assert_eq!(bring(&gateway, &json!(frame).to_string()), told);
    assert_eq!(count(), 900);
    // One that is too much alone is set aside alone.
    let frame = [long(1_001, 10), long(1_002, 524_170), long(1_003, 10)];
    let (_, answer) = bring(&gateway, &json!(frame).to_string());
    assert_eq!(answer["accepted"], 2, "{answer}");
    assert_eq!(answer["refused"][0]["index"], 1, "{answer}");
    assert_eq!(answer["refused"][0]["code"], "too_large", "{answer}");
}
