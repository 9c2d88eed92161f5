//! A client that signs: the `auth` frame with a code, and frames as signed envelopes.
//!
//! Pure: times and nonces are arguments; a nonce is never used twice.

use std::fmt;

use serde_json::value::RawValue;

use super::{finish, raw, start, text};
use crate::native::{
    frame::Frame,
    json,
    mac::{MacKey, Parts, auth_lines},
};

/// Who signs.
#[derive(Clone)]
pub struct Signer {
    tenant: String,
    device: String,
    key: MacKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Signer {
    /// A device of a tenant, with its `hmac` secret.
    pub fn new(tenant: impl Into<String>, device: impl Into<String>, secret: &str) -> Self {
        let (tenant, device) = (tenant.into(), device.into());
        Self { tenant, device, key: MacKey::new(secret.as_bytes()) }
    }

    /// The `auth` frame.
    #[must_use]
    pub fn auth(&self, timestamp_ms: u64, nonce: &str) -> String {
        let lines = auth_lines(&self.tenant, &self.device, timestamp_ms, nonce);
        let mut out = start("auth");
        text(&mut out, "tenant", &self.tenant);
        text(&mut out, "deviceId", &self.device);
        raw(&mut out, "timestamp", &timestamp_ms.to_string());
        text(&mut out, "nonce", nonce);
        text(&mut out, "mac", &self.key.sign(&lines));
        finish(out)
    }

    /// A plain frame as a signed envelope that says the same at this time.
    ///
    /// # Errors
    ///
    /// The parser's, if it is no frame; and if a field holds a control character, or has no place in an
    /// envelope (`ifSeq`, frames of a type that is not known here).
    pub fn envelope(
        &self,
        plain: &str,
        timestamp_ms: u64,
        nonce: &str,
    ) -> Result<String, serde_json::Error> {
        use serde::de::Error as _;
        let frame: Frame<'_> = json::from_object(plain)?;
        let unfit = || serde_json::Error::custom("this frame says more than an envelope can");
        let (kind, to, payload) = fold(&frame).ok_or_else(unfit)?;
        let parts = Parts {
            tenant: &self.tenant,
            ver: "1.0",
            msgid: frame.msgid.as_deref(),
            timestamp_ms,
            nonce,
            from: Some(&self.device),
            to: to.as_deref(),
            kind,
            qos: frame.qos,
            retain: frame.retain,
            priority: frame.priority.as_deref(),
            expires_ms: frame.expires,
            payload: payload.as_deref(),
        };
        let lines = parts.lines();
        let lines = lines.ok_or_else(|| serde_json::Error::custom("a control character"))?;
        let mut out = start(kind);
        let fields = [
            ("ver", Some("1.0")),
            ("msgid", parts.msgid),
            ("nonce", Some(nonce)),
            ("from", parts.from),
            ("to", parts.to),
            ("priority", parts.priority),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                text(&mut out, name, value);
            }
        }
        raw(&mut out, "timestamp", &timestamp_ms.to_string());
        let values = [
            ("qos", parts.qos.map(|qos| qos.to_string())),
            ("retain", parts.retain.map(|retain| retain.to_string())),
            ("expires", parts.expires_ms.map(|expires| expires.to_string())),
            ("payload", payload.clone()),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                raw(&mut out, name, &value);
            }
        }
        text(&mut out, "mac", &self.key.sign(&lines));
        Ok(finish(out))
    }
}

/// The type, the receiver and the payload of the envelope that says what a plain frame says, if one
/// can.
fn fold<'a>(frame: &'a Frame<'a>) -> Option<(&'a str, Option<String>, Option<String>)> {
    let kind = frame.kind.as_deref().unwrap_or("status");
    let owned = |value: Option<&RawValue>| value.map(|value| value.get().to_owned());
    let to = frame.to.as_deref().map(str::to_owned);
    Some(match kind {
        "status" => {
            let data = owned(frame.data.or(frame.payload)).unwrap_or_else(|| "{}".to_owned());
            // The envelope's own time is that of sending; an element of a batch has one besides.
            match frame.timestamp {
                Some(time) => {
                    let element = format!("[{{\"timestamp\":{time},\"data\":{data}}}]");
                    ("batch", to, Some(element))
                }
                None => (kind, to, Some(data)),
            }
        }
        "batch" => (kind, to, owned(frame.data)),
        "state" => (kind, to, owned(frame.reported.or(frame.payload))),
        "profile" => (kind, to, owned(frame.profile.or(frame.payload))),
        "publish" => {
            let topic = frame.named_topic().map(|topic| format!("topic:{topic}"));
            (kind, topic, owned(frame.payload))
        }
        "event" => {
            let time = frame.timestamp.map(|time| time.to_string());
            let members = [
                ("event", frame.event.as_deref().map(quoted)),
                ("data", owned(frame.data)),
                ("timestamp", time),
            ];
            (kind, to, Some(object(members)))
        }
        "reply" => {
            let status = frame.status.as_deref().map(quoted);
            (kind, to, Some(object([("status", status), ("payload", owned(frame.payload))])))
        }
        "subscribe" | "unsubscribe" => {
            let members = [
                ("topic", frame.topic.as_deref().map(quoted)),
                ("since", owned(frame.since)),
                ("mode", frame.mode.as_deref().map(quoted)),
                ("maxRate", frame.max_rate.map(|rate| rate.to_string())),
            ];
            (kind, to, Some(object(members)))
        }
        "desired" if frame.if_seq.is_none() => (kind, to, owned(frame.state.or(frame.payload))),
        "command" | "ack" | "cancel" | "ping" => (kind, to, owned(frame.payload)),
        _ => return None,
    })
}

fn quoted(value: &str) -> String {
    let mut out = Vec::new();
    json::write_string(&mut out, value);
    String::from_utf8(out).unwrap_or_default()
}

fn object<const N: usize>(members: [(&str, Option<String>); N]) -> String {
    let members = members.into_iter().filter_map(|(name, value)| {
        let value = value?;
        Some(format!("\"{name}\":{value}"))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}
