//! The push socket: what is sent on it, and where it is.

use serde_json::{Value, json};

use super::{Bridge, tell};
use crate::support::{Gateway, Wire};

#[test]
fn what_a_client_sends_changes_nothing() {
    let bridge = Bridge::start(&[]);
    let mut client = bridge.listen();
    for text in ["", "{}", "not json", r#"{"t":"event","e":"changed","r":"lights","id":"1"}"#] {
        client.send_text(text);
    }
    client.send_binary(&[0xff; 100]);
    client.send(&json!({"type": "publish", "topic": "devices/x/telemetry", "payload": {"t": 1}}));
    let token = bridge.gateway.device("sensor-1");
    let mut device = bridge.gateway.as_device("sensor-1", &token);
    tell(&mut device, &json!({"temperature": 20}));
    assert_eq!(client.next()["e"], "added");
    assert_eq!(client.next()["state"]["temperature"], 2_000);
    assert_eq!(bridge.get("/sensors").1.as_object().unwrap().len(), 1);
}

fn port(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

/// What the configuration says of the push socket's port; a frame that came from there.
fn push_at(bridge: &Bridge) -> u16 {
    let address = bridge.gateway.listener("deconz_push").unwrap();
    assert_eq!(bridge.get("/config").1["websocketport"], port(&address));
    let mut beside = Wire::open(&address, "/", &[]).unwrap();
    let mut same = bridge.listen();
    let token = bridge.gateway.device("sensor-1");
    let mut device = bridge.gateway.as_device("sensor-1", &token);
    tell(&mut device, &json!({"temperature": 20}));
    assert_eq!(beside.next(), same.next());
    // It is there for nothing else.
    let answer = crate::support::exchange(&address, "GET", "/api/config", "", "");
    assert_eq!(answer.status, 404, "{}", answer.body);
    port(&address)
}

#[test]
fn the_push_socket_has_a_port_of_its_own_where_one_is_named() {
    let taken = std::net::TcpListener::bind("127.0.7.9:0").unwrap();
    let free = taken.local_addr().unwrap().port();
    drop(taken);
    let listen = "listen.deconz=127.0.7.9:0";
    let bridge = bridge_with(&[listen, &format!("--ws-port={free}")]);
    assert_eq!(push_at(&bridge), free);
    let bridge = bridge_with(&["listen.deconz=127.0.7.10:0", "--ws-port=auto"]);
    assert!([443, 8_080, 8_088, 20_877].contains(&push_at(&bridge)), "nobody else listens there");
}

fn bridge_with(settings: &[&str]) -> Bridge {
    let gateway = Gateway::with(settings);
    gateway.admin(&["deconz", "unlock"]);
    let mut bridge = Bridge { gateway, key: String::new() };
    let (_, told): (u16, Value) = bridge.ask("POST", "/api", r#"{"devicetype":"a test"}"#);
    bridge.key = told[0]["success"]["username"].as_str().unwrap().to_owned();
    bridge.ready();
    bridge
}
