//! Secrets: whatever is done with them, they are in no log, answer or file that is not theirs.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::json;

use crate::support::{Gateway, Wire, fieldgate, run};

const OWN_TOKEN: &str = "own-token-of-a-device-1234";
const THING_TOKEN: &str = "thing-token_of-exactly-43-base64url-charact";
const PASSWORD: &str = "correct horse battery";
const NEXT_PASSWORD: &str = "another horse battery";
const GUESSES: [&str; 6] = [
    "guess-in-a-header-123",
    "guess-in-a-query-1234",
    "guess-in-a-frame-1234",
    "guess-in-broken-json-1",
    "guess-at-the-status-12",
    "guess-from-the-shell-1",
];

/// Runs a command with a secret on stdin; everything that it printed is kept in `said`.
fn with_stdin(arguments: &[&str], data: &Path, secret: &str, said: &mut String) {
    let mut child = fieldgate()
        .args(arguments)
        .args(["--json", "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
    keep(&child.wait_with_output().unwrap(), said);
}

fn keep(output: &Output, said: &mut String) {
    said.push_str(&String::from_utf8_lossy(&output.stdout));
    said.push_str(&String::from_utf8_lossy(&output.stderr));
}

/// Makes secrets in every way there is; what may not show any of them goes to `said`.
fn make(gateway: &Gateway, said: &mut String) -> Vec<String> {
    let data = gateway.data();
    let mut made = Vec::new();
    let mut once = |arguments: &[&str], name: &str| {
        let value = gateway.admin(arguments)[name].as_str().unwrap().to_owned();
        made.push(value.clone());
        value
    };
    once(&["device", "add", "d"], "token");
    once(&["device", "add", "t", "--type", "thing"], "token");
    once(&["device", "credential", "add", "d"], "token");
    once(&["device", "add", "r"], "token");
    once(&["device", "rotate", "r", "--yes"], "token");
    once(&["key", "add", "k", "--role", "admin"], "key");
    with_stdin(&["device", "add", "own", "--token-stdin"], &data, OWN_TOKEN, said);
    let thing = ["device", "add", "own-thing", "--type", "thing", "--token-stdin"];
    with_stdin(&thing, &data, THING_TOKEN, said);
    // Refused, because it is known already.
    with_stdin(&["device", "credential", "add", "own", "--token-stdin"], &data, OWN_TOKEN, said);
    let user = ["user", "add", "ada", "--role", "viewer", "--password-stdin"];
    with_stdin(&user, &data, PASSWORD, said);
    with_stdin(&["user", "password", "ada", "--password-stdin"], &data, NEXT_PASSWORD, said);
    for command in [
        &["device", "list"][..],
        &["device", "show", "d"],
        &["device", "credential", "list", "d"],
        &["key", "list"],
        &["user", "list"],
        &["status"],
    ] {
        keep(&run(command, &data), said);
    }
    made.extend([OWN_TOKEN, THING_TOKEN, PASSWORD, NEXT_PASSWORD].map(str::to_owned));
    made
}

/// Uses right and wrong secrets in every place that takes one.
fn connect(gateway: &Gateway, device: &str, key: &str, said: &mut String) {
    let address = &gateway.address;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let [header, query, frame, broken, status, shell] = GUESSES;
    drop(gateway.as_app(key));
    drop(gateway.as_device("d", device));
    drop(gateway.as_device("own", OWN_TOKEN));
    drop(Wire::open(address, &format!("/ws?token={key}"), &[]).unwrap());
    let mut refused = |opened: Result<Wire, String>| said.push_str(&opened.err().unwrap());
    refused(Wire::open(address, "/ws", &[&bearer(header)]));
    refused(Wire::open(address, &format!("/ws?token={query}"), &[]));
    refused(Wire::open(address, &format!("/nothing/{query}?token={key}"), &[]));
    refused(Wire::open(address, "/ws", &[&bearer(device), "Device-ID: another"]));
    let mut hear = |frames: &[String]| {
        let mut wire = gateway.connect();
        for frame in frames {
            wire.send_text(frame);
        }
        while let crate::support::Seen::Frame(frame) = wire.see() {
            said.push_str(&frame.to_string());
        }
    };
    let auth = |token: &str| json!({"type": "auth", "deviceId": "d", "token": token}).to_string();
    hear(&[auth(frame)]);
    hear(&[auth(broken).replace("\"}", "")]);
    hear(&[json!({"type": "auth", "token": [broken, key]}).to_string()]);
    hear(&[json!({"type": "publish", "topic": "a", "token": frame}).to_string()]);
    // What is no frame at this place is answered, and told in the log.
    let mut wire = gateway.as_app(key);
    wire.send(&json!({"type": "auth", "token": frame, "deviceId": device}));
    wire.send(&json!({"type": "ping"}));
    wire.next_of("pong");
    for path in ["/v1/status", "/v1/drops?limit=x", "/metrics", "/v1/drops?limit=1"] {
        let join = if path.contains('?') { '&' } else { '?' };
        for token in [status, key, device] {
            said.push_str(&gateway.get(&format!("{path}{join}token={token}"), None).1);
            said.push_str(&gateway.get(path, Some(token)).1);
        }
    }
    for token in [shell, key] {
        let url = format!("http://{address}");
        for arguments in [&["publish", "a/b", "1"][..], &["status"], &["subscribe", "#/bad"]] {
            let mut command = fieldgate();
            let command = command.args(arguments).args(["--url", &url]);
            keep(&command.env("FIELDGATE_TOKEN", token).output().unwrap(), said);
        }
    }
}

/// Every file below a folder, but those whose business secrets are.
fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.is_file() && !path.ends_with("master.key") {
            let mut bytes = std::fs::read(&path).unwrap();
            // A segment is zeros behind what was written.
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
            found.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

#[test]
fn no_secret_is_in_any_log_line_answer_or_file() {
    for format in ["text", "json"] {
        let settings = [
            "log.level=trace",
            &format!("log.format={format}"),
            "limits.auth_failures_per_minute_max=1000",
        ];
        let mut gateway = Gateway::without_a_level(&settings);
        let mut said = String::new();
        let made = make(&gateway, &mut said);
        let (device, key) = (made[0].clone(), made[5].clone());
        connect(&gateway, &device, &key, &mut said);
        gateway.signal("TERM");
        assert_eq!(gateway.ended(), Some(0));
        keep(&run(&["log", "dump"], &gateway.data()), &mut said);
        let log = gateway.output();
        assert!(log.contains("link ended") && log.contains("DEBUG"), "the log tells: {log}");
        assert!(said.contains("not_authenticated"), "the refusals were heard: {said}");
        let mut places = Vec::new();
        files(&gateway.data(), &mut places);
        assert!(places.iter().any(|(_, text)| text.contains("own-thing")), "the files are read");
        places.push(("the log".to_owned(), log));
        places.push(("an answer".to_owned(), said));
        for secret in made.iter().map(String::as_str).chain(GUESSES) {
            for (place, text) in &places {
                assert!(!text.contains(secret), "{secret} is in {place} ({format})");
            }
        }
    }
}
