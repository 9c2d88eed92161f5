//! What the log means so far, in RAM: registry, retained messages, open commands, known `msgid`s.
//!
//! Written by the one thread that follows the log, in seq order; read by all. Locks are held for a
//! look-up, never over IO. Invariant: the same log gives the same state.

mod commands;
mod window;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
    id::{DeviceId, Seq, TenantId, UnixMs},
    message::{Kind, Message},
    topic::{Filter, Topic},
};
use subtle::ConstantTimeEq;

pub use commands::{CommandMoved, OpenCommand};
pub use window::{Admit, Window};

use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{ApiKey, Change, Device, RegistryChange, SecretHash},
    secret::MasterKey,
};
use commands::Commands;

const OUTCOMES_MAX: usize = 4_096;

/// Bounds of one tenant.
#[derive(Debug, Clone, Copy)]
pub struct StateLimits {
    /// Most devices.
    pub devices_max: usize,
    /// Most retained messages.
    pub retained_max: usize,
    /// Most bytes of retained messages.
    pub retained_bytes_max: usize,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self { devices_max: 100_000, retained_max: 100_000, retained_bytes_max: 256 << 20 }
    }
}

/// What applying a record did that somebody must hear of.
#[derive(Debug, Clone)]
pub enum Effect {
    /// A command moved in its life.
    CommandMoved(CommandMoved),
    /// The rights of this principal changed or ended.
    RightsChanged {
        /// Its tenant.
        tenant: TenantId,
        /// Its name, as in [`Principal::name`].
        name: Arc<str>,
    },
    /// A retained message was over the tenant's bound and is not kept.
    RetainedRefused {
        /// Its tenant.
        tenant: TenantId,
        /// Its topic.
        topic: Topic,
    },
}

#[derive(Debug, Default)]
struct Tenant {
    devices: BTreeMap<DeviceId, Arc<Device>>,
    keys: BTreeMap<String, Arc<ApiKey>>,
    retained: BTreeMap<Topic, Arc<Entry>>,
    retained_bytes: usize,
}

#[derive(Debug, Clone)]
enum Owner {
    Device(TenantId, DeviceId),
    Key(TenantId, String),
}

#[derive(Debug, Default)]
struct Inner {
    tenants: BTreeMap<TenantId, Tenant>,
    owners: HashMap<SecretHash, Owner>,
    commands: Commands,
    outcomes: BTreeMap<Seq, Result<(), Fault>>,
}

/// The state.
#[derive(Debug)]
pub struct State {
    inner: RwLock<Inner>,
    window: Window,
    key: MasterKey,
    limits: StateLimits,
}

impl State {
    /// An empty state, before the log is read.
    #[must_use]
    pub fn new(key: MasterKey, limits: StateLimits) -> Self {
        Self { inner: RwLock::default(), window: Window::default(), key, limits }
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
        let Followed::Entry(entry) = step else { return Vec::new() };
        match &entry.record {
            Record::Message(message) => self.apply_message(entry, message),
            Record::Command(change) => {
                let moved = self.write().commands.apply(change);
                moved.map(Effect::CommandMoved).into_iter().collect()
            }
            Record::Registry(change) => self.apply_change(entry.seq, change),
            Record::Gap { .. } => Vec::new(),
        }
    }

    fn apply_message(&self, entry: &Arc<Entry>, message: &Message) -> Vec<Effect> {
        if message.kind == Kind::Command {
            self.write().commands.queue(entry, message);
        }
        if !message.retain {
            return Vec::new();
        }
        let kept = self.write().retain(entry, message, &self.limits);
        if kept {
            return Vec::new();
        }
        let (tenant, topic) = (message.tenant.clone(), message.topic.clone());
        vec![Effect::RetainedRefused { tenant, topic }]
    }

    fn apply_change(&self, seq: Seq, change: &RegistryChange) -> Vec<Effect> {
        let mut inner = self.write();
        let result = inner.change(change, &self.limits);
        let (outcome, effects) = match result {
            Ok(effects) => (Ok(()), effects),
            Err(fault) => (Err(fault), Vec::new()),
        };
        inner.outcomes.insert(seq, outcome);
        if inner.outcomes.len() > OUTCOMES_MAX {
            inner.outcomes.pop_first();
        }
        effects
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
        let matches = known.is_some_and(|device| {
            let equal = |c: &SecretHash| bool::from(c.ct_eq(&hash) | c.ct_eq(&own));
            device.credentials.values().fold(false, |any, c| any | equal(c))
        });
        known.filter(|_| matches).and_then(|device| device.principal(tenant))
    }

    /// The principal again, with the rights that it has now; nothing if it is gone.
    #[must_use]
    pub fn refresh(&self, principal: &Principal, now: UnixMs) -> Option<Principal> {
        let inner = self.read();
        let tenant = inner.tenants.get(&principal.tenant)?;
        if let fieldgate_core::access::Identity::Device { id, .. } = &principal.identity {
            return tenant.devices.get(id)?.principal(&principal.tenant);
        }
        let name = principal.name.strip_prefix("key:").unwrap_or(&principal.name);
        let key = tenant.keys.get(name)?;
        key.is_valid_at(now).then(|| key.principal(&principal.tenant))
    }

