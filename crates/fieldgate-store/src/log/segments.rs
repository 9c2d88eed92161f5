//! The segment files as readers see them: which there are, and what is in them.
//!
//! Readers never block the writer: they hold a shared file and read below the durable frontier.
//! Damage found on the way is a gap in what is read, never an error.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fieldgate_core::{
    dialect::GapReason,
    id::{Seq, UnixMs},
};

use super::{
    LogOptions,
    format::{self, BATCH_START_BYTES, Batch, HEADER_BYTES, Header},
};
use crate::{
    disk::{Disk, LogFile},
    port::{Chunk, Followed, ReadError, ReadFilter},
    record::Record,
};

/// A place to start reading: about one for each 256 KiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) first: Seq,
    pub(super) offset: u64,
    pub(super) arrived: UnixMs,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) header: Header,
    pub(super) file: Box<dyn LogFile>,
    pub(super) byte_len: u64,
    marks: Mutex<Option<Vec<Mark>>>,
}

impl Segment {
    pub(super) fn new(name: String, header: Header, file: Box<dyn LogFile>, byte_len: u64) -> Self {
        Self { name, header, file, byte_len, marks: Mutex::new(None) }
    }

    pub(super) fn marks(&self) -> MutexGuard<'_, Option<Vec<Mark>>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a mark if the last one is far enough behind.
    pub(super) fn mark(&self, mark: Mark) {
        let mut marks = self.marks();
        let marks = marks.get_or_insert_default();
        if marks.last().is_none_or(|last| mark.offset - last.offset >= 256 * 1024) {
            marks.push(mark);
        }
    }

    /// Walks the batches from `offset` on. `visit` gets each whole batch with its offset, or the
    /// offset where damage or the end stands, and says whether to go on.
    pub(super) fn walk(
        &self,
        mut offset: u64,
        visit: &mut dyn FnMut(u64, Result<Batch<'_>, Hole>) -> bool,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        while offset + (BATCH_START_BYTES as u64) < self.byte_len {
            let mut start = [0; BATCH_START_BYTES];
            self.file.read_at(offset, &mut start)?;
            let len = format::batch_len(&start, &self.header.salt).unwrap_or(0);
            if len > 0 && offset + len as u64 <= self.byte_len {
                buffer.resize(len, 0);
                self.file.read_at(offset, &mut buffer)?;
                if let Some(batch) = format::decode_batch(&buffer, &self.header.salt) {
                    if !visit(offset, Ok(batch)) {
                        return Ok(());
                    }
                    offset += len as u64;
                    continue;
                }
            }
            match self.resume_after(offset)? {
                Some(next) => {
                    if !visit(offset, Err(Hole::Damage)) {
                        return Ok(());
                    }
                    offset = next;
                }
                None => {
                    visit(offset, Err(if start == [0; 32] { Hole::End } else { Hole::Torn }));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Looks for the next whole batch behind `offset`: the salt, then a checksum that holds.
    fn resume_after(&self, offset: u64) -> io::Result<Option<u64>> {
        let len = usize::try_from(self.byte_len - offset).unwrap_or(usize::MAX);
        let mut rest = vec![0; len];
        let have = self.file.read_at(offset, &mut rest)?;
        rest.truncate(have);
        let salt = self.header.salt;
        let mut at = 1;
        while let Some(tail) = rest.get(at..)
            && let Some(found) = tail.windows(salt.len()).position(|window| window == salt)
        {
            at += found;
            let batch = rest.get(at..).and_then(|bytes| format::decode_batch(bytes, &salt));
            if batch.is_some() {
                return Ok(Some(offset + at as u64));
            }
            at += 1;
        }
        Ok(None)
    }
}

/// Why there is no batch at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hole {
    /// Zeros to the end: nothing was written here.
    End,
    /// Bytes that are no whole batch, with none behind them.
    Torn,
    /// Bytes that are no whole batch, with one behind them.
    Damage,
}

/// All segments, by first number.
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    list: Mutex<BTreeMap<Seq, Arc<Segment>>>,
    applied: AtomicU64,
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>, options: LogOptions, list: Vec<Arc<Segment>>) -> Self {
        let list = list.into_iter().map(|segment| (segment.header.first, segment)).collect();
        Self { disk, options, list: Mutex::new(list), applied: AtomicU64::new(0) }
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<Seq, Arc<Segment>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
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

    pub(super) fn oldest(&self) -> Seq {
        self.list().keys().next().copied().unwrap_or(Seq(1))
    }

    /// Removes whole segments, oldest first, that are too old or too many; never the active one,
    /// and nothing that the tables lack.
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
            if !(old || many) || next > self.applied() {
                return;
            }
            let name = segment.name.clone();
            list.remove(&first);
            drop(list);
            if let Err(error) = self.disk.remove(&name) {
                tracing::warn!(%error, segment = name, "old segment not removed");
                return;
            }
            tracing::info!(segment = name, "segment removed by retention");
        }
    }

