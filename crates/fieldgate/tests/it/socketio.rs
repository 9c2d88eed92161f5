//! Socket.IO with the clients that people use, of every generation: npm `socket.io-client` 1, 2, 3 and
//! 4 over polling, WebSocket and the way from one to the other.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    Gateway, NodeScript, Proxy, Script, Wire, node_modules, post, sessions::next as text, wait_for,
};

/// Every client in every way joins, is refused, proves who it is, follows a resource and a thing, gets
/// an acknowledgement, stays over some heartbeats, leaves a room, and leaves.
const SCENARIO: &str = r"
const [url, key, thing, ...generations] = process.argv.slice(2);
const ways = [['polling'], ['websocket'], ['polling', 'websocket']];
const wait = (socket, event) => new Promise(resolve => {
  const once = (...args) => { socket.off ? socket.off(event, once) : socket.removeListener(event, once); resolve(args); };
  socket.on(event, once);
});
async function scenario(generation, transports) {
  const io = require('socket.io-client-' + generation);
  const socket = (io.io || io)(url + '/v2', { transports, forceNew: true });
  const say = (...args) => console.log([generation, transports.join('+'), ...args].join(' '));
  socket.on('disconnect', reason => say('disconnect', reason));
  await wait(socket, 'connect');
  // The first clients send this before they are anybody.
  socket.emit('unsubscribe', { resource: '/me/resources/temperature' });
  socket.emit('authenticate', { sessionToken: 'wrong' });
  say('authenticate', (await wait(socket, 'authenticate'))[0].message);
  socket.emit('authenticate', { sessionToken: key });
  say('authenticate', (await wait(socket, 'authenticate'))[0].status);
  const topic = '/me/resources/temperature', things = '/things/' + thing;
  const values = [];
  socket.on(topic, data => values.push(data[0].value));
  const acknowledged = await new Promise(resolve => socket.emit('subscribe', { resource: topic }, resolve));
  say('subscribe', acknowledged.status, acknowledged.resource);
  const got = wait(socket, things);
  socket.emit('subscribe', { resource: things });
  say('thing', JSON.stringify((await got)[0]));
  // Over some heartbeats, and to the other transport where there is one.
  await new Promise(resolve => setTimeout(resolve, 1200));
  say('ready', (socket.io.engine.transport || {}).name);
  while (!values.includes(generation)) await wait(socket, topic);
  say('value', generation);
  socket.emit('unsubscribe', { resource: topic });
  say('unsubscribe', (await wait(socket, 'unsubscribe'))[0].status);
  socket.disconnect();
}
(async () => {
  for (const generation of generations.map(Number)) for (const way of ways) await scenario(generation, way);
  console.log('done');
  process.exit(0);
})();
";

pub(crate) fn gateway(settings: &[&str]) -> (Gateway, String, String) {
    let gateway = Gateway::with(
        &[&["heartbeat.ping_ms=400", "heartbeat.silence_ms=2500"], settings].concat(),
    );
    let thing = gateway.admin(&["device", "add", "lamp", "--type", "thing"]);
    let thing = thing["token"].as_str().unwrap().to_owned();
    let key = gateway.key("admin");
    (gateway, key, thing)
}

pub(crate) fn publish(gateway: &Gateway, key: &str, values: &Value) {
    let body = json!({"topic": "devices/lamp/telemetry", "qos": 1, "payload": values});
    let (status, told) = post(&gateway.address, "/v1/publish", key, &body.to_string());
    assert_eq!(status, 201, "{told}");
}

/// Runs the scenario with clients of these generations; `publish` says a temperature.
fn run_scenario(
    (url, key, thing): (&str, &str, &str),
    generations: &[u8],
    certificate: Option<&Path>,
    publish: impl Fn(&Value),
) {
    let Some(modules) = node_modules() else { return };
    publish(&json!({"temperature": 0.5}));
    let script = NodeScript::new(&modules, SCENARIO, &[]);
    let mut command = script.command();
    command.args([url, key, thing]);
    if let Some(certificate) = certificate {
        command.env("NODE_EXTRA_CA_CERTS", certificate);
    }
    command.args(generations.iter().map(ToString::to_string));
    told_by(&Script::start(&mut command), generations, publish);
}

