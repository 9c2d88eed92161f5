//! What apps ask of lamps, plugs, covers and locks, parameter by parameter.
//!
//! Pure. Source: `resources.md` 5, "deCONZ". In: a parameter. Out: what it means for any lamp
//! ([`ask`]), and what it comes to for one ([`Lamp`]).

use fieldgate_core::{
    profile::{Kind, read_value},
    resource::Value,
};
use serde_json::{Value as Json, json};

use super::{
    super::{Device, Error, Part, body::Parameter},
    Action,
    setting::{Setter, Wanted, whole},
};

/// Attributes of the state of some light that cannot be set.
const READ_ONLY: [&str; 3] = ["colormode", "lastupdated", "reachable"];

/// What a parameter means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Ask {
    On(bool),
    Brightness(f64),
    Hue(f64),
    Saturation(f64),
    Temperature(f64),
    Xy(f64, f64),
    Open(bool),
    Lift(f64),
    Tilt(f64),
    Stop,
    /// Whether it is to show which one it is, and the word.
    Alert(bool, &'static str),
    Toggle(bool),
    Transition(f64),
}

/// Words of `alert`, and whether a lamp shows which one it is.
const ALERTS: [(&str, bool); 9] = [
    ("none", false),
    ("select", true),
    ("lselect", true),
    ("blink", true),
    ("breathe", true),
    ("okay", true),
    ("channelchange", true),
    ("finish", false),
    ("stop", false),
];

/// Reads a parameter; nothing if lamps have none of this name.
pub(super) fn ask(path: &str, parameter: &Parameter<'_>) -> Result<Option<Ask>, Error> {
    let whole = |max: f64| parameter.whole(0.0, max);
    let ask = match parameter.name.as_str() {
        "on" => parameter.truth().map(Ask::On),
        "bri" => whole(255.0).map(Ask::Brightness),
        "hue" => whole(65_535.0).map(Ask::Hue),
        "sat" => whole(255.0).map(Ask::Saturation),
        "ct" => parameter.whole(1.0, 65_535.0).map(Ask::Temperature),
        "xy" => xy(parameter),
        "open" => parameter.truth().map(Ask::Open),
        "lift" => whole(100.0).map(Ask::Lift),
        "tilt" => whole(100.0).map(Ask::Tilt),
        "stop" => parameter.truth().filter(|truth| *truth).map(|_| Ask::Stop),
        "alert" => {
            let word = parameter.word(40);
            let found = ALERTS.into_iter().find(|(known, _)| word.as_deref() == Some(*known));
            found.map(|(word, shows)| Ask::Alert(shows, word))
        }
        "toggle" => parameter.truth().map(Ask::Toggle),
        "transitiontime" => whole(65_535.0).map(|tenths| Ask::Transition(tenths / 10.0)),
        _ => return Ok(None),
    };
    ask.map(Some).ok_or_else(|| parameter.refused(path))
}

/// Two numbers from 0 to 1.
fn xy(parameter: &Parameter<'_>) -> Option<Ask> {
    let number = |text: &&str| {
        let number = read_value(text, |value| match value {
            Value::Number(number) => Some(number),
            Value::Bool(_) | Value::Text(_) | Value::Other => None,
        });
        number.filter(|number| (0.0..=1.0).contains(number))
    };
    match parameter.list(2)?.as_slice() {
        [x, y] => Some(Ask::Xy(number(x)?, number(y)?)),
        _ => None,
    }
}

impl Ask {
    /// The value as it is answered.
    pub(super) fn value(&self) -> Json {
        match *self {
            Self::On(truth) | Self::Open(truth) | Self::Toggle(truth) => truth.into(),
            Self::Brightness(number)
            | Self::Hue(number)
            | Self::Saturation(number)
            | Self::Temperature(number)
            | Self::Lift(number)
            | Self::Tilt(number) => whole(number),
            Self::Transition(seconds) => whole((seconds * 10.0).round()),
            Self::Xy(x, y) => json!([x, y]),
            Self::Stop => true.into(),
            Self::Alert(_, word) => word.into(),
        }
    }
}

