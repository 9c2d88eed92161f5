//! What changes in the registry, as the log holds it.
//!
//! Types only; `state` applies changes in seq order.

use std::sync::Arc;

use fieldgate_core::{
    fault::{Code, Fault},
    id::{DeviceId, InvalidId},
    profile::Profile,
};
use serde::{Deserialize, Serialize};

use super::{
    AccountStep, ActivationStep, ApiKey, BridgeStep, Device, Edit, GroupStep, HmacSecret,
    IntegrationStep, NonceHash, SceneStep, SecretHash, SignInStep, TenantLimits, User, bridge,
    profile,
};
use crate::{audit::Author, secret::PasswordHash};

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

impl RegistryChange {
    /// A change that was asked for by whoever can write the data folder.
    #[must_use]
    pub fn local(tenant: &str, change: Change) -> Self {
        Self { tenant: tenant.to_owned(), change, author: Some(Author::local()) }
    }

    /// Refuses what is not to be asked for any more, before it is in the log.
    ///
    /// Applying the record does not look at this: what an earlier release asked for stands in the log,
    /// and is made again by whoever reads it. What a source brings ([`Change::SourceDevice`]) is told
    /// of devices that stand, too, so who takes it looks at the id of those that are new.
    ///
    /// # Errors
    ///
    /// `bad_value`: the device to be has the name of somebody else ([`DeviceId::check_new`]).
    pub fn check_new(&self) -> Result<(), Fault> {
        let checked = self.new_device().map(|id| id.parse::<DeviceId>()?.check_new());
        checked
            .transpose()
            .map(drop)
            .map_err(|error: InvalidId| Fault::new(Code::BadValue, error.to_string()))
    }

    /// The id that is asked for.
    fn new_device(&self) -> Option<&str> {
        if let Change::DeviceAdd(device) | Change::DeviceAddSigning { device, .. } = &self.change {
            return Some(&device.id);
        }
        let Change::Activation { step, .. } = &self.change else { return None };
        match step {
            ActivationStep::Add(activation) => activation.device.as_deref(),
            ActivationStep::Use(device) => Some(&device.id),
            ActivationStep::Remove => None,
        }
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
