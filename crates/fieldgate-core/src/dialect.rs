//! What dialects and the server say to each other: asks in, answers and deliveries out.
//!
//! A dialect turns its bytes into an [`Ask`] and an [`Answer`] into its bytes. It decides nothing
//! about rights, storage or routing; the server knows nothing of any wire.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    fault::Fault,
    id::{DeviceId, Epoch, MsgId, Position, Seq, TenantId, UnixMs},
    message::{Content, Message, Priority, Qos},
    profile::Profile,
    topic::{Filter, Topic},
};

/// A credential as it came. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Prove an identity.
    Authenticate(Authenticate),
    /// Publish one message.
    Publish(Box<Draft>),
    /// Publish several; each stands or falls alone, those accepted form one group in the log.
    Batch {
        /// The sender's id of the whole batch.
        reference: Option<MsgId>,
        /// The promise for the batch.
        qos: Qos,
        /// One element each, in order.
        items: Vec<Result<Draft, Fault>>,
    },
    /// Start a subscription.
    Subscribe(Subscribe),
    /// End the subscription of this filter.
    Unsubscribe(Filter),
    /// Send a command to devices.
    Command(Box<CommandAsk>),
    /// Take a command back (envelope or CLI); names the position of the command.
    Cancel(Position),
    /// A device tells how a command ended.
    Reply {
        /// The command.
        command: Position,
        /// Whether it was done.
        ok: bool,
        /// What came with it: bytes of one JSON value.
        payload: Option<Bytes>,
        /// The sender's id of this frame, if it wants an acknowledgement.
        reference: Option<MsgId>,
    },
    /// A delivery arrived.
    Ack(Position),
    /// Wish a device to be in something.
    Desired(Box<DesiredAsk>),
    /// Replace what a device is.
    Profile(Box<ProfileAsk>),
    /// Tell the time.
    Ping,
}

/// The first frame of a client that did not authenticate on the upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticate {
    /// The tenant named, else the default one.
    pub tenant: Option<TenantId>,
    /// How the client shows who it is.
    pub proof: Proof,
}

/// How a client shows who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// By a token.
    Token {
        /// The device that the client says it is; absent for an API key.
        device: Option<DeviceId>,
        /// The token.
        token: Secret,
    },
    /// By what only who has the device's `hmac` secret can compute.
    Mac(AuthMac),
}

/// A signed claim to be a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthMac {
    /// The device.
    pub device: DeviceId,
    /// The client's time.
    pub timestamp: UnixMs,
    /// What makes this claim another than every other: 1 to 64 bytes without control characters.
    pub nonce: Box<str>,
    /// The code, as it came.
    pub mac: Secret,
}

/// A message as a client wrote it, before admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where it goes.
    pub target: Target,
    /// The sender's time.
    pub timestamp: Option<UnixMs>,
    /// The sender's id.
    pub reference: Option<MsgId>,
    /// The promise.
    pub qos: Qos,
    /// Keep as the retained message.
    pub retain: bool,
    /// Lane.
    pub priority: Priority,
    /// Worthless after this time.
    pub expires: Option<UnixMs>,
    /// How to read the payload.
    pub content: Content,
    /// The sender's bytes.
    pub payload: Bytes,
    /// The same as its dialect wrote it, where that is another form.
    pub original: Option<Bytes>,
}

/// Where a draft goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `devices/{id}/telemetry` of the device named, or of the sender.
    Telemetry(Option<DeviceId>),
    /// `devices/{id}/events` of the device named, or of the sender.
    Event(Option<DeviceId>),
    /// `devices/{id}/state/reported` of the device named, or of the sender.
    Reported(Option<DeviceId>),
    /// A topic.
    Topic(Topic),
}

/// A wish to receive.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe {
    /// What.
    pub filter: Filter,
    /// The highest promise wanted.
    pub qos: Qos,
    /// From where; absent: retained messages once, then what comes.
    pub since: Option<Since>,
    /// What happens when this receiver is slow; at QoS 0 only.
    pub slow: Option<SlowMode>,
    /// Messages a second for each topic; at QoS 0 only.
    pub rate_max: Option<f64>,
}

/// Where a replay starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Behind this position.
    After(Position),
    /// At this arrival time, inclusive.
    Time(UnixMs),
    /// At the oldest record there is.
    All,
}

/// What happens to QoS 0 messages that a slow receiver did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SlowMode {
    /// Keep the newest of each topic and resource.
    #[default]
    Latest,
    /// Drop the oldest, and say so in a gap.
    DropOldest,
    /// Close the connection.
    Disconnect,
}

impl SlowMode {
    /// Reads the word that every dialect has for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "latest" => Some(Self::Latest),
            "drop-oldest" => Some(Self::DropOldest),
            "disconnect" => Some(Self::Disconnect),
            _ => None,
        }
    }
}

/// A command, before its devices are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandAsk {
    /// For whom.
    pub to: CommandTarget,
    /// The sender's id.
    pub reference: Option<MsgId>,
    /// Lane.
    pub priority: Priority,
    /// When it becomes worthless; default one hour from now.
    pub expires: Option<UnixMs>,
    /// How to read the payload.
    pub content: Content,
    /// What to do.
    pub payload: Bytes,
}

