//! Any bytes as the files of a log: opening, reading, verifying and repairing them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::{ops::Range, sync::Arc};

use fieldgate_core::{
    id::{Seq, UnixMs},
    message::Qos,
};

use super::{
    LogOptions, ManualLog,
    format::{BATCH_START_BYTES, FOOTER_BYTES, HEADER_BYTES},
    inspect::verify_on,
    repair::repair_on,
};
use crate::{
    disk::{Disk as _, faulty::FaultyDisk},
    port::{Followed, Log as _, ReadFilter},
    testing::message_at,
};

const BYTES_MAX: usize = 16 << 10;

fn options() -> LogOptions {
    LogOptions {
        segment_bytes: 4 << 10,
        free_bytes_min: 0,
        tail_bytes_max: 0,
        ..LogOptions::default()
    }
}

fn put(disk: &FaultyDisk, name: &str, bytes: &[u8]) {
    let file = disk.create(name, bytes.len() as u64).expect("the disk is sound");
    file.write_at(0, bytes).expect("the disk is sound");
}

/// Puts the checksum of `range` behind it, if there is room.
fn sum(bytes: &mut [u8], range: Range<usize>) {
    let end = range.end;
    let Some(sum) = bytes.get(range).map(crc32c::crc32c) else { return };
    if let Some(place) = bytes.get_mut(end..end + 4) {
        place.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Makes every checksum hold, so that what stands in the fields is looked at.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    sum(&mut bytes, 0..HEADER_BYTES - 4);
    let salt = bytes.get(24..40).map(<[u8]>::to_vec).unwrap_or_default();
    let mut at = HEADER_BYTES;
    while let Some(start) = bytes.get_mut(at..at + BATCH_START_BYTES) {
        start[..16].copy_from_slice(&salt);
        let body = u32::from_le_bytes([start[16], start[17], start[18], start[19]]) as usize;
        let end = at + BATCH_START_BYTES + body + FOOTER_BYTES;
        sum(&mut bytes, at..end - 4);
        at = end;
    }
    bytes
}

/// Reads all of the log; what it tells rises and moves on.
fn read(log: &ManualLog, filter: &ReadFilter) {
    let end = log.log.frontier().durable;
    let mut next = log.log.oldest();
    while next <= end {
        let chunk = log.log.read(next, filter, 1 << 10).expect("the disk is sound");
        let mut before = None;
        for item in &chunk.items {
            let (from, to) = match item {
                Followed::Entry(entry) => (entry.seq.0, entry.seq.0),
                Followed::Gap(range, _) => (*range.start(), *range.end()),
            };
            assert!(
                from <= to && before.is_none_or(|before| before < from),
                "{item:?} after {before:?}"
            );
            before = Some(to);
        }
        assert!(chunk.next > next, "reading stands still at {next}");
        next = chunk.next;
    }
}

fn filter() -> ReadFilter {
    let filters = vec!["a/#".parse().expect("a filter")];
    ReadFilter { filters, ..ReadFilter::default() }
}

/// A start on this folder, then a message, then another start: the message is there.
fn live(disk: &FaultyDisk) {
    let open = || ManualLog::open(Arc::new(disk.clone()), options());
    let Ok((mut log, _)) = open() else { return };
    read(&log, &ReadFilter::default());
    read(&log, &filter());
    let _ = log.log.seek_time(UnixMs(5));
    let seq = log.log.append(vec![message_at("a/b", Qos::AtLeastOnce, "new")], UnixMs(1));
    let seq = Seq(*seq.expect("the log takes messages").end());
    log.step();
    assert!(log.log.frontier().durable >= seq && !log.log.is_refused(seq));
    drop(log);
    disk.kill();
    let (log, _) = open().expect("it opened before");
    let chunk = log.log.read(seq, &ReadFilter::default(), 1).expect("the disk is sound");
    assert!(matches!(chunk.items.first(), Some(Followed::Entry(entry)) if entry.seq == seq));
}

/// Any bytes as the only segment, as they are and with checksums that hold.
pub(crate) fn segment(data: &[u8]) {
    if data.len() > BYTES_MAX {
        return;
    }
    for bytes in [data.to_vec(), mended(data)] {
        let first =
            bytes.get(16..24).and_then(|at| at.try_into().ok()).map_or(1, u64::from_le_bytes);
        {
            let name = format!("{first:016}.seg");
            let disk = FaultyDisk::new(1);
            put(&disk, &name, &bytes);
            let _ = verify_on(&disk);
            live(&disk);
            let disk = FaultyDisk::new(1);
            put(&disk, &name, &bytes);
            if repair_on(&disk).is_ok() {
                let _ = verify_on(&disk);
                live(&disk);
            }
        }
    }
}

/// Any bytes as the index beside a full segment: at worst it is made again.
pub(crate) fn index(data: &[u8]) {
    if data.len() > BYTES_MAX {
        return;
    }
    let disk = FaultyDisk::new(1);
    let (mut log, _) = ManualLog::open(Arc::new(disk.clone()), options()).expect("an empty folder");
    let payload = "x".repeat(300);
    for n in 0..24 {
        let topic = ["a/b", "b/c"][n % 2];
        let taken = log.log.append(vec![message_at(topic, Qos::AtLeastOnce, &payload)], UnixMs(9));
        taken.expect("the log takes messages");
        log.step();
    }
    drop(log);
    disk.kill();
    let salt = {
        let file = disk.open("0000000000000001.seg").expect("the first segment");
        let mut header = [0; HEADER_BYTES];
        file.read_at(0, &mut header).expect("the disk is sound");
        u128::from_le_bytes(header[24..40].try_into().expect("16 bytes"))
    };
    let mut mended = data.to_vec();
    if mended.len() >= 28 {
        mended[8..16].copy_from_slice(&((salt >> 64) as u64).to_le_bytes());
        mended[16..24].copy_from_slice(&(salt as u64).to_le_bytes());
        let content = mended.len() - 4;
        sum(&mut mended, 0..content);
    }
    for bytes in [data, &mended] {
        put(&disk, "0000000000000001.seg.idx", bytes);
        let (log, _) =
            ManualLog::open(Arc::new(disk.clone()), options()).expect("it opened before");
        read(&log, &filter());
        drop(log);
        disk.kill();
    }
}
