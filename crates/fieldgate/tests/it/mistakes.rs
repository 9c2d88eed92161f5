//! What a person types wrong: the command says what it was, and harms nothing.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::{Gateway, fieldgate, run};

/// The exit code, and the error's code, message and hint.
fn told(output: &Output) -> (i32, String, String, String) {
    let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
    let text = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), text("code"), text("message"), text("hint"))
}

fn typed(arguments: &[&str], token: &str) -> (i32, String, String, String) {
    let mut command = fieldgate();
    command.args(arguments).arg("--json").env("FIELDGATE_TOKEN", token).stdin(Stdio::null());
    told(&command.output().unwrap())
}

#[test]
fn a_port_that_is_none_is_not_another_one() {
    for command in [&["status"][..], &["publish", "a", "1"]] {
        let url = "http://127.0.0.1:99999";
        let (exit, code, message, _) = typed(&[command, &["--url", url]].concat(), "fg_k_1");
        assert_eq!((exit, code.as_str()), (2, "usage"), "{message}");
        assert!(message.contains("has no port of 1 to 65535"), "{message}");
    }
}

/// A `serve` that fails.
fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

fn serve(data: &Path) -> Command {
    let mut command = fieldgate();
    command.args(["serve", "--set", "store.free_bytes_min=0", "--data"]).arg(data);
    command
}

#[test]
fn a_start_that_fails_leaves_the_log_clean() {
    let taken = Gateway::start();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    // It is a folder: the file cannot take its name, which shows only once it is written.
    let ready = folder.path().join("ready");
    std::fs::create_dir(&ready).unwrap();
    let is_clean = || {
        let looked = run(&["log", "verify"], &data);
        let looked: Value = serde_json::from_slice(&looked.stdout).unwrap();
        looked["clean"] == true
    };
    let told = fails(serve(&data).args(["--listen", "127.0.0.1:0", "--ready-file"]).arg(&ready));
    assert!(told.contains("--ready-file") && is_clean(), "{told}");
    let told = fails(serve(&data).args(["--listen", &taken.address]));
    assert!(told.contains("cannot be bound") && is_clean(), "{told}");

    let new = folder.path().join("new");
    let told = fails(serve(&new).args(["--listen", "127.0.0.1:0", "--ready-file", "/nowhere/x"]));
    assert!(told.contains("--ready-file /nowhere/x") && !new.exists(), "{told}");
    let long = folder.path().join("x".repeat(120));
    let told = fails(serve(&long).args(["--listen", "127.0.0.1:0"]));
    assert!(told.contains("a socket's path may have 107: choose a shorter --data"), "{told}");
    assert!(!long.exists());
    let (exit, _, message, _) = typed(&["publish", "a", "1", "--data", long.to_str().unwrap()], "");
    assert!(exit == 2 && message.contains("choose a shorter --data"), "{message}");
}

#[test]
fn a_refusal_before_the_connection_has_the_gateways_own_code() {
    let gateway = Gateway::start();
    let (key, url) = (gateway.key("operator"), format!("http://{}", gateway.address));
    let with =
        |command: &[&str], token: &str| typed(&[command, &["--url", url.as_str()]].concat(), token);
    let (exit, code, message, _) = with(&["publish", "a/b", "1", "--tenant", "nix"], &key);
    assert_eq!((exit, code.as_str()), (1, "not_found"), "{message}");
    for command in [&["status"][..], &["publish", "a/b", "1"]] {
        let (exit, code, message, hint) = with(command, "nope");
        assert_eq!((exit, code.as_str()), (4, "not_authenticated"), "{command:?}: {message}");
        assert!(hint.contains("FIELDGATE_TOKEN"), "{command:?}: {hint}");
        let (exit, code, message, _) = with(command, "no\u{e4}");
        assert_eq!((exit, code.as_str()), (2, "usage"), "{command:?}: {message}");
        assert!(message.contains("visible ASCII"), "{message}");
    }
}

