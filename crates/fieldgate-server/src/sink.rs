//! Where a link reads and writes: a socket that is never waited for, plain or with TLS, the body of an
//! HTTP answer, the bodies of polling requests, or the socket of another link.
//!
//! In: the socket behind an upgrade, or a pipe. Out: reads and writes that take what there is. Absent: any
//! buffer of plain bytes. Owned by one worker, so that a TLS session has one thread.

mod pipe;
mod polling;
mod tls;
mod together;
mod within;

use std::{
    io::{self, ErrorKind},
    net::TcpStream as StdTcpStream,
    sync::Arc,
};

use rustls::ServerConnection;
use tokio::{io::Interest, net::TcpStream};

pub(crate) use pipe::{Pipe, PipeBody, pipe};
pub(crate) use polling::{Exchange, Polled, Polling, Probe};
use tls::TlsSocket;
pub(crate) use together::Writer;
pub(crate) use within::{Channel, Within};

/// A socket on its way to a worker, registered with no runtime.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A plain connection.
    Tcp(StdTcpStream),
    /// A TLS connection with its session.
    Tls(StdTcpStream, Box<ServerConnection>),
    /// The body of an answer.
    Pipe(Pipe),
    /// The bodies of polling requests.
    Polling(Arc<Exchange>),
}

/// A socket of this worker.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsSocket>),
    Pipe(Pipe),
    Polling(Box<Polling>),
    /// That of another link, for the second namespace of its session.
    Within(Within),
}

impl Sink {
    pub(crate) fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Socket::Tcp),
            Self::Tls(stream, session) => {
                let stream = TcpStream::from_std(stream)?;
                Ok(Socket::Tls(Box::new(TlsSocket::new(stream, *session))))
            }
            Self::Pipe(pipe) => Ok(Socket::Pipe(pipe)),
            Self::Polling(exchange) => Ok(Socket::Polling(Box::new(Polling::new(exchange)))),
        }
    }
}

impl Socket {
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => self.wire_readable().await,
            Self::Pipe(pipe) => {
                pipe.readable().await;
                Ok(())
            }
            // Boxed, so that a link of its own socket has no room for it.
            Self::Polling(polling) => Box::pin(polling.readable()).await,
            Self::Within(within) => {
                within.readable().await;
                Ok(())
            }
        }
    }

    /// As [`Self::readable`], for a socket of the system's.
    async fn wire_readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Tls(socket) if socket.has_unread() => Ok(()),
            Self::Tls(socket) => socket.stream().readable().await,
            Self::Pipe(_) | Self::Polling(_) | Self::Within(_) => {
                Err(ErrorKind::Unsupported.into())
            }
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Tls(_) => self.wire_writable().await,
            Self::Pipe(pipe) => {
                pipe.writable().await;
                Ok(())
            }
            Self::Polling(polling) => Box::pin(polling.writable()).await,
            Self::Within(within) => {
                within.writable().await;
                Ok(())
            }
        }
    }

    /// As [`Self::writable`], for a socket of the system's.
    async fn wire_writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Tls(socket) => socket.stream().writable().await,
            Self::Pipe(_) | Self::Polling(_) | Self::Within(_) => {
                Err(ErrorKind::Unsupported.into())
            }
        }
    }

    /// The plain socket that is written to, if it is one.
    fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Polling(polling) => match polling.wire() {
                Some(Self::Tcp(stream)) => Some(stream),
                _ => None,
            },
            Self::Tls(_) | Self::Pipe(_) | Self::Within(_) => None,
        }
    }

    /// Whether who cannot say anything has read something since the last time this was asked.
    pub(crate) fn was_read(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Tls(_) | Self::Polling(_) | Self::Within(_) => false,
            Self::Pipe(pipe) => pipe.was_read(),
        }
    }

    /// What its client sent is still to be dealt with: who is not read is not silent.
    pub(crate) fn note_heard(&self) {
        match self {
            Self::Polling(polling) => polling.exchange().note_heard(),
            Self::Tcp(_) | Self::Tls(_) | Self::Pipe(_) | Self::Within(_) => (),
        }
    }

    /// Reads what there is; 0 at the end of the stream.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => read_some(stream, buffer),
            Self::Tls(socket) => socket.try_read(buffer),
            Self::Pipe(pipe) => pipe.try_read(),
            Self::Polling(polling) => polling.try_read(buffer),
            Self::Within(within) => within.try_read(buffer),
        }
    }

    /// Takes as many bytes as can be sent now. With TLS the last of them may be taken and not sent:
    /// see [`Socket::has_unsent`].
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Tls(socket) => socket.try_write(bytes),
            Self::Pipe(pipe) => pipe.try_write(bytes),
            Self::Polling(polling) => polling.try_write(bytes),
            Self::Within(within) => within.try_write(bytes),
        }
    }

    /// Whether bytes that were taken are still to be sent, by [`Socket::try_send`].
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Pipe(_) | Self::Within(_) => false,
            Self::Tls(socket) => socket.has_unsent(),
            Self::Polling(polling) => polling.has_unsent(),
        }
    }

    /// Sends what was taken; tells whether all of it is gone.
    pub(crate) fn try_send(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(_) | Self::Pipe(_) | Self::Within(_) => Ok(true),
            Self::Tls(socket) => socket.try_send(),
            Self::Polling(polling) => polling.try_send(),
        }
    }

    /// Tells the peer that nothing follows; what it says can still be read. A client that has heard
    /// the close frame waits for this end (RFC 6455, 7.1.1).
    pub(crate) fn end(&self) {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(socket) => {
                socket.end();
                socket.stream()
            }
            Self::Pipe(pipe) => return pipe.end(),
            Self::Polling(polling) => return polling.end(),
            // Its carrier goes on, or ends by itself.
            Self::Within(_) => return,
        };
        // A peer that is gone needs no end.
        let _gone = rustix::net::shutdown(stream, rustix::net::Shutdown::Write);
    }
}

/// Takes as many bytes from the front as there is room for.
fn take_front(from: &mut Vec<u8>, into: &mut [u8]) -> usize {
    let len = from.len().min(into.len());
    for (slot, byte) in into.iter_mut().zip(from.drain(..len)) {
        *slot = byte;
    }
    len
}

/// Reads once. Less than was asked for means that the socket is empty, which is noted without
/// asking the system again.
///
/// The note cannot hide bytes that come later: this thread alone learns of them, when it next waits.
fn read_some(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let len = stream.try_read(buffer)?;
    if 0 < len && len < buffer.len() {
        note_empty(stream);
    }
    Ok(len)
}

fn note_empty(stream: &TcpStream) {
    let empty = || Err::<(), _>(io::Error::from(ErrorKind::WouldBlock));
    let _always_would_block = stream.try_io(Interest::READABLE, empty);
}
