//! Defects on purpose, for the tests of the tests: each must make the crash checker fail.
//!
//! Outside of tests every control is off and costs nothing. In tests they count for one thread.

/// One defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// A batch is not synced before it is acknowledged.
    SyncRemoved,
    /// After a crash numbers go on directly behind the last one found.
    ReservationRemoved,
    /// Records change places on their way to the disk.
    NumbersSwapped,
    /// An id is known before its message is durable, and stays known if the message is refused.
    EagerWindow,
}

pub(crate) const SYNC_REMOVED: Control = Control::SyncRemoved;
pub(crate) const RESERVATION_REMOVED: Control = Control::ReservationRemoved;
pub(crate) const NUMBERS_SWAPPED: Control = Control::NumbersSwapped;
pub(crate) const EAGER_WINDOW: Control = Control::EagerWindow;

impl Control {
    #[cfg(not(test))]
    pub(crate) const fn is_on(self) -> bool {
        false
    }

    #[cfg(test)]
    pub(crate) fn is_on(self) -> bool {
        Self::active() == Some(self)
    }

    /// The defect of this thread.
    #[cfg(test)]
    pub(crate) fn active() -> Option<Self> {
        ACTIVE.with(std::cell::Cell::get)
    }

    /// Runs `body` with this defect.
    #[cfg(test)]
    pub(crate) fn during<T>(control: Option<Self>, body: impl FnOnce() -> T) -> T {
        ACTIVE.with(|active| active.set(control));
        let answer = body();
        ACTIVE.with(|active| active.set(None));
        answer
    }
}

#[cfg(test)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Control>> = const { std::cell::Cell::new(None) };
}
