//! Groups of devices, and the numbers that a tenant gives.
//!
//! Types only; `state` applies changes in seq order.

use serde::{Deserialize, Serialize};

/// A group of devices: what it has beside its members, which say themselves that they are in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Group {
    /// Its id, unique in the tenant: `group:ID` in a command.
    pub id: String,
    /// Its number in the tenant, from 1: fixed when it is made, and given once.
    pub number: u64,
    /// For people.
    pub name: Option<String>,
    /// The last number that a scene of it was given.
    pub last_scene: u64,
}

/// The last numbers that a tenant gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Numbers {
    /// To a group.
    pub group: u64,
    /// To a scene without a group.
    pub scene: u64,
}

/// How a group changes. What is not named stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupStep {
    /// It is made, or replaced whole.
    Put {
        /// Its name for people.
        name: Option<String>,
        /// Its devices.
        devices: Vec<String>,
    },
    /// Parts of it are replaced.
    Edit {
        /// Its name for people.
        name: Option<Option<String>>,
        /// Its devices.
        devices: Option<Vec<String>>,
    },
    /// It goes; its devices stay.
    Remove,
    /// A device enters it.
    Join(String),
    /// A device leaves it.
    Leave(String),
    /// It goes, and its scenes with it; its devices stay.
    RemoveWithScenes,
}

impl GroupStep {
    pub(super) fn memory_bytes(&self) -> usize {
        let devices = match self {
            Self::Put { devices, .. } | Self::Edit { devices: Some(devices), .. } => devices,
            Self::Edit { devices: None, .. }
            | Self::Remove
            | Self::RemoveWithScenes
            | Self::Join(_)
            | Self::Leave(_) => return 0,
        };
        devices.iter().map(|id| size_of::<String>() + id.len()).sum()
    }
}
