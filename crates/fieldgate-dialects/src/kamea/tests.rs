//! Tests of `kamea`: the vectors of `resources.md` 7, requests, templates.

use fieldgate_core::{
    dialect::Marks,
    id::{Epoch, Position, Seq},
    message::Qos,
    testing,
};
use proptest::prelude::*;

use super::*;
use crate::readings::About;

const TENANT: &str = "12B80A37-D30E-49F1-AF3B-356ECC1AD96C";
const DEVICE: &str = "C5C80676-890C-4024-A16F-DF81AB0B5A22";

const OWN: Telling<'_> = Telling { names: Naming::Own, known: &|_, _| About::default() };

fn told(topic: &str, ms: u64, payload: &str) -> Message {
    let mut message = testing::message(topic, Qos::AtMostOnce, payload);
    message.content = Content::Json;
    message.timestamp = UnixMs(ms);
    message
}

fn delivery(message: &Message) -> Delivery<'_> {
    let position = Position { epoch: Epoch(1), seq: Seq(1) };
    Delivery { position, message, marks: Marks::default() }
}

fn bodies(message: &Message, body: &Body) -> Vec<String> {
    let mut found = Vec::new();
    let visit = |json: &[u8]| found.push(String::from_utf8(json.to_vec()).unwrap());
    let count = each_body(&delivery(message), TENANT, body, OWN, &mut b"rest".to_vec(), visit);
    assert_eq!(found.len(), count);
    found
}

fn telemetries(topic: &str, payload: &str) -> Option<String> {
    let body = r#""{telemetries}""#.parse().unwrap();
    let mut found = bodies(&told(topic, 1, payload), &body);
    assert!(found.len() <= 1);
    found.pop()
}

