//! Known `msgid`s: a repeat within 10 minutes and 10,000 ids of a sender is the same message.
//!
//! An id enters together with the number of its message. Whether that number is pending, durable or
//! refused is the log's to say, so a repeat is acknowledged when, and only if, its message is stored.
//! Ids are kept as keyed 128-bit hashes. Which of them the tables do not have yet, the window knows as
//! well: nothing else has to gather them. Invariant: about [`IDS_MAX`] ids in all; with many busy senders
//! each one's share shrinks below its 10,000.

mod filter;
mod places;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use fieldgate_core::id::{MsgId, Seq, TenantId, UnixMs};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::{control::EAGER_WINDOW, port::AppendError, record::Record};
use filter::Filter;
use places::{Living, PLACES_MAX, Places};

const SHARD_COUNT: usize = 16;
/// Most ids known of one sender.
pub(crate) const IDS_PER_SENDER_MAX: usize = 10_000;
/// How long an id is known.
pub(crate) const WINDOW_MS: u64 = 10 * 60 * 1_000;
/// Most ids known, of all senders.
pub(crate) const IDS_MAX: usize = 4 << 20;

/// What stands for an id that another message has now.
const GONE: u128 = 0;

const _: () = assert!(IDS_PER_SENDER_MAX < PLACES_MAX, "a place is told by its lower bits");

/// How a message with an id was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admit {
    /// It is new, with these numbers.
    New(RangeInclusive<u64>),
    /// It repeats the message with this number.
    Repeat(Seq),
}

impl Admit {
    /// The numbers to acknowledge it with.
    #[must_use]
    pub fn range(&self) -> RangeInclusive<u64> {
        match self {
            Self::New(range) => range.clone(),
            Self::Repeat(seq) => seq.0..=seq.0,
        }
    }
}

/// An id as the window and the tables hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownId {
    /// Whose share it counts in.
    pub(crate) sender: u64,
    /// Tenant, sender and `msgid`, hashed.
    pub(crate) id: u128,
    pub(crate) seq: Seq,
    pub(crate) arrived: UnixMs,
}

/// What is hashed already is not hashed again.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Debug, Default)]
struct Sender {
    order: VecDeque<(UnixMs, u128, Seq)>,
    /// The place of the first in `order`; places go on rising, and around.
    first_place: u32,
    seen: Filter,
    /// Where those stand that were looked for: all but the newest.
    known: Places,
    /// How many are not in there yet.
    newest_count: usize,
    /// Whether it is among those with ids that are not written.
    is_unwritten: bool,
}

#[derive(Debug, Default)]
struct Shard {
    senders: HashMap<u64, Sender, BuildHasherDefault<Hashed>>,
    /// Senders with ids that the tables may not have.
    unwritten: Vec<u64>,
}

/// An id is a hash: any half of it will do.
fn half(id: u128) -> u64 {
    u64::try_from(id & u128::from(u64::MAX)).unwrap_or(0)
}

/// The window.
#[derive(Debug)]
pub struct Window {
    shards: [Mutex<Shard>; SHARD_COUNT],
    sender_count: AtomicUsize,
    hasher: SipHasher13,
}

impl Window {
    /// An empty window that hashes under `key`.
    pub(crate) fn new(key: [u8; 16]) -> Self {
        let hasher = SipHasher13::new_with_key(&key);
        Self { shards: Default::default(), sender_count: AtomicUsize::new(0), hasher }
    }

    /// Takes a message with an id: `append` gives it its numbers, under the same lock that says
    /// whether the id is known. `is_refused` tells of numbers whose sync failed.
    ///
    /// # Errors
    ///
    /// What `append` says; then the id is not known.
    pub fn admit(
        &self,
        tenant: &TenantId,
        sender: &Arc<str>,
        msgid: &MsgId,
        now: UnixMs,
        is_refused: impl Fn(Seq) -> bool,
        append: impl FnOnce() -> Result<RangeInclusive<u64>, AppendError>,
    ) -> Result<Admit, AppendError> {
        let name = self.name(tenant, sender, msgid, Seq(0), now);
        self.with(name.sender, |window, share| {
            window.forget(now);
            let stands = |seq: &Seq| EAGER_WINDOW.is_on() || !is_refused(*seq);
            if let Some(seq) = window.seq_of(name.id).filter(stands) {
                return Ok(Admit::Repeat(seq));
            }
            let range = append()?;
            window.insert(KnownId { seq: Seq(*range.start()), ..name }, share);
            Ok(Admit::New(range))
        })
    }

