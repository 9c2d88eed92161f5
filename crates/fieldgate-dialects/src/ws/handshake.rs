//! The opening handshake (RFC 6455 section 4): header values in, a decision out.
//!
//! Pure: the HTTP layer reads the request and writes the answer.

use aws_lc_rs::digest;

const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The headers of an upgrade request that matter here, each as sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct UpgradeHeaders<'a> {
    /// `Upgrade`.
    pub upgrade: Option<&'a str>,
    /// `Connection`.
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
    /// Another version; answered by 426.
    #[error("WebSocket version 13 is served here")]
    Version,
    /// A key that is not 16 bytes in base64.
    #[error("Sec-WebSocket-Key is 16 bytes in base64")]
    Key,
}

/// Checks an upgrade and computes the `Sec-WebSocket-Accept` of its answer.
///
/// # Errors
///
/// [`HandshakeError`].
pub fn check_upgrade(headers: &UpgradeHeaders<'_>) -> Result<String, HandshakeError> {
    let has = |value: Option<&str>, token: &str| {
        value.is_some_and(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    if !has(headers.upgrade, "websocket") || !has(headers.connection, "upgrade") {
        return Err(HandshakeError::NotAnUpgrade);
    }
    if headers.version.map(str::trim) != Some("13") {
        return Err(HandshakeError::Version);
    }
    let key = headers.key.map(str::trim).filter(|key| is_key(key)).ok_or(HandshakeError::Key)?;
    Ok(accept_key(key))
}

/// 16 bytes in base64 are 22 significant characters, the last of which carries 4 bits, and `==`.
fn is_key(key: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(base64)
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

    #[test]
    fn each_fault_of_an_upgrade_is_told_apart() {
        let good = UpgradeHeaders {
            upgrade: Some("WebSocket"),
            connection: Some("keep-alive, Upgrade"),
            key: Some("dGhlIHNhbXBsZSBub25jZQ=="),
            version: Some("13"),
        };
        assert!(check_upgrade(&good).is_ok());
        let version = UpgradeHeaders { version: Some("8"), ..good };
        assert_eq!(check_upgrade(&version), Err(HandshakeError::Version));
        let key = UpgradeHeaders { key: Some("short"), ..good };
        assert_eq!(check_upgrade(&key), Err(HandshakeError::Key));
        let plain = UpgradeHeaders { upgrade: None, ..good };
        assert_eq!(check_upgrade(&plain), Err(HandshakeError::NotAnUpgrade));
    }
}
