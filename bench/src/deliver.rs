//! Deliveries: one target that was away, and a backlog of a million messages, over HTTP and over a
//! WebSocket.
//!
//! The target is a thread here that reads each batch whole and says that it took it. The log is
//! filled before the gateway starts, so that nothing else is measured.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fieldgate_core::id::{TenantId, UnixMs};
use fieldgate_dialects::ws::{self, Decoder, Event, Opcode};
use fieldgate_store::{
    Log as _, Record, Store, StoreOptions,
    audit::Author,
    log::LogOptions,
    registry::{
        Change, Format, Integration, IntegrationKind, IntegrationStep, RegistryChange, Start,
        Target,
    },
};

use crate::{
    Plan,
    load::LIMITS,
    process::{Gateway, data_folder},
    report::{Budget, Report},
    sample,
};

/// The budget is for this many.
const BACKLOG_LEN: usize = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    report.section(&format!("A delivery of {BACKLOG_LEN} messages to one target"));
    drain(plan, report, IntegrationKind::Rest)?;
    drain(plan, report, IntegrationKind::WebSocket)
}

fn drain(plan: &Plan, report: &mut Report, kind: IntegrationKind) -> Result<()> {
    let is_socket = kind == IntegrationKind::WebSocket;
    let folder = data_folder()?;
    let data = folder.path().join("data");
    let (address, taken) = target(if is_socket { serve_socket } else { serve_posts })?;
    let scheme = if is_socket { "ws" } else { "http" };
    let last = fill(&data, kind, format!("{scheme}://{address}/"))?;
    let gateway = Gateway::start(&plan.binary, &data, false)?;
    let (mut resident_max, began) = (0.0_f64, Instant::now());
    let mut first = None;
    loop {
        let taken = taken.load(Ordering::SeqCst);
        if taken > 0 {
            first.get_or_insert_with(Instant::now);
        }
        resident_max = resident_max.max(gateway.process.resident_bytes()?);
        if taken >= last {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "{taken} of {last} after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = first.context("nothing came")?.elapsed().as_secs_f64();
    let (rate, way) = (BACKLOG_LEN as f64 / took, if is_socket { "WebSocket" } else { "POST" });
    let what = format!("native arrays of 1,000 by {way}");
    report.row(&what, rate, "messages/s", Budget::AtLeast(100_000.0));
    let cpu = gateway.process.cpu_seconds()? / BACKLOG_LEN as f64 * 1e6;
    report.row("CPU of the gateway, start and all", cpu, "µs/message", Budget::None);
    report.row("largest resident memory", resident_max / 1024.0 / 1024.0, "MiB", Budget::None);
    Ok(())
}

/// A target that takes everything; its address, and the last number that it took.
fn target(
    serve: fn(BufReader<TcpStream>, &AtomicU64) -> Option<()>,
) -> Result<(SocketAddr, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, taken) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
    let told = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ended = serve(BufReader::new(stream), &told);
        }
    });
    Ok((address, taken))
}

/// The headers of a request, read to their end.
fn head(stream: &mut BufReader<TcpStream>, mut each: impl FnMut(&str, &str)) -> Option<()> {
    let mut line = String::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
        match line.trim().split_once(": ") {
            Some((name, value)) => each(&name.to_ascii_lowercase(), value),
            None if line.trim().is_empty() => return Some(()),
            None => (),
        }
    }
}

/// The last number in the batch of this name.
fn last_of(name: &str) -> Option<u64> {
    name.rsplit('-').next()?.parse().ok()
}

/// Takes one request after the other; nothing at the end.
fn serve_posts(mut stream: BufReader<TcpStream>, taken: &AtomicU64) -> Option<()> {
    let mut body = Vec::new();
    loop {
        let (mut len, mut last) = (0, None);
        head(&mut stream, |name, value| match name {
            "content-length" => len = value.parse().unwrap_or(0),
            "fieldgate-batch" => last = last_of(value),
            _ => (),
        })?;
        body.resize(len, 0);
        stream.read_exact(&mut body).ok()?;
        taken.store(last?, Ordering::SeqCst);
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
    }
}

/// Takes one frame after the other, and answers the ping behind each; nothing at the end.
fn serve_socket(mut stream: BufReader<TcpStream>, taken: &AtomicU64) -> Option<()> {
    let mut key = String::new();
    head(&mut stream, |name, value| {
        if name == "sec-websocket-key" {
            value.clone_into(&mut key);
        }
    })?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        ws::accept_key(&key)
    );
    stream.get_mut().write_all(answer.as_bytes()).ok()?;
    let (mut decoder, mut buffer) = (Decoder::server(LIMITS), vec![0; 256 << 10]);
    loop {
        let len = stream.read(&mut buffer).ok().filter(|len| *len > 0)?;
        let mut pongs = Vec::new();
        let fed = decoder.feed(buffer.get_mut(..len)?, &mut |event| {
            if let Event::Ping(name) = event {
                // One at rest names no batch.
                let last = std::str::from_utf8(name).ok().and_then(last_of);
                last.into_iter().for_each(|last| taken.store(last, Ordering::SeqCst));
                pongs.extend_from_slice(&ws::frame(Opcode::Pong, name));
            }
            ControlFlow::Continue(())
        });
        if fed.is_err() || stream.get_mut().write_all(&pongs).is_err() {
            return None;
        }
    }
}

/// Makes a folder with an integration and what waits for it; the last message's number.
fn fill(data: &Path, kind: IntegrationKind, url: String) -> Result<u64> {
    let log = LogOptions { free_bytes_min: 0, sync: false, ..LogOptions::default() };
    let store = Store::open(data, StoreOptions { log, ..StoreOptions::default() })?;
    let name = "out".to_owned();
    let target = Target {
        url,
        filter: "#".to_owned(),
        format: Format::Native,
        allow_private: true,
        ..Target::default()
    };
    let integration =
        Integration { name: name.clone(), kind, paused: false, token: None, target: Some(target) };
    let step = IntegrationStep::Add { integration: Box::new(integration), start: Start::Now };
    let change = Change::Integration { name, expected: None, step };
    let tenant = TenantId::default_tenant();
    let author = Some(Author::local());
    let change = RegistryChange { tenant: tenant.as_str().to_owned(), change, author };
    store.log.append(vec![Record::Registry(Box::new(change))], UnixMs(1))?;
    let topics = sample::topics()?;
    let last = sample::fill(&*store.log, topics.iter().cycle().take(BACKLOG_LEN))?;
    store.log.close();
    Ok(last)
}
