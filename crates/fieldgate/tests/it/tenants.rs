//! Tenants: made and removed while the gateway runs, bounded each, and nothing to each other.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    Events, Gateway, Issuer, Signer, Wire, exchange, fieldgate, post, post_open, request, run,
};

fn add(gateway: &Gateway, limits: &[&str]) {
    gateway.admin(&[&["tenant", "add", "acme"], limits].concat());
}

/// An API key of a tenant, by its role.
fn key_of(gateway: &Gateway, tenant: &str, role: &str) -> String {
    let name = format!("{role}-key");
    let made = gateway.admin(&["key", "add", &name, "--role", role, "--tenant", tenant]);
    made["key"].as_str().unwrap().to_owned()
}

fn device_of(gateway: &Gateway, tenant: &str, id: &str) -> String {
    let made = gateway.admin(&["device", "add", id, "--tenant", tenant]);
    assert_eq!(made["tenant"], tenant);
    made["token"].as_str().unwrap().to_owned()
}

fn as_device(gateway: &Gateway, tenant: &str, id: &str, token: &str) -> Wire {
    let mut wire = gateway.connect();
    let auth = json!({"type": "auth", "deviceId": id, "token": token, "tenant": tenant});
    wire.send(&auth);
    assert_eq!(wire.next()["status"], "success");
    wire
}

/// Status and body of a request, as they are.
fn answer(gateway: &Gateway, method: &str, path: &str, key: &str, body: &str) -> (u16, String) {
    let bearer = format!("Authorization: Bearer {key}\r\n");
    let answer = exchange(&gateway.address, method, path, &bearer, body);
    (answer.status, answer.body)
}

