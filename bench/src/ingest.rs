//! Durable ingest: QoS 1 messages of 200 bytes with a fixed number in flight.
//!
//! Rivals: a bare writer that appends and syncs batches of the size that the gateway formed, and
//! Mosquitto over WebSocket, which keeps the same messages in memory only. The generator and the
//! pattern are the same for both servers: links times window, the next message on each answer.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    ops::ControlFlow,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use fieldgate_dialects::ws::{Event, Opcode, frame_masked};

use crate::{
    Plan, bare,
    load::{self, Crowd, Link},
    process::{DiskUse, Gateway, Process, data_folder},
    report::{Budget, Report, percentile},
};

const MOSQUITTO: &str = "/usr/sbin/mosquitto";
/// More than any window: slots of send times for each link.
const SLOTS: usize = 256;

#[derive(Debug, Clone, Copy)]
enum Wire {
    Native,
    Mqtt,
}

struct Figures {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
    dirtied_bytes: f64,
    disk_bytes: f64,
    flushes: f64,
    message_count: f64,
}

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    for (link_count, window) in [(16, 4), (64, 8), (512, 1)] {
        let in_flight = link_count * window;
        report.section(&format!(
            "Durable ingest, QoS 1, {in_flight} in flight ({link_count} devices × {window})"
        ));
        let (ours, batch_len) = gateway(plan, link_count, window, report)?;
        let folder = data_folder()?;
        let record_len = 256;
        let bare = bare::durable_appends(folder.path(), record_len, batch_len, plan.seconds)?;
        let what = format!("bare append + fdatasync, batches of {batch_len} × {record_len} bytes");
        report.row(&what, bare, "records/s", Budget::None);
        let budget = if in_flight == 64 { Budget::AtLeast(0.4) } else { Budget::None };
        report.row("gateway / bare append", ours.rate / bare, "×", budget);
        match mosquitto(plan, link_count, window, report) {
            Ok(rival) => {
                // The budget's pattern is the one it was measured with, 50 × 10 (`mqtt-coap.md`).
                let large = window == 8;
                let (rate, cpu) = (ours.rate / rival.rate, ours.cpu_us / rival.cpu_us);
                let bound = |budget| if large { budget } else { Budget::None };
                report.row("gateway / Mosquitto, rate", rate, "×", bound(Budget::AtLeast(1.0)));
                report.row("gateway / Mosquitto, CPU", cpu, "×", bound(Budget::AtMost(0.6)));
            }
            Err(error) => report.note(&format!("Mosquitto: not measured: {error:#}")),
        }
    }
    Ok(())
}

fn gateway(
    plan: &Plan,
    link_count: usize,
    window: usize,
    report: &mut Report,
) -> Result<(Figures, usize)> {
    let folder = data_folder()?;
    let gateway = Gateway::start(&plan.binary, &folder.path().join("data"), false)?;
    let key = gateway.key("metrics", &["metrics:#"])?;
    let mut links = Vec::new();
    for number in 0..link_count {
        let id = format!("bench-{number}");
        let token = gateway.device(&id)?;
        links.push(load::native(gateway.address, false, Some(&id), &token)?);
    }
    let before = gateway.metrics(&key)?;
    let figures = measure(plan, Wire::Native, &gateway.process, links, window)?;
    let after = gateway.metrics(&key)?;
    state(report, "gateway", &figures);
    let gained = |name: &str| {
        let value = |of: &std::collections::HashMap<String, f64>| of.get(name).copied();
        Some(value(&after)? - value(&before).unwrap_or_default()).filter(|gained| *gained > 0.0)
    };
    let Some(sync_count) = gained("fieldgate_log_commits_total") else {
        report.note("The gateway tells no number of syncs: batches are taken as half the window.");
        return Ok((figures, (link_count * window / 2).max(1)));
    };
    let batch = figures.message_count / sync_count;
    report.row("syncs per acknowledgement", 1.0 / batch, "", Budget::None);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let batch_len = batch.round().max(1.0) as usize;
    Ok((figures, batch_len))
}

