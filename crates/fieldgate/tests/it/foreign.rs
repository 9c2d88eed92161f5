//! Clients that nobody here wrote: npm `ws` and Python `websockets`, through the examples.
//!
//! `cargo xtask test` installs them and requires these tests; elsewhere they run where the clients
//! are there, and say so where they are not.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::json;

use crate::support::Gateway;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

/// Whether a foreign client is there; required under `cargo xtask test`.
fn there(path: &Path) -> bool {
    let required = std::env::var("FIELDGATE_TEST_FOREIGN").is_ok_and(|v| v == "required");
    assert!(path.exists() || !required, "{} is not installed", path.display());
    if !path.exists() {
        eprintln!("skipped: {} is not installed; run cargo xtask test", path.display());
    }
    path.exists()
}

struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command, gateway: &Gateway, id: &str, token: &str) -> Script {
    let child = command
        .args([id, &format!("ws://{}/ws", gateway.address)])
        .env("FIELDGATE_TOKEN", token)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn();
    Script(child.unwrap())
}

/// An example device sends telemetry that an app of ours sees.
fn sends(command: Command) {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("sensor-001"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry", "qos": 1}));
    app.next_of("subscribed");
    let _script = start(command, &gateway, "sensor-001", &token);
    let frame = app.next_of("mqtt");
    assert_eq!(frame["topic"], "devices/sensor-001/telemetry");
}

#[test]
fn the_node_device_sends() {
    if there(&examples().join("node/node_modules/ws")) {
        let mut command = Command::new("node");
        command.arg(examples().join("node/sensor.mjs"));
        sends(command);
    }
}

#[test]
fn the_python_device_sends() {
    let python =
        std::env::var("FIELDGATE_TEST_PYTHON").unwrap_or_else(|_| "/nonexistent".to_owned());
    if there(Path::new(&python)) {
        let mut command = Command::new(python);
        command.arg(examples().join("python/sensor.py"));
        sends(command);
    }
}

#[test]
fn the_lessons_device_works_with_its_placeholders_filled() {
    let ws = examples().join("node/node_modules/ws");
    if !there(&ws) {
        return;
    }
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("sensor-001"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/+/telemetry"}));
    app.next_of("subscribed");
    // The lesson's own lines, its address, token and reading filled in, its period shortened.
    let script = format!(
        r"
const WebSocket = require('{ws}');
const ws = new WebSocket('ws://{address}');
ws.on('open', () => {{
  ws.send(JSON.stringify({{ type: 'auth', deviceId: 'sensor-001', token: '{token}' }}));
}});
ws.on('message', (message) => {{
  const cmd = JSON.parse(message);
  if (cmd.type === 'control') {{ handleControlCommand(cmd); }}
}});
function handleControlCommand(cmd) {{
  ws.send(JSON.stringify({{ type: 'reply', msgid: cmd.msgid, status: 'ok' }}));
}}
setInterval(() => {{
  const sensorData = {{ temperature: 21.5 }};
  ws.send(JSON.stringify({{
    type: 'status', deviceId: 'sensor-001', timestamp: Date.now(), data: sensorData
  }}));
}}, 100);
",
        ws = ws.display(),
        address = gateway.address,
    );
    let mut command = Command::new("node");
    command.args(["-e", &script]);
    let _script = start(command, &gateway, "sensor-001", &token);
    assert_eq!(app.next_of("mqtt")["payload"], json!({"temperature": 21.5}));
    app.send(&json!({"type": "command", "to": "sensor-001", "msgid": "c", "payload": {"x": 1}}));
    loop {
        if app.next_of("command_state")["state"] == "completed" {
            break;
        }
    }
}
