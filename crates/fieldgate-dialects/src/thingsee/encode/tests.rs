//! Tests of `encode`: the vectors of `resources.md` 7, and what they leave open.

use std::sync::Arc;

use fieldgate_core::{
    dialect::Marks,
    id::{Epoch, Position, Seq, TenantId},
    message::{Message, Qos},
    profile,
    resource::Type,
    state::{self, Quality},
    testing,
};
use proptest::prelude::*;

use super::*;
use crate::{native, readings::About};

const T: u64 = 1_634_567_890_123;

fn nothing_known(_: &TenantId, _: &str) -> About {
    About::default()
}

fn written(message: &Message, ids: &Ids, known: Known<'_>) -> (usize, String) {
    let position = Position { epoch: Epoch(1), seq: Seq(1) };
    let delivery = Delivery { position, message, marks: Marks::default() };
    let mut out = b"[".to_vec();
    let count = write_objects(&mut out, &delivery, ids, known);
    out.push(b']');
    (count, String::from_utf8(out).unwrap())
}

fn told(topic: &str, ms: u64, payload: &str) -> Message {
    let mut message = testing::message(topic, Qos::AtMostOnce, payload);
    message.content = Content::Json;
    message.timestamp = UnixMs(ms);
    message
}

#[track_caller]
fn check(topic: &str, ms: u64, payload: &str, expected: &str) {
    let message = told(topic, ms, payload);
    let (count, text) = written(&message, &Ids::default(), &nothing_known);
    assert_eq!(text, expected, "{payload}");
    let objects: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(objects.len(), count);
}

#[test]
fn vector_1_fields_of_one_message_are_one_object_in_their_order() {
    check(
        "devices/XXXX03X2Z80562557/telemetry",
        1_520_416_221_000,
        r#"{"airp":101364.599,"lght":6,"temp":21.3,"humd":21.7}"#,
        r#"[{"tsmId":12100,"tsmEv":10,"airp":101364.599,"lght":6,"temp":21.3,"humd":21.7,"tsmTs":1520416221,"tsmTuid":"XXXX03X2Z80562557"}]"#,
    );
}

#[test]
fn vector_2_a_native_status() {
    check(
        "devices/sensor-001/telemetry",
        T,
        r#"{"temperature":21.3}"#,
        r#"[{"tsmId":12100,"tsmEv":10,"temp":21.3,"tsmTs":1634567890.123,"tsmTuid":"sensor-001"}]"#,
    );
}