/// What clients of these generations say of the scenario, over each transport and from one to the other.
pub(crate) fn told_by(clients: &Script, generations: &[u8], publish: impl Fn(&Value)) {
    for &generation in generations {
        for (way, last) in
            [("polling", "polling"), ("websocket", "websocket"), ("polling+websocket", "websocket")]
        {
            let told =
                |what: &str| assert_eq!(clients.line(), format!("{generation} {way} {what}"));
            told("authenticate Invalid session token");
            told("authenticate success");
            told("subscribe success /me/resources/temperature");
            let thing = clients.line();
            let start = format!("{generation} {way} thing [{{\"key\":\"temperature\",\"value\":");
            assert!(thing.starts_with(&start), "{thing}");
            told(&format!("ready {last}"));
            publish(&json!({"temperature": generation}));
            told(&format!("value {generation}"));
            told("unsubscribe success");
            told("disconnect io client disconnect");
        }
    }
    assert_eq!(clients.line(), "done");
}

#[test]
fn four_generations_of_clients_work_over_every_transport() {
    let (gateway, key, thing) = gateway(&[]);
    let url = format!("http://{}", gateway.address);
    let told = |values: &Value| publish(&gateway, &key, values);
    run_scenario((&url, &key, &thing), &[1, 2, 3, 4], None, told);
}

#[test]
fn clients_of_both_protocols_work_over_tls() {
    let (gateway, key, thing) = gateway(&["--self-signed"]);
    let url = format!("https://{}", gateway.address);
    let certificate = gateway.data().join("certs/self-signed.crt");
    run_scenario((&url, &key, &thing), &[2, 4], Some(&certificate), |values| {
        let frame = json!({"type": "publish", "topic": "devices/lamp/telemetry", "qos": 1,
            "msgid": values.to_string(), "payload": values});
        // One that is open all the while would have to answer pings.
        let mut app = gateway.as_app_over_tls(&key);
        app.send(&frame);
        app.next_of("ack");
    });
}

/// Leaves its namespace and comes again on one connection, which its root keeps open.
const AGAIN: &str = r"
const [url, key, other] = process.argv.slice(2);
const wait = (socket, event) => new Promise(resolve => socket.once(event, resolve));
async function again(generation) {
  const io = require('socket.io-client-' + generation);
  const root = (io.io || io)(url, { transports: ['websocket'], forceNew: true });
  const say = (...args) => console.log([generation, ...args].join(' '));
  await wait(root, 'connect');
  const engine = root.io.engine, socket = root.io.socket('/v2');
  const ask = async (event, argument) => { const told = wait(socket, event); socket.emit(event, argument); return await told; };
  const topic = '/me/resources/n';
  if (!socket.connected) await wait(socket, 'connect');
  for (let round = 0; round < 3; round++) {
    // Nobody is who it was before because of that.
    say('early', (await ask('subscribe', { resource: topic })).code);
    if (round > 0) say('other', (await ask('authenticate', { sessionToken: other })).code);
    say('authenticate', (await ask('authenticate', { sessionToken: key })).status);
    const value = wait(socket, topic);
    await ask('subscribe', { resource: topic });
    say('value', (await value)[0].value);
    const back = wait(socket, 'connect');
    socket.disconnect();
    socket.connect();
    await back;
  }
  say('same', root.io.engine === engine && root.connected);
  root.disconnect(); socket.disconnect();
}
(async () => { for (const generation of [1, 2, 3, 4]) await again(generation); process.exit(0); })();
";

#[test]
fn a_namespace_is_left_and_joined_again_on_one_connection() {
    let Some(modules) = node_modules() else { return };
    let (gateway, key, _) = gateway(&[]);
    let other = gateway.key("viewer");
    publish(&gateway, &key, &json!({"n": 7}));
    let script = NodeScript::new(&modules, AGAIN, &[]);
    let url = format!("http://{}", gateway.address);
    let client = Script::start(script.command().args([&url, &key, &other]));
    for generation in 1..=4 {
        let told = |what: &str| assert_eq!(client.line(), format!("{generation} {what}"));
        for round in 0..3 {
            told("early 401");
            if round > 0 {
                told("other 403");
            }
            told("authenticate success");
            told("value 7");
        }
        told("same true");
    }
}

