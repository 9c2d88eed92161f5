//! What the log holds: records, each with its number and its arrival time.

use std::sync::Arc;

use bytes::Bytes;
use fieldgate_core::{
    dialect::{CommandState, GapReason},
    id::{DeviceId, MsgId, Seq, TenantId, UnixMs},
    message::{Message, Qos},
};

use crate::{audit::Note, registry::RegistryChange};

/// Above every number that a log gives: they stay below 2^53 (`storage.md` 1.5), and a reservation
/// reaches a little further. What names a greater one is no record of ours.
pub(crate) const SEQ_BOUND: Seq = Seq(1 << 54);

/// Who moved a command that its device did as its reports show. No device and no principal has this
/// name.
pub const BY_REPORT: &str = "gateway/report";

/// A record with its place in the log. Immutable, shared as `Arc<Entry>`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its number.
    pub seq: Seq,
    /// When it arrived here.
    pub arrived: UnixMs,
    /// What it says.
    pub record: Record,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A message was accepted.
    Message(Message),
    /// A command moved in its life.
    Command(CommandChange),
    /// The registry changes, if its condition holds when its turn comes.
    Registry(Box<RegistryChange>),
    /// Something for the audit that is no change of the registry.
    Note(Box<Note>),
    /// Numbers up to and including this one's predecessor, from `from` on, mean nothing.
    Gap {
        /// First number lost.
        from: Seq,
        /// Last number lost.
        to: Seq,
        /// Why.
        reason: GapReason,
    },
}

impl Record {
    /// Tells whether acknowledging and routing wait for the sync. What changes the state does at any
    /// QoS: the state must never hold what the log may still refuse.
    #[must_use]
    pub fn waits_for_sync(&self) -> bool {
        !matches!(self, Self::Message(m) if m.qos == Qos::AtMostOnce && !m.retain)
    }

    /// About what it costs in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Message(message) => {
                let reference = message.reference.as_ref().map_or(0, |id| id.as_str().len());
                let names =
                    message.topic.as_str().len() + message.tenant.as_str().len() + reference;
                64 + names + message.from.len() + message.content_bytes()
            }
            Self::Command(change) => {
                320 + change.by.len() + change.payload.as_ref().map_or(0, |payload| payload.len())
            }
            Self::Registry(change) => 1_024 + change.memory_bytes(),
            Self::Note(note) => 128 + note.said.memory_bytes(),
            Self::Gap { .. } => 64,
        }
    }

    /// The message and the id by which a repeat of it is known. QoS 0 is not acknowledged: its id
    /// says nothing.
    pub(crate) fn repeatable(&self) -> Option<(&Message, &MsgId)> {
        let Self::Message(message) = self else { return None };
        let msgid = message.reference.as_ref().filter(|_| message.qos > Qos::AtMostOnce)?;
        Some((message, msgid))
    }
}

/// A step in the life of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandChange {
    /// Whose.
    pub tenant: TenantId,
    /// The device that it is for.
    pub device: DeviceId,
    /// The number of the command's message.
    pub command: Seq,
    /// To where.
    pub state: CommandState,
    /// What the device said: one JSON value.
    pub payload: Option<Bytes>,
    /// Who moved it: a device or principal, `gateway`, or [`BY_REPORT`].
    pub by: Arc<str>,
}