    /// The retained messages that `filter` selects, by topic.
    #[must_use]
    pub fn retained(&self, tenant: &TenantId, filter: &Filter) -> Vec<Arc<Entry>> {
        let inner = self.read();
        let Some(tenant) = inner.tenants.get(tenant) else { return Vec::new() };
        let selected = tenant.retained.iter().filter(|(topic, _)| filter.matches(topic));
        selected.map(|(_, entry)| Arc::clone(entry)).collect()
    }

    /// The commands that wait for this device, oldest first.
    #[must_use]
    pub fn open_commands(&self, tenant: &TenantId, device: &DeviceId) -> Vec<OpenCommand> {
        self.read().commands.of(tenant, device)
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

impl Inner {
    fn owner_of(&self, hash: &SecretHash, now: UnixMs) -> Option<Principal> {
        match self.owners.get(hash)? {
            Owner::Device(tenant, id) => {
                self.tenants.get(tenant)?.devices.get(id)?.principal(tenant)
            }
            Owner::Key(tenant, name) => {
                let key = self.tenants.get(tenant)?.keys.get(name)?;
                key.is_valid_at(now).then(|| key.principal(tenant))
            }
        }
    }

    fn retain(&mut self, entry: &Arc<Entry>, message: &Message, limits: &StateLimits) -> bool {
        let tenant = self.tenants.entry(message.tenant.clone()).or_default();
        let size = |entry: &Arc<Entry>| match &entry.record {
            Record::Message(message) => message.payload.len() + message.topic.as_str().len() + 200,
            Record::Command(_) | Record::Registry(_) | Record::Gap { .. } => 0,
        };
        if let Some(old) = tenant.retained.remove(&message.topic) {
            tenant.retained_bytes = tenant.retained_bytes.saturating_sub(size(&old));
        }
        if message.payload.is_empty() {
            return true;
        }
        let bytes = tenant.retained_bytes + size(entry);
        if tenant.retained.len() >= limits.retained_max || bytes > limits.retained_bytes_max {
            return false;
        }
        tenant.retained_bytes = bytes;
        tenant.retained.insert(message.topic.clone(), Arc::clone(entry));
        true
    }

    fn change(
        &mut self,
        change: &RegistryChange,
        limits: &StateLimits,
    ) -> Result<Vec<Effect>, Fault> {
        let invalid =
            |error: fieldgate_core::id::InvalidId| Fault::new(Code::BadValue, error.to_string());
        let tenant_id: TenantId = change.tenant.parse().map_err(invalid)?;
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        let changed = |name: String| {
            vec![Effect::RightsChanged { tenant: tenant_id.clone(), name: name.into() }]
        };
        match &change.change {
            Change::DeviceAdd(device) => {
                let id: DeviceId = device.id.parse().map_err(invalid)?;
                if tenant.devices.contains_key(&id) {
                    return Err(Fault::new(Code::Conflict, format!("device {id} exists already")));
                }
                if tenant.devices.len() >= limits.devices_max {
                    return Err(Fault::new(
                        Code::QueueFull,
                        "limits.devices_per_tenant_max is reached",
                    ));
                }
                for hash in device.credentials.values() {
                    self.owners.insert(*hash, Owner::Device(tenant_id.clone(), id.clone()));
                }
                tenant.devices.insert(id, Arc::new(device.clone()));
                Ok(Vec::new())
            }
            Change::DeviceRemove(id) => {
                let id: DeviceId = id.parse().map_err(invalid)?;
                let device =
                    tenant.devices.remove(&id).ok_or_else(|| no_such("device", id.as_str()))?;
                device.credentials.values().for_each(|hash| drop(self.owners.remove(hash)));
                Ok(changed(device.id.clone()))
            }
            Change::DeviceRotate { id, credential, hash } => {
                let id: DeviceId = id.parse().map_err(invalid)?;
                let device =
                    tenant.devices.get_mut(&id).ok_or_else(|| no_such("device", id.as_str()))?;
                device.credentials.values().for_each(|hash| drop(self.owners.remove(hash)));
                let device = Arc::make_mut(device);
                device.credentials = BTreeMap::from([(credential.clone(), *hash)]);
                self.owners.insert(*hash, Owner::Device(tenant_id.clone(), id));
                Ok(Vec::new())
            }
            Change::KeyAdd(key) => {
                if tenant.keys.contains_key(&key.name) {
                    let text = format!("key {} exists already", key.name);
                    return Err(Fault::new(Code::Conflict, text));
                }
                self.owners.insert(key.hash, Owner::Key(tenant_id, key.name.clone()));
                tenant.keys.insert(key.name.clone(), Arc::new(key.clone()));
                Ok(Vec::new())
            }
            Change::KeyRevoke(name) => {
                let key = tenant.keys.remove(name).ok_or_else(|| no_such("key", name))?;
                self.owners.remove(&key.hash);
                Ok(changed(format!("key:{name}")))
            }
        }
    }
}

fn no_such(what: &str, name: &str) -> Fault {
    Fault::new(Code::NotFound, format!("there is no {what} {name}"))
}

#[cfg(test)]
mod tests;
