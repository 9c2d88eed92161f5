//! The native interface: frames of `docs/protocol/native.md`.

mod received;

use fieldgate_core::{
    close::CloseReason,
    dialect::{CommandState, Delivery, GapReason, Marks},
    fault::Code,
    id::{Epoch, Position, Seq, TenantId, UnixMs},
    message::{Message as Routed, Qos},
    profile::Kind,
    resource::Type,
};
use fieldgate_dialects::native::{command_state, gap_reason};
use serde_json::{Value, json};

use super::{Field, Interface, Message, Way, object, put};

const T: UnixMs = UnixMs(1_634_567_890_123);

const DEVICE: Field = Field("deviceId", "string?", "Which device; absent: that of the connection.");
const TIME: Field = Field("timestamp", "integer?", "When it was so; absent: when it arrives.");
const MSGID: Field =
    Field("msgid", "string?", "The sender's own id, 1 to 64 bytes: it makes a repeat harmless.");
const QOS: Field = Field("qos", "integer?", "0 or 1; absent: 1 with a msgid, else 0.");
const RETAIN: Field = Field("retain", "boolean?", "Keep it as the retained message of its topic.");
const PRIORITY: Field =
    Field("priority", "enum critical normal bulk?", "Its lane where a receiver is slow.");
const EXPIRES: Field = Field("expires", "integer?", "Not delivered after this time.");

/// A frame that a client sends: its key, what it is, its fields beside `type`, and one that is taken.
type Sent = (&'static str, &'static str, &'static [Field], &'static str);

pub(super) const AUTH: [Sent; 2] = [
    (
        "auth",
        "The first frame of a client that showed no token when it connected.",
        &[
            Field("token", "string", "A device's token, an API key, or the token of a person."),
            Field("deviceId", "string?", "The device; absent: it is an API key or a person."),
            Field("tenant", "string?", "Another tenant than default."),
        ],
        r#"{"type":"auth","deviceId":"sensor-001","token":"fg_d_example"}"#,
    ),
    (
        "auth-signed",
        "The first frame of a device with an hmac credential: the secret is not sent.",
        &[
            Field("deviceId", "string", "The device."),
            Field("timestamp", "integer", "Within 60 s of the gateway's clock."),
            Field("nonce", "string", "1 to 64 bytes, another one each time."),
            Field("mac", "string", "HMAC-SHA256 in base64: see native.md."),
            Field("tenant", "string?", "Another tenant than default."),
        ],
        r#"{"type":"auth","tenant":"default","deviceId":"sensor-001","timestamp":1634567890123,"nonce":"n-0001","mac":"uoDN5aqQS69fFWXIFRXklUu6RXoAfbd8T+oDuDQzpmM="}"#,
    ),
];

