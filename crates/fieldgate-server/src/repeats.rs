//! Answers to requests with an `Idempotency-Key`, kept so that a repeat gets the same one.
//!
//! In memory alone, and without secrets. Bounded in age, and in number and bytes for each principal and
//! for all together; where there is no room the oldest answer goes. Invariant: of one key one request
//! runs at a time, and what runs is not forgotten.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fieldgate_core::id::TenantId;
use http::{HeaderMap, StatusCode};

/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Most bytes of an answer that is kept.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
struct Room {
    count_max: usize,
    bytes_max: usize,
    /// Most requests that run.
    running_max: usize,
}

const OF_ONE: Room = Room { count_max: 1_000, bytes_max: 1 << 20, running_max: 32 };
const OF_ALL: Room = Room { count_max: 16_384, bytes_max: 16 << 20, running_max: 512 };
/// What an answer counts beside its body.
const ENTRY_BYTES: usize = 512;

/// Whose key it is.
pub(crate) type Owner = (TenantId, Arc<str>);

/// Stands for a request: another for another address or body.
pub(crate) type Fingerprint = [u8; 32];

/// An answer as it is told again.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How a request with a key is taken.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is the first of its key: it runs until the turn ends.
    First(Turn),
    /// The same one runs.
    Running,
    /// The key was used for another request.
    Other,
    /// It was answered before.
    Again(Kept),
    /// Too many run.
    Full,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    key: Box<str>,
    fingerprint: Fingerprint,
    since: Instant,
    /// Nothing while it runs.
    kept: Option<Kept>,
}

impl Entry {
    fn byte_len(&self) -> usize {
        ENTRY_BYTES + self.key.len() + self.kept.as_ref().map_or(0, |kept| kept.body.len())
    }
}

#[derive(Debug, Default)]
struct Owned {
    by_key: HashMap<Box<str>, u64>,
    done: BTreeSet<u64>,
    done_bytes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    entries: BTreeMap<u64, Entry>,
    owners: HashMap<Owner, Owned>,
    done: BTreeSet<u64>,
    done_bytes: usize,
}

/// The answers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Repeats(Arc<Mutex<Inner>>);

/// A request that runs. Without an answer to keep its key is free again when this ends.
#[derive(Debug)]
pub(crate) struct Turn {
    repeats: Repeats,
    number: u64,
}

impl Repeats {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request.
    pub(crate) fn take(
        &self,
        owner: Owner,
        key: &str,
        fingerprint: Fingerprint,
        now: Instant,
    ) -> Taken {
        let mut inner = self.inner();
        inner.forget_old(now);
        let known = inner.owners.get(&owner).and_then(|owned| owned.by_key.get(key));
        if let Some(entry) = known.and_then(|number| inner.entries.get(number)) {
            return match &entry.kept {
                _ if entry.fingerprint != fingerprint => Taken::Other,
                Some(kept) => Taken::Again(kept.clone()),
                None => Taken::Running,
            };
        }
        let running = inner.entries.len() - inner.done.len();
        let owned = inner.owners.get(&owner);
        let own_running = owned.map_or(0, |owned| owned.by_key.len() - owned.done.len());
        if own_running >= OF_ONE.running_max || running >= OF_ALL.running_max {
            return Taken::Full;
        }
        let number = inner.next;
        inner.next += 1;
        let owned = inner.owners.entry(owner.clone()).or_default();
        owned.by_key.insert(key.into(), number);
        let entry = Entry { owner, key: key.into(), fingerprint, since: now, kept: None };
        inner.entries.insert(number, entry);
        Taken::First(Turn { repeats: self.clone(), number })
    }
}

impl Turn {
    /// Keeps the answer for whoever asks again.
    pub(crate) fn keep(self, kept: Kept) {
        let repeats = self.repeats.clone();
        let mut inner = repeats.inner();
        let Some(entry) = inner.entries.get_mut(&self.number) else { return };
        entry.kept = Some(kept);
        let (owner, byte_len) = (entry.owner.clone(), entry.byte_len());
        inner.done.insert(self.number);
        inner.done_bytes += byte_len;
        if let Some(owned) = inner.owners.get_mut(&owner) {
            owned.done.insert(self.number);
            owned.done_bytes += byte_len;
        }
        inner.make_room(&owner);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.repeats.inner();
        if inner.entries.get(&self.number).is_some_and(|entry| entry.kept.is_none()) {
            inner.remove(self.number);
        }
    }
}

