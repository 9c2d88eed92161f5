//! What each frame looks like on the wire.

use fieldgate_core::{
    dialect::Marks,
    fault::Code,
    id::{Epoch, Seq, UnixMs},
    message::Message,
    testing,
};

use super::*;

fn position(seq: u64) -> Position {
    Position { epoch: Epoch(941_085), seq: Seq(seq) }
}

fn message(content: Content, payload: &'static str) -> Message {
    Message {
        from: "sensor-001".into(),
        timestamp: UnixMs(1_634_567_890_123),
        content,
        ..testing::message("devices/sensor-001/telemetry", Qos::AtMostOnce, payload)
    }
}

fn delivered(message: &Message, form: Form, marks: Marks<'_>) -> String {
    let mut out = Vec::new();
    encode_delivery(&Delivery { position: position(7), message, marks }, form, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_lesson_gets_strings_and_v1_gets_json() {
    let message = message(Content::Json, r#"{"t":21.30}"#);
    assert_eq!(
        delivered(&message, Form::Lesson, Marks::default()),
        r#"{"type":"mqtt","topic":"devices/sensor-001/telemetry","payload":"{\"t\":21.30}","seq":7,"timestamp":1634567890123,"from":"sensor-001","msgid":"k659:7"}"#
    );
    let marks =
        Marks { qos: Qos::AtLeastOnce, retain: true, replay: Some("#"), ..Marks::default() };
    assert_eq!(
        delivered(&message, Form::V1, marks),
        r##"{"type":"mqtt","topic":"devices/sensor-001/telemetry","payload":{"t":21.30},"seq":7,"timestamp":1634567890123,"from":"sensor-001","msgid":"k659:7","qos":1,"retain":true,"replay":"#"}"##
    );
}

#[test]
fn bytes_travel_as_base64_and_text_as_a_string() {
    let text = delivered(&message(Content::Text, "42"), Form::V1, Marks::default());
    assert!(text.contains(r#""payload":"42""#));
    let bytes = delivered(&message(Content::Bytes, "\u{0}\u{1}"), Form::Lesson, Marks::default());
    assert!(bytes.contains(r#""payload":{"base64":"AAE="}"#));
}

#[test]
fn an_error_never_has_a_msgid_of_its_own() {
    let fault = Fault::new(Code::BadValue, "no \"x\"");
    let reference = Some("m".parse().unwrap());
    let mut out = Vec::new();
    encode_answer(&Answer::Error { fault, reference, refused: vec![] }, Form::V1, &mut out);
    assert_eq!(out, br#"{"type":"error","code":"bad_value","message":"no \"x\"","ref":"m"}"#);
}

#[test]
fn a_batch_is_acknowledged_with_its_refusals() {
    let refused = vec![(1, Fault::new(Code::MissingField, "data"))];
    let batch = Some(BatchResult { accepted_count: 2, refused });
    let mut out = Vec::new();
    encode_answer(
        &Answer::Ack { reference: "b".parse().unwrap(), seq: Seq(9), batch },
        Form::V1,
        &mut out,
    );
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"{"type":"ack","msgid":"b","seq":9,"accepted":2,"refused":[{"index":1,"code":"missing_field","message":"data"}]}"#
    );
}

#[test]
fn notices_say_where_they_stand() {
    let text = |answer: &Answer| {
        let mut out = Vec::new();
        encode_answer(answer, Form::V1, &mut out);
        String::from_utf8(out).unwrap()
    };
    let filter = || "a/#".parse().unwrap();
    assert_eq!(
        text(&Answer::Subscribed {
            filter: filter(),
            qos: Qos::AtLeastOnce,
            position: position(3)
        }),
        r#"{"type":"subscribed","topic":"a/#","qos":1,"position":"k659:3"}"#
    );
    assert_eq!(
        text(&Answer::Gap { from: position(1), to: position(2), reason: GapReason::Crash }),
        r#"{"type":"gap","from":"k659:1","to":"k659:2","reason":"crash"}"#
    );
}

#[test]
fn a_fault_names_the_range_of_its_resource() {
    let fault = Fault::new(Code::BadValue, "bri is a number from 0 to 255").about(None, "bri");
    let fault = fault.within(Some(0.0), Some(255.0));
    let failure = String::from_utf8(encode_failure(&fault)).unwrap();
    let members = r#""code":"bad_value","message":"bri is a number from 0 to 255","resource":"bri","min":0,"max":255"#;
    assert_eq!(failure, format!("{{\"error\":{{{members}}}}}"));
    let mut out = Vec::new();
    let error = Answer::Error { fault, reference: None, refused: Vec::new() };
    encode_answer(&error, Form::V1, &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"type\":\"error\",{members}}}"));
}
