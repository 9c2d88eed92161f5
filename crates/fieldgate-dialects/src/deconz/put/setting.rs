//! Values in canonical units, as the profile of a device takes them.
//!
//! Pure. Source: `resources.md` 5. Invariant: what passes here passes again where the command is
//! fitted to its device.

use fieldgate_core::{
    fault::Code,
    profile::Lookup,
    resource::{Value, format_converted},
};
use serde_json::Value as Json;

use super::{
    super::{Device, Error, Part, body::Parameter},
    Action,
};

/// What a parameter comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A canonical name and a value as JSON.
    Set(String, String),
    /// Something to do.
    Act(Action),
    /// It is so already.
    Nothing,
}

/// Sets resources of one part.
pub(super) struct Setter<'d> {
    device: &'d Device,
    part: Part,
    instance: u8,
    lookup: Option<Lookup<'d>>,
}

impl<'d> Setter<'d> {
    pub(super) fn new(device: &'d Device, part: Part, instance: u8) -> Self {
        let lookup = device.facts().profile.as_ref().map(|profile| profile.lookup());
        Self { device, part, instance, lookup }
    }

    pub(super) const fn device(&self) -> &'d Device {
        self.device
    }

    pub(super) const fn instance(&self) -> u8 {
        self.instance
    }

    pub(super) fn has(&self, canonical: &str) -> bool {
        self.device.has(self.part, self.instance, canonical)
    }

    fn name(&self, canonical: &str) -> String {
        match self.instance {
            1 => canonical.to_owned(),
            instance => format!("{canonical}.{instance}"),
        }
    }

    pub(super) fn truth(
        &self,
        path: &str,
        parameter: &Parameter<'_>,
        canonical: &str,
        truth: bool,
    ) -> Result<Wanted, Error> {
        let text = if truth { "true" } else { "false" };
        self.check(path, parameter, canonical, Value::Bool(truth))?;
        Ok(Wanted::Set(self.name(canonical), text.to_owned()))
    }

    pub(super) fn json(
        &self,
        path: &str,
        parameter: &Parameter<'_>,
        canonical: &str,
        text: String,
    ) -> Result<Wanted, Error> {
        self.check(path, parameter, canonical, Value::Other)?;
        Ok(Wanted::Set(self.name(canonical), text))
    }

    /// A number with nine digits. Where those that are cut off lead out of the range of the device, it
    /// is the nearest one that does not.
    pub(super) fn number(
        &self,
        path: &str,
        parameter: &Parameter<'_>,
        canonical: &str,
        number: f64,
    ) -> Result<Wanted, Error> {
        let mut first = None;
        for part in [0.0, -1e-8, 1e-8] {
            let text = format_converted(number * (1.0 + part));
            let value = Value::Number(text.parse().unwrap_or(number));
            match self.check(path, parameter, canonical, value) {
                Ok(()) => return Ok(Wanted::Set(self.name(canonical), text)),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| parameter.refused(path)))
    }

    /// The range of a number in its canonical unit, where its profile has one.
    pub(super) fn range(&self, canonical: &str) -> Option<(f64, f64)> {
        let (resource, _) = self.lookup.as_ref()?.find(&self.name(canonical))?;
        let (_, _, scale) = resource.canonical()?;
        let (one, other) = (scale.apply(resource.min?)?, scale.apply(resource.max?)?);
        Some((one.min(other), one.max(other)))
    }

    fn check(
        &self,
        path: &str,
        parameter: &Parameter<'_>,
        canonical: &str,
        value: Value<'_>,
    ) -> Result<(), Error> {
        if !self.has(canonical) {
            return Err(parameter.unknown(path));
        }
        let name = self.name(canonical);
        let lookup = self.lookup.as_ref().filter(|lookup| {
            // A device may call something else by this name.
            let found = lookup.find(&name).and_then(|(resource, _)| resource.canonical());
            found.is_some_and(|(row, at, _)| (row.name, at) == (canonical, self.instance))
        });
        let Some(lookup) = lookup else { return Err(parameter.read_only(path)) };
        match lookup.check(&name, value, false) {
            Ok(_) => Ok(()),
            Err(fault) if fault.code == Code::NotAllowed => Err(parameter.read_only(path)),
            Err(_) => Err(parameter.refused(path)),
        }
    }
}

/// A whole number as it is answered.
pub(super) fn whole(number: f64) -> Json {
    #[expect(clippy::cast_possible_truncation, reason = "whole and in a range that is small")]
    let number = number as i64;
    number.into()
}
