//! The load generator: WebSocket clients without a task or thread each, plain or TLS.
//!
//! [`Link`] opens with blocking calls, then serves from one epoll loop, [`Crowd`]. Absent: checks of
//! what the server says, beyond what a measurement needs to be valid.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use fieldgate_dialects::ws::{Decoder, Event, Limits, Opcode, frame_masked};
use rustix::event::epoll;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// How long any single step may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Of a frame that anybody sends here.
pub(crate) const LIMITS: Limits =
    Limits { frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20, fragment_count_max: 1 };

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.sock,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => {
                let len = tls.write(bytes)?;
                match tls.flush() {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
                    _ => Ok(len),
                }
            }
        }
    }
}

/// One client connection.
pub(crate) struct Link {
    stream: Stream,
    decoder: Decoder,
    unsent: Vec<u8>,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.socket().as_fd()
    }
}

impl Link {
    /// Opens a bare TCP connection, for rivals without a handshake.
    pub(crate) fn raw(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stream = Stream::Plain(socket);
        Ok(Self { stream, decoder: Decoder::client(LIMITS), unsent: Vec::new() })
    }

    /// Opens a WebSocket at `path` that offers one subprotocol.
    pub(crate) fn open(address: SocketAddr, tls: bool, path: &str, protocol: &str) -> Result<Self> {
        let mut link = Self::raw(address)?;
        if let (true, Stream::Plain(socket)) = (tls, &link.stream) {
            let name = ServerName::try_from("localhost")?;
            let session = ClientConnection::new(tls_config()?, name)?;
            let socket = socket.try_clone()?;
            link.stream = Stream::Tls(Box::new(StreamOwned::new(session, socket)));
        }
        let protocol = match protocol {
            "" => String::new(),
            named => format!("Sec-WebSocket-Protocol: {named}\r\n"),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             {protocol}\r\n"
        );
        link.send_raw(request.as_bytes())?;
        // The server speaks only after the client here, so that nothing follows the blank line.
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            if link.stream.read(&mut byte)? == 0 {
                bail!("closed in the handshake: {}", String::from_utf8_lossy(&answer));
            }
            answer.extend_from_slice(&byte);
        }
        if !answer.starts_with(b"HTTP/1.1 101") {
            bail!("no upgrade: {}", String::from_utf8_lossy(&answer));
        }
        Ok(link)
    }

    /// Sends one text frame.
    pub(crate) fn send_text(&mut self, text: &str) -> Result<()> {
        self.send_raw(&frame_masked(Opcode::Text, text.as_bytes(), [7, 1, 3, 9]))
    }

    /// Sends bytes as they are; what the socket does not take is kept for [`Self::flush`].
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    /// Sends what is left.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }

    /// Waits, blocking, for a text frame that contains `wanted`, and returns it.
    pub(crate) fn wait_text(&mut self, wanted: &str) -> Result<String> {
        let mut scratch = vec![0; 64 * 1024];
        let mut found = None;
        let mut seen = String::new();
        while found.is_none() {
            let open = self.read_events(&mut scratch, &mut |event| {
                if let Event::Text(text) = event {
                    seen = text.to_owned();
                    if text.contains(wanted) {
                        found = Some(text.to_owned());
                    }
                }
            })?;
            if !open {
                bail!("closed while waiting for {wanted}; last: {seen}");
            }
        }
        found.context("nothing found")
    }

    /// Reads what is there into `on_event`; `false` when nothing more will come.
    pub(crate) fn read_events(
        &mut self,
        scratch: &mut [u8],
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<bool> {
        let Some(bytes) = self.read_raw(scratch)? else { return Ok(true) };
        let open = !bytes.is_empty();
        let mut closed = false;
        let flow = self.decoder.feed(bytes, &mut |event| {
            closed |= matches!(event, Event::Close { .. });
            on_event(event);
            ControlFlow::Continue(())
        });
        let flow = flow.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        Ok(open && !closed && flow.is_continue())
    }

    /// Reads bytes; `None` if none are there now, empty at the end.
    pub(crate) fn read_raw<'a>(&mut self, scratch: &'a mut [u8]) -> Result<Option<&'a mut [u8]>> {
        match self.stream.read(scratch) {
            Ok(len) => Ok(Some(scratch.get_mut(..len).unwrap_or_default())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens a native connection and authenticates it.
pub(crate) fn native(
    address: SocketAddr,
    tls: bool,
    device: Option<&str>,
    token: &str,
) -> Result<Link> {
    let mut link = Link::open(address, tls, "/ws", "fieldgate.v1.json")?;
    link.send_text(&fieldgate_dialects::native::client::encode_auth(device, token))?;
    link.wait_text("\"status\":\"success\"")?;
    Ok(link)
}

/// Subscribes and waits for the answer.
pub(crate) fn subscribe(link: &mut Link, topic: &str, qos: u8) -> Result<()> {
    link.send_text(&format!(r#"{{"type":"subscribe","topic":"{topic}","qos":{qos}}}"#))?;
    link.wait_text("\"type\":\"subscribed\"").map(drop)
}

/// Many links in one epoll loop.
pub(crate) struct Crowd {
    pub(crate) links: Vec<Link>,
    epoll: OwnedFd,
    scratch: Vec<u8>,
    /// Asks again at once when nothing came.
    spins: bool,
}

impl Crowd {
    /// The same for a crowd that never sleeps: a server that answers slower than it asks would pay for
    /// waking it, and a faster one would not.
    pub(crate) fn spinning(links: Vec<Link>) -> Result<Self> {
        Ok(Self { spins: true, ..Self::new(links)? })
    }

    /// Takes opened links; from here on they do not block.
    pub(crate) fn new(links: Vec<Link>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, link) in (0..).zip(&links) {
            link.stream.socket().set_nonblocking(true)?;
            let flags = epoll::EventFlags::IN;
            epoll::add(&epoll, link, epoll::EventData::new_u64(number), flags)?;
        }
        Ok(Self { links, epoll, scratch: vec![0; 256 * 1024], spins: false })
    }

    /// Serves readable links until `on_link` says that it has enough.
    ///
    /// `on_link` gets the link's index, the link, and a scratch area; it must read once.
    pub(crate) fn run(
        &mut self,
        mut on_link: impl FnMut(usize, &mut Link, &mut [u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut events = Vec::with_capacity(1024);
        let mut heard = Instant::now();
        loop {
            events.clear();
            let timeout = rustix::time::Timespec { tv_sec: i64::from(!self.spins), tv_nsec: 0 };
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&timeout),
            ) {
                Ok(0) if heard.elapsed() > PATIENCE => bail!("nothing came for {PATIENCE:?}"),
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => heard = Instant::now(),
                Err(error) => return Err(error.into()),
            }
            let mut enough = false;
            for event in &events {
                let number = usize::try_from(event.data.u64())?;
                let link = self.links.get_mut(number).context("no such link")?;
                enough |= on_link(number, link, &mut self.scratch)?.is_break();
            }
            if enough {
                return Ok(());
            }
        }
    }
}

/// TLS that takes any certificate: the measurement trusts its own child process.
fn tls_config() -> Result<Arc<ClientConfig>> {
    static CONFIG: std::sync::OnceLock<Arc<ClientConfig>> = std::sync::OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions()?.dangerous();
    let config = builder.with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
    let config = Arc::new(config.with_no_client_auth());
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
