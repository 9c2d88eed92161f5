//! Administration by command: people, devices and keys, with and without a running gateway.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Gateway, fieldgate, run};

/// Runs a command with a secret on stdin.
fn with_stdin(arguments: &[&str], data: &Path, secret: &str) -> Output {
    let mut command = fieldgate();
    command.args(arguments).arg("--json").arg("--data").arg(data);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The exit code and the error of a command that failed.
fn refused(output: &Output) -> (Option<i32>, String) {
    let error: Value = serde_json::from_slice(&output.stderr)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), error["error"]["code"].as_str().unwrap().to_owned())
}

/// The lines of a command that succeeded.
fn lines(output: &Output) -> Vec<Value> {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const ADD: [&str; 6] = ["user", "add", "ada", "--role", "operator", "--password-stdin"];

#[test]
fn a_user_is_made_listed_given_a_password_and_removed() {
    let mut gateway = Gateway::start();
    let data = gateway.data();
    let made = lines(&with_stdin(&ADD, &data, "correct horse\n"));
    assert_eq!(made, [json!({"name": "ada", "role": "operator"})]);
    assert_eq!(refused(&with_stdin(&ADD, &data, "correct horse")), (Some(1), "conflict".into()));
    let password = ["user", "password", "ada", "--password-stdin"];
    assert_eq!(lines(&with_stdin(&password, &data, "another horse")), Vec::<Value>::new());
    // What the log says holds after a restart, and without any gateway.
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    assert_eq!(lines(&run(&["user", "list"], &data)), made);
    lines(&with_stdin(&password, &data, "offline horse"));
    lines(&run(&["user", "remove", "ada", "--yes"], &data));
    gateway.up();
    assert_eq!(lines(&run(&["user", "list"], &data)), Vec::<Value>::new());
    let gone = with_stdin(&password, &data, "another horse");
    assert_eq!(refused(&gone), (Some(1), "not_found".into()));
}

#[test]
fn a_password_is_never_kept_and_has_8_characters() {
    let gateway = Gateway::with(&["log.level=trace"]);
    let data = gateway.data();
    // The final newline is not part of it.
    assert_eq!(refused(&with_stdin(&ADD, &data, "7letter\n")), (Some(2), "bad_value".into()));
    let long = "x".repeat(1_025);
    assert_eq!(refused(&with_stdin(&ADD, &data, &long)), (Some(2), "bad_value".into()));
    lines(&with_stdin(&ADD, &data, "a very secret horse\n"));
    assert!(!gateway.output().contains("secret horse"));
    let log = std::fs::read_dir(data.join("log")).unwrap();
    let bytes: Vec<u8> =
        log.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default()).collect();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("$argon2id$v=19$m=19456,t=2,p=1$") && !holds("secret horse"));
    let dumped = run(&["log", "dump"], &data);
    assert!(!String::from_utf8_lossy(&dumped.stdout).contains("argon2"));
}

#[test]
fn without_a_terminal_a_password_must_come_from_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let output = with_stdin(&ADD[..5], folder.path(), "correct horse");
    assert_eq!(refused(&output), (Some(2), "usage".into()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--password-stdin"));
}
