//! Who may connect, try a credential and send, for all threads: `core::admission` and `core::rate`
//! behind locks, with a clock.
//!
//! Locks are held for a look-up. Bounded: a principal that may send its whole burst again, and has
//! no connection that sends, is forgotten.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use fieldgate_core::{
    access::Principal,
    admission::{AuthFailures, Bounds, NoPlace, Place, Pool},
    id::TenantId,
    rate::Rates,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    config::Limits,
    tenancy::{Desk, Tenancy},
};

/// So many connections that are not let in are told so at a time; others are dropped.
const REFUSED_MAX: usize = 256;
/// So many files are kept from authenticated connections, and so many of them for the store.
const FILES_KEPT: usize = 512;
const FILES_OF_THE_STORE: usize = 128;
/// So many senders are remembered before any is looked at again.
const SENDERS_MIN: usize = 1_024;

/// What one principal sends and reads, all its links together.
#[derive(Debug)]
pub(crate) struct Sender {
    /// Of its tenant.
    desk: Arc<Desk>,
    rates: Mutex<Rates>,
    /// Turns at the log (`limits.replays_per_principal_max`), first come, first served. One is held
    /// while a stretch is read, never while a receiver is waited for.
    pub(crate) log_turns: Arc<tokio::sync::Semaphore>,
}

#[derive(Debug, Default)]
struct Senders {
    known: HashMap<(TenantId, Arc<str>), Arc<Sender>>,
    sweep_at: usize,
}

/// The counters of the whole gateway.
#[derive(Debug)]
pub(crate) struct Throttle {
    started: Instant,
    limits: Limits,
    pool: Mutex<Pool>,
    failures: Mutex<AuthFailures>,
    senders: Mutex<Senders>,
    refused_count: AtomicUsize,
    pub(crate) tenants: Tenancy,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many files this process may open, now that it asked for as many as it may have.
pub(crate) fn open_files_max() -> usize {
    let allowed = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: allowed.maximum, maximum: allowed.maximum };
    let files = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted.current,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays");
            allowed.current
        }
    };
    files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// How many connections there may be, authenticated and not: no more than there are files for. Who
/// comes back with a whole fleet is not authenticated at first, so that half of the files may be kept
/// for these.
fn places(limits: &Limits, files_max: usize) -> (usize, usize) {
    let room = files_max.saturating_sub(FILES_KEPT);
    let beyond = limits.unauthenticated_max.saturating_sub(FILES_KEPT - FILES_OF_THE_STORE);
    let connections = limits.connections_max.min(room.saturating_sub(beyond).max(room / 2));
    let left = files_max.saturating_sub(connections).saturating_sub(FILES_OF_THE_STORE);
    (connections, limits.unauthenticated_max.min(left))
}

