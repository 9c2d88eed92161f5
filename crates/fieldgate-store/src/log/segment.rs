//! One segment file: walking its batches, and the places where reading may start.
//!
//! Invariant: a walk never goes past the segment's end, which moves down when a failed sync leaves
//! the rest void; what it hands out passed its checksum and does not go back in number.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fieldgate_core::id::{Epoch, Seq, UnixMs};

use super::{
    format::{self, BATCH_START_BYTES, Batch, HEADER_BYTES, Header, RECORD_BYTES_MIN},
    index::BlockIndex,
    intake::BATCH_BYTES_MAX,
};
use crate::disk::{Disk, LogFile};

const WINDOW_BYTES: usize = 256 << 10;
static ZEROS: [u8; WINDOW_BYTES] = [0; WINDOW_BYTES];
const MARK_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) header: Header,
    pub(super) file: Box<dyn LogFile>,
    pub(super) byte_len: u64,
    /// Neither its header nor its first batch can be read: nothing in it can.
    pub(super) lost: bool,
    /// Its header is damaged; what is needed was found elsewhere.
    pub(super) bad_header: bool,
    end: AtomicU64,
    marks: Mutex<BTreeMap<Seq, u64>>,
    first_arrived: OnceLock<UnixMs>,
    pub(super) blocks: Mutex<Option<BlockIndex>>,
}

/// Why there is no batch at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hole {
    /// Zeros to the end: nothing was written here.
    End,
    /// Bytes that are no whole batch, with none behind them.
    Torn,
    /// Bytes that are no whole batch, with one behind them.
    Damage,
}

impl Segment {
    pub(super) fn new(name: String, header: Header, file: Box<dyn LogFile>, byte_len: u64) -> Self {
        Self {
            name,
            header,
            file,
            byte_len,
            lost: false,
            bad_header: false,
            end: AtomicU64::new(byte_len),
            marks: Mutex::new(BTreeMap::new()),
            first_arrived: OnceLock::new(),
            blocks: Mutex::new(None),
        }
    }

    /// Opens the segment that `name` says begins with `first`. A damaged header costs nothing while the first batch behind it is whole.
    pub(super) fn open(disk: &dyn Disk, name: String, first: Seq) -> io::Result<Self> {
        let file = disk.open(&name)?;
        let byte_len = file.byte_len()?;
        let mut bytes = [0; HEADER_BYTES];
        file.read_at(0, &mut bytes)?;
        if let Some(header) = format::decode_header(&bytes) {
            return Ok(Self::new(name, header, file, byte_len));
        }
        tracing::error!(segment = name, "the header of a segment is damaged");
        let mut start = [0; BATCH_START_BYTES];
        file.read_at(HEADER_BYTES as u64, &mut start)?;
        let salt = start.first_chunk().copied().unwrap_or([0; 16]);
        let header = Header { epoch: Epoch(0), first, salt, running_ms: 0, voids: None };
        let mut segment = Self::new(name, header, file, byte_len);
        segment.bad_header = true;
        let mut found = None;
        segment.walk(HEADER_BYTES as u64, &mut |_, step| {
            found = step.ok().filter(|batch| batch.first >= first).map(|batch| batch.footer);
            false
        })?;
        match found {
            Some(footer) => segment.header.running_ms = footer.running_ms,
            None => segment.lost = true,
        }
        Ok(segment)
    }

