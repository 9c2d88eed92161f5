//! Bodies of polling requests: several packets in one.
//!
//! Pure. Version 4 puts a record separator between packets; version 3 their length before each, in
//! UTF-16 units, or, where a client takes bytes, a header of decimal digits. Invariant: what one reads
//! of a body is what another wrote into it.
//!
//! Clients of version 3 differ in one thing that nothing tells: those of socket.io-client 1 encode a
//! text as UTF-8 once more before it goes into a body, and decode what they read as often
//! (engine.io-parser 1); those of 2 do not. So what is written for them is ASCII, which is the same to
//! both, and what is read is decoded again ([`decoded_again`]) once a client is known to be of the
//! first kind ([`is_of_first_generation`]).

use std::{borrow::Cow, str};

use super::Engine;
use crate::json::{base64_decode, base64_encode};

/// Most packets of one body. Official clients send what one turn of their loop made.
const PACKETS_MAX: usize = 4_096;
const SEPARATOR: char = '\u{1e}';
/// Ends the length in a binary body of version 3.
const LENGTH_END: u8 = 255;
/// Most digits of a length that is read.
const DIGITS_MAX: usize = 10;

/// One packet of a body, as a WebSocket message would carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
}

/// How bodies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `text/plain`.
    Text,
    /// `application/octet-stream`; version 3 has it, for bodies with binary packets.
    Bytes,
}

/// What is no polling body: the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no body of Engine.IO packets")]
pub struct BadPayload;

/// Reads a body, packet by packet.
///
/// # Errors
///
/// It is empty, holds more than 4,096 packets, or one cannot be read; nothing of it counts then.
pub fn read_payload(
    engine: Engine,
    encoding: Encoding,
    body: &[u8],
) -> Result<Vec<Carried<'_>>, BadPayload> {
    let packets = match (engine, encoding) {
        (Engine::V3, Encoding::Bytes) => read_bytes(body)?,
        (Engine::V3, Encoding::Text) => read_lengths(text_of(body)?)?,
        (Engine::V4, _) => {
            let parts = text_of(body)?.split(SEPARATOR).take(PACKETS_MAX + 1);
            parts.map(|part| carried(engine, part)).collect::<Result<_, _>>()?
        }
    };
    let counts = 1..=PACKETS_MAX;
    if counts.contains(&packets.len()) { Ok(packets) } else { Err(BadPayload) }
}

fn text_of(body: &[u8]) -> Result<&str, BadPayload> {
    str::from_utf8(body).map_err(|_| BadPayload)
}

/// A packet in a text: `b` stands before base64; in version 3 a type behind it, too.
fn carried(engine: Engine, part: &str) -> Result<Carried<'_>, BadPayload> {
    let coded = match engine {
        Engine::V4 => part.strip_prefix('b'),
        Engine::V3 => part.strip_prefix("b4"),
    };
    let Some(coded) = coded else {
        return if part.is_empty() { Err(BadPayload) } else { Ok(Carried::Text(part.into())) };
    };
    let mut data = engine.binary_prefix().to_vec();
    data.extend(base64_decode(coded).ok_or(BadPayload)?);
    Ok(Carried::Binary(data.into()))
}

/// `6:4hello2:4x`.
fn read_lengths(mut text: &str) -> Result<Vec<Carried<'_>>, BadPayload> {
    let mut packets = Vec::new();
    while !text.is_empty() && packets.len() <= PACKETS_MAX {
        let (digits, rest) = text.split_once(':').ok_or(BadPayload)?;
        let end = utf16_end(rest, length_of(digits.as_bytes())?).ok_or(BadPayload)?;
        let (part, rest) = rest.split_at_checked(end).ok_or(BadPayload)?;
        packets.push(carried(Engine::V3, part)?);
        text = rest;
    }
    Ok(packets)
}

fn length_of(digits: &[u8]) -> Result<usize, BadPayload> {
    let is_length =
        (1..=DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(digits).ok().filter(|_| is_length);
    text.and_then(|text| text.parse().ok()).ok_or(BadPayload)
}

/// Where so many UTF-16 units of a text end.
fn utf16_end(text: &str, units: usize) -> Option<usize> {
    let mut left = units;
    for (at, sign) in text.char_indices() {
        if left == 0 {
            return Some(at);
        }
        left = left.checked_sub(sign.len_utf16())?;
    }
    (left == 0).then_some(text.len())
}

/// `0` for text or `1` for bytes, the digits of the length as bytes, 255, and the packet.
fn read_bytes(mut body: &[u8]) -> Result<Vec<Carried<'_>>, BadPayload> {
    let mut packets = Vec::new();
    while let [kind, rest @ ..] = body {
        let digits_len = rest.iter().take(DIGITS_MAX + 1).position(|byte| *byte == LENGTH_END);
        let (digits, rest) =
            rest.split_at_checked(digits_len.ok_or(BadPayload)?).ok_or(BadPayload)?;
        let digits: Vec<u8> = digits.iter().map(|digit| digit.wrapping_add(b'0')).collect();
        let rest = rest.get(1..).ok_or(BadPayload)?;
        let (part, rest) = rest.split_at_checked(length_of(&digits)?).ok_or(BadPayload)?;
        packets.push(match kind {
            0 => carried(Engine::V3, text_of(part)?)?,
            1 => Carried::Binary(part.into()),
            _ => return Err(BadPayload),
        });
        if packets.len() > PACKETS_MAX {
            return Err(BadPayload);
        }
        body = rest;
    }
    Ok(packets)
}

