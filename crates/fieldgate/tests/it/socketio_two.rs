//! Two namespaces on one Socket.IO connection, as clients share it unless told otherwise: npm
//! `socket.io-client` 1 to 4 and `python-socketio`, over every transport, and packet by packet.

use std::process::Command;

use serde_json::json;

use crate::support::{
    Gateway, NodeScript, Proxy, Script, Wire, node_modules, python,
    sessions::{
        DEVICE, SUBSCRIBE, TENANT, end, join_both as join, kamea_gateway, next, publish,
        telemetries,
    },
    wait_for,
};

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

fn gateway(settings: &[&str]) -> (Gateway, String) {
    kamea_gateway(&[&["heartbeat.ping_ms=400", "heartbeat.silence_ms=2500"], settings].concat())
}

/// Publishes what a script asks for until it says that it has done.
fn obey(client: &Script, gateway: &Gateway, key: &str) {
    loop {
        let line = client.line();
        match line.split_once(' ') {
            Some(("publish", n)) => {
                publish(gateway, key, &json!({"temp": n.parse::<u64>().unwrap()}));
            }
            _ if line == "done" => return,
            _ => panic!("{line}"),
        }
    }
}

/// Two namespaces of one Manager: both get what is said, one leaves and comes again without the other's
/// notice, and a break gives both back.
const SCENARIO: &str = r"
const assert = require('assert');
const [url, key, ...generations] = process.argv.slice(2);
const deviceId = 'C5C80676-890C-4024-A16F-DF81AB0B5A22', tenantId = '12b80a37-d30e-49f1-af3b-356ecc1ad96c';
const topic = '/me/resources/temp', ways = [['websocket'], ['polling'], ['polling', 'websocket']];
const once = (socket, event) => new Promise(resolve => {
  const heard = data => { socket.off ? socket.off(event, heard) : socket.removeListener(event, heard); resolve(data); };
  socket.on(event, heard);
});
let said = 0;
async function run(generation, transports) {
  const lib = require('socket.io-client-' + generation), io = lib.io || lib;
  const options = { transports, extraHeaders: { Authorization: 'Bearer ' + key }, reconnectionDelay: 20 };
  if (generation < 3) options.transportOptions = { polling: { extraHeaders: options.extraHeaders } };
  // Who asks for the first time gets them so; later a name that was used has a connection of its own.
  const manager = transports !== ways[0] && new lib.Manager(url, options);
  const [things, devices] = ['/v2', '/devices'].map(name => manager ? manager.socket(name) : io(url + name, { ...options }));
  assert.strictEqual(things.io, devices.io, 'one Manager');
  const got = { things: [], devices: [] };
  things.on(topic, items => got.things.push(items[0].value));
  devices.on('telemetries', body => got.devices.push(body.telemetries.temp));
  const followThings = async () => {
    things.emit('authenticate', { sessionToken: key });
    assert.strictEqual((await once(things, 'authenticate')).status, 'success');
    await new Promise(resolve => things.emit('subscribe', { resource: topic }, resolve));
  };
  const followDevices = () => new Promise(resolve => devices.emit('telemetries', { deviceId, tenantId }, resolve));
  const reached = async (who, n) => { while (got[who][got[who].length - 1] !== n) await new Promise(resolve => setTimeout(resolve, 5)); };
  const say = () => { console.log('publish', ++said); return said; };
  await Promise.all([things.connected || once(things, 'connect'), devices.connected || once(devices, 'connect')]);
  await Promise.all([followThings(), followDevices()]);
  // Over some heartbeats, and to the other transport where there is one.
  for (let round = 0; round < 6; round++) {
    const n = say();
    await Promise.all([reached('things', n), reached('devices', n)]);
    await new Promise(resolve => setTimeout(resolve, 150));
  }
  assert.strictEqual(things.io.engine.transport.name, transports[transports.length - 1]);
  const engine = things.io.engine;
  for (const [left, other, follow] of [[things, 'devices', followThings], [devices, 'things', followDevices]]) {
    const name = left === things ? 'things' : 'devices';
    left.disconnect();
    // What the other one is answered comes behind that.
    await (left === things ? followDevices() : followThings());
    const before = got[name].length;
    for (let round = 0; round < 3; round++) await reached(other, say());
    assert.strictEqual(got[name].length, before, 'left');
    const back = once(left, 'connect');
    left.connect();
    await back;
    await follow();
    const n = say();
    await Promise.all([reached('things', n), reached('devices', n)]);
  }
  assert.strictEqual(things.io.engine, engine, 'one connection throughout');
  const back = Promise.all([once(things, 'connect'), once(devices, 'connect')]);
  engine.close();
  await back;
  await Promise.all([followThings(), followDevices()]);
  const n = say();
  await Promise.all([reached('things', n), reached('devices', n)]);
  things.disconnect(); devices.disconnect();
}
(async () => {
  for (const generation of generations.map(Number)) for (const way of ways) await run(generation, way);
  console.log('done');
  process.exit(0);
})().catch(error => { console.log('failed', error.stack); process.exit(1); });
";