impl Throttle {
    pub(crate) fn new(limits: &Limits, files_max: usize) -> Self {
        let per_address_max = limits.connections_per_address_max;
        let (connections_max, unauthenticated_max) = places(limits, files_max);
        tracing::info!(connections_max, unauthenticated_max, files_max, "places for connections");
        let bounds = Bounds {
            connections_max,
            unauthenticated_max,
            per_address_max,
            loopback_counts: per_address_max != Limits::default().connections_per_address_max,
        };
        Self {
            started: Instant::now(),
            pool: Mutex::new(Pool::new(bounds)),
            failures: Mutex::new(AuthFailures::new(limits.auth_failures_per_minute_max.into())),
            senders: Mutex::default(),
            refused_count: AtomicUsize::new(0),
            tenants: Tenancy::default(),
            limits: limits.clone(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Lets a connection in; without an address, behind a proxy.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Permit, NoPlace> {
        let place = lock(&self.pool).enter(address)?;
        Ok(Permit { throttle: Arc::clone(self), place: Some(place) })
    }

    /// Takes note of a connection that is told why it is not let in; nothing if too many are.
    pub(crate) fn refuse(self: &Arc<Self>) -> Option<Refusal> {
        let refusal = Refusal(Arc::clone(self));
        let before = self.refused_count.fetch_add(1, Ordering::Relaxed);
        (before < REFUSED_MAX).then_some(refusal)
    }

    /// Whether a credential from this address is looked at.
    pub(crate) fn may_try(&self, address: IpAddr) -> bool {
        lock(&self.failures).may_try(address, self.now_ms())
    }

    /// A credential from this address was wrong.
    pub(crate) fn failed(&self, address: IpAddr) {
        lock(&self.failures).on_failure(address, self.now_ms());
    }

    /// How many connections proved who they are.
    pub(crate) fn authenticated_count(&self) -> usize {
        lock(&self.pool).authenticated_count()
    }

    /// How many did not yet.
    pub(crate) fn unauthenticated_count(&self) -> usize {
        lock(&self.pool).unauthenticated_count()
    }

    /// How many connections there are in all.
    pub(crate) fn open_count(&self) -> usize {
        let pool = lock(&self.pool);
        pool.authenticated_count() + pool.unauthenticated_count()
    }

    /// What is counted of a principal, the same for all of its links.
    pub(crate) fn sender(&self, principal: &Principal) -> Arc<Sender> {
        let now_ms = self.now_ms();
        let mut senders = lock(&self.senders);
        if senders.known.len() >= senders.sweep_at.max(SENDERS_MIN) {
            let in_use = |sender: &Arc<Sender>| {
                Arc::strong_count(sender) > 1 || !lock(&sender.rates).is_full(now_ms)
            };
            senders.known.retain(|_, sender| in_use(sender));
            senders.sweep_at = senders.known.len() * 2;
        }
        let limits = &self.limits;
        let fresh = || {
            let (messages, burst) = (limits.messages_per_second, limits.message_burst);
            let rates = Rates::new(messages, burst, limits.bytes_per_second, now_ms);
            let turns_max = limits.replays_per_principal_max.max(1);
            let log_turns = Arc::new(tokio::sync::Semaphore::new(turns_max));
            let desk = self.tenants.of(&principal.tenant);
            Arc::new(Sender { desk, rates: Mutex::new(rates), log_turns })
        };
        let key = (principal.tenant.clone(), Arc::clone(&principal.name));
        Arc::clone(senders.known.entry(key).or_insert_with(fresh))
    }

    /// Takes messages of together so many bytes; else how many milliseconds to wait.
    pub(crate) fn take(
        &self,
        sender: &Sender,
        message_count: u64,
        byte_len: u64,
    ) -> Result<(), u64> {
        self.take_at(sender, message_count, byte_len, Instant::now())
    }

    /// The same at a time that was looked at already.
    pub(crate) fn take_at(
        &self,
        sender: &Sender,
        message_count: u64,
        byte_len: u64,
        at: Instant,
    ) -> Result<(), u64> {
        let now_ms = u64::try_from((at - self.started).as_millis()).unwrap_or(u64::MAX);
        lock(&sender.rates).take(message_count, byte_len, now_ms)?;
        sender.desk.take(message_count, now_ms)
    }
}

/// A place of one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    throttle: Arc<Throttle>,
    place: Option<Place>,
}

impl Permit {
    /// Says whose it is that came through a proxy.
    pub(crate) fn locate(&mut self, address: IpAddr) -> Result<(), NoPlace> {
        let place = self.place.as_mut();
        place.map_or(Ok(()), |place| lock(&self.throttle.pool).locate(place, address))
    }

    /// The connection is somebody's: it counts in the other pool. Who takes over from another
    /// connection, which ends, gets its place.
    pub(crate) fn authenticate(&mut self, takes_over: bool) -> Result<(), NoPlace> {
        let place = self.place.as_mut();
        place.map_or(Ok(()), |place| lock(&self.throttle.pool).authenticate(place, takes_over))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            lock(&self.throttle.pool).leave(place);
        }
    }
}

/// One of those that are told why they are not let in.
#[derive(Debug)]
pub(crate) struct Refusal(Arc<Throttle>);

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.refused_count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use fieldgate_core::access::Identity;

    use super::*;

    fn principal(name: &str) -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            name: name.into(),
            identity: Identity::Key,
            role: None,
            grants: Vec::new(),
            expires: None,
            only: None,
            proof: None,
        }
    }

    #[test]
    fn all_links_of_a_principal_share_its_rate_and_a_new_link_has_no_new_burst() {
        let limits = Limits { messages_per_second: 0, message_burst: 3, ..Limits::default() };
        let throttle = Throttle::new(&limits, usize::MAX);
        let first = throttle.sender(&principal("a"));
        assert_eq!(throttle.take(&first, 2, 1), Ok(()));
        drop(first);
        let second = throttle.sender(&principal("a"));
        assert_eq!(throttle.take(&second, 1, 1), Ok(()));
        assert!(throttle.take(&second, 1, 1).is_err());
        assert_eq!(throttle.take(&throttle.sender(&principal("b")), 1, 1), Ok(()));
    }

    #[test]
    fn there_are_no_more_places_than_files() {
        let limits = Limits::default();
        assert_eq!(places(&limits, usize::MAX), (100_000, 2_000));
        assert_eq!(places(&limits, 102_128), (100_000, 2_000));
        assert_eq!(places(&limits, 20_000), (17_872, 2_000));
        assert_eq!(places(&limits, 1_024), (256, 640));
        assert_eq!(places(&limits, 100), (0, 0));
    }

    #[test]
    fn senders_that_are_at_rest_are_forgotten() {
        let throttle = Throttle::new(&Limits::default(), usize::MAX);
        let kept = throttle.sender(&principal("kept"));
        for number in 0..10_000 {
            throttle.sender(&principal(&number.to_string()));
        }
        assert!(lock(&throttle.senders).known.len() <= SENDERS_MIN);
        assert!(Arc::ptr_eq(&kept, &throttle.sender(&principal("kept"))));
    }

    #[test]
    fn so_many_are_told_and_no_more() {
        let throttle = Arc::new(Throttle::new(&Limits::default(), usize::MAX));
        let told: Vec<_> = (0..REFUSED_MAX + 10).filter_map(|_| throttle.refuse()).collect();
        assert_eq!(told.len(), REFUSED_MAX);
        drop(told);
        assert!(throttle.refuse().is_some());
    }
}
