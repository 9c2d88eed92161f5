//! The lesson's samples (seed 004), byte for byte as files, through the public decoders.
//!
//! A JavaScript literal becomes the JSON that `JSON.stringify` makes of it; placeholders are filled.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

use fieldgate_core::{
    dialect::{Answer, Ask, Delivery, Marks, Proof, Target},
    id::{Epoch, Position, Seq, UnixMs},
    message::{Content, Message, Qos},
    testing,
};
use fieldgate_dialects::native::{self, Form, Limits, client, protobuf::IoTData};
use prost::Message as _;

const NOW: &str = "1634567890123";

/// `JSON.stringify` of a literal of the lesson, with its placeholders replaced.
fn stringify(literal: &str, placeholders: &[(&str, &str)]) -> String {
    let member = |line: &str| {
        let (key, value) = line.trim().trim_end_matches(',').split_once(':')?;
        let value = value.trim().replace('\'', "\"").replace("Date.now()", NOW);
        let filled = placeholders.iter().fold(value, |v, (from, to)| v.replace(from, to));
        Some(format!("{key:?}:{filled}"))
    };
    format!("{{{}}}", literal.lines().filter_map(member).collect::<Vec<_>>().join(","))
}

fn ask(text: &str) -> Ask {
    native::decode_text(text, &Limits::default()).unwrap()
}

#[test]
fn the_lessons_device_authenticates() {
    let text = stringify(include_str!("data/seed-004/auth.js"), &[]);
    let auth = native::decode_first(&text, &Limits::default()).unwrap();
    let Proof::Token { device, token } = auth.proof else { panic!("a token") };
    assert_eq!(device.unwrap().as_str(), "sensor-001");
    assert_eq!(token.0, "device-secret-token");
    assert_eq!(auth.tenant, None);
}

#[test]
fn the_lessons_status_is_telemetry_of_its_device() {
    let data = r#"{"temperature":21.30,"humidity":45}"#;
    let text = stringify(include_str!("data/seed-004/status.js"), &[("sensorData", data)]);
    let Ask::Publish(draft) = ask(&text) else { panic!("{text}") };
    assert_eq!(draft.target, Target::Telemetry(Some("sensor-001".parse().unwrap())));
    assert_eq!(draft.timestamp, Some(UnixMs(1_634_567_890_123)));
    assert_eq!((draft.qos, draft.reference), (Qos::AtMostOnce, None));
    assert_eq!(draft.payload, data);
}

