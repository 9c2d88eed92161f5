//! Receivers that stop reading: what each policy promises them, and what they cost the others.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Gateway, Seen, Wire};

const BURSTS: u64 = 80;
const BURST_LEN: u64 = 40;
const TEXT_LEN: usize = 4_000;

/// A gateway whose outbox is small and whose rates are none.
fn gateway() -> Gateway {
    Gateway::with(&[
        "limits.outbox_bytes_max=65536",
        "limits.messages_per_second=1000000",
        "limits.message_burst=1000000",
        "limits.bytes_per_second=1000000000",
    ])
}

fn subscribed(gateway: &Gateway, key: &str, more: &Value) -> Wire {
    let mut wire = gateway.as_app(key);
    let mut ask = json!({"type": "subscribe", "topic": "load/#"});
    ask.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    wire.send(&ask);
    assert_eq!(wire.next()["type"], "subscribed");
    wire
}

/// A subscriber that keeps up: tells each number as it comes, and at last how long each took.
fn fast(mut wire: Wire, start: Instant, told: Sender<u64>) -> JoinHandle<Vec<Duration>> {
    std::thread::spawn(move || {
        let mut latencies = Vec::new();
        for n in 0..BURSTS * BURST_LEN {
            let frame = wire.next();
            assert_eq!(frame["payload"]["n"], n);
            let sent = Duration::from_micros(frame["payload"]["at"].as_u64().unwrap());
            latencies.push(start.elapsed().saturating_sub(sent));
            told.send(n).unwrap();
        }
        latencies
    })
}

/// Publishes every burst once the one before has arrived; p99 over all fast receivers.
fn p99_of_a_run(gateway: &Gateway, key: &str, qos: u64, fast_count: usize) -> Duration {
    let start = Instant::now();
    let mut sender = gateway.as_app(key);
    let mut readers: Vec<(JoinHandle<_>, Receiver<u64>)> = Vec::new();
    for _ in 0..fast_count {
        let wire = subscribed(gateway, key, &json!({"qos": qos}));
        let (tell, told) = channel();
        readers.push((fast(wire, start, tell), told));
    }
    let text = "x".repeat(TEXT_LEN);
    for burst in 0..BURSTS {
        for n in burst * BURST_LEN..(burst + 1) * BURST_LEN {
            let at = u64::try_from(start.elapsed().as_micros()).unwrap();
            let payload = json!({"n": n, "at": at, "text": text});
            let topic = format!("load/{}", n % 3);
            sender
                .send(&json!({"type": "publish", "topic": topic, "qos": qos, "payload": payload}));
        }
        for (_, told) in &readers {
            (0..BURST_LEN).for_each(|_| assert!(told.recv().is_ok()));
        }
    }
    let mut all: Vec<Duration> =
        readers.into_iter().flat_map(|(reader, _)| reader.join().unwrap()).collect();
    all.sort_unstable();
    all[all.len() * 99 / 100]
}

/// What `/v1/drops` says in all, by reason.
fn drops(gateway: &Gateway, key: &str, reason: &str) -> u64 {
    let (status, body) = gateway.get("/v1/drops", Some(key));
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let listed = body["items"].as_array().unwrap().iter();
    let listed: u64 = listed
        .filter(|item| item["reason"] == reason)
        .map(|item| item["count"].as_u64().unwrap())
        .sum();
    let total = body["totals"][reason].as_u64().unwrap_or(0);
    assert_eq!(listed, total, "{body}");
    total
}

/// Numbers of the frames and of the gaps up to the last message; fails unless they rise.
fn covered(wire: &mut Wire, last: u64) -> (u64, u64) {
    let (mut delivered, mut lost, mut next) = (0, 0, None);
    loop {
        let frame = wire.next();
        let (from, to) = match frame["type"].as_str().unwrap() {
            "mqtt" => {
                delivered += 1;
                (frame["seq"].as_u64().unwrap(), frame["seq"].as_u64().unwrap())
            }
            "gap" => {
                assert_eq!(frame["reason"], "overflow");
                let seq = |name: &str| {
                    let position = frame[name].as_str().unwrap();
                    position.rsplit_once(':').unwrap().1.parse::<u64>().unwrap()
                };
                lost += seq("to") - seq("from") + 1;
                (seq("from"), seq("to"))
            }
            other => panic!("{other}"),
        };
        assert!(next.is_none_or(|next| next == from), "{from} came where {next:?} was due");
        next = Some(to + 1);
        if to == last {
            return (delivered, lost);
        }
    }
}

/// Number of the last message: one that is awaited.
fn last_seq(gateway: &Gateway, key: &str) -> u64 {
    let mut wire = gateway.as_app(key);
    let payload = json!({"n": "last"});
    wire.send(&json!({"type": "publish", "topic": "load/0", "msgid": "last", "payload": payload}));
    wire.next_of("ack")["seq"].as_u64().unwrap()
}

