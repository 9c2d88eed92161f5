//! The registry: devices, credentials, keys and users, and how records change them.
//!
//! Types only; `state` applies changes in seq order. Secrets are here as hashes alone.

mod bridge;
mod edit;
mod group;
mod guard;
mod integration;
pub(crate) mod old;
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

use crate::{audit::Author, secret::PasswordHash};
pub(crate) use bridge::bridge_id;
pub use bridge::{BridgeKey, BridgeStep, PartNumbers, Parts, bridge_name};
pub use edit::{Edit, tag_of};
pub use group::{Group, GroupStep, Numbers};
pub use integration::{
    Aside, Asides, Format, Integration, IntegrationEdit, IntegrationKind, IntegrationStep, Origin,
    Progress, Report, Start, Target, TokenIn,
};
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

/// What lets a person in beside their password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SignIns {
    /// What they are signed in with, oldest first.
    pub sessions: Vec<Session>,
    /// Codes to sign in with once.
    pub links: Vec<LoginLink>,
}

/// One sign-in: a family of tokens, each made with the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The family.
    pub family: SecretHash,
    /// The token that the next ones are made with, once.
    pub refresh: SecretHash,
    /// It ends then, in Unix ms, unless tokens are made before.
    pub ends_ms: u64,
    /// The tokens that requests and connections show, newest last.
    pub access: Vec<Access>,
}

/// A token of a session that requests and connections show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The token.
    pub hash: SecretHash,
    /// Worthless from this time on, in Unix ms.
    pub ends_ms: u64,
}

/// A code to sign in with once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginLink {
    /// The code.
    pub hash: SecretHash,
    /// Worthless from this time on, in Unix ms.
    pub ends_ms: u64,
}

/// What a sign-in was granted for; looked at again when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInBy {
    /// The password, as it was kept when it was compared.
    Password(PasswordHash),
    /// A code, which is spent by this.
    Link(SecretHash),
}

/// A change of the registry, as the log holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistryChange {
    /// Whose.
    pub tenant: String,
    /// What.
    pub change: Change,
    /// Who asked for it; of what an earlier release wrote, unknown.
    pub author: Option<Author>,
}

/// What changes. Conditions are decided when the record's turn comes. New ones come last: the log
/// holds their place in this list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
        /// Whether it may replace the device's profile.
        describing: bool,
    },
    /// A secret of a device goes.
    CredentialRemove {
        /// Whose.
        device: String,
        /// The secret's id.
        credential: String,
    },
    /// A device's profile is replaced; the same again changes nothing.
    ProfileSet {
        /// Whose.
        device: String,
        /// Refused unless the profile has this revision; 0: none yet.
        expected: Option<u64>,
        /// The new one.
        #[serde(with = "profile")]
        profile: Arc<Profile>,
    },
    /// What a person is let in with changes.
    SignIns {
        /// Whose.
        user: String,
        /// How.
        step: SignInStep,
    },
    /// A group changes, or its devices do.
    Group {
        /// Which.
        id: String,
        /// Refused unless it is what this tag stands for; 0: not there yet.
        expected: Option<u64>,
        /// How.
        step: GroupStep,
    },
    /// A device appears whose secret is for signing; refused if the id is taken.
    DeviceAddSigning {
        /// The device; it has no credential yet.
        device: Device,
        /// Its secret.
        secret: HmacSecret,
        /// Whether the secret may replace the device's profile.
        describing: bool,
        /// Whether each of its frames must be signed.
        integrity: bool,
    },
    /// A device gets one more secret for signing; refused if the id is taken.
    SigningAdd {
        /// Whose.
        device: String,
        /// The secret.
        secret: HmacSecret,
        /// Whether it may replace the device's profile.
        describing: bool,
    },
    /// All secrets of a device are replaced by this one for signing.
    SigningRotate {
        /// Whose.
        device: String,
        /// The new secret.
        secret: HmacSecret,
    },
    /// Whether each frame of a device must be signed changes.
    Integrity {
        /// Whose.
        device: String,
        /// What holds now; refused if it has no secret to sign with.
        required: bool,
    },
    /// A signed claim to be a device is taken; refused if its nonce was.
    ClaimTaken {
        /// Whose.
        device: String,
        /// Its nonce.
        nonce: NonceHash,
        /// Its time, in Unix ms.
        timestamp_ms: u64,
    },
    /// Parts of something are replaced.
    Edit {
        /// Refused unless it is what this tag stands for.
        expected: Option<u64>,
        /// Of what, and which.
        edit: Edit,
    },
    /// A scene changes.
    Scene {
        /// Which.
        id: String,
        /// Refused unless it is what this tag stands for; 0: not there yet.
        expected: Option<u64>,
        /// How.
        step: SceneStep,
    },
    /// The tenant appears; refused if the name was given before.
    TenantAdd(TenantLimits),
    /// What the tenant may have is replaced.
    TenantSet(TenantLimits),
    /// The tenant goes, with everything in it.
    TenantRemove,
    /// An integration changes, or how far it came.
    Integration {
        /// Which.
        name: String,
        /// Refused unless it is what this tag stands for.
        expected: Option<u64>,
        /// How.
        step: IntegrationStep,
    },
    /// A source has a device: at its first sight the device is made; refused if it is not the
    /// source's.
    SourceDevice {
        /// The integration.
        source: String,
        /// The device.
        device: String,
        /// The gateway that it was heard by.
        gateway: Option<String>,
    },
    /// What a person of an app has changes.
    Account {
        /// Whose.
        user: String,
        /// How.
        step: AccountStep,
    },
    /// The codes that make devices change.
    Activation {
        /// Which.
        id: String,
        /// How.
        step: ActivationStep,
    },
    /// Parts of a device get numbers for deCONZ apps; those that have one keep it.
    Parts {
        /// Whose.
        device: String,
        /// Whether it is a light, its word and its instance, in the order to number them.
        parts: Vec<(bool, String, u8)>,
        /// What an app says that its sensor is; `None` leaves that.
        clip: Option<String>,
    },
    /// The keys of deCONZ apps change.
    Bridge(BridgeStep),
}

