//! What the descriptions show: a lamp, a sensor of an app, their group and its scene.
//!
//! In: bodies as apps send them. Out: what the codecs answer to those, and the frames that they push.
//! Invariant: nothing is written by hand that a codec says.

use std::sync::Arc;

use fieldgate_core::{
    id::{Seq, TenantId, UnixMs},
    message::Message,
    profile::{Kind, Profile},
    state::{Bounds, Reported},
};
use fieldgate_dialects::deconz::{
    Answer, Change, Device, Error, Facts, Id, Map, Part, clip,
    event::{self, List, Subject, What},
    gateway, put, write_answers,
};
use serde_json::Value;

const T: UnixMs = UnixMs(1_634_567_890_123);
const LAMP: Id = Id { number: 1, address: [0x0a, 0x20, 0x15, 0x96, 0xf3, 0xd2, 0x04, 0x29] };
const SENSOR: Id = Id { number: 2, address: [0x0a, 0x20, 0x15, 0x96, 0xf3, 0xd2, 0x04, 0x30] };
const SCENE: gateway::Scene<'_> =
    gateway::Scene { number: 1, name: "Evening", lights: &[LAMP.number], transition: Some(0.4) };
/// The body that makes the sensor.
pub(super) const NEW_SENSOR: &str = r#"{"name":"Terrace","type":"CLIPTemperature","modelid":"outside","manufacturername":"my app","swversion":"1.0","uniqueid":"terrace-1","state":{"temperature":2130}}"#;

/// A lamp that is on, and a sensor that an app made.
#[derive(Debug)]
pub(crate) struct Examples {
    lamp: Device,
    lit: Vec<Change>,
    sensor: Device,
    made: clip::Made,
}

