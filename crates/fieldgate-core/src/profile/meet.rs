//! Values as JSON next to the resource that they are of: read, and compared.
//!
//! Pure. In: values as they stand in the log, checked when they came. Source: `resources.md` 4 ("equal").
//! Invariant: a value is equal to itself, and what is compared never grows.

use std::collections::HashMap;

use super::Resource;
use crate::{
    json,
    resource::{self, Type, Value},
};

/// Deeper values are compared as they were written; frames nest less (`limits.json_depth_max`).
const DEPTH_MAX: usize = 64;
/// How far two numbers may be apart, of their range.
const OF_RANGE: f64 = 1e-3;
/// How far two numbers without a range may be apart, of the greater one.
const OF_VALUE: f64 = 1e-6;

/// Reads a JSON value as far as a profile looks at it; numbers to the last bit.
pub fn read_value<R>(text: &str, read: impl FnOnce(Value<'_>) -> R) -> R {
    match (text, json::string(text)) {
        (_, Some(said)) => read(Value::Text(&said)),
        ("true", None) => read(Value::Bool(true)),
        ("false", None) => read(Value::Bool(false)),
        (other, None) => {
            let number = other.parse().ok().filter(|number: &f64| number.is_finite());
            // What a parser of numbers takes beside numbers, as in `inf`, is no JSON.
            let number = number.filter(|_| !other.starts_with(|c: char| c.is_ascii_alphabetic()));
            read(number.map_or(Value::Other, Value::Number))
        }
    }
}

impl Resource {
    /// The number that a reading of this resource is, in the resource's own unit.
    ///
    /// Nothing where it is no number, or came in a unit that does not fit.
    #[must_use]
    pub fn own_number(&self, value: &str, unit: Option<&str>) -> Option<f64> {
        let number = read_value(value, |value| value.as_number())?;
        let own = self.unit.as_deref();
        if unit.is_none() || unit == own {
            return Some(number);
        }
        let bound = self.canonical().and_then(|(row, _, scale)| {
            let from = resource::bind(row.name, unit, Value::Number(number))?.scale;
            Some((from, scale))
        });
        match bound {
            Some((from, to)) => from.apply(number).and_then(|number| to.undo(number)),
            // The reading alone says what it is in.
            None if own.is_none() => Some(number),
            None => None,
        }
    }

    /// The truth that a reading of this resource is.
    #[must_use]
    pub fn own_truth(&self, value: &str) -> Option<bool> {
        read_value(value, |value| value.as_bool())
    }

    /// Tells whether what was reported is what was wanted: the same value; of numbers one within half
    /// a step, else within a thousandth of the range, else within a millionth.
    #[must_use]
    pub fn is_met(&self, wanted: &str, reported: &str, unit: Option<&str>) -> bool {
        match self.value {
            Type::Number | Type::Integer => {
                let pair = self.own_number(wanted, None).zip(self.own_number(reported, unit));
                pair.is_some_and(|(wanted, reported)| self.is_near(wanted, reported))
            }
            Type::Bool => {
                let pair = self.own_truth(wanted).zip(self.own_truth(reported));
                pair.is_some_and(|(wanted, reported)| wanted == reported)
            }
            Type::String | Type::Json => is_same(wanted, reported, DEPTH_MAX),
        }
    }

    fn is_near(&self, one: f64, other: f64) -> bool {
        let whole = (self.value == Type::Integer).then_some(1.0);
        let range = self.min.zip(self.max).map(|(min, max)| max - min).filter(|range| *range > 0.0);
        let apart = match (self.step.or(whole), range) {
            (Some(step), _) => step / 2.0,
            (None, Some(range)) => range * OF_RANGE,
            (None, None) => one.abs().max(other.abs()) * OF_VALUE,
        };
        // What lies on the border by its digits does not by its bits.
        (one - other).abs() <= apart * (1.0 + 1e-9)
    }
}

/// Tells whether two JSON values say the same, whatever the order of members and the digits of
/// numbers; past `depth_left` only if they are written alike.
fn is_same(one: &str, other: &str, depth_left: usize) -> bool {
    if one == other || depth_left == 0 {
        return one == other;
    }
    if let (Some(mine), Some(theirs)) = (json::members(one), json::members(other)) {
        let table = |members: &[json::Member<'_>]| -> HashMap<String, String> {
            let pair =
                |m: &json::Member<'_>| Some((m.name.as_deref()?.to_owned(), m.value.to_owned()));
            members.iter().filter_map(pair).collect()
        };
        let (mine, theirs) = (table(&mine), table(&theirs));
        let equal = |(name, value): (&String, &String)| {
            theirs.get(name).is_some_and(|other| is_same(value, other, depth_left - 1))
        };
        return mine.len() == theirs.len() && mine.iter().all(equal);
    }
    if let (Some(mine), Some(theirs)) = (elements(one), elements(other)) {
        let equal = |(one, other): (&&str, &&str)| is_same(one, other, depth_left - 1);
        return mine.len() == theirs.len() && mine.iter().zip(&theirs).all(equal);
    }
    let number = |text: &str| {
        read_value(text, |value| match value {
            Value::Number(number) => Some(number),
            Value::Bool(_) | Value::Text(_) | Value::Other => None,
        })
    };
    match (json::string(one), json::string(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => number(one).is_some_and(|one| number(other) == Some(one)),
        _ => false,
    }
}

fn elements(text: &str) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    json::each_element(text, |element| {
        elements.push(element);
        true
    })?;
    Some(elements)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(step: Option<f64>, range: Option<(f64, f64)>) -> Resource {
        let (min, max) = (range.map(|range| range.0), range.map(|range| range.1));
        Resource { name: "n".to_owned(), step, min, max, ..Resource::default() }
    }

    fn of(value: Type) -> Resource {
        Resource { name: "x".to_owned(), value, ..Resource::default() }
    }

    #[test]
    fn numbers_are_equal_within_half_a_step_else_by_their_range_else_by_their_size() {
        let stepped = number(Some(0.5), Some((0.0, 100.0)));
        assert!(stepped.is_met("20", "20.25", None) && !stepped.is_met("20", "20.26", None));
        let ranged = number(None, Some((0.0, 10.0)));
        assert!(ranged.is_met("5", "5.01", None) && !ranged.is_met("5", "5.011", None));
        let free = number(None, None);
        assert!(free.is_met("1e6", "1000001", None) && !free.is_met("1e6", "1000002", None));
        assert!(free.is_met("0", "-0.0", None) && !free.is_met("0", "1e-9", None));
        let whole = of(Type::Integer);
        assert!(whole.is_met("7", "7.0", None) && !whole.is_met("7", "8", None));
        assert!(!free.is_met("1", "true", None) && !free.is_met("1", "null", None));
    }

    #[test]
    fn a_reading_in_another_unit_is_compared_in_the_resources_own() {
        let name = "target_temperature".to_owned();
        let heat = Resource { name, unit: Some("F".to_owned()), ..number(Some(0.5), None) };
        assert!(heat.is_met("68", "20", Some("C")) && heat.is_met("68", "293.15", Some("K")));
        assert!(!heat.is_met("68", "68", Some("C")) && !heat.is_met("68", "68", Some("lx")));
        let unnamed = number(None, None);
        assert!(unnamed.is_met("3", "3", Some("turns")));
    }

    #[test]
    fn truths_texts_and_values_are_the_same_however_they_are_written() {
        let truth = of(Type::Bool);
        assert!(truth.is_met("true", "1", None) && truth.is_met("false", "\"off\"", None));
        assert!(!truth.is_met("true", "false", None) && !truth.is_met("true", "2", None));
        let text = of(Type::String);
        assert!(text.is_met("\"é\"", "\"\\u00e9\"", None) && !text.is_met("\"1\"", "1", None));
        let any = of(Type::Json);
        assert!(any.is_met(r#"{"a":1,"b":[1.0,"x"]}"#, r#"{ "b":[1,"x"],"a":1e0}"#, None));
        for (one, other) in [
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#),
            ("[1]", "[1,1]"),
            ("null", "false"),
            ("\"1\"", "1"),
            ("{}", "[]"),
        ] {
            assert!(!any.is_met(one, other, None), "{one} {other}");
            assert!(!any.is_met(other, one, None), "{other} {one}");
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            "[a-z\"\\\\]{0,4}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[a-z]{0,2}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_values_are_the_same_where_a_parser_says_so(one in value(), other in value()) {
            let pretty = serde_json::to_string_pretty(&one).unwrap();
            prop_assert!(is_same(&one.to_string(), &pretty, DEPTH_MAX));
            let equal = is_same(&one.to_string(), &other.to_string(), DEPTH_MAX);
            prop_assert_eq!(equal, one == other);
            prop_assert_eq!(is_same(&other.to_string(), &one.to_string(), DEPTH_MAX), equal);
        }

        #[test]
        fn nearness_asks_not_who_is_first(one: f64, other: f64, step in prop::option::of(0.001..9.0)) {
            let (a, b) = (format!("{one:?}"), format!("{other:?}"));
            let resource = number(step, None);
            prop_assert_eq!(resource.is_met(&a, &b, None), resource.is_met(&b, &a, None));
            prop_assert!(!one.is_finite() || resource.is_met(&a, &a, None));
        }

        #[test]
        fn no_text_panics(one in "[{}\\[\\]\",:\\\\0-9eun.-]{0,20}", other in "[{}\\[\\]\",:tf1]{0,9}") {
            for kind in Type::ALL {
                let _ = of(kind).is_met(&one, &other, Some("C"));
            }
        }
    }
}
