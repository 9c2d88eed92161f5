//! What each tenant has, and how records change it.
//!
//! Pure data; [`super::State`] applies records in seq order. Invariant: the hash of each credential
//! names its owner, and of nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
    id::{DeviceId, Seq, TenantId, UnixMs},
    message::Message,
    state::Desired,
    topic::Topic,
};

use super::{
    Effect, StateLimits, audit::Trails, bridge::Bridge, changes::RowKey, commands::Commands,
    groups::Groups, integrations::Integrations, reported::Slots, scenes::Scenes, things::Things,
};
use crate::{
    record::{Entry, Record},
    registry::{
        ApiKey, Change, Device, Guard, Numbers, RegistryChange, SecretHash, SignIns, TenantInfo,
        User, proof_of,
    },
};

#[derive(Debug, Default)]
pub(super) struct Tenant {
    pub(super) devices: BTreeMap<DeviceId, Arc<Device>>,
    pub(super) keys: BTreeMap<String, Arc<ApiKey>>,
    pub(super) users: BTreeMap<String, Arc<User>>,
    pub(super) sign_ins: BTreeMap<String, Arc<SignIns>>,
    /// Of the devices that sign.
    pub(super) guards: BTreeMap<DeviceId, Arc<Guard>>,
    pub(super) retained: BTreeMap<Topic, Arc<Entry>>,
    pub(super) retained_bytes: usize,
    /// Of all its devices' profiles.
    pub(super) profile_bytes: usize,
    pub(super) slots: Slots,
    pub(super) trails: Trails,
    pub(super) groups: Groups,
    pub(super) numbers: Numbers,
    pub(super) scenes: Scenes,
    /// Also of devices of which nothing is wished any more: when that ended is known.
    pub(super) desired: BTreeMap<DeviceId, Arc<Desired>>,
    pub(super) integrations: Integrations,
    pub(super) things: Things,
    pub(super) bridge: Bridge,
}

#[derive(Debug, Clone)]
pub(super) enum Owner {
    Device(TenantId, DeviceId),
    Key(TenantId, String),
    /// A person, by something of their sign-ins.
    User(TenantId, String),
    /// What comes in from another system.
    Source(TenantId, String),
    /// A code that makes a device.
    Activation(TenantId, String),
    /// A deCONZ app, by its key.
    Bridge(TenantId, String),
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// The names of tenants that were given, `default` only if it has bounds of its own.
    pub(super) known: BTreeMap<TenantId, TenantInfo>,
    pub(super) tenants: BTreeMap<TenantId, Tenant>,
    pub(super) owners: HashMap<SecretHash, Owner>,
    pub(super) commands: Commands,
    pub(super) outcomes: BTreeMap<Seq, Result<(), Fault>>,
    /// Rows that a change touched beside those that it names, until they are taken.
    pub(super) touched: Vec<RowKey>,
}

impl Inner {
    pub(super) fn owner_of(&self, hash: &SecretHash, now: UnixMs) -> Option<Principal> {
        match self.owners.get(hash)? {
            Owner::Device(tenant, id) => {
                self.tenants.get(tenant)?.principal_of(tenant, id, proof_of(hash))
            }
            Owner::Key(tenant, name) => {
                let key = self.tenants.get(tenant)?.keys.get(name)?;
                key.is_valid_at(now).then(|| key.principal(tenant))
            }
            Owner::User(tenant, name) => {
                self.tenants.get(tenant)?.signed_in(tenant, name, proof_of(hash), now)
            }
            // They count where they are for alone: `State::source_of`, `State::activation_of`,
            // `State::verify_bridge_key`.
            Owner::Source(..) | Owner::Activation(..) | Owner::Bridge(..) => None,
        }
    }

    pub(super) fn retain(
        &mut self,
        entry: &Arc<Entry>,
        message: &Message,
        limits: &StateLimits,
    ) -> bool {
        let limits = self.limits_of(&message.tenant, limits);
        let tenant = self.tenants.entry(message.tenant.clone()).or_default();
        if let Some(old) = tenant.retained.remove(&message.topic) {
            tenant.retained_bytes = tenant.retained_bytes.saturating_sub(retained_bytes(&old));
        }
        if message.payload.is_empty() {
            return true;
        }
        let bytes = tenant.retained_bytes + retained_bytes(entry);
        if tenant.retained.len() >= limits.retained_max || bytes > limits.retained_bytes_max {
            return false;
        }
        tenant.retained_bytes = bytes;
        tenant.retained.insert(message.topic.clone(), Arc::clone(entry));
        true
    }

