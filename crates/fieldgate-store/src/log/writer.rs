//! The writer: one thread that puts what waits on stable storage, a batch at a time.
//!
//! One write and one sync a batch; the durable frontier moves after the sync. The segment that comes
//! next is made before it is needed. After a failed write or sync nothing of the old segment behind
//! the last durable batch is trusted: a new segment declares it void, once one can be made.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::{
    dialect::GapReason,
    id::{Epoch, Seq, UnixMs},
};

use super::{
    LogOptions,
    ahead::{self, AHEAD_NAME, Ahead},
    format::{self, BatchBuilder, Footer, HEADER_BYTES, Header, Void},
    intake::{Intake, Taken},
    segment::Segment,
    segments::Segments,
};
use crate::{
    disk::{Disk, LogFile},
    record::{Entry, Record},
};

/// How many numbers each footer reserves ahead (`storage.md` 1.5, "Reservation").
pub(super) const RESERVE_COUNT: u64 = 65_536;
const HOUSEKEEPING: Duration = Duration::from_secs(1);
const FAILED: &str = "the disk failed";

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) options: LogOptions,
    pub(super) epoch: Epoch,
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    pub(super) last: Seq,
    pub(super) running_base_ms: u64,
    pub(super) started: Instant,
    pub(super) builder: BatchBuilder,
    pub(super) ahead: Arc<Ahead>,
    pub(super) asked_ahead: bool,
    pub(super) failed: Option<Void>,
}

impl Writer {
    /// Writes until the intake is closed and empty, then leaves an end mark.
    pub(super) fn run(mut self, intake: &Intake, segments: &Segments) {
        self.keep_house(intake, segments);
        let mut housekept = Instant::now();
        loop {
            let taken = intake.take(HOUSEKEEPING);
            if housekept.elapsed() >= HOUSEKEEPING {
                housekept = Instant::now();
                self.keep_house(intake, segments);
            }
            if taken.is_some_and(|taken| self.step(&taken, intake, segments)) {
                break;
            }
        }
        self.ahead.close();
        intake.written_out();
    }

    /// Puts one batch on stable storage and says so. Returns true if it was the last.
    pub(super) fn step(&mut self, taken: &Taken, intake: &Intake, segments: &Segments) -> bool {
        if self.failed.is_some() {
            return taken.closing;
        }
        match self.commit(taken, segments) {
            Ok(()) => {
                if let Some(last) = taken.entries.last() {
                    intake.committed(last.seq, Seq(last.seq.0 + RESERVE_COUNT));
                }
            }
            Err(error) => {
                tracing::error!(%error, segment = self.segment.name, "the log cannot be written");
                segments.stats.failed();
                let void = self.void();
                self.failed = Some(void);
                self.segment.set_end(void.offset);
                intake.stop(FAILED);
                // First the new segment, so that a crash does not bring back what is refused now.
                if !taken.closing {
                    self.revive(intake, segments);
                }
                intake.refuse();
            }
        }
        taken.closing
    }

    fn void(&self) -> Void {
        Void { segment: self.segment.header.first, last: self.last, offset: self.offset }
    }

