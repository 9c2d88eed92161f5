//! Stopping: nothing accepted is lost, clients are told, a second signal ends at once.

use serde_json::json;

use crate::support::Gateway;

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
fn a_folder_belongs_to_one_gateway() {
    let gateway = Gateway::start();
    let output = crate::support::fieldgate()
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(gateway.data())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
}
