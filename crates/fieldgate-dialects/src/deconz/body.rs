//! Bodies of apps: an object, its parameters one by one.
//!
//! Pure. In: bytes that the caller bounds. Out: names and values, the last of what is said twice, in
//! the order of the body. Source: `wire.md` 2.3. Invariant: a value reads to the last bit.

use fieldgate_core::{json, profile::read_value, resource::Value};
use serde::de::IgnoredAny;

use super::Error;
use crate::json::{check_depth, numbers_are_finite};

/// How deep a body may nest: nothing that apps send nests deeper than a list in an object in one.
const DEPTH_MAX: usize = 8;
/// Most parameters of a body.
const PARAMETERS_MAX: usize = 100;

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter<'a> {
    pub(super) name: String,
    /// JSON, as it was written.
    pub(super) text: &'a str,
}

impl Parameter<'_> {
    pub(super) fn truth(&self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// A whole number in a range.
    pub(super) fn whole(&self, min: f64, max: f64) -> Option<f64> {
        self.number(min, max).filter(|number| number.fract() == 0.0)
    }

    /// A number in a range; a text is none.
    pub(super) fn number(&self, min: f64, max: f64) -> Option<f64> {
        let number = read_value(self.text, |value| match value {
            Value::Number(number) => Some(number),
            Value::Bool(_) | Value::Text(_) | Value::Other => None,
        });
        number.filter(|number| (min..=max).contains(number))
    }

    /// A text of so many characters, none of which is a control character.
    pub(super) fn word(&self, len_max: usize) -> Option<String> {
        let text = json::string(self.text)?;
        let is_one = (1..=len_max).contains(&text.chars().count());
        (is_one && !text.chars().any(char::is_control)).then(|| text.into_owned())
    }

    /// As it was written.
    pub(super) fn value(&self) -> Option<serde_json::Value> {
        serde_json::from_str(self.text).ok()
    }

    /// The elements of a list, if there are not more than so many.
    pub(super) fn list(&self, len_max: usize) -> Option<Vec<&str>> {
        let mut elements = Vec::new();
        json::each_element(self.text, |element| {
            elements.push(element);
            elements.len() <= len_max
        })?;
        Some(elements)
    }

    /// Why it is not taken: its value.
    pub(super) fn refused(&self, path: &str) -> Error {
        let value = json::string(self.text);
        let value = value.map_or_else(|| self.text.to_owned(), std::borrow::Cow::into_owned);
        Error::InvalidValue { path: path.to_owned(), name: self.name.clone(), value }
    }

    /// Why it is not taken: there is none of this name.
    pub(super) fn unknown(&self, path: &str) -> Error {
        Error::UnknownParameter { path: path.to_owned(), name: self.name.clone() }
    }

    /// Why it is not taken: it is only to be read.
    pub(super) fn read_only(&self, path: &str) -> Error {
        Error::ReadOnly { path: path.to_owned(), name: self.name.clone() }
    }
}

/// Reads a body that has to say something.
pub(super) fn parameters<'a>(path: &str, body: &'a [u8]) -> Result<Vec<Parameter<'a>>, Error> {
    let parameters = object(path, body)?;
    if parameters.is_empty() {
        return Err(Error::MissingParameters(path.to_owned()));
    }
    Ok(parameters)
}

/// Reads a body that may say nothing.
pub(super) fn object<'a>(path: &str, body: &'a [u8]) -> Result<Vec<Parameter<'a>>, Error> {
    let invalid = || Error::InvalidJson(path.to_owned());
    let text = std::str::from_utf8(body).map_err(|_| invalid())?;
    let is_json = check_depth(text, DEPTH_MAX).is_ok()
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
        && numbers_are_finite(text.trim_ascii_start());
    if !is_json {
        return Err(invalid());
    }
    let members = json::members(text).ok_or_else(invalid)?;
    if members.len() > PARAMETERS_MAX {
        return Err(Error::TooMany(path.to_owned()));
    }
    let mut parameters: Vec<Parameter<'_>> = Vec::with_capacity(members.len());
    for member in members {
        let name = member.name.ok_or_else(invalid)?.into_owned();
        let parameter = Parameter { name, text: member.value };
        match parameters.iter_mut().find(|known| known.name == parameter.name) {
            Some(known) => *known = parameter,
            None => parameters.push(parameter),
        }
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_of_what_is_said_twice_counts_in_the_place_of_the_first() {
        let parameters = parameters("/a", br#" {"on":true,"b\u0072i":1,"on":false} "#).unwrap();
        let pairs: Vec<_> = parameters.iter().map(|p| (p.name.as_str(), p.text)).collect();
        assert_eq!(pairs, [("on", "false"), ("bri", "1")]);
    }

    #[test]
    fn what_is_no_object_is_no_body() {
        let invalid = Err(Error::InvalidJson("/a".into()));
        for body in [
            "",
            "x",
            "[]",
            "1",
            "{\"a\":}",
            "{\"a\":1}x",
            "{\"a\":inf}",
            "{\"a\":1e999}",
            "{\"a\":01}",
            "{\"\\ud800\":1}",
            "{\"a\":[[[[[[[[1]]]]]]]]}",
        ] {
            assert_eq!(object("/a", body.as_bytes()), invalid, "{body}");
        }
        assert_eq!(object("/a", &[0xff]), invalid);
        assert_eq!(object("/a", b"{}"), Ok(Vec::new()));
        assert_eq!(parameters("/a", b"{}"), Err(Error::MissingParameters("/a".into())));
        let many: Vec<String> = (0..=PARAMETERS_MAX).map(|nth| format!("\"{nth}\":1")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(object("/a", many.as_bytes()), Err(Error::TooMany("/a".into())));
    }

    #[test]
    fn values_are_of_their_type_and_in_their_range() {
        let of = |text| Parameter { name: "x".into(), text };
        assert_eq!(of("255").whole(0.0, 255.0), Some(255.0));
        assert_eq!(of("1.0").whole(0.0, 255.0), Some(1.0));
        for text in ["256", "-1", "1.5", "\"1\"", "true", "null", "[1]"] {
            assert_eq!(of(text).whole(0.0, 255.0), None, "{text}");
        }
        assert_eq!(of("\"Hall\"").word(4).as_deref(), Some("Hall"));
        for text in ["\"Halls\"", "\"\"", "7", "\"a\\u0000\""] {
            assert_eq!(of(text).word(4), None, "{text}");
        }
        assert_eq!(of("[1,2]").list(2), Some(vec!["1", "2"]));
        assert_eq!((of("[1,2]").list(1), of("7").list(1)), (None, None));
        let Error::InvalidValue { value, .. } = of("\"a\"").refused("/a") else { panic!() };
        assert_eq!(value, "a");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body: Vec<u8>) {
            let _ = object("/a", &body);
        }
    }
}
