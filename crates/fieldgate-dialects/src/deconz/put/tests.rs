//! Tests of `put`: vector 4 of `resources.md` 7, and everything that apps send.

use std::sync::Arc;

use fieldgate_core::{
    id::{Seq, UnixMs},
    message::{Content, Qos},
    profile::{Kind, Profile, Resource},
    resource::Type,
    state::{Bounds, Reported},
    testing,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    deconz::{Facts, write_answers},
    native,
};

const PATH: &str = "/lights/1/state";

fn device(kind: Kind, resources: Vec<Resource>) -> Device {
    let profile = Profile { kind, resources, ..Profile::default() };
    let facts = Facts { name: "Hall".into(), profile: Some(Arc::new(profile)), clip: None };
    Device::new(facts, Reported::default(), Bounds::default())
}

fn of_kind(kind: Kind) -> Device {
    device(kind, kind.template())
}

fn number(name: &str, min: f64, max: f64) -> Resource {
    let (min, max) = (Some(min), Some(max));
    Resource { name: name.into(), writable: true, min, max, ..Resource::default() }
}

fn lamp() -> Device {
    let mut resources = Kind::Light.template();
    resources.push(number("hue", 0.0, 360.0));
    resources.push(number("saturation", 0.0, 1.0));
    resources.push(number("color_temperature", 2_000.0, 6_535.0));
    resources.push(Resource { value: Type::Json, ..number("xy", 0.0, 1.0) });
    for resource in &mut resources {
        if resource.value == Type::Json {
            (resource.min, resource.max) = (None, None);
        }
    }
    device(Kind::Light, resources)
}

/// What is answered, by number for failures.
fn answered(answers: &[Answer]) -> Vec<Value> {
    let list: Vec<Value> = serde_json::from_str(&write_answers(answers)).unwrap();
    let short = |answer: Value| match answer.get("error") {
        Some(error) => error["type"].clone(),
        None => answer["success"].clone(),
    };
    list.into_iter().map(short).collect()
}

#[track_caller]
fn check(device: &Device, body: &str, payload: Option<&str>, answers: &[Value]) {
    let asked = light_state(PATH, body.as_bytes(), device, 1);
    assert_eq!(asked.payload().as_deref(), payload, "{body}");
    assert_eq!(answered(&asked.answers), answers, "{body}");
    if let Some(payload) = asked.payload() {
        let canonical = native::canonical(payload.as_bytes()).unwrap().unwrap();
        canonical.fit(device.facts().profile.as_deref(), None).unwrap();
    }
}

