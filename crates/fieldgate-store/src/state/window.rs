//! Known `msgid`s: a repeat within 10 minutes and 10,000 ids of a sender is the same message.
//!
//! An id enters together with the number of its message. Whether that number is pending, durable or
//! refused is the log's to say, so a repeat is acknowledged when, and only if, its message is stored.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

use fieldgate_core::id::{MsgId, Seq, TenantId, UnixMs};

use crate::port::AppendError;

const SHARD_COUNT: usize = 16;
const IDS_PER_SENDER_MAX: usize = 10_000;
const AGE_MS_MAX: u64 = 10 * 60 * 1_000;

/// How a message with an id was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admit {
    /// It is new, with these numbers.
    New(RangeInclusive<u64>),
    /// It repeats the message with this number.
    Repeat(Seq),
}

#[derive(Debug, Default)]
struct Sender {
    known: HashMap<MsgId, Seq>,
    order: VecDeque<(UnixMs, MsgId, Seq)>,
}

type Shard = HashMap<(TenantId, Arc<str>), Sender>;

/// The window.
#[derive(Debug, Default)]
pub struct Window {
    shards: [Mutex<Shard>; SHARD_COUNT],
    hasher: RandomState,
}

impl Window {
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
        self.with(tenant, sender, |window| {
            window.forget(now);
            if let Some(seq) = window.known.get(msgid).filter(|seq| !is_refused(**seq)) {
                return Ok(Admit::Repeat(*seq));
            }
            let range = append()?;
            window.insert(msgid.clone(), Seq(*range.start()), now);
            Ok(Admit::New(range))
        })
    }

    /// Learns an id from the log, at start.
    pub fn learn(&self, tenant: &TenantId, sender: &Arc<str>, msgid: &MsgId, at: UnixMs, seq: Seq) {
        self.with(tenant, sender, |window| {
            if !window.known.contains_key(msgid) {
                window.insert(msgid.clone(), seq, at);
            }
        });
    }

    fn with<T>(
        &self,
        tenant: &TenantId,
        sender: &Arc<str>,
        work: impl FnOnce(&mut Sender) -> T,
    ) -> T {
        let [first, ..] = &self.shards;
        let shard = usize::try_from(self.hasher.hash_one(sender) % SHARD_COUNT as u64).ok();
        let shard = shard.and_then(|at| self.shards.get(at)).unwrap_or(first);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        work(shard.entry((tenant.clone(), Arc::clone(sender))).or_default())
    }
}

impl Sender {
    fn insert(&mut self, msgid: MsgId, seq: Seq, now: UnixMs) {
        self.order.push_back((now, msgid.clone(), seq));
        self.known.insert(msgid, seq);
        while self.order.len() > IDS_PER_SENDER_MAX {
            self.pop();
        }
    }

    fn forget(&mut self, now: UnixMs) {
        while self.order.front().is_some_and(|(at, ..)| at.0 + AGE_MS_MAX < now.0) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, msgid, seq)) = self.order.pop_front()
            && self.known.get(&msgid) == Some(&seq)
        {
            self.known.remove(&msgid);
        }
    }
}
