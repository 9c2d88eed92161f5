//! Commands that come twice.

use serde_json::{Value, json};

use crate::{
    commands::OPEN_PER_DEVICE_MAX,
    fabric::now,
    testing::{Client, Gateway, until},
};

fn command(msgid: &str, expires: Option<u64>) -> Value {
    let payload = json!({"a": 1});
    json!({"type": "command", "to": "d", "msgid": msgid, "expires": expires, "payload": payload})
}

/// What is said of a command; what becomes of others is passed over.
async fn answer(app: &mut Client, command: Value) -> Value {
    app.send(command).await;
    loop {
        let frame = app.next().await;
        if frame["type"] != "command_state" {
            return frame;
        }
    }
}

#[tokio::test]
async fn a_command_that_fills_the_queue_is_acknowledged_again() {
    let gateway = Gateway::start(&[], 1).await;
    let (_token, key) = (gateway.device("d").await, gateway.key("k").await);
    let mut app = gateway.connect(&key).await;
    for number in 1..OPEN_PER_DEVICE_MAX {
        app.send(command(&format!("c{number}"), None)).await;
    }
    for _ in 1..OPEN_PER_DEVICE_MAX {
        app.next_of("ack").await;
    }
    let last = answer(&mut app, command("last", None)).await;
    assert_eq!(last["type"], "ack", "{last}");
    assert_eq!(answer(&mut app, command("last", None)).await, last);
    assert_eq!(answer(&mut app, command("another", None)).await["code"], "queue_full");
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_command_that_expired_meanwhile_is_acknowledged_again() {
    let gateway = Gateway::start(&[], 1).await;
    let (_token, key) = (gateway.device("d").await, gateway.key("k").await);
    let mut app = gateway.connect(&key).await;
    let expires = now().0 + 1_000;
    let first = answer(&mut app, command("short", Some(expires))).await;
    assert_eq!(first["type"], "ack", "{first}");
    until("its end", || now().0 > expires).await;
    assert_eq!(answer(&mut app, command("short", Some(expires))).await, first);
    let late = answer(&mut app, command("late", Some(expires))).await;
    assert_eq!(late["code"], "expired", "{late}");
    gateway.running.drain().await;
}
