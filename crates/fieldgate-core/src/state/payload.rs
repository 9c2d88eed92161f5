//! What a stored payload says of resources, one by one.
//!
//! Pure. In: the JSON of a message as the log holds it: an object of resources, or
//! `{"values":[{"tag","value","unit","quality"}],"quality"}`. Out: readings in their order. Absent:
//! refusals, which were made when the message came. What names no resource is left out.

use std::borrow::Cow;

use super::Quality;
use crate::json::{self, Member};

/// Longest name of a resource, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest unit, in bytes.
const UNIT_BYTES_MAX: usize = 32;

/// One resource, as a message tells it.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) said: Said<'a>,
    pub(super) unit: Option<Cow<'a, str>>,
    pub(super) quality: Quality,
}

/// What is said of it.
#[derive(Debug)]
pub(super) enum Said<'a> {
    /// It is this.
    Value(&'a str),
    /// It is what was there with this merged into it.
    Patch(&'a str),
    /// Nothing that could be believed.
    Nothing,
    /// It is no more.
    Removed,
}

/// Telemetry: each value is whole, and null is none.
pub(super) fn telemetry(text: &str) -> Vec<Reading<'_>> {
    let members = json::members(text).unwrap_or_default();
    if let Some(samples) = samples(&members) {
        return samples;
    }
    let values = members.into_iter().filter(|member| member.value != "null");
    values.filter_map(|member| reading(member.name, Said::Value(member.value))).collect()
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
    let values = json::elements(value_of(members, "values")?)?;
    let of_all = word_of(members, "quality");
    let mut readings = Vec::with_capacity(values.len());
    for value in values {
        let sample = json::members(value)?;
        let tag = text_of(&sample, "tag")?;
        let quality = word_of(&sample, "quality").or(of_all).unwrap_or_default();
        let value = value_of(&sample, "value").filter(|value| *value != "null");
        let said = match (quality, value) {
            (Quality::Bad, _) => Said::Nothing,
            (Quality::Good | Quality::Uncertain, Some(value)) => Said::Value(value),
            (Quality::Good | Quality::Uncertain, None) => continue,
        };
        let unit = text_of(&sample, "unit");
        let unit = unit.filter(|unit| !unit.is_empty() && is_bounded(unit, UNIT_BYTES_MAX));
        let reading = reading(Some(tag), said);
        readings.extend(reading.map(|reading| Reading { unit, quality, ..reading }));
    }
    Some(readings)
}

fn value_of<'a>(members: &[Member<'a>], wanted: &str) -> Option<&'a str> {
    members.iter().find(|member| member.name.as_deref() == Some(wanted)).map(|member| member.value)
}

fn text_of<'a>(members: &[Member<'a>], wanted: &str) -> Option<Cow<'a, str>> {
    json::string(value_of(members, wanted)?)
}

fn word_of(members: &[Member<'_>], wanted: &str) -> Option<Quality> {
    Quality::of_word(&text_of(members, wanted)?)
}
