//! What people of thethings.iO apps do: enter themselves, sign in, link things, read and write them.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    admin::with_stdin,
    socketio,
    support::{self, Gateway, Wire, sessions::next, wait_for},
    thethings::{ask, get, post, thing},
};

const OPEN: &str =
    r#"thethings.apps={"open"={tenant="default",register=true},"shut"={tenant="default"}}"#;

fn user(gateway: &Gateway, key: &str, name: &str, role: &str) {
    let password = "correct horse";
    let body = json!({"name": name, "role": role, "password": password}).to_string();
    let (status, told) = support::post(&gateway.address, "/v1/users", key, &body);
    assert_eq!(status, 201, "{told}");
}

fn enter(gateway: &Gateway, how: &str, email: &str, password: &str, app: &str) -> (u16, Value) {
    let body = json!({"email": email, "password": password, "app": app});
    post(gateway, &format!("/v2/{how}"), &body.to_string())
}

/// Enters somebody; their session token.
fn register(gateway: &Gateway, email: &str) -> String {
    let (status, told) = enter(gateway, "register", email, "correct horse", "open");
    assert_eq!((status, &told["status"]), (201, &json!("success")), "{told}");
    told["token"].as_str().unwrap().to_owned()
}

/// Asks with a session token, raw as these clients send it.
fn me(gateway: &Gateway, method: &str, path: &str, token: &str, body: &str) -> (u16, Value) {
    ask(gateway, method, &format!("/v2/me{path}"), &format!("Authorization: {token}\r\n"), body)
}

fn link(gateway: &Gateway, session: &str, token: &str) -> (u16, Value) {
    me(gateway, "POST", "/things", session, &json!({"thingToken": token}).to_string())
}

#[test]
fn people_enter_themselves_where_an_app_allows_it_and_no_address_is_told_to_be_known() {
    let gateway = Gateway::with(&[OPEN, "limits.auth_failures_per_minute_max=1000"]);
    let refused = enter(&gateway, "register", "a@b.c", "correct horse", "shut");
    assert_eq!((refused.0, &refused.1["code"]), (403, &json!(403)));
    assert_eq!(enter(&gateway, "register", "a@b.c", "correct horse", "no such app"), refused);
    for (email, password) in [("a", "correct horse"), ("a@b.c", "short")] {
        assert_eq!(enter(&gateway, "register", email, password, "open").0, 400);
    }
    let new = enter(&gateway, "register", "a@b.c", "correct horse", "open");
    let known = enter(&gateway, "register", "A@b.c", "another horse", "open");
    let shape = |(status, told): &(u16, Value)| {
        let token = told["token"].as_str().unwrap();
        let names: Vec<_> = told.as_object().unwrap().keys().cloned().collect();
        (*status, names, told["message"].clone(), token.len())
    };
    assert_eq!(shape(&new), shape(&known));
    // Each is somebody of their own, and signs in with their own password.
    for password in ["correct horse", "another horse"] {
        let (status, told) = enter(&gateway, "login", "a@b.c", password, "open");
        assert_eq!((status, told["token"].is_string()), (200, true), "{told}");
        assert!(!told.to_string().contains("error"), "clients look for that word");
    }
    let wrong = enter(&gateway, "login", "a@b.c", "no horse", "open");
    assert_eq!(wrong.0, 401);
    for (email, app) in [("nobody@b.c", "open"), ("nobody", "open"), ("a@b.c", "none")] {
        assert_eq!(enter(&gateway, "login", email, "no horse", app), wrong, "{email} {app}");
    }
    // Who asks again with the same password is who they were.
    let again = register(&gateway, "a@b.c");
    assert_eq!(me(&gateway, "GET", "/things", &again, ""), (200, json!([])));
}

