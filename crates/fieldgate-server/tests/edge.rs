//! The edge over real sockets: what a peer gets before it is anybody.
//!
//! In: raw bytes on a port that the system chose. Out: status lines, headers, and the end of the
//! connection. No WebSocket frame is looked at here beyond the upgrade.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking"
)]

use std::{net::SocketAddr, time::Duration};

use fieldgate_server::{Config, Running, Sources, StartOptions, config, start};
use fieldgate_store::{Store, StoreOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(10);
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

struct Gateway {
    running: Running,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

fn configured(pairs: &[&str]) -> Config {
    let mut set = vec!["listen.http=127.0.0.1:0".to_owned(), "drain.grace_ms=0".to_owned()];
    set.extend(pairs.iter().map(|pair| (*pair).to_owned()));
    config::load(&Sources { set, ..Sources::default() }).unwrap()
}

async fn gateway(pairs: &[&str], self_signed: bool) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let mut options = StoreOptions::default();
    options.log.free_bytes_min = 0;
    let store = Store::open(folder.path(), options).unwrap();
    let options = StartOptions { self_signed, worker_count: 1 };
    let running = start(configured(pairs), store, options).await.unwrap();
    let address = running.listeners()["http"][0];
    Gateway { running, address, _folder: folder }
}

impl Gateway {
    /// Sends these bytes on a new connection and reads until the peer ends or a head is whole.
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        head(&mut stream).await
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        ))
        .await
    }

    async fn key(&self, role: &str) -> String {
        let body = format!(r#"{{"name":"{role}","role":"{role}"}}"#);
        let made = self.running.admin("POST", "/v1/keys", body.into_bytes()).await.unwrap().1;
        made["key"].as_str().unwrap().to_owned()
    }
}

