//! The description of `/v1` against the gateway, judged by schemathesis (PyPI), with every role.
//!
//! It makes requests that fit the description and requests that do not, and looks for a 5xx, a status,
//! header, content type or body that is not described, and for what should have been refused.

use std::process::Command;

use serde_json::json;

use crate::support::{Gateway, python};

/// What it cannot judge: a request may fit the description and be refused all the same (a name that
/// is taken, a value that the device's profile does not have), a stream has no end, and 426 of an upgrade
/// is no refusal to it.
const LEFT_OUT: [&str; 6] = [
    "--exclude-checks",
    "positive_data_acceptance",
    "--exclude-path",
    "/v1/stream",
    "--exclude-operation-id",
    "open_thingsee",
];

/// A gateway with one of everything.
fn furnished() -> (Gateway, String) {
    let gateway = Gateway::with(&[
        "limits.auth_failures_per_minute_max=1000000",
        "limits.messages_per_second=100000",
        "limits.message_burst=100000",
    ]);
    let device = gateway.admin(&["device", "add", "lamp-1", "--kind", "light"]);
    let token = device["token"].as_str().unwrap().to_owned();
    gateway.admin(&["key", "add", "app", "--grant", "subscribe:#"]);
    let target = "http://127.0.0.1:9/";
    let add = ["integration", "add", "warehouse", "--kind", "rest", "--allow-private"];
    gateway.admin(&[&add[..], &["--url", target]].concat());
    let mut lamp = gateway.as_device("lamp-1", &token);
    lamp.send(&json!({"type": "status", "msgid": "m-1", "data": {"on": true, "brightness": 0.5}}));
    lamp.next_of("ack");
    (gateway, token)
}

/// Lets the tester ask as somebody; `without` are methods that it leaves alone.
fn judge(gateway: &Gateway, token: Option<&str>, without: &[&str]) {
    let Some(python) = python() else { return };
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .args(["run", "--phases", "examples,coverage,fuzzing", "--max-examples", "12"])
        .args(["--seed", "1", "--checks", "all", "--continue-on-failure", "--no-color"])
        .args(["--request-timeout", "20", "--generation-database", "none"])
        .args(LEFT_OUT)
        .args(without.iter().flat_map(|method| ["--exclude-method", method]))
        .args(token.iter().flat_map(|t| ["-H".into(), format!("Authorization: Bearer {t}")]))
        .arg(format!("http://{}/doc/openapi.json", gateway.address))
        .current_dir(gateway.data());
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("cases:"), "it tested nothing: {told}");
}

#[test]
fn the_description_holds_for_an_administrator() {
    let (gateway, _) = furnished();
    let key = gateway.key("admin");
    judge(&gateway, Some(&key), &["DELETE"]);
    judge(&gateway, Some(&key), &[]);
}

#[test]
fn the_description_holds_for_an_operator() {
    let (gateway, _) = furnished();
    judge(&gateway, Some(&gateway.key("operator")), &[]);
}

#[test]
fn the_description_holds_for_a_viewer() {
    let (gateway, _) = furnished();
    judge(&gateway, Some(&gateway.key("viewer")), &[]);
}

#[test]
fn the_description_holds_for_a_device() {
    let (gateway, token) = furnished();
    judge(&gateway, Some(&token), &[]);
}

#[test]
fn the_description_holds_for_nobody() {
    let (gateway, _) = furnished();
    judge(&gateway, None, &[]);
}
