//! A WebSocket client on nothing but a socket and the codec: what it sends is what the test says.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    ops::ControlFlow,
    path::Path,
    sync::Arc,
    time::Instant,
};

use fieldgate_dialects::ws::{self, Decoder, Event, Limits, Opcode};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::net::TcpSocket;

use super::LIMIT;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Frame(Value),
    Ping,
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The stream ended without a close frame.
    End,
}

/// A socket, plain or with TLS.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    seen: VecDeque<Seen>,
    /// Whether a frame is told as the text that it is, not as the JSON in it.
    as_text: bool,
}

/// Sends a GET and reads the whole answer.
pub(crate) fn get(address: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// Sends a POST with a bearer; status and the JSON that answers.
pub(crate) fn post(address: &str, path: &str, key: &str, body: &str) -> (u16, Value) {
    request(address, "POST", path, key, body)
}

/// Sends a request with a bearer; status and the JSON that answers.
pub(crate) fn request(
    address: &str,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> (u16, Value) {
    let answer = exchange(address, method, path, &format!("Authorization: Bearer {key}\r\n"), body);
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

/// What answered a request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, if there is one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl Answer {
    /// All of it but the date, to be compared.
    pub(crate) fn whole(&self) -> String {
        let dated = |line: &&str| !line.to_ascii_lowercase().starts_with("date:");
        let head: Vec<&str> = self.head.lines().filter(dated).collect();
        format!("{}\n\n{}", head.join("\n"), self.body)
    }
}

/// Sends a request with these header lines and reads the whole answer.
pub(crate) fn exchange(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    exchange_bytes(address, method, path, headers, body.as_bytes())
}

/// The same with any body.
pub(crate) fn exchange_bytes(
    address: &str,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> Answer {
    ask(socket(address).unwrap(), (method, path), headers, body)
}

/// The same from another address of this machine.
pub(crate) fn exchange_from(
    source: IpAddr,
    address: &str,
    (method, path): (&str, &str),
    headers: &str,
    body: &str,
) -> Answer {
    ask(prepared(connect_from(source, address)), (method, path), headers, body.as_bytes())
}

/// The same over TLS, by a client that trusts this certificate alone; why there is none, if so.
pub(crate) fn exchange_tls(
    address: &str,
    certificate: &Path,
    asked: (&str, &str),
    body: &str,
) -> Result<Answer, String> {
    let mut stream = socket_tls(address, certificate)?;
    // It is looked at before anything is asked.
    stream.conn.complete_io(&mut stream.sock).map_err(|e| e.to_string())?;
    Ok(ask(stream, asked, "", body.as_bytes()))
}

fn ask(
    mut stream: impl Stream,
    (method, path): (&str, &str),
    headers: &str,
    body: &[u8],
) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Whoever is refused need not be read to the end.
    let _refused = stream.write_all(body);
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Sends a POST of this JSON without a credential; status and the JSON that answers, if any.
pub(crate) fn post_open(address: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = exchange(address, "POST", path, "", &body.to_string());
    (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
}

fn socket(address: &str) -> Result<TcpStream, String> {
    TcpStream::connect(address).map(prepared).map_err(|e| e.to_string())
}

fn socket_tls(
    address: &str,
    certificate: &Path,
) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    Ok(StreamOwned::new(session, socket(address)?))
}

fn prepared(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Connects from another address of this machine: all of 127.0.0.0/8 are.
fn connect_from(source: IpAddr, address: &str) -> TcpStream {
    connect(address, |socket| socket.bind(SocketAddr::new(source, 0)))
}

fn connect(address: &str, prepare: impl FnOnce(&TcpSocket) -> io::Result<()>) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let connected = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        prepare(&socket)?;
        socket.connect(address.parse().unwrap()).await?.into_std()
    });
    let stream = connected.unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

impl Wire {
    /// Opens a connection; the answer's status line is the error where it is not 101.
    pub(crate) fn open(address: &str, path: &str, headers: &[&str]) -> Result<Self, String> {
        Self::upgrade(Box::new(socket(address)?), address, path, headers)
    }

    /// Opens a connection from another address of this machine.
    pub(crate) fn open_from(
        source: IpAddr,
        address: &str,
        path: &str,
        headers: &[&str],
    ) -> Result<Self, String> {
        Self::upgrade(Box::new(prepared(connect_from(source, address))), address, path, headers)
    }

    /// Opens a connection of which little waits in the sockets while nobody reads.
    pub(crate) fn open_narrow(address: &str, path: &str) -> Result<Self, String> {
        let stream = connect(address, |socket| socket.set_recv_buffer_size(4_096));
        Self::upgrade(Box::new(prepared(stream)), address, path, &[])
    }

    /// Opens a connection over TLS that trusts this certificate alone.
    pub(crate) fn open_tls(
        address: &str,
        certificate: &Path,
        path: &str,
        headers: &[&str],
    ) -> Result<Self, String> {
        Self::upgrade(Box::new(socket_tls(address, certificate)?), address, path, headers)
    }

    fn upgrade(
        mut stream: Box<dyn Stream>,
        address: &str,
        path: &str,
        headers: &[&str],
    ) -> Result<Self, String> {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).map_err(|e| e.to_string())? == 0 {
                return Err("the connection ended".to_owned());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.lines().next().unwrap_or_default().to_owned();
        if !status.contains("101") {
            return Err(status);
        }
        let limits =
            Limits { frame_bytes_max: 1 << 24, message_bytes_max: 1 << 24, fragment_count_max: 64 };
        Ok(Self { stream, decoder: Decoder::client(limits), seen: VecDeque::new(), as_text: false })
    }

    /// From now on frames are told as the texts that they are.
    pub(crate) fn into_text(mut self) -> Self {
        self.as_text = true;
        self
    }

    /// The next text.
    #[track_caller]
    pub(crate) fn text(&mut self) -> String {
        match self.next() {
            Value::String(text) => text,
            other => panic!("a text was expected, not {other}"),
        }
    }

    /// The bytes of a frame.
    pub(crate) fn bytes_of(frame: &Value) -> Vec<u8> {
        ws::frame_masked(Opcode::Text, frame.to_string().as_bytes(), MASK).to_vec()
    }

    pub(crate) fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string());
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.raw(&ws::frame_masked(Opcode::Text, text.as_bytes(), MASK)).unwrap();
    }

    pub(crate) fn send_binary(&mut self, bytes: &[u8]) {
        self.raw(&ws::frame_masked(Opcode::Binary, bytes, MASK)).unwrap();
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// The next thing that comes, pings aside.
    pub(crate) fn see(&mut self) -> Seen {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.seen.pop_front() {
                Some(Seen::Ping) => continue,
                Some(seen) => return seen,
                None => (),
            }
            assert!(Instant::now() < deadline, "nothing came");
            let mut buffer = vec![0; 64 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Seen::End,
                Ok(len) => self.decode(&mut buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Seen::End,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Waits for so many pings, and sees nothing else.
    pub(crate) fn pings(&mut self, count: usize) {
        while self.seen.len() < count {
            let mut buffer = vec![0; 64 * 1024];
            let len = self.stream.read(&mut buffer).expect("a ping comes");
            assert!(len > 0, "it was ended");
            self.decode(&mut buffer[..len]);
            assert!(self.seen.iter().all(|seen| *seen == Seen::Ping), "{:?}", self.seen);
        }
        self.seen.clear();
    }

    fn decode(&mut self, bytes: &mut [u8]) {
        let (seen, as_text) = (&mut self.seen, self.as_text);
        let fed = self.decoder.feed(bytes, &mut |event| {
            seen.push_back(match event {
                Event::Text(text) if as_text => Seen::Frame(text.into()),
                Event::Text(text) => Seen::Frame(serde_json::from_str(text).unwrap()),
                Event::Binary(_) => panic!("the gateway sends text alone"),
                Event::Ping(_) => Seen::Ping,
                Event::Pong(payload) => Seen::Pong(payload.to_vec()),
                Event::Close { code, .. } => Seen::Close(code),
            });
            ControlFlow::Continue(())
        });
        assert!(fed.is_ok(), "{fed:?}");
    }

    /// The next frame.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        match self.see() {
            Seen::Frame(frame) => frame,
            other => panic!("a frame was expected, not {other:?}"),
        }
    }

    /// The next frame of this type; others are passed over.
    #[track_caller]
    pub(crate) fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The close code; frames before it are passed over.
    pub(crate) fn closed(&mut self) -> Option<u16> {
        loop {
            match self.see() {
                Seen::Close(code) => return code,
                Seen::End => return None,
                Seen::Frame(_) | Seen::Ping | Seen::Pong(_) => (),
            }
        }
    }
}
