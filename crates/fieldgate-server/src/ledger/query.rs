//! Reading the ledger: `GET /v1/drops`, newest first, a page at a time.
//!
//! `limit`, `cursor` (the `next` of the page before), `reason`, `who`, `from` and `to` (Unix ms).
//! A page looks at a bounded part of the ring, so it may hold fewer than its limit and still have a
//! `next`.

use std::{borrow::Cow, collections::BTreeMap, io};

use axum::{extract::Query, http::Uri};
use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{DropEntry, DropReason, Ledger};

/// Most entries of one answer.
const PAGE_LEN_MAX: usize = 1_000;
const PAGE_LEN: usize = 100;
/// Most files that one answer looks into.
const FILES_MAX: usize = 4;
/// How much of an unknown parameter's name is told.
const NAME_LEN_MAX: usize = 40;

/// What was dropped, a page of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DropsPage {
    /// The newest first.
    pub(crate) items: Vec<DropView>,
    /// How many were dropped since ever, by reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub(crate) totals: BTreeMap<DropReason, u64>,
    /// What `cursor` is to be for the next page; null on the last one.
    #[schema(required = true)]
    pub(crate) next: Option<String>,
}

/// What one receiver or device lost in one second for one reason.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DropView {
    /// Its number in the ledger.
    pub(crate) id: u64,
    /// When, in Unix ms.
    pub(crate) time: u64,
    /// Who did not get it, or whose it was.
    pub(crate) who: String,
    /// Why.
    #[schema(value_type = String, examples("overflow"))]
    pub(crate) reason: DropReason,
    /// How many.
    pub(crate) count: u64,
}

/// The parameters of [`DropsQuery`], for the description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described, not read: DropsQuery refuses with better words")]
pub(crate) struct DropsParams {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Only drops for this reason.
    reason: Option<String>,
    /// Only drops of this receiver or device.
    who: Option<String>,
    /// From this time on, in Unix ms.
    from: Option<u64>,
    /// Up to this time, in Unix ms.
    to: Option<u64>,
}

/// What of the ledger is asked for.
#[derive(Debug, Default)]
pub(crate) struct DropsQuery {
    limit: Option<usize>,
    before: Option<u64>,
    reason: Option<DropReason>,
    who: Option<String>,
    from: Option<u64>,
    to: Option<u64>,
}

impl DropsQuery {
    /// Reads it off a request's address.
    ///
    /// # Errors
    ///
    /// A parameter that there is not, that is given twice, or whose value it cannot have: with its
    /// name and what is allowed, never with the value.
    pub(crate) fn of(uri: &Uri) -> Result<Self, Fault> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) = pairs.map_err(|_| bad("the query is not written name=value&…"))?;
        let mut query = Self::default();
        for (name, value) in &pairs {
            let twice = match name.as_str() {
                "limit" => query.limit.replace(limit(value)?).is_some(),
                "cursor" => query.before.replace(cursor(value)?).is_some(),
                "reason" => query.reason.replace(reason(value)?).is_some(),
                "who" => query.who.replace(value.clone()).is_some(),
                "from" | "to" => {
                    let time = number(name, value, "a time in Unix ms")?;
                    let bound = if name == "from" { &mut query.from } else { &mut query.to };
                    bound.replace(time).is_some()
                }
                // Read by whoever asks who it is, and by `admin`.
                "token" | "tenant" => false,
                _ => {
                    let known = "this address takes limit, cursor, reason, who, from and to";
                    let name: String = name.chars().take(NAME_LEN_MAX).collect();
                    return Err(bad(format!("there is no parameter {name:?}: {known}")));
                }
            };
            if twice {
                return Err(bad(format!("{name} is given twice: give it once")));
            }
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

fn bad(message: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(Code::BadValue, message)
}

fn number(name: &str, value: &str, what: &str) -> Result<u64, Fault> {
    value.parse().map_err(|_| bad(format!("{name} is {what}: a whole number from 0 on")))
}

fn cursor(value: &str) -> Result<u64, Fault> {
    value.parse().map_err(|_| bad("cursor is the next of an earlier page"))
}

fn limit(value: &str) -> Result<usize, Fault> {
    let limit = value.parse().ok().filter(|limit| (1..=PAGE_LEN_MAX).contains(limit));
    limit.ok_or_else(|| bad(format!("limit is a whole number from 1 to {PAGE_LEN_MAX}")))
}

fn reason(value: &str) -> Result<DropReason, Fault> {
    DropReason::ALL.into_iter().find(|reason| reason.as_str() == value).ok_or_else(|| {
        let known = DropReason::ALL.map(DropReason::as_str).join(", ");
        bad(format!("reason is one of {known}"))
    })
}

impl Ledger {
    /// What `/v1/drops` answers. Reads files, off the runtime's threads.
    ///
    /// # Errors
    ///
    /// The ring cannot be read.
    pub(crate) async fn page(
        &self,
        tenant: &TenantId,
        query: DropsQuery,
    ) -> Result<DropsPage, Fault> {
        let (ledger, tenant) = (self.clone(), tenant.as_str().to_owned());
        let read = tokio::task::spawn_blocking(move || ledger.read(&tenant, &query)).await;
        read.map_err(io::Error::other).and_then(|page| page).map_err(|error| {
            tracing::error!(%error, "the ledger of drops cannot be read");
            Fault::new(Code::StorageUnavailable, "the ledger of drops cannot be read")
        })
    }

    pub(super) fn read(&self, tenant: &str, query: &DropsQuery) -> io::Result<DropsPage> {
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
                let DropEntry { time, who, reason, count, .. } = entry;
                items.push(DropView { id: number, time, who, reason, count });
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
        Ok(DropsPage { items, totals, next: next.map(|next| next.to_string()) })
    }
}
