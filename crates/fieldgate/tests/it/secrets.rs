//! Secrets: whatever is done with them, they are in no log, answer or file that is not theirs.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use fieldgate_dialects::native::client;
use serde_json::{Value, json};

use crate::support::{
    Events, Gateway, Signer, Wire, exchange, fieldgate, now_s, post, post_open, run,
};

const OWN_TOKEN: &str = "own-token-of-a-device-1234";
const THING_TOKEN: &str = "thing-token_of-exactly-43-base64url-charact";
const OWN_SIGNING: &str = "own-secret-to-sign-with-123";
/// The key of an issuer, in a file.
const ISSUER_KEY: &str = "key-of-an-issuer-0123456789abcdef";
/// What targets are shown.
const TARGET_SECRETS: [&str; 3] =
    ["secret-of-a-target-1234", "secret-behind-a-hash-12", "secret-of-the-next-target"];
const PASSWORD: &str = "correct horse battery";
const NEXT_PASSWORD: &str = "another horse battery";
/// What is tried in place of a secret of each kind, and is none.
const WRONG: [&str; 5] = [
    "fg_t_guess-at-a-ticket-123",
    "fg_r_guess-at-a-refresh-12",
    "fg_l_guess-at-a-code-1234",
    "guess-at-a-password-1234",
    "guess-at-a-secret-to-sign",
];
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
    once(&["device", "add", "s", "--type", "hmac"], "token");
    let signing = ["device", "add", "own-s", "--type", "hmac", "--token-stdin"];
    with_stdin(&signing, &data, OWN_SIGNING, said);
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
    made.push(gateway.admin(&["login-link", "--user", "ada"])["code"].as_str().unwrap().to_owned());
    made.extend(integrate(gateway, said));
    let known = [OWN_TOKEN, THING_TOKEN, OWN_SIGNING, ISSUER_KEY, PASSWORD, NEXT_PASSWORD];
    made.extend(known.into_iter().chain(TARGET_SECRETS).map(str::to_owned));
    made
}

/// Makes integrations with secrets, in every way there is and in ways that are refused. Returns the
/// secrets of ours.
fn integrate(gateway: &Gateway, said: &mut String) -> Vec<String> {
    let [secret, hashed, next] = TARGET_SECRETS;
    let add = |more: &[&str], secret: &str, said: &mut String| {
        let all = [&["integration", "add"], more, &["--allow-private", "--from", "all"]].concat();
        with_stdin(&all, &gateway.data(), secret, said);
    };
    // Nobody is there: what is delivered fails.
    let url = "http://127.0.0.1:9/in";
    let out = ["out", "--kind", "rest", "--url", url, "--token-in", "header:X", "--secret-stdin"];
    add(&out, secret, said);
    add(&out, next, said);
    let hash = |secret: &str| format!("{url}#{secret}");
    for url in [hash(hashed), hash(next)] {
        let query = ["hash", "--kind", "rest", "--token-in", "hash:query:k", "--url", &url];
        add(&query, "", said);
    }
    for url in [hash(next), format!("http://a:{next}@127.0.0.1/"), format!("http://[{next}/")] {
        add(&["bare", "--kind", "rest", "--url", &url], "", said);
    }
    let ours = |arguments: &[&str], name: &str| {
        gateway.admin(arguments)[name].as_str().unwrap().to_owned()
    };
    let made = vec![
        ours(&["integration", "add", "cloud", "--kind", "thingsee-in"], "token"),
        ours(&["integration", "rotate", "cloud", "--yes"], "token"),
        ours(&["integration", "rotate", "out", "--yes"], "signing_secret"),
    ];
    for command in [&["list"][..], &["show", "out"], &["show", "hash"], &["set-aside", "out"]] {
        keep(&run(&[&["integration"], command].concat(), &gateway.data()), said);
    }
    made
}

/// Asks with a secret in the body; what is told is kept unless it is the new secrets.
fn told(gateway: &Gateway, path: &str, body: &Value, said: &mut String) -> Value {
    let (status, told) = post_open(&gateway.address, path, body);
    if status != 200 {
        said.push_str(&told.to_string());
    }
    told
}

/// People sign in, go on and out, with right and wrong secrets. Returns what they were given.
fn sign_in(gateway: &Gateway, code: &str, said: &mut String) -> Vec<String> {
    let [_, refresh, wrong_code, password, _] = WRONG;
    let login = |password: &str| json!({"name": "ada", "password": password});
    let mut given = Vec::new();
    let mut keep = |told: &Value| {
        for name in ["access_token", "refresh_token"] {
            given.push(told[name].as_str().unwrap().to_owned());
        }
    };
    let first = told(gateway, "/v1/login", &login(NEXT_PASSWORD), said);
    keep(&first);
    drop(gateway.as_app(first["access_token"].as_str().unwrap()));
    let renewed =
        told(gateway, "/v1/refresh", &json!({"refresh_token": first["refresh_token"]}), said);
    keep(&renewed);
    keep(&told(gateway, "/v1/login-link", &json!({"code": code}), said));
    for (path, body) in [
        ("/v1/refresh", json!({"refresh_token": first["refresh_token"]})),
        ("/v1/refresh", json!({"refresh_token": refresh})),
        ("/v1/logout", json!({"refresh_token": refresh})),
        ("/v1/login-link", json!({"code": code})),
        ("/v1/login-link", json!({"code": wrong_code})),
        ("/v1/login", login(password)),
        ("/v1/login", login(PASSWORD)),
        ("/v1/login", json!({"name": password, "password": password})),
        ("/v1/login", json!({"password": NEXT_PASSWORD})),
    ] {
        told(gateway, path, &body, said);
    }
    let broken = format!("{{\"name\":\"ada\",\"password\":\"{password}");
    said.push_str(&exchange(&gateway.address, "POST", "/v1/login", "", &broken).body);
    given
}

