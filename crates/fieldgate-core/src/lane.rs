//! The outbox of one connection: what its socket could not take at once.
//!
//! Pure, bounded in bytes, three lanes. Source: `guarantees.md`, "Slow receivers". `T` is what is to
//! be sent; the outbox knows its length, lane and policy alone. Absent: encoding, sockets, the log
//! that a connection reads from after [`Pushed::Overflow`].
//! Invariant: the bytes queued never exceed the bound; an item leaves before those that came after
//! it, unless it was pushed as one that goes ahead.

use std::collections::{BTreeMap, HashMap};

use crate::message::Priority;

/// So many bytes may overtake one backlog; the rest goes in turn.
pub const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// Names the topic of a subscription, for conflation.
pub type TopicKey = u64;

/// What happens to an item that finds the outbox full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slow {
    /// QoS 1 and 2, and answers: it is not taken; the connection reads the log, or ends.
    Overflow,
    /// QoS 0, mode `latest`: it replaces the one before it of the same topic.
    Latest(TopicKey),
    /// QoS 0, mode `drop-oldest`.
    DropOldest,
    /// QoS 0, mode `disconnect`: it is not taken; the connection ends.
    Disconnect,
}

/// What became of a pushed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is queued, perhaps at the cost of others.
    Queued {
        /// It overtakes a backlog, and its frame must say so.
        ahead: bool,
        /// So many values went into newer ones of their topic.
        conflated_count: usize,
        /// So many were dropped, oldest first.
        dropped_count: usize,
    },
    /// There is no room and it must not be dropped.
    Overflow,
    /// There is no room and its subscription asks for the end of the connection.
    Disconnect,
}

/// How an older value goes into a newer one of the same topic: afterwards the newer one carries
/// every resource of both, its own where both have one. Returns the newer one's length in bytes.
pub trait Merge<T> {
    /// Merges `older` into `newer`.
    fn merge(&mut self, newer: &mut T, older: T) -> usize;
}

impl<T, F: FnMut(&mut T, T) -> usize> Merge<T> for F {
    fn merge(&mut self, newer: &mut T, older: T) -> usize {
        self(newer, older)
    }
}

/// The queue.
#[derive(Debug)]
pub struct Outbox<T> {
    lanes: [Lane<T>; 3],
    queued_bytes: usize,
    bytes_max: usize,
    /// What overtook the backlog that stands now.
    ahead_bytes: usize,
}

#[derive(Debug)]
struct Lane<T> {
    /// By number; numbers only rise.
    slots: BTreeMap<u64, Slot<T>>,
    next: u64,
    /// The newest value of each topic in the lane.
    newest: HashMap<TopicKey, u64>,
    /// How many values have a newer one of their topic in the lane.
    superseded_count: usize,
}

#[derive(Debug)]
struct Slot<T> {
    item: T,
    len: usize,
    ahead: bool,
    slow: Slow,
    /// The values of the same topic on both sides, for [`Slow::Latest`].
    before: Option<u64>,
    after: Option<u64>,
}

