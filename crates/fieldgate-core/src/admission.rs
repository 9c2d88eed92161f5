//! Admission: how many connections there may be, in which stage, from where; and who fails too often.
//!
//! Pure; time is an argument, in milliseconds of any clock that only rises. An address is an IPv4
//! address or an IPv6 /64. Absent: the queue of those who wait for a place. Invariant: every place
//! counted belongs to one connection that was let in and has not left.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use crate::rate::Bucket;

/// Most addresses whose failures are remembered at once.
pub const FAILING_ADDRESSES_MAX: usize = 65_536;

/// The bounds (`limits.*` in `cli.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// `connections_max`: authenticated connections.
    pub connections_max: usize,
    /// `unauthenticated_max`: connections before that.
    pub unauthenticated_max: usize,
    /// `connections_per_address_max`; 0 is no bound.
    pub per_address_max: usize,
    /// Whether loopback counts as an address: only where the operator set the bound.
    pub loopback_counts: bool,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Too many from its address: HTTP 429.
    #[error("too many connections from this address")]
    Address,
    /// Too many that did not authenticate yet: HTTP 503 with `Retry-After`.
    #[error("too many connections wait for authentication")]
    Unauthenticated,
    /// Too many altogether: close 4503.
    #[error("no place for another connection")]
    Connections,
}

/// What one connection occupies. Given back by [`Pool::leave`], once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a place that is not given back is lost"]
pub struct Place {
    address: Option<Source>,
    authenticated: bool,
}

/// All places.
#[derive(Debug)]
pub struct Pool {
    bounds: Bounds,
    unauthenticated_count: usize,
    authenticated_count: usize,
    by_address: HashMap<Source, usize>,
}

/// An address as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source(IpAddr);

impl Source {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        })
    }
}

impl Pool {
    /// Makes an empty pool.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            unauthenticated_count: 0,
            authenticated_count: 0,
            by_address: HashMap::new(),
        }
    }

    /// Lets a connection in that has not proved who it is. Without an address it may get one later.
    ///
    /// # Errors
    ///
    /// Which bound it would pass.
    pub fn enter(&mut self, address: Option<IpAddr>) -> Result<Place, NoPlace> {
        let source = address.and_then(|address| self.source_of(address));
        self.check_source(source)?;
        if self.unauthenticated_count >= self.bounds.unauthenticated_max {
            return Err(NoPlace::Unauthenticated);
        }
        self.count_source(source);
        self.unauthenticated_count += 1;
        Ok(Place { address: source, authenticated: false })
    }

    /// Says whose a place is that was taken without an address: behind a proxy.
    ///
    /// # Errors
    ///
    /// [`NoPlace::Address`]; it stays without one.
    pub fn locate(&mut self, place: &mut Place, address: IpAddr) -> Result<(), NoPlace> {
        if place.address.is_none() {
            let source = self.source_of(address);
            self.check_source(source)?;
            self.count_source(source);
            place.address = source;
        }
        Ok(())
    }

    /// An address that is counted.
    fn source_of(&self, address: IpAddr) -> Option<Source> {
        let loopback = address.to_canonical().is_loopback() && !self.bounds.loopback_counts;
        (self.bounds.per_address_max > 0 && !loopback).then(|| Source::of(address))
    }

    fn check_source(&self, source: Option<Source>) -> Result<(), NoPlace> {
        let from_there = source.and_then(|source| self.by_address.get(&source));
        let full = from_there.is_some_and(|count| *count >= self.bounds.per_address_max);
        if full { Err(NoPlace::Address) } else { Ok(()) }
    }

    fn count_source(&mut self, source: Option<Source>) {
        if let Some(source) = source {
            *self.by_address.entry(source).or_default() += 1;
        }
    }

    /// Moves a connection that proved who it is to the authenticated ones. One that takes over from
    /// another, which ends, gets a place in any case.
    ///
    /// # Errors
    ///
    /// [`NoPlace::Connections`]; it keeps the place it had.
    pub fn authenticate(&mut self, place: &mut Place, takes_over: bool) -> Result<(), NoPlace> {
        if place.authenticated {
            return Ok(());
        }
        if self.authenticated_count >= self.bounds.connections_max && !takes_over {
            return Err(NoPlace::Connections);
        }
        self.unauthenticated_count = self.unauthenticated_count.saturating_sub(1);
        self.authenticated_count += 1;
        place.authenticated = true;
        Ok(())
    }

    /// Takes a place back.
    #[expect(clippy::needless_pass_by_value, reason = "a place is given back once")]
    pub fn leave(&mut self, place: Place) {
        let count = if place.authenticated {
            &mut self.authenticated_count
        } else {
            &mut self.unauthenticated_count
        };
        *count = count.saturating_sub(1);
        if let Some(source) = place.address
            && let Some(from_there) = self.by_address.get_mut(&source)
        {
            *from_there = from_there.saturating_sub(1);
            if *from_there == 0 {
                self.by_address.remove(&source);
            }
        }
    }

    /// Tells how many connections proved who they are.
    #[must_use]
    pub const fn authenticated_count(&self) -> usize {
        self.authenticated_count
    }

    /// Tells how many did not yet.
    #[must_use]
    pub const fn unauthenticated_count(&self) -> usize {
        self.unauthenticated_count
    }
}

/// Who failed to authenticate lately (`limits.auth_failures_per_minute_max`).
///
/// Remembers at most [`FAILING_ADDRESSES_MAX`] addresses; while so many fail at once, those that
/// come new are not counted. Credentials are random, so counting saves work, not secrets.
#[derive(Debug)]
pub struct AuthFailures {
    per_minute_max: u64,
    by_address: HashMap<Source, Bucket>,
}

