//! What the mirror is told of, in order: what was routed, who came and went, and who listens.
//!
//! The router never waits for the mirror: above a bound of bytes it only notes that something is
//! missing, and the mirror reads that from the log. What else is told is bounded by the number of
//! connections: of each it is told that it came, how far it has read, and that it went.

use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fieldgate_core::id::Seq;
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
    /// A connection wants to hear of changes.
    Join(Listener),
    /// It has read everything up to this number.
    Read(LinkRef, Seq),
    /// It ended.
    Leave(LinkRef),
    /// A scene was called: the numbers of its group, and its own.
    SceneCalled { group: u64, scene: u64 },
}

/// What was told since the last time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) told: Vec<Told>,
    /// Devices and sources whose connections are others than before.
    pub(super) present: BTreeSet<Arc<str>>,
    /// Whether entries are missing behind these.
    pub(super) is_cut: bool,
}

#[derive(Debug, Default)]
struct Queue {
    batch: Batch,
    byte_len: usize,
    is_over: bool,
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

    /// The connections of a device or a source are others than before.
    pub(super) fn present(&self, name: Arc<str>) {
        self.queue().batch.present.insert(name);
        self.some.notify_one();
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        self.queue().is_over = true;
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

    /// Whether something had no room, and was not looked for yet.
    #[cfg(test)]
    pub(super) fn is_cut(&self) -> bool {
        self.queue().batch.is_cut
    }

    /// Takes what was told; waits at most `wait_max` for something. Nothing at the end.
    pub(super) fn take(&self, wait_max: Duration) -> Option<Batch> {
        let is_empty = |queue: &mut Queue| {
            let Batch { told, present, is_cut } = &queue.batch;
            told.is_empty() && present.is_empty() && !is_cut && !queue.is_over
        };
        let waited = self.some.wait_timeout_while(self.queue(), wait_max, is_empty);
        let mut queue = match waited {
            Ok((queue, _)) => queue,
            Err(poisoned) => poisoned.into_inner().0,
        };
        queue.byte_len = 0;
        let Batch { told, present, is_cut } = &queue.batch;
        let is_done = queue.is_over && told.is_empty() && present.is_empty() && !is_cut;
        (!is_done).then(|| mem::take(&mut queue.batch))
    }
}

#[cfg(test)]
mod tests {
    use fieldgate_core::{
        id::{Seq, UnixMs},
        message::Qos,
        testing,
    };
    use fieldgate_store::Record;

    use super::*;

    fn entries(count: u64, byte_len: usize) -> impl Iterator<Item = Arc<Entry>> {
        let payload = format!("\"{}\"", "x".repeat(byte_len));
        (1..=count).map(move |seq| {
            let message = testing::message("devices/d/telemetry", Qos::AtLeastOnce, &payload);
            let record = Record::Message(message);
            Arc::new(Entry { seq: Seq(seq), arrived: UnixMs(0), record })
        })
    }

    #[test]
    fn what_has_no_room_is_cut_and_what_came_before_stays_in_order() {
        let feed = Feed::default();
        feed.route(entries(100, 1 << 20));
        feed.route(entries(1, 1));
        let batch = feed.take(Duration::ZERO).unwrap();
        assert!(batch.is_cut);
        let seq_of = |told: &Told| if let Told::Entry(entry) = told { entry.seq.0 } else { 0 };
        let seqs: Vec<u64> = batch.told.iter().map(seq_of).collect();
        assert!(seqs.len() > 50 && seqs.len() < 65, "{}", seqs.len());
        assert!(seqs.iter().copied().eq(1..=seqs.len() as u64));
        feed.route(entries(1, 1));
        let batch = feed.take(Duration::ZERO).unwrap();
        assert!(!batch.is_cut && batch.told.len() == 1);
    }

    #[test]
    fn its_end_comes_behind_everything() {
        let feed = Feed::default();
        feed.route(entries(1, 1));
        feed.present("d".into());
        feed.present("d".into());
        feed.end();
        let batch = feed.take(Duration::ZERO).unwrap();
        assert_eq!((batch.told.len(), batch.present.len()), (1, 1));
        assert!(feed.take(Duration::from_secs(60)).is_none());
    }
}
