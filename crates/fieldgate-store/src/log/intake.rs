//! The intake: where numbers are given, and the recent records that everybody looks at.
//!
//! One lock guards the next number, the records that the writer, the follower and readers have in
//! front of them, and the frontiers. It is held for a few instructions, never over IO.
//! Invariant: `tail` is contiguous; its first number is `tail_first`.

mod state;

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fieldgate_core::id::{Seq, UnixMs};

use super::{LogOptions, Recovery, stats::LogStatus};
use crate::{
    port::{AppendError, Chunk, Followed, Frontier, ReadFilter},
    record::{Entry, Record},
};
use state::{Group, Kept, State};

/// Most records and bytes of one batch (`storage.md` 1.5, "Writer").
pub(super) const BATCH_LEN_MAX: usize = 4_096;
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;
/// How many records a reader takes at once.
const READ_RUN: usize = 256;
/// The longest that QoS 0 waits for company before it is written.
const LAZY_WAIT: Duration = Duration::from_millis(50);

/// A batch of so many says that many senders are busy at once; the next one may wait for company.
const BUSY_LEN: u64 = 64;
/// How long it waits: many times this passes before such a sender hears of its message anyway.
const COMPANY_WAIT: Duration = Duration::from_micros(400);

type Wake = Arc<dyn Fn(Frontier) + Send + Sync>;

/// What the writer took: a contiguous run, whole groups only.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) closing: bool,
}

/// What a group is to who lets it in.
struct Load {
    len: usize,
    bytes: usize,
    /// Whether any of it waits for its sync.
    urgent: bool,
    /// Whether any of it does not.
    hasty: bool,
    /// Whether any of it is a message.
    message: bool,
}

impl Load {
    fn of(group: &[Record]) -> Result<Self, AppendError> {
        let bytes = group.iter().map(Record::memory_bytes).sum();
        if bytes > BATCH_BYTES_MAX || group.len() > BATCH_LEN_MAX || group.is_empty() {
            return Err(AppendError::TooLarge { bytes, max: BATCH_BYTES_MAX });
        }
        let urgent = group.iter().any(Record::waits_for_sync);
        let hasty = !group.iter().all(Record::waits_for_sync);
        let message = group.iter().any(|record| matches!(record, Record::Message(_)));
        Ok(Self { len: group.len(), bytes, urgent, hasty, message })
    }
}

pub(super) struct Intake {
    state: Mutex<State>,
    /// The durable frontier, for who asks for nothing else; set under the lock, as the last of what
    /// goes with it.
    durable: AtomicU64,
    /// Whether any number was ever refused; set before the durable frontier passes it.
    refused_any: AtomicBool,
    writer: Condvar,
    follower: Condvar,
    /// Whether the follower waits; set under the lock. To wake nobody costs a call of the system, too.
    follower_waits: AtomicBool,
    /// Whether something came that is routed before it is on the disk, and nobody told the follower.
    hasty: AtomicBool,
    options: LogOptions,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("frontier", &self.frontier()).finish_non_exhaustive()
    }
}

