//! The backlog of one connection: what its socket could not take at once.
//!
//! Pure, bounded in bytes, three lanes. Source: `guarantees.md`, "Slow receivers". `T` is what is to
//! be sent; the lanes know its length, way and policy alone. Absent: encoding, sockets, the log that
//! a connection reads from after [`Pushed::Overflow`].
//! Invariant: the bytes queued in turn never exceed the bound, but for what [`Lanes::push_in_turn`]
//! and the records of drops add; an item leaves before those that came after it, unless its [`Way`] goes ahead.

use std::collections::{BTreeMap, HashMap};

use crate::{message::Priority, topic::Topic};

/// So many bytes may overtake one backlog; the rest goes in turn.
pub const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// What happens to an item that finds no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slow {
    /// QoS 1 and 2: it is not taken; the connection reads the log.
    Overflow,
    /// QoS 0, mode `latest`: the one before it of the same topic goes into it.
    Latest(Topic),
    /// QoS 0, mode `drop-oldest`.
    DropOldest,
    /// QoS 0, mode `disconnect`: it is not taken; the connection ends.
    Disconnect,
}

/// Where an item goes, decided before its frame is made, which must say if it goes ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    lane: usize,
    ahead: bool,
}

impl Way {
    /// Whether it overtakes a backlog.
    #[must_use]
    pub const fn is_ahead(self) -> bool {
        self.ahead
    }
}

/// What became of a pushed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is queued, perhaps at the cost of others, or dropped itself: see [`Losses`].
    Queued,
    /// There is no room and it must not be dropped.
    Overflow,
    /// There is no room and its subscription asks for the end of the connection.
    Disconnect,
}

/// What stands where an item was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<T> {
    /// Nothing.
    None,
    /// This, of so many bytes. It is not dropped.
    Here(T, usize),
    /// What stood before it, which has this length now.
    Before(usize),
}

/// What the queue costs when it is full.
pub trait Losses<T> {
    /// Merges `older` into `newer` of the same topic: afterwards the newer one carries every
    /// resource of both, its own where both have one. Returns the newer one's length in bytes.
    fn merge(&mut self, newer: &mut T, older: T) -> usize;

    /// Hears of an item that was dropped, and of the one before it in its lane.
    fn drop_item(&mut self, item: T, before: Option<&mut T>) -> Record<T>;
}

/// The queue.
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: [Lane<T>; 3],
    /// Numbers items in the order in which they came.
    next: u64,
    queued_bytes: usize,
    bytes_max: usize,
    /// Whether a backlog stands outside of this queue: in the log.
    elsewhere: bool,
    /// What overtook the backlog that stands now, and what of it is still queued.
    ahead_bytes: usize,
    ahead_queued_bytes: usize,
}

