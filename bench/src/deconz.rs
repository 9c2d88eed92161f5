//! deCONZ: 200 lights that change ten times a second, told to 50 clients of the push socket. CPU time of
//! the server for each delivery, taking the messages in included.
//!
//! The rival is the native dialect under the very same load: 50 clients that follow these lights. The two
//! alternate; a ratio is the median of those of neighbours.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use fieldgate_core::message::Qos;
use fieldgate_dialects::{
    native::client::encode_publish,
    ws::{Event, Opcode, frame_masked},
};

use crate::{
    Plan,
    fanout::serve,
    load::{self, Crowd, Link},
    process::{CLIENT_CORE, Gateway, data_folder, on_core},
    report::{Budget, Report, median},
};

const LIGHT_COUNT: usize = 200;
/// In a second, of each light.
const CHANGE_COUNT: usize = 10;
const CLIENT_COUNT: usize = 50;
/// So many lights change in one step of the load.
const STEP_LEN: usize = LIGHT_COUNT * CHANGE_COUNT / 1_000;
const STEP: Duration = Duration::from_millis(1);

/// Measures and reports.
pub(crate) fn run(plan: &Plan, report: &mut Report) -> Result<()> {
    on_core(CLIENT_CORE, || compare(plan, report))
}

fn compare(plan: &Plan, report: &mut Report) -> Result<()> {
    let folder = data_folder()?;
    let data = folder.path().join("data");
    let set = ["--set", "listen.deconz=[\"127.0.0.1:0\"]"];
    let gateway = serve(|| Gateway::start_with(&plan.binary, &data, &set))?;
    let key = gateway.key("bench", GRANTS)?;
    for number in 0..LIGHT_COUNT {
        gateway.light(&light(number))?;
    }
    let mut publisher = load::native(gateway.address, false, None, &key)?;
    let deconz = gateway.listener("deconz")?;
    let app = app_key(&gateway, deconz)?;
    let mut crowd = Load::default();
    let (mut ours, mut native) = (Vec::new(), Vec::new());
    for _ in 0..plan.repetition_count {
        let open = || follower(gateway.address, &key);
        native.push(crowd.measure(plan, &gateway, &mut publisher, &open)?);
        let open = || Link::open(deconz, false, &format!("/?apikey={app}"), "");
        ours.push(crowd.measure(plan, &gateway, &mut publisher, &open)?);
    }
    report.section(&format!(
        "deCONZ, {LIGHT_COUNT} lights × {CHANGE_COUNT} changes a second → {CLIENT_COUNT} \
         clients, CPU per delivery, taking in included"
    ));
    report.row("native, the same load", median(native.clone()), "µs", Budget::None);
    report.row("deCONZ push", median(ours.clone()), "µs", Budget::None);
    let ratios = ours.iter().zip(&native).map(|(ours, native)| ours / native).collect();
    report.row("deCONZ / native", median(ratios), "×", Budget::AtMost(1.2));
    Ok(())
}

const GRANTS: &[&str] = &["publish:devices/#", "impersonate:devices/#", "subscribe:devices/#"];

fn light(number: usize) -> String {
    format!("light-{number}")
}

fn follower(address: SocketAddr, key: &str) -> Result<Link> {
    let mut link = load::native(address, false, None, key)?;
    load::subscribe(&mut link, "devices/+/telemetry", 0)?;
    Ok(link)
}

/// What has been sent, so that each light changes with each message.
#[derive(Debug, Default)]
struct Load {
    sent_count: usize,
}

impl Load {
    /// The next messages of the load, as one write.
    fn next(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..STEP_LEN {
            let (light_number, turn) =
                (self.sent_count % LIGHT_COUNT, self.sent_count / LIGHT_COUNT);
            self.sent_count += 1;
            let topic = format!("devices/{}/telemetry", light(light_number));
            let (on, brightness) = (turn % 2 == 0, (turn % 100) as f64 / 100.0);
            let payload = format!(r#"{{"on":{on},"brightness":{brightness}}}"#);
            let text = encode_publish(&topic, &payload, Qos::AtMostOnce, false, None);
            bytes.extend(frame_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]));
        }
        bytes
    }

    /// Has clients follow while lights change at their pace; CPU time of the server for each delivery.
    fn measure(
        &mut self,
        plan: &Plan,
        gateway: &Gateway,
        publisher: &mut Link,
        open: &dyn Fn() -> Result<Link>,
    ) -> Result<f64> {
        let mut crowd = Crowd::new((0..CLIENT_COUNT).map(|_| open()).collect::<Result<_>>()?)?;
        self.run(plan.seconds / 10.0, publisher, &mut crowd)?;
        let before = gateway.process.cpu_seconds()?;
        let delivery_count = self.run(plan.seconds, publisher, &mut crowd)?;
        Ok((gateway.process.cpu_seconds()? - before) * 1e6 / delivery_count as f64)
    }

    fn run(&mut self, seconds: f64, publisher: &mut Link, crowd: &mut Crowd) -> Result<usize> {
        let step_count = steps_in(Duration::from_secs_f64(seconds))?;
        let wanted = step_count * STEP_LEN * CLIENT_COUNT;
        let started = Instant::now();
        let (mut sent_count, mut seen) = (0, 0);
        while sent_count < step_count {
            let due = steps_in(started.elapsed())? + 1;
            while sent_count < due.min(step_count) {
                let step = self.next();
                publisher.send_raw(&step)?;
                sent_count += 1;
            }
            let expected = sent_count * STEP_LEN * CLIENT_COUNT;
            receive(crowd, &mut seen, expected)?;
            let next = STEP * u32::try_from(sent_count)?;
            std::thread::sleep(next.saturating_sub(started.elapsed()));
        }
        if seen < wanted {
            bail!("{seen} of {wanted} deliveries came");
        }
        Ok(wanted)
    }
}

fn steps_in(time: Duration) -> Result<usize> {
    Ok(usize::try_from(time.as_nanos() / STEP.as_nanos())?)
}

/// Reads until everybody has everything.
fn receive(crowd: &mut Crowd, seen: &mut usize, expected: usize) -> Result<()> {
    crowd.run(|_, link, scratch| {
        link.read_events(scratch, &mut |event| {
            // One of lights; what else is told to clients of deCONZ belongs to none of these messages.
            if let Event::Text(text) = event
                && (text.contains("\"state\"") || text.contains("telemetry"))
            {
                *seen += 1;
            }
        })?;
        Ok(if *seen >= expected { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
}

/// Comes by a key as an app does.
fn app_key(gateway: &Gateway, address: SocketAddr) -> Result<String> {
    gateway.run(&["deconz", "unlock"])?;
    let body = r#"{"devicetype":"bench"}"#;
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /api HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let key = answer.split_once(r#""username":""#).and_then(|(_, rest)| rest.split_once('"'));
    Ok(key.with_context(|| format!("no key: {answer}"))?.0.to_owned())
}
