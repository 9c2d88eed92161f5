//! The two namespaces of Socket.IO: thethings.iO and Kamea.

use fieldgate_core::id::TenantId;
use fieldgate_dialects::{
    Naming, Telling,
    kamea::{self, write_body},
    thethings::write_items,
    thingsee::About,
};
use serde_json::{Value, json};

use super::{Field, Interface, Message, Way, native, object, schema_like, schema_ref};
use crate::config::Kamea;

/// What a client of Kamea asks; taken by its decoder.
pub(super) const REQUEST: &str = r#"{"deviceId":"C5C80676-890C-4024-A16F-DF81AB0B5A22","tenantId":"12B80A37-D30E-49F1-AF3B-356ECC1AD96C"}"#;
const TENANT_ID: &str = "12B80A37-D30E-49F1-AF3B-356ECC1AD96C";
const DEVICE_TOPIC: &str = "devices/C5C80676-890C-4024-A16F-DF81AB0B5A22/telemetry";
const VALUES: &str = r#"{"temperature":21.3,"humidity":40}"#;

/// What is said of positions in both.
const RECOVERY: &str = "A client that sends `position` in its handshake `auth` (empty at first) gets the \
                        position of each event as its last argument, and with its last one in the next \
                        handshake what it missed. Others get the last values when they subscribe. One that \
                        sends `ack: true` is asked to acknowledge each event of a room, and gets \
                        `limits.inflight_max` ahead of that.";

/// `/v2`.
pub(super) fn thethings() -> Interface {
    let items = || -> Option<Value> {
        let message = native::routed("devices/sensor-001/telemetry", VALUES)?;
        let known = |_: &TenantId, _: &str| About::default();
        let telling = Telling { names: Naming::Own, known: &known };
        let mut text = Vec::new();
        write_items(&mut text, &native::delivery(&message), Some("temperature"), telling);
        serde_json::from_slice(&text).ok()
    };
    let reply = |key, about| Message::new(key, Way::Sub, about, schema_ref("Reply"));
    let topic = object(&[Field(
        "resource",
        "string",
        "A topic: /me/resources/{resource} or /things/{thingToken}.",
    )]);
    let temperature = || json!({"resource": "/me/resources/temperature"});
    let ask = |key, about| Message::new(key, Way::Pub, about, topic.clone()).like([temperature()]);
    Interface {
        key: "thethings",
        address: "/v2",
        title: "thethings.iO",
        about: format!("The namespace `/v2`, for apps of thethings.iO. {RECOVERY}"),
        server: "socketio",
        query: &[],
        parameters: Value::Null,
        messages: vec![
            Message::new("authenticate", Way::Pub, "Who asks; before anything else.", object(&[
                Field("sessionToken", "string", "The token of register or login."),
            ]))
            .like([json!({"sessionToken": "fg_a_example"})]),
            ask("subscribe", "Follow a topic."),
            ask("unsubscribe", "Follow a topic no more; never an error."),
            reply("authenticate", "Whether the session token holds.").like([
                json!({"status": "success"}),
                json!({"status": "error", "code": 401, "message": "Invalid session token"}),
            ]),
            reply("subscribe", "Whether the topic is followed.").like([
                json!({"status": "success", "message": "subscribed", "resource": "/me/resources/temperature"}),
            ]),
            reply("unsubscribe", "The topic is followed no more.").like([
                json!({"status": "success", "message": "unsubscribed", "resource": "/me/resources/temperature"}),
            ]),
            Message::new(
                "values",
                Way::Sub,
                "Values of a topic: the event is named as the topic.",
                json!({"type": "array", "items": schema_ref("Item")}),
            )
            .named("{topic}")
            .like(items()),
        ],
    }
}

/// `/devices`: events as they are configured.
pub(super) fn kamea(config: &Kamea) -> Interface {
    let body = |values: &'static str| -> Option<Value> {
        let message = native::routed(DEVICE_TOPIC, values)?;
        let mut text = Vec::new();
        let telling = Telling { names: config.naming(), known: &|_, _| About::default() };
        write_body(&mut text, &native::delivery(&message), TENANT_ID, &config.body, telling);
        serde_json::from_slice(&text).ok()
    };
    let request = object(&[
        Field("deviceId", "string", "The device; a UUID in either case."),
        Field("tenantId", "string", "Its tenant: a UUID of kamea.tenants, in either case."),
    ]);
    let asked = || serde_json::from_str(REQUEST).ok();
    // What does not depend on the values is in both.
    let (data, other) = (body(VALUES), body(r#"{"other":1}"#));
    let payload = data.as_ref().zip(other.as_ref()).map(|(one, other)| schema_like(one, other));
    let none = || json!({"type": "null", "description": "It has no argument."});
    let query = &[Field("token", "string?", "The bearer token, where no header can be set.")];
    Interface {
        key: "kamea",
        address: kamea::NAMESPACE,
        title: "Kamea",
        about: format!(
            "The namespace `/devices`. The token is `Authorization: Bearer` of the handshake, `token` in \
             its `auth`, or `?token=`. Who may not see a device is sent `access_denied` and is \
             disconnected. {RECOVERY}"
        ),
        server: "socketio",
        query,
        parameters: Value::Null,
        messages: vec![
            Message::new("telemetries", Way::Pub, "Follow the telemetries of a device.", request.clone())
                .named(kamea::TELEMETRIES)
                .like(asked()),
            Message::new("unsubscribe", Way::Pub, "Follow them no more.", request)
                .named(kamea::UNSUBSCRIBE)
                .like(asked()),
            Message::new(
                "telemetries",
                Way::Sub,
                "What a device said, once for each message of it.",
                payload.unwrap_or_default(),
            )
            .named(config.event.clone())
            .like(data),
            Message::new("access_denied", Way::Sub, "It may not be seen; the end follows.", none())
                .named(kamea::ACCESS_DENIED),
            Message::new(
                "internal_server_error",
                Way::Sub,
                "A request could not be answered, or what was open is shut for a while; the connection stays.",
                object(&[Field("message", "string", "What was wrong.")]),
            )
            .named(kamea::INTERNAL_SERVER_ERROR)
            .like([json!({"message": "the authorization service did not answer in 3000 ms"})]),
        ],
    }
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Reply",
            object(&[
                Field("status", "enum success error", "Whether it was done."),
                Field("code", "integer?", "Of an error: as an HTTP status."),
                Field("message", "string?", "For people."),
                Field("resource", "string?", "The topic."),
            ]),
        ),
        (
            "Item",
            object(&[
                Field("key", "string", "The resource."),
                Field("value", "any", "Its value, as it was sent."),
                Field("datetime", "string", "ISO 8601 in UTC, with milliseconds."),
            ]),
        ),
    ]
}
