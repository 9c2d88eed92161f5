//! The rules of merging, as `resources.md` 4 has them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{message::Qos, testing::message as plain};

const WIDE: Bounds = Bounds { resources_max: 1_000, bytes_max: 1 << 20 };

fn message(leaf: &str, time: Option<u64>, payload: &str) -> Message {
    let message = plain(&format!("devices/d/{leaf}"), Qos::AtLeastOnce, payload);
    let timestamp = UnixMs(time.unwrap_or(1_000));
    Message { content: Content::Json, is_time_given: time.is_some(), timestamp, ..message }
}

/// What is there after these messages: leaf, time if given, payload.
fn after(messages: &[(&str, Option<u64>, &str)]) -> Reported {
    let mut reported = Reported::default();
    for (seq, (leaf, time, payload)) in (1..).zip(messages) {
        assert_eq!(reported.take(Seq(seq), &message(leaf, *time, payload), WIDE), 0);
    }
    check_sums(&reported);
    reported
}

fn check_sums(reported: &Reported) {
    let sum: usize = reported.all().map(|(name, resource)| resource.byte_len(name)).sum();
    assert_eq!(reported.byte_len(), sum);
    let removed = reported.all().filter(|(_, resource)| resource.is_removed()).count();
    assert_eq!(reported.removed_count, removed);
}

fn check(messages: &[(&str, Option<u64>, &str)], expected: &str) {
    let reported = after(messages);
    let told: Vec<String> = reported
        .present()
        .map(|(name, r)| {
            let (value, unit) = (r.value.as_deref().unwrap_or("-"), r.unit.as_deref());
            format!("{name}={value}{} {}", unit.unwrap_or_default(), r.quality.as_str())
        })
        .collect();
    assert_eq!(told.join(", "), expected, "{messages:?}");
}

const T: &str = "telemetry";
const S: &str = "state/reported";

