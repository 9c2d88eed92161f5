//! The opening handshake (RFC 6455 section 4): header values in, a decision out.
//!
//! Pure: the HTTP layer reads the request and writes the answer.

use aws_lc_rs::digest;

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What matters of an upgrade request, each header as sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpgradeHeaders<'a> {
    /// The method.
    pub method: &'a str,
    /// Whether the request came over HTTP/1.1.
    pub http11: bool,
    /// `Host`.
    pub host: Option<&'a str>,
    /// `Upgrade`.
    pub upgrade: Option<&'a str>,
    /// `Connection`; several header lines are joined by commas.
    pub connection: Option<&'a str>,
    /// `Sec-WebSocket-Key`.
    pub key: Option<&'a str>,
    /// `Sec-WebSocket-Version`.
    pub version: Option<&'a str>,
}

/// Why a request is no upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// No `Upgrade: websocket`: an ordinary request.
    #[error("this address speaks WebSocket: send Upgrade: websocket and Connection: Upgrade")]
    NotAnUpgrade,
    /// Not a GET.
    #[error("a WebSocket begins with GET")]
    Method,
    /// Not HTTP/1.1.
    #[error("a WebSocket begins with HTTP/1.1")]
    HttpVersion,
    /// No `Host`.
    #[error("the header Host is missing")]
    Host,
    /// Another version; answered by 426 with `Sec-WebSocket-Version: 13`.
    #[error("WebSocket version 13 is served here")]
    Version,
    /// A key that is not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is 16 bytes in base64")]
    Key,
}

impl HandshakeError {
    /// The HTTP status of the answer. With 426 go the headers `Upgrade: websocket`,
    /// `Connection: Upgrade` and `Sec-WebSocket-Version: 13` (RFC 6455 4.2.2, RFC 9110 15.5.22).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::NotAnUpgrade | Self::Version => 426,
            Self::Method => 405,
            Self::HttpVersion | Self::Host | Self::Key => 400,
        }
    }
}

/// Checks an upgrade and computes the `Sec-WebSocket-Accept` of its answer.
///
/// # Errors
///
/// [`HandshakeError`], in the order of RFC 6455 4.2.1; [`HandshakeError::NotAnUpgrade`] comes first,
/// so that an ordinary request is told from a bad upgrade.
pub fn check_upgrade(headers: &UpgradeHeaders<'_>) -> Result<String, HandshakeError> {
    let has = |value: Option<&str>, token: &str| {
        value.is_some_and(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(headers.upgrade, "websocket") || !has(headers.connection, "upgrade") {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if headers.method != "GET" {
        return Err(HandshakeError::Method);
    }
    if !headers.http11 {
        return Err(HandshakeError::HttpVersion);
    }
    if headers.host.is_none() {
        return Err(HandshakeError::Host);
    }
    if headers.version.map(str::trim) != Some("13") {
        return Err(HandshakeError::Version);
    }
    let key = headers.key.map(str::trim).filter(|key| is_key(key)).ok_or(HandshakeError::Key)?;
    Ok(accept_key(key))
}

/// Whether it is canonical base64 of 16 bytes.
fn is_key(key: &str) -> bool {
    crate::native::base64_decode(key).is_some_and(|bytes| bytes.len() == 16)
}

/// Computes `Sec-WebSocket-Accept` (RFC 6455 4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(GUID.as_bytes());
    crate::native::base64_encode(context.finish().as_ref())
}

/// Chooses the first subprotocol of the client's list (`Sec-WebSocket-Protocol`) that is served.
#[must_use]
pub fn choose_subprotocol<'a>(offered: Option<&str>, served: &[&'a str]) -> Option<&'a str> {
    let offered = offered?;
    offered.split(',').find_map(|name| served.iter().copied().find(|s| *s == name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_holds() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    const GOOD: UpgradeHeaders<'_> = UpgradeHeaders {
        method: "GET",
        http11: true,
        host: Some("gateway"),
        upgrade: Some("WebSocket"),
        connection: Some("keep-alive, Upgrade"),
        key: Some("dGhlIHNhbXBsZSBub25jZQ=="),
        version: Some("13"),
    };

    #[test]
    fn each_fault_of_an_upgrade_is_told_apart() {
        use HandshakeError as E;
        assert_eq!(check_upgrade(&GOOD).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (headers, error, status) in [
            (UpgradeHeaders { upgrade: None, ..GOOD }, E::NotAnUpgrade, 426),
            (UpgradeHeaders { upgrade: Some("websockets"), ..GOOD }, E::NotAnUpgrade, 426),
            (UpgradeHeaders { connection: Some("close"), ..GOOD }, E::NotAnUpgrade, 426),
            (UpgradeHeaders { method: "POST", ..GOOD }, E::Method, 405),
            (UpgradeHeaders { http11: false, ..GOOD }, E::HttpVersion, 400),
            (UpgradeHeaders { host: None, ..GOOD }, E::Host, 400),
            (UpgradeHeaders { version: Some("8"), ..GOOD }, E::Version, 426),
            (UpgradeHeaders { version: None, ..GOOD }, E::Version, 426),
        ] {
            assert_eq!(check_upgrade(&headers), Err(error));
            assert_eq!(error.http_status(), status);
        }
    }

    #[test]
    fn a_key_is_sixteen_bytes() {
        for key in [
            "",
            "short",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZR==",
            "dGhlIHNhbXBsZSBub25jZWU=",
            "!GhlIHNhbXBsZSBub25jZQ==",
        ] {
            let headers = UpgradeHeaders { key: Some(key), ..GOOD };
            assert_eq!(check_upgrade(&headers), Err(HandshakeError::Key), "{key}");
        }
    }

    #[test]
    fn the_first_subprotocol_of_the_client_that_is_served_is_chosen() {
        let served = ["fieldgate.v1.json", "other"];
        assert_eq!(choose_subprotocol(None, &served), None);
        assert_eq!(choose_subprotocol(Some("mqtt"), &served), None);
        let offered = Some("mqtt, other ,fieldgate.v1.json");
        assert_eq!(choose_subprotocol(offered, &served), Some("other"));
    }
}
