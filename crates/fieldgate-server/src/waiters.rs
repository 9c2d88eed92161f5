//! Who waits until a rising number has reached one of theirs, each woken once and alone.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::oneshot;

/// Those who wait. Bounded by who asks: each request waits once at a time.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    waiting: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
}

impl Waiters {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `reached` tells `number` or more. Whoever moves it calls [`Self::moved`] then.
    pub(crate) async fn until(&self, number: u64, reached: impl Fn() -> u64) {
        if reached() >= number {
            return;
        }
        let (tell, told) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            waiting.entry(number).or_default().push(tell);
            self.count.fetch_add(1, Ordering::SeqCst);
        }
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
        let later = waiting.split_off(&(reached.saturating_add(1)));
        let told = std::mem::replace(&mut *waiting, later);
        let count: usize = told.values().map(Vec::len).sum();
        self.count.fetch_sub(count, Ordering::SeqCst);
        drop(waiting);
        for tell in told.into_values().flatten() {
            // Whoever went away, or saw it by itself, hears nothing.
            let _gone = tell.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicU64};

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
        assert!(waiters.waiting().is_empty());
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
