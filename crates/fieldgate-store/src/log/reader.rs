//! Reading from the segments: one bounded stretch at a time, gaps in their place.
//!
//! Never runs on a worker. Invariant: numbers in a chunk rise, and each number below `next` is an
//! entry, within a gap, or was not selected.

use std::{io, sync::Arc};

use fieldgate_core::{
    dialect::GapReason,
    id::{Seq, UnixMs},
};

use super::{
    format::{Batch, HEADER_BYTES},
    index::Wanted,
    segment::{Hole, Segment},
    segments::Segments,
    selection::Selection,
};
use crate::{
    codec::{self, Names},
    port::{Chunk, Followed, ReadError, ReadFilter},
    record::{Entry, Record},
};

/// Most bytes looked at for one chunk, whatever is found.
const SCAN_BYTES_MAX: usize = 8 << 20;

struct Stretch<'a> {
    end: Seq,
    filter: &'a ReadFilter,
    selection: Selection<'a>,
    /// Those of the last message that was made.
    names: Names,
    bytes_max: usize,
    bytes: usize,
    scanned: usize,
    chunk: Chunk,
}

impl Segments {
    /// Reads from `from` up to `end`, both inclusive, one bounded stretch.
    pub(super) fn read(
        &self,
        from: Seq,
        end: Seq,
        filter: &ReadFilter,
        bytes_max: usize,
    ) -> Result<Chunk, ReadError> {
        let chunk = self.read_stretch(from, end, filter, bytes_max)?;
        self.stats.note_damage(&chunk.items);
        Ok(chunk)
    }

    fn read_stretch(
        &self,
        from: Seq,
        end: Seq,
        filter: &ReadFilter,
        bytes_max: usize,
    ) -> Result<Chunk, ReadError> {
        let chunk = Chunk { items: Vec::new(), next: from };
        let (selection, names) = (Selection::of(filter), Names::default());
        let mut stretch =
            Stretch { end, filter, selection, names, bytes_max, bytes: 0, scanned: 0, chunk };
        if from > end {
            return Ok(stretch.chunk);
        }
        let (holder, mut newer) = self.of(from);
        let mut segment = match holder {
            Some(segment) => segment,
            None => match newer.take() {
                Some(segment) => {
                    stretch.skip_to(segment.header.first, GapReason::Retention);
                    newer = self.of(segment.header.first).1;
                    segment
                }
                None => return Ok(stretch.chunk),
            },
        };
        loop {
            let full = newer.is_some();
            self.read_segment(&segment, full, &mut stretch).map_err(ReadError::Io)?;
            let moved = stretch.chunk.next > from || !stretch.chunk.items.is_empty();
            match newer {
                Some(next) if !moved && next.header.first <= end => {
                    newer = self.of(next.header.first).1;
                    segment = next;
                }
                _ if moved => return Ok(stretch.chunk),
                _ => break,
            }
        }
        stretch.skip_to(end.next(), GapReason::Damaged);
        Ok(stretch.chunk)
    }

    fn read_segment(
        &self,
        segment: &Arc<Segment>,
        full: bool,
        stretch: &mut Stretch<'_>,
    ) -> io::Result<()> {
        let wanted = Wanted::of(stretch.filter);
        let seek = |seq| match &wanted {
            Some(wanted) => {
                self.with_index(segment, stretch.end, full, |index| index.skip(seq, wanted))
            }
            None => Ok(None),
        };
        let from = stretch.chunk.next;
        let mut offset = segment.seek(from);
        if let Some((next, at)) = seek(from)? {
            let last = Seq(next.0.min(stretch.end.next().0));
            stretch.chunk.next = stretch.chunk.next.max(last);
            offset = if next > from { at } else { offset.max(at) };
        }
        let end = stretch.end;
        if stretch.chunk.next > end {
            return Ok(());
        }
        segment.walk(offset.max(HEADER_BYTES as u64), &mut |_, step| match step {
            Ok(batch) if batch.first > end => false,
            Ok(batch) => stretch.take(&batch),
            Err(Hole::Damage) => true,
            Err(Hole::End | Hole::Torn) => false,
        })
    }

