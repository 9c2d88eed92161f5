//! A device that connects again: one link at a time, and nothing of two links at once.

use serde_json::json;

use crate::support::{Gateway, Wire, wait_for};

#[test]
fn after_the_first_message_of_the_newer_link_nothing_of_the_older_one_comes() {
    let gateway = Gateway::with(&[
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ]);
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "#", "qos": 1}));
    app.next();
    for round in 0..2 {
        let mut old = gateway.as_device("d", &token);
        let flood = std::thread::spawn(move || {
            let frame = json!({"type": "status", "qos": 1, "data": {"old": round}}).to_string();
            let bytes = fieldgate_dialects::ws::frame_masked(
                fieldgate_dialects::ws::Opcode::Text,
                frame.as_bytes(),
                [7; 4],
            );
            // Until the gateway has ended this link.
            while old.raw(&bytes).is_ok() {}
        });
        while app.next_of("mqtt")["payload"] != json!({"old": round}) {}
        let mut new = gateway.as_device("d", &token);
        new.send(&json!({"type": "status", "msgid": format!("n{round}"), "data": {"new": round}}));
        assert_eq!(new.next()["type"], "ack");
        new.send(&json!({"type": "status", "msgid": format!("e{round}"), "data": {"end": round}}));
        flood.join().unwrap();
        while app.next_of("mqtt")["payload"] != json!({"new": round}) {}
        assert_eq!(app.next_of("mqtt")["payload"], json!({"end": round}));
    }
}

#[test]
fn of_many_quick_takeovers_only_the_last_link_stays() {
    let gateway = Gateway::start();
    let token = gateway.device("d");
    let mut wires: Vec<Wire> = (0..20).map(|_| gateway.as_device("d", &token)).collect();
    let mut last = wires.pop().unwrap();
    last.send(&json!({"type": "ping"}));
    assert_eq!(last.next()["type"], "pong");
    for mut wire in wires {
        assert_eq!(wire.closed(), Some(4409));
    }
    // A place is given back a moment behind the close.
    let key = gateway.key("admin");
    wait_for("one connection", || {
        let (_, status) = gateway.get("/v1/status", Some(&key));
        status.contains("\"connections\":1").then_some(())
    });
}

#[test]
fn a_device_comes_back_where_the_pool_is_full_and_others_do_not() {
    let gateway = Gateway::with(&["limits.connections_max=1"]);
    let (token, other) = (gateway.device("d"), gateway.device("e"));
    let mut first = gateway.as_device("d", &token);
    assert_eq!(gateway.as_device("e", &other).closed(), Some(4503));
    let mut second = gateway.as_device("d", &token);
    assert_eq!(first.closed(), Some(4409));
    second.send(&json!({"type": "ping"}));
    assert_eq!(second.next()["type"], "pong");
}

#[test]
fn a_command_goes_to_the_newest_link_alone() {
    let gateway = Gateway::start();
    let (token, key) = (gateway.device("lamp"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    for round in 0..10 {
        let mut old = gateway.as_device("lamp", &token);
        let mut new = gateway.as_device("lamp", &token);
        app.send(&json!({"type": "command", "to": "lamp", "msgid": format!("c{round}"), "payload": {"n": round}}));
        let control = new.next_of("control");
        assert_eq!(control["payload"]["n"], round);
        new.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "ok"}));
        while app.next_of("command_state")["state"] != "completed" {}
        assert_eq!(old.see(), crate::support::Seen::Close(Some(4409)));
    }
}
