//! Tests of `device`: the vectors of `resources.md` 7, and what they leave open.

use std::collections::BTreeSet;

use fieldgate_core::{message::Qos, profile::Resource, resource::Type, testing};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::deconz::event::{self, List, Subject, What};

mod lights;
mod vectors;

const T: u64 = 1_634_567_890_123;
const L: &str = "2021-10-18T14:38:10.123";
const ID: Id = Id { number: 1, address: [0x0a, 0x20, 0x15, 0x96, 0xf3, 0xd2, 0x04, 0x29] };

/// A device, and the messages that it sends.
struct Bench {
    device: Device,
    seq: u64,
}

impl Bench {
    fn new(profile: Option<Profile>) -> Self {
        let facts = Facts { name: "Hall".into(), profile: profile.map(Arc::new), clip: None };
        Self { device: Device::new(facts, Reported::default(), Bounds::default()), seq: 0 }
    }

    fn send(&mut self, topic: &str, time: u64, payload: &str) -> Vec<Change> {
        self.seq += 1;
        self.device.take(Seq(self.seq), &message(topic, time, payload))
    }

    fn telemetry(&mut self, time: u64, payload: &str) -> Vec<Change> {
        self.send("devices/d/telemetry", time, payload)
    }

    /// The same device, as it is after a restart.
    fn again(&self) -> Self {
        let facts = self.device.facts.clone();
        let device = Device::new(facts, self.device.reported.clone(), Bounds::default());
        Self { device, seq: self.seq }
    }
}

fn message(topic: &str, time: u64, payload: &str) -> Message {
    let mut message = testing::message(topic, Qos::AtMostOnce, payload);
    message.content = Content::Json;
    message.timestamp = UnixMs(time);
    message.is_time_given = true;
    message
}

fn profile(kind: fieldgate_core::profile::Kind, resources: Vec<Resource>) -> Profile {
    Profile { kind, resources, ..Profile::default() }
}

fn resource(name: &str, value: Type) -> Resource {
    Resource { name: name.into(), value, writable: true, ..Resource::default() }
}

fn map(value: &Value) -> Map {
    value.as_object().unwrap().clone()
}

fn state(part: Part, instance: u8, changed: &Value) -> Change {
    Change::State { part, instance, changed: map(changed) }
}

fn config(part: Part, changed: &Value) -> Change {
    Change::Config { part, instance: 1, changed: map(changed) }
}

