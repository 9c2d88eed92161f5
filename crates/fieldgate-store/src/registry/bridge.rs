//! What apps for a deCONZ gateway see of a tenant: the numbers of its devices' parts, and their keys.
//!
//! Types only; `state` applies changes in seq order. The words of parts are the dialect's, and stable.

use std::collections::BTreeMap;

use fieldgate_core::{
    access::{Identity, Principal, Role},
    audit::Act,
    id::TenantId,
};
use serde::{Deserialize, Serialize};

use super::{SecretHash, proof_of};

/// What a device is to apps. It stays when the device goes, and is there again if that comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Parts {
    /// Eight bytes that no other device of the tenant has.
    pub address: [u8; 8],
    /// The number of each part, by its word and instance: in `lights` or in `sensors`, from 1.
    pub numbers: BTreeMap<(String, u8), u64>,
    /// What an app said that a sensor of its own is, in the dialect's words.
    pub clip: Option<String>,
}

/// The last numbers that a tenant gave to parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PartNumbers {
    /// To a light.
    pub light: u64,
    /// To a sensor.
    pub sensor: u64,
}

/// A key of an app, of use on the deCONZ interface alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct BridgeKey {
    /// Its id, which is no secret.
    pub id: String,
    /// What the app says that it is.
    pub name: String,
    /// The key.
    pub hash: SecretHash,
    /// When it was made, in Unix ms.
    pub created_ms: u64,
    /// When it was last used, as far as that was written down, in Unix ms; 0: never.
    pub used_ms: u64,
    /// Where it was used from, and when last, in Unix ms.
    pub addresses: BTreeMap<String, u64>,
}

/// How the keys of apps change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BridgeStep {
    /// There is one more; refused if there are too many.
    KeyAdd(BridgeKey),
    /// The key with this id goes.
    KeyRemove(String),
    /// A key was used.
    Seen {
        /// Which.
        id: String,
        /// From which IP address.
        address: String,
    },
}

/// About what parts and a sensor of an app cost in memory.
pub(super) fn parts_bytes(parts: &[(bool, String, u8)], clip: Option<&String>) -> usize {
    let words: usize = parts.iter().map(|(_, word, _)| word.len() + 40).sum();
    words + clip.map_or(0, String::len)
}

impl PartNumbers {
    /// Gives the next number.
    pub(crate) const fn give(&mut self, is_light: bool) -> u64 {
        let last = if is_light { &mut self.light } else { &mut self.sensor };
        *last += 1;
        *last
    }
}

impl BridgeKey {
    /// Who uses this key: they read and command, and never administer.
    #[must_use]
    pub fn principal(&self, tenant: &TenantId) -> Principal {
        Principal {
            tenant: tenant.clone(),
            name: bridge_name(&self.id).into(),
            identity: Identity::Key,
            role: Some(Role::Operator),
            grants: Vec::new(),
            only: None,
            proof: Some(proof_of(&self.hash)),
            expires: None,
        }
    }
}

/// [`Principal::name`] of the key of an app.
#[must_use]
pub fn bridge_name(id: &str) -> String {
    format!("{NAME}{id}")
}

/// The id of the key of an app, in [`Principal::name`].
pub(crate) fn bridge_id(name: &str) -> Option<&str> {
    name.strip_prefix(NAME)
}

const NAME: &str = "deconz:";

impl BridgeStep {
    /// The key that it is about.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::KeyAdd(BridgeKey { id, .. }) | Self::KeyRemove(id) | Self::Seen { id, .. } => id,
        }
    }

    /// What it is called in the audit; nothing if it is not entered there.
    pub(crate) const fn act(&self) -> Option<Act> {
        match self {
            Self::KeyAdd(_) => Some(Act::DeconzKeyAdd),
            Self::KeyRemove(_) => Some(Act::DeconzKeyRemove),
            Self::Seen { .. } => None,
        }
    }

    /// What the app says that it is, as far as this tells it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::KeyAdd(key) => &key.name,
            Self::KeyRemove(_) | Self::Seen { .. } => "",
        }
    }
}
