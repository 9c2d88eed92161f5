//! What a stored payload says of resources, one by one.
//!
//! Pure. In: the JSON of a message as the log holds it: an object of resources, or
//! `{"values":[{"tag","value","unit","quality"}],"quality"}`. Out: readings in their order. Absent:
//! refusals, which were made when the message came. What names no resource is left out.

use std::borrow::Cow;

use super::{Origin, Quality, Resource, patch};
use crate::json::{self, Member};

/// Longest name of a resource, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest unit, in bytes.
const UNIT_BYTES_MAX: usize = 32;

/// One resource, as a message tells it.
#[derive(Debug)]
pub struct Reading<'a> {
    /// Its name, as the device has it.
    pub name: Cow<'a, str>,
    /// What is said of it.
    pub said: Said<'a>,
    /// The unit, where the reading has one.
    pub unit: Option<Cow<'a, str>>,
    /// How far it can be trusted.
    pub quality: Quality,
}

/// What is said of it.
#[derive(Debug)]
pub enum Said<'a> {
    /// It is this.
    Value(&'a str),
    /// It is what was there with this merged into it.
    Patch(&'a str),
    /// Nothing that could be believed.
    Nothing,
    /// It is no more.
    Removed,
}

impl Reading<'_> {
    /// What is known of its resource behind it, where it replaces `old`.
    pub(super) fn after(&self, old: Option<&Resource>, origin: Origin) -> Resource {
        let own_unit = self.unit.as_deref().map(Into::into);
        let old_unit = || old.and_then(|old| old.unit.clone());
        let (value, unit) = match self.said {
            Said::Value(value) => (Some(value.into()), own_unit),
            Said::Patch(patch) => {
                let target = old.and_then(|old| old.value.as_deref());
                (Some(patch::merge(target, patch).into()), old_unit())
            }
            Said::Nothing => (old.and_then(|old| old.value.clone()), own_unit.or_else(old_unit)),
            Said::Removed => (None, None),
        };
        Resource { value, unit, quality: self.quality, origin }
    }
}

/// Telemetry: each value is whole, and null is none.
pub(super) fn telemetry(text: &str) -> Vec<Reading<'_>> {
    let (mut readings, mut may_be_samples) = (Vec::new(), false);
    let whole = json::each_member(text, |member| {
        may_be_samples |= member.name.as_deref() == Some("values");
        if member.value != "null" {
            readings.extend(reading(member.name, Said::Value(member.value)));
        }
    });
    if whole.is_none() {
        return Vec::new();
    }
    let members = may_be_samples.then(|| json::members(text)).flatten();
    members.and_then(|members| samples(&members)).unwrap_or(readings)
}

/// A state frame's `reported`: objects are merged, and null removes.
pub(super) fn state(text: &str) -> Vec<Reading<'_>> {
    let members = json::members(text).unwrap_or_default();
    let said = |value| if value == "null" { Said::Removed } else { Said::Patch(value) };
    members.into_iter().filter_map(|member| reading(member.name, said(member.value))).collect()
}

fn reading<'a>(name: Option<Cow<'a, str>>, said: Said<'a>) -> Option<Reading<'a>> {
    let name = name.filter(|name| is_bounded(name, NAME_BYTES_MAX) && !name.is_empty())?;
    Some(Reading { name, said, unit: None, quality: Quality::Good })
}

fn is_bounded(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(char::is_control)
}

/// The elements of `values`, if it is a list of samples.
fn samples<'a>(members: &[Member<'a>]) -> Option<Vec<Reading<'a>>> {
    let value_of = |wanted| {
        let member = members.iter().find(|member| member.name.as_deref() == Some(wanted));
        member.map(|member| member.value)
    };
    let values = value_of("values")?;
    let of_all = value_of("quality").and_then(quality);
    let mut readings = Vec::new();
    json::each_element(values, |element| {
        let sample = sample(element, of_all);
        let is_sample = sample.is_some();
        readings.extend(sample.flatten());
        is_sample
    })?;
    Some(readings)
}

fn quality(text: &str) -> Option<Quality> {
    Quality::of_word(&json::string(text)?)
}

/// What one element says, which may be nothing; none at all if it is no sample.
fn sample(element: &str, of_all: Option<Quality>) -> Option<Option<Reading<'_>>> {
    let (mut tag, mut value, mut unit, mut own) = (None, None, None, None);
    json::each_member(element, |member| {
        let field = match member.name.as_deref() {
            Some("tag") => &mut tag,
            Some("value") => &mut value,
            Some("unit") => &mut unit,
            Some("quality") => &mut own,
            Some(_) | None => return,
        };
        field.get_or_insert(member.value);
    })?;
    let tag = json::string(tag?)?;
    let quality = own.and_then(quality).or(of_all).unwrap_or_default();
    let said = match (quality, value.filter(|value| *value != "null")) {
        (Quality::Bad, _) => Said::Nothing,
        (Quality::Good | Quality::Uncertain, Some(value)) => Said::Value(value),
        (Quality::Good | Quality::Uncertain, None) => return Some(None),
    };
    let unit = unit.and_then(json::string);
    let unit = unit.filter(|unit| !unit.is_empty() && is_bounded(unit, UNIT_BYTES_MAX));
    Some(reading(Some(tag), said).map(|reading| Reading { unit, quality, ..reading }))
}
