//! The API: one device's last state against a bare axum handler that returns the same bytes, and a
//! batch of readings by request against the same batch over the native dialect.
//!
//! Servers on one core and clients on the other, so that the server is what is measured. Rounds
//! alternate; figures are medians, and a ratio is the median of the ratios of neighbours.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    ops::ControlFlow,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use axum::{Router, http::header, routing::get};
use fieldgate_dialects::ws::{Event, Opcode, frame_masked};

use crate::{
    Plan,
    load::{self, Crowd, Link},
    process::{CLIENT_CORE, Gateway, Process, SERVER_CORE, data_folder, on_core},
    report::{Budget, Report, median},
};

const CONNECTIONS: usize = 64;
const BATCH_CONNECTIONS: usize = 16;
const BATCH_LEN: usize = 100;

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    on_core(CLIENT_CORE, || {
        state(plan, report)?;
        batches(plan, report)
    })
}

/// `GET` of one device's last state.
fn state(plan: &Plan, report: &mut Report) -> Result<()> {
    let folder = data_folder()?;
    let start = || Gateway::start(&plan.binary, &folder.path().join("data"), false);
    let gateway = on_core(SERVER_CORE, start)?;
    let token = gateway.device("sensor-1")?;
    let key = gateway.key("bench", &["read:#"])?;
    let mut device = load::native(gateway.address, false, Some("sensor-1"), &token)?;
    device.send_text(
        r#"{"type":"status","msgid":"1","data":{"temperature":21.5,"humidity":40,"battery":97,"on":true}}"#,
    )?;
    device.wait_text("\"type\":\"ack\"")?;
    let request = |host: SocketAddr| {
        let path = "/v1/devices/sensor-1/state";
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n")
    };
    let mut one = Link::raw(gateway.address)?;
    let body = answer(&mut one, &request(gateway.address))?;
    let bare = Bare::start(&body)?;
    let mut ours = Requests::open(gateway.address, CONNECTIONS, &request(gateway.address))?;
    let mut theirs = Requests::open(bare.address, CONNECTIONS, &request(bare.address))?;
    let (mut rate, mut rival) = (Vec::new(), Vec::new());
    for _ in 0..plan.repetition_count {
        rival.push(theirs.rate(plan.seconds / 2.0)?);
        rate.push(ours.rate(plan.seconds / 2.0)?);
    }
    report.section(&format!(
        "GET of one device's last state ({} bytes), {CONNECTIONS} connections",
        body.len()
    ));
    let ratio = of_neighbours(&rate, &rival);
    report.row("bare axum handler, the same bytes", median(rival), "requests/s", Budget::None);
    report.row("gateway", median(rate), "requests/s", Budget::None);
    report.row("gateway / bare", ratio, "×", Budget::AtLeast(0.7));
    Ok(())
}

/// `POST` of a batch, and the same batch as a frame.
fn batches(plan: &Plan, report: &mut Report) -> Result<()> {
    let folder = data_folder()?;
    let start = || Gateway::start(&plan.binary, &folder.path().join("data"), false);
    let gateway = on_core(SERVER_CORE, start)?;
    let (mut frames, mut requests) = (Vec::new(), Vec::new());
    for number in 0..BATCH_CONNECTIONS {
        let id = format!("sensor-{number}");
        let token = gateway.device(&id)?;
        let host = gateway.address;
        let mut head = format!("POST /v1/publish HTTP/1.1\r\nHost: {host}\r\n");
        head.push_str(&format!("Authorization: Bearer {token}\r\nContent-Length: "));
        requests.push(Batches { head: Some(head), next: 0 });
        frames.push((load::native(host, false, Some(&id), &token)?, Batches::default()));
    }
    let open = |mut batches: Batches| {
        batches.next = 1_000_000_000;
        Ok((Link::raw(gateway.address)?, batches))
    };
    let posted: Vec<_> = requests.into_iter().map(open).collect::<Result<_>>()?;
    let (mut ours, mut native) = (Senders::new(posted)?, Senders::new(frames)?);
    let (mut rate, mut rival) = (Vec::new(), Vec::new());
    for _ in 0..plan.repetition_count {
        rival.push(native.rate(plan.seconds / 2.0)? * BATCH_LEN as f64);
        rate.push(ours.rate(plan.seconds / 2.0)? * BATCH_LEN as f64);
    }
    report.section(&format!(
        "Batches of {BATCH_LEN} readings, stored and acknowledged, {BATCH_CONNECTIONS} devices with one under way"
    ));
    let ratio = of_neighbours(&rate, &rival);
    report.row("native dialect", median(rival), "readings/s", Budget::None);
    report.row("POST /v1/publish", median(rate), "readings/s", Budget::None);
    report.row("POST / native", ratio, "×", Budget::AtLeast(0.8));
    Ok(())
}

