//! The command line: shapes, exit codes, and errors that help.

use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, fieldgate, run, wait_for};

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
fn a_hole_is_a_line_of_its_own_before_what_comes_behind_it() {
    let gateway = Gateway::start();
    let (key, url) = (gateway.key("operator"), format!("http://{}", gateway.address));
    let command = |arguments: &[&str]| {
        let with = ["--url", &url, "--json"];
        let output = fieldgate().args(arguments).args(with).env("FIELDGATE_TOKEN", &key).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    command(&["publish", "kept", "1", "--retain", "--qos", "1"]);
    let told = command(&["subscribe", "kept", "--since", "xyz:1", "--count", "1"]);
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [gap, message] = &lines[..] else { panic!("{told}") };
    let members: Vec<_> = gap["gap"].as_object().unwrap().keys().collect();
    assert_eq!(members, ["from", "reason", "to"]);
    assert_eq!((&gap["gap"]["from"], &gap["gap"]["reason"]), (&json!("xyz:1"), &json!("epoch")));
    assert!(gap["gap"]["to"].is_string() && gap.as_object().unwrap().len() == 1, "{gap}");
    assert_eq!((&message["payload"], &message["retain"]), (&json!(1), &json!(true)));
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
fn a_bad_value_of_an_option_is_told_with_the_options_name() {
    let gateway = Gateway::start();
    let told = |arguments: &[&str]| {
        let output = run(arguments, &gateway.data());
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        error["error"]["message"].as_str().unwrap().to_owned()
    };
    let message = told(&["device", "add", "d", "--gateway-for", "floor+"]);
    assert!(message.contains("--gateway-for") && message.contains("floor+"), "{message}");
    let message = told(&["key", "add", "k", "--grant", "fly:#"]);
    assert!(message.contains("grant") && message.contains("fly"), "{message}");
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

/// What a command ends with: its exit code and, if it failed, the code of its error.
fn ended(output: &Output) -> (i32, String) {
    let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_default();
    let code = error["error"]["code"].as_str().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), code)
}

/// The exit codes of the operator's page, command by command: what is typed (words in braces are
/// filled in), with which token, how it ends, and the code of its error under `--json`.
const ENDS: &[(&str, &str, i32, &str)] = &[
    ("version --json", "", 0, ""),
    ("completions bash", "", 0, ""),
    ("help", "", 0, ""),
    ("", "", 2, ""),
    ("nonsense --json", "", 2, "usage"),
    ("completions nonsense", "", 2, ""),
    // serve, demo
    ("serve --data {new} --listen {address}", "", 1, ""),
    ("serve --data {new} --listen 0.0.0.0:0", "", 2, ""),
    ("serve --data {new} --set listen.tls.cert=/x --set listen.tls.key=/y", "", 2, ""),
    ("serve --data {new} --set nonsense=1", "", 2, ""),
    ("serve --data {new} -c /nowhere/fieldgate.toml", "", 2, ""),
    ("serve --data {folder} --listen 127.0.0.1:0", "", 5, ""),
    ("serve --data {new} --ws-port 70000", "", 2, ""),
    ("serve --data {new} --ws-port 0", "", 2, ""),
    ("serve --data {new} --ws-port auto --set deconz.push=some", "", 2, ""),
    ("demo --listen {address}", "", 1, ""),
    ("demo --for soon", "", 2, ""),
    ("demo --for 1s --listen 127.0.0.1:0", "", 0, ""),
    // device
    ("device add one --data {folder} --json", "", 0, ""),
    ("device add one --data {folder} --json", "", 1, "conflict"),
    ("device add a/b --data {folder} --json", "", 2, "bad_value"),
    ("device add signs --type hmac --data {folder} --json", "", 0, ""),
    ("device add two --integrity required --data {folder} --json", "", 2, "bad_value"),
    ("device add two --type nonsense --data {folder} --json", "", 2, "usage"),
    ("device add two --gateway-for a/#/b --data {folder} --json", "", 2, "usage"),
    ("device list --data {folder} --json", "", 0, ""),
    ("device list --data {folder} --tenant other --json", "", 1, "not_found"),
    ("device list --data {folder} --tenant A+B --json", "", 2, "usage"),
    ("device add one --data {folder} --tenant other --json", "", 1, "not_found"),
    // tenant
    ("tenant add other --devices 1 --data {folder} --json", "", 0, ""),
    ("tenant add other --data {folder} --json", "", 1, "conflict"),
    ("tenant add A+B --data {folder} --json", "", 2, "bad_value"),
    ("device add one --data {folder} --tenant other --json", "", 0, ""),
    ("device add two --data {folder} --tenant other --json", "", 1, "queue_full"),
    ("device remove one --yes --data {folder} --tenant other --json", "", 0, ""),
    ("tenant list --data {folder} --json", "", 0, ""),
    ("tenant remove other --data {folder} --json", "", 2, "usage"),
    ("tenant remove other --yes --data {folder} --json", "", 0, ""),
    ("tenant remove other --yes --data {folder} --json", "", 1, "not_found"),
    ("tenant add other --data {folder} --json", "", 1, "conflict"),
    ("tenant remove default --yes --data {folder} --json", "", 1, "conflict"),
    ("device list --data {nowhere} --json", "", 5, "storage"),
    ("device show one --data {folder} --json", "", 0, ""),
    ("device integrity signs required --data {folder} --json", "", 0, ""),
    ("device integrity one required --data {folder} --json", "", 1, "conflict"),
    ("device integrity nobody off --data {folder} --json", "", 1, "not_found"),
    ("device show nobody --data {folder} --json", "", 1, "not_found"),
    ("device rotate one --data {folder} --json", "", 2, "usage"),
    ("device rotate one --yes --data {folder} --json", "", 0, ""),
    ("device credential add one --data {folder} --json", "", 0, ""),
    ("device credential add nobody --data {folder} --json", "", 1, "not_found"),
    ("device credential list one --data {folder} --json", "", 0, ""),
    ("device credential remove one nothing --yes --data {folder} --json", "", 1, "not_found"),
    ("activation add --data {folder} --json", "", 0, ""),
    ("activation add --kind toy --data {folder} --json", "", 2, "bad_value"),
    ("activation list --data {folder} --json", "", 0, ""),
    ("activation remove nothing --yes --data {folder} --json", "", 1, "not_found"),
    ("device remove one --data {folder} --json", "", 2, "usage"),
    ("device remove one --yes --data {folder} --json", "", 0, ""),
    ("device remove one --yes --data {folder} --json", "", 1, "not_found"),
    // user
    ("user add ada --role viewer --data {folder} --json", "", 2, "usage"),
    ("user add ada --role king --data {folder} --json", "", 2, "usage"),
    ("user password nobody --password-stdin --data {folder} --json", "", 1, "not_found"),
    ("user list --data {folder} --json", "", 0, ""),
    ("user remove nobody --yes --data {folder} --json", "", 1, "not_found"),
    ("login-link --data {folder} --json", "", 1, "not_found"),
    ("login-link --user nobody --data {folder} --json", "", 1, "not_found"),
    ("login-link --user nobody --data {nowhere} --json", "", 5, "storage"),
    // key
    ("key add extra --role viewer --data {folder} --json", "", 0, ""),
    ("key add extra --role viewer --data {folder} --json", "", 1, "conflict"),
    ("key add none --data {folder} --json", "", 2, "usage"),
    ("key add none --grant fly:# --data {folder} --json", "", 2, "bad_value"),
    ("key list --data {folder} --json", "", 0, ""),
    ("key revoke extra --data {folder} --json", "", 2, "usage"),
    ("key revoke extra --yes --data {folder} --json", "", 0, ""),
    ("key revoke extra --yes --data {folder} --json", "", 1, "not_found"),
    // deconz
    ("deconz unlock --data {folder} --json", "", 1, "conflict"),
    ("deconz unlock --for 11m --data {folder} --json", "", 2, "usage"),
    ("deconz unlock --data {nowhere} --json", "", 3, "unreachable"),
    ("deconz keys list --data {folder} --json", "", 0, ""),
    ("deconz keys revoke nothing --data {folder} --json", "", 2, "usage"),
    ("deconz keys revoke nothing --yes --data {folder} --json", "", 1, "not_found"),
    // integration
    ("integration add cloud --kind thingsee-in --data {folder} --json", "", 0, ""),
    ("integration add cloud --kind thingsee-in --data {folder} --json", "", 1, "conflict"),
    ("integration add out --kind rest --data {folder} --json", "", 2, "bad_value"),
    ("integration add out --kind mail --data {folder} --json", "", 2, "usage"),
    ("integration add out --kind rest --url ws://a/ --data {folder} --json", "", 2, "bad_value"),
    ("integration add out --kind rest --url http://a/ --data {folder} --json", "", 0, ""),
    ("integration list --data {folder} --json", "", 0, ""),
    ("integration show out --data {folder} --json", "", 0, ""),
    ("integration show nothing --data {folder} --json", "", 1, "not_found"),
    ("integration pause out --data {folder} --json", "", 0, ""),
    ("integration resume out --data {folder} --json", "", 0, ""),
    ("integration replay out --from soon --data {folder} --json", "", 2, "usage"),
    ("integration replay out --from -soon --data {folder} --json", "", 2, "usage"),
    ("integration replay out --from -1h --yes --data {folder} --json", "", 0, ""),
    ("integration set-aside out --data {folder} --json", "", 0, ""),
    ("integration drop out nonsense --data {folder} --json", "", 2, "usage"),
    ("integration drop out nonsense --yes --data {folder} --json", "", 2, "bad_value"),
    ("integration retry out nonsense --data {folder} --json", "", 2, "bad_value"),
    ("integration test cloud --data {folder} --json", "", 2, "bad_value"),
    ("integration rotate cloud --data {folder} --json", "", 2, "usage"),
    ("integration rotate cloud --yes --data {folder} --json", "", 0, ""),
    ("integration remove out --data {folder} --json", "", 2, "usage"),
    ("integration remove out --yes --data {folder} --json", "", 0, ""),
    ("integration remove out --yes --data {folder} --json", "", 1, "not_found"),
    // publish
    ("publish a/b 1 --url {url} --json", "operator", 0, ""),
    ("publish a/b 1 --data {folder} --json", "", 0, ""),
    ("publish a/# 1 --url {url} --json", "operator", 1, "bad_topic"),
    ("publish a/b 1 --url {url} --json", "viewer", 4, "not_allowed"),
    ("publish a/b 1 --url {url} --json", "guess", 4, "not_authenticated"),
    ("publish a/b 1 --url {url} --json", "", 4, "not_authenticated"),
    ("publish a/b 1 --url http://127.0.0.1:1 --json", "operator", 3, "unreachable"),
    ("publish a/b 1 --data {nowhere} --json", "", 3, "unreachable"),
    ("publish a/b 1 --url nonsense --json", "operator", 2, "usage"),
    ("publish a/b 1 --qos 2 --url {url} --json", "operator", 2, "usage"),
    ("publish a/b 1 --ca /nowhere.pem --url {url} --json", "operator", 2, "usage"),
    // subscribe
    ("subscribe a/# --since all --count 1 --url {url} --json", "viewer", 0, ""),
    ("subscribe a/# --count 1 --url {url} --json", "publisher", 4, "not_allowed"),
    ("subscribe a/#/b --count 1 --url {url} --json", "viewer", 2, "usage"),
    ("subscribe a --since yesterday --url {url} --json", "viewer", 2, "usage"),
    ("subscribe --url {url} --json", "viewer", 2, "usage"),
    // command
    ("command lamp 1 --wait 0s --url {url} --json", "operator", 0, ""),
    ("command lamp 1 --wait 20s --expires 300ms --url {url} --json", "operator", 1, "expired"),
    ("command nobody 1 --url {url} --json", "operator", 1, "not_found"),
    ("command lamp 1 --url {url} --json", "viewer", 4, "not_allowed"),
    ("command group:hall 1 --wait 0s --url {url} --json", "operator", 0, ""),
    (
        "command group:hall 1 --wait 20s --expires 300ms --url {url} --json",
        "operator",
        1,
        "expired",
    ),
    ("command devices/+ 1 --wait 20s --expires 300ms --url {url} --json", "operator", 1, "expired"),
    ("command lamp 1 --wait long --url {url} --json", "operator", 2, "usage"),
    // status
    ("status --data {folder} --json", "", 0, ""),
    ("status --url {url} --json", "viewer", 0, ""),
    ("status --url {url} --json", "publisher", 4, "not_allowed"),
    ("status --url {url} --data {folder} --json", "viewer", 2, "usage"),
    ("status --data {nowhere} --json", "", 3, "unreachable"),
    // log
    ("log verify --data {stopped} --json", "", 0, ""),
    ("log verify --data {damaged} --json", "", 5, "damaged"),
    ("log verify --data {nowhere} --json", "", 5, "storage"),
    ("log dump --data {stopped}", "", 0, ""),
    ("log dump --data {nowhere} --json", "", 5, "storage"),
    ("log repair --yes --data {folder} --json", "", 5, "storage"),
    ("log repair --data {damaged} --json", "", 2, "usage"),
    ("log repair --yes --data {damaged} --json", "", 0, ""),
    ("log verify --data {damaged} --json", "", 0, ""),
    // config
    ("config check --json", "", 0, ""),
    ("config check --set limits.nonsense=1 --json", "", 2, "configuration"),
    ("config check -c /nowhere/fieldgate.toml --json", "", 2, "configuration"),
    ("config print --json", "", 0, ""),
    ("config template", "", 0, ""),
    ("config schema", "", 0, ""),
];

/// A folder whose gateway stopped cleanly; damaged, if so wanted, between two messages.
fn stopped(damaged: bool) -> Gateway {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    let mut app = gateway.as_app(&key);
    for text in ["needle-1", "needle-2", "needle-3"] {
        app.send(&json!({"type": "publish", "topic": "a", "payload": text, "msgid": text}));
        app.next_of("ack");
    }
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    if damaged {
        gateway.damage(b"needle-2");
    }
    gateway
}

#[test]
fn every_command_ends_with_the_code_that_says_why() {
    let gateway = Gateway::start();
    gateway.admin(&["device", "add", "lamp", "--group", "hall"]);
    let publisher = gateway.admin(&["key", "add", "publisher", "--grant", "publish:#"]);
    let tokens = [
        ("operator", gateway.key("operator")),
        ("viewer", gateway.key("viewer")),
        ("publisher", publisher["key"].as_str().unwrap().to_owned()),
    ];
    let (clean, broken) = (stopped(false), stopped(true));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let filled = |word: &str| {
        let data = |gateway: &Gateway| gateway.data().to_str().unwrap().to_owned();
        word.replace("{url}", &format!("http://{}", gateway.address))
            .replace("{address}", &gateway.address)
            .replace("{folder}", &data(&gateway))
            .replace("{stopped}", &data(&clean))
            .replace("{damaged}", &data(&broken))
            .replace("{new}", &path("new"))
            .replace("{nowhere}", &path("nowhere"))
    };
    for (typed, who, exit, code) in ENDS {
        let mut command = fieldgate();
        command.args(typed.split_whitespace().map(filled)).current_dir(folder.path());
        if !who.is_empty() {
            let token = tokens.iter().find(|(name, _)| name == who);
            command.env("FIELDGATE_TOKEN", token.map_or(*who, |(_, token)| token));
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(ended(&output), (*exit, (*code).to_owned()), "{typed} as {who:?}: {told}");
        if !code.is_empty() {
            let error: Value = serde_json::from_str(&told).unwrap();
            let hint = error["error"]["hint"].as_str();
            assert!(hint.is_some_and(|hint| !hint.is_empty()), "{typed}: {told}");
        }
    }
    assert!(!folder.path().join("nowhere").exists(), "nobody asked for it to be made");
}

/// Every command that there is, as `fieldgate help` lists them.
fn commands(path: &[String], found: &mut Vec<String>) {
    let output = fieldgate().args(path).arg("--help").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((_, list)) = text.split_once("Commands:\n") else {
        found.push(path.join(" "));
        return;
    };
    for line in list.lines().take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
            commands(&[path, &[name.to_owned()]].concat(), found);
        }
    }
}

