//! What the log means so far, in RAM: registry, retained messages, open commands, known `msgid`s,
//! what devices reported.
//!
//! Written by the one thread that follows the log, in seq order; read by all. Locks are held for a
//! look-up, never over IO. Invariant: the same log gives the same state.

mod apply;
mod audit;
mod bridge;
pub(crate) mod changes;
mod commands;
mod desired;
mod edits;
mod groups;
mod guards;
mod integrations;
mod principals;
mod profiles;
mod registered;
mod registry;
mod reported;
mod retained;
mod rows;
mod scenes;
mod sign_ins;
mod tenants;
mod things;
mod watch;
pub(crate) mod window;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::AtomicU64,
};

use fieldgate_core::{
    fault::Fault,
    id::{DeviceId, Seq, TenantId, UnixMs},
    state::Bounds,
    topic::Topic,
};

pub use bridge::{
    ADDRESSES_MAX, BRIDGE_KEYS_MAX, CLIP_BYTES_MAX, CLIP_PREFIX, NUMBERED_DEVICES_MAX,
};
pub use commands::{CommandMoved, OpenCommand, OpenCount};
pub use groups::{GROUPS_PER_DEVICE_MAX, Grouped};
pub use guards::{SIGNING_MAX, SigningSecret};
pub use integrations::{
    ASIDES_MAX, INTEGRATIONS_MAX, Integrated, SourceRefused, TargetSecrets, source_name,
};
pub use registered::TenantCounts;
pub use scenes::SCENE_DEVICES_MAX;
pub use sign_ins::SignedIn;
pub use things::{ACCOUNTS_PER_ADDRESS_MAX, SETTINGS_BYTES_MAX, THINGS_MAX};
pub use window::{Admit, Window, joined};

use crate::{
    registry::{ApiKey, Device},
    secret::MasterKey,
};
use changes::{Changes, Row, RowKey, Snapshot};
use reported::Desk;
use tenants::Inner;

/// Bounds of one tenant.
#[derive(Debug, Clone, Copy)]
pub struct StateLimits {
    /// Most devices.
    pub devices_max: usize,
    /// Most devices that a source may bring.
    pub devices_per_source_max: usize,
    /// Most retained messages.
    pub retained_max: usize,
    /// Most bytes of retained messages.
    pub retained_bytes_max: usize,
    /// Most bytes of all profiles together.
    pub profile_bytes_max: usize,
    /// How large the state of one device may grow.
    pub reported: Bounds,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self {
            devices_max: 100_000,
            devices_per_source_max: 10_000,
            retained_max: 100_000,
            retained_bytes_max: 256 << 20,
            profile_bytes_max: 256 << 20,
            reported: Bounds::default(),
        }
    }
}

/// What applying a record did that somebody must hear of.
#[derive(Debug, Clone)]
pub enum Effect {
    /// A command moved in its life.
    CommandMoved(CommandMoved),
    /// Wishes that a device does not take, or has no room for, are not kept.
    WishesRefused {
        /// Its tenant.
        tenant: TenantId,
        /// Its id.
        device: DeviceId,
        /// How many.
        count: u64,
    },
    /// A device is in what was wished, as it reported: it may be told again.
    WishesMet {
        /// Its tenant.
        tenant: TenantId,
        /// Its id.
        device: DeviceId,
        /// Which resources, and the numbers of their wishes.
        met: Vec<(Box<str>, Seq)>,
    },
    /// A device is in what an open command of it sets, as it reported since: it may be told again.
    CommandMet(OpenCommand),
    /// The rights of this principal changed or ended.
    RightsChanged {
        /// Its tenant.
        tenant: TenantId,
        /// Its name, as in [`fieldgate_core::access::Principal::name`].
        name: Arc<str>,
    },
    /// A tenant is new, may have more or less, or is gone.
    TenantChanged {
        /// Which.
        tenant: TenantId,
    },
    /// An integration is new, is to do something else, or is gone.
    IntegrationChanged {
        /// Its tenant.
        tenant: TenantId,
        /// Its name.
        name: Arc<str>,
    },
    /// A retained message was over the tenant's bound and is not kept.
    RetainedRefused {
        /// Its tenant.
        tenant: TenantId,
        /// Its topic.
        topic: Topic,
    },
    /// What a device reported was over its bound, or it was one unknown device too many.
    ReportRefused {
        /// Its tenant.
        tenant: TenantId,
        /// Its id; `*`: more devices than are told apart.
        device: Arc<str>,
        /// How many readings are not kept.
        count: u64,
    },
}

