//! What a code covers: the test vectors of `docs/protocol/native.md`, and every way to change them.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

use fieldgate_core::{
    dialect::{Draft, Proof, Target},
    message::Qos,
};
use serde_json::{Value, json};

use super::*;
use crate::native::{client::Signer, decode_first, decode_text};

const SECRET: &str = "fg_h_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const NOW: u64 = 1_634_567_890_123;

fn key() -> MacKey {
    MacKey::new(SECRET.as_bytes())
}

/// The frames that the page shows as vectors.
fn vectors() -> Vec<String> {
    let page = include_str!("../../../../../docs/protocol/native.md");
    let (_, section) = page.split_once("\n### Test vectors\n").unwrap();
    assert!(section.contains(SECRET), "the page shows another secret");
    let section = section.split("\n## ").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("    {"))
        .map(|l| format!("{{{l}"))
        .collect()
}

fn signed(text: &str, required: bool) -> Result<(Ask, Option<Seal>), Code> {
    let tenant = TenantId::default_tenant();
    let decoded = decode_signed(text, &Limits::default(), (&tenant, &key()), required);
    decoded.map_err(|refusal| refusal.fault.code)
}

fn auth_fits(text: &str, tenant: &TenantId) -> bool {
    let auth = decode_first(text, &Limits::default());
    let Ok(Proof::Mac(claim)) = auth.map(|auth| auth.proof) else { return false };
    key().fits_auth(tenant, &claim)
}

#[test]
fn the_vectors_of_the_page_hold() {
    let vectors = vectors();
    let (auth, envelopes) = vectors.split_first().unwrap();
    assert!(auth_fits(auth, &TenantId::default_tenant()));
    assert!(!auth_fits(auth, &"another".parse().unwrap()));
    assert!(envelopes.len() >= 3);
    for text in envelopes {
        let (_, seal) = signed(text, true).unwrap();
        assert_eq!(seal.unwrap().timestamp, UnixMs(NOW), "{text}");
    }
}

#[test]
fn whatever_is_changed_in_a_vector_it_no_longer_fits() {
    for text in vectors() {
        let whole: Value = serde_json::from_str(&text).unwrap();
        let members = whole.as_object().unwrap();
        let fits = |frame: &Value| {
            let text = frame.to_string();
            signed(&text, true).is_ok() || auth_fits(&text, &TenantId::default_tenant())
        };
        for name in members.keys() {
            let mut without = whole.clone();
            without.as_object_mut().unwrap().remove(name);
            // The tenant of a claim is `default` where it names none.
            assert!(!fits(&without) || name == "tenant", "{text} without {name}");
            let mut other = whole.clone();
            other[name] = match &members[name] {
                Value::String(value) => json!(format!("{value}x")),
                Value::Number(value) => json!(value.as_u64().unwrap() + 1),
                Value::Bool(value) => json!(!value),
                value => json!([value]),
            };
            // The tenant of a claim is looked at with the claim, by whoever asks.
            assert!(!fits(&other) || name == "tenant", "{text} with another {name}");
        }
        for (name, value) in [
            ("qos", json!(0)),
            ("priority", json!("critical")),
            ("expires", json!(NOW)),
            ("to", json!("topic:alarms")),
            ("payload", json!({})),
            ("data", json!({})),
            ("status", json!("ok")),
            ("topic", json!("a")),
            ("made-up", json!(1)),
        ] {
            let mut more = whole.clone();
            let is_known = more.get(name).is_some() || more["type"] == "auth";
            more[name] = value;
            assert!(is_known || !fits(&more), "{text} with {name}");
        }
    }
}

#[test]
fn what_needs_a_code_is_refused_without_one_and_a_code_is_never_passed_over() {
    let plain = r#"{"type":"status","msgid":"m","data":{"t":1}}"#;
    assert_eq!(signed(plain, true), Err(Code::BadMac));
    assert!(matches!(signed(plain, false), Ok((Ask::Publish(_), None))));
    let envelope = r#"{"ver":"1.0","type":"ping","timestamp":1,"nonce":"n","mac":"AAAA"}"#;
    assert_eq!(signed(envelope, true), Err(Code::BadMac));
    assert_eq!(signed(envelope, false), Err(Code::BadMac));
    let refused = decode_text(envelope, &Limits::default()).unwrap_err();
    assert_eq!(refused.fault.code, Code::BadMac, "on a connection that can check none");
    assert_eq!(signed("{", true), Err(Code::BadJson));
    let refusal =
        decode_signed(plain, &Limits::default(), (&TenantId::default_tenant(), &key()), true);
    assert_eq!(refusal.unwrap_err().reference, "m".parse().ok());
}