impl Inner {
    fn remove(&mut self, number: u64) {
        let Some(entry) = self.entries.remove(&number) else { return };
        let byte_len = if self.done.remove(&number) { entry.byte_len() } else { 0 };
        self.done_bytes -= byte_len;
        let Some(owned) = self.owners.get_mut(&entry.owner) else { return };
        owned.by_key.remove(&entry.key);
        owned.done.remove(&number);
        owned.done_bytes -= byte_len;
        if owned.by_key.is_empty() {
            self.owners.remove(&entry.owner);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let is_old = |entry: &Entry| now.saturating_duration_since(entry.since) >= KEPT_FOR;
        while let Some(oldest) = self.done.first().copied()
            && self.entries.get(&oldest).is_none_or(is_old)
        {
            self.remove(oldest);
        }
    }

    fn make_room(&mut self, owner: &Owner) {
        let is_over = |count: usize, bytes: usize, room: Room| {
            count > room.count_max || bytes > room.bytes_max
        };
        while let Some(owned) = self.owners.get(owner)
            && is_over(owned.done.len(), owned.done_bytes, OF_ONE)
            && let Some(oldest) = owned.done.first().copied()
        {
            self.remove(oldest);
        }
        while is_over(self.done.len(), self.done_bytes, OF_ALL)
            && let Some(oldest) = self.done.first().copied()
        {
            self.remove(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        (TenantId::default_tenant(), name.into())
    }

    fn kept(body: impl Into<Bytes>) -> Kept {
        Kept { status: StatusCode::CREATED, headers: HeaderMap::new(), body: body.into() }
    }

    fn first(repeats: &Repeats, name: &str, key: &str, now: Instant) -> Turn {
        let taken = repeats.take(owner(name), key, [1; 32], now);
        let Taken::First(turn) = taken else { panic!("{taken:?}") };
        turn
    }

    #[test]
    fn one_runs_and_the_others_hear_of_it() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let turn = first(&repeats, "a", "k", now);
        let take = |name: &str, print: u8, now| repeats.take(owner(name), "k", [print; 32], now);
        assert!(matches!(take("a", 1, now), Taken::Running));
        assert!(matches!(take("a", 2, now), Taken::Other));
        drop(first(&repeats, "b", "k", now));
        turn.keep(kept("told"));
        let Taken::Again(again) = take("a", 1, now + KEPT_FOR / 2) else { panic!("kept") };
        assert_eq!((again.status, &again.body[..]), (StatusCode::CREATED, &b"told"[..]));
        assert!(matches!(take("a", 2, now), Taken::Other));
        drop(first(&repeats, "a", "k", now + KEPT_FOR));
        // What was refused left its key free.
        drop(first(&repeats, "a", "k", now + KEPT_FOR));
        let inner = repeats.inner();
        assert!(inner.entries.is_empty() && inner.owners.is_empty() && inner.done_bytes == 0);
    }

    #[test]
    fn the_oldest_answer_gives_way_and_nobody_elses() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        first(&repeats, "other", "k", now).keep(kept("x"));
        let running = first(&repeats, "a", "running", now);
        for number in 0..=OF_ONE.count_max {
            first(&repeats, "a", &number.to_string(), now).keep(kept(""));
        }
        let take = |name: &str, key: &str| repeats.take(owner(name), key, [1; 32], now);
        assert!(matches!(take("a", "0"), Taken::First(_)));
        assert!(matches!(take("a", "1"), Taken::Again(_)));
        assert!(matches!(take("a", "running"), Taken::Running));
        assert!(matches!(take("other", "k"), Taken::Again(_)));
        // It was asked for before the others, and is more than the room that one has.
        running.keep(kept(vec![0; OF_ONE.bytes_max]));
        assert!(matches!(take("a", "running"), Taken::First(_)));
        assert!(matches!(take("a", "1"), Taken::Again(_)));
    }

    #[test]
    fn so_many_run_at_a_time() {
        let (repeats, now) = (Repeats::default(), Instant::now());
        let take = |key: usize| repeats.take(owner("a"), &key.to_string(), [1; 32], now);
        let turns: Vec<_> = (0..OF_ONE.running_max).map(take).collect();
        assert!(turns.iter().all(|taken| matches!(taken, Taken::First(_))));
        assert!(matches!(take(999), Taken::Full));
        drop(turns);
        assert!(matches!(take(999), Taken::First(_)));
    }
}
