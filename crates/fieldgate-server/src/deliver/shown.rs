//! What is shown of a delivery while it works. Not written down: after a start it is new.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fieldgate_core::id::{Seq, UnixMs};

/// How a delivery does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// It delivers, or there is nothing to deliver.
    #[default]
    Running,
    /// Its target failed, and is tried again.
    Retrying,
    /// It waits for the time of the next attempt.
    Waiting,
    /// Its target does not let us in, or takes nothing; or it cannot be delivered to at all: a person
    /// must mend that.
    Broken,
}

/// What is known now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Known {
    pub(crate) state: State,
    pub(crate) cursor: Seq,
    /// So many numbers of the log lie behind the cursor; not all of them are for this delivery.
    pub(crate) behind_len: u64,
    pub(crate) last_error: Option<(UnixMs, String)>,
    pub(crate) retry_at: Option<UnixMs>,
}

/// What one task tells and others read.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<Known>);

impl Shown {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn known(&self) -> Known {
        self.lock().clone()
    }

    pub(crate) fn failed(&self, text: String, at: UnixMs) {
        self.lock().last_error = Some((at, text));
    }

    pub(crate) fn set(&self, state: State, cursor: Seq, behind_len: u64, retry_at: Option<UnixMs>) {
        let mut known = self.lock();
        (known.state, known.cursor) = (state, cursor);
        (known.behind_len, known.retry_at) = (behind_len, retry_at);
    }
}
