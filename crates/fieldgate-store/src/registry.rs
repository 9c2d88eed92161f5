//! The registry: devices, credentials, keys and users, and how records change them.
//!
//! Types only; `state` applies changes in seq order. Secrets are here as hashes alone.

use std::collections::BTreeMap;

use fieldgate_core::{
    access::{Grant, Identity, Principal, Role},
    id::{DeviceId, TenantId, UnixMs},
    topic::Filter,
};
use serde::{Deserialize, Serialize};

use crate::secret::PasswordHash;

/// HMAC-SHA256 of a secret under the master key.
pub type SecretHash = [u8; 32];

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// What it is (`resources.md` 3).
    pub kind: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// The groups it is in.
    pub groups: Vec<String>,
    /// The device ids that it may speak for.
    pub gateway_for: Option<String>,
    /// Its secrets, by id. The id begins with what the secret is for: `token-…`, `thing-…`.
    pub credentials: BTreeMap<String, SecretHash>,
}

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its name, unique in the tenant.
    pub name: String,
    /// Its secret.
    pub hash: SecretHash,
    /// Its role, as text.
    pub role: Option<String>,
    /// Its grants, as text.
    pub grants: Vec<String>,
    /// Worthless after this time, in Unix ms.
    pub expires_ms: Option<u64>,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Their name, unique in the tenant.
    pub name: String,
    /// Their role, as text.
    pub role: String,
    /// What is kept of their password.
    pub password: PasswordHash,
}

/// A change of the registry, as the log holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryChange {
    /// Whose.
    pub tenant: String,
    /// What.
    pub change: Change,
}

/// What changes. Conditions are decided when the record's turn comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A device appears; refused if the id is taken.
    DeviceAdd(Device),
    /// A device goes.
    DeviceRemove(String),
    /// All secrets of a device are replaced by this one.
    DeviceRotate {
        /// Whose.
        id: String,
        /// The new secret's id.
        credential: String,
        /// The new secret.
        hash: SecretHash,
    },
    /// An API key appears; refused if the name is taken.
    KeyAdd(ApiKey),
    /// An API key goes.
    KeyRevoke(String),
    /// A person appears; refused if the name is taken.
    UserAdd(User),
    /// A person goes.
    UserRemove(String),
    /// A person's password is replaced.
    UserPassword {
        /// Whose.
        name: String,
        /// The new one.
        password: PasswordHash,
    },
    /// A device gets one more secret; refused if the id is taken.
    CredentialAdd {
        /// Whose.
        device: String,
        /// The secret's id.
        credential: String,
        /// The secret.
        hash: SecretHash,
    },
    /// A secret of a device goes.
    CredentialRemove {
        /// Whose.
        device: String,
        /// The secret's id.
        credential: String,
    },
}

/// Names a secret without telling it ([`Principal::proof`]).
#[must_use]
pub fn proof_of(hash: &SecretHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Device {
    /// Who a connection is that this secret of the device opened; nobody if it is none.
    #[must_use]
    pub fn principal(&self, tenant: &TenantId, proof: u64) -> Option<Principal> {
        self.credentials.values().find(|hash| proof_of(hash) == proof)?;
        let id: DeviceId = self.id.parse().ok()?;
        let gateway_for = self.gateway_for.as_ref().and_then(|f| f.parse::<Filter>().ok());
        Some(Principal {
            tenant: tenant.clone(),
            name: self.id.as_str().into(),
            identity: Identity::Device { id, gateway_for },
            role: None,
            grants: Vec::new(),
            proof: Some(proof),
            expires: None,
        })
    }
}

impl ApiKey {
    /// Tells whether the key has not expired.
    #[must_use]
    pub fn is_valid_at(&self, now: UnixMs) -> bool {
        self.expires_ms.is_none_or(|expires| now.0 < expires)
    }

    /// Who a connection with this key is.
    #[must_use]
    pub fn principal(&self, tenant: &TenantId) -> Principal {
        let grants = self.grants.iter().filter_map(|grant| grant.parse::<Grant>().ok()).collect();
        Principal {
            tenant: tenant.clone(),
            name: format!("key:{}", self.name).into(),
            identity: Identity::Key,
            role: self.role.as_ref().and_then(|role| role.parse::<Role>().ok()),
            grants,
            proof: Some(proof_of(&self.hash)),
            expires: self.expires_ms.map(UnixMs),
        }
    }
}
