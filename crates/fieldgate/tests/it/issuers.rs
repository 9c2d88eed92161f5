//! Tokens of outside issuers: which are taken, which are not, and when what they opened ends.

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Signer, Wire, now_s};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A gateway that takes the tokens of these issuers.
fn gateway(issuers: &[String], more: &[&str]) -> Gateway {
    let setting = format!("auth.issuers=[{}]", issuers.join(", "));
    Gateway::with(&[&[setting.as_str()], more].concat())
}

/// The status of the answer to an upgrade with this token.
fn refused(gateway: &Gateway, token: &str) -> String {
    let bearer = format!("Authorization: Bearer {token}");
    let opened = Wire::open(&gateway.address, "/ws", &[&bearer]);
    opened.err().unwrap_or_else(|| panic!("{token} was taken"))
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

#[test]
fn a_token_of_each_algorithm_is_taken_where_a_key_is() {
    for (algorithm, signer) in [
        ("RS256", Signer::rsa()),
        ("PS256", Signer::rsa()),
        ("ES256", Signer::ec()),
        ("EdDSA", Signer::ed()),
    ] {
        let issuer = Issuer::start(vec![Signer::rsa().public("other"), signer.public("k1")]);
        let gateway = gateway(&[issuer.setting("corp", algorithm)], &[]);
        let head = json!({"alg": algorithm, "kid": "k1", "typ": "JWT"});
        let token = signer.token(&head, &issuer.claims());
        let mut app = gateway.as_app(&token);
        app.send(&json!({"type": "subscribe", "topic": "rooms/#"}));
        app.next_of("subscribed");
        app.send(&json!({"type": "subscribe", "topic": "private/#"}));
        assert_eq!(app.next_of("error")["code"], "not_allowed", "{algorithm}");
        drop(Wire::open(&gateway.address, &format!("/ws?token={token}"), &[]).unwrap());
        assert_eq!(gateway.get("/v1/status", Some(&token)).0, 200);
        assert_eq!(gateway.get("/v1/keys", Some(&token)).0, 403, "no right to administer");
        let publish = json!({"type": "publish", "topic": "rooms/a", "payload": 1, "msgid": "m"});
        app.send(&publish);
        assert_eq!(app.next_of("mqtt")["from"], "user:corp:ada");
        assert!(!gateway.output().contains(token.rsplit('.').next().unwrap()), "it is in the log");
    }
}

#[test]
fn a_token_with_any_fault_is_refused_in_the_same_words() {
    let (signer, other) = (Signer::rsa(), Signer::rsa());
    let issuer = Issuer::start(vec![signer.public("k1"), Signer::Hmac(KEY.into()).public("h1")]);
    let gateway =
        gateway(&[issuer.setting("corp", "RS256")], &["limits.auth_failures_per_minute_max=1000"]);
    let head = json!({"alg": "RS256", "kid": "k1"});
    let claims = issuer.claims();
    let good = signer.token(&head, &claims);
    drop(gateway.as_app(&good));
    let secret = Signer::Hmac(signer.public_bytes());
    let named = |alg: &str| json!({"alg": alg, "kid": "k1"});
    let mut bad = vec![
        Signer::None.token(&named("none"), &claims),
        Signer::None.token(&named("RS256"), &claims),
        // The public key taken for a secret, and a secret that is published as a key.
        secret.token(&named("HS256"), &claims),
        Signer::Hmac(KEY.into()).token(&json!({"alg": "HS256", "kid": "h1"}), &claims),
        signer.token(&named("PS256"), &claims),
        other.token(&head, &claims),
        other.token(&json!({"alg": "RS256", "kid": "k1", "jwk": other.public("k1")}), &claims),
        signer.token(&json!({"alg": "RS256", "kid": "k1", "crit": ["exp"]}), &claims),
        signer.token(&json!({"alg": "RS256", "kid": "k9"}), &claims),
        good.replacen('.', ".x", 1),
        format!("{good}x"),
        "a.b.c".to_owned(),
        "..".to_owned(),
        format!("{good}.{good}"),
        format!("{good}{}", "A".repeat(9_000)),
    ];
    for (name, wrong) in [
        ("aud", json!("another")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("iss", json!("https://another.example")),
        ("iss", json!([issuer.address])),
        ("iss", Value::Null),
        ("exp", json!(now_s() - 1)),
        ("exp", json!((now_s() + 600).to_string())),
        ("exp", Value::Null),
        ("nbf", json!(now_s() + 60)),
        ("nbf", json!("soon")),
        ("sub", json!("")),
        ("sub", Value::Null),
        ("realm", json!({"roles": ["guests"]})),
        ("realm", Value::Null),
    ] {
        bad.push(signer.token(&head, &with(&claims, name, wrong)));
    }
    let (status, words) = gateway.get("/v1/status", Some("no such key"));
    assert_eq!(status, 401);
    for token in &bad {
        let answer = gateway.get("/v1/status", Some(token));
        assert_eq!(answer, (401, words.clone()), "{token}");
        assert!(refused(&gateway, token).contains("401"), "{token}");
    }
    // The clock of an issuer may be a little ahead.
    drop(gateway.as_app(&signer.token(&head, &with(&claims, "nbf", json!(now_s() + 10)))));
}

#[test]
fn wrong_tokens_are_counted_as_other_wrong_credentials_are() {
    let signer = Signer::ec();
    let issuer = Issuer::start(vec![signer.public("k1")]);
    let gateway =
        gateway(&[issuer.setting("corp", "ES256")], &["limits.auth_failures_per_minute_max=3"]);
    let head = json!({"alg": "ES256", "kid": "k1"});
    let bad = Signer::ec().token(&head, &issuer.claims());
    for _ in 0..3 {
        assert_eq!(gateway.get("/v1/status", Some(&bad)).0, 401);
    }
    let good = signer.token(&head, &issuer.claims());
    assert_eq!(gateway.get("/v1/status", Some(&good)).0, 429);
    let metrics = gateway.admin(&["status"]);
    assert_eq!(metrics["ready"], "ok");
}

#[test]
fn what_a_token_opened_ends_with_it() {
    let signer = Signer::ed();
    let issuer = Issuer::start(vec![signer.public("k1")]);
    let gateway = gateway(&[issuer.setting("corp", "EdDSA")], &[]);
    let head = json!({"alg": "EdDSA"});
    let token = signer.token(&head, &with(&issuer.claims(), "exp", json!(now_s() + 2)));
    let mut app = gateway.as_app(&token);
    assert_eq!(app.closed(), Some(4403));
    assert!(refused(&gateway, &token).contains("401"), "it is over");
}

#[test]
fn a_new_key_of_the_issuer_is_known_when_a_token_names_it() {
    let (first, second) = (Signer::ec(), Signer::ec());
    let issuer = Issuer::start(vec![first.public("k1")]);
    let gateway = gateway(&[issuer.setting("corp", "ES256")], &[]);
    let token = |signer: &Signer, id: &str| {
        signer.token(&json!({"alg": "ES256", "kid": id}), &issuer.claims())
    };
    drop(gateway.as_app(&token(&first, "k1")));
    issuer.publish(vec![second.public("k2")]);
    drop(gateway.as_app(&token(&second, "k2")));
    assert!(refused(&gateway, &token(&first, "k1")).contains("401"), "it was taken back");
}

#[test]
fn an_issuer_that_never_answered_is_503_and_costs_nobody_else_anything() {
    let signer = Signer::ec();
    let issuer = Issuer::start(Vec::new());
    // Its port is closed: nobody is there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setting =
        issuer.setting("corp", "ES256").replace(&issuer.address, &format!("http://{nobody}"));
    let gateway = gateway(&[setting], &["limits.auth_failures_per_minute_max=2"]);
    let claims = with(&issuer.claims(), "iss", json!(format!("http://{nobody}")));
    let token = signer.token(&json!({"alg": "ES256", "kid": "k1"}), &claims);
    for _ in 0..5 {
        assert!(refused(&gateway, &token).contains("503"));
    }
    drop(gateway.as_app(&gateway.key("viewer")));
    assert!(gateway.output().contains("its keys did not come"));
}

#[test]
fn two_issuers_and_a_shared_key_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let signer = Signer::ec();
    let issuer = Issuer::start(vec![signer.public("k1")]);
    let local = format!(
        "{{ name = \"local\", issuer = \"us\", algorithm = \"HS256\", key_file = {:?}, \
         audience = \"fieldgate\", role_claim = \"scope\", rights = {{ watch = [\"viewer\"] }} }}",
        file.display().to_string()
    );
    let gateway = gateway(&[issuer.setting("corp", "ES256"), local], &[]);
    let head = json!({"alg": "HS256"});
    let claims = json!({"iss": "us", "aud": "fieldgate", "sub": "bob", "exp": now_s() + 60,
                        "scope": "openid watch"});
    let shared = Signer::Hmac(KEY.into());
    assert_eq!(gateway.get("/v1/status", Some(&shared.token(&head, &claims))).0, 200);
    // Each issuer's key counts for its own tokens alone.
    let of_the_other = with(&claims, "iss", json!(issuer.address));
    assert_eq!(gateway.get("/v1/status", Some(&shared.token(&head, &of_the_other))).0, 401);
    let es = json!({"alg": "ES256", "kid": "k1"});
    assert_eq!(gateway.get("/v1/status", Some(&signer.token(&es, &claims))).0, 401);
    assert_eq!(gateway.get("/v1/status", Some(&signer.token(&es, &issuer.claims()))).0, 200);
}
