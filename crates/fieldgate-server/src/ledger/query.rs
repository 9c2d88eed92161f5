//! Reading the ledger: `GET /v1/drops`, newest first, a page at a time.
//!
//! `limit`, `before` (the `next` of the page before), `reason`, `who`, `from` and `to` (Unix ms).
//! A page looks at a bounded part of the ring, so it may hold fewer than its limit and still have a
//! `next`.

use std::io;

use axum::{extract::Query, http::Uri};
use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{DropEntry, DropReason, Ledger};

/// Most entries of one answer.
const PAGE_LEN_MAX: usize = 1_000;
const PAGE_LEN: usize = 100;
/// Most files that one answer looks into.
const FILES_MAX: usize = 4;

/// What of the ledger is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropsQuery {
    limit: Option<usize>,
    before: Option<u64>,
    reason: Option<DropReason>,
    who: Option<String>,
    from: Option<u64>,
    to: Option<u64>,
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
        let read = Query::<Self>::try_from_uri(uri);
        let Query(query) = read.map_err(|error| Fault::new(Code::BadValue, error.body_text()))?;
        if query.limit.is_some_and(|limit| limit == 0 || limit > PAGE_LEN_MAX) {
            return Err(Fault::new(Code::BadValue, format!("limit is 1 to {PAGE_LEN_MAX}")));
        }
        Ok(query)
    }

    fn selects(&self, tenant: &str, entry: &DropEntry) -> bool {
        entry.tenant == tenant
            && self.reason.is_none_or(|reason| reason == entry.reason)
            && self.who.as_ref().is_none_or(|who| *who == entry.who)
            && self.from.is_none_or(|from| from <= entry.time)
            && self.to.is_none_or(|to| entry.time <= to)
    }
}

impl Ledger {
    /// What `/v1/drops` answers. Reads files, off the runtime's threads.
    ///
    /// # Errors
    ///
    /// The ring cannot be read.
    pub(crate) async fn page(&self, tenant: &TenantId, query: DropsQuery) -> Result<Value, Fault> {
        let (ledger, tenant) = (self.clone(), tenant.as_str().to_owned());
        let read = tokio::task::spawn_blocking(move || ledger.read(&tenant, &query)).await;
        read.map_err(io::Error::other).and_then(|page| page).map_err(|error| {
            tracing::error!(%error, "the ledger of drops cannot be read");
            Fault::new(Code::StorageUnavailable, "the ledger of drops cannot be read")
        })
    }

    pub(super) fn read(&self, tenant: &str, query: &DropsQuery) -> io::Result<Value> {
        let limit = query.limit.unwrap_or(PAGE_LEN);
        // Held while the files are read: what waits would else be seen twice, or not at all.
        let ring = self.ring();
        let (waiting, totals) = {
            let pending = self.pending();
            (pending.waiting(), pending.totals().get(tenant).cloned().unwrap_or_default())
        };
        let before = query.before.unwrap_or(u64::MAX);
        let mut items = Vec::new();
        let mut take = |number: u64, entry: DropEntry| {
            if number < before && query.selects(tenant, &entry) {
                items.push(json!({
                    "id": number, "time": entry.time, "who": entry.who, "reason": entry.reason,
                    "count": entry.count,
                }));
            }
            items.len() < limit
        };
        let numbered: Vec<_> = (ring.next()..).zip(waiting).collect();
        let full = numbered
            .into_iter()
            .rev()
            .find_map(|(number, entry)| (!take(number, entry)).then_some(number));
        let next = match full {
            Some(number) => Some(number),
            None => ring.read(before, FILES_MAX, take)?,
        };
        Ok(json!({"items": items, "totals": totals, "next": next}))
    }
}
