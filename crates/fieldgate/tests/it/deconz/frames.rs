//! Frames of the push socket byte for byte, as the vendor's page has a client in JavaScript read them,
//! and the same to all who listen.

use serde_json::{Value, json};

use super::{Bridge, lamp, send};
use crate::support::{NodeScript, Script, Wire, exchange, node_modules, post};

/// The client of the vendor's page, which says what came as it came.
const CLIENT: &str = r"
const WebSocket = require('ws');
const [host, port, count] = process.argv.slice(2);
let open = 0;
for (let nth = 0; nth < Number(count); nth++) {
  const ws = new WebSocket('ws://' + host + ':' + port);
  ws.onopen = () => { open += 1; if (open === Number(count)) console.log('open'); };
  ws.onmessage = function(msg) { console.log(nth + ' ' + msg.data); };
  ws.onerror = error => console.log('error ' + error.message);
}
";

/// Clients of the page; nothing where `ws` is not installed.
fn clients(bridge: &Bridge, count: usize) -> Option<(NodeScript, Script)> {
    let script = NodeScript::new(&node_modules()?, CLIENT, &[]);
    let address = bridge.address();
    let (host, port) = address.rsplit_once(':').unwrap();
    let running = Script::start(script.command().args([host, port, &count.to_string()]));
    assert_eq!(running.line(), "open");
    Some((script, running))
}

/// When everything below was measured, and how frames say that.
const TIME: u64 = 1_634_567_890_123;
const UPDATED: &str = r#""lastupdated":"2021-10-18T14:38:10.123""#;

/// A frame is this text: compact, its members in the order of the page, those of the state by name.
#[track_caller]
fn is_frame(line: &str, expected: &str) {
    assert_eq!(line.split_once(' ').unwrap().1, expected);
}

fn at_time(device: &mut Wire, data: &Value) {
    send(device, json!({"type": "status", "timestamp": TIME, "data": data}));
}

