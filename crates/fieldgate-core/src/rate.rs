//! Token buckets: how many messages and bytes a second somebody may send.
//!
//! Pure; time is an argument, in milliseconds of any clock that only rises. Invariant: over any
//! span a bucket gives at most its burst, its rate times the span, and one ask above the burst.

/// A bucket that refills steadily and holds at most `burst`. It starts full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Thousandths of a token that one millisecond brings, over `span`.
    per_ms: u64,
    /// Divides `per_ms`, so that slow rates are exact too: 1 for a rate a second, 60 a minute.
    span: u64,
    /// Thousandths of a token, times `span`.
    burst: u64,
    /// As `burst`; below zero after an ask above the burst.
    level: i64,
    at_ms: u64,
}

impl Bucket {
    /// Makes a full bucket of `burst` tokens that gains `per_second`.
    #[must_use]
    pub fn new(per_second: u64, burst: u64, now_ms: u64) -> Self {
        Self::over(1, per_second, burst, now_ms)
    }

    /// Makes a full bucket of `per_minute` tokens that gains as many a minute.
    #[must_use]
    pub fn per_minute(per_minute: u64, now_ms: u64) -> Self {
        Self::over(60, per_minute, per_minute, now_ms)
    }

    fn over(span: u64, rate: u64, burst: u64, now_ms: u64) -> Self {
        let burst = burst.saturating_mul(1_000 * span).min(i64::MAX.unsigned_abs());
        Self { per_ms: rate, span, burst, level: burst.cast_signed(), at_ms: now_ms }
    }

    /// Takes `count` tokens, or nothing and tells no.
    ///
    /// More than the whole burst is given by a full bucket, and leaves it in debt: what is legal to
    /// send is never too large to be sent at all.
    pub fn take(&mut self, count: u64, now_ms: u64) -> bool {
        let enough = self.wait_ms(count, now_ms) == 0;
        if enough {
            self.level = self.level.saturating_sub_unsigned(self.scaled(count));
        }
        enough
    }

    /// Tells how long until `count` tokens are there: 0 now, [`u64::MAX`] never.
    pub fn wait_ms(&mut self, count: u64, now_ms: u64) -> u64 {
        self.refill(now_ms);
        let wanted = self.scaled(count).min(self.burst).cast_signed();
        match u64::try_from(wanted.saturating_sub(self.level)) {
            Ok(0) | Err(_) => 0,
            Ok(_) if self.per_ms == 0 => u64::MAX,
            Ok(missing) => missing.div_ceil(self.per_ms),
        }
    }

    /// Tells whether the bucket is full, so that forgetting it changes nothing.
    pub fn is_full(&mut self, now_ms: u64) -> bool {
        self.refill(now_ms);
        self.level >= self.burst.cast_signed()
    }

    const fn scaled(&self, count: u64) -> u64 {
        count.saturating_mul(1_000).saturating_mul(self.span)
    }

    fn refill(&mut self, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(self.per_ms);
        self.at_ms = self.at_ms.max(now_ms);
        self.level = self.level.saturating_add_unsigned(gained).min(self.burst.cast_signed());
    }
}

/// What one principal may send (`limits.messages_per_second`, `message_burst`, `bytes_per_second`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    messages: Bucket,
    bytes: Bucket,
}

impl Rates {
    /// Makes full buckets; bytes may burst to one second's worth.
    #[must_use]
    pub fn new(
        messages_per_second: u64,
        message_burst: u64,
        bytes_per_second: u64,
        now_ms: u64,
    ) -> Self {
        Self {
            messages: Bucket::new(messages_per_second, message_burst, now_ms),
            bytes: Bucket::new(bytes_per_second, bytes_per_second, now_ms),
        }
    }

    /// Takes `message_count` messages of together `bytes`, all or none.
    ///
    /// # Errors
    ///
    /// How many milliseconds to wait; nothing was taken.
    pub fn take(&mut self, message_count: u64, bytes: u64, now_ms: u64) -> Result<(), u64> {
        let messages_ms = self.messages.wait_ms(message_count, now_ms);
        let wait_ms = messages_ms.max(self.bytes.wait_ms(bytes, now_ms));
        if wait_ms > 0 {
            return Err(wait_ms);
        }
        self.messages.take(message_count, now_ms);
        self.bytes.take(bytes, now_ms);
        Ok(())
    }

