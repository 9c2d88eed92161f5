//! `listen.*`: whether what is to be bound are addresses, and whether the files of TLS are of use.
//!
//! What an address means is the system's to say; here it is looked at as text.

use std::{collections::BTreeSet, error::Error as _, net::Ipv6Addr};

use super::{ConfigError, Listen, Loaded, Plaintext};
use crate::{forwarded::Networks, tls};

/// What `listen.plaintext` may name.
const LISTENERS: [&str; 3] = ["http", "deconz", "metrics"];

/// Whether a text is HOST:PORT; an IPv6 address stands in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    is_host && is_port
}

/// Whether a text is a host alone: no scheme, no port, no path.
fn is_host(text: &str) -> bool {
    let is_foreign = |c: char| ":/[]".contains(c) || c.is_whitespace();
    (!text.is_empty() && !text.contains(is_foreign)) || text.parse::<Ipv6Addr>().is_ok()
}

/// Whether a text is what browsers send as `Origin`, or `same`.
fn is_origin(text: &str) -> bool {
    let place = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty());
    let is_place = place.is_some_and(|(_, place)| !place.is_empty() && !place.contains('/'));
    is_place || text == "same" || text == "null"
}

impl Listen {
    /// What is wrong: the key, and why.
    pub(super) fn wrong(&self) -> Vec<(&'static str, String)> {
        let lists = [
            ("listen.http", &self.http),
            ("listen.deconz", &self.deconz),
            ("listen.metrics", &self.metrics),
        ];
        let addresses = lists.into_iter().flat_map(|(key, list)| {
            let bad = list.iter().filter(|text| !is_address(text));
            bad.map(move |text| {
                let why = "write HOST:PORT such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
                (key, format!("cannot have {text:?}: {why}, with a port of 0 to 65535"))
            })
        });
        let mut wrong: Vec<_> = addresses.collect();
        let mut seen = BTreeSet::new();
        let each = lists.into_iter().flat_map(|(key, list)| list.iter().map(move |one| (key, one)));
        // Of port 0 each is another one.
        for (key, twice) in each.filter(|(_, one)| !one.ends_with(":0")) {
            if !seen.insert(twice) {
                wrong.push((key, format!("has {twice:?}, which is listened on already")));
            }
        }
        for text in self.hosts.iter().filter(|text| !is_host(text)) {
            let why = "write a name or an address alone, such as \"gw.example.com\"";
            wrong.push(("listen.hosts", format!("cannot have {text:?}: {why}")));
        }
        for text in self.origins.iter().filter(|text| !is_origin(text)) {
            let why = "write \"same\", or an origin such as \"https://app.example.com\"";
            wrong.push(("listen.origins", format!("cannot have {text:?}: {why}")));
        }
        match (&self.tls.cert, &self.tls.key) {
            (Some(_), None) => {
                wrong.push(("listen.tls.cert", "needs `listen.tls.key` beside it".to_owned()));
            }
            (None, Some(_)) => {
                wrong.push(("listen.tls.key", "needs `listen.tls.cert` beside it".to_owned()));
            }
            (Some(_), Some(_)) | (None, None) => (),
        }
        wrong.extend(self.wrong_plaintext().map(|why| ("listen.plaintext", why)));
        if !self.trusted_proxies.iter().all(|text| Networks::is_network(text)) {
            let why = "is a list of addresses and networks such as \"10.0.0.0/8\"";
            wrong.push(("listen.trusted_proxies", why.to_owned()));
        }
        wrong
    }

    fn wrong_plaintext(&self) -> Option<String> {
        match &self.plaintext {
            Plaintext::Word(word) if word == "loopback" => None,
            Plaintext::Word(_) => Some("is \"loopback\", or a list of listeners".to_owned()),
            Plaintext::List(names) => {
                let unknown = names.iter().find(|name| !LISTENERS.contains(&name.as_str()))?;
                let known = LISTENERS.map(|name| format!("{name:?}")).join(", ");
                Some(format!("cannot have {unknown:?}: there are {known}"))
            }
        }
    }
}

impl Loaded {
    /// Looks whether the files that the configuration names are of use now; a start needs them.
    #[must_use]
    pub fn wrong_files(&self) -> Vec<ConfigError> {
        let tls = &self.config.listen.tls;
        let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else { return Vec::new() };
        let Err(error) = tls::check(cert, key) else { return Vec::new() };
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        let place = self.origins.get("listen.tls.cert").map_or("default", String::as_str);
        let why = format!("`listen.tls` is of no use: {error}{cause}");
        vec![ConfigError::Value { place: place.to_owned(), why }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_origins_and_addresses_that_no_start_could_use_are_told() {
        let wrong =
            |listen: Listen| -> Vec<_> { listen.wrong().into_iter().map(|(key, _)| key).collect() };
        let texts = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        let hosts = |list: &[&str]| wrong(Listen { hosts: texts(list), ..Listen::default() });
        assert!(hosts(&["gw.example.com", "10.0.0.1", "::1"]).is_empty());
        assert_eq!(hosts(&["http://foo", "foo:80", "", "a b", "[::1]"]), ["listen.hosts"; 5]);
        let origins = |list: &[&str]| wrong(Listen { origins: texts(list), ..Listen::default() });
        assert!(origins(&["same", "null", "https://a.example:8443"]).is_empty());
        assert_eq!(origins(&["foo", "https://a/", "://a", ""]), ["listen.origins"; 4]);
        let both = |http: &str, metrics: &str| {
            let (http, metrics) = (texts(&[http]), texts(&[metrics]));
            wrong(Listen { http, metrics, ..Listen::default() })
        };
        assert_eq!(both("127.0.0.1:1", "127.0.0.1:1"), ["listen.metrics"]);
        assert!(both("127.0.0.1:0", "127.0.0.1:0").is_empty());
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in
            ["127.0.0.1:0", "0.0.0.0:65535", "[::1]:80", "[::]:8080", "localhost:8080", "a-b.c:1"]
        {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            ":",
            ":80",
            "nonsense",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:99999",
            "127.0.0.1:+80",
            "::1:80",
            "[::1]",
            "[x]:80",
            "[127.0.0.1]:80",
            "http://a:80",
            "a b:80",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
