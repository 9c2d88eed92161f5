//! What the native interface sends to a client, each example made by its encoder.

use fieldgate_core::{
    dialect::{Answer, BatchResult, CommandState, GapReason},
    fault::{Code, Fault},
    id::Seq,
    message::Qos,
    topic::Filter,
};
use fieldgate_dialects::native::{Form, encode_answer, encode_control, encode_delivery};
use serde_json::{Value, json};

use super::{
    super::{Field, Message, Way, object, put},
    T, at, delivery, routed,
};

/// The `type` of a frame, what it is, and its other fields.
type Received = (&'static str, &'static str, &'static [Field]);

const FRAMES: [Received; 12] = [
    (
        "auth_response",
        "The answer to auth, or to a credential shown when connecting.",
        &[
            Field("status", "enum success error", "After error the connection closes."),
            Field("reason", "string?", "Why not."),
            Field("timestamp", "integer", "The gateway's time."),
            Field("session", "string?", "The name of this connection."),
            Field("resumed", "boolean?", "Always false."),
            Field("epoch", "string?", "The life of the log: the first half of positions."),
            Field("heartbeatInterval", "integer?", "How often the gateway pings, in ms."),
        ],
    ),
    (
        "ack",
        "The message is on stable storage.",
        &[
            Field("msgid", "string?", "The sender's id."),
            Field("seq", "integer", "Its number."),
            Field("accepted", "integer?", "Of a batch: how many elements stand."),
            Field("refused", "list ref Refused?", "What does not stand, and why."),
            Field("devices", "integer?", "Of a command: how many devices it goes to."),
        ],
    ),
    (
        "error",
        "A refusal; the connection goes on.",
        &[
            Field("code", "ref Code", "The stable code."),
            Field("message", "string", "For people."),
            Field("ref", "string?", "The msgid of the refused frame."),
            Field("resource", "string?", "The reading or resource concerned."),
            Field("min", "any?", "The least that may be."),
            Field("max", "any?", "The most that may be."),
            Field("refused", "list ref Refused?", "The refused elements of a batch."),
        ],
    ),
    (
        "mqtt",
        "A routed message.",
        &[
            Field("topic", "string", "Where it was published."),
            Field("payload", "any", "As its sender wrote it."),
            Field("seq", "integer", "Its number, which rises."),
            Field("timestamp", "integer", "When it happened."),
            Field("from", "string", "Who sent it."),
            Field("msgid", "string", "Its position, epoch:seq."),
            Field("ref", "string?", "Its sender's id of it."),
            Field("quality", "const uncertain?", "Its sender's time was not believed."),
            Field("deviceTimestamp", "integer?", "That time."),
            Field("qos", "integer?", "1, unless it is 0."),
            Field("retain", "boolean?", "It was retained."),
            Field("dup", "boolean?", "It is sent again."),
            Field("ahead", "boolean?", "It came before older ones: positions do not move."),
            Field("conflated", "integer?", "How many messages it stands for."),
            Field("replay", "string?", "The filter whose history it belongs to."),
        ],
    ),
    (
        "control",
        "A command for this device.",
        &[
            Field("msgid", "string", "Its position, for reply and ack."),
            Field("deviceId", "string", "The device."),
            Field("payload", "any", "What to do."),
            Field("timestamp", "integer", "When it was sent."),
            Field("qos", "integer", "Its promise."),
            Field("dup", "boolean?", "It is sent again."),
        ],
    ),
    (
        "subscribed",
        "A subscription stands.",
        &[
            Field("topic", "string", "The filter."),
            Field("qos", "integer", "The promise."),
            Field("position", "string", "Live messages, or the history, follow this position."),
        ],
    ),
    ("unsubscribed", "A subscription ended.", &[Field("topic", "string", "The filter.")]),
    (
        "caught_up",
        "The history of a subscription is complete.",
        &[
            Field("topic", "string", "The filter."),
            Field("position", "string", "What follows is live."),
        ],
    ),
    (
        "gap",
        "Positions, both inclusive, that will not come.",
        &[
            Field("from", "string", "The first."),
            Field("to", "string", "The last."),
            Field("reason", "ref GapReason", "Why."),
        ],
    ),
    (
        "command_state",
        "The life of a command moved.",
        &[
            Field("ref", "string", "The msgid of the command, or its position."),
            Field("deviceId", "string", "Whose."),
            Field("state", "ref CommandState", "To where."),
            Field("payload", "any?", "What the device said, or {\"error\":{…}}."),
        ],
    ),
    ("pong", "The answer to ping.", &[Field("timestamp", "integer", "The gateway's time.")]),
    (
        "reconnect",
        "The gateway stops: come back.",
        &[Field("after", "integer", "After so many ms.")],
    ),
];

/// What a client receives.
pub(super) fn received() -> Vec<Message> {
    let frame = |(kind, about, fields): &Received| {
        let mut payload = object(fields);
        if let Some(properties) = payload.get_mut("properties") {
            put(properties, "type", json!({"const": kind}));
        }
        let required = payload.get("required").and_then(Value::as_array).cloned();
        let required = std::iter::once(json!("type")).chain(required.unwrap_or_default());
        put(&mut payload, "required", required.collect());
        let examples = match *kind {
            "mqtt" => delivered().into_iter().collect(),
            "control" => controlled().into_iter().collect(),
            kind => answers()
                .into_iter()
                .map(|answer| answered(&answer))
                .filter(|frame| frame.get("type").and_then(Value::as_str) == Some(kind))
                .collect::<Vec<_>>(),
        };
        Message::new(kind, Way::Sub, about, payload).like(examples)
    };
    FRAMES.iter().map(frame).collect()
}

fn answered(answer: &Answer) -> Value {
    let mut text = Vec::new();
    encode_answer(answer, Form::V1, &mut text);
    serde_json::from_slice(&text).unwrap_or_default()
}

fn delivered() -> Option<Value> {
    let message = routed("devices/sensor-001/telemetry", r#"{"temperature":21.3}"#)?;
    let mut text = Vec::new();
    encode_delivery(&delivery(&message), Form::V1, &mut text);
    serde_json::from_slice(&text).ok()
}

fn controlled() -> Option<Value> {
    let message = routed("devices/lamp-1/commands", r#"{"set":{"on":true}}"#)?;
    let mut text = Vec::new();
    encode_control(&delivery(&message), &"lamp-1".parse().ok()?, Form::V1, &mut text);
    serde_json::from_slice(&text).ok()
}

/// At least one of each frame but `mqtt` and `control`.
fn answers() -> Vec<Answer> {
    let fault = || Fault::new(Code::BadValue, "the value of \"temp\" is not a finite number");
    let mut all = vec![
        Answer::Authenticated {
            timestamp: T,
            session: "s-1".into(),
            epoch: at(1).epoch,
            heartbeat_ms: 30_000,
        },
        Answer::NotAuthenticated { timestamp: T },
        Answer::Error { fault: fault(), reference: "m1".parse().ok(), refused: Vec::new() },
        Answer::CommandAccepted { reference: "c1".parse().ok(), seq: Seq(813), device_count: 1 },
        Answer::Gap { from: at(12), to: at(14), reason: GapReason::Overflow },
        Answer::Pong { timestamp: T },
        Answer::Reconnect { after_ms: 1_000 },
    ];
    if let Ok(reference) = "m1".parse() {
        let batch = Some(BatchResult { accepted_count: 2, refused: vec![(1, fault())] });
        all.push(Answer::Ack { reference, seq: Seq(812), batch });
    }
    if let Ok(filter) = "devices/+/telemetry".parse::<Filter>() {
        let (qos, position) = (Qos::AtLeastOnce, at(812));
        all.push(Answer::Subscribed { filter: filter.clone(), qos, position });
        all.push(Answer::CaughtUp { filter: filter.clone(), position });
        all.push(Answer::Unsubscribed { filter });
    }
    if let Ok(device) = "lamp-1".parse() {
        let (reference, payload) = ("c1".into(), Some(r#"{"took":12}"#.into()));
        all.push(Answer::CommandState {
            reference,
            device,
            state: CommandState::Completed,
            payload,
        });
    }
    all
}
