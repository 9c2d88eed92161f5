//! Sensors that apps make: `POST /sensors`, and what they put into their state.
//!
//! Pure. In: bodies. Out: what the sensor is, and readings in canonical units: what comes in as 2182
//! is 21.82. Source: `wire.md` 2.5, `resources.md` 1. Absent: types without a canonical resource, and
//! what an app says of the configuration of a sensor, of which nothing is its own. Invariant: what is
//! put is what apps see again, number for number.

use fieldgate_core::{
    profile::{Kind, Profile, Resource},
    resource::{self, format_converted},
};
use serde_json::Value as Json;

use super::{
    Answer, Error, Map, Part,
    body::{self, Parameter},
};
use crate::json::write_string;

/// Longest text of a sensor, in bytes.
const TEXT_BYTES_MAX: usize = 128;
/// What a body has to say.
const NEEDED: [&str; 6] = ["manufacturername", "modelid", "name", "swversion", "type", "uniqueid"];

/// What a sensor is that an app made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// Its type.
    pub part: Part,
    /// The address that the app gave it.
    pub unique_id: Option<String>,
}

/// What an app made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// What is kept of it.
    pub clip: Clip,
    /// What device it is.
    pub profile: Profile,
    /// What it is in at first.
    pub told: Told,
}

/// Payloads that a body comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Readings: a JSON object.
    pub telemetry: Option<String>,
    /// A press of a button: the payload of an event.
    pub event: Option<String>,
}

/// What an attribute of a state is in the words of here.
struct Attribute {
    name: &'static str,
    canonical: &'static str,
    form: Form,
}

/// How its value is read.
enum Form {
    Truth,
    /// A whole number in a range, which is so many canonical ones.
    Number {
        factor: f64,
        min: f64,
        max: f64,
    },
    /// A logarithm of illuminance.
    Level,
}

const fn truth(name: &'static str, canonical: &'static str) -> Attribute {
    Attribute { name, canonical, form: Form::Truth }
}

const fn number(
    name: &'static str,
    canonical: &'static str,
    factor: f64,
    min: f64,
    max: f64,
) -> Attribute {
    Attribute { name, canonical, form: Form::Number { factor, min, max } }
}

/// Highest whole number of sixteen bits that means something.
const SHORT: f64 = 65_534.0;
/// Highest whole number that fits where it is kept.
const LONG: f64 = 9e15;

/// What the state of a sensor of this type holds; nothing of what no app makes.
const fn attributes(part: Part) -> &'static [Attribute] {
    match part {
        Part::Light | Part::Thermostat => &[],
        Part::Temperature => {
            const { &[number("temperature", "temperature", 0.01, -27_315.0, 32_767.0)] }
        }
        Part::Humidity => const { &[number("humidity", "humidity", 0.01, 0.0, 10_000.0)] },
        Part::LightLevel => {
            const {
                &[
                    Attribute { name: "lightlevel", canonical: "illuminance", form: Form::Level },
                    number("lux", "illuminance", 1.0, 0.0, LONG),
                ]
            }
        }
        Part::Pressure => const { &[number("pressure", "pressure", 100.0, 0.0, 32_767.0)] },
        Part::Battery => const { &[number("battery", "battery", 1.0, 0.0, 100.0)] },
        Part::AirQuality => {
            const {
                &[
                    number("airquality_co2_density", "co2", 1.0, 0.0, SHORT),
                    number("airqualityppb", "tvoc", 1.0, 0.0, SHORT),
                    number("pm2_5", "pm25", 1.0, 0.0, SHORT),
                ]
            }
        }
        Part::Presence => const { &[truth("presence", "presence")] },
        Part::OpenClose => const { &[truth("open", "open")] },
        Part::Vibration => const { &[truth("vibration", "vibration")] },
        Part::Water => const { &[truth("water", "water")] },
        Part::Fire => const { &[truth("fire", "fire")] },
        Part::CarbonMonoxide => const { &[truth("carbonmonoxide", "carbon_monoxide")] },
        Part::Alarm => const { &[truth("alarm", "alarm")] },
        Part::Switch => const { &[number("buttonevent", "button", 1.0, 0.0, SHORT)] },
        Part::Power => {
            const {
                &[
                    number("power", "power", 1.0, -LONG, LONG),
                    number("voltage", "voltage", 1.0, -SHORT, SHORT),
                    number("current", "current", 0.001, -SHORT, SHORT),
                ]
            }
        }
        Part::Consumption => const { &[number("consumption", "energy", 1.0, 0.0, LONG)] },
    }
}

