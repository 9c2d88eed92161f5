//! Administration by command: people, devices and keys, with and without a running gateway.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, fieldgate, run};

/// Runs a command with a secret on stdin.
pub(crate) fn with_stdin(arguments: &[&str], data: &Path, secret: &str) -> Output {
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
fn the_key_may_be_kept_elsewhere_and_every_command_finds_it() {
    let elsewhere = tempfile::tempdir().unwrap();
    let key = elsewhere.path().join("fieldgate.key");
    let setting = format!("security.master_key_file={key:?}");
    let mut gateway = Gateway::with(&[&setting]);
    let token = gateway.device("d");
    drop(gateway.as_device("d", &token));
    assert_eq!(std::fs::read_link(gateway.data().join("master.key")).unwrap(), key);
    assert_eq!(std::fs::read(&key).unwrap().len(), 32);
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    // A command that opens the folder knows nothing of the configuration.
    let other = gateway.device("made-while-nothing-runs");
    gateway.up();
    drop(gateway.as_device("d", &token));
    drop(gateway.as_device("made-while-nothing-runs", &other));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    let serve = || {
        let data = gateway.data();
        let data = data.to_str().unwrap();
        let mut command = fieldgate();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", data, "--set", &setting]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Where it is gone, another one would end every secret.
    let aside = elsewhere.path().join("aside");
    std::fs::rename(&key, &aside).unwrap();
    let (code, told) = serve();
    assert!(code == Some(5) && told.contains("master.key is missing"), "{told}");
    assert!(!key.exists());
    // A folder that has its own keeps it.
    let own = gateway.data().join("master.key");
    std::fs::remove_file(&own).unwrap();
    std::fs::rename(&aside, &own).unwrap();
    let (code, told) = serve();
    assert!(code == Some(5) && told.contains("has a key of its own"), "{told}");
}

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

/// Waits for the end of a connection whose right ended at `from`; a second is the promise.
fn closed_within_a_second(wire: &mut Wire, from: SystemTime) {
    assert_eq!(wire.closed(), Some(4403));
    let took = from.elapsed().unwrap_or_default();
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

fn is_open(wire: &mut Wire) {
    wire.send(&json!({"type": "ping"}));
    wire.next_of("pong");
}

#[test]
fn each_of_two_credentials_authenticates_until_it_is_removed() {
    let gateway = Gateway::start();
    let first = gateway.device("d");
    let made = gateway.admin(&["device", "credential", "add", "d"]);
    assert_eq!(
        (&made["tenant"], &made["id"], &made["type"]),
        (&"default".into(), &"d".into(), &"token".into())
    );
    let (second, id) = (made["token"].as_str().unwrap(), made["credential"].as_str().unwrap());
    let listed = lines(&run(&["device", "credential", "list", "d"], &gateway.data()));
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&json!({"id": id, "type": "token", "allow_profile": false})));
    drop(gateway.as_device("d", &first));
    let mut device = gateway.as_device("d", second);
    let other = listed.iter().find(|item| item["id"] != id).unwrap()["id"].as_str().unwrap();
    gateway.admin(&["device", "credential", "remove", "d", other, "--yes"]);
    is_open(&mut device);
    gateway.admin(&["device", "credential", "remove", "d", id, "--yes"]);
    closed_within_a_second(&mut device, SystemTime::now());
    for token in [&first, second] {
        let bearer = format!("Authorization: Bearer {token}");
        assert!(Wire::open(&gateway.address, "/", &[&bearer]).is_err_and(|e| e.contains("401")));
    }
    let again = run(&["device", "credential", "remove", "d", id, "--yes"], &gateway.data());
    assert_eq!(refused(&again), (Some(1), "not_found".into()));
}

#[test]
fn a_new_token_for_all_ends_what_the_old_ones_opened() {
    let gateway = Gateway::start();
    let mut device = gateway.as_device("d", &gateway.device("d"));
    let token = gateway.admin(&["device", "rotate", "d", "--yes"])["token"].clone();
    closed_within_a_second(&mut device, SystemTime::now());
    is_open(&mut gateway.as_device("d", token.as_str().unwrap()));
}

#[test]
fn a_token_of_a_thing_opens_nothing_but_its_dialect() {
    let gateway = Gateway::start();
    let data = gateway.data();
    let token = gateway.admin(&["device", "add", "t", "--type", "thing"])["token"].clone();
    let token = token.as_str().unwrap();
    assert_eq!(token.len(), 43);
    let bearer = format!("Authorization: Bearer {token}");
    assert!(Wire::open(&gateway.address, "/", &[&bearer]).is_err_and(|e| e.contains("401")));
    let mut wire = gateway.connect();
    wire.send(&json!({"type": "auth", "deviceId": "t", "token": token}));
    assert_eq!(wire.next()["status"], "error");
    let own = ["device", "credential", "add", "t", "--type", "thing", "--token-stdin"];
    assert_eq!(refused(&with_stdin(&own, &data, "too short")), (Some(2), "bad_value".into()));
    let mine = "x".repeat(43);
    let made = lines(&with_stdin(&own, &data, &format!("{mine}\n")));
    assert_eq!((&made[0]["type"], &made[0]["token"]), (&"thing".into(), &Value::Null));
    assert_eq!(refused(&with_stdin(&own, &data, &mine)), (Some(1), "conflict".into()));
    let hmac = ["device", "credential", "add", "t", "--type", "hmac", "--token-stdin"];
    for wrong in ["too short", &"x".repeat(257)] {
        assert_eq!(refused(&with_stdin(&hmac, &data, wrong)), (Some(2), "bad_value".into()));
    }
    let made = lines(&with_stdin(&hmac, &data, &mine));
    assert_eq!((&made[0]["type"], &made[0]["token"]), (&"hmac".into(), &Value::Null));
}

#[test]
fn a_device_has_the_properties_it_was_made_with() {
    let gateway = Gateway::start();
    let add = ["device", "add", "hub:1", "--kind", "gateway", "--name", "Hall, left"];
    let more = ["--group", "cellar", "--group", "all", "--gateway-for", "#"];
    gateway.admin(&[&add[..], &more].concat());
    let mut shown = gateway.admin(&["device", "show", "hub:1"]);
    let credentials = shown.as_object_mut().unwrap().remove("credentials").unwrap();
    assert!(credentials[0].as_str().unwrap().starts_with("token-"));
    let expected = json!({
        "id": "hub:1", "kind": "gateway", "name": "Hall, left", "groups": ["cellar", "all"],
        "gateway_for": "#", "integrity": "off", "source": null, "gateway": null, "revision": 1, "profile": {"kind": "gateway", "resources": []},
    });
    assert_eq!(shown, expected);
    let data = gateway.data();
    for (wrong, code) in [
        (["--gateway-for", "a/#/b"], "usage"),
        (["--name", ""], "bad_value"),
        (["--kind", "toaster"], "bad_value"),
        (["--group", "a\nb"], "bad_value"),
    ] {
        let output = run(&[&["device", "add", "x"], &wrong[..]].concat(), &data);
        assert_eq!(refused(&output), (Some(2), code.into()), "{wrong:?}");
    }
    assert_eq!(refused(&run(&["device", "add", "a b"], &data)), (Some(2), "bad_value".into()));
}

#[test]
fn a_key_may_what_its_grants_say_and_no_more() {
    let gateway = Gateway::start();
    let grants = ["publish:plant/#", "!publish:plant/secret/#", "subscribe:plant/+"];
    let grants: Vec<_> = grants.iter().flat_map(|grant| ["--grant", grant]).collect();
    let made = gateway.admin(&[&["key", "add", "k"], &grants[..]].concat());
    assert_eq!((&made["id"], &made["expires"]), (&"k".into(), &Value::Null));
    let mut app = gateway.as_app(made["key"].as_str().unwrap());
    let mut answer = |frame: Value| {
        app.send(&frame);
        // Its own message may come live as well.
        (0..).map(|_| app.next()).find(|frame| frame["type"] != "mqtt").unwrap()
    };
    let publish =
        |topic: &str| json!({"type": "publish", "topic": topic, "payload": 1, "msgid": topic});
    assert_eq!(answer(publish("plant/a"))["type"], "ack");
    assert_eq!(answer(publish("plant/secret/a"))["code"], "not_allowed");
    assert_eq!(answer(publish("other"))["code"], "not_allowed");
    let subscribe = |topic: &str| json!({"type": "subscribe", "topic": topic});
    assert_eq!(answer(subscribe("plant/+"))["type"], "subscribed");
    assert_eq!(answer(subscribe("plant/#"))["code"], "not_allowed");
    assert_eq!(answer(json!({"type": "command", "to": "d", "payload": {}}))["code"], "not_allowed");
    let data = gateway.data();
    for grant in ["publish", "fly:#", "publish:a/#/b", "!!read:#", ":", "publish:"] {
        let output = run(&["key", "add", "x", "--grant", grant], &data);
        assert_eq!(refused(&output), (Some(2), "bad_value".into()), "{grant}");
    }
    assert_eq!(refused(&run(&["key", "add", "x"], &data)), (Some(2), "usage".into()));
    let listed = lines(&run(&["key", "list"], &data));
    let grants = ["publish:plant/#", "!publish:plant/secret/#", "subscribe:plant/+"];
    assert_eq!(listed, [json!({"id": "k", "role": null, "grants": grants, "expires": null})]);
}

#[test]
fn a_revoked_or_expired_key_ends_its_stream_within_a_second() {
    let gateway = Gateway::start();
    let mut app = gateway.as_app(&gateway.key("viewer"));
    gateway.admin(&["key", "revoke", "viewer-key", "--yes"]);
    closed_within_a_second(&mut app, SystemTime::now());
    let before = SystemTime::now();
    let made = gateway.admin(&["key", "add", "short", "--role", "viewer", "--expires", "1s"]);
    let end = made["expires"].as_u64().unwrap();
    let end = SystemTime::UNIX_EPOCH + Duration::from_millis(end);
    assert!(
        end >= before + Duration::from_millis(999)
            && end <= SystemTime::now() + Duration::from_secs(1)
    );
    let key = made["key"].as_str().unwrap();
    let mut app = gateway.as_app(key);
    closed_within_a_second(&mut app, end);
    assert!(SystemTime::now() >= end, "not before its time");
    let bearer = format!("Authorization: Bearer {key}");
    assert!(Wire::open(&gateway.address, "/", &[&bearer]).is_err_and(|e| e.contains("401")));
    let over = run(&["key", "add", "x", "--role", "viewer", "--expires", "0s"], &gateway.data());
    assert_eq!(refused(&over), (Some(2), "bad_value".into()));
}

#[test]
fn a_credential_may_stand_percent_encoded_in_the_address() {
    let gateway = Gateway::start();
    let key = gateway.key("viewer");
    let encoded: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
    assert!(Wire::open(&gateway.address, &format!("/ws?token={encoded}"), &[]).is_ok());
    assert_eq!(gateway.get(&format!("/v1/status?token={encoded}"), None).0, 200);
    assert_eq!(gateway.get("/v1/status?token=%zz", None).0, 401);
}
