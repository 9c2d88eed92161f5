//! A TLS socket against a client of its own on the other end of a loopback connection.

use std::{
    net::{Shutdown, TcpStream as StdTcpStream},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{PrivatePkcs8KeyDer, ServerName},
    version::{TLS12, TLS13},
};

use super::*;
use crate::sink::{Sink, Socket};

const LIMIT: Duration = Duration::from_secs(20);

type Client = StreamOwned<ClientConnection, StdTcpStream>;

/// A socket with TLS, and what `client` does with the other end.
async fn with_client<T: Send + 'static>(
    version: &'static SupportedProtocolVersion,
    client: impl FnOnce(Client) -> T + Send + 'static,
) -> (Socket, JoinHandle<T>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(default_provider());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let ours = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let theirs = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        let stream = StdTcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls =
            StreamOwned::new(ClientConnection::new(Arc::new(theirs), name).unwrap(), stream);
        tls.conn.complete_io(&mut tls.sock).unwrap();
        client(tls)
    });
    let (stream, _) = listener.accept().await.unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(ours));
    let (stream, session) = acceptor.accept(stream).await.unwrap().into_inner();
    let sink = Sink::Tls(stream.into_std().unwrap(), Box::new(session));
    (sink.into_socket().unwrap(), client)
}

/// Reads into a buffer of this size until the end or an error.
async fn read_all(socket: &Socket, buffer_len: usize) -> (Vec<u8>, io::Result<()>) {
    let (mut all, mut buffer) = (Vec::new(), vec![0; buffer_len]);
    loop {
        tokio::time::timeout(LIMIT, socket.readable()).await.unwrap().unwrap();
        match socket.try_read(&mut buffer) {
            Ok(0) => return (all, Ok(())),
            Ok(len) => all.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(error) => return (all, Err(error)),
        }
    }
}

/// Writes everything and waits until it is gone.
async fn write_all(socket: &Socket, bytes: &[u8]) {
    let mut taken = 0;
    while taken < bytes.len() || socket.has_unsent() {
        tokio::time::timeout(LIMIT, socket.writable()).await.unwrap().unwrap();
        match socket.try_write(&bytes[taken..]) {
            Ok(len) => taken += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(error) => panic!("{error}"),
        }
        socket.try_send().unwrap();
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_slow_reader_gets_everything_and_little_is_encrypted_ahead() {
    let wanted = pattern(8 << 20);
    let all = wanted.clone();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (socket, client) = with_client(&TLS13, move |mut tls| {
        wait.recv().unwrap();
        let mut got = vec![0; all.len()];
        for chunk in got.chunks_mut(7_000) {
            tls.read_exact(chunk).unwrap();
        }
        got == all
    })
    .await;
    // Until the socket is full: what it did not take is bounded, and nothing more is taken.
    socket.writable().await.unwrap();
    let mut taken = 0;
    while let Ok(len) = socket.try_write(&wanted[taken..]) {
        taken += len;
    }
    assert!(taken > 0 && taken < wanted.len() && socket.has_unsent());
    let Socket::Tls(tls) = &socket else { panic!("not TLS") };
    let mut unsent = Vec::new();
    while tls.session.borrow().wants_write() {
        tls.session.borrow_mut().write_tls(&mut unsent).unwrap();
    }
    assert!(unsent.len() <= UNSENT_BYTES_MAX + 4_096, "{} bytes", unsent.len());
    // They are the client's next bytes all the same.
    go.send(()).unwrap();
    let stream = tls.stream();
    let mut sent = 0;
    while sent < unsent.len() {
        stream.writable().await.unwrap();
        sent += stream.try_write(&unsent[sent..]).unwrap_or(0);
    }
    write_all(&socket, &wanted[taken..]).await;
    assert!(client.join().unwrap());
}

#[tokio::test]
async fn plain_bytes_beyond_the_buffer_come_without_another_event() {
    for version in [&TLS12, &TLS13] {
        let (socket, client) = with_client(version, |mut tls| {
            tls.write_all(&pattern(100_000)).unwrap();
            // Held open: no end of the stream may wake the reader.
            assert_eq!(tls.read(&mut [0; 8]).unwrap(), 2);
        })
        .await;
        let (mut all, mut buffer) = (Vec::new(), [0; 1_000]);
        while all.len() < 100_000 {
            tokio::time::timeout(LIMIT, socket.readable()).await.unwrap().unwrap();
            match socket.try_read(&mut buffer) {
                Ok(len) => all.extend_from_slice(&buffer[..len]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!(all, pattern(100_000));
        write_all(&socket, b"ok").await;
        client.join().unwrap();
    }
}

#[tokio::test]
async fn an_end_with_or_without_close_notify_is_an_end() {
    for polite in [true, false] {
        let (socket, client) = with_client(&TLS13, move |mut tls| {
            tls.write_all(b"last words").unwrap();
            if polite {
                tls.conn.send_close_notify();
                tls.flush().unwrap();
            } else {
                tls.sock.shutdown(Shutdown::Write).unwrap();
            }
            // Half of the connection is closed; the other still carries bytes.
            let mut rest = Vec::new();
            tls.read_to_end(&mut rest).unwrap();
            rest
        })
        .await;
        let (all, end) = read_all(&socket, 64 * 1024).await;
        assert_eq!((all.as_slice(), end.is_ok()), (&b"last words"[..], true));
        write_all(&socket, b"answer").await;
        socket.end();
        drop(socket);
        assert_eq!(client.join().unwrap(), b"answer");
    }
}

#[tokio::test]
async fn garbage_is_an_error_behind_what_came_before_it() {
    let (socket, client) = with_client(&TLS13, |mut tls| {
        tls.write_all(b"sound").unwrap();
        tls.sock.write_all(b"\x17\x03\x03\x00\x20 these are no encrypted bytes...").unwrap();
        let mut rest = Vec::new();
        tls.read_to_end(&mut rest).unwrap_err().to_string()
    })
    .await;
    let (all, end) = read_all(&socket, 64 * 1024).await;
    assert_eq!(all, b"sound");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(client.join().unwrap().contains("BadRecordMac"), "the alert tells the peer");
}

#[tokio::test]
async fn both_sides_may_change_their_keys() {
    let (socket, client) = with_client(&TLS13, |mut tls| {
        for _ in 0..3 {
            tls.conn.refresh_traffic_keys().unwrap();
            tls.write_all(b"hello").unwrap();
            let mut answer = [0; 5];
            tls.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"world");
        }
    })
    .await;
    let Socket::Tls(tls) = &socket else { panic!("not TLS") };
    let mut buffer = [0; 64];
    for _ in 0..3 {
        let mut got = 0;
        while got < 5 {
            tokio::time::timeout(LIMIT, socket.readable()).await.unwrap().unwrap();
            got += socket.try_read(&mut buffer).unwrap_or(0);
        }
        tls.session.borrow_mut().refresh_traffic_keys().unwrap();
        write_all(&socket, b"world").await;
    }
    client.join().unwrap();
    assert_eq!(read_all(&socket, 64).await.0, b"");
}
