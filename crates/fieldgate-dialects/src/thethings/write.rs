//! Values that somebody writes: `{"values":[{"key","value"[,"datetime"][,"geo"]}]}`, as messages.
//!
//! Pure. In: the JSON of a body. Out: the payloads of telemetry, each with its time. Source:
//! `wire.md` 1.2. Invariant: a value keeps the sender's bytes; a body is taken whole or not at all.

use std::collections::HashSet;

use bytes::Bytes;
use fieldgate_core::{
    fault::{Code, Fault},
    id::UnixMs,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::date;
use crate::{
    json::{self, Text, write_string},
    readings::is_name,
};

/// The name under which the place of a value is kept, beside it.
const PLACE: &str = "geo";
const NOT_FINITE: &str = "a number is not finite";

/// Bounds on a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting.
    pub json_depth_max: usize,
    /// Most values.
    pub values_max: usize,
}

/// One value, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<'a> {
    /// Which resource.
    pub key: std::borrow::Cow<'a, str>,
    /// JSON.
    pub text: &'a str,
    /// When it was so, if that was said.
    pub time: Option<UnixMs>,
    /// Where, if that was said: `{"lat","long"}`.
    place: Option<&'a str>,
}

/// A message that values make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The time that it names.
    pub time: Option<UnixMs>,
    /// Resources and values: a JSON object.
    pub payload: Bytes,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    values: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    datetime: Option<&'a RawValue>,
    #[serde(borrow)]
    geo: Option<&'a RawValue>,
}

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadValue, text.into())
}

/// Reads the values of a body. `key`: the resource that all are of, where its address names it.
///
/// # Errors
///
/// The first value that cannot be taken, by its place.
pub fn read_values<'a>(
    text: &'a str,
    key: Option<&'a str>,
    limits: &Limits,
) -> Result<Vec<Value<'a>>, Fault> {
    json::check_depth(text, limits.json_depth_max)?;
    let body: Body<'a> = json::from_object(text).map_err(|error| not_json(&error))?;
    let values = body.values.filter(|values| !values.is_empty());
    let missing = "values is missing: send {\"values\":[{\"key\":…,\"value\":…}]}";
    let values = values.ok_or_else(|| Fault::new(Code::MissingField, missing))?;
    if values.len() > limits.values_max {
        let text = format!("{} values exceed the limit of {}", values.len(), limits.values_max);
        return Err(Fault::new(Code::TooLarge, text));
    }
    let read = |(nth, value): (usize, &&'a RawValue)| {
        one(value.get(), key).map_err(|mut fault| {
            fault.message = format!("values[{nth}]: {}", fault.message).into();
            fault
        })
    };
    values.iter().enumerate().map(read).collect()
}

fn not_json(error: &serde_json::Error) -> Fault {
    json::fault_in("body", error)
}

/// Reads a body that is one value itself.
///
/// # Errors
///
/// It is no JSON, nests too deep, or holds a number that is not finite.
pub fn read_value<'a>(text: &'a str, key: &'a str, limits: &Limits) -> Result<Value<'a>, Fault> {
    json::check_depth(text, limits.json_depth_max)?;
    let value: &RawValue = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    if !json::numbers_are_finite(value.get()) {
        return Err(bad(NOT_FINITE));
    }
    Ok(Value { key: key.into(), text: value.get(), time: None, place: None })
}

fn one<'a>(text: &'a str, key: Option<&'a str>) -> Result<Value<'a>, Fault> {
    let item: Item<'a> = json::from_object(text).map_err(|error| not_json(&error))?;
    let missing = |field: &str| Fault::new(Code::MissingField, format!("{field} is missing"));
    let key = key.map(Into::into).or(item.key.map(|key| key.0)).ok_or_else(|| missing("key"))?;
    if !is_name(&key) {
        return Err(bad("a key is 1 to 128 bytes without control characters"));
    }
    let value = item.value.ok_or_else(|| missing("value"))?.get();
    let place = item.geo.map(RawValue::get).filter(|place| *place != "null");
    if !json::numbers_are_finite(value) || !place.is_none_or(json::numbers_are_finite) {
        return Err(bad(NOT_FINITE));
    }
    if place.is_some_and(|place| !place.starts_with('{')) {
        return Err(bad("geo is {\"lat\":…,\"long\":…}"));
    }
    let time = item.datetime.map(RawValue::get).filter(|time| *time != "null").map(time_of);
    Ok(Value { key, text: value, time: time.transpose()?, place })
}

