//! The resources of one profile by name: the device's own names, and the canonical ones.
//!
//! Pure. Made once for many names: a command may name a hundred, and a profile a thousand.

use std::{cell::OnceCell, collections::HashMap};

use super::{Checked, Profile, Resource};
use crate::{
    fault::{Code, Fault},
    resource::{self, Scale, Value},
};

type ByCanonical<'a> = HashMap<(&'static str, u8), (&'a Resource, Scale)>;

/// Finds resources by name.
#[derive(Debug)]
pub struct Lookup<'a> {
    profile: &'a Profile,
    own: HashMap<&'a str, &'a Resource>,
    /// By row and instance; made when the first name is none of the device's own.
    canonical: OnceCell<ByCanonical<'a>>,
}

impl Profile {
    /// The resources by name.
    #[must_use]
    pub fn lookup(&self) -> Lookup<'_> {
        let own = self.resources.iter().map(|resource| (resource.name.as_str(), resource));
        Lookup { profile: self, own: own.collect(), canonical: OnceCell::new() }
    }
}

impl<'a> Lookup<'a> {
    /// The resource of this name, and the scale from the values under this name to its canonical
    /// ones: [`Scale::Same`] under its own name, which is in its own unit.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(&'a Resource, Scale)> {
        if let Some(own) = self.own.get(name) {
            return Some((own, Scale::Same));
        }
        let (stem, instance) = resource::split_instance(name);
        let row = resource::canonical(stem)?;
        self.canonical.get_or_init(|| self.bound()).get(&(row.name, instance)).copied()
    }

    /// Two names for one canonical resource: the first stands.
    fn bound(&self) -> ByCanonical<'a> {
        let mut bound = HashMap::new();
        for resource in &self.profile.resources {
            if let Some((row, instance, scale)) = resource.canonical() {
                bound.entry((row.name, instance)).or_insert((resource, scale));
            }
        }
        bound
    }

    /// Checks a value that somebody wants to set, and puts it into the resource's own unit.
    ///
    /// `clamp`: past its range it is the nearest value in it, as for a relative change.
    ///
    /// # Errors
    ///
    /// [`Code::NotAllowed`] if it is not writable, [`Code::BadValue`] for a wrong type, range or
    /// option.
    pub fn check(
        &self,
        name: &str,
        value: Value<'_>,
        clamp: bool,
    ) -> Result<(&'a Resource, Checked), Fault> {
        let (resource, scale) = self.writable(name)?;
        Ok((resource, resource.check(value, scale, clamp)?))
    }

    /// As [`Self::find`], if it may be set.
    ///
    /// # Errors
    ///
    /// [`Code::NotAllowed`].
    pub fn writable(&self, name: &str) -> Result<(&'a Resource, Scale), Fault> {
        let found = self.find(name).filter(|(resource, _)| resource.writable);
        found.ok_or_else(|| not_writable(name))
    }

    /// Checks a value that goes to the device as it is: under its own name, in its own unit.
    ///
    /// # Errors
    ///
    /// As [`Self::check`].
    pub fn check_own(&self, name: &str, value: Value<'_>) -> Result<(), Fault> {
        let found = self.own.get(name).filter(|resource| resource.writable);
        let resource = found.ok_or_else(|| not_writable(name))?;
        resource.check(value, Scale::Same, false).map(drop)
    }
}

/// The name came from outside and may be long.
fn not_writable(name: &str) -> Fault {
    let shown: String = name.chars().take(60).collect();
    let text = format!("{shown:?} is not writable on this device");
    Fault::new(Code::NotAllowed, text).about(None, &shown)
}
