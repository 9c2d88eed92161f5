//! Profiles on a real gateway: what a device is, who may say so, and which commands it takes.

use serde_json::{Value, json};

use crate::support::{Gateway, run};

/// Makes a device with these flags; its token.
fn device(gateway: &Gateway, id: &str, flags: &[&str]) -> String {
    let made = gateway.admin(&[&["device", "add", id], flags].concat());
    made["token"].as_str().unwrap().to_owned()
}

fn shown(gateway: &Gateway, id: &str) -> Value {
    gateway.admin(&["device", "show", id])
}

#[test]
fn a_device_gets_the_profile_of_its_kind() {
    let mut gateway = Gateway::start();
    device(&gateway, "lamp", &["--kind", "light"]);
    device(&gateway, "plain", &[]);
    let lamp = shown(&gateway, "lamp");
    let resources = json!([
        {"name": "on", "type": "bool", "writable": true},
        {"name": "brightness", "type": "number", "writable": true, "min": 0, "max": 1},
    ]);
    assert_eq!(lamp["profile"], json!({"kind": "light", "resources": resources}));
    assert_eq!((&lamp["kind"], &lamp["revision"]), (&json!("light"), &json!(1)));
    let plain = shown(&gateway, "plain");
    assert_eq!((&plain["profile"], &plain["revision"]), (&Value::Null, &Value::Null));
    let output = run(&["device", "add", "x", "--kind", "toaster"], &gateway.data());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("bad_value") && told.contains("thermostat"), "{told}");
    gateway.kill();
    gateway.up();
    assert_eq!(shown(&gateway, "lamp"), lamp);
    let words = crate::support::fieldgate()
        .args(["device", "show", "lamp", "--data"])
        .arg(gateway.data())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&words.stdout);
    assert!(words.contains("revision     1") && words.contains("brightness"), "{words}");
}
