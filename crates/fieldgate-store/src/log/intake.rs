//! The intake: where numbers are given, and the recent records that everybody looks at.
//!
//! One lock guards the next number, the records that the writer, the follower and readers have in
//! front of them, and the frontiers. It is held for a few instructions, never over IO.
//! Invariant: `tail` is contiguous; its first number is `tail_first`.

use std::{
    collections::VecDeque,
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fieldgate_core::{
    dialect::GapReason,
    id::{Seq, UnixMs},
};

use super::{LogOptions, Recovery};
use crate::{
    port::{AppendError, Chunk, Followed, Frontier, ReadFilter},
    record::{Entry, Record},
};

/// Most records and bytes of one batch (`storage.md` 1.5, "Writer").
pub(super) const BATCH_LEN_MAX: usize = 4_096;
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;
/// The longest that QoS 0 waits for company before it is written.
const LAZY_WAIT: Duration = Duration::from_millis(50);

type Wake = Arc<dyn Fn(Frontier) + Send + Sync>;

/// What the writer took: a contiguous run, whole groups only.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) closing: bool,
}

struct State {
    next: Seq,
    reserved_until: Seq,
    tail: VecDeque<Arc<Entry>>,
    tail_first: Seq,
    tail_bytes: usize,
    taken: Seq,
    durable: Seq,
    followed: Seq,
    refused_from: Option<Seq>,
    waiting_bytes: usize,
    group_ends: VecDeque<Seq>,
    waiting_since: Option<Instant>,
    urgent: bool,
    unavailable: Option<&'static str>,
    low_disk: bool,
    closed: bool,
    written_out: bool,
    wake: Option<Wake>,
}

pub(super) struct Intake {
    state: Mutex<State>,
    writer: Condvar,
    follower: Condvar,
    options: LogOptions,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("frontier", &self.frontier()).finish_non_exhaustive()
    }
}

fn byte_len(record: &Record) -> usize {
    match record {
        Record::Message(message) => 160 + message.payload.len() + message.topic.as_str().len(),
        Record::Command(change) => 160 + change.payload.as_ref().map_or(0, |p| p.len()),
        Record::Registry(_) => 1_024,
        Record::Gap { .. } => 64,
    }
}

