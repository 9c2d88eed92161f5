//! What the intake's lock guards: numbers, the recent records, and the frontiers.
//!
//! No lock and no waiting here; each step is a few instructions.

use std::{collections::VecDeque, ops::RangeInclusive, sync::Arc, time::Instant};

use fieldgate_core::{
    dialect::GapReason,
    id::{Seq, UnixMs},
};

use super::{BATCH_BYTES_MAX, BATCH_LEN_MAX, READ_RUN, Taken, Wake};
use crate::{
    log::{LogOptions, Recovery},
    port::{AppendError, Followed},
    record::{Entry, Record},
};

/// What came as one and stays in one batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) end: Seq,
    pub(super) bytes: usize,
}

/// One of the recent records.
pub(super) struct Kept {
    pub(super) entry: Arc<Entry>,
    /// What it costs in memory. Beside it, so that nobody waits for the lock while a record that
    /// nobody looked at for long comes from memory.
    pub(super) bytes: usize,
}

impl Kept {
    /// Has no number yet.
    pub(super) fn new(record: Record, arrived: UnixMs) -> Self {
        let bytes = record.memory_bytes();
        Self { entry: Arc::new(Entry { seq: Seq(0), arrived, record }), bytes }
    }
}

pub(super) struct State {
    pub(super) next: Seq,
    pub(super) reserved_until: Seq,
    pub(super) tail: VecDeque<Kept>,
    pub(super) tail_first: Seq,
    pub(super) tail_bytes: usize,
    pub(super) taken: Seq,
    pub(super) durable: Seq,
    pub(super) followed: Seq,
    pub(super) following: bool,
    pub(super) refused: Vec<RangeInclusive<u64>>,
    pub(super) stopped: bool,
    pub(super) waiting_bytes: usize,
    pub(super) groups: VecDeque<Group>,
    pub(super) waiting_since: Option<Instant>,
    pub(super) urgent: bool,
    pub(super) writer_waits: bool,
    /// How many records the batch before had.
    pub(super) taken_len: u64,
    pub(super) unavailable: Option<&'static str>,
    pub(super) low_disk: bool,
    pub(super) no_disk: bool,
    pub(super) closed: bool,
    pub(super) written_out: bool,
    pub(super) wake: Option<Wake>,
}

impl State {
    /// What there is at start: nothing waits.
    pub(super) fn new(recovery: &Recovery) -> Self {
        let durable = recovery.next.prev();
        Self {
            next: recovery.next,
            reserved_until: recovery.reserved_until,
            tail: VecDeque::new(),
            tail_first: recovery.next,
            tail_bytes: 0,
            taken: durable,
            durable,
            followed: durable,
            following: false,
            refused: Vec::new(),
            stopped: false,
            waiting_bytes: 0,
            groups: VecDeque::new(),
            waiting_since: None,
            urgent: false,
            writer_waits: false,
            taken_len: 0,
            unavailable: None,
            low_disk: false,
            no_disk: false,
            closed: false,
            written_out: false,
            wake: None,
        }
    }

    pub(super) fn check(
        &self,
        len: usize,
        message: bool,
        bytes: usize,
        options: &LogOptions,
    ) -> Result<(), AppendError> {
        if let Some(why) = self.refuses(message) {
            return Err(AppendError::Unavailable(why));
        }
        let followed = if self.following { self.followed } else { self.durable };
        let waiting = self.next.0 - 1 - self.taken.min(followed).0;
        let last = self.next.0 + len as u64 - 1;
        let full = waiting + len as u64 > options.intake_len_max as u64
            || self.waiting_bytes + bytes > options.intake_bytes_max
            || last > self.reserved_until.0;
        if full { Err(AppendError::Full) } else { Ok(()) }
    }

    /// Why nothing is taken, or no message.
    pub(super) fn refuses(&self, message: bool) -> Option<&'static str> {
        let full = self.no_disk || self.low_disk && message;
        let closed = self.closed.then_some("the log is closed");
        let full = full.then_some("the disk is almost full");
        self.unavailable.or(closed).or(full)
    }

    pub(super) fn index_of(&self, seq: Seq) -> usize {
        usize::try_from(seq.0.saturating_sub(self.tail_first.0)).unwrap_or(usize::MAX)
    }

    /// The refused range that holds `seq`.
    pub(super) fn refused(&self, seq: Seq) -> Option<&RangeInclusive<u64>> {
        self.refused.iter().rev().find(|range| range.contains(&seq.0))
    }

    pub(super) fn refuse(&mut self) {
        let range = self.durable.0 + 1..=self.next.0 - 1;
        if !range.is_empty() {
            self.refused.push(range);
            self.durable = self.next.prev();
        }
    }

    pub(super) fn take_run(&mut self) -> Taken {
        let mut taken = Taken { entries: Vec::new(), closing: self.closed };
        let (mut bytes, mut end) = (0, self.taken);
        while let Some(group) = self.groups.front() {
            let len = group.end.0 - self.taken.0;
            let over = len > BATCH_LEN_MAX as u64 || bytes + group.bytes > BATCH_BYTES_MAX;
            if over && end > self.taken {
                taken.closing = false;
                break;
            }
            bytes += group.bytes;
            end = group.end;
            self.groups.pop_front();
        }
        let (from, to) = (self.index_of(self.taken.next()), self.index_of(end.next()));
        taken.entries.extend(self.tail.range(from..to).map(|kept| Arc::clone(&kept.entry)));
        self.taken_len = end.0 - self.taken.0;
        self.taken = end;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        if self.groups.is_empty() {
            self.waiting_since = None;
            self.urgent = false;
        }
        taken
    }

    /// Copies a short run of what may be routed; false if `next` is older than the tail.
    pub(super) fn copy(&mut self, next: &mut Seq, run: &mut Vec<Followed>) -> bool {
        if *next < self.tail_first {
            return false;
        }
        self.routable(next, run, READ_RUN);
        true
    }

    /// Hands out what may be routed, from `next` on, to the follower.
    pub(super) fn give(&mut self, next: &mut Seq, out: &mut Vec<Followed>, max: usize) -> bool {
        let before = out.len();
        self.routable(next, out, max);
        self.followed = next.prev();
        out.len() > before
    }

    pub(super) fn routable(&self, next: &mut Seq, out: &mut Vec<Followed>, max: usize) {
        let before = out.len();
        while out.len() - before < max {
            let Some(Kept { entry, .. }) = self.tail.get(self.index_of(*next)) else { return };
            if let Some(range) = self.refused(entry.seq) {
                out.push(Followed::Gap(entry.seq.0..=*range.end(), GapReason::Crash));
                *next = Seq(range.end() + 1);
                continue;
            }
            if entry.seq > self.durable && (self.stopped || entry.record.waits_for_sync()) {
                return;
            }
            *next = entry.seq.next();
            out.push(Followed::Entry(Arc::clone(entry)));
        }
    }

    /// Takes out what is durable and followed, beyond what readers are likely to ask for. To be
    /// dropped once the lock is free: most of it has no other owner.
    pub(super) fn trim(&mut self, tail_bytes_max: usize) -> Vec<Kept> {
        let done = if self.following { self.durable.min(self.followed) } else { self.durable };
        let mut len = 0;
        for kept in &self.tail {
            if self.tail_bytes <= tail_bytes_max || self.tail_first > done {
                break;
            }
            self.tail_bytes = self.tail_bytes.saturating_sub(kept.bytes);
            self.tail_first = self.tail_first.next();
            len += 1;
        }
        self.tail.drain(..len).collect()
    }
}
