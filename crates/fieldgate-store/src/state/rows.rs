//! The rows that stand for the state where it is written down: which a change touches, what stands in
//! them, and how the state is made of them again.
//!
//! Invariant: the rows of a state make the same state.

use std::sync::Arc;

use fieldgate_core::id::{DeviceId, TenantId};

use super::{
    changes::{Row, RowKey},
    reported::{Desk, Slot},
    tenants::{Inner, Owner, Tenant, retained_bytes},
};
use crate::registry::{ApiKey, Change, Device, Numbers, RegistryChange, User};

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
