//! Socket.IO with `python-socketio`: the scenario of the npm clients, over polling, WebSocket and the way
//! from one to the other.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    socketio::{gateway, publish, told_by},
    support::{Script, python},
};

/// What `socketio::SCENARIO` does, told as a fifth generation.
const SCENARIO: &str = r#"
import json, sys, threading, time, socketio
url, key, thing = sys.argv[1:]
topic, things = "/me/resources/temperature", "/things/" + thing
def scenario(transports):
    client, heard, moved = socketio.Client(), {}, threading.Condition()
    say = lambda *words: print(5, "+".join(transports), *words, flush=True)
    def note(event):
        def on(*data):
            with moved:
                heard.setdefault(event, []).append(data)
                moved.notify_all()
        client.on(event, on, namespace="/v2")
    def wait(event, wanted=lambda data: True):
        with moved:
            found = lambda: next((data for data in heard.get(event, []) if wanted(data)), None)
            assert moved.wait_for(found, 20), (event, heard)
            return found()
    for event in ["authenticate", "unsubscribe", topic, things]:
        note(event)
    client.on("disconnect", lambda reason: say("disconnect", "io", reason), namespace="/v2")
    client.connect(url, namespaces=["/v2"], transports=transports)
    ask = lambda event, body: client.emit(event, body, namespace="/v2")
    ask("unsubscribe", {"resource": topic})
    ask("authenticate", {"sessionToken": "wrong"})
    say("authenticate", wait("authenticate", lambda data: data[0].get("status") != "success")[0]["message"])
    ask("authenticate", {"sessionToken": key})
    say("authenticate", wait("authenticate", lambda data: data[0].get("status") == "success")[0]["status"])
    told = client.call("subscribe", {"resource": topic}, namespace="/v2")
    say("subscribe", told["status"], told["resource"])
    ask("subscribe", {"resource": things})
    say("thing", json.dumps(wait(things)[0], separators=(",", ":")))
    # Over some heartbeats.
    time.sleep(1.2)
    say("ready", client.transport())
    wait(topic, lambda data: data[0][0]["value"] == 5)
    say("value", 5)
    with moved:
        heard.pop("unsubscribe", None)
    ask("unsubscribe", {"resource": topic})
    say("unsubscribe", wait("unsubscribe")[0]["status"])
    client.disconnect()
for transports in [["polling"], ["websocket"], ["polling", "websocket"]]:
    scenario(transports)
print("done", flush=True)
"#;

#[test]
fn python_socketio_passes_the_scenario_of_the_others() {
    let Some(python) = python() else { return };
    let (gateway, key, thing) = gateway(&[]);
    let told = |values: &Value| publish(&gateway, &key, values);
    told(&json!({"temperature": 0.5}));
    let url = format!("http://{}", gateway.address);
    let mut command = Command::new(&python);
    told_by(&Script::start(command.args(["-c", SCENARIO, &url, &key, &thing])), &[5], told);
}
