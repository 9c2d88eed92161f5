//! One page of a history, read from the log.
//!
//! In: what is wanted of which stretch. Out: the page as JSON. Blocking: never runs on a worker.
//! Bounded in items, bytes and time; where a bound ends it, the page says where the next one begins.
//! Invariant: pages that follow each other hold each selected message once, and each hole in the log.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::{
    dialect::{Delivery, GapReason, Marks},
    id::{Epoch, Position, Seq, UnixMs},
};
use fieldgate_dialects::native;
use fieldgate_store::{Entry, Followed, Log, ReadError, ReadFilter};

use super::cursor;
use crate::fabric::message_of;

/// Most bytes of a page, but for its last item.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// So long a page is read; what is begun is finished.
const PAGE_TIME: Duration = Duration::from_millis(250);
/// How much is read at once: so much for each item that fits, within bounds.
const ITEM_BYTES: usize = 1 << 10;
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// A message may arrive so long before one with a lower number: workers ask for the time before they
/// ask for the number, and clocks are set.
const CLOCK_SLACK_MS: u64 = 10_000;
/// Numbers that are read together when the newest are wanted first: at first, and at most.
const WINDOW_LEN: u64 = 1_024;
const WINDOW_LEN_MAX: u64 = 1 << 18;
/// A window with less than this is followed by a longer one.
const SPARSE_LEN: usize = 16;
/// A window with more than this is cut.
const WINDOW_BYTES_MAX: usize = 4 << 20;

/// Where a stretch begins or ends, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    Time(UnixMs),
    At(Seq),
}

/// What a page is to hold.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) filter: ReadFilter,
    pub(crate) from: Option<Edge>,
    pub(crate) to: Option<Edge>,
    /// Behind it the page begins, in the page's order.
    pub(crate) after: Option<Position>,
    pub(crate) newest_first: bool,
    pub(crate) limit: usize,
}

/// What takes what is found, in the order that is wanted.
pub(crate) trait Collect {
    /// Whether it takes no more.
    fn is_full(&self) -> bool;

    fn push(&mut self, found: &Found);

    /// Takes positions of another life of the log.
    fn push_foreign(&mut self, _from: Position, _to: Position) {}
}

/// Reads a page.
pub(super) fn read(log: &dyn Log, wanted: &Wanted) -> Result<Vec<u8>, ReadError> {
    let mut out = Out::new(log.epoch(), wanted.limit);
    let next = walk(log, wanted, &mut out)?;
    let next =
        next.map(|seq| cursor::encode(Position { epoch: log.epoch(), seq }, wanted.newest_first));
    Ok(out.finish(next.as_deref()))
}

/// Reads what is wanted until nothing of it is left, or there is enough, or for long enough: then it
/// tells behind which number to go on, in the order that is wanted.
pub(crate) fn walk(
    log: &dyn Log,
    wanted: &Wanted,
    out: &mut dyn Collect,
) -> Result<Option<Seq>, ReadError> {
    let started = Instant::now();
    let present = log.frontier().ordered.next();
    let mut low = match wanted.from {
        None => log.oldest(),
        Some(Edge::At(seq)) => seq.max(Seq(1)),
        Some(Edge::Time(time)) => match log.seek_time(time)? {
            // What is forgotten may have been of that time.
            oldest if oldest == log.oldest() => Seq(1),
            found => found,
        },
    };
    let mut high = match wanted.to {
        None => present,
        Some(Edge::At(seq)) => seq.next(),
        Some(Edge::Time(time)) => {
            log.seek_time(UnixMs(time.0.saturating_add(CLOCK_SLACK_MS + 1)))?
        }
    };
    high = high.min(present);
    match wanted.after {
        Some(foreign) if foreign.epoch != log.epoch() => {
            let to = if wanted.newest_first { high } else { low };
            out.push_foreign(foreign, Position { epoch: log.epoch(), seq: to.prev() });
        }
        Some(after) if wanted.newest_first => high = high.min(after.seq),
        Some(after) => low = low.max(after.seq.next()),
        None => (),
    }
    let mut stretch = Stretch { log, wanted, low, high, started };
    Ok(if wanted.newest_first {
        stretch.read_back(out)?.then_some(stretch.high)
    } else {
        stretch.read_on(out)?.then_some(stretch.low.prev())
    })
}