#[test]
fn one_manager_serves_both_namespaces_over_every_transport() {
    let Some(modules) = node_modules() else { return };
    let (gateway, key) = gateway(&[]);
    let script = NodeScript::new(&modules, SCENARIO, &[]);
    let url = format!("http://{}", gateway.address);
    for generation in ["1", "2", "3", "4"] {
        let client = Script::start(script.command().args([&url, &key, generation]));
        obey(&client, &gateway, &key);
    }
}

const PYTHON: &str = r#"
import sys, socketio, threading
url, key, transport, device, tenant = sys.argv[1:]
client = socketio.Client()
said = 0
got = {"/v2": [], "/devices": []}
moved = threading.Condition()
def note(namespace, value):
    with moved:
        got[namespace].append(value)
        moved.notify_all()
def reached(*namespaces):
    with moved:
        assert moved.wait_for(lambda: all(got[of] and got[of][-1] == said for of in namespaces), 10), got
def say():
    global said
    said += 1
    print("publish", said, flush=True)

client.on("/me/resources/temp", lambda items, *rest: note("/v2", items[0]["value"]), namespace="/v2")
client.on("telemetries", lambda body, *rest: note("/devices", body["telemetries"]["temp"]), namespace="/devices")
client.connect(url, namespaces=["/v2", "/devices"], transports=[transport], auth={"token": key})
told = client.call("authenticate", {"sessionToken": key}, namespace="/v2")
assert told["status"] == "success", told
client.call("subscribe", {"resource": "/me/resources/temp"}, namespace="/v2")
client.call("telemetries", {"deviceId": device, "tenantId": tenant}, namespace="/devices")
for _ in range(5):
    say()
    reached("/v2", "/devices")
client._send_packet(client.packet_class(socketio.packet.DISCONNECT, namespace="/v2"))
# What the other one is answered comes behind that.
client.call("telemetries", {"deviceId": device, "tenantId": tenant}, namespace="/devices")
count = len(got["/v2"])
for _ in range(5):
    say()
    reached("/devices")
assert len(got["/v2"]) == count, got
print("done", flush=True)
client.disconnect()
"#;

#[test]
fn python_socketio_is_in_both_namespaces_on_one_connection() {
    let Some(python) = python() else { return };
    let (gateway, key) = gateway(&[]);
    let url = format!("http://{}", gateway.address);
    for transport in ["websocket", "polling"] {
        let mut command = Command::new(&python);
        command.args(["-c", PYTHON, &url, &key, transport, DEVICE, TENANT]);
        obey(&Script::start(&mut command), &gateway, &key);
    }
}

/// Both namespaces keep positions; what they get is told with what they got before a break.
const KEEPS: &str = r"
const { io } = require('socket.io-client-4');
const [url, key] = process.argv.slice(2);
const options = { auth: { position: '', token: key }, transports: ['websocket'], reconnectionDelay: 20, reconnectionDelayMax: 100, randomizationFactor: 0 };
const deviceId = 'C5C80676-890C-4024-A16F-DF81AB0B5A22', tenantId = '12b80a37-d30e-49f1-af3b-356ecc1ad96c';
const things = io(url + '/v2', options), devices = io(url + '/devices', options);
things.on('connect', () => things.emit('authenticate', { sessionToken: key }));
things.on('authenticate', () => things.emit('subscribe', { resource: '/me/resources/temp' }));
things.on('/me/resources/temp', (items, position) => console.log('things', items[0].value, position));
devices.on('connect', () => devices.emit('telemetries', { deviceId, tenantId }));
devices.on('telemetries', (body, position) => console.log('devices', body.telemetries.temp, position));
";

