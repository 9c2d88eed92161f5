//! Telemetry and state: the readings of one frame checked one by one, the sender's bytes kept.
//!
//! Pure. In: `data`, `values` or `reported` as written. Out: the payload to route, and what of it was refused.
//! Invariant: where nothing is refused the payload is the sender's, byte for byte; where something
//! is, what stands keeps its bytes. Source: `resources.md` 1.

use bytes::Bytes;
use fieldgate_core::fault::{Code, Fault};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Limits,
    frame::{Frame, bad_value, missing},
    json::{self, Text},
};
use crate::readings::is_name;

/// Longest unit, in bytes.
const UNIT_BYTES_MAX: usize = 32;

/// What stands of a frame, and what does not.
#[derive(Debug)]
pub(super) struct Readings {
    /// The `data` object, or `{values,quality}`.
    pub(super) payload: Bytes,
    /// The readings that were left out.
    pub(super) refused: Vec<Fault>,
}

/// Checks the readings of a status or an industrial sample.
///
/// # Errors
///
/// The frame as a whole is malformed or too large, or no reading of it stands.
pub(super) fn readings(frame: &Frame<'_>, limits: &Limits) -> Result<Readings, Fault> {
    let data = frame.data.or(frame.payload);
    match (frame.values, data) {
        (Some(_), Some(_)) => Err(bad_value("a frame holds data or values, not both")),
        (Some(values), None) => samples(values, quality(frame.quality.as_deref())?, limits),
        (None, Some(data)) => members("data", data, limits),
        (None, None) => Err(missing("data", "status")),
    }
}

/// Checks what a state frame reports: resources that changed, null for one that is no more.
///
/// # Errors
///
/// As [`readings`].
pub(super) fn reported(frame: &Frame<'_>, limits: &Limits) -> Result<Readings, Fault> {
    let reported = frame.reported.or(frame.payload).ok_or_else(|| missing("reported", "state"))?;
    members("reported", reported, limits)
}

fn quality(text: Option<&str>) -> Result<Option<&str>, Fault> {
    match text {
        None | Some("good" | "uncertain" | "bad") => Ok(text),
        Some(_) => Err(bad_value("quality is one of good, uncertain and bad")),
    }
}

fn check_count(count: usize, limits: &Limits) -> Result<(), Fault> {
    if count <= limits.resources_max {
        return Ok(());
    }
    let text = format!("{count} readings exceed the limit of {}", limits.resources_max);
    Err(Fault::new(Code::TooLarge, text))
}

fn members(field: &str, data: &RawValue, limits: &Limits) -> Result<Readings, Fault> {
    // That it is JSON was checked with its frame, but for names that are no text.
    let members = json::named_members(data.get())
        .ok_or_else(|| bad_value(format!("the field {field:?} is an object of resources")))?;
    check_count(members.len(), limits)?;
    if let Some(twice) = json::repeated(members.iter().map(|(name, _)| name.as_ref())) {
        return Err(bad_value(format!("the resource {:?} occurs twice", json::clip(twice))));
    }
    if members.iter().all(|(name, value)| check_reading(name, value).is_ok()) {
        return Ok(Readings {
            payload: Bytes::copy_from_slice(data.get().as_bytes()),
            refused: Vec::new(),
        });
    }
    let faults = members.iter().enumerate().map(|(index, (name, value))| {
        let fault = check_reading(name, value).err()?;
        Some(fault.about(Some(index), json::clip(name)))
    });
    let faults: Vec<Option<Fault>> = faults.collect();
    let mut payload = Vec::with_capacity(data.get().len());
    for ((name, value), _) in members.iter().zip(&faults).filter(|(_, fault)| fault.is_none()) {
        payload.push(if payload.is_empty() { b'{' } else { b',' });
        json::write_string(&mut payload, name);
        payload.push(b':');
        payload.extend_from_slice(value.as_bytes());
    }
    rest(payload, b"}", faults)
}

/// Ends a payload of what stands; nothing standing is a refusal of the whole.
fn rest(mut payload: Vec<u8>, end: &[u8], faults: Vec<Option<Fault>>) -> Result<Readings, Fault> {
    let none_left = faults.iter().all(Option::is_some);
    let mut refused: Vec<Fault> = faults.into_iter().flatten().collect();
    if none_left && !refused.is_empty() {
        return Err(refused.swap_remove(0));
    }
    payload.extend_from_slice(end);
    Ok(Readings { payload: payload.into(), refused })
}

/// Checks one reading: the name's bounds, and that every number in it is finite.
fn check_reading(name: &str, value: &str) -> Result<(), Fault> {
    check_name(name)?;
    if !json::numbers_are_finite(value) {
        return Err(bad_value(format!("the value of {name:?} is not a finite number")));
    }
    Ok(())
}

/// Checks the bounds of a resource's name.
pub(super) fn check_name(name: &str) -> Result<(), Fault> {
    if !is_name(name) {
        return Err(bad_value("a resource's name is 1 to 128 bytes without control characters"));
    }
    Ok(())
}

/// Checks the bounds of a unit.
pub(super) fn check_unit(unit: &str) -> Result<(), Fault> {
    if unit.len() > UNIT_BYTES_MAX || unit.chars().any(char::is_control) {
        return Err(bad_value("a unit is at most 32 bytes without control characters"));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Sample<'a> {
    #[serde(borrow)]
    tag: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    unit: Option<Text<'a>>,
    #[serde(borrow)]
    quality: Option<Text<'a>>,
}

fn samples(values: &RawValue, quality: Option<&str>, limits: &Limits) -> Result<Readings, Fault> {
    let elements: Vec<&RawValue> = serde_json::from_str(values.get())
        .map_err(|_| bad_value("the field \"values\" is a list of {tag,value,unit}"))?;
    check_count(elements.len(), limits)?;
    let end = match quality {
        None => "}".to_owned(),
        Some(quality) => format!(",\"quality\":\"{quality}\"}}"),
    };
    let mut payload = Vec::with_capacity(values.get().len() + 32);
    payload.extend_from_slice(b"{\"values\":");
    if elements.iter().all(|element| check_sample(0, element.get()).is_ok()) {
        payload.extend_from_slice(values.get().as_bytes());
        payload.extend_from_slice(end.as_bytes());
        return Ok(Readings { payload: payload.into(), refused: Vec::new() });
    }
    let faults = elements.iter().enumerate();
    let faults: Vec<Option<Fault>> =
        faults.map(|(index, element)| check_sample(index, element.get()).err()).collect();
    payload.push(b'[');
    let standing = elements.iter().zip(&faults).filter(|(_, fault)| fault.is_none());
    for (nth, (element, _)) in standing.enumerate() {
        if nth > 0 {
            payload.push(b',');
        }
        payload.extend_from_slice(element.get().as_bytes());
    }
    payload.push(b']');
    rest(payload, end.as_bytes(), faults)
}

fn check_sample(index: usize, element: &str) -> Result<(), Fault> {
    let sample: Sample<'_> = json::from_object(element).map_err(|error| {
        let text = format!("an element of values is not {{tag,value,unit}}: {error}");
        bad_value(json::clip(&text)).about(Some(index), "")
    })?;
    let Some(tag) = sample.tag else {
        return Err(missing("tag", "values").about(Some(index), ""));
    };
    let check = || {
        let value = sample.value.ok_or_else(|| missing("value", "values"))?;
        check_reading(&tag, value.get())?;
        check_unit(sample.unit.as_deref().unwrap_or_default())?;
        quality(sample.quality.as_deref())
    };
    check().map(drop).map_err(|fault| fault.about(Some(index), json::clip(&tag)))
}