impl<T> Outbox<T> {
    /// Makes an empty outbox for `bytes_max` bytes (`limits.outbox_bytes_max`). Allocates nothing.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            lanes: [Lane::new(), Lane::new(), Lane::new()],
            queued_bytes: 0,
            bytes_max,
            ahead_bytes: 0,
        }
    }

    /// Tells how many bytes wait.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Tells whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Lane::is_empty)
    }

    /// Tells whether an item of this lane and length would overtake a backlog, so that its frame can
    /// be made accordingly before [`Self::push`].
    #[must_use]
    pub fn would_go_ahead(&self, priority: Priority, len: usize) -> bool {
        let (lane, ahead) = self.place(priority, len);
        ahead && lane == lane_of(priority)
    }

    /// Queues `item` of `len` bytes, as its lane and policy say.
    pub fn push(
        &mut self,
        item: T,
        len: usize,
        priority: Priority,
        slow: Slow,
        merge: &mut impl Merge<T>,
    ) -> Pushed {
        let (lane, ahead) = self.place(priority, len);
        let (mut conflated_count, mut dropped_count) = (0, 0);
        if self.queued_bytes.saturating_add(len) > self.bytes_max {
            match slow {
                Slow::Overflow => return Pushed::Overflow,
                Slow::Disconnect => return Pushed::Disconnect,
                Slow::Latest(_) | Slow::DropOldest => (),
            }
        }
        let number =
            self.lane_mut(lane).push(Slot { item, len, ahead, slow, before: None, after: None });
        self.queued_bytes += len;
        self.ahead_bytes += if ahead { len } else { 0 };
        if self.queued_bytes > self.bytes_max
            && let Some(older) = self.lane_mut(lane).slots.get(&number).and_then(|slot| slot.before)
        {
            self.conflate(lane, older, merge);
            conflated_count += 1;
        }
        while self.queued_bytes > self.bytes_max {
            if let Some((lane, older)) = self.oldest(Lane::oldest_superseded) {
                self.conflate(lane, older, merge);
                conflated_count += 1;
            } else if let Some((lane, oldest)) = self.oldest(Lane::oldest_droppable) {
                self.take(lane, oldest);
                dropped_count += 1;
            } else {
                break;
            }
        }
        self.settle();
        Pushed::Queued { ahead, conflated_count, dropped_count }
    }

    /// Takes the item that goes next, and tells whether it overtook others when it was pushed.
    pub fn pop(&mut self) -> Option<(T, bool)> {
        let lane = self.lanes.iter().position(|lane| !lane.is_empty())?;
        let first = *self.lane_mut(lane).slots.first_key_value()?.0;
        let slot = self.take(lane, first)?;
        self.settle();
        Some((slot.item, slot.ahead))
    }

    /// Takes out what [`Slow::Overflow`] protects, oldest first: the connection reads it from the
    /// log from now on.
    pub fn drain_protected(&mut self) -> Vec<T> {
        let mut drained = Vec::new();
        for lane in 0..self.lanes.len() {
            let numbers = self.lane_mut(lane).protected();
            for number in numbers {
                drained.extend(self.take(lane, number).map(|slot| slot.item));
            }
        }
        self.settle();
        drained
    }

    /// Decides where an item goes: its own lane if lower lanes are empty or the item may still go
    /// ahead of them; else in turn, behind the lowest lane that holds something.
    fn place(&self, priority: Priority, len: usize) -> (usize, bool) {
        let own = lane_of(priority);
        let backlog = self.lanes.iter().rposition(|lane| !lane.is_empty());
        match backlog.filter(|backlog| *backlog > own) {
            None => (own, false),
            Some(_) if self.ahead_bytes.saturating_add(len) <= AHEAD_BYTES_MAX => (own, true),
            Some(backlog) => (backlog, false),
        }
    }

    /// Merges the value `older` into the next one of its topic.
    fn conflate(&mut self, lane: usize, older: u64, merge: &mut impl Merge<T>) {
        let after = self.lane_mut(lane).slots.get(&older).and_then(|slot| slot.after);
        let Some(slot) = self.take(lane, older) else { return };
        let [critical, normal, bulk] = &mut self.lanes;
        let lane = [critical, normal, bulk].into_iter().nth(lane);
        let newer = lane.zip(after).and_then(|(lane, after)| lane.slots.get_mut(&after));
        let Some(newer) = newer else { return };
        let was = newer.len;
        newer.len = merge.merge(&mut newer.item, slot.item);
        self.queued_bytes = self.queued_bytes - was + newer.len;
    }

    /// Finds the oldest item of a kind, lowest lane first.
    fn oldest(&self, find: impl Fn(&Lane<T>) -> Option<u64>) -> Option<(usize, u64)> {
        let lanes = self.lanes.iter().enumerate().rev();
        lanes.filter_map(|(at, lane)| Some((at, find(lane)?))).next()
    }

    fn take(&mut self, lane: usize, number: u64) -> Option<Slot<T>> {
        let slot = self.lane_mut(lane).take(number)?;
        self.queued_bytes -= slot.len;
        Some(slot)
    }

    /// Ends a backlog once nothing is left to be overtaken.
    fn settle(&mut self) {
        let [_, normal, bulk] = &self.lanes;
        if normal.is_empty() && bulk.is_empty() {
            self.ahead_bytes = 0;
        }
    }

    fn lane_mut(&mut self, lane: usize) -> &mut Lane<T> {
        let [critical, normal, bulk] = &mut self.lanes;
        match lane {
            0 => critical,
            1 => normal,
            _ => bulk,
        }
    }
}

const fn lane_of(priority: Priority) -> usize {
    match priority {
        Priority::Critical => 0,
        Priority::Normal => 1,
        Priority::Bulk => 2,
    }
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self { slots: BTreeMap::new(), next: 0, newest: HashMap::new(), superseded_count: 0 }
    }

    fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn push(&mut self, mut slot: Slot<T>) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Slow::Latest(key) = slot.slow {
            slot.before = self.newest.insert(key, number);
            self.superseded_count += usize::from(slot.before.is_some());
            if let Some(before) = slot.before.and_then(|before| self.slots.get_mut(&before)) {
                before.after = Some(number);
            }
        }
        self.slots.insert(number, slot);
        number
    }

    /// Takes a slot out and joins its neighbours of the same topic.
    fn take(&mut self, number: u64) -> Option<Slot<T>> {
        let slot = self.slots.remove(&number)?;
        // A chain of values has one newest; each of the others is superseded.
        let linked = slot.before.is_some() || slot.after.is_some();
        self.superseded_count -= usize::from(linked);
        if let Some(before) = slot.before.and_then(|before| self.slots.get_mut(&before)) {
            before.after = slot.after;
        }
        if let Some(after) = slot.after.and_then(|after| self.slots.get_mut(&after)) {
            after.before = slot.before;
        } else if let Slow::Latest(key) = slot.slow {
            match slot.before {
                Some(before) => self.newest.insert(key, before),
                None => self.newest.remove(&key),
            };
        }
        if self.slots.is_empty() {
            // A connection that keeps up again holds no memory.
            self.newest = HashMap::new();
        }
        Some(slot)
    }

    /// Finds the oldest value that has a newer one of its topic.
    fn oldest_superseded(&self) -> Option<u64> {
        if self.superseded_count == 0 {
            return None;
        }
        let mut slots = self.slots.iter();
        slots.find(|(_, slot)| slot.after.is_some()).map(|(number, _)| *number)
    }

    /// Finds the oldest item that may be lost.
    fn oldest_droppable(&self) -> Option<u64> {
        let droppable = |slot: &Slot<T>| matches!(slot.slow, Slow::Latest(_) | Slow::DropOldest);
        self.slots.iter().find(|(_, slot)| droppable(slot)).map(|(number, _)| *number)
    }

    fn protected(&self) -> Vec<u64> {
        let protected = self.slots.iter().filter(|(_, slot)| slot.slow == Slow::Overflow);
        protected.map(|(number, _)| *number).collect()
    }
}

#[cfg(test)]
mod tests;
