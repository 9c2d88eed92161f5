//! Integrations as a resource: made, told, changed and removed; their secrets told once or never.

use std::{
    io::Write,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Gateway, Wire, exchange, fieldgate, post, post_open, request, run};

const SECRET: &str = "their-token-0123456789";

/// Somebody who asks below `/v1/integrations`.
struct Asker<'a> {
    gateway: &'a Gateway,
    key: String,
}

impl<'a> Asker<'a> {
    fn new(gateway: &'a Gateway, role: &str) -> Self {
        Self { gateway, key: gateway.key(role) }
    }

    fn ask(&self, method: &str, rest: &str, body: Value) -> (u16, Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/v1/integrations{rest}");
        request(&self.gateway.address, method, &path, &self.key, &text)
    }

    fn get(&self, rest: &str) -> Value {
        let (status, told) = self.ask("GET", rest, Value::Null);
        assert_eq!(status, 200, "{rest}: {told}");
        told
    }

    fn done(&self, method: &str, rest: &str, body: Value) -> Value {
        let (status, told) = self.ask(method, rest, body);
        assert!((200..300).contains(&status), "{method} {rest}: {told}");
        told
    }

    /// Status and code of what is refused.
    fn refused(&self, method: &str, rest: &str, body: Value) -> (u16, String) {
        let (status, told) = self.ask(method, rest, body);
        (status, told["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The acts in the audit about this target, oldest first.
    fn acts(&self, target: &str) -> Vec<String> {
        let (_, page) = self.gateway.get("/v1/audit?limit=1000", Some(&self.key));
        let page: Value = serde_json::from_str(&page).unwrap();
        let entries = page["items"].as_array().unwrap().iter();
        let of_target = entries.filter(|entry| entry["target"] == target);
        let mut acts: Vec<_> =
            of_target.map(|entry| entry["act"].as_str().unwrap().to_owned()).collect();
        acts.reverse();
        acts
    }
}

fn rest() -> Value {
    json!({"name": "out", "kind": "rest", "url": "https://api.example.com/in?a=1",
        "token_in": "header:X-Api-Key", "secret": SECRET})
}

/// Some of its members replaced.
fn with(body: Value, parts: Value) -> Value {
    let mut all = body.as_object().unwrap().clone();
    all.extend(parts.as_object().unwrap().clone());
    Value::Object(all)
}

#[test]
fn an_integration_is_made_told_changed_and_removed_and_outlives_a_crash() {
    let mut gateway = Gateway::start();
    let admin = Asker::new(&gateway, "admin");
    let made = admin.done("POST", "", with(rest(), json!({"sign": true, "batch_max": 7})));
    assert!(made["signing_secret"].as_str().unwrap().starts_with("fg_h_"), "{made}");
    assert_eq!((&made["name"], &made["kind"]), (&json!("out"), &json!("rest")));
    assert_eq!(made.get("token"), None, "what goes out has no token of ours");
    let shown = admin.get("/out");
    let target = json!({"url": "https://api.example.com/in?a=1", "filter": "devices/+/telemetry",
        "format": "thingsee", "token_in": "header:X-Api-Key", "sign": true, "allow_private": false,
        "messages_per_second": null, "batch_max": 7});
    assert_eq!(shown["target"], target);
    assert_eq!((&shown["devices"], &shown["progress"]["delivered"]), (&Value::Null, &json!(0)));
    assert_eq!(admin.refused("POST", "", rest()), (409, "conflict".to_owned()));

    let path = "/v1/integrations/out";
    let ask = |method: &str, more: &str, body: &str| {
        let head = format!("Authorization: Bearer {}\r\n{more}", admin.key);
        exchange(&gateway.address, method, path, &head, body)
    };
    let tag = ask("GET", "", "").header("etag").unwrap().to_owned();
    let condition = format!("If-Match: {tag}\r\n");
    let edit = r##"{"filter":"#","format":"native-lines","sign":false,"batch_max":null}"##;
    let edited = ask("PATCH", &condition, edit);
    assert_eq!(edited.status, 200, "{}", edited.body);
    let told: Value = serde_json::from_str(&edited.body).unwrap();
    let target = &told["target"];
    assert_eq!((&target["filter"], &target["format"]), (&json!("#"), &json!("native-lines")));
    assert_eq!((&target["sign"], &target["batch_max"]), (&json!(false), &Value::Null));
    assert_eq!(ask("PATCH", &condition, edit).status, 412);

    assert_eq!(admin.done("POST", "/out/pause", Value::Null)["state"], "paused");
    let resumed = admin.done("POST", "/out/resume", Value::Null);
    assert_ne!(resumed["state"], "paused");
    let before = admin.get("/out");
    let acts = ["add", "edit", "pause", "resume"].map(|act| format!("integration.{act}"));
    assert_eq!(admin.acts("out"), acts);
    let key = admin.key;
    gateway.kill();
    gateway.up();
    let admin = Asker { gateway: &gateway, key };
    let after = admin.get("/out");
    assert_eq!((&after["target"], &after["name"]), (&before["target"], &before["name"]));
    admin.done("DELETE", "/out", Value::Null);
    assert_eq!(admin.refused("GET", "/out", Value::Null), (404, "not_found".to_owned()));
    assert_eq!(admin.get("")["items"], json!([]));
}

#[test]
fn what_is_no_target_is_refused_and_the_refusal_says_why() {
    let gateway = Gateway::start();
    let admin = Asker::new(&gateway, "admin");
    for (parts, why) in [
        (json!({"name": "a/b"}), "device id"),
        (json!({"kind": "mqtt"}), "kind is"),
        (json!({"url": null}), "url is missing"),
        (json!({"url": "ws://api.example.com/"}), "http or https"),
        (json!({"url": "file:///etc/passwd"}), "http or https"),
        (json!({"url": "https://ann:word@api.example.com/"}), "user or password"),
        (json!({"url": "api.example.com"}), "no URL"),
        (json!({"url": "http://127.0.0.1/"}), "allow_private"),
        (json!({"url": "http://0x7f.1/"}), "allow_private"),
        (json!({"url": "http://169.254.169.254/", "allow_private": true}), "never connected to"),
        (json!({"url": "https://api.example.com/#x"}), "never sent"),
        (json!({"url": "https://api.example.com/#x", "token_in": "hash:query:k"}), "twice"),
        (json!({"token_in": "hash:query:k", "secret": null}), "behind the #"),
        (json!({"token_in": "query:a"}), "parameter a already"),
        (json!({"token_in": "header:Host"}), "not for a secret"),
        (json!({"token_in": "header:content-LENGTH"}), "not for a secret"),
        (json!({"token_in": "header:Connection"}), "not for a secret"),
        (json!({"token_in": "cookie:a"}), "token_in is"),
        (json!({"token_in": null}), "come together"),
        (json!({"secret": null}), "come together"),
        (json!({"secret": ""}), "a secret is"),
        (json!({"secret": "a\r\nHost: elsewhere"}), "a secret is"),
        (json!({"format": "xml"}), "format is"),
        (json!({"filter": "a/#/b"}), "#"),
        (json!({"from": "yesterday"}), "from is"),
        (json!({"from": "zzzz:1"}), "none of this log"),
        (json!({"messages_per_second": 0}), "messages_per_second is"),
        (json!({"batch_max": 10_001}), "batch_max is"),
        (json!({"kind": "thingsee-in"}), "takes and delivers nothing"),
        (json!({"kind": "websocket", "url": "wss://api.example.com/", "sign": true}), "signed"),
        (json!({"more": 1}), "more"),
    ] {
        let (status, told) = admin.ask("POST", "", with(rest(), parts.clone()));
        assert_eq!(status, 400, "{parts}: {told}");
        let detail = told["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{parts}: {detail}");
        assert!(!detail.contains("word") || why == "user or password", "{detail}");
    }
    let long = format!("https://api.example.com/{}", "x".repeat(2_048));
    let long = with(rest(), json!({"url": long}));
    assert_eq!(admin.refused("POST", "", long), (400, "bad_value".to_owned()));
    assert_eq!(admin.get("")["items"], json!([]), "nothing was made");
}

#[test]
fn a_secret_is_cut_out_of_the_url_and_never_told_and_does_not_follow_to_another() {
    let gateway = Gateway::start();
    let admin = Asker::new(&gateway, "admin");
    let hashed = json!({"name": "out", "kind": "websocket", "token_in": "hash:query:token",
        "url": format!("wss://api.example.com/in#{SECRET}")});
    admin.done("POST", "", hashed);
    let shown = admin.get("/out");
    assert_eq!(shown["target"]["url"], "wss://api.example.com/in");
    assert_eq!(shown["target"]["token_in"], "query:token");
    assert!(!shown.to_string().contains(SECRET));
    let elsewhere = json!({"url": "wss://elsewhere.example.com/"});
    let refused = (400, "bad_value".to_owned());
    assert_eq!(admin.refused("PATCH", "/out", elsewhere.clone()), refused);
    for (parts, expected) in [
        (json!({"secret": "another-secret"}), 200),
        (json!({"secret": null, "token_in": null}), 200),
        (json!({"token_in": "header:X-Key"}), 400),
        (json!({"url": "wss://c.example.com/#more", "token_in": "hash:header:X-Key"}), 200),
        (json!({"url": "wss://d.example.com/", "secret": "a-third"}), 200),
        (json!({"url": "wss://d.example.com/?X=1", "secret": "b", "token_in": "query:X"}), 400),
        (json!({"sign": true}), 400),
    ] {
        let (status, told) = admin.ask("PATCH", "/out", with(elsewhere.clone(), parts.clone()));
        assert_eq!(status, expected, "{parts}: {told}");
    }
    assert_eq!(admin.get("/out")["target"]["token_in"], "header:X-Key");
    assert_eq!(admin.refused("POST", "/out/rotate", Value::Null), refused);
}

#[test]
fn the_token_of_a_source_opens_no_other_door() {
    let gateway = Gateway::start();
    let admin = Asker::new(&gateway, "admin");
    let made = admin.done("POST", "", json!({"name": "cloud", "kind": "thingsee-in"}));
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("fg_s_"), "{made}");
    let shown = admin.get("/cloud");
    assert_eq!((&shown["state"], &shown["devices"]), (&json!("waiting"), &json!(0)));
    assert_eq!((&shown["target"], &shown["progress"]), (&Value::Null, &Value::Null));
    assert_eq!(gateway.get("/v1/devices", Some(token)).0, 401);
    let bearer = format!("Authorization: Bearer {token}");
    assert!(Wire::open(&gateway.address, "/ws", &[&bearer]).err().unwrap().contains("401"));
    let mut wire = gateway.connect();
    wire.send(&json!({"type": "auth", "deviceId": "cloud", "token": token}));
    assert_eq!(wire.closed(), Some(4403));
    let next = admin.done("POST", "/cloud/rotate", Value::Null);
    assert_ne!(next["token"], made["token"]);
    for (rest, body) in [("/cloud/replay", json!({"from": "all"})), ("/cloud/test", Value::Null)] {
        assert_eq!(admin.refused("POST", rest, body), (400, "bad_value".to_owned()), "{rest}");
    }
    let url = json!({"url": "https://api.example.com/"});
    assert_eq!(admin.refused("PATCH", "/cloud", url), (400, "bad_value".to_owned()));
    assert_eq!(admin.acts("cloud")[..2], ["integration.add", "integration.rotate"]);
}

#[test]
fn a_replay_begins_where_it_is_told_and_what_is_not_set_aside_is_not_found() {
    let gateway = Gateway::start();
    let admin = Asker::new(&gateway, "admin");
    let (_, first) =
        post(&gateway.address, "/v1/publish", &admin.key, r#"{"topic":"a","payload":1}"#);
    let position = first["position"].as_str().unwrap().to_owned();
    admin.done("POST", "", rest());
    admin.done("POST", "/out/pause", Value::Null);
    let cursor = |told: &Value| {
        let text = told["progress"]["cursor"].as_str().unwrap();
        text.split_once(':').unwrap().1.parse::<u64>().unwrap()
    };
    let number = position.split_once(':').unwrap().1.parse::<u64>().unwrap();
    assert!(cursor(&admin.get("/out")) > number, "what comes from now on");
    let replay = |from: &str| admin.done("POST", "/out/replay", json!({"from": from}));
    assert_eq!(cursor(&replay(&position)), number);
    assert_eq!(cursor(&replay("all")), 0);
    let now = replay("now");
    assert!(cursor(&now) > number && now["progress"]["behind"].as_u64() < Some(3), "{now}");
    assert!(cursor(&replay("1000")) < number, "everything arrived since 1970");
    assert!(cursor(&replay("2100-01-01T00:00:00Z")) > number);
    for from in ["soon", "zzz:1", &format!("{}9", position)] {
        let refused = admin.refused("POST", "/out/replay", json!({"from": from}));
        assert_eq!(refused, (400, "bad_value".to_owned()), "{from}");
    }
    assert_eq!(admin.get("/out/set-aside"), json!({"items": [], "next": null}));
    let (retry, aside) =
        (format!("/out/set-aside/{position}/retry"), format!("/out/set-aside/{position}"));
    let missing = (404, "not_found".to_owned());
    assert_eq!(admin.refused("POST", &retry, Value::Null), missing);
    assert_eq!(admin.refused("DELETE", &aside, Value::Null), missing);
    let wrong = (400, "bad_value".to_owned());
    assert_eq!(admin.refused("DELETE", "/out/set-aside/x", Value::Null), wrong);
    assert_eq!(admin.refused("GET", "/nothing/set-aside", Value::Null), missing);
}

#[test]
fn only_who_administers_the_tenant_sees_what_it_has() {
    let gateway = Gateway::start();
    let admin = Asker::new(&gateway, "admin");
    admin.done("POST", "", rest());
    let operator = Asker::new(&gateway, "operator");
    let forbidden = (403, "not_allowed".to_owned());
    for (method, rest, body) in [
        ("GET", "", Value::Null),
        ("GET", "/out", Value::Null),
        ("GET", "/out/set-aside", Value::Null),
        ("POST", "", rest()),
        ("PATCH", "/out", json!({})),
        ("DELETE", "/out", Value::Null),
        ("POST", "/out/pause", Value::Null),
        ("POST", "/out/test", Value::Null),
        ("POST", "/out/replay", json!({"from": "all"})),
    ] {
        assert_eq!(operator.refused(method, rest, body), forbidden, "{method} {rest}");
    }
    assert_eq!(post_open(&gateway.address, "/v1/integrations", &rest()).0, 401);
    gateway.admin(&["tenant", "add", "acme"]);
    let made = gateway.admin(&["key", "add", "k", "--role", "admin", "--tenant", "acme"]);
    let theirs = Asker { gateway: &gateway, key: made["key"].as_str().unwrap().to_owned() };
    assert_eq!(theirs.get("")["items"], json!([]));
    assert_eq!(theirs.refused("GET", "/out", Value::Null), (404, "not_found".to_owned()));
    theirs.done("POST", "", rest());
    theirs.done("DELETE", "/out", Value::Null);
    assert_eq!(admin.get("/out")["name"], "out", "each has its own");
}

#[test]
fn a_repeat_of_what_made_a_source_is_answered_without_its_token() {
    let gateway = Gateway::start();
    let admin = Asker::new(&gateway, "admin");
    let body = json!({"name": "cloud", "kind": "thingsee-in"}).to_string();
    let head = format!("Authorization: Bearer {}\r\nIdempotency-Key: one\r\n", admin.key);
    let ask = || exchange(&gateway.address, "POST", "/v1/integrations", &head, &body);
    let first: Value = serde_json::from_str(&ask().body).unwrap();
    assert!(first["token"].is_string());
    let again: Value = serde_json::from_str(&ask().body).unwrap();
    assert_eq!(again, json!({"name": "cloud", "kind": "thingsee-in"}));
}

/// Runs a command with something on stdin.
fn typed(gateway: &Gateway, arguments: &[&str], stdin: &str) -> Output {
    let mut child = fieldgate()
        .args(arguments)
        .arg("--data")
        .arg(gateway.data())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_shell_does_all_of_it_also_on_a_folder_without_a_gateway() {
    let mut gateway = Gateway::start();
    let made = gateway.admin(&["integration", "add", "cloud", "--kind", "thingsee-in"]);
    assert_eq!((&made["name"], &made["kind"]), (&json!("cloud"), &json!("thingsee-in")));
    assert!(made["token"].is_string(), "{made}");
    let add = [
        "integration",
        "add",
        "out",
        "--kind",
        "rest",
        "--url",
        "http://127.0.0.1:9/",
        "--allow-private",
        "--token-in",
        "header:Authorization",
        "--secret-stdin",
        "--sign",
        "--from",
        "-10m",
    ];
    let added = typed(&gateway, &add, &format!("{SECRET}\n"));
    let (said, told) =
        (String::from_utf8(added.stdout).unwrap(), String::from_utf8(added.stderr).unwrap());
    assert!(added.status.success() && said.starts_with("fg_h_"), "{said}{told}");
    assert!(told.contains("signing secret of out (shown once)"), "{told}");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    // What follows opens the folder itself.
    let shown = gateway.admin(&["integration", "show", "out"]);
    assert_eq!(shown["target"]["url"], "http://127.0.0.1:9/");
    let paused = gateway.admin(&["integration", "pause", "out"]);
    assert_eq!(paused["state"], "paused");
    let resumed = gateway.admin(&["integration", "resume", "out"]);
    assert_eq!(resumed["state"], "waiting", "nobody delivers");
    let replayed = gateway.admin(&["integration", "replay", "out", "--from", "all"]);
    assert!(replayed["progress"]["cursor"].as_str().unwrap().ends_with(":0"), "{replayed}");
    let rotated = gateway.admin(&["integration", "rotate", "cloud", "--yes"]);
    assert_ne!(rotated["token"], made["token"]);
    let tested = run(&["integration", "test", "out"], &gateway.data());
    let error: Value = serde_json::from_slice(&tested.stderr).unwrap();
    assert_eq!((tested.status.code(), &error["error"]["code"]), (Some(1), &json!("failed")));
    let tested: Value = serde_json::from_slice(&tested.stdout).unwrap();
    assert_eq!(tested["ok"], json!(false), "nobody is there: {tested}");
    let wall =
        ["integration", "add", "wall", "--kind", "websocket", "--url", "wss://a.example.com/"];
    gateway.admin(&[&wall[..], &["--from", "all"]].concat());
    let wall = gateway.admin(&["integration", "show", "wall"]);
    assert!(wall["progress"]["cursor"].as_str().unwrap().ends_with(":0"), "{wall}");
    let table = typed(&gateway, &["integration", "list"], "");
    let table = String::from_utf8(table.stdout).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("NAME   KIND         STATE"), "{table}");
    assert!(rows[1].starts_with("cloud  thingsee-in  waiting"), "{table}");
    assert!(rows[2].starts_with("out    rest         waiting  devices/+/telemetry"), "{table}");
    assert_eq!(gateway.admin(&["integration", "set-aside", "out"]), Value::Null);
    for (command, code) in [
        (&["drop", "out", "x:1", "--yes"][..], "bad_value"),
        (&["retry", "no", "1:1"], "bad_value"),
    ] {
        let arguments = [&["integration"][..], command].concat();
        let refused = run(&arguments, &gateway.data());
        let error: Value = serde_json::from_slice(&refused.stderr).unwrap();
        assert_eq!(error["error"]["code"], code, "{error}");
    }
    gateway.admin(&["integration", "remove", "out", "--yes"]);
    gateway.admin(&["integration", "remove", "wall", "--yes"]);
    gateway.up();
    assert_eq!(gateway.admin(&["integration", "list"])["name"], "cloud");
}
