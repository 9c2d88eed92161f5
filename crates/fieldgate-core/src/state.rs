//! What a device is in, as far as it told: `reported`, resource by resource.
//!
//! Pure. In: accepted messages, in the order of their numbers. Out: for each resource the value as it
//! was sent, unit, quality and time. Source: `resources.md` 4. Absent: events, which say what happened
//! and not what is; what somebody wishes is [`Desired`]. Invariant: the same messages give the same state, taken once
//! or again; it is never larger than its [`Bounds`].

mod desired;
mod patch;
mod payload;

pub use desired::{Desired, WISHES, Wish};
pub use payload::{Reading, Said};

use std::collections::BTreeMap;

use crate::{
    id::{Seq, UnixMs},
    message::{Content, Kind, Message},
};

/// What a message says of resources, in its order; nothing where it is neither telemetry nor a state.
#[must_use]
pub fn readings(message: &Message) -> Vec<Reading<'_>> {
    let text = std::str::from_utf8(&message.payload).unwrap_or_default();
    match message.kind {
        _ if message.content != Content::Json => Vec::new(),
        Kind::Telemetry => payload::telemetry(text),
        Kind::Reported => payload::state(text),
        Kind::Event
        | Kind::Command
        | Kind::Reply
        | Kind::Desired
        | Kind::State
        | Kind::Presence
        | Kind::Application => Vec::new(),
    }
}

/// What a resource costs beside its text.
const RESOURCE_BYTES: usize = 64;

/// How large the state of one device may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most resources, with those whose removal is remembered.
    pub resources_max: usize,
    /// Most bytes: names, values and units, and 64 for each resource.
    pub bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { resources_max: 1_000, bytes_max: 128 << 10 }
    }
}

/// How far a value can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Quality {
    /// As far as its device knows.
    #[default]
    Good,
    /// It may be off, or its time is not its device's.
    Uncertain,
    /// It is worthless; what is kept is the last one that was not.
    Bad,
}

impl Quality {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain => "uncertain",
            Self::Bad => "bad",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::Good, Self::Uncertain, Self::Bad].into_iter().find(|q| q.as_str() == word)
    }
}

/// Where a reading stands among the others of its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// When it was so.
    pub time: UnixMs,
    /// Whether its device gave that time; else it is the arrival time.
    pub is_given: bool,
    /// The number of its message.
    pub seq: Seq,
}

impl Origin {
    /// Tells whether a reading from here replaces one from `other`.
    ///
    /// Between two times that the device gave, the newer one wins, then the higher number; an arrival
    /// time compares to nothing, so there the higher number wins.
    #[must_use]
    pub fn replaces(&self, other: &Self) -> bool {
        if self.is_given && other.is_given {
            (self.time, self.seq) > (other.time, other.seq)
        } else {
            self.seq > other.seq
        }
    }
}

/// What is known of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// One JSON value as it was sent; nothing where it was removed, or was never good.
    pub value: Option<Box<str>>,
    /// Its unit, if the reading had one.
    pub unit: Option<Box<str>>,
    /// How good the value is.
    pub quality: Quality,
    /// Which message said so last.
    pub origin: Origin,
}

impl Resource {
    /// Tells whether the device removed it: only its time is remembered, so that a late value from
    /// before stays out.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.value.is_none() && self.quality != Quality::Bad
    }

    fn byte_len(&self, name: &str) -> usize {
        let text_len = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        RESOURCE_BYTES + name.len() + text_len(&self.value) + text_len(&self.unit)
    }
}

/// What one device reported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reported {
    resources: BTreeMap<Box<str>, Resource>,
    byte_len: usize,
    removed_count: usize,
    taken: Seq,
}

impl Reported {
    /// What was kept elsewhere: the number of the last message taken, and every resource.
    /// Nothing if a name occurs twice.
    #[must_use]
    pub fn of_parts(taken: Seq, parts: Vec<(Box<str>, Resource)>) -> Option<Self> {
        let count = parts.len();
        let mut reported = Self { taken, ..Self::default() };
        for (name, resource) in parts {
            reported.put(name, resource);
        }
        (reported.resources.len() == count).then_some(reported)
    }

