//! Which addresses a delivery may connect to: an address in, yes or why not out.
//!
//! A URL is somebody's wish, and so is what its name resolves to, which may be another address each
//! time: what is looked at is the address of each connection, when it is made. Invariant: no
//! connection is made to an address that [`check`] does not allow.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use reqwest::Url;

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forbidden {
    /// Only if an administrator allows it for the integration.
    #[error("{0} is a private address: it takes allow_private")]
    Private(IpAddr),
    /// No integration needs it.
    #[error("{0} is never connected to")]
    Never(IpAddr),
}

/// Why a URL cannot be a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadUrl {
    #[error("it is no URL: {0}")]
    NotOne(String),
    #[error("its scheme must be {0}")]
    Scheme(&'static str),
    #[error("it names no host")]
    NoHost,
    #[error("a user or password does not belong into it: a secret has its own place")]
    Secret,
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

/// How far an address is trusted; the later the less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Public,
    Private,
    Never,
}

/// Tells whether an address may be connected to.
///
/// # Errors
///
/// [`Forbidden`].
pub(crate) fn check(address: IpAddr, allow_private: bool) -> Result<(), Forbidden> {
    let reach = match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    };
    match reach {
        Reach::Public => Ok(()),
        Reach::Private if allow_private => Ok(()),
        Reach::Private => Err(Forbidden::Private(address)),
        Reach::Never => Err(Forbidden::Never(address)),
    }
}

/// Where clouds answer their machines with credentials, beside what is link-local.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Source: IANA's registry of special addresses.
fn reach_v4(address: Ipv4Addr) -> Reach {
    if METADATA_V4.contains(&address) {
        return Reach::Never;
    }
    match address.octets() {
        // This network, link-local, multicast, reserved and broadcast.
        [0, ..] | [169, 254, ..] | [224..=255, ..] => Reach::Never,
        // Loopback, private, shared (CGNAT), protocol assignments, benchmarks, documentation.
        [127 | 10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0 | 2, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Reach::Private,
        _ => Reach::Public,
    }
}

/// An address that holds one of version 4 reaches what that one does, and is judged as it is.
fn reach_v6(address: Ipv6Addr) -> Reach {
    if METADATA_V6.contains(&address) {
        return Reach::Never;
    }
    if address == Ipv6Addr::LOCALHOST {
        return Reach::Private;
    }
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // Compatible (`::` among them), mapped, translated, and NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // NAT64 of a network of one's own, whose form is the network's own.
        [0x64, 0xff9b, 1, .., high, low] => v4(high, low).max(Reach::Private),
        // Teredo: the relay, and the client with its bits turned round.
        [0x2001, 0, high, low, _, _, far_high, far_low] => {
            v4(high, low).max(v4(!far_high, !far_low))
        }
        // 6to4.
        [0x2002, high, low, ..] => v4(high, low),
        // Link-local, multicast, discard.
        [0xfe80..=0xfebf, ..] | [0xff00..=0xffff, ..] | [0x100, 0, 0, 0, ..] => Reach::Never,
        // Unique local, site-local, documentation, and what is not given out.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => {
            Reach::Private
        }
        // ISATAP, whatever the network.
        [.., 0 | 0x200, 0x5efe, high, low] => v4(high, low),
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Private,
    }
}

/// Reads the URL of a target: `schemes` is the plain one and the one over TLS.
///
/// An address in it, in whatever notation, is checked here; a name when it is resolved.
///
/// # Errors
///
/// [`BadUrl`].
pub(crate) fn read_url(
    text: &str,
    schemes: [&'static str; 2],
    allow_private: bool,
) -> Result<Url, BadUrl> {
    let url = Url::parse(text).map_err(|error| BadUrl::NotOne(error.to_string()))?;
    if !schemes.contains(&url.scheme()) {
        return Err(BadUrl::Scheme(if schemes.contains(&"ws") {
            "ws or wss"
        } else {
            "http or https"
        }));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadUrl::Secret);
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(BadUrl::NoHost)?;
    if let Some(address) = literal(host) {
        check(address, allow_private)?;
    }
    Ok(url)
}

/// The address that a URL's host is, if it is no name. The reader of URLs has brought all notations
/// of one (`0x7f.1`, `2130706433`) into the usual form.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The addresses that a name has.
pub(super) type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// What turns a name into addresses.
pub(crate) trait Names: Send + Sync {
    /// Looks a name up.
    fn look_up(&self, name: &str) -> Found;
}

/// The names that the system knows.
#[derive(Debug)]
pub(crate) struct SystemNames;

impl Names for SystemNames {
    fn look_up(&self, name: &str) -> Found {
        let name = name.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
    }
}

/// Names, of which those are told that may be connected to.
#[derive(Clone)]
pub(crate) struct Guarded {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) allow_private: bool,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("allow_private", &self.allow_private)
            .finish_non_exhaustive()
    }
}

