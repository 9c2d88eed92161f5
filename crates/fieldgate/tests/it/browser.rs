//! Socket.IO from pages in a real browser: polling across origins, with credentials.

use serde_json::json;

use crate::support::{Gateway, NodeScript, Script, chromium, node_modules, post};

const VISIT: &str = include_str!("data/visit_socketio.cjs");

#[test]
fn a_page_of_any_origin_polls_with_credentials() {
    let (Some(modules), Some(browser)) = (node_modules(), chromium()) else { return };
    let script = NodeScript::new(&modules, VISIT, &[]);
    let visit = Script::start(script.command().arg(browser));
    let origins = visit.line();
    let (known, _other) = origins.split_once(' ').unwrap();
    // What is named there may use what a browser sends by itself, of which there is nothing here.
    let gateway = Gateway::with(&[&format!("listen.origins=[\"{known}\"]")]);
    let key = gateway.key("admin");
    let body = json!({"topic": "devices/d/telemetry", "qos": 1, "payload": {"n": 7}});
    assert_eq!(post(&gateway.address, "/v1/publish", &key, &body.to_string()).0, 201);
    let told = json!({"url": format!("http://{}", gateway.address), "key": key});
    let part = script.path().join("gateway.part");
    std::fs::write(&part, told.to_string()).unwrap();
    std::fs::rename(part, script.path().join("gateway.json")).unwrap();
    for _origin in 0..2 {
        for generation in [2, 4] {
            assert_eq!(visit.line(), format!("{generation} 7 true,true []"));
        }
    }
}
