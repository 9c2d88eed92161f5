//! `kill -9` under load, again and again: everything acknowledged is there, once, in order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    process::Command,
};

use fieldgate_dialects::ws;
use serde_json::{Value, json};

use crate::support::{Gateway, Seen, post, run};

/// 50 rounds in a test run; more by `FIELDGATE_KILL_ROUNDS`.
fn rounds() -> u64 {
    std::env::var("FIELDGATE_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50)
}

#[test]
fn what_was_acknowledged_survives_every_kill_once_and_no_number_is_used_twice() {
    let mut gateway =
        Gateway::with(&["limits.messages_per_second=1000000", "limits.message_burst=1000000"]);
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..rounds() {
        let mut device = gateway.as_device("d", &token);
        // A kill after a number of acknowledgements that differs from round to round.
        let kill_after = 1 + (round * 7) % 40;
        for n in 0..200 {
            let msgid = format!("{round}-{n}");
            device.send(&json!({"type": "status", "msgid": msgid, "data": {"n": n}}));
        }
        for _ in 0..kill_after {
            let ack = device.next();
            let msgid = ack["msgid"].as_str().unwrap().to_owned();
            acknowledged.insert(msgid, ack["seq"].as_u64().unwrap());
        }
        gateway.kill();
        // What was on its way when the process ended counts too.
        while let Seen::Frame(ack) = device.see() {
            let msgid = ack["msgid"].as_str().unwrap().to_owned();
            acknowledged.insert(msgid, ack["seq"].as_u64().unwrap());
        }
        gateway.up();
    }
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/d/telemetry", "since": "all"}));
    let mut stored: BTreeMap<String, u64> = BTreeMap::new();
    let mut numbers = BTreeSet::new();
    let mut last = 0;
    loop {
        let frame = app.next();
        match frame["type"].as_str().unwrap() {
            "mqtt" => {
                let seq = frame["seq"].as_u64().unwrap();
                assert!(seq > last, "{seq} after {last}");
                last = seq;
                assert!(numbers.insert(seq), "{seq} was given twice");
                let before = stored.insert(frame["ref"].as_str().unwrap().to_owned(), seq);
                assert_eq!(before, None, "{frame}");
            }
            "caught_up" => break,
            _ => (),
        }
    }
    for (msgid, seq) in &acknowledged {
        assert_eq!(stored.get(msgid), Some(seq), "{msgid} was acknowledged");
    }
    assert!(acknowledged.len() as u64 >= rounds(), "{}", acknowledged.len());
}

/// What was made and told so: after each start it must be there.
#[derive(Default)]
struct Made {
    devices: BTreeSet<String>,
    keys: BTreeSet<String>,
    /// Topic to the newest value that was acknowledged; one that was not may be newer.
    retained: BTreeMap<String, u64>,
    /// Tokens of devices that have a command waiting, with its payload.
    waiting: VecDeque<(String, String, u64)>,
}

impl Made {
    fn names(gateway: &Gateway, kind: &str) -> BTreeSet<String> {
        let output = run(&[kind, "list"], &gateway.data());
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let one = |line| serde_json::from_str::<Value>(line).unwrap();
        lines.lines().map(|line| one(line)["id"].as_str().unwrap().to_owned()).collect()
    }

    /// One round of making, beside a device that sends all the time.
    fn more(&mut self, gateway: &Gateway, key: &str, round: u64) {
        let (device, extra) = (format!("lamp-{round}"), format!("key-{round}"));
        let token = gateway.device(&device);
        gateway.admin(&["key", "add", &extra, "--role", "operator"]);
        self.devices.insert(device.clone());
        self.keys.insert(extra);
        if round % 4 == 3 {
            let gone = format!("lamp-{}", round - 3);
            gateway.admin(&["device", "remove", &gone, "--yes"]);
            self.devices.remove(&gone);
            self.waiting.retain(|(id, ..)| *id != gone);
        }
        let mut app = gateway.as_app(key);
        app.send(&json!({"type": "command", "to": device, "msgid": format!("c{round}"), "payload": round}));
        app.next_of("ack");
        self.waiting.push_back((device, token, round));
        let topic = format!("kept/{}", round % 3);
        app.send(&json!({"type": "publish", "topic": topic, "retain": true, "msgid": format!("r{round}"), "payload": round}));
        app.next_of("ack");
        self.retained.insert(topic, round);
    }

    fn check(&self, gateway: &Gateway, key: &str) {
        let devices = Self::names(gateway, "device");
        assert!(devices.iter().filter(|id| *id != "d").eq(&self.devices), "{devices:?}");
        let keys = Self::names(gateway, "key");
        assert!(keys.is_superset(&self.keys), "{keys:?}");
        let mut app = gateway.as_app(key);
        app.send(&json!({"type": "subscribe", "topic": "kept/#", "qos": 1}));
        app.next_of("subscribed");
        let mut retained = BTreeMap::new();
        for _ in 0..self.retained.len() {
            let frame = app.next_of("mqtt");
            assert_eq!(frame["retain"], true, "{frame}");
            let topic = frame["topic"].as_str().unwrap().to_owned();
            retained.insert(topic, frame["payload"].as_u64().unwrap());
        }
        assert_eq!(retained, self.retained);
    }

    /// The device that waits longest gets its command.
    fn serve_one(&mut self, gateway: &Gateway) {
        let Some((device, token, payload)) = self.waiting.pop_front() else { return };
        let control = gateway.as_device(&device, &token).next_of("control");
        assert_eq!(control["payload"], payload, "{control}");
    }
}

#[test]
fn devices_keys_commands_and_retained_messages_survive_every_kill_and_the_loss_of_the_tables() {
    let mut gateway =
        Gateway::with(&["limits.messages_per_second=1000000", "limits.message_burst=1000000"]);
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut made = Made::default();
    for round in 0..(rounds() / 5).max(4) {
        let mut load = gateway.as_device("d", &token);
        let loading = std::thread::spawn(move || {
            for n in 0_u64.. {
                let frame =
                    json!({"type": "status", "msgid": format!("{round}-{n}"), "data": {"n": n}});
                let frame =
                    ws::frame_masked(ws::Opcode::Text, frame.to_string().as_bytes(), [1; 4]);
                // The kill ends it.
                if load.raw(&frame).is_err() || !matches!(load.see(), Seen::Frame(_)) {
                    return n;
                }
            }
            0
        });
        made.more(&gateway, &key, round);
        gateway.kill();
        assert!(loading.join().unwrap() > 0, "nothing was sent beside");
        gateway.up();
        made.check(&gateway, &key);
        if round % 3 > 0 {
            made.serve_one(&gateway);
        }
    }
    gateway.kill();
    std::fs::remove_dir_all(gateway.data().join("tables")).unwrap();
    gateway.up();
    made.check(&gateway, &key);
    while !made.waiting.is_empty() {
        made.serve_one(&gateway);
    }
}

#[test]
fn a_subscriber_with_since_sees_everything_once_through_restarts() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let mut position = json!("all");
    let mut seen = Vec::new();
    for round in 0..5 {
        let mut app = gateway.as_app(&key);
        app.send(
            &json!({"type": "subscribe", "topic": "devices/d/#", "qos": 1, "since": position}),
        );
        let mut device = gateway.as_device("d", &token);
        for n in 0..50 {
            let msgid = format!("{round}-{n}");
            device.send(&json!({"type": "status", "msgid": msgid, "data": {"n": round * 50 + n}}));
        }
        // Half of the rounds end in the middle of what comes.
        let wanted = if round % 2 == 0 { (round + 1) * 50 } else { round * 50 + 20 };
        while seen.len() < wanted {
            let frame = app.next();
            if frame["type"] == "mqtt" {
                seen.push(frame["payload"]["n"].as_u64().unwrap());
                position = json!({"after": frame["msgid"]});
            }
        }
        (0..50).for_each(|_| drop(device.next_of("ack")));
        if round % 2 == 0 {
            gateway.kill();
            gateway.up();
        }
    }
    assert_eq!(seen, (0..250).collect::<Vec<_>>());
}

