//! Who is connected: the links of each principal, oldest first, across all workers.
//!
//! A device is served by one link at a time. Who comes later gets a sign for each link before it,
//! which is given when that link's worker has ended it. Invariant: a link that is not in here is
//! neither read nor written to on behalf of its principal.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fieldgate_core::{
    access::{Identity, Principal},
    id::TenantId,
};
use tokio_util::sync::CancellationToken;

/// One connection: its worker and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkRef {
    pub(crate) worker: usize,
    pub(crate) link: u64,
}

/// A link whose place another one takes.
#[derive(Debug)]
pub(crate) struct Predecessor {
    pub(crate) link: LinkRef,
    /// Given once its worker has ended it.
    pub(crate) ended: CancellationToken,
}

#[derive(Debug)]
struct Place {
    link: LinkRef,
    /// Whether it takes commands and, for a device, is the only one that does.
    serves: bool,
    /// Whether it is a connection of its tenant; of two namespaces of one connection the first is.
    counts: bool,
    /// Made when somebody waits for it.
    ended: Option<CancellationToken>,
}

type Places = HashMap<(TenantId, Arc<str>), Vec<Place>>;

/// How many links there are of each kind of principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) devices: usize,
    pub(crate) keys: usize,
    pub(crate) users: usize,
    pub(crate) sources: usize,
}

impl Counts {
    const fn of(&mut self, identity: &Identity) -> &mut usize {
        match identity {
            Identity::Device { .. } => &mut self.devices,
            Identity::Key => &mut self.keys,
            Identity::User => &mut self.users,
            Identity::Source { .. } => &mut self.sources,
        }
    }
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Present {
    places: Mutex<Places>,
    counts: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    all: Counts,
    /// How many connections each tenant has.
    tenants: HashMap<TenantId, usize>,
}

impl Counted {
    fn enter(&mut self, principal: &Principal, place: &Place) {
        *self.all.of(&principal.identity) += 1;
        if !place.counts {
            return;
        }
        *self.tenants.entry(principal.tenant.clone()).or_default() += 1;
    }

    fn leave(&mut self, principal: &Principal, place: &Place) {
        *self.all.of(&principal.identity) -= 1;
        if !place.counts {
            return;
        }
        if let Some(count) = self.tenants.get_mut(&principal.tenant) {
            *count -= 1;
            if *count == 0 {
                self.tenants.remove(&principal.tenant);
            }
        }
    }
}

impl Present {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counted().all
    }

    /// How many connections a tenant has.
    pub(crate) fn count_of(&self, tenant: &TenantId) -> usize {
        self.counted().tenants.get(tenant).copied().unwrap_or_default()
    }

    /// All links of a tenant.
    pub(crate) fn of_tenant(&self, tenant: &TenantId) -> Vec<LinkRef> {
        let places = self.places();
        let those = places.iter().filter(|((of, _), _)| of == tenant);
        those.flat_map(|(_, places)| places.iter().map(|place| place.link)).collect()
    }

    /// Enters a link; for a device, returns the links before it, which have to end.
    pub(crate) fn enter(&self, principal: &Principal, link: LinkRef) -> Vec<Predecessor> {
        let mut places = self.places();
        let key = (principal.tenant.clone(), Arc::clone(&principal.name));
        let places = places.entry(key).or_default();
        let predecessor = |place: &mut Place| Predecessor {
            link: place.link,
            ended: place.ended.get_or_insert_with(CancellationToken::new).clone(),
        };
        let predecessors = match principal.identity {
            Identity::Device { .. } => {
                places.iter_mut().filter(|place| place.serves).map(predecessor).collect()
            }
            Identity::Key | Identity::User | Identity::Source { .. } => Vec::new(),
        };
        let place = Place { link, serves: true, counts: true, ended: None };
        self.counted().enter(principal, &place);
        places.push(place);
        predecessors
    }

    /// Enters a stream: it takes nobody's place, and nobody takes its own. It is one more connection of
    /// its tenant, unless it shares one that is.
    pub(crate) fn enter_stream(&self, principal: &Principal, link: LinkRef, is_beside: bool) {
        let key = (principal.tenant.clone(), Arc::clone(&principal.name));
        let place = Place { link, serves: false, counts: !is_beside, ended: None };
        let mut places = self.places();
        self.counted().enter(principal, &place);
        places.entry(key).or_default().push(place);
    }

