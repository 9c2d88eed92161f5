//! What the log did since it was opened: figures for those who watch it.
//!
//! Written by the writer's thread and by readers that come across damage; read by whoever asks.
//! Invariant: nothing here waits, and nothing grows without bound.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fieldgate_core::{dialect::GapReason, id::Seq};

use crate::port::Followed;

/// Upper bounds of the records in one commit.
const BATCH_LEN_BOUNDS: [u64; 7] = [1, 4, 16, 64, 256, 1_024, 4_096];
/// Upper bounds of the time that one sync took, in µs.
const SYNC_US_BOUNDS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000];
/// Most damaged ranges that are remembered; the oldest numbers stay.
const DAMAGED_MAX: usize = 1_024;

/// Counts values by size. The last count is of those above every bound.
#[derive(Debug)]
struct Histogram {
    bounds: &'static [u64],
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    fn read(&self) -> Distribution {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets = bounds.zip(counts).collect();
        Distribution { buckets, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// How values were spread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// Inclusive upper bound and how many values were above the bound before it; `None`: no bound.
    pub buckets: Vec<(Option<u64>, u64)>,
    /// The sum of all values.
    pub sum: u64,
}

impl Distribution {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

/// How the log does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// Records in each commit since the start.
    pub commit_records: Distribution,
    /// Time that each sync took since the start, in µs.
    pub sync_us: Distribution,
    /// Bytes written in commits since the start.
    pub written_bytes: u64,
    /// Failed writes and syncs since the start.
    pub failure_count: u64,
    /// Segment files.
    pub segment_count: usize,
    /// Bytes of them.
    pub byte_len: u64,
    /// Records that wait for the writer.
    pub waiting_records: u64,
    /// Bytes that wait for the writer.
    pub waiting_bytes: usize,
    /// Whether retention would remove more if more stood in an export.
    pub is_held_back: bool,
    /// Why nothing, or no message, is taken now.
    pub refuses: Option<&'static str>,
    /// Numbers that could not be read, as far as anybody came across them.
    pub damaged: Vec<RangeInclusive<u64>>,
}

/// What is counted.
#[derive(Debug)]
pub(super) struct LogStats {
    commit_records: Histogram,
    sync_us: Histogram,
    written_bytes: AtomicU64,
    failure_count: AtomicU64,
    damaged: Mutex<BTreeMap<u64, u64>>,
}

impl Default for LogStats {
    fn default() -> Self {
        Self {
            commit_records: Histogram::new(&BATCH_LEN_BOUNDS),
            sync_us: Histogram::new(&SYNC_US_BOUNDS),
            written_bytes: AtomicU64::new(0),
            failure_count: AtomicU64::new(0),
            damaged: Mutex::default(),
        }
    }
}

impl LogStats {
    pub(super) fn committed(&self, record_count: usize, byte_len: usize, sync: Option<Duration>) {
        if record_count > 0 {
            self.commit_records.observe(record_count as u64);
        }
        self.written_bytes.fetch_add(byte_len as u64, Ordering::Relaxed);
        if let Some(sync) = sync {
            self.sync_us.observe(u64::try_from(sync.as_micros()).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn failed(&self) {
        self.failure_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers what of a stretch is damaged.
    pub(super) fn note_damage(&self, items: &[Followed]) {
        for item in items {
            if let Followed::Gap(range, GapReason::Damaged) = item
                && self.remember(range)
            {
                let (from, to) = (range.start(), range.end());
                tracing::error!(
                    from,
                    to,
                    "numbers in the log cannot be read: save what else is in it, then stop the \
                     gateway and run fieldgate log repair"
                );
            }
        }
    }

    /// Returns whether something of it was not known.
    fn remember(&self, range: &RangeInclusive<u64>) -> bool {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut first, mut last) = (*range.start(), *range.end());
        let before = damaged.range(..=first).next_back();
        if before.is_some_and(|(_, to)| *to >= last) {
            return false;
        }
        // What it touches becomes one range with it.
        while let Some((&from, &to)) = damaged.range(..=last.saturating_add(1)).next_back() {
            if to.saturating_add(1) < first {
                break;
            }
            damaged.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        damaged.insert(first, last);
        // What is not kept would be told anew each time that somebody comes across it.
        damaged.len() <= DAMAGED_MAX || damaged.pop_last().is_none_or(|(from, _)| from != first)
    }

    /// What was counted, and the damage at or behind `oldest`.
    pub(super) fn read(&self, oldest: Seq) -> LogStatus {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let held = damaged.iter().filter(|(_, last)| **last >= oldest.0);
        LogStatus {
            commit_records: self.commit_records.read(),
            sync_us: self.sync_us.read(),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
            failure_count: self.failure_count.load(Ordering::Relaxed),
            damaged: held.map(|(first, last)| *first..=*last).collect(),
            ..LogStatus::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_at_the_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[1, 4]);
        [1, 2, 4, 5, 100].iter().for_each(|value| histogram.observe(*value));
        let read = histogram.read();
        assert_eq!(read.buckets, [(Some(1), 1), (Some(4), 2), (None, 2)]);
        assert_eq!((read.count(), read.sum), (5, 112));
    }

    #[test]
    fn damage_that_touches_is_one_range_and_what_is_gone_is_not_told() {
        let stats = LogStats::default();
        let damage = |range| Followed::Gap(range, GapReason::Damaged);
        stats.note_damage(&[
            damage(10..=12),
            damage(20..=20),
            Followed::Gap(1..=5, GapReason::Crash),
        ]);
        stats.note_damage(&[damage(13..=15), damage(10..=11), damage(19..=19)]);
        assert_eq!(stats.read(Seq(1)).damaged, [10..=15, 19..=20]);
        assert_eq!(stats.read(Seq(16)).damaged, [19..=20]);
        for at in 0..2_000 {
            stats.note_damage(&[damage(100 + at * 2..=100 + at * 2)]);
        }
        assert_eq!(stats.read(Seq(1)).damaged.len(), DAMAGED_MAX);
    }
}