    /// No batch counts from `offset` on.
    pub(super) fn set_end(&self, offset: u64) {
        self.end.fetch_min(offset, Ordering::Release);
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// A number that nothing in this segment reaches.
    pub(super) fn seq_bound(&self) -> Seq {
        Seq(self.header.first.0 + self.byte_len / RECORD_BYTES_MIN as u64)
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<Seq, u64>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers where a batch starts, about every 64 KiB.
    pub(super) fn mark(&self, first: Seq, offset: u64) {
        let mut marks = self.marks();
        let before = marks.range(..=first).next_back().map(|(_, at)| *at);
        let after = marks.range(first..).next().map(|(_, at)| *at);
        let near = |at: Option<u64>| at.is_some_and(|at| at.abs_diff(offset) < MARK_BYTES);
        if !near(before) && !near(after) {
            marks.insert(first, offset);
        }
    }

    /// Whether a place to start reading is known.
    pub(super) fn is_marked(&self) -> bool {
        !self.marks().is_empty()
    }

    /// Forgets the places to start reading: they are found again where somebody reads.
    pub(super) fn forget_marks(&self) {
        self.marks().clear();
    }

    /// Where to start reading for `seq`.
    pub(super) fn seek(&self, seq: Seq) -> u64 {
        self.marks().range(..=seq).next_back().map_or(HEADER_BYTES as u64, |(_, offset)| *offset)
    }

    /// When the first record arrived; nothing if there is none.
    pub(super) fn first_arrived(&self) -> io::Result<Option<UnixMs>> {
        if let Some(arrived) = self.first_arrived.get() {
            return Ok(Some(*arrived));
        }
        let mut found = None;
        self.walk(HEADER_BYTES as u64, &mut |_, step| {
            found = step.ok().and_then(|batch| batch.arrived());
            found.is_none() && !matches!(step, Err(Hole::End | Hole::Torn))
        })?;
        Ok(found.map(|arrived| *self.first_arrived.get_or_init(|| arrived)))
    }

    /// Walks the batches from `offset` on. `visit` gets each whole batch with its offset, or the
    /// offset where damage or the end stands, and says whether to go on.
    pub(super) fn walk(
        &self,
        mut offset: u64,
        visit: &mut dyn FnMut(u64, Result<Batch<'_>, Hole>) -> bool,
    ) -> io::Result<()> {
        let mut window = Window::of(self);
        let mut expected = self.header.first;
        while offset + (BATCH_START_BYTES as u64) < self.end() {
            let start = window.get(offset, BATCH_START_BYTES)?;
            let len = format::batch_len(start, &self.header.salt).unwrap_or(0);
            if len > 0 && offset + len as u64 <= self.end() {
                let batch = format::decode_batch(window.get(offset, len)?, &self.header.salt);
                if let Some(batch) = batch.filter(|batch| batch.first >= expected) {
                    expected = batch.last.next();
                    self.mark(batch.first, offset);
                    if !visit(offset, Ok(batch)) {
                        return Ok(());
                    }
                    offset += len as u64;
                    continue;
                }
            }
            let next = match self.resume_after(offset)? {
                Ok(next) => next,
                Err(hole) => {
                    visit(offset, Err(hole));
                    return Ok(());
                }
            };
            if !visit(offset, Err(Hole::Damage)) {
                return Ok(());
            }
            offset = next;
        }
        Ok(())
    }

    /// Looks for the next whole batch behind `offset`, where there is none: the salt, then a checksum
    /// that holds. Without one, what stands there decides what it is: pages of a torn batch reach the
    /// disk in any order, so its first bytes may be zeros.
    fn resume_after(&self, offset: u64) -> io::Result<Result<u64, Hole>> {
        let mut window = Window::of(self);
        let salt = &self.header.salt;
        let mut hole = Hole::End;
        let mut at = offset;
        while at + (BATCH_START_BYTES as u64) < self.end() {
            let room = usize::try_from(self.end() - at).unwrap_or(usize::MAX);
            let bytes = window.get(at, room.min(WINDOW_BYTES))?;
            if !is_zero(bytes) {
                hole = Hole::Torn;
            }
            let Some(found) = find(bytes, salt) else {
                // The salt may begin at the end of this stretch.
                at += (bytes.len().saturating_sub(salt.len()) as u64).max(1);
                continue;
            };
            at += found as u64;
            let len = format::batch_len(window.get(at, BATCH_START_BYTES)?, salt).unwrap_or(0);
            let whole = at > offset && at + len as u64 <= self.end();
            if whole && format::decode_batch(window.get(at, len)?, salt).is_some() {
                return Ok(Ok(at));
            }
            at += 1;
        }
        Ok(Err(hole))
    }

    /// Goes through the bytes from `offset` to the end of the file, a stretch at a time.
    pub(super) fn stretches(
        &self,
        mut offset: u64,
        visit: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut bytes = vec![0; WINDOW_BYTES];
        while offset < self.byte_len {
            let have = self.file.read_at(offset, &mut bytes)?;
            if have == 0 {
                break;
            }
            visit(offset, bytes.get(..have).unwrap_or_default())?;
            offset += have as u64;
        }
        Ok(())
    }
}

/// Whether nothing but zeros stands there: what was never written.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    ZEROS.get(..bytes.len()).is_some_and(|zeros| zeros == bytes)
}

fn find(bytes: &[u8], salt: &[u8; 16]) -> Option<usize> {
    if is_zero(bytes) {
        return None;
    }
    let lead = salt.first()?;
    let mut at = 0;
    loop {
        let rest = bytes.get(at..)?;
        at += rest.iter().position(|byte| byte == lead)?;
        if bytes.get(at..)?.starts_with(salt) {
            return Some(at);
        }
        at += 1;
    }
}

thread_local! {
    /// What the last window of this thread was read into, for the next one: a log is read in many
    /// short stretches, and to clear the bytes of each would cost more than to read them.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stretch of the file in memory, so that small batches do not cost a read each.
struct Window<'a> {
    segment: &'a Segment,
    bytes: Vec<u8>,
    /// How many of the bytes are the file's, and from where.
    len: usize,
    at: u64,
}

impl<'a> Window<'a> {
    fn of(segment: &'a Segment) -> Self {
        Self { segment, bytes: SPARE.take(), len: 0, at: 0 }
    }

    fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let held = offset >= self.at && offset + len as u64 <= self.at + self.len as u64;
        if !held {
            let room = usize::try_from(self.segment.end() - offset).unwrap_or(usize::MAX);
            let wanted = len.max(WINDOW_BYTES).min(room);
            // What is held of it is not read once more: a long batch begins at the end of a window.
            let start = offset.checked_sub(self.at).and_then(|start| usize::try_from(start).ok());
            let start = start.unwrap_or(usize::MAX).min(self.len);
            self.bytes.copy_within(start..self.len, 0);
            (self.at, self.len) = (offset, self.len - start);
            if self.bytes.len() < wanted {
                self.bytes.resize(wanted, 0);
            }
            let rest = self.bytes.get_mut(self.len..wanted).unwrap_or_default();
            self.len += self.segment.file.read_at(offset + self.len as u64, rest)?;
        }
        let start = usize::try_from(offset - self.at).unwrap_or(usize::MAX);
        let held = self.bytes.get(..self.len).unwrap_or_default();
        Ok(held.get(start..start.saturating_add(len)).unwrap_or_default())
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        // What was damaged may have claimed any length.
        if self.bytes.len() <= BATCH_BYTES_MAX + WINDOW_BYTES {
            SPARE.set(std::mem::take(&mut self.bytes));
        }
    }
}
