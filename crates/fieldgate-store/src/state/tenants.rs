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
    Effect, StateLimits,
    audit::Trails,
    bridge::Bridge,
    changes::{Row, RowKey},
    commands::Commands,
    groups::Groups,
    integrations::Integrations,
    reported::{Desk, Slot, Slots},
    scenes::Scenes,
    things::Things,
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

impl Tenant {
    /// Its rows, but for commands and what devices reported.
    pub(super) fn rows(&self, id: &TenantId) -> Vec<(RowKey, Row)> {
        let mut rows = Vec::new();
        for (device, row) in &self.devices {
            rows.push((RowKey::Device(id.clone(), device.clone()), Row::Device(row.clone())));
        }
        for (name, row) in &self.keys {
            rows.push((RowKey::Key(id.clone(), name.clone()), Row::Key(row.clone())));
        }
        for (name, row) in &self.users {
            rows.push((RowKey::User(id.clone(), name.clone()), Row::User(row.clone())));
        }
        for (name, row) in &self.sign_ins {
            rows.push((RowKey::SignIns(id.clone(), name.clone()), Row::SignIns(row.clone())));
        }
        for (trail, row) in self.trails.all() {
            rows.push((RowKey::Audit(id.clone(), trail, row.number), Row::Audit(row.clone())));
        }
        for (group, row) in self.groups.all() {
            rows.push((RowKey::Group(id.clone(), group.clone()), Row::Group(row.clone())));
        }
        for (scene, row) in self.scenes.all() {
            rows.push((RowKey::Scene(id.clone(), scene.clone()), Row::Scene(row.clone())));
        }
        if self.numbers != Numbers::default() {
            rows.push((RowKey::Numbers(id.clone()), Row::Numbers(self.numbers)));
        }
        for (device, row) in &self.guards {
            rows.push((RowKey::Guard(id.clone(), device.clone()), Row::Guard(row.clone())));
        }
        for (device, row) in &self.desired {
            rows.push((RowKey::Desired(id.clone(), device.clone()), Row::Desired(row.clone())));
        }
        for (topic, row) in &self.retained {
            rows.push((RowKey::Retained(id.clone(), topic.clone()), Row::Retained(row.clone())));
        }
        rows.extend(self.integrations.rows(id));
        rows.extend(self.things.rows(id));
        rows.extend(self.bridge.rows(id));
        rows
    }
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

    /// The rows that a change may touch.
    pub(super) fn rows_of(change: &RegistryChange) -> Vec<RowKey> {
        let Ok(tenant) = change.tenant.parse::<TenantId>() else { return Vec::new() };
        let of = |id: &str| id.parse::<DeviceId>().ok();
        match &change.change {
            Change::DeviceAdd(Device { id, .. })
            | Change::CredentialAdd { device: id, .. }
            | Change::ProfileSet { device: id, .. } => {
                of(id).map(|id| RowKey::Device(tenant, id)).into_iter().collect()
            }
            Change::ClaimTaken { device: id, .. } => {
                of(id).map(|id| RowKey::Guard(tenant, id)).into_iter().collect()
            }
            Change::DeviceRemove(id) => {
                let Some(id) = of(id) else { return Vec::new() };
                let guard = RowKey::Guard(tenant.clone(), id.clone());
                let origin = RowKey::Origin(tenant.clone(), id.clone());
                vec![RowKey::Device(tenant, id), guard, origin]
            }
            Change::DeviceRotate { id, .. }
            | Change::CredentialRemove { device: id, .. }
            | Change::DeviceAddSigning { device: Device { id, .. }, .. }
            | Change::SigningAdd { device: id, .. }
            | Change::SigningRotate { device: id, .. }
            | Change::Integrity { device: id, .. } => {
                let Some(id) = of(id) else { return Vec::new() };
                vec![RowKey::Device(tenant.clone(), id.clone()), RowKey::Guard(tenant, id)]
            }
            Change::KeyAdd(ApiKey { name, .. }) | Change::KeyRevoke(name) => {
                vec![RowKey::Key(tenant, name.clone())]
            }
            Change::UserAdd(User { name, .. })
            | Change::UserRemove(name)
            | Change::UserPassword { name, .. } => {
                let account = RowKey::Account(tenant.clone(), name.clone());
                let sign_ins = RowKey::SignIns(tenant.clone(), name.clone());
                vec![RowKey::User(tenant, name.clone()), sign_ins, account]
            }
            Change::Account { user, .. } => {
                let account = RowKey::Account(tenant.clone(), user.clone());
                vec![RowKey::User(tenant, user.clone()), account]
            }
            Change::Activation { id, .. } => vec![RowKey::Activation(tenant, id.clone())],
            Change::SignIns { user, .. } => vec![RowKey::SignIns(tenant, user.clone())],
            Change::Parts { device: id, .. } => {
                let Some(id) = of(id) else { return Vec::new() };
                vec![RowKey::Parts(tenant.clone(), id), RowKey::PartNumbers(tenant)]
            }
            Change::Bridge(step) => vec![RowKey::BridgeKey(tenant, step.id().to_owned())],
            Change::Group { .. }
            | Change::Edit { .. }
            | Change::Scene { .. }
            | Change::Integration { .. }
            | Change::SourceDevice { .. } => Vec::new(),
            Change::TenantAdd(_) | Change::TenantSet(_) | Change::TenantRemove => {
                vec![RowKey::Tenant(tenant)]
            }
        }
    }