#[test]
fn tls_against_plain_text_says_which_it_is() {
    let (plain, tls) = (Gateway::start(), Gateway::with(&["--self-signed"]));
    let wrong = [
        (format!("https://{}", plain.address), "http://"),
        (format!("http://{}", tls.address), "https://"),
    ];
    for (url, hint) in wrong {
        for command in [&["status"][..], &["publish", "a", "1"]] {
            let (exit, code, message, told) =
                typed(&[command, &["--url", url.as_str()]].concat(), "fg_k_1");
            assert_eq!((exit, code.as_str()), (3, "unreachable"), "{url}: {message}");
            assert_eq!(told, format!("does it speak TLS? try {hint}"), "{url}: {message}");
        }
    }
}

#[test]
fn a_line_that_cannot_be_sent_is_named() {
    let gateway = Gateway::start();
    let (key, url) = (gateway.key("operator"), format!("http://{}", gateway.address));
    let publish = |lines: &[u8]| {
        let mut command = fieldgate();
        command.args(["publish", "a", "-", "--json", "--url", &url]).env("FIELDGATE_TOKEN", &key);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // It may end before it has read all of it.
        let _ = child.stdin.take().unwrap().write_all(lines);
        told(&child.wait_with_output().unwrap())
    };
    let long = [b"1\n\"", "x".repeat(300_000).as_bytes(), b"\"\n"].concat();
    let (exit, code, message, _) = publish(&long);
    assert_eq!((exit, code.as_str()), (1, "too_large"), "{message}");
    assert!(message.contains("line 2 has 300002 bytes; limits.frame_bytes_max"), "{message}");
    let (exit, code, message, _) = publish(b"1\n2\n\xff\n");
    assert_eq!((exit, code.as_str()), (2, "usage"), "{message}");
    assert!(message.contains("line 3 of stdin is not UTF-8"), "{message}");
}

#[test]
fn an_empty_variable_is_not_set() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("fieldgate-data");
    assert!(run(&["device", "add", "d"], &data).status.success());
    let variables =
        ["FIELDGATE_DATA", "FIELDGATE_CONFIG", "FIELDGATE_URL", "FIELDGATE__LOG__LEVEL"];
    for command in [&["log", "verify"][..], &["config", "check"], &["device", "list"]] {
        let mut command_line = fieldgate();
        command_line.args(command).arg("--json").current_dir(folder.path());
        let output = command_line.envs(variables.map(|name| (name, ""))).output().unwrap();
        assert!(output.status.success(), "{command:?}: {:?}", told(&output));
    }
}

#[test]
fn a_flag_and_the_same_setting_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        ("--listen=127.0.0.1:0", "listen.http=127.0.0.1:1"),
        ("--ws-port=auto", "deconz.ws_port=8088"),
    ];
    for (flag, setting) in flags {
        let told = fails(serve(folder.path()).args([flag, "--set", setting]));
        assert!(told.contains("and --set both set") && told.contains("give one"), "{told}");
    }
}

#[test]
fn passing_over_what_waits_is_asked_first() {
    let gateway = Gateway::start();
    let target = ["--kind", "rest", "--url", "http://a/", "--filter", "#", "--from", "all"];
    gateway.admin(&[&["integration", "add", "out"], &target[..]].concat());
    gateway.admin(&["integration", "pause", "out"]);
    gateway.admin(&["device", "add", "d"]);
    let data = gateway.data();
    assert!(run(&["publish", "a", "1"], &data).status.success());
    let replay = |more: &[&str]| {
        told(&run(&[&["integration", "replay", "out", "--from"], more].concat(), &data))
    };
    let (exit, code, message, _) = replay(&["now"]);
    assert_eq!((exit, code.as_str()), (2, "usage"), "{message}");
    assert!(message.contains("for out. Pass over those before now?"), "{message}");
    assert_eq!(replay(&["all"]).0, 0, "that passes over nothing");
    assert_eq!(replay(&["now", "--yes"]).0, 0);
    assert_eq!(replay(&["now"]).0, 0, "nothing waits any more");
    let (exit, _, message, _) = replay(&["foo"]);
    assert_eq!(exit, 2);
    assert!(message.contains("now, all") && message.contains("-10m"), "{message}");
}

#[test]
fn the_demo_is_not_told_of_flags_that_it_does_not_have() {
    let told = fails(fieldgate().args(["demo", "--listen", "0.0.0.0:0"]));
    assert!(told.contains("127.0.0.1:0") && !told.contains("--self-signed"), "{told}");
}
