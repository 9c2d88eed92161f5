//! Looking at a log that nobody has open: `fieldgate log verify` and `log dump`.
//!
//! Reads only. Invariant: damage is reported with its place, and never stops the walk.

use std::{io, path::Path, sync::Arc};

use fieldgate_core::id::Seq;

use super::{
    OpenError,
    format::HEADER_BYTES,
    recover::open_all,
    segment::{Hole, Segment},
};
use crate::{
    disk::{Disk, RealDisk},
    record::{Entry, Record},
};

/// What `verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many segments.
    pub segment_count: usize,
    /// How many whole batches.
    pub batch_count: u64,
    /// How many records in them.
    pub record_count: u64,
    /// The first number still held.
    pub first: Seq,
    /// The last number in the log.
    pub last: Seq,
    /// Whether the last stop was clean.
    pub clean_end: bool,
    /// Each damaged place: segment and byte offset.
    pub damages: Vec<(String, u64)>,
    /// Numbers that are missing without a record that says why: first and last.
    pub missing: Vec<(Seq, Seq)>,
    /// A torn tail: segment and byte offset. A start cuts it.
    pub torn_tail: Option<(String, u64)>,
}

impl VerifyReport {
    /// Tells whether nothing is damaged or missing. A torn tail is no damage.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty() && self.missing.is_empty()
    }
}

/// One record of a dump.
pub type DumpedEntry = Entry;

/// Walks every batch of the log in `folder`.
///
/// # Errors
///
/// [`OpenError`] if the folder cannot be read at all.
pub fn verify(folder: &Path) -> Result<VerifyReport, OpenError> {
    verify_on(&open_folder(folder)?)
}

/// Hands every record of the log in `folder` to `visit`, in order.
///
/// # Errors
///
/// [`OpenError`] if the folder cannot be read at all.
pub fn dump(folder: &Path, visit: &mut dyn FnMut(DumpedEntry)) -> Result<(), OpenError> {
    walk(&open_folder(folder)?, visit).map(|_| ())
}

pub(super) fn open_folder(folder: &Path) -> Result<RealDisk, OpenError> {
    if !folder.is_dir() {
        let missing = io::Error::new(io::ErrorKind::NotFound, "there is no log in this folder");
        return Err(missing.into());
    }
    Ok(RealDisk::new(folder.to_owned())?)
}

pub(super) fn verify_on(disk: &dyn Disk) -> Result<VerifyReport, OpenError> {
    walk(disk, &mut |_| ())
}

fn walk(disk: &dyn Disk, visit: &mut dyn FnMut(Entry)) -> Result<VerifyReport, OpenError> {
    let mut report = VerifyReport::default();
    let segments = open_all(disk)?;
    report.first = segments.first().map_or(Seq(1), |segment| segment.header.first);
    report.last = report.first.prev();
    report.segment_count = segments.len();
    let mut suspect = None;
    for (at, segment) in segments.iter().enumerate() {
        if segment.bad_header {
            report.damages.push((segment.name.clone(), 0));
        }
        if segment.lost {
            continue;
        }
        let missing = report.missing.len();
        let newest = at + 1 == segments.len();
        let torn = walk_segment(segment, newest, visit, &mut report)?;
        // The remains of a write that was given up are no damage while every number is there.
        if report.missing.len() > missing {
            report.damages.extend(suspect.take());
        }
        suspect = torn;
    }
    Ok(report)
}

fn walk_segment(
    segment: &Arc<Segment>,
    newest: bool,
    visit: &mut dyn FnMut(Entry),
    report: &mut VerifyReport,
) -> Result<Option<(String, u64)>, OpenError> {
    let mut torn = None;
    let place = |offset| (segment.name.clone(), offset);
    segment.walk(HEADER_BYTES as u64, &mut |offset, step| {
        match step {
            Ok(batch) => {
                report.batch_count += 1;
                report.record_count += u64::from(batch.count);
                report.clean_end = batch.footer.end_mark;
                for (seq, entry) in batch.entries() {
                    report.follow(seq, entry.as_ref());
                    match entry {
                        Some(entry) => visit(entry),
                        None => report.damages.push(place(offset)),
                    }
                }
            }
            Err(Hole::Damage) => report.damages.push(place(offset)),
            Err(Hole::Torn) if newest => {
                report.torn_tail = Some(place(offset));
                report.clean_end = false;
            }
            Err(Hole::Torn) => torn = Some(place(offset)),
            Err(Hole::End) => (),
        }
        true
    })?;
    Ok(torn)
}

impl VerifyReport {
    fn follow(&mut self, seq: Seq, entry: Option<&Entry>) {
        let mut expected = self.last.next();
        if let Some(Record::Gap { from, to, .. }) = entry.map(|entry| &entry.record)
            && *from <= expected
        {
            expected = expected.max(to.next());
        }
        if seq > expected {
            self.missing.push((expected, seq.prev()));
        }
        self.last = self.last.max(seq);
    }
}
