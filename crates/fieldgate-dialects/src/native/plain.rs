//! The frame that devices send all day, read in one pass.
//!
//! In: one JSON text. Out: what [`decode_text`](super::decode_text) makes of it, or nothing: then that
//! has to look. Plain is a status of `type`, `msgid`, `deviceId`, `timestamp` and `data` alone, each once at
//! most, with texts without escapes, a time that is a whole number, and few resources that all stand
//! and do not nest. Nothing is refused here.

use bytes::Bytes;
use fieldgate_core::{
    dialect::{Ask, Draft, Target},
    id::{DeviceId, MsgId, UnixMs},
    message::{Content, Priority, Qos},
};

use super::Limits;
use crate::{
    readings::is_name,
    scan::{Name, NotJson, Scanner},
};

/// Most digits of a number that fits whatever they are.
const DIGITS_MAX: usize = 19;
/// Most resources, whose names are compared one by one.
const RESOURCES_MAX: usize = 16;

/// What the frame says; nothing twice.
#[derive(Default)]
struct Said<'a> {
    kind: Option<&'a str>,
    reference: Option<MsgId>,
    device: Option<DeviceId>,
    timestamp: Option<UnixMs>,
    data: Option<&'a str>,
}

/// Reads a status if it is plain.
pub(super) fn status(text: &str, limits: &Limits) -> Option<Ask> {
    let (mut scanner, mut said) = (Scanner::new(text), Said::default());
    scanner.members(|scanner, name| take(scanner, name, &mut said, limits)).ok()?;
    // The frame nests twice.
    if said.kind != Some("status") || scanner.peek().is_some() || limits.json_depth_max < 2 {
        return None;
    }
    let qos = if said.reference.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    Some(Ask::Publish(Box::new(Draft {
        target: Target::Telemetry(said.device),
        timestamp: said.timestamp,
        reference: said.reference,
        qos,
        retain: false,
        priority: Priority::Normal,
        expires: None,
        content: Content::Json,
        payload: Bytes::copy_from_slice(said.data?.as_bytes()),
        original: None,
    })))
}

fn take<'a>(
    scanner: &mut Scanner<'a>,
    name: Name<'a>,
    said: &mut Said<'a>,
    limits: &Limits,
) -> Result<(), NotJson> {
    match name.plain() {
        Some("type") => once(&mut said.kind, words(scanner)?),
        Some("msgid") => once(&mut said.reference, words(scanner)?.parse().map_err(|_| NotJson)?),
        Some("deviceId") => once(&mut said.device, words(scanner)?.parse().map_err(|_| NotJson)?),
        Some("timestamp") => once(&mut said.timestamp, UnixMs(whole(scanner)?)),
        Some("data") => once(&mut said.data, resources(scanner, limits.resources_max)?),
        Some(_) | None => Err(NotJson),
    }
}

fn once<T>(field: &mut Option<T>, value: T) -> Result<(), NotJson> {
    if field.replace(value).is_some() { Err(NotJson) } else { Ok(()) }
}

/// A text that is written as it is.
fn words<'a>(scanner: &mut Scanner<'a>) -> Result<&'a str, NotJson> {
    let (value, _) = scanner.value()?;
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('\\')).ok_or(NotJson)
}

fn whole(scanner: &mut Scanner<'_>) -> Result<u64, NotJson> {
    let (value, _) = scanner.value()?;
    let is_whole = value.len() <= DIGITS_MAX && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| is_whole).ok_or(NotJson)
}