impl Examples {
    /// Nothing if a codec does not take what is sent here.
    pub(crate) fn new() -> Option<Self> {
        let profile = Profile {
            kind: Kind::Light,
            manufacturer: "Example".to_owned(),
            model: "L2".to_owned(),
            version: "1.4".to_owned(),
            resources: Kind::Light.template(),
            ..Profile::default()
        };
        let facts =
            Facts { name: "Hall lamp".to_owned(), profile: Some(Arc::new(profile)), clip: None };
        let mut lamp = Device::new(facts, Reported::default(), Bounds::default());
        let lit = lamp.take(Seq(1), &told("lamp", r#"{"on":true,"brightness":0.5}"#.to_owned())?);
        let made = clip::create("/sensors", NEW_SENSOR.as_bytes()).ok()?;
        let facts = Facts {
            name: made.profile.name.clone(),
            profile: Some(Arc::new(made.profile.clone())),
            clip: Some(made.clip.clone()),
        };
        let mut sensor = Device::new(facts, Reported::default(), Bounds::default());
        let _told_whole = sensor.take(Seq(1), &told("terrace", made.told.telemetry.clone()?)?);
        Some(Self { lamp, lit, sensor, made })
    }

    pub(super) fn light(&self) -> Option<Value> {
        self.lamp.resource(Part::Light, 1, &LAMP).map(Value::Object)
    }

    pub(super) fn sensor(&self) -> Option<Value> {
        self.sensor.resource(self.made.clip.part, 1, &SENSOR).map(Value::Object)
    }

    pub(super) fn group(&self) -> Option<Value> {
        let lights = [(LAMP.number, self.lamp.light(1)?)];
        let group = gateway::Group {
            number: 1,
            name: "Hall",
            lights: &lights,
            scenes: std::slice::from_ref(&SCENE),
        };
        Some(Value::Object(gateway::group(&group)))
    }

    pub(super) fn everything(&self) -> Option<Value> {
        let mut all = Map::from_iter([
            ("config".to_owned(), Value::Object(config())),
            ("groups".to_owned(), listed("1", self.group()?)),
            ("lights".to_owned(), listed("1", self.light()?)),
            ("sensors".to_owned(), listed("2", self.sensor()?)),
        ]);
        let nothing = ["scenes", "schedules", "rules", "resourcelinks", "alarmsystems"];
        all.extend(nothing.map(|name| (name.to_owned(), Value::Object(Map::new()))));
        Some(Value::Object(all))
    }

    /// What is answered to a body that is for a light or a group.
    pub(super) fn acted(&self, path: &str, body: &str) -> Option<Value> {
        if path.starts_with("/groups") {
            let asked = put::group_action(path, body.as_bytes(), &[(&self.lamp, 1)]);
            return done(&asked.answers);
        }
        done(&put::light_state(path, body.as_bytes(), &self.lamp, 1).answers)
    }

    pub(super) fn light_renamed(&self, path: &str, body: &str) -> Option<Value> {
        let about = self.lamp.resource(Part::Light, 1, &LAMP)?;
        done(&put::rename(path, body.as_bytes(), &about).answers)
    }

    pub(super) fn sensor_renamed(&self, path: &str, body: &str) -> Option<Value> {
        let about = self.sensor.resource(self.made.clip.part, 1, &SENSOR)?;
        done(&put::rename(path, body.as_bytes(), &about).answers)
    }

    pub(super) fn sensor_configured(&self, path: &str, body: &str) -> Option<Value> {
        let part = self.made.clip.part;
        done(&put::sensor_config(path, body.as_bytes(), &self.sensor, part, 1).answers)
    }

    pub(super) fn sensor_told(&self, path: &str, body: &str) -> Option<Value> {
        done(&clip::state(path, body.as_bytes(), &self.made.clip).1)
    }

    /// Frames of changes: of a state, a configuration, a name, and what is beside them.
    pub(crate) fn changed(&self) -> Vec<Option<Value>> {
        let unique_id = Part::Temperature.unique_id(SENSOR.address, 1);
        let (list, number) = (List::Sensors, SENSOR.number);
        let sensor = Subject { list, number, unique_id: Some(&unique_id) };
        let config = Map::from_iter([("reachable".to_owned(), false.into())]);
        let lights = Map::from_iter([("lights".to_owned(), vec![LAMP.number.to_string()].into())]);
        let state = self.lit.iter().find_map(|change| match change {
            Change::State { changed, .. } => Some(changed),
            Change::New(..) | Change::Gone(..) | Change::Config { .. } | Change::Name { .. } => {
                None
            }
        });
        vec![
            state.and_then(|state| self.of_lamp(|lamp| event::changed(lamp, What::State(state)))),
            read(&event::changed(sensor, What::Config(&config))),
            self.of_lamp(|lamp| event::changed(lamp, What::Name("Hall lamp"))),
            read(&event::changed(GROUP, What::Attr(&lights))),
        ]
    }

    /// Frames of what is new: a light, a group.
    pub(crate) fn added(&self) -> Vec<Option<Value>> {
        let whole = |value: Option<Value>| value.and_then(|value| value.as_object().cloned());
        vec![
            whole(self.light()).and_then(|whole| self.of_lamp(|lamp| event::added(lamp, &whole))),
            whole(self.group()).and_then(|whole| read(&event::added(GROUP, &whole))),
        ]
    }

    /// A frame of what is gone.
    pub(crate) fn deleted(&self) -> Option<Value> {
        self.of_lamp(event::deleted)
    }

    fn of_lamp(&self, write: impl FnOnce(Subject<'_>) -> String) -> Option<Value> {
        let unique_id = self.light()?.get("uniqueid")?.as_str()?.to_owned();
        let (list, number) = (List::Lights, LAMP.number);
        read(&write(Subject { list, number, unique_id: Some(&unique_id) }))
    }
}

const GROUP: Subject<'_> = Subject { list: List::Groups, number: 1, unique_id: None };

/// A frame of a scene that was called.
pub(crate) fn scene_called() -> Option<Value> {
    read(&event::scene_called(1, SCENE.number))
}

pub(super) fn scene() -> Value {
    Value::Object(gateway::scene(&SCENE))
}

pub(super) fn scenes() -> Value {
    listed("1", Value::Object(gateway::listed_scene(&SCENE)))
}

/// One resource as a list has it.
pub(super) fn listed(number: &str, whole: Value) -> Value {
    Value::Object(Map::from_iter([(number.to_owned(), whole)]))
}

const GATEWAY: gateway::Gateway<'_> = gateway::Gateway {
    name: "Fieldgate",
    mac: [0x02, 0x21, 0x2e, 0x00, 0xc5, 0xfb],
    address: "192.168.1.10",
    port: 80,
    version: env!("CARGO_PKG_VERSION"),
    websocket_port: Some(80),
    websocket_port_secure: None,
    notifies_all: false,
    is_unlocked: false,
    now: T,
};

pub(super) fn basic() -> Value {
    Value::Object(gateway::basic(&GATEWAY))
}

pub(super) fn config() -> Map {
    let key = gateway::Key { id: "app-k3x9q2mz", name: "my app", created: T, used: T };
    gateway::whole(&GATEWAY, &[key])
}

/// Answers as they are written.
pub(super) fn done(answers: &[Answer]) -> Option<Value> {
    read(&write_answers(answers))
}

/// The answer to what was not done at all.
pub(super) fn refused(error: Error) -> Option<Value> {
    done(&[Answer::Failure(error)])
}

fn read(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn told(device: &str, payload: String) -> Option<Message> {
    let topic = format!("devices/{device}/telemetry").parse().ok()?;
    let message = Message::json(TenantId::default_tenant(), topic, device.into(), T, payload);
    Some(Message { is_time_given: true, ..message })
}
