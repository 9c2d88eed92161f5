//! What each frame of `native.md` means, and which code each fault has.

use fieldgate_core::message::Priority;

use super::*;

fn ask(text: &str) -> Ask {
    decode_text(text, &Limits::default()).unwrap()
}

fn code(text: &str) -> Code {
    decode_text(text, &Limits::default()).unwrap_err().fault.code
}

fn published(text: &str) -> Draft {
    let Ask::Publish(draft) = ask(text) else { panic!("{text}") };
    *draft
}

#[test]
fn the_lessons_status_is_telemetry_byte_for_byte() {
    let text = r#"{"type":"status","deviceId":"sensor-001","timestamp":1634567890123,"data":{"oil": {"level":0.70}}}"#;
    let draft = published(text);
    assert_eq!(draft.target, Target::Telemetry(Some("sensor-001".parse().unwrap())));
    assert_eq!(draft.payload, r#"{"oil": {"level":0.70}}"#);
    assert_eq!(draft.timestamp, Some(UnixMs(1_634_567_890_123)));
    assert_eq!(draft.qos, Qos::AtMostOnce);
}

#[test]
fn what_a_device_reports_is_kept_byte_for_byte_with_its_nulls() {
    let text =
        r#"{"type":"state","deviceId":"lamp-1","timestamp":7,"reported":{"on": true,"hue":null}}"#;
    let draft = published(text);
    assert_eq!(draft.target, Target::Reported(Some("lamp-1".parse().unwrap())));
    assert_eq!(draft.payload, r#"{"on": true,"hue":null}"#);
    assert_eq!((draft.content, draft.timestamp), (Content::Json, Some(UnixMs(7))));
    let text = r#"{"type":"state","msgid":"m","reported":{"on":true,"":1,"level":1e400}}"#;
    let Ask::Batch { items, .. } = ask(text) else { panic!("some of it is refused") };
    let standing: Vec<_> = items.iter().flatten().map(|draft| draft.payload.clone()).collect();
    assert_eq!((items.len(), standing), (3, vec![Bytes::from(r#"{"on":true}"#)]));
}

#[test]
fn an_industrial_sample_needs_no_type() {
    let text = r#"{"deviceId":"plc-101","timestamp":1,"values":[{"tag":"t","value":42.5,"unit":"C"}],"quality":"good"}"#;
    let payload = published(text).payload;
    assert_eq!(payload, r#"{"values":[{"tag":"t","value":42.5,"unit":"C"}],"quality":"good"}"#);
}

#[test]
fn a_msgid_alone_asks_for_an_acknowledgement() {
    assert_eq!(published(r#"{"type":"status","msgid":"a","data":{}}"#).qos, Qos::AtLeastOnce);
    assert_eq!(
        published(r#"{"type":"status","msgid":"a","qos":0,"data":{}}"#).qos,
        Qos::AtMostOnce
    );
}

#[test]
fn the_envelope_means_what_the_plain_frame_means() {
    let text = r#"{"ver":"1.0","msgid":"a1","timestamp":1,"from":"device-001","to":"server","type":"status","payload":{"t":1},"qos":1,"retain":false}"#;
    let draft = published(text);
    assert_eq!(draft.target, Target::Telemetry(Some("device-001".parse().unwrap())));
    assert_eq!(draft.payload, r#"{"t":1}"#);
}

#[test]
fn each_fault_has_its_code() {
    for (text, expected) in [
        ("{", Code::BadJson),
        (r#"{"type":"status","data":{"t":NaN}}"#, Code::BadJson),
        (r#"{"type":"status","data":{"t":1e400}}"#, Code::BadValue),
        (r#"{"type":"status"}"#, Code::MissingField),
        (r#"{"type":"status","data":[1]}"#, Code::BadValue),
        (r#"{"type":"nonsense"}"#, Code::UnknownType),
        ("{}", Code::MissingField),
        (r#"{"type":"publish","topic":"a/+","payload":1}"#, Code::BadTopic),
        (r#"{"type":"subscribe","topic":"a/#/b"}"#, Code::BadTopic),
        (r#"{"type":"subscribe","topic":"a","qos":1,"mode":"latest"}"#, Code::BadValue),
        (r#"{"type":"publish","topic":"a","payload":1,"qos":2}"#, Code::BadValue),
        (r#"{"type":"ack","msgid":"x"}"#, Code::NotFound),
        (r#"{"type":"ping","type":"ping"}"#, Code::BadValue),
        (r#"{"type":"status","data":{"t":1,"t":2}}"#, Code::BadValue),
        (r#"{"type":"status","data":{"":1}}"#, Code::BadValue),
        (r#"{"type":"status","data":{"t":{"deep":[1e400]}}}"#, Code::BadValue),
        (r#"{"type":"status","timestamp":1e400,"data":{}}"#, Code::BadValue),
        (r#"{"type":"status","timestamp":-1,"data":{}}"#, Code::BadValue),
        (r#"{"type":"status","data":{},"values":[]}"#, Code::BadValue),
        (r#"{"type":"status","data":{},"to":"lamp-1"}"#, Code::BadValue),
        (r#"{"type":"status","data":{},"to":"topic:a/+"}"#, Code::BadTopic),
        (r#"{"type":"status","data":{},"deviceId":"a","from":"b"}"#, Code::BadValue),
        (r#"{"type":"status","data":{},"deviceId":"a b"}"#, Code::BadValue),
        (r#"{"type":"status","data":{},"ver":"2.0"}"#, Code::BadValue),
        (r#"{"type":"status","data":{},"qos":3}"#, Code::BadValue),
        (r#"{"type":"status","data":{},"priority":"high"}"#, Code::BadValue),
        (r#"{"type":"status","data":{},"msgid":""}"#, Code::BadValue),
        (r#"{"values":[{"value":1}]}"#, Code::MissingField),
        (r#"{"values":[{"tag":"t"}]}"#, Code::MissingField),
        (r#"{"values":[{"tag":"t","value":1}],"quality":"fine"}"#, Code::BadValue),
        (r#"{"values":[{"tag":"t","value":1,"quality":"fine"}]}"#, Code::BadValue),
        (r#"{"type":"event"}"#, Code::MissingField),
        (r#"{"type":"event","event":""}"#, Code::BadValue),
        (r#"{"type":"event","event":"e","data":[-1e999]}"#, Code::BadValue),
        (r#"{"type":"batch"}"#, Code::MissingField),
        (r#"{"type":"batch","data":{}}"#, Code::BadValue),
        (r#"{"type":"reply","msgid":"k3f9:1"}"#, Code::MissingField),
        (r#"{"type":"reply","msgid":"k3f9:1","status":"done"}"#, Code::BadValue),
        (r#"{"type":"publish","payload":1}"#, Code::MissingField),
        (r#"{"type":"publish","topic":"a","payload":{"base64":"?"}}"#, Code::BadValue),
        (r#"{"type":"subscribe"}"#, Code::MissingField),
        (r#"{"type":"subscribe","topic":"a","maxRate":0}"#, Code::BadValue),
        (r#"{"type":"command","payload":1}"#, Code::MissingField),
        (r#"{"type":"command","to":"d"}"#, Code::MissingField),
        (r#"{"type":"command","to":"group:","payload":1}"#, Code::BadValue),
        (r#"{"type":"command","to":"topic:a","payload":1}"#, Code::BadValue),
        (r#"{"type":"command","to":"d","payload":1,"qos":2}"#, Code::BadValue),
        (r#"{"type":"auth","token":"t"}"#, Code::Conflict),
        (r#"{"type":"state"}"#, Code::MissingField),
        (r#"{"type":"state","data":{"t":1}}"#, Code::MissingField),
        (r#"{"type":"state","reported":[1]}"#, Code::BadValue),
        (r#"{"type":"state","reported":{"t":1e400}}"#, Code::BadValue),
        (r#"{"type":"state","reported":{"t":1,"t":null}}"#, Code::BadValue),
        (r#"{"type":"desired","to":"d","state":{}}"#, Code::BadValue),
        (r#"{"type":"desired","state":{"a":1}}"#, Code::MissingField),
        (r#"{"type":"desired","to":"devices/+","state":{"a":1}}"#, Code::BadValue),
        (r#"{"type":"desired","to":"d","state":{"a":1,"a":2}}"#, Code::BadValue),
        (r#"{"type":"release","msgid":"m"}"#, Code::UnknownType),
        ("[]", Code::BadValue),
        (r#"["ping"]"#, Code::BadValue),
        (r#"{"values":[["t",1]]}"#, Code::BadValue),
        (r#"{"type":"batch","data":1}"#, Code::BadValue),
        ("", Code::BadJson),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
    let deep = format!("{{\"type\":\"status\",\"data\":{}1{}}}", "[".repeat(40), "]".repeat(40));
    assert_eq!(code(&deep), Code::BadJson);
}

#[test]
fn an_unreadable_field_does_not_hide_the_msgid() {
    let text = format!(r#"{{"type":"status","msgid":"m-1","timestamp":"{}"}}"#, "x".repeat(5_000));
    let refusal = decode_text(&text, &Limits::default()).unwrap_err();
    assert_eq!(refusal.reference.unwrap().as_str(), "m-1");
    assert!(refusal.fault.message.len() < 200, "a refusal does not echo what it refuses");
}

#[test]
fn a_bad_reading_costs_its_neighbours_nothing() {
    let text = r#"{"type":"status","msgid":"m","data":{"a": 1,"b":1e400,"c": {"x":0.70}}}"#;
    let Ask::Batch { reference, qos, items } = ask(text) else { panic!() };
    assert_eq!((reference.unwrap().as_str(), qos), ("m", Qos::AtLeastOnce));
    let fault = items[0].as_ref().unwrap_err();
    let reading = fault.reading.as_deref().unwrap();
    assert_eq!((fault.code, reading.index, &*reading.resource), (Code::BadValue, Some(1), "b"));
    assert_eq!(items[1].as_ref().unwrap().payload, r#"{"a":1,"c":{"x":0.70}}"#);
    let text = r#"{"values":[{"tag":"a","value":1e999},{"tag":"b", "value":2},{"tag":"c","value":null}],"quality":"bad"}"#;
    let Ask::Batch { items, .. } = ask(text) else { panic!() };
    let expected =
        r#"{"values":[{"tag":"b", "value":2},{"tag":"c","value":null}],"quality":"bad"}"#;
    assert_eq!(items[1].as_ref().unwrap().payload, expected);
}

#[test]
fn readings_stay_within_their_bounds() {
    let limits = Limits { resources_max: 20, batch_len_max: 2, json_depth_max: 4 };
    let of = |text: &str| decode_text(text, &limits).map_err(|refusal| refusal.fault.code);
    let data = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!("\"r{n}\":{n}")).collect();
        format!(r#"{{"type":"status","data":{{{}}}}}"#, members.join(","))
    };
    assert!(of(&data(20)).is_ok());
    assert_eq!(of(&data(21)), Err(Code::TooLarge));
    assert_eq!(of(&data(20).replace("\"r19\"", "\"r3\"")), Err(Code::BadValue));
    let batch = |n: usize| format!(r#"{{"type":"batch","data":[{}]}}"#, vec!["{}"; n].join(","));
    assert!(of(&batch(2)).is_ok());
    assert_eq!(of(&batch(3)), Err(Code::TooLarge));
    assert!(of(r#"{"type":"status","data":{"a":[[1]]}}"#).is_ok());
    assert_eq!(of(r#"{"type":"status","data":{"a":[[[1]]]}}"#), Err(Code::BadJson));
    let long = format!(r#"{{"type":"status","data":{{"{}":1}}}}"#, "x".repeat(129));
    assert_eq!(of(&long), Err(Code::BadValue));
    let many = b"\x1a\x00".repeat(21);
    assert_eq!(decode_binary(&many, &limits).unwrap_err().fault.code, Code::TooLarge);
}

#[test]
fn a_batch_lends_its_elements_what_they_do_not_say() {
    let text = r#"{"type":"batch","deviceId":"gw","priority":"bulk","expires":9,"data":[{"data":{"t":1}},{"deviceId":"x","data":{"t":1},"priority":"critical","msgid":"e"},{"type":"event","event":"e"}]}"#;
    let Ask::Batch { items, .. } = ask(text) else { panic!() };
    let [first, second] = [&items[0], &items[1]].map(|item| item.as_ref().unwrap());
    assert_eq!(first.target, Target::Telemetry(Some("gw".parse().unwrap())));
    assert_eq!((first.priority, first.expires), (Priority::Bulk, Some(UnixMs(9))));
    assert_eq!(second.target, Target::Telemetry(Some("x".parse().unwrap())));
    assert_eq!((second.priority, second.qos), (Priority::Critical, Qos::AtLeastOnce));
    assert_eq!(items[2].as_ref().unwrap_err().code, Code::BadValue);
}

#[test]
fn an_envelope_may_name_a_topic() {
    let text = r#"{"type":"event","to":"topic:alarms/hall","payload":{"event":"smoke"}}"#;
    let draft = published(text);
    assert_eq!(draft.target, Target::Topic("alarms/hall".parse().unwrap()));
    assert_eq!(draft.payload, r#"{"event":"smoke"}"#);
}

#[test]
fn nothing_to_publish_is_the_empty_text_and_null_is_json() {
    let draft = published(r#"{"type":"publish","topic":"a"}"#);
    assert_eq!((draft.content, draft.payload.len()), (Content::Text, 0));
    let draft = published(r#"{"type":"publish","topic":"a","payload":null}"#);
    assert_eq!((draft.content, &draft.payload[..]), (Content::Json, &b"null"[..]));
}

#[test]
fn a_refusal_names_the_frame() {
    let text = r#"{"type":"nonsense","msgid":"m-1"}"#;
    let refusal = decode_text(text, &Limits::default()).unwrap_err();
    assert_eq!(refusal.reference.unwrap().as_str(), "m-1");
}

#[test]
fn batch_elements_stand_or_fall_alone() {
    let text = r#"{"type":"batch","msgid":"b","data":[{"data":{"t":1}},{"x":1},7,{"values":[]}]}"#;
    let Ask::Batch { items, qos, .. } = ask(text) else { panic!() };
    assert_eq!(qos, Qos::AtLeastOnce);
    assert_eq!(items.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
}

#[test]
fn payloads_are_text_bytes_or_json() {
    let content = |payload: &str| {
        let text = format!(r#"{{"type":"publish","topic":"a","payload":{payload}}}"#);
        let draft = published(&text);
        (draft.content, draft.payload)
    };
    assert_eq!(content(r#""42""#), (Content::Text, Bytes::from("42")));
    assert_eq!(content("42"), (Content::Json, Bytes::from("42")));
    assert_eq!(content(r#"{"base64":"AAE="}"#), (Content::Bytes, Bytes::from(vec![0, 1])));
    assert_eq!(content(r#"{"base64":"AAE=","x":1}"#).0, Content::Json);
}

#[test]
fn subscriptions_say_where_they_start() {
    let since = |since: &str| {
        let text = format!(r#"{{"type":"subscribe","topic":"a/#","since":{since}}}"#);
        let Ask::Subscribe(subscribe) = ask(&text) else { panic!("{text}") };
        subscribe.since
    };
    assert_eq!(since("\"all\""), Some(Since::All));
    assert_eq!(since("{\"time\":5}"), Some(Since::Time(UnixMs(5))));
    assert_eq!(since("{\"after\":\"k3f9:12\"}"), Some(Since::After("k3f9:12".parse().unwrap())));
    assert_eq!(code(r#"{"type":"subscribe","topic":"a","since":{"after":"x"}}"#), Code::BadValue);
}

#[test]
fn the_first_frame_is_a_credential_or_the_end() {
    let limits = Limits::default();
    let auth =
        decode_first(r#"{"type":"auth","deviceId":"sensor-001","token":"t"}"#, &limits).unwrap();
    let token = Secret("t".to_owned());
    let device = Some("sensor-001".parse().unwrap());
    assert_eq!(auth, Authenticate { tenant: None, proof: Proof::Token { device, token } });
    for text in [
        "",
        "{}",
        r#"["auth","sensor-001","t"]"#,
        r#"{"type":"auth","deviceId":"sensor-001"}"#,
        r#"{"type":"status","data":{}}"#,
        r#"{"type":"auth","deviceId":"a b","token":"t"}"#,
        r#"{"type":"auth","deviceId":"a","token":"t","mac":"x","nonce":"n","timestamp":1}"#,
        r#"{"type":"auth","mac":"x","nonce":"n","timestamp":1}"#,
        r#"{"type":"auth","deviceId":"a","mac":"x","timestamp":1}"#,
        r#"{"type":"auth","deviceId":"a","mac":"x","nonce":"","timestamp":1}"#,
        r#"{"type":"auth","deviceId":"a","mac":"x","nonce":"a\nb","timestamp":1}"#,
        r#"{"type":"auth","deviceId":"a","mac":"x","nonce":"n"}"#,
    ] {
        assert_eq!(decode_first(text, &limits), Err(CloseReason::ProtocolError), "{text}");
    }
}

#[test]
fn protobuf_floats_become_their_shortest_decimals() {
    let hex = "0a0a73656e736f722d30303110cbc9da9ec92f1a0e0a0474656d70150000bc411a01431a0f0a0568756d696415cdcc34421a0125";
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect();
    let Ask::Publish(draft) = decode_binary(&bytes, &Limits::default()).unwrap() else { panic!() };
    let expected = r#"{"values":[{"tag":"temp","value":23.5,"unit":"C"},{"tag":"humid","value":45.2,"unit":"%"}]}"#;
    assert_eq!(draft.payload, expected);
    assert_eq!(draft.timestamp, Some(UnixMs(1_634_567_890_123)));
}

#[test]
fn an_unusable_protobuf_reading_costs_its_neighbours_nothing() {
    use prost::Message as _;
    let reading = |id: &str, value| protobuf::SensorReading {
        sensor_id: id.into(),
        value,
        unit: String::new(),
    };
    let data = |readings| {
        protobuf::IoTData { device_id: String::new(), timestamp: 0, readings }.encode_to_vec()
    };
    let mixed = data(vec![reading("temp", f32::NAN), reading("humid", 45.2)]);
    let Ask::Batch { items, .. } = decode_binary(&mixed, &Limits::default()).unwrap() else {
        panic!()
    };
    assert_eq!(items[0].as_ref().unwrap_err().code, Code::BadValue);
    assert_eq!(items[1].as_ref().unwrap().payload, r#"{"values":[{"tag":"humid","value":45.2}]}"#);
    let unnamed = data(vec![reading("", 1.0)]);
    let refusal = decode_binary(&unnamed, &Limits::default()).unwrap_err();
    assert!(refusal.fault.message.contains("keepCase"));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,300}") {
        let _ = decode_text(&text, &Limits::default());
        let _ = decode_first(&text, &Limits::default());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = decode_binary(&bytes, &Limits::default());
    }
}

#[test]
fn a_profile_says_what_its_sender_is() {
    let profile = r#"{"kind":"plug","resources":[{"name":"on","type":"bool","writable":true}]}"#;
    let plain = format!(r#"{{"type":"profile","deviceId":"a","msgid":"m","profile":{profile}}}"#);
    let envelope = format!(
        r#"{{"ver":"1.0","type":"profile","from":"a","to":"server","msgid":"m","payload":{profile}}}"#
    );
    for text in [plain, envelope] {
        let Ask::Profile(ask) = ask(&text) else { panic!("{text}") };
        assert_eq!(ask.device, "a".parse().ok());
        assert_eq!((ask.reference, ask.qos), ("m".parse().ok(), Qos::AtLeastOnce));
        assert_eq!(ask.profile, decode_profile(profile).unwrap());
    }
    assert_eq!(code(r#"{"type":"profile"}"#), Code::MissingField);
    assert_eq!(code(r#"{"type":"profile","profile":[]}"#), Code::BadValue);
    assert_eq!(code(r#"{"type":"profile","to":"topic:a","profile":{}}"#), Code::BadValue);
}