/// Whether a packet asks for a namespace as socket.io-client 1 alone does: with no comma behind it.
#[must_use]
pub fn is_of_first_generation(text: &str) -> bool {
    text.starts_with("40/") && !text.contains(',')
}

/// The text that stands in one which was encoded as UTF-8 twice; nothing if it was not.
#[must_use]
pub fn decoded_again(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let bytes: Result<Vec<u8>, _> =
        text.chars().map(|sign| u8::try_from(u32::from(sign))).collect();
    bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

/// A packet in ASCII: what is beyond it stands in its JSON, whose strings may say it so.
fn in_ascii(text: &str) -> Cow<'_, str> {
    let json_at = text.find(['[', '{', '"']).unwrap_or(text.len());
    let Some((head, json)) = text.split_at_checked(json_at).filter(|(_, json)| !json.is_ascii())
    else {
        return text.into();
    };
    let mut written = head.to_owned();
    for sign in json.chars() {
        if sign.is_ascii() {
            written.push(sign);
        } else {
            let mut units = [0; 2];
            written
                .extend(sign.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    written.into()
}

/// Writes packets, as WebSocket messages carry them, into one body. `takes_bytes`: the client of
/// version 3 did not ask for base64.
#[must_use]
pub fn write_payload(
    engine: Engine,
    takes_bytes: bool,
    packets: &[Carried<'_>],
) -> (Encoding, Vec<u8>) {
    let any_binary = packets.iter().any(|packet| matches!(packet, Carried::Binary(_)));
    if engine == Engine::V3 && takes_bytes && any_binary {
        return (Encoding::Bytes, write_bytes(packets));
    }
    let mut body = String::new();
    for (nth, packet) in packets.iter().enumerate() {
        let text = match packet {
            Carried::Text(text) if engine == Engine::V3 => in_ascii(text),
            Carried::Text(text) => Cow::Borrowed(text.as_ref()),
            Carried::Binary(data) => Cow::Owned(coded(engine, data)),
        };
        match engine {
            Engine::V4 if nth > 0 => body.push(SEPARATOR),
            Engine::V4 => (),
            Engine::V3 => {
                body.push_str(&text.encode_utf16().count().to_string());
                body.push(':');
            }
        }
        body.push_str(&text);
    }
    (Encoding::Text, body.into_bytes())
}

fn coded(engine: Engine, data: &[u8]) -> String {
    match engine {
        Engine::V4 => format!("b{}", base64_encode(data)),
        Engine::V3 => format!("b4{}", base64_encode(data.get(1..).unwrap_or_default())),
    }
}

fn write_bytes(packets: &[Carried<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for packet in packets {
        let (kind, data) = match packet {
            Carried::Text(text) => (0, Cow::Owned(in_ascii(text).into_owned().into_bytes())),
            Carried::Binary(data) => (1, Cow::Borrowed(data.as_ref())),
        };
        body.push(kind);
        body.extend(data.len().to_string().bytes().map(|digit| digit.wrapping_sub(b'0')));
        body.push(LENGTH_END);
        body.extend_from_slice(&data);
    }
    body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Carried<'_> {
        Carried::Text(text.into())
    }

    fn binary(data: &[u8]) -> Carried<'_> {
        Carried::Binary(data.into())
    }

    #[test]
    fn bodies_are_those_of_the_protocol() {
        let read = |engine, body: &'static str| {
            read_payload(engine, Encoding::Text, body.as_bytes()).unwrap()
        };
        let (v3, v4) = (Engine::V3, Engine::V4);
        assert_eq!(read(v4, "4hello"), [text("4hello")]);
        assert_eq!(
            read(v4, "4a\u{1e}2\u{1e}bAQIDBA=="),
            [text("4a"), text("2"), binary(&[1, 2, 3, 4])]
        );
        assert_eq!(read(v3, "6:4hello2:4\u{20ac}"), [text("4hello"), text("4\u{20ac}")]);
        // A sign beyond the first plane counts twice, as in the language of the clients.
        assert_eq!(read(v3, "3:4\u{1f600}1:2"), [text("4\u{1f600}"), text("2")]);
        assert_eq!(read(v3, "6:4hello10:b4AQIDBA=="), [text("4hello"), binary(&[4, 1, 2, 3, 4])]);
        let bytes = [0, 6, 255, 52, 104, 101, 108, 108, 111, 1, 5, 255, 4, 1, 2, 3, 4];
        let packets = [text("4hello"), binary(&[4, 1, 2, 3, 4])];
        assert_eq!(read_payload(v3, Encoding::Bytes, &bytes).unwrap(), packets);
        assert_eq!(write_payload(v3, true, &packets), (Encoding::Bytes, bytes.to_vec()));
        let written = write_payload(v3, false, &packets);
        assert_eq!(written, (Encoding::Text, b"6:4hello10:b4AQIDBA==".to_vec()));
    }

    #[test]
    fn what_is_no_body_is_refused() {
        for body in
            ["", "abc", "6:4hell", "x:4a", ":4a", "-1:4", "1:\u{1f600}", "0:", "99999999999:a"]
        {
            let read = read_payload(Engine::V3, Encoding::Text, body.as_bytes());
            assert_eq!(read, Err(BadPayload), "{body}");
        }
        for body in [&b""[..], b"4a\x1e", b"b===", b"\xff", b"\x1e"] {
            assert_eq!(read_payload(Engine::V4, Encoding::Text, body), Err(BadPayload), "{body:?}");
        }
        for body in [&[0, 1][..], &[2, 1, 255, 52], &[0, 2, 255, 52], &[0, 200, 255, 52], &[1, 255]]
        {
            assert_eq!(
                read_payload(Engine::V3, Encoding::Bytes, body),
                Err(BadPayload),
                "{body:?}"
            );
        }
        let many = "2\u{1e}".repeat(PACKETS_MAX) + "2";
        assert_eq!(read_payload(Engine::V4, Encoding::Text, many.as_bytes()), Err(BadPayload));
    }

    fn packets(engine: Engine) -> impl Strategy<Value = Vec<Carried<'static>>> {
        let texts = "[1-6][^\u{1e}]{0,12}".prop_filter_map("it is ASCII", move |text| {
            (engine == Engine::V4 || text.is_ascii()).then(|| Carried::Text(text.into()))
        });
        let data = prop::collection::vec(any::<u8>(), 0..12)
            .prop_map(move |data| Carried::Binary([engine.binary_prefix(), &data].concat().into()));
        prop::collection::vec(prop_oneof![texts, data], 1..8)
    }

    #[test]
    fn what_the_first_clients_encode_twice_is_decoded_twice() {
        assert_eq!(decoded_again("42[\"\u{c3}\u{a9}\"]").as_deref(), Some("42[\"\u{e9}\"]"));
        for once in ["42[\"e\"]", "42[\"\u{e9}\"]", "42[\"\u{20ac}\"]", "42[\"\u{c3}\u{20ac}\"]"] {
            assert_eq!(decoded_again(once), None, "{once}");
        }
        assert!(is_of_first_generation("40/v2") && is_of_first_generation("40/v2?a=b"));
        assert!(!is_of_first_generation("40/v2,") && !is_of_first_generation("40"));
    }

    proptest! {
        #[test]
        fn what_version_3_is_told_is_ascii_and_means_the_same(value in "\\PC{0,16}", bytes: bool) {
            let event = serde_json::to_string(&["/me/resources/a", &value]).unwrap();
            let packets = [text("2"), Carried::Text(format!("42/v2,{event}").into())];
            let binary = bytes.then(|| binary(&[4, 1]));
            let packets: Vec<_> = packets.into_iter().chain(binary).collect();
            let (encoding, body) = write_payload(Engine::V3, true, &packets);
            prop_assert!(bytes || body.is_ascii());
            let read = read_payload(Engine::V3, encoding, &body).unwrap();
            let Carried::Text(told) = &read[1] else { panic!("{read:?}") };
            let json = told.strip_prefix("42/v2,").unwrap();
            let again: Vec<String> = serde_json::from_str(json).unwrap();
            prop_assert!(json.is_ascii());
            prop_assert_eq!(&again[1], &value);
        }

        #[test]
        fn what_is_written_is_read_again(v4 in packets(Engine::V4), v3 in packets(Engine::V3), bytes: bool) {
            for (engine, packets) in [(Engine::V4, v4), (Engine::V3, v3)] {
                let (encoding, body) = write_payload(engine, bytes, &packets);
                prop_assert_eq!(read_payload(engine, encoding, &body).unwrap(), packets);
            }
        }
    }
}