/// The state.
#[derive(Debug)]
pub struct State {
    /// Locked before `inner`, and while a record is applied.
    changes: Mutex<Changes>,
    inner: RwLock<Inner>,
    /// Rises with each change of the registry.
    revision: AtomicU64,
    window: Window,
    desk: Arc<Desk>,
    key: MasterKey,
    limits: StateLimits,
}

impl State {
    /// An empty state, before the log is read.
    #[must_use]
    pub fn new(key: MasterKey, limits: StateLimits) -> Self {
        let window = Window::new(key.window_key());
        let desk = Arc::new(Desk::new(limits.reported));
        let (changes, inner) = (Mutex::default(), RwLock::default());
        Self { changes, inner, revision: AtomicU64::default(), window, desk, key, limits }
    }

    pub(crate) fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that tokens are hashed under.
    #[must_use]
    pub const fn master_key(&self) -> &MasterKey {
        &self.key
    }

    /// The `msgid`s known.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// Takes a row from the tables or an export, before the log behind it is applied.
    pub(crate) fn restore(&self, key: RowKey, row: Row) {
        self.write().restore(key, row, &self.desk);
    }

    /// The whole state at one number. Nothing is applied meanwhile.
    pub(crate) fn snapshot(&self, changes: &Changes) -> Snapshot {
        let inner = self.read();
        Snapshot { applied: changes.applied, rows: inner.rows(), slots: inner.slots() }
    }

    /// How the registry change with this number ended, once its turn came; kept for the newest.
    #[must_use]
    pub fn outcome(&self, seq: Seq) -> Option<Result<(), Fault>> {
        self.read().outcomes.get(&seq).cloned()
    }

    /// The device with this id.
    #[must_use]
    pub fn device(&self, tenant: &TenantId, id: &DeviceId) -> Option<Arc<Device>> {
        self.read().tenants.get(tenant)?.devices.get(id).cloned()
    }

    /// Every device of a tenant, by id.
    #[must_use]
    pub fn devices(&self, tenant: &TenantId) -> Vec<Arc<Device>> {
        let inner = self.read();
        inner.tenants.get(tenant).map(|t| t.devices.values().cloned().collect()).unwrap_or_default()
    }

    /// Every API key of a tenant, by name.
    #[must_use]
    pub fn keys(&self, tenant: &TenantId) -> Vec<Arc<ApiKey>> {
        let inner = self.read();
        inner.tenants.get(tenant).map(|t| t.keys.values().cloned().collect()).unwrap_or_default()
    }

    /// The API key of this name.
    #[must_use]
    pub fn key(&self, tenant: &TenantId, name: &str) -> Option<Arc<ApiKey>> {
        self.read().tenants.get(tenant)?.keys.get(name).cloned()
    }

    /// Whether any device of any tenant has an open command.
    #[must_use]
    pub fn has_open_commands(&self) -> bool {
        !self.read().commands.is_empty()
    }

    /// The commands that wait for this device, oldest first.
    #[must_use]
    pub fn open_commands(&self, tenant: &TenantId, device: &DeviceId) -> Vec<OpenCommand> {
        self.read().commands.of(tenant, device)
    }

    /// How many commands are open for this device and in its tenant.
    #[must_use]
    pub fn open_count(&self, tenant: &TenantId, device: &DeviceId) -> OpenCount {
        self.read().commands.count(tenant, device)
    }

    /// One open command.
    #[must_use]
    pub fn open_command(&self, seq: Seq) -> Option<OpenCommand> {
        self.read().commands.get(seq)
    }

    /// The numbers of the commands whose time has passed.
    #[must_use]
    pub fn expired_commands(&self, now: UnixMs) -> Vec<OpenCommand> {
        self.read().commands.expired(now)
    }
}

#[cfg(test)]
mod tests;