/// What is left to be looked at: from `low` up to, not including, `high`.
struct Stretch<'a> {
    log: &'a dyn Log,
    wanted: &'a Wanted,
    low: Seq,
    high: Seq,
    started: Instant,
}

/// What is told of the log.
#[derive(Debug)]
pub(crate) enum Found {
    Entry(Arc<Entry>),
    Gap(RangeInclusive<u64>, GapReason),
}

impl Found {
    /// What of an item lies between two numbers, the second not included.
    fn within(item: Followed, low: Seq, high: Seq) -> Option<Self> {
        match item {
            Followed::Entry(entry) if low <= entry.seq && entry.seq < high => {
                Some(Self::Entry(entry))
            }
            Followed::Entry(_) => None,
            Followed::Gap(range, reason) => {
                let range = (*range.start()).max(low.0)..=(*range.end()).min(high.prev().0);
                (!range.is_empty()).then_some(Self::Gap(range, reason))
            }
        }
    }

    fn first(&self) -> Seq {
        match self {
            Self::Entry(entry) => entry.seq,
            Self::Gap(range, _) => Seq(*range.start()),
        }
    }

    fn last(&self) -> Seq {
        match self {
            Self::Entry(entry) => entry.seq,
            Self::Gap(range, _) => Seq(*range.end()),
        }
    }

    fn byte_len(&self) -> usize {
        match self {
            Self::Entry(entry) => {
                message_of(entry).map_or(0, |message| message.payload.len()) + 256
            }
            Self::Gap(..) => 256,
        }
    }
}

impl Stretch<'_> {
    fn is_late(&self) -> bool {
        self.started.elapsed() >= PAGE_TIME
    }

    /// Reads the oldest first; says whether something is left.
    fn read_on(&mut self, out: &mut dyn Collect) -> Result<bool, ReadError> {
        let byte_len = (self.wanted.limit * ITEM_BYTES).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        while self.low < self.high {
            let chunk = self.log.read(self.low, &self.wanted.filter, byte_len)?;
            if chunk.next <= self.low {
                // The rest waits for its sync: nobody was told of it yet.
                return Ok(false);
            }
            for item in chunk.items {
                let Some(found) = Found::within(item, self.low, self.high) else { continue };
                if out.is_full() {
                    self.low = found.first();
                    return Ok(true);
                }
                out.push(&found);
            }
            self.low = chunk.next;
            if self.is_late() || out.is_full() {
                return Ok(self.low < self.high);
            }
        }
        Ok(false)
    }

    /// Reads the newest first, a window of numbers at a time; says whether something is left.
    fn read_back(&mut self, out: &mut dyn Collect) -> Result<bool, ReadError> {
        let mut len = WINDOW_LEN;
        let (mut is_first, mut was_cut) = (true, false);
        while self.low < self.high {
            let low = Seq(self.high.0.saturating_sub(len)).max(self.low);
            let Some(window) = self.window(low, is_first)? else {
                if self.is_late() && !is_first {
                    return Ok(true);
                }
                len = ((self.high.0 - low.0) / 2).max(1);
                was_cut = true;
                continue;
            };
            // A hole that goes on below is told whole, not a window at a time.
            let may_widen = !was_cut && len < WINDOW_LEN_MAX && low > self.low;
            if may_widen && is_hole_from(&window, low) {
                len = (len * 4).min(WINDOW_LEN_MAX);
                continue;
            }
            (is_first, was_cut) = (false, false);
            if window.len() < SPARSE_LEN {
                len = (len * 4).min(WINDOW_LEN_MAX);
            }
            for found in window.iter().rev() {
                if out.is_full() {
                    self.high = found.last().next();
                    return Ok(true);
                }
                out.push(found);
            }
            self.high = low;
            if self.is_late() || out.is_full() {
                return Ok(self.low < self.high);
            }
        }
        Ok(false)
    }

    /// What there is from `low` up to the upper end; nothing, if that is too much to hold or, unless
    /// it has to be, takes too long.
    fn window(&self, low: Seq, in_any_time: bool) -> Result<Option<VecDeque<Found>>, ReadError> {
        let (mut next, mut window, mut byte_len) = (low, VecDeque::new(), 0);
        while next < self.high {
            let chunk = self.log.read(next, &self.wanted.filter, CHUNK_BYTES_MAX)?;
            if chunk.next <= next {
                break;
            }
            for item in chunk.items {
                if let Some(found) = Found::within(item, next, self.high) {
                    byte_len += found.byte_len();
                    window.push_back(found);
                }
            }
            next = chunk.next;
            let is_one = low.next() >= self.high;
            if byte_len > WINDOW_BYTES_MAX && next < self.high && !is_one
                || self.is_late() && !in_any_time && next < self.high
            {
                return Ok(None);
            }
        }
        Ok(Some(window))
    }
}

