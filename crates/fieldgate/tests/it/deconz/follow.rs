//! What pydeconz sees: devices of every way in, each change once, and what is new, renamed or gone.

use serde_json::{Value, json};

use super::{Bridge, client::Client, lamp, send, tell};
use crate::{
    support::{Gateway, Wire, exchange, now_s, post, wait_for},
    thingsee_in::{self, TOKEN},
};

/// A gateway with the source `cloud`, an app's key, and pydeconz that follows it.
fn following() -> Option<(Bridge, Client)> {
    let gateway = thingsee_in::gateway(&["listen.deconz=127.0.0.1:0"]);
    let mut client = Client::start(&gateway.listener("deconz").unwrap(), "")?;
    let told = client.refused("await acquire()");
    assert_eq!(told, "LinkButtonNotPressed 101 / link button not pressed");
    gateway.admin(&["deconz", "unlock"]);
    let key = client.ask("await acquire()").as_str().unwrap().to_owned();
    let bridge = Bridge { gateway, key };
    bridge.ready();
    client.follow();
    Some((bridge, client))
}

/// Posts an array of the vendor's cloud.
fn cloud(gateway: &Gateway, array: &Value) {
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let path = "/ingest/thingsee/cloud";
    let answer = exchange(&gateway.address, "POST", path, &bearer, &array.to_string());
    assert!(answer.status < 300, "{}", answer.body);
}

fn publish(gateway: &Gateway, key: &str, device: &str, payload: &Value) {
    let topic = format!("devices/{device}/telemetry");
    let body = json!({"topic": topic, "qos": 1, "payload": payload});
    let (status, told) = post(&gateway.address, "/v1/publish", key, &body.to_string());
    assert_eq!(status, 201, "{told}");
}

/// The words of a `changed` frame that are there whatever changed.
#[track_caller]
fn is_changed(event: &Value, id: &str, unique: &Value) {
    let names: Vec<&str> = event.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    let of = |name: &str| event[name].as_str();
    assert_eq!((of("t"), of("e"), of("r")), (Some("event"), Some("changed"), Some("sensors")));
    assert_eq!((&event["id"], &event["uniqueid"]), (&json!(id), unique));
}

#[test]
fn the_same_value_is_seen_alike_by_whichever_way_it_comes() {
    let Some((bridge, mut client)) = following() else { return };
    let (gateway, admin) = (&bridge.gateway, bridge.gateway.key("admin"));
    let (native, _rest) = (gateway.device("native-1"), gateway.device("rest-1"));
    let mut native = gateway.as_device("native-1", &native);
    let say = |way: usize, native: &mut Wire, celsius: f64| match way {
        0 => tell(native, &json!({"temperature": celsius})),
        1 => {
            let now = now_s();
            cloud(gateway, &json!([thingsee_in_element(celsius, now)]));
        }
        _ => publish(gateway, &admin, "rest-1", &json!({"temperature": celsius})),
    };
    for (way, id) in ["1", "2", "3"].into_iter().enumerate() {
        say(way, &mut native, 21.3);
        let added = client.event();
        assert_eq!((&added["e"], &added["id"]), (&json!("added"), &json!(id)), "{added}");
        let sensor = &added["sensor"];
        assert_eq!(sensor["type"], "ZHATemperature");
        assert!(sensor["state"].as_object().unwrap().contains_key("temperature"), "{sensor}");
        let unique = added["uniqueid"].clone();
        assert_eq!(sensor["uniqueid"], unique);
        let mut state = 2_130;
        for celsius in [21.3, 21.4] {
            if state == 2_140 {
                say(way, &mut native, celsius);
            }
            let changed = client.event();
            is_changed(&changed, id, &unique);
            assert_eq!(changed["state"]["temperature"], state, "{changed}");
            assert!(changed["state"]["lastupdated"].is_string());
            assert_eq!(changed["state"].as_object().unwrap().len(), 2, "what changed, alone");
            state += 10;
        }
        let seen = client.ask(&format!("session.sensors.temperature['{id}'].scaled_temperature"));
        assert_eq!(seen, 21.4);
    }
    assert_eq!(client.told(), Vec::<Value>::new(), "each was said once");
}