    /// What stands in a row now.
    pub(super) fn row(&self, key: &RowKey) -> Option<Row> {
        match key {
            RowKey::Tenant(tenant) => self.known.get(tenant).copied().map(Row::Tenant),
            RowKey::Device(tenant, id) => {
                self.tenants.get(tenant)?.devices.get(id).cloned().map(Row::Device)
            }
            RowKey::Key(tenant, name) => {
                self.tenants.get(tenant)?.keys.get(name).cloned().map(Row::Key)
            }
            RowKey::User(tenant, name) => {
                self.tenants.get(tenant)?.users.get(name).cloned().map(Row::User)
            }
            RowKey::SignIns(tenant, name) => {
                self.tenants.get(tenant)?.sign_ins.get(name).cloned().map(Row::SignIns)
            }
            RowKey::Guard(tenant, id) => {
                self.tenants.get(tenant)?.guards.get(id).cloned().map(Row::Guard)
            }
            RowKey::Retained(tenant, topic) => {
                self.tenants.get(tenant)?.retained.get(topic).cloned().map(Row::Retained)
            }
            RowKey::Command(seq) => self.commands.get(*seq).map(Row::Command),
            RowKey::Desired(tenant, id) => {
                self.tenants.get(tenant)?.desired.get(id).cloned().map(Row::Desired)
            }
            // Their rows are made when they are written.
            RowKey::Reported(..) | RowKey::Audit(..) => None,
            RowKey::Scene(tenant, id) => {
                self.tenants.get(tenant)?.scenes.get(id).cloned().map(Row::Scene)
            }
            RowKey::Group(tenant, _) | RowKey::Numbers(tenant) => {
                self.tenants.get(tenant)?.group_row(key)
            }
            RowKey::Integration(tenant, _)
            | RowKey::Progress(tenant, _)
            | RowKey::Asides(tenant, _)
            | RowKey::Origin(tenant, _) => self.tenants.get(tenant)?.integrations.row(key),
            RowKey::Account(tenant, user) => self.tenants.get(tenant)?.things.account_row(user),
            RowKey::Activation(tenant, id) => self.tenants.get(tenant)?.things.activation_row(id),
            RowKey::Parts(tenant, device) => self.tenants.get(tenant)?.bridge.parts_row(device),
            RowKey::PartNumbers(tenant) => self.tenants.get(tenant)?.bridge.numbers_row(),
            RowKey::BridgeKey(tenant, id) => self.tenants.get(tenant)?.bridge.key_row(id),
        }
    }

