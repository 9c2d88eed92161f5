//! One device as apps see it: its lights and sensors, and what of them changes.
//!
//! Pure. In: what the device is, what it reported, and its messages in order. Out: [`Change`]s, and
//! each part whole. Source: `resources.md` 2 to 4. Absent: numbers and addresses, which the caller
//! keeps. Invariant: a message costs by its own length, however many resources the device has, unless
//! one of them goes or is something else than before.

mod place;
mod seen;
mod sights;
mod whole;

use std::{collections::BTreeMap, sync::Arc};

use fieldgate_core::{
    id::{Seq, UnixMs},
    json,
    message::{Content, Kind, Message},
    profile::Profile,
    state::{self, Bounds, Origin, Reported},
};

use super::{Clip, Map, Part};
use seen::{Looked, Mode, Seen};
use sights::{Key, Press, Sight, Sights};
pub use whole::tag_of;
pub(super) use whole::{local, tag};

/// What is known of a device beside its messages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Its name, or its id.
    pub name: String,
    /// What it is.
    pub profile: Option<Arc<Profile>>,
    /// Where an app made it: as what.
    pub clip: Option<Clip>,
}

/// Where apps find a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    /// Its number in `lights` or in `sensors`.
    pub number: u64,
    /// The address of its device.
    pub address: [u8; 8],
}

/// What changed of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is there now, or is of another type than before.
    New(Part, u8),
    /// It is there no more.
    Gone(Part, u8),
    /// What it is in: the attributes that changed, and `lastupdated`.
    State {
        /// Which part.
        part: Part,
        /// Which of several.
        instance: u8,
        /// The attributes.
        changed: Map,
    },
    /// How it is set up: the attributes that changed.
    Config {
        /// Which part.
        part: Part,
        /// Which of several.
        instance: u8,
        /// The attributes.
        changed: Map,
    },
    /// It is called so now.
    Name {
        /// Which part.
        part: Part,
        /// Which of several.
        instance: u8,
        /// Its name.
        name: String,
    },
}

/// What a group needs to know of a light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Light {
    /// Whether it is on; nothing of what cannot be.
    pub on: Option<bool>,
    /// How bright it is, where that is known.
    pub brightness: Option<u8>,
    /// Whether it can be asked.
    pub is_reachable: bool,
}

/// One device.
#[derive(Debug)]
pub struct Device {
    facts: Facts,
    reported: Reported,
    bounds: Bounds,
    is_reachable: bool,
    sights: Sights,
    /// The newest time that it told of.
    heard: UnixMs,
}

impl Device {
    /// A device that reported this. It counts as reachable until somebody says otherwise.
    #[must_use]
    pub fn new(facts: Facts, reported: Reported, bounds: Bounds) -> Self {
        let sights = Sights::new(facts.profile.clone(), &reported, &BTreeMap::new());
        let times = reported.present().map(|(_, resource)| resource.origin.time);
        let heard = times.max().unwrap_or_default();
        let mut device = Self { facts, reported, bounds, is_reachable: true, sights, heard };
        device.tell_all();
        device
    }

    /// The parts that there are, in the order in which new ones get their numbers.
    #[must_use]
    pub fn parts(&self) -> Vec<(Part, u8)> {
        self.sights.parts.keys().copied().collect()
    }

    /// What it reported.
    #[must_use]
    pub const fn reported(&self) -> &Reported {
        &self.reported
    }

    /// What it is.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes what was known of it before a restart and cannot be seen in what it reported: that a
    /// button was pressed once. Of other parts there is nothing to take.
    pub fn remember(&mut self, part: Part, instance: u8) {
        if part == Part::Switch {
            self.sights.parts.entry((part, instance)).or_default();
            self.tell_all();
        }
    }

    /// Takes a message in and tells what it changed. Messages come in the order of their numbers; one
    /// that was taken before changes nothing.
    pub fn take(&mut self, seq: Seq, message: &Message) -> Vec<Change> {
        if seq <= self.reported.taken() {
            return Vec::new();
        }
        let readings = state::readings(message);
        let presses = self.presses(message);
        self.reported.take(seq, message, self.bounds);
        if !readings.is_empty() || !presses.is_empty() {
            self.heard = self.heard.max(message.timestamp);
        }
        let mut touched = BTreeMap::new();
        let mut is_stale = false;
        for reading in &readings {
            match self.reported.resource(&reading.name) {
                Some(resource) if resource.origin.seq == seq => {
                    match self.sights.see(&reading.name, resource) {
                        Sight::State(key) => drop(touched.insert(key, true)),
                        Sight::Config(key) => drop(touched.entry(key).or_insert(false)),
                        Sight::Moved => is_stale = true,
                        Sight::Nothing => (),
                    }
                }
                Some(_) => (),
                None => is_stale |= self.sights.has(&reading.name),
            }
        }
        let origin = Origin { time: message.timestamp, is_given: message.is_time_given, seq };
        for press in presses {
            touched.extend(self.sights.push(press, origin).map(|key| (key, true)));
        }
        let mut changes = self.settle(&touched);
        if is_stale {
            let about = self.about();
            changes.extend(self.renew(&about));
        }
        changes
    }

