//! Message authentication codes: the lines that are signed, how they are signed, and how a signed
//! frame is checked.
//!
//! Pure: times and nonces are arguments. HMAC-SHA256 over lines joined by `\n`, in base64 with
//! padding. Invariant: nothing of a frame that its code does not cover is looked at. Source:
//! `native.md`, "Connecting".

use std::fmt;

use aws_lc_rs::{digest, hmac};
use fieldgate_core::{
    dialect::{Ask, AuthMac},
    fault::{Code, Fault},
    id::{TenantId, UnixMs},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Limits, Refusal,
    decode::decode_with,
    json::{self, Text, base64_decode, base64_encode},
};

/// Longest nonce, in bytes.
pub const NONCE_BYTES_MAX: usize = 64;

/// A secret, ready to sign and to check with.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

impl MacKey {
    /// The key of this secret, which is taken byte for byte.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The code of these lines.
    #[must_use]
    pub fn sign(&self, lines: &str) -> String {
        base64_encode(hmac::sign(&self.0, lines.as_bytes()).as_ref())
    }

    /// Whether this is the code of these lines; takes as long for any code of the right length.
    #[must_use]
    pub fn fits(&self, lines: &str, mac: &str) -> bool {
        let mac = base64_decode(mac).unwrap_or_default();
        hmac::verify(&self.0, lines.as_bytes(), &mac).is_ok()
    }

    /// Whether a device signed this claim.
    #[must_use]
    pub fn fits_auth(&self, tenant: &TenantId, claim: &AuthMac) -> bool {
        let AuthMac { device, timestamp, nonce, mac } = claim;
        self.fits(&auth_lines(tenant.as_str(), device.as_str(), timestamp.0, nonce), &mac.0)
    }
}

/// The lines that an `auth` frame signs.
pub(super) fn auth_lines(tenant: &str, device: &str, timestamp_ms: u64, nonce: &str) -> String {
    format!("fieldgate-auth-1\n{tenant}\n{device}\n{timestamp_ms}\n{nonce}")
}

/// Whether this may be a nonce.
pub(super) fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.len() <= NONCE_BYTES_MAX && !nonce.chars().any(char::is_control)
}

/// Every field that an envelope with a code may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    ver: Text<'a>,
    #[serde(borrow, default)]
    msgid: Option<Text<'a>>,
    timestamp: u64,
    #[serde(borrow)]
    nonce: Text<'a>,
    #[serde(borrow, default)]
    from: Option<Text<'a>>,
    #[serde(borrow, default)]
    to: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(default)]
    qos: Option<u8>,
    #[serde(default)]
    retain: Option<bool>,
    #[serde(borrow, default)]
    priority: Option<Text<'a>>,
    #[serde(default)]
    expires: Option<u64>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    mac: Text<'a>,
}

/// What an envelope's code is made of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Parts<'a> {
    pub(super) tenant: &'a str,
    pub(super) ver: &'a str,
    pub(super) msgid: Option<&'a str>,
    pub(super) timestamp_ms: u64,
    pub(super) nonce: &'a str,
    pub(super) from: Option<&'a str>,
    pub(super) to: Option<&'a str>,
    pub(super) kind: &'a str,
    pub(super) qos: Option<u8>,
    pub(super) retain: Option<bool>,
    pub(super) priority: Option<&'a str>,
    pub(super) expires_ms: Option<u64>,
    pub(super) payload: Option<&'a str>,
}

impl Parts<'_> {
    /// The lines that are signed; nothing if a field holds a control character, which could move the
    /// border between two lines.
    pub(super) fn lines(&self) -> Option<String> {
        fn shown<T: ToString>(value: Option<T>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        let lines = [
            "fieldgate-mac-1".to_owned(),
            self.tenant.to_owned(),
            self.ver.to_owned(),
            shown(self.msgid),
            self.timestamp_ms.to_string(),
            self.nonce.to_owned(),
            shown(self.from),
            shown(self.to),
            self.kind.to_owned(),
            shown(self.qos),
            shown(self.retain),
            shown(self.priority),
            shown(self.expires_ms),
            self.payload.map(hex_digest).unwrap_or_default(),
        ];
        let plain = |line: &String| !line.chars().any(char::is_control);
        lines.iter().all(plain).then(|| lines.join("\n"))
    }
}

fn hex_digest(payload: &str) -> String {
    let digest = digest::digest(&digest::SHA256, payload.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What makes a signed frame another than every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The sender's time.
    pub timestamp: UnixMs,
    /// The nonce.
    pub nonce: Box<str>,
}

/// Decodes one text frame of a connection that can be signed for. With `required` a frame without a
/// code is refused; one that has a code is checked in any case.
///
/// # Errors
///
/// [`Refusal`]: `bad_mac` for what is not signed, or not by this key.
pub fn decode_signed(
    text: &str,
    limits: &Limits,
    (tenant, key): (&TenantId, &MacKey),
    required: bool,
) -> Result<(Ask, Option<Seal>), Refusal> {
    let mut seal = None;
    let ask = decode_with(text, limits, |frame| {
        if !required && frame.mac.is_none() {
            return Ok(());
        }
        frame.mac = None;
        seal = Some(check(text, tenant, key)?);
        Ok(())
    })?;
    Ok((ask, seal))
}

fn check(text: &str, tenant: &TenantId, key: &MacKey) -> Result<Seal, Fault> {
    let bad = |message: String| Fault::new(Code::BadMac, message);
    let envelope: Envelope<'_> = json::from_object(text).map_err(|error| {
        let error = error.to_string();
        bad(format!("this is no envelope whose mac covers all of it: {}", json::clip(&error)))
    })?;
    if !is_nonce(&envelope.nonce) {
        let rule = format!("1 to {NONCE_BYTES_MAX} bytes without control characters");
        return Err(bad(format!("a nonce is {rule}")));
    }
    let lines = Parts {
        tenant: tenant.as_str(),
        ver: &envelope.ver,
        msgid: envelope.msgid.as_deref(),
        timestamp_ms: envelope.timestamp,
        nonce: &envelope.nonce,
        from: envelope.from.as_deref(),
        to: envelope.to.as_deref(),
        kind: &envelope.kind,
        qos: envelope.qos,
        retain: envelope.retain,
        priority: envelope.priority.as_deref(),
        expires_ms: envelope.expires,
        payload: envelope.payload.map(RawValue::get),
    }
    .lines();
    let lines = lines.ok_or_else(|| bad("a field holds a control character".to_owned()))?;
    if !key.fits(&lines, &envelope.mac) {
        return Err(bad("the mac does not fit the frame".to_owned()));
    }
    Ok(Seal { timestamp: UnixMs(envelope.timestamp), nonce: (&*envelope.nonce).into() })
}

/// The refusal of a binary frame where each must be signed.
#[must_use]
pub fn unsigned_binary() -> Refusal {
    let text = "a binary frame carries no mac: send an envelope";
    Refusal { fault: Fault::new(Code::BadMac, text), reference: None }
}

#[cfg(test)]
mod tests;