#[test]
fn vector_4_what_an_app_puts_is_this_command() {
    let asked =
        light_state(PATH, br#"{"on":true,"bri":128,"transitiontime":4}"#, &of_kind(Kind::Light), 1);
    let payload = r#"{"set":{"on":true,"brightness":0.501960784},"transition":0.4}"#;
    assert_eq!(asked.payload().as_deref(), Some(payload));
    let expected =
        r#"[{"success":{"/lights/1/state/on":true}},{"success":{"/lights/1/state/bri":128}}]"#;
    assert_eq!(write_answers(&asked.answers), expected);
}

/// What a device of this unit reports behind a command, as apps see it.
fn round_trip(device: &mut Device, attribute: &str, value: u64, seq: u64) -> u64 {
    let body = format!("{{\"{attribute}\":{value}}}");
    let asked = light_state(PATH, body.as_bytes(), device, 1);
    let payload = asked.payload().unwrap();
    let canonical = native::canonical(payload.as_bytes()).unwrap().unwrap();
    let profile = device.facts().profile.clone();
    let fitted = canonical.fit(profile.as_deref(), None).unwrap();
    let sent: Value = serde_json::from_slice(&fitted.unwrap_or(payload.into_bytes())).unwrap();
    let topic = "devices/d/state/reported";
    let mut message = testing::message(topic, Qos::AtMostOnce, sent["set"].to_string());
    message.content = Content::Json;
    message.timestamp = UnixMs(seq);
    device.take(Seq(seq), &message);
    device.state(Part::Light, 1)[attribute].as_u64().unwrap()
}

#[test]
fn all_that_can_be_said_of_brightness_and_colour_survives_the_round_trip() {
    let bri = Resource { value: Type::Integer, ..number("bri", 0.0, 255.0) };
    let ct = Resource { value: Type::Integer, ..number("ct", 153.0, 500.0) };
    for mut device in [lamp(), device(Kind::Light, vec![bri, ct])] {
        let mut seq = 0;
        let mut survives = |device: &mut Device, attribute, value| {
            seq += 1;
            assert_eq!(round_trip(device, attribute, value, seq), value, "{attribute}");
        };
        (0..=255).for_each(|bri| survives(&mut device, "bri", bri));
        (153..=500).for_each(|ct| survives(&mut device, "ct", ct));
        if device.has(Part::Light, 1, "hue") {
            (0..=255).for_each(|sat| survives(&mut device, "sat", sat));
            (0..=65_535).step_by(97).for_each(|hue| survives(&mut device, "hue", hue));
        }
    }
}

#[test]
fn each_parameter_of_a_lamp_is_what_it_is_in_the_words_of_here() {
    let lamp = lamp();
    let ok = |name: &str, value: Value| json!({ format!("{PATH}/{name}"): value });
    for (body, payload, name, value) in [
        (r#"{"on":false}"#, r#"{"set":{"on":false}}"#, "on", json!(false)),
        (r#"{"hue":21845}"#, r#"{"set":{"hue":120}}"#, "hue", json!(21_845)),
        (r#"{"sat":255}"#, r#"{"set":{"saturation":1}}"#, "sat", json!(255)),
        (r#"{"ct":250}"#, r#"{"set":{"color_temperature":4000}}"#, "ct", json!(250)),
        // 6535.9 K, which is 153 mired and more than the lamp takes.
        (r#"{"ct":153}"#, r#"{"set":{"color_temperature":6535}}"#, "ct", json!(153)),
        (
            r#"{"xy":[0.3127,0.329]}"#,
            r#"{"set":{"color_xy":[0.3127,0.329]}}"#,
            "xy",
            json!([0.3127, 0.329]),
        ),
        (r#"{"alert":"select"}"#, r#"{"action":"identify"}"#, "alert", json!("select")),
    ] {
        check(&lamp, body, Some(payload), &[ok(name, value)]);
    }
    check(&lamp, r#"{"alert":"none"}"#, None, &[ok("alert", json!("none"))]);
}

#[test]
fn what_a_lamp_does_not_take_has_its_error_and_the_rest_is_done() {
    let lamp = lamp();
    let on = || json!({ "/lights/1/state/on": true });
    for (body, error) in [
        (r#"{"on":1}"#, 7),
        (r#"{"bri":256}"#, 7),
        (r#"{"bri":-1}"#, 7),
        (r#"{"bri":1.5}"#, 7),
        (r#"{"bri":"stop"}"#, 7),
        (r#"{"hue":65536}"#, 7),
        (r#"{"ct":152}"#, 7),
        (r#"{"ct":501}"#, 7),
        (r#"{"xy":[0.1]}"#, 7),
        (r#"{"xy":[0.1,2]}"#, 7),
        (r#"{"xy":[0.1,"0.2"]}"#, 7),
        (r#"{"alert":"party"}"#, 7),
        (r#"{"transitiontime":70000}"#, 7),
        (r#"{"effect":"colorloop"}"#, 6),
        (r#"{"colorloopspeed":15}"#, 6),
        (r#"{"ontime":60}"#, 6),
        (r#"{"speed":2}"#, 6),
        (r#"{"toggle":true}"#, 6),
        (r#"{"open":true}"#, 6),
        (r#"{"stop":true}"#, 6),
        (r#"{"x<y":1}"#, 6),
        (r#"{"reachable":true}"#, 8),
        (r#"{"colormode":"ct"}"#, 8),
        (r#"{"transitiontime":4}"#, 5),
        ("{}", 5),
        ("", 2),
        ("[]", 2),
        ("{\"on\":tru}", 2),
    ] {
        check(&lamp, body, None, &[json!(error)]);
        if let Some(rest) =
            body.strip_prefix('{').filter(|rest| error > 5 && !rest.contains("\"on\""))
        {
            let both = format!("{{\"on\":true,{rest}");
            check(&lamp, &both, Some(r#"{"set":{"on":true}}"#), &[on(), json!(error)]);
        }
    }
}

#[test]
fn what_cannot_be_written_or_reached_is_told() {
    let brightness = Resource { writable: false, ..number("brightness", 0.0, 1.0) };
    let device = device(Kind::Light, vec![brightness]);
    check(&device, r#"{"bri":1}"#, None, &[json!(8)]);
    check(&device, r#"{"on":true}"#, None, &[json!(6)]);
    let mut lamp = lamp();
    lamp.set_reachable(false);
    check(&lamp, r#"{"on":true}"#, None, &[json!(202)]);
    let asked = light_state("/lights/9/state", br#"{"on":true}"#, &lamp, 9);
    assert_eq!(answered(&asked.answers), [json!(3)]);
}

#[test]
fn covers_locks_and_plugs_take_what_they_are() {
    let ok = |name: &str, value: Value| json!({ format!("{PATH}/{name}"): value });
    let mut resources = Kind::Cover.template();
    resources.push(number("tilt", 0.0, 1.0));
    let cover = device(Kind::Cover, resources);
    for (body, payload, name, value) in [
        (r#"{"open":true}"#, r#"{"set":{"position":1}}"#, "open", json!(true)),
        (r#"{"open":false}"#, r#"{"set":{"position":0}}"#, "open", json!(false)),
        (r#"{"lift":30}"#, r#"{"set":{"position":0.7}}"#, "lift", json!(30)),
        (r#"{"tilt":100}"#, r#"{"set":{"tilt":0}}"#, "tilt", json!(100)),
        (r#"{"stop":true}"#, r#"{"action":"stop"}"#, "stop", json!(true)),
    ] {
        check(&cover, body, Some(payload), &[ok(name, value)]);
    }
    check(&cover, r#"{"on":true}"#, None, &[json!(6)]);
    check(&cover, r#"{"lift":101}"#, None, &[json!(7)]);
    let lock = of_kind(Kind::Lock);
    let payload = Some(r#"{"set":{"locked":true}}"#);
    check(&lock, r#"{"on":true}"#, payload, &[ok("on", json!(true))]);
    check(&lock, r#"{"bri":1}"#, None, &[json!(6)]);
    let payload = Some(r#"{"set":{"on":true}}"#);
    check(&of_kind(Kind::Plug), r#"{"on":true}"#, payload, &[ok("on", json!(true))]);
}

#[test]
fn an_instance_is_named() {
    let on = Resource { value: Type::Bool, ..Resource::default() };
    let relay = |name: &str| Resource { name: name.into(), writable: true, ..on.clone() };
    let device = device(Kind::Plug, vec![relay("relay"), relay("relay.2")]);
    let asked = light_state("/lights/2/state", br#"{"on":true}"#, &device, 2);
    assert_eq!(asked.payload().as_deref(), Some(r#"{"set":{"on.2":true}}"#));
    assert_eq!(answered(&asked.answers), [json!({"/lights/2/state/on": true})]);
}

#[test]
fn a_group_is_asked_lamp_by_lamp() {
    const GROUP: &str = "/groups/1/action";
    let (dims, mut gone) = (of_kind(Kind::Light), of_kind(Kind::Light));
    gone.set_reachable(false);
    let plug = of_kind(Kind::Plug);
    let lights = [(&dims, 1), (&plug, 1), (&gone, 1)];
    let body = br#"{"on":true,"bri":255,"transitiontime":10,"ct":200}"#;
    let asked = group_action(GROUP, body, &lights);
    let payloads: Vec<_> = asked.each.iter().map(Asked::payload).collect();
    let expected = [
        Some(r#"{"set":{"on":true,"brightness":1},"transition":1}"#.to_owned()),
        Some(r#"{"set":{"on":true},"transition":1}"#.to_owned()),
        None,
    ];
    assert_eq!(payloads, expected);
    let done =
        [json!({"/groups/1/action/on": true}), json!({"/groups/1/action/bri": 255}), json!(6)];
    assert_eq!(answered(&asked.answers), done);
    let asked = group_action(GROUP, br#"{"toggle":true}"#, &lights);
    assert_eq!(asked.each[0].payload().as_deref(), Some(r#"{"set":{"on":true}}"#));
    assert_eq!(answered(&asked.answers), [json!({"/groups/1/action/toggle": true})]);
    let asked = group_action(GROUP, br#"{"on":true}"#, &[(&gone, 1)]);
    assert_eq!((asked.each[0].payload(), answered(&asked.answers)), (None, vec![json!(202)]));
    // Nobody is there: what a lamp could be asked is done.
    let asked = group_action(GROUP, br#"{"on":true,"bri":300,"effect":"none"}"#, &[]);
    let done = [json!({"/groups/1/action/on": true}), json!(7), json!(6)];
    assert_eq!(answered(&asked.answers), done);
    assert_eq!(answered(&group_action(GROUP, b"", &lights).answers), [json!(2)]);
}

#[test]
fn a_group_that_is_on_is_toggled_off() {
    let mut plug = of_kind(Kind::Plug);
    let mut message = testing::message("devices/d/telemetry", Qos::AtMostOnce, r#"{"on":true}"#);
    message.content = Content::Json;
    plug.take(Seq(1), &message);
    let asked = group_action("/groups/1/action", br#"{"toggle":true}"#, &[(&plug, 1)]);
    assert_eq!(asked.each[0].payload().as_deref(), Some(r#"{"set":{"on":false}}"#));
}

#[test]
fn a_thermostat_is_set_and_other_sensors_are_not() {
    const CONFIG: &str = "/sensors/3/config";
    let thermostat = of_kind(Kind::Thermostat);
    let set = |body: &str, part| {
        let asked = sensor_config(CONFIG, body.as_bytes(), &thermostat, part, 1);
        (asked.payload(), answered(&asked.answers))
    };
    let (payload, answers) = set(r#"{"heatsetpoint":2150,"mode":"heat"}"#, Part::Thermostat);
    assert_eq!(payload.as_deref(), Some(r#"{"set":{"target_temperature":21.5}}"#));
    let done = [
        json!({"/sensors/3/config/heatsetpoint": 2150}),
        json!({"/sensors/3/config/mode": "heat"}),
    ];
    assert_eq!(answers, done);
    for (body, error) in [
        (r#"{"heatsetpoint":400}"#, 7),
        (r#"{"heatsetpoint":"warm"}"#, 7),
        (r#"{"mode":"off"}"#, 8),
        (r#"{"reachable":true}"#, 8),
        (r#"{"preset":"boost"}"#, 6),
        ("{}", 5),
        ("x", 2),
    ] {
        assert_eq!(set(body, Part::Thermostat), (None, vec![json!(error)]), "{body}");
    }
    let mut gone = of_kind(Kind::Thermostat);
    gone.set_reachable(false);
    let asked = sensor_config(CONFIG, br#"{"heatsetpoint":2150}"#, &gone, Part::Thermostat, 1);
    assert_eq!((asked.payload(), answered(&asked.answers)), (None, vec![json!(202)]));
}

#[test]
fn names_groups_and_scenes_are_changed() {
    let about = json!({"name": "a", "type": "On/Off light"});
    let about = about.as_object().unwrap();
    let edit = rename("/lights/1", br#"{"name":"Hall","type":"x","y":1}"#, about);
    assert_eq!(edit.name.as_deref(), Some("Hall"));
    assert_eq!(answered(&edit.answers), [json!({"/lights/1/name": "Hall"}), json!(8), json!(6)]);
    let edit = group("/groups/1", br#"{"lights":["2","1","2"],"hidden":false}"#, false);
    assert_eq!((edit.name.as_deref(), &edit.lights), (None, &Some(vec![2, 1])));
    let done = [json!({"/groups/1/lights": ["2", "1"]}), json!({"/groups/1/hidden": false})];
    assert_eq!(answered(&edit.answers), done);
    for (body, error) in [
        (r#"{"lights":[1]}"#, 7),
        (r#"{"lights":["01"]}"#, 7),
        (r#"{"lights":"1"}"#, 7),
        (r#"{"name":" "}"#, 7),
        (r#"{"hidden":true}"#, 8),
        (r#"{"scenes":[]}"#, 8),
        (r#"{"room":1}"#, 6),
        ("{}", 5),
        ("", 2),
    ] {
        assert_eq!(answered(&group("/groups/1", body.as_bytes(), false).answers), [json!(error)]);
    }
    let new = group("/groups", br#"{"type":"LightGroup"}"#, true);
    assert_eq!(answered(&new.answers), [json!(5)]);
    assert!(group("/groups", br#"{"name":"Hall"}"#, true).failure().is_none());
    let new = scene("/groups/1/scenes", br#"{"name":"Evening"}"#, true);
    assert_eq!((new.name.as_deref(), new.failure()), (Some("Evening"), None));
    let edit = scene("/groups/1/scenes/2", br#"{"name":7}"#, false);
    assert_eq!(answered(&edit.answers), [json!(7)]);
}

#[test]
fn a_scene_is_called_with_a_body_that_says_nothing() {
    for body in ["", "{}", " { } ", r#"{"later":1}"#] {
        assert_eq!(call("/groups/1/scenes/1/recall", body.as_bytes()), Ok(()));
    }
    let path = "/groups/1/scenes/1/recall";
    assert_eq!(call(path, b"[]"), Err(Error::InvalidJson(path.into())));
}

#[test]
fn nothing_of_the_configuration_is_set_by_apps() {
    let about = json!({"name": "Fieldgate", "timeformat": "24h"});
    let set =
        |body: &str| answered(&config("/config", body.as_bytes(), about.as_object().unwrap()));
    let opened = [json!({"/config/permitjoin": 60})];
    assert_eq!(set(r#"{"permitjoin":60}"#), opened);
    for refused in ["-1", "256", "0.5", "true", "\"60\""] {
        assert_eq!(set(&format!(r#"{{"permitjoin":{refused}}}"#)), [json!(7)], "{refused}");
    }
    assert_eq!(set(r#"{"unlock":60,"name":"x","y":1}"#), [json!(8), json!(8), json!(6)]);
    assert_eq!(set("{}"), [json!(5)]);
}

proptest! {
    #[test]
    fn whatever_is_asked_is_answered_and_fits_its_device(
        names in prop::collection::vec(
            prop::sample::select(vec![
                "on", "bri", "hue", "sat", "ct", "xy", "open", "lift", "tilt", "stop", "alert",
                "toggle", "transitiontime", "effect", "reachable",
            ]),
            1..5,
        ),
        values in prop::collection::vec(
            r#"true|false|null|[0-9]{1,5}|-1|0\.5|1e3|"select"|"\PC{0,3}"|\[0\.[0-9]{1,17},1\]"#,
            5,
        ),
        kind in prop::sample::select(Kind::ALL.to_vec()),
    ) {
        let device = if kind == Kind::Light { lamp() } else { of_kind(kind) };
        let members = names.iter().zip(&values).map(|(name, value)| format!("\"{name}\":{value}"));
        let body = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
        let asked = light_state(PATH, body.as_bytes(), &device, 1);
        prop_assert!(!asked.answers.is_empty());
        if let Some(payload) = asked.payload() {
            let canonical = native::canonical(payload.as_bytes()).unwrap().unwrap();
            prop_assert!(canonical.fit(device.facts().profile.as_deref(), None).is_ok(), "{}", payload);
        }
        let group = group_action("/groups/1/action", body.as_bytes(), &[(&device, 1)]);
        prop_assert!(!group.answers.is_empty());
    }

    #[test]
    fn what_a_device_calls_its_resources_changes_nothing(
        resources in prop::collection::btree_map(
            prop::sample::select(vec![
                "on", "relay", "brightness", "level", "bri", "saturation", "sat", "hue", "ct",
                "color_temperature", "on.2", "x",
            ]),
            (
                prop::option::of(prop::sample::select(vec!["on", "brightness", "saturation", "hue"])),
                prop::sample::select(vec![Type::Bool, Type::Number, Type::Integer]),
                prop::option::of((0..3_i32, 3..400_i32, 1..3_i32)),
                prop::bool::weighted(0.9),
            ),
            1..6,
        ),
        bri in 0..=255_u8, sat in 0..=255_u8, hue: u16, ct in 150..510_u16,
    ) {
        let described = resources.into_iter().map(|(name, (alias_of, value, range, writable))| {
            let range = range.filter(|_| value != Type::Bool).map(|(min, max, step)| {
                (f64::from(min), f64::from(max), f64::from(step))
            });
            let resource = Resource {
                name: name.into(),
                alias_of: alias_of.map(Into::into),
                value,
                writable,
                min: range.map(|range| range.0),
                max: range.map(|range| range.1),
                step: range.map(|range| range.2),
                ..Resource::default()
            };
            let alias_of = resource.alias_of.clone().filter(|_| resource.canonical().is_some());
            Resource { alias_of, ..resource }
        });
        let profile = Profile { resources: described.collect(), ..Profile::default() };
        prop_assert_eq!(profile.validate(), Ok(()));
        let device = device(Kind::Light, profile.resources);
        let body = format!(
            "{{\"on\":true,\"bri\":{bri},\"sat\":{sat},\"hue\":{hue},\"ct\":{ct}}}"
        );
        for instance in [1, 2] {
            let asked = light_state(PATH, body.as_bytes(), &device, instance);
            let Some(payload) = asked.payload() else { continue };
            let canonical = native::canonical(payload.as_bytes()).unwrap().unwrap();
            let fitted = canonical.fit(device.facts().profile.as_deref(), None);
            prop_assert!(fitted.is_ok(), "{} {:?}", payload, fitted);
        }
    }

    #[test]
    fn no_bytes_panic(body: Vec<u8>) {
        let device = lamp();
        let asked = light_state(PATH, &body, &device, 1);
        prop_assert!(!asked.answers.is_empty());
        let _ = sensor_config(PATH, &body, &device, Part::Thermostat, 1);
        let _ = (group("/groups", &body, true), scene("/s", &body, true), call("/s", &body));
    }
}
