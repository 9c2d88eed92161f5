//! The parts of a device, and which of its own names is seen in which of them.
//!
//! Pure. In: a profile, and resources as they are reported. Out: parts with their canonical values.
//! Source: `resources.md` 2. Of two names for one resource the first stands, one that the profile
//! names with `as` before every other. Invariant: a resource costs the same however many others there
//! are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fieldgate_core::{
    profile::{Profile, Resource as Described, read_value},
    resource::{Scale, Value},
    state::{Origin, Quality, Reported, Resource},
};

use super::{
    super::Part,
    place::Places,
    seen::{Held, Known, Seen},
};
use crate::readings;

/// Which of several parts.
pub(super) type Key = (Part, u8);

/// Where a name is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    key: Key,
    canonical: &'static str,
}

/// What a reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Apps see nothing of it.
    Nothing,
    /// A value of this part's state.
    State(Key),
    /// Something of this part's configuration.
    Config(Key),
    /// Its name means something else than before.
    Moved,
}

/// A press of a button.
#[derive(Debug)]
pub(super) struct Press {
    pub(super) instance: u8,
    pub(super) name: Box<str>,
    pub(super) value: f64,
}

/// The parts of a device.
#[derive(Debug, Default)]
pub(super) struct Sights {
    profile: Option<Arc<Profile>>,
    places: Places,
    /// Where in the profile a name is.
    described: HashMap<Box<str>, usize>,
    slots: HashMap<Box<str>, Slot>,
    pub(super) parts: BTreeMap<Key, Seen>,
}

impl Sights {
    /// What is seen of a device that reported this. `before`: its parts until now, which know what
    /// cannot be read from there.
    pub(super) fn new(
        profile: Option<Arc<Profile>>,
        reported: &Reported,
        before: &BTreeMap<Key, Seen>,
    ) -> Self {
        let places = Places::new(profile.as_deref());
        let parts = places.given().map(|key| (key, Seen::default())).collect();
        let mut sights = Self { places, parts, ..Self::default() };
        if let Some(profile) = &profile {
            sights.describe(profile);
        }
        sights.profile = profile;
        for (name, resource) in reported.present() {
            sights.see(name, resource);
        }
        for ((part, instance), old) in before {
            let is_pressed = *part == Part::Switch && old.fields.contains_key("button");
            if let Some(seen) = sights.parts.get_mut(&(*part, *instance)) {
                seen.stated = old.stated.or(seen.stated);
            } else if is_pressed {
                sights.parts.insert((*part, *instance), Seen::default());
            }
            if let (true, Some(seen)) = (is_pressed, sights.parts.get_mut(&(*part, *instance))) {
                seen.fields.clone_from(&old.fields);
                (seen.stated, seen.since) = (old.stated, old.since);
            }
        }
        for (key, seen) in &mut sights.parts {
            seen.mode = before.get(key).and_then(|old| old.mode).or_else(|| seen.newest_mode());
        }
        sights
    }

    fn describe(&mut self, profile: &Profile) {
        let resources = || profile.resources.iter().enumerate();
        self.described = resources().map(|(at, of)| (of.name.as_str().into(), at)).collect();
        let named = resources().filter(|(_, of)| of.alias_of.is_some());
        for (_, of) in named.chain(resources().filter(|(_, of)| of.alias_of.is_none())) {
            let Some((row, instance, scale)) = of.canonical() else { continue };
            let Some(part) = self.places.find(row.name, instance) else { continue };
            let slot = Slot { key: (part, instance), canonical: row.name };
            if let Some(seen) = self.hold(slot, &of.name, of.alias_of.is_some())
                && row.name == "color_temperature"
            {
                seen.mired = mired(of, scale);
            }
        }
    }

    /// Gives a name the place of a resource, unless another name has it.
    fn hold(&mut self, slot: Slot, name: &str, is_named: bool) -> Option<&mut Seen> {
        let seen = self.parts.entry(slot.key).or_default();
        if let Some(held) = seen.fields.get(slot.canonical) {
            if *held.name == *name {
                return Some(seen);
            }
            // A name that was never used gives way to one that is.
            if held.origin.is_some() || held.is_named {
                return None;
            }
            self.slots.remove(&held.name);
        }
        let held = Held { name: name.into(), is_named, value: None, is_bad: false, origin: None };
        seen.fields.insert(slot.canonical, held);
        self.slots.insert(name.into(), slot);
        Some(seen)
    }

    /// Whether a name is seen in one of the parts.
    pub(super) fn has(&self, name: &str) -> bool {
        self.slots.contains_key(name)
    }