    /// The first number that arrived at `time` or later, if it is on disk.
    pub(super) fn seek_time(&self, time: UnixMs, end: Seq) -> io::Result<Option<Seq>> {
        let mut found: Option<Arc<Segment>> = None;
        for segment in self.all() {
            match segment.first_arrived()? {
                Some(arrived) if arrived >= time && found.is_some() => break,
                Some(_) => found = Some(segment),
                None => (),
            }
        }
        let Some(segment) = found else { return Ok(None) };
        let mut hit = None;
        let (mut behind, mut offset) = (segment.header.first, HEADER_BYTES as u64);
        if segment.first_arrived()?.is_some_and(|first| first < time) {
            let full = self.of(segment.header.first).1.is_some();
            let at = self.with_index(&segment, end, full, |index| index.seek_time(time))?;
            (behind, offset) = (behind.max(at.0), at.1);
        }
        segment.walk(offset, &mut |_, step| {
            let Ok(batch) = step else { return step.is_err_and(|hole| hole == Hole::Damage) };
            behind = batch.last.next();
            hit = batch.arrivals().find(|(_, arrived)| *arrived >= time).map(|(seq, _)| seq);
            hit.is_none() && batch.last < end
        })?;
        Ok(Some(hit.unwrap_or(behind)))
    }
}

impl Stretch<'_> {
    fn skip_to(&mut self, next: Seq, reason: GapReason) {
        let next = next.min(self.end.next());
        if next > self.chunk.next {
            self.chunk.items.push(Followed::Gap(self.chunk.next.0..=next.0 - 1, reason));
            self.chunk.next = next;
        }
    }

    /// Takes what is wanted of a batch; says whether there is room for more.
    fn take(&mut self, batch: &Batch<'_>) -> bool {
        self.scanned += batch.byte_len;
        if batch.last < self.chunk.next {
            return self.scanned < SCAN_BYTES_MAX || self.chunk.items.is_empty();
        }
        let before = self.bytes;
        for (seq, arrived, body) in batch.bodies() {
            if seq < self.chunk.next {
                continue;
            }
            if seq > self.end || self.bytes >= self.bytes_max {
                return false;
            }
            let selects = self.selection.selects(arrived, body);
            if selects == Some(false) {
                self.skip_to(seq, GapReason::Damaged);
                self.chunk.next = seq.next();
                continue;
            }
            match codec::decode_next(body, &mut self.names) {
                Ok(record) => {
                    let entry = Entry { seq, arrived, record };
                    self.take_entry(entry, selects.is_some(), batch);
                }
                Err(_) => self.skip_to(seq.next(), GapReason::Damaged),
            }
        }
        // The next batch is likely to hold as much: one that has to be cut is read and checked twice.
        let expected = self.bytes + (self.bytes - before);
        self.bytes < self.bytes_max
            && expected <= self.bytes_max
            && self.scanned < SCAN_BYTES_MAX
            && batch.last < self.end
    }

    /// Takes an entry, of which it may be known already that the reader sees it.
    fn take_entry(&mut self, entry: Entry, is_selected: bool, batch: &Batch<'_>) {
        if let Record::Gap { from, to, reason } = entry.record {
            // What the record names may begin before this chunk does; what it does not is damage.
            self.skip_to(from, GapReason::Damaged);
            self.skip_to(to.next(), reason);
        }
        self.skip_to(entry.seq, GapReason::Damaged);
        if entry.seq < self.chunk.next {
            // A repair put the record into the last place of its own gap.
            return;
        }
        self.chunk.next = entry.seq.next();
        if is_selected || self.filter.selects(&entry) {
            self.bytes += batch.byte_len / (batch.count.max(1) as usize);
            self.chunk.items.push(Followed::Entry(Arc::new(entry)));
        }
    }
}
