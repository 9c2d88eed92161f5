//! Recovery: what a folder of segments says after a stop, clean or not.
//!
//! Only the last segment is walked. Bytes behind its last whole batch are a torn tail: they are kept
//! in a `.cut` file and zeroed. Without an end mark, the numbers up to the reservation are a gap.

use std::{sync::Arc, time::Instant};

use fieldgate_core::{
    dialect::GapReason,
    id::{Epoch, Seq, UnixMs},
};

use super::{
    LogOptions, OpenError,
    format::{self, BATCH_START_BYTES, BatchBuilder, Footer, HEADER_BYTES},
    intake::Taken,
    segments::{Hole, Mark, Segment, Segments},
    writer::{RESERVE_COUNT, Writer, create, new_header},
};
use crate::{
    disk::Disk,
    record::{Entry, Record},
};

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// The life of the log.
    pub epoch: Epoch,
    /// The next number to be given.
    pub next: Seq,
    /// Numbers may be given up to here before the next commit.
    pub reserved_until: Seq,
    /// How far the tables had come when the last batch was written.
    pub applied: Seq,
    /// Bytes cut from a torn tail.
    pub cut_bytes: u64,
    /// Numbers that the stop took: first and last.
    pub crash_gap: Option<(Seq, Seq)>,
    /// Whether the log is new.
    pub created: bool,
}

#[derive(Debug)]
struct End {
    offset: u64,
    last: Seq,
    footer: Footer,
    torn: bool,
}

pub(super) fn recover(
    disk: Arc<dyn Disk>,
    options: LogOptions,
) -> Result<(Segments, Writer, Recovery), OpenError> {
    let names = disk.list()?;
    let names = names.into_iter().filter(|name| name.ends_with(".seg"));
    let mut list = Vec::new();
    for name in names {
        match open_segment(disk.as_ref(), name) {
            Ok(segment) => list.push(Arc::new(segment)),
            // A crash between making a file and writing its header leaves zeros: it holds nothing.
            Err(OpenError::BadHeader(name)) => {
                tracing::warn!(segment = name, "segment without a header is set aside");
            }
            Err(error) => return Err(error),
        }
    }
    let created = list.is_empty();
    if created {
        let header = new_header(new_epoch(), Seq(1), 0);
        list.push(Arc::new(create(disk.as_ref(), header, options.segment_bytes)?));
    }
    let Some(segment) = list.last().map(Arc::clone) else {
        return Err(OpenError::BadHeader("none".to_owned()));
    };
    let end = find_end(&segment)?;
    let cut_bytes = if end.torn { cut(disk.as_ref(), &segment, end.offset)? } else { 0 };
    let clean = created || end.footer.end_mark;
    let next = if clean { end.last.next() } else { end.footer.reserved_until.next() };
    let mut writer = Writer {
        options,
        epoch: segment.header.epoch,
        segment,
        offset: end.offset,
        last: next.prev(),
        running_base_ms: end.footer.running_ms,
        started: Instant::now(),
        builder: BatchBuilder::default(),
    };
    let segments = Segments::new(disk, options, list);
    segments.set_applied(end.footer.applied);
    let crash_gap = (!clean).then_some((end.last.next(), next.prev()));
    let next = settle(&mut writer, &segments, crash_gap, next)?;
    let recovery = Recovery {
        epoch: writer.epoch,
        next,
        reserved_until: Seq(next.0 - 1 + RESERVE_COUNT),
        applied: end.footer.applied,
        cut_bytes,
        crash_gap,
        created,
    };
    Ok((segments, writer, recovery))
}

/// Makes what was accepted last, and reserves anew, before anybody reads or gets a number.
fn settle(
    writer: &mut Writer,
    segments: &Segments,
    crash_gap: Option<(Seq, Seq)>,
    next: Seq,
) -> Result<Seq, OpenError> {
    let mut taken = Taken::default();
    if let Some((from, to)) = crash_gap {
        let record = Record::Gap { from, to, reason: GapReason::Crash };
        taken.entries.push(Arc::new(Entry { seq: next, arrived: UnixMs(0), record }));
    }
    writer.commit(&taken, segments)?;
    Ok(Seq(next.0 + taken.entries.len() as u64))
}

fn new_epoch() -> Epoch {
    let mut bytes = [0; 4];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::warn!("no randomness for an epoch");
    }
    Epoch(u32::from_le_bytes(bytes))
}

pub(super) fn open_segment(disk: &dyn Disk, name: String) -> Result<Segment, OpenError> {
    let file = disk.open(&name)?;
    let mut bytes = [0; HEADER_BYTES];
    file.read_at(0, &mut bytes)?;
    let byte_len = file.byte_len()?;
    match format::decode_header(&bytes) {
        Some(header) => Ok(Segment::new(name, header, file, byte_len)),
        None => Err(OpenError::BadHeader(name)),
    }
}

fn find_end(segment: &Segment) -> Result<End, OpenError> {
    let mut end = End {
        offset: HEADER_BYTES as u64,
        last: segment.header.first.prev(),
        footer: Footer {
            reserved_until: Seq(segment.header.first.0 + RESERVE_COUNT),
            running_ms: segment.header.running_ms,
            ..Footer::default()
        },
        torn: false,
    };
    segment.walk(HEADER_BYTES as u64, &mut |offset, step| {
        match step {
            Ok(batch) => {
                end.offset = offset + batch.byte_len as u64;
                end.last = batch.last;
                end.footer = batch.footer;
                let arrived = batch.arrived().unwrap_or_default();
                segment.mark(Mark { first: batch.first, offset, arrived });
            }
            Err(hole) => end.torn = hole == Hole::Torn,
        }
        true
    })?;
    Ok(end)
}

/// Keeps what stands behind the last whole batch in a file of its own, then zeroes it.
fn cut(disk: &dyn Disk, segment: &Segment, offset: u64) -> Result<u64, OpenError> {
    let len = usize::try_from(segment.byte_len - offset).unwrap_or(0);
    let mut bytes = vec![0; len];
    let have = segment.file.read_at(offset, &mut bytes)?;
    bytes.truncate(have);
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    let used = used.max(BATCH_START_BYTES.min(have));
    bytes.truncate(used);
    let copy = disk.create(&format!("{}.{offset}.cut", segment.name), used as u64)?;
    copy.write_at(0, &bytes)?;
    copy.sync()?;
    segment.file.write_at(offset, &vec![0; used])?;
    segment.file.sync()?;
    tracing::warn!(segment = segment.name, offset, bytes = used, "torn tail cut from the log");
    Ok(used as u64)
}
