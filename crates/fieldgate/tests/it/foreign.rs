//! Clients that nobody here wrote: npm `ws` and Python `websockets`, through the examples.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{Gateway, NodeScript, Proxy, Script, node_modules, python, wait_for};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// An example in Node: a copy, so that the modules are found beside it.
fn node(name: &str, modules: &Path) -> (NodeScript, Command) {
    let text = std::fs::read_to_string(examples().join("node").join(name)).unwrap();
    let script = NodeScript::new(modules, "", &[(name, &text)]);
    let mut command = Command::new("node");
    command.arg(script.path().join(name));
    (script, command)
}

fn python_example(name: &str, python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(examples().join("python").join(name));
    command
}

/// An example device sends telemetry that an app of ours sees.
fn sends(mut command: Command) {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("sensor-001"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1}));
    app.next_of("subscribed");
    let address = format!("ws://{}/ws", gateway.address);
    let device =
        Script::start(command.args(["sensor-001", &address]).env("FIELDGATE_TOKEN", &token));
    let frame = app.next_of("mqtt");
    assert_eq!(frame["topic"], "devices/sensor-001/telemetry");
    assert_eq!(device.line(), format!("stored as {}, 0 waiting", frame["seq"]));
}

#[test]
fn the_node_device_sends() {
    let Some(modules) = node_modules() else { return };
    let (_kept, command) = node("sensor.mjs", &modules);
    sends(command);
}

#[test]
fn the_python_device_sends() {
    let Some(python) = python() else { return };
    sends(python_example("sensor.py", &python));
}

/// An example device keeps what is refused for now, and sends it again.
fn keeps(mut command: Command) {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("sensor-001"), gateway.key("admin"));
    gateway.kill();
    gateway.set("store.free_bytes_min=\"1000TiB\"");
    gateway.up();
    let proxy = Proxy::to(&gateway.address);
    let address = format!("ws://{}/ws", proxy.address);
    let device =
        Script::start(command.args(["sensor-001", &address]).env("FIELDGATE_TOKEN", &token));
    let refused = |gateway: &Gateway| {
        let (_, metrics) = gateway.get("/metrics", Some(&key));
        let count = metrics.lines().find_map(|l| l.strip_prefix("fieldgate_frames_refused_total "));
        count.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    // One is sent a second, and all of them again every five: more than one a second.
    wait_for("a reading that is sent again", || (refused(&gateway) >= 9).then_some(()));
    gateway.kill();
    gateway.set("store.free_bytes_min=0");
    gateway.up();
    proxy.retarget(&gateway.address);
    let line = device.line();
    let waiting = line.split(", ").nth(1).and_then(|rest| rest.strip_suffix(" waiting"));
    let waiting: u64 = waiting.unwrap().parse().unwrap();
    assert!(waiting >= 3, "{line}: what was refused is gone");
}

#[test]
fn the_node_device_keeps_what_is_refused_for_now() {
    let Some(modules) = node_modules() else { return };
    let (_kept, command) = node("sensor.mjs", &modules);
    keeps(command);
}

#[test]
fn the_python_device_keeps_what_is_refused_for_now() {
    let Some(python) = python() else { return };
    keeps(python_example("sensor.py", &python));
}

/// An example app prints every message once and in order, though the gateway dies under it.
fn resumes(mut command: Command, address: impl Fn(&str) -> String) {
    const ROUND: u64 = 50;
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("sensor-001"), gateway.key("operator"));
    let proxy = Proxy::to(&gateway.address);
    let address = address(&proxy.address);
    let app =
        Script::start(command.args(["devices/+/telemetry", &address]).env("FIELDGATE_TOKEN", &key));
    let mut printed = 0;
    let mut expect = |count: u64| {
        for _ in 0..count {
            let line = app.line();
            let mut words = line.splitn(3, ' ').skip(1);
            assert_eq!(words.next(), Some("devices/sensor-001/telemetry"), "{line}");
            let payload: Value = serde_json::from_str(words.next().unwrap()).unwrap();
            assert_eq!(payload, json!({"n": printed}));
            printed += 1;
        }
    };
    for round in 0..3 {
        let mut device = gateway.as_device("sensor-001", &token);
        for n in round * ROUND..(round + 1) * ROUND {
            device.send(&json!({"type": "status", "msgid": n.to_string(), "data": {"n": n}}));
        }
        (0..ROUND).for_each(|_| drop(device.next_of("ack")));
        // The kill comes while part of the round may still be on its way.
        expect(ROUND / 2);
        if round < 2 {
            gateway.kill();
            gateway.up();
            proxy.retarget(&gateway.address);
        }
        expect(ROUND / 2);
    }
}