    fn presses(&self, message: &Message) -> Vec<Press> {
        if message.kind != Kind::Event || message.content != Content::Json {
            return Vec::new();
        }
        let text = std::str::from_utf8(&message.payload).unwrap_or_default();
        let mut presses = Vec::new();
        json::each_member(text, |member| {
            if member.name.as_deref() == Some("data") {
                json::each_member(member.value, |member| {
                    let press = member.name.and_then(|name| self.sights.press(&name, member.value));
                    presses.extend(press);
                });
            }
        });
        presses
    }

    /// Says whether the device can be reached.
    pub fn set_reachable(&mut self, reachable: bool) -> Vec<Change> {
        self.is_reachable = reachable;
        let mut changes = Vec::new();
        for key in self.parts() {
            self.tell(key, false, &mut changes);
        }
        changes
    }

    /// Whether the device can be reached, as was said last.
    #[must_use]
    pub const fn is_reachable(&self) -> bool {
        self.is_reachable
    }

    /// Says what the device is now.
    pub fn set_facts(&mut self, facts: Facts) -> Vec<Change> {
        if facts == self.facts {
            return Vec::new();
        }
        let about = self.about();
        self.facts = facts;
        self.renew(&about)
    }

    /// The number of the newest message that a part is of; zero: nothing of it was reported.
    #[must_use]
    pub fn changed_since(&self, part: Part, instance: u8) -> Seq {
        self.sights.parts.get(&(part, instance)).map_or(Seq(0), |seen| seen.since)
    }

    /// All attributes of what a part is in.
    #[must_use]
    pub fn state(&self, part: Part, instance: u8) -> Map {
        let Some(seen) = self.sights.parts.get(&(part, instance)) else { return Map::new() };
        let mut state = seen.state.clone();
        state.insert("lastupdated".to_owned(), updated(seen));
        state
    }

    /// All attributes of how a part is set up; lights have none.
    #[must_use]
    pub fn config(&self, part: Part, instance: u8) -> Map {
        let seen = self.sights.parts.get(&(part, instance));
        seen.map(|seen| seen.config.clone()).unwrap_or_default()
    }

    /// What a group needs of a light; nothing if there is none.
    #[must_use]
    pub fn light(&self, instance: u8) -> Option<Light> {
        let key = (Part::Light, instance);
        let seen = self.sights.parts.get(&key)?;
        let brightness = seen.state.get("bri").and_then(|bri| u8::try_from(bri.as_u64()?).ok());
        let on = self.looked(key, seen).is_on();
        Some(Light { on, brightness, is_reachable: self.is_reachable })
    }

    /// What a colour temperature of a lamp may be, in mired; nothing if it has none.
    pub(super) fn mired(&self, instance: u8) -> Option<(f64, f64)> {
        let seen = self.sights.parts.get(&(Part::Light, instance))?;
        seen.fields.contains_key("color_temperature").then(|| seen.mired())
    }

    /// Whether a part has this resource, be it that it cannot be set.
    pub(super) fn has(&self, part: Part, instance: u8, canonical: &str) -> bool {
        let seen = self.sights.parts.get(&(part, instance));
        seen.is_some_and(|seen| seen.fields.contains_key(canonical))
    }