/// Opens connections with tickets, tokens of an issuer and claims that are signed, and tries the same
/// with what is wrong. Returns the tickets and tokens.
fn open(gateway: &Gateway, made: &[String], key: &str, said: &mut String) -> Vec<String> {
    let address = &gateway.address;
    let ticket = || {
        let (_, told) = post(address, "/v1/tickets", key, "{}");
        told["ticket"].as_str().unwrap().to_owned()
    };
    let issuer = Signer::Hmac(ISSUER_KEY.into());
    let claims = json!({"iss": "corp", "aud": "fieldgate", "sub": "bob", "roles": ["all"],
        "exp": now_s() + 600});
    let token = issuer.token(&json!({"alg": "HS256"}), &claims);
    let forged = Signer::Hmac(WRONG[3].into()).token(&json!({"alg": "HS256"}), &claims);
    let (first, second) = (ticket(), ticket());
    drop(Wire::open(address, &format!("/ws?ticket={first}"), &[]).unwrap());
    drop(Events::open(gateway, &format!("topic=a&ticket={second}"), "", None));
    drop(gateway.as_app(&token));
    drop(Wire::open(address, &format!("/ws?token={token}"), &[]).unwrap());
    for wrong in [&*first, WRONG[0], &forged] {
        for path in
            ["/ws?ticket=", "/v1/stream?topic=a&ticket=", "/ws?token=", "/v1/status?ticket="]
        {
            let path = format!("{path}{wrong}");
            said.push_str(&Wire::open(address, &path, &[]).err().unwrap_or_default());
            said.push_str(&gateway.get(&path, Some(wrong)).1);
        }
    }
    let now = now_s() * 1_000;
    for secret in made.iter().map(String::as_str).chain([OWN_SIGNING, WRONG[4]]) {
        for device in ["s", "own-s", "nobody"] {
            let signer = client::Signer::new("default", device, secret);
            let mut wire = gateway.connect();
            wire.send_text(&signer.auth(now, &format!("n-{}", secret.len())));
            let answer = wire.next();
            said.push_str(&answer.to_string());
            if answer["status"] == "success" {
                let refused = r#"{"type":"unsubscribe","topic":"never"}"#;
                wire.send_text(&signer.envelope(refused, now, "n").unwrap());
                said.push_str(&wire.next().to_string());
            }
        }
    }
    let signed = token.rsplit('.').next().unwrap().to_owned();
    vec![first, second, token, forged, signed]
}

/// Everything that a gateway tells an administrator of what happened.
fn pages(gateway: &Gateway, key: &str, said: &mut String) {
    for path in [
        "/metrics",
        "/v1/status",
        "/v1/drops",
        "/v1/audit",
        "/v1/clients",
        "/v1/devices",
        "/v1/keys",
        "/v1/integrations",
    ] {
        let (status, body) = gateway.get(path, Some(key));
        assert_eq!(status, 200, "{path}: {body}");
        said.push_str(&body);
    }
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

/// The setting that takes tokens that are signed with the key of this file.
fn issuer(folder: &Path) -> String {
    let file = folder.join("issuer.key");
    std::fs::write(&file, ISSUER_KEY).unwrap();
    format!(
        "auth.issuers=[{{ name = \"corp\", issuer = \"corp\", algorithm = \"HS256\", \
         audience = \"fieldgate\", key_file = {:?}, role_claim = \"roles\", \
         rights = {{ all = [\"operator\"] }} }}]",
        file.display().to_string()
    )
}

#[test]
fn no_secret_is_in_any_log_line_answer_or_file() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["text", "json"] {
        let settings = [
            "log.level=trace",
            &format!("log.format={format}"),
            "limits.auth_failures_per_minute_max=1000",
            &issuer(folder.path()),
        ];
        let mut gateway = Gateway::without_a_level(&settings);
        let mut said = String::new();
        let mut made = make(&gateway, &mut said);
        let (device, key, code) = (made[0].clone(), made[5].clone(), made[7].clone());
        connect(&gateway, &device, &key, &mut said);
        let given = sign_in(&gateway, &code, &mut said);
        let opened = open(&gateway, &made, &key, &mut said);
        made.extend(given.into_iter().chain(opened));
        pages(&gateway, &key, &mut said);
        gateway.signal("TERM");
        assert_eq!(gateway.ended(), Some(0));
        keep(&run(&["log", "dump"], &gateway.data()), &mut said);
        let log = gateway.output();
        assert!(log.contains("link ended") && log.contains("DEBUG"), "the log tells: {log}");
        for heard in ["not_authenticated", "Authentication failed", "not_found"] {
            assert!(said.contains(heard), "{heard} was not heard: {said}");
        }
        let mut places = Vec::new();
        files(&gateway.data(), &mut places);
        assert!(places.iter().any(|(_, text)| text.contains("own-thing")), "the files are read");
        places.push(("the log".to_owned(), log));
        places.push(("an answer".to_owned(), said));
        assert!(made.len() > 20 && made.iter().all(|secret| secret.len() >= 13), "{made:?}");
        for secret in made.iter().map(String::as_str).chain(GUESSES).chain(WRONG) {
            for (place, text) in &places {
                assert!(!text.contains(secret), "{secret} is in {place} ({format})");
            }
        }
    }
}
