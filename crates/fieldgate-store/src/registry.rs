//! The registry: devices, credentials, keys and users, and how records change them.
//!
//! Types only; `state` applies changes in seq order. Secrets are here as hashes alone.

mod bridge;
mod change;
mod edit;
mod group;
mod guard;
mod integration;
pub(crate) mod old;
mod person;
mod profile;
mod scene;
mod tenant;
mod thing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fieldgate_core::{
    access::{Grant, Identity, Principal, Role, Verb},
    id::{DeviceId, TenantId, UnixMs},
    profile::Profile,
    topic::Filter,
};
use serde::{Deserialize, Serialize};

pub(crate) use bridge::bridge_id;
pub use bridge::{BridgeKey, BridgeStep, PartNumbers, Parts, bridge_name};
pub use change::{Change, RegistryChange};
pub use edit::{Edit, tag_of};
pub use group::{Group, GroupStep, Numbers};
pub use integration::{
    Aside, Asides, Format, Integration, IntegrationEdit, IntegrationKind, IntegrationStep, Origin,
    Progress, Report, Start, Target, TokenIn,
};
pub use person::{Access, LoginLink, Session, SignInBy, SignInStep, SignIns, User};
pub use scene::{Scene, ScenePlan, SceneStep};

pub use guard::{Guard, HmacSecret, NonceHash, Sealed};
pub use tenant::{TenantInfo, TenantLimits};
pub use thing::{Account, AccountStep, Activation, ActivationStep};

/// HMAC-SHA256 of a secret under the master key.
pub type SecretHash = [u8; 32];

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// What it is, in a word: its profile's, once it has one.
    pub kind: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// The groups it is in.
    pub groups: Vec<String>,
    /// The device ids that it may speak for.
    pub gateway_for: Option<String>,
    /// Its secrets, by id. The id begins with what the secret is for: `token-…`, `thing-…`, `hmac-…`.
    pub credentials: BTreeMap<String, SecretHash>,
    /// Those of them that may replace its profile, and the profiles of those it speaks for.
    pub describing: BTreeSet<String>,
    /// What it is and which of its resources may be written; without it none may.
    pub profile: Option<Described>,
}

/// A profile as the registry holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// Rises with each change of the profile, from 1.
    pub revision: u64,
    /// The profile.
    #[serde(with = "profile")]
    pub profile: Arc<Profile>,
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
        let known = self.credentials.iter().find(|(_, hash)| proof_of(hash) == proof);
        let (credential, _) = known?;
        let describing = self.describing.contains(credential).then_some("devices/#");
        let filter = describing.and_then(|filter| filter.parse().ok());
        let describes = |filter| Grant { deny: false, verb: Verb::Profile, filter };
        let id: DeviceId = self.id.parse().ok()?;
        let gateway_for = self.gateway_for.as_ref().and_then(|f| f.parse::<Filter>().ok());
        Some(Principal {
            tenant: tenant.clone(),
            name: self.id.as_str().into(),
            identity: Identity::Device { id, gateway_for },
            role: None,
            grants: filter.map(describes).into_iter().collect(),
            only: None,
            proof: Some(proof),
            expires: None,
        })
    }

    /// What its profile counts in the bound of its tenant.
    #[must_use]
    pub fn profile_bytes(&self) -> usize {
        self.profile.as_ref().map_or(0, |described| described.profile.byte_len())
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
            only: None,
            proof: Some(proof_of(&self.hash)),
            expires: self.expires_ms.map(UnixMs),
        }
    }
}
