//! The life of commands (`guarantees.md`, "Commands"): the first end in the log stands.
//!
//! Pure data; `State` applies records in seq order. Ended commands are forgotten here; the log has
//! them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use fieldgate_core::{
    dialect::CommandState,
    id::{DeviceId, MsgId, Seq, TenantId, UnixMs},
    message::Message,
};

use crate::record::{CommandChange, Entry, Record};

/// A command that has not ended.
#[derive(Debug, Clone)]
pub struct OpenCommand {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its device.
    pub device: DeviceId,
    /// Its message.
    pub entry: Arc<Entry>,
    /// Where it is in its life.
    pub state: CommandState,
    /// Its sender.
    pub sender: Arc<str>,
    /// The sender's id.
    pub reference: Option<MsgId>,
    /// Worthless after this time.
    pub expires: Option<UnixMs>,
}

impl OpenCommand {
    /// How many bytes its payload has.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        match &self.entry.record {
            Record::Message(message) => message.payload.len(),
            Record::Command(_) | Record::Registry(_) | Record::Note(_) | Record::Gap { .. } => 0,
        }
    }

    /// The command that a message is, if it is for a device.
    pub(crate) fn of(entry: &Arc<Entry>, message: &Message, state: CommandState) -> Option<Self> {
        Some(Self {
            tenant: message.tenant.clone(),
            device: message.topic.device()?.parse().ok()?,
            entry: Arc::clone(entry),
            state,
            sender: Arc::clone(&message.from),
            reference: message.reference.clone(),
            expires: message.expires,
        })
    }
}

/// A step of a command, for those who follow it.
#[derive(Debug, Clone)]
pub struct CommandMoved {
    /// The command as it is now.
    pub command: OpenCommand,
    /// What the device said.
    pub payload: Option<Bytes>,
}

/// How many commands are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenCount {
    /// For the device.
    pub device_count: usize,
    /// In its tenant.
    pub tenant_count: usize,
    /// Bytes of their payloads, in its tenant.
    pub tenant_bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Commands {
    by_seq: BTreeMap<Seq, OpenCommand>,
    by_device: BTreeMap<(TenantId, DeviceId), Vec<Seq>>,
    /// How many, and bytes of payload.
    by_tenant: BTreeMap<TenantId, (usize, usize)>,
}

/// Ends are final; before that a life only goes forward.
fn may_move(from: CommandState, to: CommandState) -> bool {
    from < CommandState::Completed && to > from
}

impl Commands {
    pub(super) fn queue(&mut self, entry: &Arc<Entry>, message: &Message) {
        if let Some(command) = OpenCommand::of(entry, message, CommandState::Queued) {
            self.restore(command);
        }
    }

    pub(super) fn restore(&mut self, command: OpenCommand) {
        let (count, bytes) = self.by_tenant.entry(command.tenant.clone()).or_default();
        *count += 1;
        *bytes += command.payload_len();
        let key = (command.tenant.clone(), command.device.clone());
        self.by_device.entry(key).or_default().push(command.entry.seq);
        self.by_seq.insert(command.entry.seq, command);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_seq.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Seq, OpenCommand)> {
        self.by_seq.iter().map(|(seq, command)| (*seq, command.clone()))
    }

    pub(super) fn apply(&mut self, change: &CommandChange) -> Option<CommandMoved> {
        let command = self.by_seq.get_mut(&change.command)?;
        let same = command.tenant == change.tenant && command.device == change.device;
        if !same || !may_move(command.state, change.state) {
            return None;
        }
        command.state = change.state;
        let moved = CommandMoved { command: command.clone(), payload: change.payload.clone() };
        if change.state >= CommandState::Completed {
            self.by_seq.remove(&change.command);
            if let Some((count, bytes)) = self.by_tenant.get_mut(&change.tenant) {
                *count = count.saturating_sub(1);
                *bytes = bytes.saturating_sub(moved.command.payload_len());
            }
            let key = (change.tenant.clone(), change.device.clone());
            if let Some(open) = self.by_device.get_mut(&key) {
                open.retain(|seq| *seq != change.command);
                if open.is_empty() {
                    self.by_device.remove(&key);
                }
            }
        }
        Some(moved)
    }

    /// Ends every command of a device as cancelled, oldest first.
    pub(super) fn cancel_all(&mut self, tenant: &TenantId, device: &DeviceId) -> Vec<CommandMoved> {
        let open = self.by_device.get(&(tenant.clone(), device.clone())).cloned();
        let end = |command: Seq| CommandChange {
            tenant: tenant.clone(),
            device: device.clone(),
            command,
            state: CommandState::Cancelled,
            payload: None,
            by: "gateway".into(),
        };
        open.into_iter().flatten().filter_map(|seq| self.apply(&end(seq))).collect()
    }

    pub(super) fn of(&self, tenant: &TenantId, device: &DeviceId) -> Vec<OpenCommand> {
        let open = self.by_device.get(&(tenant.clone(), device.clone()));
        open.into_iter().flatten().filter_map(|seq| self.get(*seq)).collect()
    }

    /// The newest of them, newest first.
    pub(super) fn newest_of(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        count_max: usize,
    ) -> Vec<OpenCommand> {
        let open = self.by_device.get(&(tenant.clone(), device.clone()));
        let newest = open.into_iter().flat_map(|open| open.iter().rev());
        newest.take(count_max).filter_map(|seq| self.get(*seq)).collect()
    }

    /// The devices that have one.
    pub(super) fn devices(&self) -> Vec<(TenantId, DeviceId)> {
        self.by_device.keys().cloned().collect()
    }

    pub(super) fn count(&self, tenant: &TenantId, device: &DeviceId) -> OpenCount {
        let open = self.by_device.get(&(tenant.clone(), device.clone()));
        let (tenant_count, tenant_bytes) = self.by_tenant.get(tenant).copied().unwrap_or_default();
        OpenCount { device_count: open.map_or(0, Vec::len), tenant_count, tenant_bytes }
    }

    /// How many are open in a tenant.
    pub(super) fn count_of(&self, tenant: &TenantId) -> usize {
        self.by_tenant.get(tenant).map_or(0, |(count, _)| *count)
    }

    pub(super) fn seqs_of(&self, tenant: &TenantId) -> impl Iterator<Item = Seq> {
        self.by_seq.iter().filter(move |(_, open)| open.tenant == *tenant).map(|(seq, _)| *seq)
    }

    /// Forgets every command of a tenant.
    pub(super) fn forget(&mut self, tenant: &TenantId) {
        self.by_seq.retain(|_, open| open.tenant != *tenant);
        self.by_device.retain(|(of, _), _| of != tenant);
        self.by_tenant.remove(tenant);
    }

    pub(super) fn get(&self, seq: Seq) -> Option<OpenCommand> {
        self.by_seq.get(&seq).cloned()
    }

    pub(super) fn expired(&self, now: UnixMs) -> Vec<OpenCommand> {
        let due = |command: &&OpenCommand| command.expires.is_some_and(|expires| expires <= now);
        self.by_seq.values().filter(due).cloned().collect()
    }
}
