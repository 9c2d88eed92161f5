//! Readings: which time a value stands at.
//!
//! Pure. Source: `resources.md` 1, "Time". Absent: values, units and qualities, which stay in the
//! sender's bytes until a dialect with a vocabulary of its own needs them. Invariant: an accepted
//! time is between [`DEVICE_TIME_MIN`] and five minutes after its arrival.

use crate::id::UnixMs;

/// 2010-01-01T00:00:00Z: what claims to be older comes from a clock that was never set.
pub const DEVICE_TIME_MIN: UnixMs = UnixMs(1_262_304_000_000);
/// How far ahead of ours a device's clock may be.
pub const DEVICE_TIME_AHEAD_MS_MAX: u64 = 5 * 60 * 1_000;

/// The time of a message, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When it counts as having happened.
    pub timestamp: UnixMs,
    /// Whether that is the sender's own time.
    pub is_given: bool,
    /// The sender's own time, only where it was not believed.
    pub device_timestamp: Option<UnixMs>,
}

impl Stamp {
    /// Tells whether the sender's time was replaced, so that its quality is `uncertain`.
    #[must_use]
    pub const fn is_uncertain(&self) -> bool {
        self.device_timestamp.is_some()
    }
}

/// Decides the time of what arrived at `arrival` and claims to be from `claimed`.
///
/// A device whose clock says 2099 or 1970 must not freeze its last value.
#[must_use]
pub fn decide_time(claimed: Option<UnixMs>, arrival: UnixMs) -> Stamp {
    let latest = UnixMs(arrival.0.saturating_add(DEVICE_TIME_AHEAD_MS_MAX));
    match claimed {
        Some(time) if time >= DEVICE_TIME_MIN && time <= latest => {
            Stamp { timestamp: time, is_given: true, device_timestamp: None }
        }
        _ => Stamp { timestamp: arrival, is_given: false, device_timestamp: claimed },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unbelievable_time_is_replaced_by_the_arrival() {
        let arrival = 1_790_000_000_000;
        for (claimed, believed) in [
            (0, false),
            (DEVICE_TIME_MIN.0 - 1, false),
            (DEVICE_TIME_MIN.0, true),
            (arrival, true),
            (arrival + 300_000, true),
            (arrival + 300_001, false),
            (u64::MAX, false),
        ] {
            let stamp = decide_time(Some(UnixMs(claimed)), UnixMs(arrival));
            let timestamp = if believed { claimed } else { arrival };
            assert_eq!(stamp.timestamp, UnixMs(timestamp), "{claimed}");
            assert_eq!(stamp.device_timestamp, (!believed).then_some(UnixMs(claimed)));
            assert_eq!((stamp.is_uncertain(), stamp.is_given), (!believed, believed));
        }
    }

    #[test]
    fn no_time_means_the_arrival_and_is_certain() {
        let stamp = decide_time(None, UnixMs(7));
        assert_eq!((stamp.timestamp, stamp.is_uncertain()), (UnixMs(7), false));
        assert!(!stamp.is_given);
    }
}
