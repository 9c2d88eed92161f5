//! Thingsee in: a cloud connects and sends arrays, or posts them, and its devices are devices.

use std::process::Command;

use fieldgate_store::{
    Log as _, Record, Store, StoreOptions,
    registry::{Change, Integration, IntegrationKind, IntegrationStep, RegistryChange, Start},
};
use serde_json::{Value, json};

use crate::support::{
    Gateway, NodeScript, Script, Seen, Wire, exchange, exchange_bytes, node_modules, python,
    wait_for,
};

/// The array of the vendor's page, byte for byte.
pub(crate) const ARRAY: &str =
    include_str!("../../../fieldgate-dialects/tests/data/thingsee/seed-000.json");
/// Its device.
pub(crate) const DEVICE: &str = "XXXX03X2Z80562557";
pub(crate) const TOKEN: &str = "fg_s_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

/// A gateway with the source `cloud`.
pub(crate) fn gateway(settings: &[&str]) -> Gateway {
    let mut gateway = Gateway::with(settings);
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    let store = Store::open(&gateway.data(), StoreOptions::default()).unwrap();
    let token = Some(store.state.master_key().hash_source(TOKEN));
    let (name, kind) = ("cloud".to_owned(), IntegrationKind::ThingseeIn);
    let integration = Integration { name, kind, paused: false, token, target: None };
    let step = IntegrationStep::Add { integration: Box::new(integration), start: Start::Now };
    let change = Change::Integration { name: "cloud".to_owned(), expected: None, step };
    let change = Record::Registry(Box::new(RegistryChange::local("default", change)));
    store.log.append(vec![change], fieldgate_core::id::UnixMs(1)).unwrap();
    store.log.close();
    drop(store);
    gateway.up();
    gateway
}

pub(crate) fn connect(gateway: &Gateway) -> Wire {
    Wire::open(&gateway.address, &format!("/ingest/thingsee/cloud?token={TOKEN}"), &[]).unwrap()
}

