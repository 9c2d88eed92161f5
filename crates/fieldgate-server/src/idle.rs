//! How long an HTTP connection may take: for a request head, for an answer, and without a request.
//! What streams has no end of its own.
//!
//! Watches what is read. Absent: what happens when the time is over, which is `listen`'s.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rest::WAIT_MAX;

/// Time for an answer behind head and body: the longest that a request may ask to wait for, and as much
/// again for all else that is done for it.
const ANSWER_TIME: Duration = WAIT_MAX.saturating_mul(2);

/// Nothing is asked for.
const REST: u64 = 0;
/// A head is being read.
const HEAD: u64 = 1;
/// A request is being answered; its body may still come.
const BUSY: u64 = 2;
/// An answer is being given that does not end by itself.
const STREAM: u64 = 3;
const PHASES: u64 = 4;

/// Where a connection is, and since when.
#[derive(Debug)]
pub(crate) struct Phase {
    started: Instant,
    /// Milliseconds since the start, times [`PHASES`], and the phase.
    since: AtomicU64,
}

impl Phase {
    /// A connection that owes its first head.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), since: AtomicU64::new(HEAD) })
    }

    /// The phase is another since now.
    fn set(&self, phase: u64) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX / 4);
        self.since.store(now_ms * PHASES + phase, Ordering::Relaxed);
    }

    /// A request is here. Its time began with its head.
    pub(crate) fn asked(&self) {
        let since = self.since.load(Ordering::Relaxed);
        self.since.store(since - since % PHASES + BUSY, Ordering::Relaxed);
    }

    /// Its answer is.
    pub(crate) fn answered(&self) {
        if self.since.load(Ordering::Relaxed) % PHASES != STREAM {
            self.set(REST);
        }
    }

    /// Its answer goes on until what is returned is dropped.
    pub(crate) fn stream(self: &Arc<Self>) -> Streaming {
        self.set(STREAM);
        Streaming(Arc::clone(self))
    }

    fn on_bytes(&self) {
        if self.since.load(Ordering::Relaxed) % PHASES == REST {
            self.set(HEAD);
        }
    }

    /// When the time is over.
    pub(crate) fn end(&self, head: Duration, idle: Duration) -> Instant {
        let since = self.since.load(Ordering::Relaxed);
        if since % PHASES == STREAM {
            return Instant::now() + idle;
        }
        let allowed = match since % PHASES {
            HEAD => head,
            // A body has the time of a head; who reads it sees to that.
            BUSY => idle.max(head * 2 + ANSWER_TIME),
            _ => idle,
        };
        self.started + Duration::from_millis(since / PHASES) + allowed
    }
}

/// An answer that goes on; behind it the connection is at rest.
#[derive(Debug)]
pub(crate) struct Streaming(Arc<Phase>);

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.set(REST);
    }
}

/// A stream whose phase is kept.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    pub(crate) stream: S,
    pub(crate) phase: Arc<Phase>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.phase.on_bytes();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::timeout,
    };

    use super::*;
    use crate::testing::{Gateway, LIMIT};

    #[test]
    fn what_streams_has_time_until_it_ends() {
        let (head, idle) = (Duration::from_secs(5), Duration::ZERO);
        let phase = Phase::new();
        phase.asked();
        let streaming = phase.stream();
        phase.answered();
        phase.on_bytes();
        let asked = Instant::now();
        assert!(phase.end(head, Duration::from_secs(1)) > asked);
        drop(streaming);
        assert!(phase.end(head, idle) <= Instant::now());
    }

    #[test]
    fn a_head_has_less_time_than_a_connection_at_rest_and_more_bytes_give_it_no_more() {
        let (head, idle) = (Duration::from_secs(5), Duration::from_secs(60));
        let phase = Phase::new();
        assert_eq!(phase.end(head, idle), phase.started + head);
        phase.on_bytes();
        assert_eq!(phase.end(head, idle), phase.started + head);
        phase.asked();
        phase.on_bytes();
        assert!(phase.end(head, idle) >= phase.started + idle);
        phase.answered();
        assert!(phase.end(head, idle) >= phase.started + idle);
        phase.on_bytes();
        let end = phase.end(head, idle);
        assert!(end < phase.started + idle);
        phase.on_bytes();
        assert_eq!(phase.end(head, idle), end);
    }

    #[test]
    fn a_request_may_wait_its_longest_behind_the_latest_body_however_short_the_rest() {
        let (head, idle) = (Duration::from_secs(5), Duration::from_secs(1));
        let phase = Phase::new();
        phase.asked();
        phase.on_bytes();
        assert!(phase.end(head, idle) > phase.started + head * 2 + WAIT_MAX);
        phase.answered();
        assert!(phase.end(head, idle) <= Instant::now() + idle);
    }

    #[tokio::test]
    async fn a_request_that_waits_is_answered_however_short_a_connection_may_rest() {
        let gateway = Gateway::start(&["limits.idle_http_ms=300"], 1).await;
        let (_token, key) = (gateway.device("d").await, gateway.key("k").await);
        let mut stream =
            tokio::net::TcpStream::connect(gateway.running.listeners()["http"][0]).await.unwrap();
        let body = r#"{"to":"d","payload":{"a":1}}"#;
        let request = format!(
            "POST /v1/commands?wait=1500ms HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        // Behind the answer the connection rests, and is closed.
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer:?}");
        gateway.running.drain().await;
    }
}
