//! One part of a device: what is known of it, and the attributes that this is.
//!
//! Pure. In: canonical values. Out: `state` and `config`. Source: `resources.md` 2, the column
//! "deCONZ", and `wire.md` 2.6. Invariant: a key that apps need is there, as null where nothing is
//! known; a light that never said what it is in is off, and a thermostat at zero.

use std::collections::BTreeMap;

use fieldgate_core::{
    id::Seq,
    profile::read_value,
    resource::{Bound, Value, format_converted},
    state::Origin,
};
use serde_json::{Number, Value as Json, json};

use super::super::{Map, Part};

/// Below it is dark.
const DARK: i64 = 12_000;
/// From here on it is daylight.
const DAYLIGHT: i64 = 19_000;
/// The range of a lamp that has none, in mired.
const MIRED: (f64, f64) = (153.0, 500.0);

/// A value in the unit and type of its canonical resource.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Known {
    Number(f64),
    Truth(bool),
    Pair(f64, f64),
}

impl Known {
    /// The value of a reading; nothing where its resource has none for it. `text` is the JSON of
    /// `value`.
    pub(super) fn of(bound: &Bound, value: Value<'_>, text: &str) -> Option<Self> {
        if let Some(number) = bound.number(value) {
            return Some(Self::Number(number));
        }
        if let Some(truth) = bound.truth(value) {
            return Some(Self::Truth(truth));
        }
        let mut numbers = Vec::new();
        fieldgate_core::json::each_element(text, |element| {
            let number = read_value(element, |value| match value {
                Value::Number(number) => Some(number),
                Value::Bool(_) | Value::Text(_) | Value::Other => None,
            });
            numbers.extend(number.filter(|_| numbers.len() < 3));
            number.is_some()
        })?;
        match numbers.as_slice() {
            [x, y] => Some(Self::Pair(*x, *y)),
            _ => None,
        }
    }
}

/// A resource that a part has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Held {
    /// The name that the device has for it.
    pub(super) name: Box<str>,
    /// Whether the profile says what it is.
    pub(super) is_named: bool,
    /// What was reported last and can be believed.
    pub(super) value: Option<Known>,
    /// Whether the newest reading cannot be believed.
    pub(super) is_bad: bool,
    /// Which message was the newest.
    pub(super) origin: Option<Origin>,
}

/// What says which colour a lamp has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Xy,
    HueSaturation,
    Temperature,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Xy, Self::HueSaturation, Self::Temperature];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Xy => "xy",
            Self::HueSaturation => "hs",
            Self::Temperature => "ct",
        }
    }

    pub(super) const fn of(canonical: &str) -> Option<Self> {
        Some(match canonical.as_bytes() {
            b"color_xy" => Self::Xy,
            b"hue" | b"saturation" => Self::HueSaturation,
            b"color_temperature" => Self::Temperature,
            _ => return None,
        })
    }
}

/// What is known of a part.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    /// By canonical name.
    pub(super) fields: BTreeMap<&'static str, Held>,
    /// Which message its state is of.
    pub(super) stated: Option<Origin>,
    /// The number of the newest message that it is of.
    pub(super) since: Seq,
    /// What says the colour.
    pub(super) mode: Option<Mode>,
    /// What its profile lets a colour temperature be, in mired.
    pub(super) mired: Option<(f64, f64)>,
    /// Whether apps know that it is there.
    pub(super) is_known: bool,
    /// What apps were told last.
    pub(super) state: Map,
    /// What apps were told last.
    pub(super) config: Map,
}

/// A part whose attributes are to be told.
pub(super) struct Looked<'a> {
    pub(super) part: Part,
    pub(super) seen: &'a Seen,
    pub(super) is_reachable: bool,
}

impl Seen {
    /// The range of a colour temperature, in mired.
    pub(super) fn mired(&self) -> (f64, f64) {
        self.mired.unwrap_or(MIRED)
    }

    fn known(&self, canonical: &str) -> Option<Known> {
        self.fields.get(canonical)?.value
    }

    fn number(&self, canonical: &str) -> Option<f64> {
        match self.known(canonical)? {
            Known::Number(number) => Some(number),
            Known::Truth(_) | Known::Pair(..) => None,
        }
    }

    pub(super) fn truth(&self, canonical: &str) -> Option<bool> {
        match self.known(canonical)? {
            Known::Truth(truth) => Some(truth),
            Known::Number(_) | Known::Pair(..) => None,
        }
    }

    /// A number times `factor`, as apps have it; null where it is not known.
    fn whole(&self, canonical: &str, factor: f64) -> Json {
        self.number(canonical).map_or(Json::Null, |number| whole(number, factor))
    }

    fn within(&self, canonical: &str, factor: f64, max: f64) -> Json {
        self.number(canonical).map_or(Json::Null, |number| within(number, factor, 0.0, max))
    }

