//! Sensors of a mesh, as their vendor's cloud brings them, and a small server that arrays are brought
//! to: both ends of the Thingsee dialect.
//!
//! Plain sockets and the codec, as a stranger would have it: no client of ours speaks this.

use std::{
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fieldgate_dialects::ws::{self, Decoder, Event, Opcode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::building::wave;
use crate::cli::now_ms;

/// The integrations of the demo: who brings the sensors, and where their arrays go.
pub(super) const SOURCE: &str = "demo-cloud";
pub(super) const TARGET: &str = "demo-target";
/// How many sensors there are.
pub(super) const SENSORS: u32 = 20;

const LIMITS: ws::Limits =
    ws::Limits { frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20, fragment_count_max: 16 };
/// Any will do between two ends of one machine.
const MASK: ws::Mask = [0x5a, 0x17, 0xc3, 0x88];

/// What the sensors are set to, and where the cloud is with them.
#[derive(Debug, Default)]
struct Sensors {
    turn: u32,
    settings: std::collections::BTreeMap<String, serde_json::Map<String, Value>>,
}

/// The vendor's id of a sensor.
pub(super) fn tuid(number: u32) -> String {
    format!("TSDM00DEMO{number:07}")
}

/// Whether a device is one of the sensors.
pub(super) fn is_sensor(id: &str) -> bool {
    id.starts_with("TSDM00DEMO")
}

/// Brings the sensors' arrays to the source's address, until the connection ends.
pub(super) async fn cloud(address: String, token: String) {
    if let Err(error) = bring(&address, &token).await {
        tracing::warn!(%error, "the demo's Thingsee cloud is gone");
    }
}

async fn bring(address: &str, token: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /ingest/thingsee/{SOURCE} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: ZmllbGRnYXRlLWRlbW8tMQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let head = head_of(&mut stream).await?;
    if !head.starts_with("HTTP/1.1 101") {
        return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    let mut sensors = Sensors::default();
    let mut decoder = Decoder::client(LIMITS);
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let out = tokio::select! {
            _ = ticks.tick() => sensors.tell(),
            read = stream.read(&mut buffer) => {
                let len = read?;
                let mut out = Vec::new();
                let mut on_event = |event: Event<'_>| {
                    match event {
                        Event::Text(text) => out.extend(sensors.obey(text)),
                        Event::Ping(payload) => {
                            out.extend(ws::frame_masked(Opcode::Pong, payload, MASK));
                        }
                        Event::Binary(_) | Event::Pong(_) | Event::Close { .. } => (),
                    }
                    ControlFlow::Continue(())
                };
                let bytes = buffer.get_mut(..len).unwrap_or_default();
                if len == 0 || decoder.feed(bytes, &mut on_event).is_err() {
                    return Ok(());
                }
                out
            }
        };
        stream.write_all(&out).await?;
    }
}

/// Reads up to the empty line behind the headers.
async fn head_of(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8_192 {
            return Err(io::Error::other("the head has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn frame_of(array: &Value) -> Vec<u8> {
    ws::frame_masked(Opcode::Text, array.to_string().as_bytes(), MASK)
}

impl Sensors {
    /// The next quarter of them, in one array.
    fn tell(&mut self) -> Vec<u8> {
        let quarter = SENSORS / 4;
        let first = self.turn % 4 * quarter;
        self.turn = self.turn.wrapping_add(1);
        let each = (first..first + quarter).flat_map(|number| {
            let reading = reading(number);
            // A battery is told now and then.
            let battery = (self.turn % 16 == 1)
                .then(|| json!({"tsmId": 1110, "tsmEv": 10, "batl": 100 - number, "chrg": 0}));
            std::iter::once(reading).chain(battery).map(move |mut message| {
                if let Some(message) = message.as_object_mut() {
                    message.insert("tsmTs".into(), json!(now_ms() / 1_000));
                    message.insert("tsmTuid".into(), tuid(number).into());
                    let gateway = format!("TSGW00DEMO{:07}", number % 2);
                    message.insert("tsmGw".into(), gateway.into());
                }
                message
            })
        });
        frame_of(&each.collect())
    }

    /// Does what an array asks for, and answers as the sensors would.
    fn obey(&mut self, text: &str) -> Vec<u8> {
        let asked: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
        let mut echoes = Vec::new();
        for mut message in asked {
            let Some(object) = message.as_object_mut() else { continue };
            let Some(Value::String(tuid)) = object.remove("tsmDstTuid") else { continue };
            let (id, event) = (object.remove("tsmId"), object.remove("tsmEv"));
            let transaction = object.remove("transactionId");
            let settings = self.settings.entry(tuid.clone()).or_default();
            settings.append(object);
            let mut echo = settings.clone();
            echo.insert("tsmId".into(), id.unwrap_or_default());
            echo.insert("tsmEv".into(), json!(event.and_then(|ev| ev.as_u64()).unwrap_or(30) + 1));
            echo.insert("transactionId".into(), transaction.unwrap_or_default());
            echo.insert("tsmTs".into(), json!(now_ms() / 1_000));
            echo.insert("tsmTuid".into(), tuid.into());
            echoes.push(Value::Object(echo));
        }
        if echoes.is_empty() { Vec::new() } else { frame_of(&echoes.into()) }
    }
}

/// What a sensor measures: one of four kinds.
fn reading(number: u32) -> Value {
    let phase = f64::from(number);
    match number % 4 {
        0 => json!({"tsmId": 12100, "tsmEv": 10, "airp": wave(101_325.0, 300.0, 90.0, phase),
            "lght": wave(300.0, 200.0, 45.0, phase).round(), "temp": wave(21.5, 1.5, 50.0, phase),
            "humd": wave(42.0, 5.0, 70.0, phase)}),
        1 => json!({"tsmId": 13100, "tsmEv": 10, "moveCount": wave(6.0, 6.0, 30.0, phase).round()}),
        2 => json!({"tsmId": 24100, "tsmEv": 10, "status": 0,
            "carbonDioxide": wave(650.0, 200.0, 60.0, phase).round()}),
        _ => json!({"tsmId": 17100, "tsmEv": 10, "dist": wave(900.0, 700.0, 80.0, phase).round()}),
    }
}

/// Takes arrays from whoever connects, as the vendor's customers do, and counts their objects.
pub(super) async fn target(listener: TcpListener, taken: Arc<AtomicU64>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let taken = Arc::clone(&taken);
        connections.spawn(async move {
            if let Err(error) = take(stream, &taken).await {
                tracing::debug!(%error, "a connection to the demo's target ended");
            }
        });
        // Those that ended are forgotten.
        while connections.try_join_next().is_some() {}
    }
}

async fn take(mut stream: TcpStream, taken: &AtomicU64) -> io::Result<()> {
    let head = head_of(&mut stream).await?;
    let key = head.lines().filter_map(|line| line.split_once(':'));
    let key = key.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let key = key.map(|(_, key)| key.trim()).next().unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        ws::accept_key(key)
    );
    stream.write_all(answer.as_bytes()).await?;
    let mut decoder = Decoder::server(LIMITS);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = stream.read(&mut buffer).await?;
        let mut out = Vec::new();
        let mut on_event = |event: Event<'_>| {
            match event {
                Event::Text(text) => {
                    let array: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
                    taken.fetch_add(array.len() as u64, Ordering::Relaxed);
                }
                Event::Ping(payload) => out.extend_from_slice(&ws::pong_frame(payload)),
                Event::Close { code, .. } => out.extend_from_slice(&ws::close_echo(code)),
                Event::Binary(_) | Event::Pong(_) => (),
            }
            ControlFlow::Continue(())
        };
        let bytes = buffer.get_mut(..len).unwrap_or_default();
        if len == 0 || decoder.feed(bytes, &mut on_event).is_err() {
            return Ok(());
        }
        stream.write_all(&out).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sensor_tells_in_its_turn_and_obeys() {
        let mut sensors = Sensors::default();
        let mut seen = std::collections::BTreeSet::new();
        let array = |frame: &mut Vec<u8>| -> Vec<Value> {
            let mut found = Vec::new();
            let fed = Decoder::server(LIMITS).feed(frame, &mut |event| {
                if let Event::Text(text) = event {
                    found = serde_json::from_str(text).unwrap();
                }
                ControlFlow::Continue(())
            });
            assert!(fed.is_ok());
            found
        };
        for _ in 0..4 {
            let told = array(&mut sensors.tell());
            seen.extend(told.into_iter().map(|one| one["tsmTuid"].as_str().unwrap().to_owned()));
        }
        assert_eq!(seen.len(), SENSORS as usize);
        let asked = json!([{"tsmId": 1500, "tsmEv": 30, "tsmDstTuid": tuid(3), "reportInterval": 9,
            "transactionId": 7}]);
        let echo = array(&mut sensors.obey(&asked.to_string()));
        assert_eq!((&echo[0]["tsmEv"], &echo[0]["reportInterval"]), (&json!(31), &json!(9)));
        assert_eq!((&echo[0]["tsmTuid"], &echo[0]["transactionId"]), (&json!(tuid(3)), &json!(7)));
        assert!(sensors.obey("{}").is_empty());
    }
}
