//! Edits: parts of what is in the registry that are replaced, and the tags that conditions name.
//!
//! Types only; `state` applies them in seq order.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::{ApiKey, Device, Guard, Origin, User};

/// What is replaced. What is not named stays; of what may be nothing, `Some(None)` makes it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Edit {
    /// Of a device.
    Device {
        /// Which.
        id: String,
        /// Its name for people.
        name: Option<Option<String>>,
        /// What it is: the kind in its profile, or the profile of that kind if it has none.
        kind: Option<String>,
        /// The groups that it is in; those that are not there are made.
        groups: Option<Vec<String>>,
        /// The device ids that it may speak for.
        gateway_for: Option<Option<String>>,
    },
    /// Of an API key.
    Key {
        /// Which.
        name: String,
        /// Its role, as text.
        role: Option<Option<String>>,
        /// Its grants, as text.
        grants: Option<Vec<String>>,
        /// Worthless after this time, in Unix ms.
        expires_ms: Option<Option<u64>>,
    },
    /// Of a person.
    User {
        /// Who.
        name: String,
        /// Their role, as text.
        role: Option<String>,
    },
}

/// A number for what something says: another for what differs, the same after a restart, never 0.
#[must_use]
pub fn tag_of<T: Serialize>(what: &T) -> u64 {
    let mut hasher = SipHasher13::new();
    // Plain data in memory: writing it has no way to fail.
    hasher.write(&postcard::to_stdvec(what).unwrap_or_default());
    hasher.finish().max(1)
}

impl Device {
    /// Stands for the device as it is told: without its secrets, with their ids.
    #[must_use]
    pub fn tag(&self, guard: Option<&Guard>, origin: Option<&Origin>) -> u64 {
        let integrity = guard.is_some_and(|guard| guard.integrity);
        let Self { id, kind, name, groups, gateway_for, credentials, describing: _, profile } =
            self;
        let credentials: Vec<&String> = credentials.keys().collect();
        let told = (id, kind, name, groups, gateway_for, credentials, profile, integrity);
        // What no source brought keeps the tag that it had before there were sources.
        origin.map_or_else(|| tag_of(&told), |origin| tag_of(&(&told, origin)))
    }
}

impl ApiKey {
    /// Stands for the key as it is told: without its secret.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let Self { name, hash: _, role, grants, expires_ms } = self;
        tag_of(&(name, role, grants, expires_ms))
    }
}

impl User {
    /// Stands for the person as they are told: without their password.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let Self { name, role, password: _ } = self;
        tag_of(&(name, role))
    }
}
