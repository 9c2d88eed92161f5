//! Sensors that apps make: `POST /sensors`, and what they put into their state.
//!
//! Pure. In: bodies. Out: what the sensor is, and readings in canonical units. Source: `wire.md` 2.5.

use fieldgate_core::profile::Profile;

use super::{Answer, Error, Part};

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

/// Reads the body that makes a sensor.
///
/// # Errors
///
/// What is wrong with it first.
pub fn create(path: &str, _body: &[u8]) -> Result<Made, Error> {
    Err(Error::MissingParameters(path.to_owned()))
}

/// Reads what a sensor is to be in.
#[must_use]
pub fn state(path: &str, _body: &[u8], _clip: &Clip) -> (Told, Vec<Answer>) {
    (Told::default(), vec![Error::MissingParameters(path.to_owned()).into()])
}

impl Clip {
    /// As it is kept.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut map = super::Map::new();
        map.insert("type".to_owned(), self.part.as_str().into());
        if let Some(unique_id) = &self.unique_id {
            map.insert("uniqueid".to_owned(), unique_id.as_str().into());
        }
        serde_json::Value::Object(map).to_string()
    }

    /// Reads what was kept.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let map: super::Map = serde_json::from_str(text).ok()?;
        let part = Part::parse(map.get("type")?.as_str()?)?;
        let unique_id = map.get("uniqueid").and_then(|id| id.as_str()).map(str::to_owned);
        Some(Self { part, unique_id })
    }
}
