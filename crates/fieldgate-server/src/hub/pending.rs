//! What waits until a record is durable, or applied too: acknowledgements, pongs to sources, and
//! frames of commands.
//!
//! In number order, on the hub's thread. Nothing leaves before the log says that it is stored; what
//! changes commands or retained messages is acknowledged once the state has it, so that whoever
//! hears of it may build on it.

use std::{
    ops::RangeInclusive,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use fieldgate_core::{
    dialect::{Answer, BatchResult, CommandState, Delivery, Marks},
    fault::{Code, Fault},
    id::{MsgId, Seq},
    message::Qos,
};
use fieldgate_dialects::ws;
use fieldgate_store::{Log, state::CommandMoved};

use super::Hub;
use crate::{commands, fabric::message_of, link::Link};

/// What happens once an admitted record is durable.
#[derive(Debug)]
pub(crate) enum Then {
    Ack {
        reference: MsgId,
        batch: Option<BatchResult>,
    },
    CommandAccepted {
        reference: Option<MsgId>,
        device_count: usize,
    },
    SendCommand {
        command: Seq,
        byte_len: usize,
    },
    /// A ping of a source is answered, with what it said.
    Pong(Box<[u8]>),
    /// A change of the registry: only its turn tells whether it was made.
    Decided {
        reference: Option<MsgId>,
        told: bool,
    },
}

#[derive(Debug)]
pub(super) struct Pending {
    first: Seq,
    last: Seq,
    link: u64,
    then: Then,
    applied: bool,
}

impl Hub {
    /// Notes what to do when `range` is durable; at once if it is.
    pub(crate) fn when_durable(&self, link: &Link, range: RangeInclusive<u64>, then: Then) {
        self.when(link, &range, then, false);
    }

    /// Notes what to do when `range` is durable and the state has it; at once if so.
    pub(crate) fn when_applied(&self, link: &Link, range: RangeInclusive<u64>, then: Then) {
        self.when(link, &range, then, true);
    }

    fn when(&self, link: &Link, range: &RangeInclusive<u64>, then: Then, applied: bool) {
        let (first, last) = (Seq(*range.start()), Seq(*range.end()));
        let next = Pending { first, last, link: link.id, then, applied };
        let mut pending = self.pending.borrow_mut();
        if pending.back().is_none_or(|newest| newest.last <= last) {
            pending.push_back(next);
        } else {
            let at = pending.partition_point(|other| other.last <= last);
            pending.insert(at, next);
        }
        drop(pending);
        // Behind the number that this worker was last told of somebody will tell; up to it nobody.
        if last <= self.durable.get() {
            self.on_durable();
        }
    }

    /// The durable frontier moved, or the applied one that was waited for: acknowledge what is
    /// behind it.
    pub(crate) fn on_durable(&self) {
        let durable = self.shared.log.durable();
        self.durable.set(durable);
        // What a link sent in one breath is due in one.
        let mut last: Option<Rc<Link>> = None;
        while let Some(due) = self.next_due(durable) {
            let link = last.take().filter(|link| link.id == due.link);
            let Some(link) = link.or_else(|| self.link(due.link)) else { continue };
            if self.shared.log.is_refused(due.first) {
                self.refuse(&link, due.then);
            } else {
                self.confirm(&link, due.first, due.then);
            }
            last = Some(link);
        }
        self.space.notify_waiters();
    }

    fn next_due(&self, durable: Seq) -> Option<Pending> {
        let mut pending = self.pending.borrow_mut();
        let front = pending.front().filter(|front| front.last <= durable)?;
        // What was refused is never applied, and what is behind this one waits with it.
        let waits = front.applied
            && !self.shared.log.is_refused(front.first)
            && !self.shared.is_applied_for(self.number, front.last);
        if waits { None } else { pending.pop_front() }
    }

    fn refuse(&self, link: &Rc<Link>, then: Then) {
        let reference = match then {
            Then::Ack { reference, .. } => Some(reference),
            Then::CommandAccepted { reference, .. } | Then::Decided { reference, .. } => reference,
            Then::SendCommand { byte_len, .. } => return commands::sent(link, byte_len),
            // Who hears of no pong sends again what was before it.
            Then::Pong(_) => return,
        };
        let fault = Fault::new(Code::StorageUnavailable, "the disk failed: nothing is stored");
        self.answer(link, &Answer::Error { fault, reference, refused: Vec::new() });
    }

    fn confirm(&self, link: &Rc<Link>, seq: Seq, then: Then) {
        match then {
            Then::Ack { reference, batch } => {
                self.answer(link, &Answer::Ack { reference, seq, batch });
            }
            Then::CommandAccepted { reference, device_count } => {
                self.answer(link, &Answer::CommandAccepted { reference, seq, device_count });
            }
            Then::Decided { reference, told } => self.tell_outcome(link, seq, reference, told),
            Then::Pong(payload) => self.pong(link, &payload),
            Then::SendCommand { command, byte_len } => {
                commands::sent(link, byte_len);
                self.send_command(link, command, false);
            }
        }
    }

    /// Answers a ping.
    pub(crate) fn pong(&self, link: &Rc<Link>, payload: &[u8]) {
        self.touch(link);
        link.outbox.push_tick(|tick| tick.extend_from_slice(&ws::pong_frame(payload)));
    }

    fn tell_outcome(&self, link: &Rc<Link>, seq: Seq, reference: Option<MsgId>, told: bool) {
        let fault = match self.shared.outcome(seq) {
            Ok(()) => {
                if let Some(reference) = reference.filter(|_| told) {
                    self.answer(link, &Answer::Ack { reference, seq, batch: None });
                }
                return;
            }
            Err(fault) => fault,
        };
        self.shared.stats.refused.fetch_add(1, Ordering::Relaxed);
        self.answer(link, &Answer::Error { fault, reference, refused: Vec::new() });
    }

    /// Writes the `control` frame of a command whose `Sent` is durable.
    pub(crate) fn send_command(&self, link: &Rc<Link>, command: Seq, dup: bool) {
        let Some(open) = self.shared.state.open_command(command) else { return };
        let Some(message) = message_of(&open.entry) else { return };
        let marks = Marks { qos: Qos::AtLeastOnce, dup, ..Marks::default() };
        let delivery = Delivery { position: self.shared.position(command), message, marks };
        let mut text = self.text.borrow_mut();
        self.touch(link);
        let write = |tick: &mut Vec<u8>| {
            link.form.get().write_control(&delivery, &open.device, &mut text, tick);
        };
        link.outbox.push_tick(write);
    }

    /// A command waits for the device of this link.
    pub(crate) fn offer_command(self: &Rc<Self>, link: u64, seq: Seq) {
        if let Some(link) = self.link(link) {
            commands::offer(self, &link, seq);
        }
    }

    pub(crate) fn tell_command(&self, link: u64, moved: CommandMoved) {
        let Some(link) = self.link(link) else { return };
        if moved.command.state == CommandState::Queued {
            return;
        }
        let seq = moved.command.entry.seq;
        let reference = moved.command.reference.as_ref().map_or_else(
            || Arc::from(self.shared.position(seq).to_string()),
            |reference| Arc::from(reference.as_str()),
        );
        let (device, state) = (moved.command.device, moved.command.state);
        let payload = moved.payload;
        self.answer(&link, &Answer::CommandState { reference, device, state, payload });
    }
}