#[test]
fn send_with_ack_asks_for_an_acknowledgement_and_gets_its_msgid() {
    let plain = stringify(include_str!("data/seed-004/status.js"), &[("sensorData", "{\"t\":1}")]);
    let text = plain.replacen('{', r#"{"msgid":"6f9619ff-8b86-d011-b42d-00c04fc964ff","#, 1);
    let Ask::Publish(draft) = ask(&text) else { panic!("{text}") };
    assert_eq!(draft.qos, Qos::AtLeastOnce);
    let reference = draft.reference.unwrap();
    let mut out = Vec::new();
    let answer = Answer::Ack { reference: reference.clone(), seq: Seq(9), batch: None };
    native::encode_answer(&answer, Form::Lesson, &mut out);
    let ack: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(ack["msgid"], reference.as_str());
}

#[test]
fn the_lessons_batches_of_devices_and_gateways_are_taken() {
    let data = ("sensorData", "{\"t\":1}");
    let element = stringify(include_str!("data/seed-004/batch_element.js"), &[data]);
    let elements = format!("[{element},{element}]");
    let batch = stringify(include_str!("data/seed-004/batch.js"), &[("batchToSend", &elements)]);
    let Ask::Batch { items, reference: None, qos } = ask(&batch) else { panic!("{batch}") };
    assert_eq!((items.len(), qos), (2, Qos::AtMostOnce));
    assert!(items.iter().all(|item| item.as_ref().unwrap().payload == "{\"t\":1}"));
}

#[test]
fn the_industrial_sample_keeps_its_bytes() {
    let text = include_str!("data/seed-004/industrial.json");
    let Ask::Publish(draft) = ask(text) else { panic!() };
    assert_eq!(draft.target, Target::Telemetry(Some("plc-101".parse().unwrap())));
    let values = text.split_once("\"values\": ").unwrap().1.rsplit_once(",\n").unwrap().0;
    assert_eq!(draft.payload, format!("{{\"values\":{values},\"quality\":\"good\"}}"));
}

#[test]
fn the_envelope_carries_every_type_that_it_names() {
    let sample = include_str!("data/seed-004/envelope.txt");
    let without_comments: Vec<&str> =
        sample.lines().map(|line| line.split("//").next().unwrap()).collect();
    let envelope = |kind: &str, payload: &str| {
        let text = without_comments.join("\n").replace("status|command|event|ack", kind);
        text.replace("\"payload\": {\n    \n  }", &format!("\"payload\": {payload}"))
    };
    let Ask::Publish(status) = ask(&envelope("status", "{\"t\": 1}")) else { panic!() };
    assert_eq!(status.target, Target::Telemetry(Some("device-001".parse().unwrap())));
    assert_eq!((status.qos, status.retain), (Qos::AtLeastOnce, false));
    assert_eq!(status.payload, "{\"t\": 1}");
    let event = envelope("event", r#"{"event":"alarm","data":{"zone":3}}"#);
    let Ask::Publish(event) = ask(&event) else { panic!() };
    assert_eq!(event.target, Target::Event(Some("device-001".parse().unwrap())));
    assert_eq!(event.payload, r#"{"event":"alarm","data":{"zone":3}}"#);
    let command = envelope("command", r#"{"set":{"on":true}}"#).replace("server", "lamp-1");
    let Ask::Command(command) = ask(&command) else { panic!() };
    assert_eq!(command.payload, r#"{"set":{"on":true}}"#);
    let ack = envelope("ack", "{}").replace("a1b2c3d4", "k3f9:12");
    assert_eq!(ask(&ack), Ask::Ack("k3f9:12".parse().unwrap()));
}

#[test]
fn the_lessons_protobuf_is_decoded_from_its_own_field_numbers() {
    let hex = include_str!("data/seed-004/iot_data.hex").trim();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let data = IoTData::decode(&*bytes).unwrap();
    assert_eq!(data.encode_to_vec(), bytes);
    let Ask::Publish(draft) = native::decode_binary(&bytes, &Limits::default()).unwrap() else {
        panic!()
    };
    let expected = r#"{"values":[{"tag":"temp","value":23.5,"unit":"C"},{"tag":"humid","value":45.2,"unit":"%"}]}"#;
    assert_eq!(draft.payload, expected);
    // The lesson's definition and ours have the same fields.
    let field = |line: &&str| line.contains(" = ") && !line.contains("syntax");
    let fields = |proto: &'static str| -> Vec<&str> {
        let lines = proto.lines().map(|line| line.split("//").next().unwrap().trim());
        lines.filter(field).collect()
    };
    let ours = include_str!("../../../proto/fieldgate.proto");
    assert_eq!(fields(include_str!("data/seed-004/iot_data.proto")), fields(ours));
}

#[test]
fn the_lessons_clients_read_what_we_write() {
    let mut out = Vec::new();
    let answer = Answer::Authenticated {
        timestamp: UnixMs(1_634_567_890_123),
        session: "s-1".into(),
        epoch: Epoch(941_085),
        heartbeat_ms: 30_000,
    };
    native::encode_answer(&answer, Form::Lesson, &mut out);
    let ours: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let theirs = stringify(include_str!("data/seed-004/auth_response.js"), &[]);
    let theirs: serde_json::Value = serde_json::from_str(&theirs).unwrap();
    for (name, value) in theirs.as_object().unwrap() {
        assert_eq!(&ours[name], value, "{name}");
    }
    let message = Message {
        content: Content::Json,
        ..testing::message("devices/sensor-001/telemetry", Qos::AtMostOnce, "{\"t\":1.0}")
    };
    let position = Position { epoch: Epoch(0), seq: Seq(1) };
    let delivery = Delivery { position, message: &message, marks: Marks::default() };
    out.clear();
    native::encode_delivery(&delivery, Form::Lesson, &mut out);
    let placeholders = [
        ("message.toString()", "\"{\\\"t\\\":1.0}\""),
        ("topic", "\"devices/sensor-001/telemetry\""),
    ];
    let literal = include_str!("data/seed-004/mqtt.js").replace("topic,", "topic: topic,");
    let theirs: serde_json::Value =
        serde_json::from_str(&stringify(&literal, &placeholders)).unwrap();
    let ours: serde_json::Value = serde_json::from_slice(&out).unwrap();
    for (name, value) in theirs.as_object().unwrap() {
        assert_eq!(&ours[name], value, "{name}");
    }
    assert!(client::decode_server_frame(std::str::from_utf8(&out).unwrap()).is_ok());
}
