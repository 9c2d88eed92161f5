//! Canonical commands: what an app wants set, in the words and units of the device that it is for.
//!
//! Pure. In: the payload of a command, the profile of one device and what it reported. Out: the
//! payload for that device, or why it takes none. A payload without one of [`KEYS`] is free and is not
//! looked at. Invariant: where nothing has to change the payload is the sender's, byte for byte; what
//! goes out is never relative, so a repeat of it is harmless. Source: `resources.md` 5.

mod desired;
mod relative;

pub use desired::fit_desired;

use std::{borrow::Cow, collections::HashSet};

use fieldgate_core::{
    fault::{Code, Fault},
    profile::{Checked, Lookup, Profile, Resource},
    resource::{Type, Value, format_converted},
    state::Reported,
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
    change: Members<'a>,
    toggle: Vec<Text<'a>>,
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
    let set = values_of("set", members.member("set"))?;
    let change = values_of("change", members.member("change"))?;
    let toggle = members.member("toggle").map(relative::names_of).transpose()?.unwrap_or_default();
    let count = set.0.len() + change.0.len() + toggle.len();
    if count > SET_LEN_MAX {
        let text = format!("one command sets at most {SET_LEN_MAX} resources");
        return Err(Fault::new(Code::TooLarge, text));
    }
    let names = set.0.iter().chain(&change.0).map(|(name, _)| name.as_ref());
    let mut seen = HashSet::new();
    let twice = names.chain(toggle.iter().map(|name| &**name)).find(|name| !seen.insert(*name));
    if let Some(twice) = twice {
        return Err(set_twice(twice));
    }
    Ok(Some(Canonical { set, change, toggle, members }))
}

fn values_of<'a>(key: &str, raw: Option<&'a RawValue>) -> Result<Members<'a>, Fault> {
    let Some(raw) = raw else { return Ok(Members(Vec::new())) };
    let values: Members<'_> = serde_json::from_str(raw.get())
        .map_err(|_| bad_value(format!("{key:?} is an object of resources and their values")))?;
    if values.0.is_empty() {
        return Err(bad_value(format!("{key:?} names no resource")));
    }
    Ok(values)
}

fn set_twice(name: &str) -> Fault {
    let name = clip(name);
    bad_value(format!("{name:?} is set twice")).about(None, name)
}

/// What is set of a device, as it is gathered.
struct Setting<'p> {
    lookup: Lookup<'p>,
    /// An object without its end.
    text: Vec<u8>,
    seen: HashSet<&'p str>,
    is_other: bool,
}

impl<'p> Setting<'p> {
    fn name(&mut self, resource: &'p Resource) -> Result<&mut Vec<u8>, Fault> {
        if !self.seen.insert(resource.name.as_str()) {
            return Err(set_twice(&resource.name));
        }
        self.text.push(if self.text.is_empty() { b'{' } else { b',' });
        json::write_string(&mut self.text, &resource.name);
        self.text.push(b':');
        Ok(&mut self.text)
    }
}

impl Canonical<'_> {
    /// Tells whether it says what to set by what is: [`Self::fit`] then needs what was reported.
    #[must_use]
    pub fn is_relative(&self) -> bool {
        !(self.change.0.is_empty() && self.toggle.is_empty())
    }

    /// The payload for a device with this profile, which reported this; nothing if it is the sender's
    /// as it is.
    ///
    /// # Errors
    ///
    /// [`Code::NotAllowed`] for what is not writable, [`Code::BadValue`] for a wrong type, range or
    /// option and for a change of what was never reported, with the resource.
    pub fn fit(
        &self,
        profile: Option<&Profile>,
        reported: Option<&Reported>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let Some(profile) = self.check_words(profile)? else { return Ok(None) };
        let (text, seen, is_other) = (Vec::new(), HashSet::new(), self.is_relative());
        let mut setting = Setting { lookup: profile.lookup(), text, seen, is_other };
        for (name, raw) in &self.set.0 {
            let text = text_of(raw);
            let value = value_of(raw, text.as_ref());
            let (resource, checked) = setting.lookup.check(name, value, false)?;
            setting.is_other |= *name != resource.name || checked != Checked::AsWritten;
            write_value(setting.name(resource)?, resource, &checked, raw);
        }
        self.resolve(&mut setting, reported)?;
        setting.text.push(b'}');
        Ok(setting.is_other.then(|| self.with_set(&setting.text)))
    }

    /// Looks again whether a payload that was made for a device goes with its profile of now.
    ///
    /// # Errors
    ///
    /// As [`Self::fit`].
    pub fn still_fits(&self, profile: Option<&Profile>) -> Result<(), Fault> {
        let Some(profile) = self.check_words(profile)? else { return Ok(()) };
        if self.is_relative() {
            return Err(bad_value("what waits for a device is never relative"));
        }
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

    /// The payload with this to set, in the place of what said so.
    fn with_set(&self, set: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut is_set = false;
        for (name, raw) in &self.members.0 {
            let is_ours = matches!(name.as_ref(), "set" | "change" | "toggle");
            if is_ours && std::mem::replace(&mut is_set, true) {
                continue;
            }
            out.push(if out.is_empty() { b'{' } else { b',' });
            json::write_string(&mut out, if is_ours { "set" } else { name });
            out.push(b':');
            out.extend_from_slice(if is_ours { set } else { raw.get().as_bytes() });
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
        Checked::Number(number) => Cow::Owned(number_text(*number, resource)),
    };
    out.extend_from_slice(text.as_bytes());
}

fn number_text(number: f64, resource: &Resource) -> String {
    // Whole numbers keep all their digits; the sum has no minus in front of nothing.
    if resource.value == Type::Integer {
        format!("{:.0}", number + 0.0)
    } else {
        converted(number, resource)
    }
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
mod tests;
