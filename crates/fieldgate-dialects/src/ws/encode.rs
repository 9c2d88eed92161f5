//! Frames out: opcode and payload in, bytes on the wire out.
//!
//! Pure. Servers never mask (RFC 6455 5.1); clients pass a [`Mask`].

use bytes::Bytes;
use fieldgate_core::close::CloseReason;

/// What a frame is (RFC 6455 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continuation = 0x0,
    /// UTF-8.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// The end.
    Close = 0x8,
    /// Are you there?
    Ping = 0x9,
    /// I am.
    Pong = 0xA,
}

/// Largest payload of a control frame (RFC 6455 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// The key of a client's frame.
pub type Mask = [u8; 4];

/// Bytes that the header of an unmasked frame of `payload_len` bytes takes.
#[must_use]
pub const fn header_len(payload_len: usize) -> usize {
    match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Appends the header of one final, unmasked frame.
pub fn write_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize) {
    push_header(out, opcode, payload_len, 0);
}

fn push_header(out: &mut Vec<u8>, opcode: Opcode, payload_len: usize, mask_bit: u8) {
    out.push(0x80 | opcode as u8);
    if let Ok(short) = u8::try_from(payload_len)
        && short <= 125
    {
        out.push(mask_bit | short);
    } else if let Ok(medium) = u16::try_from(payload_len) {
        out.push(mask_bit | 126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(mask_bit | 127);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
}

/// Makes one whole unmasked frame.
#[must_use]
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(header_len(payload.len()) + payload.len());
    write_header(&mut out, opcode, payload.len());
    out.extend_from_slice(payload);
    Bytes::from(out)
}

/// Makes one whole unmasked text frame; `text` is UTF-8.
#[must_use]
pub fn frame_text(text: &[u8]) -> Bytes {
    frame(Opcode::Text, text)
}

/// Makes a ping of at most 125 bytes; what is above is left out.
#[must_use]
pub fn ping_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Ping, payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload))
}

/// Makes the answer to a ping, with its payload.
#[must_use]
pub fn pong_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Pong, payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload))
}

/// Makes one whole masked frame, as clients send.
#[must_use]
pub fn frame_masked(opcode: Opcode, payload: &[u8], mask: Mask) -> Vec<u8> {
    let mut out = Vec::with_capacity(14 + payload.len());
    push_header(&mut out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    super::decode::unmask(out.get_mut(start..).unwrap_or_default(), mask, 0);
    out
}

fn close_payload(code: u16, text: &str) -> Vec<u8> {
    let mut payload = Vec::with_capacity(2 + text.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(text.as_bytes());
    payload
}

/// Makes the close frame of a server for `reason`.
#[must_use]
pub fn close_frame(reason: CloseReason) -> Bytes {
    frame(Opcode::Close, &close_payload(reason.code(), reason.text()))
}

/// Makes the answer to a peer's close: its own code, if it gave one.
#[must_use]
pub fn close_echo(code: Option<u16>) -> Bytes {
    match code {
        Some(code) => frame(Opcode::Close, &code.to_be_bytes()),
        None => frame(Opcode::Close, &[]),
    }
}

/// Makes the close frame of a client.
#[must_use]
pub fn close_frame_masked(code: u16, text: &str, mask: Mask) -> Vec<u8> {
    frame_masked(Opcode::Close, &close_payload(code, text), mask)
}
