//! Canonical commands: what an app wants set, in the words and units of the device that it is for.
//!
//! Pure. In: the payload of a command and the profile of one device. Out: the payload for that
//! device, or why it takes none. A payload without one of [`KEYS`] is free and is not looked at.
//! Invariant: where nothing has to change the payload is the sender's, byte for byte. Source:
//! `resources.md` 5.

use std::{borrow::Cow, collections::HashSet};

use fieldgate_core::{
    fault::{Code, Fault},
    profile::{Checked, Profile, Resource},
    resource::{Type, Value, format_converted},
};
use serde_json::value::RawValue;

use super::{
    frame::bad_value,
    json::{self, Members, Text, clip},
};

/// With one of these a payload is canonical.
const KEYS: [&str; 5] = ["set", "change", "toggle", "action", "transition"];
/// Most resources that one command sets.
const SET_LEN_MAX: usize = 100;

/// A canonical payload, before the device is known.
#[derive(Debug)]
pub struct Canonical<'a> {
    members: Members<'a>,
    set: Members<'a>,
}

/// Reads a payload; nothing if it is free.
///
/// # Errors
///
/// [`Code::BadValue`] or [`Code::TooLarge`], if it is canonical and no device could take it.
pub fn canonical(payload: &[u8]) -> Result<Option<Canonical<'_>>, Fault> {
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Ok(None);
    }
    let Ok(members) = serde_json::from_slice::<Members<'_>>(payload) else { return Ok(None) };
    let keys = members.0.iter().filter(|(name, _)| KEYS.contains(&name.as_ref()));
    let keys: Vec<&str> = keys.map(|(name, _)| name.as_ref()).collect();
    if keys.is_empty() {
        return Ok(None);
    }
    let mut seen = HashSet::new();
    if let Some(twice) = keys.into_iter().find(|key| !seen.insert(*key)) {
        return Err(bad_value(format!("{twice:?} occurs twice in the payload")));
    }
    let set = match members.member("set") {
        Some(set) => set_of(set)?,
        None => Members(Vec::new()),
    };
    Ok(Some(Canonical { members, set }))
}

fn set_of(raw: &RawValue) -> Result<Members<'_>, Fault> {
    let set: Members<'_> = serde_json::from_str(raw.get())
        .map_err(|_| bad_value("\"set\" is an object of resources and their values"))?;
    if set.0.is_empty() {
        return Err(bad_value("\"set\" names no resource"));
    }
    if set.0.len() > SET_LEN_MAX {
        let text = format!("one command sets at most {SET_LEN_MAX} resources");
        return Err(Fault::new(Code::TooLarge, text));
    }
    let mut seen = HashSet::new();
    if let Some((twice, _)) = set.0.iter().find(|(name, _)| !seen.insert(name.as_ref())) {
        return Err(set_twice(twice));
    }
    Ok(set)
}

fn set_twice(name: &str) -> Fault {
    let name = clip(name);
    bad_value(format!("{name:?} is set twice")).about(None, name)
}