/// Posts a body as the source; status and what answers.
fn post(gateway: &Gateway, headers: &str, body: &str) -> (u16, Value) {
    let headers = format!("Authorization: Bearer {TOKEN}\r\n{headers}");
    let answer = exchange(&gateway.address, "POST", "/ingest/thingsee/cloud", &headers, body);
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// Everything that a device told, oldest first; the gap that a crash leaves is left out.
pub(crate) fn history(gateway: &Gateway, device: &str, key: &str) -> Vec<Value> {
    let (status, body) =
        gateway.get(&format!("/v1/devices/{device}/history?kind=telemetry&limit=1000"), Some(key));
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(page["next"], Value::Null);
    let items = page["items"].as_array().unwrap().iter();
    items.filter(|item| item["topic"].is_string()).cloned().collect()
}

/// How many were ever dropped for this reason.
pub(crate) fn dropped(gateway: &Gateway, key: &str, reason: &str) -> u64 {
    let (_, body) = gateway.get("/v1/drops", Some(key));
    let page: Value = serde_json::from_str(&body).unwrap();
    page["totals"][reason].as_u64().unwrap_or_default()
}

/// One message of a device.
pub(crate) fn element(device: &str, temp: u64, time: u64) -> Value {
    json!({"tsmId": 12100, "tsmEv": 10, "temp": temp, "tsmTs": time, "tsmTuid": device})
}

/// The next frame of a subscription.
fn delivered(app: &mut Wire) -> Value {
    app.next_of("mqtt")
}

#[test]
fn an_array_of_the_cloud_is_messages_of_its_devices() {
    let gateway = gateway(&[]);
    let key = gateway.key("operator");
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1}));
    app.next_of("subscribed");
    let bearer = format!("Authorization: Bearer {key}");
    let mut arrays = Wire::open(&gateway.address, "/thingsee", &[&bearer]).unwrap();
    let mut cloud = connect(&gateway);
    cloud.send_text(ARRAY);
    let frames: Vec<Value> = (0..3).map(|_| delivered(&mut app)).collect();
    let payloads: Vec<&Value> = frames.iter().map(|frame| &frame["payload"]).collect();
    assert_eq!(
        payloads,
        [
            &json!({"hall": 0, "hallCount": 0}),
            &json!({"batl": 100}),
            &json!({"airp": 101_364.599, "lght": 6, "temp": 21.3, "humd": 21.7}),
        ]
    );
    for frame in &frames {
        assert_eq!(frame["topic"], format!("devices/{DEVICE}/telemetry"));
        assert_eq!(frame["timestamp"], 1_520_416_221_000_u64);
        assert_eq!(frame["from"], "source:cloud");
    }
    // Who reads arrays gets each object as it came.
    let sent: Vec<Value> = serde_json::from_str(ARRAY).unwrap();
    for object in &sent {
        assert_eq!(arrays.next(), json!([object]));
    }
    let state = wait_for("the state", || {
        let (status, body) = gateway.get(&format!("/v1/devices/{DEVICE}/state"), Some(&key));
        let state: Value = serde_json::from_str(&body).unwrap();
        (status == 200 && state["reported"]["temp"] == 21.3).then_some(state)
    });
    assert_eq!(state["reported"]["batl"], 100);
    assert_eq!(state["meta"]["temp"]["time"], 1_520_416_221_000_u64);
    assert_eq!(history(&gateway, DEVICE, &key).len(), 3);
    // A single object, decimals, no time, and CBOR in a zlib stream, on the same connection.
    cloud.send(&json!({"tsmId": 2100, "tsmEv": 7, "state": 1, "tsmTs": 1_520_416_222.25, "tsmTuid": "one"}));
    let frame = delivered(&mut app);
    assert_eq!(
        (&frame["payload"], &frame["timestamp"]),
        (&json!({"state.2100": 1}), &json!(1_520_416_222_250_u64))
    );
    cloud.send(&json!([{"tsmId": 1, "tsmEv": 18, "tsmTuid": "one", "new": null}]));
    assert_eq!(delivered(&mut app)["payload"], json!({"new": null}));
    cloud.send_binary(include_bytes!("../../../../fuzz/corpus/thingsee_binary/gateway_zlib"));
    let frame = delivered(&mut app);
    assert_eq!(
        (&frame["payload"], &frame["topic"]),
        (&json!({"temp": 21.3}), &json!("devices/d-1/telemetry"))
    );
}

#[test]
fn who_is_no_source_is_refused_before_the_upgrade() {
    let gateway = gateway(&[]);
    let key = gateway.key("admin");
    let path = "/ingest/thingsee/cloud";
    let opened = |path: &str, headers: &[&str]| Wire::open(&gateway.address, path, headers).err();
    for wrong in [
        opened(path, &[]),
        opened(&format!("{path}?token=wrong"), &[]),
        opened(&format!("{path}?token={key}"), &[]),
        opened(&format!("/ingest/thingsee/none?token={TOKEN}"), &[]),
        opened(path, &["Authorization: Bearer wrong"]),
    ] {
        assert!(wrong.as_ref().is_some_and(|status| status.contains("401")), "{wrong:?}");
    }
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(opened(path, &[&bearer]), None);
    // A source that there is not looks as a wrong token does.
    let asked = |path: &str, token: &str| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        exchange(&gateway.address, "POST", path, &headers, "[]").whole()
    };
    let wrong = asked(path, "wrong");
    assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
    assert_eq!(asked("/ingest/thingsee/none", TOKEN), wrong);
    assert_eq!(asked("/ingest/thingsee/none", "wrong"), wrong);
    // Its token is good for nothing else.
    assert!(opened("/ws", &[&bearer]).is_some_and(|status| status.contains("401")));
    assert_eq!(gateway.get("/v1/devices", Some(TOKEN)).0, 401);
    let answer = exchange(&gateway.address, "DELETE", path, "", "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, POST")));
    assert_eq!(gateway.get(path, Some(TOKEN)).0, 426);
    assert_eq!(exchange(&gateway.address, "POST", "/ingest/thingsee/", "", "").status, 404);
    assert!(!gateway.output().contains(TOKEN));
}

