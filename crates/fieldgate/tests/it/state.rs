//! What devices report: routed as it came, merged, and there after every end.

use fieldgate_core::{
    id::{DeviceId, TenantId},
    state::{Quality, Reported},
};
use fieldgate_store::{Store, StoreOptions};
use serde_json::{Value, json};

use crate::support::{Gateway, Wire, wait_for};

/// `IoTData` of the lesson: temp 23.5 C and humid 45.2 %, at 1634567890123.
const IOT_DATA: &[u8] = &[
    0x0a, 0x0a, b's', b'e', b'n', b's', b'o', b'r', b'-', b'0', b'0', b'1', 0x10, 0xcb, 0xc9, 0xda,
    0x9e, 0xc9, 0x2f, 0x1a, 0x0e, 0x0a, 0x04, b't', b'e', b'm', b'p', 0x15, 0x00, 0x00, 0xbc, 0x41,
    0x1a, 0x01, 0x43, 0x1a, 0x0f, 0x0a, 0x05, b'h', b'u', b'm', b'i', b'd', 0x15, 0xcd, 0xcc, 0x34,
    0x42, 0x1a, 0x01, 0x25,
];

fn acknowledged(wire: &mut Wire, msgid: &str, mut frame: Value) {
    frame["msgid"] = msgid.into();
    wire.send(&frame);
    let answer = wire.next();
    assert_eq!(answer["type"], "ack", "{answer}");
}

/// What the data folder of a gateway that ended says of a device.
fn state_of(gateway: &Gateway, device: &str) -> Option<std::sync::Arc<Reported>> {
    let mut options = StoreOptions::default();
    options.log.free_bytes_min = 0;
    let store = Store::open(&gateway.data(), options).unwrap();
    let device: DeviceId = device.parse().unwrap();
    store.state.reported(&TenantId::default_tenant(), &device)
}

fn told(reported: &Reported) -> Vec<String> {
    let one = |(name, r): (&str, &fieldgate_core::state::Resource)| {
        let unit = r.unit.as_deref().unwrap_or_default();
        let mark = if r.quality == Quality::Good { "" } else { r.quality.as_str() };
        format!("{name}={}{unit}{mark}", r.value.as_deref().unwrap_or("-"))
    };
    reported.present().map(one).collect()
}

#[test]
fn what_a_device_reports_reaches_its_followers_byte_for_byte() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("lamp-1"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/state/reported", "qos": 1}));
    app.next_of("subscribed");
    let mut lamp = gateway.as_device("lamp-1", &token);
    lamp.send_text(
        r#"{"type":"state","msgid":"s1","reported":{"on":true,"level": 0.50,"hue":null}}"#,
    );
    assert_eq!(lamp.next()["type"], "ack");
    let frame = app.next_of("mqtt");
    assert_eq!(frame["topic"], "devices/lamp-1/state/reported");
    assert_eq!((&frame["from"], &frame["ref"]), (&json!("lamp-1"), &json!("s1")));
    assert_eq!(frame["payload"], json!({"on": true, "level": 0.5, "hue": null}));
}

#[test]
fn what_was_acknowledged_is_in_the_next_answer() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("lamp"), gateway.key("operator"));
    let mut lamp = gateway.as_device("lamp", &token);
    let thing = gateway.admin(&["device", "credential", "add", "lamp", "--type", "thing"]);
    let thing = format!("/v2/things/{}/resources/n", thing["token"].as_str().unwrap());
    for n in 0..100 {
        lamp.send(&json!({"type": "status", "msgid": format!("m{n}"), "data": {"n": n}}));
        assert_eq!(lamp.next()["type"], "ack");
        let ways = [("/v1/devices/lamp/state", Some(&*key)), (&thing, None)];
        let (path, key) = ways[n % ways.len()];
        let (status, told) = gateway.get(path, key);
        let is_told = [format!("\"n\":{n}"), format!("\"value\":{n},")];
        assert!(status == 200 && is_told.iter().any(|part| told.contains(part)), "{n}: {told}");
    }
    for n in 100..120 {
        lamp.send(&json!({"type": "status", "msgid": format!("m{n}"), "data": {"n": n}}));
        assert_eq!(lamp.next()["type"], "ack");
        let mut app = gateway.as_app(&key);
        app.send(&json!({"type": "subscribe", "topic": "devices/lamp/state"}));
        assert_eq!(app.next_of("mqtt")["payload"]["reported"]["n"], n);
    }
}

#[test]
fn a_device_reports_for_itself_and_for_those_it_is_a_gateway_for() {
    let gateway = Gateway::start();
    let token = gateway.device("hub");
    let filter = ["device", "add", "floor", "--gateway-for", "+"];
    let floor = gateway.admin(&filter)["token"].as_str().unwrap().to_owned();
    let frame = json!({"type": "state", "msgid": "a", "deviceId": "x", "reported": {"on": true}});
    let mut hub = gateway.as_device("hub", &token);
    hub.send(&frame);
    let refusal = hub.next();
    assert_eq!((&refusal["code"], &refusal["ref"]), (&json!("not_allowed"), &json!("a")));
    let mut app = gateway.as_app(&gateway.key("operator"));
    app.send(&frame);
    assert_eq!(app.next_of("error")["code"], "not_allowed");
    let mut floor = gateway.as_device("floor", &floor);
    floor.send(&frame);
    assert_eq!(floor.next()["type"], "ack");
}