    /// The state of every device, in an order of its own.
    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        self.tenants.values().flat_map(|tenant| tenant.slots.all().cloned()).collect()
    }

    /// Every other row, by key.
    pub(super) fn rows(&self) -> Vec<(RowKey, Row)> {
        let known = self.known.iter();
        let mut rows: Vec<_> =
            known.map(|(id, info)| (RowKey::Tenant(id.clone()), Row::Tenant(*info))).collect();
        for (id, tenant) in &self.tenants {
            rows.extend(tenant.rows(id));
        }
        rows.extend(
            self.commands.all().map(|(seq, row)| (RowKey::Command(seq), Row::Command(row))),
        );
        rows
    }

    /// Takes a row as it was written down: its conditions were decided then.
    pub(super) fn restore(&mut self, key: RowKey, row: Row, desk: &Arc<Desk>) {
        match (key, row) {
            (RowKey::Tenant(tenant_id), Row::Tenant(info)) => {
                self.known.insert(tenant_id, info);
            }
            (RowKey::Device(tenant_id, id), Row::Device(device)) => {
                for hash in device.credentials.values() {
                    self.owners.insert(*hash, Owner::Device(tenant_id.clone(), id.clone()));
                }
                let tenant = self.tenants.entry(tenant_id).or_default();
                tenant.profile_bytes += device.profile_bytes();
                tenant.groups.enter(&id, &device.groups);
                tenant.devices.insert(id, device);
            }
            (RowKey::Key(tenant_id, name), Row::Key(key)) => {
                self.owners.insert(key.hash, Owner::Key(tenant_id.clone(), name.clone()));
                self.tenants.entry(tenant_id).or_default().keys.insert(name, key);
            }
            (RowKey::User(tenant_id, name), Row::User(user)) => {
                self.tenants.entry(tenant_id).or_default().users.insert(name, user);
            }
            (RowKey::SignIns(tenant_id, name), Row::SignIns(sign_ins)) => {
                self.set_sign_ins(&tenant_id, &name, (*sign_ins).clone());
            }
            (RowKey::Guard(tenant_id, id), Row::Guard(guard)) => {
                self.tenants.entry(tenant_id).or_default().guards.insert(id, guard);
            }
            (RowKey::Retained(tenant_id, topic), Row::Retained(entry)) => {
                let tenant = self.tenants.entry(tenant_id).or_default();
                tenant.retained_bytes += retained_bytes(&entry);
                tenant.retained.insert(topic, entry);
            }
            (RowKey::Group(tenant_id, _), Row::Group(group)) => {
                self.tenants.entry(tenant_id).or_default().groups.restore(group);
            }
            (RowKey::Scene(tenant_id, _), Row::Scene(scene)) => {
                self.tenants.entry(tenant_id).or_default().scenes.restore(scene);
            }
            (RowKey::Numbers(tenant_id), Row::Numbers(numbers)) => {
                self.tenants.entry(tenant_id).or_default().numbers = numbers;
            }
            (RowKey::Command(_), Row::Command(command)) => self.commands.restore(command),
            (RowKey::Desired(tenant_id, device), Row::Desired(desired)) => {
                self.tenants.entry(tenant_id).or_default().desired.insert(device, desired);
            }
            (RowKey::Reported(tenant_id, device), Row::Reported(reported)) => {
                let tenant = self.tenants.entry(tenant_id.clone()).or_default();
                tenant.restore_slot(tenant_id, device, desk, reported);
            }
            (RowKey::Audit(tenant_id, trail, _), Row::Audit(entry)) => {
                self.tenants.entry(tenant_id).or_default().trails.restore(trail, entry);
            }
            (key, row) => self.restore_thing(key, row),
        }
    }
}

/// What a retained message counts in the bound of its tenant.
fn retained_bytes(entry: &Entry) -> usize {
    match &entry.record {
        Record::Message(message) => message.content_bytes() + message.topic.as_str().len() + 200,
        Record::Command(_) | Record::Registry(_) | Record::Note(_) | Record::Gap { .. } => 0,
    }
}

pub(super) fn no_such(what: &str, name: &str) -> Fault {
    Fault::new(Code::NotFound, format!("there is no {what} {name}"))
}
