//! What a message says of its device's resources, for the vocabularies of other systems.
//!
//! Pure. In: telemetry, reported state, or the document of a device. Out: readings one by one, and
//! which canonical resource each is, by the device's profile. Source: `resources.md` 1. Absent:
//! readings of bad quality, which have no place in those vocabularies.

use std::{
    collections::HashMap,
    fmt::{self, Formatter},
    sync::Arc,
};

use fieldgate_core::{
    id::{TenantId, UnixMs},
    json,
    message::{Content, Kind, Message},
    profile::{self, Profile, read_value},
    resource::{self, Bound, Scale, Type, Value, format_converted},
    state::{self, Quality, Said},
};

/// Longest name of a resource, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// What is known of a device beside its messages.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// What it is.
    pub profile: Option<Arc<Profile>>,
    /// Whether it speaks Thingsee itself: its names are fields.
    pub is_thingsee: bool,
    /// The gateway that it was last heard by (`tsmGw`).
    pub gateway: Option<Arc<str>>,
}

/// Tells what is known of a device.
pub type Known<'a> = &'a dyn Fn(&TenantId, &str) -> About;

/// Under which names values are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// Those of the device, its values as it sent them.
    #[default]
    Own,
    /// The canonical ones, in their units; what is no canonical resource is told as it was sent.
    Canonical,
}

/// How values are told.
#[derive(Clone, Copy)]
pub struct Telling<'a> {
    /// Under which names.
    pub names: Naming,
    /// What is known of devices.
    pub known: Known<'a>,
}

impl fmt::Debug for Telling<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Telling").field("names", &self.names).finish_non_exhaustive()
    }
}

/// One resource, as a message tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// When it was so.
    pub(crate) time: UnixMs,
    /// Its name, as the device has it.
    pub(crate) name: &'a str,
    /// Its value: JSON, as it was sent.
    pub(crate) text: &'a str,
    /// Its unit, where the reading has one.
    pub(crate) unit: Option<&'a str>,
}

