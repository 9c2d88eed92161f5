//! One device as apps see it: its lights and sensors, by their numbers.
//!
//! In: what happened to the device. Out: frames. A part is shown once the log has given it a number; what
//! it is told of before that waits, so that the first thing an app hears of it is `added`.

use std::{collections::BTreeMap, sync::Arc};

use fieldgate_core::id::{DeviceId, Seq};
use fieldgate_dialects::deconz::{
    Change, Device, Id, Map, Part,
    event::{self, List, Subject, What},
};
use fieldgate_store::registry::{self, Parts};

use super::frames::Frames;

/// So many changes of a part wait for its number; the newest stay.
const WAITING_MAX: usize = 64;

/// A part of a device: which, and which of several.
pub(super) type Place = (Part, u8);

/// What an app calls a part.
#[derive(Debug, Clone)]
struct Name {
    id: Id,
    unique_id: String,
}

impl Name {
    fn of(parts: Option<&Parts>, (part, instance): Place) -> Option<Self> {
        let parts = parts?;
        let number = *parts.numbers.get(&(part.as_str().to_owned(), instance))?;
        let id = Id { number, address: parts.address };
        Some(Self { id, unique_id: part.unique_id(parts.address, instance) })
    }

    fn subject(&self, part: Part) -> Subject<'_> {
        Subject {
            list: List::of(part.is_light()),
            number: self.id.number,
            unique_id: Some(&self.unique_id),
        }
    }
}

/// Which parts apps see that they did not, and which no more, with their numbers.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) came: Vec<(Place, u64)>,
    pub(super) gone: Vec<(Place, u64)>,
}

/// One device.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) id: DeviceId,
    pub(super) device: Device,
    /// What the registry says; nothing of a device that is not in it.
    pub(super) registered: Option<Arc<registry::Device>>,
    /// What apps see.
    names: BTreeMap<Place, Name>,
    /// What waits for a number, and what it was told of.
    nameless: BTreeMap<Place, Vec<Change>>,
    /// Whether a connection of its own was there since the start.
    pub(super) was_linked: bool,
    /// Whether a command to it ended without an answer, and nothing came from it since.
    pub(super) is_silent: bool,
    /// Behind which number it last became reachable, or was no more, in this life of the gateway.
    reached: Seq,
}

impl Shown {
    pub(super) fn new(
        id: DeviceId,
        registered: Option<Arc<registry::Device>>,
        device: Device,
    ) -> Self {
        Self {
            id,
            device,
            registered,
            names: BTreeMap::new(),
            nameless: BTreeMap::new(),
            was_linked: false,
            is_silent: false,
            reached: Seq(0),
        }
    }

    /// What apps see of it, with the numbers.
    pub(super) fn places(&self) -> impl Iterator<Item = (Place, u64)> {
        self.names.iter().map(|(place, name)| (*place, name.id.number))
    }

    /// The parts that have no number yet.
    pub(super) fn nameless(&self) -> impl Iterator<Item = Place> {
        self.nameless.keys().copied()
    }

    /// Takes what is there at the start: nobody is told.
    pub(super) fn begin(&mut self, parts: Option<&Parts>) {
        for (word, instance) in parts.into_iter().flat_map(|parts| parts.numbers.keys()) {
            if let Some(part) = Part::parse(word) {
                self.device.remember(part, *instance);
            }
        }
        for place in self.device.parts() {
            match Name::of(parts, place) {
                Some(name) => drop(self.names.insert(place, name)),
                None => drop(self.nameless.insert(place, Vec::new())),
            }
        }
    }

    /// Tells what changed.
    pub(super) fn tell(
        &mut self,
        changes: Vec<Change>,
        parts: Option<&Parts>,
        frames: &mut Frames,
    ) -> Moved {
        let mut moved = Moved::default();
        for change in changes {
            match change {
                Change::New(part, instance) => {
                    let place = (part, instance);
                    match Name::of(parts, place) {
                        Some(name) => moved.came.push(self.show(place, name, frames)),
                        None => drop(self.nameless.insert(place, Vec::new())),
                    }
                }
                Change::Gone(part, instance) => {
                    let place = (part, instance);
                    self.nameless.remove(&place);
                    if let Some(name) = self.names.remove(&place) {
                        frames.push(&event::deleted(name.subject(part)));
                        moved.gone.push((place, name.id.number));
                    }
                }
                Change::State { part, instance, .. }
                | Change::Config { part, instance, .. }
                | Change::Name { part, instance, .. } => {
                    self.tell_one((part, instance), change, frames);
                }
            }
        }
        moved
    }