/// Goes on by itself where the gateway was killed under it: it keeps positions, and was told of each.
const KEEPS: &str = r"
const { io } = require('socket.io-client-4');
const [url, key] = process.argv.slice(2);
const socket = io(url + '/v2', { auth: { position: '' }, transports: ['websocket'], reconnectionDelay: 20, reconnectionDelayMax: 100, randomizationFactor: 0 });
socket.on('connect', () => { console.log('connect'); socket.emit('authenticate', { sessionToken: key }); });
socket.on('authenticate', told => ['n', 'm'].forEach(name => socket.emit('subscribe', { resource: '/me/resources/' + name })));
socket.on('subscribe', told => console.log('subscribe', told.status));
for (const name of ['n', 'm'])
  socket.on('/me/resources/' + name, (items, position) => console.log('value', name, items[0].value, position));
";

/// What came of one room, repeats aside.
#[derive(Default)]
struct Heard {
    values: Vec<u64>,
    repeat_count: usize,
}

#[test]
fn a_client_that_keeps_positions_gets_what_it_missed_through_kills_of_the_gateway() {
    let Some(modules) = node_modules() else { return };
    let (mut gateway, key, _) = gateway(&[]);
    // The same address again and again, whatever the gateway's is.
    let proxy = Proxy::to(&gateway.address);
    let script = NodeScript::new(&modules, KEEPS, &[]);
    let url = format!("http://{}", proxy.address);
    publish(&gateway, &key, &json!({"n": 0, "m": 0}));
    let client = Script::start(script.command().args([&url, &key]));
    // The rooms begin with this one, so that it is known when they have.
    let mut heard = std::collections::BTreeMap::new();
    while heard.len() < 2 {
        let line = client.line_of("value");
        let (_, value) = line.split_once("value ").unwrap();
        let name = if value.starts_with("n 0 ") { "n" } else { "m" };
        heard.insert(name, Heard { values: vec![0], repeat_count: 0 });
    }
    let mut expected = 1;
    let mut position = String::new();
    // Reads until everything is there; how much came twice by then, and the newest position.
    let mut read = |expected: u64| loop {
        if heard.values().all(|of| of.values.len() as u64 == expected) {
            return (heard.values().map(|of| of.repeat_count).sum::<usize>(), position.clone());
        }
        let line = client.line_of("value");
        let words: Vec<&str> = line.split(' ').collect();
        // What is told as the last value has none, but for the very last of a room's beginning.
        if words[3] == "undefined" {
            continue;
        }
        let (of, value): (_, u64) = (heard.get_mut(words[1]).unwrap(), words[2].parse().unwrap());
        match of.values.last() {
            Some(last) if value <= *last => of.repeat_count += 1,
            last => {
                assert_eq!(value, last.map_or(0, |last| last + 1), "a hole: {line}");
                of.values.push(value);
            }
        }
        position = words[3].to_owned();
    };
    let (mut repeats, mut has_moved) = (0, true);
    for round in 0..5 {
        for _ in 0..20 {
            publish(&gateway, &key, &json!({"n": expected, "m": expected}));
            expected += 1;
        }
        let (now, before) = read(expected);
        assert!(!has_moved || now == repeats, "a repeat though the position had moved");
        has_moved = round % 2 == 0;
        if has_moved {
            wait_for("the position to move", || {
                publish(&gateway, &key, &json!({"n": expected, "m": expected}));
                expected += 1;
                (read(expected).1 != before).then_some(())
            });
        }
        repeats = read(expected).0;
        gateway.kill();
        gateway.up();
        proxy.retarget(&gateway.address);
        // What comes before the client is back.
        publish(&gateway, &key, &json!({"n": expected, "m": expected}));
        expected += 1;
    }
    read(expected);
}

