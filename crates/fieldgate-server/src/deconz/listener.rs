//! Who hears of changes: connections of the push socket, and how far each of their clients has read.

use std::{collections::BTreeMap, net::IpAddr};

use crate::present::LinkRef;

/// A connection of the push socket.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) link: LinkRef,
    /// The key that it is let in by; none where it is let in for its address alone.
    pub(super) key: Option<String>,
    pub(super) address: IpAddr,
}

/// Those that there are.
#[derive(Debug, Default)]
pub(super) struct Listeners(BTreeMap<(usize, u64), Listener>);

const fn place(link: LinkRef) -> (usize, u64) {
    (link.worker, link.link)
}

impl Listeners {
    pub(super) fn enter(&mut self, listener: Listener) {
        self.0.insert(place(listener.link), listener);
    }

    pub(super) fn leave(&mut self, link: LinkRef) -> Option<Listener> {
        self.0.remove(&place(link))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Listener> {
        self.0.values()
    }
}
