//! What the state holds as rows, and which of them the tables lack.
//!
//! [`Changes`] gathers while records are applied; `tables::apply` takes them about once a second.
//! Invariant: a taken set is exactly what the records up to its `applied` changed.

use std::{collections::BTreeMap, sync::Arc};

use fieldgate_core::{
    id::{DeviceId, Seq, TenantId},
    topic::Topic,
};

use super::{
    OpenCommand,
    window::{IDS_MAX, KnownId},
};
use crate::{
    record::Entry,
    registry::{ApiKey, Device, User},
};

/// The name of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowKey {
    Device(TenantId, DeviceId),
    Key(TenantId, String),
    User(TenantId, String),
    Retained(TenantId, Topic),
    Command(Seq),
}

/// What stands in a row.
#[derive(Debug, Clone)]
pub(crate) enum Row {
    Device(Arc<Device>),
    Key(Arc<ApiKey>),
    User(Arc<User>),
    Retained(Arc<Entry>),
    Command(OpenCommand),
}

/// What was changed since the last time; `None`: the row is gone.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Everything up to this number was applied.
    pub(crate) applied: Seq,
    pub(crate) rows: BTreeMap<RowKey, Option<Row>>,
    pub(crate) ids: Vec<KnownId>,
    /// Nobody takes changes: none are gathered.
    pub(crate) paused: bool,
}

impl Changes {
    pub(super) fn row(&mut self, key: RowKey, row: Option<Row>) {
        if !self.paused {
            self.rows.insert(key, row);
        }
    }

    pub(super) fn id(&mut self, known: KnownId) {
        if self.paused {
            return;
        }
        if self.ids.len() >= IDS_MAX {
            // The window itself knows no more than the newer half of these.
            self.ids.drain(..IDS_MAX / 2);
        }
        self.ids.push(known);
    }

    /// Takes what was gathered; gathering goes on.
    pub(crate) fn take(&mut self) -> Self {
        let rows = std::mem::take(&mut self.rows);
        let ids = std::mem::take(&mut self.ids);
        Self { applied: self.applied, rows, ids, paused: self.paused }
    }
}

/// The whole state at one number.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) applied: Seq,
    pub(crate) rows: Vec<(RowKey, Row)>,
}
