//! Wire formats: bytes to domain and back, pure.
//!
//! A dialect knows its wire and its error forms, and nothing of storage, routing or sockets.

pub mod deconz;
mod json;
pub mod kamea;
pub mod native;
mod readings;
mod scan;
pub mod socketio;
mod sse;
pub mod thethings;
pub mod thingsee;
mod utc;
pub mod wire;
pub mod ws;

pub use readings::{About, Known, Naming, Telling};
