//! The thethings.iO dialect: values by key, as its REST interface, its Socket.IO server and its
//! streams say them (`wire.md` 1).
//!
//! Pure. In: [`read_values`], of JSON or of a [`form_to_json`]. Out: [`write_items`]. Times: [`date`].

pub mod date;
mod form;
mod items;
mod write;

pub use form::form_to_json;
pub use items::{compact, each_item, write_item, write_items};
/// What a stream of values begins with.
pub const SUBSCRIBED: &[u8] = br#"{"status":"success","message":"subscribed"}"#;

pub use write::{Limits, Value, Written, messages, read_value, read_values};
