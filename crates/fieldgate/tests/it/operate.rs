//! Watching a gateway: its status from near and far.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Gateway, fieldgate, run, wait_for};

/// `fieldgate status --json` of a gateway elsewhere.
fn from_afar(url: &str, token: Option<&str>, more: &[&str]) -> Output {
    let mut command = fieldgate();
    command.args(["status", "--json", "--url", url]).args(more);
    if let Some(token) = token {
        command.env("FIELDGATE_TOKEN", token);
    }
    command.output().unwrap()
}

fn parsed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The names of all fields, nested ones with their path.
fn names(prefix: &str, value: &Value, found: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        names(&format!("{path}."), value, found);
        found.push(path);
    }
}

/// Every name in a status. They are added, never renamed.
const SHAPE: &[&str] = &[
    "connections",
    "drops",
    "drops.conflated",
    "drops.desired_unfit",
    "drops.expired",
    "drops.no_form",
    "drops.overflow",
    "drops.retained_full",
    "drops.retention",
    "drops.source_bad",
    "drops.source_foreign",
    "drops.source_full",
    "drops.state_full",
    "durability",
    "links",
    "links.behind",
    "links.devices",
    "links.keys",
    "links.outbox_bytes",
    "links.sources",
    "links.unauthenticated",
    "links.users",
    "listeners",
    "listeners.http",
    "log",
    "log.bytes",
    "log.damaged",
    "log.durable",
    "log.epoch",
    "log.failures",
    "log.oldest",
    "log.refuses",
    "log.retention_held_back",
    "log.segments",
    "log.seq",
    "log.start",
    "log.start.crash_gap",
    "log.start.cut_bytes",
    "log.start.damages",
    "log.waiting",
    "newest_drops",
    "ready",
    "started",
    "tables",
    "tables.applied",
    "tables.exported",
    "tables.failing",
    "tenants",
    "tenants.default",
    "tenants.default.accepted",
    "tenants.default.added",
    "tenants.default.commands",
    "tenants.default.connections",
    "tenants.default.devices",
    "tenants.default.id",
    "tenants.default.keys",
    "tenants.default.limits",
    "tenants.default.limits.connections_max",
    "tenants.default.limits.devices_max",
    "tenants.default.limits.messages_per_second",
    "tenants.default.limits.retained_max",
    "tenants.default.retained",
    "tenants.default.retained_bytes",
    "tenants.default.users",
    "tls",
    "uptime_ms",
    "version",
];

#[test]
fn the_status_has_one_shape_from_near_and_far() {
    let gateway = Gateway::start();
    let _device = gateway.as_device("d", &gateway.device("d"));
    let _app = gateway.as_app(&gateway.key("operator"));
    let near = gateway.admin(&["status"]);
    let url = format!("http://{}", gateway.address);
    let viewer = gateway.key("viewer");
    let far = parsed(&from_afar(&url, Some(&viewer), &[]));
    let mut shape = Vec::new();
    names("", &near, &mut shape);
    shape.sort();
    assert_eq!(shape, SHAPE);
    let mut other = Vec::new();
    names("", &far, &mut other);
    other.sort();
    assert_eq!(other, SHAPE);
    let links = (&near["links"]["devices"], &near["links"]["keys"], &near["connections"]);
    assert_eq!(links, (&json!(1), &json!(1), &json!(2)));
    assert_eq!((&near["ready"], &near["durability"]), (&json!("ok"), &json!("fsync")));
    assert_eq!(near["log"]["refuses"], Value::Null);
    assert_eq!(near["listeners"]["http"], json!([gateway.address]));
    // What a person gets names the same.
    let text = fieldgate().args(["status", "--data"]).arg(gateway.data()).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("1 devices, 1 keys") && text.contains("drops    none"), "{text}");
}

#[test]
fn the_status_from_afar_needs_a_right_and_a_trusted_certificate() {
    let gateway = Gateway::with(&["--self-signed"]);
    let url = format!("https://localhost:{}", gateway.address.rsplit_once(':').unwrap().1);
    let (viewer, narrow) =
        (gateway.key("viewer"), gateway.admin(&["key", "add", "n", "--grant", "publish:a"]));
    let certificate = gateway.data().join("certs/self-signed.crt");
    let ca = ["--ca", certificate.to_str().unwrap()];
    assert_eq!(parsed(&from_afar(&url, Some(&viewer), &ca))["tls"], true);
    let failed = |output: Output| {
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        (output.status.code().unwrap(), error["error"]["code"].as_str().unwrap().to_owned())
    };
    let narrow = narrow["key"].as_str();
    assert_eq!(failed(from_afar(&url, narrow, &ca)), (4, "not_allowed".into()));
    assert_eq!(failed(from_afar(&url, Some("guess"), &ca)), (4, "not_authenticated".into()));
    assert_eq!(failed(from_afar(&url, None, &ca)), (4, "not_authenticated".into()));
    assert_eq!(failed(from_afar(&url, Some(&viewer), &[])), (3, "untrusted".into()));
    assert_eq!(failed(from_afar("http://127.0.0.1:1", Some("x"), &[])), (3, "unreachable".into()));
    assert_eq!(failed(from_afar("nonsense", Some("x"), &[])), (2, "usage".into()));
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(failed(run(&["status"], folder.path())), (3, "unreachable".into()));
}