impl Intake {
    pub(super) fn new(recovery: &Recovery, options: LogOptions) -> Self {
        let state = State::new(recovery);
        Self {
            durable: AtomicU64::new(state.durable.0),
            state: Mutex::new(state),
            refused_any: AtomicBool::new(false),
            writer: Condvar::new(),
            follower: Condvar::new(),
            follower_waits: AtomicBool::new(false),
            hasty: AtomicBool::new(false),
            options,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(
        &self,
        group: Vec<Record>,
        arrived: UnixMs,
    ) -> Result<RangeInclusive<u64>, AppendError> {
        let load = Load::of(&group)?;
        let kept: Vec<Kept> = group.into_iter().map(|record| Kept::new(record, arrived)).collect();
        self.enter(&load, kept)
    }

    /// As [`Self::append`], for one record, which needs no list.
    pub(super) fn append_one(
        &self,
        record: Record,
        arrived: UnixMs,
    ) -> Result<RangeInclusive<u64>, AppendError> {
        let load = Load::of(std::slice::from_ref(&record))?;
        self.enter(&load, std::iter::once(Kept::new(record, arrived)))
    }

    fn enter(
        &self,
        load: &Load,
        group: impl IntoIterator<Item = Kept>,
    ) -> Result<RangeInclusive<u64>, AppendError> {
        let Load { len, bytes, urgent, hasty, message } = *load;
        let mut state = self.lock();
        state.check(len, message, bytes, &self.options)?;
        let first = state.next;
        for mut kept in group {
            if let Some(entry) = Arc::get_mut(&mut kept.entry) {
                entry.seq = state.next;
            }
            state.next = state.next.next();
            state.tail.push_back(kept);
        }
        let last = state.next.prev();
        state.tail_bytes += bytes;
        state.waiting_bytes += bytes;
        state.groups.push_back(Group { end: last, bytes });
        let idle = state.waiting_since.is_none();
        if idle {
            state.waiting_since = Some(Instant::now());
        }
        let wake_writer = (idle || (urgent && !state.urgent)) && state.writer_waits;
        state.urgent |= urgent;
        drop(state);
        if hasty {
            self.hasty.store(true, Ordering::Relaxed);
        }
        if wake_writer {
            self.writer.notify_one();
        }
        Ok(first.0..=last.0)
    }

    /// Wakes the follower, if something came for which it need not wait for the disk.
    pub(super) fn announce(&self) {
        if self.hasty.load(Ordering::Relaxed) && self.hasty.swap(false, Ordering::Relaxed) {
            self.wake_follower();
        }
    }

    /// Wakes the follower, if it waits. What it is to see was done under the lock before.
    fn wake_follower(&self) {
        if self.follower_waits.swap(false, Ordering::Relaxed) {
            self.follower.notify_one();
        }
    }

    pub(super) fn frontier(&self) -> Frontier {
        let state = self.lock();
        Frontier { ordered: state.next.prev(), durable: state.durable }
    }

    pub(super) fn durable(&self) -> Seq {
        Seq(self.durable.load(Ordering::Acquire))
    }

    /// The last number that stands on the disk, in a record or a gap. What was refused counts as
    /// durable at once, and is known to the tail alone until the log goes on.
    pub(super) fn stored(&self) -> Seq {
        let state = self.lock();
        let refused = state.refused(state.durable);
        refused.map_or(state.durable, |range| Seq(*range.start()).prev())
    }

    pub(super) fn is_refused(&self, seq: Seq) -> bool {
        // Who asks saw the durable frontier behind `seq`, and so this too.
        self.refused_any.load(Ordering::Relaxed) && self.lock().refused(seq).is_some()
    }

    /// Adds what waits here, and why nothing is taken.
    pub(super) fn tell_status(&self, status: &mut LogStatus) {
        let state = self.lock();
        status.waiting_records = state.next.0 - 1 - state.taken.0.min(state.next.0 - 1);
        status.waiting_bytes = state.waiting_bytes;
        status.refuses = state.refuses(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    pub(super) fn set_wake(&self, wake: Wake) {
        self.lock().wake = Some(wake);
    }

    /// Tells how the disk is: `low` refuses messages, `none` everything.
    pub(super) fn set_low_disk(&self, low: bool, none: bool) {
        let mut state = self.lock();
        state.low_disk = low;
        state.no_disk = none;
    }

    /// The next number to be given.
    pub(super) fn next(&self) -> Seq {
        self.lock().next
    }

    /// The follower goes on behind `from`; what it has not seen stays in memory.
    pub(super) fn join(&self, from: Seq) {
        let mut state = self.lock();
        state.following = true;
        state.followed = from.max(state.tail_first.prev()).min(state.durable);
    }

    pub(super) fn tail_start(&self) -> Seq {
        self.lock().tail_first
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.writer.notify_all();
    }

    /// The writer takes what waits; sleeps until something does. QoS 0 alone waits a moment, and a
    /// batch behind a large one a much shorter one (`docs/decisions/0007`).
    pub(super) fn take(&self, idle: Duration) -> Option<Taken> {
        let started = Instant::now();
        let deadline = started + idle;
        let mut state = self.lock();
        loop {
            let ready = match state.waiting_since {
                _ if state.closed || state.waiting_bytes >= BATCH_BYTES_MAX / 2 => break,
                Some(_) if state.urgent && state.taken_len < BUSY_LEN => break,
                Some(_) if state.urgent => started + COMPANY_WAIT,
                Some(since) => since + LAZY_WAIT,
                None => deadline,
            };
            let now = Instant::now();
            if now >= ready {
                state.waiting_since?;
                break;
            }
            state.writer_waits = true;
            let waited = self.writer.wait_timeout(state, ready - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.writer_waits = false;
        }
        Some(state.take_run())
    }

    /// The writer takes what waits, without waiting.
    #[cfg(any(test, fuzzing))]
    pub(super) fn take_now(&self) -> Taken {
        self.lock().take_run()
    }

    /// The batch is on stable storage.
    pub(super) fn committed(&self, durable: Seq, reserved_until: Seq) {
        let mut state = self.lock();
        state.durable = durable;
        state.reserved_until = reserved_until;
        let forgotten = state.trim(self.options.tail_bytes_max);
        self.tell(state);
        drop(forgotten);
    }

    /// A write or sync failed: no number is given until [`Intake::revived`].
    pub(super) fn stop(&self, why: &'static str) {
        let mut state = self.lock();
        state.unavailable = Some(why);
        state.stopped = true;
        state.groups.clear();
        state.waiting_bytes = 0;
        state.waiting_since = None;
        state.urgent = false;
        state.taken = state.next.prev();
    }

    /// Every number that was given and not stored is refused.
    pub(super) fn refuse(&self) {
        let mut state = self.lock();
        self.refused_any.store(true, Ordering::Relaxed);
        state.refuse();
        self.tell(state);
    }

    /// The log goes on: `entry` records the gap of what was refused, and is on stable storage.
    pub(super) fn revived(&self, entry: Arc<Entry>, reserved_until: Seq) {
        let mut state = self.lock();
        self.refused_any.store(true, Ordering::Relaxed);
        state.refuse();
        state.stopped = false;
        state.unavailable = None;
        state.reserved_until = reserved_until;
        state.next = entry.seq.next();
        state.taken = entry.seq;
        state.durable = entry.seq;
        let bytes = entry.record.memory_bytes();
        state.tail_bytes += bytes;
        state.tail.push_back(Kept { entry, bytes });
        self.tell(state);
    }

    /// Tells everybody that the durable frontier moved.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let frontier = Frontier { ordered: state.next.prev(), durable: state.durable };
        self.durable.store(frontier.durable.0, Ordering::Release);
        let wake = state.wake.clone();
        drop(state);
        self.wake_follower();
        if let Some(wake) = wake {
            wake(frontier);
        }
    }

    /// The writer is done for good.
    pub(super) fn written_out(&self) {
        self.lock().written_out = true;
        self.follower.notify_all();
    }

    pub(super) fn follow(
        &self,
        next: &mut Seq,
        out: &mut Vec<Followed>,
        max: usize,
        timeout: Duration,
    ) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.lock();
        loop {
            if state.give(next, out, max) {
                return true;
            }
            if state.written_out {
                return false;
            }
            let now = Instant::now();
            if now >= deadline {
                return true;
            }
            self.follower_waits.store(true, Ordering::Relaxed);
            let waited = self.follower.wait_timeout(state, deadline - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads from memory what may be routed; nothing if `from` is older than what is kept there.
    pub(super) fn read_tail(
        &self,
        from: Seq,
        filter: &ReadFilter,
        bytes_max: usize,
    ) -> Option<Chunk> {
        let mut chunk = Chunk { items: Vec::new(), next: from };
        let mut run = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max && chunk.items.len() < BATCH_LEN_MAX {
            let before = chunk.next;
            if !self.lock().copy(&mut chunk.next, &mut run) {
                // The tail was trimmed meanwhile: what was found so far stands.
                return (before > from).then_some(chunk);
            }
            if chunk.next == before {
                break;
            }
            for item in run.drain(..) {
                if let Followed::Entry(entry) = &item {
                    if !filter.selects(entry) {
                        continue;
                    }
                    bytes += entry.record.memory_bytes();
                    if bytes >= bytes_max {
                        chunk.next = entry.seq.next();
                        chunk.items.push(item);
                        return Some(chunk);
                    }
                }
                chunk.items.push(item);
            }
        }
        Some(chunk)
    }
}