#[test]
fn no_escape_moves_the_border_between_two_lines() {
    let lines = |from, to| Parts { kind: "status", from, to, ..Parts::default() }.lines();
    assert_ne!(lines(Some("a"), Some("b")), lines(Some("b"), Some("a")));
    assert_eq!(lines(Some("a\nb"), None), None);
    assert_ne!(lines(Some("a"), None), lines(None, Some("a")));
}

#[test]
fn every_plain_frame_says_the_same_as_a_signed_envelope() {
    let signer = Signer::new("default", "lamp", SECRET);
    for plain in [
        r#"{"type":"status","data":{"t": 21.30},"msgid":"m"}"#,
        r#"{"type":"batch","msgid":"b","data":[{"timestamp":5,"data":{"t":1}}]}"#,
        r#"{"type":"state","reported":{"on":true}}"#,
        r#"{"type":"event","event":"but\"ton","data":[1],"timestamp":5,"qos":1}"#,
        r#"{"type":"reply","msgid":"1:7","status":"error","payload":{"why":"\n"}}"#,
        r#"{"type":"subscribe","topic":"devices/lamp/#","qos":1,"since":"all"}"#,
        r#"{"type":"subscribe","topic":"a","qos":0,"mode":"latest","maxRate":2.5}"#,
        r#"{"type":"unsubscribe","topic":"a"}"#,
        r#"{"type":"publish","topic":"a/b","payload":"text","retain":true,"priority":"bulk"}"#,
        r#"{"type":"command","to":"lamp","msgid":"c","payload":{"x":1},"expires":9}"#,
        r#"{"type":"ack","msgid":"1:7"}"#,
        r#"{"type":"cancel","msgid":"1:7"}"#,
        r#"{"type":"ping"}"#,
        r#"{"type":"profile","profile":{"kind":"light"}}"#,
        r#"{"type":"desired","to":"lamp","msgid":"m","state":{"on":true}}"#,
    ] {
        let envelope = signer.envelope(plain, NOW, "n").unwrap();
        let (ask, seal) = signed(&envelope, true).unwrap_or_else(|code| panic!("{plain}: {code}"));
        let seal = seal.unwrap();
        assert_eq!((seal.timestamp, &*seal.nonce), (UnixMs(NOW), "n"));
        let said = decode_text(plain, &Limits::default()).unwrap();
        assert_eq!(unstamped(ask), unstamped(said), "{envelope}");
    }
}

#[test]
fn what_an_envelope_cannot_say_is_not_signed() {
    let signer = Signer::new("default", "lamp", SECRET);
    for plain in [
        r#"{"type":"desired","to":"lamp","state":{"on":true},"ifSeq":3}"#,
        r#"{"type":"of-tomorrow","field":1}"#,
        r#"{"type":"status","msgid":"a\nb","data":{}}"#,
        "[]",
    ] {
        assert!(signer.envelope(plain, NOW, "n").is_err(), "{plain}");
    }
}

/// Without what an envelope says besides: who sends it, and when.
fn unstamped(mut ask: Ask) -> Ask {
    let strip = |draft: &mut Draft| {
        if draft.timestamp == Some(UnixMs(NOW)) {
            draft.timestamp = None;
        }
        draft.target = match std::mem::replace(&mut draft.target, Target::Telemetry(None)) {
            Target::Telemetry(_) => Target::Telemetry(None),
            Target::Event(_) => Target::Event(None),
            Target::Reported(_) => Target::Reported(None),
            topic @ Target::Topic(_) => topic,
        };
    };
    match &mut ask {
        Ask::Publish(draft) => strip(draft),
        Ask::Batch { items, .. } => items.iter_mut().flatten().for_each(strip),
        Ask::Profile(profile) => profile.device = None,
        _ => (),
    }
    ask
}

#[test]
fn a_status_with_a_time_of_its_own_keeps_it_in_an_envelope() {
    let signer = Signer::new("default", "lamp", SECRET);
    let plain = r#"{"type":"status","timestamp":5,"msgid":"m","data":{"t":1}}"#;
    let (ask, _) = signed(&signer.envelope(plain, NOW, "n").unwrap(), true).unwrap();
    let Ask::Batch { items, qos, .. } = ask else { panic!("{ask:?}") };
    assert_eq!((items[0].as_ref().unwrap().timestamp, qos), (Some(UnixMs(5)), Qos::AtLeastOnce));
}
