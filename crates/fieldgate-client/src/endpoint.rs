//! Where the server is and how to get there: an address in, an authenticated socket out.
//!
//! Absent: any retry; `link` decides about that. Every wait has a limit.

use std::{
    future::poll_fn,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fieldgate_core::id::DeviceId;
use fieldgate_dialects::native::client::{self as wire, ServerFrame, Signer};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue, Uri, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_websockets::{ClientBuilder, Limits, Message, WebSocketStream};

use crate::{buffer::Frame, error::ConnectError, upgrade::Said};

/// The subprotocol that this SDK speaks.
pub(crate) const SUBPROTOCOL: &str = "fieldgate.v1.json";
/// A frame of the server above this ends the connection.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// Where systems keep the certificates they trust.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Everything that an attempt needs.
#[derive(Clone)]
pub(crate) struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    pub(crate) token: Option<String>,
    device: Option<DeviceId>,
    signer: Option<Signer>,
    pub(crate) timeout: Duration,
}

/// What a client shows who it is with.
#[derive(Clone, Default)]
pub(crate) struct Credential {
    pub(crate) token: Option<String>,
    pub(crate) device: Option<String>,
    /// A secret that is never sent.
    pub(crate) hmac: Option<String>,
    pub(crate) tenant: Option<String>,
}

/// Never prints the token.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Which certificates are trusted.
#[derive(Debug, Clone, Default)]
pub(crate) enum Trust {
    /// The system's.
    #[default]
    System,
    /// These, as PEM.
    Pem(Vec<u8>),
    /// As this configuration says.
    Config(Arc<ClientConfig>),
}

