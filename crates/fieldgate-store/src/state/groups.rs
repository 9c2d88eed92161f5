//! What registry records do to groups: which there are, and which devices are in them.
//!
//! A device says which groups it is in ([`crate::registry::Device::groups`]); here is the same the
//! other way round, and what a group has beside its devices. Called in seq order by the one thread that
//! applies the log. Invariant: a group that a device names is there; a number is given once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fieldgate_core::{
    fault::{Code, Fault},
    id::{DeviceId, TenantId},
};

use super::{
    State,
    changes::{Changes, Row, RowKey},
    tenants::{Tenant, no_such},
};
use crate::registry::{Device, Group, GroupStep, tag_of};

/// Most groups of a tenant.
const GROUPS_MAX: usize = 10_000;
/// Most groups that a device is in.
pub const GROUPS_PER_DEVICE_MAX: usize = 64;

/// A group with its devices.
#[derive(Debug, Clone)]
pub struct Grouped {
    /// The group.
    pub group: Arc<Group>,
    /// Its devices.
    pub devices: Arc<BTreeSet<DeviceId>>,
}

impl Grouped {
    /// Stands for the group as it is told: its id, number, name and devices.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let Group { id, number, name, last_scene: _ } = &*self.group;
        let devices: Vec<&str> = self.devices.iter().map(DeviceId::as_str).collect();
        tag_of(&(id, number, name, devices))
    }
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    by_id: BTreeMap<String, Arc<Group>>,
    /// None of them is empty.
    members: BTreeMap<String, Arc<BTreeSet<DeviceId>>>,
}

impl Groups {
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Group>> {
        self.by_id.get(id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Arc<Group>)> {
        self.by_id.iter()
    }

    pub(super) fn restore(&mut self, group: Arc<Group>) {
        self.by_id.insert(group.id.clone(), group);
    }

    /// Notes that a device says it is in these groups.
    pub(super) fn enter(&mut self, device: &DeviceId, groups: &[String]) {
        for group in groups {
            let members = self.members.entry(group.clone()).or_default();
            Arc::make_mut(members).insert(device.clone());
        }
    }

    /// Notes that it no longer does.
    pub(super) fn leave(&mut self, device: &DeviceId, groups: &[String]) {
        for group in groups {
            let Some(members) = self.members.get_mut(group) else { continue };
            Arc::make_mut(members).remove(device);
            if members.is_empty() {
                self.members.remove(group);
            }
        }
    }

    fn devices(&self, id: &str) -> Arc<BTreeSet<DeviceId>> {
        self.members.get(id).cloned().unwrap_or_default()
    }

    fn grouped(&self, group: &Arc<Group>) -> Grouped {
        Grouped { group: Arc::clone(group), devices: self.devices(&group.id) }
    }
}

impl State {
    /// Every group of a tenant with its devices, by id.
    #[must_use]
    pub fn groups(&self, tenant: &TenantId) -> Vec<Grouped> {
        let inner = self.read();
        let Some(Tenant { groups, .. }) = inner.tenants.get(tenant) else { return Vec::new() };
        groups.by_id.values().map(|group| groups.grouped(group)).collect()
    }

    /// The group with this id.
    #[must_use]
    pub fn group(&self, tenant: &TenantId, id: &str) -> Option<Grouped> {
        let inner = self.read();
        let groups = &inner.tenants.get(tenant)?.groups;
        groups.get(id).map(|group| groups.grouped(group))
    }

    /// The devices of a group, by id; none if there is no such group.
    #[must_use]
    pub fn devices_in(&self, tenant: &TenantId, group: &str) -> Vec<Arc<Device>> {
        let inner = self.read();
        let Some(tenant) = inner.tenants.get(tenant) else { return Vec::new() };
        let members = tenant.groups.members.get(group);
        members
            .iter()
            .flat_map(|ids| ids.iter())
            .filter_map(|id| tenant.devices.get(id))
            .cloned()
            .collect()
    }

