//! The twin of the log for tests: everything in memory, durable at once or when the test says so.
//!
//! Written apart from `log`, so that the contract tests of `suite` compare two opinions.

use std::{
    collections::BTreeMap,
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fieldgate_core::{
    dialect::GapReason,
    id::{Epoch, Seq, UnixMs},
};

use crate::{
    port::{AppendError, Chunk, Follow, Followed, Frontier, Log, ReadError, ReadFilter},
    record::{Entry, Record},
};

type Wake = Arc<dyn Fn(Frontier) + Send + Sync>;

#[derive(Default)]
struct State {
    entries: BTreeMap<u64, Arc<Entry>>,
    refused: Vec<RangeInclusive<u64>>,
    next: u64,
    durable: u64,
    unavailable: Option<&'static str>,
    full: bool,
    closed: bool,
    wake: Option<Wake>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn move_durable(&self, to: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        to(&mut state);
        let (frontier, wake) = (state.frontier(), state.wake.clone());
        drop(state);
        self.changed.notify_all();
        if let Some(wake) = wake {
            wake(frontier);
        }
    }
}

/// The log in memory.
pub struct SimLog {
    shared: Arc<Shared>,
    epoch: Epoch,
    manual: bool,
}

impl fmt::Debug for SimLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimLog").field("frontier", &self.frontier()).finish_non_exhaustive()
    }
}

impl SimLog {
    /// A log in which everything is durable at once.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Self::with(false)
    }

    /// A log in which nothing is durable before [`SimLog::sync`].
    #[must_use]
    pub fn manual() -> Arc<Self> {
        Self::with(true)
    }

    fn with(manual: bool) -> Arc<Self> {
        let shared = Arc::new(Shared::default());
        shared.lock().next = 1;
        Arc::new(Self { shared, epoch: Epoch(941_085), manual })
    }

    /// Makes everything given so far durable.
    pub fn sync(&self) {
        self.shared.move_durable(|state| state.durable = state.next - 1);
    }

    /// Refuses everything that is not durable, as after a failed sync.
    pub fn refuse(&self) {
        self.shared.move_durable(|state| {
            let range = state.durable + 1..=state.next - 1;
            if !range.is_empty() {
                state.durable = state.next - 1;
                state.refused.push(range);
            }
        });
    }

    /// Answers appends with `Unavailable` for this reason, or takes them again.
    pub fn set_unavailable(&self, why: Option<&'static str>) {
        self.shared.lock().unavailable = why;
    }

    /// Answers appends with `Full`, or takes them again.
    pub fn set_full(&self, full: bool) {
        self.shared.lock().full = full;
    }
}

impl State {
    fn frontier(&self) -> Frontier {
        Frontier { ordered: Seq(self.next - 1), durable: Seq(self.durable) }
    }

    fn refused(&self, seq: u64) -> Option<&RangeInclusive<u64>> {
        self.refused.iter().find(|range| range.contains(&seq))
    }

    /// The next routable step at `next`, which it moves.
    fn step(&self, next: &mut u64) -> Option<Followed> {
        if let Some(range) = self.refused(*next) {
            let gap = Followed::Gap(*next..=*range.end(), GapReason::Crash);
            *next = range.end() + 1;
            return Some(gap);
        }
        let entry = self.entries.get(next)?;
        if entry.record.waits_for_sync() && *next > self.durable {
            return None;
        }
        *next += 1;
        Some(Followed::Entry(Arc::clone(entry)))
    }
}

impl Log for SimLog {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn append(
        &self,
        group: Vec<Record>,
        arrived: UnixMs,
    ) -> Result<RangeInclusive<u64>, AppendError> {
        let mut state = self.shared.lock();
        if let Some(why) = state.unavailable {
            return Err(AppendError::Unavailable(why));
        }
        if state.closed {
            return Err(AppendError::Unavailable("the log is closed"));
        }
        if group.is_empty() || group.len() > 4_096 {
            return Err(AppendError::TooLarge { bytes: 0, max: 1 << 20 });
        }
        if state.full {
            return Err(AppendError::Full);
        }
        let first = state.next;
        for record in group {
            let seq = state.next;
            state.next += 1;
            state.entries.insert(seq, Arc::new(Entry { seq: Seq(seq), arrived, record }));
        }
        let range = first..=state.next - 1;
        drop(state);
        if !self.manual {
            self.sync();
        }
        Ok(range)
    }

    fn announce(&self) {
        self.shared.changed.notify_all();
    }

    fn frontier(&self) -> Frontier {
        self.shared.lock().frontier()
    }

    fn is_refused(&self, seq: Seq) -> bool {
        self.shared.lock().refused(seq.0).is_some()
    }

    fn on_durable(&self, wake: Arc<dyn Fn(Frontier) + Send + Sync>) {
        self.shared.lock().wake = Some(wake);
    }

    fn follow(&self, from: Seq) -> Box<dyn Follow> {
        Box::new(SimFollow { shared: Arc::clone(&self.shared), next: from.0 + 1 })
    }

    fn read(&self, from: Seq, filter: &ReadFilter, bytes_max: usize) -> Result<Chunk, ReadError> {
        let state = self.shared.lock();
        let mut chunk = Chunk::default();
        let (mut next, mut bytes) = (from.0.max(1), 0);
        while bytes < bytes_max
            && let Some(item) = state.step(&mut next)
        {
            match &item {
                Followed::Entry(entry) if !filter.selects(entry) => continue,
                Followed::Entry(entry) => {
                    bytes += match &entry.record {
                        Record::Message(message) => 100 + message.content_bytes(),
                        Record::Command(_)
                        | Record::Registry(_)
                        | Record::Note(_)
                        | Record::Gap { .. } => 100,
                    };
                }
                Followed::Gap(..) => (),
            }
            chunk.items.push(item);
        }
        chunk.next = Seq(next);
        Ok(chunk)
    }

    fn read_recent(&self, from: Seq, filter: &ReadFilter, bytes_max: usize) -> Option<Chunk> {
        self.read(from, filter, bytes_max).ok()
    }

    fn oldest(&self) -> Seq {
        Seq(1)
    }

    fn seek_time(&self, time: UnixMs) -> Result<Seq, ReadError> {
        let state = self.shared.lock();
        let found = state.entries.values().find(|entry| entry.arrived >= time);
        Ok(found.map_or(Seq(state.next), |entry| entry.seq))
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.sync();
    }
}

#[derive(Debug)]
struct SimFollow {
    shared: Arc<Shared>,
    next: u64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Follow for SimFollow {
    fn next(&mut self, out: &mut Vec<Followed>, max: usize, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        let before = out.len();
        loop {
            while out.len() - before < max
                && let Some(item) = state.step(&mut self.next)
            {
                out.push(item);
            }
            let now = Instant::now();
            if out.len() > before || now >= deadline {
                return true;
            }
            if state.closed {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, deadline - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
