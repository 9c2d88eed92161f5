//! What a client encodes the server decodes, what the server encodes a client decodes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

use fieldgate_core::{
    dialect::{
        Answer, Ask, BatchResult, CommandState, CommandTarget, Delivery, GapReason, Marks, Proof,
        Since, SlowMode, Subscribe, Target,
    },
    fault::{Code, Fault},
    id::{Epoch, Position, Seq, UnixMs},
    message::{Content, Message, Qos},
    testing,
};
use fieldgate_dialects::native::{
    self, Form, Limits,
    client::{self, ServerFrame},
};
use proptest::prelude::*;

fn ask(text: &str) -> Ask {
    native::decode_text(text, &Limits::default()).unwrap()
}

fn position(seq: u64) -> Position {
    Position { epoch: Epoch(941_085), seq: Seq(seq) }
}

fn told(answer: &Answer) -> ServerFrame {
    let mut out = Vec::new();
    native::encode_answer(answer, Form::V1, &mut out);
    client::decode_server_frame(std::str::from_utf8(&out).unwrap()).unwrap()
}

#[test]
fn requests_arrive_as_they_were_meant() {
    let auth = client::encode_auth(Some("d-1"), "se\"cret");
    let proof = native::decode_first(&auth, &Limits::default()).unwrap().proof;
    let Proof::Token { token, .. } = proof else { panic!("a token") };
    assert_eq!(token.0, "se\"cret");

    let text = client::encode_publish("a/b", "{\"x\":1.50}", Qos::AtLeastOnce, true, Some("m"));
    let Ask::Publish(draft) = ask(&text) else { panic!() };
    assert_eq!(draft.target, Target::Topic("a/b".parse().unwrap()));
    assert_eq!((draft.content, draft.payload), (Content::Json, "{\"x\":1.50}".into()));
    assert_eq!((draft.qos, draft.retain), (Qos::AtLeastOnce, true));
    assert_eq!(draft.reference, Some("m".parse().unwrap()));

    let Ask::Publish(draft) = ask(&client::encode_status("{\"t\":1}", Some(7), None)) else {
        panic!()
    };
    assert_eq!((draft.target, draft.timestamp), (Target::Telemetry(None), Some(UnixMs(7))));
    let event = client::encode_event("alarm", Some("{\"z\":3}"), None, Some("e"));
    let Ask::Publish(draft) = ask(&event) else { panic!() };
    assert_eq!(draft.payload, "{\"event\":\"alarm\",\"data\":{\"z\":3}}");
    let batch = client::encode_batch(["{\"data\":{\"t\":1}}", "{\"data\":7}"], Some("b"));
    let Ask::Batch { items, reference, .. } = ask(&batch) else { panic!() };
    assert_eq!(reference, Some("b".parse().unwrap()));
    assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);

    let Ask::Command(command) = ask(&client::encode_command("group:g", "[1]", "c", Some(9))) else {
        panic!()
    };
    assert_eq!(command.to, CommandTarget::Group("g".into()));
    assert_eq!(command.expires, Some(UnixMs(9)));
    assert_eq!(ask(&client::encode_cancel("k3f9:1")), Ask::Cancel("k3f9:1".parse().unwrap()));
    assert_eq!(ask(&client::encode_ack("k3f9:1")), Ask::Ack("k3f9:1".parse().unwrap()));
    assert_eq!(ask(&client::encode_ping()), Ask::Ping);
    assert_eq!(ask(&client::encode_unsubscribe("#", "u")), Ask::Unsubscribe("#".parse().unwrap()));
    let Ask::Reply { ok, payload, .. } = ask(&client::encode_reply("k3f9:1", false, Some("{}")))
    else {
        panic!()
    };
    assert_eq!((ok, payload), (false, Some("{}".into())));
}