    /// Makes the groups that devices name and nobody made, once every row is there: rows that were
    /// written before groups had rows of their own.
    pub(crate) fn adopt_groups(&self, changes: &mut Changes) {
        let mut inner = self.write();
        for (tenant_id, tenant) in &mut inner.tenants {
            let named: Vec<String> = tenant.groups.members.keys().cloned().collect();
            for key in tenant.make_groups(tenant_id, &named) {
                let row = tenant.group_row(&key);
                changes.row(key, row);
            }
        }
    }
}

impl Tenant {
    /// Refuses groups that a device is to be in if there are too many.
    pub(super) fn check_groups(&self, groups: &[String]) -> Result<(), Fault> {
        if groups.len() > GROUPS_PER_DEVICE_MAX {
            let text = format!("a device is in at most {GROUPS_PER_DEVICE_MAX} groups");
            return Err(Fault::new(Code::QueueFull, text));
        }
        let new_count = groups.iter().filter(|id| self.groups.get(id).is_none()).count();
        self.check_group_count(new_count)
    }

    fn check_group_count(&self, new_count: usize) -> Result<(), Fault> {
        if new_count > 0 && self.groups.by_id.len() + new_count > GROUPS_MAX {
            let text = format!("a tenant has at most {GROUPS_MAX} groups: remove one");
            return Err(Fault::new(Code::QueueFull, text));
        }
        Ok(())
    }

    /// Makes those of these groups that are not there; the rows that this touches.
    pub(super) fn make_groups(&mut self, tenant: &TenantId, ids: &[String]) -> Vec<RowKey> {
        let mut touched = Vec::new();
        for id in ids {
            if self.groups.get(id).is_some() {
                continue;
            }
            self.numbers.group += 1;
            let number = self.numbers.group;
            let group = Group { id: id.clone(), number, ..Group::default() };
            self.groups.restore(Arc::new(group));
            touched.push(RowKey::Group(tenant.clone(), id.clone()));
        }
        if !touched.is_empty() {
            touched.push(RowKey::Numbers(tenant.clone()));
        }
        touched
    }

    /// What stands in the row of a group, or in that of the numbers.
    pub(super) fn group_row(&self, key: &RowKey) -> Option<Row> {
        match key {
            RowKey::Group(_, id) => self.groups.get(id).cloned().map(Row::Group),
            RowKey::Numbers(_) => Some(Row::Numbers(self.numbers)),
            RowKey::Tenant(_)
            | RowKey::Device(..)
            | RowKey::Key(..)
            | RowKey::User(..)
            | RowKey::SignIns(..)
            | RowKey::Retained(..)
            | RowKey::Command(_)
            | RowKey::Audit(..)
            | RowKey::Guard(..)
            | RowKey::Scene(..)
            | RowKey::Desired(..)
            | RowKey::Reported(..)
            | RowKey::Integration(..)
            | RowKey::Progress(..)
            | RowKey::Asides(..)
            | RowKey::Origin(..)
            | RowKey::Account(..)
            | RowKey::Activation(..)
            | RowKey::Parts(..)
            | RowKey::PartNumbers(_)
            | RowKey::BridgeKey(..) => None,
        }
    }

    /// Applies a change of a group; returns the rows that it touches.
    pub(super) fn change_group(
        &mut self,
        tenant: &TenantId,
        id: &str,
        expected: Option<u64>,
        step: &GroupStep,
    ) -> Result<Vec<RowKey>, Fault> {
        let before = self.groups.get(id).map(|group| self.groups.grouped(group));
        if expected.is_some_and(|tag| tag != before.as_ref().map_or(0, Grouped::tag)) {
            let text = format!("the group {id} is not what it was: read it again");
            return Err(Fault::new(Code::Conflict, text));
        }
        let missing = || no_such("group", id);
        match step {
            GroupStep::Put { name, devices } => {
                let is_new = before.is_none();
                self.check_group_count(usize::from(is_new))?;
                self.check_members(id, devices)?;
                let mut touched = self.make_groups(tenant, &[id.to_owned()]);
                touched.extend(self.rename_group(tenant, id, name));
                touched.extend(self.set_members(tenant, id, devices)?);
                Ok(touched)
            }
            GroupStep::Edit { name, devices } => {
                before.ok_or_else(missing)?;
                let mut touched = match devices {
                    Some(devices) => self.set_members(tenant, id, devices)?,
                    None => Vec::new(),
                };
                touched.extend(name.iter().flat_map(|name| self.rename_group(tenant, id, name)));
                Ok(touched)
            }
            GroupStep::Remove => {
                before.ok_or_else(missing)?;
                if self.scenes.has_group(id) {
                    let text = format!("the group {id} has scenes: remove them first");
                    return Err(Fault::new(Code::Conflict, text));
                }
                self.remove_group(tenant, id)
            }
            GroupStep::RemoveWithScenes => {
                before.ok_or_else(missing)?;
                let mut touched = self.remove_group(tenant, id)?;
                touched.extend(self.scenes.remove_of(tenant, id));
                Ok(touched)
            }
            GroupStep::Join(device) => {
                before.ok_or_else(missing)?;
                self.check_members(id, std::slice::from_ref(device))?;
                Ok(self.join(tenant, id, device).into_iter().collect())
            }
            GroupStep::Leave(device) => {
                let is_in = before.ok_or_else(missing)?.devices.contains(device.as_str());
                let text = || format!("the device {device} is not in the group {id}");
                let left = is_in.then(|| self.leave(tenant, id, device)).flatten();
                left.map(|key| vec![key]).ok_or_else(|| Fault::new(Code::NotFound, text()))
            }
        }
    }

