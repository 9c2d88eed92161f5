//! Things and the people of apps: what a person has beside their rights, and codes that make a device
//! once.
//!
//! Types only; `state` applies changes in seq order. Secrets are here as hashes alone.

use std::collections::BTreeSet;

use fieldgate_core::{
    access::{Grant, Verb},
    audit::Act,
    id::DeviceId,
    topic::Filter,
};
use serde::{Deserialize, Serialize};

use super::{Device, SecretHash};
use crate::secret::PasswordHash;

/// What a person of an app has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Account {
    /// The address that they or an administrator gave; nobody proved that it is theirs.
    pub email: Option<String>,
    /// The devices that they linked.
    pub things: BTreeSet<String>,
    /// What their app keeps for them: a JSON object.
    pub settings: Option<String>,
}

/// How what a person of an app has changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountStep {
    /// They enter themselves, with a new name and the role `member`.
    Register {
        /// The address to sign in with.
        email: String,
        /// What is kept of their password.
        password: PasswordHash,
    },
    /// They see and use a device from now on.
    Link(String),
    /// They do not any more.
    Unlink(String),
    /// What their app keeps for them is replaced: a JSON object.
    Settings(String),
    /// An administrator enters them, with an address to sign in with beside their name.
    Enter {
        /// Their role, as text.
        role: String,
        /// The address.
        email: String,
        /// What is kept of their password.
        password: PasswordHash,
    },
}

/// A code that makes a device, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Activation {
    /// Its id, which is no secret.
    pub id: String,
    /// The code.
    pub hash: SecretHash,
    /// The id of the device to be; without one it gets a random one.
    pub device: Option<String>,
    /// What the device is to be, in a word.
    pub kind: Option<String>,
    /// The groups that it is to be in.
    pub groups: Vec<String>,
    /// Worthless from this time on, in Unix ms.
    pub ends_ms: u64,
}

/// How codes that make devices change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ActivationStep {
    /// There is one more.
    Add(Activation),
    /// It is taken back.
    Remove,
    /// It is spent: the device appears; refused if that cannot be, and then it is not spent.
    Use(Box<Device>),
}

impl Account {
    /// What they may with the devices that they linked.
    pub(crate) fn grants(&self) -> impl Iterator<Item = Grant> {
        const VERBS: [Verb; 3] = [Verb::Subscribe, Verb::Read, Verb::Command];
        let devices = self.things.iter().filter_map(|id| id.parse::<DeviceId>().ok());
        devices.flat_map(|id| {
            let filter = Filter::of_device(&id);
            VERBS.map(|verb| Grant { deny: false, verb, filter: filter.clone() })
        })
    }
}

impl AccountStep {
    /// What it is called in the audit; nothing if it is not entered there.
    pub(crate) const fn act(&self) -> Option<Act> {
        match self {
            Self::Register { .. } => Some(Act::AccountRegister),
            Self::Link(_) => Some(Act::ThingLink),
            Self::Unlink(_) => Some(Act::ThingUnlink),
            Self::Settings(_) => None,
            Self::Enter { .. } => Some(Act::UserAdd),
        }
    }

    /// The device that it is about.
    pub(crate) fn thing(&self) -> &str {
        match self {
            Self::Link(thing) | Self::Unlink(thing) => thing,
            Self::Register { .. } | Self::Settings(_) | Self::Enter { .. } => "",
        }
    }

    /// The role of who is entered by somebody else.
    pub(crate) fn role(&self) -> &str {
        match self {
            Self::Enter { role, .. } => role,
            Self::Register { .. } | Self::Link(_) | Self::Unlink(_) | Self::Settings(_) => "",
        }
    }
}

impl ActivationStep {
    /// What it is called in the audit.
    pub(crate) const fn act(&self) -> Act {
        match self {
            Self::Add(_) => Act::ActivationAdd,
            Self::Remove => Act::ActivationRemove,
            Self::Use(_) => Act::ActivationUse,
        }
    }

    /// The device that it is about.
    pub(crate) fn device(&self) -> &str {
        match self {
            Self::Add(activation) => activation.device.as_deref().unwrap_or_default(),
            Self::Remove => "",
            Self::Use(device) => &device.id,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Add(_) | Self::Remove => 0,
            Self::Use(device) => device.profile_bytes(),
        }
    }
}