#[test]
fn the_status_tells_an_unclean_stop_and_what_cannot_be_read() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    let publish = |gateway: &Gateway, text: &str| {
        let made = fieldgate()
            .args(["publish", "plant/x", text, "--json", "--url"])
            .arg(format!("http://{}", gateway.address))
            .env("FIELDGATE_TOKEN", &key)
            .output()
            .unwrap();
        parsed(&made)["seq"].as_u64().unwrap()
    };
    let numbers = ["needle-1", "needle-2", "needle-3"].map(|text| publish(&gateway, text));
    gateway.kill();
    gateway.up();
    let gap = gateway.admin(&["status"])["log"]["start"]["crash_gap"].clone();
    assert!(gap["from"].as_u64().unwrap() > numbers[2], "{gap}");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    gateway.damage(b"needle-2");
    gateway.up();
    // The start came across it, before anybody reads.
    let range = json!({"from": numbers[1], "to": numbers[1]});
    assert_eq!(gateway.admin(&["status"])["log"]["damaged"], json!([range]));
    assert!(gateway.output().contains("numbers in the log cannot be read"));
    let told = fieldgate().args(["status", "--data"]).arg(gateway.data()).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains(&format!("WARNING  {0} to {0} cannot be read", numbers[1])), "{told}");
    let seen = fieldgate()
        .args(["subscribe", "plant/#", "--since", "all", "--count", "2", "--json", "--url"])
        .arg(format!("http://{}", gateway.address))
        .env("FIELDGATE_TOKEN", &key)
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains("damaged") && seen.contains("needle-3"), "{seen}");
    assert_eq!(gateway.admin(&["status"])["log"]["damaged"], json!([range]));
    let (_, metrics) = gateway.get("/metrics", Some(&gateway.key("admin")));
    assert!(metrics.contains("fieldgate_log_damaged_ranges 1\n"), "{metrics}");
}

#[test]
fn drops_outlive_a_kill_and_are_read_by_page_and_filter_with_a_right() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    for device in ["one", "two", "three"] {
        gateway.device(device);
        let sent = fieldgate()
            .args([
                "command",
                device,
                "1",
                "--expires",
                "500ms",
                "--wait",
                "20s",
                "--json",
                "--url",
            ])
            .arg(format!("http://{}", gateway.address))
            .env("FIELDGATE_TOKEN", &key)
            .output()
            .unwrap();
        assert_eq!(sent.status.code(), Some(1), "{sent:?}");
    }
    let drops = |gateway: &Gateway, query: &str| -> Value {
        let (status, body) = gateway.get(&format!("/v1/drops{query}"), Some(&key));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let who = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["who"].as_str().unwrap().to_owned()).collect()
    };
    let all = drops(&gateway, "");
    assert_eq!(who(&all), ["three", "two", "one"]);
    assert_eq!(all["totals"], json!({"expired": 3}));
    wait_for("three entries on disk", || {
        let files = std::fs::read_dir(gateway.data().join("ledger")).unwrap();
        let text = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        (text.collect::<String>().matches("\"who\"").count() == 3).then_some(())
    });
    gateway.kill();
    gateway.up();
    assert_eq!(drops(&gateway, ""), all, "as it was");
    let first = drops(&gateway, "?limit=2");
    assert_eq!(who(&first), ["three", "two"]);
    let second = drops(&gateway, &format!("?limit=2&cursor={}", first["next"].as_str().unwrap()));
    assert_eq!((who(&second), &second["next"]), (vec!["one".to_owned()], &Value::Null));
    assert_eq!(who(&drops(&gateway, "?who=two&reason=expired")), ["two"]);
    assert_eq!(who(&drops(&gateway, "?reason=overflow")), Vec::<String>::new());
    let (status, problem) = gateway.get("/v1/drops?limit=many", Some(&key));
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!((status, &problem["code"]), (400, &json!("bad_value")));
    assert_eq!(problem["detail"], "limit is a whole number from 1 to 1000");
    assert_eq!(gateway.get("/v1/drops", None).0, 401);
    let narrow = gateway.admin(&["key", "add", "n", "--grant", "publish:#"]);
    assert_eq!(gateway.get("/v1/drops", narrow["key"].as_str()).0, 403);
    // The counters go on, too.
    let status = gateway.admin(&["status"]);
    assert_eq!(status["drops"]["expired"], 3);
    assert_eq!(status["newest_drops"].as_array().unwrap().len(), 3);
    let (_, metrics) = gateway.get("/metrics", Some(&gateway.key("admin")));
    assert!(metrics.contains("fieldgate_drops_total{reason=\"expired\"} 3\n"), "{metrics}");
}