#[test]
fn every_subscription_survives() {
    let since = [Since::All, Since::Time(UnixMs(5)), Since::After(position(3))];
    let slow = [SlowMode::Latest, SlowMode::DropOldest, SlowMode::Disconnect];
    let filter = || "devices/+/telemetry".parse().unwrap();
    for since in since.map(Some).into_iter().chain([None]) {
        for slow in slow.map(Some).into_iter().chain([None]) {
            let qos = Qos::AtMostOnce;
            let ask_for = Subscribe { filter: filter(), qos, since, slow, rate_max: Some(2.5) };
            let text = client::encode_subscribe(&ask_for, "s1");
            assert_eq!(ask(&text), Ask::Subscribe(ask_for));
        }
    }
}

#[test]
fn answers_arrive_as_they_were_meant() {
    let timestamp = UnixMs(5);
    let good = Answer::Authenticated {
        timestamp,
        session: "s".into(),
        epoch: Epoch(941_085),
        heartbeat_ms: 30_000,
    };
    assert_eq!(told(&good), ServerFrame::Auth { ok: true, epoch: "k659".into() });
    let bad = Answer::NotAuthenticated { timestamp };
    assert_eq!(told(&bad), ServerFrame::Auth { ok: false, epoch: String::new() });

    let fault = Fault::new(Code::BadValue, "not \"finite\"").about(Some(3), "temp");
    let batch = Some(BatchResult { accepted_count: 1, refused: vec![(0, fault.clone())] });
    let ack = Answer::Ack { reference: "b".parse().unwrap(), seq: Seq(7), batch };
    let expected =
        ServerFrame::Ack { msgid: Some("b".into()), seq: 7, devices: None, refused_count: 1 };
    assert_eq!(told(&ack), expected);
    let accepted = Answer::CommandAccepted { reference: None, seq: Seq(8), device_count: 12 };
    let expected = ServerFrame::Ack { msgid: None, seq: 8, devices: Some(12), refused_count: 0 };
    assert_eq!(told(&accepted), expected);
    let error = Answer::Error { fault, reference: Some("m".parse().unwrap()), refused: vec![] };
    let expected = ServerFrame::Error {
        code: "bad_value".into(),
        message: "not \"finite\"".into(),
        reference: Some("m".into()),
    };
    assert_eq!(told(&error), expected);
}

#[test]
fn notices_arrive_as_they_were_meant() {
    let filter = || "a/#".parse().unwrap();
    let topic = || "a/#".to_owned();
    let at = Some(position(3));
    let position = position(3);
    let subscribed = Answer::Subscribed { filter: filter(), qos: Qos::AtLeastOnce, position };
    assert_eq!(told(&subscribed), ServerFrame::Subscribed { topic: topic(), position: at });
    let unsubscribed = Answer::Unsubscribed { filter: filter() };
    assert_eq!(told(&unsubscribed), ServerFrame::Unsubscribed { topic: topic() });
    let caught_up = Answer::CaughtUp { filter: filter(), position };
    assert_eq!(told(&caught_up), ServerFrame::CaughtUp { topic: topic(), position: at });
    let gap = Answer::Gap { from: position, to: position, reason: GapReason::Overflow };
    let expected =
        ServerFrame::Gap { from: "k659:3".into(), to: "k659:3".into(), reason: "overflow".into() };
    assert_eq!(told(&gap), expected);
    let moved = Answer::CommandState {
        reference: "c".into(),
        device: "lamp-1".parse().unwrap(),
        state: CommandState::Completed,
        payload: Some("{\"ok\":1}".into()),
    };
    let expected = ServerFrame::CommandState {
        reference: "c".into(),
        device: "lamp-1".into(),
        state: "completed".into(),
        payload: Some("{\"ok\":1}".into()),
    };
    assert_eq!(told(&moved), expected);
    assert_eq!(told(&Answer::Pong { timestamp: UnixMs(1) }), ServerFrame::Pong);
    let reconnect = ServerFrame::Reconnect { after_ms: 250 };
    assert_eq!(told(&Answer::Reconnect { after_ms: 250 }), reconnect);
    for text in [r#"{"type":"queued","position":4}"#, r#"{"type":"new","message":{},"qos":"x"}"#] {
        assert_eq!(client::decode_server_frame(text).unwrap(), ServerFrame::Other);
    }
}

