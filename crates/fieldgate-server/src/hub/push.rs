//! Frames that the mirror made for deCONZ clients, on their way to the links of one worker.
//!
//! They are made once for all. Whoever does not keep up is cut off, and hears what changed meanwhile when
//! it comes again: its clients know neither positions nor gaps.

use std::{rc::Rc, sync::atomic::Ordering};

use fieldgate_core::close::CloseReason;
use fieldgate_dialects::wire::Form;

use super::Hub;
use crate::{link::Link, worker::Pushed};

impl Hub {
    /// Sends frames to those who listen.
    pub(crate) fn push(&self, pushed: Pushed) {
        let (frames, count) = match pushed {
            Pushed::All { frames, count } => (frames, count),
            Pushed::First { link, frames, count } => {
                let Some(link) = self.link(link).filter(|link| !link.is_closing()) else { return };
                self.touch(&link);
                link.outbox.push_shared(frames);
                self.listeners.borrow_mut().push(link);
                self.shared.stats.delivered.fetch_add(count, Ordering::Relaxed);
                return;
            }
            Pushed::Lost => return self.cut_listeners(),
        };
        let mut delivered_count = 0;
        for link in self.listeners.borrow().iter().filter(|link| !link.is_closing()) {
            let outbox = &link.outbox;
            if outbox.has_waiting() && outbox.byte_len() + frames.len() > outbox.bytes_max() {
                link.close(CloseReason::SlowReceiver);
                continue;
            }
            self.touch(link);
            outbox.push_shared(frames.clone());
            delivered_count += count;
        }
        self.shared.stats.delivered.fetch_add(delivered_count, Ordering::Relaxed);
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
        self.listeners.borrow_mut().retain(|listener| listener.id != link.id);
        if let Some(bridge) = &self.shared.bridge {
            bridge.leave(self.link_ref(link));
        }
    }
}
