//! Heartbeats: when to ping a silent peer, and when to give it up.
//!
//! Pure; time is an argument, in milliseconds of any clock that only rises. Any frame counts as
//! life (`native.md`, "Heartbeat"). Invariant: after [`Heartbeat::on_timeout`] at `now`, the deadline
//! is later than `now` unless the link is dead, so that a timer wheel set to it does not spin.

/// How often to ping and how long silence is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// `heartbeat.ping_ms`.
    pub ping_ms: u64,
    /// `heartbeat.silence_ms`.
    pub silence_ms: u64,
}

/// The heartbeat of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    heard_ms: u64,
    pinged_ms: u64,
}

/// What a deadline asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing yet.
    Rest,
    /// Send a ping.
    Ping,
    /// Nothing came for too long: close with `HeartbeatTimeout`.
    Dead,
}

impl Heartbeat {
    /// Starts with the link, which counts as its first sign of life.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self { heard_ms: now_ms, pinged_ms: now_ms }
    }

    /// Notes that bytes of a frame came.
    pub fn on_traffic(&mut self, now_ms: u64) {
        self.heard_ms = self.heard_ms.max(now_ms);
    }

    /// Decides what is due at `now_ms`; a ping is counted as sent.
    pub fn on_timeout(&mut self, now_ms: u64, pace: Pace) -> Beat {
        if now_ms >= self.heard_ms.saturating_add(pace.silence_ms) {
            return Beat::Dead;
        }
        if now_ms >= self.pinged_ms.saturating_add(pace.ping_ms) {
            self.pinged_ms = now_ms;
            return Beat::Ping;
        }
        Beat::Rest
    }

    /// Tells when to ask [`Self::on_timeout`] next.
    #[must_use]
    pub fn deadline_ms(&self, pace: Pace) -> u64 {
        let ping = self.pinged_ms.saturating_add(pace.ping_ms);
        ping.min(self.heard_ms.saturating_add(pace.silence_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { ping_ms: 30_000, silence_ms: 90_000 };

    #[test]
    fn a_silent_peer_is_pinged_twice_and_closed_after_ninety_seconds() {
        let mut heartbeat = Heartbeat::new(100_000);
        let mut seen = Vec::new();
        loop {
            let deadline = heartbeat.deadline_ms(PACE);
            let beat = heartbeat.on_timeout(deadline, PACE);
            seen.push((deadline, beat));
            if beat == Beat::Dead {
                break;
            }
        }
        assert_eq!(seen, [(130_000, Beat::Ping), (160_000, Beat::Ping), (190_000, Beat::Dead)]);
    }

    #[test]
    fn any_traffic_keeps_a_peer_alive() {
        let mut heartbeat = Heartbeat::new(0);
        for second in 1..1_000 {
            heartbeat.on_traffic(second * 1_000);
            assert_ne!(heartbeat.on_timeout(second * 1_000, PACE), Beat::Dead);
        }
        assert_eq!(heartbeat.on_timeout(999_000 + 90_000, PACE), Beat::Dead);
    }

    #[test]
    fn an_early_wake_asks_for_nothing() {
        let mut heartbeat = Heartbeat::new(0);
        assert_eq!(heartbeat.on_timeout(29_999, PACE), Beat::Rest);
        assert_eq!(heartbeat.deadline_ms(PACE), 30_000);
    }
}
