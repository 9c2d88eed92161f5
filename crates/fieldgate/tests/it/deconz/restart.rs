//! A gateway that ends and comes again under pydeconz, which then opens the push socket alone and reads
//! nothing anew: it hears what changed meanwhile, once, and no press of a button again.

use std::net::{IpAddr, SocketAddr, TcpListener};

use serde_json::{Value, json};

use super::{Bridge, client::Client, lamp, send, tell};
use crate::support::{Gateway, Wire, post};

/// A place to listen that is there again after a restart: on an address of this machine that nobody
/// else is given ports of.
fn place(last: u8) -> SocketAddr {
    let address: IpAddr = [127, 0, 7, last].into();
    TcpListener::bind(SocketAddr::new(address, 0)).unwrap().local_addr().unwrap()
}

fn at(place: SocketAddr) -> Bridge {
    let gateway = Gateway::with(&[&format!("listen.deconz={place}")]);
    gateway.admin(&["deconz", "unlock"]);
    let mut bridge = Bridge { gateway, key: String::new() };
    let (status, told) = bridge.ask("POST", "/api", r#"{"devicetype":"a test"}"#);
    assert_eq!(status, 200, "{told}");
    bridge.key = told[0]["success"]["username"].as_str().unwrap().to_owned();
    bridge.ready();
    bridge
}

fn publish(bridge: &Bridge, key: &str, device: &str, payload: &Value) {
    let topic = format!("devices/{device}/telemetry");
    let body = json!({"topic": topic, "qos": 1, "payload": payload}).to_string();
    assert_eq!(post(&bridge.gateway.address, "/v1/publish", key, &body).0, 201);
}

/// What each light and sensor is called.
fn names(bridge: &Bridge) -> Vec<(String, String, Value)> {
    let mut names = Vec::new();
    for list in ["lights", "sensors"] {
        for (id, whole) in bridge.get(&format!("/{list}")).1.as_object().unwrap() {
            names.push((list.to_owned(), id.clone(), whole["uniqueid"].clone()));
        }
    }
    names
}

/// Ends the gateway so, has things change before its push socket is there again, and looks at what the
/// library makes of it.
fn survives(last: u8, end: impl Fn(&mut Gateway)) {
    let mut bridge = at(place(last));
    let Some(mut client) = Client::start(&bridge.address(), &bridge.key) else { return };
    let admin = bridge.gateway.key("admin");
    let token = bridge.gateway.device("sensor-1");
    let mut sensor: Wire = bridge.gateway.as_device("sensor-1", &token);
    tell(&mut sensor, &json!({"temperature": 20, "humidity": 50}));
    send(&mut sensor, json!({"type": "event", "event": "button", "data": {"button": 1_002}}));
    let mut light = bridge.device("lamp-1", &lamp());
    tell(&mut light, &json!({"on": false, "brightness": 0}));
    bridge.listed("sensors", 3);
    bridge.listed("lights", 1);
    let before = names(&bridge);
    client.follow();
    tell(&mut sensor, &json!({"temperature": 21}));
    while client.event_of("sensors", "1")["state"]["temperature"] != 2_100 {}
    client.told();
    for round in 0..2 {
        end(&mut bridge.gateway);
        bridge.gateway.up();
        // It comes again 15 s after it did not get in, without reading anything.
        let value = 22 + round;
        publish(&bridge, &admin, "sensor-1", &json!({"temperature": value}));
        publish(&bridge, &admin, "sensor-1", &json!({"temperature": value}));
        // It stays until the end: that it went would be told, too.
        sensor = bridge.gateway.as_device("sensor-1", &token);
        send(&mut sensor, json!({"type": "event", "event": "button", "data": {"button": 1_002}}));
        while !client.link() {}
        let mut told = Vec::new();
        crate::support::wait_for("what changed meanwhile", || {
            told.extend(client.told());
            let seen = client.ask("session.sensors.temperature['1'].temperature");
            (seen == value * 100).then_some(())
        });
        told.extend(client.told());
        let of = |id: &str| -> Vec<&Value> {
            told.iter().filter(|event| event["r"] == "sensors" && event["id"] == id).collect()
        };
        let states = of("1").iter().filter(|event| event["state"].is_object()).count();
        assert_eq!(states, 1, "what is, once: {told:?}");
        assert!(of("3").iter().all(|event| event["state"].is_null()), "no press again: {told:?}");
        assert_eq!(names(&bridge), before, "each is called as before");
    }
    // Live again, and once.
    publish(&bridge, &admin, "sensor-1", &json!({"temperature": 30}));
    while client.event_of("sensors", "1")["state"]["temperature"] != 3_000 {}
    publish(&bridge, &admin, "sensor-1", &json!({"humidity": 51}));
    assert_eq!(client.event_of("sensors", "2")["state"]["humidity"], 5_100);
    assert_eq!(client.told(), Vec::<Value>::new());
}

#[test]
fn pydeconz_goes_on_behind_an_orderly_restart() {
    survives(1, |gateway| {
        gateway.signal("TERM");
        assert_eq!(gateway.ended(), Some(0));
    });
}

#[test]
fn pydeconz_goes_on_behind_a_kill() {
    survives(2, Gateway::kill);
}

#[test]
fn what_was_made_before_a_restart_is_added_for_whoever_was_away() {
    let mut bridge = Bridge::start(&["deconz.push_allow=127.0.0.9"]);
    let keyless =
        |bridge: &Bridge| Wire::open_from([127, 0, 0, 9].into(), &bridge.address(), "/", &[]);
    drop((bridge.listen(), keyless(&bridge).unwrap()));
    let lamp = bridge.device("lamp-1", &lamp());
    bridge.listed("lights", 1);
    drop(lamp);
    bridge.gateway.signal("TERM");
    assert_eq!(bridge.gateway.ended(), Some(0));
    bridge.gateway.up();
    // Another client of the address reads everything before this one comes.
    bridge.ready();
    for mut client in [bridge.listen(), keyless(&bridge).unwrap()] {
        let added = loop {
            let frame = client.next();
            if frame["e"] == "added" && frame["r"] == "lights" {
                break frame;
            }
        };
        assert_eq!((&added["id"], &added["light"]["name"]), (&json!("1"), &json!("lamp-1")));
    }
}

#[test]
fn numbers_are_never_given_again_and_come_back_with_their_device() {
    let bridge = Bridge::start(&[]);
    let first = bridge.device("lamp-1", &lamp());
    drop(first);
    let second = bridge.device("lamp-2", &lamp());
    drop(second);
    let before = bridge.listed("lights", 2);
    bridge.gateway.admin(&["device", "remove", "lamp-1", "--yes"]);
    crate::support::wait_for("it to be gone", || (bridge.get("/lights/1").0 == 404).then_some(()));
    let _third = bridge.device("lamp-3", &lamp());
    let now = bridge.listed("lights", 2);
    assert!(now["1"].is_null() && now["3"]["uniqueid"] != before["1"]["uniqueid"]);
    let _again = bridge.device("lamp-1", &lamp());
    assert_eq!(bridge.listed("lights", 3)["1"]["uniqueid"], before["1"]["uniqueid"]);
}
