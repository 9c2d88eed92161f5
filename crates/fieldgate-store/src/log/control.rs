//! Defects on purpose, for the tests of the tests: each must make the crash checker fail.
//!
//! Outside of tests every control is off and costs nothing. In tests they count for one thread.

/// One defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// A batch is not synced before it is acknowledged.
    SyncRemoved,
    /// After a crash numbers go on directly behind the last one found.
    ReservationRemoved,
    /// Records change places on their way to the disk.
    NumbersSwapped,
}

pub(super) const SYNC_REMOVED: Control = Control::SyncRemoved;
pub(super) const RESERVATION_REMOVED: Control = Control::ReservationRemoved;
pub(super) const NUMBERS_SWAPPED: Control = Control::NumbersSwapped;

impl Control {
    #[cfg(not(test))]
    pub(super) const fn is_on(self) -> bool {
        false
    }

    #[cfg(test)]
    pub(super) fn is_on(self) -> bool {
        ACTIVE.with(|active| active.get() == Some(self))
    }

    /// Runs `body` with this defect.
    #[cfg(test)]
    pub(super) fn during<T>(control: Option<Self>, body: impl FnOnce() -> T) -> T {
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
