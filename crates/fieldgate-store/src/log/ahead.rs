//! Work done ahead of and behind the writer: the next segment's file, and the index of the last.
//!
//! One thread that waits for jobs; the writer never waits for it unless it is late.

use std::{
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{segment::Segment, segments::Segments};
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

    /// Works until closed.
    pub(super) fn run(&self, segments: &Segments, byte_len: u64) {
        while self.step(segments, byte_len, true) {}
    }

    /// Does one job. Returns false once closed, or if there is none and `wait` is false.
    pub(super) fn step(&self, segments: &Segments, byte_len: u64, wait: bool) -> bool {
        let mut state = self.lock();
        loop {
            if state.closed {
                return false;
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
                return true;
            }
            if let Some(segment) = state.seal.pop() {
                drop(state);
                segments.seal(&segment);
                return true;
            }
            if !wait {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Makes a file of zeros under the name that waits.
pub(super) fn make(disk: &dyn Disk, byte_len: u64) -> io::Result<Box<dyn LogFile>> {
    disk.create(AHEAD_NAME, byte_len)
}
