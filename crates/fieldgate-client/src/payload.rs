//! Payloads: what a caller has in, one JSON value as the wire wants it out.

use bytes::Bytes;
use fieldgate_dialects::native::base64_encode;
use serde::Serialize;

/// A payload: JSON, text or bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(Result<String, String>);

impl Payload {
    /// Any value as JSON. A value that JSON cannot hold is an error when it is sent.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        Self(serde_json::to_string(value).map_err(|e| e.to_string()))
    }

    /// One JSON value, written already; it is checked when it is sent.
    #[must_use]
    pub fn raw_json(json: &str) -> Self {
        let checked = serde_json::from_str::<&serde_json::value::RawValue>(json);
        Self(checked.map(|value| value.get().to_owned()).map_err(|e| e.to_string()))
    }

    /// Text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::json(text)
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self(Ok(format!("{{\"base64\":\"{}\"}}", base64_encode(bytes))))
    }

    pub(crate) fn into_json(self) -> Result<String, String> {
        self.0
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::text(&text)
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(&bytes)
    }
}

impl From<serde_json::Value> for Payload {
    fn from(value: serde_json::Value) -> Self {
        Self(Ok(value.to_string()))
    }
}
