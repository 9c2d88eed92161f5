//! Each JavaScript sample of the lesson (seed 004) against the gateway, byte for byte from `data/`.
//!
//! Filled in are its placeholders alone: addresses, tokens, the functions that it calls and does
//! not define. Its timers run faster by a factor that the test names. Two samples have a slip of
//! their own, which their tests show and mend. Not run here:
//!
//! - `IoTConnectionPool`, `ConnectionManager` and the server's half of the authentication are what
//!   the gateway itself does; what they say on the wire is in
//!   `the_gateway_says_what_the_lessons_server_says`.
//! - The gateway from MQTT to WebSocket and the browser client behind it are served with MQTT.
//! - The configuration of nginx is no client.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Gateway, NodeScript, Script, Wire, node_modules};

const PROTO: &str = include_str!("../../../fieldgate-dialects/tests/data/seed-004/iot_data.proto");

/// A sample with its placeholders filled; every one of them must be in it.
fn filled(sample: &str, placeholders: &[(&str, &str)]) -> String {
    placeholders.iter().fold(sample.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in the sample");
        text.replace(from, to)
    })
}

/// JavaScript in front of a sample: its timers run `factor` times faster.
fn faster(factor: u32) -> String {
    ["setTimeout", "setInterval"].map(|name| {
        format!("{{ const real = {name}; globalThis.{name} = (f, ms) => real(f, ms / {factor}); }}\n")
    })
    .concat()
}

/// JavaScript around a sample that expects an authenticated `ws`.
fn authenticated(address: &str, token: &str, sample: &str) -> String {
    format!(
        "const WebSocket = require('ws');
const ws = new WebSocket('ws://{address}');
ws.on('open', () => ws.send(JSON.stringify({{ type: 'auth', deviceId: 'sensor-001', token: '{token}' }})));
ws.once('message', () => {{
{sample}
}});
"
    )
}

fn run(modules: &Path, text: &str) -> (NodeScript, Script) {
    let script = NodeScript::new(modules, text, &[("iot_data.proto", PROTO)]);
    let running = script.start();
    (script, running)
}

/// A gateway, the token of its `sensor-001`, and an app that follows all devices.
fn world() -> (Gateway, String, Wire) {
    let gateway = Gateway::start();
    let token = gateway.device("sensor-001");
    let mut app = gateway.as_app(&gateway.key("operator"));
    app.send(&json!({"type": "subscribe", "topic": "devices/#", "qos": 1}));
    app.next_of("subscribed");
    (gateway, token, app)
}

#[test]
fn the_lessons_device_reports_and_is_controlled() {
    let Some(modules) = node_modules() else { return };
    let (gateway, token, mut app) = world();
    let address = format!("ws://{}", gateway.address);
    let sample = filled(
        include_str!("data/seed-004/device.js"),
        &[("ws://iot-gateway.example.com:8080", &address), ("device-secret-token", &token)],
    );
    let placeholder = "function readSensorData() { return { temperature: 21.5 }; }\n";
    let (_kept, device) = run(&modules, &[&faster(5), placeholder, &sample].concat());
    let status = app.next_of("mqtt");
    assert_eq!(status["topic"], "devices/sensor-001/telemetry");
    assert_eq!(status["payload"], json!({"temperature": 21.5}));
    app.send(&json!({"type": "command", "to": "sensor-001", "msgid": "c", "payload": {"x": 1}}));
    assert_eq!(app.next_of("command_state")["state"], "sent");
    assert!(device.line().starts_with("Received control command:"));
}