fn time_of(text: &str) -> Result<UnixMs, Fault> {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let forms = "datetime is YYYYMMDDHHmmss, YYYYMMDDTHHmmss or ISO 8601 in UTC";
    date::parse(bare).ok_or_else(|| bad(forms))
}

/// Makes messages of values: one for those that follow each other with the same time and place.
#[must_use]
pub fn messages(values: &[Value<'_>]) -> Vec<Written> {
    let mut all = Vec::new();
    let mut rest = values;
    while let Some(first) = rest.first() {
        let mut keys = HashSet::new();
        let same = rest.iter().take_while(|value| {
            (value.time, value.place) == (first.time, first.place) && keys.insert(&*value.key)
        });
        let len = same.count().max(1);
        let (these, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        all.push(Written { time: first.time, payload: payload(these, first.place) });
        rest = behind;
    }
    all
}

fn payload(values: &[Value<'_>], place: Option<&str>) -> Bytes {
    let mut out = Vec::new();
    let mut member = |name: &str, text: &str| {
        out.push(if out.is_empty() { b'{' } else { b',' });
        write_string(&mut out, name);
        out.push(b':');
        out.extend_from_slice(text.as_bytes());
    };
    values.iter().for_each(|value| member(&value.key, value.text));
    if let Some(place) = place.filter(|_| values.iter().all(|value| value.key != PLACE)) {
        member(PLACE, place);
    }
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { json_depth_max: 8, values_max: 4 };

    fn written(text: &str) -> Result<Vec<(Option<u64>, String)>, Code> {
        let values = read_values(text, None, &LIMITS).map_err(|fault| fault.code)?;
        let text = |written: Written| {
            let payload = String::from_utf8(written.payload.to_vec()).unwrap();
            (written.time.map(|time| time.0), payload)
        };
        Ok(messages(&values).into_iter().map(text).collect())
    }

    fn is(text: &str, expected: &[(Option<u64>, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(time, p)| (*time, (*p).to_owned())).collect();
        assert_eq!(written(text), Ok(expected), "{text}");
    }

    #[test]
    fn a_value_keeps_its_type_and_its_digits() {
        is(r#"{"values":[{"key":"fun","value":"5000"}]}"#, &[(None, r#"{"fun":"5000"}"#)]);
        is(
            r#"{ "values": [{"value": 1.50, "key": "a\u0062"}, {"key":"x.y-z_1","value":{"a": [null]}, "more": 1}] }"#,
            &[(None, r#"{"ab":1.50,"x.y-z_1":{"a": [null]}}"#)],
        );
    }

    #[test]
    fn the_place_of_a_value_is_kept_beside_it() {
        is(
            r#"{"values":[{"key":"a","value":1,"geo":{"lat":41.4121132,"long":2.2199454}},{"key":"b","value":2}]}"#,
            &[(None, r#"{"a":1,"geo":{"lat":41.4121132,"long":2.2199454}}"#), (None, r#"{"b":2}"#)],
        );
        is(
            r#"{"values":[{"key":"geo","value":1,"geo":{"lat":1,"long":2}}]}"#,
            &[(None, r#"{"geo":1}"#)],
        );
    }

    #[test]
    fn a_batch_may_be_out_of_order_and_each_time_is_a_message() {
        let value =
            |value, hour: &str| format!("{{\"key\":\"t\",\"value\":{value},\"datetime\":{hour}}}");
        let text = format!(
            "{{\"values\":[{},{},{},{}]}}",
            value(24, "\"20150520T140000\""),
            value(22, "20150520120000"),
            value(25, "\"2015-05-20T15:00:00.000Z\""),
            value(23, "\"20150520130000\""),
        );
        let at = |hours: u64| Some(1_432_123_200_000 + hours * 3_600_000);
        is(
            &text,
            &[
                (at(2), r#"{"t":24}"#),
                (at(0), r#"{"t":22}"#),
                (at(3), r#"{"t":25}"#),
                (at(1), r#"{"t":23}"#),
            ],
        );
        is(
            r#"{"values":[{"key":"a","value":1},{"key":"b","value":2},{"key":"a","value":3}]}"#,
            &[(None, r#"{"a":1,"b":2}"#), (None, r#"{"a":3}"#)],
        );
    }

    #[test]
    fn where_the_address_names_the_resource_values_need_none() {
        let values = read_values(r#"{"values":[{"value":"ON"}]}"#, Some("led"), &LIMITS).unwrap();
        assert_eq!((&*values[0].key, values[0].text), ("led", "\"ON\""));
    }

    #[test]
    fn a_body_that_is_a_value_is_one_value_and_nothing_beside_it() {
        let read = |text: &str| {
            let value = read_value(text, "d", &LIMITS).map_err(|fault| fault.code)?;
            Ok(messages(&[value]).into_iter().map(|one| one.payload).collect::<Vec<_>>())
        };
        assert_eq!(read(r#" {"a": 1.50} "#), Ok(vec![r#"{"d":{"a": 1.50}}"#.into()]));
        for text in ["", "nul", r#"1,"datetime":"20150520120000""#, r#"1},{"value":2"#, "1 2"] {
            assert_eq!(read(text), Err(Code::BadJson), "{text}");
        }
        assert_eq!(read("[1e999]"), Err(Code::BadValue));
        assert_eq!(read("[[[[[[[[[1]]]]]]]]]"), Err(Code::BadJson), "too deep");
    }

    #[test]
    fn what_cannot_be_taken_is_named_by_its_place() {
        for (text, code) in [
            ("", Code::BadJson),
            ("[]", Code::BadValue),
            ("{}", Code::MissingField),
            (r#"{"values":[]}"#, Code::MissingField),
            (r#"{"values":7}"#, Code::BadValue),
            (r#"{"values":[7]}"#, Code::BadValue),
            (r#"{"values":[{"value":1}]}"#, Code::MissingField),
            (r#"{"values":[{"key":"a"}]}"#, Code::MissingField),
            (r#"{"values":[{"key":"","value":1}]}"#, Code::BadValue),
            (r#"{"values":[{"key":"a","value":1e999}]}"#, Code::BadValue),
            (r#"{"values":[{"key":"a","value":1,"datetime":"now"}]}"#, Code::BadValue),
            (r#"{"values":[{"key":"a","value":1,"geo":7}]}"#, Code::BadValue),
            (r#"{"values":[{"key":"a","value":[[[[[[[1]]]]]]]}]}"#, Code::BadJson),
        ] {
            assert_eq!(written(text), Err(code), "{text}");
        }
        let five = [r#"{"key":"a","value":1}"#; 5].join(",");
        assert_eq!(written(&format!("{{\"values\":[{five}]}}")), Err(Code::TooLarge));
        let second = r#"{"values":[{"key":"a","value":1},{"key":"b"}]}"#;
        let fault = read_values(second, None, &LIMITS).unwrap_err();
        assert_eq!(fault.message, "values[1]: value is missing");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_every_payload_is_an_object(
            text in r#"\{"values":\[(\{("(key|value|datetime|geo)":("a"|1|null|\{"lat":1\}|20150520120000),?){0,4}\},?){0,3}\]\}"#,
        ) {
            for (_, payload) in written(&text).unwrap_or_default() {
                let value: serde_json::Value = serde_json::from_str(&payload).unwrap();
                prop_assert!(value.is_object());
            }
        }
    }
}