#[test]
fn the_same_value_again_is_its_time_alone() {
    let mut bench = Bench::new(None);
    bench.telemetry(T - 1, r#"{"temperature":21.3,"humidity":40}"#);
    let changes = bench.telemetry(T, r#"{"temperature":21.3}"#);
    assert_eq!(changes, [state(Part::Temperature, 1, &json!({"lastupdated": L}))]);
    assert_eq!(bench.device.changed_since(Part::Temperature, 1), Seq(2));
    assert_eq!(bench.device.changed_since(Part::Humidity, 1), Seq(1));
    assert_eq!(bench.device.changed_since(Part::Battery, 1), Seq(0));
}

#[test]
fn what_is_late_or_was_taken_before_changes_nothing() {
    let mut bench = Bench::new(None);
    bench.telemetry(T, r#"{"temperature":21.3}"#);
    assert_eq!(bench.telemetry(T - 1, r#"{"temperature":5}"#), []);
    let again = message("devices/d/telemetry", T + 1, r#"{"temperature":6}"#);
    assert_eq!(bench.device.take(Seq(2), &again), []);
    assert_eq!(bench.device.state(Part::Temperature, 1)["temperature"], 2_130);
}

#[test]
fn a_bad_reading_makes_a_sensor_unreachable_until_a_good_one() {
    let bad = r#"{"values":[{"tag":"temp","value":1,"quality":"bad"}]}"#;
    let mut bench = Bench::new(None);
    bench.telemetry(T, r#"{"temp":21.3}"#);
    let unreachable = config(Part::Temperature, &json!({"reachable": false}));
    assert_eq!(bench.telemetry(T + 1, bad), [unreachable]);
    assert_eq!(bench.telemetry(T + 2, bad), []);
    assert_eq!(bench.device.state(Part::Temperature, 1)["temperature"], 2_130);
    // It is no more reachable for being connected again.
    assert_eq!(bench.device.set_reachable(true), []);
    assert_eq!(bench.again().device.config(Part::Temperature, 1)["reachable"], false);
    let changes = bench.telemetry(T + 3, r#"{"temp":21.4}"#);
    let expected = json!({"temperature": 2140, "lastupdated": "2021-10-18T14:38:10.126"});
    assert_eq!(
        changes,
        [
            state(Part::Temperature, 1, &expected),
            config(Part::Temperature, &json!({"reachable": true})),
        ]
    );
}

#[test]
fn a_first_reading_may_be_bad() {
    let mut bench = Bench::new(None);
    let changes = bench.telemetry(T, r#"{"values":[{"tag":"temp","value":1,"quality":"bad"}]}"#);
    let unreachable = config(Part::Temperature, &json!({"reachable": false}));
    assert_eq!(changes, [Change::New(Part::Temperature, 1), unreachable]);
    let expected = json!({"temperature": null, "lastupdated": "none"});
    assert_eq!(json!(bench.device.state(Part::Temperature, 1)), expected);
}

#[test]
fn who_is_there_is_known_by_moves_only_where_nothing_else_says_so() {
    let mut bench = Bench::new(None);
    let changes = bench.telemetry(T, r#"{"moveCount":12}"#);
    let there = state(Part::Presence, 1, &json!({"presence": true, "lastupdated": L}));
    assert_eq!(changes, [Change::New(Part::Presence, 1), there]);
    let changes = bench.telemetry(T, r#"{"presence":false}"#);
    let gone = state(Part::Presence, 1, &json!({"presence": false, "lastupdated": L}));
    assert_eq!(changes, [gone]);
    assert_eq!(bench.telemetry(T + 1, r#"{"moveCount":5}"#), []);
}

#[test]
fn of_two_names_the_first_stands_unless_the_profile_names_another() {
    let mut bench = Bench::new(None);
    bench.telemetry(T, r#"{"temperature":1}"#);
    assert_eq!(bench.telemetry(T + 1, r#"{"temp":2}"#), []);
    let t9 = Resource {
        alias_of: Some("temperature".into()),
        unit: Some("F".into()),
        ..resource("t9", Type::Number)
    };
    let kind = fieldgate_core::profile::Kind::Sensor;
    let mut bench = Bench::new(Some(profile(kind, vec![t9])));
    assert_eq!(bench.device.parts(), [(Part::Temperature, 1)]);
    assert_eq!(bench.telemetry(T, r#"{"temp":2}"#), []);
    let changes = bench.telemetry(T, r#"{"t9":50}"#);
    let expected = json!({"temperature": 1000, "lastupdated": L});
    assert_eq!(changes, [state(Part::Temperature, 1, &expected)]);
}

#[test]
fn a_name_of_the_profile_that_is_never_used_gives_way() {
    let kind = fieldgate_core::profile::Kind::Sensor;
    let described = vec![resource("temperature", Type::Number)];
    let mut bench = Bench::new(Some(profile(kind, described)));
    assert_eq!(json!(bench.device.state(Part::Temperature, 1))["temperature"], json!(null));
    bench.telemetry(T, r#"{"temp":2}"#);
    assert_eq!(bench.device.state(Part::Temperature, 1)["temperature"], 200);
    assert_eq!(bench.again().device.state(Part::Temperature, 1)["temperature"], 200);
}

#[test]
fn several_resources_of_a_part_are_one_change_and_what_is_new_goes_first() {
    let mut bench = Bench::new(None);
    let payload = r#"{"voltage":230.4,"co2":538,"power":46,"tvoc":70000,"current":0.2}"#;
    let changes = bench.telemetry(T, payload);
    let air = json!({"airquality_co2_density": 538, "airqualityppb": 65534, "lastupdated": L});
    let power = json!({"voltage": 230, "current": 200, "power": 46, "lastupdated": L});
    assert_eq!(
        changes,
        [
            Change::New(Part::AirQuality, 1),
            Change::New(Part::Power, 1),
            state(Part::AirQuality, 1, &air),
            state(Part::Power, 1, &power),
        ]
    );
}

#[test]
fn what_is_removed_goes_and_the_other_name_takes_its_place() {
    let mut bench = Bench::new(None);
    bench.telemetry(T, r#"{"temp":1,"power":3}"#);
    bench.telemetry(T, r#"{"temperature":2,"voltage":4}"#);
    let changes = bench.send("devices/d/state/reported", T + 1, r#"{"temp":null,"voltage":null}"#);
    let expected = json!({"temperature": 200, "lastupdated": L});
    assert_eq!(
        changes,
        [
            state(Part::Temperature, 1, &expected),
            state(Part::Power, 1, &json!({"voltage": null, "lastupdated": L})),
        ]
    );
    let changes = bench.send("devices/d/state/reported", T + 2, r#"{"power":null}"#);
    assert_eq!(changes, [Change::Gone(Part::Power, 1)]);
    assert_eq!(bench.device.resource(Part::Power, 1, &ID), None);
}

#[test]
fn a_button_is_told_once_a_press_and_at_no_other_time() {
    let mut bench = Bench::new(None);
    let press = r#"{"event":"button","data":{"button.2":1002,"other":7}}"#;
    let expected = state(Part::Switch, 2, &json!({"buttonevent": 1002, "lastupdated": L}));
    let changes = bench.send("devices/d/events", T, press);
    assert_eq!(changes, [Change::New(Part::Switch, 2), expected.clone()]);
    assert_eq!(bench.send("devices/d/events", T, press), [expected]);
    assert_eq!(bench.telemetry(T + 1, r#"{"button.2":1002}"#), []);
    // Somebody pressed, whatever the clock of the device says.
    let back = json!({"buttonevent": 1002, "lastupdated": "2021-10-18T14:34:10.123"});
    let changes = bench.send("devices/d/events", T - 240_000, press);
    assert_eq!(changes, [state(Part::Switch, 2, &back)]);
    let same = message("devices/d/events", T, press);
    assert_eq!(bench.device.take(Seq(bench.seq), &same), []);
    let changes = bench.device.set_reachable(false);
    assert!(matches!(changes.as_slice(), [Change::Config { .. }]), "{changes:?}");
    let facts = Facts { name: "Stairs".into(), ..Facts::default() };
    let name = "Stairs 2".to_owned();
    let renamed = Change::Name { part: Part::Switch, instance: 2, name };
    assert_eq!(bench.device.set_facts(facts), [renamed]);
    assert_eq!(bench.device.state(Part::Switch, 2)["buttonevent"], 1_002);
    let mut again = bench.again();
    assert_eq!(again.device.parts(), []);
    again.device.remember(Part::Switch, 2);
    again.device.remember(Part::Water, 1);
    assert_eq!(again.device.parts(), [(Part::Switch, 2)]);
    let blank = json!({"buttonevent": null, "lastupdated": "none"});
    assert_eq!(json!(again.device.state(Part::Switch, 2)), blank);
}

#[test]
fn a_sensor_is_whole_with_all_that_apps_need() {
    let mut bench = Bench::new(None);
    bench.telemetry(T, r#"{"temperature.2":21.3}"#);
    let whole = bench.device.resource(Part::Temperature, 2, &ID).unwrap();
    let tag = whole["etag"].as_str().unwrap().to_owned();
    assert_eq!(tag.len(), 32);
    let expected = json!({
        "config": {"on": true, "reachable": true}, "ep": 2, "etag": tag,
        "lastseen": "2021-10-18T14:38Z", "manufacturername": "Fieldgate", "modelid": "sensor",
        "name": "Hall 2", "state": {"temperature": 2130, "lastupdated": L}, "swversion": "",
        "type": "ZHATemperature", "uniqueid": "0a:20:15:96:f3:d2:04:29-02-0402",
    });
    assert_eq!(json!(whole), expected);
    bench.telemetry(T + 60_000, r#"{"humidity":1}"#);
    let other = bench.device.resource(Part::Temperature, 2, &ID).unwrap();
    assert_eq!(other["etag"], tag.as_str());
    assert_eq!(other["lastseen"], "2021-10-18T14:39Z");
    bench.telemetry(T + 60_000, r#"{"temperature.2":1}"#);
    let other = bench.device.resource(Part::Temperature, 2, &ID).unwrap();
    assert_ne!(other["etag"], tag.as_str());
}

#[test]
fn what_an_app_made_has_its_type_and_its_address() {
    let mut bench = Bench::new(None);
    let clip = Clip { part: Part::Temperature, unique_id: Some("mine".into()) };
    bench.telemetry(T, r#"{"temperature":21.3}"#);
    let facts = Facts { clip: Some(clip), ..bench.device.facts.clone() };
    let changes = bench.device.set_facts(facts);
    assert_eq!(changes, [Change::New(Part::Temperature, 1)]);
    let whole = bench.device.resource(Part::Temperature, 1, &ID).unwrap();
    assert_eq!((&whole["type"], &whole["uniqueid"]), (&json!("CLIPTemperature"), &json!("mine")));
}

proptest! {
    #[test]
    fn no_payload_panics_and_parts_come_and_go_as_it_is_told(
        payloads in prop::collection::vec(
            (0..3_usize, r#"\{("(temp|temperature|moveCount|presence|vibration|xy|on|bri|power|voltage|button|values)":(1|-0\.5e300|true|null|"7"|\[0\.1,0\.2\]|\[\{"tag":"temp","value":3,"unit":"F","quality":"bad"\}\]),?){0,3}\}"#),
            0..6,
        ),
        is_light: bool,
    ) {
        use fieldgate_core::profile::Kind;
        let kind = if is_light { Kind::Light } else { Kind::Thermostat };
        let mut bench = Bench::new(Some(profile(kind, vec![resource("on", Type::Bool)])));
        for (nth, (topic, payload)) in payloads.iter().enumerate() {
            let topic = ["devices/d/telemetry", "devices/d/state/reported", "devices/d/events"][*topic];
            let before: BTreeSet<_> = bench.device.parts().into_iter().collect();
            let changes = bench.send(topic, T + nth as u64, payload);
            let mut after = before;
            for change in changes {
                match change {
                    Change::New(part, instance) => drop(after.insert((part, instance))),
                    Change::Gone(part, instance) => drop(after.remove(&(part, instance))),
                    Change::State { part, instance, .. } | Change::Config { part, instance, .. } => {
                        prop_assert!(after.contains(&(part, instance)));
                    }
                    Change::Name { .. } => prop_assert!(false),
                }
            }
            let parts: BTreeSet<_> = bench.device.parts().into_iter().collect();
            prop_assert_eq!(parts, after);
        }
        for (part, instance) in bench.again().device.parts() {
            prop_assert!(bench.device.resource(part, instance, &ID).is_some());
        }
    }

    #[test]
    fn no_bytes_panic(payload: Vec<u8>) {
        let mut bench = Bench::new(None);
        for topic in ["devices/d/telemetry", "devices/d/state/reported", "devices/d/events"] {
            let mut message = message(topic, T, "");
            message.payload = payload.clone().into();
            bench.seq += 1;
            bench.device.take(Seq(bench.seq), &message);
        }
    }
}
