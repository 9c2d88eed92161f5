//! Fan-out: one publisher, many subscribers, CPU time of the server for each delivery.
//!
//! The rival is the bare loop with the very frame that the gateway delivered. Repetitions alternate
//! between the two, so that both see the same weather; figures are medians, and a ratio is the median
//! of the ratios of neighbours.

use std::{ops::ControlFlow, time::Instant};

use anyhow::{Context as _, Result};
use fieldgate_core::message::Qos;
use fieldgate_dialects::{
    native::client::{encode_ack, encode_publish},
    ws::{Event, Opcode, frame_masked, frame_text},
};

use crate::{
    Plan, bare,
    load::{self, Crowd, Link},
    node,
    process::{CLIENT_CORE, Gateway, Process, SERVER_CORE, data_folder, is_pinned, on_core},
    report::{Budget, Report, median},
};

/// The design measured servers on one core and clients on another (`websocket.md` 3); the gateway
/// has a worker for each core that it may use, and so one.
pub(crate) const BURST: usize = 16;
const TOPIC: &str = "bench/fanout";

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    on_core(CLIENT_CORE, || compare(plan, report))?;
    let mut plain = Stage::gateway(plan, false, Qos::AtMostOnce)?;
    let mut each = Stage::bare(plan, &plain.sample()?, false)?;
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..plan.repetition_count {
        bare.push(each.measure(plan, 1)?);
        ours.push(plain.measure(plan, 1)?);
    }
    let what = "one at a time, servers on any core, a worker for each: gateway / bare loop";
    report.row(what, of_neighbours(&ours, &bare), "×", Budget::None);
    Ok(())
}

/// Starts a server: on its core, if the clients are kept on theirs.
pub(crate) fn serve<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    if is_pinned() { on_core(SERVER_CORE, start) } else { start() }
}

fn compare(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut plain = Stage::gateway(plan, false, Qos::AtMostOnce)?;
    let frame = plain.sample()?;
    let frame_len = frame.len();
    let mut each = Stage::bare(plan, &frame, false)?;
    let mut joined = Stage::bare(plan, &frame, true)?;
    let [mut single, mut burst, mut single_bare, mut burst_bare, mut burst_joined] =
        [const { Vec::new() }; 5];
    for _ in 0..plan.repetition_count {
        single_bare.push(each.measure(plan, 1)?);
        single.push(plain.measure(plan, 1)?);
        burst_bare.push(each.measure(plan, BURST)?);
        burst.push(plain.measure(plan, BURST)?);
        burst_joined.push(joined.measure(plan, BURST)?);
    }
    drop((plain, each, joined));

    let count = plan.subscriber_count;
    report.section(&format!(
        "Fan-out, 1 → {count}, 200-byte JSON payload (frame of {frame_len} bytes), CPU per delivery"
    ));
    row(report, "bare loop, one at a time", &single_bare);
    let ours_single = row(report, "gateway, one at a time, QoS 0, plain", &single);
    let ratio = of_neighbours(&single, &single_bare);
    report.row("gateway / bare loop", ratio, "×", Budget::AtMost(1.15));
    row(report, "bare loop, bursts of 16, each written alone", &burst_bare);
    row(report, "bare loop, bursts of 16, written as one", &burst_joined);
    let ours = row(report, "gateway, bursts of 16, QoS 0, plain", &burst);
    let ratio = of_neighbours(&burst, &burst_bare);
    report.row("gateway / bare loop, each alone", ratio, "×", Budget::AtMost(0.13));
    for (what, runs) in [("bare loop", &single_bare), ("gateway", &single)] {
        let last_ms = median(runs.iter().map(|run| run.last_ms).collect());
        report.row(&format!("until the last has it, {what}"), last_ms, "ms", Budget::None);
    }
    match Stage::node(plan, &frame) {
        Ok(mut stage) => {
            let single = [stage.measure(plan, 1)?];
            let rival = row(report, "Node ws, one at a time", &single);
            report.row("gateway / Node ws", ours_single / rival, "×", Budget::None);
            let burst = [stage.measure(plan, BURST)?];
            let rival = row(report, "Node ws, bursts of 16", &burst);
            report.row("gateway / Node ws", ours / rival, "×", Budget::None);
        }
        Err(error) => report.note(&format!("Node ws: not measured: {error:#}")),
    }
    for (what, tls, qos) in
        [("QoS 1, plain", false, Qos::AtLeastOnce), ("QoS 0, TLS", true, Qos::AtMostOnce)]
    {
        match Stage::gateway(plan, tls, qos) {
            Ok(mut stage) => {
                let single = [stage.measure(plan, 1)?];
                row(report, &format!("gateway, one at a time, {what}"), &single);
                let burst = [stage.measure(plan, BURST)?];
                row(report, &format!("gateway, bursts of 16, {what}"), &burst);
            }
            Err(error) => report.note(&format!("{what}: not measured: {error:#}")),
        }
    }
    Ok(())
}

