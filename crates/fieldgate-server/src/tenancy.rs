//! What each tenant takes of the gateway: its messages counted, and its own limits kept.
//!
//! Locks are held for a look-up. Bounded by the tenants that there are.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use fieldgate_core::{id::TenantId, rate::Bucket};
use fieldgate_store::registry::TenantLimits;

/// What one tenant takes.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Messages accepted since the start.
    accepted: AtomicU64,
    /// Most connections; [`u64::MAX`]: as many as there are places.
    connections_max: AtomicU64,
    /// Messages a second of all its principals; [`u64::MAX`]: no limit.
    rate: AtomicU64,
    bucket: Mutex<Option<Bucket>>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            connections_max: AtomicU64::new(u64::MAX),
            rate: AtomicU64::new(u64::MAX),
            bucket: Mutex::default(),
        }
    }
}

impl Desk {
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn connections_max(&self) -> u64 {
        self.connections_max.load(Ordering::Relaxed)
    }

    fn set(&self, limits: &TenantLimits) {
        let max = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        self.connections_max.store(max(limits.connections_max), Ordering::Relaxed);
        let rate = max(limits.messages_per_second);
        if self.rate.swap(rate, Ordering::Relaxed) != rate {
            *self.bucket.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Takes messages; else how many milliseconds to wait. A second's worth may come at once.
    pub(crate) fn take(&self, message_count: u64, now_ms: u64) -> Result<(), u64> {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == u64::MAX {
            return Ok(());
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = bucket.get_or_insert_with(|| Bucket::new(rate, rate, now_ms));
        match bucket.wait_ms(message_count, now_ms) {
            // What a full bucket of nothing gives is nothing.
            0 if rate > 0 => {
                bucket.take(message_count, now_ms);
                Ok(())
            }
            0 => Err(u64::MAX),
            wait_ms => Err(wait_ms),
        }
    }
}

/// Those of all tenants.
#[derive(Debug, Default)]
pub(crate) struct Tenancy(RwLock<HashMap<TenantId, Arc<Desk>>>);

impl Tenancy {
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<Desk> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        known.unwrap_or_else(|| {
            let mut desks = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(desks.entry(tenant.clone()).or_default())
        })
    }

    /// Counts messages that were accepted.
    pub(crate) fn accepted(&self, tenant: &TenantId, count: u64) {
        self.of(tenant).accepted.fetch_add(count, Ordering::Relaxed);
    }

    /// What a tenant may take from now on.
    pub(crate) fn set(&self, tenant: &TenantId, limits: &TenantLimits) {
        self.of(tenant).set(limits);
    }

    /// A tenant is gone.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_sends_so_much_a_second_and_more_once_it_may() {
        let (tenancy, acme) = (Tenancy::default(), "acme".parse().unwrap());
        let desk = tenancy.of(&acme);
        assert_eq!(desk.take(1_000_000, 0), Ok(()));
        let limits = |rate| TenantLimits { messages_per_second: rate, ..TenantLimits::default() };
        tenancy.set(&acme, &limits(Some(10)));
        assert_eq!((desk.take(10, 0), desk.take(1, 0)), (Ok(()), Err(100)));
        assert_eq!(desk.take(1, 100), Ok(()));
        // The same limit again is no new burst.
        tenancy.set(&acme, &limits(Some(10)));
        assert_eq!(desk.take(1, 100), Err(100));
        tenancy.set(&acme, &limits(Some(0)));
        assert_eq!(desk.take(1, 100), Err(u64::MAX));
        tenancy.set(&acme, &limits(None));
        assert_eq!(desk.take(1_000_000, 100), Ok(()));
    }
}