/// Whether there is nothing but a hole that begins at `low`, or before.
fn is_hole_from(window: &VecDeque<Found>, low: Seq) -> bool {
    let is_hole = |found: &Found| matches!(found, Found::Gap(range, _) if *range.start() == low.0);
    window.len() == 1 && window.front().is_some_and(is_hole)
}

impl Collect for Out {
    fn is_full(&self) -> bool {
        self.len + usize::from(self.gap.is_some()) >= self.limit
            || self.json.len() >= PAGE_BYTES_MAX
    }

    fn push(&mut self, found: &Found) {
        match found {
            Found::Entry(entry) => self.push_entry(entry),
            Found::Gap(range, reason) => match &mut self.gap {
                Some((gap, known)) if known == reason && touches(gap, range) => {
                    *gap = *gap.start().min(range.start())..=*gap.end().max(range.end());
                }
                _ => {
                    self.end_gap();
                    self.gap = Some((range.clone(), *reason));
                }
            },
        }
    }

    fn push_foreign(&mut self, from: Position, to: Position) {
        self.push_gap(from, to, GapReason::Epoch);
    }
}

/// The page as it grows.
struct Out {
    epoch: Epoch,
    json: Vec<u8>,
    len: usize,
    limit: usize,
    /// The newest gap, which the next may join.
    gap: Option<(RangeInclusive<u64>, GapReason)>,
}

impl Out {
    fn new(epoch: Epoch, limit: usize) -> Self {
        Self { epoch, json: b"{\"items\":[".to_vec(), len: 0, limit, gap: None }
    }

    fn at(&self, seq: u64) -> Position {
        Position { epoch: self.epoch, seq: Seq(seq) }
    }

    fn begin_item(&mut self) {
        if self.len > 0 {
            self.json.push(b',');
        }
        self.len += 1;
    }

    fn push_entry(&mut self, entry: &Entry) {
        let Some(message) = message_of(entry) else { return };
        self.end_gap();
        self.begin_item();
        let marks = Marks { qos: message.qos, retain: message.retain, ..Marks::default() };
        let delivery = Delivery { position: self.at(entry.seq.0), message, marks };
        native::encode_record(&delivery, entry.arrived, &mut self.json);
    }

    fn end_gap(&mut self) {
        if let Some((range, reason)) = self.gap.take() {
            self.push_gap(self.at(*range.start()), self.at(*range.end()), reason);
        }
    }

    fn push_gap(&mut self, from: Position, to: Position, reason: GapReason) {
        self.begin_item();
        let reason = native::gap_reason(reason);
        let gap = format!(r#"{{"gap":{{"from":"{from}","to":"{to}","reason":"{reason}"}}}}"#);
        self.json.extend_from_slice(gap.as_bytes());
    }

    fn finish(mut self, next: Option<&str>) -> Vec<u8> {
        self.end_gap();
        self.json.extend_from_slice(b"],\"next\":");
        let next = next.map_or_else(|| "null}".to_owned(), |next| format!("\"{next}\"}}"));
        self.json.extend_from_slice(next.as_bytes());
        self.json
    }
}

/// Whether two stretches are one.
fn touches(one: &RangeInclusive<u64>, other: &RangeInclusive<u64>) -> bool {
    *one.start() <= other.end() + 1 && *other.start() <= one.end() + 1
}
