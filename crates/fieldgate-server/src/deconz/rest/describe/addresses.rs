//! Every address below `/api`, with a body that is taken there and what is answered to it.
//!
//! The binary's tests ask each of them of a running gateway, and look for others that answer.

use fieldgate_dialects::deconz::{Answer, gateway as bridge, put};
use serde_json::{Value, json};
use utoipa::openapi::HttpMethod::{self, Delete, Get, Post, Put};

use super::examples::{self, Examples};

/// What is answered when it goes well.
pub(super) enum Told {
    /// This, with a tag.
    Tagged(&'static str),
    /// This.
    Plain(&'static str),
    /// What was done, one by one.
    Done,
}

/// Writes what is answered, of the path behind the key and the body.
type Write = fn(&Examples, &str, &str) -> Option<Value>;

/// A method of an address.
pub(super) struct Address {
    pub(super) method: HttpMethod,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    /// Its schema, and one that is taken.
    pub(super) body: Option<(&'static str, &'static str)>,
    pub(super) told: Told,
    pub(super) answer: Write,
    /// The statuses of refusals.
    pub(super) refused: &'static [u16],
}

impl Address {
    const fn new(method: HttpMethod, path: &'static str, id: &'static str) -> Self {
        let (tag, summary, told) = ("gateway", "", Told::Done);
        let answer: Write = |_, _, _| None;
        Self { method, path, id, tag, summary, body: None, told, answer, refused: READ }
    }

    const fn of(self, tag: &'static str, summary: &'static str) -> Self {
        Self { tag, summary, ..self }
    }

    const fn takes(self, schema: &'static str, example: &'static str) -> Self {
        Self { body: Some((schema, example)), ..self }
    }

    const fn tells(self, told: Told, answer: Write) -> Self {
        Self { told, answer, ..self }
    }

    const fn refuses(self, refused: &'static [u16]) -> Self {
        Self { refused, ..self }
    }

    /// The same with numbers, behind the key.
    pub(super) fn filled(&self) -> String {
        let behind = self.path.trim_start_matches("/api").trim_start_matches("/{key}");
        let filled = behind.replace("{id}", "1").replace("{group}", "1").replace("{scene}", "1");
        if filled.is_empty() { "/".to_owned() } else { filled }
    }
}

const READ: &[u16] = &[403, 413, 503];
const FIND: &[u16] = &[403, 404, 413, 503];
const MAKE: &[u16] = &[400, 403, 413, 503];
const WRITE: &[u16] = &[400, 403, 404, 413, 503];

const NAME: &str = r#"{"name":"Hall"}"#;

/// An answer that tells a number.
const NUMBERED: Write = |_, _, _| examples::done(&[success("id", json!("1"))]);

fn success(path: &str, value: Value) -> Answer {
    Answer::Success(path.to_owned(), value)
}

/// All of them.
pub(super) fn all() -> Vec<Address> {
    [gateway(), lights(), sensors(), groups(), scenes()].into_iter().flatten().collect()
}

/// The gateway itself, and all that there is.
fn gateway() -> Vec<Address> {
    vec![
        Address::new(Post, "/api", "deconzMakeKey")
            .of("gateway", "Makes a key for an app, while somebody lets it.")
            .takes("NewKey", r#"{"devicetype":"my app"}"#)
            .tells(Told::Done, |_, _, body| {
                bridge::device_type(body.as_bytes()).ok()?;
                examples::done(&[success("username", json!("fg_b_example"))])
            })
            .refuses(MAKE),
        Address::new(Get, "/api/config", "deconzBasicConfig")
            .of("gateway", "Tells everybody what this gateway is.")
            .tells(Told::Plain("ref BasicConfig"), |_, _, _| Some(examples::basic()))
            .refuses(&[413]),
        Address::new(Get, "/api/{key}", "deconzReadAll")
            .of("gateway", "Reads everything.")
            .tells(Told::Tagged("ref Everything"), |told, _, _| told.everything()),
        Address::new(Get, "/api/{key}/config", "deconzReadConfig")
            .of("gateway", "Reads the configuration.")
            .tells(Told::Tagged("ref Config"), |_, _, _| Some(Value::Object(examples::config()))),
        Address::new(Put, "/api/{key}/config", "deconzWriteConfig")
            .of("gateway", "Changes nothing: tells of each parameter why.")
            .takes("Setting", r#"{"permitjoin":60}"#)
            .tells(Told::Done, |_, path, body| {
                examples::done(&put::config(path, body.as_bytes(), &examples::config()))
            })
            .refuses(MAKE),
        Address::new(Delete, "/api/{key}/config/whitelist/{id}", "deconzForgetKey")
            .of("gateway", "Gives up the key that asks, by itself or its id.")
            .tells(Told::Plain("list ref Removed"), |_, path, _| {
                Some(json!([{"success": format!("{path} deleted.")}]))
            })
            .refuses(FIND),
        Address::new(Get, "/api/{key}/scenes", "deconzNoScenes")
            .of("gateway", "Nothing: scenes are in their groups.")
            .tells(Told::Plain("ref Nothing"), |_, _, _| Some(json!({}))),
        Address::new(Get, "/api/{key}/schedules", "deconzNoSchedules")
            .of("gateway", "Nothing: apps ask for it all the same.")
            .tells(Told::Plain("ref Nothing"), |_, _, _| Some(json!({}))),
        Address::new(Get, "/api/{key}/rules", "deconzNoRules")
            .of("gateway", "Nothing: apps ask for it all the same.")
            .tells(Told::Plain("ref Nothing"), |_, _, _| Some(json!({}))),
        Address::new(Get, "/api/{key}/resourcelinks", "deconzNoResourcelinks")
            .of("gateway", "Nothing: apps ask for it all the same.")
            .tells(Told::Plain("ref Nothing"), |_, _, _| Some(json!({}))),
        Address::new(Get, "/api/{key}/alarmsystems", "deconzNoAlarmsystems")
            .of("gateway", "Nothing: apps ask for it all the same.")
            .tells(Told::Plain("ref Nothing"), |_, _, _| Some(json!({}))),
    ]
}

/// What apps switch.
fn lights() -> Vec<Address> {
    vec![
        Address::new(Get, "/api/{key}/lights", "deconzListLights")
            .of("lights", "Every light by its number.")
            .tells(Told::Tagged("map ref Light"), |told, _, _| {
                Some(examples::listed("1", told.light()?))
            }),
        Address::new(Get, "/api/{key}/lights/{id}", "deconzReadLight")
            .of("lights", "Reads a light.")
            .tells(Told::Tagged("ref Light"), |told, _, _| told.light())
            .refuses(FIND),
        Address::new(Put, "/api/{key}/lights/{id}", "deconzRenameLight")
            .of("lights", "Names its device: all of its lights and sensors.")
            .takes("Name", NAME)
            .tells(Told::Done, Examples::light_renamed)
            .refuses(WRITE),
        Address::new(Put, "/api/{key}/lights/{id}/state", "deconzSetLight")
            .of(
                "lights",
                "Sends its device a command; its result is a `changed` of the push socket.",
            )
            .takes("LightAction", r#"{"on":true,"bri":180,"transitiontime":10}"#)
            .tells(Told::Done, Examples::acted)
            .refuses(WRITE),
    ]
}

/// What devices measure, and apps bring.
fn sensors() -> Vec<Address> {
    vec![
        Address::new(Get, "/api/{key}/sensors", "deconzListSensors")
            .of("sensors", "Every sensor by its number.")
            .tells(Told::Tagged("map ref Sensor"), |told, _, _| {
                Some(examples::listed("2", told.sensor()?))
            }),
        Address::new(Post, "/api/{key}/sensors", "deconzMakeSensor")
            .of("sensors", "Makes a sensor to bring values in.")
            .takes("NewSensor", examples::NEW_SENSOR)
            .tells(Told::Done, NUMBERED)
            .refuses(MAKE),
        Address::new(Get, "/api/{key}/sensors/{id}", "deconzReadSensor")
            .of("sensors", "Reads a sensor.")
            .tells(Told::Tagged("ref Sensor"), |told, _, _| told.sensor())
            .refuses(FIND),
        Address::new(Put, "/api/{key}/sensors/{id}", "deconzRenameSensor")
            .of("sensors", "Names its device: all of its lights and sensors.")
            .takes("Name", NAME)
            .tells(Told::Done, Examples::sensor_renamed)
            .refuses(WRITE),
        Address::new(Delete, "/api/{key}/sensors/{id}", "deconzRemoveSensor")
            .of("sensors", "Removes a sensor that an app made, and no other.")
            .tells(Told::Done, NUMBERED)
            .refuses(WRITE),
        Address::new(Put, "/api/{key}/sensors/{id}/config", "deconzConfigureSensor")
            .of("sensors", "Sets what a sensor is to keep: a thermostat its temperature.")
            .takes("SensorAction", r#"{"on":true}"#)
            .tells(Told::Done, Examples::sensor_configured)
            .refuses(WRITE),
        Address::new(Put, "/api/{key}/sensors/{id}/state", "deconzSetSensor")
            .of("sensors", "Brings values into a sensor that an app made.")
            .takes("SensorState", r#"{"temperature":2140}"#)
            .tells(Told::Done, Examples::sensor_told)
            .refuses(WRITE),
    ]
}

/// Groups of lights.
fn groups() -> Vec<Address> {
    vec![
        Address::new(Get, "/api/{key}/groups", "deconzListGroups")
            .of("groups", "Every group by its number; those of `/v1`.")
            .tells(Told::Tagged("map ref Group"), |told, _, _| {
                Some(examples::listed("1", told.group()?))
            }),
        Address::new(Post, "/api/{key}/groups", "deconzMakeGroup")
            .of("groups", "Makes a group.")
            .takes("NewGroup", r#"{"name":"Hall","lights":["1"]}"#)
            .tells(Told::Done, NUMBERED)
            .refuses(MAKE),
        Address::new(Get, "/api/{key}/groups/{id}", "deconzReadGroup")
            .of("groups", "Reads a group.")
            .tells(Told::Tagged("ref Group"), |told, _, _| told.group())
            .refuses(FIND),
        Address::new(Put, "/api/{key}/groups/{id}", "deconzEditGroup")
            .of("groups", "Gives a group another name, or other lights.")
            .takes("GroupEdit", r#"{"name":"Hall","lights":["1"]}"#)
            .tells(Told::Done, |_, path, body| {
                examples::done(&put::group(path, body.as_bytes(), false).answers)
            })
            .refuses(WRITE),
        Address::new(Delete, "/api/{key}/groups/{id}", "deconzRemoveGroup")
            .of("groups", "Removes a group that has no scenes.")
            .tells(Told::Done, NUMBERED)
            .refuses(WRITE),
        Address::new(Put, "/api/{key}/groups/{id}/action", "deconzSetGroup")
            .of("groups", "Sends the device of each light a command: all of them or none.")
            .takes("GroupAction", r#"{"on":true,"bri":180}"#)
            .tells(Told::Done, Examples::acted)
            .refuses(WRITE),
    ]
}

/// What lights are to be in together.
fn scenes() -> Vec<Address> {
    vec![
        Address::new(Get, "/api/{key}/groups/{group}/scenes", "deconzListScenes")
            .of("scenes", "Every scene of a group by its number.")
            .tells(Told::Tagged("map ref SceneInList"), |_, _, _| Some(examples::scenes()))
            .refuses(FIND),
        Address::new(Post, "/api/{key}/groups/{group}/scenes", "deconzMakeScene")
            .of("scenes", "Makes a scene of what the lights of the group are in.")
            .takes("Name", r#"{"name":"Evening"}"#)
            .tells(Told::Done, NUMBERED)
            .refuses(WRITE),
        Address::new(Get, "/api/{key}/groups/{group}/scenes/{scene}", "deconzReadScene")
            .of("scenes", "Reads a scene.")
            .tells(Told::Tagged("ref Scene"), |_, _, _| Some(examples::scene()))
            .refuses(FIND),
        Address::new(Put, "/api/{key}/groups/{group}/scenes/{scene}", "deconzRenameScene")
            .of("scenes", "Gives a scene another name.")
            .takes("Name", r#"{"name":"Evening"}"#)
            .tells(Told::Done, |_, path, body| {
                examples::done(&put::scene(path, body.as_bytes(), false).answers)
            })
            .refuses(WRITE),
        Address::new(Delete, "/api/{key}/groups/{group}/scenes/{scene}", "deconzRemoveScene")
            .of("scenes", "Removes a scene.")
            .tells(Told::Done, NUMBERED)
            .refuses(WRITE),
        Address::new(Put, "/api/{key}/groups/{group}/scenes/{scene}/store", "deconzStoreScene")
            .of("scenes", "Makes it of what the lights of its group are in now.")
            .takes("Nothing", "{}")
            .tells(Told::Done, NUMBERED)
            .refuses(WRITE),
        Address::new(Put, "/api/{key}/groups/{group}/scenes/{scene}/recall", "deconzRecallScene")
            .of("scenes", "Sends its devices what it sets: all of them or none.")
            .takes("Nothing", "{}")
            .tells(Told::Done, NUMBERED)
            .refuses(WRITE),
    ]
}