#[test]
fn so_many_wrong_tokens_and_none_is_looked_at() {
    let gateway = gateway(&["limits.auth_failures_per_minute_max=3"]);
    let wrong =
        || Wire::open(&gateway.address, "/ingest/thingsee/none?token=x", &[]).err().unwrap();
    wait_for("the end of patience", || wrong().contains("429").then_some(()));
    assert_eq!(post(&gateway, "", "[]").0, 429);
}

#[test]
fn one_bad_element_never_costs_its_neighbours_and_is_written_down() {
    let gateway = gateway(&[]);
    let key = gateway.key("operator");
    gateway.device("ours");
    let mut cloud = connect(&gateway);
    cloud.send(&json!([
        element("a", 1, 1_520_416_221), {"tsmId": 1}, 7, element("ours", 2, 1_520_416_221),
        element("b/c", 3, 1_520_416_221), element("a", 4, 1_520_416_222),
    ]));
    cloud.send_text("[{\"tsmId\":12100,");
    cloud.send_text("{\"temp\":NaN}");
    cloud.send_binary(include_bytes!("../../../../fuzz/corpus/thingsee_binary/bomb"));
    cloud.send(&json!([element("a", 5, 1_520_416_223)]));
    let temps = wait_for("the neighbours", || {
        let (status, _) = gateway.get("/v1/devices/a/state", Some(&key));
        let all = if status == 200 { history(&gateway, "a", &key) } else { Vec::new() };
        (all.len() == 3).then(|| all.iter().map(|item| item["payload"]["temp"].clone()).collect())
    });
    let temps: Vec<Value> = temps;
    assert_eq!(temps, [1, 4, 5]);
    assert!(history(&gateway, "ours", &key).is_empty());
    let told = wait_for("the ledger", || {
        let told = ["source_bad", "source_foreign"].map(|reason| dropped(&gateway, &key, reason));
        (told == [6, 1]).then_some(told)
    });
    assert_eq!(told, [6, 1]);
    let (_, body) = gateway.get("/v1/drops?reason=source_foreign", Some(&key));
    let page: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(page["items"][0]["who"], "source:cloud");
    // By HTTP the sender hears of each.
    let body = json!([element("a", 6, 1_520_416_224), {"tsmId": 1}, element("ours", 1, 2),
        element("source:cloud", 1, 2)]);
    let (status, answer) = post(&gateway, "", &body.to_string());
    assert_eq!((status, &answer["accepted"]), (200, &json!(1)));
    let refused: Vec<_> = answer["refused"].as_array().unwrap().iter().collect();
    assert_eq!((&refused[0]["index"], &refused[0]["code"]), (&json!(1), &json!("missing_field")));
    assert_eq!((&refused[1]["index"], &refused[1]["code"]), (&json!(2), &json!("not_allowed")));
    assert!(refused[1]["message"].as_str().unwrap().contains("ours"), "{answer}");
    // No device has the name of somebody else.
    assert_eq!((&refused[2]["index"], &refused[2]["code"]), (&json!(3), &json!("bad_value")));
    assert_eq!(gateway.get("/v1/devices/source:cloud", Some(&key)).0, 404);
}

#[test]
fn what_is_no_frame_of_a_source_ends_its_connection_with_the_reason() {
    let gateway = gateway(&["limits.frame_bytes_max=262144"]);
    let mut cloud = connect(&gateway);
    cloud.send_text(&format!("[{}]", " ".repeat(300 * 1024)));
    assert_eq!(cloud.closed(), Some(1009));
    let mut cloud = connect(&gateway);
    for _ in 0..10 {
        cloud.send_text("no JSON");
    }
    // Nothing but the close frame was ever said.
    assert_eq!(cloud.see(), Seen::Close(Some(4400)));
}