#[test]
fn the_node_app_resumes_where_it_was() {
    let Some(modules) = node_modules() else { return };
    let (_kept, command) = node("app.mjs", &modules);
    resumes(command, |host| format!("ws://{host}/ws"));
}

#[test]
fn the_python_app_resumes_where_it_was() {
    let Some(python) = python() else { return };
    resumes(python_example("app.py", &python), |host| format!("ws://{host}/ws"));
}

#[test]
fn the_python_backend_resumes_where_it_was() {
    let Some(python) = python() else { return };
    resumes(python_example("backend.py", &python), |host| format!("http://{host}"));
}

#[test]
fn the_node_backend_reads_commands_and_reads_what_was() {
    let gateway = Gateway::start();
    let lamp = gateway.admin(&["device", "add", "lamp-1", "--kind", "light"]);
    let mut device = gateway.as_device("lamp-1", lamp["token"].as_str().unwrap());
    for n in 0..1_200 {
        device.send(&json!({"type": "status", "msgid": n.to_string(), "data": {"on": false}}));
    }
    (0..1_200).for_each(|_| drop(device.next_of("ack")));
    let path = examples().join("node/backend.mjs");
    let url = format!("http://{}", gateway.address);
    let mut command = Command::new("node");
    command.arg(path).args(["lamp-1", r#"{"set":{"on":true}}"#, &url]);
    let backend = Script::start(command.env("FIELDGATE_TOKEN", gateway.key("operator")));
    assert_eq!(backend.line(), r#"is in {"on":false}"#);
    let control = device.next_of("control");
    assert_eq!(control["payload"], json!({"set": {"on": true}}));
    device.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "ok"}));
    let told = backend.line();
    let told: Value = serde_json::from_str(told.strip_prefix("command ").unwrap()).unwrap();
    assert_eq!(told["devices"][0]["state"], "completed");
    assert_eq!(backend.line(), "history 1200");
}

/// A self-signed gateway with a device, and the path of its certificate.
/// Python takes its time to begin where everything runs at once: a handshake may, too.
fn secure() -> (Gateway, String, String) {
    let gateway = Gateway::with(&["--self-signed", "limits.handshake_ms=20000"]);
    let token = gateway.device("sensor-001");
    let certificate = gateway.data().join("certs/self-signed.crt").display().to_string();
    (gateway, token, certificate)
}

#[test]
fn node_speaks_tls_to_whom_it_trusts_alone() {
    let Some(modules) = node_modules() else { return };
    let (gateway, token, certificate) = secure();
    let said = |options: &str| {
        let text = format!(
            "const WebSocket = require('ws');
const ws = new WebSocket('wss://localhost:{}', {options});
ws.on('open', () => ws.send(JSON.stringify({{ type: 'auth', deviceId: 'sensor-001', token: '{token}' }})));
ws.on('message', (data) => console.log(JSON.parse(data).status));
ws.on('error', (error) => console.log(error.code));
",
            gateway.address.rsplit_once(':').unwrap().1
        );
        NodeScript::new(&modules, &text, &[]).start().line()
    };
    assert_eq!(said(&format!("{{ ca: require('fs').readFileSync('{certificate}') }}")), "success");
    assert_eq!(said("{}"), "DEPTH_ZERO_SELF_SIGNED_CERT");
}

#[test]
fn python_speaks_tls_to_whom_it_trusts_alone() {
    let Some(python) = python() else { return };
    let (gateway, token, certificate) = secure();
    let said = |context: &str| {
        let text = format!(
            "import json, ssl
from websockets.sync.client import connect
try:
    with connect('wss://localhost:{}', ssl={context}) as ws:
        ws.send(json.dumps({{'type': 'auth', 'deviceId': 'sensor-001', 'token': '{token}'}}))
        print(json.loads(ws.recv())['status'])
        ws.send(json.dumps({{'type': 'status', 'msgid': 'm', 'data': {{'t': 1}}}}))
        print(json.loads(ws.recv())['type'])
except ssl.SSLCertVerificationError as error:
    print('not trusted')
",
            gateway.address.rsplit_once(':').unwrap().1
        );
        Script::start(Command::new(&python).args(["-c", &text]))
    };
    let trusting = said(&format!("ssl.create_default_context(cafile='{certificate}')"));
    assert_eq!((trusting.line().as_str(), trusting.line().as_str()), ("success", "ack"));
    assert_eq!(said("ssl.create_default_context()").line(), "not trusted");
}