#[derive(Debug)]
struct Lane<T> {
    /// By number; numbers only rise.
    slots: BTreeMap<u64, Slot<T>>,
    /// The newest value of each topic in the lane.
    newest: HashMap<Topic, u64>,
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

impl<T> Lanes<T> {
    /// Makes an empty queue for `bytes_max` bytes (`limits.outbox_bytes_max`). Allocates nothing.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            lanes: [Lane::new(), Lane::new(), Lane::new()],
            next: 1,
            queued_bytes: 0,
            bytes_max,
            elsewhere: false,
            ahead_bytes: 0,
            ahead_queued_bytes: 0,
        }
    }

    /// Changes the bound; what is queued above it goes at the next push.
    pub const fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Says whether the connection reads the log: that is a backlog too.
    pub fn set_elsewhere(&mut self, elsewhere: bool) {
        self.elsewhere = elsewhere;
        self.settle();
    }

    /// Whether the connection reads the log.
    #[must_use]
    pub const fn is_elsewhere(&self) -> bool {
        self.elsewhere
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

    /// Decides where an item of this priority goes: its own lane if the lower ones are empty or it
    /// may still go ahead of them; else in turn, behind the lowest lane that holds something.
    #[must_use]
    pub fn way(&self, priority: Priority, len: usize) -> Way {
        let own = lane_of(priority);
        let held = self.lanes.iter().rposition(|lane| !lane.is_empty());
        let backlog = held.max(self.elsewhere.then_some(NORMAL));
        // Half is left to what is critical.
        let max = if own == NORMAL { AHEAD_BYTES_MAX / 2 } else { AHEAD_BYTES_MAX };
        match backlog.filter(|backlog| *backlog > own) {
            None => Way { lane: own, ahead: false },
            Some(_) if self.ahead_bytes.saturating_add(len) <= max => {
                Way { lane: own, ahead: true }
            }
            Some(backlog) => Way { lane: backlog, ahead: false },
        }
    }

    /// Queues `item` of `len` bytes on its way. What goes ahead has room of its own.
    pub fn push(
        &mut self,
        item: T,
        len: usize,
        way: Way,
        slow: Slow,
        losses: &mut impl Losses<T>,
    ) -> Pushed {
        if !way.ahead && self.turn_bytes().saturating_add(len) > self.bytes_max {
            match slow {
                Slow::Overflow => return Pushed::Overflow,
                Slow::Disconnect => return Pushed::Disconnect,
                Slow::Latest(_) | Slow::DropOldest => (),
            }
        }
        let number = self.insert(item, len, way, slow);
        let before = self.lane_mut(way.lane).slots.get(&number).and_then(|slot| slot.before);
        if self.turn_bytes() > self.bytes_max
            && let Some(older) = before
        {
            self.conflate(way.lane, older, losses);
        }
        while self.turn_bytes() > self.bytes_max {
            if let Some((lane, older)) = self.oldest(Lane::oldest_superseded) {
                self.conflate(lane, older, losses);
            } else if let Some((lane, oldest)) = self.oldest(Lane::oldest_droppable) {
                self.drop_one(lane, oldest, losses);
            } else {
                break;
            }
        }
        self.settle();
        Pushed::Queued
    }

    /// Queues what has to go behind everything, bound or not: answers, and what was read from the
    /// log. Whoever asks for it bounds how much of it there is.
    pub fn push_in_turn(&mut self, item: T, len: usize) {
        let held = self.lanes.iter().rposition(|lane| !lane.is_empty());
        let lane = held.unwrap_or(NORMAL).max(NORMAL);
        self.insert(item, len, Way { lane, ahead: false }, Slow::Overflow);
    }

    /// Takes the item that goes next, and tells whether it overtook others when it was pushed.
    pub fn pop(&mut self) -> Option<(T, bool)> {
        let lane = self.lanes.iter().position(|lane| !lane.is_empty())?;
        let first = *self.lane_mut(lane).slots.first_key_value()?.0;
        let slot = self.take(lane, first)?;
        self.settle();
        Some((slot.item, slot.ahead))
    }

    const fn turn_bytes(&self) -> usize {
        self.queued_bytes.saturating_sub(self.ahead_queued_bytes)
    }

    fn insert(&mut self, item: T, len: usize, way: Way, slow: Slow) -> u64 {
        let number = self.next;
        self.next += 1;
        self.queued_bytes += len;
        if way.ahead {
            self.ahead_bytes += len;
            self.ahead_queued_bytes += len;
        }
        let slot = Slot { item, len, ahead: way.ahead, slow, before: None, after: None };
        self.lane_mut(way.lane).push(number, slot);
        number
    }

    /// Merges the value `older` into the next one of its topic.
    fn conflate(&mut self, lane: usize, older: u64, losses: &mut impl Losses<T>) {
        let after = self.lane_mut(lane).slots.get(&older).and_then(|slot| slot.after);
        let Some(slot) = self.take(lane, older) else { return };
        let [critical, normal, bulk] = &mut self.lanes;
        let lane = [critical, normal, bulk].into_iter().nth(lane);
        let newer = lane.zip(after).and_then(|(lane, after)| lane.slots.get_mut(&after));
        let Some(newer) = newer else { return };
        let was = newer.len;
        newer.len = losses.merge(&mut newer.item, slot.item);
        self.queued_bytes = self.queued_bytes - was + newer.len;
        if newer.ahead {
            self.ahead_queued_bytes = self.ahead_queued_bytes - was + newer.len;
        }
    }

    fn drop_one(&mut self, lane: usize, number: u64, losses: &mut impl Losses<T>) {
        let Some(slot) = self.take(lane, number) else { return };
        let slots = &mut self.lane_mut(lane).slots;
        let mut before = slots.range_mut(..number).next_back().map(|(_, before)| before);
        let record = losses.drop_item(slot.item, before.as_mut().map(|before| &mut before.item));
        match (record, before) {
            (Record::Here(item, len), _) => {
                let slow = Slow::Overflow;
                let record = Slot { item, len, ahead: false, slow, before: None, after: None };
                slots.insert(number, record);
                self.queued_bytes += len;
            }
            (Record::Before(len), Some(before)) => {
                let was = std::mem::replace(&mut before.len, len);
                self.queued_bytes = self.queued_bytes - was + len;
            }
            (Record::Before(_) | Record::None, _) => (),
        }
    }

    /// Finds the oldest item of a kind, lowest lane first.
    fn oldest(&self, find: impl Fn(&Lane<T>) -> Option<u64>) -> Option<(usize, u64)> {
        let lanes = self.lanes.iter().enumerate().rev();
        lanes.filter_map(|(at, lane)| Some((at, find(lane)?))).next()
    }

    fn take(&mut self, lane: usize, number: u64) -> Option<Slot<T>> {
        let slot = self.lane_mut(lane).take(number)?;
        self.queued_bytes -= slot.len;
        if slot.ahead {
            self.ahead_queued_bytes -= slot.len;
        }
        Some(slot)
    }

    /// Ends a backlog once nothing is left to be overtaken.
    fn settle(&mut self) {
        let [_, normal, bulk] = &self.lanes;
        if normal.is_empty() && bulk.is_empty() && !self.elsewhere {
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

const NORMAL: usize = lane_of(Priority::Normal);

const fn lane_of(priority: Priority) -> usize {
    match priority {
        Priority::Critical => 0,
        Priority::Normal => 1,
        Priority::Bulk => 2,
    }
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self { slots: BTreeMap::new(), newest: HashMap::new(), superseded_count: 0 }
    }

    fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn push(&mut self, number: u64, mut slot: Slot<T>) {
        if let Slow::Latest(topic) = &slot.slow {
            slot.before = self.newest.insert(topic.clone(), number);
            self.superseded_count += usize::from(slot.before.is_some());
            if let Some(before) = slot.before.and_then(|before| self.slots.get_mut(&before)) {
                before.after = Some(number);
            }
        }
        self.slots.insert(number, slot);
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
        } else if let Slow::Latest(topic) = &slot.slow {
            match slot.before {
                Some(before) => self.newest.insert(topic.clone(), before),
                None => self.newest.remove(topic),
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
        let droppable =
            |slot: &Slot<T>| matches!(slot.slow, Slow::Latest(_) | Slow::DropOldest) && !slot.ahead;
        self.slots.iter().find(|(_, slot)| droppable(slot)).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests;
