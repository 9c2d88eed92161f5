//! Many sends in one system call.
//!
//! In: sockets, and bytes for each. Out: what each socket took. Nothing is waited for: a send to a
//! full socket fails as one without a ring would. Linux alone has this (`io_uring`, `man 7 io_uring`),
//! and not everywhere lets programs use it: who finds no ring sends one at a time.
//!
//! The one crate of the workspace with `unsafe` in it. What keeps it sound is in one place,
//! [`Ring::send_each`]: it does not return before the system is done with every byte it was lent.

#[cfg(target_os = "linux")]
mod ring;
#[cfg(not(target_os = "linux"))]
#[path = "absent.rs"]
mod ring;

use std::os::fd::BorrowedFd;

pub use ring::Ring;

/// One send.
#[derive(Debug, Clone, Copy)]
pub struct Send<'a> {
    /// A stream socket.
    pub socket: BorrowedFd<'a>,
    /// What goes to it.
    pub bytes: &'a [u8],
}
