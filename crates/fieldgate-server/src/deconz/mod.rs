//! What apps for a deCONZ gateway are served.
//!
//! Here: whether they may make keys for themselves. Absent: what their bodies say, which is the
//! dialect's.

pub(crate) mod unlock;
