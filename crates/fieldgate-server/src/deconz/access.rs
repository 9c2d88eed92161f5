//! Who may listen on the push socket, which clients in the wild open without a credential.
//!
//! Pure. In: what a request shows, and what is known of its address. Out: by which key it is let in, or
//! why it is not. Source: the rule on access, `wire.md` 2.7. Invariant: loopback is trusted no
//! more than any other address: behind a local proxy all the world comes from there.

use std::net::IpAddr;

use fieldgate_core::id::UnixMs;
use fieldgate_store::registry::BridgeKey;

/// How long an address counts after it was last seen with a key.
pub(super) const KNOWN_MS: u64 = 24 * 60 * 60 * 1_000;

/// What is to be decided about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Visit {
    pub(super) address: IpAddr,
    /// Whether a proxy is before it, one that is believed or one that nobody configured.
    pub(super) is_proxied: bool,
    /// Whether it has no `Origin`, or one that is allowed.
    pub(super) origin_is_known: bool,
    /// Whether the address is on the list of the configuration.
    pub(super) is_listed: bool,
    /// Whether the configuration lets everybody in.
    pub(super) is_open: bool,
}

/// Who it is let in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entrance<'a> {
    /// As the app with this key.
    Key(&'a str),
    /// As nobody in particular: the configuration says so.
    Configured,
}

/// Why it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Barred {
    /// A page of another origin opened it.
    Origin,
    /// Nobody used a key from this address within a day.
    Unknown,
    /// Behind a proxy an address proves nothing.
    Proxied,
}

/// Decides about a connection that shows no credential. `here`: the ids of keys that were used from its
/// address a moment ago, which the registry may not have yet.
pub(super) fn decide<'a>(
    visit: &Visit,
    keys: impl Iterator<Item = &'a BridgeKey>,
    here: &[String],
    now: UnixMs,
) -> Result<Entrance<'a>, Barred> {
    if !visit.origin_is_known {
        return Err(Barred::Origin);
    }
    if !visit.is_proxied
        && let Some(key) = key_of(visit.address, keys, here, now)
    {
        return Ok(Entrance::Key(key));
    }
    if visit.is_listed || visit.is_open {
        return Ok(Entrance::Configured);
    }
    Err(if visit.is_proxied { Barred::Proxied } else { Barred::Unknown })
}

/// The key that was last used from an address, within a day.
fn key_of<'a>(
    address: IpAddr,
    keys: impl Iterator<Item = &'a BridgeKey>,
    here: &[String],
    now: UnixMs,
) -> Option<&'a str> {
    let address = address.to_canonical().to_string();
    let seen = keys.filter_map(|key| {
        let noted = key.addresses.get(&address).copied();
        let at_ms = if here.contains(&key.id) { Some(now.0) } else { noted };
        Some((at_ms?, key.id.as_str()))
    });
    let recent = seen.filter(|(at_ms, _)| now.0.saturating_sub(*at_ms) < KNOWN_MS);
    recent.max().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn visit() -> Visit {
        Visit {
            address: [192, 168, 1, 7].into(),
            is_proxied: false,
            origin_is_known: true,
            is_listed: false,
            is_open: false,
        }
    }

    fn key(id: &str, address: &str, age_ms: u64) -> BridgeKey {
        BridgeKey {
            id: id.to_owned(),
            addresses: [(address.to_owned(), NOW.0 - age_ms)].into(),
            ..BridgeKey::default()
        }
    }

    fn decide_for(visit: &Visit, keys: &[BridgeKey]) -> Result<String, Barred> {
        decide_here(visit, keys, &[])
    }

    fn decide_here(visit: &Visit, keys: &[BridgeKey], here: &[&str]) -> Result<String, Barred> {
        let here: Vec<String> = here.iter().map(|id| (*id).to_owned()).collect();
        decide(visit, keys.iter(), &here, NOW).map(|entrance| match entrance {
            Entrance::Key(id) => id.to_owned(),
            Entrance::Configured => "configured".to_owned(),
        })
    }

    #[test]
    fn a_key_that_was_used_a_moment_ago_counts_before_the_registry_has_it_unless_it_is_gone() {
        let keys = [key("a", "192.168.1.8", 1), key("b", "192.168.1.7", KNOWN_MS)];
        assert_eq!(decide_here(&visit(), &keys, &["a"]), Ok("a".to_owned()));
        assert_eq!(decide_here(&visit(), &keys, &["b"]), Ok("b".to_owned()));
        assert_eq!(decide_here(&visit(), &keys, &["gone"]), Err(Barred::Unknown));
    }

    #[test]
    fn an_address_is_let_in_for_a_day_behind_its_last_call() {
        let keys = [key("old", "192.168.1.7", KNOWN_MS - 1), key("other", "192.168.1.8", 1)];
        assert_eq!(decide_for(&visit(), &keys), Ok("old".to_owned()));
        let keys = [key("old", "192.168.1.7", KNOWN_MS)];
        assert_eq!(decide_for(&visit(), &keys), Err(Barred::Unknown));
    }

    #[test]
    fn the_key_that_was_used_last_lets_it_in() {
        let keys = [key("a", "192.168.1.7", 900), key("b", "192.168.1.7", 10)];
        assert_eq!(decide_for(&visit(), &keys), Ok("b".to_owned()));
    }

    #[test]
    fn an_address_of_ipv4_is_the_same_on_a_socket_of_ipv6() {
        let address: IpAddr = "::ffff:192.168.1.7".parse().unwrap();
        let visit = Visit { address, ..visit() };
        assert_eq!(decide_for(&visit, &[key("a", "192.168.1.7", 1)]), Ok("a".to_owned()));
    }

    #[test]
    fn loopback_is_like_any_other() {
        let visit = Visit { address: [127, 0, 0, 1].into(), ..visit() };
        assert_eq!(decide_for(&visit, &[]), Err(Barred::Unknown));
    }

    #[test]
    fn behind_a_proxy_the_list_decides_and_no_address_that_was_seen() {
        let visit = Visit { is_proxied: true, ..visit() };
        let keys = [key("a", "192.168.1.7", 1)];
        assert_eq!(decide_for(&visit, &keys), Err(Barred::Proxied));
        let listed = Visit { is_listed: true, ..visit };
        assert_eq!(decide_for(&listed, &keys), Ok("configured".to_owned()));
    }

    #[test]
    fn a_page_of_another_origin_is_not_let_in_whatever_else_holds() {
        let visit = Visit { origin_is_known: false, is_open: true, is_listed: true, ..visit() };
        assert_eq!(decide_for(&visit, &[key("a", "192.168.1.7", 1)]), Err(Barred::Origin));
    }
}
