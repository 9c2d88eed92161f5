//! Acknowledgements of Socket.IO both ways: events that a client acknowledges, of which so many are on
//! their way and no more, and what a client asks an answer for.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    socketio::{event, join},
    support::{
        Gateway, NodeScript, Proxy, Script, Wire, node_modules, post, python,
        sessions::next as text, wait_for,
    },
};

const SUBSCRIBE: &str = "42/v2,0[\"subscribe\",{\"resource\":\"/me/resources/n\"}]";

fn gateway(inflight_max: usize) -> (Gateway, String) {
    let gateway = Gateway::with(&[
        &format!("limits.inflight_max={inflight_max}"),
        "heartbeat.ping_ms=400",
        "heartbeat.silence_ms=5000",
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let key = gateway.key("admin");
    (gateway, key)
}

fn publish(gateway: &Gateway, key: &str, device: &str, n: u64) {
    let topic = format!("devices/{device}/telemetry");
    let body = json!({"topic": topic, "qos": 1, "payload": {"n": n}});
    let (status, told) = post(&gateway.address, "/v1/publish", key, &body.to_string());
    assert_eq!(status, 201, "{told}");
}

/// A client that is in the room, whose last values, if any, are still to come.
fn follow(gateway: &Gateway, key: &str, auth: &str) -> Wire {
    let mut wire = join(gateway, auth);
    event(&mut wire, "authenticate", &json!({"sessionToken": key}));
    wire.send_text(SUBSCRIBE);
    assert!(text(&mut wire).contains("\"subscribe\""));
    assert!(text(&mut wire).starts_with("43/v2,0["));
    wire
}

/// The number by which an event is to be acknowledged, its value, and its position.
fn asked(told: &str) -> (Option<u64>, u64, Option<String>) {
    let (head, data) = told.split_at(told.find('[').unwrap());
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data[0], "/me/resources/n", "{told}");
    let id = head.strip_prefix("42/v2,").unwrap();
    let value = data[1][0]["value"].as_u64().unwrap();
    (id.parse().ok(), value, data[2].as_str().map(str::to_owned))
}

fn acknowledge(wire: &mut Wire, id: u64) {
    wire.send_text(&format!("43/v2,{id}[]"));
}

/// Whether nothing comes before the answer to a question that is asked now.
fn is_silent(wire: &mut Wire) -> bool {
    wire.send_text("42/v2,77[\"unsubscribe\",{}]");
    let is_answer = text(wire).contains("\"unsubscribe\"");
    assert!(text(wire).starts_with("43/v2,77["));
    is_answer
}

/// Waits until one client reads from the log.
fn behind(gateway: &Gateway, key: &str) {
    wait_for("the client to wait", || {
        gateway.get("/v1/clients", Some(key)).1.contains("\"behind\":true").then_some(())
    });
}

#[test]
fn so_many_events_are_on_their_way_and_the_rest_waits_for_answers() {
    let (gateway, key) = gateway(3);
    publish(&gateway, &key, "a", 0);
    let mut slow = follow(&gateway, &key, r#"{"ack":true,"position":""}"#);
    let mut plain = follow(&gateway, &key, "");
    let (id, value, _) = asked(&text(&mut slow));
    assert_eq!((id.is_some(), value), (true, 0), "also the last values");
    assert_eq!(asked(&text(&mut plain)), (None, 0, None));
    acknowledge(&mut slow, id.unwrap());
    for n in 1..=10 {
        publish(&gateway, &key, "a", n);
        assert_eq!(asked(&text(&mut plain)).1, n, "who was not asked waits for nobody");
    }
    let first: Vec<_> = (0..3).map(|_| asked(&text(&mut slow))).collect();
    assert_eq!(first.iter().map(|told| told.1).collect::<Vec<_>>(), [1, 2, 3]);
    behind(&gateway, &key);
    assert!(is_silent(&mut slow));
    // What is not awaited, or was before, or is of another place, frees nothing.
    for nonsense in ["43/v2,999[]", "43/v2,0[1]", "43/v2,18446744073709551615[]", "43/devices,1[]"]
    {
        slow.send_text(nonsense);
        assert!(is_silent(&mut slow), "{nonsense}");
    }
    let last = first[2].0.unwrap();
    acknowledge(&mut slow, last);
    acknowledge(&mut slow, last);
    let (fourth, value, _) = asked(&text(&mut slow));
    assert_eq!(value, 4, "one of three was, though that was said twice");
    assert!(is_silent(&mut slow));
    // In any order, and with bytes in the answer.
    slow.send_text(&format!(
        "461-/v2,{}[{{\"_placeholder\":true,\"num\":0}}]",
        first[1].0.unwrap()
    ));
    slow.send_binary(&[1, 2, 3]);
    acknowledge(&mut slow, fourth.unwrap());
    for n in 5..=10 {
        let (id, value, position) = asked(&text(&mut slow));
        assert_eq!(value, n);
        assert!(position.is_some());
        acknowledge(&mut slow, id.unwrap());
    }
    acknowledge(&mut slow, first[0].0.unwrap());
    publish(&gateway, &key, "a", 11);
    assert_eq!(asked(&text(&mut slow)).1, 11, "live again");
    let mut broken = follow(&gateway, &key, r#"{"ack":"true"}"#);
    broken.send_text("43/v2,99999999999999999999[]");
    wait_for("the end", || broken.closed().is_some().then_some(()));
}

#[test]
fn who_keeps_all_but_one_open_gets_the_next() {
    let (gateway, key) = gateway(4);
    let mut wire = follow(&gateway, &key, r#"{"ack":true}"#);
    for n in 0..8 {
        publish(&gateway, &key, "a", n);
    }
    let first: Vec<_> = (0..4).map(|_| asked(&text(&mut wire))).collect();
    behind(&gateway, &key);
    acknowledge(&mut wire, first[0].0.unwrap());
    for n in 4..8 {
        let (id, value, _) = asked(&text(&mut wire));
        assert_eq!(value, n);
        acknowledge(&mut wire, id.unwrap());
    }
}

#[test]
fn what_was_not_acknowledged_is_told_again_to_who_comes_back() {
    let (gateway, key) = gateway(3);
    publish(&gateway, &key, "a", 0);
    let mut wire = follow(&gateway, &key, r#"{"ack":true,"position":""}"#);
    let (id, _, position) = asked(&text(&mut wire));
    acknowledge(&mut wire, id.unwrap());
    let handled = position.unwrap();
    for n in 1..=8 {
        publish(&gateway, &key, "a", n);
    }
    for n in 1..=3 {
        assert_eq!(asked(&text(&mut wire)).1, n);
    }
    drop(wire);
    let mut wire = follow(&gateway, &key, &json!({"ack": 1 == 1, "position": handled}).to_string());
    let first: Vec<_> = (0..3).map(|_| asked(&text(&mut wire))).collect();
    assert_eq!(first.iter().map(|told| told.1).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(is_silent(&mut wire), "what was missed waits, too");
    first.iter().for_each(|told| acknowledge(&mut wire, told.0.unwrap()));
    for n in 4..=8 {
        let (id, value, _) = asked(&text(&mut wire));
        assert_eq!(value, n);
        acknowledge(&mut wire, id.unwrap());
    }
}

#[test]
fn last_values_wait_for_answers_and_a_namespace_that_is_left_owes_none() {
    let (gateway, key) = gateway(3);
    for n in 0..8 {
        gateway.device(&format!("d{n}"));
        publish(&gateway, &key, &format!("d{n}"), n);
    }
    let mut wire = follow(&gateway, &key, r#"{"ack":true}"#);
    let first: Vec<_> = (0..3).map(|_| asked(&text(&mut wire))).collect();
    assert!(is_silent(&mut wire));
    first.iter().for_each(|told| acknowledge(&mut wire, told.0.unwrap()));
    let mut values: Vec<u64> = first.iter().map(|told| told.1).collect();
    while values.len() < 8 {
        let (id, value, _) = asked(&text(&mut wire));
        values.push(value);
        // The three last ones stay open.
        if values.len() < 6 {
            acknowledge(&mut wire, id.unwrap());
        }
    }
    values.sort_unstable();
    assert_eq!(values, (0..8).collect::<Vec<_>>());
    wire.send_text("41/v2,");
    wire.send_text("40/v2,{\"ack\":true}");
    assert!(text(&mut wire).starts_with("40/v2,{"));
    event(&mut wire, "authenticate", &json!({"sessionToken": key}));
    wire.send_text(SUBSCRIBE);
    while !text(&mut wire).starts_with("43/v2,0[") {}
    (0..3).for_each(|_| drop(asked(&text(&mut wire))));
    assert!(is_silent(&mut wire));
}

#[test]
fn who_never_acknowledges_costs_no_memory_and_holds_up_nobody() {
    let (gateway, key) = gateway(10);
    publish(&gateway, &key, "a", 0);
    let mut never = follow(&gateway, &key, r#"{"ack":true}"#);
    text(&mut never);
    let mut other = follow(&gateway, &key, "");
    text(&mut other);
    let mut app = gateway.as_app(&key);
    let (count, long) = (4_000, "x".repeat(4_000));
    let before = gateway.memory_bytes();
    for n in 1..=count {
        let payload = json!({"n": n, "text": long});
        app.send(&json!({"type": "publish", "topic": "devices/a/telemetry", "payload": payload}));
        assert_eq!(asked(&text(&mut other)).1, n);
        if n % 100 == 0 {
            never.send_text("3");
        }
    }
    let grown = gateway.memory_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown}");
    for n in 1..10 {
        assert_eq!(asked(&text(&mut never)).1, n);
    }
    assert!(is_silent(&mut never));
    let (_, clients) = gateway.get("/v1/clients", Some(&key));
    let clients: Value = serde_json::from_str(&clients).unwrap();
    let waiting =
        clients["items"].as_array().unwrap().iter().map(|client| client["waiting_bytes"].as_u64());
    assert!(waiting.flatten().all(|bytes| bytes < 100_000), "{clients}");
}

/// Holds what it gets until it has all that it may, then acknowledges it; asks in the way of its
/// generation.
const HOLDS: &str = r"
const assert = require('assert');
const [url, key, generation, max, count] = process.argv.slice(2).map(word => isNaN(word) ? word : Number(word));
const lib = require('socket.io-client-' + generation), io = lib.io || lib;
const old = generation < 3;
const socket = io(url + (old ? '/v2?ack=true&position=' : '/v2'), old ? {} : { auth: { ack: true, position: '' } });
let held = [], seen = [];
socket.on('connect', () => socket.emit('authenticate', { sessionToken: key }));
socket.on('authenticate', () => socket.emit('subscribe', { resource: '/me/resources/n' }, () => console.log('follows')));
socket.on('/me/resources/n', (items, ...rest) => {
  const done = rest.pop();
  assert.strictEqual(typeof done, 'function');
  // What came as the last value may come as an event, too.
  if (seen[seen.length - 1] !== items[0].value) seen.push(items[0].value);
  held.push(done);
  assert(held.length <= max, held.length + ' held');
  if (held.length < max && seen.length < count) return;
  setTimeout(() => { console.log('held', held.length); const all = held; held = []; all.reverse().forEach(done => done('thanks')); }, 50);
  if (seen.length === count) console.log('seen', seen.join());
});
process.on('uncaughtException', error => { console.log('failed', error.message); process.exit(1); });
";

#[test]
fn clients_of_both_protocols_acknowledge_late_and_get_everything() {
    let Some(modules) = node_modules() else { return };
    let script = NodeScript::new(&modules, HOLDS, &[]);
    for generation in ["2", "3", "4"] {
        let (gateway, key) = gateway(4);
        let url = format!("http://{}", gateway.address);
        let client = Script::start(script.command().args([&url, &key, generation, "4", "22"]));
        assert_eq!(client.line(), "follows");
        for n in 0..22 {
            publish(&gateway, &key, "a", n);
        }
        let seen = client.line_of("seen");
        let expected: Vec<_> = (0..22).map(|n: u64| n.to_string()).collect();
        assert_eq!(seen, format!("seen {}", expected.join(",")));
    }
}

/// Keeps the position of what it handled, breaks within an event, and is told that one again.
const BREAKS: &str = r"
const { io } = require('socket.io-client-4');
const [url, key] = process.argv.slice(2);
let position = '', handled = -1, breaks = 0, isBroken = false;
const socket = io(url + '/v2', { auth: say => say({ ack: true, position }), transports: ['websocket'], reconnectionDelay: 20 });
socket.on('connect', () => { isBroken = false; socket.emit('authenticate', { sessionToken: key }); });
socket.on('authenticate', () => socket.emit('subscribe', { resource: '/me/resources/n' }, () => console.log('follows')));
socket.on('/me/resources/n', (items, at, done) => {
  // What had come when it broke.
  if (isBroken) return;
  const n = items[0].value;
  if (n > handled + 1) console.log('a hole', handled, n);
  if (n % 5 === 3 && n > handled && breaks <= n / 5) { breaks++; isBroken = true; return socket.io.engine.close(); }
  if (n > handled) { handled = n; position = at; }
  if (typeof done === 'function') done(); else at();
  if (n === 29) console.log('handled', handled, 'breaks', breaks);
});
";

#[test]
fn what_a_break_left_unhandled_is_told_again() {
    let Some(modules) = node_modules() else { return };
    let (gateway, key) = gateway(4);
    let script = NodeScript::new(&modules, BREAKS, &[]);
    let url = format!("http://{}", gateway.address);
    publish(&gateway, &key, "a", 0);
    let client = Script::start(script.command().args([&url, &key]));
    assert_eq!(client.line(), "follows");
    for n in 1..30 {
        publish(&gateway, &key, "a", n);
    }
    loop {
        let line = client.line();
        if line != "follows" {
            assert_eq!(line, "handled 29 breaks 6");
            return;
        }
    }
}

const PYTHON: &str = r#"
import sys, socketio, threading
url, key = sys.argv[1:]
client = socketio.Client()
lock, may_go = threading.Lock(), threading.Event()
open_now, most, seen = 0, 0, []

def value(items, *rest):
    global open_now, most
    with lock:
        open_now += 1
        most = max(most, open_now)
        seen.append(items[0]["value"])
        if open_now == 4:
            print("full", flush=True)
    may_go.wait()
    with lock:
        open_now -= 1
    return "thanks"

client.on("/me/resources/n", value, namespace="/v2")
client.connect(url, namespaces=["/v2"], transports=["websocket"], auth={"ack": True})
client.call("authenticate", {"sessionToken": key}, namespace="/v2")
client.call("subscribe", {"resource": "/me/resources/n"}, namespace="/v2")
print("follows", flush=True)
sys.stdin.readline()
may_go.set()
# What came as the last value may come as an event, too.
while len(set(seen)) < 20:
    client.sleep(0.01)
print("most", most, "seen", sorted(set(seen)) == list(range(20)), flush=True)
client.disconnect()
"#;

#[test]
fn python_socketio_acknowledges_what_its_handlers_return_from() {
    let Some(python) = python() else { return };
    let (gateway, key) = gateway(4);
    let url = format!("http://{}", gateway.address);
    let mut command = Command::new(&python);
    command.args(["-c", PYTHON, &url, &key]).stdin(std::process::Stdio::piped());
    let mut client = Script::start(&mut command);
    assert_eq!(client.line(), "follows");
    for n in 0..20 {
        publish(&gateway, &key, "a", n);
    }
    assert_eq!(client.line(), "full");
    behind(&gateway, &key);
    client.say("go");
    assert_eq!(client.line_of("most"), "most 4 seen True");
}

/// Asks for answers in every way that clients have, also for what is refused; nothing is asked twice.
const ASKS: &str = r"
const { io } = require('socket.io-client-4');
const [url, key] = process.argv.slice(2);
const options = { retries: 3, ackTimeout: 20000, auth: { token: key }, reconnectionDelay: 20 };
const request = { deviceId: 'C5C80676-890C-4024-A16F-DF81AB0B5A22', tenantId: '12b80a37-d30e-49f1-af3b-356ecc1ad96c' };
let tries = 0;
const of = name => { const socket = io(url + name, options); socket.onAnyOutgoing(() => tries++); return socket; };
const root = of('/'), things = of('/v2'), devices = of('/devices');
(async () => {
  for (const [socket, ...words] of [
    [root, 'anything', {}],
    [things, 'nonsense', {}],
    [things, 'subscribe', { resource: '/me/resources/n' }],
    [things, 'authenticate', { sessionToken: 'wrong' }],
    [things, 'authenticate', { sessionToken: key }],
    [things, 'subscribe', { resource: '/me/resources/n' }],
    [things, 'unsubscribe', {}],
    [devices, 'nonsense'],
    [devices, 'telemetries', 1],
    [devices, 'telemetries:unsubscribe'],
    [devices, 'telemetries', request],
    [devices, 'telemetries:unsubscribe', request],
  ]) {
    const before = tries, told = await socket.emitWithAck(...words);
    console.log(socket.nsp, words[0], told.status, told.code || '', tries - before);
  }
  // What is asked while nobody is there is answered when somebody is.
  console.log('down');
  things.once('disconnect', () => {
    things.emitWithAck('unsubscribe', { resource: 'later' }).then(told => { console.log('later', told.status, told.resource); process.exit(0); });
    console.log('asked');
  });
})();
";

#[test]
fn whatever_asks_for_an_answer_gets_one() {
    let Some(modules) = node_modules() else { return };
    let tenants = r#"kamea.tenants={"12B80A37-D30E-49F1-AF3B-356ECC1AD96C"="default"}"#;
    let mut gateway = Gateway::with(&[tenants]);
    gateway.device("C5C80676-890C-4024-A16F-DF81AB0B5A22");
    let key = gateway.key("admin");
    let proxy = Proxy::to(&gateway.address);
    let script = NodeScript::new(&modules, ASKS, &[]);
    let url = format!("http://{}", proxy.address);
    let client = Script::start(script.command().args([&url, &key]));
    for told in [
        "/ anything error 404 1",
        "/v2 nonsense error 404 1",
        "/v2 subscribe error 401 1",
        "/v2 authenticate error 401 1",
        "/v2 authenticate success  1",
        "/v2 subscribe success  1",
        "/v2 unsubscribe success  1",
        "/devices nonsense error 404 1",
        "/devices telemetries error 500 1",
        "/devices telemetries:unsubscribe error 500 1",
        "/devices telemetries success  1",
        "/devices telemetries:unsubscribe success  1",
        "down",
    ] {
        assert_eq!(client.line(), told);
    }
    gateway.kill();
    assert_eq!(client.line(), "asked");
    gateway.up();
    proxy.retarget(&gateway.address);
    assert_eq!(client.line(), "later success later");
}