#[test]
fn a_client_of_the_page_reads_each_frame_to_the_byte() {
    let bridge = Bridge::start(&[]);
    let Some((_kept, client)) = clients(&bridge, 1) else { return };
    let sensor = "0a:20:15:96:f3:d2:04:29-01";
    let token = bridge.gateway.device("sensor-001");
    let mut device = bridge.gateway.as_device("sensor-001", &token);
    let skip_added = || assert!(client.line().contains(r#""e":"added""#));
    // Vectors 2, 3 and 7.
    at_time(&mut device, &json!({"temperature": 21.3}));
    skip_added();
    is_frame(
        &client.line(),
        &format!(
            r#"{{"t":"event","e":"changed","r":"sensors","id":"1","state":{{{UPDATED},"temperature":2130}},"uniqueid":"{sensor}-0402"}}"#
        ),
    );
    send(
        &mut device,
        json!({"deviceId": "sensor-001", "timestamp": TIME + 1,
        "values": [{"tag": "temperature", "value": 42.5, "unit": "C"}], "quality": "bad"}),
    );
    is_frame(
        &client.line(),
        &format!(
            r#"{{"t":"event","e":"changed","r":"sensors","id":"1","config":{{"reachable":false}},"uniqueid":"{sensor}-0402"}}"#
        ),
    );
    at_time(&mut device, &json!({"presence": true}));
    skip_added();
    is_frame(
        &client.line(),
        &format!(
            r#"{{"t":"event","e":"changed","r":"sensors","id":"2","state":{{{UPDATED},"presence":true}},"uniqueid":"{sensor}-0406"}}"#
        ),
    );
    // Vector 6.
    let token = bridge.gateway.device("switch-1");
    let mut switch = bridge.gateway.as_device("switch-1", &token);
    send(
        &mut switch,
        json!({"type": "event", "timestamp": TIME, "event": "button", "data": {"button": 2002}}),
    );
    skip_added();
    is_frame(
        &client.line(),
        &format!(
            r#"{{"t":"event","e":"changed","r":"sensors","id":"3","state":{{"buttonevent":2002,{UPDATED}}},"uniqueid":"a6:aa:c2:f5:0a:ae:4e:e5-01-1000"}}"#
        ),
    );
    // Vector 4.
    let mut light = bridge.device("lamp-1", &lamp());
    while !client.line().contains(r#""e":"added""#) {}
    at_time(&mut light, &json!({"on": true, "brightness": 0.5}));
    let unique = bridge.get("/lights/1").1["uniqueid"].as_str().unwrap().to_owned();
    let line = loop {
        let line = client.line();
        if line.contains("lastupdated\":\"2021") {
            break line;
        }
    };
    is_frame(
        &line,
        &format!(
            r#"{{"t":"event","e":"changed","r":"lights","id":"1","state":{{"bri":128,{UPDATED},"on":true}},"uniqueid":"{unique}"}}"#
        ),
    );
}

/// A gateway with a source, for deCONZ apps.
fn with_source() -> Bridge {
    let gateway = crate::thingsee_in::gateway(&["listen.deconz=127.0.0.1:0"]);
    gateway.admin(&["deconz", "unlock"]);
    let mut bridge = Bridge { gateway, key: String::new() };
    let (_, told) = bridge.ask("POST", "/api", r#"{"devicetype":"a test"}"#);
    bridge.key = told[0]["success"]["username"].as_str().unwrap().to_owned();
    bridge.ready();
    bridge
}

#[test]
fn a_key_of_a_thingsee_device_is_a_press_once_for_all() {
    let bridge = with_source();
    let key = bridge.gateway.key("operator");
    let mut app = bridge.gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/+", "qos": 1}));
    app.next_of("subscribed");
    let bearer = format!("Authorization: Bearer {key}");
    let mut arrays = Wire::open(&bridge.gateway.address, "/thingsee", &[&bearer]).unwrap();
    let mut push = bridge.listen();
    let mut cloud = crate::thingsee_in::connect(&bridge.gateway);
    let press = json!({"tsmId": 1100, "tsmEv": 8, "psn": "7", "tsmTs": TIME / 1_000, "tsmTuid": "switch-1"});
    let moved =
        json!({"tsmId": 2100, "tsmEv": 8, "state": 1, "tsmTs": TIME / 1_000, "tsmTuid": "pir-1"});
    cloud.send(&json!([press, {"tsmId": 1}, moved]));
    // It comes again, through a repeat of the sender.
    cloud.send(&json!([press, moved]));
    let later = json!({"tsmId": 2100, "tsmEv": 7, "state": 0, "tsmTs": TIME / 1_000 + 1, "tsmTuid": "pir-1"});
    cloud.send(&json!([later]));
    let heard = [(); 4].map(|()| {
        let frame = app.next_of("mqtt");
        (frame["topic"].as_str().unwrap().to_owned(), frame["payload"].clone())
    });
    let expected = [
        ("switch-1/telemetry", json!({"psn": "7"})),
        ("switch-1/events", json!({"event": "button", "data": {"button": 1_002}})),
        ("pir-1/telemetry", json!({"state.2100": 1})),
        ("pir-1/telemetry", json!({"state.2100": 0})),
    ];
    assert_eq!(heard, expected.map(|(topic, payload)| (format!("devices/{topic}"), payload)));
    // Who reads arrays gets each object as it came, and nothing for the event.
    for object in [&press, &moved, &later] {
        assert_eq!(arrays.next(), json!([object]));
    }
    let mut pressed = || loop {
        let mut frame = push.next();
        if frame["state"]["buttonevent"].is_number() {
            break frame["state"].take();
        }
    };
    assert_eq!(pressed(), json!({"buttonevent": 1_002, "lastupdated": "2021-10-18T14:38:10.000"}));
    // What is refused is told by its place in the array that came, and an event is no element.
    let again =
        json!({"tsmId": 1100, "tsmEv": 8, "tsmTs": TIME / 1_000 + 9, "tsmTuid": "switch-1"});
    let body = json!([again, {"tsmId": 1}, again]).to_string();
    let headers = format!("Authorization: Bearer {}\r\n", crate::thingsee_in::TOKEN);
    let path = "/ingest/thingsee/cloud";
    let answer = exchange(&bridge.gateway.address, "POST", path, &headers, &body);
    let posted: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&posted["accepted"], &posted["refused"][0]["index"]), (&json!(2), &json!(1)));
    // The next that is heard: there was none between.
    assert_eq!(pressed(), json!({"buttonevent": 1_002, "lastupdated": "2021-10-18T14:38:19.000"}));
}

#[test]
fn the_array_of_the_cloud_is_frames_of_every_sensor_in_it() {
    let bridge = with_source();
    let mut push = bridge.listen();
    let mut cloud = crate::thingsee_in::connect(&bridge.gateway);
    cloud.send_text(crate::thingsee_in::ARRAY);
    // Vector 1.
    let mut state = serde_json::Map::new();
    while state.len() < 10 {
        let frame = push.next();
        if frame["e"] == "changed" {
            assert_eq!(frame["r"], "sensors");
            let of = frame["state"].as_object().unwrap().clone();
            assert_eq!(of["lastupdated"], "2018-03-07T09:50:21.000", "{frame}");
            state.extend(of);
        }
    }
    let expected = json!({
        "open": true, "battery": 100, "pressure": 1014, "lightlevel": 7783, "lux": 6, "dark": true,
        "daylight": false, "temperature": 2130, "humidity": 2170,
        "lastupdated": "2018-03-07T09:50:21.000",
    });
    assert_eq!(Value::Object(state), expected);
}

#[test]
fn fifty_clients_get_the_same_frames() {
    const CLIENTS: usize = 50;
    const FRAMES: usize = 40;
    let bridge = Bridge::start(&[]);
    let Some((_kept, running)) = clients(&bridge, CLIENTS) else { return };
    let key = bridge.gateway.key("admin");
    bridge.gateway.device("sensor-1");
    for n in 0..FRAMES {
        let body =
            json!({"topic": "devices/sensor-1/telemetry", "qos": 1, "payload": {"temperature": n}});
        assert_eq!(post(&bridge.gateway.address, "/v1/publish", &key, &body.to_string()).0, 201);
    }
    let mut heard = vec![Vec::new(); CLIENTS];
    // One `added` and each value.
    for _ in 0..CLIENTS * (FRAMES + 1) {
        let line = running.line();
        let (nth, text) = line.split_once(' ').unwrap();
        heard[nth.parse::<usize>().unwrap()].push(text.to_owned());
    }
    for (nth, frames) in heard.iter().enumerate() {
        assert_eq!(frames, &heard[0], "{nth}");
    }
    let value = |text: &String| {
        serde_json::from_str::<Value>(text).unwrap()["state"]["temperature"].as_u64()
    };
    let values: Vec<u64> = heard[0].iter().filter_map(value).collect();
    assert_eq!(values, (0..FRAMES as u64).map(|n| n * 100).collect::<Vec<_>>());
}
