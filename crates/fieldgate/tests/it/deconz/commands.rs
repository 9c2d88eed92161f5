//! Everything that pydeconz can ask for, and what comes of it at a device of another dialect: the command,
//! or the error that the library raises.

use serde_json::{Value, json};

use super::{Bridge, client::Client, lamp, tell};
use crate::support::Wire;

/// A gateway and pydeconz that follows it, once these devices are there.
fn following(profiles: &[(&str, Value)]) -> Option<(Bridge, Client, Vec<Wire>)> {
    let bridge = Bridge::start(&[]);
    let mut client = Client::start(&bridge.address(), &bridge.key)?;
    let mut devices = Vec::new();
    for (nth, (id, profile)) in profiles.iter().enumerate() {
        devices.push(bridge.device(id, profile));
        let list = if profile["kind"] == "thermostat" { "sensors" } else { "lights" };
        let count = profiles[..=nth].iter().filter(|(_, of)| of["kind"] == profile["kind"]).count();
        bridge.listed(list, if list == "lights" { nth + 1 } else { count });
    }
    client.follow();
    Some((bridge, client, devices))
}

/// The payload of the next command of a device, which does as it is told.
fn obey(device: &mut Wire) -> Value {
    let control = device.next_of("control");
    device.send(&json!({"type": "reply", "msgid": control["msgid"], "status": "ok"}));
    control["payload"].clone()
}

fn success(path: &str, value: &Value) -> Value {
    json!({"success": {path: value}})
}

#[test]
fn a_lamp_does_all_that_it_can_and_the_rest_is_told() {
    let Some((_bridge, mut client, mut devices)) = following(&[("lamp-1", lamp())]) else { return };
    let device = &mut devices[0];
    tell(device, &json!({"on": false, "brightness": 0.2}));
    let path = |name: &str| format!("/lights/1/state/{name}");
    for (arguments, set, answers) in [
        (
            "on=True, brightness=128, transition_time=4",
            json!({"set": {"on": true, "brightness": 0.501960784}, "transition": 0.4}),
            vec![success(&path("bri"), &json!(128)), success(&path("on"), &json!(true))],
        ),
        ("on=False", json!({"set": {"on": false}}), vec![success(&path("on"), &json!(false))]),
        (
            "color_temperature=250",
            json!({"set": {"color_temperature": 4000}}),
            vec![success(&path("ct"), &json!(250))],
        ),
        (
            "xy=(0.5, 0.25)",
            json!({"set": {"color_xy": [0.5, 0.25]}}),
            vec![success(&path("xy"), &json!([0.5, 0.25]))],
        ),
        (
            "hue=65535, saturation=255",
            json!({"set": {"hue": 360, "saturation": 1}}),
            vec![success(&path("hue"), &json!(65_535)), success(&path("sat"), &json!(255))],
        ),
        (
            "alert=LightAlert.SHORT",
            json!({"action": "identify"}),
            vec![success(&path("alert"), &json!("select"))],
        ),
    ] {
        let told = client.ask(&format!("await session.lights.lights.set_state('1', {arguments})"));
        assert_eq!(told, Value::Array(answers), "{arguments}");
        assert_eq!(obey(device), set, "{arguments}");
    }
    // Nothing of these reaches it; what can be done of a mixture is.
    for (arguments, number, said) in [
        ("effect=LightEffect.COLOR_LOOP", 6, "parameter, effect, not available"),
        ("color_loop_speed=15", 6, "parameter, colorloopspeed, not available"),
        ("on_time=50", 6, "parameter, ontime, not available"),
        ("fan_speed=LightFanSpeed.AUTO", 6, "parameter, speed, not available"),
        ("brightness=256", 7, "invalid value, 256, for parameter, bri"),
        ("color_temperature=50", 7, "invalid value, 50, for parameter, ct"),
        ("xy=(2, 0)", 7, "invalid value, [2,0], for parameter, xy"),
    ] {
        let told =
            client.refused(&format!("await session.lights.lights.set_state('1', {arguments})"));
        assert!(told.starts_with(&format!("RequestError {number} /lights/1/state")), "{told}");
        assert!(told.replace(' ', "").ends_with(&said.replace(' ', "")), "{told}");
    }
    let told = client.refused("await session.lights.lights.set_state('1')");
    assert!(told.starts_with("BadRequest 5 "), "{told}");
    let told = client.ask("await session.lights.lights.set_state('1', on=True, on_time=50)");
    assert_eq!(told[0], success(&path("on"), &json!(true)));
    assert_eq!(told[1]["error"]["type"], 6);
    assert_eq!(obey(device), json!({"set": {"on": true}}), "nothing came between");
    // As Home Assistant sounds a siren.
    let told = client.ask("await session.lights.sirens.set_state('1', on=True, duration=5)");
    assert_eq!(
        (&told[0], &told[1]["error"]["type"]),
        (&success(&path("alert"), &json!("lselect")), &json!(6))
    );
    assert_eq!(obey(device), json!({"action": "identify"}));
    let told = client.ask("await session.lights.sirens.set_state('1', on=False)");
    assert_eq!(told[0], success(&path("alert"), &json!("none")));
}