/// Reads until the head and what came with it are there, or the connection ends.
async fn head(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let whole = async {
        let mut buffer = [0; 4_096];
        while let Ok(len @ 1..) = stream.read(&mut buffer).await {
            read.extend_from_slice(&buffer[..len]);
            if read.starts_with(b"HTTP/1.1 101") {
                break;
            }
        }
    };
    timeout(LIMIT, whole).await.expect("the answer ends in time");
    String::from_utf8_lossy(&read).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn upgrade(path: &str, version: &str, key: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: {version}\r\n\
         Sec-WebSocket-Key: {key}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn a_good_handshake_is_upgraded_at_both_addresses() {
    let gateway = gateway(&[], false).await;
    for path in ["/", "/ws"] {
        let more = "Sec-WebSocket-Protocol: other, fieldgate.v1.json\r\n";
        let answer = gateway.send(&upgrade(path, "13", KEY, more)).await.to_lowercase();
        assert_eq!(status(&answer), 101, "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        assert!(answer.contains("sec-websocket-protocol: fieldgate.v1.json"), "{answer}");
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_bad_handshake_is_refused_before_any_upgrade() {
    let gateway = gateway(&[], false).await;
    let close = "Connection: close\r\n";
    let version = gateway.send(&upgrade("/ws", "12", KEY, close)).await;
    assert_eq!(status(&version), 426, "{version}");
    assert!(version.to_lowercase().contains("sec-websocket-version: 13"), "{version}");
    for key in ["", "short", "dGhlIHNhbXBsZSBub25jZQ", "AAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let answer = gateway.send(&upgrade("/ws", "13", key, close)).await;
        assert_eq!(status(&answer), 400, "{key:?}: {answer}");
    }
    let whole = upgrade("/ws", "13", KEY, close);
    let without_key = whole.replace(&format!("Sec-WebSocket-Key: {KEY}\r\n"), "");
    assert_eq!(status(&gateway.send(&without_key).await), 400);
    let no_host = whole.replace("Host: localhost\r\n", "");
    assert_eq!(status(&gateway.send(&no_host).await), 400);
    let posted = whole.replace("GET /ws", "POST /ws");
    assert!(matches!(status(&gateway.send(&posted).await), 400 | 405));
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_plain_request_for_the_socket_is_told_to_upgrade() {
    let gateway = gateway(&[], false).await;
    let answer = gateway.get("/ws", "").await;
    assert!(matches!(status(&answer), 400 | 426), "{answer}");
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_bad_token_is_401_and_a_good_one_is_upgraded() {
    let gateway = gateway(&[], false).await;
    let key = gateway.key("admin").await;
    for (path, header) in [("/ws?token=fg_key_wrong", ""), ("/ws", "Authorization: Bearer no\r\n")]
    {
        let more = format!("{header}Connection: close\r\n");
        let answer = gateway.send(&upgrade(path, "13", KEY, &more)).await;
        assert_eq!(status(&answer), 401, "{answer}");
        assert!(!answer.contains("fg_key_wrong"), "{answer}");
    }
    let bearer = format!("Authorization: bearer {key}\r\n");
    assert_eq!(status(&gateway.send(&upgrade("/ws", "13", KEY, &bearer)).await), 101);
    let path = format!("/ws?token={key}");
    assert_eq!(status(&gateway.send(&upgrade(&path, "13", KEY, "")).await), 101);
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_device_id_header_that_contradicts_the_credential_is_400() {
    let gateway = gateway(&[], false).await;
    let body = br#"{"id":"lamp-1"}"#.to_vec();
    let made = gateway.running.admin("POST", "/v1/devices", body).await.unwrap().1;
    let token = made["token"].as_str().unwrap();
    for (id, expected) in [("lamp-2", 400), ("lamp-1", 101)] {
        let more = format!("Authorization: Bearer {token}\r\nDevice-ID: {id}\r\n");
        let more = if expected == 400 { more + "Connection: close\r\n" } else { more };
        assert_eq!(status(&gateway.send(&upgrade("/ws", "13", KEY, &more)).await), expected);
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn past_the_failure_limit_even_a_good_credential_is_429() {
    let gateway = gateway(&["limits.auth_failures_per_minute_max=3"], false).await;
    let key = gateway.key("admin").await;
    let mut told = Vec::new();
    // Once more if the minute turned on the way, which begins the count again.
    while told.len() < 2 && !told.contains(&429) {
        for _ in 0..3 {
            let bad = status(&gateway.get("/v1/status", "Authorization: Bearer no\r\n").await);
            assert!(matches!(bad, 401 | 429), "{bad}");
        }
        let good = gateway.get("/v1/status", &format!("Authorization: Bearer {key}\r\n")).await;
        assert_eq!(good.to_lowercase().contains("retry-after"), status(&good) == 429, "{good}");
        told.push(status(&good));
    }
    assert!(told.contains(&429), "{told:?}");
    gateway.running.drain().await;
}

#[tokio::test]
async fn every_error_is_a_problem_with_a_stable_code() {
    let gateway = gateway(&[], false).await;
    for (path, expected, code) in [
        ("/nothing", 404, "not_found"),
        ("/v1/drops", 401, "not_allowed"),
        ("/metrics", 401, "not_allowed"),
    ] {
        let answer = gateway.get(path, "").await;
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(answer.contains("application/problem+json") && answer.contains(code), "{answer}");
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn operation_routes_answer_to_their_rights() {
    let gateway = gateway(&[], false).await;
    assert_eq!(status(&gateway.get("/healthz", "").await), 200);
    assert_eq!(status(&gateway.get("/readyz", "").await), 200);
    let admin = format!("Authorization: Bearer {}\r\n", gateway.key("admin").await);
    for path in ["/metrics", "/v1/drops", "/v1/status"] {
        let answer = gateway.get(path, &admin).await;
        assert_eq!(status(&answer), 200, "{path}: {answer}");
    }
    let body = br#"{"name":"narrow","grants":["publish:plant/+"]}"#;
    let made = gateway.running.admin("POST", "/v1/keys", body.to_vec()).await.unwrap().1;
    let narrow = format!("Authorization: Bearer {}\r\n", made["key"].as_str().unwrap());
    for path in ["/metrics", "/v1/drops", "/v1/status"] {
        assert_eq!(status(&gateway.get(path, &narrow).await), 403, "{path}");
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_foreign_host_name_is_421() {
    let gateway = gateway(&["listen.hosts=gate.example"], false).await;
    for (host, expected) in
        [("evil.example", 421), ("gate.example:8080", 200), ("[::1]:80", 200), ("127.0.0.1", 200)]
    {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&gateway.send(&request).await), expected, "{host}");
    }
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_head_above_its_bound_is_refused() {
    let gateway = gateway(&[], false).await;
    let many = (0..200).fold(String::new(), |all, n| all + &format!("X-{n}: 1\r\n"));
    assert_eq!(status(&gateway.get("/healthz", &many).await), 431);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let _reset_already = stream.write_all(b"GET / HTTP/1.1\r\nX: ").await;
    let _reset_already = stream.write_all(&vec![b'a'; 1 << 20]).await;
    let answer = head(&mut stream).await;
    assert!(matches!(status(&answer), 431 | 0), "{answer}");
    gateway.running.drain().await;
}

#[tokio::test]
async fn a_head_that_drips_is_cut_at_the_deadline() {
    let gateway = gateway(&["limits.handshake_ms=150"], false).await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(b"GET /ws HTTP/1.1\r\nHost: lo").await.unwrap();
    let answer = head(&mut stream).await;
    assert!(matches!(status(&answer), 408 | 0), "{answer}");
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    assert_eq!(head(&mut silent).await, "");
    gateway.running.drain().await;
}

#[tokio::test]
async fn an_address_above_its_limit_is_429_and_is_served_again_after() {
    let gateway = gateway(&["limits.connections_per_address_max=2"], false).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(upgrade("/ws", "13", KEY, "").as_bytes()).await.unwrap();
        assert_eq!(status(&head(&mut stream).await), 101);
        held.push(stream);
    }
    let keep_alive = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let refused = gateway.send(keep_alive).await;
    assert_eq!(status(&refused), 429, "{refused}");
    drop(held);
    let again = async {
        while status(&gateway.get("/healthz", "").await) != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, again).await.expect("places come back");
    gateway.running.drain().await;
}

#[tokio::test]
async fn past_the_unauthenticated_limit_a_connection_is_503() {
    let gateway = gateway(&["limits.unauthenticated_max=1"], false).await;
    let mut held = TcpStream::connect(gateway.address).await.unwrap();
    held.write_all(upgrade("/ws", "13", KEY, "").as_bytes()).await.unwrap();
    assert_eq!(status(&head(&mut held).await), 101);
    let refused = gateway.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(status(&refused), 503, "{refused}");
    assert!(refused.to_lowercase().contains("retry-after"), "{refused}");
    gateway.running.drain().await;
}

#[tokio::test]
async fn plain_text_beyond_loopback_is_not_bound() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    let config = configured(&["listen.http=0.0.0.0:0"]);
    let error = start(config, store, StartOptions::default()).await.unwrap_err().to_string();
    assert!(error.contains("0.0.0.0:0 is not loopback and there is no TLS"), "{error}");
}

#[tokio::test]
async fn over_tls_a_silent_peer_gets_its_close_frame_and_the_connection_ends() {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let gateway = gateway(&["limits.auth_ms=200"], true).await;
    let file = gateway.running.folder().join("certs/self-signed.crt");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    stream.write_all(upgrade("/ws", "13", KEY, "").as_bytes()).await.unwrap();
    let mut read = Vec::new();
    // The peer reads to the end and never answers the close.
    timeout(LIMIT, stream.read_to_end(&mut read)).await.expect("it ends").unwrap();
    assert!(read.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&read));
    assert!(read.windows(2).any(|code| code == 4_401_u16.to_be_bytes()), "{read:?}");
    gateway.running.drain().await;
}