#[test]
fn every_command_stands_in_the_table_of_exit_codes() {
    let mut all = Vec::new();
    commands(&[], &mut all);
    assert!(all.len() > 25 && all.contains(&"device credential add".to_owned()), "{all:?}");
    for command in all {
        let is_of = |typed: &str| typed == command || typed.starts_with(&format!("{command} "));
        assert!(ENDS.iter().any(|(typed, ..)| is_of(typed)), "{command} is not in the table");
    }
}

#[test]
fn a_signal_ends_a_command_and_a_second_one_the_gateway_at_once() {
    let mut gateway = Gateway::with(&["drain.grace_ms=60000"]);
    let key = gateway.key("viewer");
    let mut subscriber = fieldgate()
        .args(["subscribe", "#", "--url", &format!("http://{}", gateway.address)])
        .env("FIELDGATE_TOKEN", &key)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the subscriber", || (gateway.admin(&["status"])["connections"] == 1).then_some(()));
    let id = subscriber.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(subscriber.wait().unwrap().code(), Some(130));
    // An HTTP request that never ends keeps the drain waiting.
    let mut slow = std::net::TcpStream::connect(&gateway.address).unwrap();
    std::io::Write::write_all(&mut slow, b"GET / HTTP/1.1\r\n").unwrap();
    wait_for("the connection", || {
        (gateway.admin(&["status"])["links"]["unauthenticated"] == 1).then_some(())
    });
    gateway.signal("TERM");
    wait_for("the drain", || gateway.output().contains("draining").then_some(()));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(130));
}

