//! The message: what every dialect translates to and from.
//!
//! Pure. Invariant: a [`Message`] has been checked by admission (rights, sizes, topic); its payload
//! is the sender's bytes, untouched, or made of its `original`, which is.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    id::{MsgId, TenantId, UnixMs},
    topic::Topic,
};

/// Delivery promise, as in MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Qos {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once; acknowledged when durable.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// The lane a message travels in when a receiver cannot keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// May overtake a backlog.
    Critical,
    /// The default.
    #[default]
    Normal,
    /// Waits for the other two.
    Bulk,
}

/// What a message is about; follows from its topic and is kept so that nobody parses it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `devices/{id}/telemetry`: readings.
    Telemetry,
    /// `devices/{id}/events`: something happened.
    Event,
    /// `devices/{id}/commands`.
    Command,
    /// `devices/{id}/replies`.
    Reply,
    /// `devices/{id}/state`.
    State,
    /// `devices/{id}/state/reported`: what a device is in, as far as it changed.
    Reported,
    /// `devices/{id}/state/desired`: what a device is wished to be in, as far as that changes.
    Desired,
    /// `devices/{id}/presence`.
    Presence,
    /// Any other topic.
    Application,
}

/// How the payload's bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// One valid JSON value, compact or not, as the sender wrote it.
    Json,
    /// UTF-8 text.
    Text,
    /// Anything else.
    Bytes,
}

/// One accepted message. Immutable; shared from admission on.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it was published.
    pub topic: Topic,
    /// What it is about.
    pub kind: Kind,
    /// Who sent it: a device id, or the name of a key or user.
    pub from: Arc<str>,
    /// When it happened; the arrival time where the sender gave none or an unbelievable one.
    pub timestamp: UnixMs,
    /// Whether `timestamp` is the sender's.
    pub is_time_given: bool,
    /// The sender's own time, only where admission replaced it (`resources.md` 1).
    pub device_timestamp: Option<UnixMs>,
    /// The sender's own id of this message.
    pub reference: Option<MsgId>,
    /// The sender's delivery promise.
    pub qos: Qos,
    /// Keep as the topic's retained message. An empty payload deletes it.
    pub retain: bool,
    /// Lane.
    pub priority: Priority,
    /// Not delivered after this time.
    pub expires: Option<UnixMs>,
    /// How to read the payload.
    pub content: Content,
    /// The sender's bytes.
    pub payload: Bytes,
    /// Where the sender's dialect says the same in another form: that form, byte for byte. It is for
    /// receivers of the sender's own dialect; all others read `payload`.
    pub original: Option<Bytes>,
}

impl Message {
    /// JSON of who it is from, of the kind of its topic, at QoS 1, that arrived at this time; what else it
    /// is, its maker says.
    #[must_use]
    pub fn json(
        tenant: TenantId,
        topic: Topic,
        from: Arc<str>,
        timestamp: UnixMs,
        payload: impl Into<Bytes>,
    ) -> Self {
        Self {
            tenant,
            kind: topic.kind(),
            topic,
            from,
            timestamp,
            is_time_given: false,
            device_timestamp: None,
            reference: None,
            qos: Qos::AtLeastOnce,
            retain: false,
            priority: Priority::Normal,
            expires: None,
            content: Content::Json,
            payload: payload.into(),
            original: None,
        }
    }

    /// Whether its time has passed: it is no longer delivered.
    #[must_use]
    pub fn is_over(&self, time: UnixMs) -> bool {
        self.expires.is_some_and(|expires| expires <= time)
    }

    /// The bytes that it holds of its sender's: payload and original.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.payload.len() + self.original.as_ref().map_or(0, Bytes::len)
    }
}

/// Never prints payload and original, which may hold anything.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("tenant", &self.tenant)
            .field("topic", &self.topic)
            .field("from", &self.from)
            .field("reference", &self.reference)
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .field("payload_len", &self.payload.len())
            .finish_non_exhaustive()
    }
}
