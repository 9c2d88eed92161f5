//! When the next question goes to a service that fails: how questions ended in, turns out.
//!
//! A service that answers is asked as it comes. One that failed several times in a row is asked a few times
//! a second, by whoever waits for the longest, until it answers: it is not held down by those who want to
//! know whether it is back. Invariant: of all who wait, one looks at the clock.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// So many failures in a row are not chance.
const CHANCE_MAX: u32 = 4;
/// How far apart questions to a service are that fails.
const PAUSE: Duration = Duration::from_millis(250);

/// How a service does, and who is next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    state: Mutex<State>,
    line: tokio::sync::Mutex<()>,
    healed: Notify,
}

#[derive(Debug, Default)]
struct State {
    failed_count: u32,
    /// When the next question may go, if it fails.
    next: Option<Instant>,
}

impl Pace {
    /// Waits until a question may go. Cancel safe.
    pub(super) async fn turn(&self) {
        if self.with(|state| state.next.is_none()) {
            return;
        }
        let _first = self.line.lock().await;
        loop {
            let healed = self.healed.notified();
            let Some(at) = self.with(|state| state.take(Instant::now())) else { return };
            tokio::select! {
                biased;
                () = healed => (),
                () = tokio::time::sleep_until(at) => (),
            }
        }
    }

    /// It was answered, whatever was said.
    pub(super) fn on_answer(&self) {
        let was_failing = self.with(|state| {
            state.failed_count = 0;
            state.next.take().is_some()
        });
        if was_failing {
            self.healed.notify_waiters();
        }
    }

    /// It was not.
    pub(super) fn on_failure(&self) {
        self.with(|state| {
            state.failed_count = state.failed_count.saturating_add(1);
            if state.failed_count >= CHANCE_MAX && state.next.is_none() {
                state.next = Some(Instant::now() + PAUSE);
            }
        });
    }

    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Takes the turn, or says when there is one.
    fn take(&mut self, now: Instant) -> Option<Instant> {
        let at = self.next?;
        if at > now {
            return Some(at);
        }
        self.next = Some(now + PAUSE);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn questions_to_what_fails_are_apart_and_go_at_once_when_it_answers() {
        let (pace, started) = (Pace::default(), Instant::now());
        for _ in 0..CHANCE_MAX {
            pace.turn().await;
            pace.on_failure();
        }
        assert_eq!(started.elapsed(), Duration::ZERO, "so few may be chance");
        for count in 1..=3 {
            pace.turn().await;
            pace.on_failure();
            assert_eq!(started.elapsed(), PAUSE * count);
        }
        let answered = async {
            tokio::time::sleep(PAUSE + PAUSE / 2).await;
            pace.on_answer();
        };
        // One more turn comes by the clock, all others with the answer.
        tokio::join!(pace.turn(), pace.turn(), pace.turn(), answered);
        assert_eq!(started.elapsed(), PAUSE * 9 / 2);
        pace.turn().await;
        assert_eq!(started.elapsed(), PAUSE * 9 / 2);
    }
}
