//! What was dropped, for whom and why: counters for ever, and the newest entries.
//!
//! Entries of one second, receiver and reason are one, so that a flood cannot fill the ring.
//! Source: `guarantees.md` 7.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{extract::Query, http::Uri};
use fieldgate_core::{
    fault::{Code, Fault},
    id::{TenantId, UnixMs},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Value, json};

/// Why something was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
}

impl DropReason {
    /// Every reason.
    pub(crate) const ALL: [Self; 4] =
        [Self::Conflated, Self::Overflow, Self::Expired, Self::RetainedFull];

    /// The word in the ledger and in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Conflated => "conflated",
            Self::Overflow => "overflow",
            Self::Expired => "expired",
            Self::RetainedFull => "retained_full",
        }
    }
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DropEntry {
    /// The second it happened in, in Unix ms.
    pub(crate) time: u64,
    /// Who did not get it.
    pub(crate) who: String,
    /// Why.
    pub(crate) reason: DropReason,
    /// How many in that second.
    pub(crate) count: u64,
    #[serde(skip)]
    tenant: TenantId,
}

/// Most entries of one answer.
const PAGE_LEN_MAX: usize = 1_000;

/// What of the ledger is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropsQuery {
    /// Most entries; 1,000 at the most.
    limit: Option<usize>,
    /// Read by whoever asks who it is.
    #[serde(rename = "token")]
    _token: Option<IgnoredAny>,
    /// Read by `admin`.
    #[serde(rename = "tenant")]
    _tenant: Option<IgnoredAny>,
}

impl DropsQuery {
    /// Reads it off a request's address.
    ///
    /// # Errors
    ///
    /// A key that there is not, or a value that it cannot have. Never tells the value.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Fault> {
        let Query(query) = Query::try_from_uri(uri)
            .map_err(|error| Fault::new(Code::BadValue, error.body_text()))?;
        Ok(query)
    }
}

const ENTRIES_MAX: usize = 65_536;

#[derive(Debug, Default)]
struct Inner {
    totals: BTreeMap<DropReason, u64>,
    entries: VecDeque<DropEntry>,
}

/// The ledger of this process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger(Arc<Mutex<Inner>>);

impl Ledger {
    /// Writes down that `who` did not get `count` messages.
    pub(crate) fn record(
        &self,
        tenant: &TenantId,
        who: &str,
        reason: DropReason,
        count: u64,
        now: UnixMs,
    ) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *inner.totals.entry(reason).or_default() += count;
        let time = now.0 / 1_000 * 1_000;
        let mut newest = inner.entries.iter_mut().rev().take_while(|entry| entry.time == time);
        let same = |e: &&mut DropEntry| e.who == who && e.reason == reason && e.tenant == *tenant;
        if let Some(entry) = newest.find(same) {
            entry.count += count;
            return;
        }
        if inner.entries.len() >= ENTRIES_MAX {
            inner.entries.pop_front();
        }
        let (who, tenant) = (who.to_owned(), tenant.clone());
        inner.entries.push_back(DropEntry { time, who, reason, count, tenant });
    }

    /// What `/v1/drops` answers.
    pub(crate) fn page(&self, tenant: &TenantId, query: &DropsQuery) -> Value {
        let limit = query.limit.unwrap_or(PAGE_LEN_MAX).min(PAGE_LEN_MAX);
        json!({"items": self.newest(tenant, limit), "totals": self.totals(), "next": null})
    }

    /// The newest entries of a tenant, newest first.
    fn newest(&self, tenant: &TenantId, limit: usize) -> Vec<DropEntry> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = inner.entries.iter().rev().filter(|entry| entry.tenant == *tenant);
        of_tenant.take(limit).cloned().collect()
    }

    /// How many were dropped since the start, by reason.
    #[must_use]
    pub(crate) fn totals(&self) -> BTreeMap<DropReason, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).totals.clone()
    }
}
