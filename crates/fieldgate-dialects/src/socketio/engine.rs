//! Engine.IO packets: what one WebSocket message, or one part of a polling body, says.
//!
//! Pure. The two versions differ in who pings, and in the byte that stands before binary data.

use serde::Serialize;

/// A version of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// `EIO=3`: clients of Socket.IO 1 and 2. The client pings.
    V3,
    /// `EIO=4`: clients of Socket.IO 3 and 4. The server pings.
    V4,
}

/// What is no Engine.IO packet: the session cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no Engine.IO packet")]
pub struct BadPacket;

/// What a peer said in one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// `1`: it closes.
    Close,
    /// `2`: are you there? With what it wants to hear again.
    Ping(&'a str),
    /// `3`: it is.
    Pong(&'a str),
    /// `4`: a Socket.IO packet.
    Message(&'a str),
    /// Bytes that belong to the packet before.
    Binary(&'a [u8]),
    /// `5`: it goes on on this transport.
    Upgrade,
    /// `6`: nothing.
    Noop,
}

impl Engine {
    /// The version of a literal `EIO=3` or `EIO=4`.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "3" => Some(Self::V3),
            "4" => Some(Self::V4),
            _ => None,
        }
    }

    /// Reads a text packet.
    ///
    /// # Errors
    ///
    /// It begins with no known type, or with `0`, which no client sends.
    pub fn read_text(self, text: &str) -> Result<Part<'_>, BadPacket> {
        let (kind, rest) = text.split_at_checked(1).ok_or(BadPacket)?;
        Ok(match kind {
            "1" => Part::Close,
            "2" => Part::Ping(rest),
            "3" => Part::Pong(rest),
            "4" => Part::Message(rest),
            "5" => Part::Upgrade,
            "6" => Part::Noop,
            _ => return Err(BadPacket),
        })
    }

    /// Reads a binary packet: in version 3 the byte 4 stands before the data.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn read_binary(self, bytes: &[u8]) -> Result<Part<'_>, BadPacket> {
        match (self, bytes) {
            (Self::V4, data) | (Self::V3, [MESSAGE, data @ ..]) => Ok(Part::Binary(data)),
            (Self::V3, _) => Err(BadPacket),
        }
    }

    /// What stands before binary data in a WebSocket message.
    #[must_use]
    pub const fn binary_prefix(self) -> &'static [u8] {
        match self {
            Self::V3 => &[MESSAGE],
            Self::V4 => &[],
        }
    }
}

/// The type of a message, as a byte before binary data.
const MESSAGE: u8 = 4;

/// What the first packet of a session tells its client.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Opening<'a> {
    /// Its session.
    pub sid: &'a str,
    /// What it may go over to: `websocket`, or nothing.
    pub upgrades: &'a [&'a str],
    /// How often a ping comes, in ms.
    pub ping_interval: u64,
    /// How long its answer may take, in ms.
    pub ping_timeout: u64,
    /// The largest polling body and WebSocket message, in bytes.
    pub max_payload: usize,
}

/// Appends the packet that opens a session.
pub fn write_opening(out: &mut Vec<u8>, opening: &Opening<'_>) {
    out.push(b'0');
    // A struct of strings and numbers, into memory: there is nothing that could fail.
    if serde_json::to_writer(&mut *out, opening).is_err() {
        out.extend_from_slice(b"{}");
    }
}

/// Appends the WebSocket payload of binary data.
pub fn write_binary(out: &mut Vec<u8>, engine: Engine, data: &[u8]) {
    out.extend_from_slice(engine.binary_prefix());
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_what_its_first_sign_says() {
        for (text, part) in [
            ("1", Part::Close),
            ("2", Part::Ping("")),
            ("2probe", Part::Ping("probe")),
            ("3", Part::Pong("")),
            ("42[\"a\"]", Part::Message("2[\"a\"]")),
            ("5", Part::Upgrade),
            ("6", Part::Noop),
        ] {
            assert_eq!(Engine::V4.read_text(text), Ok(part), "{text}");
            assert_eq!(Engine::V3.read_text(text), Ok(part), "{text}");
        }
        for text in ["", "0{}", "7", "abc", "\u{e9}4"] {
            assert_eq!(Engine::V4.read_text(text), Err(BadPacket), "{text}");
        }
    }

    #[test]
    fn binary_data_has_a_byte_before_it_in_the_older_version() {
        assert_eq!(Engine::V4.read_binary(&[4, 1]), Ok(Part::Binary(&[4, 1])));
        assert_eq!(Engine::V3.read_binary(&[4, 1]), Ok(Part::Binary(&[1])));
        assert_eq!(Engine::V3.read_binary(&[1]), Err(BadPacket));
        assert_eq!(Engine::V3.read_binary(&[]), Err(BadPacket));
        let mut out = Vec::new();
        write_binary(&mut out, Engine::V3, &[9]);
        assert_eq!(Engine::V3.read_binary(&out), Ok(Part::Binary(&[9])));
    }

    #[test]
    fn a_session_opens_with_what_its_client_has_to_know() {
        let mut out = Vec::new();
        let opening = Opening {
            sid: "lv_VI97HAXpY6yYWAAAC",
            upgrades: &["websocket"],
            ping_interval: 25_000,
            ping_timeout: 20_000,
            max_payload: 1_000_000,
        };
        write_opening(&mut out, &opening);
        let text = r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}
