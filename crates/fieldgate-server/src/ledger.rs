//! What was dropped, for whom and why: counters for ever, and the newest entries on disk.
//!
//! Entries of one second, receiver and reason are one, and a second has a bounded number of them, so
//! that a flood cannot fill the ring. [`Ledger::record`] takes a lock and counts; one thread writes
//! full seconds to the [`ring`]. Source: `guarantees.md` 7.

mod pending;
mod query;
mod ring;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use fieldgate_core::id::{TenantId, UnixMs};
use serde::{Deserialize, Serialize};

use crate::fabric::now;
use pending::Pending;
use ring::{Ring, RingOptions};

pub(crate) use query::{DropsPage, DropsParams, DropsQuery};

/// How often full seconds are written.
const PERIOD: Duration = Duration::from_secs(1);

/// Why something was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DropReason {
    /// A newer value took its place for a slow receiver.
    Conflated,
    /// The oldest that waited for a slow receiver.
    Overflow,
    /// Its time had passed.
    Expired,
    /// A retained message above the tenant's bound.
    RetainedFull,
    /// A reading above the bound of its device's state: delivered, and not in the state.
    StateFull,
    /// A wish that the profile of its device does not take any more.
    DesiredUnfit,
    /// What a source sent and could not be read, or is too large.
    SourceBad,
    /// What a source sent of a device that is not its own.
    SourceForeign,
    /// What a source sent of a device for which there is no room.
    SourceFull,
    /// A message that a delivery's format has no form for.
    NoForm,
    /// Numbers of the log that a delivery came too late for.
    Retention,
}

impl DropReason {
    /// Every reason.
    pub(crate) const ALL: [Self; 11] = [
        Self::Conflated,
        Self::Overflow,
        Self::Expired,
        Self::RetainedFull,
        Self::StateFull,
        Self::DesiredUnfit,
        Self::SourceBad,
        Self::SourceForeign,
        Self::SourceFull,
        Self::NoForm,
        Self::Retention,
    ];

    /// The word in the ledger and in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Conflated => "conflated",
            Self::Overflow => "overflow",
            Self::Expired => "expired",
            Self::RetainedFull => "retained_full",
            Self::StateFull => "state_full",
            Self::DesiredUnfit => "desired_unfit",
            Self::SourceBad => "source_bad",
            Self::SourceForeign => "source_foreign",
            Self::SourceFull => "source_full",
            Self::NoForm => "no_form",
            Self::Retention => "retention",
        }
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DropEntry {
    /// The second it happened in, in Unix ms.
    time: u64,
    tenant: String,
    /// Who did not get it; `*`: more receivers than a second has entries for.
    who: String,
    reason: DropReason,
    /// How many in that second.
    count: u64,
}

/// How many, by tenant and reason.
type Totals = BTreeMap<String, BTreeMap<DropReason, u64>>;

fn add(totals: &mut Totals, entry: &DropEntry) {
    // Only the first drop of a tenant makes a name.
    if !totals.contains_key(&entry.tenant) {
        totals.insert(entry.tenant.clone(), BTreeMap::new());
    }
    if let Some(of) = totals.get_mut(&entry.tenant) {
        *of.entry(entry.reason).or_default() += entry.count;
    }
}

/// The ledger of a data folder.
///
/// Locks are taken in the order of the fields; `record` takes the last one alone.
#[derive(Debug)]
struct Inner {
    ring: Mutex<Ring>,
    pending: Mutex<Pending>,
}

/// The ledger, for those who write to it and read from it.
#[derive(Debug, Clone)]
pub(crate) struct Ledger(Arc<Inner>);

impl Ledger {
    /// Opens the ring in `folder`, and starts the thread that writes to it.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or listed. Damage in it is no error.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Keeper)> {
        Self::open_with(folder, RingOptions::default())
    }

    fn open_with(folder: &Path, options: RingOptions) -> io::Result<(Self, Keeper)> {
        let ring = Ring::open(folder, options)?;
        let pending = Mutex::new(Pending::new(ring.totals().clone()));
        let ring = Mutex::new(ring);
        let ledger = Self(Arc::new(Inner { ring, pending }));
        let keeper = Keeper::start(ledger.clone())?;
        Ok((ledger, keeper))
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that `who` did not get `count` messages. Never waits for the disk.
    pub(crate) fn record(
        &self,
        tenant: &TenantId,
        who: &str,
        reason: DropReason,
        count: u64,
        now: UnixMs,
    ) {
        self.pending().record(tenant.as_str(), who, reason, count, now.0 / 1_000 * 1_000);
    }

    /// How many were dropped ever, by reason, whoever's they were.
    pub(crate) fn totals(&self) -> BTreeMap<DropReason, u64> {
        let mut sum: BTreeMap<_, _> = DropReason::ALL.map(|reason| (reason, 0)).into();
        for (reason, count) in self.pending().totals().values().flatten() {
            *sum.entry(*reason).or_default() += count;
        }
        sum
    }

    /// Writes full seconds to the ring; all of them if it is the `last` time.
    fn write_out(&self, last: bool) -> io::Result<()> {
        let mut ring = self.ring();
        let second = now().0 / 1_000 * 1_000;
        let (entries, first) = self.pending().ready(second, last);
        let (count, done) = ring.append(&entries);
        self.pending().written(first + count as u64);
        done.and_then(|()| ring.sync(last))
    }
}

/// The thread that writes. Dropped, it has written everything.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    fn start(ledger: Ledger) -> io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut failing = false;
                loop {
                    let last = wait(&stop);
                    let done = ledger.write_out(last);
                    // Told once, not every second; what was not written stays and is tried again.
                    match &done {
                        Err(error) if !failing || last => {
                            tracing::error!(%error, "the ledger of drops cannot be written");
                        }
                        Ok(()) if failing => tracing::info!("the ledger is written again"),
                        Ok(()) | Err(_) => (),
                    }
                    failing = done.is_err();
                    if last {
                        return;
                    }
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// Waits for the next turn; tells whether it is the last.
fn wait((stop, changed): &(Mutex<bool>, Condvar)) -> bool {
    let stopped = stop.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(stopped, PERIOD, |stopped| !*stopped);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the ledger panicked");
        }
    }
}

#[cfg(test)]
mod tests;
