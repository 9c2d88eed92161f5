//! What a refusal tells: that a credential is wrong, and nothing of what there is.
//!
//! That it costs the same work is counted where the work is done: `state/guards/tests.rs` in the store,
//! `prove.rs` and `auth/passwords.rs` in the server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Gateway, Signer, exchange, now_s, post};

/// The text of a value that was made.
fn text(made: &Value, name: &str) -> String {
    made[name].as_str().unwrap().to_owned()
}

/// Credentials that let nobody in, by what is wrong with them.
fn wrong(gateway: &Gateway) -> BTreeMap<&'static str, String> {
    let admin = |arguments: &[&str]| gateway.admin(arguments);
    let removed = gateway.device("removed");
    admin(&["device", "remove", "removed", "--yes"]);
    let rotated = gateway.device("rotated");
    admin(&["device", "rotate", "rotated", "--yes"]);
    let revoked = text(&admin(&["key", "add", "revoked", "--role", "admin"]), "key");
    admin(&["key", "revoke", "revoked", "--yes"]);
    let thing = text(&admin(&["device", "add", "thing", "--type", "thing"]), "token");
    let signing = ["device", "add", "signs", "--type", "hmac", "--integrity", "required"];
    let secret = text(&admin(&signing), "token");
    let token = text(&admin(&["device", "credential", "add", "signs"]), "token");
    let key = gateway.key("operator");
    let (_, ticket) = post(&gateway.address, "/v1/tickets", &key, "{}");
    let claims = json!({"iss": "nobody", "aud": "fieldgate", "sub": "ada", "exp": now_s() + 600});
    BTreeMap::from([
        ("a device that was removed", removed),
        ("a token that was replaced", rotated),
        ("a key that was revoked", revoked),
        ("a thing's token", thing),
        ("a secret to sign with", secret),
        ("a token of a device that must sign", token),
        ("a ticket in the place of a token", text(&ticket, "ticket")),
        ("a token of nobody's issuer", Signer::None.token(&json!({"alg": "none"}), &claims)),
        ("a device's, made up", "fg_d_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH".to_owned()),
        ("a key, made up", "fg_k_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH".to_owned()),
        ("of a person, made up", "fg_a_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH".to_owned()),
        ("no token at all", "x".to_owned()),
        ("a long one", "y".repeat(4_000)),
    ])
}

#[test]
fn a_wrong_credential_gets_one_answer_whatever_is_wrong_with_it() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=100000"]);
    let all = wrong(&gateway);
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let at = |token: &str| {
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let ask = |method: &str, path: &str, headers: &str| {
            exchange(&gateway.address, method, path, headers, "{}")
        };
        [
            ask("GET", "/v1/status", &bearer),
            ask("GET", "/v1/devices/signs", &bearer),
            ask("GET", "/v1/devices/nobody", &bearer),
            ask("GET", "/metrics", &bearer),
            ask("POST", "/v1/tickets", &bearer),
            ask("GET", "/ws", &format!("{upgrade}{bearer}")),
            ask("GET", &format!("/v1/status?token={token}"), ""),
        ]
    };
    let one = at("made-up");
    for (what, token) in &all {
        for (answer, one) in at(token).iter().zip(&one) {
            assert_eq!(answer.status, 401, "{what}");
            assert_eq!(answer.whole(), one.whole(), "{what}");
        }
    }
    assert_eq!(one[1].whole(), one[2].whole(), "a device that is there and one that is not");
}

#[test]
fn a_first_frame_gets_one_answer_whatever_is_wrong_with_it() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=100000"]);
    let all = wrong(&gateway);
    let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (what, token) in &all {
        for device in [None, Some("signs"), Some("thing"), Some("rotated"), Some("nobody")] {
            for tenant in ["default", "nowhere"] {
                let mut wire = gateway.connect();
                wire.send(&json!({
                    "type": "auth", "tenant": tenant, "deviceId": device, "token": token
                }));
                let mut answer = wire.next();
                answer["timestamp"] = json!(0);
                let told = format!("{answer} {:?}", wire.closed());
                answers.entry(told).or_default().push(format!("{what} {device:?} {tenant}"));
            }
        }
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert!(answers.keys().all(|told| told.ends_with("Some(4403)")), "{answers:#?}");
}

#[test]
fn a_spent_a_wrong_and_a_withdrawn_ticket_get_one_answer() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=100000"]);
    let key = gateway.key("operator");
    let withdrawn = text(&gateway.admin(&["key", "add", "gone", "--role", "admin"]), "key");
    let ticket = |key: &str| text(&post(&gateway.address, "/v1/tickets", key, "{}").1, "ticket");
    let (spent, withdrawn) = (ticket(&key), ticket(&withdrawn));
    gateway.admin(&["key", "revoke", "gone", "--yes"]);
    let path = |ticket: &str| format!("/v1/stream?ticket={ticket}");
    // No topic: it is looked at, and spent, before that is told.
    let looked = exchange(&gateway.address, "GET", &path(&spent), "", "");
    assert_eq!(looked.status, 400);
    let made_up = "fg_t_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH";
    let answers: Vec<String> = [&*spent, &*withdrawn, made_up, &*key, "x", "%ff"]
        .into_iter()
        .map(|ticket| exchange(&gateway.address, "GET", &path(ticket), "", "").whole())
        .collect();
    assert!(answers[0].starts_with("HTTP/1.1 401"), "{}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

#[test]
fn what_lets_people_in_gets_one_answer_where_it_is_wrong() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=100000"]);
    let spent = {
        let body = json!({"name": "ada", "role": "viewer", "password": "correct horse"});
        let key = gateway.key("admin");
        let (status, told) = post(&gateway.address, "/v1/users", &key, &body.to_string());
        assert_eq!(status, 201, "{told}");
        let code = text(&gateway.admin(&["login-link", "--user", "ada"]), "code");
        let body = json!({"code": code}).to_string();
        assert_eq!(exchange(&gateway.address, "POST", "/v1/login-link", "", &body).status, 200);
        code
    };
    let answers = |path: &str, bodies: &[Value]| -> Vec<String> {
        let ask = |body: &Value| exchange(&gateway.address, "POST", path, "", &body.to_string());
        bodies.iter().map(|body| ask(body).whole()).collect()
    };
    let made_up = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH";
    for (path, bodies) in [
        (
            "/v1/login",
            vec![
                json!({"name": "ada", "password": "wrong horse"}),
                json!({"name": "nobody", "password": "correct horse"}),
                json!({"name": "nobody", "password": "nobody's"}),
                json!({"tenant": "nowhere", "name": "ada", "password": "correct horse"}),
                json!({"name": "", "password": ""}),
                json!({"name": "user:corp:ada", "password": "correct horse"}),
            ],
        ),
        (
            "/v1/login-link",
            vec![
                json!({"code": spent}),
                json!({"code": format!("fg_l_{made_up}")}),
                json!({"code": ""}),
                json!({"code": format!("fg_a_{made_up}")}),
            ],
        ),
        (
            "/v1/refresh",
            vec![
                json!({"refresh_token": format!("fg_r_{made_up}{made_up}")}),
                json!({"refresh_token": spent}),
                json!({"refresh_token": ""}),
                json!({"refresh_token": "fg_r_"}),
            ],
        ),
    ] {
        let answers = answers(path, &bodies);
        assert!(answers[0].starts_with("HTTP/1.1 401"), "{path}: {}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{path}: {answers:#?}");
    }
}