pub(super) const SENT: [Sent; 15] = [
    (
        "status",
        "Readings of a device: each member of data is a resource.",
        &[
            Field("data", "object", "Resources and their values."),
            DEVICE,
            TIME,
            MSGID,
            QOS,
            RETAIN,
            PRIORITY,
            EXPIRES,
        ],
        r#"{"type":"status","deviceId":"sensor-001","timestamp":1634567890123,"msgid":"m1","data":{"temperature":21.3}}"#,
    ),
    (
        "sample",
        "Readings with units and qualities; this frame needs no type.",
        &[
            Field("values", "list ref Sample", "The readings."),
            Field("quality", "enum good uncertain bad?", "Of all readings that say none."),
            DEVICE,
            TIME,
            MSGID,
            QOS,
            RETAIN,
            PRIORITY,
            EXPIRES,
        ],
        r#"{"deviceId":"plc-101","timestamp":1634567890123,"values":[{"tag":"pressure","value":101.3,"unit":"kPa"}],"quality":"good"}"#,
    ),
    (
        "batch",
        "Several statuses and samples; each stands or falls alone.",
        &[
            Field("data", "list object", "The statuses and samples."),
            DEVICE,
            MSGID,
            QOS,
            RETAIN,
            PRIORITY,
            EXPIRES,
        ],
        r#"{"type":"batch","msgid":"b1","data":[{"deviceId":"sensor-001","data":{"temperature":21.3}}]}"#,
    ),
    (
        "state",
        "What of a device is different now; null removes, what is absent is unchanged.",
        &[Field("reported", "object", "Resources and values."), DEVICE, TIME, MSGID, QOS],
        r#"{"type":"state","deviceId":"lamp-1","timestamp":1634567890123,"reported":{"on":true,"hue":null}}"#,
    ),
    (
        "event",
        "Something happened.",
        &[
            Field("event", "string", "Its name, 1 to 128 bytes."),
            Field("data", "any?", "What belongs to it."),
            DEVICE,
            TIME,
            MSGID,
            QOS,
            PRIORITY,
            EXPIRES,
        ],
        r#"{"type":"event","deviceId":"switch-1","event":"button","data":{"button":2002}}"#,
    ),
    (
        "reply",
        "How a command ended.",
        &[
            Field("msgid", "string", "The msgid of the control frame."),
            Field("status", "enum ok error", "Whether it was done."),
            Field("payload", "any?", "What belongs to it."),
        ],
        r#"{"type":"reply","msgid":"k3f9:812","status":"ok","payload":{"took":12}}"#,
    ),
    (
        "profile",
        "What a device is; it takes the right to say so.",
        &[Field("profile", "ref Profile", "The whole profile."), DEVICE, MSGID, QOS],
        r#"{"type":"profile","deviceId":"lamp-1","msgid":"p1","profile":{"kind":"light","resources":[{"name":"relay","type":"bool","writable":true}]}}"#,
    ),
    (
        "subscribe",
        "Follow the topics that a filter selects.",
        &[
            Field("topic", "string", "A topic or filter."),
            Field("qos", "integer?", "0 or 1."),
            Field(
                "since",
                "any?",
                "History first: {\"after\":\"epoch:seq\"}, {\"time\":ms} or \"all\".",
            ),
            Field(
                "mode",
                "enum latest drop-oldest disconnect?",
                "If this receiver is slow, at QoS 0.",
            ),
            Field("maxRate", "number?", "Messages a second of each topic, at QoS 0."),
        ],
        r#"{"type":"subscribe","topic":"devices/+/telemetry","qos":1,"since":{"after":"k3f9:12"}}"#,
    ),
    (
        "unsubscribe",
        "Follow a filter no more.",
        &[Field("topic", "string", "The filter as it was subscribed to.")],
        r#"{"type":"unsubscribe","topic":"devices/+/telemetry"}"#,
    ),
    (
        "publish",
        "A message on a topic.",
        &[
            Field("topic", "string", "Where."),
            Field("payload", "any?", "Text, {\"base64\":…} for bytes, or any JSON."),
            MSGID,
            QOS,
            RETAIN,
            PRIORITY,
            EXPIRES,
        ],
        r#"{"type":"publish","topic":"alarms/hall","payload":{"level":2},"msgid":"a1"}"#,
    ),
    (
        "command",
        "A command to a device, a group, or all that a filter selects.",
        &[
            Field("to", "string", "A device, group:NAME, or a filter such as devices/+."),
            Field("payload", "any", "Free, or {\"set\":{…},\"transition\":s} and alike."),
            Field("expires", "integer?", "When it is worthless; absent: in an hour."),
            MSGID,
            PRIORITY,
        ],
        r#"{"type":"command","to":"lamp-1","msgid":"c1","payload":{"set":{"on":true}}}"#,
    ),
    (
        "desired",
        "What a device is wished to be in, whenever it can.",
        &[
            Field("to", "string", "The device."),
            Field("state", "object", "Resources and values; null takes a wish back."),
            Field("ifSeq", "integer?", "Refused if something was wished behind this number."),
            MSGID,
            QOS,
        ],
        r#"{"type":"desired","to":"lamp-1","msgid":"w1","state":{"on":true,"scene":null},"ifSeq":812}"#,
    ),
    (
        "cancel",
        "Take a command back.",
        &[Field("msgid", "string", "The position of the command.")],
        r#"{"type":"cancel","msgid":"k3f9:812"}"#,
    ),
    (
        "ack",
        "A delivery or a command arrived.",
        &[Field("msgid", "string", "The msgid of what arrived.")],
        r#"{"type":"ack","msgid":"k3f9:813"}"#,
    ),
    ("ping", "For clients that cannot send pings of WebSocket.", &[], r#"{"type":"ping"}"#),
];

pub(super) fn interface() -> Interface {
    let sent = AUTH.iter().chain(&SENT).map(|(key, about, fields, example)| {
        let kind = key.trim_end_matches("-signed");
        let example: Value = serde_json::from_str(example).unwrap_or_default();
        let mut payload = object(fields);
        if example.get("type").is_some() {
            let type_of = json!({"const": kind});
            if let Some(properties) = payload.get_mut("properties") {
                put(properties, "type", type_of);
            }
            let required = payload.get("required").and_then(Value::as_array).cloned();
            let required = std::iter::once(json!("type")).chain(required.unwrap_or_default());
            put(&mut payload, "required", required.collect());
        }
        Message::new(key, Way::Pub, about, payload).named(kind).like([example])
    });
    let binary = Message {
        content_type: "application/x-protobuf",
        ..Message::new(
            "iotdata",
            Way::Pub,
            "A binary frame: one IoTData of proto/fieldgate.proto; it becomes a sample.",
            json!({"type": "string", "format": "binary"}),
        )
    };
    Interface {
        key: "native",
        address: "/ws",
        title: "Native",
        about: format!(
            "Devices, gateways and apps: one JSON object a frame; also at `/`. With the subprotocol \
             `fieldgate.v1.json` JSON payloads of `mqtt` frames are embedded, without one they are \
             strings. It closes with {}.",
            closes()
        ),
        server: "websocket",
        query: &[
            Field("token", "string?", "A credential, where no header can be set."),
            Field("ticket", "string?", "A ticket of POST /v1/tickets."),
        ],
        parameters: Value::Null,
        messages: sent.chain([binary]).chain(received::received()).collect(),
    }
}

/// The close codes of our own, each once.
fn closes() -> String {
    let mut all: Vec<_> = CloseReason::ALL.iter().filter(|reason| reason.code() >= 4_000).collect();
    all.sort_unstable_by_key(|reason| reason.code());
    all.dedup_by_key(|reason| reason.code());
    let told = all.iter().map(|reason| format!("{} ({})", reason.code(), reason.text()));
    told.collect::<Vec<_>>().join(", ")
}

const fn at(seq: u64) -> Position {
    Position { epoch: Epoch(941_085), seq: Seq(seq) }
}

/// A message as it might be routed.
pub(super) fn routed(topic: &str, payload: &'static str) -> Option<Routed> {
    let (tenant, from) = (TenantId::default_tenant(), "sensor-001".into());
    let message = Routed::json(tenant, topic.parse().ok()?, from, T, payload);
    Some(Routed { is_time_given: true, reference: "m1".parse().ok(), ..message })
}

pub(super) fn delivery(message: &Routed) -> Delivery<'_> {
    let marks = Marks { qos: Qos::AtLeastOnce, ..Marks::default() };
    Delivery { position: at(813), message, marks }
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let states = [
        CommandState::Queued,
        CommandState::Sent,
        CommandState::Acknowledged,
        CommandState::Completed,
        CommandState::Failed,
        CommandState::Expired,
        CommandState::Cancelled,
    ];
    let gaps = [
        GapReason::Retention,
        GapReason::Overflow,
        GapReason::Crash,
        GapReason::Damaged,
        GapReason::Epoch,
    ];
    let mut profile = object(&[
        Field("name", "string?", "For people."),
        Field("manufacturer", "string?", "Who made it."),
        Field("model", "string?", "What it is called by its maker."),
        Field("swversion", "string?", "What runs on it."),
        Field("uniqueid", "string?", "Its address, for the deCONZ interface."),
        Field("assumed", "boolean?", "A reply of ok counts as a report."),
        Field("resources", "list ref Resource?", "What it has."),
    ]);
    let mut resource = object(&[
        Field("name", "string", "1 to 128 bytes."),
        Field("as", "string?", "The canonical resource that it is."),
        Field("unit", "string?", "Its unit."),
        Field("writable", "boolean?", "Whether commands may set it."),
        Field("min", "number?", "The least."),
        Field("max", "number?", "The most."),
        Field("step", "number?", "Values are rounded to it."),
        Field("options", "list string?", "What a string may be."),
    ]);
    for (schema, name, words) in [
        (&mut profile, "kind", Kind::ALL.map(Kind::as_str).to_vec()),
        (&mut resource, "type", Type::ALL.map(Type::as_str).to_vec()),
    ] {
        if let Some(properties) = schema.get_mut("properties") {
            put(properties, name, json!({"enum": words}));
        }
        put(schema, "required", if name == "kind" { json!([name]) } else { json!(["name", name]) });
    }
    vec![
        ("Code", json!({"enum": codes})),
        ("CommandState", json!({"enum": states.map(command_state)})),
        ("GapReason", json!({"enum": gaps.map(gap_reason)})),
        ("Profile", profile),
        ("Resource", resource),
        (
            "Sample",
            object(&[
                Field("tag", "string", "The resource."),
                Field("value", "any", "Its value."),
                Field("unit", "string?", "Its unit, at most 32 bytes."),
                Field("quality", "enum good uncertain bad?", "How far it can be trusted."),
            ]),
        ),
        (
            "Refused",
            object(&[
                Field("index", "integer", "Which element, from 0."),
                Field("resource", "string?", "Which reading of it."),
                Field("code", "ref Code", "The stable code."),
                Field("message", "string", "For people."),
            ]),
        ),
    ]
}
