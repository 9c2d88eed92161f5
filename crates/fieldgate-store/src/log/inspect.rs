//! Looking at a log that nobody has open: `fieldgate log verify` and `log dump`.
//!
//! Reads only. Invariant: damage is reported with its place, and never stops the walk.

use std::{io, path::Path};

use fieldgate_core::id::Seq;

use super::{OpenError, format::HEADER_BYTES, recover::open_segment, segments::Hole};
use crate::{
    disk::{Disk, RealDisk},
    record::Entry,
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
    /// The last number in the log.
    pub last: Seq,
    /// Whether the last stop was clean.
    pub clean_end: bool,
    /// Each damaged place: segment and byte offset.
    pub damages: Vec<(String, u64)>,
    /// A torn tail: segment and byte offset. A start cuts it.
    pub torn_tail: Option<(String, u64)>,
}

/// One record of a dump.
pub type DumpedEntry = Entry;

/// Walks every batch of the log in `folder`.
///
/// # Errors
///
/// [`OpenError`] if the folder cannot be read at all.
pub fn verify(folder: &Path) -> Result<VerifyReport, OpenError> {
    let mut report = VerifyReport::default();
    walk(folder, &mut |_| (), &mut report)?;
    Ok(report)
}

/// Hands every record of the log in `folder` to `visit`, in order.
///
/// # Errors
///
/// [`OpenError`] if the folder cannot be read at all.
pub fn dump(folder: &Path, visit: &mut dyn FnMut(DumpedEntry)) -> Result<(), OpenError> {
    walk(folder, visit, &mut VerifyReport::default())
}

fn walk(
    folder: &Path,
    visit: &mut dyn FnMut(Entry),
    report: &mut VerifyReport,
) -> Result<(), OpenError> {
    if !folder.is_dir() {
        let missing = io::Error::new(io::ErrorKind::NotFound, "there is no log in this folder");
        return Err(missing.into());
    }
    let disk = RealDisk::new(folder.to_owned())?;
    for name in disk.list()?.into_iter().filter(|name| name.ends_with(".seg")) {
        let segment = match open_segment(&disk, name) {
            Ok(segment) => segment,
            Err(OpenError::BadHeader(name)) => {
                report.damages.push((name, 0));
                continue;
            }
            Err(error) => return Err(error),
        };
        report.segment_count += 1;
        segment.walk(HEADER_BYTES as u64, &mut |offset, step| {
            match step {
                Ok(batch) => {
                    report.batch_count += 1;
                    report.record_count += u64::from(batch.count);
                    report.last = batch.last;
                    report.clean_end = batch.footer.end_mark;
                    for (_, entry) in batch.entries() {
                        match entry {
                            Some(entry) => visit(entry),
                            None => report.damages.push((segment.name.clone(), offset)),
                        }
                    }
                }
                Err(Hole::Damage) => report.damages.push((segment.name.clone(), offset)),
                Err(Hole::Torn) => report.torn_tail = Some((segment.name.clone(), offset)),
                Err(Hole::End) => (),
            }
            true
        })?;
    }
    Ok(())
}