    pub(super) fn change(
        &mut self,
        change: &RegistryChange,
        (seq, arrived): (Seq, UnixMs),
        limits: &StateLimits,
    ) -> Result<Vec<Effect>, Fault> {
        let invalid =
            |error: fieldgate_core::id::InvalidId| Fault::new(Code::BadValue, error.to_string());
        let tenant_id: TenantId = change.tenant.parse().map_err(invalid)?;
        self.check_tenant(&tenant_id, change)?;
        if change.change.is_of_tenant() {
            return self.change_tenant(&tenant_id, &change.change, arrived);
        }
        let limits = &self.limits_of(&tenant_id, limits);
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        let changed = |name: String| {
            vec![Effect::RightsChanged { tenant: tenant_id.clone(), name: name.into() }]
        };
        match &change.change {
            Change::DeviceAdd(device) => self.add_device(&tenant_id, device, limits),
            Change::DeviceRemove(id) => {
                let names = self.remove_device(&tenant_id, &id.parse().map_err(invalid)?)?;
                Ok(names.into_iter().flat_map(changed).collect())
            }
            Change::DeviceRotate { id, credential, hash } => {
                self.rotate(&tenant_id, id, credential, hash)
            }
            Change::KeyAdd(key) => self.add_key(&tenant_id, key),
            Change::KeyRevoke(name) => self.revoke_key(&tenant_id, name),
            Change::UserAdd(_) | Change::UserRemove(_) | Change::UserPassword { .. } => {
                self.change_person(&tenant_id, &change.change)
            }
            Change::SignIns { user, step } => self.change_sign_ins(&tenant_id, user, step, arrived),
            Change::CredentialAdd { .. } | Change::CredentialRemove { .. } => {
                self.change_credential(&tenant_id, &change.change)
            }
            Change::ProfileSet { device, expected, profile } => {
                tenant.set_profile(device, *expected, profile, limits)
            }
            Change::Group { id, expected, step } => {
                self.touched = tenant.change_group(&tenant_id, id, *expected, step)?;
                Ok(Vec::new())
            }
            Change::DeviceAddSigning { .. }
            | Change::SigningAdd { .. }
            | Change::SigningRotate { .. }
            | Change::Integrity { .. }
            | Change::ClaimTaken { .. } => {
                self.change_guard(&tenant_id, &change.change, arrived, limits)
            }
            Change::Scene { id, expected, step } => {
                self.touched = tenant.change_scene(&tenant_id, id, *expected, step)?;
                Ok(Vec::new())
            }
            Change::Edit { expected, edit } => {
                let effects;
                (effects, self.touched) = tenant.edit(&tenant_id, *expected, edit, limits)?;
                Ok(effects)
            }
            Change::Integration { name, expected, step } => {
                self.change_integration(&tenant_id, name, *expected, step, (seq, arrived))
            }
            Change::SourceDevice { source, device, gateway } => {
                self.take_device(&tenant_id, source, device, gateway.as_ref(), limits)
            }
            Change::Account { user, step } => tenant.change_account(&tenant_id, user, step),
            Change::Activation { id, step } => {
                self.change_activation(&tenant_id, id, step, arrived, limits)
            }
            Change::Parts { device, parts, clip } => {
                tenant.change_parts(&tenant_id, device, parts, clip.as_ref())
            }
            Change::Bridge(step) => self.change_bridge(&tenant_id, step, arrived),
            Change::TenantAdd(_) | Change::TenantSet(_) | Change::TenantRemove => Ok(Vec::new()),
        }
    }

    pub(super) fn add_device(
        &mut self,
        tenant_id: &TenantId,
        device: &Device,
        limits: &StateLimits,
    ) -> Result<Vec<Effect>, Fault> {
        let id: DeviceId =
            device.id.parse().map_err(|_| Fault::new(Code::BadValue, "this is no device id"))?;
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        if tenant.devices.contains_key(&id) {
            return Err(Fault::new(Code::Conflict, format!("device {id} exists already")));
        }
        if tenant.devices.len() >= limits.devices_max {
            return Err(Fault::new(Code::QueueFull, "limits.devices_per_tenant_max is reached"));
        }
        tenant.check_groups(&device.groups)?;
        tenant.take_room(0, device.profile_bytes(), limits)?;
        self.touched = tenant.make_groups(tenant_id, &device.groups);
        tenant.groups.enter(&id, &device.groups);
        for hash in device.credentials.values() {
            self.owners.insert(*hash, Owner::Device(tenant_id.clone(), id.clone()));
        }
        tenant.slots.adopt(&id);
        tenant.devices.insert(id, Arc::new(device.clone()));
        Ok(Vec::new())
    }

    fn remove_device(&mut self, of: &TenantId, id: &DeviceId) -> Result<Vec<String>, Fault> {
        let tenant = self.tenants.entry(of.clone()).or_default();
        let device = tenant.devices.remove(id).ok_or_else(|| no_such("device", id.as_str()))?;
        tenant.profile_bytes = tenant.profile_bytes.saturating_sub(device.profile_bytes());
        device.credentials.values().for_each(|hash| drop(self.owners.remove(hash)));
        tenant.slots.remove(id);
        tenant.groups.leave(id, &device.groups);
        tenant.guards.remove(id);
        tenant.desired.remove(id);
        tenant.integrations.forget_device(id);
        self.touched = tenant.scenes.forget(of, id.as_str());
        self.touched.extend(tenant.bridge.forget_device(of, id));
        let people = tenant.things.forget_device(id);
        self.touched.extend(people.iter().map(|user| RowKey::Account(of.clone(), user.clone())));
        // Whoever linked it sees nothing of what gets its name later.
        let people = people.into_iter().map(|user| format!("user:{user}"));
        Ok(people.chain([id.as_str().to_owned()]).collect())
    }
}

/// What a retained message counts in the bound of its tenant.
pub(super) fn retained_bytes(entry: &Entry) -> usize {
    match &entry.record {
        Record::Message(message) => message.content_bytes() + message.topic.as_str().len() + 200,
        Record::Command(_) | Record::Registry(_) | Record::Note(_) | Record::Gap { .. } => 0,
    }
}

pub(super) fn no_such(what: &str, name: &str) -> Fault {
    Fault::new(Code::NotFound, format!("there is no {what} {name}"))
}
