//! Deliveries of the real binary to servers of others, and through `kill -9`.

mod kills;
mod targets;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write as _},
    net::TcpListener,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use fieldgate_core::id::UnixMs;
use fieldgate_store::{
    Log as _, Record, Store, StoreOptions,
    audit::Author,
    log::LogOptions,
    registry::{
        Change, Format, Integration, IntegrationKind, IntegrationStep, RegistryChange, Start,
        Target,
    },
};
use serde_json::{Value, json};

use crate::support::{Gateway, LIMIT, NodeScript, Seen, node_modules};

/// Adds an integration, by a record in the log of a gateway that is down meanwhile.
fn integrate(gateway: &mut Gateway, kind: IntegrationKind, url: &str, format: Format) {
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
    let log = LogOptions { free_bytes_min: 0, ..LogOptions::default() };
    let store =
        Store::open(&gateway.data(), StoreOptions { log, ..StoreOptions::default() }).unwrap();
    let target = Target {
        url: url.to_owned(),
        filter: "devices/+/telemetry".to_owned(),
        format,
        allow_private: true,
        ..Target::default()
    };
    let name = "out".to_owned();
    let integration =
        Integration { name: name.clone(), kind, paused: false, token: None, target: Some(target) };
    let step = IntegrationStep::Add { integration: Box::new(integration), start: Start::Now };
    let change = RegistryChange {
        tenant: "default".to_owned(),
        change: Change::Integration { name, expected: None, step },
        author: Some(Author::local()),
    };
    store.log.append(vec![Record::Registry(Box::new(change))], UnixMs(1)).unwrap();
    store.log.close();
    drop(store);
    gateway.up();
}

/// Adds the integration `out` to somewhere on this machine.
fn add(gateway: &Gateway, more: &[&str]) {
    gateway.admin(&[&["integration", "add", "out", "--allow-private"], more].concat());
}

/// Begins again at once, as a person does who mended it.
fn again(gateway: &Gateway) {
    gateway.admin(&["integration", "pause", "out"]);
    gateway.admin(&["integration", "resume", "out"]);
}

/// One batch: its name, and the numbers in it.
type Batch = (String, Vec<u64>);

/// An HTTP server that takes everything; its address and what it took.
fn taker() -> (String, Receiver<Batch>) {
    taker_that(|_| "204 No Content")
}

/// An HTTP server that answers its requests so, by their count; its address and what it was sent.
fn taker_that(
    mut answer: impl FnMut(usize) -> &'static str + Send + 'static,
) -> (String, Receiver<Batch>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, batches) = channel();
    std::thread::spawn(move || {
        let mut count = 0;
        // One sender at a time: the one before was killed.
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while let Some(batch) = take(&mut stream) {
                if tell.send(batch).is_err() {
                    return;
                }
                let answer = format!("HTTP/1.1 {}\r\n\r\n", answer(count));
                count += 1;
                // Who was killed does not hear it.
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        }
    });
    (address, batches)
}