/// p99 of four fast receivers alone, then beside 16 that do not read, in one gateway.
fn p99_alone_and_beside_stalled() -> (Duration, Duration) {
    let gateway = gateway();
    let key = gateway.key("admin");
    let alone = p99_of_a_run(&gateway, &key, 1, 4);
    let memory = gateway.memory_bytes();
    let policies = [
        json!({"qos": 0, "mode": "latest"}),
        json!({"qos": 0, "mode": "drop-oldest"}),
        json!({"qos": 0, "mode": "disconnect"}),
        json!({"qos": 1}),
    ];
    let stalled: Vec<Wire> =
        policies.iter().cycle().take(16).map(|p| subscribed(&gateway, &key, p)).collect();
    let beside = p99_of_a_run(&gateway, &key, 1, 4);
    // Unbounded, the 16 would hold 100 MB. What the sockets buffer is the kernel's.
    let grown = gateway.memory_bytes().saturating_sub(memory);
    eprintln!("p99 alone {alone:?}, beside stalled receivers {beside:?}; {grown} bytes more");
    assert!(grown < 48 << 20, "{grown} bytes more");
    drop(stalled);
    (alone, beside)
}

#[test]
fn stalled_receivers_cost_the_others_no_time_and_the_gateway_bounded_memory() {
    // Other work on the machine slows a run at times; what a stalled receiver costs, it costs always.
    let (mut held, mut broken) = (0, Vec::new());
    while held < 2 {
        let (alone, beside) = p99_alone_and_beside_stalled();
        if beside <= 2 * alone + Duration::from_millis(50) {
            held += 1;
        } else {
            broken.push((alone, beside));
            assert!(broken.len() < 4, "p99 alone and beside stalled receivers: {broken:?}");
        }
    }
}

#[test]
fn a_stalled_receiver_of_the_latest_gets_it_and_every_value_is_accounted_for() {
    let gateway = gateway();
    let key = gateway.key("admin");
    let mut slow = subscribed(&gateway, &key, &json!({"qos": 0, "mode": "latest"}));
    p99_of_a_run(&gateway, &key, 0, 1);
    let count = BURSTS * BURST_LEN;
    let (mut delivered, mut frames, mut seen) = (0, 0, 0);
    let mut newest = [0; 3];
    while seen < 3 {
        let frame = slow.next();
        assert_eq!(frame["type"], "mqtt");
        frames += 1;
        delivered += frame["conflated"].as_u64().unwrap_or(1);
        let n = frame["payload"]["n"].as_u64().unwrap();
        let topic = usize::try_from(n % 3).unwrap();
        assert_eq!(frame["topic"], format!("load/{topic}"));
        assert!(n > newest[topic] || n < 3, "{n} after {}", newest[topic]);
        newest[topic] = n;
        seen += u64::from(n + 3 >= count);
    }
    assert_eq!(delivered, count, "every value is in a frame or under a newer one");
    assert_eq!(drops(&gateway, &key, "conflated"), count - frames);
    assert!(frames < count, "nothing was conflated: the receiver was not slow");
}

#[test]
fn a_stalled_receiver_that_drops_the_oldest_is_told_of_each_gap_in_its_place() {
    let gateway = gateway();
    let key = gateway.key("admin");
    let mut slow = subscribed(&gateway, &key, &json!({"qos": 0, "mode": "drop-oldest"}));
    p99_of_a_run(&gateway, &key, 0, 1);
    let last = last_seq(&gateway, &key);
    let (delivered, lost) = covered(&mut slow, last);
    assert_eq!(delivered + lost, BURSTS * BURST_LEN + 1);
    assert!(lost > 0, "nothing was dropped: the receiver was not slow");
    assert_eq!(drops(&gateway, &key, "overflow"), lost);
}

#[test]
fn a_stalled_receiver_that_wants_to_be_closed_is_closed() {
    let gateway = gateway();
    let key = gateway.key("admin");
    let mut slow = subscribed(&gateway, &key, &json!({"qos": 0, "mode": "disconnect"}));
    p99_of_a_run(&gateway, &key, 0, 1);
    let mut next = None;
    // What was on its way comes first, without a hole.
    let ended = loop {
        match slow.see() {
            Seen::Frame(frame) => {
                let seq = frame["seq"].as_u64().unwrap();
                assert!(next.is_none_or(|next| next == seq), "{seq} came where {next:?} was due");
                next = Some(seq + 1);
            }
            other => break other,
        }
    };
    assert!(matches!(ended, Seen::Close(Some(1008)) | Seen::End), "{ended:?}");
    let (_, metrics) = gateway.get("/metrics", Some(&key));
    assert!(metrics.contains("fieldgate_closed_total{reason=\"slow_receiver\"} 1"), "{metrics}");
}

