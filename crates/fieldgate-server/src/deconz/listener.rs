//! Who hears of changes, and how far the clients of an address have read.
//!
//! A client that opens the push socket does not say which one it is: of one address there may be several.
//! So one that comes is told everything behind the least that any of them may have read: what it heard
//! already it hears again. Bounded by the addresses that keys were used from.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use fieldgate_core::id::Seq;

use crate::present::LinkRef;

/// How long somebody who read everything by a request may take to listen.
const READ_KEPT: Duration = Duration::from_secs(600);
/// How long somebody who listened is awaited.
const LEFT_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Most of an address that are told apart; the oldest stands for those before it.
const CURSORS_MAX: usize = 16;
/// Most addresses.
const ADDRESSES_MAX: usize = 65_536;

/// A connection of the push socket.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) link: LinkRef,
    /// The key that it is let in by; none where it is let in for its address alone.
    pub(super) key: Option<String>,
    pub(super) address: IpAddr,
    /// It has everything up to here.
    pub(super) read: Seq,
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

    /// A listener has read everything up to here.
    pub(super) fn has_read(&mut self, link: LinkRef, read: Seq) {
        if let Some(listener) = self.0.get_mut(&place(link)) {
            listener.read = listener.read.max(read);
        }
    }

    /// Up to where everybody that listens from an address has read: one that comes may have been one of
    /// them, whose end is not known here yet.
    pub(super) fn read_at(&self, address: IpAddr) -> Option<Seq> {
        let here = self.0.values().filter(|listener| listener.address == address);
        here.map(|listener| listener.read).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Listener> {
        self.0.values()
    }
}

/// How far somebody at an address has read who does not listen now.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    read: Seq,
    ends: Instant,
}

/// How far clients have read, by their addresses, in this life of the gateway.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    read: HashMap<IpAddr, Vec<Cursor>>,
    /// From where clients may come that listened before this life, and until when.
    before: Option<(HashSet<IpAddr>, Instant)>,
}

impl Cursors {
    /// From these addresses clients listened before this life of the gateway. Said once.
    pub(super) fn set_before(&mut self, addresses: HashSet<IpAddr>, now: Instant) {
        self.before.get_or_insert((addresses, now + LEFT_KEPT));
    }

    /// Whether a client from this address may have listened before this life alone.
    pub(super) fn may_be_of_before(&mut self, address: IpAddr, now: Instant) -> bool {
        self.before.take_if(|(_, ends)| now >= *ends);
        self.before.as_ref().is_some_and(|(before, _)| before.contains(&address.to_canonical()))
    }

    /// Somebody read everything by a request.
    pub(super) fn on_read(&mut self, address: IpAddr, read: Seq, now: Instant) {
        self.keep(address, Cursor { read, ends: now + READ_KEPT }, now);
    }

    /// Somebody listens no more.
    pub(super) fn on_left(&mut self, address: IpAddr, read: Seq, now: Instant) {
        self.keep(address, Cursor { read, ends: now + LEFT_KEPT }, now);
    }

    /// Up to where everybody at an address has read; nothing if nobody is known.
    pub(super) fn of(&self, address: IpAddr, now: Instant) -> Option<Seq> {
        let cursors = self.read.get(&address)?.iter().filter(|cursor| now < cursor.ends);
        cursors.map(|cursor| cursor.read).min()
    }

    fn keep(&mut self, address: IpAddr, cursor: Cursor, now: Instant) {
        if self.read.len() >= ADDRESSES_MAX {
            self.read.retain(|_, cursors| cursors.iter().any(|cursor| now < cursor.ends));
        }
        if self.read.len() >= ADDRESSES_MAX {
            self.read.clear();
        }
        let cursors = self.read.entry(address).or_default();
        cursors.retain(|known| now < known.ends && known.read != cursor.read);
        if cursors.len() >= CURSORS_MAX {
            // The one that read least stays.
            let newest = cursors.iter().enumerate().max_by_key(|(_, known)| known.read);
            if let Some(at) = newest.map(|(at, _)| at) {
                cursors.swap_remove(at);
            }
        }
        cursors.push(cursor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 7));

    #[test]
    fn who_listens_from_an_address_counts_by_what_it_has_read() {
        let mut listeners = Listeners::default();
        assert_eq!(listeners.read_at(HOME), None);
        for (link, read) in [(1, 70), (2, 30)] {
            let link = LinkRef { worker: 0, link };
            listeners.enter(Listener { link, key: None, address: HOME, read: Seq(read) });
        }
        assert_eq!(listeners.read_at(HOME), Some(Seq(30)));
        assert_eq!(listeners.read_at([10, 0, 0, 1].into()), None);
        listeners.has_read(LinkRef { worker: 0, link: 2 }, Seq(90));
        assert_eq!(listeners.read_at(HOME), Some(Seq(70)));
    }

    #[test]
    fn of_several_clients_at_an_address_the_one_that_read_least_counts() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        assert_eq!(cursors.of(HOME, now), None);
        cursors.on_read(HOME, Seq(100), now);
        cursors.on_left(HOME, Seq(40), now);
        cursors.on_read(HOME, Seq(300), now);
        assert_eq!(cursors.of(HOME, now), Some(Seq(40)));
        assert_eq!(cursors.of(HOME, now + LEFT_KEPT), None);
    }

    #[test]
    fn who_may_have_listened_before_is_awaited_for_a_day_whatever_others_read() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        assert!(!cursors.may_be_of_before(HOME, now));
        cursors.set_before(HashSet::from([HOME]), now);
        // A mirror that begins anew is no other life.
        cursors.set_before(HashSet::new(), now);
        cursors.on_read(HOME, Seq(100), now);
        assert!(cursors.may_be_of_before(HOME, now + LEFT_KEPT / 2));
        assert!(cursors.may_be_of_before("::ffff:192.168.1.7".parse().unwrap(), now));
        assert!(!cursors.may_be_of_before([192, 168, 1, 8].into(), now));
        assert!(!cursors.may_be_of_before(HOME, now + LEFT_KEPT));
    }

    #[test]
    fn who_read_and_never_listened_is_not_awaited_long() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        cursors.on_read(HOME, Seq(10), now);
        let later = now + READ_KEPT;
        assert_eq!(cursors.of(HOME, later), None);
        cursors.on_read(HOME, Seq(500), later);
        assert_eq!(cursors.of(HOME, later), Some(Seq(500)));
    }

    #[test]
    fn many_cursors_keep_the_least() {
        let (mut cursors, now) = (Cursors::default(), Instant::now());
        for read in 1..=100 {
            cursors.on_left(HOME, Seq(read), now);
        }
        assert_eq!(cursors.of(HOME, now), Some(Seq(1)));
        assert!(cursors.read[&HOME].len() <= CURSORS_MAX);
    }
}