#[test]
fn a_form_is_a_body_and_bearer_a_way_to_write_a_session_token() {
    let gateway = Gateway::with(&[OPEN]);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let body = "email=ada%40example.com&password=correct+horse&app=open";
    let (status, told) = ask(&gateway, "POST", "/v2/register", form, body);
    assert_eq!(status, 201, "{told}");
    let token = told["token"].as_str().unwrap();
    assert_eq!(me(&gateway, "GET", "/settings", &format!("Bearer {token}"), ""), (200, json!({})));
    let put = me(&gateway, "PUT", "/settings", token, r#"{"b":[1],"a":"é"}"#);
    assert_eq!(put, (200, json!({"status": "success", "message": "updated"})));
    assert_eq!(me(&gateway, "GET", "/settings", token, "").1, json!({"a": "é", "b": [1]}));
    assert_eq!(me(&gateway, "PUT", "/settings", token, "[1]").0, 400);
    let long = json!({"a": "x".repeat(9_000)}).to_string();
    assert_eq!(me(&gateway, "PUT", "/settings", token, &long).0, 400);
}

#[test]
fn who_an_administrator_made_signs_in_with_their_name_or_their_address() {
    let mut gateway = Gateway::with(&[OPEN, "limits.auth_failures_per_minute_max=1000"]);
    let key = gateway.key("admin");
    let make = |gateway: &Gateway, name: &str, email: &str| {
        let body =
            json!({"name": name, "role": "viewer", "password": "correct horse", "email": email});
        support::post(&gateway.address, "/v1/users", &key, &body.to_string())
    };
    let made = json!({"name": "ada", "role": "viewer", "email": "Ada@example.com"});
    assert_eq!(make(&gateway, "ada", "Ada@example.com"), (201, made.clone()));
    for wrong in ["ada", "a@", &format!("{}@b", "a".repeat(254))] {
        let (status, told) = make(&gateway, "bob", wrong);
        assert_eq!((status, &told["code"]), (400, &json!("bad_value")), "{told}");
    }
    assert_eq!(make(&gateway, "ada", "other@example.com").1["code"], "conflict");
    // Others who have the address are told apart by their passwords, and bounded.
    let other = enter(&gateway, "register", "ada@example.com", "another horse", "open");
    assert_eq!(other.0, 201);
    assert_eq!(make(&gateway, "eve", "ada@example.com").0, 201);
    assert_eq!(make(&gateway, "eva", "ada@example.com").1["code"], "queue_full");
    gateway.kill();
    gateway.up();
    for name in ["ada", "ada@EXAMPLE.com", "eve"] {
        assert_eq!(enter(&gateway, "login", name, "correct horse", "shut").0, 200, "{name}");
        assert_eq!(enter(&gateway, "login", name, "wrong horse", "shut").0, 401, "{name}");
    }
    let (_, shown) = gateway.get("/v1/users/ada", Some(&key));
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), made);
    // Who goes leaves room.
    gateway.admin(&["user", "remove", "eve", "--yes"]);
    let by_hand = [
        "user",
        "add",
        "eva",
        "--role",
        "viewer",
        "--email",
        "ada@example.com",
        "--password-stdin",
    ];
    assert!(with_stdin(&by_hand, &gateway.data(), "correct horse").status.success());
    assert_eq!(enter(&gateway, "login", "eva", "correct horse", "shut").0, 200);
}

#[test]
fn a_new_password_ends_every_session() {
    let gateway = Gateway::with(&[OPEN]);
    user(&gateway, &gateway.key("admin"), "ada", "viewer");
    let login = |password: &str| enter(&gateway, "login", "ada", password, "shut");
    let token = login("correct horse").1["token"].as_str().unwrap().to_owned();
    let change = |current: &str, new: &str, again: &str| {
        let body = json!({"appId": "shut", "currentPassword": current, "password": new,
            "confirmationPassword": again});
        me(&gateway, "PUT", "", &token, &body.to_string()).0
    };
    assert_eq!(change("correct horse", "battery staple", "another"), 400);
    assert_eq!(change("wrong horse", "battery staple", "battery staple"), 401);
    assert_eq!(change("correct horse", "battery staple", "battery staple"), 200);
    assert_eq!(me(&gateway, "GET", "/things", &token, "").0, 401);
    assert_eq!(login("correct horse").0, 401);
    assert_eq!(login("battery staple").0, 200);
}

