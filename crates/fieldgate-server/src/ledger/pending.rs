//! Drops that are not on disk yet: one entry for each second, receiver and reason.
//!
//! Bounded: a second has at most [`SECOND_LEN_MAX`] entries, what comes beyond counts under `*`; and
//! while the disk takes nothing the oldest entries go. The counters lose nothing.

use std::collections::{HashMap, VecDeque};

use super::{DropEntry, DropReason, Totals, add};

/// Most entries of one second.
pub(super) const SECOND_LEN_MAX: usize = 1_024;
/// Most entries that wait for the disk.
const WAITING_MAX: usize = 16_384;
/// Who, when a second has no entry left for them.
const OTHERS: &str = "*";

/// Entry numbers by receiver, then reason.
type Index = HashMap<Box<str>, [Option<u64>; DropReason::ALL.len()]>;

#[derive(Debug, Default)]
pub(super) struct Pending {
    totals: Totals,
    entries: VecDeque<DropEntry>,
    /// How many entries there were before the first of these.
    before: u64,
    second: u64,
    second_len: usize,
    index: HashMap<Box<str>, Index>,
}

impl Pending {
    pub(super) fn new(totals: Totals) -> Self {
        Self { totals, ..Self::default() }
    }

    pub(super) const fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) fn record(
        &mut self,
        tenant: &str,
        who: &str,
        reason: DropReason,
        count: u64,
        second: u64,
    ) {
        if second != self.second {
            self.second = second;
            self.second_len = 0;
            self.index.clear();
        }
        let known = self.find(tenant, who, reason);
        let (who, known) = match known {
            None if self.second_len >= SECOND_LEN_MAX => {
                (OTHERS, self.find(tenant, OTHERS, reason))
            }
            known => (who, known),
        };
        if let Some(entry) = known.and_then(|place| self.entries.get_mut(place)) {
            entry.count += count;
            let of = self.totals.get_mut(tenant).and_then(|of| of.get_mut(&reason));
            if let Some(of) = of {
                *of += count;
            }
            return;
        }
        let (tenant, who) = (tenant.to_owned(), who.to_owned());
        self.push(DropEntry { time: second, tenant, who, reason, count });
    }

    /// The place of this second's entry, unless it went.
    fn find(&self, tenant: &str, who: &str, reason: DropReason) -> Option<usize> {
        let number = self.index.get(tenant)?.get(who)?.get(reason as usize).copied()??;
        let place = usize::try_from(number.checked_sub(self.before)?).ok()?;
        (place < self.entries.len()).then_some(place)
    }

    fn push(&mut self, entry: DropEntry) {
        if self.entries.len() >= WAITING_MAX {
            self.entries.pop_front();
            self.before += 1;
        }
        let number = self.before + self.entries.len() as u64;
        let of = self.index.entry(entry.tenant.as_str().into()).or_default();
        let places = of.entry(entry.who.as_str().into()).or_default();
        if let Some(place) = places.get_mut(entry.reason as usize) {
            *place = Some(number);
        }
        self.second_len += 1;
        add(&mut self.totals, &entry);
        self.entries.push_back(entry);
    }

    /// What waits, oldest first.
    pub(super) fn waiting(&self) -> Vec<DropEntry> {
        self.entries.iter().cloned().collect()
    }

    /// The entries of full seconds, or all, and the number of the first.
    pub(super) fn ready(&self, second: u64, all: bool) -> (Vec<DropEntry>, u64) {
        let is_full = |entry: &&DropEntry| all || entry.time != second;
        let ready: Vec<_> = self.entries.iter().take_while(is_full).cloned().collect();
        (ready, self.before)
    }

    /// Everything before number `end` is on disk.
    pub(super) fn written(&mut self, end: u64) {
        while self.before < end && self.entries.pop_front().is_some() {
            self.before += 1;
        }
    }
}
