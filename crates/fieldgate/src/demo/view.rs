//! What a watcher of the demo sees: snippets to copy, then a table that moves, or plain lines.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fieldgate_client::Message;

use super::{actuators::Commands, building::DEVICES, thingsee};
use crate::output;

#[derive(Debug)]
struct Row {
    count: u64,
    seq: u64,
    newest: String,
}

/// The screen of the demo.
pub(super) struct View {
    address: String,
    token: String,
    screen: Option<output::Screen>,
    rows: BTreeMap<String, Row>,
    seen: u64,
    pub(super) gaps: u64,
    since: Instant,
    dirty: bool,
    /// Objects that the target of the demo took.
    taken: Arc<AtomicU64>,
}

impl View {
    pub(super) fn new(address: &str, token: &str, taken: Arc<AtomicU64>) -> Self {
        Self {
            address: address.to_owned(),
            token: token.to_owned(),
            screen: output::is_terminal().then(output::Screen::default),
            rows: BTreeMap::new(),
            seen: 0,
            gaps: 0,
            since: Instant::now(),
            // Nothing is drawn before the first message, so that no note comes between two drawings.
            dirty: false,
            taken,
        }
    }

    /// Prints what can be copied.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let (address, token) = (&self.address, &self.token);
        let (sensors, source, sensor) = (thingsee::SENSORS, thingsee::SOURCE, thingsee::tuid(1));
        let (bold, plain) = if output::has_color() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        let snippets = format!(
            "\
{bold}Fieldgate demo{plain} on http://{address} (Ctrl-C ends it)

{bold}Token{plain} (an admin key of this demo alone)
  export FIELDGATE_TOKEN={token}

{bold}Raw WebSocket{plain}: send the second line after connecting
  websocat -H \"Authorization: Bearer $FIELDGATE_TOKEN\" ws://{address}/ws
  {{\"type\":\"subscribe\",\"topic\":\"devices/+/telemetry\"}}

{bold}Node{plain} (npm install ws)
  node -e 'const s=new (require(\"ws\"))(\"ws://{address}/ws\",{{headers:{{authorization:\"Bearer \"+process.env.FIELDGATE_TOKEN}}}});s.on(\"open\",()=>s.send(JSON.stringify({{type:\"subscribe\",topic:\"devices/+/telemetry\"}})));s.on(\"message\",m=>console.log(String(m)))'

{bold}Command line{plain}
  fieldgate subscribe 'devices/#' --since all --url http://{address}
  fieldgate command cover-1 '{{\"set\":{{\"position\":0.5}}}}' --wait 10s --url http://{address}

{bold}HTTP{plain}: live, the last state of a device, a command and how it ended; all of it at http://{address}/doc
  curl -N -H \"Authorization: Bearer $FIELDGATE_TOKEN\" 'http://{address}/v1/stream?topic=devices/%2B/telemetry'
  curl -H \"Authorization: Bearer $FIELDGATE_TOKEN\" http://{address}/v1/devices/thermostat-1/state
  curl -H \"Authorization: Bearer $FIELDGATE_TOKEN\" -d '{{\"to\":\"thermostat-1\",\"payload\":{{\"set\":{{\"target_temperature\":23}}}}}}' 'http://{address}/v1/commands?wait=5s'

{bold}Thingsee{plain}: {sensors} sensors come over /ingest/thingsee/{source}; their arrays, and those of every device, go out
  node -e 'new (require(\"ws\"))(\"ws://{address}/thingsee?token=\"+process.env.FIELDGATE_TOKEN).on(\"message\",m=>JSON.parse(m).forEach(o=>console.log(o.tsmTuid,o.tsmId)))'
  fieldgate command {sensor} '{{\"set\":{{\"reportInterval\":60}}}}' --wait 10s --url http://{address}
  curl -H \"Authorization: Bearer $FIELDGATE_TOKEN\" http://{address}/v1/integrations

{bold}What was dropped, and the metrics{plain}
  curl -H \"Authorization: Bearer $FIELDGATE_TOKEN\" http://{address}/v1/drops
  curl -H \"Authorization: Bearer $FIELDGATE_TOKEN\" http://{address}/metrics
"
        );
        output::line(&snippets)
    }

    /// The first message came.
    pub(super) fn moving(&mut self, took: Duration) {
        self.since = Instant::now();
        output::note(&format!("data moves {:.2} s after the start", took.as_secs_f64()));
    }

    pub(super) fn on_message(&mut self, message: &Message) -> io::Result<()> {
        self.seen += 1;
        self.dirty = true;
        if self.screen.is_none() {
            output::line(&format!("{:>6} {} {}", message.seq, message.topic, message.payload))?;
        }
        let mut levels = message.topic.split('/').skip(1);
        let (device, leaf) = (levels.next(), levels.next());
        let row = self.rows.entry(device.unwrap_or_default().to_owned());
        let row = row.or_insert_with(|| Row { count: 0, seq: 0, newest: String::new() });
        row.count += 1;
        row.seq = message.seq;
        if leaf == Some("telemetry") || leaf == Some("events") {
            row.newest = message.payload.chars().take(90).collect();
        }
        Ok(())
    }

    /// Draws the table, if there is a terminal and something new.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        let lines = self.lines();
        match &mut self.screen {
            Some(screen) if self.dirty => {
                self.dirty = false;
                screen.draw(&lines)
            }
            _ => Ok(()),
        }
    }

    fn lines(&self) -> Vec<String> {
        let rows: Vec<_> = DEVICES
            .iter()
            .map(|(id, _, name)| match self.rows.get(*id) {
                Some(row) => {
                    let (count, seq) = (row.count.to_string(), row.seq.to_string());
                    vec![(*name).to_owned(), count, seq, row.newest.clone()]
                }
                None => vec![(*name).to_owned(), String::new(), String::new(), "…".to_owned()],
            })
            .collect();
        let mut lines = output::aligned(&["DEVICE", "COUNT", "SEQ", "NEWEST"], &rows);
        lines.push(String::new());
        let sensors = self.rows.iter().filter(|(id, _)| thingsee::is_sensor(id));
        let told: u64 = sensors.clone().map(|(_, row)| row.count).sum();
        lines.push(format!(
            "{} Thingsee sensors told {told} messages; {} took {} objects",
            sensors.count(),
            thingsee::TARGET,
            self.taken.load(Ordering::Relaxed),
        ));
        lines.push(format!(
            "{} messages in {:.0} s, {} gaps",
            self.seen,
            self.since.elapsed().as_secs_f32(),
            self.gaps
        ));
        lines
    }

    /// The summary.
    pub(super) fn finish(&mut self, commands: &Commands) -> io::Result<()> {
        self.redraw()?;
        let seconds = self.since.elapsed().as_secs_f64();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        output::line(&format!(
            "\n{} messages of {} devices in {seconds:.1} s; {} of {} commands completed, \
             the last in {:.1} ms; {} gaps; {} objects delivered",
            self.seen,
            self.rows.len(),
            load(&commands.completed),
            load(&commands.sent),
            f64::from(u32::try_from(load(&commands.last_us)).unwrap_or(u32::MAX)) / 1_000.0,
            self.gaps,
            self.taken.load(Ordering::Relaxed),
        ))
    }
}
