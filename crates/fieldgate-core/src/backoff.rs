//! How long to wait before the next attempt to connect: attempts in, a delay out.
//!
//! Pure: the randomness is an argument. Invariant: a delay is never below half of its step and never
//! above [`Backoff::max`], so that a fleet neither storms nor falls asleep.

use std::time::Duration;

/// Exponential backoff with jitter over the upper half of each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first step.
    pub first: Duration,
    /// The longest step.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The delay before attempt number `attempt` (from 0), with 64 random bits.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX);
        let step = self.first.saturating_mul(factor).min(self.max);
        let half = step / 2;
        // The upper 32 bits as a fraction of one.
        let share =
            f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        half + half.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn steps_double_until_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let full = |attempt| backoff.delay(attempt, u64::MAX).as_millis();
        assert_eq!([0, 1, 2, 3, 4, 40].map(full), [100, 200, 400, 800, 1_000, 1_000]);
    }

    proptest! {
        #[test]
        fn a_delay_stays_in_the_upper_half_of_its_step(attempt in 0_u32..100, random: u64) {
            let backoff = Backoff::default();
            let delay = backoff.delay(attempt, random);
            let step = backoff.delay(attempt, u64::MAX);
            prop_assert!(delay <= step && delay >= step / 2);
            prop_assert!(step <= backoff.max);
        }
    }
}
