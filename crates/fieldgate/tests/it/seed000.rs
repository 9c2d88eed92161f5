//! The vendor's samples of Thingsee over WebSocket, behaviour for behaviour, with npm `ws` and `axios`:
//! a client that reads our arrays, a server that we bring them to, and a proxy that forwards them.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    support::{Gateway, NodeScript, Script, Wire, node_modules},
    thingsee_in::{ARRAY, connect, gateway},
};

const TUID: &str = "XXXX03X2Z80562557";
const T: u64 = 1_520_416_221_000;

/// Prints what it is told of each message, by its kind.
const CLIENT: &str = "
const WebSocket = require('ws');
const ws = new WebSocket(process.env.ADDRESS);
ws.on('open', () => console.log('Connected'));
ws.on('message', (data) => {
  JSON.parse(data).forEach((msg) => {
    switch (msg.tsmId) {
      case 12100: console.log(`Temperature: ${msg.temp}, Humidity: ${msg.humd}`); break;
      case 13100: console.log(`Movement count: ${msg.moveCount}`); break;
      default: console.log('Unknown message type:', msg.tsmId);
    }
  });
});
ws.on('close', (code) => console.log('Closed', code));
";

/// Takes arrays from whoever connects, and prints whose messages they are.
const SERVER: &str = "
const WebSocket = require('ws');
const server = new WebSocket.Server({ port: 0, host: '127.0.0.1' });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (ws, request) => {
  console.log('Thingsee connected', request.url);
  ws.on('message', (data) => {
    JSON.parse(data).forEach((message) => console.log('Received:', JSON.stringify(message)));
  });
  ws.on('close', () => console.log('Connection closed'));
});
";

/// Posts every array as it came.
const FORWARDER: &str = "
const WebSocket = require('ws');
const axios = require('axios');
const ws = new WebSocket(process.env.ADDRESS);
ws.on('open', () => console.log('Connected'));
ws.on('message', async (data) => {
  try {
    await axios.post(process.env.API, JSON.parse(data), {
      headers: { Authorization: 'Bearer your-token', 'Content-Type': 'application/json' },
    });
    console.log('Forwarded');
  } catch (error) {
    console.log('Failed to forward data:', error.message);
  }
});
";

/// An API that prints what was posted to it, and refuses movements.
const API: &str = "
const server = require('http').createServer((request, response) => {
  let body = '';
  request.on('data', (part) => (body += part));
  request.on('end', () => {
    const { authorization, 'content-type': type } = request.headers;
    console.log(JSON.stringify([authorization, type, JSON.parse(body)]));
    response.statusCode = body.includes('13100') ? 503 : 204;
    response.end();
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
";

fn start(script: &NodeScript, variables: &[(&str, &str)]) -> Script {
    Script::start(script.command().envs(variables.iter().copied()))
}

fn script(modules: &Path, text: &str) -> NodeScript {
    NodeScript::new(modules, text, &[])
}

fn tell(device: &mut Wire, data: &Value) {
    device
        .send(&json!({"type": "status", "msgid": data.to_string(), "timestamp": T, "data": data}));
    assert_eq!(device.next()["type"], "ack");
}

fn address(gateway: &Gateway) -> String {
    format!("ws://{}/thingsee?token={}", gateway.address, gateway.key("viewer"))
}

#[test]
fn the_client_reads_arrays_of_ours() {
    let Some(modules) = node_modules() else { return };
    let gateway = Gateway::start();
    let mut device = gateway.as_device(TUID, &gateway.device(TUID));
    tell(&mut device, &json!({"moveCount": 11}));
    let client = script(&modules, CLIENT);
    let client = start(&client, &[("ADDRESS", &address(&gateway))]);
    assert_eq!(client.line(), "Connected");
    assert_eq!(client.line(), "Movement count: 11", "the last state comes first");
    tell(&mut device, &json!({"temp": 21.3, "humd": 21.7, "airp": 101_364.599, "lght": 6}));
    assert_eq!(client.line(), "Temperature: 21.3, Humidity: 21.7");
    tell(&mut device, &json!({"batl": 100, "hall": 0, "moveCount": 12}));
    assert_eq!(client.line(), "Unknown message type: 1110");
    assert_eq!(client.line(), "Unknown message type: 12101");
    assert_eq!(client.line(), "Movement count: 12");
    gateway.signal("TERM");
    assert_eq!(client.line(), "Closed 1012");
}

#[test]
fn the_proxy_forwards_arrays_of_ours_as_they_came() {
    let Some(modules) = node_modules() else { return };
    let gateway = Gateway::start();
    let mut device = gateway.as_device(TUID, &gateway.device(TUID));
    let (api, forwarder) = (script(&modules, API), script(&modules, FORWARDER));
    let api = start(&api, &[]);
    let url = format!("http://127.0.0.1:{}/sensors/data", api.line());
    let forwarder = start(&forwarder, &[("ADDRESS", &address(&gateway)), ("API", &url)]);
    assert_eq!(forwarder.line(), "Connected");
    tell(&mut device, &json!({"temp": 21.3, "humd": 21.7, "airp": 101_364.599, "lght": 6}));
    let posted: Value = serde_json::from_str(&api.line()).unwrap();
    let array = json!([{"tsmId": 12100, "tsmEv": 10, "airp": 101_364.599, "lght": 6, "temp": 21.3,
        "humd": 21.7, "tsmTs": 1_520_416_221, "tsmTuid": TUID}]);
    assert_eq!(posted, json!(["Bearer your-token", "application/json", array]));
    assert_eq!(forwarder.line(), "Forwarded");
    tell(&mut device, &json!({"moveCount": 12}));
    assert_eq!(forwarder.line(), "Failed to forward data: Request failed with status code 503");
    tell(&mut device, &json!({"batl": 100}));
    assert_eq!(forwarder.line(), "Forwarded");
}

#[test]
fn the_server_gets_what_the_cloud_brought_as_it_came() {
    let Some(modules) = node_modules() else { return };
    let gateway = gateway(&[]);
    let server = script(&modules, SERVER);
    let server = start(&server, &[]);
    // The secret stands behind the hash, as the page has it; there it would never leave us.
    let url = format!("ws://127.0.0.1:{}/socket#auth-token", server.line());
    let add = ["integration", "add", "server", "--kind", "websocket", "--allow-private"];
    gateway.admin(&[&add[..], &["--url", &url, "--token-in", "hash:query:token"]].concat());
    assert_eq!(server.line(), "Thingsee connected /socket?token=auth-token");
    let mut cloud = connect(&gateway);
    cloud.send_text(ARRAY);
    let sent: Vec<Value> = serde_json::from_str(ARRAY).unwrap();
    let received = |line: String| -> Value {
        serde_json::from_str(line.strip_prefix("Received: ").unwrap()).unwrap()
    };
    for message in sent {
        assert_eq!(received(server.line()), message);
    }
    // What speaks otherwise comes in the same words.
    let mut device = gateway.as_device("native-1", &gateway.device("native-1"));
    tell(&mut device, &json!({"temperature": 20}));
    let told = json!({"tsmId": 12100, "tsmEv": 10, "temp": 20, "tsmTs": 1_520_416_221,
        "tsmTuid": "native-1"});
    assert_eq!(received(server.line()), told);
    gateway.admin(&["integration", "pause", "server"]);
    assert_eq!(server.line(), "Connection closed");
}
