//! A profile as JSON: what devices and administrators write, and what they are shown.
//!
//! Pure. Source: `resources.md` 3. Fields that are not known are ignored, as in frames. Invariant:
//! what is read is checked; what is shown reads back as the same profile.

use fieldgate_core::{
    fault::{Code, Fault},
    profile::{Kind, Profile, RESOURCES_MAX, Resource},
    resource::Type,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

use super::{
    frame::bad_value,
    json::{self, clip},
};

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Written {
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    manufacturer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    model: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    swversion: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uniqueid: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    assumed: bool,
    #[serde(skip_deserializing)]
    resources: Vec<WrittenResource>,
}

/// The same object, its resources as they were written.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow, default)]
    resources: Option<Vec<&'a RawValue>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct WrittenResource {
    name: String,
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    alias_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(rename = "type")]
    value: String,
    writable: bool,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "number",
        deserialize_with = "exact"
    )]
    min: Option<f64>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "number",
        deserialize_with = "exact"
    )]
    max: Option<f64>,
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "number",
        deserialize_with = "exact"
    )]
    step: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// To the last bit, which the parser of numbers here does not promise.
fn exact<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let raw = Option::<&'de RawValue>::deserialize(from)?;
    let number = |raw: &RawValue| {
        let number = raw.get().parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| D::Error::custom("min, max and step are finite numbers"))
    };
    raw.map(number).transpose()
}

/// Whole numbers are written as such.
#[expect(clippy::ref_option, reason = "serde asks with a reference")]
fn number<S: Serializer>(number: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    let number = number.unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "whole and small enough")]
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return to.serialize_i64(number as i64);
    }
    to.serialize_f64(number)
}

/// The kinds, for who wrote another.
///
/// # Errors
///
/// [`Code::BadValue`], with the kinds named.
pub fn parse_kind(word: &str) -> Result<Kind, Fault> {
    Kind::parse(word).ok_or_else(|| {
        let kinds = Kind::ALL.map(Kind::as_str).join(", ");
        bad_value(format!("a device's kind is one of {kinds}, not {:?}", clip(word)))
    })
}

/// Reads a profile, and checks it.
///
/// # Errors
///
/// [`Code::BadValue`], [`Code::MissingField`] or [`Code::TooLarge`], with the resource that it is
/// about.
pub fn decode_profile(text: &str) -> Result<Profile, Fault> {
    let malformed = |error: serde_json::Error| {
        let text = error.to_string();
        bad_value(format!("the profile is malformed: {}", clip(&text)))
    };
    let written: Written = json::from_object(text).map_err(malformed)?;
    let parts: Parts<'_> = json::from_object(text).map_err(malformed)?;
    let resources = parts.resources.unwrap_or_default();
    if resources.len() > RESOURCES_MAX {
        let text = format!("a profile has at most {RESOURCES_MAX} resources");
        return Err(Fault::new(Code::TooLarge, text));
    }
    let kind = if written.kind.is_empty() { Kind::Sensor } else { parse_kind(&written.kind)? };
    let resources = resources.iter().enumerate();
    let resources = resources.map(|(at, raw)| resource(at, raw.get()));
    let profile = Profile {
        kind,
        name: written.name,
        manufacturer: written.manufacturer,
        model: written.model,
        version: written.swversion,
        unique_id: written.uniqueid,
        is_assumed: written.assumed,
        resources: resources.collect::<Result<_, _>>()?,
    };
    profile.validate()?;
    Ok(profile)
}

fn resource(at: usize, text: &str) -> Result<Resource, Fault> {
    let written: WrittenResource = json::from_object(text).map_err(|error| {
        let text = format!("a resource of the profile is malformed: {error}");
        bad_value(clip(&text)).about(Some(at), "")
    })?;
    let value = if written.value.is_empty() {
        let text = "a resource of a profile needs the field \"type\"";
        Err(Fault::new(Code::MissingField, text))
    } else {
        Type::parse(&written.value).ok_or_else(|| {
            let types = Type::ALL.map(Type::as_str).join(", ");
            bad_value(format!("the type of a resource is one of {types}"))
        })
    };
    let value = value.map_err(|fault| fault.about(Some(at), clip(&written.name)))?;
    let WrittenResource { name, alias_of, unit, writable, min, max, step, options, .. } = written;
    Ok(Resource { name, alias_of, unit, value, writable, min, max, step, options })
}

