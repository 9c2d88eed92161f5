//! The description of events: the one in the documentation, and judged by AsyncAPI's own parser (npm).

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Gateway, NodeScript, Script, node_modules};

const CHECK: &str = include_str!("data/check_asyncapi.cjs");

fn served(gateway: &Gateway, path: &str) -> String {
    let (status, text) = gateway.get(path, None);
    assert_eq!(status, 200, "{path}");
    text
}

/// A change of the interface shows in review: `FIELDGATE_WRITE=1` writes the copy anew.
#[test]
fn the_description_of_events_is_the_one_in_the_documentation() {
    let gateway = Gateway::start();
    let yaml = served(&gateway, "/doc/asyncapi.yaml");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/asyncapi.yaml");
    if std::env::var_os("FIELDGATE_WRITE").is_some() {
        std::fs::write(&path, &yaml).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == yaml, "{} is not what is served: see FIELDGATE_WRITE", path.display());
}

#[test]
fn the_official_parser_has_nothing_to_say_of_it_and_every_example_fits() {
    let Some(modules) = node_modules() else { return };
    let settings =
        ["kamea.event=measured", r#"kamea.body={"of":"{deviceId}","v":["{telemetries}"]}"#];
    let (plain, configured) = (Gateway::start(), Gateway::with(&settings));
    let json = served(&plain, "/doc/asyncapi.json");
    let document: Value = serde_json::from_str(&json).unwrap();
    let broken = |pointer: &str, value: Value| {
        let mut document = document.clone();
        *document.pointer_mut(pointer).unwrap() = value;
        document.to_string()
    };
    let example = "/components/messages/native.ack.sub/examples/0/payload/seq";
    let files = [
        ("a.json", json.clone()),
        ("b.yaml", served(&plain, "/doc/asyncapi.yaml")),
        ("c.json", served(&configured, "/doc/asyncapi.json")),
        ("d.json", broken("/operations/native.ack.sub/action", json!("say"))),
        ("e.json", broken(example, json!("one"))),
    ];
    let written = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let script = NodeScript::new(&modules, CHECK, &written);
    let check = Script::start(script.command().args(files.each_ref().map(|(name, _)| name)));
    let operations = document["operations"].as_object().unwrap().len();
    for (name, _) in files {
        let told: Value = serde_json::from_str(&check.line()).unwrap();
        if matches!(name, "d.json" | "e.json") {
            assert_ne!(told["wrong"], json!([]), "{name} is broken");
            continue;
        }
        assert_eq!(told["wrong"], json!([]), "{name}");
        assert_eq!((&told["version"], &told["operations"]), (&json!("3.1.0"), &json!(operations)));
        assert!(told["examples"].as_u64().unwrap() > 40, "{told}");
    }
}
