//! What the demo and the documentation print for a reader to paste works as printed.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::support::{Gateway, Script, fieldgate, node_modules, wait_for};

/// Runs a line as a reader would, with curl set to fail where it would only show a problem. A stream
/// has no end: it is cut after a moment.
#[track_caller]
fn paste(line: &str, token: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let time = if line.contains("/v1/stream") { 2 } else { 15 };
    let settings = format!("silent\nshow-error\nfail-with-body\nmax-time = {time}\n");
    std::fs::write(home.path().join(".curlrc"), settings).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("CURL_HOME", home.path()).env("HOME", home.path());
    let output = command.env("FIELDGATE_TOKEN", token).env("KEY", token).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let cut = line.contains("/v1/stream") && output.status.code() == Some(28);
    let failure = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || cut, "{line}\n{told}{failure}");
    told
}

#[test]
fn what_the_demo_prints_works_as_printed() {
    let demo = Script::start(fieldgate().args(["demo", "--listen", "127.0.0.1:0"]));
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.ends_with("/metrics")) {
        lines.push(demo.line().trim().to_owned());
    }
    let token = lines.iter().find_map(|line| line.strip_prefix("export FIELDGATE_TOKEN="));
    let token = token.unwrap().to_owned();
    // The table moves on in the background; its lines are not read any more.
    while !demo.line().contains("thermostat-1/telemetry") {}
    let run = |part: &str| {
        let line = lines.iter().find(|line| line.starts_with("curl") && line.contains(part));
        paste(line.unwrap_or_else(|| panic!("no line for {part}")), &token)
    };
    assert!(run("/v1/stream").contains("event: message"));
    let state: Value = serde_json::from_str(&run("thermostat-1/state")).unwrap();
    assert!(state["reported"]["target_temperature"].is_number(), "{state}");
    let outcome: Value = serde_json::from_str(&run("/v1/commands")).unwrap();
    assert_eq!(outcome["devices"][0]["state"], "completed", "{outcome}");
    assert!(run("/v1/drops").contains("\"items\""));
    assert!(run("/metrics").contains("fieldgate_"));
    let curls = lines.iter().filter(|line| line.starts_with("curl")).count();
    let told: Value = serde_json::from_str(&run("/v1/integrations")).unwrap();
    let names: Vec<_> = told["items"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["demo-cloud", "demo-target"]);
    wait_for("a delivery", || {
        let told: Value = serde_json::from_str(&run("/v1/integrations")).unwrap();
        (told["items"][1]["progress"]["delivered"].as_u64()? > 0).then_some(())
    });
    // A sensor of the cloud obeys.
    let line = lines.iter().find(|line| line.starts_with("fieldgate command TSDM")).unwrap();
    let binary = env!("CARGO_BIN_EXE_fieldgate");
    let told = paste(&line.replacen("fieldgate", binary, 1), &token);
    assert!(told.contains("completed"), "{told}");
    assert_eq!(curls, 6, "a line is not run here");
}

#[test]
fn the_node_lines_of_the_demo_show_what_moves() {
    let Some(modules) = node_modules() else { return };
    let demo = Script::start(fieldgate().args(["demo", "--listen", "127.0.0.1:0"]));
    let (mut token, mut found) = (String::new(), Vec::new());
    while found.len() < 2 {
        let line = demo.line();
        let line = line.trim();
        if let Some(found) = line.strip_prefix("export FIELDGATE_TOKEN=") {
            token = found.to_owned();
        } else if line.starts_with("node -e") {
            found.push(line.to_owned());
        }
    }
    for (line, shows) in found.iter().zip(["/telemetry", "TSDM00DEMO"]) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).env("NODE_PATH", &modules);
        let node = Script::start(command.env("FIELDGATE_TOKEN", &token));
        while !node.line().contains(shows) {}
    }
}

/// The lines of the page that a reader pastes.
fn lines_of(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(str::trim)
        .filter(|line| line.starts_with("curl "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_the_page_for_backends_prints_works_as_printed() {
    let gateway = Gateway::start();
    let token = gateway.admin(&["device", "add", "lamp-1", "--kind", "light"]);
    let mut lamp = gateway.as_device("lamp-1", token["token"].as_str().unwrap());
    lamp.send(&serde_json::json!({"type": "status", "msgid": "1", "data": {"on": false}}));
    lamp.next_of("ack");
    let answering = std::thread::spawn(move || {
        let control = lamp.next_of("control");
        let answer =
            serde_json::json!({"type": "reply", "msgid": control["msgid"], "status": "ok"});
        lamp.send(&answer);
        lamp
    });
    let key = gateway.key("admin");
    let lines = lines_of("connect-your-backend.md");
    assert!(lines.len() >= 5, "{lines:?}");
    for line in lines {
        let line = line.replace("127.0.0.1:8080", &gateway.address);
        let told = paste(&line, &key);
        if line.contains("wait=") {
            assert!(told.contains("\"completed\""), "{told}");
        }
    }
    drop(answering.join().unwrap());
}