#[test]
fn every_brightness_comes_back_as_it_was_set() {
    let Some((bridge, mut client, mut devices)) = following(&[("lamp-1", lamp())]) else { return };
    let device = &mut devices[0];
    tell(device, &json!({"on": true, "brightness": 0.5}));
    while client.event_of("lights", "1")["state"]["bri"] != 128 {}
    for brightness in [0, 1, 2, 85, 127, 128, 254, 255] {
        client.ask(&format!("await session.lights.lights.set_state('1', brightness={brightness})"));
        let set = obey(device);
        tell(device, &set["set"]);
        let is_so = |event: &Value| event["state"]["bri"] == brightness;
        while !is_so(&client.event_of("lights", "1")) {}
        assert_eq!(client.ask("session.lights.lights['1'].brightness"), brightness);
        assert_eq!(bridge.get("/lights/1").1["state"]["bri"], brightness);
    }
}

#[test]
fn plugs_covers_locks_and_thermostats_do_what_they_can() {
    let cover = json!({"kind": "cover", "resources": [
        {"name": "position", "type": "number", "writable": true, "min": 0, "max": 1},
        {"name": "tilt", "type": "number", "writable": true, "min": 0, "max": 1},
    ]});
    let kind = |kind: &str| json!({"kind": kind});
    let profiles = [
        ("plug-1", kind("plug")),
        ("cover-1", cover),
        ("lock-1", kind("lock")),
        ("heat-1", kind("thermostat")),
    ];
    let Some((bridge, mut client, mut devices)) = following(&profiles) else { return };
    for (device, asked, expected) in [
        (0, "lights.lights.set_state('1', on=True)", json!({"set": {"on": true}})),
        (1, "lights.covers.set_state('2', CoverAction.OPEN)", json!({"set": {"position": 1}})),
        (1, "lights.covers.set_state('2', CoverAction.CLOSE)", json!({"set": {"position": 0}})),
        (1, "lights.covers.set_state('2', CoverAction.STOP)", json!({"action": "stop"})),
        (1, "lights.covers.set_state('2', lift=25)", json!({"set": {"position": 0.75}})),
        (1, "lights.covers.set_state('2', tilt=40)", json!({"set": {"tilt": 0.6}})),
        (2, "lights.locks.set_state('3', True)", json!({"set": {"locked": true}})),
        (2, "lights.locks.set_state('3', False)", json!({"set": {"locked": false}})),
        (
            3,
            "sensors.thermostat.set_config('1', heating_setpoint=2150)",
            json!({"set": {"target_temperature": 21.5}}),
        ),
    ] {
        let told = client.ask(&format!("await session.{asked}"));
        assert!(told[0]["success"].is_object() && told[1].is_null(), "{asked}: {told}");
        assert_eq!(obey(&mut devices[device]), expected, "{asked}");
    }
    for (asked, said) in [
        ("lights.lights.set_state('1', brightness=1)", "RequestError 6 "),
        ("lights.lights.set_state('3', brightness=1)", "RequestError 6 "),
        ("lights.covers.set_state('2', CoverAction.STOP, legacy_mode=True)", "RequestError 6 "),
        ("lights.covers.set_state('2', lift=101)", "RequestError 7 "),
        ("lights.locks.set_state('1', 'x')", "RequestError 7 "),
        ("lights.covers.set_state('9', CoverAction.OPEN)", "ResourceNotFound 3 /lights/9 "),
        ("sensors.thermostat.set_config('1', locked=True)", "RequestError 6 "),
        ("sensors.thermostat.set_config('1', preset=ThermostatPreset.BOOST)", "RequestError 6 "),
        ("sensors.presence.set_config('1', delay=5)", "RequestError 6 "),
        (
            "sensors.thermostat.set_config('7', heating_setpoint=2150)",
            "ResourceNotFound 3 /sensors/7 ",
        ),
    ] {
        let told = client.refused(&format!("await session.{asked}"));
        assert!(told.starts_with(said), "{asked}: {told}");
    }
    tell(&mut devices[1], &json!({"position": 0.25, "tilt": 1}));
    tell(&mut devices[2], &json!({"locked": true}));
    tell(&mut devices[3], &json!({"temperature": 20.5, "target_temperature": 21.5}));
    for (number, name, value) in
        [(2, "lift", json!(75)), (2, "tilt", json!(0)), (3, "on", json!(true))]
    {
        crate::support::wait_for("what was reported", || {
            (bridge.get(&format!("/lights/{number}")).1["state"][name] == value).then_some(())
        });
    }
    client.ask("await session.refresh_state()");
    assert_eq!(client.ask("session.lights.covers['2'].lift"), 75);
    assert_eq!(client.ask("session.lights.locks['3'].is_locked"), true);
    assert_eq!(client.ask("session.sensors.thermostat['1'].scaled_temperature"), 20.5);
    assert_eq!(client.ask("session.sensors.thermostat['1'].scaled_heating_setpoint"), 21.5);
}