fn thingsee_in_element(celsius: f64, time: u64) -> Value {
    json!({"tsmId": 12100, "tsmEv": 10, "temp": celsius, "tsmTs": time, "tsmTuid": "TS-1"})
}

#[test]
fn a_button_is_heard_once_a_press() {
    let Some((bridge, mut client)) = following() else { return };
    let token = bridge.gateway.device("switch-1");
    let mut device = bridge.gateway.as_device("switch-1", &token);
    let press = |device: &mut Wire, button: u64| {
        send(device, json!({"type": "event", "event": "button", "data": {"button": button}}));
    };
    press(&mut device, 2_002);
    let added = client.event();
    assert_eq!((&added["e"], &added["sensor"]["type"]), (&json!("added"), &json!("ZHASwitch")));
    let unique = "a6:aa:c2:f5:0a:ae:4e:e5-01-1000";
    assert_eq!(added["uniqueid"], unique);
    let heard = |client: &mut Client, button: u64| {
        let changed = client.event();
        is_changed(&changed, "1", &json!(unique));
        assert_eq!(changed["state"]["buttonevent"], button, "{changed}");
    };
    heard(&mut client, 2_002);
    // The same again is another press.
    for button in [2_002, 2_002, 1_001, 1_003] {
        press(&mut device, button);
        heard(&mut client, button);
    }
    // Reading everything is no press, and what else is said is none.
    client.ask("await session.refresh_state()");
    tell(&mut device, &json!({"temperature": 1}));
    let rest: Vec<Value> = (0..2).map(|_| client.event()).collect();
    assert!(rest.iter().all(|event| event["id"] == "2"), "{rest:?}");
    assert_eq!(client.ask("session.sensors.switch['1'].button_event"), 1_003);
}

#[test]
fn what_is_renamed_described_anew_grouped_or_gone_is_told() {
    let Some((bridge, mut client)) = following() else { return };
    let mut device = bridge.device("lamp-1", &lamp());
    tell(&mut device, &json!({"on": true, "brightness": 0.5}));
    let added = client.event();
    assert_eq!((&added["e"], &added["r"]), (&json!("added"), &json!("lights")));
    while client.ask("session.lights.lights['1'].brightness if '1' in session.lights else None")
        != 128
    {}
    assert_eq!(client.ask("session.lights.lights['1'].reachable"), true);
    let answer = client.ask("await session.request('put', '/lights/1', json={'name': 'Pulse 2'})");
    assert_eq!(answer, json!([{"success": {"/lights/1/name": "Pulse 2"}}]));
    let renamed = |event: &Value| event["name"] == "Pulse 2";
    while !renamed(&client.event_of("lights", "1")) {}
    assert_eq!(client.ask("session.lights.lights['1'].name"), "Pulse 2");
    // Less than before: the same light, which is another kind of one.
    let plain =
        json!({"kind": "light", "resources": [{"name": "on", "type": "bool", "writable": true}]});
    send(&mut device, json!({"type": "profile", "profile": plain}));
    wait_for("its new type", || {
        (bridge.get("/lights/1").1["type"] == "On/Off light").then_some(())
    });
    let id = client.ask("(await session.request('post', '/groups', json={'name': 'Hall'}))[0]");
    assert_eq!(id, json!({"success": {"id": "1"}}));
    let group = client.event_of("groups", "1");
    assert_eq!((&group["e"], &group["group"]["scenes"]), (&json!("added"), &json!([])));
    assert_eq!(client.ask("session.groups['1'].lights"), json!([]));
    client.ask("await session.groups.set_attributes('1', lights=['1'], name='Stairs')");
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(client.event_of("groups", "1"));
    }
    assert!(told.iter().any(|event| event["name"] == "Stairs"), "{told:?}");
    assert!(told.iter().any(|event| event["attr"]["lights"] == json!(["1"])), "{told:?}");
    assert!(told.iter().any(|event| event["state"]["all_on"] == true), "{told:?}");
    assert_eq!(client.ask("session.groups['1'].name"), "Stairs");
    assert_eq!(
        client.ask("(await session.request('delete', '/groups/1'))[0]")["success"]["id"],
        "1"
    );
    assert_eq!(client.event_of("groups", "1")["e"], "deleted");
    bridge.gateway.admin(&["device", "remove", "lamp-1", "--yes"]);
    while client.event_of("lights", "1")["e"] != "deleted" {}
    assert_eq!(bridge.get("/lights/1").0, 404);
}

