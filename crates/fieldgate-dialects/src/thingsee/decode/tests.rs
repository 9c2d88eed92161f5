//! The vectors of `wire.md` 6 and `resources.md` 7, and what is wrong with a frame.

use fieldgate_core::{
    fault::Code,
    id::Seq,
    message::Message,
    reading::{Stamp, decide_time},
    state::{Bounds, Reported},
    testing,
};
use proptest::prelude::*;

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/thingsee/", $name))
    };
}

fn decoded(text: &str) -> Elements {
    decode_text(text, &Limits::default()).unwrap()
}

/// One element that stands.
fn one(text: &str) -> Element {
    let mut all = decoded(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).unwrap()
}

/// The code that the only element is refused with.
fn refused(text: &str) -> Code {
    let mut all = decoded(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).unwrap_err().code
}

fn payload(element: &Element) -> &str {
    std::str::from_utf8(&element.draft.payload).unwrap()
}

fn original(element: &Element) -> &str {
    std::str::from_utf8(element.draft.original.as_ref().unwrap()).unwrap()
}

#[test]
fn the_array_of_the_seed_is_three_messages_of_one_device() {
    let text = fixture!("seed-000.json");
    let all: Vec<Element> = decoded(text).into_iter().map(Result::unwrap).collect();
    let payloads: Vec<&str> = all.iter().map(payload).collect();
    // `resources.md` 7.1 for the third.
    assert_eq!(
        payloads,
        [
            r#"{"hall":0,"hallCount":0}"#,
            r#"{"batl":100}"#,
            r#"{"airp":101364.599,"lght":6,"temp":21.3,"humd":21.7}"#
        ]
    );
    for element in &all {
        assert_eq!(element.device.as_str(), "XXXX03X2Z80562557");
        assert_eq!(element.gateway.as_ref().map(DeviceId::as_str), Some("XXXX00EFS80560445"));
        assert_eq!(element.draft.timestamp, Some(UnixMs(1_520_416_221_000)));
        assert_eq!(element.draft.qos, Qos::AtLeastOnce);
        assert_eq!(element.draft.target, Target::Telemetry(Some(element.device.clone())));
        assert!(text.contains(original(element)), "byte for byte");
    }
    assert!(original(&all[1]).starts_with("{\n    \"tsmId\": 1110"));
}

