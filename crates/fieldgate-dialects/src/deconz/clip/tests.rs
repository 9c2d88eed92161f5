//! Tests of `clip`: what is put is what is seen again.

use std::sync::Arc;

use fieldgate_core::{
    id::{Seq, UnixMs},
    message::{Content, Message, Qos},
    state::{Bounds, Reported},
    testing,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::deconz::{Device, Facts, Id, write_answers};

const PATH: &str = "/sensors/1/state";

fn body(word: &str, state: &Value) -> String {
    json!({
        "name": "Outside", "modelid": "m", "swversion": "1", "type": word, "uniqueid": "fg-1",
        "manufacturername": "me", "state": state,
    })
    .to_string()
}

fn make(word: &str, state: &Value) -> Made {
    create("/sensors", body(word, state).as_bytes()).unwrap()
}

fn device(made: &Made) -> Device {
    let profile = Some(Arc::new(made.profile.clone()));
    let facts = Facts { name: "Outside".into(), profile, clip: Some(made.clip.clone()) };
    Device::new(facts, Reported::default(), Bounds::default())
}

fn message(told: &Told, seq: u64) -> Message {
    let (topic, payload) = match (&told.telemetry, &told.event) {
        (Some(telemetry), None) => ("devices/clip-1/telemetry", telemetry),
        (None, Some(event)) => ("devices/clip-1/events", event),
        _ => panic!("{told:?}"),
    };
    let mut message = testing::message(topic, Qos::AtMostOnce, payload);
    message.content = Content::Json;
    message.timestamp = UnixMs(seq);
    message
}

#[test]
fn a_sensor_that_an_app_makes_is_a_device_with_a_first_reading() {
    let made = make("CLIPTemperature", &json!({"temperature": 2182}));
    assert_eq!(made.profile.validate(), Ok(()));
    assert_eq!((made.profile.name.as_str(), made.profile.kind), ("Outside", Kind::Sensor));
    assert_eq!(made.told.telemetry.as_deref(), Some(r#"{"temperature":21.82}"#));
    let mut device = device(&made);
    assert_eq!(device.parts(), [(Part::Temperature, 1)]);
    device.take(Seq(1), &message(&made.told, 1));
    let id = Id { number: 1, address: [0; 8] };
    let whole = device.resource(Part::Temperature, 1, &id).unwrap();
    assert_eq!(whole["type"], "CLIPTemperature");
    assert_eq!(whole["uniqueid"], "fg-1");
    assert_eq!(whole["state"]["temperature"], 2_182);
    assert_eq!(whole["manufacturername"], "me");
}

#[test]
fn every_type_is_made_and_shows_what_is_put() {
    for (part, attribute, values) in [
        (Part::Temperature, "temperature", vec![json!(-27_315), json!(-1), json!(0), json!(2_182)]),
        (Part::Humidity, "humidity", vec![json!(0), json!(4_567), json!(10_000)]),
        (Part::Pressure, "pressure", vec![json!(1_014)]),
        (Part::Battery, "battery", vec![json!(0), json!(100)]),
        (Part::AirQuality, "airquality_co2_density", vec![json!(538)]),
        (Part::AirQuality, "airqualityppb", vec![json!(65_534)]),
        (Part::AirQuality, "pm2_5", vec![json!(7)]),
        (Part::Presence, "presence", vec![json!(true), json!(false)]),
        (Part::OpenClose, "open", vec![json!(true)]),
        (Part::Vibration, "vibration", vec![json!(true)]),
        (Part::Water, "water", vec![json!(true)]),
        (Part::Fire, "fire", vec![json!(true)]),
        (Part::CarbonMonoxide, "carbonmonoxide", vec![json!(true)]),
        (Part::Alarm, "alarm", vec![json!(true)]),
        (Part::Switch, "buttonevent", vec![json!(1_002), json!(1_002)]),
        (Part::Power, "power", vec![json!(-5), json!(2_300)]),
        (Part::Power, "voltage", vec![json!(230)]),
        (Part::Power, "current", vec![json!(457)]),
        (Part::Consumption, "consumption", vec![json!(123_456_789_012_u64)]),
        (Part::LightLevel, "lux", vec![json!(6)]),
    ] {
        let made = make(part.type_word(1, None, true), &json!({}));
        assert_eq!(made.told, Told::default());
        let mut device = device(&made);
        for (seq, value) in (1..).zip(values) {
            let body = json!({ attribute: value }).to_string();
            let (told, answers) = state(PATH, body.as_bytes(), &made.clip);
            let answer = json!([{"success": {format!("{PATH}/{attribute}"): value}}]);
            assert_eq!(serde_json::from_str::<Value>(&write_answers(&answers)).unwrap(), answer);
            let changes = device.take(Seq(seq), &message(&told, seq));
            assert_eq!(changes.len(), 1, "{changes:?}");
            assert_eq!(device.state(part, 1)[attribute], value, "{part:?}");
        }
    }
}

#[test]
fn every_level_of_light_and_every_hundredth_survives_the_round_trip() {
    let mut seq = 0;
    let mut survives = |device: &mut Device, clip: &Clip, attribute: &str, value: i64| {
        seq += 1;
        let body = format!("{{\"{attribute}\":{value}}}");
        let (told, _) = state(PATH, body.as_bytes(), clip);
        device.take(Seq(seq), &message(&told, seq));
        assert_eq!(device.state(clip.part, 1)[attribute], value, "{attribute}");
    };
    let made = make("CLIPLightLevel", &json!({}));
    let mut light = device(&made);
    (0..=65_534).step_by(13).for_each(|l| survives(&mut light, &made.clip, "lightlevel", l));
    let made = make("CLIPTemperature", &json!({}));
    let mut warm = device(&made);
    (-500..=500).for_each(|t| survives(&mut warm, &made.clip, "temperature", t * 7));
}

#[test]
fn what_is_no_sensor_is_not_made() {
    let without = |name: &str| {
        let mut map: Map = serde_json::from_str(&body("CLIPWater", &json!({}))).unwrap();
        map.remove(name);
        Json::Object(map).to_string()
    };
    let missing = || Error::MissingParameters("/sensors".into());
    for name in NEEDED {
        assert_eq!(create("/sensors", without(name).as_bytes()), Err(missing()), "{name}");
    }
    let with = |name: &str, value: Value| {
        let mut map: Map = serde_json::from_str(&body("CLIPWater", &json!({}))).unwrap();
        map.insert(name.to_owned(), value);
        let error = create("/sensors", Json::Object(map).to_string().as_bytes()).unwrap_err();
        let text = write_answers(&[error.into()]);
        let answer: Value = serde_json::from_str(&text).unwrap();
        (answer[0]["error"]["type"].as_u64().unwrap(), answer[0]["error"]["address"].to_string())
    };
    for (name, value, number) in [
        ("type", json!("ZHAWater"), 7),
        ("type", json!("CLIPGenericFlag"), 7),
        ("type", json!("CLIPThermostat"), 7),
        ("type", json!(7), 7),
        ("name", json!(" "), 7),
        ("name", json!("x".repeat(129)), 7),
        ("uniqueid", json!(""), 7),
        ("modelid", json!("a\u{1}"), 7),
        ("state", json!([]), 7),
        ("config", json!(true), 7),
        ("room", json!(1), 6),
    ] {
        let address = format!("\"/sensors/{name}\"");
        assert_eq!(with(name, value.clone()), (number, address), "{name} {value}");
    }
    let nested = ("state", json!({"water": 1}));
    assert_eq!(with(nested.0, nested.1), (7, "\"/sensors/state/water\"".to_owned()));
}

#[test]
fn what_a_state_does_not_take_has_its_error_and_the_rest_is_told() {
    let of = |part, body: &str| {
        let (told, answers) = state(PATH, body.as_bytes(), &Clip { part, unique_id: None });
        let answers: Value = serde_json::from_str(&write_answers(&answers)).unwrap();
        let numbers = answers.as_array().unwrap().iter().map(|a| a["error"]["type"].as_u64());
        (told.telemetry, numbers.collect::<Vec<_>>())
    };
    let body = r#"{"lightlevel":1,"dark":true,"lastupdated":"x","lux":"7","temperature":1}"#;
    let told = Some(r#"{"illuminance":1}"#.to_owned());
    let errors = vec![None, Some(8), Some(8), Some(7), Some(6)];
    assert_eq!(of(Part::LightLevel, body), (told, errors));
    assert_eq!(of(Part::Presence, r#"{"presence":1}"#), (None, vec![Some(7)]));
    assert_eq!(of(Part::Presence, "{}"), (None, vec![Some(5)]));
    assert_eq!(of(Part::Presence, "1"), (None, vec![Some(2)]));
    let both = of(Part::LightLevel, r#"{"lux":5,"lightlevel":0}"#);
    assert_eq!(both, (Some(r#"{"illuminance":0}"#.to_owned()), vec![None, None]));
}

#[test]
fn a_sensor_that_no_app_made_is_only_read() {
    let state = json!({"temperature": 2130});
    let answers = refuse(PATH, br#"{"temperature":1,"x":1}"#, state.as_object().unwrap());
    let errors = [
        Error::ReadOnly { path: PATH.into(), name: "temperature".into() },
        Error::UnknownParameter { path: PATH.into(), name: "x".into() },
    ];
    assert_eq!(answers, errors.map(Answer::Failure));
}

#[test]
fn what_is_kept_reads_back() {
    for unique_id in [None, Some("a\"b".to_owned())] {
        let clip = Clip { part: Part::CarbonMonoxide, unique_id };
        assert_eq!(Clip::parse(&clip.to_text()), Some(clip));
    }
    for text in ["", "{}", r#"{"type":"lamp"}"#, r#"{"type":7}"#] {
        assert_eq!(Clip::parse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(body: Vec<u8>, part in prop::sample::select(Part::ALL.to_vec())) {
        let _ = create("/sensors", &body);
        let (_, answers) = state(PATH, &body, &Clip { part, unique_id: None });
        prop_assert!(!answers.is_empty());
    }
}