/// A connection that reads nothing yet, with these subscriptions.
fn stalled(gateway: &Gateway, key: &str, asks: &[Value]) -> Wire {
    let mut wire = gateway.as_app(key);
    for ask in asks {
        let mut ask = ask.clone();
        ask["type"] = json!("subscribe");
        wire.send(&ask);
        wire.next_of("subscribed");
    }
    wire
}

/// Publishes `count` messages: each tenth to `b/x` at QoS 1, the others to `a/x` at QoS `qos`. All
/// of them are routed when this returns, as what is retained is before it is acknowledged.
fn publish_two_topics(gateway: &Gateway, key: &str, qos: u64, count: u64) {
    let mut sender = gateway.as_app(key);
    let text = "x".repeat(TEXT_LEN);
    for n in 0..count {
        let (topic, qos) = if n % 10 == 9 { ("b/x", 1) } else { ("a/x", qos) };
        let payload = json!({"n": n, "text": text});
        sender.send(&json!({"type": "publish", "topic": topic, "qos": qos, "payload": payload}));
    }
    let end =
        json!({"type": "publish", "topic": "end", "msgid": "e", "payload": 1, "retain": true});
    sender.send(&end);
    sender.next_of("ack");
}

#[test]
fn a_stalled_receiver_of_both_promises_loses_nothing_of_the_higher_and_keeps_the_order() {
    let gateway = gateway();
    let key = gateway.key("admin");
    let asks = [json!({"topic": "a/#", "qos": 0}), json!({"topic": "b/#", "qos": 1})];
    let mut slow = stalled(&gateway, &key, &asks);
    let count = 3_000;
    publish_two_topics(&gateway, &key, 0, count);
    let (mut last, mut expected) = (0, 9);
    while expected < count {
        let frame = slow.next_of("mqtt");
        let (seq, n) = (frame["seq"].as_u64().unwrap(), frame["payload"]["n"].as_u64().unwrap());
        assert!(seq > last, "{seq} after {last}");
        last = seq;
        if n % 10 == 9 {
            assert_eq!(n, expected);
            expected += 10;
        }
    }
}

#[test]
fn a_subscription_begun_behind_a_backlog_gets_its_messages_once() {
    let gateway = gateway();
    let key = gateway.key("admin");
    let mut slow = stalled(&gateway, &key, &[json!({"topic": "a/#", "qos": 1})]);
    let count = 3_000;
    publish_two_topics(&gateway, &key, 1, count);
    slow.send(&json!({"type": "subscribe", "topic": "b/#", "qos": 1, "since": "all"}));
    slow.send(&json!({"type": "subscribe", "topic": "+/x", "qos": 1}));
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let mut caught_up = false;
    while of_a.len() < usize::try_from(count / 10 * 9).unwrap() || !caught_up {
        let frame = slow.next();
        let n = frame["payload"]["n"].as_u64();
        match (frame["type"].as_str().unwrap(), frame["topic"].as_str()) {
            ("mqtt", Some("a/x")) => of_a.extend(n),
            ("mqtt", Some("b/x")) => of_b.push((n.unwrap(), frame["replay"] == "b/#")),
            ("caught_up", _) => caught_up = true,
            _ => (),
        }
    }
    assert!(of_a.into_iter().eq((0..count).filter(|n| n % 10 != 9)));
    let expected = (0..count).filter(|n| n % 10 == 9).map(|n| (n, true));
    assert!(of_b.iter().copied().eq(expected), "{} messages of b, once in the replay", of_b.len());
}

#[test]
fn a_replay_to_a_receiver_that_does_not_read_costs_bounded_memory() {
    let gateway = gateway();
    let key = gateway.key("admin");
    let mut sender = gateway.as_app(&key);
    let (count, text) = (160, "x".repeat(200_000));
    for n in 0..count {
        let payload = json!({"n": n, "text": text});
        sender.send(&json!({"type": "publish", "topic": "big", "qos": 1, "payload": payload}));
    }
    sender.send(&json!({"type": "publish", "topic": "end", "msgid": "end", "payload": 1}));
    sender.next_of("ack");
    let mut other = gateway.as_app(&key);
    let memory = gateway.memory_bytes();
    let mut slow = gateway.as_app(&key);
    slow.send(&json!({"type": "subscribe", "topic": "big", "since": "all"}));
    slow.next_of("subscribed");
    assert_eq!(slow.next_of("mqtt")["payload"]["n"], 0);
    // Whoever is on the same worker is served meanwhile.
    other.send(&json!({"type": "ping"}));
    other.next_of("pong");
    let grown = gateway.memory_bytes().saturating_sub(memory);
    assert!(grown < 16 << 20, "{grown} bytes more");
    for n in 1..count {
        assert_eq!(slow.next_of("mqtt")["payload"]["n"], n);
    }
    slow.next_of("caught_up");
}
