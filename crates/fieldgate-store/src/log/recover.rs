//! Recovery: what a folder of segments says after a stop, clean or not.
//!
//! Only the last segment is walked; what is damaged in it is named at once. Bytes behind its last whole batch are a torn tail: they are kept
//! in a `.cut` file and zeroed. Without an end mark, the numbers up to the reservation are a gap.
//! Invariant: what was accepted is on stable storage before anybody reads or gets a number.

use std::{sync::Arc, time::Instant};

use fieldgate_core::{
    dialect::GapReason,
    id::{Epoch, Seq, UnixMs},
};

use super::{
    LogOptions, OpenError,
    ahead::Ahead,
    format::{BATCH_START_BYTES, BatchBuilder, Footer, HEADER_BYTES, RECORD_BYTES_MIN},
    intake::Taken,
    scrub,
    segment::{Hole, Segment, is_zero},
    segments::Segments,
    writer::{RESERVE_COUNT, Writer, create, new_header},
};
use crate::{
    control,
    disk::Disk,
    record::{Entry, Record, SEQ_BOUND},
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
    /// Damaged places that the start came across; `verify` looks everywhere and names them.
    pub damage_count: u32,
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
    damage_count: u32,
    last_batch: Option<u64>,
    /// The first number of the oldest segment that was walked.
    walked_from: Seq,
}

pub(super) fn recover(
    disk: Arc<dyn Disk>,
    options: LogOptions,
) -> Result<(Segments, Writer, Recovery), OpenError> {
    // A segment that a crash left under a name of the page cache alone would take records and vanish.
    disk.sync()?;
    let mut list = open_all(disk.as_ref())?;
    let created = list.is_empty();
    if created {
        let header = new_header(new_epoch(), Seq(1), 0);
        let segment = create(disk.as_ref(), header, options.segment_bytes, None)?;
        list.push(Arc::new(segment));
    }
    let Some(segment) = list.last().map(Arc::clone) else {
        return Err(OpenError::NoSegment("none".to_owned()));
    };
    let epoch = list.iter().rev().find(|segment| !segment.bad_header);
    let epoch = epoch.map_or_else(new_epoch, |segment| segment.header.epoch);
    let lost = segment.lost;
    let mut end = find_end(&segment)?;
    if end.last_batch.is_none() && segment.header.voids.is_none() {
        adopt_older(&mut end, &list)?;
    }
    let mut cut_bytes = 0;
    if end.torn {
        cut_bytes = cut(disk.as_ref(), &segment, end.offset)?;
    }
    harden(&segment, &end)?;
    let clean = created || end.footer.end_mark && cut_bytes == 0;
    // What was cut may have been whole batches with numbers and a reservation of their own.
    let unseen = cut_bytes.div_ceil(RECORD_BYTES_MIN as u64);
    let unseen = if cut_bytes > 0 { unseen + RESERVE_COUNT } else { 0 };
    let reserved = if control::RESERVATION_REMOVED.is_on() {
        end.last
    } else {
        Seq(end.footer.reserved_until.0.max(end.last.0) + unseen)
    };
    let next = if clean { end.last.next() } else { reserved.next() };
    let mut writer = Writer {
        options,
        epoch,
        segment,
        offset: end.offset,
        last: next.prev(),
        running_base_ms: end.footer.running_ms,
        started: Instant::now(),
        builder: BatchBuilder::default(),
        ahead: Arc::new(Ahead::default()),
        asked_ahead: false,
        failed: None,
    };
    let damage_count = end.damage_count + count_bad(&list);
    let segments = Segments::new(disk, options, list);
    segments.set_applied(end.footer.applied);
    let gap = (!clean && next > end.last.next()).then_some((end.last.next(), next.prev()));
    let reason = if lost { GapReason::Damaged } else { GapReason::Crash };
    let next = settle(&mut writer, &segments, gap.map(|gap| (gap, reason)), next)?;
    name_damage(&segments, &end, next.prev());
    let recovery = Recovery {
        epoch,
        next,
        reserved_until: Seq(next.0 - 1 + RESERVE_COUNT),
        applied: end.footer.applied,
        cut_bytes,
        damage_count,
        crash_gap: gap,
        created,
    };
    Ok((segments, writer, recovery))
}

fn count_bad(list: &[Arc<Segment>]) -> u32 {
    u32::try_from(list.iter().filter(|segment| segment.bad_header).count()).unwrap_or(u32::MAX)
}

/// Names what was found damaged, as a reader that comes across it does.
fn name_damage(segments: &Segments, end: &End, last: Seq) {
    for segment in segments.all().into_iter().filter(|segment| segment.lost) {
        let newer = segments.of(segment.header.first).1;
        // What stands behind it may say what was in it.
        let until = newer.map_or(last, |newer| newer.header.first);
        scrub::look(segments, segment.header.first, until.min(last));
    }
    if end.damage_count > 0 {
        scrub::look(segments, end.walked_from, last);
    }
}

