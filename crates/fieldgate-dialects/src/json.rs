//! JSON as bytes: depth before parsing, the members of an object as they were written, strings out.
//!
//! Pure. Invariant: a payload is never re-encoded; what a sender wrote is what a receiver reads.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Deref};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fieldgate_core::fault::{Code, Fault};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Encodes bytes as base64 with padding (RFC 4648 section 4).
#[must_use]
pub fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes base64 with padding; nothing if it is none.
#[must_use]
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Checks the nesting of a text before any parser recurses into it.
pub(crate) fn check_depth(text: &str, depth_max: usize) -> Result<(), Fault> {
    // Almost every frame has fewer brackets in all than it may nest; counting them is much cheaper.
    if bracket_count(text) <= depth_max {
        return Ok(());
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > depth_max {
                    let text = format!("the frame nests deeper than {depth_max}");
                    return Err(Fault::new(Code::BadJson, text));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => (),
        }
    }
    Ok(())
}

/// How many brackets open in a text, those in strings too.
fn bracket_count(text: &str) -> usize {
    // In pieces that a byte can count: the compiler then looks at many bytes in one instruction.
    let pieces = text.as_bytes().chunks(usize::from(u8::MAX));
    let count = |piece: &[u8]| -> u8 {
        piece.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum()
    };
    pieces.map(|piece| usize::from(count(piece))).sum()
}

/// Tells whether every number of a valid JSON text without leading space fits a finite f64. `1e400`
/// is JSON, and no number that anybody could compute with.
pub(crate) fn numbers_are_finite(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.first() == Some(&b'"') {
        return true;
    }
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = after_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let rest = text.get(at..).unwrap_or_default();
                let in_number = |c: char| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
                let number = rest.split(|c| !in_number(c)).next().unwrap_or_default();
                // Without an exponent it takes 309 digits to leave the range.
                let suspect = number.len() > 300 || number.contains(['e', 'E']);
                if suspect && !number.parse::<f64>().is_ok_and(f64::is_finite) {
                    return false;
                }
                at += number.len().max(1);
            }
            _ => at += 1,
        }
    }
    true
}

/// The place behind the string that begins at `at`.
fn after_string(bytes: &[u8], at: usize) -> usize {
    let mut escaped = false;
    let rest = bytes.iter().enumerate().skip(at + 1);
    for (place, byte) in rest {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return place + 1,
            _ => (),
        }
    }
    bytes.len()
}

/// Up to so many names are compared pair by pair, which needs no table.
const PAIRWISE_MAX: usize = 16;

/// A name that occurs twice.
pub(crate) fn repeated<'a>(
    names: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    if names.len() <= PAIRWISE_MAX {
        let mut rest = names;
        while let Some(name) = rest.next() {
            if rest.clone().any(|other| other == name) {
                return Some(name);
            }
        }
        return None;
    }
    let mut seen = HashSet::with_capacity(names.len());
    names.into_iter().find(|name| !seen.insert(*name))
}

/// The beginning of a text that came from outside, short enough for an error message.
pub(crate) fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(160)).unwrap_or_default()
}

/// Turns a parser's error into a refusal: `bad_json` for the syntax, `bad_value` for the content.
pub(crate) fn fault_of(error: &serde_json::Error) -> Fault {
    fault_in("frame", error)
}

/// The same, of what is called otherwise than a frame.
pub(crate) fn fault_in(whole: &str, error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    if error.is_data() || text.starts_with("number out of range") {
        return Fault::new(Code::BadValue, clip(&text).to_owned());
    }
    Fault::new(Code::BadJson, format!("the {whole} is not JSON: {}", clip(&text)))
}

/// Reads one JSON object. (A derived struct alone would take a list too, field by field.)
pub(crate) fn from_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text);
    }
    serde_json::from_str::<IgnoredAny>(text)?;
    Err(serde_json::Error::custom("not a JSON object"))
}

/// A string, borrowed where it holds no escape. (A bare `Cow` would always own.)
#[derive(Deserialize, Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The members of an object, in order, values as written. A name may occur twice.
#[derive(Debug)]
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The first member of this name.
    pub(crate) fn member(&self, wanted: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Members)
    }
}

/// The names and values of an object that is known to be JSON, in order, values as written; nothing
/// if it is none, or has a name that is no text.
pub(crate) fn named_members(text: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let (mut members, mut all_named) = (Vec::new(), true);
    fieldgate_core::json::each_member(text, |member| match member.name {
        Some(name) => members.push((name, member.value)),
        None => all_named = false,
    })?;
    all_named.then_some(members)
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1F => b"",
            _ => continue,
        };
        out.extend_from_slice(text.as_bytes().get(plain_from..at).unwrap_or_default());
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
        plain_from = at + 1;
    }
    out.extend_from_slice(text.as_bytes().get(plain_from..).unwrap_or_default());
    out.push(b'"');
}

/// Appends a whole number.
pub(crate) fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        if let (Some(slot), Ok(digit)) = (digits.get_mut(at), u8::try_from(rest % 10)) {
            *slot = b'0' + digit;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Tells `null`, which is a value, from an absent field.
pub(super) fn present<'de, D>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings_only() {
        assert!(check_depth(r#"{"a":"[[[[[[\"[["}"#, 1).is_ok());
        assert!(check_depth("[[1]]", 1).is_err());
    }

    #[test]
    fn every_bracket_of_a_long_text_is_counted() {
        for count in [0, 1, 254, 255, 256, 1_000] {
            assert_eq!(bracket_count(&"[{".repeat(count)), 2 * count);
            assert_eq!(bracket_count(&"]}x".repeat(count)), 0);
        }
    }

    #[test]
    fn members_without_a_name_are_none() {
        let text = r#" { "a" : 1.50 , "\u00e9": ["}"] , "a":null }"#;
        let members = named_members(text).unwrap();
        let members: Vec<_> = members.iter().map(|(name, value)| (&**name, *value)).collect();
        assert_eq!(members, [("a", "1.50"), ("é", "[\"}\"]"), ("a", "null")]);
        for text in [r#"{"a":1,"\ud800":2}"#, "[]", "1", "null", "\"a\""] {
            assert_eq!(named_members(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_found_outside_strings_only() {
        for text in ["1e308", "[-0,1.5,{\"1e400\":\"-1e400\\\"1e400\"}]", "true", "\"", "1e-400"] {
            assert!(numbers_are_finite(text), "{text}");
        }
        let digits = "9".repeat(310);
        for text in ["1e400", "-1E+309", "{\"a\":[0,1e400]}", &digits] {
            assert!(!numbers_are_finite(text), "{text}");
        }
    }

    #[test]
    fn strings_survive_the_round_trip() {
        for text in ["", "a\"b\\c\n\r\t\u{1}é\u{1F600}", "\u{7f}"] {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn numbers_are_written_as_they_read() {
        for number in [0, 7, 10, 1_634_567_890_123, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
