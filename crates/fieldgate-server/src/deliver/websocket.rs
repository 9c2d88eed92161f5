//! A target that takes batches over a WebSocket that we open: a frame a batch, and a ping behind it.
//!
//! Such a target acknowledges nothing. The pong of a ping that names the batch says that its machine
//! read everything before; so a batch counts as taken then. Bounded: a connection is made within a
//! time, silence ends it, and what the peer sends is read, bounded, and ignored. Absent: any retry;
//! `core::delivery` decides about that.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use fieldgate_core::delivery::Outcome;
use futures_util::{Sink, SinkExt as _, Stream as _};
use http::Uri;
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_websockets::{
    ClientBuilder, CloseCode, Error, Limits, Message, WebSocketStream, upgrade,
};

use super::target::{Aim, Failure, Parcel};

/// Largest frame of the peer; a larger one ends the connection.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Most bytes of the answer to our request for a WebSocket.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// How long a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long the end of a connection may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);
/// What a ping says that is behind no batch.
const AT_REST: &[u8] = b"fieldgate";

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// How patient we are with a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// A ping at least this often.
    pub(crate) ping: Duration,
    /// So long without a pong, and the connection is broken.
    pub(crate) silence: Duration,
}

/// A target that takes a WebSocket.
#[derive(Clone)]
pub(crate) struct WebSocketTarget {
    aim: Arc<Aim>,
    uri: Uri,
    tls: Option<Arc<ClientConfig>>,
    patience: Patience,
}

impl std::fmt::Debug for WebSocketTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketTarget").field("aim", &self.aim).finish_non_exhaustive()
    }
}

/// A connection to a target.
pub(crate) struct WebSocketLink {
    socket: WebSocketStream<Measured>,
    aim: Arc<Aim>,
    patience: Patience,
    /// When the last pong came, or the connection was made.
    heard: Instant,
    pinged: Instant,
}

impl std::fmt::Debug for WebSocketLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebSocketLink").field("aim", &self.aim).finish_non_exhaustive()
    }
}

impl WebSocketTarget {
    /// Makes ready. Reads the system's certificates: not for a worker.
    ///
    /// # Errors
    ///
    /// The system has no certificates to trust, or the URL is none for a WebSocket.
    pub(crate) fn new(aim: Aim, patience: Patience) -> Result<Self, io::Error> {
        let tls = if aim.url.scheme() == "wss" {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .and_then(rustls::ConfigBuilder::with_platform_verifier)
                .map_err(io::Error::other)?;
            Some(Arc::new(config.with_no_client_auth()))
        } else {
            None
        };
        let uri = aim.url.as_str().parse().map_err(io::Error::other)?;
        Ok(Self { aim: Arc::new(aim), uri, tls, patience })
    }

    /// Makes a connection.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(crate) async fn connect(&self) -> Result<WebSocketLink, Failure> {
        let limit = CONNECT_TIME.min(self.patience.silence);
        let late = |_| Failure::failed("no connection was made in time");
        let socket = timeout(limit, self.open()).await.map_err(late)??;
        let (aim, patience) = (Arc::clone(&self.aim), self.patience);
        Ok(WebSocketLink { socket, aim, patience, heard: Instant::now(), pinged: Instant::now() })
    }

    async fn open(&self) -> Result<WebSocketStream<Measured>, Failure> {
        let unreachable = |error: io::Error| {
            let barred = error.kind() == io::ErrorKind::PermissionDenied;
            let outcome = if barred { Outcome::Barred } else { Outcome::Failed };
            Failure::new(outcome, format!("it could not be reached: {error}"))
        };
        let host = self.aim.url.host_str().unwrap_or_default();
        let port = self.aim.url.port_or_known_default().unwrap_or(80);
        let mut addresses = self.aim.guarded.addresses(host).await.map_err(unreachable)?;
        addresses.iter_mut().for_each(|address| address.set_port(port));
        let tcp = TcpStream::connect(&*addresses).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let stream: Box<dyn Both> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(name).map_err(io::Error::other);
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                let name = name.map_err(unreachable)?;
                Box::new(connector.connect(name, tcp).await.map_err(unreachable)?)
            }
        };
        let limits = Limits::default().max_payload_len(Some(FRAME_BYTES_MAX));
        let mut builder = ClientBuilder::from_uri(self.uri.clone()).limits(limits);
        if let Some((name, value)) = &self.aim.header {
            builder =
                builder.add_header(name.clone(), value.clone()).map_err(|error| refused(&error))?;
        }
        let stream = Measured { stream, left: Some(ANSWER_BYTES_MAX) };
        let (mut socket, _) = builder.connect_on(stream).await.map_err(|error| refused(&error))?;
        socket.get_mut().left = None;
        Ok(socket)
    }
}

/// Why our request for a WebSocket was not granted.
fn refused(error: &Error) -> Failure {
    let Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status)) = error else {
        return Failure::failed(format!("no WebSocket was opened: {error}"));
    };
    let outcome = match status {
        300..=399 | 401 | 403 | 407 => Outcome::Barred,
        _ => Outcome::Failed,
    };
    let more = if (300..400).contains(status) { ", and redirects are not followed" } else { "" };
    Failure::new(outcome, format!("it answered with status {status}{more}"))
}

impl WebSocketLink {
    /// Sends a batch, and waits until the peer read it.
    ///
    /// # Errors
    ///
    /// [`Failure`]: the connection is broken, and whether the batch came is not known.
    pub(crate) async fn deliver(&mut self, parcel: Parcel) -> Result<(), Failure> {
        let name = Bytes::from(parcel.name);
        self.ask(Some(Message::text(parcel.body)), name).await
    }

