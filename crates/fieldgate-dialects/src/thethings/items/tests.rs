//! Tests of `items`: the vectors of `resources.md` 7, and names in both directions.

use std::sync::Arc;

use fieldgate_core::{
    dialect::Marks,
    id::{Epoch, Position, Seq, TenantId},
    message::{Content, Qos},
    profile::{self, Profile},
    state::{self, Quality},
    testing,
};
use proptest::prelude::*;

use super::*;
use crate::{
    native,
    readings::{About, Known},
};

const T: u64 = 1_634_567_890_123;
const TIME: &str = "2021-10-18T14:38:10.123Z";

fn nothing_known(_: &TenantId, _: &str) -> About {
    About::default()
}

fn told(topic: &str, ms: u64, payload: &str) -> Message {
    let mut message = testing::message(topic, Qos::AtMostOnce, payload);
    message.content = Content::Json;
    message.timestamp = UnixMs(ms);
    message
}

fn written(message: &Message, wanted: Option<&str>, known: Known<'_>) -> (usize, String) {
    let position = Position { epoch: Epoch(1), seq: Seq(1) };
    let delivery = Delivery { position, message, marks: Marks::default() };
    let mut out = Vec::new();
    let telling = Telling { names: Naming::Own, known };
    let count = write_items(&mut out, &delivery, wanted, telling);
    (count, String::from_utf8(out).unwrap())
}

#[track_caller]
fn check(payload: &str, wanted: Option<&str>, expected: &[(&str, &str)]) {
    check_known(payload, wanted, &nothing_known, expected);
}

#[track_caller]
fn check_known(payload: &str, wanted: Option<&str>, known: Known<'_>, expected: &[(&str, &str)]) {
    let items = expected.iter().map(|(key, value)| {
        format!("{{\"key\":\"{key}\",\"value\":{value},\"datetime\":\"{TIME}\"}}")
    });
    let items: Vec<String> = items.collect();
    let text = if items.is_empty() { String::new() } else { format!("[{}]", items.join(",")) };
    let message = told("devices/a/telemetry", T, payload);
    assert_eq!(written(&message, wanted, known), (expected.len(), text), "{payload} {wanted:?}");
}

#[test]
fn vector_1_a_sensors_field_is_the_canonical_resource_of_the_name() {
    let payload = r#"{"airp":101364.599,"lght":6,"temp":21.3,"humd":21.7}"#;
    let message = told("devices/X/telemetry", 1_520_416_221_000, payload);
    let (count, text) = written(&message, Some("temperature"), &nothing_known);
    let expected = r#"[{"key":"temperature","value":21.3,"datetime":"2018-03-07T09:50:21.000Z"}]"#;
    assert_eq!((count, text.as_str()), (1, expected));
    check(payload, Some("battery"), &[]);
    check(payload, Some("lght"), &[("lght", "6")]);
}