#[test]
fn a_subscriber_is_told_which_numbers_a_kill_took() {
    let mut gateway = Gateway::start();
    let key = gateway.key("operator");
    let mut last = 0;
    for round in 0..2 {
        let mut app = gateway.as_app(&key);
        let frame =
            json!({"type": "publish", "topic": "a", "payload": round, "msgid": round.to_string()});
        app.send(&frame);
        let seq = app.next_of("ack")["seq"].as_u64().unwrap();
        assert!(seq > last, "{seq} after {last}");
        last = seq;
        gateway.kill();
        gateway.up();
    }
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "a", "qos": 1, "since": "all"}));
    let seq_of = |position: &Value| -> u64 {
        position.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
    };
    // Each message, and behind it what was reserved when the process ended.
    for round in 0..2 {
        let message = app.next_of("mqtt");
        assert_eq!(message["payload"], round);
        let gap = app.next();
        assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("crash")), "{gap}");
        let (from, to) = (seq_of(&gap["from"]), seq_of(&gap["to"]));
        assert!(message["seq"].as_u64().unwrap() < from && from <= to, "{gap}");
        assert_eq!(round == 0, to < last, "{gap}");
    }
    assert_eq!(app.next()["type"], "caught_up");
}

#[test]
fn a_folder_whose_making_was_cut_short_is_made_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("new/data");
    // The first byte that goes into a file ends the process, as a kill does: the file is empty then.
    let mut cut_short = Command::new("sh");
    cut_short
        .args(["-c", "ulimit -c 0; ulimit -f 0; exec \"$0\" key add k --role admin --data \"$1\""]);
    cut_short.arg(env!("CARGO_BIN_EXE_fieldgate")).arg(&data);
    assert!(!cut_short.output().unwrap().status.success());
    assert!(data.join("LOCK").exists(), "it came so far");
    let made = run(&["key", "add", "k", "--role", "admin"], &data);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::remove_file(data.join("master.key")).unwrap();
    let refused = run(&["key", "list"], &data);
    assert_eq!(refused.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("restore it from a copy"));
}