    /// Takes a link out, and tells those who waited for it.
    pub(crate) fn leave(&self, principal: &Principal, link: LinkRef) {
        let key = (principal.tenant.clone(), Arc::clone(&principal.name));
        let mut places = self.places();
        let Some(links) = places.get_mut(&key) else { return };
        if let Some(at) = links.iter().position(|place| place.link == link) {
            let place = links.remove(at);
            self.counted().leave(principal, &place);
            if let Some(ended) = place.ended {
                ended.cancel();
            }
        }
        if links.is_empty() {
            places.remove(&key);
        }
    }

    /// The links of a principal, oldest first.
    pub(crate) fn of(&self, tenant: &TenantId, name: &Arc<str>) -> Vec<LinkRef> {
        self.those(tenant, name, |_| true)
    }

    /// Those of them that take commands, and what is said of commands.
    pub(crate) fn serving(&self, tenant: &TenantId, name: &Arc<str>) -> Vec<LinkRef> {
        self.those(tenant, name, |place| place.serves)
    }

    fn those(
        &self,
        tenant: &TenantId,
        name: &Arc<str>,
        wanted: impl Fn(&Place) -> bool,
    ) -> Vec<LinkRef> {
        let places = self.places();
        let links = places.get(&(tenant.clone(), Arc::clone(name)));
        let links = links.map(Vec::as_slice).unwrap_or_default();
        links.iter().filter(|place| wanted(place)).map(|place| place.link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(identity: Identity) -> Principal {
        Principal {
            tenant: TenantId::default_tenant(),
            name: "d".into(),
            identity,
            role: None,
            grants: Vec::new(),
            expires: None,
            only: None,
            proof: Some(0),
        }
    }

    const fn at(worker: usize, link: u64) -> LinkRef {
        LinkRef { worker, link }
    }

    #[test]
    fn who_comes_later_hears_of_the_end_of_each_before_it() {
        let present = Present::default();
        let device = principal(Identity::Device { id: "d".parse().unwrap(), gateway_for: None });
        assert!(present.enter(&device, at(0, 1)).is_empty());
        let second = present.enter(&device, at(1, 1));
        let third = present.enter(&device, at(0, 2));
        assert_eq!((second.len(), third.len()), (1, 2));
        assert!(!second[0].ended.is_cancelled());
        present.leave(&device, at(0, 1));
        assert!(second[0].ended.is_cancelled() && third[0].ended.is_cancelled());
        assert!(!third[1].ended.is_cancelled());
        assert_eq!(present.of(&device.tenant, &device.name), [at(1, 1), at(0, 2)]);
        present.leave(&device, at(1, 1));
        present.leave(&device, at(0, 2));
        assert!(third[1].ended.is_cancelled() && present.places().is_empty());
        assert_eq!(present.counts(), Counts::default());
    }

    #[test]
    fn a_stream_of_a_device_takes_no_place_and_keeps_its_own() {
        let present = Present::default();
        let device = principal(Identity::Device { id: "d".parse().unwrap(), gateway_for: None });
        assert!(present.enter(&device, at(0, 1)).is_empty());
        present.enter_stream(&device, at(0, 2), false);
        let before = present.enter(&device, at(0, 3));
        assert_eq!(before.iter().map(|one| one.link).collect::<Vec<_>>(), [at(0, 1)]);
        assert_eq!(present.serving(&device.tenant, &device.name), [at(0, 1), at(0, 3)]);
        assert_eq!(present.of(&device.tenant, &device.name).len(), 3);
        (1..=3).for_each(|link| present.leave(&device, at(0, link)));
        assert_eq!(present.counts(), Counts::default());
    }

    #[test]
    fn two_namespaces_of_a_tenant_are_one_connection_whichever_leaves_first() {
        let present = Present::default();
        let key = principal(Identity::Key);
        for (first, last) in [(at(0, 1), at(0, 2)), (at(0, 2), at(0, 1))] {
            present.enter_stream(&key, at(0, 1), false);
            present.enter_stream(&key, at(0, 2), true);
            assert_eq!((present.count_of(&key.tenant), present.counts().keys), (1, 2));
            present.leave(&key, first);
            present.leave(&key, last);
            assert_eq!((present.count_of(&key.tenant), present.counts()), (0, Counts::default()));
        }
    }

    #[test]
    fn programs_may_have_many_connections() {
        let present = Present::default();
        let key = principal(Identity::Key);
        assert!((0..3).all(|link| present.enter(&key, at(0, link)).is_empty()));
        assert_eq!(present.of(&key.tenant, &key.name).len(), 3);
        assert_eq!((present.count_of(&key.tenant), present.of_tenant(&key.tenant).len()), (3, 3));
        let other = "acme".parse().unwrap();
        assert_eq!((present.count_of(&other), present.of_tenant(&other).len()), (0, 0));
        assert_eq!(present.counts(), Counts { keys: 3, ..Counts::default() });
    }
}