#[test]
fn a_source_has_so_many_devices_and_no_more() {
    let gateway = gateway(&["limits.devices_per_source_max=50"]);
    let key = gateway.key("operator");
    let frame = |from: u64, to: u64| {
        let all = (from..to).map(|n| element(&format!("d{n}"), n, 1_520_416_221));
        Value::Array(all.collect()).to_string()
    };
    let (status, answer) = post(&gateway, "", &frame(0, 40));
    assert_eq!((status, answer), (200, json!({"accepted": 40, "refused": []})));
    // Ten of these have room, and who was there before stays.
    let (_, answer) = post(&gateway, "", &frame(39, 60));
    assert_eq!(answer["accepted"], 11);
    let codes: Vec<_> =
        answer["refused"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
    assert_eq!(codes, vec!["queue_full"; 10]);
    assert!(answer["refused"][0]["message"].as_str().unwrap().contains("devices_per_source_max"));
    let (_, answer) = post(&gateway, "", &frame(0, 51));
    assert_eq!((&answer["accepted"], &answer["refused"][0]["index"]), (&json!(50), &json!(50)));
    let mut cloud = connect(&gateway);
    cloud.send_text(&frame(50, 52));
    wait_for("the ledger", || (dropped(&gateway, &key, "source_full") == 13).then_some(()));
    assert_eq!(history(&gateway, "d49", &key).len(), 1);
}

#[test]
fn what_is_sent_again_is_stored_once_also_over_a_crash() {
    let mut gateway = gateway(&[]);
    let key = gateway.key("operator");
    assert_eq!(post(&gateway, "", ARRAY), (200, json!({"accepted": 3, "refused": []})));
    // What was answered is on disk.
    gateway.kill();
    gateway.up();
    assert_eq!(history(&gateway, DEVICE, &key).len(), 3);
    assert_eq!(post(&gateway, "", ARRAY), (200, json!({"accepted": 3, "refused": []})));
    let mut cloud = connect(&gateway);
    cloud.send_text(ARRAY);
    // Through another gateway it is the same message; with another time it is not.
    cloud.send_text(&ARRAY.replace("XXXX00EFS80560445", "XXXX00EFS80560446"));
    cloud.send_text(&ARRAY.replace("1520416221", "1520416222"));
    let all = wait_for("the second array", || {
        let all = history(&gateway, DEVICE, &key);
        (all.len() > 3).then_some(all)
    });
    assert_eq!(all.len(), 6, "{all:?}");
}

#[test]
fn a_body_is_json_or_cbor_plain_or_deflated_and_bounded() {
    let gateway = gateway(&["limits.frame_bytes_max=20000"]);
    let text = element("a", 1, 1_520_416_221).to_string();
    for kind in
        ["", "Content-Type: application/json; charset=utf-8\r\n", "Content-Encoding: identity\r\n"]
    {
        assert_eq!(
            post(&gateway, kind, &text),
            (200, json!({"accepted": 1, "refused": []})),
            "{kind}"
        );
    }
    let send = |headers: &str, body: &[u8]| {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n{headers}");
        let answer =
            exchange_bytes(&gateway.address, "POST", "/ingest/thingsee/cloud", &headers, body);
        (answer.status, serde_json::from_str::<Value>(&answer.body).unwrap())
    };
    let cbor = include_bytes!("../../../../fuzz/corpus/thingsee_binary/gateway");
    let zlib = include_bytes!("../../../../fuzz/corpus/thingsee_binary/gateway_zlib");
    let bomb = include_bytes!("../../../../fuzz/corpus/thingsee_binary/bomb");
    let is_cbor = "Content-Type: application/cbor\r\n";
    let is_deflated = "Content-Type: application/cbor\r\nContent-Encoding: deflate\r\n";
    let taken = (200, json!({"accepted": 1, "refused": []}));
    assert_eq!(send(is_cbor, cbor), taken);
    assert_eq!(send(is_cbor, zlib), taken);
    assert_eq!(send(is_deflated, zlib), taken);
    for (headers, body, status, code) in [
        (is_deflated, &bomb[..], 413, "too_large"),
        (is_deflated, &cbor[..], 400, "bad_value"),
        (is_cbor, &b"[]"[..], 400, "bad_value"),
        ("", &[0xFF; 3][..], 400, "bad_json"),
        ("", &b"[{}"[..], 400, "bad_json"),
        ("", &[b' '; 20_001][..], 413, "too_large"),
        ("Content-Type: application/xml\r\n", &b"[]"[..], 415, "bad_value"),
        ("Content-Encoding: gzip\r\n", &b"[]"[..], 415, "bad_value"),
    ] {
        let (told, answer) = send(headers, body);
        assert_eq!((told, &answer["code"]), (status, &json!(code)), "{headers} {answer}");
    }
    assert_eq!(send("", b"[]"), (200, json!({"accepted": 0, "refused": []})));
}

#[test]
fn an_alias_is_the_address_of_its_source() {
    let gateway = gateway(&[r#"thingsee.paths={"/socket"="cloud","/other"="none"}"#]);
    let key = gateway.key("operator");
    let mut cloud = Wire::open(&gateway.address, &format!("/socket?token={TOKEN}"), &[]).unwrap();
    cloud.send_text(ARRAY);
    wait_for("the array", || {
        let (status, _) = gateway.get(&format!("/v1/devices/{DEVICE}/state"), Some(&key));
        (status == 200 && history(&gateway, DEVICE, &key).len() == 3).then_some(())
    });
    let refused = Wire::open(&gateway.address, &format!("/other?token={TOKEN}"), &[]).err();
    assert!(refused.is_some_and(|status| status.contains("401")));
}

#[test]
fn a_source_above_its_rate_is_slowed_and_loses_nothing() {
    let gateway = gateway(&["limits.messages_per_second=200", "limits.message_burst=20"]);
    let key = gateway.key("operator");
    let mut cloud = connect(&gateway);
    for n in 0..30_u64 {
        let three: Vec<Value> =
            (0..3).map(|at| element("a", n, 1_520_416_000 + n * 3 + at)).collect();
        cloud.send(&Value::Array(three));
    }
    wait_for("all of it", || {
        let (status, _) = gateway.get("/v1/devices/a/state", Some(&key));
        (status == 200 && history(&gateway, "a", &key).len() == 90).then_some(())
    });
    assert_eq!(dropped(&gateway, &key, "source_bad"), 0);
}

#[test]
fn a_silent_source_is_pinged_and_then_let_go() {
    let gateway = gateway(&["heartbeat.ping_ms=50", "heartbeat.silence_ms=1500"]);
    let mut cloud = connect(&gateway);
    // Pings, which this client never answers, and nothing else.
    assert_eq!(cloud.see(), Seen::Close(Some(4001)));
}

#[test]
fn a_source_is_let_in_while_its_token_holds_and_its_devices_say_who_brought_them() {
    let gateway = gateway(&[]);
    let key = gateway.key("operator");
    let mut cloud = connect(&gateway);
    cloud.send_text(ARRAY);
    let device = wait_for("the device", || {
        let (status, body) = gateway.get(&format!("/v1/devices/{DEVICE}"), Some(&key));
        (status == 200).then(|| serde_json::from_str::<Value>(&body).unwrap())
    });
    let brought = (&device["source"], &device["gateway"]);
    assert_eq!(brought, (&json!("cloud"), &json!("XXXX00EFS80560445")));
    gateway.admin(&["integration", "pause", "cloud"]);
    assert_eq!(cloud.see(), Seen::Close(Some(4403)));
    let path = format!("/ingest/thingsee/cloud?token={TOKEN}");
    let status = || Wire::open(&gateway.address, &path, &[]).err();
    assert!(status().is_some_and(|status| status.contains("503")));
    assert_eq!(post(&gateway, "", "[]").0, 503);
    gateway.admin(&["integration", "resume", "cloud"]);
    let mut cloud = connect(&gateway);
    gateway.admin(&["integration", "remove", "cloud", "--yes"]);
    assert_eq!(cloud.see(), Seen::Close(Some(4403)));
    assert!(status().is_some_and(|status| status.contains("401")));
    // What it brought stays.
    assert_eq!(history(&gateway, DEVICE, &key).len(), 3);
}

/// The vendor's own client, as its page describes it: it connects, and sends arrays.
const NODE: &str = r#"
const WebSocket = require('ws');
const array = require('fs').readFileSync('array.json', 'utf8');
const ws = new WebSocket(process.argv[2]);
let pings = 0;
ws.on('ping', () => console.log('ping ' + ++pings));
ws.on('message', (data) => console.log('message ' + data));
ws.on('unexpected-response', (_, response) => console.log('refused ' + response.statusCode));
ws.on('close', (code) => console.log('closed ' + code));
ws.on('error', () => {});
ws.on('open', () => { ws.send(array); console.log('sent'); });
"#;

fn node(modules: &std::path::Path, address: &str) -> (NodeScript, Script) {
    let script = NodeScript::new(modules, NODE, &[("array.json", ARRAY)]);
    let running = Script::start(script.command().arg(address));
    (script, running)
}

#[test]
fn npm_ws_sends_as_the_cloud_does() {
    let Some(modules) = node_modules() else { return };
    let gateway = gateway(&["heartbeat.ping_ms=100"]);
    let key = gateway.key("operator");
    let address = format!("ws://{}/ingest/thingsee/cloud", gateway.address);
    let (_kept, cloud) = node(&modules, &format!("{address}?token=wrong"));
    assert_eq!(cloud.line(), "refused 401");
    let (_kept, cloud) = node(&modules, &format!("{address}?token={TOKEN}"));
    assert_eq!(cloud.line(), "sent");
    wait_for("the array", || {
        let (status, _) = gateway.get(&format!("/v1/devices/{DEVICE}/state"), Some(&key));
        (status == 200 && history(&gateway, DEVICE, &key).len() == 3).then_some(())
    });
    // It answers pings, so it stays, and it is sent nothing else.
    for number in 1..=5 {
        assert_eq!(cloud.line(), format!("ping {number}"));
    }
}

const PYTHON: &str = r#"
import asyncio, json, sys, websockets

async def main(address, token):
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(address, additional_headers=headers) as ws:
        for n in range(20):
            await ws.send(json.dumps([{"tsmId": 12100, "tsmEv": 10, "temp": n, "tsmTs": 1520416221 + n, "tsmTuid": "python"}]))
        await (await ws.ping())
        print("sent", flush=True)

asyncio.run(main(*sys.argv[1:]))
"#;

#[test]
fn python_websockets_sends_as_the_cloud_does() {
    let Some(python) = python() else { return };
    let gateway = gateway(&[]);
    let key = gateway.key("operator");
    let address = format!("ws://{}/ingest/thingsee/cloud", gateway.address);
    let cloud = Script::start(Command::new(python).args(["-c", PYTHON, &address, TOKEN]));
    assert_eq!(cloud.line(), "sent");
    let temps = wait_for("all of it", || {
        let (status, _) = gateway.get("/v1/devices/python/state", Some(&key));
        let all = if status == 200 { history(&gateway, "python", &key) } else { Vec::new() };
        (all.len() == 20).then_some(all)
    });
    let temps: Vec<_> =
        temps.iter().map(|item| item["payload"]["temp"].as_u64().unwrap()).collect();
    assert_eq!(temps, (0..20).collect::<Vec<_>>());
}
