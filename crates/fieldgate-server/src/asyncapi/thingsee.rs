//! The Thingsee interfaces: arrays in, arrays out (`docs/protocol/thingsee.md`).

use fieldgate_core::id::TenantId;
use fieldgate_dialects::thingsee::{About, Ids, catalogue, downlink, write_objects};
use serde_json::{Value, json};

use super::{Field, Interface, Message, Way, native, object, put, schema_ref};

/// What a source sends; taken by its decoder.
pub(super) const ARRAY: &str = r#"[{"tsmId":12100,"tsmEv":10,"airp":101364.599,"lght":6,"temp":21.3,"humd":21.7,"tsmTs":1520416221,"tsmTuid":"XXXX03X2Z80562557","tsmGw":"TSGW02ABC12345678"}]"#;
/// What is sent to a device of a source, as a command that is taken.
const COMMAND: &[u8] = br#"{"set":{"measurementInterval":10,"reportInterval":60}}"#;

fn arrays() -> Value {
    json!({"type": "array", "items": schema_ref("ThingseeMessage")})
}

/// `/thingsee`.
pub(super) fn out() -> Interface {
    let written = || -> Option<Value> {
        let message = native::routed("devices/sensor-001/telemetry", r#"{"temperature":21.3}"#)?;
        let known = |_: &TenantId, _: &str| About::default();
        let mut text = b"[".to_vec();
        write_objects(&mut text, &native::delivery(&message), &Ids::default(), &known);
        text.push(b']');
        serde_json::from_slice(&text).ok()
    };
    Interface {
        key: "thingseeOut",
        address: "/thingsee",
        title: "Thingsee, out",
        about:
            "Arrays of Thingsee messages, and nothing else: a client may call forEach on whatever \
                comes. First the last state of each device, then what is routed."
                .to_owned(),
        server: "websocket",
        query: &[
            Field("device", "string?", "The messages of this device; may be repeated."),
            Field("group", "string?", "Those of the devices of this group; may be repeated."),
            Field("tsmId", "integer?", "These messages alone; may be repeated, 8 at most."),
            Field("since", "string?", "History first: all, a position, or a time."),
            Field("token", "string?", "A credential, where no header can be set."),
            Field("ticket", "string?", "A ticket of POST /v1/tickets."),
        ],
        parameters: Value::Null,
        messages: vec![
            Message::new("array", Way::Sub, "At least one message.", arrays()).like(written()),
        ],
    }
}

/// `/ingest/thingsee/{source}`.
pub(super) fn source() -> Interface {
    let command = || -> Option<Value> {
        let mut text = Vec::new();
        downlink::request(COMMAND).ok()?.write(&mut text, "TSPR04E2O90201558", 1_042);
        serde_json::from_slice(&text).ok()
    };
    let binary = Message {
        content_type: "application/cbor",
        ..Message::new(
            "cbor",
            Way::Pub,
            "The same in CBOR as edge gateways write it, bare or in a zlib stream.",
            json!({"type": "string", "format": "binary"}),
        )
    };
    Interface {
        key: "thingseeIn",
        address: "/ingest/thingsee/{source}",
        title: "Thingsee, in",
        about: "The Thingsee cloud, or a gateway, brings messages of its devices, with the token of its \
                source. POST to the same address is answered when they are stored."
            .to_owned(),
        server: "websocket",
        query: &[Field("token", "string?", "The token of the source, where no header can be set.")],
        parameters: json!({"source": {"description": "The integration of the kind thingsee-in."}}),
        messages: vec![
            Message::new("array", Way::Pub, "Messages of any devices, or one alone.", json!({
                "oneOf": [arrays(), schema_ref("ThingseeMessage")],
            }))
            .like(serde_json::from_str(ARRAY).ok()),
            binary,
            Message::new("commands", Way::Sub, "A command to a device of this source.", arrays())
                .like(command()),
        ],
    }
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let mut message = object(&[
        Field(
            "tsmId",
            "integer",
            "What it is: the profile times 1000, and the number of the data.",
        ),
        Field("tsmEv", "integer?", "Why it was sent."),
        Field("tsmTs", "number?", "When, in seconds."),
        Field("tsmTuid", "string?", "The device that it is of."),
        Field("tsmDstTuid", "string?", "The device that it is for."),
        Field("tsmGw", "string?", "The gateway that heard it."),
        Field("transactionId", "integer?", "Which command it belongs to."),
    ]);
    put(
        &mut message,
        "description",
        json!("The header, and the fields of its tsmId (x-messages)."),
    );
    let kind = |kind: &catalogue::Kind| {
        let field = |field: &catalogue::Field| match field.unit {
            "" => json!({"name": field.name}),
            unit => json!({"name": field.name, "unit": unit}),
        };
        let fields: Vec<_> = kind.fields.iter().map(field).collect();
        json!({"tsmId": kind.id, "about": kind.about, "fields": fields})
    };
    let event = |(number, about): &(i32, &str)| json!({"tsmEv": number, "about": about});
    put(&mut message, "x-messages", catalogue::KINDS.iter().map(kind).collect());
    put(&mut message, "x-events", catalogue::EVENTS.iter().map(event).collect());
    vec![("ThingseeMessage", message)]
}
