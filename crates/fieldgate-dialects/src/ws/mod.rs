//! WebSocket framing (RFC 6455), both roles: bytes in, events out; frames out.
//!
//! Pure: no socket, no clock. Absent: extensions and compression.
//! Invariant: nothing of a frame above the limits is kept, and nothing at all while idle.

mod decode;
mod encode;
mod handshake;

pub use decode::{Decoder, Event, Limits, WsError};
pub use encode::{
    Mask, Opcode, close_echo, close_frame, close_frame_masked, frame, frame_masked, frame_text,
    header_len, ping_frame, pong_frame, write_header,
};
pub use handshake::{
    HandshakeError, UpgradeHeaders, accept_key, check_upgrade, choose_subprotocol,
};
