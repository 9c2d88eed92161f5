//! The configuration: checked, printed, described, and read again.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, fieldgate, wait_for};

fn write(folder: &Path, text: &str) -> String {
    let file = folder.join("fieldgate.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn every_mistake_is_told_with_its_place_and_exit_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[limits]\nauht_ms = 1\nbatch_len_max = true\n");
    for command in [&["config", "check"][..], &["config", "print"], &["serve"]] {
        let output = fieldgate()
            .args(command)
            .args(["-c", &file, "--set", "log.level=loud"])
            .env("FIELDGATE__DRAIN__GRACE_MS", "soon")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        for said in [
            format!("{file}:2:1: there is no key `limits.auht_ms`; did you mean `limits.auth_ms`?"),
            format!("{file}:3:17: `limits.batch_len_max` cannot be true: write a whole number"),
            "FIELDGATE__DRAIN__GRACE_MS: `drain.grace_ms` cannot be \"soon\"".to_owned(),
            "--set: `log.level` cannot be \"loud\": write one of \"off\", \"error\"".to_owned(),
        ] {
            assert!(told.contains(&said), "{said}\nis not in\n{told}");
        }
    }
    let output = fieldgate().args(["config", "check", "--json", "-c", &file]).output().unwrap();
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["error"]["code"], "configuration");
    let good = write(folder.path(), "[limits]\nauth_ms = 1\n");
    let output = fieldgate().args(["config", "check", "--json", "-c", &good]).output().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!({"ok": true, "file": good})
    );
}

#[test]
fn what_cannot_start_is_no_configuration_without_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let missing = folder.path().join("missing.pem");
    let [cert, key] = ["cert", "key"].map(|file| format!("listen.tls.{file}={missing:?}"));
    for (settings, said) in [
        (&["listen.http=[\"nonsense\"]"][..], "`listen.http` cannot have \"nonsense\""),
        (&["listen.http=127.0.0.1:99999"], "with a port of 0 to 65535"),
        (&["listen.plaintext=[\"htt\"]"], "`listen.plaintext` cannot have \"htt\""),
        (&[cert.as_str(), key.as_str()], "missing.pem"),
        (&["limits.handshake_ms=0"], "`limits.handshake_ms` must be 1 or more"),
    ] {
        for command in [&["config", "check"][..], &["serve", "--data", data.to_str().unwrap()]] {
            let mut run = fieldgate();
            run.args(command).args(settings.iter().flat_map(|setting| ["--set", setting]));
            let output = run.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{command:?} {settings:?}: {told}");
            assert!(told.contains(said), "{said}\nis not in\n{told}");
        }
    }
    let mut run = fieldgate();
    run.args(["serve", "--listen", "nonsense", "--data", data.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&run.output().unwrap().stderr).into_owned();
    assert!(told.contains("--listen: ") && !told.contains("--set"), "{told}");
    assert!(!data.exists(), "no folder is made for what cannot start");
}

#[test]
fn print_tells_each_value_and_where_it_was_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[limits]\nauth_ms = 1\n");
    let output = fieldgate()
        .args(["config", "print", "--json", "-c", &file, "--set", "listen.hosts=a,b"])
        .env("FIELDGATE__RETENTION__AGE", "2d")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap().clone();
    let expected =
        |key: &str, value: Value, from: &str| json!({"key": key, "value": value, "from": from});
    assert_eq!(
        row("limits.auth_ms"),
        expected("limits.auth_ms", 1.into(), &format!("{file}:2:11"))
    );
    assert_eq!(row("listen.hosts"), expected("listen.hosts", json!(["a", "b"]), "--set"));
    let age = expected("retention.age", "2d".into(), "FIELDGATE__RETENTION__AGE");
    assert_eq!(row("retention.age"), age);
    assert_eq!(row("drain.grace_ms"), expected("drain.grace_ms", 20_000.into(), "default"));
    assert_eq!(row("listen.tls.cert"), expected("listen.tls.cert", Value::Null, "default"));
}

#[test]
fn the_schema_is_one_and_the_template_is_a_configuration() {
    let schema = fieldgate().args(["config", "schema"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["limits"]["properties"]["auth_ms"]["default"], 5_000);
    let template = fieldgate().args(["config", "template"]).output().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), &String::from_utf8_lossy(&template.stdout));
    let output = fieldgate().args(["config", "check", "-c", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn sighup_takes_what_may_change_and_names_what_needs_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[heartbeat]\nsilence_ms = 90000\n");
    // The level comes from the file: what the command line says would beat it.
    let gateway = Gateway::with(&[&format!("--config={file}")]);
    let mut before = gateway.as_device("d", &gateway.device("d"));
    write(folder.path(), "[limits]\nauth_ms = 10\nauth_failures_per_minute_max = 7\n");
    gateway.signal("HUP");
    // The last line that it writes.
    wait_for("the new configuration", || gateway.output().contains("need a restart").then_some(()));
    let told = gateway.output();
    let said = |words: &str| told.lines().find(|line| line.contains(words)).unwrap().to_owned();
    assert!(said("read again").contains("changed=\"limits.auth_ms\""), "{told}");
    let restart = said("need a restart");
    assert!(restart.contains("keys=\"limits.auth_failures_per_minute_max\""), "{restart}");
    // It holds for who comes now, and who was there before stays.
    let mut silent = Wire::open(&gateway.address, "/ws", &[]).unwrap();
    assert_eq!(silent.closed(), Some(4401));
    before.send(&json!({"type": "ping"}));
    before.next_of("pong");
    // A configuration with a mistake changes nothing.
    write(folder.path(), "[limits]\nauth_ms = 20\nnonsense = 1\n");
    gateway.signal("HUP");
    wait_for("the refusal", || {
        gateway.output().contains("the configuration stays as it was").then_some(())
    });
    let told = gateway.output();
    assert!(told.contains(&format!("{file}:3:1: there is no key `limits.nonsense`")), "{told}");
    assert_eq!(told.matches("the configuration was read again").count(), 1, "{told}");
}

#[test]
fn sighup_changes_the_level_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[log]\nlevel = \"info\"\n");
    let gateway = Gateway::without_a_level(&[&format!("--config={file}")]);
    drop(gateway.connect());
    wait_for("the end of the connection", || {
        (gateway.admin(&["status"])["links"]["unauthenticated"] == 0).then_some(())
    });
    assert!(!gateway.output().contains("DEBUG"));
    write(folder.path(), "[log]\nlevel = \"debug\"\n");
    gateway.signal("HUP");
    wait_for("the new configuration", || gateway.output().contains("log.level").then_some(()));
    drop(gateway.connect());
    wait_for("a line of the new level", || gateway.output().contains("DEBUG").then_some(()));
}

#[test]
fn a_start_says_what_weakens_it_also_without_a_log() {
    let gateway = Gateway::without_a_level(&["store.durability=os", "log.level=off"]);
    let told = gateway.output();
    assert!(told.contains("WARNING: store.durability is \"os\""), "{told}");
    assert_eq!(gateway.admin(&["status"])["durability"], "os");
    let gateway = Gateway::with(&["retention.bytes=\"8000000TiB\""]);
    let told = gateway.output();
    assert!(told.contains("the disk is smaller than retention.bytes"), "{told}");
    assert!(!told.contains("WARNING"), "{told}");
}
