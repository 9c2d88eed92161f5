//! Whose request it is behind a proxy: `X-Forwarded-For` and `Forwarded` (RFC 7239) in, an address out.
//!
//! Pure. Only a proxy of `listen.trusted_proxies` is believed, and of the addresses that it tells the
//! last one that is not such a proxy itself. Absent: names, ports and obfuscated nodes.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use fieldgate_core::fault::{Code, Fault};

/// An address or a network, as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    bits: u128,
    prefix_len: u32,
}

/// Every address as one of IPv6.
fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().ok()?;
        let address_len = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix.map_or(Some(address_len), |prefix| prefix.trim().parse().ok())?;
        if prefix_len > address_len {
            return None;
        }
        Some(Self { bits: bits_of(address), prefix_len: prefix_len + 128 - address_len })
    }

    fn contains(self, address: IpAddr) -> bool {
        let differing = self.bits ^ bits_of(address);
        self.prefix_len == 0 || differing >> (128 - self.prefix_len) == 0
    }
}

/// Addresses and networks of a list in the configuration.
#[derive(Debug, Default)]
pub(crate) struct Networks(Vec<Network>);

impl Networks {
    /// Reads a list; what is no address or network is left out, which the configuration refuses before.
    pub(crate) fn new(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|text| Network::parse(text)).collect())
    }

    /// Whether this is an address or a network.
    pub(crate) fn is_network(text: &str) -> bool {
        Network::parse(text).is_some()
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// The proxies that are believed.
#[derive(Debug, Default)]
pub(crate) struct Proxies(Networks);

impl Proxies {
    /// Those of `listen.trusted_proxies`.
    pub(crate) fn new(texts: &[String]) -> Self {
        Self(Networks::new(texts))
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whose request it is that came from `peer`.
    ///
    /// # Errors
    ///
    /// The two headers contradict each other: one of them is the client's own.
    pub(crate) fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Fault> {
        if !self.contains(peer) {
            return Ok(peer);
        }
        let lists = |name: &str| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            values.map(ToOwned::to_owned).collect::<Vec<_>>().join(",")
        };
        let (plain, standard) = (lists("x-forwarded-for"), lists("forwarded"));
        let plain = self.last_of(plain.split(',').map(node_of));
        let standard = self.last_of(standard.split(',').filter_map(for_of).map(node_of));
        match (plain, standard) {
            (Some(plain), Some(standard)) if plain != standard => {
                let text = "X-Forwarded-For and Forwarded name different clients";
                Err(Fault::new(Code::BadValue, text))
            }
            (Some(client), _) | (None, Some(client)) => Ok(client),
            (None, None) => Ok(peer),
        }
    }

    /// The last address that is no trusted proxy; nothing behind something unreadable counts.
    fn last_of(&self, nodes: impl DoubleEndedIterator<Item = Option<IpAddr>>) -> Option<IpAddr> {
        let readable = nodes.rev().map_while(|node| node);
        let mut last = None;
        for node in readable {
            last = Some(node);
            if !self.contains(node) {
                break;
            }
        }
        last
    }
}

/// The address of a node: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[…]:80`.
fn node_of(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// What an element of `Forwarded` says in `for`.
fn for_of(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client(peer: &str, headers: &[(&'static str, &'static str)]) -> Option<IpAddr> {
        let proxies = Proxies::new(&["10.0.0.0/8".to_owned(), "2001:db8:1::/48".to_owned()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        proxies.client_of(ip(peer), &map).ok()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_its_last_word() {
        let spoofed = [("x-forwarded-for", "6.6.6.6, 192.0.2.1")];
        assert_eq!(client("203.0.113.1", &spoofed), Some(ip("203.0.113.1")));
        assert_eq!(client("10.0.0.1", &spoofed), Some(ip("192.0.2.1")));
        assert_eq!(client("::ffff:10.0.0.1", &spoofed), Some(ip("192.0.2.1")));
        let chain = [("x-forwarded-for", "6.6.6.6, 192.0.2.1"), ("x-forwarded-for", "10.2.0.1")];
        assert_eq!(client("10.0.0.1", &chain), Some(ip("192.0.2.1")));
        assert_eq!(client("10.0.0.1", &[]), Some(ip("10.0.0.1")));
    }

    #[test]
    fn nodes_are_read_in_every_form_and_nothing_behind_an_unreadable_one_counts() {
        for (value, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=6.6.6.6, For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=6.6.6.6, for=192.0.2.1:80", "192.0.2.1"),
            ("for=6.6.6.6, for=unknown", "10.0.0.1"),
            ("for=6.6.6.6, for=_hidden, for=10.9.9.9", "10.9.9.9"),
            ("nonsense", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[("forwarded", value)]), Some(ip(expected)), "{value}");
        }
    }

    #[test]
    fn headers_that_contradict_each_other_are_refused() {
        let same = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1")];
        assert_eq!(client("10.0.0.1", &same), Some(ip("192.0.2.1")));
        let other = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=6.6.6.6")];
        assert_eq!(client("10.0.0.1", &other), None);
    }

    #[test]
    fn networks_hold_their_addresses_and_nothing_else() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let proxies = Proxies::new(&[network.to_owned()]);
            assert!(proxies.contains(ip(inside)) && !proxies.contains(ip(outside)), "{network}");
        }
        assert!(Proxies::new(&["0.0.0.0/0".to_owned()]).contains(ip("192.0.2.1")));
        for text in ["", "proxy", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1"] {
            assert!(!Networks::is_network(text), "{text}");
        }
    }

    proptest! {
        /// What a proxy passes on was written by anybody.
        #[test]
        fn whatever_stands_in_the_headers_a_stranger_is_believed_nothing(
            plain in prop::collection::vec(any::<u8>(), 0..64),
            standard in "(for=|[\\[\\]\";,:. 0-9a-f]){0,24}",
        ) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&plain) {
                headers.append("x-forwarded-for", value);
            }
            if let Ok(value) = HeaderValue::from_str(&standard) {
                headers.append("forwarded", value);
            }
            let stranger: IpAddr = [192, 0, 2, 9].into();
            let proxies = Proxies::new(&["10.0.0.0/8".to_owned()]);
            prop_assert_eq!(proxies.client_of(stranger, &headers).ok(), Some(stranger));
            // Behind the proxy it is an answer or a refusal, and no panic.
            let _answer = proxies.client_of([10, 0, 0, 1].into(), &headers);
        }
    }
}
