//! What waits in one namespace of a Socket.IO connection, and what the other one notices of it: nothing.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
};

use serde_json::json;

use crate::support::{
    Gateway, LIMIT, Wire,
    sessions::{
        DEVICE, PATH, SUBSCRIBE, TENANT, end, join_both, kamea_gateway, next, publish, telemetries,
    },
    wait_for,
};

/// A gateway whose Kamea clients somebody else decides about: the test.
fn asking() -> (Gateway, String, TcpListener) {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("kamea.authorization.url=http://{}", service.local_addr().unwrap());
    let settings = [
        "kamea.authorization.mode=http",
        &url,
        "kamea.authorization.timeout_ms=60000",
        "heartbeat.ping_ms=400",
        "heartbeat.silence_ms=20000",
    ];
    let (gateway, key) = kamea_gateway(&settings);
    (gateway, key, service)
}

/// The next question; while its connection stands it is not answered.
fn asked(service: &TcpListener) -> TcpStream {
    service.set_nonblocking(true).unwrap();
    let (stream, _) = wait_for("a question", || service.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Waits for the question, and says yes to it.
fn allow(service: &TcpListener) {
    let mut asked = asked(service);
    let mut buffer = [0; 8_192];
    assert!(asked.read(&mut buffer).unwrap() > 0);
    asked.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
}

/// A session that is in `/devices` alone.
fn in_devices(gateway: &Gateway, token: &str) -> Wire {
    let path = format!("{PATH}?EIO=4&transport=websocket");
    let mut wire = Wire::open(&gateway.address, &path, &[]).unwrap().into_text();
    wire.text();
    wire.send_text(&format!("40/devices,{}", json!({"token": token})));
    assert!(next(&mut wire).starts_with("40/devices,{"));
    wire
}

fn with_id(packet: &str, id: u32) -> String {
    packet.replacen("/devices,", &format!("/devices,{id}"), 1)
}

#[test]
fn what_the_first_namespace_waits_for_does_not_hold_up_the_second() {
    let (gateway, key, service) = asking();
    publish(&gateway, &key, &json!({"temp": 7}));
    let mut wire = in_devices(&gateway, "somebody");
    wire.send_text(&with_id(&telemetries(TENANT), 1));
    wire.send_text("42/devices,2[\"nonsense\"]");
    // With bytes: they belong to it wherever it waits.
    wire.send_text("452-/devices,3[\"nonsense\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]");
    wire.send_binary(&[1]);
    wire.send_binary(&[2, 3]);
    wire.send_text("42/devices,4[\"nonsense\"]");
    // The second namespace comes, proves who it is, follows, and is told, with bytes too.
    wire.send_text("40/v2,");
    assert!(next(&mut wire).starts_with("40/v2,{"));
    wire.send_text(&format!("42/v2,{}", json!(["authenticate", {"sessionToken": key}])));
    assert!(next(&mut wire).starts_with("42/v2,[\"authenticate\",{\"status\":\"success\""));
    wire.send_text(SUBSCRIBE);
    assert!(next(&mut wire).starts_with("42/v2,[\"subscribe\",{\"status\":\"success\""));
    assert!(next(&mut wire).contains("\"value\":7,"));
    wire.send_text("451-/v2,9[\"nonsense\",{\"_placeholder\":true,\"num\":0}]");
    wire.send_binary(&[4]);
    assert!(next(&mut wire).starts_with("42/v2,[\"nonsense\""));
    assert!(next(&mut wire).starts_with("43/v2,9["));
    // So is what is of neither.
    wire.send_text("425[\"hello\"]");
    assert!(next(&mut wire).starts_with("435["));
    // One leaves and comes again, while the other waits.
    wire.send_text("41/v2,");
    wire.send_text("40/v2,");
    assert!(next(&mut wire).starts_with("40/v2,{"));
    allow(&service);
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 4 {
        let told = next(&mut wire);
        if let Some(told) = told.strip_prefix("43/devices,") {
            acknowledged.push(told[..1].parse::<u32>().unwrap());
        }
    }
    assert_eq!(acknowledged, [1, 2, 3, 4]);
}

#[test]
fn who_is_known_by_what_waited_is_served_as_who_was_known_at_once() {
    let (gateway, admin, service) = asking();
    let key = gateway.key("viewer");
    let mut wire = in_devices(&gateway, &key);
    wire.send_text(&with_id(&telemetries(TENANT), 1));
    // It leaves, and comes again: in its order, behind what waits.
    wire.send_text("41/devices,");
    wire.send_text(&format!("40/devices,{}", json!({"token": key})));
    wire.send_text(&with_id(&telemetries(TENANT), 2));
    allow(&service);
    assert!(next(&mut wire).starts_with("43/devices,1[{\"status\":\"success\""));
    assert!(next(&mut wire).starts_with("40/devices,{"));
    allow(&service);
    assert!(next(&mut wire).starts_with("43/devices,2[{\"status\":\"success\""));
    publish(&gateway, &admin, &json!({"temp": 1}));
    while !next(&mut wire).contains("\"temp\":1") {}
}

#[test]
fn a_question_with_bytes_is_asked_once_and_answered() {
    let (gateway, _, service) = asking();
    let mut wire = in_devices(&gateway, "somebody");
    let event = json!(["telemetries", {"deviceId": DEVICE, "tenantId": TENANT,
        "more": {"_placeholder": true, "num": 0}}]);
    wire.send_text(&format!("451-/devices,1{event}"));
    wire.send_binary(&[1, 2, 3]);
    wire.send_text("42/devices,2[\"nonsense\"]");
    allow(&service);
    assert!(next(&mut wire).starts_with("43/devices,1[{\"status\":\"success\""));
    assert!(next(&mut wire).starts_with("43/devices,2["));
    assert!(service.accept().is_err(), "it was asked once");
}

#[test]
fn a_text_where_bytes_are_due_ends_the_session_also_behind_what_waits() {
    let (gateway, _, service) = asking();
    for text in ["42/devices,[\"nonsense\"]", "42/v2,[\"nonsense\"]", "40"] {
        let mut wire = in_devices(&gateway, "somebody");
        wire.send_text("40/v2,");
        assert!(next(&mut wire).starts_with("40/v2,{"));
        wire.send_text(&telemetries(TENANT));
        let _asked = asked(&service);
        wire.send_text("451-/devices,[\"nonsense\",{\"_placeholder\":true,\"num\":0}]");
        wire.send_text(text);
        end(&mut wire);
    }
    let mut wire = in_devices(&gateway, "somebody");
    wire.send_text(&telemetries(TENANT));
    wire.send_binary(&[1]);
    end(&mut wire);
}

#[test]
fn what_waits_is_bounded_and_what_is_sent_goes_on() {
    let (gateway, key, service) = asking();
    publish(&gateway, &key, &json!({"temp": 7}));
    let packet = telemetries(TENANT);
    let before = gateway.memory_bytes();
    let mut wires: Vec<Wire> = (0..24)
        .map(|_| {
            let mut wire = in_devices(&gateway, "somebody");
            wire.send_text("40/v2,");
            assert!(next(&mut wire).starts_with("40/v2,{"));
            wire.send_text(&format!("42/v2,{}", json!(["authenticate", {"sessionToken": key}])));
            next(&mut wire);
            wire.send_text(SUBSCRIBE);
            while !next(&mut wire).contains("\"value\":7,") {}
            wire
        })
        .collect();
    for wire in &mut wires {
        for _ in 0..1_000_000 / packet.len() {
            wire.send_text(&packet);
        }
    }
    let _asked = asked(&service);
    publish(&gateway, &key, &json!({"temp": 8}));
    for wire in &mut wires {
        assert!(next(wire).contains("\"value\":8,"));
    }
    // 24 MB were sent.
    let grown = gateway.memory_bytes().saturating_sub(before);
    assert!(grown < 14 << 20, "{grown}");
}

#[test]
fn what_the_second_namespace_waits_for_does_not_hold_up_the_first() {
    let (gateway, key, _silent) = asking();
    publish(&gateway, &key, &json!({"temp": 7}));
    let mut wire = join_both(&gateway, &key, &key);
    wire.send_text(&telemetries(TENANT));
    wire.send_text(SUBSCRIBE);
    assert!(next(&mut wire).starts_with("42/v2,[\"subscribe\",{\"status\":\"success\""));
    assert!(next(&mut wire).contains("\"value\":7,"));
    // What waits behind the question is bounded: above that the connection is not read.
    let packet = telemetries(TENANT);
    for _ in 0..200_000 / packet.len() {
        wire.send_text(&packet);
    }
    publish(&gateway, &key, &json!({"temp": 8}));
    assert!(next(&mut wire).contains("\"value\":8,"), "what is sent goes on");
}
