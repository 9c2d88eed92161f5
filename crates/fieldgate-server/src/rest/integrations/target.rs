//! What people say of a target, checked, and its secrets taken out of it and sealed.
//!
//! Invariant: no secret stands in the URL that is kept; nothing here tells one back.

use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
    topic::Filter,
};
use fieldgate_store::{
    registry::{Format, IntegrationKind, Sealed, TokenIn},
    secret::{IntegrationPart, TokenKind, make_token},
};
use http::HeaderName;

use super::super::{asker::bad, io_fault};
use crate::{deliver::read_url, fabric::Shared};

/// Longest address of a target.
const URL_BYTES_MAX: usize = 2_048;
/// Longest secret that is shown to a target.
const SECRET_BYTES_MAX: usize = 1_024;
/// Longest name of a parameter.
const NAME_BYTES_MAX: usize = 64;
/// Most messages of a batch that may be asked for.
const BATCH_LEN_MAX: u64 = 10_000;

/// Headers that belong to the connection or to what we send; those that begin with `proxy-`,
/// `sec-` and `fieldgate-` do too.
const OURS: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];

/// Where a secret stands, and whether it comes in the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) token_in: TokenIn,
    /// It is what is behind the `#` of the URL.
    is_in_url: bool,
}

impl Place {
    /// Of a secret that does not come in the URL.
    pub(super) const fn apart(token_in: TokenIn) -> Self {
        Self { token_in, is_in_url: false }
    }

    /// Reads `header:NAME` or `query:NAME`, with `hash:` in front if the secret is in the URL.
    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        let (is_in_url, rest) =
            text.strip_prefix("hash:").map_or((false, text), |rest| (true, rest));
        let wrong = "token_in is header:NAME or query:NAME, with hash: in front if the secret is \
                     behind the # of the url";
        let (place, name) = rest.split_once(':').ok_or_else(|| bad(wrong))?;
        let token_in = match place {
            "header" => TokenIn::Header(header(name)?),
            "query" => TokenIn::Query(parameter(name)?),
            _ => return Err(bad(wrong)),
        };
        Ok(Self { token_in, is_in_url })
    }
}

/// As [`Place::read`] reads it.
pub(super) fn told(token_in: &TokenIn) -> String {
    match token_in {
        TokenIn::Header(name) => format!("header:{name}"),
        TokenIn::Query(name) => format!("query:{name}"),
    }
}

fn header(name: &str) -> Result<String, Fault> {
    let short = Some(name).filter(|name| name.len() <= NAME_BYTES_MAX);
    let known = short.and_then(|name| name.parse::<HeaderName>().ok());
    let known = known.ok_or_else(|| bad("token_in names no header of HTTP"))?;
    let (lower, ours) = (known.as_str(), ["proxy-", "sec-", "fieldgate-"]);
    if OURS.contains(&lower) || ours.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err(bad(format!("the header {lower} is not for a secret: take another")));
    }
    Ok(name.to_owned())
}

fn parameter(name: &str) -> Result<String, Fault> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        let rule = format!("1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 - . _ ~");
        return Err(bad(format!("the parameter in token_in is {rule}")));
    }
    Ok(name.to_owned())
}

/// Looks at the address of a target; takes the secret out of it that is behind its `#`. An address in
/// figures is checked as at each connection; a name is when it is resolved.
pub(super) fn address(
    kind: IntegrationKind,
    text: &str,
    place: Option<&Place>,
    allow_private: bool,
) -> Result<(String, Option<String>), Fault> {
    let schemes = match kind {
        IntegrationKind::WebSocket => ["ws", "wss"],
        IntegrationKind::Rest => ["http", "https"],
        IntegrationKind::ThingseeIn => return Err(bad("what comes in has no url")),
    };
    if text.len() > URL_BYTES_MAX {
        return Err(bad(format!("url is above {URL_BYTES_MAX} bytes")));
    }
    let mut url =
        read_url(text, schemes, allow_private).map_err(|why| bad(format!("url: {why}")))?;
    // As it is written: the parser would encode parts of it.
    let secret = text.split_once('#').map(|(_, secret)| secret.to_owned());
    match (&secret, place.is_some_and(|place| place.is_in_url)) {
        (Some(_), false) => {
            let text = "what is behind the # of a url is never sent: token_in = hash:header:NAME or \
                        hash:query:NAME says where the gateway sends it";
            return Err(bad(text));
        }
        (None, true) => {
            return Err(bad("with hash: in token_in the secret is behind the # of url"));
        }
        (Some(_), true) | (None, false) => (),
    }
    if let Some(TokenIn::Query(name)) = place.map(|place| &place.token_in)
        && url.query_pairs().any(|(known, _)| known == name.as_str())
    {
        return Err(bad(format!("the url has a parameter {name} already")));
    }
    url.set_fragment(None);
    Ok((url.into(), secret))
}

/// Reads which topics are delivered.
pub(super) fn filter(shared: &Shared, text: &str) -> Result<String, Fault> {
    shared.config.limits.check_topic(text)?;
    let filter: Filter =
        text.parse().map_err(|why| Fault::new(Code::BadTopic, format!("{why}")))?;
    Ok(filter.as_str().to_owned())
}

pub(super) fn format(word: &str) -> Result<Format, Fault> {
    Format::parse(word).ok_or_else(|| bad("format is thingsee, native or native-lines"))
}

