//! The native dialect: JSON and Protobuf frames of `native.md`, both directions.
//!
//! Pure. Server side: [`decode_first`], [`decode_text`], [`decode_signed`], [`decode_binary`],
//! [`encode_answer`], [`encode_delivery`], [`encode_control`]. Client side: [`client`].

mod canonical;
pub mod client;
mod decode;
mod desired;
mod document;
mod encode;
mod frame;
mod mac;
mod merge;
mod plain;
mod profile;
pub mod protobuf;
mod telemetry;

pub use crate::json::{base64_decode, base64_encode};
pub use canonical::{Canonical, canonical, fit_desired};
pub use decode::{decode_binary, decode_first, decode_text, decode_text_as};
pub use desired::{desired_patch, encode_wished, write_name};
pub use document::encode_document;
pub use encode::{
    command_state, encode_answer, encode_control, encode_delivery, encode_failure, encode_record,
    gap_reason,
};
pub use frame::reference_of;
pub use mac::{MacKey, NONCE_BYTES_MAX, Seal, decode_signed, unsigned_binary};
pub use merge::{Merge, merge_latest};
pub use profile::{decode_profile, encode_profile, parse_kind};

use fieldgate_core::{fault::Fault, id::MsgId};

use crate::json;

/// Subprotocol names that the server offers, in order of preference.
pub const SUBPROTOCOLS: &[&str] = &["fieldgate.v1.json"];

/// How a connection wants its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// No subprotocol: payloads of `mqtt` frames are strings, as the lesson's client expects.
    Lesson,
    /// `fieldgate.v1.json`: JSON payloads are embedded as they are.
    V1,
}

/// Bounds on what a frame may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting of JSON.
    pub json_depth_max: usize,
    /// Most elements of a batch.
    pub batch_len_max: usize,
    /// Most resources in one telemetry frame.
    pub resources_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { json_depth_max: 32, batch_len_max: 1_000, resources_max: 1_000 }
    }
}

/// Why a frame was refused; the connection goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was wrong.
    pub fault: Fault,
    /// The frame's `msgid`, if it could be read.
    pub reference: Option<MsgId>,
}
