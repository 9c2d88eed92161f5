//! What is to be set relative to what is: `change` by a number, `toggle` of a truth.
//!
//! Pure. In: what a device reported. Out: values like those of `set`, so that nothing goes to a device
//! that means something else the second time.

use fieldgate_core::{
    fault::Fault,
    profile::{Checked, Resource as Described},
    resource::{Type, Value},
    state::{Quality, Reported, Resource},
};
use serde_json::value::RawValue;

use super::{Canonical, Setting, number_text, value_of};
use crate::native::{
    frame::bad_value,
    json::{Text, clip},
};

/// The names of a `toggle`.
pub(super) fn names_of(raw: &RawValue) -> Result<Vec<Text<'_>>, Fault> {
    let names: Vec<Text<'_>> = serde_json::from_str(raw.get())
        .map_err(|_| bad_value("\"toggle\" is a list of resources"))?;
    if names.is_empty() {
        return Err(bad_value("\"toggle\" names no resource"));
    }
    Ok(names)
}

impl Canonical<'_> {
    /// Adds what `change` and `toggle` come to.
    pub(super) fn resolve(
        &self,
        setting: &mut Setting<'_>,
        reported: Option<&Reported>,
    ) -> Result<(), Fault> {
        for (name, raw) in &self.change.0 {
            let Value::Number(by) = value_of(raw, None) else {
                let text = format!("{:?} changes by a number", clip(name));
                return Err(bad_value(text).about(None, clip(name)));
            };
            let (resource, scale) = setting.lookup.writable(name)?;
            if !matches!(resource.value, Type::Number | Type::Integer) {
                return Err(wrong_type(resource, "no number: it cannot be changed by one"));
            }
            let is = known(resource, reported)?;
            let own = is.value.as_deref().and_then(|v| resource.own_number(v, is.unit.as_deref()));
            let wanted = own.and_then(|own| Some(scale.apply(own)? + by));
            let wanted = wanted.ok_or_else(|| unusable(resource, "no number"))?;
            let (resource, checked) = setting.lookup.check(name, Value::Number(wanted), true)?;
            let number = if let Checked::Number(number) = checked { number } else { wanted };
            let text = number_text(number, resource);
            setting.name(resource)?.extend_from_slice(text.as_bytes());
        }
        for name in &self.toggle {
            let (resource, _) = setting.lookup.writable(name)?;
            if resource.value != Type::Bool {
                return Err(wrong_type(resource, "neither true nor false: it cannot be toggled"));
            }
            let is = known(resource, reported)?.value.as_deref();
            let truth = is.and_then(|value| resource.own_truth(value));
            let truth = truth.ok_or_else(|| unusable(resource, "neither true nor false"))?;
            setting.name(resource)?.extend_from_slice(if truth { b"false" } else { b"true" });
        }
        Ok(())
    }
}

fn wrong_type(of: &Described, what: &str) -> Fault {
    bad_value(format!("{} is {what}", of.name)).about(None, &of.name)
}

/// What is known of a resource, if that can be built upon.
fn known<'r>(of: &Described, reported: Option<&'r Reported>) -> Result<&'r Resource, Fault> {
    let found = reported.and_then(|reported| reported.resource(&of.name));
    let Some(known) = found.filter(|known| known.value.is_some()) else {
        return Err(unusable(of, "nothing"));
    };
    if known.quality == Quality::Bad {
        return Err(unusable(of, "a bad reading"));
    }
    Ok(known)
}

fn unusable(of: &Described, what: &str) -> Fault {
    let text = format!(
        "{} is not known: its device reported {what}; say the value itself, with \"set\"",
        of.name
    );
    bad_value(text).about(None, &of.name)
}