#[test]
fn devices_users_and_keys_are_administered_from_afar_with_the_right() {
    let gateway = Gateway::with(&["--self-signed"]);
    let url = format!("https://localhost:{}", gateway.address.rsplit_once(':').unwrap().1);
    let certificate = gateway.data().join("certs/self-signed.crt");
    let folder = tempfile::tempdir().unwrap();
    let ask = |token: Option<&str>, typed: &str, stdin: &str| {
        let mut command = fieldgate();
        command.args(typed.split_whitespace()).args(["--json", "--url", &url, "--ca"]);
        command.arg(&certificate).current_dir(folder.path());
        if let Some(token) = token {
            command.env("FIELDGATE_TOKEN", token);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let key = gateway.admin(&["key", "add", "far", "--grant", "admin:#"]);
    let key = key["key"].as_str();
    let done = |typed: &str, stdin: &str| -> Value {
        let output = ask(key, typed, stdin);
        assert!(output.status.success(), "{typed}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    };
    let made = done("device add d --group cellar", "");
    drop(gateway.as_app_over_tls(done("key add op --role operator", "")["key"].as_str().unwrap()));
    assert_eq!((&made["tenant"], &made["id"]), (&json!("default"), &json!("d")));
    assert_eq!(done("device show d", "")["groups"], json!(["cellar"]));
    assert_ne!(done("device rotate d --yes", "")["token"], made["token"]);
    let credential = done("device credential add d", "")["credential"].clone();
    let removed = format!("device credential remove d {} --yes", credential.as_str().unwrap());
    done(&removed, "");
    assert_eq!(done("device credential list d", "")["type"], "token");
    assert_eq!(done("user add ada --role viewer --password-stdin", "correct horse")["name"], "ada");
    done("user password ada --password-stdin", "another horse");
    assert_eq!(done("user list", "")["role"], "viewer");
    done("user remove ada --yes", "");
    done("device remove d --yes", "");
    done("key revoke op --yes", "");
    assert_eq!(gateway.admin(&["device", "list"]), Value::Null);
    let failed = |token: Option<&str>, typed: &str| {
        let output = ask(token, typed, "");
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        (output.status.code().unwrap(), error["error"]["code"].as_str().unwrap().to_owned())
    };
    let operator = gateway.key("operator");
    assert_eq!(failed(Some(&operator), "key list"), (4, "not_allowed".into()));
    assert_eq!(failed(Some("guess"), "device add x"), (4, "not_authenticated".into()));
    assert_eq!(failed(None, "device add x"), (4, "not_authenticated".into()));
    assert_eq!(failed(key, "device show x"), (1, "not_found".into()));
    assert_eq!(failed(key, "device add a/b"), (2, "bad_value".into()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made here");
}

#[test]
fn administration_over_http_is_bounded_and_needs_the_right_first() {
    let gateway = Gateway::start();
    let (admin, viewer) = (gateway.key("admin"), gateway.key("viewer"));
    let send = |key: &str, request: &str, body: &str| -> u16 {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Whoever is refused need not be read to the end.
        let _refused = stream.write_all(body.as_bytes());
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    };
    assert_eq!(send(&admin, "POST /v1/devices", r#"{"id":"d"}"#), 201);
    assert_eq!(send(&admin, "POST /v1/devices", r#"{"id":"d"}"#), 409);
    assert_eq!(send(&admin, "POST /v1/devices", r#"{"id":"e","nonsense":1}"#), 400);
    assert_eq!(send(&admin, "POST /v1/devices", "{"), 400);
    assert_eq!(send(&admin, "GET /v1/devices/d", ""), 200);
    assert_eq!(send(&admin, "GET /v1/devices/%zz", ""), 400);
    assert_eq!(send(&admin, "PUT /v1/devices/d", ""), 405);
    assert_eq!(send(&admin, "GET /v1/nothing", ""), 404);
    assert_eq!(send(&viewer, "GET /v1/devices", ""), 200);
    assert_eq!(send(&viewer, "GET /v1/devices/d/credentials", ""), 403);
    assert_eq!(send(&viewer, "GET /v1/users", ""), 403);
    assert_eq!(send(&viewer, "POST /v1/devices", r#"{"id":"x"}"#), 403);
    assert_eq!(send("guess", "GET /v1/devices", ""), 401);
    let large = format!(r#"{{"id":"x","name":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(send(&admin, "POST /v1/devices", &large), 413);
    assert_eq!(send(&admin, "DELETE /v1/devices/d", ""), 200);
}