    /// Sends nothing but a ping, and waits for its pong.
    ///
    /// # Errors
    ///
    /// [`Failure`]: the connection is broken.
    pub(crate) async fn prove(&mut self) -> Result<(), Failure> {
        self.ask(None, Bytes::from_static(AT_REST)).await
    }

    async fn ask(&mut self, text: Option<Message>, name: Bytes) -> Result<(), Failure> {
        self.pinged = Instant::now();
        let is_batch = text.is_some();
        let mut outgoing = vec![Message::ping(name.clone())];
        outgoing.extend(text);
        let deadline = self.pinged + self.patience.silence;
        let came = loop {
            let turn = poll_fn(|cx| self.turn(cx, &mut outgoing));
            match timeout_at(deadline, turn).await {
                Err(_late) => break Err(Failure::failed("no pong came in time")),
                Ok(Ok(message)) if is_pong_of(&message, &name) => break Ok(()),
                Ok(Ok(message)) => {
                    if let Some(failure) = self.closed(&message, is_batch).await {
                        break Err(failure);
                    }
                }
                Ok(Err(failure)) => break Err(failure),
            }
        };
        self.heard = Instant::now();
        came
    }

    /// Rests until the connection breaks, with a ping now and again. Cancel safe.
    pub(crate) async fn rest(&mut self) -> Failure {
        loop {
            let next_ping = self.pinged + self.patience.ping;
            let is_ping_due = Instant::now() >= next_ping;
            let mut outgoing = Vec::new();
            if is_ping_due {
                self.pinged = Instant::now();
                outgoing.push(Message::ping(AT_REST));
            }
            let until = (self.heard + self.patience.silence).min(self.pinged + self.patience.ping);
            let turn = poll_fn(|cx| self.turn(cx, &mut outgoing));
            tokio::select! {
                biased;
                message = turn => match message {
                    Ok(message) => {
                        if message.is_pong() {
                            self.heard = Instant::now();
                        }
                        if let Some(failure) = self.closed(&message, false).await {
                            return failure;
                        }
                    }
                    Err(failure) => return failure,
                },
                () = sleep_until(until) => {
                    if Instant::now() >= self.heard + self.patience.silence {
                        return Failure::failed("it was silent for too long");
                    }
                }
            }
        }
    }

    /// Says goodbye; the peer may take a moment to hear it.
    pub(crate) async fn close(mut self) {
        let message = Message::close(Some(CloseCode::GOING_AWAY), "");
        // Whoever does not listen any more hears nothing.
        let _late = timeout(CLOSE_TIME, self.socket.send(message)).await;
    }

    /// Writes what is to go out, the last first, and reads, both at once: two peers whose buffers are
    /// full never wait for each other.
    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &mut Vec<Message>,
    ) -> Poll<Result<Message, Failure>> {
        let broken = |error: Error| Failure::failed(format!("the connection broke: {error}"));
        let mut socket = Pin::new(&mut self.socket);
        let mut is_written = true;
        while let Some(message) = outgoing.pop() {
            match socket.as_mut().poll_ready(cx) {
                Poll::Ready(ready) => {
                    ready.and_then(|()| socket.as_mut().start_send(message)).map_err(broken)?;
                }
                Poll::Pending => {
                    outgoing.push(message);
                    is_written = false;
                    break;
                }
            }
        }
        if is_written && let Poll::Ready(Err(error)) = socket.as_mut().poll_flush(cx) {
            return Poll::Ready(Err(broken(error)));
        }
        match ready!(socket.poll_next(cx)) {
            Some(Ok(message)) => Poll::Ready(Ok(message)),
            Some(Err(error)) => Poll::Ready(Err(broken(error))),
            None => Poll::Ready(Err(Failure::failed("it ended the connection"))),
        }
    }

    /// What a close frame means, once it is answered; nothing, if it is none.
    async fn closed(&mut self, message: &Message, has_batch: bool) -> Option<Failure> {
        let (code, reason) = message.as_close()?;
        let code = u16::from(code);
        let outcome = outcome_of(code, has_batch);
        let reason = self.aim.told(reason.as_bytes());
        let text = format!("it closed the connection with {code}");
        let text = if reason.is_empty() { text } else { format!("{text}: {reason}") };
        // The answer was made when the frame was read; whoever is gone does not hear it.
        let _late = timeout(CLOSE_TIME, self.socket.flush()).await;
        Some(Failure::new(outcome, text))
    }
}

fn is_pong_of(message: &Message, name: &Bytes) -> bool {
    message.is_pong() && **message.as_payload() == **name
}

/// What a close code means for the batch that is under way.
const fn outcome_of(code: u16, has_batch: bool) -> Outcome {
    match code {
        // Data it cannot accept, cannot read, or that are too much.
        1003 | 1007 | 1009 if has_batch => Outcome::Refused,
        // A policy; and what servers say whose own codes follow those of HTTP.
        1008 | 3000 | 3003 | 4001 | 4003 | 4401 | 4403 => Outcome::Barred,
        _ => Outcome::Failed,
    }
}

/// A stream of which no more than so much is read while there is a limit.
struct Measured {
    stream: Box<dyn Both>,
    left: Option<usize>,
}

impl AsyncRead for Measured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == Some(0) {
            return Poll::Ready(Err(io::Error::other("its answer is too long")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len().saturating_sub(before);
        self.left = self.left.map(|left| left.saturating_sub(read));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Measured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
