//! The command line: shapes, exit codes, and errors that help.

use serde_json::Value;

use crate::support::{Gateway, fieldgate, run};

#[test]
fn publish_and_subscribe_work_with_a_key() {
    let gateway = Gateway::start();
    let key = gateway.key("operator");
    let url = format!("http://{}", gateway.address);
    let command = |arguments: &[&str]| {
        fieldgate()
            .args(arguments)
            .args(["--url", &url, "--json"])
            .env("FIELDGATE_TOKEN", &key)
            .output()
            .unwrap()
    };
    let published = command(&["publish", "plant/x", r#"{"a":1}"#, "--qos", "1"]);
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    let receipt: Value = serde_json::from_slice(&published.stdout).unwrap();
    assert!(receipt["seq"].is_u64());
    let seen = command(&["subscribe", "plant/#", "--since", "all", "--count", "1"]);
    let line: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!((&line["seq"], &line["topic"]), (&receipt["seq"], &Value::from("plant/x")));
    assert_eq!(line["payload"]["a"], 1);
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let gateway = Gateway::start();
    let url = format!("http://{}", gateway.address);
    let code = |arguments: &[&str], token: Option<&str>| {
        let mut command = fieldgate();
        command.args(arguments);
        if let Some(token) = token {
            command.env("FIELDGATE_TOKEN", token);
        }
        command.output().unwrap().status.code()
    };
    assert_eq!(code(&["nonsense"], None), Some(2));
    assert_eq!(code(&["config", "check", "--set", "limits.nonsense=1"], None), Some(2));
    assert_eq!(code(&["publish", "a", "1", "--url", "http://127.0.0.1:1"], Some("x")), Some(3));
    assert_eq!(code(&["publish", "a", "1", "--url", &url], Some("wrong")), Some(4));
    assert_eq!(code(&["config", "check"], None), Some(0));
}

#[test]
fn an_error_is_json_with_code_and_message() {
    let gateway = Gateway::start();
    gateway.device("d");
    let output = run(&["device", "add", "d"], &gateway.data());
    assert_eq!(output.status.code(), Some(1));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "conflict");
}

#[test]
fn devices_can_be_made_while_no_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    let added = run(&["device", "add", "d"], folder.path());
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let listed = run(&["device", "list"], folder.path());
    assert!(String::from_utf8_lossy(&listed.stdout).contains("\"d\""));
}

#[test]
fn the_example_configuration_is_the_template() {
    let output = fieldgate().args(["config", "template"]).output().unwrap();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fieldgate.example.toml");
    let example = std::fs::read_to_string(example).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), example.trim());
}
