//! The client's side of the dialect: requests out, server frames in. Used by the SDK and the tests.
//!
//! Pure. A frame of a type that this release does not know is [`ServerFrame::Other`], never an error.

mod signer;

use fieldgate_core::{
    dialect::{Since, SlowMode, Subscribe},
    id::Position,
    message::Qos,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, Text, write_string};

pub use signer::Signer;

/// A frame of the server, as far as a client needs to know it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ServerFrame {
    /// The answer to the credential.
    Auth {
        /// Whether it holds.
        ok: bool,
        /// The life of the log.
        epoch: String,
    },
    /// A message is durable.
    Ack {
        /// The id that the client gave.
        msgid: Option<String>,
        /// Its number.
        seq: u64,
        /// For a command: how many devices.
        devices: Option<u64>,
        /// For a batch: how many elements were refused.
        refused_count: usize,
    },
    /// A refusal.
    Error {
        /// The stable code.
        code: String,
        /// For people.
        message: String,
        /// The refused frame's id.
        reference: Option<String>,
    },
    /// A routed message.
    Message(Box<Received>),
    /// A command for this device.
    Control {
        /// The command's position.
        msgid: String,
        /// For whom.
        device: String,
        /// What to do: one JSON value.
        payload: String,
        /// Whether it may have come before.
        dup: bool,
    },
    /// A subscription stands.
    Subscribed {
        /// Its filter.
        topic: String,
        /// Where it starts.
        position: Option<Position>,
    },
    /// A subscription ended.
    Unsubscribed {
        /// Its filter.
        topic: String,
    },
    /// A replay reached the present.
    CaughtUp {
        /// Its filter.
        topic: String,
        /// Where live begins.
        position: Option<Position>,
    },
    /// Positions that will not come.
    Gap {
        /// First.
        from: String,
        /// Last.
        to: String,
        /// Why.
        reason: String,
    },
    /// The life of a command moved.
    CommandState {
        /// The command's sender's id.
        reference: String,
        /// Whose.
        device: String,
        /// To where.
        state: String,
        /// What the device said.
        payload: Option<String>,
    },
    /// The server drains.
    Reconnect {
        /// How long to wait, in ms.
        after_ms: u64,
    },
    /// The answer to a ping frame.
    Pong,
    /// Anything else.
    Other,
}

/// A message as a subscriber gets it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Received {
    /// Its topic.
    pub topic: String,
    /// Its payload: one JSON value as text.
    pub payload: String,
    /// Its number.
    pub seq: u64,
    /// When it happened, in Unix ms.
    pub timestamp: u64,
    /// Who sent it.
    pub from: String,
    /// Its position.
    pub msgid: String,
    /// The sender's own id.
    pub reference: Option<String>,
    /// The promise of this delivery.
    pub qos: u8,
    /// A retained message.
    pub retain: bool,
    /// A repeat.
    pub dup: bool,
    /// Overtook a backlog.
    pub ahead: bool,
    /// How many messages this stands for.
    pub conflated_count: u32,
    /// The filter whose replay this belongs to.
    pub replay: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw<'a> {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    epoch: String,
    msgid: Option<String>,
    seq: u64,
    devices: Option<u64>,
    #[serde(borrow)]
    refused: Vec<&'a RawValue>,
    code: String,
    message: String,
    #[serde(rename = "ref")]
    reference: Option<String>,
    topic: String,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    timestamp: u64,
    from: String,
    qos: u8,
    retain: bool,
    dup: bool,
    ahead: bool,
    conflated: u32,
    replay: Option<String>,
    device_id: String,
    position: Option<String>,
    to: String,
    reason: String,
    state: String,
    after: u64,
}

/// The types of frames that this release reads.
const KNOWN: &[&str] = &[
    "auth_response",
    "ack",
    "error",
    "mqtt",
    "control",
    "subscribed",
    "unsubscribed",
    "caught_up",
    "gap",
    "command_state",
    "reconnect",
    "pong",
];

/// Reads the type alone, so that the fields of a frame from the future cannot be wrong.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
}

