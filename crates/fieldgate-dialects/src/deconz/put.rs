//! Bodies of apps that change something: what is to be set of which device, and what is answered.
//!
//! Pure. In: the path behind the key, a body, and the device. Out: [`Asked`] or [`Edit`]. Source:
//! `wire.md` 2.3 and 2.5, `resources.md` 5. Each parameter stands or falls alone. Invariant: whatever
//! has a success is set as its device can take it; whatever is not set has a failure.

mod edit;
mod lamp;
mod setting;

pub use edit::{Edit, call, config, group, rename, scene};

use fieldgate_core::resource::format_converted;
use serde_json::Value as Json;

use super::{
    Answer, Device, Error, Light, Part,
    body::{self, Parameter},
    gateway::group_state,
};
use crate::json::write_string;
use lamp::{Ask, Lamp};
use setting::{Setter, Wanted};

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
    /// What is answered.
    pub answers: Vec<Answer>,
}

impl Asked {
    /// The payload of the command; nothing if there is nothing to do.
    #[must_use]
    pub fn payload(&self) -> Option<String> {
        let mut out = Vec::new();
        let begin = |out: &mut Vec<u8>, name: &str| {
            out.push(if out.is_empty() { b'{' } else { b',' });
            write_string(out, name);
            out.push(b':');
        };
        for (nth, (name, text)) in self.set.iter().enumerate() {
            if nth == 0 {
                begin(&mut out, "set");
            }
            out.push(if nth == 0 { b'{' } else { b',' });
            write_string(&mut out, name);
            out.push(b':');
            out.extend_from_slice(text.as_bytes());
        }
        if !self.set.is_empty() {
            out.push(b'}');
        }
        if let Some(action) = self.action {
            begin(&mut out, "action");
            write_string(&mut out, action.as_str());
        }
        if out.is_empty() {
            return None;
        }
        if let Some(seconds) = self.transition {
            begin(&mut out, "transition");
            out.extend_from_slice(format_converted(seconds).as_bytes());
        }
        out.push(b'}');
        String::from_utf8(out).ok()
    }

    fn failed(error: Error) -> Self {
        Self { answers: vec![error.into()], ..Self::default() }
    }

    fn answer(&mut self, path: &str, parameter: &Parameter<'_>, done: Result<Json, Error>) {
        self.answers.push(match done {
            Ok(value) => Answer::Success(format!("{path}/{}", parameter.name), value),
            Err(error) => Answer::Failure(error),
        });
    }

