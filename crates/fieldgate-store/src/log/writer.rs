//! The writer: one thread that puts what waits on stable storage, a batch at a time.
//!
//! One write and one sync a batch; the durable frontier moves after the sync. The segment that comes
//! next is made before it is needed.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::id::{Epoch, Seq};

use super::{
    LogOptions,
    format::{self, BatchBuilder, Footer, HEADER_BYTES, Header},
    intake::{Intake, Taken},
    segments::{Mark, Segment, Segments},
};
use crate::{disk::Disk, record::Entry};

/// How many numbers each footer reserves ahead (`storage.md` 1.5, "Reservation").
pub(super) const RESERVE_COUNT: u64 = 65_536;
const HOUSEKEEPING: Duration = Duration::from_secs(1);

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
}

impl Writer {
    /// Writes until the intake is closed and empty, then leaves an end mark.
    pub(super) fn run(mut self, intake: &Intake, segments: &Segments) {
        let mut housekept = Instant::now();
        loop {
            let taken = intake.take(HOUSEKEEPING);
            if housekept.elapsed() >= HOUSEKEEPING {
                housekept = Instant::now();
                self.keep_house(intake, segments);
            }
            let Some(taken) = taken else { continue };
            if let Err(error) = self.commit(&taken, segments) {
                tracing::error!(%error, "the log cannot be written: nothing is acknowledged any more");
                intake.failed("the disk failed; the log must be opened anew");
                break;
            }
            if let Some(last) = taken.entries.last() {
                intake.committed(last.seq, Seq(last.seq.0 + RESERVE_COUNT));
            }
            if taken.closing {
                break;
            }
        }
        intake.written_out();
    }

    fn running_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.running_base_ms.saturating_add(elapsed)
    }

    fn keep_house(&self, intake: &Intake, segments: &Segments) {
        segments.retain(self.running_ms());
        match segments.disk().free_bytes() {
            Ok(free) => intake.set_low_disk(free < self.options.free_bytes_min),
            Err(error) => tracing::warn!(%error, "free disk space is unknown"),
        }
    }

    /// Writes one batch and waits for the disk.
    pub(super) fn commit(&mut self, taken: &Taken, segments: &Segments) -> io::Result<()> {
        let first = taken.entries.first().map_or(self.last.next(), |entry| entry.seq);
        let last = taken.entries.last().map_or(self.last, |entry| entry.seq);
        self.build(first, &taken.entries);
        if self.offset + self.builder.byte_len() as u64 > self.segment.byte_len {
            self.rotate(first, segments)?;
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
        self.segment.file.write_at(self.offset, bytes)?;
        if self.options.sync {
            self.segment.file.sync()?;
        }
        if let Some(entry) = taken.entries.first() {
            let mark = Mark { first, offset: self.offset, arrived: entry.arrived };
            self.segment.mark(mark);
        }
        self.offset += bytes.len() as u64;
        self.last = last;
        Ok(())
    }

    fn build(&mut self, first: Seq, entries: &[Arc<Entry>]) {
        self.builder.start(&self.segment.header.salt, first);
        for entry in entries {
            self.builder.push(entry);
        }
    }

    fn rotate(&mut self, first: Seq, segments: &Segments) -> io::Result<()> {
        let header = new_header(self.epoch, first, self.running_ms());
        let segment = create(segments.disk().as_ref(), header, self.options.segment_bytes)?;
        self.segment = Arc::new(segment);
        self.offset = HEADER_BYTES as u64;
        segments.add(Arc::clone(&self.segment));
        Ok(())
    }
}

pub(super) fn new_header(epoch: Epoch, first: Seq, running_ms: u64) -> Header {
    let mut salt = [0; 16];
    if aws_lc_rs::rand::fill(&mut salt).is_err() {
        tracing::warn!("no randomness for a segment's salt");
    }
    salt[0] |= 1;
    Header { epoch, first, salt, running_ms }
}

/// Makes a segment: zeros, then the header, synced.
pub(super) fn create(disk: &dyn Disk, header: Header, byte_len: u64) -> io::Result<Segment> {
    let name = format!("{:016}.seg", header.first.0);
    let file = disk.create(&name, byte_len)?;
    file.write_at(0, &format::encode_header(&header))?;
    file.sync()?;
    Ok(Segment::new(name, header, file, byte_len))
}
