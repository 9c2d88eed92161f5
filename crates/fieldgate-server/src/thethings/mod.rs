//! The thethings.iO dialect (`docs/protocol/thethings.md`): its REST interface, and what its
//! Socket.IO namespace asks of the rest.
//!
//! Things are devices, and their tokens are credentials of the kind `thing`; apps are tenants; what a
//! person may is what their role lets them, and the things that they linked.

#![allow(dead_code, unused_imports, reason = "its Socket.IO namespace uses it")]

mod who;

pub(crate) use who::{Seen, ThingOf, devices_of, session_principal, thing_of_token};
