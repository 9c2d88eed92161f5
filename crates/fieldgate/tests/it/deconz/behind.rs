//! Clients of the push socket that do not keep up: what they did not read they hear when they come again.

use serde_json::{Value, json};

use super::{Bridge, tell};
use crate::support::{Seen, Wire, wait_for};

/// Kinds of sensors, and how many of each.
const KINDS: [&str; 4] = ["temperature", "humidity", "pressure", "co2"];
const OF_EACH: usize = 15;

/// What all sensors of the device say.
fn all(value: u64) -> Value {
    let names = KINDS.iter().flat_map(|kind| (1..=OF_EACH).map(move |n| format!("{kind}.{n}")));
    names.map(|name| (name, json!(value))).collect::<serde_json::Map<_, _>>().into()
}

fn answer_a_ping(client: &mut Wire) {
    client.raw(&[0x8A, 0x80, 0, 0, 0, 0]).unwrap();
}

#[test]
fn who_does_not_read_is_cut_off_and_comes_back_to_what_it_missed() {
    let bridge = Bridge::start(&[
        "limits.outbox_bytes_max=65536",
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let admin = bridge.gateway.key("admin");
    let token = bridge.gateway.device("sensor-1");
    let mut device = bridge.gateway.as_device("sensor-1", &token);
    tell(&mut device, &all(1));
    bridge.listed("sensors", KINDS.len() * OF_EACH);
    let mut slow = Wire::open_narrow(&bridge.address(), "/").unwrap();
    let closed = "fieldgate_closed_total{reason=\"slow_receiver\"} 1";
    let mut value = 1;
    wait_for("it to be cut off", || {
        value = value % 90 + 1;
        tell(&mut device, &all(value));
        bridge.gateway.get("/metrics", Some(&admin)).1.contains(closed).then_some(())
    });
    tell(&mut device, &all(99));
    let ended = loop {
        match slow.see() {
            Seen::Frame(frame) => assert_ne!(frame["state"]["temperature"], 9_900),
            other => break other,
        }
    };
    assert!(matches!(ended, Seen::Close(Some(1_008)) | Seen::End), "{ended:?}");
    let mut again = bridge.listen();
    let mut told = std::collections::BTreeMap::new();
    while told.len() < KINDS.len() * OF_EACH {
        let mut frame = again.next();
        if frame["state"].is_object() {
            let id = frame["id"].as_str().unwrap().to_owned();
            assert_eq!(told.insert(id, frame["state"].take()), None, "once, and what is");
        }
    }
    let is = |state: &Value| {
        let of = |name: &str| state[name].as_u64();
        of("temperature").or(of("humidity")).or(of("airquality_co2_density"))
    };
    let expected = |value: Option<u64>| matches!(value, Some(9_900 | 99) | None);
    assert!(told.values().all(|state| expected(is(state))), "{told:?}");
    // And what changes from then on.
    tell(&mut device, &json!({"temperature.1": 98}));
    while again.next()["state"]["temperature"] != 9_800 {}
}

#[test]
fn what_came_behind_an_unanswered_ping_is_told_again() {
    // Of whoever never asked for anything it is known by pongs alone what it has read.
    let settings =
        ["deconz.push_allow=127.0.0.9", "heartbeat.ping_ms=300", "heartbeat.silence_ms=60000"];
    let bridge = Bridge::start(&settings);
    let listen = || Wire::open_from([127, 0, 0, 9].into(), &bridge.address(), "/", &[]).unwrap();
    let token = bridge.gateway.device("sensor-1");
    let mut device = bridge.gateway.as_device("sensor-1", &token);
    let mut client = listen();
    let state = |client: &mut Wire| client.next()["state"].take();
    tell(&mut device, &json!({"temperature": 20, "humidity": 30}));
    while state(&mut client)["humidity"] != 3_000 {}
    client.pings(1);
    tell(&mut device, &json!({"temperature": 21}));
    assert_eq!(state(&mut client)["temperature"], 2_100);
    client.pings(1);
    tell(&mut device, &json!({"humidity": 31}));
    assert_eq!(state(&mut client)["humidity"], 3_100);
    client.pings(1);
    // It answers two of the three: it has read the temperature, and nothing says that it has read the
    // humidity, too.
    answer_a_ping(&mut client);
    answer_a_ping(&mut client);
    client.pings(1);
    drop(client);
    assert_eq!(state(&mut listen())["humidity"], 3_100);
}