impl Canonical<'_> {
    /// The payload for a device with this profile; nothing if it is the sender's as it is.
    ///
    /// # Errors
    ///
    /// [`Code::NotAllowed`] for what is not writable, [`Code::BadValue`] for a wrong type, range or
    /// option, with the resource.
    pub fn fit(&self, profile: Option<&Profile>) -> Result<Option<Vec<u8>>, Fault> {
        let Some(profile) = self.check_words(profile)? else { return Ok(None) };
        let lookup = profile.lookup();
        let mut set = Vec::new();
        let mut seen = HashSet::new();
        let mut is_other = false;
        for (name, raw) in &self.set.0 {
            let text = text_of(raw);
            let (resource, checked) = lookup.check(name, value_of(raw, text.as_ref()), false)?;
            if !seen.insert(resource.name.as_str()) {
                return Err(set_twice(&resource.name));
            }
            is_other |= *name != resource.name || checked != Checked::AsWritten;
            set.push(if set.is_empty() { b'{' } else { b',' });
            json::write_string(&mut set, &resource.name);
            set.push(b':');
            write_value(&mut set, resource, &checked, raw);
        }
        set.push(b'}');
        Ok(is_other.then(|| self.with_set(&set)))
    }

    /// Looks again whether a payload that was made for a device goes with its profile of now.
    ///
    /// # Errors
    ///
    /// As [`Self::fit`].
    pub fn still_fits(&self, profile: Option<&Profile>) -> Result<(), Fault> {
        let Some(profile) = self.check_words(profile)? else { return Ok(()) };
        let lookup = profile.lookup();
        self.set.0.iter().try_for_each(|(name, raw)| {
            let text = text_of(raw);
            lookup.check_own(name, value_of(raw, text.as_ref()))
        })
    }

    /// What is no value of a resource. Nothing is left to look at without a profile.
    fn check_words<'p>(&self, profile: Option<&'p Profile>) -> Result<Option<&'p Profile>, Fault> {
        let has = |key: &str| self.members.member(key).is_some();
        let relative = ["change", "toggle"].into_iter().find(|key| has(key));
        let Some(profile) = profile else {
            if has("set") || relative.is_some() {
                let text = "the device has no profile: nothing of it can be set";
                return Err(Fault::new(Code::NotAllowed, text));
            }
            return Ok(None);
        };
        if let Some(key) = relative {
            let text = format!("{key:?} is not served yet: say the value itself, with \"set\"");
            return Err(bad_value(text));
        }
        let action = self.members.member("action").map(text_of);
        if action.is_some_and(|word| !matches!(word.as_deref(), Some("stop" | "identify"))) {
            return Err(bad_value("\"action\" is \"stop\" or \"identify\""));
        }
        let seconds = self.members.member("transition").map(|raw| value_of(raw, None));
        if seconds.is_some_and(|value| !matches!(value, Value::Number(number) if number >= 0.0)) {
            return Err(bad_value("\"transition\" is a number of seconds, 0 or more"));
        }
        Ok(Some(profile))
    }

    fn with_set(&self, set: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, raw) in &self.members.0 {
            out.push(if out.is_empty() { b'{' } else { b',' });
            json::write_string(&mut out, name);
            out.push(b':');
            out.extend_from_slice(if name == "set" { set } else { raw.get().as_bytes() });
        }
        out.push(b'}');
        out
    }
}

fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

/// A value as a profile looks at it; numbers to the last bit.
fn value_of<'a>(raw: &RawValue, text: Option<&'a Cow<'_, str>>) -> Value<'a> {
    match (text, raw.get()) {
        (Some(text), _) => Value::Text(text),
        (None, "true") => Value::Bool(true),
        (None, "false") => Value::Bool(false),
        (None, other) => {
            let number = other.parse().ok().filter(|number: &f64| number.is_finite());
            number.map_or(Value::Other, Value::Number)
        }
    }
}

fn write_value(out: &mut Vec<u8>, resource: &Resource, checked: &Checked, raw: &RawValue) {
    let text = match checked {
        Checked::AsWritten => Cow::Borrowed(raw.get()),
        Checked::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        // Whole numbers keep all their digits; the sum has no minus in front of nothing.
        Checked::Number(number) if resource.value == Type::Integer => {
            Cow::Owned(format!("{:.0}", number + 0.0))
        }
        Checked::Number(number) => Cow::Owned(converted(*number, resource)),
    };
    out.extend_from_slice(text.as_bytes());
}

