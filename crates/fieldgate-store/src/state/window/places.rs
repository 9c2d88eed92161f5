//! Where ids stand in the order in which they came: an open table of four bytes a word.
//!
//! A word holds a part of a hash and a place. Whoever asks compares the whole id at that place, which
//! lies in the order anyway. What left the order is not looked for: its word is dead, is written over
//! by who comes that way, and goes with the others when the table is made anew. An id that is not
//! known costs one look at memory so, and leaving none. Invariants: no word stands behind an empty
//! one that its hash leads to; of four words three are used at most.

/// Bits of a place: the order wraps around, and is shorter than this.
const PLACE_BITS: u32 = 14;
/// Most places that may live at once.
pub(super) const PLACES_MAX: usize = 1 << PLACE_BITS;
/// Words of a table that holds anything.
const WORDS_MIN: usize = 8;

/// The places that live: those of the order, from its first one on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Living {
    pub(super) first: u32,
    pub(super) len: usize,
}

#[derive(Debug, Default)]
pub(super) struct Places {
    /// Zero, or the mark of a hash and a place: a power of two of them, or none.
    words: Vec<u32>,
    /// How many are not zero.
    used: usize,
}

/// What of a hash stands in a word; never zero.
fn mark(hash: u64) -> u32 {
    let low = u32::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
    low << PLACE_BITS | 1 << PLACE_BITS
}

const fn mark_of(word: u32) -> u32 {
    word >> PLACE_BITS << PLACE_BITS
}

/// What of a place stands in a word.
const fn short(place: u32) -> u32 {
    place & ((1 << PLACE_BITS) - 1)
}

impl Living {
    /// How far behind the first of the order this word's place is, if it lives.
    fn at(self, word: u32) -> Option<usize> {
        let at = usize::try_from(short(short(word).wrapping_sub(self.first))).ok()?;
        (at < self.len).then_some(at)
    }
}

impl Places {
    fn home(&self, hash: u64) -> usize {
        // The upper half: the lower one is in the mark.
        usize::try_from(hash >> 32).unwrap_or(0) & self.words.len().wrapping_sub(1)
    }

    fn behind(&self, at: usize) -> usize {
        (at + 1) & self.words.len().wrapping_sub(1)
    }

    /// How far behind the first of the order an id with this hash stands that is `wanted`.
    pub(super) fn get(
        &self,
        hash: u64,
        living: Living,
        wanted: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mark = mark(hash);
        let mut at = self.home(hash);
        loop {
            let word = self.words.get(at).copied().filter(|word| *word != 0)?;
            let found = living.at(word).filter(|_| mark_of(word) == mark);
            if let Some(place) = found.filter(|place| wanted(*place)) {
                return Some(place);
            }
            at = self.behind(at);
        }
    }

    /// Enters the place behind the last that lives, or fails: then the table is to be made anew.
    pub(super) fn insert(&mut self, hash: u64, living: Living) -> Result<(), Full> {
        if (self.used + 1) * 4 > self.words.len() * 3 {
            return Err(Full);
        }
        let len = u32::try_from(living.len).map_err(|_| Full)?;
        let mut at = self.home(hash);
        loop {
            let Some(slot) = self.words.get_mut(at) else { return Err(Full) };
            if *slot == 0 || living.at(*slot).is_none() {
                self.used += usize::from(*slot == 0);
                *slot = mark(hash) | short(living.first.wrapping_add(len));
                return Ok(());
            }
            at = self.behind(at);
        }
    }

    /// A table of the hashes of an order, with room for as many more.
    pub(super) fn of(first: u32, hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let room = (hashes.len() * 2).next_power_of_two().max(WORDS_MIN);
        let mut places = Self { words: vec![0; room], used: 0 };
        for (len, hash) in hashes.enumerate() {
            // There is room for twice as many.
            let _entered = places.insert(hash, Living { first, len });
        }
        places
    }
}

/// A table has no room.
#[derive(Debug)]
pub(super) struct Full;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Hashes of few values meet all the time; places wrap around.
        #[test]
        fn a_table_finds_what_lives_and_nothing_else(
            steps in proptest::collection::vec((0_u64..24, 0_usize..5), 0..600),
            first in prop_oneof![0_u32..9, (u32::MAX - 9)..u32::MAX, 16_370_u32..16_390],
        ) {
            let hash = |id: u64| (id % 6) << 32 | (id % 2);
            let (mut places, mut order) = (Places::default(), VecDeque::new());
            let mut living = Living { first, len: 0 };
            for (id, leaving) in steps {
                let known = places.get(hash(id), living, |at| order.get(at) == Some(&id));
                prop_assert_eq!(known, order.iter().position(|other| *other == id));
                if known.is_none() {
                    if places.insert(hash(id), living).is_err() {
                        places = Places::of(living.first, order.iter().map(|id| hash(*id)));
                        prop_assert!(places.insert(hash(id), living).is_ok());
                    }
                    order.push_back(id);
                }
                // One of five steps lets more leave than came.
                for _ in 0..leaving.saturating_sub(2) {
                    let left = order.pop_front();
                    living.first = living.first.wrapping_add(u32::from(left.is_some()));
                }
                living.len = order.len();
                prop_assert!(places.words.len() <= 128);
            }
        }
    }
}