    /// Adds what one parameter comes to.
    fn add(&mut self, wanted: Wanted) {
        match wanted {
            Wanted::Set(name, text) => match self.set.iter_mut().find(|(set, _)| *set == name) {
                // Two parameters of one resource: the last counts, as of one that is said twice.
                Some((_, old)) => *old = text,
                None => self.set.push((name, text)),
            },
            Wanted::Act(action) => self.action = Some(action),
            Wanted::Nothing => (),
        }
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

/// `PUT lights/<id>/state`: what a light is to be in.
#[must_use]
pub fn light_state(path: &str, body: &[u8], device: &Device, instance: u8) -> Asked {
    let parameters = match body::parameters(path, body) {
        Ok(parameters) => parameters,
        Err(error) => return Asked::failed(error),
    };
    let Some(light) = device.light(instance) else {
        return Asked::failed(Error::NotAvailable(path.to_owned()));
    };
    if !light.is_reachable {
        return Asked::failed(Error::Unreachable(path.to_owned()));
    }
    let lamp = Lamp::new(device, instance);
    let mut asked = Asked::default();
    for parameter in &parameters {
        if let Ok(Some(Ask::Transition(seconds))) = lamp::ask(path, parameter) {
            asked.transition = Some(seconds);
            continue;
        }
        let done = lamp.take(path, parameter).map(|(wanted, value)| {
            asked.add(wanted);
            value
        });
        asked.answer(path, parameter, done);
    }
    if asked.answers.is_empty() {
        return Asked::failed(Error::MissingParameters(path.to_owned()));
    }
    asked
}

/// `PUT groups/<id>/action`: what the lights of a group are to be in. A parameter is done where one of
/// them takes it, and in a group without lights.
#[must_use]
pub fn group_action(path: &str, body: &[u8], lights: &[(&Device, u8)]) -> GroupAsked {
    let mut asked = GroupAsked { each: vec![Asked::default(); lights.len()], answers: Vec::new() };
    let parameters = match body::parameters(path, body) {
        Ok(parameters) => parameters,
        Err(error) => {
            asked.answers.push(error.into());
            return asked;
        }
    };
    let states: Vec<(u64, Light)> =
        lights.iter().filter_map(|(device, at)| Some((0, device.light(*at)?))).collect();
    let is_on = group_state(&states).get("any_on") == Some(&Json::Bool(true));
    let lamps: Vec<Lamp<'_>> = lights.iter().map(|(device, at)| Lamp::new(device, *at)).collect();
    for parameter in &parameters {
        let ask = match lamp::ask(path, parameter) {
            Ok(Some(ask)) => ask,
            Ok(None) => {
                asked.answers.push(parameter.unknown(path).into());
                continue;
            }
            Err(error) => {
                asked.answers.push(error.into());
                continue;
            }
        };
        let value = ask.value();
        if let Ask::Transition(seconds) = ask {
            asked.each.iter_mut().for_each(|one| one.transition = Some(seconds));
            continue;
        }
        let ask = if ask == Ask::Toggle(true) { Ask::On(!is_on) } else { ask };
        match asked.offer(path, parameter, &ask, &lamps) {
            Some(error) => asked.answers.push(error.into()),
            None => {
                let path = format!("{path}/{}", parameter.name);
                asked.answers.push(Answer::Success(path, value));
            }
        }
    }
    if asked.answers.is_empty() {
        asked.answers.push(Error::MissingParameters(path.to_owned()).into());
    }
    asked
}

impl GroupAsked {
    /// Asks every lamp that is there; why none takes it.
    fn offer(
        &mut self,
        path: &str,
        parameter: &Parameter<'_>,
        ask: &Ask,
        lamps: &[Lamp<'_>],
    ) -> Option<Error> {
        let mut failure = None;
        let mut is_taken = false;
        if !lamps.is_empty() && !lamps.iter().any(Lamp::is_reachable) {
            return Some(Error::Unreachable(path.to_owned()));
        }
        for (lamp, asked) in lamps.iter().zip(&mut self.each).filter(|(l, _)| l.is_reachable()) {
            match lamp.fit(path, parameter, ask) {
                Ok(wanted) => {
                    is_taken = true;
                    asked.add(wanted);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.filter(|_| !is_taken)
    }
}

/// `PUT sensors/<id>/config`: how a sensor is to be set up.
#[must_use]
pub fn sensor_config(path: &str, body: &[u8], device: &Device, part: Part, instance: u8) -> Asked {
    let parameters = match body::parameters(path, body) {
        Ok(parameters) => parameters,
        Err(error) => return Asked::failed(error),
    };
    let config = device.config(part, instance);
    let setter = Setter::new(device, part, instance);
    let mut asked = Asked::default();
    for parameter in &parameters {
        let old = config.get(&parameter.name);
        let done = match parameter.name.as_str() {
            "heatsetpoint" if part == Part::Thermostat && !device.is_reachable() => {
                Err(Error::Unreachable(path.to_owned()))
            }
            "heatsetpoint" if part == Part::Thermostat => {
                let number = parameter.whole(-27_315.0, 1e6).ok_or_else(|| parameter.refused(path));
                number.and_then(|number| {
                    let set =
                        setter.number(path, parameter, "target_temperature", number / 100.0)?;
                    asked.add(set);
                    Ok(setting::whole(number))
                })
            }
            // What is so already is done.
            "on" | "mode" if old.is_some() && old == parameter.value().as_ref() => {
                Ok(old.cloned().unwrap_or_default())
            }
            _ if old.is_some() => Err(parameter.read_only(path)),
            _ => Err(parameter.unknown(path)),
        };
        asked.answer(path, parameter, done);
    }
    asked
}

#[cfg(test)]
mod tests;
