//! Writes to many sockets in one system call, where the system has a ring for it.
//!
//! A call for each of a thousand sockets costs more than what the call does (decision 0008).

use std::{io, os::fd::AsFd as _};

use fieldgate_uring::{Ring, Send};

use super::Socket;

/// Fewer writes than these go one by one: entering a ring costs a little more than one write.
const RING_LEN_MIN: usize = 4;

/// The writes of one worker.
#[derive(Debug)]
pub(crate) struct Writer {
    ring: Option<Ring>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        let told =
            |error: &io::Error| tracing::debug!(%error, "no io_uring: one call for each write");
        Self { ring: Ring::new().inspect_err(told).ok() }
    }

    /// Takes as many bytes for each socket as can be sent now, as [`Socket::try_write`] does; tells
    /// how many, in order.
    pub(crate) fn write_each<'a>(
        &mut self,
        writes: impl Iterator<Item = (&'a Socket, &'a [u8])> + Clone,
    ) -> impl Iterator<Item = io::Result<usize>> {
        let is_worth_it = writes.clone().nth(RING_LEN_MIN - 1).is_some();
        let plain = writes.clone().filter_map(|(socket, bytes)| {
            socket.plain().map(|stream| Send { socket: stream.as_fd(), bytes })
        });
        let ring = self.ring.as_mut().filter(|_| is_worth_it);
        let mut sent = ring.map(|ring| ring.send_each(plain));
        writes.map(move |(socket, bytes)| match (&mut sent, socket.plain()) {
            (Some(sent), Some(_)) => sent.next().unwrap_or(Ok(0)),
            _ => socket.try_write(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::sink::Sink;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let socket = Sink::Tcp(stream).into_socket().unwrap();
        // Until the runtime has looked at it, it counts as full.
        socket.writable().await.unwrap();
        (socket, peer)
    }

    /// Writes to five sockets, of which the second is full and the fourth has ended; tells what each
    /// took.
    async fn results(mut writer: Writer) -> Vec<Result<usize, ErrorKind>> {
        let mut pairs = [pair().await, pair().await, pair().await, pair().await, pair().await];
        while pairs[1].0.try_write(&[0; 65_536]).is_ok() {}
        pairs[3].0.end();
        let texts: Vec<_> = (0..pairs.len()).map(|at| format!("for {at}")).collect();
        let writes = pairs.iter().zip(&texts).map(|((socket, _), text)| (socket, text.as_bytes()));
        let written: Vec<_> = writer.write_each(writes).collect();
        for at in [0, 2, 4] {
            let mut received = [0; 5];
            pairs[at].1.read_exact(&mut received).unwrap();
            assert_eq!(received, texts[at].as_bytes());
        }
        written.into_iter().map(|result| result.map_err(|error| error.kind())).collect()
    }

    #[tokio::test]
    async fn with_a_ring_and_without_one_the_same_is_told() {
        let alone = results(Writer { ring: None }).await;
        let full = Err(ErrorKind::WouldBlock);
        assert_eq!(alone, [Ok(5), full, Ok(5), Err(ErrorKind::BrokenPipe), Ok(5)]);
        let together = Writer::new();
        assert!(together.ring.is_some() || !cfg!(target_os = "linux"), "no io_uring here");
        assert_eq!(results(together).await, alone);
    }
}