/// Visits the readings of a message, in its order; none where it holds none for other vocabularies.
pub(crate) fn each_reading(message: &Message, mut visit: impl FnMut(Reading<'_>)) {
    if message.content == Content::Json && message.kind == Kind::State {
        return each_of_document(message, visit);
    }
    for reading in state::readings(message) {
        let (Said::Value(text) | Said::Patch(text)) = reading.said else { continue };
        if reading.quality != Quality::Bad {
            let (name, unit) = (&*reading.name, reading.unit.as_deref());
            visit(Reading { time: message.timestamp, name, text, unit });
        }
    }
}

/// The document of a device: each resource with its own time.
fn each_of_document(message: &Message, mut visit: impl FnMut(Reading<'_>)) {
    let text = std::str::from_utf8(&message.payload).unwrap_or_default();
    let parts = json::members(text).unwrap_or_default();
    let part = |wanted| {
        let part = parts.iter().find(|part| part.name.as_deref() == Some(wanted));
        part.and_then(|part| json::members(part.value)).unwrap_or_default()
    };
    let about = part("meta");
    let about: HashMap<&str, &str> =
        about.iter().filter_map(|m| Some((m.name.as_deref()?, m.value))).collect();
    for member in part("reported") {
        let Some(name) = member.name.as_deref() else { continue };
        let (mut time, mut unit, mut is_bad) = (None, None, false);
        json::each_member(about.get(name).copied().unwrap_or_default(), |member| {
            match member.name.as_deref() {
                Some("time") => time = member.value.parse().ok().map(UnixMs),
                Some("unit") => unit = json::string(member.value),
                Some("quality") => is_bad = member.value == "\"bad\"",
                Some(_) | None => (),
            }
        });
        if let Some(time) = time.filter(|_| !is_bad) {
            visit(Reading { time, name, text: member.value, unit: unit.as_deref() });
        }
    }
}

/// Whether a text can name a resource.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The names that a device has for its resources.
#[derive(Debug)]
pub(crate) struct Names<'p>(HashMap<&'p str, &'p profile::Resource>);

impl<'p> Names<'p> {
    /// Those of its profile.
    pub(crate) fn new(profile: Option<&'p Profile>) -> Self {
        let resources = profile.map_or(&[][..], |profile| &profile.resources);
        Self(resources.iter().map(|resource| (resource.name.as_str(), resource)).collect())
    }

    /// Whether its profile has a resource of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// What a reading is, and whether the profile says so with `as`, which counts more than a name.
    pub(crate) fn bind(
        &self,
        name: &str,
        value: Value<'_>,
        unit: Option<&str>,
    ) -> Option<(Bound, bool)> {
        bind(self.0.get(name).copied(), name, value, unit)
    }
}

/// What a reading is, as [`Names::bind`] says; `of` is what the profile says of its name.
pub(crate) fn bind(
    of: Option<&profile::Resource>,
    name: &str,
    value: Value<'_>,
    unit: Option<&str>,
) -> Option<(Bound, bool)> {
    let unit = unit.or_else(|| of.and_then(|resource| resource.unit.as_deref()));
    let named = of.and_then(|resource| resource.alias_of.as_deref());
    let bound = resource::bind(named.unwrap_or(name), unit, value)?;
    let instance = if named.is_some() { resource::split_instance(name).1 } else { bound.instance };
    Some((Bound { instance, ..bound }, named.is_some()))
}

/// Readings under canonical names, once all of a message were seen.
#[derive(Debug)]
pub(crate) struct Canonicals<'p> {
    names: Names<'p>,
    told: Vec<Told>,
}

/// A reading under the name that it is told by.
#[derive(Debug)]
struct Told {
    time: UnixMs,
    key: String,
    /// The name that the device has for it.
    own: String,
    text: String,
    /// Whether the profile says what it is.
    is_named: bool,
}

impl<'p> Canonicals<'p> {
    /// Of a device with this profile.
    pub(crate) fn new(profile: Option<&'p Profile>) -> Self {
        Self { names: Names::new(profile), told: Vec::new() }
    }

    /// Takes the next reading.
    pub(crate) fn take(&mut self, reading: Reading<'_>) {
        let Reading { time, name, text, unit } = reading;
        let (mut key, mut converted, mut is_named) = (name.to_owned(), None, false);
        read_value(text, |value| {
            let Some((bound, named)) = self.names.bind(name, value, unit) else { return };
            converted = convert(&bound, value, text);
            if converted.is_some() {
                (key, is_named) = (key_of(&bound), named);
            }
        });
        let (own, text) = (name.to_owned(), converted.unwrap_or_else(|| text.to_owned()));
        self.told.push(Told { time, key, own, text, is_named });
    }

    /// Visits them in their order; of several names for one resource at one time those of the name
    /// that the profile gives, or of the first.
    pub(crate) fn each(&self, mut visit: impl FnMut(UnixMs, &str, &str)) {
        let mut chosen: HashMap<(UnixMs, &str), &Told> = HashMap::new();
        for told in &self.told {
            let before = chosen.entry((told.time, &told.key)).or_insert(told);
            if told.is_named && !before.is_named {
                *before = told;
            }
        }
        for told in &self.told {
            let is_it = |chosen: &&Told| chosen.own == told.own;
            if chosen.get(&(told.time, &*told.key)).is_some_and(is_it) {
                visit(told.time, &told.key, &told.text);
            }
        }
    }
}

/// The canonical name of a reading: `on`, `on.2`.
fn key_of(bound: &Bound) -> String {
    match bound.instance {
        1 => bound.row.name.to_owned(),
        instance => format!("{}.{instance}", bound.row.name),
    }
}

/// A reading's value as its canonical resource has it.
pub(crate) fn convert(bound: &Bound, value: Value<'_>, text: &str) -> Option<String> {
    match bound.row.value {
        Type::Number | Type::Integer if bound.scale == Scale::Same => digits(value, text),
        Type::Number | Type::Integer => bound.number(value).map(format_converted),
        Type::Bool => bound.truth(value).map(|truth| truth.to_string()),
        Type::String | Type::Json => Some(text.to_owned()),
    }
}

/// The sender's digits, out of a text too.
pub(crate) fn digits(value: Value<'_>, text: &str) -> Option<String> {
    let number = value.as_number()?;
    let written = match value {
        Value::Text(inner) => inner.trim(),
        Value::Number(_) | Value::Bool(_) | Value::Other => text,
    };
    let is_json = serde_json::from_str::<serde_json::Number>(written).is_ok();
    Some(if is_json { written.to_owned() } else { format_converted(number) })
}