    fn segment_of(&self, seq: Seq) -> Option<(Arc<Segment>, Option<Seq>)> {
        let list = self.list();
        let (_, segment) = list.range(..=seq).next_back()?;
        let next = list.range(seq.next()..).next().map(|(first, _)| *first);
        Some((Arc::clone(segment), next))
    }

    /// Reads one stretch of one segment.
    pub(super) fn read(
        &self,
        from: Seq,
        end: Seq,
        filter: &ReadFilter,
        bytes_max: usize,
    ) -> Result<Chunk, ReadError> {
        let mut chunk = Chunk { items: Vec::new(), next: from };
        if from > end {
            return Ok(chunk);
        }
        let oldest = self.oldest();
        if from < oldest {
            chunk.items.push(Followed::Gap(from.0..=oldest.0 - 1, GapReason::Retention));
            chunk.next = oldest;
            return Ok(chunk);
        }
        let Some((segment, next_segment)) = self.segment_of(from) else {
            return Ok(chunk);
        };
        let offset = index(&segment).map_err(ReadError::Io)?.seek(from);
        let mut bytes = 0;
        let mut scanned_bytes = 0;
        let walked = segment.walk(offset, &mut |_, step| {
            let Ok(batch) = step else { return step.is_err_and(|hole| hole == Hole::Damage) };
            if batch.first > end {
                return false;
            }
            fill_gap(&mut chunk, batch.first);
            bytes += collect(&batch, from, end, filter, &mut chunk);
            scanned_bytes += batch.byte_len;
            bytes < bytes_max && scanned_bytes < 32 * bytes_max.max(256 * 1024)
        });
        walked.map_err(ReadError::Io)?;
        if chunk.next == from && chunk.items.is_empty() {
            let lost_until = next_segment.map_or(end, Seq::prev).min(end);
            chunk.items.push(Followed::Gap(from.0..=lost_until.0, GapReason::Damaged));
            chunk.next = lost_until.next();
        }
        Ok(chunk)
    }

    /// The first number that arrived at `time` or later.
    pub(super) fn seek_time(&self, time: UnixMs) -> Seq {
        let segments: Vec<_> = self.list().values().cloned().collect();
        let mut found = segments.first().map_or(Seq(1), |segment| segment.header.first);
        for segment in &segments {
            let Ok(marks) = index(segment) else { continue };
            let before = marks.0.iter().take_while(|mark| mark.arrived < time).last();
            match before {
                Some(mark) => found = mark.first,
                None => break,
            }
        }
        found
    }
}

struct Index(Vec<Mark>);

impl Index {
    fn seek(&self, seq: Seq) -> u64 {
        let before = self.0.partition_point(|mark| mark.first <= seq).checked_sub(1);
        before.and_then(|at| self.0.get(at)).map_or(HEADER_BYTES as u64, |mark| mark.offset)
    }
}

/// The marks of a segment, made by one walk if they are not there yet.
fn index(segment: &Segment) -> io::Result<Index> {
    if let Some(marks) = segment.marks().as_ref() {
        return Ok(Index(marks.clone()));
    }
    let mut marks: Vec<Mark> = Vec::new();
    segment.walk(HEADER_BYTES as u64, &mut |offset, step| {
        let Ok(batch) = step else { return step.is_err_and(|hole| hole == Hole::Damage) };
        if marks.last().is_none_or(|last| offset - last.offset >= 256 * 1024) {
            let arrived = batch.arrived().unwrap_or_default();
            marks.push(Mark { first: batch.first, offset, arrived });
        }
        true
    })?;
    *segment.marks() = Some(marks.clone());
    Ok(Index(marks))
}

/// A batch that does not follow on the last one stands behind damage, unless it records a gap.
fn fill_gap(chunk: &mut Chunk, first: Seq) {
    if first > chunk.next {
        chunk.items.push(Followed::Gap(chunk.next.0..=first.0 - 1, GapReason::Damaged));
        chunk.next = first;
    }
}

fn collect(
    batch: &Batch<'_>,
    from: Seq,
    end: Seq,
    filter: &ReadFilter,
    chunk: &mut Chunk,
) -> usize {
    let mut bytes = 0;
    for (seq, entry) in batch.entries() {
        if seq < from || seq > end {
            continue;
        }
        chunk.next = seq.next();
        let Some(entry) = entry else {
            chunk.items.push(Followed::Gap(seq.0..=seq.0, GapReason::Damaged));
            continue;
        };
        if let Record::Gap { from, to, reason } = entry.record {
            // The gap that fill_gap put here is this one, and now has its true reason.
            if let Some(Followed::Gap(range, _)) = chunk.items.last()
                && *range.end() == to.0
            {
                chunk.items.pop();
            }
            chunk.items.push(Followed::Gap(from.0..=to.0, reason));
        }
        if filter.selects(&entry) {
            bytes += batch.byte_len / (batch.count.max(1) as usize);
            chunk.items.push(Followed::Entry(Arc::new(entry)));
        }
    }
    bytes
}
