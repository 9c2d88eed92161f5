//! Lanes behind a full socket: who overtakes, how much, and that nothing comes twice or not at all.

use serde_json::{Value, json};

use crate::support::{Gateway, Wire};

const TEXT_LEN: usize = 4_000;
/// More than the sockets between two processes hold.
const LOAD_COUNT: u64 = 4_000;

fn gateway(outbox_bytes_max: usize) -> Gateway {
    Gateway::with(&[
        &format!("limits.outbox_bytes_max={outbox_bytes_max}"),
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
        // Who does not read does not answer pings.
        "heartbeat.silence_ms=600000",
    ])
}

/// A receiver of everything that does not read yet.
fn stalled(gateway: &Gateway, key: &str, qos: u64, mode: Option<&str>) -> Wire {
    let mut wire = gateway.as_app(key);
    for topic in ["devices/+/telemetry", "devices/+/events"] {
        let mut ask = json!({"type": "subscribe", "topic": topic, "qos": qos});
        if let Some(mode) = mode {
            ask["mode"] = json!(mode);
        }
        wire.send(&ask);
        assert_eq!(wire.next()["type"], "subscribed");
    }
    wire
}

fn device(gateway: &Gateway) -> Wire {
    let token = gateway.device("d");
    gateway.as_device("d", &token)
}

/// Sends so many values of a priority.
fn load(device: &mut Wire, name: &str, count: u64, priority: &str) {
    let text = "x".repeat(TEXT_LEN);
    for n in 1..=count {
        let data = json!({"name": name, "n": n, "text": text});
        device.send(&json!({"type": "status", "qos": 1, "priority": priority, "data": data}));
    }
}

/// Rings, without waiting for anything: what waits must not have time to become less.
fn alarms(device: &mut Wire, count: u64, text_len: usize) {
    let text = "x".repeat(text_len);
    for n in 1..=count {
        let data = json!({"n": n, "text": text});
        device.send(&json!({
            "type": "event", "event": "alarm", "qos": 1, "priority": "critical", "data": data
        }));
    }
}

/// Waits until everything that the device sent waits for its receivers: routed, which the second
/// acknowledgement of something retained tells of all before the first, and taken by the workers,
/// which deliver before they answer.
fn delivered(device: &mut Wire, gateway: &Gateway, key: &str) {
    for msgid in ["end-1", "end-2"] {
        device.send(&json!({"type": "event", "event": "end", "msgid": msgid, "retain": true}));
        device.next_of("ack");
    }
    assert_eq!(gateway.get("/v1/clients", Some(key)).0, 200);
}

/// Reads until a payload has this name and number; everything that came.
fn until(wire: &mut Wire, name: &str, n: u64) -> Vec<Value> {
    let mut frames = Vec::new();
    loop {
        let mut frame = wire.next();
        for text in ["/payload/text", "/payload/data/text"] {
            frame.pointer_mut(text).map(Value::take);
        }
        frames.push(frame);
        let payload = &frames.last().unwrap()["payload"];
        if payload["name"] == name && payload["n"] == n {
            return frames;
        }
    }
}

fn seq(frame: &Value) -> u64 {
    frame["seq"].as_u64().unwrap()
}

/// Frames that did not go ahead rise in number.
fn assert_in_order(frames: &[Value]) {
    let in_turn: Vec<u64> = frames.iter().filter(|f| f["ahead"] != true).map(seq).collect();
    assert!(in_turn.is_sorted_by(|a, b| a < b), "a frame came out of its turn");
}

#[test]
fn an_alarm_overtakes_what_is_read_from_the_log_and_comes_once() {
    let gateway = gateway(65_536);
    let key = gateway.key("admin");
    let mut slow = stalled(&gateway, &key, 1, None);
    let mut device = device(&gateway);
    load(&mut device, "load", LOAD_COUNT, "normal");
    alarms(&mut device, 1, 10);
    load(&mut device, "rest", 10, "normal");
    delivered(&mut device, &gateway, &key);
    let frames = until(&mut slow, "rest", 10);
    let at = frames.iter().position(|frame| frame["ahead"] == true).expect("it went ahead");
    assert_eq!(frames[at]["payload"]["event"], "alarm");
    let overtaken = frames[at..].iter().filter(|frame| seq(frame) < seq(&frames[at])).count();
    assert!(overtaken > 1_000, "{overtaken} overtaken");
    assert_in_order(&frames);
    // Each once: the alarm is not repeated in its turn.
    assert_eq!(u64::try_from(frames.len()).unwrap(), LOAD_COUNT + 1 + 10);
}

