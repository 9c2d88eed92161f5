//! The audit of each tenant: two trails of entries, each chained by hash and bounded in length.
//!
//! Entries are made while records are applied, from the records alone, so that the same log gives the
//! same chains. Invariant: numbers in a trail are contiguous; what is gone is the oldest.

use std::{collections::VecDeque, sync::Arc};

use fieldgate_core::{audit::Trail, id::TenantId};

use super::{
    State,
    changes::{Changes, Row, RowKey},
    tenants::Inner,
};
use crate::{
    audit::{AuditEntry, Note, Said, TRAIL_LEN_MAX, told},
    record::Entry,
    registry::{Change, RegistryChange},
};

/// The trails of a tenant.
#[derive(Debug, Default)]
pub(super) struct Trails {
    admin: VecDeque<Arc<AuditEntry>>,
    access: VecDeque<Arc<AuditEntry>>,
}

impl Trails {
    pub(super) const fn of(&self, trail: Trail) -> &VecDeque<Arc<AuditEntry>> {
        match trail {
            Trail::Admin => &self.admin,
            Trail::Access => &self.access,
        }
    }

    const fn of_mut(&mut self, trail: Trail) -> &mut VecDeque<Arc<AuditEntry>> {
        match trail {
            Trail::Admin => &mut self.admin,
            Trail::Access => &mut self.access,
        }
    }

    /// Takes an entry as it was written down, in the order of their numbers.
    pub(super) fn restore(&mut self, trail: Trail, entry: Arc<AuditEntry>) {
        self.of_mut(trail).push_back(entry);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Trail, &Arc<AuditEntry>)> {
        let those = |trail| self.of(trail).iter().map(move |entry| (trail, entry));
        Trail::ALL.into_iter().flat_map(those)
    }
}

impl State {
    /// The entries of a trail, oldest first.
    #[must_use]
    pub fn trail(&self, tenant: &TenantId, trail: Trail) -> Vec<Arc<AuditEntry>> {
        let inner = self.read();
        let trails = inner.tenants.get(tenant).map(|tenant| &tenant.trails);
        trails.map(|trails| trails.of(trail).iter().cloned().collect()).unwrap_or_default()
    }
}

impl Inner {
    /// Enters what a change did that was made.
    pub(super) fn enter_change(
        &mut self,
        entry: &Entry,
        change: &RegistryChange,
        changes: &mut Changes,
    ) {
        // A tenant as a whole is the business of whoever administers the gateway.
        let of_gateway = change.change.is_of_tenant();
        let tenant = if of_gateway { "default" } else { &change.tenant };
        let Ok(tenant) = tenant.parse() else { return };
        if let Some(said) = told(change) {
            self.enter(&tenant, entry, said, changes);
        }
    }

    pub(super) fn enter_note(&mut self, entry: &Entry, note: &Note, changes: &mut Changes) {
        let Ok(tenant) = note.tenant.parse() else { return };
        // Of a tenant that went meanwhile, nobody reads it.
        if self.has_tenant(&tenant) {
            self.enter(&tenant, entry, note.said.clone(), changes);
        }
    }

    fn enter(&mut self, tenant_id: &TenantId, entry: &Entry, said: Said, changes: &mut Changes) {
        let trail = said.trail();
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        let entries = tenant.trails.of_mut(trail);
        let last = entries.back().map(|entry| &**entry);
        let made = Arc::new(AuditEntry::after(last, entry.seq, entry.arrived, said));
        let key = |number| RowKey::Audit(tenant_id.clone(), trail, number);
        changes.row(key(made.number), Some(Row::Audit(Arc::clone(&made))));
        entries.push_back(made);
        if entries.len() > TRAIL_LEN_MAX
            && let Some(oldest) = entries.pop_front()
        {
            changes.row(key(oldest.number), None);
        }
    }

    /// The revision of the profile that a change sets; of any other change, nothing.
    pub(super) fn revision(&self, change: &RegistryChange) -> Option<u64> {
        let Change::ProfileSet { device, .. } = &change.change else { return None };
        let tenant = self.tenants.get(change.tenant.as_str())?;
        let device = tenant.devices.get(device.as_str())?;
        Some(device.profile.as_ref().map_or(0, |described| described.revision))
    }
}