/// How what a person is let in with changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInStep {
    /// They sign in; refused unless what they did it with still holds.
    Begin {
        /// With what.
        by: SignInBy,
        /// What they get.
        session: Session,
    },
    /// New tokens of a session; refused unless the old one was not used before.
    Renew {
        /// Which session.
        family: SecretHash,
        /// The token that the new ones are made with.
        spent: SecretHash,
        /// The one in its place.
        refresh: SecretHash,
        /// When the session ends now, in Unix ms.
        ends_ms: u64,
        /// The new token to show.
        access: Access,
    },
    /// A session ends, with all of its tokens.
    End(SecretHash),
    /// They may sign in once with a code.
    Link(LoginLink),
}

impl RegistryChange {
    /// A change that was asked for by whoever can write the data folder.
    #[must_use]
    pub fn local(tenant: &str, change: Change) -> Self {
        Self { tenant: tenant.to_owned(), change, author: Some(Author::local()) }
    }

    /// About what the parts of it that vary most cost in memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.change {
            Change::DeviceAdd(device) => device.profile_bytes(),
            Change::ProfileSet { profile, .. } => profile.byte_len(),
            Change::Group { step, .. } => step.memory_bytes(),
            Change::Scene { step, .. } => step.memory_bytes(),
            Change::Integration { step, .. } => step.memory_bytes(),
            Change::Activation { step, .. } => step.memory_bytes(),
            Change::Parts { parts, clip, .. } => bridge::parts_bytes(parts, clip.as_ref()),
            Change::DeviceRemove(_)
            | Change::DeviceRotate { .. }
            | Change::KeyAdd(_)
            | Change::KeyRevoke(_)
            | Change::UserAdd(_)
            | Change::UserRemove(_)
            | Change::UserPassword { .. }
            | Change::CredentialAdd { .. }
            | Change::CredentialRemove { .. }
            | Change::SignIns { .. }
            | Change::DeviceAddSigning { .. }
            | Change::SigningAdd { .. }
            | Change::SigningRotate { .. }
            | Change::Integrity { .. }
            | Change::ClaimTaken { .. }
            | Change::Edit { .. }
            | Change::TenantAdd(_)
            | Change::TenantSet(_)
            | Change::TenantRemove
            | Change::SourceDevice { .. }
            | Change::Account { .. }
            | Change::Bridge(_) => 0,
        }
    }
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

impl User {
    /// Who a connection is that this token of the person opened.
    #[must_use]
    pub fn principal(&self, tenant: &TenantId, access: &Access) -> Principal {
        Principal {
            tenant: tenant.clone(),
            name: format!("user:{}", self.name).into(),
            identity: Identity::User,
            role: self.role.parse::<Role>().ok(),
            grants: Vec::new(),
            only: None,
            proof: Some(proof_of(&access.hash)),
            expires: Some(UnixMs(access.ends_ms)),
        }
    }
}