#[test]
fn the_lessons_send_with_ack_resolves_once_the_message_is_stored() {
    let Some(modules) = node_modules() else { return };
    let (gateway, token, mut app) = world();
    let sample = include_str!("data/seed-004/send_with_ack.js");
    // The slip: `ws` hands over a Buffer, and the sample reads `msgid` of it as if it were parsed.
    let mended = filled(
        sample,
        &[
            ("(response) => {", "(response) => { response = JSON.parse(response);"),
            ("sendWithAck", "mended"),
        ],
    );
    let calls = "
const { randomUUID: generateUUID } = require('crypto');
const message = (t) => ({ type: 'status', deviceId: 'sensor-001', timestamp: Date.now(), data: { t } });
const told = (name) => [(r) => console.log(name, r.type, r.seq), (e) => console.log(name, e.message)];
mended(ws, message(1)).then(...told('mended'))
  .then(() => mended(ws, { type: 'nonsense' })).then(...told('refused'))
  .then(() => sendWithAck(ws, message(2))).then(...told('verbatim'));
";
    let text = authenticated(&gateway.address, &token, &[sample, &mended, calls].concat());
    let (_kept, device) = run(&modules, &[&faster(5), text.as_str()].concat());
    let stored = app.next_of("mqtt");
    assert_eq!((&stored["payload"], &stored["qos"]), (&json!({"t": 1}), &json!(1)));
    assert_eq!(device.line(), format!("mended ack {}", stored["seq"]));
    // An error never carries the sender's `msgid`, so a refusal is no success.
    assert_eq!(device.line(), "refused ACK timeout");
    assert_eq!(device.line(), "verbatim ACK timeout");
    assert_eq!(app.next_of("mqtt")["payload"], json!({"t": 2}), "stored all the same");
}

#[test]
fn the_lessons_protobuf_sample_sends_telemetry() {
    let Some(modules) = node_modules() else { return };
    let (gateway, token, mut app) = world();
    let sample = include_str!("data/seed-004/protobuf.js");
    // The slip: without `keepCase` protobufjs knows `deviceId` and `sensorId` alone, and the
    // sample's `device_id` and `sensor_id` are left out of what it encodes.
    let mended = filled(
        sample,
        &[(
            "protobuf.loadSync('iot_data.proto')",
            "new protobuf.Root().loadSync('iot_data.proto', { keepCase: true })",
        )],
    );
    let text = authenticated(&gateway.address, &token, &mended);
    let (_kept, _device) = run(&modules, &text);
    let message = app.next_of("mqtt");
    assert_eq!(message["topic"], "devices/sensor-001/telemetry");
    let expected = json!([
        {"tag": "temp", "value": 23.5, "unit": "C"},
        {"tag": "humid", "value": 45.2, "unit": "%"},
    ]);
    assert_eq!(message["payload"]["values"], expected);
    let answers = "ws.on('message', (data) => console.log(String(data)));\n";
    let text = authenticated(&gateway.address, &token, &[answers, sample].concat());
    let (_kept, verbatim) = run(&modules, &text);
    let error: Value = serde_json::from_str(&verbatim.line()).unwrap();
    assert_eq!(error["type"], "error");
    assert!(error.to_string().contains("keepCase"), "{error}");
}

#[test]
fn the_lessons_edge_gateway_sends_what_it_buffered() {
    let Some(modules) = node_modules() else { return };
    let gateway = Gateway::start();
    let added = gateway.admin(&["device", "add", "edge-1", "--gateway-for", "#"]);
    for id in ["plc-1", "plc-2"] {
        gateway.device(id);
    }
    let mut app = gateway.as_app(&gateway.key("operator"));
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1}));
    app.next_of("subscribed");
    let address = format!("ws://{}/?token={}", gateway.address, added["token"].as_str().unwrap());
    let sample = filled(
        include_str!("data/seed-004/edge_gateway.js"),
        &[("ws://cloud.example.com:8080", &address)],
    );
    let placeholders = "