#[test]
fn vector_3_an_industrial_sample_is_converted_and_a_bad_one_is_none() {
    let values = r#"[{"tag":"temperature","value":42.5,"unit":"°C"},{"tag":"pressure","value":101.3,"unit":"kPa"},{"tag":"vibration","value":0.15,"unit":"mm/s"}]"#;
    check(
        "devices/plc-101/telemetry",
        T,
        &format!(r#"{{"values":{values},"quality":"good"}}"#),
        r#"[{"tsmId":12100,"tsmEv":10,"airp":101300,"temp":42.5,"tsmTs":1634567890.123,"tsmTuid":"plc-101"}]"#,
    );
    let bad = format!(r#"{{"values":{values},"quality":"bad"}}"#);
    check("devices/plc-101/telemetry", T, &bad, "[]");
}

#[test]
fn vector_5_protobuf_has_shortest_decimals_and_aliases() {
    check(
        "devices/sensor-001/telemetry",
        1_634_567_890_123,
        r#"{"values":[{"tag":"temp","value":23.5,"unit":"C"},{"tag":"humid","value":45.2,"unit":"%"}]}"#,
        r#"[{"tsmId":12100,"tsmEv":10,"temp":23.5,"humd":45.2,"tsmTs":1634567890.123,"tsmTuid":"sensor-001"}]"#,
    );
}

#[test]
fn vector_6_a_button_is_nothing() {
    check("devices/switch-1/events", T, r#"{"event":"button","data":{"button":2002}}"#, "[]");
    check("devices/switch-1/telemetry", T, r#"{"button":2002}"#, "[]");
}

#[test]
fn vector_7_presence_is_a_state() {
    check(
        "devices/a/telemetry",
        T,
        r#"{"presence":true}"#,
        r#"[{"tsmId":2100,"tsmEv":10,"state":1,"tsmTs":1634567890.123,"tsmTuid":"a"}]"#,
    );
}

#[test]
fn vector_8_what_has_no_row_is_nothing() {
    check("devices/a/telemetry", T, r#"{"oil":{"level":0.70,"grade":"5W30"}}"#, "[]");
}

#[test]
fn one_object_for_each_id_and_what_a_device_is_in_has_event_7() {
    check(
        "devices/a/state/reported",
        5_000,
        r#"{"on":true,"open":false,"battery":34.60,"temperature":"20.50","co2":null}"#,
        r#"[{"tsmId":1110,"tsmEv":7,"batl":34.60,"tsmTs":5,"tsmTuid":"a"},{"tsmId":12100,"tsmEv":7,"temp":20.50,"tsmTs":5,"tsmTuid":"a"},{"tsmId":12101,"tsmEv":7,"hall":1,"tsmTs":5,"tsmTuid":"a"}]"#,
    );
}

#[test]
fn every_row_is_written() {
    check(
        "devices/a/telemetry",
        1_500,
        r#"{"accx":12.50,"acceleration_y":9.80665,"geo":{"lat":60.1,"long":"24.9"},"hall":0,"moveCount":12,"dist":79.5,"angle":90,"carbonDioxide":538,"tvoc":72,"rssi":3,"temperature.2":5}"#,
        r#"[{"tsmId":1111,"tsmEv":10,"accx":12.50,"accy":1000,"tsmTs":1.5,"tsmTuid":"a"},{"tsmId":1210,"tsmEv":10,"lat":60.1,"lon":24.9,"tsmTs":1.5,"tsmTuid":"a"},{"tsmId":12101,"tsmEv":10,"hall":0,"tsmTs":1.5,"tsmTuid":"a"},{"tsmId":13100,"tsmEv":10,"moveCount":12,"tsmTs":1.5,"tsmTuid":"a"},{"tsmId":17100,"tsmEv":10,"dist":80,"tsmTs":1.5,"tsmTuid":"a"},{"tsmId":18100,"tsmEv":10,"angle":90,"tsmTs":1.5,"tsmTuid":"a"},{"tsmId":24100,"tsmEv":10,"carbonDioxide":538,"tsmTs":1.5,"tsmTuid":"a"},{"tsmId":24101,"tsmEv":10,"tvoc":72,"tsmTs":1.5,"tsmTuid":"a"}]"#,
    );
}

#[test]
fn the_first_name_counts_unless_the_profile_names_another_and_units_are_its() {
    let resource = |name: &str, alias_of: Option<&str>, unit: &str| profile::Resource {
        name: name.into(),
        alias_of: alias_of.map(Into::into),
        unit: Some(unit.into()),
        value: Type::Number,
        ..profile::Resource::default()
    };
    let resources = vec![resource("t9", Some("temperature"), "F"), resource("distance", None, "m")];
    let profile = Arc::new(Profile { resources, ..Profile::default() });
    let known = |_: &TenantId, _: &str| About {
        profile: Some(Arc::clone(&profile)),
        gateway: Some("gw-1".into()),
        ..About::default()
    };
    let message = told("devices/a/telemetry", 0, r#"{"temp":1,"t9":50,"distance":1.2345}"#);
    let (count, text) = written(&message, &Ids::default(), &known);
    let expected = r#"[{"tsmId":12100,"tsmEv":10,"temp":10,"tsmTs":0,"tsmTuid":"a","tsmGw":"gw-1"},{"tsmId":17100,"tsmEv":10,"dist":1235,"tsmTs":0,"tsmTuid":"a","tsmGw":"gw-1"}]"#;
    assert_eq!((count, text.as_str()), (2, expected));
    check(
        "devices/a/telemetry",
        0,
        r#"{"temp":1,"temperature":2}"#,
        r#"[{"tsmId":12100,"tsmEv":10,"temp":1,"tsmTs":0,"tsmTuid":"a"}]"#,
    );
}

#[test]
fn the_document_of_a_device_is_one_object_for_each_time_and_id() {
    let resource = |value: &str, ms, quality| state::Resource {
        value: Some(value.into()),
        unit: None,
        quality,
        origin: state::Origin { time: UnixMs(ms), is_given: true, seq: Seq(1) },
    };
    let parts = vec![
        ("humd".into(), resource("40", 2_000, Quality::Good)),
        ("lght".into(), resource("7", 2_000, Quality::Bad)),
        ("oil".into(), resource("{}", 2_000, Quality::Good)),
        ("presence".into(), resource("true", 1_000, Quality::Uncertain)),
        ("temp".into(), resource("21.30", 2_000, Quality::Good)),
    ];
    let reported = state::Reported::of_parts(Seq(1), parts).unwrap();
    let text = native::encode_document(&reported, &state::Desired::default());
    check(
        "devices/a/state",
        9_000,
        std::str::from_utf8(&text).unwrap(),
        r#"[{"tsmId":2100,"tsmEv":10,"state":1,"tsmTs":1,"tsmTuid":"a"},{"tsmId":12100,"tsmEv":10,"temp":21.30,"humd":40,"tsmTs":2,"tsmTuid":"a"}]"#,
    );
}

#[test]
fn the_last_state_of_a_thingsee_device_has_the_fields_of_one_id_alone_too() {
    let known = |_: &TenantId, _: &str| About { is_thingsee: true, ..About::default() };
    let message = told(
        "devices/a/telemetry",
        0,
        r#"{"temp":1.0,"chrg":2,"hallCount":7,"hall":1,"state.2101":1,"state.2100":0,"count":4,"mine":5}"#,
    );
    let (_, text) = written(&message, &Ids::default(), &known);
    let expected = r#"[{"tsmId":1110,"tsmEv":10,"chrg":2,"tsmTs":0,"tsmTuid":"a"},{"tsmId":2100,"tsmEv":10,"state":0,"tsmTs":0,"tsmTuid":"a"},{"tsmId":2101,"tsmEv":10,"state":1,"tsmTs":0,"tsmTuid":"a"},{"tsmId":12100,"tsmEv":10,"temp":1.0,"tsmTs":0,"tsmTuid":"a"},{"tsmId":12101,"tsmEv":10,"hall":1,"hallCount":7,"tsmTs":0,"tsmTuid":"a"}]"#;
    assert_eq!(text, expected);
}

#[test]
fn a_reader_may_want_some_ids_alone() {
    let ids = Ids::new([1_110, 1_110]).unwrap();
    let message = told("devices/a/telemetry", 0, r#"{"temp":1,"batl":2}"#);
    let (_, text) = written(&message, &ids, &nothing_known);
    assert_eq!(text, r#"[{"tsmId":1110,"tsmEv":10,"batl":2,"tsmTs":0,"tsmTuid":"a"}]"#);
    assert_eq!(Ids::new([2, 1]), Ids::new([1, 2]));
    assert_eq!((Ids::new([0]), Ids::new(1..=9)), (None, None));
}

#[test]
fn what_came_as_thingsee_goes_out_as_it_came() {
    let original = r#"{ "tsmEv":10,"temp":1.0, "tsmId": 12100,"x":[null]}"#;
    let mut message = told("devices/a/telemetry", 0, r#"{"temp":1.0}"#);
    message.original = Some(original.as_bytes().to_vec().into());
    let ids = |ids: &[u32]| Ids::new(ids.iter().copied()).unwrap();
    let whole = (1, format!("[{original}]"));
    assert_eq!(written(&message, &Ids::default(), &nothing_known), whole);
    assert_eq!(written(&message, &ids(&[1_110, 12_100]), &nothing_known), whole);
    assert_eq!(written(&message, &ids(&[1_110]), &nothing_known), (0, "[]".to_owned()));
}

proptest! {
    #[test]
    fn no_payload_panics_and_all_that_comes_is_json(
        payload in r#"\{("(temp|geo|presence|dist|on\.2|values|a)":(1|-0\.5e3|true|null|"7"|" 1"|"1."|\{"lat":1e400\}|\[\{"tag":"temp","value":3,"unit":"F"\}\]),?){0,4}\}"#,
        state: bool,
    ) {
        let topic = if state { "devices/a/state/reported" } else { "devices/a/telemetry" };
        let (count, text) = written(&told(topic, 1, &payload), &Ids::default(), &nothing_known);
        let objects: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(objects.len(), count);
    }

    #[test]
    fn no_bytes_panic(payload: Vec<u8>) {
        for topic in ["devices/a/telemetry", "devices/a/state", "devices/a/state/reported"] {
            let mut message = told(topic, 1, "");
            message.payload = payload.clone().into();
            let _ = written(&message, &Ids::default(), &nothing_known);
        }
    }
}
