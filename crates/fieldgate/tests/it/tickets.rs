//! Tickets: one connection each, and never more than who asked for them.

use serde_json::{Value, json};

use crate::support::{Events, Gateway, Wire, post, post_open, request, wait_for};

/// Asks for a ticket; status and answer.
fn ask(gateway: &Gateway, credential: &str, body: &Value) -> (u16, Value) {
    post(&gateway.address, "/v1/tickets", credential, &body.to_string())
}

fn ticket(gateway: &Gateway, credential: &str, body: &Value) -> String {
    let (status, told) = ask(gateway, credential, body);
    assert_eq!(status, 201, "{told}");
    told["ticket"].as_str().unwrap().to_owned()
}

/// Opens a WebSocket with a ticket; the status line where it is refused.
fn open(gateway: &Gateway, ticket: &str) -> Result<Wire, String> {
    let headers = ["Sec-WebSocket-Protocol: fieldgate.v1.json"];
    let mut wire = Wire::open(&gateway.address, &format!("/ws?ticket={ticket}"), &headers)?;
    assert_eq!(wire.next()["status"], "success");
    Ok(wire)
}

fn stream(gateway: &Gateway, ticket: &str) -> u16 {
    gateway.get(&format!("/v1/stream?topic=a%2F%23&topic=a%2F%23%2Fb&ticket={ticket}"), None).0
}

fn may(wire: &mut Wire, frame: Value) -> bool {
    wire.send(&frame);
    (0..).map(|_| wire.next()).find(|frame| frame["type"] != "mqtt").unwrap()["type"] != "error"
}

#[test]
fn a_ticket_opens_one_connection_as_who_asked_for_it() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=1000"]);
    let key = gateway.key("operator");
    let of_key = ticket(&gateway, &key, &json!({}));
    assert!(of_key.starts_with("fg_t_"));
    let mut wire = open(&gateway, &of_key).unwrap();
    assert!(may(&mut wire, json!({"type": "subscribe", "topic": "a/#"})));
    wire.send(&json!({"type": "publish", "topic": "a/b", "payload": 1}));
    assert_eq!(wire.next_of("mqtt")["from"], "key:operator-key");
    let again = open(&gateway, &of_key).err().unwrap();
    assert!(again.contains("401"), "{again}");
    assert!(open(&gateway, "fg_t_made-up").err().unwrap().contains("401"));
    // A refusal spends it.
    let spent = ticket(&gateway, &key, &json!({}));
    assert_eq!((stream(&gateway, &spent), stream(&gateway, &spent)), (400, 401));
    let of_device = ticket(&gateway, &gateway.device("d"), &json!({}));
    let mut wire = open(&gateway, &of_device).unwrap();
    assert!(may(&mut wire, json!({"type": "status", "msgid": "m", "data": {"t": 1}})));
    assert!(!may(&mut wire, json!({"type": "subscribe", "topic": "a/#"})));
}

#[test]
fn a_stream_takes_a_ticket_and_nothing_else_does() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=1000"]);
    let key = gateway.key("admin");
    let made = ticket(&gateway, &key, &json!({"grants": ["subscribe:a/#"]}));
    for path in ["/v1/status", "/v1/devices", "/metrics", "/v1/clients"] {
        assert_eq!(gateway.get(&format!("{path}?ticket={made}"), None).0, 401, "{path}");
    }
    assert_eq!(gateway.get("/v1/status", Some(&made)).0, 401, "nor does a header");
    let mut events = Events::open(&gateway, &format!("topic=a%2F%23&ticket={made}"), "", None);
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "publish", "topic": "a/b", "payload": 7, "msgid": "m"}));
    assert_eq!(events.next_of("message").data["payload"], 7);
}

