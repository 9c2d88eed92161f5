//! The skip index of a segment: which tenants, topics and times stand in which block.
//!
//! A block is a run of whole batches of about 1,000 records with a small Bloom filter. It lets a
//! filtered replay pass over what cannot concern it. It is made on reading and when a segment is
//! full, and kept in a side file that can be made again at any time.
//! Invariant: a block with a gap record or behind damage is never passed over.

use std::io;

use fieldgate_core::id::{Seq, UnixMs};

use super::{
    format::{Batch, HEADER_BYTES},
    segment::{Hole, Segment},
};
use crate::{
    codec::{self, About},
    disk::Disk,
    port::ReadFilter,
    record::SEQ_BOUND,
};

const BLOCK_LEN: u64 = 1_000;
const BLOCK_BYTES: u64 = 256 << 10;
const MAGIC: u64 = u64::from_le_bytes(*b"FGIDX\0\0\x01");
const PROBES: u64 = 5;
const RECENT_LEN: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) offset: u64,
    /// Latest arrival.
    pub(super) arrived: UnixMs,
    /// Never passed over.
    pub(super) gap: bool,
    bloom: Vec<u64>,
}

/// The blocks of one segment, as far as somebody has looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BlockIndex {
    pub(super) blocks: Vec<Block>,
    covered: u64,
}

fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xFF]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 29
}