    fn tell_one(&mut self, place: Place, change: Change, frames: &mut Frames) {
        if let Some(name) = self.names.get(&place) {
            let Some(what) = what_of(&change) else { return };
            let whole = frames.wants_all().then(|| self.whole(place, &change)).flatten();
            let what = whole.as_ref().map_or(what, |(map, is_state)| {
                if *is_state { What::State(map) } else { What::Config(map) }
            });
            return frames.push(&event::changed(name.subject(place.0), what));
        }
        if let Some(waiting) = self.nameless.get_mut(&place) {
            if waiting.len() >= WAITING_MAX {
                waiting.remove(0);
            }
            waiting.push(change);
        }
    }

    /// Everything of the kind that changed, and whether that is the state. A press is told as it was.
    fn whole(&self, (part, instance): Place, change: &Change) -> Option<(Map, bool)> {
        match change {
            Change::State { changed, .. } => {
                let mut whole = self.device.state(part, instance);
                changed.iter().for_each(|(name, value)| {
                    whole.insert(name.clone(), value.clone());
                });
                Some((whole, true))
            }
            Change::Config { .. } => Some((self.device.config(part, instance), false)),
            Change::New(..) | Change::Gone(..) | Change::Name { .. } => None,
        }
    }

    /// The log gave numbers.
    pub(super) fn on_numbers(&mut self, parts: &Parts, frames: &mut Frames) -> Moved {
        let mut moved = Moved::default();
        let named = self.nameless.keys();
        let named = named.filter_map(|place| Some((*place, Name::of(Some(parts), *place)?)));
        let named: Vec<_> = named.collect();
        for (place, name) in named {
            let waiting = self.nameless.remove(&place).unwrap_or_default();
            moved.came.push(self.show(place, name, frames));
            waiting.into_iter().for_each(|change| self.tell_one(place, change, frames));
        }
        moved
    }

    fn show(&mut self, place: Place, name: Name, frames: &mut Frames) -> (Place, u64) {
        if let Some(resource) = self.device.resource(place.0, place.1, &name.id) {
            frames.push(&event::added(name.subject(place.0), &resource));
        }
        let number = name.id.number;
        self.names.insert(place, name);
        (place, number)
    }

    /// A part whole.
    pub(super) fn resource(&self, place: Place) -> Option<Map> {
        self.device.resource(place.0, place.1, &self.names.get(&place)?.id)
    }

    /// Whether it can be reached, as of this number.
    pub(super) fn set_reachable(&mut self, reachable: bool, position: Seq) -> Vec<Change> {
        let changes = self.device.set_reachable(reachable);
        if !changes.is_empty() {
            self.reached = position.next();
        }
        changes
    }

    /// What is known of parts that changed behind a number, for a client that was away: what is, never
    /// what happened.
    pub(super) fn tell_since(&self, read: Seq, before: bool, frames: &mut Frames) {
        let was_reached = before || self.reached > read;
        for ((part, instance), name) in &self.names {
            let subject = name.subject(*part);
            let has_changed = self.device.changed_since(*part, *instance) > read;
            if (has_changed || (was_reached && part.is_light())) && *part != Part::Switch {
                let state = self.device.state(*part, *instance);
                frames.push(&event::changed(subject, What::State(&state)));
            }
            if (has_changed || was_reached) && !part.is_light() {
                let config = self.device.config(*part, *instance);
                frames.push(&event::changed(subject, What::Config(&config)));
            }
        }
    }

    /// All that there is, and nobody sees it any more.
    pub(super) fn end(&mut self, frames: &mut Frames) -> Moved {
        self.nameless.clear();
        let mut moved = Moved::default();
        for (place, name) in std::mem::take(&mut self.names) {
            frames.push(&event::deleted(name.subject(place.0)));
            moved.gone.push((place, name.id.number));
        }
        moved
    }
}

/// What of a change a frame tells.
fn what_of(change: &Change) -> Option<What<'_>> {
    match change {
        Change::State { changed, .. } => Some(What::State(changed)),
        Change::Config { changed, .. } => Some(What::Config(changed)),
        Change::Name { name, .. } => Some(What::Name(name)),
        Change::New(..) | Change::Gone(..) => None,
    }
}
