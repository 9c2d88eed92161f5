//! The bytes of a segment: header and batches, in and out.
//!
//! All integers little-endian. Header, 96 bytes: magic 8, version u32, epoch u32, first seq u64, salt
//! 16, running ms u64; after a failed sync the void part of an older segment: its first seq, the last
//! seq that stands, the byte offset behind it, u64 each, else zeros; zeros 20, crc u32. Batch: salt 16, body length u32, record count u32, first
//! seq u64; per record: length u32, arrival u64, body; then the footer: last seq u64, reserved
//! until u64, applied seq u64, running ms u64, flags u32, crc u32 over the whole batch before it.

use fieldgate_core::id::{Epoch, Seq, UnixMs};

use crate::{
    codec,
    record::{Entry, SEQ_BOUND},
};

pub(super) const HEADER_BYTES: usize = 96;
pub(super) const BATCH_START_BYTES: usize = 32;
pub(super) const FOOTER_BYTES: usize = 40;
/// What every record takes beside its body.
pub(super) const RECORD_BYTES_MIN: usize = 12;
const MAGIC: [u8; 8] = *b"FGLOG\0\0\x01";
const VERSION: u32 = 1;
const END_MARK: u32 = 1;

/// Random bytes of one segment: a payload cannot forge a batch that it does not know.
pub(super) type Salt = [u8; 16];

#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) epoch: Epoch,
    pub(super) first: Seq,
    pub(super) salt: Salt,
    pub(super) running_ms: u64,
    pub(super) voids: Option<Void>,
}

/// The part of an older segment that a failed sync left in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Void {
    /// First seq of the segment.
    pub(super) segment: Seq,
    /// The last number that stands.
    pub(super) last: Seq,
    /// Bytes from here on mean nothing.
    pub(super) offset: u64,
}

/// What stands behind the records of a batch.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Footer {
    pub(super) reserved_until: Seq,
    pub(super) applied: Seq,
    pub(super) running_ms: u64,
    pub(super) end_mark: bool,
}

/// A batch whose checksum holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) count: u32,
    pub(super) footer: Footer,
    pub(super) byte_len: usize,
    records: &'a [u8],
}

pub(super) fn encode_header(header: &Header) -> [u8; HEADER_BYTES] {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&header.epoch.0.to_le_bytes());
    bytes.extend_from_slice(&header.first.0.to_le_bytes());
    bytes.extend_from_slice(&header.salt);
    bytes.extend_from_slice(&header.running_ms.to_le_bytes());
    let voids = header.voids.map_or([0; 3], |void| [void.segment.0, void.last.0, void.offset]);
    voids.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes.resize(HEADER_BYTES - 4, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.try_into().unwrap_or([0; HEADER_BYTES])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

pub(super) fn decode_header(bytes: &[u8]) -> Option<Header> {
    let good = bytes.get(..8)? == MAGIC
        && u32_at(bytes, 8)? == VERSION
        && u32_at(bytes, HEADER_BYTES - 4)? == crc32c::crc32c(bytes.get(..HEADER_BYTES - 4)?);
    let void = Void {
        segment: Seq(u64_at(bytes, 48)?),
        last: Seq(u64_at(bytes, 56)?),
        offset: u64_at(bytes, 64)?,
    };
    let salt = bytes.get(24..40)?.try_into().ok()?;
    let first = Seq(u64_at(bytes, 16)?);
    // What it declares void is older.
    let voids = void.segment == Seq(0) || void.segment < first && void.last < first;
    let good = good && first < SEQ_BOUND && voids;
    good.then_some(Header {
        epoch: Epoch(u32_at(bytes, 12)?),
        first,
        salt,
        running_ms: u64_at(bytes, 40)?,
        voids: (void.segment > Seq(0)).then_some(void),
    })
}

/// Writes batches into one buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct BatchBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl BatchBuilder {
    pub(super) fn start(&mut self, salt: &Salt, first: Seq) {
        self.bytes.clear();
        self.count = 0;
        self.bytes.extend_from_slice(salt);
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&first.0.to_le_bytes());
    }

    pub(super) fn push(&mut self, entry: &Entry) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&entry.arrived.0.to_le_bytes());
        codec::encode(&entry.record, &mut self.bytes);
        let len = u32::try_from(self.bytes.len() - at - 12).unwrap_or(u32::MAX);
        self.put(at, &len.to_le_bytes());
        self.count += 1;
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(slot) = self.bytes.get_mut(at..at + value.len()) {
            slot.copy_from_slice(value);
        }
    }

    /// Bytes of the batch so far, footer included.
    pub(super) const fn byte_len(&self) -> usize {
        self.bytes.len() + FOOTER_BYTES
    }

    pub(super) fn finish(&mut self, last: Seq, footer: &Footer) -> &[u8] {
        let body = u32::try_from(self.bytes.len() - BATCH_START_BYTES).unwrap_or(u32::MAX);
        self.put(16, &body.to_le_bytes());
        self.put(20, &self.count.to_le_bytes());
        self.bytes.extend_from_slice(&last.0.to_le_bytes());
        self.bytes.extend_from_slice(&footer.reserved_until.0.to_le_bytes());
        self.bytes.extend_from_slice(&footer.applied.0.to_le_bytes());
        self.bytes.extend_from_slice(&footer.running_ms.to_le_bytes());
        let flags = if footer.end_mark { END_MARK } else { 0 };
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        let crc = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        &self.bytes
    }
}

