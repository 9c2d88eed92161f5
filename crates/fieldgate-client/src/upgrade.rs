//! What a server says in place of the upgrade: its status, and the problem behind it.
//!
//! In: the first bytes that were read. Out: a [`ConnectError`]. Absent: any wait; what did not come
//! with the head of the answer is not waited for.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
};

use http::StatusCode;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{endpoint::Stream, error::ConnectError, http as answers};

/// Most bytes of an answer that are kept.
const SAID_BYTES_MAX: usize = 16 << 10;

/// The first bytes that were read, while somebody keeps this.
#[derive(Default)]
pub(crate) struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// A stream whose first bytes are kept here.
    pub(crate) fn of(&self, stream: Box<dyn Stream>) -> Box<dyn Stream> {
        Box::new(Recorded { stream, said: Some(Arc::downgrade(&self.0)) })
    }

    /// Whether it began with a TLS alert: who speaks TLS tells so that it was not understood.
    pub(crate) fn is_tls_alert(&self) -> bool {
        is_tls_alert(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What an answer with this status means.
    pub(crate) fn refused(&self, status: u16) -> ConnectError {
        if status == 429 || status >= 500 {
            return ConnectError::Busy { status };
        }
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = answers::parse(&said)
            .and_then(|answer| serde_json::from_slice::<Problem>(&answer.body).ok());
        let known = StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
        let plain = format!("HTTP {status} {}", known.unwrap_or_default());
        let (code, reason) = match problem {
            Some(Problem { code, detail }) => (Some(code), detail.unwrap_or(plain)),
            None => (None, plain),
        };
        ConnectError::Refused { status: Some(status), code, reason }
    }
}

/// Whether an answer to plain text is a TLS alert (RFC 8446, section 5.1).
pub(crate) fn is_tls_alert(answer: &[u8]) -> bool {
    answer.starts_with(&[21, 3])
}

/// `application/problem+json`, as far as it is of use here.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: Option<String>,
}

/// A stream whose first bytes are kept for whoever asks.
struct Recorded {
    stream: Box<dyn Stream>,
    said: Option<Weak<Mutex<Vec<u8>>>>,
}

impl AsyncRead for Recorded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        // Nobody asks any more once the connection stands.
        let Some(said) = this.said.as_ref().and_then(Weak::upgrade) else {
            this.said = None;
            return read;
        };
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let room = SAID_BYTES_MAX.saturating_sub(said.len());
        let fresh = buf.filled().get(before..).unwrap_or_default();
        said.extend_from_slice(fresh.get(..room).unwrap_or(fresh));
        read
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_code_and_the_words_of_its_problem() {
        let told = |said: &str, status| {
            let said = Said(Arc::new(Mutex::new(said.as_bytes().to_vec())));
            let refused = said.refused(status);
            let ConnectError::Refused { code, reason, .. } = refused else { panic!("{refused:?}") };
            (code, reason)
        };
        let problem = r#"{"code":"not_found","detail":"no such tenant"}"#;
        let whole =
            format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{problem}", problem.len());
        assert_eq!(told(&whole, 404), (Some("not_found".into()), "no such tenant".into()));
        let cut = &whole[..whole.len() - 1];
        for other in [cut, "HTTP/1.1 404 Not Found\r\n\r\nnothing here", ""] {
            assert_eq!(told(other, 404), (None, "HTTP 404 Not Found".into()), "{other}");
        }
        assert!(matches!(Said::default().refused(503), ConnectError::Busy { status: 503 }));
    }
}
