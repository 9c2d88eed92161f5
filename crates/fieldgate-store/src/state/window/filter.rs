//! Which hashes were surely not seen: three bits of one word for each, few enough to stay in a core's
//! cache.
//!
//! Nearly every id is new, and says so here. What was forgotten still counts as seen, until the filter
//! is made anew. Invariant: what was entered since then may be there.

use super::half;

/// Bits for each hash of a full filter; with them three in eight are the most that are set.
const BITS_EACH: usize = 8;
const BITS_MIN: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Filter {
    /// A power of two of them, or none.
    words: Vec<u64>,
    /// How many hashes it has room for.
    left: usize,
}

impl Filter {
    /// A filter of these ids, with room for as many more, or more.
    pub(super) fn of(ids: impl ExactSizeIterator<Item = u128>) -> Self {
        let bits = (2 * ids.len() * BITS_EACH).next_power_of_two().max(BITS_MIN);
        let mut filter = Self { words: vec![0; bits / 64], left: bits / BITS_EACH };
        ids.for_each(|id| filter.enter(half(id)));
        filter
    }

    /// The word of a hash, and its bits there.
    fn place(&self, hash: u64) -> (usize, u64) {
        // Other bits than those that choose a word of the table.
        let at = usize::try_from(hash >> 8).unwrap_or(0) & self.words.len().wrapping_sub(1);
        let bit = |from: u32| 1 << (hash >> from & 63);
        (at, bit(0) | bit(44) | bit(52))
    }

    pub(super) fn may_have(&self, hash: u64) -> bool {
        let (at, bits) = self.place(hash);
        self.words.get(at).is_some_and(|word| word & bits == bits)
    }

    pub(super) const fn is_full(&self) -> bool {
        self.left == 0
    }

    pub(super) fn enter(&mut self, hash: u64) {
        let (at, bits) = self.place(hash);
        if let Some(word) = self.words.get_mut(at) {
            *word |= bits;
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads small numbers over all bits.
    fn id(number: u64) -> u128 {
        u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    #[test]
    fn what_was_entered_may_be_there_and_little_else() {
        for count in [0, 1, 100, 5_000] {
            let mut filter = Filter::of((0..count).map(id).collect::<Vec<_>>().into_iter());
            assert!(!filter.is_full());
            let mut entered = count;
            while !filter.is_full() {
                filter.enter(half(id(entered)));
                entered += 1;
            }
            assert!(entered >= 2 * count);
            assert!((0..entered).all(|number| filter.may_have(half(id(number)))));
            let others = entered..entered + 10_000;
            let found = others.filter(|number| filter.may_have(half(id(*number)))).count();
            assert!(found < 900, "{found} of 10000");
        }
        assert!(!Filter::default().may_have(7));
        assert!(Filter::default().is_full());
    }
}