/// How many bytes the batch that starts here says it has; nothing if none starts here.
pub(super) fn batch_len(start: &[u8], salt: &Salt) -> Option<usize> {
    let body = u32_at(start, 16)?;
    (start.get(..16)? == salt).then(|| BATCH_START_BYTES + body as usize + FOOTER_BYTES)
}

/// Reads the batch at the start of `bytes`; nothing unless it is whole, its checksum holds and its
/// numbers are such as a log gives.
pub(super) fn decode_batch<'a>(bytes: &'a [u8], salt: &Salt) -> Option<Batch<'a>> {
    let byte_len = batch_len(bytes, salt)?;
    let batch = bytes.get(..byte_len)?;
    let (content, crc) = batch.split_at_checked(byte_len - 4)?;
    if u32_at(crc, 0)? != crc32c::crc32c(content) {
        return None;
    }
    let footer_at = byte_len - FOOTER_BYTES;
    let batch = Batch {
        first: Seq(u64_at(batch, 24)?),
        last: Seq(u64_at(batch, footer_at)?),
        count: u32_at(batch, 20)?,
        footer: Footer {
            reserved_until: Seq(u64_at(batch, footer_at + 8)?),
            applied: Seq(u64_at(batch, footer_at + 16)?),
            running_ms: u64_at(batch, footer_at + 24)?,
            end_mark: u32_at(batch, footer_at + 32)? & END_MARK != 0,
        },
        byte_len,
        records: batch.get(BATCH_START_BYTES..footer_at)?,
    };
    let Footer { reserved_until, applied, .. } = batch.footer;
    let greatest = batch.first.max(batch.last).max(reserved_until).max(applied);
    let counts = greatest < SEQ_BOUND && batch.last.0 + 1 == batch.first.0 + u64::from(batch.count);
    counts.then_some(batch)
}

impl Batch<'_> {
    /// The entries; nothing in place of one that is of no version known here.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Seq, Option<Entry>)> {
        self.bodies().map(|(seq, arrived, body)| {
            let record = codec::decode(body).ok();
            (seq, record.map(|record| Entry { seq, arrived, record }))
        })
    }

    /// The bytes of each record, with its number and when it arrived.
    pub(super) fn bodies(&self) -> impl Iterator<Item = (Seq, UnixMs, &[u8])> {
        let mut rest = self.records;
        let mut seq = self.first;
        let bodies = std::iter::from_fn(move || {
            let (len, behind) = rest.split_first_chunk()?;
            let (arrived, behind) = behind.split_first_chunk()?;
            let (body, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rest = behind;
            let at = seq;
            seq = seq.next();
            Some((at, UnixMs(u64::from_le_bytes(*arrived)), body))
        });
        bodies.take(self.count as usize)
    }

    /// When each record arrived, by number.
    pub(super) fn arrivals(&self) -> impl Iterator<Item = (Seq, UnixMs)> {
        self.bodies().map(|(seq, arrived, _)| (seq, arrived))
    }

    /// When the first record arrived. One that the log made for itself has no time.
    pub(super) fn arrived(&self) -> Option<UnixMs> {
        self.arrivals().map(|(_, arrived)| arrived).find(|arrived| *arrived > UnixMs(0))
    }
}