/// Decodes one text frame of the server.
///
/// # Errors
///
/// The parser's error if it is no JSON object with a `type`, or a field of a known type is malformed.
pub fn decode_server_frame(text: &str) -> Result<ServerFrame, serde_json::Error> {
    let kind: Kind<'_> = json::from_object(text)?;
    if !KNOWN.contains(&&*kind.kind) {
        return Ok(ServerFrame::Other);
    }
    let raw: Raw<'_> = serde_json::from_str(text)?;
    let payload = raw.payload.map(|p| p.get().to_owned());
    let position = raw.position.and_then(|p| p.parse().ok());
    Ok(match raw.kind.as_str() {
        "auth_response" => ServerFrame::Auth { ok: raw.status == "success", epoch: raw.epoch },
        "ack" => ServerFrame::Ack {
            msgid: raw.msgid,
            seq: raw.seq,
            devices: raw.devices,
            refused_count: raw.refused.len(),
        },
        "error" => {
            ServerFrame::Error { code: raw.code, message: raw.message, reference: raw.reference }
        }
        "mqtt" => ServerFrame::Message(Box::new(Received {
            topic: raw.topic,
            payload: payload.unwrap_or_default(),
            seq: raw.seq,
            timestamp: raw.timestamp,
            from: raw.from,
            msgid: raw.msgid.unwrap_or_default(),
            reference: raw.reference,
            qos: raw.qos,
            retain: raw.retain,
            dup: raw.dup,
            ahead: raw.ahead,
            conflated_count: raw.conflated,
            replay: raw.replay,
        })),
        "control" => ServerFrame::Control {
            msgid: raw.msgid.unwrap_or_default(),
            device: raw.device_id,
            payload: payload.unwrap_or_default(),
            dup: raw.dup,
        },
        "subscribed" => ServerFrame::Subscribed { topic: raw.topic, position },
        "unsubscribed" => ServerFrame::Unsubscribed { topic: raw.topic },
        "caught_up" => ServerFrame::CaughtUp { topic: raw.topic, position },
        "gap" => ServerFrame::Gap { from: raw.from, to: raw.to, reason: raw.reason },
        "command_state" => ServerFrame::CommandState {
            reference: raw.reference.unwrap_or_default(),
            device: raw.device_id,
            state: raw.state,
            payload,
        },
        "reconnect" => ServerFrame::Reconnect { after_ms: raw.after },
        "pong" => ServerFrame::Pong,
        _ => ServerFrame::Other,
    })
}

fn start(kind: &str) -> Vec<u8> {
    let mut out = b"{\"type\":".to_vec();
    write_string(&mut out, kind);
    out
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(format!(",\"{name}\":").as_bytes());
    write_string(out, value);
}

fn raw(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
}

fn finish(mut out: Vec<u8>) -> String {
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}

/// The `auth` frame.
#[must_use]
pub fn encode_auth(device: Option<&str>, token: &str) -> String {
    let mut out = start("auth");
    if let Some(device) = device {
        text(&mut out, "deviceId", device);
    }
    text(&mut out, "token", token);
    finish(out)
}

/// A `publish` frame; `payload` is one JSON value.
#[must_use]
pub fn encode_publish(
    topic: &str,
    payload: &str,
    qos: Qos,
    retain: bool,
    msgid: Option<&str>,
) -> String {
    let mut out = start("publish");
    text(&mut out, "topic", topic);
    raw(&mut out, "payload", payload);
    raw(&mut out, "qos", &(qos as u8).to_string());
    if retain {
        raw(&mut out, "retain", "true");
    }
    if let Some(msgid) = msgid {
        text(&mut out, "msgid", msgid);
    }
    finish(out)
}

/// A `status` frame of this device; `data` is one JSON object.
#[must_use]
pub fn encode_status(data: &str, timestamp_ms: Option<u64>, msgid: Option<&str>) -> String {
    let mut out = start("status");
    raw(&mut out, "data", data);
    if let Some(timestamp) = timestamp_ms {
        raw(&mut out, "timestamp", &timestamp.to_string());
    }
    if let Some(msgid) = msgid {
        text(&mut out, "msgid", msgid);
    }
    finish(out)
}