impl Guarded {
    /// The addresses of a host that may be connected to: at least one.
    ///
    /// # Errors
    ///
    /// There is no such name, or none of its addresses is allowed ([`Forbidden`] is the source).
    pub(crate) async fn addresses(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let found = match literal(host) {
            Some(address) => vec![SocketAddr::new(address, 0)],
            None => self.names.look_up(host).await?,
        };
        let mut forbidden = None;
        let mut allowed = Vec::new();
        for address in found {
            match check(address.ip(), self.allow_private) {
                Ok(()) => allowed.push(address),
                Err(why) => forbidden = Some(why),
            }
        }
        match forbidden {
            Some(why) if allowed.is_empty() => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
            }
            None if allowed.is_empty() => Err(io::Error::other("the name has no address")),
            _ => Ok(allowed),
        }
    }
}

impl reqwest::dns::Resolve for Guarded {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let guarded = self.clone();
        Box::pin(async move {
            let allowed = guarded.addresses(name.as_str()).await?;
            Ok(Box::new(allowed.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// What lies behind an error, the outermost left out, as one line.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let mut lines: Vec<String> = causes.map(ToString::to_string).collect();
    lines.dedup();
    lines.join(": ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn reach(address: &str) -> Reach {
        let address: IpAddr = address.parse().unwrap();
        match (check(address, false), check(address, true)) {
            (Ok(()), Ok(())) => Reach::Public,
            (Err(Forbidden::Private(_)), Ok(())) => Reach::Private,
            (Err(Forbidden::Never(_)), Err(Forbidden::Never(_))) => Reach::Never,
            odd => panic!("{address}: {odd:?}"),
        }
    }

    #[test]
    fn each_kind_of_address_reaches_as_far_as_it_should() {
        for (address, expected) in [
            ("8.8.8.8", Reach::Public),
            ("93.184.216.34", Reach::Public),
            ("172.15.255.255", Reach::Public),
            ("172.32.0.0", Reach::Public),
            ("100.63.255.255", Reach::Public),
            ("100.128.0.0", Reach::Public),
            ("223.255.255.255", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("127.255.255.254", Reach::Private),
            ("10.0.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.31.255.255", Reach::Private),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("192.0.2.1", Reach::Private),
            ("198.19.0.1", Reach::Private),
            ("203.0.113.9", Reach::Private),
            ("0.0.0.0", Reach::Never),
            ("0.1.2.3", Reach::Never),
            ("169.254.169.254", Reach::Never),
            ("169.254.0.1", Reach::Never),
            ("100.100.100.200", Reach::Never),
            ("168.63.129.16", Reach::Never),
            ("192.0.0.192", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("239.255.255.250", Reach::Never),
            ("240.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("2606:4700::1111", Reach::Public),
            ("::1", Reach::Private),
            ("fc00::1", Reach::Private),
            ("fd12:3456::1", Reach::Private),
            ("fec0::1", Reach::Private),
            ("2001:db8::1", Reach::Private),
            ("4000::1", Reach::Private),
            ("::", Reach::Never),
            ("fe80::1", Reach::Never),
            ("febf::1", Reach::Never),
            ("ff02::1", Reach::Never),
            ("100::1", Reach::Never),
            ("fd00:ec2::254", Reach::Never),
            ("fd20:ce::254", Reach::Never),
        ] {
            assert_eq!(reach(address), expected, "{address}");
        }
    }

    #[test]
    fn an_address_in_the_clothes_of_another_reaches_no_further() {
        type Form = (&'static str, fn([u8; 4]) -> String);
        let forms: [Form; 6] = [
            ("compatible", |[a, b, c, d]| format!("::{a:02x}{b:02x}:{c:02x}{d:02x}")),
            ("mapped", |[a, b, c, d]| format!("::ffff:{a}.{b}.{c}.{d}")),
            ("translated", |[a, b, c, d]| format!("::ffff:0:{a}.{b}.{c}.{d}")),
            ("NAT64", |[a, b, c, d]| format!("64:ff9b::{a}.{b}.{c}.{d}")),
            ("6to4", |[a, b, c, d]| format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1")),
            ("ISATAP", |[a, b, c, d]| format!("2a00::5efe:{a}.{b}.{c}.{d}")),
        ];
        for (inner, expected) in [
            ([8, 8, 8, 8], Reach::Public),
            ([127, 0, 0, 1], Reach::Private),
            ([10, 1, 2, 3], Reach::Private),
            ([169, 254, 169, 254], Reach::Never),
            ([255, 255, 255, 255], Reach::Never),
        ] {
            for (form, write) in forms {
                assert_eq!(reach(&write(inner)), expected, "{form} of {inner:?}");
            }
            let [a, b, c, d] = inner.map(|byte| !byte);
            let teredo = format!("2001:0:808:808:0:0:{a:02x}{b:02x}:{c:02x}{d:02x}");
            assert_eq!(reach(&teredo), expected, "{teredo}");
            let [a, b, c, d] = inner;
            let relay = format!("2001:0:{a:02x}{b:02x}:{c:02x}{d:02x}::f7f7:f7f7");
            assert_eq!(reach(&relay), expected, "{relay}");
            let own = format!("64:ff9b:1::{a}.{b}.{c}.{d}");
            assert_eq!(reach(&own), expected.max(Reach::Private), "{own}");
        }
    }

    #[test]
    fn an_address_in_a_url_is_found_in_whatever_notation() {
        let http = |text: &str, allow| read_url(text, ["http", "https"], allow).map(drop);
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://①②⑦.0.0.1/",
            "http://[::1]:80/",
            "http://[::ffff:7f00:1]/",
            "https://127.0.0.1./",
        ] {
            let refused = http(text, false);
            assert!(
                matches!(refused, Err(BadUrl::Forbidden(Forbidden::Private(_)))),
                "{text}: {refused:?}"
            );
            assert_eq!(http(text, true), Ok(()), "{text}");
        }
        for text in ["http://169.254.169.254/latest", "http://0xa9fea9fe/", "http://[fe80::1]/"] {
            let refused = http(text, true);
            assert!(
                matches!(refused, Err(BadUrl::Forbidden(Forbidden::Never(_)))),
                "{text}: {refused:?}"
            );
        }
        assert_eq!(http("https://example.com/a?b#c", false), Ok(()));
        assert!(matches!(http("ftp://example.com/", false), Err(BadUrl::Scheme(_))));
        assert_eq!(http("http://user:secret@example.com/", false), Err(BadUrl::Secret));
        assert!(matches!(http("example.com", false), Err(BadUrl::NotOne(_))));
        let socket = |text| read_url(text, ["ws", "wss"], false).map(drop);
        assert_eq!(socket("wss://example.com/"), Ok(()));
        assert!(matches!(socket("https://example.com/"), Err(BadUrl::Scheme("ws or wss"))));
        assert!(matches!(socket("ws://0x7f.1/"), Err(BadUrl::Forbidden(_))));
    }

    /// A name whose address is another each time.
    struct Rebound(AtomicUsize);

    impl Names for Rebound {
        fn look_up(&self, _: &str) -> Found {
            let address = match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => "93.184.216.34:0",
                1 => "169.254.169.254:0",
                _ => "127.0.0.1:0",
            };
            Box::pin(async move { Ok(vec![address.parse().unwrap()]) })
        }
    }

    #[tokio::test]
    async fn a_name_that_changes_its_address_is_looked_at_each_time() {
        let names = Arc::new(Rebound(AtomicUsize::new(0)));
        let guarded = Guarded { names, allow_private: false };
        assert!(guarded.addresses("a.example").await.is_ok());
        for _ in 0..2 {
            let error = guarded.addresses("a.example").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        }
        let literal = guarded.addresses("[::1]").await.unwrap_err();
        assert_eq!(literal.kind(), io::ErrorKind::PermissionDenied, "{literal}");
    }
}