pub(crate) fn join(gateway: &Gateway, auth: &str) -> Wire {
    let path = "/socket.io/?EIO=4&transport=websocket";
    let mut wire = Wire::open(&gateway.address, path, &[]).unwrap().into_text();
    wire.text();
    wire.send_text(&format!("40/v2,{auth}"));
    assert!(text(&mut wire).starts_with("40/v2,{\"sid\":\""));
    wire
}

pub(crate) fn event(wire: &mut Wire, name: &str, argument: &Value) -> String {
    wire.send_text(&format!("42/v2,{}", json!([name, argument])));
    text(wire)
}

#[test]
fn topics_that_may_not_be_followed_are_refused_and_nothing_closes() {
    let (gateway, _, thing) = gateway(&[]);
    gateway.admin(&["tenant", "add", "other"]);
    let other = gateway.admin(&["key", "add", "k", "--role", "admin", "--tenant", "other"]);
    let mut wire = join(&gateway, "");
    let refused = |wire: &mut Wire, resource: Value, code: u16| {
        let told = event(wire, "subscribe", &json!({"resource": resource}));
        assert!(told.contains(&format!("\"code\":{code}")), "{resource}: {told}");
    };
    refused(&mut wire, json!("/me/resources/a"), 401);
    let other = other["key"].as_str().unwrap();
    assert!(event(&mut wire, "authenticate", &json!({"sessionToken": other})).contains("success"));
    refused(&mut wire, json!(1), 400);
    refused(&mut wire, json!("temperature"), 404);
    refused(&mut wire, json!("/me/resources/"), 404);
    refused(&mut wire, json!("/things/nobodys"), 404);
    // Of another tenant it is as good as none.
    refused(&mut wire, json!(format!("/things/{thing}")), 404);
    assert!(event(&mut wire, "nonsense", &json!({})).contains("\"code\":404"));
    let again = event(&mut wire, "authenticate", &json!({"sessionToken": other}));
    assert!(again.contains("success"), "{again}");
}

#[test]
fn no_message_of_another_tenant_is_an_event() {
    let (gateway, key, _) = gateway(&[]);
    gateway.admin(&["tenant", "add", "other"]);
    let other = gateway.admin(&["key", "add", "k", "--role", "admin", "--tenant", "other"]);
    let mut wire = join(&gateway, "");
    event(&mut wire, "authenticate", &json!({"sessionToken": other["key"]}));
    event(&mut wire, "subscribe", &json!({"resource": "/me/resources/temperature"}));
    publish(&gateway, &key, &json!({"temperature": 1}));
    let body = json!({"topic": "devices/x/telemetry", "qos": 1, "payload": {"temperature": 2}});
    let key = other["key"].as_str().unwrap();
    let (status, told) = post(&gateway.address, "/v1/publish", key, &body.to_string());
    assert_eq!(status, 201, "{told}");
    let event = text(&mut wire);
    assert!(event.contains("\"value\":2,"), "{event}");
}

/// What tells this value, at the beginning of a room: the one before it may come first, or twice, while
/// the router is on its way (docs/protocol/socketio.md).
fn first(wire: &mut Wire, n: u64) -> String {
    loop {
        let told = text(wire);
        if told.contains(&format!("\"value\":{n},")) {
            return told;
        }
        assert!(told.contains(&format!("\"value\":{},", n - 1)), "{told}");
    }
}