#[test]
fn between_times_of_the_device_the_newest_wins_then_the_higher_number() {
    check(&[(T, Some(20), r#"{"t":1}"#), (T, Some(10), r#"{"t":2,"h":3}"#)], "h=3 good, t=1 good");
    check(&[(T, Some(20), r#"{"t":1}"#), (T, Some(20), r#"{"t":2}"#)], "t=2 good");
}

#[test]
fn next_to_an_arrival_time_the_higher_number_wins() {
    check(&[(T, None, r#"{"t":1}"#), (T, Some(10), r#"{"t":2}"#)], "t=2 good");
    check(&[(T, Some(2_000), r#"{"t":1}"#), (T, None, r#"{"t":2}"#)], "t=2 good");
}

#[test]
fn a_bad_reading_changes_quality_and_time_but_not_the_value() {
    let good = r#"{"values":[{"tag":"p","value":101.30,"unit":"kPa"}]}"#;
    let bad = r#"{"values":[{"tag":"p","value":7},{"tag":"q","value":null}],"quality":"bad"}"#;
    check(&[(T, Some(10), good), (T, Some(20), bad)], "p=101.30kPa bad, q=- bad");
    check(&[(T, Some(10), good), (T, Some(5), bad)], "p=101.30kPa good, q=- bad");
    let back = r#"{"values":[{"tag":"p","value":8,"quality":"uncertain"}],"quality":"bad"}"#;
    check(
        &[(T, Some(10), good), (T, Some(20), bad), (T, Some(15), back)],
        "p=101.30kPa bad, q=- bad",
    );
    check(
        &[(T, Some(10), good), (T, Some(20), bad), (T, Some(25), back)],
        "p=8 uncertain, q=- bad",
    );
}

#[test]
fn a_removed_resource_stays_away_from_what_is_older() {
    let removed = (S, Some(20), r#"{"on":null}"#);
    check(&[(T, Some(10), r#"{"on":true}"#), removed], "");
    check(&[removed, (T, Some(10), r#"{"on":true}"#)], "");
    check(&[removed, (T, Some(30), r#"{"on":true}"#)], "on=true good");
}

#[test]
fn null_in_telemetry_is_no_reading() {
    check(&[(T, Some(10), r#"{"t":1}"#), (T, Some(20), r#"{"t":null}"#)], "t=1 good");
}

#[test]
fn state_is_merged_member_by_member_and_telemetry_replaces_the_whole_value() {
    let whole = (T, Some(10), r#"{"oil":{"level":0.70, "grade":"5W30"}}"#);
    let part = r#"{"oil":{"grade":null,"hot":{"a":1,"b":null}}}"#;
    check(&[whole, (S, Some(20), part)], r#"oil={"level":0.70,"hot":{"a":1}} good"#);
    check(&[whole, (T, Some(20), part)], r#"oil={"grade":null,"hot":{"a":1,"b":null}} good"#);
    check(
        &[whole, (S, Some(20), r#"{"x":{"y":null}}"#)],
        r#"oil={"level":0.70, "grade":"5W30"} good, x={} good"#,
    );
}

#[test]
fn of_what_a_message_says_twice_the_last_counts() {
    check(&[(T, None, r#"{"values":[{"tag":"t","value":1},{"tag":"t","value":2}]}"#)], "t=2 good");
}

#[test]
fn a_time_that_was_not_believed_is_uncertain_and_gives_way() {
    let mut first = message(T, None, r#"{"t":1}"#);
    first.device_timestamp = Some(UnixMs(4_070_908_800_000));
    let mut reported = Reported::default();
    reported.take(Seq(1), &first, WIDE);
    assert_eq!(reported.resource("t").unwrap().quality, Quality::Uncertain);
    reported.take(Seq(2), &message(T, Some(1_001), r#"{"t":2}"#), WIDE);
    assert_eq!(reported.resource("t").unwrap().quality, Quality::Good);
}

#[test]
fn what_is_no_reading_says_nothing() {
    for (leaf, payload) in [
        ("events", r#"{"event":"button","data":{"button":1}}"#),
        ("state", r#"{"reported":{"t":1}}"#),
        (T, "[1]"),
        (T, "7"),
        (T, r#"{"":1,"\u0001":2}"#),
        (T, r#"{"values":[]}"#),
        (S, "null"),
    ] {
        assert_eq!(after(&[(leaf, None, payload)]).all().len(), 0, "{leaf} {payload}");
    }
    let mut text = message(T, None, r#"{"t":1}"#);
    text.content = Content::Text;
    let mut reported = Reported::default();
    reported.take(Seq(1), &text, WIDE);
    assert_eq!(reported.all().len(), 0);
}

#[test]
fn values_that_are_no_samples_are_a_resource() {
    check(&[(T, None, r#"{"values":[1,2]}"#)], "values=[1,2] good");
}

#[test]
fn past_the_bounds_new_resources_stay_out_and_old_ones_do_not_lie() {
    let bounds = Bounds { resources_max: 2, bytes_max: 200 };
    let mut reported = Reported::default();
    let mut take = |seq, payload: &str, refused| {
        assert_eq!(
            reported.take(Seq(seq), &message(S, None, payload), bounds),
            refused,
            "{payload}"
        );
        check_sums(&reported);
        let names: Vec<String> = reported.present().map(|(name, _)| name.to_owned()).collect();
        names.join(" ")
    };
    assert_eq!(take(1, r#"{"a":1}"#, 0), "a");
    assert_eq!(take(2, r#"{"b":1}"#, 0), "a b");
    assert_eq!(take(3, r#"{"c":1}"#, 1), "a b");
    // Its removal is remembered until somebody needs the room.
    assert_eq!(take(4, r#"{"a":null}"#, 0), "b");
    assert_eq!(take(5, r#"{"c":1}"#, 0), "b c");
    let long = format!(r#"{{"c":"{}"}}"#, "x".repeat(100));
    assert_eq!(take(6, &long, 1), "b");
}

#[test]
fn patches_do_what_the_rfc_says() {
    // RFC 7396, Appendix A, those with an object as target or patch.
    for (target, patch, result) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
    ] {
        assert_eq!(patch::merge(Some(target), patch), result);
    }
    assert_eq!(patch::merge(None, r#"{"a\"":{"b": 1.50}}"#), r#"{"a\"":{"b":1.50}}"#);
}

/// RFC 7396, section 2, word by word.
fn by_the_book(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = target.as_object().cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let old = target.get(name).cloned().unwrap_or_default();
            target.insert(name.clone(), by_the_book(&old, value));
        }
    }
    Value::Object(target)
}

fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..3).prop_map(Into::into), Just(json!([1]))];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop::collection::btree_map("[abc\"]", inner, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    })
}

/// A reading: which resource, what time (unique in its set), what value; none removes.
fn given() -> impl Strategy<Value = Vec<(usize, u64, Option<u8>)>> {
    let one = (0..3_usize, prop::option::weighted(0.8, any::<u8>()));
    prop::collection::vec(one, 1..12)
        .prop_map(|all| (10..).zip(all).map(|(time, (name, value))| (name, time, value)).collect())
}

fn in_order(readings: &[(usize, u64, Option<u8>)]) -> Vec<(String, Option<Box<str>>, UnixMs)> {
    let mut reported = Reported::default();
    for (seq, (name, time, value)) in (1..).zip(readings) {
        let payload = json!({ format!("r{name}"): value }).to_string();
        let leaf = if value.is_some() { T } else { S };
        reported.take(Seq(seq), &message(leaf, Some(*time), &payload), WIDE);
    }
    let told = |(name, r): (&str, &Resource)| (name.to_owned(), r.value.clone(), r.origin.time);
    reported.all().map(told).collect()
}

fn any_message() -> impl Strategy<Value = Message> {
    let time = prop::option::of(5..12_u64);
    let state = (object(), time.clone()).prop_map(|(o, time)| message(S, time, &o.to_string()));
    let data = (object(), time.clone()).prop_map(|(o, time)| message(T, time, &o.to_string()));
    let quality = prop::sample::select(vec!["good", "uncertain", "bad"]);
    let sample = ("[abc]", 0..3, quality, time).prop_map(|(tag, value, quality, time)| {
        let payload = json!({"values": [{"tag": tag, "value": value}], "quality": quality});
        message(T, time, &payload.to_string())
    });
    prop_oneof![state, data, sample]
}

proptest! {
    #[test]
    fn patches_of_every_shape_do_what_the_rfc_says(target in object(), patch in object()) {
        let merged = patch::merge(Some(&target.to_string()), &patch.to_string());
        prop_assert_eq!(serde_json::from_str::<Value>(&merged).unwrap(), by_the_book(&target, &patch));
    }

    #[test]
    fn with_times_of_the_device_the_order_of_arrival_does_not_matter(
        (sorted, shuffled) in given().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
    ) {
        prop_assert_eq!(in_order(&sorted), in_order(&shuffled));
    }

    #[test]
    fn what_was_taken_changes_nothing_when_it_comes_again(
        messages in prop::collection::vec(any_message(), 1..12), from: prop::sample::Index,
        tight: bool,
    ) {
        let bounds = if tight { Bounds { resources_max: 2, bytes_max: 160 } } else { WIDE };
        let mut reported = Reported::default();
        let numbered: Vec<_> = (1..).map(Seq).zip(&messages).collect();
        for (seq, message) in &numbered {
            reported.take(*seq, message, bounds);
            check_sums(&reported);
            prop_assert!(reported.all().len() <= bounds.resources_max);
            prop_assert!(reported.byte_len() <= bounds.bytes_max);
        }
        let before = reported.clone();
        for (seq, message) in &numbered[from.index(numbered.len())..] {
            prop_assert_eq!(reported.take(*seq, message, bounds), 0);
        }
        prop_assert_eq!(&reported, &before);
        let parts = before.all().map(|(name, r)| (name.into(), r.clone())).collect();
        prop_assert_eq!(Reported::of_parts(before.taken(), parts), Some(before));
    }

    #[test]
    fn no_payload_panics(payload in "[{}\\[\\]\",:a1 tagvlue]{0,60}", state: bool) {
        let leaf = if state { S } else { T };
        let mut reported = Reported::default();
        reported.take(Seq(1), &message(leaf, None, &payload), Bounds::default());
        check_sums(&reported);
    }
}