/// The bits of a key in a filter of `bits` bits (a power of two).
fn bits_of(key: u64, bits: u64) -> impl Iterator<Item = (usize, u64)> {
    let step = key.rotate_left(32) | 1;
    (0..PROBES).map(move |probe| {
        let bit = key.wrapping_add(step.wrapping_mul(probe)) & (bits - 1);
        (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
    })
}

impl Block {
    fn holds(&self, key: u64) -> bool {
        let bits = self.bloom.len() as u64 * 64;
        bits > 0
            && bits_of(key, bits)
                .all(|(word, bit)| self.bloom.get(word).is_some_and(|w| w & bit != 0))
    }

    /// Tells whether something in here may be selected.
    pub(super) fn may_match(&self, wanted: &Wanted) -> bool {
        self.gap
            || wanted.arrived_from.is_none_or(|from| self.arrived >= from)
                && wanted.keys.as_ref().is_none_or(|keys| keys.iter().any(|key| self.holds(*key)))
    }
}

/// A filter in the terms of the index.
#[derive(Debug)]
pub(super) struct Wanted {
    keys: Option<Vec<u64>>,
    arrived_from: Option<UnixMs>,
}

impl Wanted {
    /// Nothing if the index cannot help with `filter`.
    pub(super) fn of(filter: &ReadFilter) -> Option<Self> {
        if filter.tenant.is_none() && filter.filters.is_empty() && filter.arrived_from.is_none() {
            return None;
        }
        let tenant = filter.tenant.as_ref().map_or("", |tenant| tenant.as_str());
        let key = |filter: &str| {
            let wild = filter.find(['+', '#']);
            let fixed = wild.map_or(filter, |at| filter.get(..at).unwrap_or_default());
            let fixed = if wild.is_some() { fixed.strip_suffix('/').unwrap_or("") } else { fixed };
            if fixed.is_empty() { hash(&[tenant]) } else { hash(&[tenant, fixed]) }
        };
        let any = filter.tenant.is_none() && filter.filters.is_empty();
        let mut keys: Vec<u64> = filter.filters.iter().map(|f| key(f.as_str())).collect();
        if keys.is_empty() {
            keys.push(hash(&[tenant]));
        }
        Some(Self { keys: (!any).then_some(keys), arrived_from: filter.arrived_from })
    }
}

#[derive(Debug, Default)]
struct Builder {
    first: Option<(Seq, u64)>,
    last: Seq,
    arrived: UnixMs,
    gap: bool,
    recent: Recent,
    keys: Vec<u64>,
}

/// Tenants and topics that a block has: most of its records repeat one. Each has one place, that of
/// its checksum; one that lost it to another is looked at once more. The names themselves are held
/// against each other: whoever finds two with one hash must not hide the one behind the other.
#[derive(Debug, Default)]
struct Recent(Vec<(String, String)>);

impl Recent {
    /// Tells whether these were the last at their place; from now on they are.
    fn holds(&mut self, tenant: &str, topic: &str) -> bool {
        if self.0.is_empty() {
            self.0.resize_with(RECENT_LEN, Default::default);
        }
        let place = crc32c::crc32c(topic.as_bytes()) as usize % RECENT_LEN;
        let Some((its_tenant, its_topic)) = self.0.get_mut(place) else { return false };
        if its_topic == topic && its_tenant == tenant && !topic.is_empty() {
            return true;
        }
        for (held, new) in [(its_tenant, tenant), (its_topic, topic)] {
            held.clear();
            held.push_str(new);
        }
        false
    }

    fn forget(&mut self) {
        self.0.iter_mut().for_each(|(_, topic)| topic.clear());
    }
}

impl Builder {
    fn add(&mut self, arrived: UnixMs, body: &[u8]) {
        self.arrived = self.arrived.max(arrived);
        let (tenant, topic) = match codec::about(body) {
            Ok(About::Message { tenant, topic }) => (tenant, topic),
            Ok(About::Other) => return,
            Ok(About::Gap) | Err(_) => return self.gap = true,
        };
        if self.recent.holds(tenant, topic) {
            return;
        }
        // Under both the tenant and none, for readers that see every tenant.
        for tenant in [tenant, ""] {
            self.keys.push(hash(&[tenant]));
            let ends = topic.match_indices('/').map(|(at, _)| at).chain([topic.len()]);
            let prefixes = ends.filter_map(|end| topic.get(..end)).filter(|part| !part.is_empty());
            self.keys.extend(prefixes.map(|prefix| hash(&[tenant, prefix])));
        }
    }

    fn finish(&mut self) -> Option<Block> {
        let (first, offset) = self.first.take()?;
        self.keys.sort_unstable();
        self.keys.dedup();
        let bits = (self.keys.len() as u64 * 10).next_power_of_two().max(64);
        let mut bloom = vec![0; usize::try_from(bits / 64).unwrap_or(1)];
        for key in self.keys.drain(..) {
            for (word, bit) in bits_of(key, bits) {
                if let Some(word) = bloom.get_mut(word) {
                    *word |= bit;
                }
            }
        }
        self.recent.forget();
        let (arrived, gap) = (std::mem::take(&mut self.arrived), std::mem::take(&mut self.gap));
        Some(Block { first, last: self.last, offset, arrived, gap, bloom })
    }
}

impl BlockIndex {
    /// Looks at what was written up to `end` since the last look; only full blocks count.
    pub(super) fn extend(&mut self, segment: &Segment, end: Seq, full: bool) -> io::Result<()> {
        let mut builder = Builder::default();
        let start = self.covered.max(HEADER_BYTES as u64);
        let mut expected = self.blocks.last().map(|block| block.last.next());
        segment.walk(start, &mut |offset, step| {
            let batch: Batch<'_> = match step {
                Ok(batch) if batch.first <= end => batch,
                Err(Hole::Damage) => {
                    builder.gap = true;
                    return true;
                }
                Ok(_) | Err(Hole::End | Hole::Torn) => return false,
            };
            builder.first.get_or_insert((batch.first, offset));
            builder.gap |= expected.is_some_and(|expected| batch.first != expected);
            expected = Some(batch.last.next());
            builder.last = batch.last;
            batch.bodies().for_each(|(_, arrived, body)| builder.add(arrived, body));
            let behind = offset + batch.byte_len as u64;
            let (first, at) = builder.first.unwrap_or((batch.first, offset));
            if batch.last.0 + 1 - first.0 >= BLOCK_LEN || behind - at >= BLOCK_BYTES {
                self.blocks.extend(builder.finish());
                self.covered = behind;
            }
            batch.last < end
        })?;
        if full && let Some(block) = builder.finish() {
            self.blocks.push(block);
            self.covered = segment.byte_len;
        }
        Ok(())
    }

    /// Where to go on reading from `seq`: past the blocks that hold nothing wanted. Says what was
    /// passed over by giving the next number to look at.
    pub(super) fn skip(&self, mut seq: Seq, wanted: &Wanted) -> Option<(Seq, u64)> {
        let at = self.blocks.partition_point(|block| block.last < seq);
        let mut offset = None;
        for block in self.blocks.get(at..)? {
            // A hole before the block is told by reading it.
            if block.first > seq || block.may_match(wanted) {
                offset = Some(block.offset);
                break;
            }
            seq = block.last.next();
        }
        Some((seq, offset.unwrap_or(self.covered.max(HEADER_BYTES as u64))))
    }

    /// Where to look for the first record that arrived at `time` or later: everything before that
    /// offset is older, and the number is the first that is not.
    pub(super) fn seek_time(&self, time: UnixMs) -> (Seq, u64) {
        match self.blocks.iter().find(|block| block.arrived >= time) {
            Some(block) => (block.first, block.offset),
            None => {
                let behind = self.blocks.last().map_or(Seq(0), |block| block.last.next());
                (behind, self.covered.max(HEADER_BYTES as u64))
            }
        }
    }

    fn encode(&self, segment: &Segment) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |value: u64| out.extend_from_slice(&value.to_le_bytes());
        put(MAGIC);
        let salt = u128::from_le_bytes(segment.header.salt);
        put(u64::try_from(salt >> 64).unwrap_or(0));
        put(u64::try_from(salt & u128::from(u64::MAX)).unwrap_or(0));
        put(self.covered);
        put(self.blocks.len() as u64);
        for block in &self.blocks {
            put(block.first.0);
            put(block.last.0);
            put(block.offset);
            put(block.arrived.0);
            put(u64::from(block.gap));
            put(block.bloom.len() as u64);
            block.bloom.iter().for_each(|word| put(*word));
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8], segment: &Segment) -> Option<Self> {
        let (content, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc != crc32c::crc32c(content).to_le_bytes() {
            return None;
        }
        let mut words = content
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap_or([0; 8])));
        let magic = words.next()?;
        let salt = u128::from(words.next()?) << 64 | u128::from(words.next()?);
        if magic != MAGIC || salt.to_le_bytes() != segment.header.salt {
            return None;
        }
        let covered = words.next().filter(|covered| *covered <= segment.byte_len)?;
        let mut index = Self { blocks: Vec::new(), covered };
        for _ in 0..words.next()? {
            let (first, last, offset) = (Seq(words.next()?), Seq(words.next()?), words.next()?);
            let (arrived, gap) = (UnixMs(words.next()?), words.next()? != 0);
            let len = usize::try_from(words.next()?).ok()?;
            let bloom: Vec<u64> = words.by_ref().take(len).collect();
            let numbered = first <= last && last < SEQ_BOUND && offset <= segment.byte_len;
            let whole = bloom.len() == len && len.is_power_of_two() && numbered;
            index.blocks.push(whole.then_some(Block {
                first,
                last,
                offset,
                arrived,
                gap,
                bloom,
            })?);
        }
        Some(index)
    }

    fn side_name(segment: &Segment) -> String {
        format!("{}.idx", segment.name)
    }

    /// Keeps the index of a full segment beside it.
    pub(super) fn save(&self, disk: &dyn Disk, segment: &Segment) -> io::Result<()> {
        let bytes = self.encode(segment);
        let file = disk.create(&Self::side_name(segment), bytes.len() as u64)?;
        file.write_at(0, &bytes)
    }

    /// The index from beside a full segment; nothing unless it is whole and of this segment.
    pub(super) fn load(disk: &dyn Disk, segment: &Segment) -> Option<Self> {
        let file = disk.open(&Self::side_name(segment)).ok()?;
        let mut bytes = vec![0; usize::try_from(file.byte_len().ok()?).ok()?];
        file.read_at(0, &mut bytes).ok()?;
        Self::decode(&bytes, segment)
    }

    pub(super) fn remove(disk: &dyn Disk, segment_name: &str) {
        // It may never have been made.
        let _ = disk.remove(&format!("{segment_name}.idx"));
    }
}

