//! Deliveries: one target that was away, and a backlog of a million messages.
//!
//! The target is a thread here that reads each request whole and says that it took it. The log is
//! filled before the gateway starts, so that nothing else is measured.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fieldgate_core::{
    id::{TenantId, UnixMs},
    message::{Content, Message, Priority, Qos},
    topic::Topic,
};
use fieldgate_store::{
    AppendError, Log as _, Record, Store, StoreOptions,
    audit::Author,
    log::LogOptions,
    registry::{
        Change, Format, Integration, IntegrationKind, IntegrationStep, RegistryChange, Start,
        Target,
    },
};

use crate::{
    Plan,
    process::{Gateway, data_folder},
    report::{Budget, Report},
};

const GROUP_LEN: u64 = 200;
/// The budget is for this many.
const BACKLOG_LEN: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    report.section(&format!("A delivery of {BACKLOG_LEN} messages to one target"));
    let folder = data_folder()?;
    let data = folder.path().join("data");
    let (address, taken) = target()?;
    let last = fill(&data, address)?;
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
    let rate = BACKLOG_LEN as f64 / took;
    report.row("native arrays of 1,000 by POST", rate, "messages/s", Budget::AtLeast(100_000.0));
    let cpu = gateway.process.cpu_seconds()? / BACKLOG_LEN as f64 * 1e6;
    report.row("CPU of the gateway, start and all", cpu, "µs/message", Budget::None);
    report.row("largest resident memory", resident_max / 1024.0 / 1024.0, "MiB", Budget::None);
    Ok(())
}

/// A target that takes everything; its address, and the last number that it took.
fn target() -> Result<(SocketAddr, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, taken) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
    let told = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut body = Vec::new();
            while let Some(last) = take(&mut stream, &mut body) {
                told.store(last, Ordering::SeqCst);
                if stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                    break;
                }
            }
        }
    });
    Ok((address, taken))
}

/// Reads one request; the last number in it.
fn take(stream: &mut BufReader<std::net::TcpStream>, body: &mut Vec<u8>) -> Option<u64> {
    let (mut len, mut last, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            len = value.parse().ok()?;
        } else if name.eq_ignore_ascii_case("fieldgate-batch") {
            last = value.rsplit('-').next()?.parse().ok()?;
        }
    }
    body.resize(len, 0);
    stream.read_exact(body).ok()?;
    Some(last)
}

/// Makes a folder with an integration and what waits for it; the last message's number.
fn fill(data: &Path, address: SocketAddr) -> Result<u64> {
    let log = LogOptions { free_bytes_min: 0, sync: false, ..LogOptions::default() };
    let store = Store::open(data, StoreOptions { log, ..StoreOptions::default() })?;
    let name = "out".to_owned();
    let target = Target {
        url: format!("http://{address}/"),
        filter: "#".to_owned(),
        format: Format::Native,
        allow_private: true,
        ..Target::default()
    };
    let kind = IntegrationKind::Rest;
    let integration =
        Integration { name: name.clone(), kind, paused: false, token: None, target: Some(target) };
    let step = IntegrationStep::Add { integration: Box::new(integration), start: Start::Now };
    let change = Change::Integration { name, expected: None, step };
    let tenant = TenantId::default_tenant();
    let author = Some(Author::local());
    let change = RegistryChange { tenant: tenant.as_str().to_owned(), change, author };
    store.log.append(vec![Record::Registry(Box::new(change))], UnixMs(1))?;
    let topics: Vec<Topic> = (0..1_000)
        .map(|number| format!("devices/sensor-{number}/telemetry").parse())
        .collect::<Result<_, _>>()?;
    let mut topics = topics.iter().cycle();
    let mut last = 0;
    for from in (0..BACKLOG_LEN).step_by(usize::try_from(GROUP_LEN)?) {
        let numbers = from..BACKLOG_LEN.min(from + GROUP_LEN);
        let records = numbers.zip(&mut topics).map(|(number, topic)| message(topic, number));
        let group: Vec<Record> = records.collect();
        last = loop {
            match store.log.append(group.clone(), UnixMs(from + 1)) {
                Ok(range) => break *range.end(),
                Err(AppendError::Full) => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        };
    }
    store.log.close();
    Ok(last)
}

fn message(topic: &Topic, number: u64) -> Record {
    Record::Message(Message {
        tenant: TenantId::default_tenant(),
        kind: topic.kind(),
        topic: topic.clone(),
        from: "sensor".into(),
        timestamp: UnixMs(number),
        is_time_given: true,
        device_timestamp: None,
        reference: None,
        qos: Qos::AtLeastOnce,
        retain: false,
        priority: Priority::Normal,
        expires: None,
        content: Content::Json,
        payload: format!(r#"{{"temperature":{}.5,"humidity":40}}"#, number % 40).into(),
        original: None,
    })
}
