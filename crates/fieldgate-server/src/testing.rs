//! A gateway inside the test's own process, and a WebSocket client to talk to it.
//!
//! For tests that look at, or break, what is inside; all others are in `crates/fieldgate/tests`.

use std::{
    collections::VecDeque, future::poll_fn, net::Ipv4Addr, ops::ControlFlow, pin::Pin, rc::Rc,
    sync::Arc, time::Duration,
};

use fieldgate_core::{
    access::{Identity, Principal, Role},
    id::TenantId,
};
use fieldgate_dialects::{
    wire::Form,
    ws::{self, Decoder, Event, Limits, Opcode},
};
use fieldgate_store::{Store, StoreOptions, log::LogOptions};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    Running, Sources, StartOptions, config,
    fabric::Shared,
    hub::Hub,
    idle::Phase,
    link::Link,
    sink::{PipeBody, Socket, pipe},
};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Gateway {
    pub(crate) running: Running,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// Starts with settings and so many workers, on an empty folder, whose segments take less of the
    /// disk than they do elsewhere.
    pub(crate) async fn start(settings: &[&str], worker_count: usize) -> Self {
        let log = LogOptions { segment_bytes: 4 << 20, ..LogOptions::default() };
        Self::on_log(log, settings, worker_count).await
    }

    /// The same with a log of other bounds.
    pub(crate) async fn on_log(log: LogOptions, settings: &[&str], worker_count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut set = vec!["listen.http=127.0.0.1:0".to_owned(), "drain.grace_ms=2000".to_owned()];
        set.extend(settings.iter().map(|pair| (*pair).to_owned()));
        let config = config::load(&Sources { set, ..Sources::default() }).unwrap();
        let log = LogOptions { free_bytes_min: 0, ..log };
        let options = StoreOptions { log, ..StoreOptions::default() };
        let store = Store::open(folder.path(), options).unwrap();
        let options = StartOptions { worker_count, ..StartOptions::default() };
        let running = crate::start(config, store, options).await.unwrap();
        Self { running, folder }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.running.fabric.shared
    }

    /// Where its data is.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Makes what is asked for.
    async fn post(&self, path: &str, body: Value) -> Value {
        let made = self.running.admin("POST", path, body.to_string().into_bytes()).await;
        let (status, made) = made.unwrap();
        assert_eq!(status, 201, "{made}");
        made
    }

    /// Makes a device; its token.
    pub(crate) async fn device(&self, id: &str) -> String {
        let body = json!({"id": id});
        let made = self.post("/v1/devices", body).await;
        made["token"].as_str().unwrap().to_owned()
    }

    /// Makes an API key of an operator; the key.
    pub(crate) async fn key(&self, name: &str) -> String {
        let body = json!({"name": name, "role": "operator"});
        let made = self.post("/v1/keys", body).await;
        made["key"].as_str().unwrap().to_owned()
    }

    /// An authenticated connection in the first form of JSON.
    pub(crate) async fn connect(&self, token: &str) -> Client {
        let protocol = "Sec-WebSocket-Protocol: fieldgate.v1.json\r\n";
        let mut client = self.open("http", &format!("/ws?token={token}"), protocol).await;
        assert_eq!(client.next().await["status"], "success");
        client
    }

    /// A connection to a listener, with these header lines.
    pub(crate) async fn open(&self, listener: &str, path: &str, headers: &str) -> Client {
        let address = self.running.listeners()[listener][0];
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {headers}Sec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(LIMIT, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let limits =
            Limits { frame_bytes_max: 1 << 24, message_bytes_max: 1 << 24, fragment_count_max: 1 };
        Client { stream, decoder: Decoder::client(limits), seen: VecDeque::default() }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// What is no JSON is a text.
    Frame(Value),
    Close(Option<u16>),
    End,
}

pub(crate) struct Client {
    stream: TcpStream,
    decoder: Decoder,
    seen: VecDeque<Seen>,
}

impl Client {
    pub(crate) async fn send(&mut self, frame: Value) {
        let bytes = ws::frame_masked(Opcode::Text, frame.to_string().as_bytes(), [1, 2, 3, 4]);
        self.raw(&bytes).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame, close or end; pings aside.
    pub(crate) async fn see(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return seen;
            }
            let mut buffer = vec![0; 64 * 1024];
            let read = timeout(LIMIT, self.stream.read(&mut buffer)).await.expect("nothing came");
            let Ok(len @ 1..) = read else { return Seen::End };
            let seen = &mut self.seen;
            let fed = self.decoder.feed(&mut buffer[..len], &mut |event| {
                match event {
                    Event::Text(text) => {
                        let frame = serde_json::from_str(text);
                        seen.push_back(Seen::Frame(frame.unwrap_or_else(|_| text.into())));
                    }
                    Event::Close { code, .. } => seen.push_back(Seen::Close(code)),
                    Event::Binary(_) => panic!("the gateway sends text alone"),
                    Event::Ping(_) | Event::Pong(_) => (),
                }
                ControlFlow::Continue(())
            });
            assert!(fed.is_ok(), "{fed:?}");
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        match self.see().await {
            Seen::Frame(frame) => frame,
            other @ (Seen::Close(_) | Seen::End) => panic!("a frame was expected, not {other:?}"),
        }
    }

    /// The next frame of this type; others are passed over.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The close code; frames before it are passed over.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.see().await {
                Seen::Close(code) => return code,
                Seen::End => return None,
                Seen::Frame(_) => (),
            }
        }
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(LIMIT, waiting).await.is_ok(), "{what} did not come");
}

/// Does something on a thread of its own, with the second worker's number and a clock that goes on to what
/// is waited for once nothing else is left to do.
pub(crate) fn on_worker(shared: &Arc<Shared>, work: impl AsyncFnOnce(Rc<Hub>) + Send) {
    let run = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let hub = Rc::new(Hub::new(Arc::clone(shared), 1));
        tokio::task::LocalSet::new().block_on(&runtime, work(hub));
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
}

/// A link of an operator that no task serves, and what it writes to, of 64 KiB.
pub(crate) fn memory_link(hub: &Hub, form: Form, identity: Identity) -> (Rc<Link>, PipeBody) {
    let (pipe, body) = pipe(Phase::new().stream());
    let from = (Ipv4Addr::LOCALHOST.into(), None);
    let link = Rc::new(Link::new(hub, (Socket::Pipe(pipe), form), from, None));
    link.set_principal(Principal {
        tenant: TenantId::default_tenant(),
        name: "memory".into(),
        identity,
        role: Some(Role::Operator),
        grants: Vec::new(),
        only: None,
        proof: None,
        expires: None,
    });
    hub.add_link(&link);
    (link, body)
}

/// Takes what a link wrote; how many bytes.
pub(crate) async fn take(body: &mut PipeBody) -> usize {
    use hyper::body::Body as _;
    let next = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
    let frame = timeout(LIMIT, next).await.expect("nothing came").unwrap();
    frame.unwrap().into_data().unwrap().len()
}
