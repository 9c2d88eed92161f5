//! Replays: which signed times are taken, and which nonces were seen.
//!
//! Pure and bounded. Invariant: what was taken once is refused for as long as its time is taken.

use std::collections::BTreeMap;

use crate::id::UnixMs;

/// How far a signed time may be from the clock, in ms.
pub const WINDOW_MS: u64 = 60_000;

/// Why a signed message is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Replay {
    /// Its time is too far from the clock.
    #[error("its timestamp is more than 60 s from the gateway's clock")]
    Untimely,
    /// Its time is before the oldest that is still told from a repeat.
    #[error("its timestamp is before what is still told from a repeat")]
    TooOld,
    /// Its nonce was seen.
    #[error("its nonce was seen before")]
    Seen,
}

/// The nonces of one sender, with the times that were signed with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonces<N> {
    /// Nothing before this time is taken.
    floor: UnixMs,
    seen: BTreeMap<N, UnixMs>,
}

impl<N> Default for Nonces<N> {
    fn default() -> Self {
        Self { floor: UnixMs(0), seen: BTreeMap::new() }
    }
}

impl<N: Ord> Nonces<N> {
    /// No nonces; nothing signed before `floor` is taken.
    #[must_use]
    pub const fn since(floor: UnixMs) -> Self {
        Self { floor, seen: BTreeMap::new() }
    }

    /// What was taken apart by [`Self::parts`].
    #[must_use]
    pub const fn of_parts(floor: UnixMs, seen: BTreeMap<N, UnixMs>) -> Self {
        Self { floor, seen }
    }

    /// The floor and the nonces, to be written down.
    #[must_use]
    pub const fn parts(&self) -> (UnixMs, &BTreeMap<N, UnixMs>) {
        (self.floor, &self.seen)
    }

    /// Whether this may be taken.
    ///
    /// # Errors
    ///
    /// [`Replay`].
    pub fn check(&self, nonce: &N, timestamp: UnixMs, now: UnixMs) -> Result<(), Replay> {
        if timestamp.0.abs_diff(now.0) > WINDOW_MS {
            return Err(Replay::Untimely);
        }
        // A floor that the clock can never have reached comes from a clock that was wrong.
        if timestamp < self.floor && self.floor.0 <= now.0.saturating_add(WINDOW_MS) {
            return Err(Replay::TooOld);
        }
        if self.seen.contains_key(nonce) { Err(Replay::Seen) } else { Ok(()) }
    }

    /// Takes it, and remembers it among at most `count_max`. With more in one window, the older half
    /// is forgotten, and nothing as old as that is taken any more.
    ///
    /// # Errors
    ///
    /// [`Replay`]; then nothing changed.
    pub fn take(
        &mut self,
        nonce: N,
        timestamp: UnixMs,
        now: UnixMs,
        count_max: usize,
    ) -> Result<(), Replay> {
        self.check(&nonce, timestamp, now)?;
        if self.seen.len() >= count_max {
            self.make_room(now, count_max);
        }
        self.seen.insert(nonce, timestamp);
        Ok(())
    }

    fn make_room(&mut self, now: UnixMs, count_max: usize) {
        self.seen.retain(|_, time| time.0.saturating_add(WINDOW_MS) >= now.0);
        if self.seen.len() < count_max {
            return;
        }
        let mut times: Vec<UnixMs> = self.seen.values().copied().collect();
        times.sort_unstable();
        if let Some(cut) = times.get(times.len() / 2) {
            self.seen.retain(|_, time| *time > *cut);
            self.floor = UnixMs(cut.0.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixMs = UnixMs(1_000_000);

    #[test]
    fn what_was_taken_is_not_taken_again_and_times_have_a_window() {
        let mut nonces = Nonces::default();
        assert_eq!(nonces.take("a", NOW, NOW, 4), Ok(()));
        assert_eq!(nonces.take("a", NOW, NOW, 4), Err(Replay::Seen));
        // Another time does not make it another nonce.
        assert_eq!(nonces.take("a", UnixMs(NOW.0 + 1), NOW, 4), Err(Replay::Seen));
        for (off, taken) in [(60_000, true), (60_001, false)] {
            for time in [NOW.0 - off, NOW.0 + off] {
                assert_eq!(nonces.check(&"b", UnixMs(time), NOW).is_ok(), taken, "{time}");
            }
        }
    }

    #[test]
    fn nothing_before_the_floor_is_taken_unless_the_floor_is_of_a_wrong_clock() {
        let nonces = Nonces::since(NOW);
        assert_eq!(nonces.check(&"a", UnixMs(NOW.0 - 1), NOW), Err(Replay::TooOld));
        assert_eq!(nonces.check(&"a", NOW, NOW), Ok(()));
        let back = UnixMs(NOW.0 - 3 * WINDOW_MS);
        assert_eq!(nonces.check(&"a", back, back), Ok(()));
    }

    #[test]
    fn a_full_window_forgets_what_is_over_before_it_forgets_what_is_not() {
        let mut nonces = Nonces::default();
        (0..4_u32).for_each(|n| nonces.take(n, NOW, NOW, 4).unwrap());
        let later = UnixMs(NOW.0 + WINDOW_MS + 1);
        assert_eq!(nonces.take(9, later, later, 4), Ok(()));
        assert_eq!(nonces.parts().0, UnixMs(0), "nothing in the window was forgotten");
        assert_eq!(nonces.parts().1.len(), 1);
    }

    proptest! {
        #[test]
        fn no_order_of_messages_gets_one_taken_twice_and_the_bound_holds(
            steps in proptest::collection::vec((0..20_u8, 0..200_000_u64, 0..5_000_u64), 0..200),
        ) {
            let (mut nonces, mut taken) = (Nonces::default(), std::collections::BTreeSet::new());
            let mut now = 200_000;
            for (nonce, back, on) in steps {
                now += on;
                let time = UnixMs(now + 100_000 - back);
                if nonces.take((nonce, time), time, UnixMs(now), 8).is_ok() {
                    prop_assert!(taken.insert((nonce, time)), "{} at {:?} again", nonce, time);
                }
                prop_assert!(nonces.parts().1.len() <= 8);
            }
        }
    }
}
