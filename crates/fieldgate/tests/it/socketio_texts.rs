//! What clients of Socket.IO are told and say beyond ASCII, and by which names they are known.

use serde_json::{Value, json};

use crate::{
    socketio::{gateway, publish},
    support::{
        NodeScript, Script, node_modules,
        sessions::{Polling, next, session},
    },
};

/// Every generation over each transport follows a resource whose name and values are beyond ASCII.
const SCENARIO: &str = r"
const [url, key] = process.argv.slice(2);
const topic = '/me/resources/l\u00e4mp\u00f6';
const wait = (socket, event) => new Promise(resolve => socket.once(event, resolve));
async function scenario(generation, transports) {
  const io = require('socket.io-client-' + generation);
  const socket = (io.io || io)(url + '/v2', { transports, forceNew: true });
  const say = (...args) => console.log(JSON.stringify([generation, transports.join('+'), ...args]));
  socket.on('disconnect', reason => say('disconnect', reason));
  await wait(socket, 'connect');
  const authenticated = wait(socket, 'authenticate');
  socket.emit('authenticate', { sessionToken: key });
  await authenticated;
  const values = [];
  socket.on(topic, data => values.push(data[0]));
  socket.emit('subscribe', { resource: topic });
  const subscribed = await wait(socket, 'subscribe');
  say('subscribe', subscribed.resource);
  while (!values.some(item => item.value === generation + ' \u00b0C \u00e9\u20ac\ud83d\ude42')) await wait(socket, topic);
  say('value', values[values.length - 1].key, values[values.length - 1].value);
  socket.disconnect();
}
(async () => {
  for (const generation of [1, 2, 3, 4])
    for (const way of [['polling'], ['websocket'], ['polling', 'websocket']]) await scenario(generation, way);
  process.exit(0);
})();
";

#[test]
fn names_and_values_beyond_ascii_come_to_every_client_over_every_transport() {
    let Some(modules) = node_modules() else { return };
    let (gateway, key, _) = gateway(&[]);
    publish(&gateway, &key, &json!({"l\u{e4}mp\u{f6}": "\u{20ac} before"}));
    let script = NodeScript::new(&modules, SCENARIO, &[]);
    let url = format!("http://{}", gateway.address);
    let clients = Script::start(script.command().args([&url, &key]));
    for generation in 1..=4 {
        for way in ["polling", "websocket", "polling+websocket"] {
            let told = |what: &[&str]| {
                let line: Value = serde_json::from_str(&clients.line()).unwrap();
                let words = what.iter().map(|word| json!(word));
                let expected: Vec<_> =
                    [json!(generation), json!(way)].into_iter().chain(words).collect();
                assert_eq!(line, json!(expected));
            };
            told(&["subscribe", "/me/resources/l\u{e4}mp\u{f6}"]);
            let value = format!("{generation} \u{b0}C \u{e9}\u{20ac}\u{1f642}");
            publish(&gateway, &key, &json!({"l\u{e4}mp\u{f6}": value}));
            told(&["value", "l\u{e4}mp\u{f6}", &value]);
            told(&["disconnect", "io client disconnect"]);
        }
    }
}

#[test]
fn the_id_that_programs_see_opens_no_session() {
    let (gateway, key, _) = gateway(&[]);
    let (client, opening) = Polling::open(&gateway, 4);
    client.post("40/v2,{\"position\":\"\"}");
    let joined = client.next();
    let told: Value = serde_json::from_str(joined.strip_prefix("40/v2,").unwrap()).unwrap();
    let secret = opening["sid"].as_str().unwrap();
    for id in [&told["sid"], &told["pid"]] {
        let id = id.as_str().unwrap();
        assert!(id.len() >= 20 && id != secret, "{joined}");
        assert_eq!(client.called(id).poll().0, 400, "it is nobody's session");
        assert!(client.called(id).websocket().is_err());
    }
    assert_ne!(told["sid"], told["pid"]);
    client.post(&format!("42/v2,{}", json!(["authenticate", {"sessionToken": key}])));
    assert!(client.next().contains("success"), "the session goes on");
}

#[test]
fn what_a_client_keeps_of_an_event_without_a_position_is_none() {
    let (gateway, _, _) = gateway(&[]);
    let mut wire = session(&gateway, 4);
    let join = |wire: &mut crate::support::Wire, auth: Value| {
        wire.send_text(&format!("40/v2,{auth}"));
        next(wire)
    };
    // As socket.io-client 4 keeps it: the last text of the last event, which may be its name.
    let told = join(&mut wire, json!({"offset": "access_denied", "position": ""}));
    assert!(told.starts_with("40/v2,") && told.contains("\"pid\""), "{told}");
    wire.send_text("41/v2,");
    let told = join(&mut wire, json!({"offset": "access_denied", "position": "nowhere"}));
    assert!(told.starts_with("44/v2,") && told.contains("a position is epoch:seq"), "{told}");
}