impl Endpoint {
    pub(crate) fn new(
        url: &str,
        credential: Credential,
        trust: &Trust,
        timeout: Duration,
    ) -> Result<Self, ConnectError> {
        let bad = |text: String| ConnectError::Address(text);
        let uri: Uri = url.parse().map_err(|e| bad(format!("{url:?} is no URL: {e}")))?;
        let secure = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            _ => {
                return Err(bad(format!(
                    "{url:?} must start with ws://, wss://, http:// or https://"
                )));
            }
        };
        let host = uri.host().filter(|h| !h.is_empty());
        let host = host.ok_or_else(|| bad(format!("{url:?} names no host")))?.to_owned();
        // Credentials in the address would end in logs; the token has its own place.
        let authority = uri.authority().map_or("", |a| a.as_str());
        if authority.contains('@') {
            return Err(bad("no credentials belong into the address: it ends in logs".to_owned()));
        }
        let port =
            port_of(&uri).ok_or_else(|| bad(format!("{url:?} has no port of 1 to 65535")))?;
        let port = port.unwrap_or(if secure { 443 } else { 80 });
        let Credential { token, device, hmac, tenant } = credential;
        let device = device.as_deref().map(str::parse::<DeviceId>).transpose();
        let device = device.map_err(|e| bad(e.to_string()))?;
        // It stands in a header; the token of a device does not.
        let is_visible = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
        if device.is_none() && !token.as_ref().is_none_or(is_visible) {
            return Err(bad("the token holds more than visible ASCII characters".to_owned()));
        }
        let tenant = tenant.unwrap_or_else(|| "default".to_owned());
        let signer = match (hmac, &device, &token) {
            (None, _, _) => None,
            (Some(secret), Some(device), None) => {
                Some(Signer::new(tenant, device.as_str(), &secret))
            }
            (Some(_), _, _) => {
                return Err(bad("hmac() takes a device(), and no token()".to_owned()));
            }
        };
        let tls = if secure { Some(client_config(trust)?) } else { None };
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let path = if path == "/" { "/ws" } else { path };
        let scheme = if secure { "wss" } else { "ws" };
        let uri = format!("{scheme}://{authority}{path}");
        let uri = uri.parse().map_err(|e| bad(format!("{url:?} is no URL: {e}")))?;
        Ok(Self { uri, host, port, tls, token, device, signer, timeout })
    }

    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Host and port as the URL has them.
    pub(crate) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// One attempt, up to the server's word that the identity holds. Says the log's epoch.
    pub(crate) async fn connect(&self) -> Result<(Socket, String), ConnectError> {
        let deadline = Instant::now() + self.timeout;
        let timed_out = |_| ConnectError::TimedOut { address: self.address() };
        let stream = timeout_at(deadline, self.stream()).await.map_err(timed_out)??;
        timeout_at(deadline, self.handshake(stream)).await.map_err(timed_out)?
    }

    pub(crate) async fn stream(&self) -> Result<Box<dyn Stream>, ConnectError> {
        let unreachable = |cause: io::Error| ConnectError::Unreachable {
            address: self.address(),
            cause: Arc::new(cause),
        };
        // The brackets of an IPv6 address belong to the URL alone.
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, self.port)).await.map_err(unreachable)?;
        let _ = tcp.set_nodelay(true);
        let Some(config) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| ConnectError::Address(format!("{host:?} is no server name: {e}")))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let failed = |error: io::Error| {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let address = self.address();
            match inner {
                None => unreachable(error),
                Some(rustls::Error::InvalidMessage(_)) => ConnectError::NoTls { address },
                Some(inner) => ConnectError::Tls { address, reason: inner.to_string() },
            }
        };
        let tls = connector.connect(name, tcp).await.map_err(failed)?;
        Ok(Box::new(tls))
    }

    async fn handshake(&self, stream: Box<dyn Stream>) -> Result<(Socket, String), ConnectError> {
        let limits = Limits::default().max_payload_len(Some(FRAME_BYTES_MAX));
        let mut builder = ClientBuilder::from_uri(self.uri.clone()).limits(limits);
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        let mut headers = vec![(header::SEC_WEBSOCKET_PROTOCOL, protocol)];
        let invalid = |_| ConnectError::Address("the token holds control characters".to_owned());
        match (&self.token, &self.device) {
            (Some(token), None) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {token}")).map_err(invalid)?;
                value.set_sensitive(true);
                headers.push((header::AUTHORIZATION, value));
            }
            (_, Some(device)) => {
                let value = HeaderValue::from_str(device.as_str()).map_err(invalid)?;
                headers.push((HeaderName::from_static("device-id"), value));
            }
            (None, None) => (),
        }
        for (name, value) in headers {
            builder = builder.add_header(name, value).map_err(|e| self.failed(e))?;
        }
        let said = Said::default();
        let connected = builder.connect_on(said.of(stream)).await;
        let (mut socket, response) = connected.map_err(|e| self.not_upgraded(&said, e))?;
        drop(said);
        let spoken = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
        if spoken.is_none_or(|p| p != SUBPROTOCOL) {
            return Err(ConnectError::Protocol(format!("it does not offer {SUBPROTOCOL}")));
        }
        let auth = match (&self.signer, &self.device, &self.token) {
            (Some(signer), _, _) => Some(signer.auth(now_ms(), &nonce())),
            (None, Some(device), Some(token)) => {
                Some(wire::encode_auth(Some(device.as_str()), token))
            }
            (None, _, _) => None,
        };
        if let Some(auth) = auth {
            socket.send(Message::text(auth)).await.map_err(|e| self.failed(e))?;
        }
        let epoch = self.welcome(&mut socket).await?;
        Ok((socket, epoch))
    }

    /// Reads up to the answer to the credential, which is always the first frame.
    async fn welcome(&self, socket: &mut Socket) -> Result<String, ConnectError> {
        loop {
            let message = match socket.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(self.failed(error)),
                None => {
                    return Err(self.failed(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
                }
            };
            if let Some((code, reason)) = message.as_close() {
                let (code, reason) = (u16::from(code), reason.to_owned());
                return Err(if code == 4403 {
                    ConnectError::Refused { status: None, code: None, reason }
                } else {
                    ConnectError::Closed { code, reason }
                });
            }
            let Some(text) = message.as_text() else { continue };
            return match wire::decode_server_frame(text) {
                Ok(ServerFrame::Auth { ok: true, epoch }) => Ok(epoch),
                Ok(ServerFrame::Auth { ok: false, .. }) => Err(ConnectError::Refused {
                    status: None,
                    code: None,
                    reason: "Authentication failed".to_owned(),
                }),
                _ => Err(ConnectError::Protocol("it did not begin with auth_response".to_owned())),
            };
        }
    }

    /// Whether frames are signed.
    pub(crate) const fn signs(&self) -> bool {
        self.signer.is_some()
    }

    /// A frame as it goes out, signed anew each time.
    pub(crate) fn message(&self, frame: Frame) -> Message {
        match (frame, &self.signer) {
            (Frame::Binary(bytes), _) => Message::binary(bytes),
            (Frame::Text(bytes), None) => Message::text(bytes),
            (Frame::Text(bytes), Some(signer)) => {
                let plain = std::str::from_utf8(&bytes).unwrap_or_default();
                match signer.envelope(plain, now_ms(), &nonce()) {
                    Ok(envelope) => Message::text(envelope),
                    // The server says why it takes no such frame.
                    Err(_) => Message::text(bytes),
                }
            }
        }
    }

    fn not_upgraded(&self, said: &Said, error: tokio_websockets::Error) -> ConnectError {
        use tokio_websockets::{Error, upgrade};
        if let Error::Upgrade(upgrade::Error::DidNotSwitchProtocols(status)) = error {
            return said.refused(status);
        }
        if said.is_tls_alert() {
            return ConnectError::OnlyTls { address: self.address() };
        }
        self.failed(error)
    }

    fn failed(&self, error: tokio_websockets::Error) -> ConnectError {
        if let tokio_websockets::Error::Io(cause) = error {
            let (address, cause) = (self.address(), Arc::new(cause));
            return ConnectError::Unreachable { address, cause };
        }
        ConnectError::Protocol(error.to_string())
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What no other frame has.
fn nonce() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// The port that an address names, if it names one; nothing if what it names is none.
fn port_of(uri: &Uri) -> Option<Option<u16>> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let behind = authority.rsplit_once(']').map_or(authority, |(_, behind)| behind);
    match behind.split_once(':') {
        None | Some((_, "")) => Some(None),
        Some(_) => uri.port_u16().filter(|port| *port > 0).map(Some),
    }
}

fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, ConnectError> {
    let roots = match trust {
        Trust::Config(config) => return Ok(Arc::clone(config)),
        Trust::Pem(pem) => roots_of(pem)?,
        Trust::System => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ConnectError::Address(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots_of(pem: &[u8]) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    let (added, _unusable) =
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
    if added == 0 {
        return Err(ConnectError::Address("no usable certificate to trust was found".to_owned()));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, ConnectError> {
    let chosen = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let bundle = match &chosen {
        Some(path) => Some(Path::new(path)),
        None => SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists()),
    };
    let bundle = bundle.ok_or_else(|| {
        ConnectError::Address("this system keeps no certificates: set SSL_CERT_FILE".to_owned())
    })?;
    let pem = std::fs::read(bundle).map_err(|e| {
        ConnectError::Address(format!("{} could not be read: {e}", bundle.display()))
    })?;
    roots_of(&pem)
}

/// What one turn of the socket brought.
pub(crate) enum Turn {
    /// Everything written is out.
    Flushed,
    /// A message, an error, or the end.
    Read(Option<Result<Message, tokio_websockets::Error>>),
}

/// Flushes (if `dirty`) and reads (if `reading`) at the same time, so that two peers whose buffers
/// are full never wait for each other. Cancel safe.
pub(crate) async fn turn(socket: &mut Socket, dirty: bool, reading: bool) -> Turn {
    poll_fn(|cx| {
        use std::task::Poll;
        if dirty {
            match socket.poll_flush_unpin(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Turn::Flushed),
                Poll::Ready(Err(error)) => return Poll::Ready(Turn::Read(Some(Err(error)))),
                Poll::Pending => (),
            }
        }
        if reading {
            return futures_util::Stream::poll_next(Pin::new(&mut *socket), cx).map(Turn::Read);
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, token: Option<&str>) -> Result<Endpoint, ConnectError> {
        let credential = Credential { token: token.map(str::to_owned), ..Credential::default() };
        Endpoint::new(url, credential, &Trust::System, Duration::from_secs(1))
    }

    #[test]
    fn a_port_is_what_the_address_says_or_the_schemes_own() {
        let port = |url: &str| endpoint(url, None).ok().map(|endpoint| endpoint.port);
        for (url, expected) in [
            ("http://h", Some(80)),
            ("http://h:", Some(80)),
            ("http://h:8080", Some(8_080)),
            ("ws://[::1]", Some(80)),
            ("ws://[::1]:65535/ws", Some(65_535)),
            ("http://127.0.0.1:99999", None),
            ("http://[::1]:65536", None),
            ("http://h:0", None),
            ("http://h:x", None),
            ("http://me:secret@h", None),
        ] {
            assert_eq!(port(url), expected, "{url}");
        }
    }

    #[test]
    fn a_token_that_no_header_takes_is_refused_before_anything_is_sent() {
        assert!(endpoint("http://h", Some("fg_k_1")).is_ok());
        for token in ["a b", "a\n", "\u{e4}", "\u{7f}"] {
            assert!(
                matches!(endpoint("http://h", Some(token)), Err(ConnectError::Address(_))),
                "{token:?}"
            );
        }
    }
}
