//! Commands that come twice, and commands whose device goes.

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

#[tokio::test]
async fn who_sent_a_command_hears_that_its_device_went() {
    let gateway = Gateway::start(&[], 1).await;
    let (_token, key) = (gateway.device("d").await, gateway.key("k").await);
    let mut app = gateway.connect(&key).await;
    assert_eq!(answer(&mut app, command("one", None)).await["type"], "ack");
    gateway.running.admin("DELETE", "/v1/devices/d", Vec::new()).await.unwrap();
    let ended = app.next_of("command_state").await;
    assert_eq!((&ended["state"], &ended["ref"]), (&json!("cancelled"), &json!("one")), "{ended}");
    // It is not for the next device of that name.
    let token = gateway.device("d").await;
    let mut device = gateway.connect(&token).await;
    assert_eq!(answer(&mut app, command("two", None)).await["type"], "ack");
    let control = device.next_of("control").await;
    assert!(control["msgid"].as_str().unwrap().ends_with(&format!(":{}", second(&gateway))));
    gateway.running.drain().await;
}

/// The number of the only open command.
fn second(gateway: &Gateway) -> u64 {
    let default = fieldgate_core::id::TenantId::default_tenant();
    let open = gateway.shared().state.open_commands(&default, &"d".parse().unwrap());
    assert_eq!(open.len(), 1);
    open[0].entry.seq.0
}
