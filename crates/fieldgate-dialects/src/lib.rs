//! Wire formats: bytes to domain and back, pure.
//!
//! A dialect knows its wire and its error forms, and nothing of storage, routing or sockets.

pub mod native;
mod sse;
pub mod wire;
pub mod ws;