/// Writes a profile.
#[must_use]
pub fn encode_profile(profile: &Profile) -> String {
    let resource = |resource: &Resource| WrittenResource {
        name: resource.name.clone(),
        alias_of: resource.alias_of.clone(),
        unit: resource.unit.clone(),
        value: resource.value.as_str().to_owned(),
        writable: resource.writable,
        min: resource.min,
        max: resource.max,
        step: resource.step,
        options: resource.options.clone(),
    };
    let written = Written {
        kind: profile.kind.as_str().to_owned(),
        name: profile.name.clone(),
        manufacturer: profile.manufacturer.clone(),
        model: profile.model.clone(),
        swversion: profile.version.clone(),
        uniqueid: profile.unique_id.clone(),
        assumed: profile.is_assumed,
        resources: profile.resources.iter().map(resource).collect(),
    };
    // Plain data with finite numbers has no way to fail; an empty text would read as no profile.
    serde_json::to_string(&written).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_profile_is_read_as_it_was_meant_and_shown_as_it_was_written() {
        let text = r#"{"kind":"light","name":"Hall","swversion":"1.2","resources":[{"name":"bri","type":"integer","writable":true,"min":0,"max":255},{"name":"mode","as":"alarm","unit":"","type":"bool","writable":false},{"name":"effect","type":"string","writable":true,"options":["none","loop"]}]}"#;
        let profile = decode_profile(text).unwrap();
        assert_eq!(profile.kind, Kind::Light);
        assert_eq!(profile.version, "1.2");
        assert_eq!(profile.resources[0].max, Some(255.0));
        assert_eq!(encode_profile(&profile), text);
    }

    #[test]
    fn what_is_not_said_is_a_sensor_without_resources() {
        assert_eq!(decode_profile(r#"{"later":1}"#), Ok(Profile::default()));
    }

    #[test]
    fn a_refusal_says_what_and_where() {
        for (text, code, named) in [
            ("[]", Code::BadValue, ""),
            (r#"{"kind":"toaster"}"#, Code::BadValue, "thermostat"),
            (r#"{"kind":"light","kind":"light"}"#, Code::BadValue, "duplicate"),
            (r#"{"resources":[{"name":"a"}]}"#, Code::MissingField, "type"),
            (r#"{"resources":[{"name":"a","type":"float"}]}"#, Code::BadValue, "integer"),
            (r#"{"resources":[["a","number"]]}"#, Code::BadValue, "object"),
            (r#"{"resources":[{"name":"a","type":"bool","min":1}]}"#, Code::BadValue, "min"),
            (
                r#"{"resources":[{"name":"a","type":"number","min":1e400}]}"#,
                Code::BadValue,
                "finite",
            ),
        ] {
            let fault = decode_profile(text).unwrap_err();
            assert_eq!(fault.code, code, "{text}: {fault}");
            assert!(fault.message.contains(named), "{text}: {fault}");
        }
        let many = vec![r#"{"name":"a","type":"bool"}"#; RESOURCES_MAX + 1].join(",");
        let many = format!("{{\"resources\":[{many}]}}");
        assert_eq!(decode_profile(&many).unwrap_err().code, Code::TooLarge);
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(
            name in "\\PC{0,20}", numbers in proptest::option::of((-1e18..1e18_f64, 0.0..1e18_f64)),
            kind in proptest::sample::select(Kind::ALL.to_vec()), writable: bool,
        ) {
            let (min, max) = numbers.map_or((None, None), |(min, span)| (Some(min), Some(min + span)));
            let resource = Resource { name: format!("r{name}"), writable, min, max, ..Resource::default() };
            let profile = Profile { kind, name, resources: vec![resource], ..Profile::default() };
            prop_assert_eq!(decode_profile(&encode_profile(&profile)), Ok(profile));
        }
    }
}