    fn running_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.running_base_ms.saturating_add(elapsed)
    }

    pub(super) fn keep_house(&mut self, intake: &Intake, segments: &Segments) {
        if self.failed.is_some() {
            self.revive(intake, segments);
        }
        segments.retain(self.running_ms());
        match segments.disk().free_bytes() {
            Ok(free) => {
                let min = self.options.free_bytes_min;
                intake.set_low_disk(free < min, free < min / 4);
            }
            Err(error) => tracing::warn!(%error, "free disk space is unknown"),
        }
    }

    /// Tries to go on in a new segment after a failure.
    fn revive(&mut self, intake: &Intake, segments: &Segments) {
        let Some(void) = self.failed else { return };
        let seq = intake.next();
        let record =
            Record::Gap { from: void.last.next(), to: seq.prev(), reason: GapReason::Crash };
        let entry = Arc::new(Entry { seq, arrived: UnixMs(0), record });
        let taken = Taken { entries: vec![Arc::clone(&entry)], closing: false };
        self.build(seq, &taken.entries);
        let begun = self.rotate(seq, segments, Some(void));
        match begun.and_then(|()| self.commit(&taken, segments)) {
            Ok(()) => {
                self.failed = None;
                intake.revived(entry, Seq(seq.0 + RESERVE_COUNT));
                tracing::warn!(segment = self.segment.name, "the log goes on in a new segment");
            }
            Err(error) => tracing::error!(%error, "the log still cannot be written"),
        }
    }

    /// Writes one batch and waits for the disk.
    pub(super) fn commit(&mut self, taken: &Taken, segments: &Segments) -> io::Result<()> {
        let first = taken.entries.first().map_or(self.last.next(), |entry| entry.seq);
        let last = taken.entries.last().map_or(self.last, |entry| entry.seq);
        self.build(first, &taken.entries);
        if self.offset + self.builder.byte_len() as u64 > self.segment.end() {
            self.rotate(first, segments, None)?;
            self.build(first, &taken.entries);
        }
        let reserved = if taken.closing { 0 } else { RESERVE_COUNT };
        let footer = Footer {
            reserved_until: Seq(last.0 + reserved),
            applied: segments.applied(),
            running_ms: self.running_ms(),
            end_mark: taken.closing,
        };
        let bytes = self.builder.finish(last, &footer);
        self.segment.file.append_at(self.offset, bytes)?;
        let mut sync = None;
        if self.options.sync && !crate::control::SYNC_REMOVED.is_on() {
            let started = Instant::now();
            self.segment.file.sync()?;
            sync = Some(started.elapsed());
        }
        segments.stats.committed(taken.entries.len(), bytes.len(), sync);
        self.segment.mark(first, self.offset);
        self.offset += bytes.len() as u64;
        self.last = last;
        if !self.asked_ahead && self.offset > self.segment.byte_len / 2 {
            self.asked_ahead = true;
            self.ahead.prepare();
        }
        Ok(())
    }

    fn build(&mut self, first: Seq, entries: &[Arc<Entry>]) {
        self.builder.start(&self.segment.header.salt, first);
        if crate::control::NUMBERS_SWAPPED.is_on() && entries.len() > 1 {
            entries.iter().rev().for_each(|entry| self.builder.push(entry));
            return;
        }
        for entry in entries {
            self.builder.push(entry);
        }
    }

    /// Goes on in a new segment, big enough for the batch that stands in the builder.
    fn rotate(&mut self, first: Seq, segments: &Segments, voids: Option<Void>) -> io::Result<()> {
        let mut header = new_header(self.epoch, first, self.running_ms());
        header.voids = voids;
        let need = (HEADER_BYTES + self.builder.byte_len()) as u64;
        let byte_len = self.options.segment_bytes.max(need);
        let ready = self.ahead.take().filter(|_| voids.is_none());
        let ready = ready.filter(|file| file.byte_len().is_ok_and(|len| len >= byte_len));
        let segment = create(segments.disk().as_ref(), header, byte_len, ready)?;
        let full = std::mem::replace(&mut self.segment, Arc::new(segment));
        self.offset = HEADER_BYTES as u64;
        self.asked_ahead = false;
        segments.add(Arc::clone(&self.segment));
        self.ahead.seal(full);
        Ok(())
    }
}

pub(super) fn new_header(epoch: Epoch, first: Seq, running_ms: u64) -> Header {
    let mut salt = [0; 16];
    if aws_lc_rs::rand::fill(&mut salt).is_err() {
        tracing::warn!("no randomness for a segment's salt");
    }
    salt[0] |= 1;
    Header { epoch, first, salt, running_ms, voids: None }
}

/// Makes a segment: zeros and the header, synced, and then its name.
pub(super) fn create(
    disk: &dyn Disk,
    header: Header,
    byte_len: u64,
    ready: Option<Box<dyn LogFile>>,
) -> io::Result<Segment> {
    let file = match ready {
        Some(file) => file,
        None => ahead::make(disk, byte_len)?,
    };
    file.append_at(0, &format::encode_header(&header))?;
    file.sync()?;
    let name = format!("{:016}.seg", header.first.0);
    disk.rename(AHEAD_NAME, &name)?;
    let byte_len = file.byte_len()?;
    Ok(Segment::new(name, header, file, byte_len))
}