fn of_neighbours(ours: &[f64], rival: &[f64]) -> f64 {
    median(ours.iter().zip(rival).map(|(ours, rival)| ours / rival).collect())
}

/// The bare handler, as a process of its own on the servers' core.
struct Bare {
    address: SocketAddr,
    _process: Process,
}

impl Bare {
    fn start(body: &[u8]) -> Result<Self> {
        let file = data_folder()?.keep().join("body");
        fs::write(&file, body)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare-axum").arg(address.to_string()).arg(&file);
        let process = on_core(SERVER_CORE, || Process::start(&mut command))?;
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if started.elapsed() > Duration::from_secs(5) {
                bail!("the bare handler did not start");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::remove_dir_all(file.parent().context("a file in a folder")?)?;
        Ok(Self { address, _process: process })
    }
}

/// What [`Bare`] is: axum as its documentation starts it, with one route.
pub(crate) fn run_bare(args: &[String]) -> Result<()> {
    let [address, file] = args else { bail!("two arguments") };
    let body: &'static [u8] = fs::read(file)?.leak();
    let handler = move || async move { ([(header::CONTENT_TYPE, "application/json")], body) };
    let router = Router::new().route("/v1/devices/{id}/state", get(handler));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        axum::serve(listener, router).await
    })?;
    Ok(())
}

/// One whole answer at the front of `held`: the bytes of head and body; its status must be 2xx.
fn whole(held: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(head_len) = held.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
    else {
        return Ok(None);
    };
    let head = std::str::from_utf8(held.get(..head_len).unwrap_or_default())?;
    if !head.starts_with("HTTP/1.1 2") {
        bail!("{}", String::from_utf8_lossy(held));
    }
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("no length")?;
    let body_len = length.trim().parse::<usize>()?;
    Ok((held.len() >= head_len + body_len).then_some((head_len, body_len)))
}

/// Asks once, waiting; the body.
fn answer(link: &mut Link, request: &str) -> Result<Vec<u8>> {
    link.send_raw(request.as_bytes())?;
    let (mut held, mut scratch) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        held.extend_from_slice(link.read_raw(&mut scratch)?.context("no answer")?);
        if let Some((head_len, body_len)) = whole(&held)? {
            return Ok(held.get(head_len..head_len + body_len).unwrap_or_default().to_vec());
        }
    }
}

/// Connections that ask the same again and again.
struct Requests {
    crowd: Crowd,
    request: Vec<u8>,
    held: Vec<Vec<u8>>,
}

impl Requests {
    fn open(address: SocketAddr, count: usize, request: &str) -> Result<Self> {
        let links = (0..count).map(|_| Link::raw(address)).collect::<Result<_>>()?;
        let mut crowd = Crowd::spinning(links)?;
        let request = request.as_bytes().to_vec();
        crowd.links.iter_mut().try_for_each(|link| link.send_raw(&request))?;
        Ok(Self { crowd, request, held: vec![Vec::new(); count] })
    }