/// Nine digits, unless just those missing lead out of the range.
fn converted(number: f64, resource: &Resource) -> String {
    let short = format_converted(number);
    let is_inside = |number: f64| {
        resource.min.is_none_or(|min| number >= min) && resource.max.is_none_or(|max| number <= max)
    };
    if short.parse().is_ok_and(is_inside) { short } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use fieldgate_core::profile::Kind;
    use proptest::prelude::*;

    use super::*;

    fn lamp() -> Profile {
        super::super::decode_profile(
            r#"{"kind":"light","resources":[
                {"name":"relay","type":"bool","writable":true},
                {"name":"bri","type":"integer","writable":true,"min":0,"max":255},
                {"name":"heat","as":"target_temperature","unit":"F","type":"number","writable":true,"min":40,"max":100,"step":0.5},
                {"name":"effect","type":"string","writable":true,"options":["none","l\"p"]},
                {"name":"scene","type":"json","writable":true},
                {"name":"closed","as":"open","type":"bool","writable":true},
                {"name":"serial","type":"integer","writable":true},
                {"name":"power","type":"number"}]}"#,
        )
        .unwrap()
    }

    fn fit(payload: &str) -> Result<Option<String>, Fault> {
        let read = canonical(payload.as_bytes())?.expect("canonical");
        let fitted = read.fit(Some(&lamp()))?;
        Ok(fitted.map(|bytes| String::from_utf8(bytes).unwrap()))
    }

    #[test]
    fn what_has_none_of_the_keys_is_free() {
        for payload in ["", "1", "\"set\"", "[{\"set\":1}]", r#"{"on":true}"#, r#"{"Set":{}}"#] {
            assert!(canonical(payload.as_bytes()).unwrap().is_none(), "{payload}");
        }
    }

    #[test]
    fn a_value_arrives_under_its_own_name_and_in_its_own_unit() {
        for (payload, expected) in [
            (r#" {"set": {"bri": 128.0}} "#, None),
            (r#"{"set":{"bri":128},"transition":0.4,"later":[1]}"#, None),
            (r#"{"set":{"scene":{"a":[1e2]}},"action":"stop"}"#, None),
            (r#"{"action":"identify"}"#, None),
            (
                r#"{"later": [1e2], "set":{"on":true,"brightness":0.501960784},"transition":0.40}"#,
                Some(r#"{"later":[1e2],"set":{"relay":true,"bri":128},"transition":0.40}"#),
            ),
            (r#"{"set":{"target_temperature":20}}"#, Some(r#"{"set":{"heat":68}}"#)),
            (r#"{"set":{"heat":68.30}}"#, Some(r#"{"set":{"heat":68.5}}"#)),
            (r#"{"set":{"effect":"l\u0022p"}}"#, None),
            (r#"{"set":{"serial":12345678901.4}}"#, Some(r#"{"set":{"serial":12345678901}}"#)),
            (r#"{"set":{"serial":-0.4}}"#, Some(r#"{"set":{"serial":0}}"#)),
        ] {
            assert_eq!(fit(payload).unwrap().as_deref(), expected, "{payload}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_resource() {
        for (payload, code, resource) in [
            (r#"{"set":{"bri":256}}"#, Code::BadValue, Some("bri")),
            (r#"{"set":{"brightness":1.1}}"#, Code::BadValue, Some("bri")),
            (r#"{"\u0073et":{"b\u0072i":-0.2}}"#, Code::BadValue, Some("bri")),
            (r#"{"set":{"relay":1}}"#, Code::BadValue, Some("relay")),
            (r#"{"set":{"bri":"128"}}"#, Code::BadValue, Some("bri")),
            (r#"{"set":{"bri":null}}"#, Code::BadValue, Some("bri")),
            (r#"{"set":{"effect":"disco"}}"#, Code::BadValue, Some("effect")),
            (r#"{"set":{"power":1}}"#, Code::NotAllowed, Some("power")),
            (r#"{"set":{"nothing":1}}"#, Code::NotAllowed, Some("nothing")),
            (r#"{"set":{"bri":1,"brightness":1}}"#, Code::BadValue, Some("bri")),
            (r#"{"set":{"bri":1,"bri":2}}"#, Code::BadValue, Some("bri")),
            (r#"{"set":{"bri":1},"set":{}}"#, Code::BadValue, None),
            (r#"{"set":[1]}"#, Code::BadValue, None),
            (r#"{"set":{}}"#, Code::BadValue, None),
            (r#"{"change":{"bri":1}}"#, Code::BadValue, None),
            (r#"{"set":{"bri":1},"toggle":["on"]}"#, Code::BadValue, None),
            (r#"{"action":"explode"}"#, Code::BadValue, None),
            (r#"{"action":1}"#, Code::BadValue, None),
            (r#"{"set":{"bri":1},"transition":-1}"#, Code::BadValue, None),
            (r#"{"transition":"slow"}"#, Code::BadValue, None),
        ] {
            let fault = fit(payload).unwrap_err();
            let named = fault.reading.as_ref().map(|reading| &*reading.resource);
            assert_eq!((fault.code, named), (code, resource), "{payload}: {fault}");
        }
        let many: Vec<String> = (0..=SET_LEN_MAX).map(|n| format!("\"r{n}\":1")).collect();
        let many = format!("{{\"set\":{{{}}}}}", many.join(","));
        assert_eq!(fit(&many).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn without_a_profile_nothing_is_set_and_the_rest_is_free() {
        let fit = |payload: &str| canonical(payload.as_bytes()).unwrap().unwrap().fit(None);
        for payload in [r#"{"set":{"on":true}}"#, r#"{"toggle":["on"]}"#, r#"{"change":{"x":1}}"#] {
            assert_eq!(fit(payload).unwrap_err().code, Code::NotAllowed);
        }
        assert_eq!(fit(r#"{"action":"restart"}"#), Ok(None));
    }

    #[test]
    fn what_was_made_for_a_device_is_looked_at_as_it_is() {
        let still = |payload: &str| {
            let read = canonical(payload.as_bytes()).unwrap().unwrap();
            read.still_fits(Some(&lamp())).map_err(|fault| fault.code)
        };
        assert_eq!(still(r#"{"set":{"bri":128,"heat":68.3}}"#), Ok(()));
        assert_eq!(still(r#"{"set":{"brightness":0.5}}"#), Err(Code::NotAllowed));
        assert_eq!(still(r#"{"set":{"bri":300}}"#), Err(Code::BadValue));
        assert_eq!(still(r#"{"set":{"bri":1},"change":{"bri":1}}"#), Err(Code::BadValue));
        let read = canonical(br#"{"set":{"bri":1}}"#).unwrap().unwrap();
        assert_eq!(read.still_fits(None).unwrap_err().code, Code::NotAllowed);
    }

    proptest! {
        /// What fits once fits again, and nothing panics.
        #[test]
        fn what_was_fitted_still_fits(
            name in proptest::sample::select(vec!["on", "relay", "bri", "brightness", "heat", "open", "x\\u0022"]),
            value in "(true|false|null|-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?|\"[a-z]{0,5}\"|\\[1\\])",
            more in "(,\"transition\":[0-9])?",
        ) {
            let payload = format!("{{\"set\":{{\"{name}\":{value}}}{more}}}");
            let read = canonical(payload.as_bytes()).unwrap().unwrap();
            if let Ok(fitted) = read.fit(Some(&lamp())) {
                let fitted = fitted.unwrap_or_else(|| payload.clone().into_bytes());
                let again = canonical(&fitted).unwrap().unwrap();
                prop_assert_eq!(again.still_fits(Some(&lamp())), Ok(()));
                prop_assert_eq!(again.fit(Some(&lamp())), Ok(None));
            }
        }

        #[test]
        fn every_brightness_of_a_byte_survives(bri in 0u8..=255) {
            let wanted = format_converted(f64::from(bri) / 255.0);
            let payload = format!("{{\"set\":{{\"brightness\":{wanted}}}}}");
            prop_assert_eq!(fit(&payload), Ok(Some(format!("{{\"set\":{{\"bri\":{bri}}}}}"))));
        }
    }

    #[test]
    fn a_converted_value_stays_in_its_range() {
        let profile = super::super::decode_profile(
            r#"{"resources":[{"name":"heat","as":"target_temperature","unit":"K","type":"number","writable":true,"min":290.1234567891,"max":300.1234567891}]}"#,
        )
        .unwrap();
        for celsius in ["16.9734567891001", "26.9734567890999"] {
            let payload = format!("{{\"set\":{{\"target_temperature\":{celsius}}}}}");
            let read = canonical(payload.as_bytes()).unwrap().unwrap();
            let fitted = read.fit(Some(&profile)).unwrap().unwrap();
            let again = canonical(&fitted).unwrap().unwrap();
            assert_eq!(again.still_fits(Some(&profile)), Ok(()), "{fitted:?}");
        }
    }

    #[test]
    fn a_template_takes_what_its_kind_says() {
        let kind = Kind::Light;
        let profile = Profile { kind, resources: kind.template(), ..Profile::default() };
        let read = canonical(br#"{"set":{"on":true,"brightness":0.5}}"#).unwrap().unwrap();
        assert_eq!(read.fit(Some(&profile)), Ok(None));
    }
}