    const fn looked<'a>(&self, key: Key, seen: &'a Seen) -> Looked<'a> {
        Looked { part: key.0, seen, is_reachable: self.is_reachable }
    }

    /// Takes what every part is in for told.
    fn tell_all(&mut self) {
        for (key, seen) in &mut self.sights.parts {
            let looked = Looked { part: key.0, seen, is_reachable: self.is_reachable };
            let (state, config) = (looked.state(), looked.config());
            (seen.state, seen.config, seen.is_known) = (state, config, true);
        }
    }

    /// Tells what a message changed: what is new first. With each part whether a value of its state
    /// came.
    fn settle(&mut self, touched: &BTreeMap<Key, bool>) -> Vec<Change> {
        let is_new = |key: &&Key| self.sights.parts.get(*key).is_some_and(|seen| !seen.is_known);
        let new: Vec<Key> = touched.keys().filter(is_new).copied().collect();
        for key in &new {
            let blank = self.looked(*key, &Seen::default()).config();
            let state = self.sights.parts.get(key).map(|seen| self.looked(*key, seen).state());
            let is_told = touched.get(key) == Some(&true);
            if let Some(seen) = self.sights.parts.get_mut(key) {
                (seen.is_known, seen.mode, seen.config) = (true, seen.newest_mode(), blank);
                // What says nothing yet has nothing to tell beside that it is there.
                seen.state = state.filter(|_| !is_told).unwrap_or_default();
            }
        }
        let mut changes: Vec<Change> = new.iter().map(|key| Change::New(key.0, key.1)).collect();
        for (key, is_told) in touched {
            self.tell(*key, *is_told, &mut changes);
        }
        changes
    }

    /// Tells what of a part is not as it was told. `is_told`: a value of its state came, be it the same
    /// as before.
    fn tell(&mut self, key: Key, is_told: bool, changes: &mut Vec<Change>) {
        let is_reachable = self.is_reachable;
        let (part, instance) = key;
        let Some(seen) = self.sights.parts.get_mut(&key) else { return };
        let state = Looked { part, seen, is_reachable }.state();
        let colors = [("xy", Mode::Xy), ("ct", Mode::Temperature)];
        let colors = colors.into_iter().chain(["hue", "sat"].map(|key| (key, Mode::HueSaturation)));
        let mut modes = colors.filter(|(key, _)| seen.state.get(*key) != state.get(*key));
        let first = modes.next().map(|(_, mode)| mode);
        let is_same = first == seen.mode || modes.any(|(_, mode)| Some(mode) == seen.mode);
        if is_told && !is_same {
            seen.mode = first.or(seen.mode);
        }
        let looked = Looked { part, seen, is_reachable };
        let (state, config) = (looked.state(), looked.config());
        // A press is told whole, and at no other time: each frame of a button is one for apps.
        let is_press = part == Part::Switch;
        let old = if is_press && is_told { &Map::new() } else { &seen.state };
        let mut changed = difference(old, &state);
        if is_told || (!changed.is_empty() && !is_press) {
            changed.insert("lastupdated".to_owned(), updated(seen));
            changes.push(Change::State { part, instance, changed });
        }
        let changed = difference(&seen.config, &config);
        if !changed.is_empty() {
            changes.push(Change::Config { part, instance, changed });
        }
        (seen.state, seen.config) = (state, config);
    }

    /// What apps know of each part beside what it is in.
    fn about(&self) -> BTreeMap<Key, (Map, String)> {
        let about = |key: &Key| (*key, (self.attributes(*key), self.name(key.1)));
        self.sights.parts.keys().map(about).collect()
    }

    /// Looks at all that was reported again, and tells what is gone, new, or not as it was.
    fn renew(&mut self, about: &BTreeMap<Key, (Map, String)>) -> Vec<Change> {
        let before = std::mem::take(&mut self.sights).parts;
        self.sights = Sights::new(self.facts.profile.clone(), &self.reported, &before);
        let gone = before.keys().filter(|key| !self.sights.parts.contains_key(key));
        let mut changes: Vec<Change> = gone.map(|key| Change::Gone(key.0, key.1)).collect();
        for (key, seen) in &mut self.sights.parts {
            let old = before.get(key);
            // What is new is told whole when it is made known.
            let looked = Looked { part: key.0, seen, is_reachable: self.is_reachable };
            let state = old.map_or_else(|| looked.state(), |old| old.state.clone());
            let config = old.map_or_else(|| looked.config(), |old| old.config.clone());
            (seen.state, seen.config, seen.is_known) = (state, config, true);
        }
        for key in self.parts() {
            let (part, instance) = key;
            let name = self.name(instance);
            match about.get(&key) {
                Some((attributes, old_name)) if *attributes == self.attributes(key) => {
                    if *old_name != name {
                        changes.push(Change::Name { part, instance, name });
                    }
                }
                Some(_) | None => changes.push(Change::New(part, instance)),
            }
            self.tell(key, false, &mut changes);
        }
        changes
    }
}

/// What of `new` is not in `old`; null for what is no more.
fn difference(old: &Map, new: &Map) -> Map {
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| (key.clone(), value.clone()));
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    changed.chain(gone.map(|key| (key.clone(), serde_json::Value::Null))).collect()
}

/// The time that the state of a part is of.
fn updated(seen: &Seen) -> serde_json::Value {
    let time = seen.stated.map(|origin| local(origin.time));
    time.map_or_else(|| "none".into(), Into::into)
}

#[cfg(test)]
mod tests;