impl Attribute {
    /// The canonical value as JSON, and the value as it is answered.
    fn read(&self, parameter: &Parameter<'_>) -> Option<(String, Json)> {
        let number = match self.form {
            Form::Truth => {
                let truth = parameter.truth()?;
                return Some((truth.to_string(), truth.into()));
            }
            Form::Number { factor: 1.0, min, max } => {
                let number = parameter.whole(min, max)?;
                return Some((format!("{:.0}", number + 0.0), whole(number)));
            }
            Form::Number { factor, min, max } => {
                let number = parameter.whole(min, max)?;
                return Some((format_converted(number * factor), whole(number)));
            }
            Form::Level => parameter.whole(0.0, SHORT)?,
        };
        let lux = if number == 0.0 { 0.0 } else { 10_f64.powf((number - 1.0) / 10_000.0) };
        Some((format_converted(lux), whole(number)))
    }
}

fn whole(number: f64) -> Json {
    #[expect(clippy::cast_possible_truncation, reason = "whole and in a range that fits")]
    let number = number as i64;
    number.into()
}

/// Readings of one sensor, as they are gathered.
#[derive(Default)]
struct Gathered(Vec<(&'static str, String)>);

impl Gathered {
    fn put(&mut self, canonical: &'static str, text: String) {
        self.0.retain(|(name, _)| *name != canonical);
        self.0.push((canonical, text));
    }

    fn told(&self, part: Part) -> Told {
        if self.0.is_empty() {
            return Told::default();
        }
        let mut out = Vec::new();
        for (name, text) in &self.0 {
            out.push(if out.is_empty() { b'{' } else { b',' });
            write_string(&mut out, name);
            out.push(b':');
            out.extend_from_slice(text.as_bytes());
        }
        out.push(b'}');
        let data = String::from_utf8(out).unwrap_or_default();
        if part == Part::Switch {
            let event = Some(format!("{{\"event\":\"button\",\"data\":{data}}}"));
            return Told { telemetry: None, event };
        }
        Told { telemetry: Some(data), event: None }
    }
}

/// Takes one attribute of a state.
fn take(
    gathered: &mut Gathered,
    path: &str,
    parameter: &Parameter<'_>,
    part: Part,
) -> Result<Json, Error> {
    let name = parameter.name.as_str();
    let Some(attribute) = attributes(part).iter().find(|attribute| attribute.name == name) else {
        let is_derived = name == "lastupdated"
            || (part == Part::LightLevel && matches!(name, "dark" | "daylight"));
        let error = if is_derived { parameter.read_only(path) } else { parameter.unknown(path) };
        return Err(error);
    };
    let (text, value) = attribute.read(parameter).ok_or_else(|| parameter.refused(path))?;
    gathered.put(attribute.canonical, text);
    Ok(value)
}

/// Reads the body that makes a sensor: all of it, or nothing.
///
/// # Errors
///
/// What is wrong with it first.
pub fn create(path: &str, body: &[u8]) -> Result<Made, Error> {
    let parameters = body::parameters(path, body)?;
    let find = |name: &str| parameters.iter().find(|parameter| parameter.name == name);
    let text = |name: &str| {
        let parameter = find(name).ok_or_else(|| Error::MissingParameters(path.to_owned()))?;
        let text = fieldgate_core::json::string(parameter.text);
        let is_text =
            |text: &str| text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control);
        let text = text.filter(|text| is_text(text)).ok_or_else(|| parameter.refused(path))?;
        Ok(text.into_owned())
    };
    let is_known =
        |name: &str| NEEDED.contains(&name) || matches!(name, "config" | "recycle" | "state");
    if let Some(other) = parameters.iter().find(|parameter| !is_known(&parameter.name)) {
        return Err(other.unknown(path));
    }
    if NEEDED.iter().any(|name| find(name).is_none()) {
        return Err(Error::MissingParameters(path.to_owned()));
    }
    let word = text("type")?;
    let made = |part: &Part| !attributes(*part).is_empty() && part.type_word(1, None, true) == word;
    let part = Part::ALL.into_iter().find(made);
    let refused = |name: &str, value: &str| Error::InvalidValue {
        path: path.to_owned(),
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let part = part.ok_or_else(|| refused("type", &word))?;
    let (name, unique_id) = (text("name")?, text("uniqueid")?);
    for (key, value) in [("name", &name), ("uniqueid", &unique_id)] {
        if value.trim().is_empty() {
            return Err(refused(key, value));
        }
    }
    let mut gathered = Gathered::default();
    for nested in ["config", "state"].into_iter().filter_map(find) {
        let inner = body::object(path, nested.text.as_bytes()).map_err(|_| nested.refused(path))?;
        for parameter in inner.iter().filter(|_| nested.name == "state") {
            take(&mut gathered, &format!("{path}/state"), parameter, part)?;
        }
    }
    let profile = Profile {
        kind: Kind::Sensor,
        name,
        manufacturer: text("manufacturername")?,
        model: text("modelid")?,
        version: text("swversion")?,
        resources: resources(part),
        ..Profile::default()
    };
    let clip = Clip { part, unique_id: Some(unique_id) };
    Ok(Made { clip, profile, told: gathered.told(part) })
}

/// The resources of a sensor, each once.
fn resources(part: Part) -> Vec<Resource> {
    let mut resources: Vec<Resource> = Vec::new();
    for attribute in attributes(part) {
        let Some(row) = resource::canonical(attribute.canonical) else { continue };
        if resources.iter().all(|resource| resource.name != row.name) {
            let unit = Some(row.unit.to_owned()).filter(|unit| !unit.is_empty());
            let (name, value) = (row.name.to_owned(), row.value);
            resources.push(Resource { name, unit, value, ..Resource::default() });
        }
    }
    resources
}

/// `PUT sensors/<id>/state` of a sensor that an app made: what it is to be in.
#[must_use]
pub fn state(path: &str, body: &[u8], clip: &Clip) -> (Told, Vec<Answer>) {
    let mut gathered = Gathered::default();
    let answers = each(path, body, |parameter| take(&mut gathered, path, parameter, clip.part));
    (gathered.told(clip.part), answers)
}

/// `PUT sensors/<id>/state` of any other sensor: why not. `state`: what it is in.
#[must_use]
pub fn refuse(path: &str, body: &[u8], state: &Map) -> Vec<Answer> {
    each(path, body, |parameter| {
        let is_known = state.contains_key(&parameter.name);
        Err(if is_known { parameter.read_only(path) } else { parameter.unknown(path) })
    })
}

/// Answers each parameter of a body.
fn each(
    path: &str,
    body: &[u8],
    mut take: impl FnMut(&Parameter<'_>) -> Result<Json, Error>,
) -> Vec<Answer> {
    let parameters = match body::parameters(path, body) {
        Ok(parameters) => parameters,
        Err(error) => return vec![error.into()],
    };
    let answer = |parameter: &Parameter<'_>| match take(parameter) {
        Ok(value) => Answer::Success(format!("{path}/{}", parameter.name), value),
        Err(error) => Answer::Failure(error),
    };
    parameters.iter().map(answer).collect()
}

impl Clip {
    /// As it is kept.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut map = Map::new();
        map.insert("type".to_owned(), self.part.as_str().into());
        if let Some(unique_id) = &self.unique_id {
            map.insert("uniqueid".to_owned(), unique_id.as_str().into());
        }
        Json::Object(map).to_string()
    }

    /// Reads what was kept.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let map: Map = serde_json::from_str(text).ok()?;
        let part = Part::parse(map.get("type")?.as_str()?)?;
        let unique_id = map.get("uniqueid").and_then(Json::as_str).map(str::to_owned);
        Some(Self { part, unique_id })
    }
}

#[cfg(test)]
mod tests;