fn message(content: Content, payload: &[u8]) -> Message {
    Message {
        from: "app \"1\"".into(),
        timestamp: UnixMs(5),
        reference: Some("r".parse().unwrap()),
        retain: true,
        content,
        ..testing::message("devices/d/commands", Qos::AtLeastOnce, payload)
    }
}

#[test]
fn deliveries_arrive_with_all_their_marks() {
    let message = message(Content::Json, b"{\"x\":[1, 2.50]}");
    let marks = Marks {
        qos: Qos::AtLeastOnce,
        retain: true,
        dup: true,
        ahead: true,
        conflated_count: 3,
        replay: Some("devices/#"),
    };
    let delivery = Delivery { position: position(9), message: &message, marks };
    let mut out = Vec::new();
    native::encode_delivery(&delivery, Form::V1, &mut out);
    let text = std::str::from_utf8(&out).unwrap();
    let ServerFrame::Message(got) = client::decode_server_frame(text).unwrap() else { panic!() };
    assert_eq!(got.payload, "{\"x\":[1, 2.50]}");
    assert_eq!((got.seq, got.msgid.as_str(), got.from.as_str()), (9, "k659:9", "app \"1\""));
    assert_eq!((got.qos, got.retain, got.dup, got.ahead), (1, true, true, true));
    assert_eq!((got.conflated_count, got.replay.as_deref()), (3, Some("devices/#")));
    assert_eq!(got.reference.as_deref(), Some("r"));

    out.clear();
    let device = "d".parse().unwrap();
    native::encode_control(&delivery, &device, Form::Lesson, &mut out);
    let expected = r#"{"type":"control","msgid":"k659:9","deviceId":"d","payload":{"x":[1, 2.50]},"timestamp":5,"qos":1,"dup":true}"#;
    assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
    let expected = ServerFrame::Control {
        msgid: "k659:9".into(),
        device: "d".into(),
        payload: "{\"x\":[1, 2.50]}".into(),
        dup: true,
    };
    assert_eq!(client::decode_server_frame(expected_text(&out)).unwrap(), expected);
}

fn expected_text(out: &[u8]) -> &str {
    std::str::from_utf8(out).unwrap()
}

proptest! {
    /// Whatever the bytes, both forms are JSON, and the payload comes back as it went in.
    #[test]
    fn any_payload_is_delivered_as_it_was(bytes: Vec<u8>, text: String) {
        for form in [Form::Lesson, Form::V1] {
            for (content, payload) in [(Content::Bytes, &*bytes), (Content::Text, text.as_bytes())] {
                let message = message(content, payload);
                let delivery =
                    Delivery { position: position(1), message: &message, marks: Marks::default() };
                let mut out = Vec::new();
                native::encode_delivery(&delivery, form, &mut out);
                let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
                let back = match value["payload"].as_str() {
                    Some(text) => text.as_bytes().to_vec(),
                    None => {
                        let base64 = value["payload"]["base64"].as_str().unwrap();
                        native::base64_decode(base64).unwrap()
                    }
                };
                prop_assert_eq!(back, payload);
            }
        }
    }

    /// A published text comes back as the same text.
    #[test]
    fn any_text_survives_publishing(text: String) {
        let json = serde_json::to_string(&text).unwrap();
        let frame = client::encode_publish("t", &json, Qos::AtMostOnce, false, None);
        let Ask::Publish(draft) = ask(&frame) else { panic!() };
        prop_assert_eq!((draft.content, &*draft.payload), (Content::Text, text.as_bytes()));
    }
}
