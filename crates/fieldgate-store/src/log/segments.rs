//! The segment files of a log: which there are, and which may go.
//!
//! Readers never block the writer: they hold a shared file and read below the durable frontier.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use fieldgate_core::id::Seq;

use super::{
    LogOptions,
    index::BlockIndex,
    segment::Segment,
    stats::{LogStats, LogStatus},
};
use crate::disk::Disk;

/// How many skip indexes stay in memory.
const INDEXED_MAX: usize = 16;

/// All segments, by first number.
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    list: Mutex<BTreeMap<Seq, Arc<Segment>>>,
    indexed: Mutex<VecDeque<Arc<Segment>>>,
    applied: AtomicU64,
    removable: AtomicU64,
    held_back: AtomicBool,
    pub(super) stats: LogStats,
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>, options: LogOptions, list: Vec<Arc<Segment>>) -> Self {
        let list = list.into_iter().map(|segment| (segment.header.first, segment)).collect();
        Self {
            disk,
            options,
            list: Mutex::new(list),
            indexed: Mutex::new(VecDeque::new()),
            applied: AtomicU64::new(0),
            removable: AtomicU64::new(0),
            held_back: AtomicBool::new(false),
            stats: LogStats::default(),
        }
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<Seq, Arc<Segment>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Arc<Segment>> {
        self.list().values().cloned().collect()
    }

    pub(super) fn add(&self, segment: Arc<Segment>) {
        self.list().insert(segment.header.first, segment);
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(super) fn set_applied(&self, seq: Seq) {
        self.applied.fetch_max(seq.0, Ordering::Relaxed);
    }

    pub(super) fn applied(&self) -> Seq {
        Seq(self.applied.load(Ordering::Relaxed))
    }

    pub(super) fn set_removable(&self, seq: Seq) {
        self.removable.fetch_max(seq.0, Ordering::Relaxed);
    }

    /// Whether retention stopped because too little is known to stand elsewhere.
    pub(super) fn is_held_back(&self) -> bool {
        self.held_back.load(Ordering::Relaxed)
    }

    pub(super) fn oldest(&self) -> Seq {
        self.list().keys().next().copied().unwrap_or(Seq(1))
    }

    /// The first number of the newest segment.
    pub(super) fn newest(&self) -> Option<Seq> {
        self.list().keys().next_back().copied()
    }

    /// The segment that holds `seq`, if any does, and the one behind it.
    pub(super) fn of(&self, seq: Seq) -> (Option<Arc<Segment>>, Option<Arc<Segment>>) {
        let list = self.list();
        let holder = list.range(..=seq).next_back().map(|(_, segment)| Arc::clone(segment));
        let newer = list.range(seq.next()..).next().map(|(_, segment)| Arc::clone(segment));
        (holder, newer)
    }

    /// What there is, and what was counted.
    pub(super) fn status(&self) -> LogStatus {
        let list = self.list();
        let (segment_count, byte_len) = (list.len(), list.values().map(|s| s.byte_len).sum());
        drop(list);
        let is_held_back = self.is_held_back();
        LogStatus { segment_count, byte_len, is_held_back, ..self.stats.read(self.oldest()) }
    }

    /// Removes whole segments, oldest first, that are too old or too many; never the active one,
    /// and nothing that is not known to stand elsewhere.
    pub(super) fn retain(&self, running_ms: u64) {
        loop {
            let mut list = self.list();
            let total: u64 = list.values().map(|segment| segment.byte_len).sum();
            let mut front = list.iter();
            let (Some((&first, segment)), Some((&next, newer))) = (front.next(), front.next())
            else {
                return;
            };
            let age_ms = running_ms.saturating_sub(newer.header.running_ms);
            let old = u128::from(age_ms) > self.options.retention_age.as_millis();
            let many = total > self.options.retention_bytes;
            let held_back = next.0 > self.removable.load(Ordering::Relaxed) + 1;
            self.held_back.store((old || many) && held_back, Ordering::Relaxed);
            if !(old || many) || held_back {
                return;
            }
            let name = segment.name.clone();
            list.remove(&first);
            drop(list);
            if let Err(error) = self.disk.remove(&name) {
                tracing::warn!(%error, segment = name, "old segment not removed");
                return;
            }
            BlockIndex::remove(self.disk.as_ref(), &name);
            tracing::info!(segment = name, "segment removed by retention");
        }
    }

    /// Runs `visit` on the skip index of `segment`, looked at as far as `end`.
    pub(super) fn with_index<T>(
        &self,
        segment: &Arc<Segment>,
        end: Seq,
        full: bool,
        visit: impl FnOnce(&BlockIndex) -> T,
    ) -> io::Result<T> {
        let mut blocks = segment.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = blocks.as_mut() {
            if !full {
                index.extend(segment, end, false)?;
            }
            return Ok(visit(index));
        }
        let loaded = full.then(|| BlockIndex::load(self.disk.as_ref(), segment)).flatten();
        let index = match loaded {
            Some(index) => index,
            None => {
                let mut index = BlockIndex::default();
                index.extend(segment, end, full)?;
                if full && let Err(error) = index.save(self.disk.as_ref(), segment) {
                    tracing::warn!(%error, segment = segment.name, "skip index not kept");
                }
                index
            }
        };
        let answer = visit(&index);
        *blocks = Some(index);
        drop(blocks);
        self.keep_indexed(segment);
        Ok(answer)
    }

    fn keep_indexed(&self, segment: &Arc<Segment>) {
        let mut indexed = self.indexed.lock().unwrap_or_else(PoisonError::into_inner);
        indexed.push_back(Arc::clone(segment));
        let oldest = if indexed.len() > INDEXED_MAX { indexed.pop_front() } else { None };
        drop(indexed);
        if let Some(oldest) = oldest {
            *oldest.blocks.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// The segment is full: makes its skip index for good.
    pub(super) fn seal(&self, segment: &Arc<Segment>) {
        *segment.blocks.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(error) = self.with_index(segment, Seq(u64::MAX), true, |_| ()) {
            tracing::warn!(%error, segment = segment.name, "skip index not made");
        }
    }
}