    /// Takes records of one sender, of which each stands alone and those that are acknowledged have an
    /// id or none: `append` gives numbers to those that are new, in their order. Returns the oldest and
    /// the newest number of them all, those that were there before too; nothing if there are none.
    ///
    /// # Errors
    ///
    /// As [`Self::admit`]: none is taken.
    pub fn admit_each(
        &self,
        tenant: &TenantId,
        sender: &str,
        mut records: Vec<Record>,
        now: UnixMs,
        is_refused: impl Fn(Seq) -> bool,
        append: impl FnOnce(Vec<Record>) -> Result<RangeInclusive<u64>, AppendError>,
    ) -> Result<Option<RangeInclusive<u64>>, AppendError> {
        let of_sender = self.of_sender(tenant, sender);
        let sender = of_sender.finish();
        self.with(sender, |window, share| {
            window.forget(now);
            let (mut span, mut count) = (None, 0);
            let mut new = Vec::with_capacity(records.len());
            let mut twice = HashSet::<u128, BuildHasherDefault<Hashed>>::default();
            records.retain(|record| {
                if let Some((_, msgid)) = record.repeatable() {
                    let id = id_of(of_sender, msgid);
                    if let Some(seq) = window.seq_of(id).filter(|seq| !is_refused(*seq)) {
                        span = joined(span.take(), seq.0..=seq.0);
                        return false;
                    }
                    if !twice.insert(id) {
                        return false;
                    }
                    new.push((id, count));
                }
                count += 1;
                true
            });
            if records.is_empty() {
                return Ok(span);
            }
            let range = append(records)?;
            for (id, nth) in new {
                let seq = Seq(*range.start() + nth);
                window.insert(KnownId { sender, id, seq, arrived: now }, share);
            }
            Ok(joined(span, range))
        })
    }

    /// How the window names the id of this message.
    pub(crate) fn name(
        &self,
        tenant: &TenantId,
        sender: &str,
        msgid: &MsgId,
        seq: Seq,
        arrived: UnixMs,
    ) -> KnownId {
        let of_sender = self.of_sender(tenant, sender);
        KnownId { sender: of_sender.finish(), id: id_of(of_sender, msgid), seq, arrived }
    }

    /// What the names of a sender's ids begin with.
    fn of_sender(&self, tenant: &TenantId, sender: &str) -> SipHasher13 {
        let mut hasher = self.hasher;
        for part in [tenant.as_str(), sender] {
            hasher.write(part.as_bytes());
            hasher.write_u8(0xFF);
        }
        hasher
    }

    /// Learns an id from the log or the tables, at start.
    pub(crate) fn learn(&self, known: KnownId) {
        self.with(known.sender, |window, share| {
            // As it was when it came.
            window.forget(known.arrived);
            if window.seq_of(known.id).is_none() {
                window.insert(known, share);
            }
        });
    }

    /// Forgets what is too old or over its sender's share, and senders without ids.
    pub(crate) fn sweep(&self, now: UnixMs) {
        let share = self.share();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard { senders, unwritten } = &mut *shard;
            let before = senders.len();
            senders.retain(|_, sender| {
                sender.forget(now);
                sender.shrink_to(share);
                !sender.order.is_empty()
            });
            unwritten.retain(|sender| senders.contains_key(sender));
            self.sender_count.fetch_sub(before - senders.len(), Ordering::Relaxed);
        }
    }

    /// Every id in the window, in the order of numbers, also of messages that were refused.
    pub(crate) fn all(&self) -> Vec<KnownId> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for (&sender, window) in &lock(shard).senders {
                all.extend(window.ids_behind(sender, Seq(0)));
            }
        }
        all.sort_unstable_by_key(|known| known.seq);
        all
    }

    /// The ids behind what the tables have, up to `until`, also of messages that were refused: those of
    /// each sender together, in the order of numbers.
    pub(crate) fn unwritten(&self, written: Seq, until: Seq) -> Vec<KnownId> {
        let mut ids = Vec::new();
        for shard in &self.shards {
            let Shard { senders, unwritten } = &*lock(shard);
            for (sender, window) in unwritten.iter().filter_map(|name| senders.get_key_value(name))
            {
                let from = ids.len();
                let behind = window.ids_behind(*sender, written);
                ids.extend(behind.filter(|known| known.seq <= until));
                ids.get_mut(from..).unwrap_or_default().reverse();
            }
        }
        ids
    }

    /// Whether any sender may have ids that the tables do not have.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.shards.iter().any(|shard| !lock(shard).unwritten.is_empty())
    }

    /// The tables have all ids up to this number.
    pub(crate) fn set_written(&self, written: Seq) {
        for shard in &self.shards {
            let Shard { senders, unwritten } = &mut *lock(shard);
            unwritten.retain(|sender| {
                let Some(window) = senders.get_mut(sender) else { return false };
                window.is_unwritten = window.order.back().is_some_and(|(_, _, seq)| *seq > written);
                window.is_unwritten
            });
        }
    }

    fn share(&self) -> usize {
        let sender_count = self.sender_count.load(Ordering::Relaxed).max(1);
        (IDS_MAX / sender_count).clamp(1, IDS_PER_SENDER_MAX)
    }

    fn with<T>(&self, sender: u64, work: impl FnOnce(&mut Sender, usize) -> T) -> T {
        let [first, ..] = &self.shards;
        let at = usize::try_from((sender >> 32) % SHARD_COUNT as u64).ok();
        let mut shard = lock(at.and_then(|at| self.shards.get(at)).unwrap_or(first));
        let Shard { senders, unwritten } = &mut *shard;
        let before = senders.len();
        let share = self.share();
        let window = senders.entry(sender).or_default();
        let answer = work(window, share);
        if !window.is_unwritten && !window.order.is_empty() {
            window.is_unwritten = true;
            unwritten.push(sender);
        }
        self.sender_count.fetch_add(senders.len() - before, Ordering::Relaxed);
        answer
    }
}

