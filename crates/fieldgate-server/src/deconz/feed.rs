//! What the mirror is told of, in order: what was routed, who came and went, and who listens.
//!
//! The router never waits for the mirror: above a bound of bytes it only notes that something is
//! missing, and the mirror reads that from the log. Bounded beside by the number of connections.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fieldgate_store::Entry;

use super::listener::Listener;
use crate::present::LinkRef;

/// Entries that wait take so many bytes at most.
const BYTES_MAX: usize = 64 << 20;

/// One thing that the mirror is told.
#[derive(Debug)]
pub(super) enum Told {
    /// A record of the tenant was applied.
    Entry(Arc<Entry>),
    /// The connections of this principal are others than before.
    Presence(Arc<str>),
    /// A connection wants to hear of changes.
    Join(Listener),
    /// It ended.
    Leave(LinkRef),
    /// A scene was called: the numbers of its group, and its own.
    SceneCalled { group: u64, scene: u64 },
    /// Nothing comes any more.
    End,
}

/// What was told since the last time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) told: Vec<Told>,
    /// Whether entries are missing behind these.
    pub(super) is_cut: bool,
}

#[derive(Debug, Default)]
struct Queue {
    batch: Batch,
    byte_len: usize,
}

/// The way in.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    queue: Mutex<Queue>,
    some: Condvar,
}

impl Feed {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, told: Told) {
        self.queue().batch.told.push(told);
        self.some.notify_one();
    }

    /// Tells what was routed, in order; once something had no room, nothing more until it is taken.
    pub(super) fn route(&self, entries: impl Iterator<Item = Arc<Entry>>) {
        let mut entries = entries.peekable();
        if entries.peek().is_none() {
            return;
        }
        let mut queue = self.queue();
        for entry in entries {
            queue.byte_len += entry.record.memory_bytes();
            if queue.byte_len > BYTES_MAX {
                queue.batch.is_cut = true;
            }
            if !queue.batch.is_cut {
                queue.batch.told.push(Told::Entry(entry));
            }
        }
        self.some.notify_one();
    }

    /// Takes what was told; waits at most `wait_max` for something.
    pub(super) fn take(&self, wait_max: Duration) -> Batch {
        let is_empty = |queue: &mut Queue| queue.batch.told.is_empty() && !queue.batch.is_cut;
        let waited = self.some.wait_timeout_while(self.queue(), wait_max, is_empty);
        let mut queue = match waited {
            Ok((queue, _)) => queue,
            Err(poisoned) => poisoned.into_inner().0,
        };
        queue.byte_len = 0;
        mem::take(&mut queue.batch)
    }
}
