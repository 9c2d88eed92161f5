//! Where a link reads and writes: a socket that is never waited for while writing.
//!
//! A TLS connection is decrypted by a task of its own and reaches its link through a socket pair.

use std::{io, net::TcpStream as StdTcpStream, os::unix::net::UnixStream as StdUnixStream};

use tokio::net::{TcpStream, UnixStream};

/// A socket on its way to a worker, registered with no runtime.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A plain connection.
    Tcp(StdTcpStream),
    /// The near end of a TLS connection.
    Pair(StdUnixStream),
}

/// A socket of this worker.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Pair(UnixStream),
}

impl Sink {
    pub(crate) fn into_socket(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Socket::Tcp),
            Self::Pair(stream) => UnixStream::from_std(stream).map(Socket::Pair),
        }
    }
}

impl Socket {
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Pair(stream) => stream.readable().await,
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Pair(stream) => stream.writable().await,
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Pair(stream) => stream.try_read(buffer),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Pair(stream) => stream.try_write(bytes),
        }
    }
}