#[test]
fn an_alarm_overtakes_a_backlog_that_drops_the_oldest() {
    let gateway = gateway(1 << 20);
    let key = gateway.key("admin");
    let mut slow = stalled(&gateway, &key, 0, Some("drop-oldest"));
    let mut device = device(&gateway);
    load(&mut device, "load", LOAD_COUNT, "normal");
    alarms(&mut device, 1, 10);
    load(&mut device, "rest", 1, "normal");
    delivered(&mut device, &gateway, &key);
    let frames = until(&mut slow, "rest", 1);
    let at = frames.iter().position(|frame| frame["ahead"] == true).expect("it went ahead");
    let gap = frames.iter().position(|frame| frame["type"] == "gap").expect("it was slow");
    assert!(at < gap, "the alarm came behind the oldest of the backlog");
    let alarms = frames.iter().filter(|frame| frame["payload"]["event"] == "alarm").count();
    assert_eq!(alarms, 1);
}

#[test]
fn so_many_bytes_go_ahead_of_a_backlog_and_the_rest_comes_in_turn() {
    let gateway = gateway(65_536);
    let key = gateway.key("admin");
    let mut slow = stalled(&gateway, &key, 1, None);
    let mut device = device(&gateway);
    load(&mut device, "load", LOAD_COUNT, "normal");
    alarms(&mut device, 40, TEXT_LEN);
    load(&mut device, "rest", 1, "normal");
    delivered(&mut device, &gateway, &key);
    let frames = until(&mut slow, "rest", 1);
    let (ahead, in_turn): (Vec<&Value>, Vec<&Value>) = frames
        .iter()
        .filter(|f| f["payload"]["event"] == "alarm")
        .partition(|f| f["ahead"] == true);
    assert!(!ahead.is_empty() && ahead.len() * TEXT_LEN <= 64 * 1024, "{} ahead", ahead.len());
    assert_eq!(ahead.len() + in_turn.len(), 40);
    assert_in_order(&frames);
}

#[test]
fn bulk_waits_for_what_is_normal() {
    let gateway = gateway(64 << 20);
    let key = gateway.key("admin");
    let mut slow = stalled(&gateway, &key, 1, None);
    let mut device = device(&gateway);
    load(&mut device, "load", LOAD_COUNT, "normal");
    load(&mut device, "bulk", 100, "bulk");
    load(&mut device, "rest", 3, "normal");
    delivered(&mut device, &gateway, &key);
    let frames = until(&mut slow, "bulk", 100);
    let names: Vec<&Value> = frames.iter().map(|frame| &frame["payload"]["name"]).collect();
    let first_bulk = names.iter().position(|name| **name == "bulk").unwrap();
    let rest = frames.iter().filter(|frame| frame["payload"]["name"] == "rest");
    assert!(rest.clone().all(|frame| frame["ahead"] == true), "it says that it overtook");
    assert_eq!(rest.count(), 3);
    assert!(!names[first_bulk..].iter().any(|name| **name == "rest"));
    assert_in_order(&frames);
}

#[test]
fn lanes_change_nothing_while_the_socket_keeps_up() {
    let gateway = gateway(65_536);
    let key = gateway.key("admin");
    let mut receiver = stalled(&gateway, &key, 1, None);
    let mut device = device(&gateway);
    let priorities = ["bulk", "normal", "critical", "bulk", "critical", "normal"];
    for (n, priority) in (0..).zip(priorities) {
        device.send(&json!({"type": "event", "event": "e", "priority": priority, "data": n}));
    }
    for n in 0..6 {
        let frame = receiver.next_of("mqtt");
        assert_eq!((&frame["payload"]["data"], &frame["ahead"]), (&json!(n), &Value::Null));
    }
}