    /// The next number for a scene of this group, or of none; the row that this touches.
    pub(super) fn next_scene(&mut self, tenant: &TenantId, group: Option<&str>) -> (u64, RowKey) {
        let group = group.and_then(|id| self.groups.by_id.get_mut(id));
        let Some(group) = group.map(Arc::make_mut) else {
            self.numbers.scene += 1;
            return (self.numbers.scene, RowKey::Numbers(tenant.clone()));
        };
        group.last_scene += 1;
        (group.last_scene, RowKey::Group(tenant.clone(), group.id.clone()))
    }

    fn remove_group(&mut self, tenant: &TenantId, id: &str) -> Result<Vec<RowKey>, Fault> {
        let mut touched = self.set_members(tenant, id, &[])?;
        self.groups.by_id.remove(id);
        touched.push(RowKey::Group(tenant.clone(), id.to_owned()));
        Ok(touched)
    }

    fn rename_group(
        &mut self,
        tenant: &TenantId,
        id: &str,
        name: &Option<String>,
    ) -> Option<RowKey> {
        let group = self.groups.by_id.get_mut(id).filter(|group| group.name != *name)?;
        Arc::make_mut(group).name.clone_from(name);
        Some(RowKey::Group(tenant.clone(), id.to_owned()))
    }

    /// Refuses devices that are not there, and those that are in too many groups.
    fn check_members(&self, group: &str, devices: &[String]) -> Result<(), Fault> {
        for id in devices {
            let device = self.devices.get(id.as_str()).ok_or_else(|| no_such("device", id))?;
            let is_full = device.groups.len() >= GROUPS_PER_DEVICE_MAX;
            if is_full && !device.groups.iter().any(|known| known == group) {
                let text = format!("the device {id} is in {GROUPS_PER_DEVICE_MAX} groups already");
                return Err(Fault::new(Code::QueueFull, text));
            }
        }
        Ok(())
    }

    fn set_members(
        &mut self,
        tenant: &TenantId,
        group: &str,
        devices: &[String],
    ) -> Result<Vec<RowKey>, Fault> {
        self.check_members(group, devices)?;
        let wanted: BTreeSet<&str> = devices.iter().map(String::as_str).collect();
        let before = self.groups.devices(group);
        let leaving = before.iter().map(DeviceId::as_str).filter(|id| !wanted.contains(id));
        let left: Vec<_> = leaving.filter_map(|id| self.leave(tenant, group, id)).collect();
        let joined = wanted.iter().filter_map(|id| self.join(tenant, group, id));
        Ok(left.into_iter().chain(joined).collect())
    }

    /// A device enters a group; its row, unless it was in it.
    fn join(&mut self, tenant: &TenantId, group: &str, id: &str) -> Option<RowKey> {
        let (key, device) = self.devices.get_key_value(id)?;
        if device.groups.iter().any(|known| known == group) {
            return None;
        }
        let (key, group) = (key.clone(), group.to_owned());
        self.groups.enter(&key, std::slice::from_ref(&group));
        Arc::make_mut(self.devices.get_mut(&key)?).groups.push(group);
        Some(RowKey::Device(tenant.clone(), key))
    }

    /// A device leaves a group; its row.
    fn leave(&mut self, tenant: &TenantId, group: &str, id: &str) -> Option<RowKey> {
        let key = self.devices.get_key_value(id)?.0.clone();
        self.groups.leave(&key, &[group.to_owned()]);
        Arc::make_mut(self.devices.get_mut(&key)?).groups.retain(|known| known != group);
        Some(RowKey::Device(tenant.clone(), key))
    }
}

#[cfg(test)]
mod tests;