pub(super) fn rate(per_second: u64) -> Result<u64, Fault> {
    let wrong = || bad("messages_per_second is 1 or more; without it there is no bound");
    Some(per_second).filter(|rate| *rate > 0).ok_or_else(wrong)
}

pub(super) fn batch(len: u64) -> Result<u64, Fault> {
    let wrong = || bad(format!("batch_max is 1 to {BATCH_LEN_MAX}"));
    Some(len).filter(|len| (1..=BATCH_LEN_MAX).contains(len)).ok_or_else(wrong)
}

/// Seals a secret that a target is shown.
pub(super) fn seal(
    shared: &Shared,
    tenant: &TenantId,
    name: &str,
    secret: &str,
) -> Result<Sealed, Fault> {
    let is_text = secret.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_bare = secret.trim() == secret;
    if secret.is_empty() || secret.len() > SECRET_BYTES_MAX || !is_text || !is_bare {
        let rule = "printable ASCII without spaces around it";
        return Err(bad(format!("a secret is 1 to {SECRET_BYTES_MAX} bytes of {rule}")));
    }
    let key = shared.state.master_key();
    let sealed = key.seal_integration(tenant, name, IntegrationPart::Token, secret);
    sealed.map_err(|error| io_fault(&error))
}

/// Makes a secret to sign with: sealed, and in clear.
pub(super) fn signing(
    shared: &Shared,
    tenant: &TenantId,
    name: &str,
) -> Result<(Sealed, String), Fault> {
    let secret = make_token(TokenKind::Signing).map_err(|error| io_fault(&error))?;
    let key = shared.state.master_key();
    let sealed = key.seal_integration(tenant, name, IntegrationPart::Signing, &secret);
    Ok((sealed.map_err(|error| io_fault(&error))?, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_told_and_is_no_header_of_ours() {
        for text in ["header:Authorization", "header:X-Api-Key", "query:token"] {
            let place = Place::read(text).unwrap();
            assert_eq!((told(&place.token_in), place.is_in_url), (text.to_owned(), false));
            let hashed = Place::read(&format!("hash:{text}")).unwrap();
            assert_eq!((told(&hashed.token_in), hashed.is_in_url), (text.to_owned(), true));
        }
        for wrong in [
            "",
            "header",
            "header:",
            "cookie:a",
            "hash:a",
            "hash:hash:header:A",
            "header:a b",
            "header:a:b",
            "header:Host",
            "header:CONTENT-length",
            "header:Connection",
            "header:Sec-WebSocket-Key",
            "header:Proxy-Authorization",
            "header:Fieldgate-Signature",
            "query:",
            "query:a b",
            "query:a&b",
            "query:a#",
        ] {
            assert!(Place::read(wrong).is_err(), "{wrong}");
        }
        assert!(Place::read(&format!("query:{}", "x".repeat(65))).is_err());
    }

    #[test]
    fn an_address_is_one_of_its_kind_and_keeps_no_secret() {
        use IntegrationKind::{Rest, WebSocket};
        let of = |kind, url: &str, place: Option<&str>| {
            let place = place.map(|place| Place::read(place).unwrap());
            address(kind, url, place.as_ref(), false)
        };
        let kept = of(Rest, "https://api.test/in?a=1", Some("query:k")).unwrap();
        assert_eq!(kept, ("https://api.test/in?a=1".to_owned(), None));
        let kept = of(WebSocket, "wss://api.test/in#se%63r\"t", Some("hash:query:k")).unwrap();
        assert_eq!(kept, ("wss://api.test/in".to_owned(), Some("se%63r\"t".to_owned())));
        for (kind, url, place) in [
            (Rest, "wss://api.test/", None),
            (WebSocket, "https://api.test/", None),
            (Rest, "file:///etc/passwd", None),
            (Rest, "https://", None),
            (Rest, "api.test", None),
            (Rest, "https://ann@api.test/", None),
            (Rest, "https://:secret@api.test/", None),
            (Rest, "https://127.1/", None),
            (Rest, "https://api.test/#secret", None),
            (Rest, "https://api.test/#secret", Some("header:X-Key")),
            (Rest, "https://api.test/", Some("hash:header:X-Key")),
            (Rest, "https://api.test/?k=1", Some("query:k")),
        ] {
            let refused = of(kind, url, place).unwrap_err();
            assert_eq!(refused.code, Code::BadValue, "{url}");
            assert!(!refused.message.contains("secret@"), "{refused:?}");
        }
        assert!(address(Rest, "https://127.1/", None, true).is_ok());
        assert!(address(Rest, "http://169.254.169.254/", None, true).is_err(), "never");
        let long = format!("https://api.test/{}", "x".repeat(URL_BYTES_MAX));
        assert_eq!(of(Rest, &long, None).unwrap_err().code, Code::BadValue);
    }

    #[test]
    fn a_batch_and_a_rate_are_numbers_that_can_be() {
        assert_eq!(
            (batch(1).ok(), batch(10_000).ok(), rate(1).ok()),
            (Some(1), Some(10_000), Some(1))
        );
        assert!(batch(0).is_err() && batch(10_001).is_err() && rate(0).is_err());
        assert_eq!(format("native-lines").ok(), Some(Format::NativeLines));
        assert!(format("xml").is_err());
    }
}