    /// Tells whether both buckets are full, so that forgetting them changes nothing.
    pub fn is_full(&mut self, now_ms: u64) -> bool {
        self.messages.is_full(now_ms) && self.bytes.is_full(now_ms)
    }
}

/// Who goes on although it is refused: a pause of a second between two refusals starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Insistence {
    refused: Option<(u64, u64)>,
}

impl Insistence {
    /// Notes a refusal; tells for how long there have been some without a pause, in milliseconds.
    pub fn on_refusal(&mut self, now_ms: u64) -> u64 {
        let since_ms = match self.refused {
            Some((since_ms, last_ms)) if now_ms <= last_ms + 1_000 => since_ms,
            Some(_) | None => now_ms,
        };
        self.refused = Some((since_ms, now_ms));
        now_ms.saturating_sub(since_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = Bucket::new(10, 5, 0);
        assert!((0..5).all(|_| bucket.take(1, 0)));
        assert_eq!(bucket.wait_ms(1, 0), 100);
        assert!(!bucket.take(1, 99));
        assert!(bucket.take(1, 100));
        assert!(!bucket.take(1, 100));
        assert!(bucket.take(5, 100_000));
        assert!(!bucket.is_full(100_499));
        assert!(bucket.is_full(100_500));
    }

    #[test]
    fn a_rate_a_minute_is_exact() {
        let mut bucket = Bucket::per_minute(7, 0);
        assert!(bucket.take(7, 0));
        assert_eq!(bucket.wait_ms(7, 0), 60_000);
        assert!(!bucket.take(7, 59_999));
        assert!(bucket.take(7, 60_000));
    }

    #[test]
    fn a_message_above_the_burst_passes_a_full_bucket_and_is_paid_later() {
        let mut bucket = Bucket::new(10, 10, 0);
        assert!(bucket.take(30, 0));
        assert_eq!(bucket.wait_ms(1, 2_000), 100);
        assert!(bucket.take(1, 2_100));
    }

    #[test]
    fn a_rate_of_zero_never_refills() {
        let mut bucket = Bucket::new(0, 1, 0);
        assert!(bucket.take(1, 0));
        assert_eq!(bucket.wait_ms(1, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(1_000, 1, 1_000);
        assert!(bucket.take(1, 1_000));
        assert!(!bucket.take(1, 0));
        assert!(!bucket.take(1, 1_000));
    }

    #[test]
    fn a_refusal_takes_neither_messages_nor_bytes() {
        let mut rates = Rates::new(1, 1, 100, 0);
        assert_eq!(rates.take(1, 100, 0), Ok(()));
        assert_eq!(rates.take(1, 50, 500), Err(500));
        assert_eq!(rates.take(1, 100, 1_000), Ok(()));
    }

    #[test]
    fn insistence_is_counted_until_it_pauses() {
        let mut insistence = Insistence::default();
        assert_eq!([0, 900, 1_900].map(|now_ms| insistence.on_refusal(now_ms)), [0, 900, 1_900]);
        assert_eq!([2_901, 3_000].map(|now_ms| insistence.on_refusal(now_ms)), [0, 99]);
    }

    proptest! {
        #[test]
        fn no_more_than_burst_and_rate_is_ever_given(
            per_second in 1..1_000_u64,
            burst in 1..1_000_u64,
            steps in prop::collection::vec((0..200_u64, 1..50_u64), 1..200),
        ) {
            let mut bucket = Bucket::new(per_second, burst, 0);
            let (mut now_ms, mut given) = (0, 0);
            for (wait_ms, count) in steps {
                now_ms += wait_ms;
                let due_ms = now_ms + bucket.wait_ms(count, now_ms);
                if bucket.take(count, now_ms) {
                    given += count;
                    prop_assert_eq!(due_ms, now_ms);
                } else {
                    prop_assert!(!bucket.clone().take(count, due_ms - 1));
                    prop_assert!(bucket.clone().take(count, due_ms));
                }
                let above = count.saturating_sub(burst).max(50);
                prop_assert!(given <= burst + per_second * now_ms / 1_000 + above);
            }
        }

        #[test]
        fn no_argument_overflows(numbers in prop::collection::vec(any::<u64>(), 6)) {
            let [a, b, c, d, e, f] = numbers[..] else { unreachable!("six numbers") };
            let mut bucket = Bucket::new(a, b, c);
            bucket.take(d, e);
            bucket.take(f, u64::MAX);
        }
    }
}