impl AuthFailures {
    /// Starts with nobody; `per_minute_max` 0 counts nothing.
    #[must_use]
    pub fn new(per_minute_max: u64) -> Self {
        Self { per_minute_max, by_address: HashMap::new() }
    }

    /// Tells whether a credential from `address` is looked at; else 429 or 4429 without a look.
    pub fn may_try(&mut self, address: IpAddr, now_ms: u64) -> bool {
        let bucket = self.by_address.get_mut(&Source::of(address));
        bucket.is_none_or(|bucket| bucket.wait_ms(1, now_ms) == 0)
    }

    /// Notes a wrong credential.
    pub fn on_failure(&mut self, address: IpAddr, now_ms: u64) {
        if self.per_minute_max == 0 {
            return;
        }
        let source = Source::of(address);
        if self.by_address.len() >= FAILING_ADDRESSES_MAX && !self.by_address.contains_key(&source)
        {
            self.by_address.retain(|_, bucket| !bucket.is_full(now_ms));
            if self.by_address.len() >= FAILING_ADDRESSES_MAX {
                return;
            }
        }
        let fresh = || Bucket::per_minute(self.per_minute_max, now_ms);
        self.by_address.entry(source).or_insert_with(fresh).take(1, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections_max: 2,
        unauthenticated_max: 3,
        per_address_max: 2,
        loopback_counts: false,
    };

    fn at(text: &str) -> Option<IpAddr> {
        Some(ip(text))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_bound_and_a_v6_network_is_one_address() {
        let mut pool = Pool::new(Bounds { unauthenticated_max: 100, ..BOUNDS });
        for (a, b, c) in [
            ("192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"),
            ("2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:1"),
        ] {
            let first = pool.enter(at(a)).unwrap();
            let _second = pool.enter(at(b)).unwrap();
            assert_eq!(pool.enter(at(c)), Err(NoPlace::Address));
            pool.leave(first);
            assert!(pool.enter(at(c)).is_ok());
        }
        assert!(pool.enter(at("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn loopback_is_counted_only_when_asked_for() {
        for (loopback_counts, address) in [(true, "127.0.0.1"), (true, "::1"), (false, "::1")] {
            let mut pool =
                Pool::new(Bounds { loopback_counts, unauthenticated_max: 100, ..BOUNDS });
            let entered = (0..9).filter(|_| pool.enter(at(address)).is_ok()).count();
            assert_eq!(entered, if loopback_counts { 2 } else { 9 });
        }
    }

    #[test]
    fn the_two_pools_have_bounds_of_their_own() {
        let mut pool = Pool::new(Bounds { per_address_max: 0, ..BOUNDS });
        let mut places: Vec<Place> = (0..3).map(|_| pool.enter(at("192.0.2.1")).unwrap()).collect();
        assert_eq!(pool.enter(at("192.0.2.9")), Err(NoPlace::Unauthenticated));
        assert_eq!(pool.authenticate(&mut places[0], false), Ok(()));
        assert_eq!(pool.authenticate(&mut places[0], false), Ok(()));
        assert_eq!(pool.authenticate(&mut places[1], false), Ok(()));
        assert_eq!(pool.authenticate(&mut places[2], false), Err(NoPlace::Connections));
        assert_eq!((pool.authenticated_count(), pool.unauthenticated_count()), (2, 1));
        assert_eq!(pool.authenticate(&mut places[2], true), Ok(()));
        places.into_iter().for_each(|place| pool.leave(place));
        assert_eq!((pool.authenticated_count(), pool.unauthenticated_count()), (0, 0));
    }

    #[test]
    fn a_place_behind_a_proxy_is_counted_once_it_is_known_whose_it_is() {
        let mut pool = Pool::new(Bounds { unauthenticated_max: 100, ..BOUNDS });
        let mut places: Vec<Place> = (0..3).map(|_| pool.enter(None).unwrap()).collect();
        assert_eq!(pool.locate(&mut places[0], ip("192.0.2.1")), Ok(()));
        assert_eq!(pool.locate(&mut places[0], ip("192.0.2.1")), Ok(()));
        assert_eq!(pool.locate(&mut places[1], ip("192.0.2.1")), Ok(()));
        assert_eq!(pool.locate(&mut places[2], ip("192.0.2.1")), Err(NoPlace::Address));
        assert_eq!(pool.locate(&mut places[2], ip("192.0.2.2")), Ok(()));
        places.into_iter().for_each(|place| pool.leave(place));
        assert!(pool.by_address.is_empty());
    }

    #[test]
    fn nothing_of_an_address_is_kept_when_its_last_connection_leaves() {
        let mut pool = Pool::new(BOUNDS);
        let place = pool.enter(at("192.0.2.1")).unwrap();
        pool.leave(place);
        assert!(pool.by_address.is_empty());
    }

    #[test]
    fn who_fails_too_often_waits_and_others_do_not() {
        let mut failures = AuthFailures::new(30);
        let (bad, good) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for _ in 0..30 {
            assert!(failures.may_try(bad, 0));
            failures.on_failure(bad, 0);
        }
        assert!(!failures.may_try(bad, 1_999));
        assert!(failures.may_try(bad, 2_000));
        assert!(failures.may_try(good, 0));
    }

    #[test]
    fn memory_of_failures_is_bounded_and_ends() {
        let mut failures = AuthFailures::new(30);
        for number in 0..u32::try_from(FAILING_ADDRESSES_MAX).unwrap() + 10 {
            failures.on_failure(IpAddr::from(number.to_be_bytes()), 0);
        }
        assert_eq!(failures.by_address.len(), FAILING_ADDRESSES_MAX);
        failures.on_failure(ip("192.0.2.1"), 60_000);
        assert_eq!(failures.by_address.len(), 1);
    }
}