/// A light that is asked.
pub(super) struct Lamp<'d> {
    kind: Kind,
    setter: Setter<'d>,
}

impl<'d> Lamp<'d> {
    pub(super) fn new(device: &'d Device, instance: u8) -> Self {
        let kind = device.facts().profile.as_ref().map(|profile| profile.kind);
        let kind = kind.unwrap_or_default();
        Self { kind, setter: Setter::new(device, Part::Light, instance) }
    }

    pub(super) fn is_reachable(&self) -> bool {
        let light = self.setter.device().light(self.setter.instance());
        light.is_some_and(|light| light.is_reachable)
    }

    /// What a parameter comes to, and what is answered.
    pub(super) fn take(
        &self,
        path: &str,
        parameter: &Parameter<'_>,
    ) -> Result<(Wanted, Json), Error> {
        let name = parameter.name.as_str();
        if name == "toggle" {
            return Err(parameter.unknown(path));
        }
        let Some(ask) = ask(path, parameter)? else {
            let state = self.setter.device().state(Part::Light, self.setter.instance());
            let is_known = READ_ONLY.contains(&name) && state.contains_key(name);
            return Err(if is_known { parameter.read_only(path) } else { parameter.unknown(path) });
        };
        Ok((self.fit(path, parameter, &ask)?, ask.value()))
    }

    /// What it comes to for this lamp.
    pub(super) fn fit(
        &self,
        path: &str,
        parameter: &Parameter<'_>,
        ask: &Ask,
    ) -> Result<Wanted, Error> {
        let number = |canonical, number| self.setter.number(path, parameter, canonical, number);
        let truth = |canonical, truth| self.setter.truth(path, parameter, canonical, truth);
        match *ask {
            Ask::On(on) => truth(if self.kind == Kind::Lock { "locked" } else { "on" }, on),
            Ask::Brightness(bri) => number("brightness", bri / 255.0),
            Ask::Hue(hue) => number("hue", hue * 360.0 / 65_535.0),
            Ask::Saturation(sat) => number("saturation", sat / 255.0),
            Ask::Temperature(mired) => self.temperature(path, parameter, mired),
            Ask::Xy(x, y) => {
                // A number that was read is written so that it reads as the same.
                let text = format!("[{x},{y}]");
                self.setter.json(path, parameter, "color_xy", text)
            }
            Ask::Open(open) => number("position", if open { 1.0 } else { 0.0 }),
            Ask::Lift(lift) => number("position", 1.0 - lift / 100.0),
            Ask::Tilt(tilt) => number("tilt", 1.0 - tilt / 100.0),
            Ask::Stop if self.kind == Kind::Cover => Ok(Wanted::Act(Action::Stop)),
            Ask::Alert(shows, _) if matches!(self.kind, Kind::Light | Kind::Plug) => {
                Ok(if shows { Wanted::Act(Action::Identify) } else { Wanted::Nothing })
            }
            // What was to be toggled is on or off by now; what is not to be stays as it is.
            Ask::Toggle(_) | Ask::Transition(_) => Ok(Wanted::Nothing),
            Ask::Stop | Ask::Alert(..) => Err(parameter.unknown(path)),
        }
    }

    /// A colour temperature in the range that apps are told, which is rounded.
    fn temperature(
        &self,
        path: &str,
        parameter: &Parameter<'_>,
        mired: f64,
    ) -> Result<Wanted, Error> {
        let range = self.setter.device().mired(self.setter.instance());
        if range.is_some_and(|(min, max)| !(min..=max).contains(&mired)) {
            return Err(parameter.refused(path));
        }
        let kelvin = 1e6 / mired;
        let inside = self.setter.range("color_temperature");
        let kelvin = inside.map_or(kelvin, |(min, max)| kelvin.max(min).min(max));
        self.setter.number(path, parameter, "color_temperature", kelvin)
    }
}