#[test]
fn a_single_object_is_an_array_of_one() {
    let element = one(fixture!("movement.json"));
    assert_eq!(
        (element.device.as_str(), payload(&element)),
        ("TSPR04ABC12345678", r#"{"moveCount":12}"#)
    );
}

#[test]
fn state_and_status_are_told_apart_by_their_id() {
    let all: Vec<Element> =
        decoded(fixture!("samples.json")).into_iter().map(Result::unwrap).collect();
    let payloads: Vec<&str> = all.iter().map(payload).collect();
    assert_eq!(
        payloads,
        [
            r#"{"batl":34.6,"chrg":2}"#,
            r#"{"carbonDioxide":538,"status.24100":1}"#,
            r#"{"tvoc":72}"#,
            r#"{"dist":79,"status.17200":0}"#,
            r#"{"airp":102092.358,"humd":67.2,"temp":22.5,"lght":270}"#,
            r#"{"activityLevel":34,"energyLevel":400}"#
        ]
    );
    let occupancy = one(r#"{"tsmId":2100,"tsmEv":10,"state":1,"tsmTuid":"d"}"#);
    assert_eq!(payload(&occupancy), r#"{"state.2100":1}"#);
}

#[test]
fn a_request_is_no_message_of_a_device_and_its_echo_is() {
    assert_eq!(refused(fixture!("configuration_request.json")), Code::MissingField);
    let echo = one(fixture!("configuration_echo.json"));
    assert_eq!(payload(&echo), r#"{"measurementInterval":10,"reportInterval":60}"#);
    assert_eq!(echo.draft.timestamp, Some(UnixMs(1_503_714_007_000)));
    assert!(original(&echo).contains(r#""transactionId":1"#));
}

#[test]
fn a_lost_and_a_found_heartbeat_are_two_messages() {
    let all: Vec<Element> =
        decoded(fixture!("heartbeats.json")).into_iter().map(Result::unwrap).collect();
    assert!(payload(&all[0]).ends_with(r#""slotBitCount":3,"slotBits":0}"#));
    assert!(payload(&all[1]).ends_with(r#""slotBitCount":1,"slotBits":1}"#));
}

#[test]
fn neighbours_of_one_moment_are_no_repeats_of_each_other() {
    let all: Vec<Element> =
        decoded(fixture!("neighbours.json")).into_iter().map(Result::unwrap).collect();
    let [first, second] = [0, 1].map(|at: usize| all[at].draft.reference.clone().unwrap());
    assert_ne!(first, second);
    assert_eq!(
        first.as_str().rsplit_once(':').unwrap().0,
        second.as_str().rsplit_once(':').unwrap().0
    );
}

#[test]
fn a_repeat_through_another_gateway_is_the_same_message() {
    let element = |more: &str| {
        one(&format!(r#"[{{"tsmId":12100,"tsmEv":10,"temp":21.3,"tsmTuid":"d"{more}}}]"#))
            .draft
            .reference
    };
    let first = element(r#","tsmTs":1520416221,"tsmGw":"g1""#);
    assert_eq!(first, element(r#","tsmTs":1520416221.000,"tsmGw":"g2","tsmCloudTs":1520416299"#));
    assert_eq!(first.unwrap().as_str().rsplit_once(':').unwrap().0, "d:12100:1520416221000:10");
    assert_eq!(element(""), None);
    assert_eq!(element(r#","tsmTs":null"#), None);
    let long = "x".repeat(128);
    let text = format!(r#"[{{"tsmId":1,"tsmTs":1520416221,"tsmTuid":"{long}"}}]"#);
    assert_eq!(one(&text).draft.reference.unwrap().as_str().len(), 44);
}

#[test]
fn what_is_not_known_is_kept() {
    let element = one(
        r#" [ {"tsmId":4242,"tsmEv":7,"new":{"a":[1, 2.50]},"tsmNew":null,"tsmTuid":"d","é":"\u00e9"} ] "#,
    );
    assert_eq!(payload(&element), r#"{"new":{"a":[1, 2.50]},"tsmNew":null,"é":"\u00e9"}"#);
    assert_eq!(element.gateway, None);
    let element = one(r#"{"tsmId":1600,"tsmTuid":"d","tsmGw":7}"#);
    assert_eq!((payload(&element), &element.gateway), ("{}", &None));
    assert!(decoded(" [] ").is_empty());
}

#[test]
fn times_have_decimals_and_may_be_absent() {
    let time = |text: &str| {
        one(&format!(r#"{{"tsmId":1,"tsmEv":18,"tsmTuid":"d"{text}}}"#)).draft.timestamp
    };
    assert_eq!(time(""), None);
    assert_eq!(time(r#","tsmTs":1520416221.1234"#), Some(UnixMs(1_520_416_221_123)));
    assert_eq!(time(r#","tsmTs":1634567890.123"#), Some(UnixMs(1_634_567_890_123)));
    assert_eq!(time(r#","tsmTs":-5"#), Some(UnixMs(0)));
    assert_eq!(time(r#","tsmTs":1e300"#), Some(UnixMs(SEQ_MAX)));
    assert_eq!(refused(r#"{"tsmId":1,"tsmTuid":"d","tsmTs":"1520416221"}"#), Code::BadValue);
    assert_eq!(refused(r#"{"tsmId":1,"tsmTuid":"d","tsmTs":1e400}"#), Code::BadValue);
}

#[test]
fn one_bad_element_never_costs_its_neighbours() {
    let good = r#"{"tsmId":1110,"tsmEv":10,"batl":1,"tsmTuid":"d"}"#;
    for (bad, code) in [
        ("7", Code::BadValue),
        ("null", Code::BadValue),
        ("[]", Code::BadValue),
        ("{}", Code::MissingField),
        (r#"{"tsmId":1110}"#, Code::MissingField),
        (r#"{"tsmTuid":"d"}"#, Code::MissingField),
        (r#"{"tsmId":"1110","tsmTuid":"d"}"#, Code::BadValue),
        (r#"{"tsmId":-1,"tsmTuid":"d"}"#, Code::BadValue),
        (r#"{"tsmId":1.5,"tsmTuid":"d"}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmEv":[],"tsmTuid":"d"}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":7}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":"a/b"}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":""}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmId":2,"tsmTuid":"d"}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":"d","a":1,"a":2}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":"d","a":1,"\u0061":2}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":"d","state":1,"state.1":2}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":"d","":1}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":"d","a\u0000":1}"#, Code::BadValue),
        (r#"{"tsmId":1,"tsmTuid":"d","a":[1e400]}"#, Code::BadValue),
    ] {
        let all = decoded(&format!("[{good},{bad},{good}]"));
        let codes: Vec<_> =
            all.iter().map(|one| one.as_ref().err().map(|fault| fault.code)).collect();
        assert_eq!(codes, [None, Some(code), None], "{bad}");
    }
}

/// Elements share memory; each has its own bytes of it.
#[test]
fn elements_of_one_frame_keep_apart() {
    let text = |nth: usize| {
        let long = "x".repeat(nth * 7 % 1_500);
        format!(r#"{{"tsmId":{nth}, "tsmTuid":"d{}","text":"{long}","state":{nth}}}"#, nth % 3)
    };
    let bad = |nth: usize| nth % 4 == 1;
    let texts = (1..=300).map(|nth| if bad(nth) { "7".to_owned() } else { text(nth) });
    let all = decoded(&format!("[{}]", texts.collect::<Vec<_>>().join(",")));
    assert_eq!(all.len(), 300);
    for (element, nth) in all.iter().zip(1_usize..) {
        let Ok(element) = element else {
            assert!(bad(nth), "{nth}");
            continue;
        };
        assert_eq!(original(element), text(nth));
        assert_eq!(element, &one(&text(nth)));
        assert_eq!(element.device.as_str(), format!("d{}", nth % 3));
        assert!(payload(element).ends_with(&format!(r#"","state.{nth}":{nth}}}"#)));
    }
}

/// Of a thousand neighbours of one moment no two are taken for one; what is said twice is.
#[test]
fn the_mark_tells_fields_apart() {
    let reference = |rssi: u32| {
        let text = format!(r#"{{"tsmId":1,"tsmEv":-1,"tsmTs":9,"tsmTuid":"d","rssi":{rssi}}}"#);
        one(&text).draft.reference.unwrap()
    };
    let all: std::collections::BTreeSet<_> = (0..1_000).map(reference).collect();
    assert_eq!(all.len(), 1_000);
    // The same in every process: what came before a restart is known behind it.
    assert_eq!(reference(7).as_str(), "d:1:9000:-1:8847ace2");
}

#[test]
fn a_key_is_an_event_beside_its_telemetry() {
    let element = one(r#"{"tsmId":1100,"tsmEv":8,"psn":"7","tsmTs":9,"tsmTuid":"d"}"#);
    assert_eq!(payload(&element), r#"{"psn":"7"}"#);
    assert_eq!(element.draft.target, Target::Telemetry(Some(element.device.clone())));
    let event = element.event.unwrap();
    assert_eq!(event.target, Target::Event(Some(element.device)));
    assert_eq!(event.payload, r#"{"event":"button","data":{"button":1002}}"#);
    assert_eq!((event.timestamp, event.qos), (Some(UnixMs(9_000)), Qos::AtLeastOnce));
    // What goes out as Thingsee is the telemetry, as it came.
    assert_eq!(event.original, None);
    let (own, beside) = (element.draft.reference.unwrap(), event.reference.unwrap());
    assert_eq!(beside.as_str(), format!("{}:button", own.as_str()));
    // Without a time it is never a repeat, and its id fits whatever the device is called.
    let event = |text: &str| one(text).event.map(|event| event.reference);
    assert_eq!(event(r#"{"tsmId":1100,"tsmEv":8,"tsmTuid":"d"}"#), Some(None));
    let long = "x".repeat(128);
    let long = event(&format!(r#"{{"tsmId":1,"tsmEv":8,"tsmTs":9,"tsmTuid":"{long}"}}"#));
    assert_eq!(long.unwrap().unwrap().as_str().len(), 44);
}

#[test]
fn what_is_measured_for_a_reason_is_no_press_of_a_key() {
    let is_press = |event: &str, fields: &str| {
        let text = format!(r#"{{"tsmId":2100,"tsmTuid":"d",{event}{fields}}}"#);
        one(&text).event.is_some()
    };
    assert!(is_press(r#""tsmEv":8"#, ""));
    assert!(is_press(r#""tsmEv":8"#, r#","new":[1],"status":3"#));
    for fields in [r#","state":1"#, r#","hall":0"#, r#","new":1,"temp":21.5"#, r#","batl":40"#] {
        assert!(!is_press(r#""tsmEv":8"#, fields), "{fields}");
    }
    for event in [r#""tsmEv":7"#, r#""tsmEv":10"#, r#""tsmEv":-8"#, r#""tsmEv":null"#] {
        assert!(!is_press(event, ""), "{event}");
    }
}

#[test]
fn a_press_counts_twice_in_its_frame() {
    let limits = Limits { batch_len_max: 3, ..Limits::default() };
    let (press, plain) = (r#"{"tsmId":1,"tsmEv":8,"tsmTuid":"d"}"#, r#"{"tsmId":1,"tsmTuid":"d"}"#);
    let all = decode_text(&format!("[{press},{plain}]"), &limits).unwrap();
    let counts = all.iter().map(|element| element.as_ref().unwrap().message_count());
    assert_eq!(counts.collect::<Vec<_>>(), [2, 1]);
    for text in [format!("[{press},{press}]"), format!("[{plain},7,{press}]")] {
        assert_eq!(decode_text(&text, &limits).unwrap_err().code, Code::TooLarge, "{text}");
    }
    // [{1: 1, 2: 8, 4: "d"}], twice.
    let press = [0xA3, 1, 1, 2, 8, 4, 0x61, b'd'];
    let frame = |len: u8| [vec![0x80 + len], press.repeat(usize::from(len))].concat();
    assert!(decode_binary(&frame(1), &limits).unwrap()[0].as_ref().unwrap().event.is_some());
    assert_eq!(decode_binary(&frame(2), &limits).unwrap_err().code, Code::TooLarge);
}

#[test]
fn a_frame_that_cannot_be_read_is_refused_whole() {
    let limits =
        Limits { batch_len_max: 3, json_depth_max: 5, resources_max: 2, ..Limits::default() };
    let deep = format!("[{}{}]", "[".repeat(5), "]".repeat(5));
    for (text, code) in [
        ("", Code::BadJson),
        ("7", Code::BadJson),
        ("\"text\"", Code::BadJson),
        ("[", Code::BadJson),
        ("[] []", Code::BadJson),
        ("[1,]", Code::BadJson),
        (r#"{"a":NaN}"#, Code::BadJson),
        (r#"[{"a":1}] x"#, Code::BadJson),
        (&deep, Code::BadJson),
        ("[1,2,3,4", Code::TooLarge),
    ] {
        assert_eq!(decode_text(text, &limits).unwrap_err().code, code, "{text}");
    }
    assert_eq!(decode_text("[1,2,3]", &limits).unwrap().len(), 3);
    let many: Vec<String> = (0..14).map(|n| format!("\"f{n}\":1")).collect();
    let all = decode_text(&format!("{{{}}}", many.join(",")), &limits).unwrap();
    assert_eq!(all[0].as_ref().unwrap_err().code, Code::TooLarge);
}

#[test]
fn the_newest_time_wins_whatever_the_order_of_arrival() {
    let text = |temp: u32, time: u32| {
        format!(r#"{{"tsmId":12100,"tsmEv":10,"temp":{temp},"tsmTs":{time},"tsmTuid":"d"}}"#)
    };
    let arrays = [
        format!("[{},{}]", text(3, 1_520_416_300), text(1, 1_520_416_100)),
        format!("[{}]", text(2, 1_520_416_200)),
    ];
    let arrival = UnixMs(1_520_416_400_000);
    let mut reported = Reported::default();
    let all = arrays.iter().flat_map(|array| decoded(array)).map(Result::unwrap);
    for (element, seq) in all.zip(1..) {
        let Stamp { timestamp, is_given, .. } = decide_time(element.draft.timestamp, arrival);
        let message = Message {
            content: Content::Json,
            timestamp,
            is_time_given: is_given,
            payload: element.draft.payload,
            ..testing::message("devices/d/telemetry", Qos::AtLeastOnce, "")
        };
        reported.take(Seq(seq), &message, Bounds::default());
    }
    assert_eq!(reported.taken(), Seq(3));
    let temp = reported.resource("temp").unwrap();
    assert_eq!((temp.value.as_deref(), temp.origin.time), (Some("3"), UnixMs(1_520_416_300_000)));
}

proptest! {
    /// What stands is what was sent: the original is a part of the frame, and the payload holds every
    /// field of it that is no header.
    #[test]
    fn what_stands_is_what_was_sent(
        fields in proptest::collection::btree_map("[a-z]{1,6}", any::<i32>(), 0..6),
        time in proptest::option::of(0_u32..2_000_000_000), id: u32,
    ) {
        let mut object = serde_json::Map::new();
        object.insert("tsmId".into(), id.into());
        object.insert("tsmTuid".into(), "d".into());
        if let Some(time) = time {
            object.insert("tsmTs".into(), time.into());
        }
        for (name, value) in &fields {
            object.insert(name.clone(), (*value).into());
        }
        let text = format!("[{}]", serde_json::Value::Object(object));
        let element = one(&text);
        prop_assert_eq!(format!("[{}]", original(&element)), text);
        let read: std::collections::BTreeMap<String, i32> = serde_json::from_str(payload(&element)).unwrap();
        let expected = fields.into_iter().map(|(name, value)| match name.as_str() {
            "state" | "status" => (format!("{name}.{id}"), value),
            _ => (name, value),
        });
        prop_assert_eq!(read, expected.collect());
        prop_assert_eq!(element.draft.timestamp, time.map(|time| UnixMs(u64::from(time) * 1_000)));
    }
}