fn take(stream: &mut impl BufRead) -> Option<Batch> {
    let (mut name, mut len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
        match line.trim().split_once(": ") {
            Some((header, value)) if header.eq_ignore_ascii_case("fieldgate-batch") => {
                value.clone_into(&mut name);
            }
            Some((header, value)) if header.eq_ignore_ascii_case("content-length") => {
                len = value.parse().unwrap();
            }
            Some(_) => (),
            None if line.trim().is_empty() => break,
            None => (),
        }
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    let items: Vec<Value> = serde_json::from_slice(&body).unwrap();
    Some((name, items.iter().map(|item| item["seq"].as_u64().unwrap()).collect()))
}

/// 50 rounds in a test run; more by `FIELDGATE_KILL_ROUNDS`.
fn rounds() -> u64 {
    std::env::var("FIELDGATE_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

#[test]
fn every_message_comes_through_every_kill_in_order_and_repeats_are_at_the_seam_alone() {
    let mut gateway =
        Gateway::with(&["limits.messages_per_second=1000000", "limits.message_burst=1000000"]);
    let (address, batches) = taker();
    let url = format!("http://{address}/");
    integrate(&mut gateway, IntegrationKind::Rest, &url, Format::Native);
    let token = gateway.device("d");
    let mut acknowledged = BTreeSet::new();
    let mut taken: Vec<Batch> = Vec::new();
    for round in 0..rounds() {
        let mut device = gateway.as_device("d", &token);
        for n in 0..200 {
            let msgid = format!("{round}-{n}");
            device.send(&json!({"type": "status", "msgid": msgid, "data": {"n": n}}));
        }
        let kill_after = 1 + (round * 7) % 40;
        for _ in 0..kill_after {
            acknowledged.insert(device.next()["seq"].as_u64().unwrap());
        }
        if round % 2 == 0 {
            // In the middle of a delivery, not only before one.
            taken.push(batches.recv_timeout(LIMIT).unwrap());
        }
        gateway.kill();
        while let Seen::Frame(ack) = device.see() {
            acknowledged.insert(ack["seq"].as_u64().unwrap());
        }
        gateway.up();
    }
    let last = *acknowledged.last().unwrap();
    while taken.last().is_none_or(|(_, numbers)| *numbers.last().unwrap() < last) {
        taken.push(batches.recv_timeout(LIMIT).unwrap());
    }
    let came: BTreeSet<u64> = taken.iter().flat_map(|(_, numbers)| numbers).copied().collect();
    let lost: Vec<_> = acknowledged.difference(&came).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let mut seam_count = 0;
    let mut before: Option<u64> = None;
    for (name, numbers) in &taken {
        let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
        assert!(name.ends_with(&format!(":{first}-{last}")), "{name}: {first} to {last}");
        for number in numbers {
            let follows =
                before.is_none_or(|before| came.range(before + 1..).next() == Some(number));
            // A batch that begins anew says by its name which.
            let is_seam = !follows && *number == first && before >= Some(first);
            assert!(follows || is_seam, "{number} after {before:?} in {name}");
            seam_count += u64::from(is_seam);
            before = Some(*number);
        }
    }
    assert!(seam_count <= rounds(), "{seam_count} repeats in {} kills", rounds());
    eprintln!("{} messages, {} batches, {seam_count} seams", came.len(), taken.len());
}

#[test]
fn a_drain_ends_a_delivery_without_a_repeat() {
    let mut gateway = Gateway::start();
    let (address, batches) = taker();
    let url = format!("http://{address}/");
    integrate(&mut gateway, IntegrationKind::Rest, &url, Format::Native);
    let token = gateway.device("d");
    let mut numbers = Vec::new();
    for round in 0..3 {
        let mut device = gateway.as_device("d", &token);
        device.send(&json!({"type": "status", "msgid": format!("{round}"), "data": {"n": 1}}));
        let seq = device.next()["seq"].as_u64().unwrap();
        assert_eq!(batches.recv_timeout(LIMIT).unwrap().1, [seq]);
        numbers.push(seq);
        drop(device);
        gateway.signal("TERM");
        assert_eq!(gateway.ended(), Some(0));
        gateway.up();
    }
    let again = batches.recv_timeout(Duration::from_millis(1));
    assert_eq!(again.unwrap_err(), RecvTimeoutError::Timeout);
}

/// The server that the vendor shows its customers, behaviour for behaviour.
const SEED_SERVER: &str = r"
const WebSocket = require('ws');
const wss = new WebSocket.Server({ port: 0, host: '127.0.0.1' }, () => {
  console.log('port ' + wss.address().port);
});
wss.on('connection', (ws) => {
  console.log('connected');
  ws.on('message', (data) => {
    const messages = JSON.parse(data);
    messages.forEach((message) => {
      console.log('received ' + message.tsmTuid + ' ' + message.tsmId + ' ' + message.temp);
    });
  });
  ws.on('close', () => console.log('closed'));
});
";

#[test]
fn the_vendors_server_gets_arrays_of_devices_that_speak_otherwise() {
    let Some(modules) = node_modules() else { return };
    let script = NodeScript::new(&modules, SEED_SERVER, &[]);
    let server = script.start();
    let port = server.line().split_off("port ".len());
    let mut gateway = Gateway::start();
    let url = format!("ws://127.0.0.1:{port}/socket");
    integrate(&mut gateway, IntegrationKind::WebSocket, &url, Format::Thingsee);
    assert_eq!(server.line(), "connected");
    let token = gateway.device("sensor-001");
    let mut device = gateway.as_device("sensor-001", &token);
    for temperature in [21.5, 22.5] {
        device.send(&json!({"type": "status", "data": {"temperature": temperature}}));
        assert_eq!(server.line(), format!("received sensor-001 12100 {temperature}"));
    }
    gateway.signal("TERM");
    assert_eq!(server.line_of("closed"), "closed");
}