/// A `subscribe` frame; a refusal names its `msgid`.
#[must_use]
pub fn encode_subscribe(ask: &Subscribe, msgid: &str) -> String {
    let mut out = start("subscribe");
    text(&mut out, "msgid", msgid);
    text(&mut out, "topic", ask.filter.as_str());
    raw(&mut out, "qos", &(ask.qos as u8).to_string());
    match ask.since {
        None => (),
        Some(Since::All) => text(&mut out, "since", "all"),
        Some(Since::Time(time)) => raw(&mut out, "since", &format!("{{\"time\":{}}}", time.0)),
        Some(Since::After(at)) => raw(&mut out, "since", &format!("{{\"after\":\"{at}\"}}")),
    }
    match ask.slow {
        None => (),
        Some(SlowMode::Latest) => text(&mut out, "mode", "latest"),
        Some(SlowMode::DropOldest) => text(&mut out, "mode", "drop-oldest"),
        Some(SlowMode::Disconnect) => text(&mut out, "mode", "disconnect"),
    }
    if let Some(rate) = ask.rate_max {
        raw(&mut out, "maxRate", &rate.to_string());
    }
    finish(out)
}

/// An `unsubscribe` frame; a refusal names its `msgid`.
#[must_use]
pub fn encode_unsubscribe(filter: &str, msgid: &str) -> String {
    let mut out = start("unsubscribe");
    text(&mut out, "msgid", msgid);
    text(&mut out, "topic", filter);
    finish(out)
}

/// A `command` frame; `payload` is one JSON value.
#[must_use]
pub fn encode_command(to: &str, payload: &str, msgid: &str, expires_ms: Option<u64>) -> String {
    let mut out = start("command");
    text(&mut out, "to", to);
    text(&mut out, "msgid", msgid);
    raw(&mut out, "payload", payload);
    if let Some(expires) = expires_ms {
        raw(&mut out, "expires", &expires.to_string());
    }
    finish(out)
}

/// An `ack` frame for a delivery or command.
#[must_use]
pub fn encode_ack(msgid: &str) -> String {
    let mut out = start("ack");
    text(&mut out, "msgid", msgid);
    finish(out)
}

/// A `reply` frame; `payload` is one JSON value.
#[must_use]
pub fn encode_reply(msgid: &str, ok: bool, payload: Option<&str>) -> String {
    let mut out = start("reply");
    text(&mut out, "msgid", msgid);
    text(&mut out, "status", if ok { "ok" } else { "error" });
    if let Some(payload) = payload {
        raw(&mut out, "payload", payload);
    }
    finish(out)
}

/// An `event` frame of this device; `data` is one JSON value.
#[must_use]
pub fn encode_event(
    event: &str,
    data: Option<&str>,
    timestamp_ms: Option<u64>,
    msgid: Option<&str>,
) -> String {
    let mut out = start("event");
    text(&mut out, "event", event);
    if let Some(data) = data {
        raw(&mut out, "data", data);
    }
    if let Some(timestamp) = timestamp_ms {
        raw(&mut out, "timestamp", &timestamp.to_string());
    }
    if let Some(msgid) = msgid {
        text(&mut out, "msgid", msgid);
    }
    finish(out)
}

/// A `batch` frame; each element is one JSON object, a status or a sample.
#[must_use]
pub fn encode_batch<'a>(
    elements: impl IntoIterator<Item = &'a str>,
    msgid: Option<&str>,
) -> String {
    let mut out = start("batch");
    if let Some(msgid) = msgid {
        text(&mut out, "msgid", msgid);
    }
    out.extend_from_slice(b",\"data\":[");
    for (nth, element) in elements.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend_from_slice(element.as_bytes());
    }
    out.push(b']');
    finish(out)
}

/// A `cancel` frame: takes the command at this position back.
#[must_use]
pub fn encode_cancel(msgid: &str) -> String {
    let mut out = start("cancel");
    text(&mut out, "msgid", msgid);
    finish(out)
}

/// A `ping` frame, for those who cannot send a WebSocket ping.
#[must_use]
pub fn encode_ping() -> String {
    finish(start("ping"))
}