#[test]
fn a_ticket_may_less_but_not_more_than_its_maker() {
    let gateway = Gateway::start();
    let arguments = ["--grant", "subscribe:a/#", "--grant", "!subscribe:a/secret"];
    let made = gateway.admin(&[&["key", "add", "k"], &arguments[..]].concat());
    let key = made["key"].as_str().unwrap();
    let refused = |body: Value| ask(&gateway, key, &body).1["code"].clone();
    assert_eq!(refused(json!({"grants": ["publish:a/b"]})), "not_allowed");
    assert_eq!(refused(json!({"grants": ["subscribe:#"]})), "not_allowed");
    assert_eq!(refused(json!({"grants": []})), "bad_value");
    assert_eq!(refused(json!({"grants": ["nonsense"]})), "bad_value");
    assert_eq!(refused(json!({"grant": ["subscribe:a/b"]})), "bad_value");
    let less = ticket(&gateway, key, &json!({"grants": ["subscribe:a/b"]}));
    let mut wire = open(&gateway, &less).unwrap();
    assert!(may(&mut wire, json!({"type": "subscribe", "topic": "a/b"})));
    assert!(!may(&mut wire, json!({"type": "subscribe", "topic": "a/c"})));
    assert!(!may(&mut wire, json!({"type": "subscribe", "topic": "a/secret"})));
    let (status, _) = post_open(&gateway.address, "/v1/tickets", &json!({}));
    assert_eq!(status, 401);
}

#[test]
fn what_a_ticket_leaves_does_not_grow_with_the_rights_of_its_maker_but_shrinks() {
    let gateway = Gateway::start();
    let admin = gateway.key("admin");
    let made = gateway.admin(&["key", "add", "k", "--grant", "subscribe:a/#"]);
    let key = made["key"].as_str().unwrap();
    let edit = |grants: &[&str]| {
        let body = json!({"grants": grants}).to_string();
        let (status, told) = request(&gateway.address, "PATCH", "/v1/keys/k", &admin, &body);
        assert_eq!(status, 200, "{told}");
    };
    let mut wire =
        open(&gateway, &ticket(&gateway, key, &json!({"grants": ["subscribe:a/b"]}))).unwrap();
    assert!(may(&mut wire, json!({"type": "subscribe", "topic": "a/b"})));
    edit(&["subscribe:#", "publish:#"]);
    // The maker has heard of it when it may more; its ticket hears of it in the same way.
    let mut maker = gateway.as_app(key);
    assert!(may(&mut maker, json!({"type": "subscribe", "topic": "c"})));
    assert!(!may(&mut wire, json!({"type": "subscribe", "topic": "a/c"})));
    assert!(!may(
        &mut wire,
        json!({"type": "publish", "topic": "a/b", "payload": 1, "msgid": "m"})
    ));
    edit(&["subscribe:a/c"]);
    assert_eq!(wire.closed(), Some(4403));
}

#[test]
fn what_a_ticket_opened_ends_with_the_right_of_its_maker() {
    let mut gateway = Gateway::with(&["limits.auth_failures_per_minute_max=1000"]);
    let made = gateway.admin(&["key", "add", "k", "--role", "operator"]);
    let key = made["key"].as_str().unwrap();
    let less = json!({"grants": ["subscribe:a/#"]});
    let mut open_one = open(&gateway, &ticket(&gateway, key, &less)).unwrap();
    let unused = ticket(&gateway, key, &json!({}));
    gateway.admin(&["key", "revoke", "k", "--yes"]);
    assert_eq!(open_one.closed(), Some(4403));
    assert!(open(&gateway, &unused).err().unwrap().contains("401"));
    let key = gateway.key("operator");
    let unused = ticket(&gateway, &key, &json!({}));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    gateway.up();
    assert!(open(&gateway, &unused).err().unwrap().contains("401"), "a restart ends them");
}

#[test]
fn so_many_tickets_of_one_wait_and_wrong_ones_count_as_wrong_credentials_do() {
    let gateway = Gateway::with(&["limits.auth_failures_per_minute_max=5"]);
    let key = gateway.key("operator");
    let mut last = String::new();
    for _ in 0..100 {
        last = ticket(&gateway, &key, &json!({}));
    }
    let (status, told) = ask(&gateway, &key, &json!({}));
    assert_eq!((status, &told["code"]), (503, &json!("queue_full")));
    assert!(open(&gateway, &last).is_ok());
    wait_for("one more", || (ask(&gateway, &key, &json!({})).0 == 201).then_some(()));
    for _ in 0..5 {
        assert!(open(&gateway, "fg_t_made-up").err().unwrap().contains("401"));
    }
    assert!(open(&gateway, "fg_t_made-up").err().unwrap().contains("429"));
    assert!(open(&gateway, &last).err().unwrap().contains("429"), "nothing is looked at");
}
