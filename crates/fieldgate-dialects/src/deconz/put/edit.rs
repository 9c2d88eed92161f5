//! Names, groups and scenes, and what of the configuration apps want.
//!
//! Pure. Source: `wire.md` 2.5. Keys of apps read and command; they administer nothing, so nothing of
//! the configuration can be set.

use std::collections::HashSet;

use fieldgate_core::json;
use serde_json::Value as Json;

use super::{
    super::{
        Answer, Error, Map,
        body::{self, Parameter},
    },
    setting,
};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Most lights that a group is given at once.
const LIGHTS_MAX: usize = 1_000;
/// The longest time for which apps ask others to join, in seconds.
const PERMIT_JOIN_MAX: f64 = 255.0;
/// What other gateways let apps set, and is not in the configuration.
const SETTINGS: [&str; 5] = ["discovery", "groupdelay", "unlock", "updatechannel", "utc"];

/// What a body changes of what is listed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Edit {
    /// Its new name.
    pub name: Option<String>,
    /// The numbers of the lights of a group, each once.
    pub lights: Option<Vec<u64>>,
    /// What is answered.
    pub answers: Vec<Answer>,
}

impl Edit {
    /// The first failure: nothing is made of a body that has one.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.answers.iter().find_map(|answer| match answer {
            Answer::Failure(error) => Some(error),
            Answer::Success(..) => None,
        })
    }

    /// Reads a body, each parameter by `take`; `None` of it: there is no such parameter.
    fn read(
        path: &str,
        body: &[u8],
        take: impl Fn(&mut Self, &Parameter<'_>) -> Option<Result<Json, Error>>,
    ) -> Self {
        let mut edit = Self::default();
        let parameters = match body::parameters(path, body) {
            Ok(parameters) => parameters,
            Err(error) => {
                edit.answers.push(error.into());
                return edit;
            }
        };
        for parameter in &parameters {
            let done = take(&mut edit, parameter);
            let done = done.unwrap_or_else(|| Err(parameter.unknown(path)));
            edit.answers.push(match done {
                Ok(value) => Answer::Success(format!("{path}/{}", parameter.name), value),
                Err(error) => Answer::Failure(error),
            });
        }
        edit
    }

    fn take_name(&mut self, path: &str, parameter: &Parameter<'_>) -> Result<Json, Error> {
        let name = parameter.word(NAME_BYTES_MAX);
        let name = name.filter(|name| name.len() <= NAME_BYTES_MAX && !name.trim().is_empty());
        let name = name.ok_or_else(|| parameter.refused(path))?;
        self.name = Some(name.clone());
        Ok(name.into())
    }

    /// What makes something new has to name it.
    fn needs_name(mut self, path: &str, is_new: bool) -> Self {
        if is_new && self.name.is_none() && self.failure().is_none() {
            self.answers = vec![Error::MissingParameters(path.to_owned()).into()];
        }
        self
    }
}

/// `PUT lights/<id>`, `PUT sensors/<id>`: the name. `about`: the light or sensor whole.
#[must_use]
pub fn rename(path: &str, body: &[u8], about: &Map) -> Edit {
    Edit::read(path, body, |edit, parameter| match parameter.name.as_str() {
        "name" => Some(edit.take_name(path, parameter)),
        other if about.contains_key(other) => Some(Err(parameter.read_only(path))),
        _ => None,
    })
}

/// `POST groups` (`is_new`), `PUT groups/<id>`: the name, and which lights.
#[must_use]
pub fn group(path: &str, body: &[u8], is_new: bool) -> Edit {
    let edit = Edit::read(path, body, |edit, parameter| {
        let known = |is_so: bool, value: Json| {
            if is_so { Ok(value) } else { Err(parameter.read_only(path)) }
        };
        Some(match parameter.name.as_str() {
            "name" => edit.take_name(path, parameter),
            "lights" => match numbers(parameter) {
                Some(numbers) => {
                    let shown: Vec<String> = numbers.iter().map(u64::to_string).collect();
                    edit.lights = Some(numbers);
                    Ok(shown.into())
                }
                None => Err(parameter.refused(path)),
            },
            "type" => match parameter.word(40).filter(|word| word == "LightGroup") {
                Some(word) => Ok(word.into()),
                None => Err(parameter.refused(path)),
            },
            // What is so for every group here may be said.
            "hidden" => known(parameter.truth() == Some(false), false.into()),
            "lightsequence" | "multideviceids" => {
                let is_empty = parameter.list(1).is_some_and(|list| list.is_empty());
                known(is_empty, Json::Array(Vec::new()))
            }
            "action" | "devicemembership" | "etag" | "id" | "scenes" | "state" => {
                Err(parameter.read_only(path))
            }
            _ => return None,
        })
    });
    edit.needs_name(path, is_new)
}

/// Numbers of lights, each once.
fn numbers(parameter: &Parameter<'_>) -> Option<Vec<u64>> {
    let mut numbers = Vec::new();
    let mut seen = HashSet::new();
    for element in parameter.list(LIGHTS_MAX)? {
        let text = json::string(element)?;
        let number: u64 = text.parse().ok().filter(|number: &u64| number.to_string() == *text)?;
        if seen.insert(number) {
            numbers.push(number);
        }
    }
    Some(numbers)
}

/// `POST groups/<id>/scenes` (`is_new`), `PUT groups/<id>/scenes/<id>`: the name.
#[must_use]
pub fn scene(path: &str, body: &[u8], is_new: bool) -> Edit {
    let edit = Edit::read(path, body, |edit, parameter| match parameter.name.as_str() {
        "name" => Some(edit.take_name(path, parameter)),
        "id" | "lights" | "state" => Some(Err(parameter.read_only(path))),
        _ => None,
    });
    edit.needs_name(path, is_new)
}

/// `PUT …/recall`, `PUT …/store`: a body that says nothing, or is none.
///
/// # Errors
///
/// It is something else than an object.
pub fn call(path: &str, body: &[u8]) -> Result<(), Error> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    body::object(path, body).map(drop)
}

/// `PUT config`: nothing of it can be set by apps; `permitjoin` alone is taken. `config`: the configuration whole.
#[must_use]
pub fn config(path: &str, body: &[u8], config: &Map) -> Vec<Answer> {
    let edit = Edit::read(path, body, |_, parameter| match parameter.name.as_str() {
        // No radio is there that others could join: it is taken, as apps expect, and opens nothing.
        "permitjoin" => {
            let seconds = parameter.whole(0.0, PERMIT_JOIN_MAX);
            Some(seconds.map(setting::whole).ok_or_else(|| parameter.refused(path)))
        }
        name if SETTINGS.contains(&name) || config.contains_key(name) => {
            Some(Err(parameter.read_only(path)))
        }
        _ => None,
    });
    edit.answers
}