#[test]
fn every_value_key_is_there_before_anything_was_measured() {
    let Some((bridge, mut client)) = following() else { return };
    let names = [
        "temperature",
        "humidity",
        "illuminance",
        "pressure",
        "battery",
        "co2",
        "presence",
        "open",
        "vibration",
        "water",
        "fire",
        "carbon_monoxide",
        "alarm",
        "power",
        "energy",
    ];
    let is_bool = |name: &str| {
        ["presence", "open", "vibration", "water", "fire", "carbon_monoxide", "alarm"]
            .contains(&name)
    };
    let resource =
        |name: &&str| json!({"name": name, "type": if is_bool(name) { "bool" } else { "number" }});
    let resources: Vec<Value> = names.iter().map(resource).collect();
    let _device = bridge.device("all-1", &json!({"kind": "sensor", "resources": resources}));
    let _thermostat = bridge.device("heat-1", &json!({"kind": "thermostat"}));
    bridge.listed("sensors", names.len() + 1);
    // What the library reads of each of them raises where a key is missing.
    client.ask("await session.refresh_state()");
    for property in [
        "temperature.values())[0].temperature",
        "humidity.values())[0].humidity",
        "light_level.values())[0].light_level",
        "pressure.values())[0].pressure",
        "battery.values())[0].battery",
        "presence.values())[0].presence",
        "open_close.values())[0].open",
        "vibration.values())[0].vibration",
        "water.values())[0].water",
        "fire.values())[0].fire",
        "carbon_monoxide.values())[0].carbon_monoxide",
        "alarm.values())[0].alarm",
        "power.values())[0].power",
        "consumption.values())[0].consumption",
        "thermostat.values())[0].temperature",
        "thermostat.values())[0].heating_setpoint",
    ] {
        client.ask(&format!("list(session.sensors.{property}"));
    }
    // Each can be told apart: seven colons before the endpoint.
    for (id, sensor) in bridge.get("/sensors").1.as_object().unwrap() {
        let unique = sensor["uniqueid"].as_str().unwrap();
        assert_eq!(unique.matches(':').count(), 7, "{id}: {unique}");
        for name in ["config", "state"] {
            assert!(sensor[name].is_object(), "{id}: {name}");
        }
    }
}

#[test]
fn what_was_acknowledged_is_in_the_next_look() {
    let bridge = Bridge::start(&[]);
    let token = bridge.gateway.device("sensor-1");
    let mut device = bridge.gateway.as_device("sensor-1", &token);
    tell(&mut device, &json!({"temperature": 0}));
    bridge.listed("sensors", 1);
    for n in 1..=200 {
        device
            .send(&json!({"type": "status", "msgid": format!("m{n}"), "data": {"temperature": n}}));
        assert_eq!(device.next_of("ack")["msgid"], format!("m{n}"));
        let (status, sensor) = bridge.get("/sensors/1");
        assert_eq!((status, &sensor["state"]["temperature"]), (200, &json!(n * 100)), "{sensor}");
    }
}