    /// Takes a resource as it was just reported.
    pub(super) fn see(&mut self, name: &str, resource: &Resource) -> Sight {
        let Some((slot, is_named, known)) = self.bind(name, resource) else {
            return Sight::Nothing;
        };
        if self.slots.get(name).is_some_and(|old| *old != slot) {
            return Sight::Moved;
        }
        let Some(seen) = self.hold(slot, name, is_named) else { return Sight::Nothing };
        let is_bad = resource.quality == Quality::Bad;
        // Moves say that somebody is there only where nothing else does.
        let is_hidden = slot.canonical == "move_count" && seen.fields.contains_key("presence");
        if let Some(held) = seen.fields.get_mut(slot.canonical) {
            held.value = known.or(held.value);
            held.is_bad = is_bad && !is_hidden;
            held.origin = Some(resource.origin);
        }
        if is_hidden {
            return Sight::Nothing;
        }
        seen.since = seen.since.max(resource.origin.seq);
        if slot.canonical == "target_temperature" || is_bad {
            if is_bad && known.is_some() && seen.stated.is_none() {
                seen.stated = Some(resource.origin);
            }
            return Sight::Config(slot.key);
        }
        seen.stated = newer(seen.stated, resource.origin);
        Sight::State(slot.key)
    }

    /// What a resource is; nothing where apps see nothing of it.
    fn bind(&self, name: &str, resource: &Resource) -> Option<(Slot, bool, Option<Known>)> {
        let (of, unit) = (self.described(name), resource.unit.as_deref());
        let (bound, is_named, known) = match &resource.value {
            Some(text) => read_value(text, |value| {
                let (bound, is_named) = readings::bind(of, name, value, unit)?;
                Some((bound, is_named, Some(Known::of(&bound, value, text)?)))
            })?,
            None => {
                // Nothing that could be believed was ever said of it: its name and unit tell.
                let samples = [Value::Number(1.0), Value::Bool(true), Value::Other];
                let bind = |value| readings::bind(of, name, value, unit);
                let (bound, is_named) = samples.into_iter().find_map(bind)?;
                (bound, is_named, None)
            }
        };
        let canonical = bound.row.name;
        // A button is pressed; it is in no state.
        let part = self.places.find(canonical, bound.instance).filter(|p| *p != Part::Switch)?;
        Some((Slot { key: (part, bound.instance), canonical }, is_named, known))
    }

    fn described(&self, name: &str) -> Option<&Described> {
        self.profile.as_ref()?.resources.get(*self.described.get(name)?)
    }

    /// The press of a button that a member of an event is.
    pub(super) fn press(&self, name: &str, text: &str) -> Option<Press> {
        read_value(text, |value| {
            let (bound, _) = readings::bind(self.described(name), name, value, None)?;
            let number = bound.number(value).filter(|_| bound.row.name == "button")?;
            let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
            let instance = bound.instance;
            is_whole.then(|| Press { instance, name: name.into(), value: number })
        })
    }

    /// Takes a press, unless it was taken before. Its number alone says so: a clock of a device may go
    /// back, and somebody pressed all the same.
    pub(super) fn push(&mut self, press: Press, origin: Origin) -> Option<Key> {
        let key = (Part::Switch, press.instance);
        let seen = self.parts.entry(key).or_default();
        let old = seen.fields.get("button").and_then(|held| held.origin);
        if old.is_some_and(|old| origin.seq <= old.seq) {
            return None;
        }
        let Press { name, value, .. } = press;
        let (value, origin) = (Some(Known::Number(value)), Some(origin));
        let held = Held { name, is_named: false, value, is_bad: false, origin };
        seen.fields.insert("button", held);
        seen.stated = origin;
        seen.since = origin.map_or(seen.since, |origin| seen.since.max(origin.seq));
        Some(key)
    }
}

fn newer(old: Option<Origin>, new: Origin) -> Option<Origin> {
    Some(old.filter(|old| old.seq > new.seq).unwrap_or(new))
}

/// What a profile lets a colour temperature be, in mired.
fn mired(of: &Described, scale: Scale) -> Option<(f64, f64)> {
    let mired = |bound: Option<f64>| {
        let kelvin = scale.apply(bound?).filter(|kelvin| *kelvin > 0.0)?;
        Some((1e6 / kelvin).round()).filter(|mired| (1.0..=65_535.0).contains(mired))
    };
    let (one, other) = (mired(of.min)?, mired(of.max)?);
    Some((one.min(other), one.max(other)))
}