    fn truth_or_null(&self, canonical: &str) -> Json {
        self.truth(canonical).map_or(Json::Null, Json::Bool)
    }

    /// Whether what it has can be believed.
    pub(super) fn is_good(&self) -> bool {
        self.fields.values().all(|held| !held.is_bad)
    }

    /// How the colour was said last, as far as the resources tell: the newest, of those that came
    /// together the first.
    pub(super) fn newest_mode(&self) -> Option<Mode> {
        let mut newest: Option<(Seq, Mode)> = None;
        for mode in Mode::ALL {
            let of_mode = self.fields.iter().filter(|(name, _)| Mode::of(name) == Some(mode));
            let seqs = of_mode.filter_map(|(_, held)| held.origin.map(|origin| origin.seq));
            let Some(seq) = seqs.max() else { continue };
            if newest.is_none_or(|(other, _)| seq > other) {
                newest = Some((seq, mode));
            }
        }
        newest.map(|(_, mode)| mode)
    }

    /// What a lamp can have of colour, whether it said so yet or not.
    pub(super) fn modes(&self) -> impl Iterator<Item = Mode> + '_ {
        let has = |mode| self.fields.keys().any(|name| Mode::of(name) == Some(mode));
        Mode::ALL.into_iter().filter(move |mode| has(*mode))
    }
}

impl Looked<'_> {
    /// The attributes of its state, without the time.
    pub(super) fn state(&self) -> Map {
        let seen = self.seen;
        let (key, value) = match self.part {
            Part::Light => return self.light(),
            Part::LightLevel => return light_level(seen.number("illuminance")),
            Part::AirQuality => {
                return optional(
                    [
                        ("airquality_co2_density", "co2", seen.within("co2", 1.0, 65_534.0)),
                        ("airqualityppb", "tvoc", seen.within("tvoc", 1.0, 65_534.0)),
                        ("pm2_5", "pm25", seen.whole("pm25", 1.0)),
                    ]
                    .into_iter()
                    .filter(|(_, canonical, _)| seen.fields.contains_key(canonical)),
                );
            }
            Part::Power => {
                let has = |name: &str| seen.fields.contains_key(name);
                // Apps take the power to be there.
                return optional(
                    [
                        ("power", "power", seen.whole("power", 1.0)),
                        ("voltage", "voltage", seen.whole("voltage", 1.0)),
                        ("current", "current", seen.whole("current", 1_000.0)),
                    ]
                    .into_iter()
                    .filter(|(key, canonical, _)| *key == "power" || has(canonical)),
                );
            }
            Part::Presence => {
                let moves = seen.number("move_count").map(|count| Json::Bool(count > 0.0));
                let value = if seen.fields.contains_key("presence") {
                    seen.truth_or_null("presence")
                } else {
                    moves.unwrap_or_default()
                };
                ("presence", value)
            }
            Part::Temperature => ("temperature", seen.whole("temperature", 100.0)),
            // Apps compute with the temperature of a thermostat, and lose the whole of it without.
            Part::Thermostat => {
                let known = seen.number("temperature").unwrap_or_default();
                ("temperature", whole(known, 100.0))
            }
            Part::Humidity => ("humidity", seen.within("humidity", 100.0, 10_000.0)),
            Part::Pressure => ("pressure", seen.whole("pressure", 0.01)),
            Part::Battery => ("battery", seen.within("battery", 1.0, 100.0)),
            Part::OpenClose => ("open", seen.truth_or_null("open")),
            Part::Vibration => ("vibration", seen.truth_or_null("vibration")),
            Part::Water => ("water", seen.truth_or_null("water")),
            Part::Fire => ("fire", seen.truth_or_null("fire")),
            Part::CarbonMonoxide => ("carbonmonoxide", seen.truth_or_null("carbon_monoxide")),
            Part::Alarm => ("alarm", seen.truth_or_null("alarm")),
            Part::Switch => ("buttonevent", seen.whole("button", 1.0)),
            Part::Consumption => ("consumption", seen.whole("energy", 1.0)),
        };
        Map::from_iter([(key.to_owned(), value)])
    }

    /// The attributes of its configuration.
    pub(super) fn config(&self) -> Map {
        let is_reachable = self.is_reachable && self.seen.is_good();
        let (on, reachable) = (("on", json!(true)), ("reachable", json!(is_reachable)));
        let more = match self.part {
            Part::Light => return Map::new(),
            Part::LightLevel => {
                vec![("tholddark", json!(DARK)), ("tholdoffset", json!(DAYLIGHT - DARK))]
            }
            Part::Thermostat => {
                let setpoint = self.seen.whole("target_temperature", 100.0);
                vec![("heatsetpoint", setpoint), ("mode", json!("heat"))]
            }
            Part::Temperature
            | Part::Humidity
            | Part::Pressure
            | Part::Battery
            | Part::AirQuality
            | Part::Presence
            | Part::OpenClose
            | Part::Vibration
            | Part::Water
            | Part::Fire
            | Part::CarbonMonoxide
            | Part::Alarm
            | Part::Switch
            | Part::Power
            | Part::Consumption => Vec::new(),
        };
        let all = [on, reachable].into_iter().chain(more);
        all.map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Apps find out what a lamp can do by what is there: what it never said has the least value.
    fn light(&self) -> Map {
        let seen = self.seen;
        let has = |name: &str| seen.fields.contains_key(name);
        let mut state = Map::new();
        let mut put = |key: &str, value: Json| state.insert(key.to_owned(), value);
        let number = |name: &str| seen.number(name).unwrap_or_default();
        if has("position") || has("tilt") {
            let lift = within(1.0 - seen.number("position").unwrap_or(1.0), 100.0, 0.0, 100.0);
            put("open", json!(lift.as_i64() < Some(100)));
            put("lift", lift);
            if has("tilt") {
                let tilt = 1.0 - seen.number("tilt").unwrap_or(1.0);
                put("tilt", within(tilt, 100.0, 0.0, 100.0));
            }
        } else {
            put("on", json!(self.is_on().unwrap_or_default()));
        }
        if has("brightness") {
            put("bri", within(number("brightness"), 255.0, 0.0, 255.0));
        }
        if has("hue") || has("saturation") {
            put("hue", within(number("hue"), 65_535.0 / 360.0, 0.0, 65_535.0));
            put("sat", within(number("saturation"), 255.0, 0.0, 255.0));
        }
        if has("color_xy") {
            put("xy", pair(seen.known("color_xy")));
        }
        if has("color_temperature") {
            let (min, max) = seen.mired();
            let mired = seen.number("color_temperature").map_or(max, |kelvin| 1e6 / kelvin);
            put("ct", within(mired, 1.0, min, max));
        }
        if let Some(mode) = seen.mode.or_else(|| seen.modes().next()) {
            put("colormode", json!(mode.as_str()));
        }
        put("reachable", json!(self.is_reachable));
        state
    }

    /// Whether a lamp, a plug or a lock is on; of what cannot be, nothing.
    pub(super) fn is_on(&self) -> Option<bool> {
        let seen = self.seen;
        let has = |name: &str| seen.fields.contains_key(name);
        if has("on") || has("locked") {
            return Some(seen.truth("on").or(seen.truth("locked")).unwrap_or_default());
        }
        let is_cover = has("position") || has("tilt");
        (!is_cover).then(|| seen.number("brightness").is_some_and(|brightness| brightness > 0.0))
    }
}