#[cfg(test)]
mod tests {
    use fieldgate_core::message::Qos;

    use super::*;

    #[test]
    fn names_at_one_place_are_told_apart() {
        let place = |topic: &str| crc32c::crc32c(topic.as_bytes()) as usize % RECENT_LEN;
        let topics = (0..).map(|number| format!("a/{number}"));
        let twins: Vec<String> = topics.filter(|topic| place(topic) == 7).take(2).collect();
        let mut recent = Recent::default();
        assert!(!recent.holds("t", &twins[0]));
        assert!(recent.holds("t", &twins[0]));
        assert!(!recent.holds("u", &twins[0]));
        assert!(!recent.holds("u", &twins[1]));
        assert!(!recent.holds("u", &twins[0]));
        recent.forget();
        assert!(!recent.holds("u", &twins[0]));
    }

    #[test]
    fn a_block_of_many_topics_holds_the_keys_of_each_and_the_next_block_begins_anew() {
        let mut builder = Builder::default();
        let mut body = Vec::new();
        for round in 0..2 {
            builder.first = Some((Seq(1), 0));
            for number in 0..3_000 {
                let record =
                    crate::testing::message_at(&format!("a{round}/{number}"), Qos::AtLeastOnce, "");
                body.clear();
                codec::encode(&record, &mut body);
                builder.add(UnixMs(1), &body);
            }
            let block = builder.finish().unwrap();
            for number in 0..3_000 {
                for tenant in ["default", ""] {
                    assert!(block.holds(hash(&[tenant, &format!("a{round}/{number}")])));
                }
            }
            assert!(block.holds(hash(&["default", &format!("a{round}")])));
            assert!(!block.holds(hash(&["default", &format!("a{}", 1 - round)])));
        }
    }
}