#[test]
fn a_break_gives_both_namespaces_back_where_they_were() {
    let Some(modules) = node_modules() else { return };
    let (mut gateway, key) = gateway(&[]);
    let proxy = Proxy::to(&gateway.address);
    let script = NodeScript::new(&modules, KEEPS, &[]);
    let url = format!("http://{}", proxy.address);
    publish(&gateway, &key, &json!({"temp": 0}));
    let client = Script::start(script.command().args([&url, &key]));
    let mut newest = std::collections::BTreeMap::<String, u64>::new();
    let mut read = |expected: u64| {
        while newest.len() < 2 || newest.values().any(|n| *n < expected) {
            let line = client.line();
            let words: Vec<&str> = line.split(' ').collect();
            let n: u64 = words[1].parse().unwrap();
            let before = newest.insert(words[0].to_owned(), n);
            // A repeat may come at a break, a hole never.
            let before = before.unwrap_or(n);
            assert!(n <= before + 1, "{line} behind {before}");
        }
    };
    read(0);
    let mut n = 0;
    for _ in 0..3 {
        for _ in 0..10 {
            n += 1;
            publish(&gateway, &key, &json!({"temp": n}));
        }
        read(n);
        gateway.kill();
        gateway.up();
        proxy.retarget(&gateway.address);
        for _ in 0..3 {
            n += 1;
            publish(&gateway, &key, &json!({"temp": n}));
        }
        read(n);
    }
}

#[test]
fn a_credential_opens_its_own_namespace_alone() {
    let (gateway, key) = gateway(&[]);
    publish(&gateway, &key, &json!({"temp": 7}));
    let mut wire = join(&gateway, "wrong", &key);
    wire.send_text(&telemetries(TENANT));
    assert!(next(&mut wire).contains("\"temp\":7"));
    wire.send_text(SUBSCRIBE);
    let told = next(&mut wire);
    assert!(told.starts_with("42/v2,") && told.contains("\"code\":401"), "{told}");

    let mut wire = join(&gateway, &key, "wrong");
    wire.send_text(SUBSCRIBE);
    assert!(next(&mut wire).contains("success"));
    assert!(next(&mut wire).contains("\"value\":7,"));
    // Who is denied is sent away with its connection; to the other namespace nothing is said.
    wire.send_text(&telemetries(TENANT));
    assert_eq!(end(&mut wire), ["42/devices,[\"access_denied\"]", "41/devices,"]);
}

/// One of the two is sent away; the other comes back by itself.
const DENIED: &str = r"
const { io } = require('socket.io-client-4');
const [url, key] = process.argv.slice(2);
const options = { auth: { token: 'wrong' }, transports: ['websocket'], reconnectionDelay: 20 };
const things = io(url + '/v2', options), devices = io(url + '/devices', options);
things.on('connect', () => { console.log('things connect'); things.emit('authenticate', { sessionToken: key }, told => console.log('things', told.status)); });
things.on('disconnect', reason => console.log('things disconnect', reason));
devices.on('access_denied', () => console.log('devices denied'));
devices.on('disconnect', reason => console.log('devices disconnect', reason));
process.stdin.on('data', () => devices.emit('telemetries', { deviceId: 'C5C80676-890C-4024-A16F-DF81AB0B5A22', tenantId: '12b80a37-d30e-49f1-af3b-356ecc1ad96c' }));
";

#[test]
fn who_is_denied_is_sent_away_and_the_other_namespace_comes_back() {
    let Some(modules) = node_modules() else { return };
    let (gateway, key) = gateway(&[]);
    let script = NodeScript::new(&modules, DENIED, &[]);
    let url = format!("http://{}", gateway.address);
    let stdin = std::process::Stdio::piped();
    let mut client = Script::start(script.command().args([&url, &key]).stdin(stdin));
    assert_eq!(client.line(), "things connect");
    assert_eq!(client.line(), "things success");
    client.say("go");
    for told in [
        "devices denied",
        "devices disconnect io server disconnect",
        "things disconnect transport close",
        "things connect",
        "things success",
    ] {
        assert_eq!(client.line(), told);
    }
}

#[test]
fn a_withdrawn_credential_ends_the_connection_and_is_said_to_its_namespace() {
    let (gateway, key) = gateway(&[]);
    publish(&gateway, &key, &json!({"temp": 7}));
    for (things, devices, told) in [("gone", "stays", "41/v2,"), ("stays", "gone", "41/devices,")] {
        let made =
            gateway.admin(&["key", "add", &format!("{things}-{devices}"), "--role", "viewer"]);
        let gone = made["key"].as_str().unwrap();
        let of = |which| if which == "gone" { gone } else { &*key };
        let mut wire = join(&gateway, of(things), of(devices));
        wire.send_text(&telemetries(TENANT));
        assert!(next(&mut wire).contains("\"temp\":7"));
        gateway.admin(&["key", "revoke", &format!("{things}-{devices}"), "--yes"]);
        let said = end(&mut wire);
        let said: Vec<_> = said.iter().filter(|text| *text != "2").collect();
        assert_eq!(said, [told]);
    }
}

