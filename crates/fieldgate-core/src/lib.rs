//! The domain of Fieldgate: messages, topics, rights and guarantees, as pure data and decisions.
//!
//! Nothing here knows a socket, a file, a clock, a runtime or a wire format: time is an argument,
//! and every dialect translates its bytes to and from these types.

pub mod access;
pub mod admission;
pub mod audit;
pub mod backoff;
pub mod close;
pub mod command;
pub mod delivery;
pub mod dialect;
pub mod fault;
pub mod heartbeat;
pub mod id;
pub mod index;
pub mod json;
pub mod lane;
pub mod message;
pub mod pace;
pub mod profile;
pub mod rate;
pub mod reading;
pub mod replay;
pub mod resource;
pub mod state;
#[cfg(any(test, fuzzing, feature = "testing"))]
pub mod testing;
pub mod topic;
