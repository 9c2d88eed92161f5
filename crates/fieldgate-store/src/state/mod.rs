//! What the log means so far, in RAM: registry, retained messages, open commands, known `msgid`s,
//! what devices reported.
//!
//! Written by the one thread that follows the log, in seq order; read by all. Locks are held for a
//! look-up, never over IO. Invariant: the same log gives the same state.

mod audit;
mod bridge;
pub(crate) mod changes;
mod commands;
mod desired;
mod edits;
mod groups;
mod guards;
mod integrations;
mod profiles;
mod registered;
mod registry;
mod reported;
mod scenes;
mod sign_ins;
mod tenants;
mod things;
mod watch;
pub(crate) mod window;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering},
};

use fieldgate_core::{
    access::{Identity, Principal},
    fault::Fault,
    id::{DeviceId, Seq, TenantId, UnixMs},
    message::{Kind, Message},
    state::Bounds,
    topic::{Filter, Topic},
};
use subtle::ConstantTimeEq;

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
pub use window::{Admit, Window};

use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{ApiKey, Change, Device, RegistryChange, SecretHash, proof_of},
    secret::MasterKey,
};
use changes::{Changes, Row, RowKey, Snapshot};
use reported::Desk;
use tenants::Inner;

const OUTCOMES_MAX: usize = 4_096;

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
        /// Its name, as in [`Principal::name`].
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

    /// Applies the next step of the log. Called in seq order, by one thread.
    pub fn apply(&self, step: &Followed) -> Vec<Effect> {
        let mut changes = self.changes();
        let entry = match step {
            Followed::Entry(entry) => entry,
            Followed::Gap(range, _) => {
                changes.applied = changes.applied.max(Seq(*range.end()));
                return Vec::new();
            }
        };
        changes.applied = entry.seq;
        match &entry.record {
            Record::Message(message) => self.apply_message(entry, message, &mut changes),
            Record::Command(change) => {
                let moved = {
                    let mut inner = self.write();
                    let moved = inner.commands.apply(change);
                    if moved.is_some() {
                        let key = RowKey::Command(change.command);
                        let row = inner.row(&key);
                        changes.row(key, row);
                    }
                    moved
                };
                if let Some(moved) = &moved {
                    self.assume(entry, change, moved, &mut changes);
                }
                moved.map(Effect::CommandMoved).into_iter().collect()
            }
            Record::Registry(change) => self.apply_change(entry, change, &mut changes),
            Record::Note(note) => {
                self.write().enter_note(entry, note, &mut changes);
                Vec::new()
            }
            Record::Gap { .. } => Vec::new(),
        }
    }

    fn apply_message(
        &self,
        entry: &Arc<Entry>,
        message: &Message,
        changes: &mut Changes,
    ) -> Vec<Effect> {
        if self.read().is_removed(&message.tenant) {
            return Vec::new();
        }
        if reported::is_report(message) {
            self.report(entry, message, changes);
        }
        if message.kind == Kind::Command {
            let mut inner = self.write();
            inner.commands.queue(entry, message);
            let key = RowKey::Command(entry.seq);
            let row = inner.row(&key);
            changes.row(key, row);
            drop(inner);
            if let Some(device) = message.topic.device().and_then(|id| id.parse().ok()) {
                self.watch(&message.tenant, &device);
            }
        }
        if message.kind == Kind::Desired {
            return self.wish(entry, message, changes);
        }
        if !message.retain {
            return Vec::new();
        }
        let mut inner = self.write();
        let kept = inner.retain(entry, message, &self.limits);
        let (tenant, topic) = (message.tenant.clone(), message.topic.clone());
        let key = RowKey::Retained(tenant.clone(), topic.clone());
        let row = inner.row(&key);
        changes.row(key, row);
        if kept { Vec::new() } else { vec![Effect::RetainedRefused { tenant, topic }] }
    }

    fn apply_change(
        &self,
        entry: &Entry,
        change: &RegistryChange,
        changes: &mut Changes,
    ) -> Vec<Effect> {
        let mut inner = self.write();
        let revision = inner.revision(change);
        let gone = inner.gone_with(change);
        let result = inner.change(change, (entry.seq, entry.arrived), &self.limits);
        let (outcome, mut effects) = match result {
            Ok(effects) => (Ok(()), effects),
            Err(fault) => (Err(fault), Vec::new()),
        };
        self.revision.fetch_add(1, Ordering::Release);
        let touched = std::mem::take(&mut inner.touched);
        if outcome.is_ok() {
            gone.into_iter().for_each(|key| changes.row(key, None));
            for key in Inner::rows_of(change).into_iter().chain(touched) {
                if let RowKey::Device(tenant, device) = &key
                    && matches!(change.change, Change::DeviceRemove(_))
                {
                    changes.row(RowKey::Reported(tenant.clone(), device.clone()), None);
                    changes.row(RowKey::Desired(tenant.clone(), device.clone()), None);
                }
                if let RowKey::Device(tenant, device) = &key
                    && matches!(change.change, Change::ProfileSet { .. })
                {
                    effects.extend(inner.refit(tenant, device, entry.seq, changes));
                }
                let row = inner.row(&key);
                changes.row(key, row);
            }
            // The same profile again is no act.
            if revision.is_none() || revision != inner.revision(change) {
                inner.enter_change(entry, change, changes);
            }
        }
        inner.outcomes.insert(entry.seq, outcome);
        if inner.outcomes.len() > OUTCOMES_MAX {
            inner.outcomes.pop_first();
        }
        effects
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

    /// Who presents this token. `device` is named by devices; a token of their own counts only then.
    ///
    /// The work is the same for an unknown device and a wrong token.
    #[must_use]
    pub fn verify_token(
        &self,
        tenant: &TenantId,
        device: Option<&DeviceId>,
        token: &str,
        now: UnixMs,
    ) -> Option<Principal> {
        let hash = self.key.hash(token);
        let inner = self.read();
        let Some(id) = device else {
            return inner.owner_of(&hash, now);
        };
        let own = self.key.hash_own(tenant, id, token);
        let known = inner.tenants.get(tenant).and_then(|t| t.devices.get(id));
        let equal = |c: &SecretHash| bool::from(c.ct_eq(&hash) | c.ct_eq(&own));
        let matching = |found, c| if equal(c) { Some(proof_of(c)) } else { found };
        let proof = known?.credentials.values().fold(None, matching)?;
        inner.tenants.get(tenant)?.principal_of(tenant, id, proof)
    }

    /// A number that rises with each change of the registry: as long as it stays, so does who a token
    /// names and what they may, but for what expires.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The principal again, with the rights that it has now, as far as its ticket leaves them; nothing
    /// if it is gone.
    #[must_use]
    pub fn refresh(&self, principal: &Principal, now: UnixMs) -> Option<Principal> {
        let fresh = self.fresh(principal, now)?;
        Some(Principal { only: principal.only.clone(), ..fresh })
    }

    fn fresh(&self, principal: &Principal, now: UnixMs) -> Option<Principal> {
        if principal.identity == Identity::User && principal.proof.is_none() {
            // Somebody else said who this is, and until when.
            let holds = principal.expires.is_some_and(|end| now < end)
                && self.has_tenant(&principal.tenant);
            return holds.then(|| principal.clone());
        }
        if bridge::is_guest(principal) {
            // The configuration lets it in, as long as there is what it listens to.
            return self.has_tenant(&principal.tenant).then(|| principal.clone());
        }
        let inner = self.read();
        let tenant = inner.tenants.get(&principal.tenant)?;
        if let Identity::Device { id, .. } = &principal.identity {
            return tenant.principal_of(&principal.tenant, id, principal.proof?);
        }
        if let Identity::Source { name } = &principal.identity {
            return tenant.integrations.fresh(&principal.tenant, name, principal.proof?);
        }
        if principal.identity == Identity::User {
            let name = principal.name.strip_prefix("user:")?;
            return tenant.signed_in(&principal.tenant, name, principal.proof?, now);
        }
        if let Some(bridge) = tenant.bridge.fresh(&principal.tenant, principal) {
            return bridge;
        }
        let name = principal.name.strip_prefix("key:").unwrap_or(&principal.name);
        let key = tenant.keys.get(name)?;
        let same = principal.proof == Some(proof_of(&key.hash));
        (same && key.is_valid_at(now)).then(|| key.principal(&principal.tenant))
    }

    /// The retained messages that `filter` selects, by topic.
    #[must_use]
    pub fn retained(&self, tenant: &TenantId, filter: &Filter) -> Vec<Arc<Entry>> {
        let inner = self.read();
        let Some(tenant) = inner.tenants.get(tenant) else { return Vec::new() };
        let selected = tenant.retained.iter().filter(|(topic, _)| filter.matches(topic));
        selected.map(|(_, entry)| Arc::clone(entry)).collect()
    }

    /// Whether this is still the retained message of its topic.
    #[must_use]
    pub fn is_retained(&self, entry: &Entry) -> bool {
        let Record::Message(message) = &entry.record else { return false };
        let inner = self.read();
        let retained = inner.tenants.get(&message.tenant).map(|tenant| &tenant.retained);
        let of_topic = retained.and_then(|retained| retained.get(&message.topic));
        of_topic.is_some_and(|retained| retained.seq == entry.seq)
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