fn json_of(gateway: &Gateway, path: &str, key: &str) -> Value {
    let (status, body) = answer(gateway, "GET", path, key, "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn a_tenant_has_its_own_devices_keys_and_messages() {
    let gateway = Gateway::start();
    add(&gateway, &[]);
    let (ours, theirs) = (gateway.key("admin"), key_of(&gateway, "acme", "admin"));
    // The same id twice: each is another device.
    let (lamp, other) = (gateway.device("lamp"), device_of(&gateway, "acme", "lamp"));
    assert_ne!(lamp, other);
    let mut app = gateway.as_app(&ours);
    let mut their_app = gateway.as_app(&theirs);
    for app in [&mut app, &mut their_app] {
        app.send(&json!({"type": "subscribe", "topic": "#", "qos": 1}));
        app.next_of("subscribed");
    }
    let mut device = as_device(&gateway, "acme", "lamp", &other);
    device.send(&json!({"type": "status", "deviceId": "lamp", "data": {"whose": "theirs"}}));
    assert!(their_app.next_of("mqtt").to_string().contains("theirs"));
    app.send(&json!({"type": "publish", "topic": "a", "payload": "ours", "msgid": "m"}));
    assert_eq!(app.next_of("mqtt")["payload"], "ours", "theirs did not come before");
    let wrong = json!({"type": "auth", "deviceId": "lamp", "token": other});
    let mut stranger = gateway.connect();
    stranger.send(&wrong);
    assert_eq!(stranger.closed(), Some(4403));
    assert_eq!(json_of(&gateway, "/v1/devices", &theirs)["items"].as_array().unwrap().len(), 1);
    assert_eq!(json_of(&gateway, "/v1/clients", &theirs)["items"].as_array().unwrap().len(), 2);
    let list = gateway.admin(&["key", "list", "--tenant", "acme"]);
    assert_eq!(list["id"], "admin-key");
    let (status, _) = post(&gateway.address, "/v1/commands", &ours, r#"{"to":"lamp","payload":1}"#);
    assert_eq!(status, 201);
    device.send(&json!({"type": "ping"}));
    assert_eq!(device.next()["type"], "pong", "the command was for the other lamp");
}

#[test]
fn only_who_administers_the_gateway_makes_tenants_and_sees_them() {
    let gateway = Gateway::start();
    let (ours, viewer) = (gateway.key("admin"), gateway.key("viewer"));
    let acme = json!({"name": "acme", "limits": {"devices_max": 5}}).to_string();
    assert_eq!(answer(&gateway, "POST", "/v1/tenants", &viewer, &acme).0, 403);
    let (status, made) = post(&gateway.address, "/v1/tenants", &ours, &acme);
    assert_eq!((status, &made["limits"]["devices_max"]), (201, &json!(5)), "{made}");
    assert_eq!(post(&gateway.address, "/v1/tenants", &ours, &acme).0, 409);
    for body in [r#"{"name":"A"}"#, r#"{"name":""}"#, r#"{"name":"b","limits":{"x":1}}"#] {
        assert_eq!(post(&gateway.address, "/v1/tenants", &ours, body).0, 400, "{body}");
    }
    let theirs = key_of(&gateway, "acme", "admin");
    let refused = answer(&gateway, "GET", "/v1/tenants/default", &theirs, "");
    assert_eq!(refused.0, 403, "{}", refused.1);
    for (method, path, body) in [
        ("GET", "/v1/tenants/nowhere", ""),
        ("GET", "/v1/tenants", ""),
        ("POST", "/v1/tenants", r#"{"name":"b"}"#),
        ("PUT", "/v1/tenants/acme", "{}"),
        ("DELETE", "/v1/tenants/default", ""),
        ("DELETE", "/v1/tenants/acme", ""),
    ] {
        assert_eq!(answer(&gateway, method, path, &theirs, body), refused, "{method} {path}");
    }
    assert_eq!(answer(&gateway, "GET", "/metrics", &theirs, "").0, 403);
    // Who names another tenant than their own is told the same, whether there is one or not.
    let named = |tenant: &str| {
        let (status, body) =
            answer(&gateway, "GET", &format!("/v1/devices?tenant={tenant}"), &ours, "");
        (status, body.replace(tenant, "X"))
    };
    assert_eq!(named("acme"), named("nowhere"));
    assert_eq!((named("acme").0, named("default").0), (404, 200));
    let (status, set) =
        request(&gateway.address, "PUT", "/v1/tenants/acme", &ours, r#"{"devices_max":1}"#);
    assert_eq!(status, 200, "{set}");
    let shown = json_of(&gateway, "/v1/tenants/acme", &ours);
    assert_eq!((&shown["limits"]["devices_max"], &shown["keys"]), (&json!(1), &json!(1)));
    let list = json_of(&gateway, "/v1/tenants", &ours);
    let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|t| t["id"].clone()).collect();
    assert_eq!(names, ["acme", "default"]);
    // The audit of the gateway says it, and theirs says nothing of the gateway.
    let acts = |key: &str| -> Vec<String> {
        let page = json_of(&gateway, "/v1/audit?trail=admin&order=asc", key);
        let act = |entry: &Value| format!("{} {}", entry["act"].as_str().unwrap(), entry["target"]);
        page["items"].as_array().unwrap().iter().map(act).collect()
    };
    let of_tenants: Vec<_> =
        acts(&ours).into_iter().filter(|act| act.starts_with("tenant.")).collect();
    assert_eq!(of_tenants, ["tenant.add \"acme\"", "tenant.set \"acme\""]);
    assert_eq!(acts(&theirs), ["key.add \"admin-key\""]);
}

#[test]
fn with_a_tenant_everything_in_it_ends_within_a_second_and_for_good() {
    let signer = Signer::rsa();
    let issuer = Issuer::start(vec![signer.public("k1")]);
    let setting = issuer.setting("corp", "RS256");
    let setting = setting.trim_end().strip_suffix('}').unwrap();
    let mut gateway = Gateway::with(&[&format!("auth.issuers=[{setting}, tenant=\"acme\"}}]")]);
    let token = signer.token(&json!({"alg": "RS256", "kid": "k1"}), &issuer.claims());
    assert_eq!(gateway.get("/v1/devices", Some(&token)).0, 401, "there is no such tenant");
    add(&gateway, &[]);
    assert_eq!(gateway.get("/v1/devices", Some(&token)).0, 200);
    let (ours, theirs) = (gateway.key("admin"), key_of(&gateway, "acme", "admin"));
    let lamp = device_of(&gateway, "acme", "lamp");
    let password = json!({"name": "ada", "role": "viewer", "password": "correct horse"});
    let (status, _) = post(&gateway.address, "/v1/users", &theirs, &password.to_string());
    assert_eq!(status, 201);
    let login = json!({"tenant": "acme", "name": "ada", "password": "correct horse"});
    let (status, signed_in) = post_open(&gateway.address, "/v1/login", &login);
    assert_eq!(status, 200);
    let ada = signed_in["access_token"].as_str().unwrap().to_owned();
    let secret = json!({"topic": "a/b", "payload": "a word of theirs", "retain": true}).to_string();
    assert_eq!(post(&gateway.address, "/v1/publish", &theirs, &secret).0, 201);
    let mut links = [
        as_device(&gateway, "acme", "lamp", &lamp),
        gateway.as_app(&theirs),
        gateway.as_app(&ada),
        gateway.as_app(&token),
    ];
    let mut stream = Events::open(&gateway, "topic=quiet", &theirs, None);
    let mut stays = gateway.as_app(&ours);
    assert_eq!(answer(&gateway, "DELETE", "/v1/tenants/acme", &ours, "").0, 200);
    let removed = Instant::now();
    for link in &mut links {
        assert_eq!(link.closed(), Some(4403));
    }
    let close = stream.next();
    assert_eq!((close.name.as_str(), &close.data["code"]), ("close", &json!(4403)));
    assert!(removed.elapsed() < Duration::from_secs(1), "{:?}", removed.elapsed());
    stays.send(&json!({"type": "ping"}));
    stays.next_of("pong");
    for restarts in 0..2 {
        for credential in [&theirs, &lamp, &ada, &token] {
            assert_eq!(gateway.get("/v1/devices", Some(credential)).0, 401, "{restarts}");
        }
        assert_eq!(post_open(&gateway.address, "/v1/login", &login).0, 401);
        let refresh = json!({"refresh_token": signed_in["refresh_token"]});
        assert_eq!(post_open(&gateway.address, "/v1/refresh", &refresh).0, 401);
        let again = answer(&gateway, "POST", "/v1/tenants", &ours, r#"{"name":"acme"}"#);
        assert_eq!(again.0, 409, "{}", again.1);
        let change = run(&["device", "add", "x", "--tenant", "acme"], &gateway.data());
        assert_eq!(change.status.code(), Some(1));
        // Nobody else comes by what was theirs.
        let mut app = gateway.as_app(&ours);
        app.send(&json!({"type": "subscribe", "topic": "#", "qos": 1, "since": "all"}));
        loop {
            let frame = app.next();
            assert!(!frame.to_string().contains("theirs"), "{frame}");
            if frame["type"] == "caught_up" {
                break;
            }
        }
        gateway.kill();
        gateway.up();
    }
}

#[test]
fn a_tenant_has_limits_of_its_own_and_the_others_do_not_feel_them() {
    let gateway = Gateway::start();
    add(&gateway, &["--connections", "2", "--devices", "1", "--retained", "1"]);
    let (ours, theirs) = (gateway.key("admin"), key_of(&gateway, "acme", "admin"));
    let token = device_of(&gateway, "acme", "one");
    let (status, problem) = post(&gateway.address, "/v1/devices", &theirs, r#"{"id":"two"}"#);
    assert_eq!((status, &problem["code"]), (503, &json!("queue_full")), "{problem}");
    gateway.device("one");
    gateway.device("two");
    let retain = |topic: &str| json!({"topic": topic, "payload": 1, "retain": true}).to_string();
    for topic in ["a", "b"] {
        assert_eq!(post(&gateway.address, "/v1/publish", &theirs, &retain(topic)).0, 201);
        assert_eq!(post(&gateway.address, "/v1/publish", &ours, &retain(topic)).0, 201);
    }
    let tenants = |key: &str| json_of(&gateway, "/v1/status", key)["tenants"].clone();
    let told = tenants(&ours);
    assert_eq!((&told["acme"]["retained"], &told["default"]["retained"]), (&json!(1), &json!(2)));
    assert_eq!((&told["acme"]["accepted"], &told["default"]["accepted"]), (&json!(2), &json!(2)));
    // Their own status is about them alone.
    let their_status = json_of(&gateway, "/v1/status", &theirs);
    assert_eq!(their_status["tenants"].as_object().unwrap().keys().collect::<Vec<_>>(), ["acme"]);
    assert_eq!((&their_status["log"], &their_status["drops"]), (&Value::Null, &Value::Null));
    let told = |key: &str| {
        let mut status = fieldgate();
        status.args(["status", "--url"]).arg(format!("http://{}", gateway.address));
        let status =
            status.args(["--tenant", "acme"]).env("FIELDGATE_TOKEN", key).output().unwrap();
        (status.status.code(), String::from_utf8(status.stdout).unwrap())
    };
    let (code, text) = told(&theirs);
    assert!(code == Some(0) && text.contains("tenant   acme: 0 connections, 1 devices"), "{text}");
    assert!(!text.contains("log"), "{text}");
    assert_eq!(told(&ours).0, Some(1), "the key is of another tenant");
    let mut first = as_device(&gateway, "acme", "one", &token);
    let _second = gateway.as_app(&theirs);
    assert_eq!(tenants(&ours)["acme"]["connections"], 2);
    let bearer = format!("Authorization: Bearer {theirs}");
    let mut third = Wire::open(&gateway.address, "/ws", &[&bearer]).unwrap();
    assert_eq!(third.closed(), Some(4503));
    // A device that comes again takes its own place.
    let _again = as_device(&gateway, "acme", "one", &token);
    assert_eq!(first.closed(), Some(4409));
    let _ours = [gateway.as_app(&ours), gateway.as_app(&ours), gateway.as_app(&ours)];
    // A rate of all together.
    let limits = r#"{"messages_per_second":2}"#;
    assert_eq!(answer(&gateway, "PUT", "/v1/tenants/acme", &ours, limits).0, 200);
    let operator = key_of(&gateway, "acme", "operator");
    let publish =
        |key: &str| post(&gateway.address, "/v1/publish", key, r#"{"topic":"a","payload":1}"#).0;
    let answers: Vec<u16> =
        (0..8).map(|at| publish(if at % 2 == 0 { &theirs } else { &operator })).collect();
    assert_eq!((answers[0], answers[1]), (201, 201), "{answers:?}");
    assert!(answers.contains(&429), "{answers:?}");
    assert!((0..8).all(|_| publish(&ours) == 201));
}
