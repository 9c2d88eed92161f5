//! Bodies of apps that change something: what is to be set of which device, and what is answered.
//!
//! Pure. In: the path behind the key, a body, and the device. Out: [`Asked`]. Source: `wire.md` 2.3
//! and 2.5, `resources.md` 5. Invariant: what cannot be set has an error, and nothing is set that has
//! none and no success.

use super::{Answer, Device, Error, Part};

/// What a device is asked to do beside setting a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Stop where it is.
    Stop,
    /// Show which one it is.
    Identify,
}

impl Action {
    /// The word in a command.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Identify => "identify",
        }
    }
}

/// What a body asks of one device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Asked {
    /// Canonical names, with the instance where it is not the first, and values as JSON.
    pub set: Vec<(String, String)>,
    /// What else.
    pub action: Option<Action>,
    /// How many seconds it may take.
    pub transition: Option<f64>,
    /// What is answered, successes first.
    pub answers: Vec<Answer>,
}

impl Asked {
    /// The payload of the command; nothing if there is nothing to do.
    #[must_use]
    pub const fn payload(&self) -> Option<String> {
        None
    }
}

/// What a body asks of the lights of a group.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupAsked {
    /// Of each light, in the order given; without answers.
    pub each: Vec<Asked>,
    /// What is answered for the whole.
    pub answers: Vec<Answer>,
}

/// What a body changes of what is listed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Edit {
    /// Its new name.
    pub name: Option<String>,
    /// The numbers of the lights of a group.
    pub lights: Option<Vec<u64>>,
    /// What is answered, successes first.
    pub answers: Vec<Answer>,
}

/// `PUT lights/<id>/state`.
#[must_use]
pub fn light_state(path: &str, _body: &[u8], _device: &Device, _instance: u8) -> Asked {
    unanswered(path)
}

/// `PUT sensors/<id>/config`.
#[must_use]
pub fn sensor_config(
    path: &str,
    _body: &[u8],
    _device: &Device,
    _part: Part,
    _instance: u8,
) -> Asked {
    unanswered(path)
}

/// `PUT groups/<id>/action`.
#[must_use]
pub fn group_action(path: &str, _body: &[u8], _lights: &[(&Device, u8)]) -> GroupAsked {
    GroupAsked { each: Vec::new(), answers: unanswered(path).answers }
}

/// `PUT lights/<id>` and `PUT sensors/<id>`: the name.
#[must_use]
pub fn rename(path: &str, _body: &[u8]) -> Edit {
    Edit { answers: unanswered(path).answers, ..Edit::default() }
}

/// `POST groups`, `PUT groups/<id>`: the name, and which lights.
#[must_use]
pub fn group(path: &str, _body: &[u8]) -> Edit {
    Edit { answers: unanswered(path).answers, ..Edit::default() }
}

/// `POST groups/<id>/scenes`, `PUT groups/<id>/scenes/<id>`: the name.
#[must_use]
pub fn scene(path: &str, _body: &[u8]) -> Edit {
    Edit { answers: unanswered(path).answers, ..Edit::default() }
}

/// `PUT …/recall`, `PUT …/store`: a body that says nothing.
///
/// # Errors
///
/// It is no object.
pub fn call(path: &str, _body: &[u8]) -> Result<(), Error> {
    Err(Error::InvalidJson(path.to_owned()))
}

/// `PUT config`: nothing of it can be set by apps.
#[must_use]
pub fn config(path: &str, _body: &[u8]) -> Vec<Answer> {
    unanswered(path).answers
}

fn unanswered(path: &str) -> Asked {
    let answers = vec![Error::MissingParameters(path.to_owned()).into()];
    Asked { answers, ..Asked::default() }
}
