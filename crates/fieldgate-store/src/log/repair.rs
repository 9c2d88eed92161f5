//! `fieldgate log repair`: rewrites damaged segments without what cannot be read.
//!
//! Works on a log that nobody has open. The damaged file is kept beside the new one as `*.damaged`.
//! Invariant: every whole batch is kept, byte for byte of its records; what is lost becomes a
//! recorded gap.

use std::path::Path;

use fieldgate_core::{
    dialect::GapReason,
    id::{Seq, UnixMs},
};

use super::{
    OpenError,
    ahead::{self, AHEAD_NAME},
    format::{BatchBuilder, Footer, HEADER_BYTES, encode_header},
    inspect::open_folder,
    recover::open_all,
    segment::{Hole, Segment},
    writer::new_header,
};
use crate::{
    disk::Disk,
    record::{Entry, Record},
};

/// What `repair` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// The segments that were written anew.
    pub rewritten: Vec<String>,
    /// The numbers that are given up: first and last.
    pub lost: Vec<(Seq, Seq)>,
}

/// Repairs the log in `folder`.
///
/// # Errors
///
/// [`OpenError`]; what was rewritten before stands.
pub fn repair(folder: &Path) -> Result<RepairReport, OpenError> {
    repair_on(&open_folder(folder)?)
}

pub(super) fn repair_on(disk: &dyn Disk) -> Result<RepairReport, OpenError> {
    let mut report = RepairReport::default();
    let segments = open_all(disk)?;
    let mut next = segments.first().map_or(Seq(1), |segment| segment.header.first);
    for (at, segment) in segments.iter().enumerate() {
        let newer = segments.get(at + 1);
        let mut behind = next;
        if is_damaged(segment, newer.is_none(), &mut behind)? {
            let last = at + 2 == segments.len();
            let newer = newer.map(|newer| (newer.as_ref(), last));
            behind = rewrite(disk, segment, newer, next, &mut report)?;
        }
        next = behind.max(next);
    }
    Ok(report)
}

/// Tells whether a segment needs repair, and moves `behind` past its last number.
fn is_damaged(segment: &Segment, newest: bool, behind: &mut Seq) -> Result<bool, OpenError> {
    let mut damaged = segment.bad_header;
    // A lost last segment stays: only its size says which numbers may have been given in it.
    if segment.lost {
        return Ok(!newest);
    }
    segment.walk(HEADER_BYTES as u64, &mut |_, step| {
        match step {
            Ok(batch) => {
                *behind = batch.last.next();
                damaged |= batch.entries().any(|(_, entry)| entry.is_none());
            }
            Err(Hole::Damage) => damaged = true,
            Err(Hole::Torn) => damaged |= !newest,
            Err(Hole::End) => (),
        }
        true
    })?;
    Ok(damaged)
}

/// The new content of a segment, batch by batch.
struct Copy<'a> {
    salt: [u8; 16],
    bytes: Vec<u8>,
    next: Seq,
    footer: Footer,
    report: &'a mut RepairReport,
}

impl Copy<'_> {
    fn batch(&mut self, first: Seq, entries: &[Entry], footer: &Footer) {
        let mut builder = BatchBuilder::default();
        builder.start(&self.salt, first);
        entries.iter().for_each(|entry| builder.push(entry));
        let last = entries.last().map_or(first.prev(), |entry| entry.seq);
        self.bytes.extend_from_slice(builder.finish(last, footer));
        self.next = last.next();
        self.footer = *footer;
    }

    /// Records that the numbers up to `end` are lost; the record takes the last of them.
    fn lose(&mut self, end: Seq) {
        let from = self.next;
        if end < from {
            return;
        }
        self.report.lost.push((from, end));
        let record = Record::Gap { from, to: end, reason: GapReason::Damaged };
        let entry = Entry { seq: end, arrived: UnixMs(0), record };
        let footer = Footer { end_mark: false, ..self.footer };
        self.batch(end, &[entry], &footer);
    }
}

