//! Commands that were sent and not acknowledged: who gets them again, and who does not.

use serde_json::{Value, json};

use crate::support::{Gateway, Wire};

/// A connection of a device in the first form of JSON.
fn first_form(gateway: &Gateway, token: &str) -> Wire {
    gateway.as_app(token)
}

fn command(app: &mut Wire, to: &str, msgid: &str) {
    app.send(&json!({"type": "command", "to": to, "msgid": msgid, "payload": {"n": msgid}}));
    assert_eq!(app.next_of("ack")["msgid"], msgid);
}

/// The next command of a device: what it is told with, and whether as a repeat.
fn control(device: &mut Wire) -> (Value, bool) {
    let frame = device.next_of("control");
    assert!(frame["dup"].is_null() || frame["dup"] == true, "{frame}");
    (frame["msgid"].clone(), frame["dup"] == true)
}

/// Waits until a command of this sender is in this state.
fn reaches(app: &mut Wire, reference: &str, state: &str) {
    loop {
        let frame = app.next_of("command_state");
        if frame["ref"] == reference && frame["state"] == state {
            return;
        }
    }
}

#[test]
fn a_command_comes_again_until_it_is_acknowledged_also_after_a_kill() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("lamp"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    command(&mut app, "lamp", "c1");
    let mut lamp = first_form(&gateway, &token);
    let (msgid, dup) = control(&mut lamp);
    assert!(!dup, "it came for the first time");
    reaches(&mut app, "c1", "sent");
    // Between `sent` and the acknowledgement: a break, and a kill.
    let mut lamp = first_form(&gateway, &token);
    assert_eq!(control(&mut lamp), (msgid.clone(), true));
    gateway.kill();
    gateway.up();
    let mut lamp = first_form(&gateway, &token);
    assert_eq!(control(&mut lamp), (msgid.clone(), true));
    let mut app = gateway.as_app(&key);
    lamp.send(&json!({"type": "ack", "msgid": msgid}));
    // Until that is stored the command is still due.
    reaches(&mut app, "c1", "acknowledged");
    // Now it is the device's: what comes next is the next one.
    let mut lamp = first_form(&gateway, &token);
    command(&mut app, "lamp", "c2");
    let (next, dup) = control(&mut lamp);
    assert!(next != msgid && !dup, "{next}");
    gateway.kill();
    gateway.up();
    let mut lamp = first_form(&gateway, &token);
    assert_eq!(control(&mut lamp), (next, true));
    // What was acknowledged can be ended later.
    let mut app = gateway.as_app(&key);
    lamp.send(&json!({"type": "reply", "msgid": msgid, "status": "ok"}));
    reaches(&mut app, "c1", "completed");
}

#[test]
fn a_device_in_the_lessons_form_gets_a_command_once() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("lamp"), gateway.key("operator"));
    let mut app = gateway.as_app(&key);
    command(&mut app, "lamp", "c1");
    let first = control(&mut gateway.as_device("lamp", &token));
    assert!(!first.1, "it came for the first time");
    reaches(&mut app, "c1", "sent");
    command(&mut app, "lamp", "c2");
    let second = control(&mut gateway.as_device("lamp", &token));
    assert!(second.0 != first.0 && !second.1, "{second:?}");
    reaches(&mut app, "c2", "sent");
    gateway.kill();
    gateway.up();
    let mut app = gateway.as_app(&key);
    let mut lamp = gateway.as_device("lamp", &token);
    command(&mut app, "lamp", "c3");
    let third = control(&mut lamp);
    assert!(third.0 != first.0 && third.0 != second.0 && !third.1, "{third:?}");
    // It rests at `sent`, and its reply ends it.
    lamp.send(&json!({"type": "reply", "msgid": first.0, "status": "ok"}));
    reaches(&mut app, "c1", "completed");
}