#[test]
fn who_goes_on_from_a_position_gets_each_event_once_and_others_the_last_values() {
    let (gateway, key, _) = gateway(&[]);
    for n in 0..5 {
        publish(&gateway, &key, &json!({"a": n, "b": 10 * n}));
    }
    let follow = |auth: &str| {
        let mut wire = join(&gateway, auth);
        event(&mut wire, "authenticate", &json!({"sessionToken": key}));
        event(&mut wire, "subscribe", &json!({"resource": "/me/resources/a"}));
        wire
    };
    let mut last = follow("");
    let told = first(&mut last, 4);
    assert!(told.starts_with("42/v2,[\"/me/resources/a\",[{\"key\":\"a\",\"value\":4,"), "{told}");
    assert!(told.ends_with("}]]"), "no position unless asked for: {told}");
    publish(&gateway, &key, &json!({"a": 5, "b": 50}));
    first(&mut last, 5);

    let mut keeps = follow("{\"position\":\"\"}");
    first(&mut keeps, 5);
    publish(&gateway, &key, &json!({"a": 6, "b": 60}));
    let told = first(&mut keeps, 6);
    let position = told.rsplit('"').nth(1).unwrap().to_owned();
    assert!(told.contains("\"value\":6,") && position.contains(':'), "{told}");
    drop(keeps);
    for n in 7..10 {
        publish(&gateway, &key, &json!({"a": n, "b": 10 * n}));
    }
    let mut back = follow(&format!("{{\"position\":\"{position}\"}}"));
    for n in 7..10 {
        let told = text(&mut back);
        assert!(told.contains(&format!("\"value\":{n},")), "{told}");
    }
    // A second room begins there too, and the first one is not told again.
    event(&mut back, "subscribe", &json!({"resource": "/me/resources/b"}));
    for n in 7..10 {
        let told = text(&mut back);
        assert!(told.contains(&format!("\"value\":{},", 10 * n)), "{told}");
    }
    publish(&gateway, &key, &json!({"a": 10}));
    assert!(text(&mut back).contains("\"value\":10,"));
    // A position of another log is told by the last values.
    let mut foreign = follow("{\"position\":\"zz:5\"}");
    first(&mut foreign, 10);
}

/// The position that an event ends with.
fn position_of(told: &str) -> Option<String> {
    let end = told.strip_suffix("\"]")?;
    end.rsplit_once(",\"").map(|(_, position)| position.to_owned())
}

#[test]
fn who_was_told_the_last_values_goes_on_behind_them() {
    let (gateway, key, _) = gateway(&[]);
    let say = |device: &str, n: u64| {
        let topic = format!("devices/{device}/telemetry");
        let body = json!({"topic": topic, "qos": 1, "payload": {"a": n, "b": n}});
        assert_eq!(post(&gateway.address, "/v1/publish", &key, &body.to_string()).0, 201);
    };
    gateway.device("one");
    gateway.device("other");
    say("one", 0);
    say("other", 1);
    let follow = |auth: &str, rooms: &[&str]| {
        let mut wire = join(&gateway, auth);
        event(&mut wire, "authenticate", &json!({"sessionToken": key}));
        let mut told = Vec::new();
        for room in rooms {
            let resource = format!("/me/resources/{room}");
            wire.send_text(&format!("42/v2,{}", json!(["subscribe", {"resource": resource}])));
        }
        let mut subscribed = 0;
        while subscribed < rooms.len() {
            let text = text(&mut wire);
            if text.contains("[\"subscribe\"") { subscribed += 1 } else { told.push(text) }
        }
        (wire, told)
    };
    let (mut wire, mut told) = follow("{\"position\":\"\"}", &["a", "b", "none"]);
    while told.len() < 4 {
        told.push(text(&mut wire));
    }
    // The very last of them says it; one before it may be the last of rooms that were told alone.
    let positions: Vec<_> = told.iter().map(|told| position_of(told)).collect();
    assert!(positions[0].is_none() && positions[2].is_none(), "{told:?}");
    let position = positions[3].clone().unwrap();
    drop(wire);
    for n in 2..5 {
        say("one", n);
    }
    let (mut wire, mut told) = follow(&format!("{{\"position\":\"{position}\"}}"), &["a"]);
    while told.len() < 3 {
        told.push(text(&mut wire));
    }
    for (n, told) in (2..5).zip(told) {
        assert!(told.contains(&format!("\"value\":{n},")), "{told}");
    }
    // Where a client was is nowhere in this log: the last values say from where it goes on now.
    let (mut wire, mut told) = follow("{\"position\":\"zz:5\"}", &["a"]);
    while told.len() < 2 {
        told.push(text(&mut wire));
    }
    let position = position_of(&told[1]).unwrap();
    assert!(position_of(&told[0]).is_none() && !position.starts_with("zz"), "{told:?}");
    say("other", 9);
    let next = text(&mut wire);
    assert!(next.contains("\"value\":9,") && position_of(&next).unwrap() != position, "{next}");
}
