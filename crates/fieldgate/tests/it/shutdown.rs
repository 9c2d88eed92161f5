//! Stopping: nothing accepted is lost, clients are told, a second signal ends at once.

use serde_json::json;

use crate::support::{Gateway, wait_for};

#[test]
fn a_drain_tells_clients_keeps_everything_and_exits_0() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut device = gateway.as_device("d", &token);
    device.send(&json!({"type": "status", "data": {"t": 1}}));
    device.send(&json!({"type": "ping"}));
    device.next_of("pong");
    gateway.signal("TERM");
    assert_eq!(device.next()["type"], "reconnect");
    assert_eq!(device.closed(), Some(1012));
    assert_eq!(gateway.ended(), Some(0));
    gateway.up();
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/#", "since": "all"}));
    app.next_of("subscribed");
    let frame = app.next();
    assert_eq!((&frame["type"], &frame["payload"]), (&json!("mqtt"), &json!({"t": 1})), "no gap");
}

#[test]
fn a_second_signal_in_a_drain_ends_at_once_with_130_and_keeps_what_was_acknowledged() {
    // The grace is longer than the test waits.
    let mut gateway =
        Gateway::with(&["drain.grace_ms=60000", "limits.bytes_per_second=1000000000"]);
    let key = gateway.key("operator");
    let mut stalled = gateway.as_app(&key);
    stalled.send(&json!({"type": "subscribe", "topic": "big", "qos": 1}));
    stalled.next_of("subscribed");
    let mut sender = gateway.as_app(&key);
    let text = "x".repeat(200_000);
    for n in 0..60 {
        let payload = json!({"n": n, "text": text});
        sender.send(
            &json!({"type": "publish", "topic": "big", "msgid": n.to_string(), "payload": payload}),
        );
        sender.next_of("ack");
    }
    gateway.signal("TERM");
    wait_for("the drain", || gateway.output().contains("draining").then_some(()));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(130));
    drop(stalled);
    gateway.up();
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "big", "qos": 1, "since": "all"}));
    for n in 0..60 {
        assert_eq!(app.next_of("mqtt")["payload"]["n"], n);
    }
}

#[test]
fn a_folder_belongs_to_one_gateway() {
    let gateway = Gateway::start();
    let output = crate::support::fieldgate()
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(gateway.data())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
}
