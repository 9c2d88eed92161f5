//! One device as apps see it: its lights and sensors, by their numbers.
//!
//! In: what happened to the device. Out: frames. A part is shown once the log has given it a number; what
//! it is told of before that waits, so that the first thing an app hears of it is `added`.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

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
    /// Behind which number apps were told of it; zero: before this life of the gateway.
    shown: Seq,
}

/// What waits for its number.
#[derive(Debug, Default)]
struct Nameless {
    /// What it was told of meanwhile.
    changes: Vec<Change>,
    /// Whether the log was asked.
    is_asked: bool,
}

impl Name {
    fn of(device: &Device, parts: Option<&Parts>, (part, instance): Place) -> Option<Self> {
        let parts = parts?;
        let number = *parts.numbers.get(&(part.as_str().to_owned(), instance))?;
        let id = Id { number, address: parts.address };
        Some(Self { id, unique_id: device.unique_id(part, instance, parts.address), shown: Seq(0) })
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
    /// With the frames that told it.
    pub(super) gone: Vec<(Place, u64, String)>,
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
    nameless: BTreeMap<Place, Nameless>,
    /// Whether a connection of its own was there since the start.
    pub(super) was_linked: bool,
    /// When a command to it ended without an answer, if nothing came from it since.
    pub(super) silent: Option<Instant>,
    /// Behind which number it was last called something else.
    named: Seq,
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
            silent: None,
            named: Seq(0),
            reached: Seq(0),
        }
    }

    /// What apps see of it, with the numbers.
    pub(super) fn places(&self) -> impl Iterator<Item = (Place, u64)> {
        self.names.iter().map(|(place, name)| (*place, name.id.number))
    }

    /// Whether the log is to give it numbers.
    pub(super) fn wants_numbers(&self) -> bool {
        self.nameless.values().any(|nameless| !nameless.is_asked)
    }

    /// The parts that want numbers, which the log is asked for now.
    pub(super) fn ask(&mut self) -> Vec<Place> {
        let wanting = self.nameless.iter_mut().filter(|(_, nameless)| !nameless.is_asked);
        let asked = |(place, nameless): (&Place, &mut Nameless)| {
            nameless.is_asked = true;
            *place
        };
        wanting.map(asked).collect()
    }

    /// The log could not be asked.
    pub(super) fn ask_again(&mut self) {
        self.nameless.values_mut().for_each(|nameless| nameless.is_asked = false);
    }

    /// Takes what is there at the start: nobody is told.
    pub(super) fn begin(&mut self, parts: Option<&Parts>) {
        for (word, instance) in parts.into_iter().flat_map(|parts| parts.numbers.keys()) {
            if let Some(part) = Part::parse(word) {
                self.device.remember(part, *instance);
            }
        }
        for place in self.device.parts() {
            match Name::of(&self.device, parts, place) {
                Some(name) => drop(self.names.insert(place, name)),
                None => drop(self.nameless.entry(place).or_default()),
            }
        }
    }

    /// Tells what changed.
    pub(super) fn tell(
        &mut self,
        changes: Vec<Change>,
        parts: Option<&Parts>,
        position: Seq,
        frames: &mut Frames,
    ) -> Moved {
        let mut moved = Moved::default();
        for change in changes {
            if matches!(change, Change::Name { .. }) {
                self.named = position.next();
            }
            match change {
                Change::New(part, instance) => {
                    let place = (part, instance);
                    match Name::of(&self.device, parts, place) {
                        Some(name) => moved.came.push(self.show(place, name, position, frames)),
                        None => drop(self.nameless.entry(place).or_default()),
                    }
                }
                Change::Gone(part, instance) => {
                    let place = (part, instance);
                    self.nameless.remove(&place);
                    if let Some(name) = self.names.remove(&place) {
                        moved.gone.push(gone(place, &name, frames));
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
            if waiting.changes.len() >= WAITING_MAX {
                waiting.changes.remove(0);
            }
            waiting.changes.push(change);
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
    pub(super) fn on_numbers(
        &mut self,
        parts: &Parts,
        position: Seq,
        frames: &mut Frames,
    ) -> Moved {
        let mut moved = Moved::default();
        let named = self.nameless.keys();
        let named =
            named.filter_map(|place| Some((*place, Name::of(&self.device, Some(parts), *place)?)));
        let named: Vec<_> = named.collect();
        for (place, name) in named {
            let waiting = self.nameless.remove(&place).unwrap_or_default();
            moved.came.push(self.show(place, name, position, frames));
            waiting.changes.into_iter().for_each(|change| self.tell_one(place, change, frames));
        }
        moved
    }

    fn show(
        &mut self,
        place: Place,
        name: Name,
        position: Seq,
        frames: &mut Frames,
    ) -> (Place, u64) {
        if let Some(resource) = self.device.resource(place.0, place.1, &name.id) {
            frames.push(&event::added(name.subject(place.0), &resource));
        }
        let number = name.id.number;
        self.names.insert(place, Name { shown: position.next(), ..name });
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
    /// what happened. `before`: it was away since before this life of the gateway, and does not know what
    /// was made then; of what it knows `added` tells it nothing.
    pub(super) fn tell_since(&self, read: Seq, before: bool, frames: &mut Frames) {
        let was_reached = before || self.reached > read;
        for (place, name) in &self.names {
            let (part, instance) = *place;
            let subject = name.subject(part);
            if (before || name.shown > read)
                && let Some(resource) = self.resource(*place)
            {
                frames.push(&event::added(subject, &resource));
            }
            if self.named > read {
                frames.push(&event::changed(subject, What::Name(&self.device.facts().name)));
            }
            let has_changed = self.device.changed_since(part, instance) > read;
            if (has_changed || (was_reached && part.is_light())) && part != Part::Switch {
                let state = self.device.state(part, instance);
                frames.push(&event::changed(subject, What::State(&state)));
            }
            if (has_changed || was_reached) && !part.is_light() {
                let config = self.device.config(part, instance);
                frames.push(&event::changed(subject, What::Config(&config)));
            }
        }
    }

    /// All that there is, and nobody sees it any more.
    pub(super) fn end(&mut self, frames: &mut Frames) -> Moved {
        self.nameless.clear();
        let mut moved = Moved::default();
        for (place, name) in std::mem::take(&mut self.names) {
            moved.gone.push(gone(place, &name, frames));
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

/// Tells that a part is no more.
fn gone(place: Place, name: &Name, frames: &mut Frames) -> (Place, u64, String) {
    let frame = event::deleted(name.subject(place.0));
    frames.push(&frame);
    (place, name.id.number, frame)
}

#[cfg(test)]
mod tests;
