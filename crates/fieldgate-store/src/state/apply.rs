//! The next step of the log: what it does to the state, and who must hear of it.
//!
//! Called in seq order, by one thread. Conditions of a change are decided here, when its turn comes.

use std::sync::{Arc, atomic::Ordering};

use fieldgate_core::{
    id::{DeviceId, Seq, TenantId},
    message::{Kind, Message},
};

use super::{
    Effect, State,
    changes::{Changes, RowKey},
    reported,
    tenants::Inner,
};
use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{Change, RegistryChange},
};

/// The newest outcomes of changes that are kept.
const OUTCOMES_MAX: usize = 4_096;

impl State {
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
                    effects.extend(inner.cancel_all(tenant, device, changes));
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
}

impl Inner {
    /// Ends what waits for a device that is removed: it is not for whoever gets its id later. The
    /// removal is what says so in the log.
    fn cancel_all(
        &mut self,
        tenant: &TenantId,
        device: &DeviceId,
        changes: &mut Changes,
    ) -> Vec<Effect> {
        let ended = self.commands.cancel_all(tenant, device);
        for moved in &ended {
            changes.row(RowKey::Command(moved.command.entry.seq), None);
        }
        ended.into_iter().map(Effect::CommandMoved).collect()
    }
}
