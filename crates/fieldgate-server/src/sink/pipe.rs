//! A socket whose other end is the body of an HTTP answer: a bounded queue of bytes in memory.
//!
//! In: writes of a link, on its worker. Out: the body, read by the HTTP layer on the shared runtime.
//! Invariant: at most [`PIPE_BYTES_MAX`] bytes wait, and none are held while nothing does.

use std::{
    convert::Infallible,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::Notify;

use crate::idle::Streaming;

/// Most bytes that wait for the HTTP layer.
const PIPE_BYTES_MAX: usize = 64 * 1024;

/// The end that a link writes to.
#[derive(Debug)]
pub(crate) struct Pipe {
    inner: Arc<Inner>,
    _streaming: Streaming,
}

/// The end that the HTTP layer reads.
#[derive(Debug)]
pub(crate) struct PipeBody(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// The body took something, or is gone.
    room: Notify,
    gone: Notify,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Nothing follows.
    is_ended: bool,
    /// Nobody reads.
    is_gone: bool,
    /// Something was read since somebody asked.
    was_read: bool,
    reader: Option<Waker>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes both ends. While the first lives the connection counts as one that streams.
pub(crate) fn pipe(streaming: Streaming) -> (Pipe, PipeBody) {
    let inner = Arc::new(Inner::default());
    (Pipe { inner: Arc::clone(&inner), _streaming: streaming }, PipeBody(inner))
}

impl Pipe {
    /// Waits until the body is gone. Cancel safe.
    pub(super) async fn readable(&self) {
        while !self.inner.state().is_gone {
            self.inner.gone.notified().await;
        }
    }

    /// Waits until a write takes something, or fails. Cancel safe.
    pub(super) async fn writable(&self) {
        let is_full = || {
            let state = self.inner.state();
            !state.is_gone && state.bytes.len() >= PIPE_BYTES_MAX
        };
        while is_full() {
            self.inner.room.notified().await;
        }
    }

    /// Nothing comes from there but the end.
    pub(super) fn try_read(&self) -> io::Result<usize> {
        if self.inner.state().is_gone { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.inner.state();
        if state.is_gone || state.is_ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(PIPE_BYTES_MAX.saturating_sub(state.bytes.len()));
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.bytes.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(taken)
    }

    /// Whether something was read since the last time this was asked.
    pub(super) fn was_read(&self) -> bool {
        std::mem::take(&mut self.inner.state().was_read)
    }

    /// The body ends behind what was written.
    pub(super) fn end(&self) {
        let mut state = self.inner.state();
        state.is_ended = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.end();
    }
}

impl Body for PipeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.0.state();
        if !state.bytes.is_empty() {
            let bytes = std::mem::take(&mut state.bytes);
            state.was_read = true;
            drop(state);
            self.0.room.notify_one();
            return Poll::Ready(Some(Ok(Frame::data(bytes.into()))));
        }
        if state.is_ended {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_gone = true;
        state.bytes = Vec::new();
        drop(state);
        self.0.room.notify_one();
        self.0.gone.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::timeout;

    use super::*;
    use crate::idle::Phase;

    fn ends() -> (Pipe, PipeBody) {
        pipe(Phase::new().stream())
    }

    async fn next(body: &mut PipeBody) -> Option<Bytes> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn what_is_written_is_read_up_to_the_bound_and_then_waits() {
        let (pipe, mut body) = ends();
        let all = vec![7; PIPE_BYTES_MAX + 10];
        assert_eq!(pipe.try_write(&all).unwrap(), PIPE_BYTES_MAX);
        assert_eq!(pipe.try_write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(timeout(Duration::from_millis(5), pipe.writable()).await.is_err());
        assert!(!pipe.was_read());
        assert_eq!(next(&mut body).await.unwrap().len(), PIPE_BYTES_MAX);
        assert!(pipe.was_read() && !pipe.was_read());
        pipe.writable().await;
        assert_eq!(pipe.try_write(b"rest").unwrap(), 4);
        pipe.end();
        assert_eq!(next(&mut body).await.unwrap(), "rest");
        assert_eq!(next(&mut body).await, None);
        assert_eq!(pipe.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_body_that_is_gone_is_the_end_of_the_stream() {
        let (pipe, body) = ends();
        assert_eq!(pipe.try_read().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(pipe.try_write(&[0; PIPE_BYTES_MAX]).unwrap(), PIPE_BYTES_MAX);
        let ended = async { tokio::join!(pipe.readable(), pipe.writable()) };
        let dropped = async { drop(body) };
        tokio::join!(ended, dropped);
        assert_eq!(pipe.try_read().unwrap(), 0);
        assert_eq!(pipe.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_reader_hears_of_a_link_that_is_gone() {
        let (pipe, mut body) = ends();
        let ended = tokio::spawn(async move { next(&mut body).await });
        tokio::task::yield_now().await;
        drop(pipe);
        assert_eq!(ended.await.unwrap(), None);
    }
}