    /// The number of the newest message that was taken. Older ones, and this one, change nothing.
    #[must_use]
    pub const fn taken(&self) -> Seq {
        self.taken
    }

    /// Every resource by name, the removed ones too.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (&str, &Resource)> {
        self.resources.iter().map(|(name, resource)| (&**name, resource))
    }

    /// The resources that there are, by name.
    pub fn present(&self) -> impl Iterator<Item = (&str, &Resource)> {
        self.all().filter(|(_, resource)| !resource.is_removed())
    }

    /// One resource that there is.
    #[must_use]
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.get(name).filter(|resource| !resource.is_removed())
    }

    /// What it costs, as [`Bounds::bytes_max`] counts.
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// Takes a message in; how many of its readings had no room.
    ///
    /// Telemetry replaces whole values; what is on `…/state/reported` is merged into them member by
    /// member (RFC 7396). What is no JSON, and every other kind, says nothing.
    pub fn take(&mut self, seq: Seq, message: &Message, bounds: Bounds) -> usize {
        if seq <= self.taken {
            return 0;
        }
        self.taken = seq;
        let readings = readings(message);
        let origin = Origin { time: message.timestamp, is_given: message.is_time_given, seq };
        let is_doubtful = message.device_timestamp.is_some();
        let mut refused_count = 0;
        // What a message says twice counts as it says it last: from here on nothing replaces that.
        for mut reading in readings.into_iter().rev() {
            if is_doubtful && reading.quality == Quality::Good {
                reading.quality = Quality::Uncertain;
            }
            refused_count += usize::from(!self.merge(&reading, origin, bounds));
        }
        refused_count
    }

    /// Tells whether there was room.
    fn merge(&mut self, reading: &Reading<'_>, origin: Origin, bounds: Bounds) -> bool {
        let name = &*reading.name;
        let old = self.resources.get_mut(name);
        if old.as_ref().is_some_and(|old| !origin.replaces(&old.origin)) {
            return true;
        }
        let new = reading.after(old.as_deref(), origin);
        let byte_len = new.byte_len(name);
        let known = old.as_ref().map_or(0, |old| old.byte_len(name));
        if let Some(old) = old
            && self.byte_len - known + byte_len <= bounds.bytes_max
        {
            // In its place, as nearly every reading that ever comes.
            self.byte_len = self.byte_len - known + byte_len;
            self.removed_count += usize::from(new.is_removed());
            self.removed_count -= usize::from(old.is_removed());
            *old = new;
            return true;
        }
        if self.make_room(name, byte_len, known, bounds) {
            self.put(name.into(), new);
            return true;
        }
        if known > 0 {
            // The old value is not true any more, and the new one has no room.
            let quality = Quality::Good;
            self.put(name.into(), Resource { value: None, unit: None, quality, origin });
        }
        false
    }

    /// Makes room for `byte_len` in the place of `known`: what is remembered only as removed goes
    /// first, the longest removed before the others.
    fn make_room(&mut self, name: &str, byte_len: usize, known: usize, bounds: Bounds) -> bool {
        loop {
            let count = self.resources.len() + usize::from(known == 0);
            if count <= bounds.resources_max && self.byte_len - known + byte_len <= bounds.bytes_max
            {
                return true;
            }
            if self.removed_count == 0 {
                return false;
            }
            let removed = self.all().filter(|(of, resource)| resource.is_removed() && *of != name);
            let oldest = removed.min_by_key(|(_, resource)| resource.origin.seq);
            let Some(oldest) = oldest.map(|(name, _)| Box::<str>::from(name)) else {
                return false;
            };
            self.drop_resource(&oldest);
        }
    }

    fn put(&mut self, name: Box<str>, resource: Resource) {
        self.drop_resource(&name);
        self.byte_len += resource.byte_len(&name);
        self.removed_count += usize::from(resource.is_removed());
        self.resources.insert(name, resource);
    }

    fn drop_resource(&mut self, name: &str) {
        if let Some(old) = self.resources.remove(name) {
            self.byte_len -= old.byte_len(name);
            self.removed_count -= usize::from(old.is_removed());
        }
    }
}

#[cfg(test)]
mod tests;
