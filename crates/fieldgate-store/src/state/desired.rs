//! What devices are wished to be in.
//!
//! Called in seq order by the one thread that applies the log. Invariant: a wish is one that its
//! device's profile takes; what a new profile does not take goes with the old one.

use std::sync::Arc;

use fieldgate_core::{
    id::{DeviceId, Seq, TenantId},
    message::{Content, Message},
    profile::{Profile, read_value},
    state::{Desired, WISHES, Wish},
};

use super::{
    Effect, State,
    changes::{Changes, RowKey},
    tenants::Inner,
};
use crate::record::Entry;

impl Inner {
    /// Drops the wishes of a device that its profile does not take; how many.
    pub(super) fn refit(
        &mut self,
        tenant: &TenantId,
        device: &DeviceId,
        seq: Seq,
        changes: &mut Changes,
    ) -> Option<Effect> {
        let of = self.tenants.get_mut(tenant)?;
        let profile = of.devices.get(device).and_then(|device| device.profile.as_ref());
        let profile = profile.map(|described| Arc::clone(&described.profile));
        let desired = of.desired.get_mut(device)?;
        let count = keep_fitting(Arc::make_mut(desired), profile.as_deref(), seq);
        refused(tenant, device, count).inspect(|_| {
            let key = RowKey::Desired(tenant.clone(), device.clone());
            changes.row(key.clone(), self.row(&key));
        })
    }
}

fn keep_fitting(desired: &mut Desired, profile: Option<&Profile>, seq: Seq) -> usize {
    let lookup = profile.map(Profile::lookup);
    desired.retain(seq, |name, wish: &Wish| {
        let fits = |value: fieldgate_core::resource::Value<'_>| {
            lookup.as_ref().is_some_and(|lookup| lookup.check_own(name, value).is_ok())
        };
        read_value(&wish.value, fits)
    })
}

fn refused(tenant: &TenantId, device: &DeviceId, count: usize) -> Option<Effect> {
    let (tenant, device) = (tenant.clone(), device.clone());
    (count > 0).then_some(Effect::WishesRefused { tenant, device, count: count as u64 })
}

impl State {
    /// Takes a wish in, and looks whether it is met already.
    pub(super) fn wish(
        &self,
        entry: &Entry,
        message: &Message,
        changes: &mut Changes,
    ) -> Vec<Effect> {
        let device = message.topic.device().and_then(|id| id.parse::<DeviceId>().ok());
        let Some(device) = device.filter(|_| message.content == Content::Json) else {
            return Vec::new();
        };
        let mut inner = self.write();
        let of = inner.tenants.get_mut(&message.tenant);
        let Some(of) = of.filter(|of| of.devices.contains_key(&device)) else { return Vec::new() };
        let text = std::str::from_utf8(&message.payload).unwrap_or_default();
        let desired = Arc::make_mut(of.desired.entry(device.clone()).or_default());
        let count = desired.take(entry.seq, text, WISHES);
        let mut effects: Vec<Effect> =
            refused(&message.tenant, &device, count).into_iter().collect();
        effects.extend(inner.refit(&message.tenant, &device, entry.seq, changes));
        let key = RowKey::Desired(message.tenant.clone(), device.clone());
        let row = inner.row(&key);
        changes.row(key, row);
        drop(inner);
        self.watch(&message.tenant, &device);
        effects
    }

    /// What a device is wished to be in; also that nothing is wished any more. Nothing if nothing ever
    /// was.
    #[must_use]
    pub fn desired(&self, tenant: &TenantId, device: &DeviceId) -> Option<Arc<Desired>> {
        self.read().tenants.get(tenant)?.desired.get(device).cloned()
    }

    /// The devices of which something is wished.
    #[must_use]
    pub fn wished_devices(&self, tenant: &TenantId) -> Vec<DeviceId> {
        let inner = self.read();
        let Some(of) = inner.tenants.get(tenant) else { return Vec::new() };
        let wished = of.desired.iter().filter(|(_, desired)| !desired.is_empty());
        wished.map(|(device, _)| device.clone()).collect()
    }

    /// The devices of a tenant of which anything was reported or wished, as far as `wanted` says so.
    #[must_use]
    pub fn known_devices(
        &self,
        tenant: &TenantId,
        wanted: impl Fn(&DeviceId) -> bool,
    ) -> Vec<DeviceId> {
        let inner = self.read();
        let Some(of) = inner.tenants.get(tenant) else { return Vec::new() };
        let reported = of.slots.all().map(|slot| slot.device());
        let mut devices: Vec<DeviceId> =
            reported.chain(of.desired.keys()).filter(|device| wanted(device)).cloned().collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }

    /// The wishes that a device is not in, as far as it reported: own names and values.
    #[must_use]
    pub fn difference(&self, tenant: &TenantId, device: &DeviceId) -> Vec<(Box<str>, Box<str>)> {
        let desired = self.desired(tenant, device).filter(|desired| !desired.is_empty());
        let Some(desired) = desired else { return Vec::new() };
        let (profile, reported) = (self.profile(tenant, device), self.reported(tenant, device));
        let is_met = |name: &str, wish: &Wish| {
            reported.as_ref().is_some_and(|reported| {
                super::watch::is_reached(profile.as_deref(), reported, name, &wish.value, Seq(0))
            })
        };
        let unmet = desired.all().filter(|(name, wish)| !is_met(name, wish));
        unmet.map(|(name, wish)| (name.into(), wish.value.clone())).collect()
    }
}
