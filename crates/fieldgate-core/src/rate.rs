//! Token buckets: how many messages and bytes a second somebody may send.
//!
//! Pure; time is an argument, in milliseconds of any clock that only rises.

/// A bucket that refills steadily and holds at most `burst`.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    per_second: u64,
    burst: u64,
    /// Thousandths of a token.
    level: u64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(per_second: u64, burst: u64, now_ms: u64) -> Self {
        Self { per_second, burst, level: burst.saturating_mul(1_000), at_ms: now_ms }
    }

    /// Takes `count` tokens, or nothing and tells no.
    pub fn take(&mut self, count: u64, now_ms: u64) -> bool {
        let refill = now_ms.saturating_sub(self.at_ms).saturating_mul(self.per_second);
        self.at_ms = self.at_ms.max(now_ms);
        let full = self.burst.saturating_mul(1_000);
        self.level = self.level.saturating_add(refill).min(full);
        let wanted = count.saturating_mul(1_000);
        let enough = wanted <= self.level;
        if enough {
            self.level -= wanted;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = Bucket::new(10, 5, 0);
        assert!((0..5).all(|_| bucket.take(1, 0)));
        assert!(!bucket.take(1, 99));
        assert!(bucket.take(1, 100));
        assert!(!bucket.take(1, 100));
        assert!(bucket.take(5, 100_000));
        assert!(!bucket.take(6, 200_000));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1_000, 1, 1_000);
        assert!(bucket.take(1, 1_000));
        assert!(!bucket.take(1, 0));
    }
}
