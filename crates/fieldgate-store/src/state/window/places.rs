//! Where ids stand in the order in which they came: an open table of eight bytes an id.
//!
//! A word holds half of a hash and a place. Whoever asks compares the whole id at that place, which
//! lies in the order anyway; so that an id that is not known costs one look at memory, not four.
//! Invariant: no more than three of four words are used, and none stands behind an empty one that
//! its hash leads to.

/// Words of a table that holds anything.
const WORDS_MIN: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Places {
    /// Zero, or the mark of a hash and a place: a power of two of them, or none.
    words: Vec<u64>,
    len: usize,
}

/// What of a hash stands in a word; never zero.
fn mark(hash: u64) -> u64 {
    (hash | 1) << 32
}

fn mark_of(word: u64) -> u64 {
    word >> 32 << 32
}

fn place_of(word: u64) -> u32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0)
}

impl Places {
    fn home(&self, word: u64) -> usize {
        let hash = usize::try_from(word >> 33).unwrap_or(0);
        hash & self.words.len().wrapping_sub(1)
    }

    fn behind(&self, at: usize) -> usize {
        (at + 1) & self.words.len().wrapping_sub(1)
    }

    /// Goes through the words that `hash` leads to; the one that is `wanted`, or the empty one.
    fn find(&self, hash: u64, wanted: impl Fn(u32) -> bool) -> Result<(usize, u32), usize> {
        let mark = mark(hash);
        let mut at = self.home(mark);
        loop {
            match self.words.get(at).copied() {
                None | Some(0) => return Err(at),
                Some(word) if mark_of(word) == mark && wanted(place_of(word)) => {
                    return Ok((at, place_of(word)));
                }
                Some(_) => at = self.behind(at),
            }
        }
    }

    /// The place of an id with this hash that is `wanted`.
    pub(super) fn get(&self, hash: u64, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        self.find(hash, wanted).ok().map(|(_, place)| place)
    }

    /// Enters a place, instead of the `replaced` one of the same id if there is one.
    pub(super) fn insert(&mut self, hash: u64, place: u32, replaced: Option<u32>) {
        if let Some(Ok((at, _))) = replaced.map(|old| self.find(hash, |place| place == old)) {
            return self.put(at, mark(hash) | u64::from(place));
        }
        if (self.len + 1) * 4 > self.words.len() * 3 {
            let words = vec![0; (self.words.len() * 2).max(WORDS_MIN)];
            let old = std::mem::replace(&mut self.words, words);
            old.into_iter().filter(|word| *word != 0).for_each(|word| self.enter(word));
        }
        self.len += 1;
        self.enter(mark(hash) | u64::from(place));
    }

    fn enter(&mut self, word: u64) {
        let mut at = self.home(word);
        while self.words.get(at).is_some_and(|word| *word != 0) {
            at = self.behind(at);
        }
        self.put(at, word);
    }

    fn put(&mut self, at: usize, word: u64) {
        if let Some(slot) = self.words.get_mut(at) {
            *slot = word;
        }
    }

    /// Forgets this place, if it stands there.
    pub(super) fn remove(&mut self, hash: u64, place: u32) {
        let Ok((mut hole, _)) = self.find(hash, |other| other == place) else { return };
        self.len -= 1;
        let mask = self.words.len().wrapping_sub(1);
        let mut at = hole;
        loop {
            at = self.behind(at);
            let word = self.words.get(at).copied().unwrap_or(0);
            if word == 0 {
                break;
            }
            // A word that starts its way at the hole or before it would not be found behind it.
            let (way, to_hole) = (at.wrapping_sub(self.home(word)), at.wrapping_sub(hole));
            if way & mask >= to_hole & mask {
                self.put(hole, word);
                hole = at;
            }
        }
        self.put(hole, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Hashes of few values meet all the time; `u32::MAX` is a place like any other.
        #[test]
        fn a_table_is_the_map_that_it_stands_for(
            steps in proptest::collection::vec((0_u64..24, 0_u64..3, any::<bool>()), 0..400),
        ) {
            let (mut places, mut map) = (Places::default(), HashMap::new());
            let hash = |id: u64| (id % 6) << 1 | (id % 2) << 20;
            let mut next = u32::MAX - 50;
            let mut ids = HashMap::new();
            for (id, _, add) in steps {
                if add {
                    next = next.wrapping_add(1);
                    ids.insert(next, id);
                    places.insert(hash(id), next, map.insert(id, next));
                } else if let Some(place) = map.remove(&id) {
                    places.remove(hash(id), place);
                    // What is gone may be taken away once more.
                    places.remove(hash(id), place);
                }
                for id in 0..24 {
                    let found = places.get(hash(id), |place| ids.get(&place) == Some(&id));
                    prop_assert_eq!(found, map.get(&id).copied());
                }
                prop_assert_eq!(places.len, map.len());
            }
        }
    }
}