/// Opens every segment, by number, and ends those that a failed sync left in doubt.
pub(super) fn open_all(disk: &dyn Disk) -> Result<Vec<Arc<Segment>>, OpenError> {
    let mut list: Vec<Arc<Segment>> = Vec::new();
    for name in disk.list()? {
        let Some(number) = name.strip_suffix(".seg") else { continue };
        match number.parse().map(Seq) {
            Ok(first) if first < SEQ_BOUND => {
                list.push(Arc::new(Segment::open(disk, name, first)?));
            }
            _ => return Err(OpenError::NoSegment(name)),
        }
    }
    for void in list.iter().filter_map(|segment| segment.header.voids) {
        let holder = list.iter().find(|segment| segment.header.first == void.segment);
        if let Some(segment) = holder {
            segment.set_end(void.offset);
        }
    }
    Ok(list)
}

/// Makes what was accepted last, and reserves anew, before anybody reads or gets a number.
fn settle(
    writer: &mut Writer,
    segments: &Segments,
    gap: Option<((Seq, Seq), GapReason)>,
    next: Seq,
) -> Result<Seq, OpenError> {
    let mut taken = Taken::default();
    if let Some(((from, to), reason)) = gap {
        let record = Record::Gap { from, to, reason };
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

/// Nothing stands in the newest segment yet: what went before says where the log ends.
fn adopt_older(end: &mut End, list: &[Arc<Segment>]) -> Result<(), OpenError> {
    for segment in list.iter().rev().skip(1) {
        let older = find_end(segment)?;
        end.damage_count += older.damage_count;
        end.walked_from = older.walked_from;
        if older.last_batch.is_some() || segment.header.voids.is_some() || segment.lost {
            end.last = older.last;
            end.footer.applied = older.footer.applied;
            end.footer.reserved_until = end.footer.reserved_until.max(older.footer.reserved_until);
            break;
        }
    }
    Ok(())
}

fn find_end(segment: &Segment) -> Result<End, OpenError> {
    let last = segment.header.voids.map_or(segment.header.first.prev(), |void| void.last);
    let mut end = End {
        offset: HEADER_BYTES as u64,
        last,
        footer: Footer {
            reserved_until: Seq(segment.header.first.0 + RESERVE_COUNT),
            running_ms: segment.header.running_ms,
            ..Footer::default()
        },
        torn: false,
        damage_count: 0,
        last_batch: None,
        walked_from: segment.header.first,
    };
    if segment.lost {
        // Nothing can be appended here, and any number may have been given in it.
        end.offset = segment.byte_len;
        end.footer.reserved_until = Seq(segment.seq_bound().0 + RESERVE_COUNT);
        return Ok(end);
    }
    segment.walk(HEADER_BYTES as u64, &mut |offset, step| {
        match step {
            Ok(batch) => {
                end.last_batch = Some(offset);
                end.offset = offset + batch.byte_len as u64;
                end.last = batch.last;
                end.footer = batch.footer;
            }
            Err(Hole::Damage) => end.damage_count += 1,
            Err(hole) => end.torn = hole == Hole::Torn,
        }
        true
    })?;
    Ok(end)
}

/// Puts what was accepted on stable storage. The last batch is written again: after a stop its pages
/// may count as clean without ever having reached the disk.
fn harden(segment: &Segment, end: &End) -> Result<(), OpenError> {
    let Some(offset) = end.last_batch else { return Ok(()) };
    let mut bytes = vec![0; usize::try_from(end.offset - offset).unwrap_or(0)];
    segment.file.read_at(offset, &mut bytes)?;
    segment.file.write_at(offset, &bytes)?;
    if !control::SYNC_REMOVED.is_on() {
        segment.file.sync()?;
    }
    Ok(())
}

/// Keeps what stands behind the last whole batch in a file of its own, then zeroes it.
fn cut(disk: &dyn Disk, segment: &Segment, offset: u64) -> Result<u64, OpenError> {
    let mut used = (BATCH_START_BYTES as u64).min(segment.byte_len - offset);
    segment.stretches(offset, &mut |at, bytes| {
        if !is_zero(bytes) {
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            used = used.max(at - offset + last as u64 + 1);
        }
        Ok(())
    })?;
    let name = format!("{}.{offset}.cut", segment.name);
    let copy = match disk.list()?.contains(&name) {
        true => None,
        false => Some(disk.create(&name, used)?),
    };
    let end = offset + used;
    if let Some(copy) = copy {
        segment.stretches(offset, &mut |at, bytes| {
            let len = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            copy.write_at(at - offset, bytes.get(..len).unwrap_or(bytes))
        })?;
        copy.sync()?;
    }
    segment.stretches(offset, &mut |at, bytes| {
        if is_zero(bytes) { Ok(()) } else { segment.file.write_at(at, &vec![0; bytes.len()]) }
    })?;
    segment.file.sync()?;
    tracing::warn!(segment = segment.name, offset, bytes = used, "torn tail cut from the log");
    Ok(used)
}