/// The object of resources as written, if every one of them stands.
fn resources<'a>(scanner: &mut Scanner<'a>, max: usize) -> Result<&'a str, NotJson> {
    let (mut names, mut count) = ([""; RESOURCES_MAX], 0);
    scanner.members(|scanner, name| {
        if matches!(scanner.peek(), Some(b'{' | b'[')) {
            return Err(NotJson);
        }
        let (_, is_finite) = scanner.value()?;
        let (known, rest) = names.split_at_mut_checked(count).ok_or(NotJson)?;
        let stands =
            |name: &&str| is_finite && count < max && is_name(name) && !known.contains(name);
        *rest.first_mut().ok_or(NotJson)? = name.plain().filter(stands).ok_or(NotJson)?;
        count += 1;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::native::decode::decode_with;

    const LIMITS: Limits = Limits { json_depth_max: 4, batch_len_max: 3, resources_max: 3 };

    /// What is plain is what all frames are decoded to.
    fn agrees(text: &str) -> bool {
        let Some(plain) = status(text, &LIMITS) else { return false };
        assert_eq!(decode_with(text, &LIMITS, |_| Ok(())).ok(), Some(plain), "{text}");
        true
    }

    #[test]
    fn what_devices_send_is_plain() {
        for text in [
            r#"{"type":"status","msgid":"7","data":{"temp":21.5,"on":true,"x":"\n\""}}"#,
            " {\"deviceId\" : \"d-1\" ,\n\"timestamp\":1634567890123,\"type\":\"status\",\"data\":{ }}\t",
            r#"{"type":"status","timestamp":0,"data":{"a":null,"b":1e300,"é":-0.5}}"#,
        ] {
            assert!(agrees(text), "{text}");
        }
    }

    #[test]
    fn everything_else_is_for_who_knows_all_frames() {
        let status = |rest: &str| format!(r#"{{"type":"status",{rest}}}"#);
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":"status"}"#,
            r#"{"type":"event","data":{}}"#,
            r#"{"data":{}}"#,
            r#"{"type":"st\u0061tus","data":{}}"#,
            r#"{"typ\u0065":"status","data":{}}"#,
            r#"{"type":"status","data":{}},"#,
            r#"{"type":"status","data":{},}"#,
            &status(r#""type":"status","data":{}"#),
            &status(r#""data":{},"data":{}"#),
            &status(r#""data":null"#),
            &status(r#""data":[]"#),
            &status(r#""data":{"a":{}}"#),
            &status(r#""data":{"a":[1]}"#),
            &status(r#""data":{"a":1,"a":2}"#),
            &status(r#""data":{"a":1,"b":2,"c":3,"d":4}"#),
            &status(r#""data":{"":1}"#),
            &status(r#""data":{"\u0061":1}"#),
            &status(r#""data":{"a":1e400}"#),
            &status(r#""data":{"a":01}"#),
            &status(r#""data":{"a":"	"}"#),
            &status(r#""data":{},"qos":1"#),
            &status(r#""data":{},"msgid":"""#),
            &status(r#""data":{},"msgid":7"#),
            &status(r#""data":{},"deviceId":"a/b""#),
            &status(r#""data":{},"timestamp":01"#),
            &status(r#""data":{},"timestamp":-1"#),
            &status(r#""data":{},"timestamp":1.0"#),
            &status(r#""data":{},"timestamp":18446744073709551616"#),
        ] {
            assert_eq!(super::status(text, &LIMITS), None, "{text}");
        }
        let shallow = Limits { json_depth_max: 1, ..LIMITS };
        assert_eq!(super::status(r#"{"type":"status","data":{}}"#, &shallow), None);
    }

    #[test]
    fn many_resources_are_for_who_knows_all_frames() {
        let limits = Limits { resources_max: 100, ..LIMITS };
        for count in [RESOURCES_MAX, RESOURCES_MAX + 1] {
            let data: Vec<String> = (0..count).map(|n| format!("\"r{n}\":{n}")).collect();
            let text = format!(r#"{{"type":"status","data":{{{}}}}}"#, data.join(","));
            assert_eq!(status(&text, &limits).is_some(), count <= RESOURCES_MAX);
        }
    }

    proptest! {
        #[test]
        fn a_plain_status_is_what_all_frames_are_decoded_to(
            members in proptest::collection::vec(prop_oneof![
                4 => "\"type\":\"status\"|\"data\":\\{(\"[ab]\":(1|-?[0-9.e+]{1,4}|\"[b\\\\n]?\"),?){0,3}\\}",
                1 => "\"(type|msgid|deviceId|timestamp|qos)\":(\"[a-z\\\\\u{1}é/]{0,4}\"|[0-9]{1,22}|null)",
                1 => "\"data\":(\\{\"a\":[\\[{1,}\\]]{1,3}\\}|[\\[\\]{}, 1]{0,4})",
            ], 0..5),
            space in "[ \n]?",
        ) {
            agrees(&format!("{space}{{{}}}{space}", members.join(&format!("{space},"))));
        }

        #[test]
        fn no_text_panics(text in "[{}\"a:,1\\\\ ]{0,40}") {
            agrees(&text);
        }
    }
}