fn optional(attributes: impl Iterator<Item = (&'static str, &'static str, Json)>) -> Map {
    attributes.map(|(key, _, value)| (key.to_owned(), value)).collect()
}

fn light_level(lux: Option<f64>) -> Map {
    let attributes = match lux {
        None => ["lightlevel", "lux", "dark", "daylight"].map(|key| (key, Json::Null)),
        Some(lux) => {
            let level = if lux < 1.0 { 0.0 } else { lux.log10().mul_add(10_000.0, 1.0) };
            let level = within(level, 1.0, 0.0, 65_534.0);
            let is = level.as_i64().unwrap_or_default();
            [
                ("lightlevel", level),
                ("lux", whole(lux, 1.0)),
                ("dark", json!(is < DARK)),
                ("daylight", json!(is >= DAYLIGHT)),
            ]
        }
    };
    attributes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn pair(known: Option<Known>) -> Json {
    match known {
        Some(Known::Pair(x, y)) => json!([x, y]),
        Some(Known::Number(_) | Known::Truth(_)) | None => json!([0.0, 0.0]),
    }
}

/// A number times `factor` as a whole one.
fn whole(number: f64, factor: f64) -> Json {
    to_json(scaled(number, factor).round())
}

fn within(number: f64, factor: f64, min: f64, max: f64) -> Json {
    // A range that is none has no middle; no profile with one is taken.
    to_json(scaled(number, factor).max(min).min(max).round())
}

/// Nine digits of what was converted: half of one is not lost to the bits behind them.
#[expect(clippy::float_cmp, reason = "the factor that changes nothing")]
fn scaled(number: f64, factor: f64) -> f64 {
    let scaled = number * factor;
    if factor == 1.0 { scaled } else { format_converted(scaled).parse().unwrap_or(scaled) }
}

fn to_json(number: f64) -> Json {
    #[expect(clippy::cast_possible_truncation, reason = "whole and small enough")]
    if number.abs() < 9e15 {
        return Json::from(number as i64);
    }
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}