/// A wish as a client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredAsk {
    /// Of which device.
    pub device: DeviceId,
    /// The sender's id.
    pub reference: Option<MsgId>,
    /// The promise.
    pub qos: Qos,
    /// Refused where something was wished of a resource behind this number.
    pub if_seq: Option<Seq>,
    /// Resources and values to merge in: a JSON object.
    pub patch: Bytes,
}

/// A profile as a device sent it, checked in itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileAsk {
    /// Whose; absent: the sender's.
    pub device: Option<DeviceId>,
    /// The sender's id.
    pub reference: Option<MsgId>,
    /// The promise.
    pub qos: Qos,
    /// The profile.
    pub profile: Profile,
}

/// Who a command is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandTarget {
    /// One device.
    Device(DeviceId),
    /// The members of a group.
    Group(Arc<str>),
    /// Every device whose topic `devices/{id}` the filter selects.
    Filter(Filter),
}

/// Where a command is in its life (`guarantees.md`, "Commands").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandState {
    /// Logged, waiting for its device.
    Queued,
    /// Handed to a connection of the device.
    Sent,
    /// The device has it.
    Acknowledged,
    /// The device did it.
    Completed,
    /// The device could not.
    Failed,
    /// Its time passed.
    Expired,
    /// Its sender took it back.
    Cancelled,
}

/// What the server tells a client, besides deliveries.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The identity holds.
    Authenticated {
        /// Server time.
        timestamp: UnixMs,
        /// Name of this connection's session.
        session: Arc<str>,
        /// The log's life.
        epoch: Epoch,
        /// How often the server pings, in ms.
        heartbeat_ms: u64,
    },
    /// The identity does not hold; the connection closes.
    NotAuthenticated {
        /// Server time.
        timestamp: UnixMs,
    },
    /// The message named is durable.
    Ack {
        /// The sender's id.
        reference: MsgId,
        /// Its number; the first one's for a batch.
        seq: Seq,
        /// For a batch: what was accepted and what refused.
        batch: Option<BatchResult>,
    },
    /// The devices of a command, all queued durably.
    CommandAccepted {
        /// The sender's id, if it gave one.
        reference: Option<MsgId>,
        /// The first one's number.
        seq: Seq,
        /// How many devices.
        device_count: usize,
    },
    /// A refusal; the connection goes on.
    Error {
        /// What was wrong.
        fault: Fault,
        /// The refused frame's id.
        reference: Option<MsgId>,
        /// For a batch: the refused elements.
        refused: Vec<(usize, Fault)>,
    },
    /// A subscription stands.
    Subscribed {
        /// Its filter.
        filter: Filter,
        /// The promise granted.
        qos: Qos,
        /// The position from which live messages follow, or the replay starts.
        position: Position,
    },
    /// A subscription ended.
    Unsubscribed {
        /// Its filter.
        filter: Filter,
    },
    /// A replay reached the present.
    CaughtUp {
        /// Its filter.
        filter: Filter,
        /// Where live begins.
        position: Position,
    },
    /// Positions that will not come, both inclusive.
    Gap {
        /// First.
        from: Position,
        /// Last.
        to: Position,
        /// Why.
        reason: GapReason,
    },
    /// The life of a command moved.
    CommandState {
        /// The command's sender's id, or its position.
        reference: Arc<str>,
        /// Whose.
        device: DeviceId,
        /// To where.
        state: CommandState,
        /// What the device said: one JSON value.
        payload: Option<Bytes>,
    },
    /// The answer to a ping frame.
    Pong {
        /// Server time.
        timestamp: UnixMs,
    },
    /// This node drains: come back after a while.
    Reconnect {
        /// How long to wait, in ms.
        after_ms: u64,
    },
}

/// How a batch went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchResult {
    /// How many elements are durable.
    pub accepted_count: usize,
    /// The others, by index.
    pub refused: Vec<(usize, Fault)>,
}

/// Why positions do not come (`guarantees.md` 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// Older than the log keeps.
    Retention,
    /// Dropped for a slow receiver.
    Overflow,
    /// Numbers that a crash took.
    Crash,
    /// Damaged on disk.
    Damaged,
    /// Of another life of the log.
    Epoch,
}

/// What a delivered frame says beside the message itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Marks<'a> {
    /// The promise of this delivery.
    pub qos: Qos,
    /// A retained message, sent at the start of a subscription.
    pub retain: bool,
    /// A repeat.
    pub dup: bool,
    /// Overtook a backlog; the receiver's position does not move.
    pub ahead: bool,
    /// How many messages this value stands for; 0 or 1: none other.
    pub conflated_count: u32,
    /// The filter whose replay this belongs to.
    pub replay: Option<&'a str>,
}

/// One message on its way to receivers.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Where it stands in the log: the server's `msgid`.
    pub position: Position,
    /// The message.
    pub message: &'a Message,
    /// What this frame says beside it.
    pub marks: Marks<'a>,
}
