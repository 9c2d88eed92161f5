//! Work done ahead of and behind the writer: the next segment's file, the index of the last, and the
//! scrub of those before it.
//!
//! One thread that waits for jobs, and scrubs a little while there is none; the writer never waits for
//! it unless it is late.

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use fieldgate_core::id::Seq;

use super::{
    scrub::{self, Scrub},
    segment::Segment,
    segments::Segments,
};
use crate::disk::{Disk, LogFile};

/// The name of the file that waits to become a segment.
pub(super) const AHEAD_NAME: &str = "next.ahead";

#[derive(Default)]
struct State {
    ready: Option<Box<dyn LogFile>>,
    prepare: bool,
    preparing: bool,
    seal: Vec<Arc<Segment>>,
    closed: bool,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stepped {
    /// A job was done.
    Worked,
    /// There was none in time.
    Idle,
    /// There will be none.
    Closed,
}

/// Jobs, and the file made so far.
#[derive(Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    changed: Condvar,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").finish_non_exhaustive()
    }
}

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the next file.
    pub(super) fn prepare(&self) {
        self.lock().prepare = true;
        self.changed.notify_all();
    }

    /// Asks for the index of a full segment.
    pub(super) fn seal(&self, segment: Arc<Segment>) {
        self.lock().seal.push(segment);
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The file made ahead; waits for one that is being made.
    pub(super) fn take(&self) -> Option<Box<dyn LogFile>> {
        let mut state = self.lock();
        state.prepare = false;
        while state.preparing && state.ready.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.ready.take()
    }

    /// Works until closed. `stored` says up to which number the log stands on the disk.
    pub(super) fn run(&self, segments: &Segments, byte_len: u64, stored: &dyn Fn() -> Seq) {
        let mut scrub = Scrub::default();
        let mut due = Instant::now() + scrub::PAUSE;
        loop {
            match self.step(segments, byte_len, Some(due)) {
                Stepped::Closed => return,
                Stepped::Worked => (),
                Stepped::Idle => {
                    let goes_on = scrub.step(segments, stored());
                    due = Instant::now() + if goes_on { scrub::PAUSE } else { scrub::REST };
                }
            }
        }
    }

    /// Does one job; waits for one up to a time, or not at all.
    pub(super) fn step(&self, segments: &Segments, byte_len: u64, end: Option<Instant>) -> Stepped {
        let mut state = self.lock();
        loop {
            if state.closed {
                return Stepped::Closed;
            }
            if state.prepare && state.ready.is_none() {
                state.preparing = true;
                state.prepare = false;
                drop(state);
                let made = make(segments.disk().as_ref(), byte_len);
                let mut state = self.lock();
                state.preparing = false;
                match made {
                    Ok(file) => state.ready = Some(file),
                    Err(error) => tracing::warn!(%error, "the next segment is not made ahead"),
                }
                drop(state);
                self.changed.notify_all();
                return Stepped::Worked;
            }
            if let Some(segment) = state.seal.pop() {
                drop(state);
                segments.seal(&segment);
                return Stepped::Worked;
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let Some(left) = left.filter(|left| !left.is_zero()) else { return Stepped::Idle };
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Makes a file of zeros under the name that waits.
pub(super) fn make(disk: &dyn Disk, byte_len: u64) -> io::Result<Box<dyn LogFile>> {
    disk.create(AHEAD_NAME, byte_len)
}