/// From the oldest to the newest number of both.
#[must_use]
pub fn joined(
    one: Option<RangeInclusive<u64>>,
    other: RangeInclusive<u64>,
) -> Option<RangeInclusive<u64>> {
    let (oldest, newest) = one.unwrap_or_else(|| other.clone()).into_inner();
    Some(oldest.min(*other.start())..=newest.max(*other.end()))
}

fn id_of(mut of_sender: SipHasher13, msgid: &MsgId) -> u128 {
    of_sender.write(msgid.as_str().as_bytes());
    of_sender.finish128().as_u128()
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sender {
    /// How far behind the first in the order an id stands. One that was not seen costs no look at the
    /// table, which is far from any cache where many send; who may be there has it brought up to date,
    /// and so many at once that their ways to memory overlap.
    fn find(&mut self, id: u128) -> Option<usize> {
        if !self.seen.may_have(half(id)) {
            return None;
        }
        self.index();
        let living = Living { first: self.first_place, len: self.order.len() };
        let is_it = |at| self.order.get(at).is_some_and(|(_, other, _)| *other == id);
        self.known.get(half(id), living, is_it)
    }

    /// Enters the newest ids in the table.
    fn index(&mut self) {
        let from = self.order.len() - std::mem::take(&mut self.newest_count);
        for (len, (_, id, _)) in self.order.iter().enumerate().skip(from) {
            let living = Living { first: self.first_place, len };
            if self.known.insert(half(*id), living).is_err() {
                let hashes = self.order.iter().map(|(_, id, _)| half(*id));
                self.known = Places::of(self.first_place, hashes);
                return;
            }
        }
    }

    fn seq_of(&mut self, id: u128) -> Option<Seq> {
        let at = self.find(id)?;
        self.order.get(at).map(|(_, _, seq)| *seq)
    }

    /// Enters an id; one whose message was refused stands for that no longer.
    fn insert(&mut self, known: KnownId, share: usize) {
        let before = self.find(known.id).and_then(|at| self.order.get_mut(at));
        if let Some((_, id, _)) = before {
            *id = GONE;
        }
        self.order.push_back((known.arrived, known.id, known.seq));
        self.newest_count += 1;
        self.shrink_to(share);
        if self.seen.is_full() {
            self.seen = Filter::of(self.order.iter().map(|(_, id, _)| *id));
        } else {
            self.seen.enter(half(known.id));
        }
    }

    /// Its ids behind this number, the newest first.
    fn ids_behind(&self, sender: u64, seq: Seq) -> impl Iterator<Item = KnownId> {
        let behind = self.order.iter().rev().take_while(move |(.., of)| *of > seq);
        let known = behind.filter(|(_, id, _)| *id != GONE);
        known.map(move |&(arrived, id, seq)| KnownId { sender, id, seq, arrived })
    }

    fn shrink_to(&mut self, share: usize) {
        while self.order.len() > share {
            self.pop();
        }
    }

    fn forget(&mut self, now: UnixMs) {
        while self.order.front().is_some_and(|(at, ..)| !is_current(*at, now)) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if self.order.pop_front().is_some() {
            self.first_place = self.first_place.wrapping_add(1);
            self.newest_count = self.newest_count.min(self.order.len());
        }
    }
}

/// Tells whether an id that arrived then can still be repeated. One from far ahead is of a clock that
/// went wrong: who counts its ids anew would have to wait for that time.
pub(crate) const fn is_current(arrived: UnixMs, now: UnixMs) -> bool {
    arrived.0.abs_diff(now.0) <= WINDOW_MS
}

#[cfg(test)]
mod tests;
