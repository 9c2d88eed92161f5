//! Frames that the mirror made for deCONZ clients, on their way to the links of one worker.
//!
//! They are made once for all. Whoever does not keep up is cut off, and hears what changed meanwhile when
//! it comes again: its clients know neither positions nor gaps. What a client has read is known by its
//! pongs: it answers a ping behind all that was written before.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use fieldgate_core::{close::CloseReason, id::Seq};
use fieldgate_dialects::wire::Form;

use super::{Hub, deliver::TICK_BYTES_MAX};
use crate::{link::Link, worker::Pushed};

/// Most pings of which an answer is awaited; what was written before a later one counts as not read.
const PINGS_MAX: usize = 16;

/// A link that is told of changes.
#[derive(Debug)]
pub(super) struct Listening {
    link: Rc<Link>,
    /// What may wait for it beyond the usual, until nothing does: what it was told first.
    spare_bytes: Cell<usize>,
    /// Everything up to here was written to it.
    through: Cell<Seq>,
    /// Up to where, at each ping that it did not answer yet: who is behind answers the first of several
    /// late, and has read no more than what was before that.
    pinged: RefCell<VecDeque<Seq>>,
}

impl Hub {
    /// Sends frames to those who listen.
    pub(crate) fn push(&self, pushed: Pushed) {
        match pushed {
            Pushed::First { link, frames, count, through } => {
                let Some(link) = self.link(link).filter(|link| !link.is_closing()) else { return };
                let listening = Listening {
                    link,
                    spare_bytes: Cell::new(frames.len()),
                    through: Cell::new(through),
                    pinged: RefCell::default(),
                };
                let delivered_count = self.push_to(&listening, &frames, count);
                self.listeners.borrow_mut().insert(listening.link.id, listening);
                add(&self.shared.stats.delivered, delivered_count);
            }
            Pushed::All { frames, count, through } => {
                let mut delivered_count = 0;
                for listening in self.listeners.borrow().values() {
                    listening.through.set(through);
                    delivered_count += self.push_to(listening, &frames, count);
                }
                add(&self.shared.stats.delivered, delivered_count);
            }
            Pushed::Lost => self.cut_listeners(),
        }
    }

    /// Queues frames for the end of this tick; tells how many.
    fn push_to(&self, listening: &Listening, frames: &Bytes, count: u64) -> u64 {
        let Listening { link, spare_bytes, .. } = listening;
        if link.is_closing() || frames.is_empty() {
            return 0;
        }
        let waiting_bytes = link.outbox.byte_len();
        if waiting_bytes == 0 {
            spare_bytes.set(frames.len().min(spare_bytes.get()));
        }
        let bytes_max = link.outbox.bytes_max().saturating_add(spare_bytes.get());
        if waiting_bytes > 0 && waiting_bytes + frames.len() > bytes_max {
            link.close(CloseReason::SlowReceiver);
            return 0;
        }
        self.touch(link);
        link.outbox.push_shared(frames.clone());
        if link.outbox.byte_len() > TICK_BYTES_MAX {
            Self::flush_link(link);
        }
        count
    }

    /// A listening link is pinged: what was written before is read once it answers.
    pub(super) fn note_ping(&self, link: &Link) {
        if link.form.get() == Form::Deconz
            && let Some(listening) = self.listeners.borrow().get(&link.id)
        {
            let mut pinged = listening.pinged.borrow_mut();
            if pinged.len() < PINGS_MAX {
                pinged.push_back(listening.through.get());
            }
        }
    }

    /// A listening link answered a ping: the oldest, be it that it left out some of them.
    pub(crate) fn on_pong(&self, link: &Link) {
        if link.form.get() != Form::Deconz {
            return;
        }
        let listeners = self.listeners.borrow();
        let own = listeners.get(&link.id);
        let read = own.and_then(|listening| listening.pinged.borrow_mut().pop_front());
        if let Some((bridge, read)) = self.shared.bridge.as_ref().zip(read) {
            bridge.has_read(self.link_ref(link), read);
        }
    }

    /// This worker did not keep up: what its links missed they hear when they come again.
    fn cut_listeners(&self) {
        let links = self.links.borrow();
        let all = links.values().filter(|link| link.form.get() == Form::Deconz);
        all.for_each(|link| link.close(CloseReason::SlowReceiver));
    }

    pub(super) fn end_listening(&self, link: &Rc<Link>) {
        if link.form.get() != Form::Deconz {
            return;
        }
        self.listeners.borrow_mut().remove(&link.id);
        if let Some(bridge) = &self.shared.bridge {
            bridge.leave(self.link_ref(link));
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