#[test]
fn a_member_sees_and_writes_what_they_linked_and_nothing_else() {
    let mut gateway = Gateway::with(&[OPEN]);
    let (mine, other) = (thing(&gateway, "mine"), thing(&gateway, "other"));
    for (token, value) in [(&mine, 1), (&other, 2)] {
        let body = json!({"values": [{"key": "temperature", "value": value}]}).to_string();
        assert_eq!(post(&gateway, &format!("/v2/things/{token}"), &body).0, 201);
    }
    let ada = register(&gateway, "ada@example.com");
    assert_eq!(me(&gateway, "GET", "/things", &ada, ""), (200, json!([])));
    assert_eq!(me(&gateway, "GET", "/resources/temperature/mine", &ada, "").0, 404);
    assert_eq!(link(&gateway, &ada, &"x".repeat(43)).0, 404);
    let linked = json!({"status": "success", "message": "linked", "thingId": "mine"});
    assert_eq!(link(&gateway, &ada, &mine), (200, linked));
    gateway.kill();
    gateway.up();
    assert_eq!(me(&gateway, "GET", "/things", &ada, "").1, json!([{"_id": "mine"}]));
    let resources = json!([{"name": "temperature", "things": ["mine"]}]);
    assert_eq!(me(&gateway, "GET", "/resources", &ada, "").1, resources);
    let by_thing = me(&gateway, "GET", "/resources/temperature", &ada, "").1;
    assert_eq!((&by_thing["mine"][0]["value"], by_thing.get("other")), (&json!(1), None));
    // By its id or by its token.
    for name in ["mine", &mine] {
        let read = me(&gateway, "GET", &format!("/resources/temperature/{name}"), &ada, "");
        assert_eq!((read.0, &read.1[0]["value"]), (200, &json!(1)));
    }
    for name in ["other", &other, "nobody"] {
        let path = format!("/resources/temperature/{name}");
        assert_eq!(me(&gateway, "GET", &path, &ada, "").0, 404, "{name}");
        let body = r#"{"values":[{"value":9}]}"#;
        assert_eq!(me(&gateway, "POST", &path, &ada, body).0, 404, "{name}");
    }
    let body = r#"{"values":[{"value":"ON"}]}"#;
    assert_eq!(me(&gateway, "POST", "/resources/led/mine", &ada, body).0, 201);
    let read = get(&gateway, &format!("/v2/things/{mine}/resources/led"));
    assert_eq!(read.1[0]["value"], "ON");
    // What is linked gives these rights elsewhere, too, and no more.
    let (status, listed) = gateway.get("/v1/devices", Some(&ada));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((status, listed["items"].as_array().unwrap().len()), (200, 1));
    let publish = json!({"topic": "devices/mine/telemetry", "payload": {"a": 1}}).to_string();
    assert_eq!(support::post(&gateway.address, "/v1/publish", &ada, &publish).0, 403);
    let unlinked = json!({"status": "success", "message": "unlinked"});
    assert_eq!(me(&gateway, "DELETE", "/things/mine", &ada, ""), (200, unlinked));
    assert_eq!(me(&gateway, "GET", "/resources/temperature/mine", &ada, "").0, 404);
}

