//! TLS over a socket that is never waited for: no task and no copy stands between.
//!
//! What the socket did not take stays in the session, encrypted and bounded; nothing more is
//! encrypted before it is gone. What the session keeps while nothing happens is a buffer of 4 KiB.

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind, IoSlice, Read, Write},
};

use rustls::ServerConnection;
use tokio::net::TcpStream;

use super::read_some;

/// Most bytes that are encrypted and not sent.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: TcpStream,
    session: RefCell<ServerConnection>,
    /// The session may hold something that no event of the socket tells of: plain bytes, the end,
    /// or an error.
    unread: Cell<bool>,
}

/// The socket as a session sees it: encrypted bytes, none of them waited for.
struct Wire<'a>(&'a TcpStream);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_some(self.0, buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsSocket {
    /// Takes over a session whose handshake is done.
    pub(super) fn new(stream: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Self { stream, session: RefCell::new(session), unread: Cell::new(true) }
    }

    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) const fn has_unread(&self) -> bool {
        self.unread.get()
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.session.borrow().wants_write()
    }

    /// Reads until `buffer` is full or the socket is empty; 0 at the end, `close_notify` or not.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        let mut filled = 0;
        self.unread.set(true);
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            let broken = session.process_new_packets().err();
            match session.reader().read(room) {
                Ok(0) => break,
                Ok(len) => {
                    filled += len;
                    continue;
                }
                // What went wrong is told once everything before it has been.
                Err(_) if broken.is_some() && filled > 0 => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
            if let Some(error) = broken {
                tracing::debug!(%error, "the peer broke TLS");
                // The alert, if the socket takes it.
                let _sent = send(&mut session, &self.stream);
                return Err(io::Error::new(ErrorKind::InvalidData, error));
            }
            match session.read_tls(&mut Wire(&self.stream)) {
                Ok(_) => (),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.unread.set(false);
                    return if filled == 0 { Err(error) } else { Ok(filled) };
                }
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Encrypts and sends while the socket takes it.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        let mut taken = 0;
        while send(&mut session, &self.stream)? {
            let rest = bytes.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match session.writer().write(rest)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                len => taken += len,
            }
        }
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    pub(super) fn try_send(&self) -> io::Result<bool> {
        send(&mut self.session.borrow_mut(), &self.stream)
    }

    pub(super) fn end(&self) {
        let mut session = self.session.borrow_mut();
        session.send_close_notify();
        // A peer that is gone, or takes nothing, does without.
        let _sent = send(&mut session, &self.stream);
    }
}

/// Sends what is encrypted; tells whether all of it is gone.
fn send(session: &mut ServerConnection, stream: &TcpStream) -> io::Result<bool> {
    while session.wants_write() {
        match session.write_tls(&mut Wire(stream)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
