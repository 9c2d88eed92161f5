//! The frame that devices send all day, read without a parser that knows all frames.
//!
//! In: one JSON text. Out: the [`Frame`] that the parser would make of it, or nothing: then the parser
//! has to look. Plain is an object of `type`, `msgid`, `deviceId`, `timestamp` and `data` alone, each once
//! at most, with texts without escapes and a time that is a whole number.

use std::borrow::Cow;

use fieldgate_core::json::{Member, each_member};

use super::{frame::Frame, json::Text};

/// Most digits of a number that fits whatever they are.
const DIGITS_MAX: usize = 19;

/// Reads a frame if it is plain.
pub(super) fn plain(text: &str) -> Option<Frame<'_>> {
    let mut frame = Frame::default();
    let mut is_plain = true;
    each_member(text, |member| is_plain = is_plain && take(&mut frame, &member).is_some())?;
    is_plain.then_some(frame)
}

/// Takes a member; nothing if it is not plain, or there already.
fn take<'a>(frame: &mut Frame<'a>, member: &Member<'a>) -> Option<()> {
    let value = member.value;
    match member.written_name {
        "\"type\"" => once(&mut frame.kind, || said(value)),
        "\"msgid\"" => once(&mut frame.msgid, || said(value)),
        "\"deviceId\"" => once(&mut frame.device_id, || said(value)),
        "\"timestamp\"" => once(&mut frame.timestamp, || whole(value)),
        // That of nothing is no field.
        "\"data\"" => once(&mut frame.data, || serde_json::from_str::<Option<_>>(value).ok()?),
        _ => None,
    }
}

fn once<T>(field: &mut Option<T>, read: impl FnOnce() -> Option<T>) -> Option<()> {
    if field.is_some() {
        return None;
    }
    *field = read();
    field.is_some().then_some(())
}

/// What a text says that is written as it is.
fn said(value: &str) -> Option<Text<'_>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let is_plain = |byte: u8| byte >= b' ' && byte != b'\\';
    inner.bytes().all(is_plain).then_some(Text(Cow::Borrowed(inner)))
}

fn whole(value: &str) -> Option<u64> {
    let is_whole = value.bytes().all(|byte| byte.is_ascii_digit());
    let leads = value.len() > 1 && value.starts_with('0');
    (is_whole && !leads && value.len() <= DIGITS_MAX).then(|| value.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::native::json;

    fn parts<'a>(frame: &Frame<'a>) -> [Option<Cow<'a, str>>; 4] {
        let said = |text: &Option<Text<'a>>| text.as_ref().map(|text| text.0.clone());
        let data = frame.data.map(|data| Cow::Borrowed(data.get()));
        [said(&frame.kind), said(&frame.msgid), said(&frame.device_id), data]
    }

    /// What is plain is what the parser reads.
    fn agrees(text: &str) -> bool {
        let Some(plain) = plain(text) else { return false };
        let parsed: Frame<'_> = json::from_object(text).unwrap();
        assert_eq!(parts(&plain), parts(&parsed), "{text}");
        assert_eq!(plain.timestamp, parsed.timestamp, "{text}");
        true
    }

    #[test]
    fn what_devices_send_is_plain() {
        for text in [
            r#"{"type":"status","msgid":"7","data":{"temp":21.5,"on":true,"x":[{"a":"\n"}]}}"#,
            " {\"deviceId\" : \"é-1\" ,\n\"timestamp\":1634567890123,\"type\":\"status\",\"data\":{ }}\t",
            r#"{"data":1e400}"#,
            r#"{"timestamp":0}"#,
            "{}",
        ] {
            assert!(agrees(text), "{text}");
        }
    }

    #[test]
    fn everything_else_is_for_the_parser() {
        for text in [
            "",
            "[]",
            "{\"type\":\"a\tb\"}",
            r#"{"type":"\u0061"}"#,
            r#"{"type":"a","type":"a"}"#,
            r#"{"type":null}"#,
            r#"{"type":"a",}"#,
            r#"{"type":"a"}}"#,
            r#"{"\u0074ype":"a"}"#,
            r#"{"timestamp":01}"#,
            r#"{"timestamp":-1}"#,
            r#"{"timestamp":1.0}"#,
            r#"{"timestamp":18446744073709551616}"#,
            r#"{"data":{"a":01}}"#,
            r#"{"data":{"a":1,}}"#,
            r#"{"data":nul}"#,
            r#"{"data":null}"#,
            r#"{"data":{},"qos":1}"#,
        ] {
            assert!(plain(text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_frame_is_what_the_parser_reads(
            members in proptest::collection::vec((
                "type|msgid|deviceId|timestamp|data|qos| type",
                "\"[a-z\\\\\"\u{1}é]{0,4}\"|[0-9]{1,22}|-?[0-9.e+]{1,5}|null|tru?e|\\{\"a\":[0-9,]{1,3}\\}|[{}\\[\\], \"1]{0,6}",
            ), 0..5),
            space in "[ \n]?",
        ) {
            let members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\"{space}:{value}{space}"))
                .collect();
            agrees(&format!("{{{}}}", members.join(",")));
        }

        #[test]
        fn no_text_panics(text in "[{}\"a:,1\\\\ ]{0,40}") {
            agrees(&text);
        }
    }
}