#[test]
fn groups_act_and_toggle_and_scenes_are_made_stored_and_called() {
    let profiles = [("lamp-1", lamp()), ("lamp-2", json!({"kind": "light"}))];
    let Some((_bridge, mut client, mut devices)) = following(&profiles) else { return };
    let made = client.ask("await session.request('post', '/groups', json={'name': 'Hall'})");
    assert_eq!(made, json!([{"success": {"id": "1"}}]));
    client.ask("await session.groups.set_attributes('1', lights=['1', '2'])");
    let both = |devices: &mut [Wire], payload: Value| {
        for device in devices {
            assert_eq!(obey(device), payload);
        }
    };
    let told = client.ask("await session.groups.set_state('1', on=True, brightness=255)");
    let action = |name: &str, value: &Value| success(&format!("/groups/1/action/{name}"), value);
    assert_eq!(told, json!([action("bri", &json!(255)), action("on", &json!(true))]));
    both(&mut devices, json!({"set": {"on": true, "brightness": 1}}));
    for device in &mut devices {
        tell(device, &json!({"on": true, "brightness": 1}));
    }
    while client.event_of("groups", "1")["state"]["all_on"] != true {}
    client.ask("await session.groups.set_state('1', toggle=True)");
    both(&mut devices, json!({"set": {"on": false}}));
    // What one of them can is done by that one.
    client.ask("await session.groups.set_state('1', color_temperature=250)");
    assert_eq!(obey(&mut devices[0]), json!({"set": {"color_temperature": 4000}}));
    let told = client.refused("await session.groups.set_state('1', effect=LightEffect.COLOR_LOOP)");
    assert!(told.starts_with("RequestError 6 /groups/1/action"), "{told}");
    // A scene is what the lights of the group are in.
    let made = client.ask("await session.scenes.create_scene('1', 'Evening')");
    assert_eq!(made, json!([{"success": {"id": "1"}}]));
    let called = |client: &mut Client, devices: &mut [Wire], on: bool| {
        let told = client.ask("await session.scenes.recall('1', '1')");
        assert_eq!(told, json!([{"success": {"id": "1"}}]));
        for device in devices {
            assert_eq!(obey(device)["set"]["on"], on);
        }
        let event = loop {
            let event = client.event();
            if event["e"] == "scene-called" {
                break event;
            }
        };
        let expected =
            json!({"t": "event", "e": "scene-called", "r": "scenes", "gid": "1", "scid": "1"});
        assert_eq!(event, expected);
    };
    called(&mut client, &mut devices, true);
    for device in &mut devices {
        tell(device, &json!({"on": false}));
    }
    while client.event_of("groups", "1")["state"]["any_on"] != false {}
    assert_eq!(client.ask("await session.scenes.store('1', '1')")[0]["success"]["id"], "1");
    called(&mut client, &mut devices, false);
    client.ask("await session.scenes.set_attributes('1', '1', name='Night')");
    client.ask("await session.refresh_state()");
    assert_eq!(client.ask("session.scenes['1_1'].name"), "Night");
    assert_eq!(client.ask("session.groups['1'].lights"), json!(["1", "2"]));
    let told = client.refused("await session.scenes.recall('1', '9')");
    assert!(told.starts_with("ResourceNotFound 3 /groups/1/scenes/9"), "{told}");
}

