//! Failed authentications by address: past the limit a credential is not even looked at.
//!
//! An IPv6 address counts as its /64. Bounded: the oldest minute is forgotten whole.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use fieldgate_core::id::UnixMs;

const ADDRESSES_MAX: usize = 100_000;

#[derive(Debug, Default)]
struct Minute {
    number: u64,
    failures: HashMap<IpAddr, u32>,
}

/// Counts failures a minute.
#[derive(Debug)]
pub(crate) struct Throttle {
    max: u32,
    minute: Mutex<Minute>,
}

/// The part of an address that one customer holds.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

impl Throttle {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, minute: Mutex::default() }
    }

    fn with<T>(&self, now: UnixMs, work: impl FnOnce(&mut HashMap<IpAddr, u32>) -> T) -> T {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.0 / 60_000;
        if minute.number != number || minute.failures.len() > ADDRESSES_MAX {
            *minute = Minute { number, failures: HashMap::new() };
        }
        work(&mut minute.failures)
    }

    /// Whether this address may try.
    pub(crate) fn allows(&self, address: IpAddr, now: UnixMs) -> bool {
        let failed = self.with(now, |f| f.get(&network_of(address)).copied().unwrap_or(0));
        failed < self.max
    }

    /// It tried and failed.
    pub(crate) fn failed(&self, address: IpAddr, now: UnixMs) {
        self.with(now, |failures| *failures.entry(network_of(address)).or_default() += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_too_often_waits_for_the_next_minute() {
        let throttle = Throttle::new(2);
        let address = |text: &str| text.parse().unwrap();
        throttle.failed(address("2001:db8::1"), UnixMs(0));
        throttle.failed(address("2001:db8::2"), UnixMs(0));
        assert!(!throttle.allows(address("2001:db8::3"), UnixMs(0)));
        assert!(throttle.allows(address("2001:db8:0:1::1"), UnixMs(0)));
        assert!(throttle.allows(address("2001:db8::1"), UnixMs(60_000)));
    }
}
