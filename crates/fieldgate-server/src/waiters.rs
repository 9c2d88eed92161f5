//! Who waits until a rising number has reached one of theirs, each woken once and alone.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::oneshot;

/// Those who wait, by the number they wait for. Who gives up is gone.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    next: AtomicU64,
    waiting: Mutex<BTreeMap<Place, oneshot::Sender<()>>>,
}

/// The number, and which of those who wait for it.
type Place = (u64, u64);

/// One who waits: takes its place back, also if it is dropped while it waits.
struct Waiting<'a>(&'a Waiters, Place);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.remove(&self.1);
        self.0.count.store(waiting.len(), Ordering::SeqCst);
    }
}

impl Waiters {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Place, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    /// Waits until `reached` tells `number` or more. Whoever moves it calls [`Self::moved`] then.
    pub(crate) async fn until(&self, number: u64, reached: impl Fn() -> u64) {
        if reached() >= number {
            return;
        }
        let (tell, told) = oneshot::channel();
        let place = (number, self.next.fetch_add(1, Ordering::Relaxed));
        let _waiting = {
            let mut waiting = self.waiting();
            waiting.insert(place, tell);
            self.count.store(waiting.len(), Ordering::SeqCst);
            Waiting(self, place)
        };
        // Said first, then looked again: what came between the two looks finds nobody.
        if reached() < number {
            // It is dropped untold only with everything else.
            let _told = told.await;
        }
    }

    /// The number has reached this one.
    pub(crate) fn moved(&self, reached: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut waiting = self.waiting();
        let later = waiting.split_off(&(reached.saturating_add(1), 0));
        let told = std::mem::replace(&mut *waiting, later);
        self.count.store(waiting.len(), Ordering::SeqCst);
        drop(waiting);
        for tell in told.into_values() {
            // Whoever went away, or saw it by itself, hears nothing.
            let _gone = tell.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[tokio::test]
    async fn each_waits_for_its_own_number() {
        let waiters = Arc::new(Waiters::default());
        let reached = Arc::new(AtomicU64::new(3));
        waiters.until(3, || reached.load(Ordering::SeqCst)).await;
        let wait = |number| {
            let (waiters, reached) = (Arc::clone(&waiters), Arc::clone(&reached));
            tokio::spawn(async move {
                waiters.until(number, || reached.load(Ordering::SeqCst)).await;
            })
        };
        let (soon, late) = (wait(5), wait(9));
        while waiters.count.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        reached.store(7, Ordering::SeqCst);
        waiters.moved(7);
        soon.await.unwrap();
        assert!(!late.is_finished());
        assert_eq!(waiters.count.load(Ordering::SeqCst), 1);
        reached.store(9, Ordering::SeqCst);
        waiters.moved(9);
        late.await.unwrap();
        assert!(waiters.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_nothing() {
        let waiters = Waiters::default();
        let waits = waiters.until(1, || 0);
        assert!(tokio::time::timeout(Duration::from_secs(1), waits).await.is_err());
        assert!(waiters.is_empty());
        assert_eq!(waiters.count.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn nobody_is_forgotten_while_the_number_runs() {
        let waiters = Arc::new(Waiters::default());
        let reached = Arc::new(AtomicU64::new(0));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let waits: Vec<_> = (1..=2_000_u64)
            .map(|number| {
                let (waiters, reached) = (Arc::clone(&waiters), Arc::clone(&reached));
                runtime.spawn(async move {
                    waiters.until(number, || reached.load(Ordering::SeqCst)).await;
                    assert!(reached.load(Ordering::SeqCst) >= number);
                })
            })
            .collect();
        for number in 1..=2_000 {
            reached.store(number, Ordering::SeqCst);
            waiters.moved(number);
        }
        runtime.block_on(async {
            for wait in waits {
                wait.await.unwrap();
            }
        });
    }
}