/// Reports what a delivery cost.
pub(crate) fn row(report: &mut Report, what: &str, runs: &[Round]) -> f64 {
    let cost = median(runs.iter().map(|run| run.cpu_us).collect());
    report.row(what, cost, "µs", Budget::None);
    cost
}

/// The median of what each run cost, in terms of the rival's run before it.
pub(crate) fn of_neighbours(ours: &[Round], rival: &[Round]) -> f64 {
    median(ours.iter().zip(rival).map(|(ours, rival)| ours.cpu_us / rival.cpu_us).collect())
}

/// One run.
pub(crate) struct Round {
    cpu_us: f64,
    last_ms: f64,
}

/// A server with its subscribers and its publisher.
pub(crate) struct Stage {
    server: Server,
    crowd: Crowd,
    publisher: Link,
    /// What the publisher sends for one message.
    unit: Vec<u8>,
    qos: Qos,
    /// Bytes that make one delivery; absent where frames are decoded.
    frame_len: Option<usize>,
    /// What a delivery begins with, where frames are decoded.
    start: &'static str,
}

/// What a delivery of the native dialect begins with.
const NATIVE: &str = r#"{"type":"mqtt""#;

pub(crate) enum Server {
    Gateway(Gateway, #[expect(dead_code, reason = "the folder lives as long")] tempfile::TempDir),
    Bare(Process),
    Node(Process, #[expect(dead_code, reason = "the folder lives as long")] tempfile::TempDir),
}

impl Stage {
    fn gateway(plan: &Plan, tls: bool, qos: Qos) -> Result<Self> {
        let folder = data_folder()?;
        let data = folder.path().join("data");
        let gateway = serve(|| Gateway::start(&plan.binary, &data, tls))?;
        let key = gateway.key("bench", &["publish:bench/#", "subscribe:bench/#"])?;
        let mut links = Vec::with_capacity(plan.subscriber_count);
        for _ in 0..plan.subscriber_count {
            let mut link = load::native(gateway.address, tls, None, &key)?;
            load::subscribe(&mut link, TOPIC, qos as u8)?;
            links.push(link);
        }
        let publisher = load::native(gateway.address, tls, None, &key)?;
        let payload = format!(r#"{{"t":21.5,"pad":"{}"}}"#, "x".repeat(182));
        let text = encode_publish(TOPIC, &payload, qos, false, None);
        let unit = frame_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        let (server, crowd) = (Server::Gateway(gateway, folder), Crowd::new(links)?);
        Ok(Self { server, crowd, publisher, unit, qos, frame_len: None, start: NATIVE })
    }

    /// Clients whose deliveries begin with `start`.
    pub(crate) fn of_room(
        server: Server,
        crowd: Crowd,
        publisher: Link,
        unit: Vec<u8>,
        start: &'static str,
    ) -> Self {
        Self { server, crowd, publisher, unit, qos: Qos::AtMostOnce, frame_len: None, start }
    }

    pub(crate) fn bare(plan: &Plan, frame: &[u8], coalesce: bool) -> Result<Self> {
        let (process, address) =
            serve(|| bare::start_fanout(frame.len(), plan.subscriber_count, coalesce))?;
        let links = (0..plan.subscriber_count).map(|_| Link::raw(address));
        let crowd = Crowd::new(links.collect::<Result<_>>()?)?;
        let (publisher, unit) = (Link::raw(address)?, frame.to_vec());
        let (server, frame_len) = (Server::Bare(process), Some(frame.len()));
        Ok(Self { server, crowd, publisher, unit, qos: Qos::AtMostOnce, frame_len, start: NATIVE })
    }

    /// Node's server passes on the text that the gateway delivered.
    fn node(plan: &Plan, frame: &[u8]) -> Result<Self> {
        let folder = data_folder()?;
        let (process, address) = serve(|| node::start_fanout(&folder))?;
        let open = || Link::open(address, false, "/", "bench");
        let crowd = Crowd::new((0..plan.subscriber_count).map(|_| open()).collect::<Result<_>>()?)?;
        let publisher = open()?;
        let text = payload_of(frame).context("a text frame")?;
        let unit = frame_masked(Opcode::Text, text, [1, 2, 3, 4]);
        let server = Server::Node(process, folder);
        Ok(Self {
            server,
            crowd,
            publisher,
            unit,
            qos: Qos::AtMostOnce,
            frame_len: None,
            start: NATIVE,
        })
    }

    /// Publishes once and returns the frame as the first subscriber got it.
    pub(crate) fn sample(&mut self) -> Result<Vec<u8>> {
        let (mut frame, start) = (None, self.start);
        self.publisher.send_raw(&self.unit)?;
        let (mut seen, wanted) = (0, self.crowd.links.len());
        self.crowd.run(|_, link, scratch| {
            link.read_events(scratch, &mut |event| {
                if let Event::Text(text) = event
                    && text.starts_with(start)
                {
                    seen += 1;
                    frame.get_or_insert_with(|| frame_text(text.as_bytes()).to_vec());
                }
            })?;
            Ok(if seen == wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        frame.context("no frame came")
    }

    fn cpu_seconds(&self) -> Result<f64> {
        match &self.server {
            Server::Gateway(gateway, _) => gateway.process.cpu_seconds(),
            Server::Bare(process) | Server::Node(process, _) => process.cpu_seconds(),
        }
    }

    /// Publishes for half of the plan's time, the next burst when the last one is everywhere.
    pub(crate) fn measure(&mut self, plan: &Plan, burst: usize) -> Result<Round> {
        let seconds = plan.seconds / 2.0;
        self.rounds(burst, seconds / 10.0)?;
        let before = self.cpu_seconds()?;
        let (delivery_count, mut last_ms) = self.rounds(burst, seconds)?;
        let cpu_us = (self.cpu_seconds()? - before) * 1e6 / delivery_count;
        last_ms.sort_by(f64::total_cmp);
        Ok(Round { cpu_us, last_ms: median(last_ms) })
    }

    fn rounds(&mut self, burst: usize, seconds: f64) -> Result<(f64, Vec<f64>)> {
        let unit = self.unit.repeat(burst);
        let per_round = self.crowd.links.len() * burst;
        let wanted = per_round * self.frame_len.unwrap_or(1);
        let (mut delivery_count, mut last_ms) = (0, Vec::new());
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < seconds {
            let sent = Instant::now();
            self.publisher.send_raw(&unit)?;
            let mut seen = 0;
            let (bare, qos, start) = (self.frame_len.is_some(), self.qos, self.start);
            self.crowd.run(|_, link, scratch| {
                seen += if bare {
                    link.read_raw(scratch)?.map_or(0, |bytes| bytes.len())
                } else {
                    receive(link, scratch, qos, start)?
                };
                Ok(if seen >= wanted { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            last_ms.push(sent.elapsed().as_secs_f64() * 1e3);
            delivery_count += per_round;
        }
        Ok((delivery_count as f64, last_ms))
    }
}

/// What a short unmasked frame carries (RFC 6455, 5.2).
fn payload_of(frame: &[u8]) -> Option<&[u8]> {
    let header_len = match frame.get(1)? {
        ..126 => 2,
        126 => 4,
        _ => 10,
    };
    frame.get(header_len..)
}

/// Counts deliveries, and acknowledges them at QoS 1; a ping of Engine.IO is answered.
fn receive(link: &mut Link, scratch: &mut [u8], qos: Qos, start: &str) -> Result<usize> {
    let mut count = 0;
    let mut acks = Vec::new();
    link.read_events(scratch, &mut |event| {
        let Event::Text(text) = event else { return };
        if !text.starts_with(start) {
            if text == "2" {
                acks.extend(frame_masked(Opcode::Text, b"3", [1, 2, 3, 4]));
            }
            return;
        }
        count += 1;
        if qos == Qos::AtLeastOnce
            && let Some((_, rest)) = text.rsplit_once(r#""msgid":""#)
            && let Some((msgid, _)) = rest.split_once('"')
        {
            let ack = encode_ack(msgid);
            acks.extend(frame_masked(Opcode::Text, ack.as_bytes(), [1, 2, 3, 4]));
        }
    })?;
    if !acks.is_empty() {
        link.send_raw(&acks)?;
    }
    Ok(count)
}
