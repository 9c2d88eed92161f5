//! Sends through `io_uring`.

use std::{fmt, io, os::fd::AsRawFd as _};

use io_uring::{IoUring, Probe, opcode, squeue::Entry, types::Fd};
use rustix::{io::Errno, net::SendFlags};

use crate::Send;

/// Sends that enter the system together; more of them bring nothing that was measured.
const ENTRY_COUNT: u32 = 256;

/// A ring: the sends of one thread.
pub struct Ring {
    ring: IoUring,
    /// What is to enter together. Points to what a caller lent, and is used within that call alone.
    entries: Vec<Entry>,
    /// What became of each send, in the system's way: bytes, or an error number below zero.
    results: Vec<i32>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring and tries it.
    ///
    /// # Errors
    ///
    /// The system has no `io_uring` (Linux before 5.6), or does not let this process use it
    /// (`kernel.io_uring_disabled`, a container's filter of system calls).
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::new(ENTRY_COUNT)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Send::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut ring = Self { ring, entries: Vec::new(), results: Vec::new() };
        // A filter may let rings be made and not entered.
        ring.entries.push(opcode::Nop::new().build());
        ring.results.push(not_done());
        ring.enter(Err)?;
        Ok(ring)
    }

    /// Sends each without waiting for any; tells of each, in order, how many bytes its socket took.
    ///
    /// Errors are those of `send(2)`: a full socket is [`io::ErrorKind::WouldBlock`].
    pub fn send_each<'a>(
        &mut self,
        sends: impl IntoIterator<Item = Send<'a>>,
    ) -> impl Iterator<Item = io::Result<usize>> {
        self.results.clear();
        self.entries.clear();
        for send in sends {
            // What does not fit a send is left over, as with a socket that takes less.
            let len = u32::try_from(send.bytes.len()).unwrap_or(u32::MAX);
            let entry = opcode::Send::new(Fd(send.socket.as_raw_fd()), send.bytes.as_ptr(), len);
            let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits();
            let entry = entry.flags(flags.cast_signed()).build();
            self.entries.push(entry.user_data(self.results.len() as u64));
            self.results.push(not_done());
            if self.entries.len() == ENTRY_COUNT as usize {
                self.enter_or_abort();
            }
        }
        self.enter_or_abort();
        self.results.iter().map(|result| {
            usize::try_from(*result)
                .map_err(|_| io::Error::from_raw_os_error(result.wrapping_neg()))
        })
    }

    fn enter_or_abort(&mut self) {
        // The system may still hold what was lent to it, so that returning would be unsound. It has
        // no reason to refuse a ring that it let in before.
        let done = self.enter(|error| {
            eprintln!("io_uring_enter: {error}");
            std::process::abort()
        });
        debug_assert!(done.is_ok(), "abort does not return");
    }

    /// Does what `entries` hold, and returns when the system is done with all of it, or what
    /// `refused` makes of an error that trying again does not mend.
    fn enter(&mut self, refused: impl Fn(io::Error) -> io::Result<()>) -> io::Result<()> {
        // SAFETY: what the entries point to is lent for the life `'a` of `send_each`, which does not
        // return before this function saw the completion of each.
        let pushed = unsafe { self.ring.submission().push_multiple(&self.entries) };
        let mut open_count = if pushed.is_ok() { self.entries.len() } else { 0 };
        self.entries.clear();
        while open_count > 0 {
            let entered = self.ring.submit_and_wait(open_count);
            for completion in self.ring.completion() {
                let at = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
                if let Some(result) = self.results.get_mut(at) {
                    *result = completion.result();
                }
                open_count -= 1;
            }
            match entered {
                Err(error) if open_count > 0 && !is_passing(&error) => return refused(error),
                Ok(_) | Err(_) => (),
            }
        }
        Ok(())
    }
}

/// What a send tells that never was: its socket took nothing.
fn not_done() -> i32 {
    -Errno::AGAIN.raw_os_error()
}

/// Whether entering again can help: a signal came, or memory is short.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, ResourceBusy, WouldBlock};
    matches!(error.kind(), Interrupted | ResourceBusy | WouldBlock)
}

#[cfg(test)]
mod tests;