fn rewrite(
    disk: &dyn Disk,
    segment: &Segment,
    newer: Option<(&Segment, bool)>,
    next: Seq,
    report: &mut RepairReport,
) -> Result<Seq, OpenError> {
    let mut header = new_header(segment.header.epoch, segment.header.first, 0);
    header.running_ms = segment.header.running_ms;
    header.voids = segment.header.voids;
    if let Some((newer, _)) = newer.filter(|_| segment.bad_header) {
        header.epoch = newer.header.epoch;
    }
    let footer = Footer { running_ms: header.running_ms, ..Footer::default() };
    // The record of a gap before this segment may be among what is lost.
    let next = next.min(header.first);
    let mut copy = Copy { salt: header.salt, bytes: Vec::new(), next, footer, report };
    if !segment.lost {
        copy_batches(segment, &mut copy)?;
    }
    if let Some((newer, last)) = newer {
        copy.lose(told_from(newer, last)?.prev());
    }
    let behind = copy.next;
    let content = std::mem::take(&mut copy.bytes);
    // The next segment ends this one at an offset; what does not fit before it cannot be rewritten.
    let room = segment.end().saturating_sub(HEADER_BYTES as u64);
    if segment.end() < segment.byte_len && content.len() as u64 > room {
        return Ok(behind);
    }
    let byte_len = segment.byte_len.max((HEADER_BYTES + content.len()) as u64);
    let file = ahead::make(disk, byte_len)?;
    file.write_at(0, &encode_header(&header))?;
    file.write_at(HEADER_BYTES as u64, &content)?;
    file.sync()?;
    keep_damaged(disk, segment)?;
    disk.rename(AHEAD_NAME, &segment.name)?;
    report.rewritten.push(segment.name.clone());
    Ok(behind)
}

fn copy_batches(segment: &Segment, copy: &mut Copy<'_>) -> Result<(), OpenError> {
    segment.walk(HEADER_BYTES as u64, &mut |_, step| {
        let Ok(batch) = step else { return true };
        let gap = batch.entries().next().and_then(|(_, entry)| entry).and_then(|entry| gap(&entry));
        copy.lose(gap.unwrap_or(batch.first).min(batch.first).prev());
        let mut run: Vec<Entry> = Vec::new();
        let mut first = batch.first;
        let between = Footer { end_mark: false, ..batch.footer };
        for (seq, entry) in batch.entries() {
            match entry {
                Some(entry) => run.push(entry),
                None => {
                    if !run.is_empty() {
                        copy.batch(first, &run, &between);
                        run.clear();
                    }
                    copy.next = copy.next.max(seq);
                    copy.lose(seq);
                    first = seq.next();
                }
            }
        }
        copy.batch(first, &run, &batch.footer);
        true
    })?;
    Ok(())
}

fn gap(entry: &Entry) -> Option<Seq> {
    if let Record::Gap { from, .. } = entry.record { Some(from) } else { None }
}

/// The first number that a segment accounts for itself, by a record or by a gap at its start. One
/// that will be rewritten accounts for all before it; the `newest` keeps a torn tail.
fn told_from(segment: &Segment, newest: bool) -> Result<Seq, OpenError> {
    let mut told = segment.header.first;
    segment.walk(HEADER_BYTES as u64, &mut |_, step| {
        match step.map(|batch| batch.entries().next().and_then(|(_, entry)| entry)) {
            Ok(entry) => told = entry.and_then(|entry| gap(&entry)).unwrap_or(told).min(told),
            Err(Hole::Damage) => told = Seq(0),
            Err(Hole::Torn) if !newest => told = Seq(0),
            Err(Hole::Torn | Hole::End) => (),
        }
        false
    })?;
    Ok(told)
}

fn keep_damaged(disk: &dyn Disk, segment: &Segment) -> Result<(), OpenError> {
    let mut bytes = vec![0; usize::try_from(segment.byte_len).unwrap_or(0)];
    let have = segment.file.read_at(0, &mut bytes)?;
    bytes.truncate(have);
    let kept = disk.create(&format!("{}.damaged", segment.name), bytes.len() as u64)?;
    kept.write_at(0, &bytes)?;
    Ok(kept.sync()?)
}