#[test]
fn resources_that_do_not_stand_are_named_and_the_others_reported() {
    let mut gateway = Gateway::start();
    let token = gateway.device("d");
    let mut device = gateway.as_device("d", &token);
    device.send_text(r#"{"type":"state","msgid":"a","reported":{"on":true,"far":1e400}}"#);
    let ack = device.next();
    assert_eq!((&ack["type"], &ack["accepted"]), (&json!("ack"), &json!(1)));
    assert_eq!(ack["refused"][0]["resource"], "far");
    gateway.kill();
    assert_eq!(told(&state_of(&gateway, "d").unwrap()), ["on=true"]);
}

#[test]
fn the_state_is_there_after_a_kill_from_the_tables_and_from_the_log_alone() {
    let mut gateway = Gateway::start();
    let token = gateway.device("sensor-001");
    let mut device = gateway.as_device("sensor-001", &token);
    let time = 1_634_567_890_123_u64;
    device.send_binary(IOT_DATA);
    let frames = [
        json!({"type": "status", "timestamp": time + 5, "data": {"temp": 24.0, "oil": {"a": 1}}}),
        // Late: it is older than what is known.
        json!({"type": "status", "timestamp": time + 1, "data": {"temp": 1, "wind": 7}}),
        json!({"timestamp": time, "values": [{"tag": "p", "value": 101.3, "unit": "kPa"}]}),
        json!({"timestamp": time + 1, "values": [{"tag": "p", "value": 0}], "quality": "bad"}),
        json!({"type": "batch", "data": [{"data": {"n": 1}}, {"data": {"n": 2, "gone": 1}}]}),
        json!({"type": "state", "reported": {"oil": {"b": {"c": null}}, "gone": null}}),
        json!({"type": "event", "event": "button", "data": {"button": 1002}}),
        // The clock is far ahead: the arrival counts, and nobody is sure.
        json!({"type": "status", "timestamp": 4_070_908_800_000_u64, "data": {"lux": 3}}),
    ];
    for (n, frame) in frames.into_iter().enumerate() {
        acknowledged(&mut device, &format!("m{n}"), frame);
    }
    wait_for("an export", || std::fs::read_dir(gateway.data().join("exports")).ok()?.next()?.ok());
    let expected = [
        "humid=45.2%",
        "lux=3uncertain",
        "n=2",
        r#"oil={"a":1,"b":{}}"#,
        "p=101.3kPabad",
        "temp=24.0",
        "wind=7",
    ];
    for folder in ["", "tables", "exports"] {
        if folder.is_empty() {
            gateway.kill();
        } else {
            // `tables` alone is rebuilt from the export and the log; then both from the log.
            std::fs::remove_dir_all(gateway.data().join("tables")).unwrap();
        }
        if folder == "exports" {
            std::fs::remove_dir_all(gateway.data().join(folder)).unwrap();
        }
        let reported = state_of(&gateway, "sensor-001").unwrap();
        assert_eq!(told(&reported), expected, "without {folder:?}");
    }
    // And the gateway goes on from there.
    gateway.up();
    let mut device = gateway.as_device("sensor-001", &token);
    acknowledged(&mut device, "last", json!({"type": "state", "reported": {"oil": {"a": null}}}));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    let reported = state_of(&gateway, "sensor-001").unwrap();
    assert_eq!(reported.resource("oil").unwrap().value.as_deref(), Some(r#"{"b":{}}"#));
}

#[test]
fn readings_above_the_bound_are_delivered_and_written_down_as_not_in_the_state() {
    let mut gateway = Gateway::with(&["limits.resources_per_device_max=3"]);
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut device = gateway.as_device("d", &token);
    acknowledged(&mut device, "1", json!({"type": "status", "data": {"a": 1, "b": 1, "c": 1}}));
    acknowledged(&mut device, "2", json!({"type": "status", "data": {"d": 1, "a": 2}}));
    let counted = wait_for("the drop", || {
        let (_, body) = gateway.get("/v1/drops?reason=state_full", Some(&key));
        let body: Value = serde_json::from_str(&body).unwrap();
        body["items"].get(0).cloned()
    });
    assert_eq!((&counted["who"], &counted["count"]), (&json!("d"), &json!(1)));
    gateway.kill();
    // The bound is the gateway's; here it is another, and the log behind the tables is read again.
    let told = told(&state_of(&gateway, "d").unwrap());
    assert!(told.contains(&"a=2".to_owned()), "{told:?}");
}

#[test]
fn a_command_on_a_folder_without_a_gateway_keeps_what_the_bounds_of_its_gateway_let_in() {
    let mut gateway = Gateway::with(&["limits.resources_per_device_max=2000"]);
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut device = gateway.as_device("d", &token);
    let reported: serde_json::Map<_, _> = (0..1_200).map(|n| (format!("r{n}"), json!(n))).collect();
    acknowledged(&mut device, "1", json!({"type": "state", "reported": reported}));
    gateway.kill();
    // Everything is in the log alone, and is merged anew by whoever opens the folder next.
    for name in ["tables", "exports"] {
        let removed = std::fs::remove_dir_all(gateway.data().join(name));
        assert!(removed.is_ok() || name == "exports", "{removed:?}");
    }
    assert_eq!(gateway.admin(&["device", "list"])["id"], "d");
    gateway.up();
    let (status, body) = gateway.get("/v1/devices/d/state", Some(&key));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, body["reported"].as_object().map(|r| r.len())), (200, Some(1_200)));
}