fn mosquitto(
    plan: &Plan,
    link_count: usize,
    window: usize,
    report: &mut Report,
) -> Result<Figures> {
    let folder = data_folder()?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let port = address.port();
    // Release 2.0.11 gives up if all its listeners are WebSockets: the second one is never used.
    let spare = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let configuration = format!(
        "listener {port} 127.0.0.1\nprotocol websockets\nlistener {spare} 127.0.0.1\n\
         allow_anonymous true\n"
    );
    let path = folder.path().join("mosquitto.conf");
    fs::write(&path, configuration)?;
    let process = Process::start(Command::new(MOSQUITTO).arg("-c").arg(&path))?;
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if started.elapsed() > Duration::from_secs(5) {
            bail!("it did not start");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let links = (0..link_count).map(|number| mqtt(address, number)).collect::<Result<_>>()?;
    let figures = measure(plan, Wire::Mqtt, &process, links, window)?;
    state(report, "Mosquitto", &figures);
    Ok(figures)
}

fn state(report: &mut Report, who: &str, figures: &Figures) {
    report.row(&format!("{who}, rate"), figures.rate, "messages/s", Budget::None);
    report.row(&format!("{who}, p50"), figures.p50_ms, "ms", Budget::None);
    report.row(&format!("{who}, p99"), figures.p99_ms, "ms", Budget::None);
    report.row(&format!("{who}, CPU per message"), figures.cpu_us, "µs", Budget::None);
    let what = format!("{who}, bytes written to the disk per record (all that the machine wrote)");
    report.row(&what, figures.disk_bytes, "B", Budget::None);
    let what = format!("{who}, bytes of pages made dirty per record");
    report.row(&what, figures.dirtied_bytes, "B", Budget::None);
    let what = format!("{who}, disk flushes per acknowledgement, as the disk counts them");
    report.row(&what, figures.flushes, "", Budget::None);
}

fn mqtt(address: SocketAddr, number: usize) -> Result<Link> {
    let mut link = Link::open(address, false, "/mqtt", "mqtt")?;
    let id = format!("bench-{number}");
    let mut connect = vec![0x10, u8::try_from(12 + id.len())?, 0, 4];
    connect.extend(b"MQTT\x04\x02\x00\x00\x00");
    connect.push(u8::try_from(id.len())?);
    connect.extend(id.as_bytes());
    link.send_raw(&frame_masked(Opcode::Binary, &connect, [1, 2, 3, 4]))?;
    let (mut scratch, mut answer) = ([0; 256], Vec::new());
    while answer.len() < 4 {
        let open = link.read_events(&mut scratch, &mut |event| {
            if let Event::Binary(bytes) = event {
                answer.extend_from_slice(bytes);
            }
        })?;
        open.then_some(()).context("closed while connecting")?;
    }
    if answer != [0x20, 2, 0, 0] {
        bail!("refused: {answer:?}");
    }
    Ok(link)
}

/// One link's side of the pattern.
struct Sender {
    next: usize,
    sent: Vec<Instant>,
    /// A partial MQTT packet.
    held: Vec<u8>,
}

fn measure(
    plan: &Plan,
    wire: Wire,
    process: &Process,
    links: Vec<Link>,
    window: usize,
) -> Result<Figures> {
    let now = Instant::now();
    let fresh = || Sender { next: 0, sent: vec![now; SLOTS], held: Vec::new() };
    let mut senders: Vec<Sender> = links.iter().map(|_| fresh()).collect();
    let mut crowd = Crowd::new(links)?;
    for (link, sender) in crowd.links.iter_mut().zip(&mut senders) {
        let mut out = Vec::new();
        (0..window).for_each(|_| sender.publish(wire, &mut out));
        link.send_raw(&out)?;
    }
    flow(&mut crowd, &mut senders, wire, plan.seconds / 5.0)?;
    let target = Path::new("target");
    let (cpu, dirtied) = (process.cpu_seconds()?, process.dirtied_bytes()?);
    let disk = DiskUse::now(target)?;
    let started = Instant::now();
    let mut latencies = flow(&mut crowd, &mut senders, wire, plan.seconds)?;
    let seconds = started.elapsed().as_secs_f64();
    let message_count = latencies.len() as f64;
    let cpu_us = (process.cpu_seconds()? - cpu) * 1e6 / message_count;
    let dirtied_bytes = (process.dirtied_bytes()? - dirtied) / message_count;
    let disk_then = DiskUse::now(target)?;
    latencies.sort_by(f64::total_cmp);
    Ok(Figures {
        rate: message_count / seconds,
        p50_ms: percentile(&latencies, 0.5),
        p99_ms: percentile(&latencies, 0.99),
        cpu_us,
        dirtied_bytes,
        disk_bytes: (disk_then.written_bytes - disk.written_bytes) / message_count,
        flushes: (disk_then.flush_count - disk.flush_count) / message_count,
        message_count,
    })
}

/// Keeps every window full for `seconds`; returns the times to acknowledgement, in ms.
fn flow(crowd: &mut Crowd, senders: &mut [Sender], wire: Wire, seconds: f64) -> Result<Vec<f64>> {
    let mut latencies = Vec::with_capacity(1 << 20);
    let started = Instant::now();
    crowd.run(|number, link, scratch| {
        let sender = senders.get_mut(number).context("no such sender")?;
        let (mut out, mut refused) = (Vec::new(), None);
        link.read_events(scratch, &mut |event| match (wire, event) {
            (Wire::Native, Event::Text(text)) => match native_ack(text) {
                Some(id) => {
                    latencies.push(sender.elapsed_ms(id));
                    sender.publish(wire, &mut out);
                }
                None => refused = Some(text.to_owned()),
            },
            (Wire::Mqtt, Event::Binary(bytes)) => {
                sender.held.extend_from_slice(bytes);
                while let [0x40, 2, high, low, ..] = sender.held[..] {
                    sender.held.drain(..4);
                    latencies.push(sender.elapsed_ms(usize::from(u16::from_be_bytes([high, low]))));
                    sender.publish(wire, &mut out);
                }
            }
            _ => (),
        })?;
        if let Some(refused) = refused {
            bail!("{refused}");
        }
        link.send_raw(&out)?;
        let enough = started.elapsed().as_secs_f64() >= seconds;
        Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(latencies)
}

fn native_ack(text: &str) -> Option<usize> {
    let (_, rest) = text.strip_prefix(r#"{"type":"ack","#)?.split_once(r#""msgid":""#)?;
    rest.split_once('"')?.0.parse().ok()
}

impl Sender {
    fn publish(&mut self, wire: Wire, out: &mut Vec<u8>) {
        // MQTT's packet identifiers go from 1 to 65,535; the slots repeat more often than that.
        self.next = match wire {
            Wire::Native => self.next + 1,
            Wire::Mqtt => self.next % 65_535 + 1,
        };
        if let Some(slot) = self.sent.get_mut(self.next % SLOTS) {
            *slot = Instant::now();
        }
        let pad = "x".repeat(178);
        match wire {
            Wire::Native => {
                let id = self.next;
                let text = format!(
                    r#"{{"type":"status","msgid":"{id}","data":{{"temp":21.5,"pad":"{pad}"}}}}"#
                );
                out.extend(frame_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]));
            }
            Wire::Mqtt => {
                let payload = format!(r#"{{"temp":21.5,"pad":"{pad}"}}"#);
                let topic = b"devices/bench/telemetry";
                let len = 2 + topic.len() + 2 + payload.len();
                // Two bytes of remaining length: 128 to 16,383.
                let mut packet = vec![0x32, low_byte(len % 128 + 128), low_byte(len / 128), 0];
                packet.push(low_byte(topic.len()));
                packet.extend(topic);
                packet.extend([low_byte(self.next >> 8), low_byte(self.next)]);
                packet.extend(payload.as_bytes());
                out.extend(frame_masked(Opcode::Binary, &packet, [1, 2, 3, 4]));
            }
        }
    }

    fn elapsed_ms(&self, id: usize) -> f64 {
        let sent = self.sent.get(id % SLOTS);
        sent.map_or(f64::NAN, |sent| sent.elapsed().as_secs_f64() * 1e3)
    }
}

const fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}