#[test]
fn json_has_its_stable_shapes() {
    let gateway = Gateway::start();
    let names = |value: &Value| -> Vec<String> {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let device = gateway.admin(&["device", "add", "d"]);
    assert_eq!(names(&device), ["id", "tenant", "token"]);
    let key = gateway.admin(&["key", "add", "k", "--role", "operator", "--expires", "1h"]);
    assert_eq!(names(&key), ["expires", "id", "key"]);
    let command = |arguments: &[&str]| -> Value {
        let output = run(arguments, &gateway.data());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let published = command(&["publish", "a/b", r#"{"x":1}"#, "--retain"]);
    assert_eq!(names(&published), ["msgid", "seq"]);
    let seen = command(&["subscribe", "a/b", "--since", "all", "--count", "1"]);
    let expected = ["from", "payload", "qos", "retain", "seq", "timestamp", "topic"];
    assert_eq!(names(&seen), expected);
    let sent = command(&["command", "d", "1", "--wait", "0s"]);
    assert_eq!(names(&sent), ["msgid", "payload", "state"]);
    let sent = command(&["command", "devices/+", "1", "--wait", "0s"]);
    assert_eq!(
        (names(&sent), &sent["devices"]),
        (vec!["devices".into(), "msgid".into()], &json!(1))
    );
    let version = fieldgate().args(["version", "--json"]).output().unwrap();
    assert_eq!(names(&serde_json::from_slice(&version.stdout).unwrap()), ["name", "version"]);
    let output = run(&["device", "show", "x"], &gateway.data());
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(names(&error), ["error"]);
    assert_eq!(names(&error["error"]), ["code", "hint", "message"]);
}

#[test]
fn completions_are_printed_for_every_shell_and_bash_completes_by_them() {
    let script = |shell: &str| {
        let output = fieldgate().args(["completions", shell]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = script(shell);
        assert!(["publish", "completions"].iter().all(|word| text.contains(word)), "{shell}");
    }
    // As the shell calls it behind `fieldgate publ<Tab>`.
    let asked = "\nCOMP_WORDS=(fieldgate publ); COMP_CWORD=1; _fieldgate fieldgate publ fieldgate; echo \"${COMPREPLY[*]}\"";
    let text = script("bash") + asked;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("completed.bash");
    std::fs::write(&file, text).unwrap();
    let bash = std::process::Command::new("bash").arg(file).output().unwrap();
    let completed = String::from_utf8_lossy(&bash.stdout);
    assert_eq!(completed.trim(), "publish", "{}", String::from_utf8_lossy(&bash.stderr));
}
