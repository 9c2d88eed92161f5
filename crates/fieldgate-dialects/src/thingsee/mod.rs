//! The Thingsee dialect: arrays of flat message objects (`wire.md` 4, `resources.md` 2).
//!
//! Pure. In: [`decode_text`] and [`decode_binary`]. Out: [`write_objects`], and commands in [`downlink`]. What ids and fields there
//! are: [`catalogue`].

pub mod catalogue;
mod cbor;
mod decode;
pub mod downlink;
mod encode;
mod key;
mod press;
mod rows;

pub use crate::readings::{About, Known};
pub use cbor::inflate;
pub use decode::{Element, Elements, decode_binary, decode_text};
pub use encode::{Ids, write_objects};

/// Keys that say what a message is about, and are no resources.
pub const HEADER: [&str; 11] = [
    "tsmId",
    "tsmEv",
    "tsmTs",
    "tsmTuid",
    "tsmGw",
    "tsmDstTuid",
    "tsmGwTs",
    "tsmCloudTs",
    "tsmAp",
    "deploymentGroupId",
    "transactionId",
];

/// Bounds on what a frame may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deepest nesting.
    pub json_depth_max: usize,
    /// Most elements of an array, and most messages that they are.
    pub batch_len_max: usize,
    /// Most fields of an element.
    pub resources_max: usize,
    /// Most bytes of what a compressed frame inflates to, and of the JSON that is made of CBOR.
    pub frame_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            json_depth_max: 32,
            batch_len_max: 1_000,
            resources_max: 1_000,
            frame_bytes_max: 262_144,
        }
    }
}
