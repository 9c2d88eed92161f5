//! The fields that any text frame may carry, as serde reads them.
//!
//! In: one JSON object. Out: [`Frame`], borrowed. Absent: meaning, which is `decode`'s.

use fieldgate_core::{
    dialect::Target,
    fault::{Code, Fault},
    id::{DeviceId, MsgId, UnixMs},
    message::{Priority, Qos},
    topic::{Filter, InvalidTopic, Topic},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, Text};

/// Every field of every frame. Unknown fields are ignored; a field that occurs twice is refused.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Frame<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) device_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) token: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) tenant: Option<Text<'a>>,
    pub(crate) timestamp: Option<u64>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) values: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) reported: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) quality: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) event: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) msgid: Option<Text<'a>>,
    pub(crate) qos: Option<u8>,
    pub(crate) retain: Option<bool>,
    #[serde(borrow)]
    pub(crate) priority: Option<Text<'a>>,
    pub(crate) expires: Option<u64>,
    #[serde(borrow)]
    pub(crate) topic: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "json::present")]
    pub(crate) payload: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) from: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) to: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) since: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) mode: Option<Text<'a>>,
    pub(crate) max_rate: Option<f64>,
    #[serde(borrow)]
    pub(crate) ver: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) profile: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) nonce: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) mac: Option<Text<'a>>,
    pub(crate) state: Option<&'a RawValue>,
    pub(crate) if_seq: Option<u64>,
}

impl<'a> Frame<'a> {
    /// Takes out of an envelope's payload what the plain frame of its type has beside it.
    pub(crate) fn unfold(&mut self) {
        let Some(payload) = self.payload.filter(|_| self.ver.is_some()) else { return };
        let inner = || json::from_object::<Frame<'a>>(payload.get()).ok();
        match self.kind.as_deref() {
            Some("batch") if self.data.is_none() => self.data = Some(payload),
            Some("reply") if self.status.is_none() => {
                let Some(inner) = inner() else { return };
                (self.status, self.payload) = (inner.status, inner.payload);
            }
            Some("subscribe" | "unsubscribe") if self.topic.is_none() => {
                let Some(inner) = inner() else { return };
                self.topic = inner.topic;
                (self.since, self.mode, self.max_rate) = (inner.since, inner.mode, inner.max_rate);
            }
            _ => (),
        }
    }

    /// The sender's id of this frame.
    pub(crate) fn reference(&self) -> Result<Option<MsgId>, Fault> {
        let parse = |id: &Text<'_>| id.parse().map_err(bad_value);
        self.msgid.as_ref().map(parse).transpose()
    }

    /// The promise: as named, else 1 with a `msgid` and 0 without (`native.md`, "Quality of service").
    pub(crate) fn promise(&self) -> Result<Qos, Fault> {
        match self.qos {
            None if self.msgid.is_some() => Ok(Qos::AtLeastOnce),
            None | Some(0) => Ok(Qos::AtMostOnce),
            Some(1) => Ok(Qos::AtLeastOnce),
            Some(2) => Err(Fault::new(Code::BadValue, "qos 2 is not served yet: send qos 1")),
            Some(other) => Err(Fault::new(Code::BadValue, format!("qos is 0 or 1, not {other}"))),
        }
    }

    pub(crate) fn lane(&self) -> Result<Priority, Fault> {
        match self.priority.as_deref() {
            None | Some("normal") => Ok(Priority::Normal),
            Some("critical") => Ok(Priority::Critical),
            Some("bulk") => Ok(Priority::Bulk),
            Some(_) => {
                Err(Fault::new(Code::BadValue, "priority is one of critical, normal and bulk"))
            }
        }
    }

    pub(crate) fn timestamp(&self) -> Option<UnixMs> {
        self.timestamp.map(UnixMs)
    }

    pub(crate) fn expires(&self) -> Option<UnixMs> {
        self.expires.map(UnixMs)
    }

    /// The device that the frame speaks for: `deviceId`, or `from` in an envelope.
    pub(crate) fn device(&self) -> Result<Option<DeviceId>, Fault> {
        let device = self.device_id.as_deref();
        if device.is_some() && self.from.is_some() && self.from.as_deref() != device {
            return Err(bad_value("deviceId and from name different devices"));
        }
        device.or(self.from.as_deref()).map(|id| id.parse().map_err(bad_value)).transpose()
    }

    /// Where telemetry or an event goes: the sender's own topic, unless an envelope names another.
    pub(crate) fn target(&self, own: fn(Option<DeviceId>) -> Target) -> Result<Target, Fault> {
        let device = self.device()?;
        match self.to.as_deref() {
            None | Some("server") => Ok(own(device)),
            Some(to) => match to.strip_prefix("topic:") {
                Some(name) => topic(name).map(Target::Topic),
                None => Err(bad_value("to is server, or topic: and a topic")),
            },
        }
    }

    pub(crate) fn check_version(&self) -> Result<(), Fault> {
        match self.ver.as_deref() {
            None => Ok(()),
            Some(ver) if ver == "1" || ver.starts_with("1.") => Ok(()),
            Some(_) => Err(bad_value("ver is 1.0")),
        }
    }
    /// The topic that the frame names: `topic`, or `to` in an envelope.
    pub(crate) fn named_topic(&self) -> Option<&str> {
        let to = || self.to.as_deref()?.strip_prefix("topic:");
        self.topic.as_deref().or_else(to)
    }
}

/// Reads only the `msgid`, for the answer to a frame that could not be read otherwise.
pub fn reference_of(text: &str) -> Option<MsgId> {
    #[derive(Deserialize)]
    struct Only<'a> {
        #[serde(borrow)]
        msgid: Option<Text<'a>>,
    }
    json::from_object::<Only<'_>>(text).ok()?.msgid?.parse().ok()
}

pub(crate) fn topic(name: &str) -> Result<Topic, Fault> {
    name.parse().map_err(|e: InvalidTopic| Fault::new(Code::BadTopic, e.to_string()))
}

pub(crate) fn filter(name: &str) -> Result<Filter, Fault> {
    name.parse().map_err(|e: InvalidTopic| Fault::new(Code::BadTopic, e.to_string()))
}

pub(crate) fn missing(field: &str, frame: &str) -> Fault {
    Fault::new(Code::MissingField, format!("a {frame} frame needs the field {field:?}"))
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands errors over by value")]
pub(crate) fn bad_value(error: impl ToString) -> Fault {
    Fault::new(Code::BadValue, error.to_string())
}