#[test]
fn packets_with_bytes_reach_the_namespace_that_they_name() {
    let (gateway, key) = gateway(&[]);
    let mut wire = join(&gateway, &key, &key);
    for (namespace, event, told) in [
        ("/devices", "telemetries", "deviceId is no text"),
        ("/v2", "subscribe", "resource is missing"),
    ] {
        wire.send_text(&format!("452-{namespace},[\"{event}\",{{\"resource\":{{\"_placeholder\":true,\"num\":0}},\"deviceId\":{{\"_placeholder\":true,\"num\":1}}}}]"));
        wire.send_binary(&[1, 2]);
        wire.send_binary(&[3]);
        let said = next(&mut wire);
        assert!(said.starts_with(&format!("42{namespace},")) && said.contains(told), "{said}");
    }
    wire.send_text("451-/devices,[\"telemetries\",{\"_placeholder\":true,\"num\":0}]");
    wire.send_text(SUBSCRIBE);
    end(&mut wire);
}

#[test]
fn two_namespaces_are_one_connection_with_one_place() {
    let (gateway, key) = gateway(&["limits.connections_per_address_max=2"]);
    let mut both = join(&gateway, &key, &key);
    both.send_text(&telemetries(TENANT));
    both.send_text(
        "42/devices,9[\"telemetries:unsubscribe\",{\"deviceId\":\"a\",\"tenantId\":\"b\"}]",
    );
    assert!(next(&mut both).contains("internal_server_error"));
    let open = || Wire::open(&gateway.address, PATH, &[]);
    let one = wait_for("the second place", || open().ok());
    assert!(open().is_err(), "a third connection");
    drop(both);
    let _again = wait_for("the place of both", || open().ok());
    drop(one);
    // Where nobody is in the other, the connection is somebody's: more than a beginner's bytes.
    let mut wire = wait_for("a place", || Wire::open(&gateway.address, PATH, &[]).ok()).into_text();
    wire.text();
    wire.send_text("40/v2,");
    next(&mut wire);
    wire.send_text(&format!("40/devices,{}", json!({"token": key})));
    next(&mut wire);
    wire.send_text(&telemetries(TENANT).replace("42/devices,", "42/devices,1"));
    while !next(&mut wire).starts_with("43/devices,1") {}
    let long = "x".repeat(60_000);
    wire.send_text(&format!(
        "42/devices,2{}",
        json!(["telemetries:unsubscribe", {"deviceId": "a", "tenantId": TENANT, "long": long}])
    ));
    assert!(next(&mut wire).starts_with("43/devices,2"));
}

#[test]
fn a_slow_reader_gets_everything_in_both_namespaces_and_costs_what_one_may() {
    let settings = [
        "limits.outbox_bytes_max=65536",
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
        "heartbeat.silence_ms=200000",
        "heartbeat.ping_ms=150000",
    ];
    let (gateway, key) = gateway(&settings);
    publish(&gateway, &key, &json!({"temp": 0}));
    let mut slow = join(&gateway, &key, &key);
    slow.send_text(&telemetries(TENANT).replace("42/devices,", "42/devices,1"));
    while !next(&mut slow).starts_with("43/devices,1") {}
    slow.send_text(SUBSCRIBE);
    while !next(&mut slow).contains("[\"/me/resources/temp\"") {}
    let mut app = gateway.as_app(&key);
    let topic = format!("devices/{DEVICE}/telemetry");
    let text = "x".repeat(4_000);
    let count = 6_000;
    let before = gateway.memory_bytes();
    for n in 1..=count {
        app.send(&json!({"type": "publish", "topic": topic, "qos": u8::from(n % 500 == 0), "msgid": n.to_string(),
            "payload": {"temp": n, "text": text}}));
        if n % 500 == 0 {
            app.next_of("ack");
        }
    }
    // 24 MB are in the log, and twice as much is to be read.
    let grown = gateway.memory_bytes().saturating_sub(before);
    assert!(grown < 20 << 20, "{grown}");
    let (mut things, mut devices) = (1, 1);
    while things <= count || devices <= count {
        let told = next(&mut slow);
        if told.contains("\"value\":0,") || told.contains("\"temp\":0,") {
            // A room's first value may come from the log, too.
            assert_eq!(if told.starts_with("42/v2,") { things } else { devices }, 1, "{told}");
            continue;
        }
        let (expected, wanted) = if told.starts_with("42/v2,") {
            things += 1;
            (things - 1, format!("\"value\":{},", things - 1))
        } else {
            devices += 1;
            (devices - 1, format!("\"temp\":{},", devices - 1))
        };
        assert!(told.contains(&wanted), "{expected}: {told}");
        // Neither has to wait until the other one has everything.
        assert!(expected < count || things.min(devices) > count / 20, "{things} {devices}");
    }
}