    /// Answers a second, over `seconds`.
    fn rate(&mut self, seconds: f64) -> Result<f64> {
        let (started, mut count) = (Instant::now(), 0_u32);
        let Self { crowd, request, held } = self;
        crowd.run(|number, link, scratch| {
            let held = held.get_mut(number).context("no such link")?;
            let Some(bytes) = link.read_raw(scratch)? else { return Ok(ControlFlow::Continue(())) };
            if bytes.is_empty() {
                bail!("the server closed");
            }
            held.extend_from_slice(bytes);
            while let Some((head_len, body_len)) = whole(held)? {
                held.drain(..head_len + body_len);
                count += 1;
                link.send_raw(request)?;
            }
            let enough = started.elapsed().as_secs_f64() >= seconds;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(f64::from(count) / started.elapsed().as_secs_f64())
    }
}

/// The batches of one device: frames, or requests if there is a head.
#[derive(Default)]
struct Batches {
    head: Option<String>,
    next: usize,
}

impl Batches {
    fn next(&mut self) -> Vec<u8> {
        self.next += 1;
        let id = self.next;
        let reading = |number: usize| {
            let time = 1_700_000_000_000 + id * BATCH_LEN + number;
            format!(r#"{{"timestamp":{time},"data":{{"temperature":21.5,"humidity":40}}}}"#)
        };
        let readings: Vec<_> = (0..BATCH_LEN).map(reading).collect();
        let readings = readings.join(",");
        let text = format!(r#"{{"type":"batch","msgid":"{id}","data":[{readings}]}}"#);
        match &self.head {
            Some(head) => format!("{head}{}\r\n\r\n{text}", text.len()).into_bytes(),
            None => frame_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]).to_vec(),
        }
    }
}

/// Devices with one batch under way each.
struct Senders {
    crowd: Crowd,
    batches: Vec<(Batches, Vec<u8>)>,
}

impl Senders {
    fn new(opened: Vec<(Link, Batches)>) -> Result<Self> {
        let (links, batches): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        let batches = batches.into_iter().map(|batches| (batches, Vec::new())).collect();
        Ok(Self { crowd: Crowd::new(links)?, batches })
    }

    /// Batches a second, over `seconds`; nothing is under way before and behind it.
    fn rate(&mut self, seconds: f64) -> Result<f64> {
        let Self { crowd, batches } = self;
        for (link, (batches, _)) in crowd.links.iter_mut().zip(batches.iter_mut()) {
            link.send_raw(&batches.next())?;
        }
        let (started, mut count, mut open) = (Instant::now(), 0_u32, batches.len());
        crowd.run(|number, link, scratch| {
            let (batches, held) = batches.get_mut(number).context("no such link")?;
            let answered = answered(link, scratch, batches.head.is_some(), held)?;
            count += answered;
            let enough = started.elapsed().as_secs_f64() >= seconds;
            for _ in 0..answered {
                if enough {
                    open -= 1;
                } else {
                    link.send_raw(&batches.next())?;
                }
            }
            Ok(if open == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(f64::from(count) / started.elapsed().as_secs_f64())
    }
}

/// How many batches the server has acknowledged now, all of their readings.
fn answered(link: &mut Link, scratch: &mut [u8], is_http: bool, held: &mut Vec<u8>) -> Result<u32> {
    let (mut count, mut wrong) = (0, None);
    let accepted = format!(r#""accepted":{BATCH_LEN}"#);
    if !is_http {
        link.read_events(scratch, &mut |event| {
            if let Event::Text(text) = event {
                count += 1;
                if !text.contains(&accepted) {
                    wrong = Some(text.to_owned());
                }
            }
        })?;
    } else if let Some(bytes) = link.read_raw(scratch)? {
        held.extend_from_slice(bytes);
        while let Some((head_len, body_len)) = whole(held)? {
            let answer: Vec<u8> = held.drain(..head_len + body_len).collect();
            let text = String::from_utf8(answer)?;
            count += 1;
            if !text.contains(&accepted) {
                wrong = Some(text);
            }
        }
    }
    wrong.map_or(Ok(count), |wrong| bail!("not accepted: {wrong}"))
}