#[test]
fn a_batch_is_stored_once_whatever_its_elements_are_called_also_after_a_kill() {
    let mut gateway = Gateway::start();
    let (token, key) = (gateway.device("d"), gateway.key("operator"));
    let batch = |data: Value| json!({"type": "batch", "deviceId": "d", "data": data});
    let named = |msgid: &str, t: u64| json!({"msgid": msgid, "data": {"t": t}});
    let mut promised = batch(json!([named("e1", 1), named("e2", 2)]));
    promised["msgid"] = "b".into();
    let mut posted = batch(json!([named("e1", 3), named("e2", 4)]));
    posted["msgid"] = "p".into();
    // An element of a batch with an id is known by that alone; one of a batch without, by its own.
    let alone = json!({"type": "status", "msgid": "e2", "data": {"t": 5}});
    let each = batch(json!([named("e3", 6), named("e4", 7), {"data": {"t": 8}, "qos": 1}]));
    let element = json!({"type": "status", "msgid": "e4", "data": {"t": 9}});
    for _ in 0..3 {
        let mut device = gateway.as_device("d", &token);
        for frame in [&promised, &each, &alone, &element] {
            device.send(frame);
        }
        // A repeat is acknowledged with what it repeats, which may be before what came in front of it.
        let mut acks = [(); 3].map(|()| device.next_of("ack")["msgid"].to_string());
        acks.sort();
        assert_eq!(acks, [r#""b""#, r#""e2""#, r#""e4""#]);
        let (status, told) = post(&gateway.address, "/v1/publish", &token, &posted.to_string());
        assert_eq!(status, 201, "{told}");
        gateway.kill();
        gateway.up();
    }
    let mut app = gateway.as_app(&key);
    app.send(&json!({"type": "subscribe", "topic": "devices/d/telemetry", "since": "all"}));
    let mut stored = Vec::new();
    loop {
        let frame = app.next();
        match frame["type"].as_str().unwrap() {
            "mqtt" => stored.push((
                frame["payload"]["t"].as_u64().unwrap(),
                frame["ref"].as_str().unwrap_or_default().to_owned(),
            )),
            "caught_up" => break,
            _ => (),
        }
    }
    stored.sort_unstable();
    let stored: Vec<_> = stored.iter().map(|(t, told)| (*t, told.as_str())).collect();
    let once = [(1, "b"), (2, "b"), (3, "p"), (4, "p"), (5, "e2"), (6, "e3"), (7, "e4")];
    // What has no id is another one each time.
    assert_eq!(stored, [&once[..], &[(8, ""); 3]].concat());
}