#[test]
fn what_has_no_radio_opens_nothing_and_says_what_it_is() {
    let Some((bridge, mut client, _)) = following(&[]) else { return };
    let host = bridge.address();
    let (host, port) = host.rsplit_once(':').unwrap();
    let id = client.ask(&format!("await get_bridge_id(http, '{host}', {port}, session.api_key)"));
    assert_eq!(id.as_str().unwrap().len(), 12);
    assert_eq!(client.ask("session.config.bridge_id"), id);
    for property in [
        "mac",
        "model_id",
        "name",
        "software_version",
        "zigbee_channel",
        "time_format",
        "uuid",
        "api_version",
    ] {
        assert!(client.ask(&format!("session.config.{property}")) != Value::Null, "{property}");
    }
    let told = client.ask("await session.request('put', '/config', json={'permitjoin': 60})");
    assert_eq!(told, json!([{"success": {"/config/permitjoin": 60}}]));
    assert_eq!(bridge.get("/config").1["permitjoin"], 0);
    for (name, number) in [("name", 8), ("nothing", 6)] {
        let told = client
            .refused(&format!("await session.request('put', '/config', json={{'{name}': 'x'}})"));
        assert!(told.starts_with(&format!("RequestError {number} /config")), "{told}");
    }
    client.ask(&format!("await delete_api_key(http, '{host}', {port}, session.api_key)"));
    assert!(client.refused("await session.refresh_state()").starts_with("Unauthorized 1 / "));
    while client.link() {}
}

#[test]
fn what_does_not_answer_or_is_not_there_cannot_be_reached() {
    let profiles = [("lamp-1", lamp()), ("lamp-2", json!({"kind": "light"}))];
    let Some((bridge, mut client, mut devices)) = following(&profiles) else { return };
    for device in &mut devices {
        tell(device, &json!({"on": true}));
    }
    let is_reachable = |client: &mut Client, id: &str, is_so: bool| {
        while client.event_of("lights", id)["state"]["reachable"] != is_so {}
    };
    client.ask("await session.lights.lights.set_state('1', on=False)");
    // A link that ends is known at once; a command that nobody answers when it runs out.
    drop(devices.pop());
    is_reachable(&mut client, "2", false);
    assert_eq!(client.ask("session.lights.lights['2'].reachable"), false);
    is_reachable(&mut client, "1", false);
    for id in ["1", "2"] {
        let told =
            client.refused(&format!("await session.lights.lights.set_state('{id}', on=True)"));
        assert!(told.starts_with("pydeconzException") && told.contains("'type': 202"), "{told}");
        let (status, answer) = bridge.call("PUT", &format!("/lights/{id}/state"), r#"{"on":true}"#);
        assert_eq!((status, &answer[0]["error"]["type"]), (200, &json!(202)));
    }
    // Whoever says something is there again.
    tell(&mut devices[0], &json!({"on": true}));
    is_reachable(&mut client, "1", true);
    client.ask("await session.lights.lights.set_state('1', on=True)");
    assert_eq!(
        devices[0].next_of("control")["payload"],
        json!({"set": {"on": true}}),
        "first the old one"
    );
}

#[test]
fn a_bad_reading_makes_a_sensor_unreachable_until_a_good_one() {
    let Some((bridge, mut client, _)) = following(&[]) else { return };
    let token = bridge.gateway.device("sensor-1");
    let mut device = bridge.gateway.as_device("sensor-1", &token);
    tell(&mut device, &json!({"temperature": 20}));
    let changed = |client: &mut Client, what: &str| loop {
        let event = client.event_of("sensors", "1");
        if event[what].is_object() {
            return event[what].clone();
        }
    };
    assert_eq!(changed(&mut client, "state")["temperature"], 2_000);
    let bad =
        json!({"values": [{"tag": "temperature", "value": 99, "unit": "C"}], "quality": "bad"});
    device.send(&bad);
    assert_eq!(changed(&mut client, "config")["reachable"], false);
    assert_eq!(bridge.get("/sensors/1").1["state"]["temperature"], 2_000);
    tell(&mut device, &json!({"temperature": 21}));
    let told: Vec<Value> = (0..2).map(|_| client.event_of("sensors", "1")).collect();
    assert!(told.iter().any(|event| event["config"]["reachable"] == true), "{told:?}");
    assert!(told.iter().any(|event| event["state"]["temperature"] == 2_100), "{told:?}");
}