#[test]
fn all_that_a_message_holds_goes_under_its_own_names() {
    check(
        r#"{"temp":"21.30","x":null,"oil":{"level":0.70, "grade":"5W 30"},"on":true}"#,
        None,
        &[("temp", "\"21.30\""), ("oil", r#"{"level":0.70,"grade":"5W 30"}"#), ("on", "true")],
    );
    check(r#"{"values":[{"tag":"a\"","value":1}]}"#, None, &[("a\\\"", "1")]);
    check("{}", None, &[]);
}

#[test]
fn the_own_name_is_untouched_and_another_one_converted() {
    let both =
        r#"{"values":[{"tag":"temperature","value":70.0,"unit":"F"},{"tag":"temp","value":1}]}"#;
    check(both, Some("temperature"), &[("temperature", "70.0")]);
    check(
        r#"{"values":[{"tag":"temp","value":70.0,"unit":"F"}]}"#,
        Some("temperature"),
        &[("temperature", "21.1111111")],
    );
    check(r#"{"temp":"21.50"}"#, Some("temperature"), &[("temperature", "21.50")]);
    check(r#"{"relay":"on"}"#, Some("on"), &[("on", "true")]);
    check(r#"{"hall":0}"#, Some("open"), &[("open", "true")]);
    check(
        r#"{"geo":{"lat":1, "long":2}}"#,
        Some("location"),
        &[("location", r#"{"lat":1,"long":2}"#)],
    );
    check(r#"{"temp.2":3}"#, Some("temperature"), &[]);
    check(r#"{"temp.2":3}"#, Some("temperature.2"), &[("temperature.2", "3")]);
    check(r#"{"oil":3}"#, Some("temperature"), &[]);
}

#[test]
fn a_bad_reading_is_none() {
    let bad = r#"{"values":[{"tag":"temperature","value":42.5}],"quality":"bad"}"#;
    check(bad, Some("temperature"), &[]);
    check(bad, None, &[]);
}

#[test]
fn what_the_profile_says_counts_more_than_a_name() {
    let resource = |name: &str, alias_of: Option<&str>, unit: &str| profile::Resource {
        name: name.into(),
        alias_of: alias_of.map(Into::into),
        unit: Some(unit.into()),
        ..profile::Resource::default()
    };
    let resources = vec![resource("t9", Some("temperature"), "F"), resource("humidity", None, "%")];
    let profile = Arc::new(Profile { resources, ..Profile::default() });
    let known =
        |_: &TenantId, _: &str| About { profile: Some(Arc::clone(&profile)), ..About::default() };
    let payload = r#"{"temp":1,"t9":50,"humd":7}"#;
    check_known(payload, Some("temperature"), &known, &[("temperature", "10")]);
    check_known(payload, Some("humidity"), &known, &[]);
    check_known(payload, Some("humd"), &known, &[("humd", "7")]);
}

#[test]
fn what_is_no_reading_has_no_items() {
    for topic in ["a/b", "devices/a/events", "devices/a/replies", "devices/a/state/desired"] {
        let message = told(topic, T, r#"{"temperature":1}"#);
        assert_eq!(written(&message, None, &nothing_known), (0, String::new()), "{topic}");
    }
    let mut message = told("devices/a/telemetry", T, r#"{"temperature":1}"#);
    message.content = Content::Text;
    assert_eq!(written(&message, None, &nothing_known).0, 0);
}

#[test]
fn a_document_tells_each_resource_with_its_own_time() {
    let resource = |value: &str, ms, quality| state::Resource {
        value: Some(value.into()),
        unit: None,
        quality,
        origin: state::Origin { time: UnixMs(ms), is_given: true, seq: Seq(1) },
    };
    let parts = vec![
        ("humd".into(), resource("40", 2_000, Quality::Good)),
        ("lght".into(), resource("7", 2_000, Quality::Bad)),
        ("temp".into(), resource("21.30", 1_000, Quality::Uncertain)),
    ];
    let reported = state::Reported::of_parts(Seq(1), parts).unwrap();
    let text = native::encode_document(&reported, &state::Desired::default());
    let message = told("devices/a/state", 9_000, std::str::from_utf8(&text).unwrap());
    let humd = r#"{"key":"humd","value":40,"datetime":"1970-01-01T00:00:02.000Z"}"#;
    let temp = |key| {
        format!("{{\"key\":\"{key}\",\"value\":21.30,\"datetime\":\"1970-01-01T00:00:01.000Z\"}}")
    };
    let all = (2, format!("[{humd},{}]", temp("temp")));
    assert_eq!(written(&message, None, &nothing_known), all);
    let one = (1, format!("[{}]", temp("temperature")));
    assert_eq!(written(&message, Some("temperature"), &nothing_known), one);
}

proptest! {
    #[test]
    fn no_payload_panics_and_all_that_comes_is_json(
        payload in r#"\{("(temp|geo|presence|on\.2|values|a)":(1|-0\.5e3|true|null|"7 "|" 1"|\{ "lat" : "\\" \}|\[\{"tag":"temp","value":3,"unit":"F"\}\]),?){0,4}\}"#,
        wanted in prop::option::of("temperature|on\\.2|a|presence|location"),
        state: bool,
    ) {
        let topic = if state { "devices/a/state/reported" } else { "devices/a/telemetry" };
        let (count, text) = written(&told(topic, 1, &payload), wanted.as_deref(), &nothing_known);
        if count == 0 {
            prop_assert_eq!(text, "");
        } else {
            let items: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(items.len(), count);
        }
    }

    #[test]
    fn no_bytes_panic(payload: Vec<u8>) {
        for topic in ["devices/a/telemetry", "devices/a/state", "devices/a/state/reported"] {
            let mut message = told(topic, 1, "");
            message.payload = payload.clone().into();
            let _ = written(&message, Some("temperature"), &nothing_known);
        }
    }
}

#[test]
fn canonical_names_are_told_where_they_are_asked_for() {
    let resource = |name: &str, unit: &str, of: Option<&str>| profile::Resource {
        name: name.to_owned(),
        unit: Some(unit.to_owned()),
        alias_of: of.map(str::to_owned),
        ..profile::Resource::default()
    };
    let resources = [
        resource("temperature", "\u{b0}F", None),
        resource("outside", "\u{b0}C", Some("temperature")),
        resource("indoors.2", "\u{b0}C", Some("temperature")),
    ];
    let profile = Arc::new(Profile { resources: resources.into(), ..Profile::default() });
    let known =
        |_: &TenantId, _: &str| About { profile: Some(Arc::clone(&profile)), ..About::default() };
    let check = |payload: &str, wanted: Option<&str>, expected: &[(&str, &str)]| {
        let message = told("devices/a/telemetry", T, payload);
        let mut found = Vec::new();
        let telling = Telling { names: Naming::Canonical, known: &known };
        each_item(&message, wanted, telling, |key, text, _| {
            found.push((key.to_owned(), text.to_owned()))
        });
        let found: Vec<_> = found.iter().map(|(key, text)| (&**key, &**text)).collect();
        assert_eq!(found, expected, "{payload} {wanted:?}");
    };
    check(r#"{"temperature":50,"rest":"x"}"#, None, &[("temperature", "10"), ("rest", "\"x\"")]);
    check(r#"{"temperature":50}"#, Some("temperature"), &[("temperature", "10")]);
    // What the profile names counts more, and an instance is another resource.
    let all = r#"{"temperature":50,"outside":3.50,"indoors.2":20}"#;
    check(all, None, &[("temperature", "3.50"), ("temperature.2", "20")]);
    check(all, Some("temperature"), &[("temperature", "3.50")]);
    check(all, Some("temperature.2"), &[("temperature.2", "20")]);
    // By its own name it is what was sent.
    check(all, Some("outside"), &[("outside", "3.50")]);
    // What does not fit its row is no canonical resource.
    check(r#"{"temperature":"warm"}"#, None, &[("temperature", "\"warm\"")]);
    check(r#"{"temperature":"warm"}"#, Some("temperature"), &[("temperature", "\"warm\"")]);
}
