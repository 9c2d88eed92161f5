//! One device as apps see it: its lights and sensors, and what of them changes.
//!
//! Pure. In: what the device is, what it reported, and its messages in order. Out: [`Change`]s, and
//! each part whole. Source: `resources.md` 2 to 4. Absent: numbers and addresses, which the caller
//! keeps. Invariant: a message costs by its own length, however many resources the device has.

use std::sync::Arc;

use fieldgate_core::{
    id::Seq,
    message::Message,
    profile::Profile,
    state::{Bounds, Reported},
};

use super::{Clip, Map, Part};

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
    /// It is there now.
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
}

impl Device {
    /// A device that reported this. It counts as reachable until somebody says otherwise.
    #[must_use]
    pub fn new(facts: Facts, reported: Reported, bounds: Bounds) -> Self {
        Self { facts, reported, bounds, is_reachable: true }
    }

    /// The parts that there are, in the order in which new ones get their numbers.
    #[must_use]
    pub fn parts(&self) -> Vec<(Part, u8)> {
        Vec::new()
    }

    /// Takes what was known of it before a restart and cannot be seen in what it reported: that there
    /// were presses of a button.
    pub fn remember(&mut self, _part: Part, _instance: u8) {}

    /// Takes a message in and tells what it changed. Messages come in the order of their numbers.
    pub fn take(&mut self, seq: Seq, message: &Message) -> Vec<Change> {
        self.reported.take(seq, message, self.bounds);
        Vec::new()
    }

    /// Says whether the device can be reached.
    pub fn set_reachable(&mut self, reachable: bool) -> Vec<Change> {
        self.is_reachable = reachable;
        Vec::new()
    }

    /// Says what the device is now.
    pub fn set_facts(&mut self, facts: Facts) -> Vec<Change> {
        self.facts = facts;
        Vec::new()
    }

    /// The number of the newest message that the state of a part is of; zero: nothing was reported.
    #[must_use]
    pub const fn changed_since(&self, _part: Part, _instance: u8) -> Seq {
        Seq(0)
    }

    /// A part whole; nothing if there is none.
    #[must_use]
    pub const fn resource(&self, _part: Part, _instance: u8, _id: &Id) -> Option<Map> {
        None
    }

    /// All attributes of what a part is in.
    #[must_use]
    pub fn state(&self, _part: Part, _instance: u8) -> Map {
        Map::new()
    }

    /// All attributes of how a part is set up; lights have none.
    #[must_use]
    pub fn config(&self, _part: Part, _instance: u8) -> Map {
        Map::new()
    }

    /// What a group needs of a light; nothing if there is none.
    #[must_use]
    pub const fn light(&self, _instance: u8) -> Option<Light> {
        None
    }
}
