//! What was refused, counted until its minute is over, then entered in the audit.
//!
//! Refusals of one principal or address, act and code are one entry a minute, and each tenant has a
//! bounded number of them, so that a flood fills neither the memory nor the log. What does not fit is
//! counted under one. A kill takes what was counted since the last entry was made.

use std::{
    collections::{BTreeMap, btree_map},
    sync::{Mutex, MutexGuard, PoisonError},
};

use fieldgate_core::{
    audit::Act,
    fault::Code,
    id::{TenantId, UnixMs},
};
use fieldgate_store::{
    Log, Record,
    audit::{Author, Note, Said},
};

use crate::fabric::Shared;

/// Most kinds of a tenant and minute that are told apart.
const KINDS_MAX: usize = 32;
const MINUTE_MS: u64 = 60_000;
/// Entries that stand together in the log: fewer than it takes at once, whatever they say.
const TOGETHER_MAX: usize = 256;

/// One refusal.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) tenant: TenantId,
    pub(crate) author: Author,
    pub(crate) act: Act,
    pub(crate) code: Code,
    /// What it was about, if that is known.
    pub(crate) target: String,
}

type Kind = (Author, Act, Code);

#[derive(Debug)]
struct Count {
    count: u64,
    /// Of the last one.
    target: String,
}

#[derive(Debug, Default)]
struct Counted {
    minute: u64,
    tenants: BTreeMap<TenantId, BTreeMap<Kind, Count>>,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Counted>);

impl Refusals {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refusal.
    pub(crate) fn count(&self, refusal: Refusal) {
        let Refusal { tenant, author, act, code, target } = refusal;
        self.counted().add(tenant, (author, act, code), Count { count: 1, target });
    }

    /// What is to be entered now: what was counted in minutes that are over, or all of it if it is
    /// the `last` time.
    fn take(&self, now: UnixMs, last: bool) -> Vec<Note> {
        let mut counted = self.counted();
        let minute = now.0 / MINUTE_MS;
        if minute == counted.minute && !last {
            return Vec::new();
        }
        counted.minute = minute;
        let mut notes = Vec::new();
        for (tenant, kinds) in std::mem::take(&mut counted.tenants) {
            for ((author, act, code), Count { count, target }) in kinds {
                let mut said = Said::done(act, &author, &target);
                (said.outcome, said.count) = (code.as_str().to_owned(), count);
                notes.push(Note { tenant: tenant.as_str().to_owned(), said });
            }
        }
        notes
    }
}

impl Counted {
    fn add(&mut self, tenant: TenantId, kind: Kind, new: Count) {
        let kinds = self.tenants.entry(tenant).or_default();
        let kind = if kinds.len() < KINDS_MAX || kinds.contains_key(&kind) {
            kind
        } else {
            let anybody = Author { name: "*".to_owned(), address: None };
            (anybody, Act::Others, Code::NotAllowed)
        };
        match kinds.entry(kind) {
            btree_map::Entry::Vacant(entry) => drop(entry.insert(new)),
            btree_map::Entry::Occupied(mut entry) => {
                let count = entry.get().count.saturating_add(new.count);
                entry.insert(Count { count, target: new.target });
            }
        }
    }
}

/// Enters what was counted. What the log does not take is lost with a line that says how much.
pub(crate) fn enter(shared: &Shared, now: UnixMs, last: bool) {
    let mut notes = shared.refusals.take(now, last).into_iter();
    loop {
        let together: Vec<Note> = notes.by_ref().take(TOGETHER_MAX).collect();
        if together.is_empty() {
            return;
        }
        let count: u64 = together.iter().map(|note| note.said.count).sum();
        let records = together.into_iter().map(|note| Record::Note(Box::new(note))).collect();
        if let Err(error) = shared.log.append(records, now) {
            tracing::error!(%error, count, "refusals are not in the audit");
        }
    }
}

#[cfg(test)]
mod tests {
    use fieldgate_core::audit::Trail;

    use super::*;
    use crate::{
        fabric,
        testing::{Gateway, until},
    };

    fn refusal(name: &str, act: Act) -> Refusal {
        let author = Author { name: name.to_owned(), address: None };
        let tenant = TenantId::default_tenant();
        Refusal { tenant, author, act, code: Code::NotAllowed, target: String::new() }
    }

    #[test]
    fn a_flood_is_a_bounded_number_of_entries_and_loses_no_count() {
        let refusals = Refusals::default();
        refusals.take(UnixMs(0), false);
        for number in 0..1_000 {
            refusals.count(refusal(&number.to_string(), Act::KeyAdd));
            refusals.count(refusal("eve", Act::SignIn));
        }
        assert!(refusals.take(UnixMs(MINUTE_MS - 1), false).is_empty(), "the minute is not over");
        let notes = refusals.take(UnixMs(MINUTE_MS), false);
        assert_eq!(notes.len(), KINDS_MAX + 1);
        assert_eq!(notes.iter().map(|note| note.said.count).sum::<u64>(), 2_000);
        let of = |name: &str| notes.iter().find(|note| note.said.author.name == name);
        assert_eq!(of("eve").map(|note| note.said.count), Some(1_000));
        assert_eq!(of("*").map(|note| note.said.act.as_str()), Some("others"));
        assert!(refusals.take(UnixMs(2 * MINUTE_MS), true).is_empty());
    }

    #[test]
    fn the_last_time_nothing_is_kept_back() {
        let refusals = Refusals::default();
        refusals.take(UnixMs(0), false);
        refusals.count(Refusal { target: "lamp".to_owned(), ..refusal("eve", Act::DeviceRemove) });
        let notes = refusals.take(UnixMs(0), true);
        let said: Vec<_> =
            notes.iter().map(|note| (&*note.said.target, &*note.said.outcome)).collect();
        assert_eq!(said, [("lamp", "not_allowed")]);
    }

    #[tokio::test]
    async fn what_was_refused_is_entered_however_many_tenants_there_are() {
        let gateway = Gateway::start(&[], 1).await;
        let shared = gateway.shared();
        // Of more kinds than the log takes at once; the one that is looked at is among the last.
        let tenants: Vec<TenantId> = (0..130).map(|n| format!("a{n}").parse().unwrap()).collect();
        let default = TenantId::default_tenant();
        for tenant in tenants.iter().chain([&default]) {
            for kind in 0..KINDS_MAX {
                let tenant = tenant.clone();
                shared.refuse(Refusal { tenant, ..refusal(&kind.to_string(), Act::Authenticate) });
            }
        }
        enter(shared, fabric::now(), true);
        let entered = || Trail::ALL.into_iter().map(|trail| shared.state.trail(&default, trail));
        until("the refusals", || entered().map(|t| t.len()).sum::<usize>() >= KINDS_MAX).await;
        gateway.running.drain().await;
    }
}