#[test]
fn the_default_body_names_device_tenant_time_and_values() {
    let payload = r#"{"airp":101364.599,"lght":6,"temp":21.3,"humd":21.7}"#;
    let message = told(&format!("devices/{DEVICE}/telemetry"), 1_520_416_221_000, payload);
    let mut out = b"before".to_vec();
    assert!(write_body(&mut out, &delivery(&message), TENANT, &Body::default(), OWN));
    let expected = format!(
        r#"before{{"deviceId":"{DEVICE}","tenantId":"{TENANT}","timestamp":"2018-03-07T09:50:21.000Z","telemetries":{payload}}}"#
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn values_are_as_they_were_sent() {
    let of = "devices/a/telemetry";
    for (topic, payload, expected) in [
        (
            of,
            r#"{"oil":{"level":0.70,"grade":"5W30"}}"#,
            r#"{"oil":{"level":0.70,"grade":"5W30"}}"#,
        ),
        (
            of,
            r#"{"values":[{"tag":"temp","value":23.5,"unit":"C"},{"tag":"humid","value":45.2}]}"#,
            r#"{"temp":23.5,"humid":45.2}"#,
        ),
        (
            of,
            r#"{"values":[{"tag":"t","value":1},{"tag":"b","value":2,"quality":"bad"},{"tag":"t","value":3}]}"#,
            r#"{"t":3}"#,
        ),
        (of, r#"{"a\"b":1e2,"gone":null}"#, r#"{"a\"b":1e2}"#),
        ("devices/a/state/reported", r#"{"on":true,"old":null}"#, r#"{"on":true}"#),
        ("devices/a/events", r#"{"event":"button","data":{"button":2002}}"#, r#"{"button":2002}"#),
    ] {
        assert_eq!(telemetries(topic, payload).as_deref(), Some(expected), "{payload}");
    }
}

#[test]
fn what_says_no_value_is_no_event() {
    for (topic, payload) in [
        ("devices/a/telemetry", "{}"),
        ("devices/a/telemetry", "7"),
        ("devices/a/telemetry", r#"{"values":[{"tag":"t","value":1}],"quality":"bad"}"#),
        ("devices/a/events", r#"{"event":"started"}"#),
        ("devices/a/events", r#"{"event":"e","data":7}"#),
        ("devices/a/commands", r#"{"set":{"on":true}}"#),
        ("devices/a/presence", r#"{"online":true}"#),
        ("devices/a/other", r#"{"t":1}"#),
        ("plant/line", r#"{"t":1}"#),
        ("devices/a/state", r#"{"reported":{},"desired":{"t":1},"meta":{}}"#),
        ("devices/a/state", "no json"),
    ] {
        assert_eq!(telemetries(topic, payload), None, "{topic} {payload}");
    }
    let mut text = told("devices/a/telemetry", 1, r#"{"t":1}"#);
    text.content = Content::Text;
    assert!(bodies(&text, &Body::default()).is_empty());
}

#[test]
fn a_document_is_an_event_for_each_time_of_its_values() {
    let payload = r#"{"reported":{"a":1,"b":"x","bad":null,"c":3},"desired":{"a":2},"meta":{"a":{"time":5,"seq":9},"b":{"time":2,"seq":1,"unit":"m"},"bad":{"time":2,"seq":1,"quality":"bad"},"c":{"time":5,"seq":9}}}"#;
    let message = told("devices/d/state", 77, payload);
    let body = r#"["{timestampMs}","{telemetries}"]"#.parse().unwrap();
    assert_eq!(bodies(&message, &body), [r#"[2,{"b":"x"}]"#, r#"[5,{"a":1,"c":3}]"#]);
    assert!(!write_body(&mut Vec::new(), &delivery(&message), TENANT, &body, OWN));
}

#[test]
fn names_of_members_are_the_operators() {
    let body =
        r#"{"id":"urn:{tenantId}:{deviceId}","at":"{timestampMs}","data":["{telemetries}"]}"#;
    let found = bodies(&told("devices/d/telemetry", 7, r#"{"t":1}"#), &body.parse().unwrap());
    assert_eq!(found, [format!(r#"{{"id":"urn:{TENANT}:d","at":7,"data":[{{"t":1}}]}}"#)]);
    assert!(r#""{permission}""#.parse::<Body>().is_err());
    assert_eq!(Ok(Body::default()), DEFAULT_BODY.parse());
}

#[test]
fn a_request_names_a_device_and_a_tenant() {
    let text = format!(r#"{{"deviceId":"{DEVICE}","tenantId":"{TENANT}","more":[1]}}"#);
    let found = request(&text).unwrap();
    assert_eq!((found.device.as_str(), &*found.tenant), (DEVICE, TENANT));
    let names: Vec<_> = found.devices().map(|id| id.to_string()).collect();
    assert_eq!(names, [DEVICE.to_owned(), DEVICE.to_lowercase()]);
    let text = text.replace(DEVICE, &DEVICE.replace('C', "c"));
    assert_eq!(request(&text).unwrap().devices().count(), 3);
    // What is no UUID has one spelling.
    let text = text.replace(&DEVICE.replace('C', "c"), "Lamp-1");
    assert_eq!(request(&text).unwrap().devices().count(), 1);
}

#[test]
fn what_is_no_request_is_told() {
    for (text, expected) in [
        ("null", "takes an object"),
        ("[]", "takes an object"),
        (r#"{"deviceId":"a","#, "takes an object"),
        ("{}", "deviceId is missing"),
        (r#"{"deviceId":7}"#, "deviceId is no text"),
        (r#"{"deviceId":"a/b"}"#, "a device id is"),
        (r#"{"deviceId":"..","tenantId":"a"}"#, "deviceId is . or .."),
        (r#"{"deviceId":"a"}"#, "tenantId is missing"),
        (r#"{"deviceId":"a","tenantId":"default"}"#, "tenantId is a UUID, not \"default\""),
    ] {
        let told = request(text).unwrap_err();
        assert!(told.contains(expected), "{text}: {told}");
    }
    let long = format!(r#"{{"deviceId":"a","tenantId":"{}"}}"#, "é".repeat(9_999));
    assert!(request(&long).unwrap_err().len() < 1_000);
}

#[test]
fn a_uuid_is_known_by_its_form() {
    assert!(is_uuid(TENANT) && is_uuid(&TENANT.to_lowercase()));
    for text in
        ["", "default", &TENANT.replace('-', ""), &format!("{TENANT}-"), &TENANT.replace('B', "G")]
    {
        assert!(!is_uuid(text), "{text}");
    }
}

proptest! {
    #[test]
    fn no_payload_panics_and_all_that_comes_is_json(
        payload in "[{}\\[\\]\",:abdt 1.e\\\\u0-]{0,40}",
        tag in "\\PC{0,6}|[\"\\\\\n]{0,3}",
        kind in prop::sample::select(vec!["telemetry", "events", "state", "state/reported"]),
    ) {
        let topic = format!("devices/a/{kind}");
        bodies(&told(&topic, 1, &payload), &Body::default());
        let data = serde_json::json!({tag.clone(): 1, "data": {tag.clone(): 2}});
        let data = serde_json::json!({"values": [{"tag": tag, "value": data}], "data": data});
        for body in bodies(&told(&topic, 1, &data.to_string()), &Body::default()) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
        }
        drop((request(&payload), answer(200, payload.as_bytes(), Place("")), answer(200, payload.as_bytes(), Place("/a/b"))));
        drop(payload.parse::<Body>());
    }
}

#[test]
fn canonical_names_are_told_where_they_are_asked_for() {
    let of = "devices/a/telemetry";
    for (topic, payload, expected) in [
        (
            of,
            r#"{"temp":21.30,"airp":1,"oil":{"a":1}}"#,
            r#"{"temperature":21.30,"pressure":1,"oil":{"a":1}}"#,
        ),
        (of, r#"{"values":[{"tag":"temp.2","value":50,"unit":"F"}]}"#, r#"{"temperature.2":10}"#),
        // Of two names for one resource the first counts.
        (of, r#"{"temp":1,"temperature":2}"#, r#"{"temperature":1}"#),
        (
            "devices/a/events",
            r#"{"event":"x","data":{"temp":3,"why":"y"}}"#,
            r#"{"temperature":3,"why":"y"}"#,
        ),
    ] {
        let body: Body = r#""{telemetries}""#.parse().unwrap();
        let mut message = told(topic, 1, payload);
        if topic.ends_with("events") {
            message.kind = Kind::Event;
        }
        let canonical = Telling { names: Naming::Canonical, ..OWN };
        let mut found = Vec::new();
        let visit = |json: &[u8]| found.push(String::from_utf8(json.to_vec()).unwrap());
        each_body(&delivery(&message), TENANT, &body, canonical, &mut Vec::new(), visit);
        assert_eq!(found, [expected], "{payload}");
    }
}
