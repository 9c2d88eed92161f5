//! Thingsee arrays of three messages from one source, against native batches of three readings frames.
//!
//! Both say the same fields at the same pace: so many frames under way on each connection. A native
//! batch is answered by its `ack`; on the other wire a ping goes behind each array, and its pong comes.
//! Both come when what they are of is durable. Server and clients on a core of their own; rounds
//! alternate, figures are medians, and a ratio is the median of the ratios of neighbours.

use std::{ops::ControlFlow, time::Instant};

use anyhow::{Context as _, Result, bail};
use fieldgate_dialects::ws::{Event, Opcode, frame_masked};

use crate::{
    Plan,
    load::{self, Crowd, Link},
    process::{CLIENT_CORE, Gateway, SERVER_CORE, data_folder, on_core},
    report::{Budget, Report, median},
};

const CONNECTIONS: usize = 16;
const WINDOW: usize = 16;
/// Messages of a frame.
const LEN: f64 = 3.0;
/// What the three messages say, by their id.
const FIELDS: [(u32, &str); 3] = [
    (12_101, r#""hall":0,"hallCount":0"#),
    (1_110, r#""batl":100"#),
    (12_100, r#""airp":101364.599,"lght":6,"temp":21.3,"humd":21.7"#),
];
const MASK: [u8; 4] = [1, 2, 3, 4];

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    on_core(CLIENT_CORE, || measure(plan, report))
}

fn measure(plan: &Plan, report: &mut Report) -> Result<()> {
    let folder = data_folder()?;
    let data = folder.path().join("data");
    let gateway = on_core(SERVER_CORE, || Gateway::start(&plan.binary, &data, false))?;
    let token = gateway.source("cloud")?;
    let key = gateway.key("metrics", &["metrics:#"])?;
    let (mut natives, mut arrays) = (Vec::new(), Vec::new());
    for number in 0..CONNECTIONS {
        let id = format!("native-{number}");
        let secret = gateway.device(&id)?;
        let link = load::native(gateway.address, false, Some(&id), &secret)?;
        natives.push((link, Frames::default()));
        let path = format!("/ingest/thingsee/cloud?token={token}");
        let device = Some(format!("thingsee-{number}"));
        arrays
            .push((Link::open(gateway.address, false, &path, "none")?, Frames { device, next: 0 }));
    }
    let (mut natives, mut arrays) = (Senders::new(natives)?, Senders::new(arrays)?);
    let (mut ours, mut rival) = (Rounds::default(), Rounds::default());
    let before = accepted(&gateway, &key)?;
    for _ in 0..plan.repetition_count {
        rival.measure(&gateway, &mut natives, plan.seconds / 2.0)?;
        ours.measure(&gateway, &mut arrays, plan.seconds / 2.0)?;
    }
    let sent = (natives.answered_count + arrays.answered_count) as f64 * LEN;
    let started = Instant::now();
    while accepted(&gateway, &key)? - before < sent {
        if started.elapsed().as_secs() > 10 {
            bail!("of {sent} messages {} were stored", accepted(&gateway, &key)? - before);
        }
    }
    report.section(&format!(
        "Ingest of three messages a frame, {CONNECTIONS} connections with {WINDOW} frames under way"
    ));
    let rates = quotients(&ours.rate, &rival.rate);
    let costs = quotients(&ours.cpu, &rival.cpu);
    report.row("native batches, acknowledged", median(rival.rate), "messages/s", Budget::None);
    report.row("Thingsee arrays of one source", median(ours.rate), "messages/s", Budget::None);
    report.row("Thingsee / native", median(rates), "×", Budget::AtLeast(0.7));
    report.row("native batches, CPU per message", median(rival.cpu), "µs", Budget::None);
    report.row("Thingsee arrays, CPU per message", median(ours.cpu), "µs", Budget::None);
    report.row("Thingsee / native, CPU", median(costs), "×", Budget::None);
    Ok(())
}

fn quotients(ours: &[f64], rival: &[f64]) -> Vec<f64> {
    ours.iter().zip(rival).map(|(ours, rival)| ours / rival).collect()
}

/// What each round of one kind of senders came to.
#[derive(Default)]
struct Rounds {
    /// Messages a second.
    rate: Vec<f64>,
    /// The gateway's CPU per message, in µs; what it does behind a round counts in the next.
    cpu: Vec<f64>,
}

impl Rounds {
    fn measure(&mut self, gateway: &Gateway, senders: &mut Senders, seconds: f64) -> Result<()> {
        let (cpu, count) = (gateway.process.cpu_seconds()?, senders.answered_count);
        self.rate.push(senders.rate(seconds)? * LEN);
        let used = gateway.process.cpu_seconds()? - cpu;
        self.cpu.push(used * 1e6 / ((senders.answered_count - count) as f64 * LEN));
        Ok(())
    }
}

/// How many messages were routed so far.
fn accepted(gateway: &Gateway, key: &str) -> Result<f64> {
    let metrics = gateway.metrics(key)?;
    let accepted = metrics.get("fieldgate_messages_accepted_total");
    accepted.copied().context("no such metric")
}

/// The frames of one connection: arrays if they name a device, else native batches.
#[derive(Default)]
struct Frames {
    device: Option<String>,
    next: u64,
}

impl Frames {
    fn next(&mut self, out: &mut Vec<u8>) {
        self.next += 1;
        let id = self.next;
        let ms = 1_700_000_000_000 + id;
        let Some(device) = &self.device else {
            let one = |(_, fields)| format!(r#"{{"timestamp":{ms},"data":{{{fields}}}}}"#);
            let all = FIELDS.map(one).join(",");
            let text = format!(r#"{{"type":"batch","msgid":"{id}","data":[{all}]}}"#);
            return out.extend(frame_masked(Opcode::Text, text.as_bytes(), MASK));
        };
        let one = |(kind, fields)| {
            format!(
                r#"{{"tsmId":{kind},"tsmEv":10,{fields},"tsmTs":{}.{:03},"tsmTuid":"{device}","tsmGw":"XXXX00EFS80560445"}}"#,
                ms / 1_000,
                ms % 1_000
            )
        };
        let text = format!("[{}]", FIELDS.map(one).join(","));
        out.extend(frame_masked(Opcode::Text, text.as_bytes(), MASK));
        out.extend(frame_masked(Opcode::Ping, b"", MASK));
    }
}

/// Connections with [`WINDOW`] frames under way each.
struct Senders {
    crowd: Crowd,
    frames: Vec<Frames>,
    answered_count: u64,
}

impl Senders {
    fn new(opened: Vec<(Link, Frames)>) -> Result<Self> {
        let (links, frames) = opened.into_iter().unzip();
        Ok(Self { crowd: Crowd::new(links)?, frames, answered_count: 0 })
    }

    /// Frames a second, over `seconds`; nothing is under way before and behind it.
    fn rate(&mut self, seconds: f64) -> Result<f64> {
        let Self { crowd, frames, answered_count } = self;
        for (link, frames) in crowd.links.iter_mut().zip(frames.iter_mut()) {
            let mut out = Vec::new();
            (0..WINDOW).for_each(|_| frames.next(&mut out));
            link.send_raw(&out)?;
        }
        let (started, mut count, mut open) = (Instant::now(), 0_u32, frames.len() * WINDOW);
        crowd.run(|number, link, scratch| {
            let frames = frames.get_mut(number).context("no such link")?;
            let enough = started.elapsed().as_secs_f64() >= seconds;
            let (mut out, mut wrong, mut answered) = (Vec::new(), None, 0_u32);
            let is_open = link.read_events(scratch, &mut |event| match event {
                Event::Text(text) if !text.contains(r#""accepted":3"#) => {
                    wrong = Some(text.to_owned());
                }
                Event::Text(_) | Event::Pong(_) => answered += 1,
                Event::Binary(_) | Event::Ping(_) | Event::Close { .. } => (),
            })?;
            if !is_open || wrong.is_some() {
                bail!("refused: {}", wrong.unwrap_or_default());
            }
            count += answered;
            for _ in 0..answered {
                if enough {
                    open -= 1;
                } else {
                    frames.next(&mut out);
                }
            }
            link.send_raw(&out)?;
            Ok(if open == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        *answered_count += u64::from(count);
        Ok(f64::from(count) / started.elapsed().as_secs_f64())
    }
}