#[test]
fn what_is_written_to_a_linked_thing_comes_over_socket_io() {
    let gateway = Gateway::with(&[OPEN]);
    let (mine, other) = (thing(&gateway, "mine"), thing(&gateway, "other"));
    let ada = register(&gateway, "ada@example.com");
    link(&gateway, &ada, &mine);
    let mut wire = socketio::join(&gateway, "");
    let said = |wire: &mut Wire, name: &str, argument: Value| {
        let told = socketio::event(wire, name, &argument);
        assert!(told.contains(r#""status":"success""#), "{name}: {told}");
    };
    said(&mut wire, "authenticate", json!({"sessionToken": ada}));
    said(&mut wire, "subscribe", json!({"resource": "/me/resources/temperature"}));
    said(&mut wire, "subscribe", json!({"resource": format!("/things/{mine}")}));
    let refused =
        socketio::event(&mut wire, "subscribe", &json!({"resource": format!("/things/{other}")}));
    assert!(refused.contains(r#""code":404"#) || refused.contains(r#""code":403"#), "{refused}");
    for (token, value) in [(&other, 1), (&mine, 2)] {
        let body = json!({"values": [{"key": "temperature", "value": value,
            "datetime": "20150520120000"}]});
        assert_eq!(post(&gateway, &format!("/v2/things/{token}"), &body.to_string()).0, 201);
    }
    let mut events = [next(&mut wire), next(&mut wire)];
    events.sort();
    let item = r#"[{"key":"temperature","value":2,"datetime":"2015-05-20T12:00:00.000Z"}]"#;
    let expected = |topic: &str| format!(r#"42/v2,["{topic}",{item}]"#);
    let topics = ["/me/resources/temperature", &format!("/things/{mine}")].map(expected);
    assert_eq!(events, topics);
    said(&mut wire, "unsubscribe", json!({"resource": "/me/resources/temperature"}));
    // And what is written to it over HTTP by the person comes, too.
    let body = r#"{"values":[{"value":"ON"}]}"#;
    assert_eq!(me(&gateway, "POST", "/resources/led/mine", &ada, body).0, 201);
    assert!(next(&mut wire).contains(r#""key":"led","value":"ON""#));
}

#[test]
fn a_room_of_a_thing_is_there_again_when_it_is_linked_again() {
    let gateway = Gateway::with(&[OPEN]);
    let mine = thing(&gateway, "mine");
    let ada = register(&gateway, "ada@example.com");
    link(&gateway, &ada, &mine);
    let mut wire = socketio::join(&gateway, "");
    socketio::event(&mut wire, "authenticate", &json!({"sessionToken": ada}));
    let room = format!("/things/{mine}");
    let told = socketio::event(&mut wire, "subscribe", &json!({"resource": room}));
    assert!(told.contains(r#""status":"success""#), "{told}");
    let key = gateway.key("admin");
    let is_told = |value: u32| {
        let body = json!({"values": [{"key": "k", "value": value}]}).to_string();
        assert_eq!(post(&gateway, &format!("/v2/things/{mine}"), &body).0, 201);
    };
    let follows = |count: usize| {
        wait_for("what the connection follows", || {
            let (_, listed) = gateway.get("/v1/clients", Some(&key));
            let listed: Value = serde_json::from_str(&listed).unwrap();
            (listed["items"][0]["subscriptions"] == count).then_some(())
        });
    };
    follows(2);
    is_told(1);
    assert!(next(&mut wire).contains("\"value\":1,"));
    assert_eq!(me(&gateway, "DELETE", "/things/mine", &ada, "").0, 200);
    follows(0);
    is_told(2);
    link(&gateway, &ada, &mine);
    follows(2);
    is_told(3);
    let told = next(&mut wire);
    assert!(told.contains("\"value\":3,"), "what came between is not told: {told}");
}

#[test]
fn who_comes_back_and_sees_no_thing_is_told_of_none() {
    let gateway = Gateway::with(&[OPEN]);
    let (mine, other) = (thing(&gateway, "mine"), thing(&gateway, "other"));
    let key = gateway.key("admin");
    let door = json!({"topic": "house/door", "payload": 1}).to_string();
    let (_, published) = support::post(&gateway.address, "/v1/publish", &key, &door);
    let write = |token: &str, value: u32| {
        let body = json!({"values": [{"key": "k", "value": value}]}).to_string();
        assert_eq!(post(&gateway, &format!("/v2/things/{token}"), &body).0, 201);
    };
    write(&other, 1);
    let ada = register(&gateway, "ada@example.com");
    let mut wire =
        socketio::join(&gateway, &json!({"position": published["position"]}).to_string());
    socketio::event(&mut wire, "authenticate", &json!({"sessionToken": ada}));
    let told = socketio::event(&mut wire, "subscribe", &json!({"resource": "/me/resources/k"}));
    assert!(told.contains(r#""status":"success""#), "{told}");
    link(&gateway, &ada, &mine);
    wait_for("what the connection follows", || {
        let (_, listed) = gateway.get("/v1/clients", Some(&key));
        let listed: Value = serde_json::from_str(&listed).unwrap();
        (listed["items"][0]["subscriptions"] == 2).then_some(())
    });
    write(&mine, 2);
    let told = next(&mut wire);
    assert!(told.contains("\"value\":2,"), "{told}");
}

#[test]
fn what_the_profile_lets_be_written_is_set_by_a_command() {
    let gateway = Gateway::with(&[OPEN]);
    let made = gateway.admin(&["device", "add", "lamp", "--kind", "light"]);
    let mut lamp = gateway.as_device("lamp", made["token"].as_str().unwrap());
    let key = gateway.key("admin");
    user(&gateway, &key, "eve", "viewer");
    user(&gateway, &key, "ada", "operator");
    let session = |name: &str| {
        let (_, told) = enter(&gateway, "login", name, "correct horse", "shut");
        told["token"].as_str().unwrap().to_owned()
    };
    let (ada, eve) = (session("ada"), session("eve"));
    let write = |session: &str, resource: &str, body: &str| {
        me(&gateway, "POST", &format!("/resources/{resource}/lamp"), session, body).0
    };
    assert_eq!(write(&eve, "on", r#"{"values":[{"value":true}]}"#), 403);
    assert_eq!(write(&ada, "on", r#"{"values":[{"value":true}]}"#), 201);
    assert_eq!(lamp.next_of("control")["payload"], json!({"set": {"on": true}}));
    assert_eq!(write(&ada, "brightness", r#"{"values":[{"value":7}]}"#), 400, "out of its range");
    assert_eq!(write(&ada, "on", r#"{"values":[{"value":true},{"value":false}]}"#), 400);
    assert_eq!(write(&ada, "note", r#"{"values":[{"value":"x"}]}"#), 201);
    let read = me(&gateway, "GET", "/resources/note/lamp", &eve, "");
    assert_eq!((read.0, &read.1[0]["value"]), (200, &json!("x")), "a role sees without a link");
}

#[test]
fn a_thing_of_another_tenant_is_as_good_as_none() {
    let gateway = Gateway::with(&[OPEN]);
    gateway.admin(&["tenant", "add", "acme"]);
    let made = gateway.admin(&["device", "add", "far", "--type", "thing", "--tenant", "acme"]);
    let far = made["token"].as_str().unwrap();
    let body = r#"{"values":[{"key":"a","value":1}]}"#;
    assert_eq!(post(&gateway, &format!("/v2/things/{far}"), body).0, 201, "it is a thing there");
    let ada = register(&gateway, "ada@example.com");
    assert_eq!(link(&gateway, &ada, far), link(&gateway, &ada, &"x".repeat(43)));
    assert_eq!(me(&gateway, "GET", &format!("/resources/a/{far}"), &ada, "").0, 404);
    gateway.admin(&["tenant", "remove", "acme", "--yes"]);
    wait_for("the end of the token", || {
        (get(&gateway, &format!("/v2/things/{far}/resources")).0 == 401).then_some(())
    });
}

#[test]
fn the_description_names_every_address_and_is_the_one_in_the_documentation() {
    let gateway = Gateway::start();
    let (status, text) = gateway.get("/doc/thethings.json", None);
    let described: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &described["openapi"]), (200, &json!("3.1.0")));
    for path in ["/v2/things", "/v2/things/{token}", "/v2/me/things", "/v2/login"] {
        assert!(described["paths"].get(path).is_some(), "{path}");
    }
    let (status, served) = gateway.get("/doc/thethings.yaml", None);
    assert_eq!(status, 200);
    // A change of the interface shows in review: `FIELDGATE_WRITE=1` writes the copy anew.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/thethings.yaml");
    if std::env::var_os("FIELDGATE_WRITE").is_some() {
        std::fs::write(&path, &served).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == served, "{} is not what is served: see FIELDGATE_WRITE", path.display());
}
