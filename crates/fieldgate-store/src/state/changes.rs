//! What the state holds as rows, and which of them the tables lack.
//!
//! [`Changes`] gathers while records are applied; `tables::apply` takes them about once a second.
//! Invariant: a taken set is exactly what the records up to its `applied` changed.

use std::{collections::BTreeMap, sync::Arc};

use fieldgate_core::{
    audit::Trail,
    id::{DeviceId, Seq, TenantId},
    state::{Desired, Reported},
    topic::Topic,
};

use super::{OpenCommand, reported::Slot};
use crate::{
    audit::AuditEntry,
    port::Log,
    record::Entry,
    registry::{
        Account, Activation, ApiKey, Asides, BridgeKey, Device, Group, Guard, Integration, Numbers,
        Origin, PartNumbers, Parts, Progress, Scene, SignIns, TenantInfo, User,
    },
};

/// The name of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowKey {
    Tenant(TenantId),
    Device(TenantId, DeviceId),
    Key(TenantId, String),
    User(TenantId, String),
    SignIns(TenantId, String),
    Guard(TenantId, DeviceId),
    Retained(TenantId, Topic),
    Command(Seq),
    Reported(TenantId, DeviceId),
    Audit(TenantId, Trail, u64),
    Group(TenantId, String),
    Numbers(TenantId),
    Scene(TenantId, String),
    Desired(TenantId, DeviceId),
    Integration(TenantId, String),
    Progress(TenantId, String),
    Asides(TenantId, String),
    Origin(TenantId, DeviceId),
    Account(TenantId, String),
    Activation(TenantId, String),
    Parts(TenantId, DeviceId),
    PartNumbers(TenantId),
    BridgeKey(TenantId, String),
}

/// What stands in a row.
#[derive(Debug, Clone)]
pub(crate) enum Row {
    Tenant(TenantInfo),
    Device(Arc<Device>),
    Key(Arc<ApiKey>),
    User(Arc<User>),
    SignIns(Arc<SignIns>),
    Guard(Arc<Guard>),
    Retained(Arc<Entry>),
    Command(OpenCommand),
    Reported(Arc<Reported>),
    Audit(Arc<AuditEntry>),
    Group(Arc<Group>),
    Numbers(Numbers),
    Scene(Arc<Scene>),
    Desired(Arc<Desired>),
    Integration(Arc<Integration>),
    Progress(Arc<Progress>),
    Asides(Arc<Asides>),
    Origin(Arc<Origin>),
    Account(Arc<Account>),
    Activation(Arc<Activation>),
    Parts(Arc<Parts>),
    PartNumbers(PartNumbers),
    BridgeKey(Arc<BridgeKey>),
}

/// What was changed since the last time; `None`: the row is gone.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Everything up to this number was applied.
    pub(crate) applied: Seq,
    pub(crate) rows: BTreeMap<RowKey, Option<Row>>,
    /// What devices reported: a row each, once it is settled.
    pub(crate) slots: BTreeMap<(TenantId, DeviceId), Arc<Slot>>,
    /// Nobody takes changes: none are gathered.
    pub(crate) paused: bool,
}

impl Changes {
    pub(super) fn row(&mut self, key: RowKey, row: Option<Row>) {
        if self.paused {
            return;
        }
        if let RowKey::Reported(tenant, device) = &key {
            self.slots.remove(&(tenant.clone(), device.clone()));
        }
        self.rows.insert(key, row);
    }

    /// Notes that a device reported something.
    pub(super) fn slot(&mut self, slot: Arc<Slot>) {
        if !self.paused {
            self.slots.insert(slot.key(), slot);
        }
    }

    /// Takes back what could not be settled whole, but for devices that were removed meanwhile.
    pub(crate) fn keep(&mut self, slots: Vec<Arc<Slot>>) {
        for slot in slots {
            let (tenant, device) = slot.key();
            if !self.rows.contains_key(&RowKey::Reported(tenant, device)) {
                self.slots.entry(slot.key()).or_insert(slot);
            }
        }
    }

    /// Makes rows of what devices reported, as far as it is durable; returns those of which it is
    /// not all.
    pub(crate) fn settle(&mut self, log: &dyn Log) -> Vec<Arc<Slot>> {
        let mut left = Vec::new();
        for (_, slot) in std::mem::take(&mut self.slots) {
            let (key, row) = settle(slot, log, &mut left);
            self.rows.insert(key, row);
        }
        left
    }

    /// Takes what was gathered; gathering goes on.
    pub(crate) fn take(&mut self) -> Self {
        let rows = std::mem::take(&mut self.rows);
        let slots = std::mem::take(&mut self.slots);
        Self { applied: self.applied, rows, slots, paused: self.paused }
    }
}

/// The whole state at one number.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) applied: Seq,
    pub(crate) rows: Vec<(RowKey, Row)>,
    /// What devices reported: rows once it is settled.
    pub(crate) slots: Vec<Arc<Slot>>,
}

impl Snapshot {
    /// As [`Changes::settle`].
    pub(crate) fn settle(&mut self, log: &dyn Log) -> Vec<Arc<Slot>> {
        let mut left = Vec::new();
        for slot in std::mem::take(&mut self.slots) {
            let (key, row) = settle(slot, log, &mut left);
            self.rows.extend(row.map(|row| (key, row)));
        }
        left
    }
}

/// No row where the log refused all that there was.
fn settle(slot: Arc<Slot>, log: &dyn Log, left: &mut Vec<Arc<Slot>>) -> (RowKey, Option<Row>) {
    let (tenant, device) = slot.key();
    let (reported, is_left) = slot.settle(log);
    left.extend(is_left.then_some(slot));
    let row = (reported.taken() > Seq(0)).then_some(Row::Reported(reported));
    (RowKey::Reported(tenant, device), row)
}
