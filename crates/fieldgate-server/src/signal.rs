//! What tasks of one worker wait for without looking again and again.
//!
//! In: who waits, and that it came. Out: those who waited, woken. Of one thread. Invariant: who began to
//! wait before it came is told, also if it was not looked at yet; while nobody waits a signal costs a
//! branch, and holds nothing.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use tokio::sync::{Notify, futures::OwnedNotified};

/// Something that comes again and again.
#[derive(Debug, Default)]
pub(crate) struct Signal(RefCell<Option<Arc<Notify>>>);

impl Signal {
    /// Whether somebody waits, or did and gave up.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits for the next time, counted from this call and not from the first poll. Cancel safe.
    pub(crate) fn next(&self) -> OwnedNotified {
        let mut awaited = self.0.borrow_mut();
        Arc::clone(awaited.get_or_insert_default()).notified_owned()
    }

    /// It came: wakes all who wait.
    pub(crate) fn tell(&self) {
        if let Some(awaited) = self.0.take() {
            awaited.notify_waiters();
        }
    }
}

/// Something that ends once, and with it whatever is done on its behalf.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    is_over: Cell<bool>,
    told: Signal,
}

impl Ending {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    pub(crate) fn end(&self) {
        self.is_over.set(true);
        self.told.tell();
    }

    /// Does something until it is done or this is over; then it is dropped where it waits, and with it
    /// what it holds.
    pub(crate) async fn or_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let over = self.told.next();
        if self.is_over.get() {
            return None;
        }
        tokio::select! {
            biased;
            () = over => None,
            done = work => Some(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, rc::Rc};

    use super::*;

    #[tokio::test]
    async fn who_waits_is_told_of_what_comes_before_it_is_polled() {
        let signal = Signal::default();
        signal.tell();
        assert!(!signal.is_awaited());
        let (first, second) = (signal.next(), signal.next());
        assert!(signal.is_awaited());
        signal.tell();
        assert!(!signal.is_awaited());
        first.await;
        second.await;
    }

    #[tokio::test]
    async fn what_is_over_drops_what_is_done_for_it() {
        let (ending, held) = (Ending::default(), Rc::new(()));
        assert_eq!(ending.or_over(async { 7 }).await, Some(7));
        let copy = Rc::clone(&held);
        let work = ending.or_over(async move {
            pending::<()>().await;
            drop(copy);
        });
        let end = async { ending.end() };
        assert_eq!(tokio::join!(work, end).0, None);
        assert_eq!((Rc::strong_count(&held), ending.is_over()), (1, true));
        let looked = Cell::new(false);
        assert_eq!(ending.or_over(async { looked.set(true) }).await, None);
        assert!(!looked.get());
    }
}
