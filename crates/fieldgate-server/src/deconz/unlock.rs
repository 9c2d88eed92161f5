//! Whether apps may make keys for themselves: for a while after somebody who administers said so.
//!
//! Pure over a given time. In memory alone: a restart locks.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long apps have unless somebody says, in seconds.
pub(crate) const UNLOCK_S: u64 = 60;
/// The longest, in seconds.
pub(crate) const UNLOCK_S_MAX: u64 = 600;

/// The window in which an app gets a key.
#[derive(Debug, Default)]
pub(crate) struct Unlock {
    /// It is open before this.
    end: Mutex<Option<Instant>>,
}

impl Unlock {
    /// Whether an app gets a key.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        let end = *self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.is_some_and(|end| now < end)
    }

    /// Lets apps make keys for so long from now on, whatever was said before.
    pub(crate) fn open(&self, now: Instant, time: Duration) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = now.checked_add(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_get_keys_for_the_time_that_was_said_last() {
        let (unlock, now) = (Unlock::default(), Instant::now());
        let after = |s| now + Duration::from_secs(s);
        assert!(!unlock.is_open(now));
        unlock.open(now, Duration::from_secs(60));
        assert!(unlock.is_open(now) && unlock.is_open(after(59)) && !unlock.is_open(after(60)));
        unlock.open(after(10), Duration::from_secs(5));
        assert!(unlock.is_open(after(14)) && !unlock.is_open(after(15)), "also where it is less");
    }
}
