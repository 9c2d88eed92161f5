//! What a client was asked to acknowledge, and has not: at most `limits.inflight_max` events, then it
//! reads the log as a slow receiver does.
//!
//! In: frames on their way to it, and its answers. Out: whether it may get more. Invariant: an answer
//! frees one event of its number, if one is open; the events of one message are not torn, so that the
//! last one may go above the bound.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use fieldgate_dialects::socketio::{Kind, asked, head};
use tokio::sync::Notify;

use super::Session;
use crate::link::Link;

/// How long half of a window is waited for before what is free of it has to do.
const LOOK: Duration = Duration::from_millis(250);

/// The open events of one stay in a namespace.
#[derive(Debug)]
pub(crate) struct Window {
    max: usize,
    /// How many are open of each number.
    open: RefCell<BTreeMap<u64, usize>>,
    count: Cell<usize>,
    freed: Notify,
}

impl Window {
    pub(super) fn new(max: usize) -> Self {
        let (open, count) = (RefCell::default(), Cell::new(0));
        Self { max, open, count, freed: Notify::new() }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.count.get() >= self.max
    }

    /// These frames are on their way.
    pub(crate) fn note(&self, frames: &[u8]) {
        let mut open = self.open.borrow_mut();
        for id in asked(frames) {
            *open.entry(id).or_default() += 1;
            self.count.set(self.count.get() + 1);
        }
    }

    fn is_open(&self, id: u64) -> bool {
        self.open.borrow().contains_key(&id)
    }

    /// An event was acknowledged; one that is not open changes nothing.
    fn free(&self, id: u64) {
        let mut open = self.open.borrow_mut();
        let Some(count) = open.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            open.remove(&id);
        }
        self.count.set(self.count.get() - 1);
        self.freed.notify_waiters();
    }

    /// Whether enough is free to look into the log again: for one event at a time it would be read
    /// again and again.
    fn is_half_free(&self) -> bool {
        self.count.get() <= self.max / 2
    }
}

impl Session {
    /// What its client has to acknowledge, if it asked for that.
    pub(crate) fn window(&self) -> Option<Rc<Window>> {
        self.window.borrow().clone()
    }

    /// Begins a stay in a namespace: nothing is open.
    pub(super) fn set_window(&self, window: Option<Window>) {
        *self.window.borrow_mut() = window.map(Rc::new);
    }

    /// Whether a packet answers an event that waits for it.
    pub(super) fn awaits(&self, text: &str) -> bool {
        let Some(window) = self.window() else { return false };
        let Ok((head, _)) = head(text) else { return false };
        head.kind == Kind::Ack && head.id.is_some_and(|id| window.is_open(id))
    }

    /// Its client has an event.
    pub(super) fn on_ack(&self, id: Option<u64>) {
        if let (Some(window), Some(id)) = (self.window(), id) {
            window.free(id);
        }
    }
}

impl Link {
    /// What its client has to acknowledge, if it asked for that.
    pub(crate) fn window(&self) -> Option<Rc<Window>> {
        self.session.as_ref()?.window()
    }

    /// Whether it may get nothing more before it acknowledged something.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.window().is_some_and(|window| window.is_full())
    }

    /// These frames are on their way.
    pub(crate) fn note_asked(&self, frames: &[u8]) {
        if let Some(window) = self.window() {
            window.note(frames);
        }
    }

    /// Waits for half of its window to be free, a while at most: its client may well keep more than half
    /// until it has the rest. Tells whether it may still get nothing.
    pub(crate) async fn is_kept_waiting(&self) -> bool {
        let Some(window) = self.window() else { return false };
        let half = async {
            while !window.is_half_free() {
                window.freed.notified().await;
            }
        };
        // Whoever ends meanwhile is seen at the next look.
        let _timed_out = tokio::time::timeout(LOOK, half).await;
        window.is_full()
    }
}

#[cfg(test)]
mod tests {
    use fieldgate_dialects::ws;

    use super::*;

    fn event(id: u64) -> Vec<u8> {
        ws::frame(ws::Opcode::Text, format!("42/v2,{id}[\"a\"]").as_bytes()).to_vec()
    }

    #[test]
    fn each_answer_frees_one_event_and_what_is_not_open_frees_none() {
        let window = Window::new(3);
        window.note(&[event(5), event(5)].concat());
        window.note(&event(u64::MAX));
        assert!(window.is_full() && window.is_open(5));
        for id in [0, 6, u64::MAX - 1] {
            window.free(id);
        }
        assert!(window.is_full());
        window.free(u64::MAX);
        window.free(u64::MAX);
        assert!(!window.is_full() && !window.is_half_free());
        window.free(5);
        assert!(window.is_half_free() && window.is_open(5));
        window.free(5);
        window.free(5);
        assert!(!window.is_open(5) && window.count.get() == 0 && window.open.borrow().is_empty());
    }
}
