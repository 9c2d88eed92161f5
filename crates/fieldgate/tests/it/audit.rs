//! The audit: what was done stands in it with its author, also after a kill; what was refused too.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, exchange, fieldgate, post, post_open};

const PASSWORD: &str = "correct horse battery";

fn entries(gateway: &Gateway, query: &str, key: &str) -> Vec<Value> {
    let (status, body) = gateway.get(&format!("/v1/audit?order=asc&limit=1000{query}"), Some(key));
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(page["next"], Value::Null);
    page["items"].as_array().unwrap().clone()
}

fn verify(gateway: &Gateway, query: &str, key: &str) -> Value {
    let (status, body) = gateway.get(&format!("/v1/audit/verify{query}"), Some(key));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn add_user(gateway: &Gateway, name: &str, role: &str) {
    let mut child = fieldgate()
        .args(["user", "add", name, "--role", role, "--password-stdin", "--data"])
        .arg(gateway.data())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn login(gateway: &Gateway, password: &str) -> (u16, Value) {
    post_open(&gateway.address, "/v1/login", &json!({"name": "ada", "password": password}))
}

/// What an entry says, in short.
fn short(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or("-").to_owned();
    let details = entry["details"].as_array().unwrap().iter();
    let details: String = details
        .map(|detail| {
            let text = |name: &str| detail[name].as_str().unwrap();
            format!(" {}={}", text("name"), text("value"))
        })
        .collect();
    let count = &entry["count"];
    format!(
        "{} {} {} {} {}x{count}{details}",
        text("by"),
        text("address"),
        text("act"),
        text("target"),
        text("outcome"),
    )
}

fn delete(gateway: &Gateway, path: &str, key: &str) -> u16 {
    let bearer = format!("Authorization: Bearer {key}\r\n");
    exchange(&gateway.address, "DELETE", path, &bearer, "").status
}

#[test]
fn what_was_done_is_entered_with_its_author_and_outlives_a_kill() {
    let mut gateway = Gateway::start();
    let admin = gateway.key("admin");
    let lamp = json!({"id": "lamp", "kind": "light", "groups": ["cellar"]});
    let (status, made) = post(&gateway.address, "/v1/devices", &admin, &lamp.to_string());
    assert_eq!(status, 201, "{made}");
    assert_eq!(post(&gateway.address, "/v1/devices/lamp/rotate", &admin, "").0, 201);
    add_user(&gateway, "ada", "operator");
    let (_, told) = login(&gateway, PASSWORD);
    let body = json!({"refresh_token": told["refresh_token"]});
    assert_eq!(post_open(&gateway.address, "/v1/refresh", &body).0, 200);
    assert_eq!(post_open(&gateway.address, "/v1/logout", &body).0, 204);
    let code = gateway.admin(&["login-link", "--user", "ada"])["code"].clone();
    assert_eq!(post_open(&gateway.address, "/v1/login-link", &json!({"code": code})).0, 200);
    let mut app = gateway.as_app(&admin);
    let id = wait_for_client(&gateway, &admin);
    assert_eq!(delete(&gateway, &format!("/v1/clients/{id}"), &admin), 200);
    assert_eq!(app.closed(), Some(1008));
    assert_eq!(delete(&gateway, "/v1/devices/lamp", &admin), 200);
    gateway.kill();
    gateway.up();
    let found = entries(&gateway, "", &admin);
    let by_admin = "key:admin-key 127.0.0.1";
    let said: Vec<String> = found.iter().map(short).collect();
    let rotated = said[2].strip_prefix(&format!("{by_admin} device.rotate lamp okx1 credential="));
    assert!(rotated.is_some_and(|id| id.starts_with("token-")), "{}", said[2]);
    let expected = [
        "local - key.add admin-key okx1 role=admin".to_owned(),
        format!("{by_admin} device.add lamp okx1 groups=cellar kind=light"),
        said[2].clone(),
        "local - user.add ada okx1 role=operator".to_owned(),
        "user:ada 127.0.0.1 sign_in ada okx1".to_owned(),
        "user:ada 127.0.0.1 sign_out ada okx1".to_owned(),
        "local - login_link.add ada okx1".to_owned(),
        "user:ada 127.0.0.1 login_link.use ada okx1".to_owned(),
        format!("{by_admin} client.disconnect {id} okx1 principal=key:admin-key"),
        format!("{by_admin} device.remove lamp okx1"),
    ];
    assert_eq!(said, expected);
    // Each has its number, its time and its place in a chain.
    let seqs: Vec<u64> = found.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    for trail in ["admin", "access"] {
        let of = found.iter().filter(|entry| entry["trail"] == trail);
        let zeroes = json!("0".repeat(64));
        of.enumerate().fold(zeroes, |previous, (at, entry)| {
            assert_eq!(entry["number"], at + 1);
            assert_eq!(entry["previous"], previous);
            entry["hash"].clone()
        });
    }
    let secrets = [&told["refresh_token"], &told["access_token"], &made["token"], &code];
    let text = serde_json::to_string(&found).unwrap();
    for secret in secrets {
        assert!(!text.contains(secret.as_str().unwrap()));
    }
    assert_eq!(verify(&gateway, "", &admin)["sound"], true);
}

fn wait_for_client(gateway: &Gateway, key: &str) -> String {
    crate::support::wait_for("the connection", || {
        let (_, body) = gateway.get("/v1/clients", Some(key));
        let page: Value = serde_json::from_str(&body).unwrap();
        page["items"][0]["id"].as_str().map(str::to_owned)
    })
}

#[test]
fn what_was_refused_is_entered_together_and_so_is_what_was_done_before() {
    let mut gateway = Gateway::with(&["limits.auth_failures_per_minute_max=1000"]);
    let (admin, viewer) = (gateway.key("admin"), gateway.key("viewer"));
    add_user(&gateway, "ada", "viewer");
    gateway.device("lamp");
    for _ in 0..5 {
        assert_eq!(delete(&gateway, "/v1/devices/lamp", &viewer), 403);
    }
    assert_eq!(gateway.get("/v1/audit", Some(&viewer)).0, 403);
    assert_eq!(delete(&gateway, "/v1/devices/nothing", &admin), 404);
    assert_eq!(post(&gateway.address, "/v1/devices", &admin, r#"{"id":"lamp"}"#).0, 409);
    for _ in 0..3 {
        assert_eq!(login(&gateway, "a wrong guess").0, 401);
    }
    let stranger = json!({"name": "a secret in the wrong field", "password": PASSWORD});
    assert_eq!(post_open(&gateway.address, "/v1/login", &stranger).0, 401);
    for _ in 0..2 {
        assert_eq!(gateway.get("/v1/status", Some("fg_k_made-up")).0, 401);
    }
    let mut device = gateway.connect();
    device.send(&json!({"type": "auth", "deviceId": "lamp", "token": "a wrong token"}));
    assert_eq!(device.closed(), Some(4403));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    gateway.up();
    let found = entries(&gateway, "&trail=access", &admin);
    let mut said: Vec<String> = found.iter().map(short).collect();
    said.sort();
    // A minute may have ended in between: what is in two entries is counted together here.
    let mut counts = std::collections::BTreeMap::new();
    for line in said {
        let (what, count) = line.rsplit_once('x').unwrap();
        *counts.entry(what.to_owned()).or_insert(0) += count.parse::<u64>().unwrap();
    }
    let login = counts.remove(" 127.0.0.1 sign_in ada not_allowed").unwrap_or(0);
    let nobody = counts.remove(" 127.0.0.1 sign_in  not_allowed").unwrap_or(0);
    assert_eq!(login + nobody, 4, "{counts:?}");
    let credential = " 127.0.0.1 authenticate";
    let wrong = counts.remove(&format!("{credential} lamp not_allowed")).unwrap_or(0)
        + counts.remove(&format!("{credential}  not_allowed")).unwrap_or(0);
    assert_eq!(wrong, 3, "{counts:?}");
    let expected = [
        ("key:admin-key 127.0.0.1 device.add  conflict", 1),
        ("key:admin-key 127.0.0.1 device.remove nothing not_found", 1),
        ("key:viewer-key 127.0.0.1 audit.read  not_allowed", 1),
        ("key:viewer-key 127.0.0.1 device.remove lamp not_allowed", 5),
    ];
    assert_eq!(counts, expected.map(|(what, count)| (what.to_owned(), count)).into());
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains("secret") && !text.contains("guess") && !text.contains("made-up"));
    // And what was done while no gateway ran.
    gateway.signal("TERM");
    gateway.ended();
    gateway.device("offline");
    gateway.up();
    let last = entries(&gateway, "&trail=admin", &admin).pop().unwrap();
    assert_eq!(short(&last), "local - device.add offline okx1");
}

#[test]
fn a_noted_entry_is_found_again_and_pages_and_filters_select() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    (0..7).for_each(|number| drop(gateway.device(&format!("lamp-{number}"))));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, body) = gateway.get(&format!("/v1/audit?limit=3{cursor}"), Some(&admin));
        let page: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{page}");
        seen.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    seen.reverse();
    assert_eq!(seen, entries(&gateway, "", &admin));
    assert_eq!(entries(&gateway, "&act=device.add&by=local", &admin).len(), 7);
    assert_eq!(entries(&gateway, "&act=key.add", &admin).len(), 1);
    assert_eq!(entries(&gateway, "&by=user:ada", &admin).len(), 0);
    let middle = &seen[3];
    let from = format!("&from={}", middle["time"]);
    assert!(entries(&gateway, &from, &admin).contains(middle));
    let behind = entries(&gateway, &format!("&cursor={}", middle["seq"]), &admin);
    assert_eq!(behind, seen[4..]);
    for query in ["act=nothing", "from=never", "order=up", "trail=all", "x=1", "limit=0"] {
        assert_eq!(gateway.get(&format!("/v1/audit?{query}"), Some(&admin)).0, 400, "{query}");
    }
    let noted = |number: &Value, hash: &Value| {
        let query = format!("?trail=admin&number={number}&hash={}", hash.as_str().unwrap());
        let told = verify(&gateway, &query, &admin);
        (told["sound"].as_bool().unwrap(), told["noted"].as_str().unwrap().to_owned())
    };
    assert_eq!(noted(&middle["number"], &middle["hash"]), (true, "holds".to_owned()));
    assert_eq!(noted(&middle["number"], &seen[4]["hash"]), (false, "differs".to_owned()));
    assert_eq!(noted(&json!(99), &middle["hash"]), (false, "missing".to_owned()));
    assert_eq!(gateway.get("/v1/audit/verify?number=1", Some(&admin)).0, 400);
}

#[test]
fn a_configuration_that_is_read_again_is_entered_with_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fieldgate.toml");
    std::fs::write(&file, "[limits]\nauth_ms = 5000\n").unwrap();
    let gateway = Gateway::with(&[&format!("--config={}", file.display())]);
    let admin = gateway.key("admin");
    let text = "[limits]\nauth_ms = 4000\n[listen]\norigins = [\"https://a.example\"]\n";
    std::fs::write(&file, format!("{text}[auth]\naccess_lifetime = \"1h\"\n")).unwrap();
    gateway.signal("HUP");
    let found = crate::support::wait_for("the entry", || {
        entries(&gateway, "&act=config.reload", &admin).pop()
    });
    let said = short(&found);
    assert!(said.starts_with("local - config.reload  okx1 changed="), "{said}");
    assert!(said.contains("limits.auth_ms"), "{said}");
}