class Edge extends EdgeGateway {
  shouldProcessLocally(data) { return data.local === true; }
  processLocally(deviceId, data) { console.log('local', deviceId, JSON.stringify(data)); }
  async sendToCloud(batch) { this.cloudConnection.send(JSON.stringify({ type: 'batch', data: batch })); }
  handleCloudMessage(message) { console.log('cloud', JSON.parse(message).type); }
}
const { EventEmitter } = require('events');
const edge = new Edge();
const devices = ['plc-1', 'plc-2'].map((id) => Object.assign(new EventEmitter(), { id }));
devices.forEach((device) => edge.addDevice(device));
devices[0].emit('data', { n: 0 });
devices[1].emit('data', { local: true });
devices[1].emit('data', { n: 1 });
edge.start();
edge.cloudConnection.on('open', () => {
  for (let n = 2; n < 102; n += 1) devices[n % 2].emit('data', { n });
});
";
    let text = format!("const WebSocket = require('ws');\n{sample}{placeholders}");
    let (_kept, edge) = run(&modules, &text);
    assert_eq!(edge.line(), r#"local plc-2 {"local":true}"#);
    assert_eq!(edge.line_of("cloud"), "cloud auth_response");
    for n in 0..102 {
        let message = app.next_of("mqtt");
        assert_eq!(message["payload"], json!({"n": n}));
        assert_eq!(message["topic"], format!("devices/plc-{}/telemetry", n % 2 + 1));
    }
}

#[test]
fn the_lessons_batcher_reports_in_batches() {
    let Some(modules) = node_modules() else { return };
    let (gateway, token, mut app) = world();
    let sample = include_str!("data/seed-004/batcher.js");
    let placeholder = "let n = 0; function readSensors() { return { n: n++ }; }\n";
    let text = authenticated(&gateway.address, &token, &[placeholder, sample].concat());
    let (_kept, _device) = run(&modules, &[&faster(20), text.as_str()].concat());
    for n in 0..12 {
        assert_eq!(app.next_of("mqtt")["payload"], json!({"n": n}));
    }
}

#[test]
fn the_lessons_heartbeat_keeps_a_connection_that_nothing_else_keeps() {
    let Some(modules) = node_modules() else { return };
    // Every time is a 25th of the lesson's: pings each second, silence after 3.6 s.
    let gateway = Gateway::with(&["heartbeat.ping_ms=1200", "heartbeat.silence_ms=3600"]);
    let token = gateway.device("sensor-001");
    let sample = include_str!("data/seed-004/heartbeat.js");
    // Our pings are left unanswered, so that only the sample's own count.
    let open = format!(
        "const WebSocket = require('ws');
const ws = new WebSocket('ws://{}', {{ autoPong: false }});
ws.on('open', () => ws.send(JSON.stringify({{ type: 'auth', deviceId: 'sensor-001', token: '{token}' }})));
ws.on('close', (code, reason) => console.log('closed', code, String(reason)));
const deviceId = 'sensor-001';
const connectionManager = {{ updateActivity(id) {{ console.log('alive', id); }} }};
",
        gateway.address
    );
    let (_kept, silent) = run(&modules, &open);
    assert_eq!(silent.line(), "closed 4001 Heartbeat timeout");
    let (_kept, device) = run(&modules, &[&faster(25), open.as_str(), sample].concat());
    for _ in 0..5 {
        assert_eq!(device.line(), "alive sensor-001");
    }
}

#[test]
fn the_gateway_says_what_the_lessons_server_says() {
    let Some(modules) = node_modules() else { return };
    let gateway = Gateway::start();
    let token = gateway.device("sensor-001");
    let said = |first: &str| {
        let text = format!(
            "const WebSocket = require('ws');
const ws = new WebSocket('ws://{}');
ws.on('open', () => ws.send({first}));
ws.on('message', (data) => {{
  const frame = JSON.parse(data);
  console.log(frame.type, frame.status, typeof frame.timestamp);
}});
ws.on('close', (code, reason) => console.log(code, String(reason)));
",
            gateway.address
        );
        let (_kept, script) = run(&modules, &text);
        (script.line(), script)
    };
    let auth = |token: &str| {
        format!("JSON.stringify({{ type: 'auth', deviceId: 'sensor-001', token: '{token}' }})")
    };
    assert_eq!(said(&auth(&token)).0, "auth_response success number");
    let (first, script) = said(&auth("a-wrong-token-of-some-length"));
    assert_eq!(first, "auth_response error number");
    assert_eq!(script.line(), "4403 Authentication failed");
    assert_eq!(said("'{'").0, "4400 Protocol error");
}