impl Intake {
    pub(super) fn new(recovery: &Recovery, options: LogOptions) -> Self {
        let durable = recovery.next.prev();
        let state = State {
            next: recovery.next,
            reserved_until: recovery.reserved_until,
            tail: VecDeque::new(),
            tail_first: recovery.next,
            tail_bytes: 0,
            taken: durable,
            durable,
            followed: durable,
            refused_from: None,
            waiting_bytes: 0,
            group_ends: VecDeque::new(),
            waiting_since: None,
            urgent: false,
            unavailable: None,
            low_disk: false,
            closed: false,
            written_out: false,
            wake: None,
        };
        Self { state: Mutex::new(state), writer: Condvar::new(), follower: Condvar::new(), options }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn append(
        &self,
        group: Vec<Record>,
        arrived: UnixMs,
    ) -> Result<RangeInclusive<u64>, AppendError> {
        let bytes: usize = group.iter().map(byte_len).sum();
        if bytes > BATCH_BYTES_MAX || group.len() > BATCH_LEN_MAX || group.is_empty() {
            return Err(AppendError::TooLarge { bytes, max: BATCH_BYTES_MAX });
        }
        let mut state = self.lock();
        state.check(&group, bytes, &self.options)?;
        let first = state.next;
        let mut urgent = false;
        for record in group {
            urgent |= record.waits_for_sync();
            let seq = state.next;
            state.next = seq.next();
            state.tail.push_back(Arc::new(Entry { seq, arrived, record }));
        }
        let last = state.next.prev();
        state.tail_bytes += bytes;
        state.waiting_bytes += bytes;
        state.group_ends.push_back(last);
        let idle = state.waiting_since.is_none();
        if idle {
            state.waiting_since = Some(Instant::now());
        }
        let wake_writer = idle || (urgent && !state.urgent);
        state.urgent |= urgent;
        let follower_waits = state.followed == first.prev();
        drop(state);
        if wake_writer {
            self.writer.notify_one();
        }
        if !urgent && follower_waits {
            self.follower.notify_one();
        }
        Ok(first.0..=last.0)
    }

    pub(super) fn frontier(&self) -> Frontier {
        let state = self.lock();
        Frontier { ordered: state.next.prev(), durable: state.durable }
    }

    pub(super) fn is_refused(&self, seq: Seq) -> bool {
        self.lock().refused_from.is_some_and(|from| seq >= from)
    }

    pub(super) fn set_wake(&self, wake: Wake) {
        self.lock().wake = Some(wake);
    }

    pub(super) fn set_low_disk(&self, low: bool) {
        self.lock().low_disk = low;
    }

    pub(super) fn tail_start(&self) -> Seq {
        self.lock().tail_first
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.writer.notify_all();
    }

    /// The writer takes what waits; sleeps until something does. QoS 0 alone waits a moment.
    pub(super) fn take(&self, idle: Duration) -> Option<Taken> {
        let deadline = Instant::now() + idle;
        let mut state = self.lock();
        loop {
            let ready = match state.waiting_since {
                _ if state.closed => break,
                Some(_) if state.urgent || state.waiting_bytes >= BATCH_BYTES_MAX / 2 => break,
                Some(since) => since + LAZY_WAIT,
                None => deadline,
            };
            let now = Instant::now();
            if now >= ready {
                if state.waiting_since.is_none() {
                    return None;
                }
                break;
            }
            let waited = self.writer.wait_timeout(state, ready - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(state.take_run())
    }

    /// The batch is on stable storage.
    pub(super) fn committed(&self, durable: Seq, reserved_until: Seq) {
        let mut state = self.lock();
        state.durable = durable;
        state.reserved_until = reserved_until;
        state.trim(self.options.tail_bytes_max);
        let frontier = Frontier { ordered: state.next.prev(), durable };
        let wake = state.wake.clone();
        drop(state);
        self.follower.notify_one();
        if let Some(wake) = wake {
            wake(frontier);
        }
    }

    /// A write or sync failed: every number behind the durable frontier is refused, and no more is
    /// given until the log is opened anew (the page cache proves nothing after a failed sync).
    pub(super) fn failed(&self, why: &'static str) {
        let mut state = self.lock();
        state.unavailable = Some(why);
        state.refused_from = Some(state.durable.next());
        state.durable = state.next.prev();
        let frontier = Frontier { ordered: state.durable, durable: state.durable };
        let wake = state.wake.clone();
        drop(state);
        self.follower.notify_one();
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
            let waited = self.follower.wait_timeout(state, deadline - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Reads from memory; nothing if `from` is older than what is kept there.
    pub(super) fn read_tail(
        &self,
        from: Seq,
        filter: &ReadFilter,
        bytes_max: usize,
    ) -> Option<Chunk> {
        let state = self.lock();
        let skip = usize::try_from(from.0.checked_sub(state.tail_first.0)?).ok()?;
        let mut chunk = Chunk { items: Vec::new(), next: from };
        let mut bytes = 0;
        for entry in state.tail.iter().skip(skip).take(BATCH_LEN_MAX) {
            if bytes >= bytes_max {
                break;
            }
            chunk.next = entry.seq.next();
            if state.refused_from.is_some_and(|refused| entry.seq >= refused) {
                chunk.items.push(Followed::Gap(entry.seq.0..=entry.seq.0, GapReason::Crash));
            } else if filter.selects(entry) {
                bytes += byte_len(&entry.record);
                chunk.items.push(Followed::Entry(Arc::clone(entry)));
            }
        }
        Some(chunk)
    }
}

impl State {
    fn check(
        &self,
        group: &[Record],
        bytes: usize,
        options: &LogOptions,
    ) -> Result<(), AppendError> {
        if let Some(why) = self.unavailable {
            return Err(AppendError::Unavailable(why));
        }
        if self.closed {
            return Err(AppendError::Unavailable("the log is closed"));
        }
        let message = group.iter().any(|record| matches!(record, Record::Message(_)));
        if self.low_disk && message {
            return Err(AppendError::Unavailable("the disk is almost full"));
        }
        let waiting = self.next.0 - 1 - self.taken.0.min(self.followed.0);
        let last = self.next.0 + group.len() as u64 - 1;
        let full = waiting as usize + group.len() > options.intake_len_max
            || self.waiting_bytes + bytes > options.intake_bytes_max
            || last > self.reserved_until.0;
        if full { Err(AppendError::Full) } else { Ok(()) }
    }

    fn index_of(&self, seq: Seq) -> usize {
        usize::try_from(seq.0.saturating_sub(self.tail_first.0)).unwrap_or(usize::MAX)
    }

    fn take_run(&mut self) -> Taken {
        let mut taken = Taken { entries: Vec::new(), closing: self.closed };
        let mut bytes = 0;
        while let Some(&end) = self.group_ends.front() {
            let (from, to) = (self.index_of(self.taken.next()), self.index_of(end));
            let group_bytes: usize =
                self.tail.range(from..=to).map(|entry| byte_len(&entry.record)).sum();
            let over = taken.entries.len() + (to + 1 - from) > BATCH_LEN_MAX
                || bytes + group_bytes > BATCH_BYTES_MAX;
            if over && !taken.entries.is_empty() {
                taken.closing = false;
                break;
            }
            bytes += group_bytes;
            taken.entries.extend(self.tail.range(from..=to).cloned());
            self.taken = end;
            self.group_ends.pop_front();
        }
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        if self.group_ends.is_empty() {
            self.waiting_since = None;
            self.urgent = false;
        }
        taken
    }

    /// Hands out what may be routed, from `next` on.
    fn give(&mut self, next: &mut Seq, out: &mut Vec<Followed>, max: usize) -> bool {
        let from = self.index_of(*next);
        let before = out.len();
        for entry in self.tail.range(from.min(self.tail.len())..).take(max) {
            if let Some(refused) = self.refused_from
                && entry.seq >= refused
            {
                out.push(Followed::Gap(entry.seq.0..=self.durable.0, GapReason::Crash));
                *next = self.durable.next();
                self.followed = self.durable;
                return true;
            }
            if entry.record.waits_for_sync() && entry.seq > self.durable {
                break;
            }
            *next = entry.seq.next();
            out.push(Followed::Entry(Arc::clone(entry)));
        }
        self.followed = next.prev();
        out.len() > before
    }

    /// Forgets what is durable and followed, beyond what readers are likely to ask for.
    fn trim(&mut self, tail_bytes_max: usize) {
        let done = self.durable.min(self.followed);
        while self.tail_bytes > tail_bytes_max
            && let Some(entry) = self.tail.front()
            && entry.seq <= done
        {
            self.tail_bytes = self.tail_bytes.saturating_sub(byte_len(&entry.record));
            self.tail_first = entry.seq.next();
            self.tail.pop_front();
        }
    }
}
