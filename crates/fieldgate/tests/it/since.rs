//! Resume by `since` under random interleavings: publishing, subscribing, reconnecting at any point,
//! drains and kills of the gateway, filters that overlap.
//!
//! Each subscription must get each acknowledged message that it selects once, and in order. What it
//! believes of a frame is what `docs/protocol/native.md` tells a client to believe.
//! More cases by `FIELDGATE_SINCE_CASES`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::support::{Gateway, Seen, Wire};

// Each case has a tree of its own, so that all share one gateway and its log.
const TOPICS: [&str; 4] = ["a/b", "a/c", "d/b", "d"];
const FILTERS: [&str; 4] = ["a/#", "a/b", "+/b", "#"];

fn selects(filter: &str, topic: &str) -> bool {
    match filter {
        "#" => true,
        "a/#" => topic.starts_with("a/"),
        "+/b" => topic.ends_with("/b"),
        exact => exact == topic,
    }
}

#[derive(Debug, Clone)]
enum Op {
    Publish {
        topic: usize,
        qos: u64,
        count: u64,
    },
    /// Waits until every message is acknowledged.
    Settle,
    Subscribe {
        filter: usize,
        from: From,
    },
    Unsubscribe {
        filter: usize,
    },
    /// Reads this many frames, or all that are there.
    Read {
        count: usize,
    },
    /// Breaks the connection of the subscriber, whatever is unread.
    Reconnect,
    Drain,
    Kill,
}

/// Where a first subscription begins; a later one goes on where it was.
#[derive(Debug, Clone, Copy)]
enum From {
    All,
    After(prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    let from = prop_oneof![Just(From::All), any::<prop::sample::Index>().prop_map(From::After)];
    prop_oneof![
        8 => (0..TOPICS.len(), 0..2_u64, 1..40_u64)
            .prop_map(|(topic, qos, count)| Op::Publish { topic, qos, count }),
        2 => Just(Op::Settle),
        6 => (0..FILTERS.len(), from).prop_map(|(filter, from)| Op::Subscribe { filter, from }),
        1 => (0..FILTERS.len()).prop_map(|filter| Op::Unsubscribe { filter }),
        5 => (1..60_usize).prop_map(|count| Op::Read { count }),
        3 => Just(Op::Reconnect),
        1 => Just(Op::Drain),
        1 => Just(Op::Kill),
    ]
}

/// What the subscriber knows of one subscription.
#[derive(Debug, Default)]
struct Subscription {
    /// The last position that it accounts for.
    after: u64,
    /// Messages up to here were never asked for.
    begun_after: u64,
    caught_up: bool,
    subscribed: bool,
    seen: Vec<u64>,
}

/// The gateway of all cases.
struct Shared {
    gateway: Gateway,
    key: String,
    case_count: u64,
}

impl Shared {
    fn new() -> Self {
        let gateway =
            Gateway::with(&["limits.messages_per_second=1000000", "limits.message_burst=1000000"]);
        let key = gateway.key("operator");
        Self { gateway, key, case_count: 0 }
    }
}

struct World<'a> {
    shared: &'a mut Shared,
    /// What each topic and filter of this case begins with.
    root: String,
    epoch: String,
    sender: Wire,
    receiver: Wire,
    subscriptions: BTreeMap<&'static str, Subscription>,
    /// Topics of the messages by their number in `payload`.
    sent: Vec<&'static str>,
    unacknowledged: BTreeSet<u64>,
    /// Number of the message to its place in the log.
    acknowledged: BTreeMap<u64, u64>,
    /// What is known of each place in the log.
    places: BTreeMap<u64, u64>,
}

impl<'a> World<'a> {
    fn new(shared: &'a mut Shared) -> Self {
        shared.case_count += 1;
        let root = format!("{}/", shared.case_count);
        if !shared.gateway.is_up() {
            shared.gateway.up();
        }
        let sender = shared.gateway.as_app(&shared.key);
        let bearer = format!("Authorization: Bearer {}", shared.key);
        let headers = [bearer.as_str(), "Sec-WebSocket-Protocol: fieldgate.v1.json"];
        let mut receiver = Wire::open(&shared.gateway.address, "/", &headers).unwrap();
        let epoch = receiver.next()["epoch"].as_str().unwrap().to_owned();
        Self {
            shared,
            root,
            epoch,
            sender,
            receiver,
            subscriptions: BTreeMap::new(),
            sent: Vec::new(),
            unacknowledged: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Publish { topic, qos, count } => {
                for _ in 0..count {
                    let n = self.sent.len() as u64;
                    self.sent.push(TOPICS[topic]);
                    if qos > 0 {
                        self.unacknowledged.insert(n);
                    }
                    self.publish(n, qos);
                }
            }
            Op::Settle => self.settle(),
            Op::Subscribe { filter, from } => self.subscribe(FILTERS[filter], from),
            Op::Unsubscribe { filter } => self.unsubscribe(FILTERS[filter]),
            Op::Read { count } => {
                self.receiver.send(&json!({"type": "ping"}));
                for _ in 0..count {
                    let frame = self.receiver.next();
                    if frame["type"] == "pong" {
                        break;
                    }
                    self.believe(&frame);
                }
            }
            Op::Reconnect => self.reconnect(),
            Op::Drain => {
                self.shared.gateway.signal("TERM");
                self.restarted();
            }
            Op::Kill => {
                self.shared.gateway.signal("KILL");
                self.restarted();
            }
        }
    }

    fn publish(&mut self, n: u64, qos: u64) {
        let topic = self.root.clone() + self.sent[n as usize];
        let mut frame = json!({"type": "publish", "topic": topic, "qos": qos, "payload": n});
        if qos > 0 {
            frame["msgid"] = json!(self.root.clone() + &n.to_string());
        }
        self.sender.send(&frame);
    }

    /// A topic, filter or id without the root of this case.
    fn own<'b>(&self, name: &'b Value) -> &'b str {
        let name = name.as_str().unwrap();
        name.strip_prefix(&self.root).unwrap_or_else(|| panic!("{name} is of another case"))
    }

    fn acknowledge(&mut self, frame: &Value) {
        if frame["type"] != "ack" {
            return;
        }
        let n = self.own(&frame["msgid"]).parse().unwrap();
        let seq = frame["seq"].as_u64().unwrap();
        self.unacknowledged.remove(&n);
        let before = self.acknowledged.insert(n, seq);
        assert!(before.is_none_or(|before| before == seq), "{n} is at {seq} and at {before:?}");
        self.place(seq, n);
    }

    /// No place holds two messages, and no message two places that count.
    fn place(&mut self, seq: u64, n: u64) {
        let before = self.places.insert(seq, n);
        assert!(before.is_none_or(|before| before == n), "{seq} holds {n} and {before:?}");
    }

    fn settle(&mut self) {
        while !self.unacknowledged.is_empty() {
            let frame = self.sender.next();
            self.acknowledge(&frame);
        }
    }

    /// The gateway ends and comes back; the sender repeats what was not acknowledged.
    fn restarted(&mut self) {
        // What was told before the end counts.
        while let Seen::Frame(frame) = self.sender.see() {
            self.acknowledge(&frame);
        }
        self.shared.gateway.ended();
        self.shared.gateway.up();
        self.sender = self.shared.gateway.as_app(&self.shared.key);
        for n in self.unacknowledged.clone() {
            self.publish(n, 1);
        }
        self.reconnect();
    }

    fn reconnect(&mut self) {
        self.receiver = self.shared.gateway.as_app(&self.shared.key);
        // Nothing is live on a new connection before it has been resumed there.
        self.subscriptions.values_mut().for_each(|s| s.caught_up = false);
        let subscribed: Vec<_> =
            self.subscriptions.iter().filter(|(_, s)| s.subscribed).map(|(f, _)| *f).collect();
        for filter in subscribed {
            self.resume(filter);
        }
    }

    fn subscribe(&mut self, filter: &'static str, from: From) {
        let places: Vec<u64> = self.places.keys().copied().collect();
        let known = self.subscriptions.entry(filter);
        let subscription = known.or_insert_with(|| {
            let after = match from {
                From::After(index) if !places.is_empty() => *index.get(&places),
                From::After(_) | From::All => 0,
            };
            Subscription { after, begun_after: after, ..Subscription::default() }
        });
        subscription.subscribed = true;
        self.resume(filter);
    }

    fn resume(&mut self, filter: &'static str) {
        let subscription = self.subscriptions.get_mut(filter).unwrap();
        subscription.caught_up = false;
        let since = match subscription.after {
            0 => json!("all"),
            after => json!({"after": format!("{}:{after}", self.epoch)}),
        };
        let topic = self.root.clone() + filter;
        self.receiver.send(&json!({"type": "subscribe", "topic": topic, "qos": 1, "since": since}));
        // Frames before the answer are of the time before; a replay of that time is over.
        loop {
            let frame = self.receiver.next();
            if frame["type"] == "subscribed" && frame["topic"] == topic {
                break;
            }
            self.believe_as(&frame, Some(filter));
        }
    }

    fn unsubscribe(&mut self, filter: &'static str) {
        if !self.subscriptions.get(filter).is_some_and(|s| s.subscribed) {
            return;
        }
        let topic = self.root.clone() + filter;
        self.receiver.send(&json!({"type": "unsubscribe", "topic": topic}));
        loop {
            let frame = self.receiver.next();
            if frame["type"] == "unsubscribed" {
                break;
            }
            self.believe(&frame);
        }
        self.subscriptions.get_mut(filter).unwrap().subscribed = false;
    }

    fn believe(&mut self, frame: &Value) {
        self.believe_as(frame, None);
    }

    /// Takes a frame as a client does; `renewed` was subscribed anew and not yet answered.
    fn believe_as(&mut self, frame: &Value, renewed: Option<&str>) {
        match frame["type"].as_str().unwrap() {
            "mqtt" => self.message(frame, renewed),
            "caught_up" => {
                let topic = self.own(&frame["topic"]);
                if renewed != Some(topic) {
                    let subscription = self.subscriptions.get_mut(topic).unwrap();
                    subscription.after = subscription.after.max(seq_of(&frame["position"]));
                    subscription.caught_up = true;
                }
            }
            "gap" => {
                let (from, to) = (seq_of(&frame["from"]), seq_of(&frame["to"]));
                assert_eq!(frame["reason"], "crash");
                let acknowledged = self.acknowledged.values().find(|seq| (from..=to).contains(seq));
                assert_eq!(acknowledged, None, "acknowledged, and in the gap {from} to {to}");
                let live = |s: &&mut Subscription| s.caught_up && s.subscribed;
                for subscription in self.subscriptions.values_mut().filter(live) {
                    subscription.after = subscription.after.max(to);
                }
            }
            "pong" | "reconnect" => (),
            other => panic!("{other}: {frame}"),
        }
    }

    fn message(&mut self, frame: &Value, renewed: Option<&str>) {
        let (seq, n) = (frame["seq"].as_u64().unwrap(), frame["payload"].as_u64().unwrap());
        let topic = self.own(&frame["topic"]);
        assert_eq!(topic, self.sent[n as usize]);
        self.place(seq, n);
        if !frame["replay"].is_null() {
            let filter = self.own(&frame["replay"]);
            if renewed == Some(filter) {
                return;
            }
            let subscription = self.subscriptions.get_mut(filter).unwrap();
            assert!(selects(filter, topic) && !subscription.caught_up, "{frame}");
            assert!(seq > subscription.after, "{frame} behind {}", subscription.after);
            subscription.after = seq;
            subscription.seen.push(n);
            return;
        }
        let mut wanted = renewed.is_some();
        for (filter, subscription) in &mut self.subscriptions {
            let live = subscription.caught_up && subscription.subscribed;
            if live && seq > subscription.after && selects(filter, topic) {
                subscription.after = seq;
                subscription.seen.push(n);
                wanted = true;
            }
        }
        assert!(wanted, "nobody waits for {frame}");
    }

    /// Everything acknowledged reaches every subscription, once and in order.
    fn finish(&mut self) {
        self.settle();
        for subscription in self.subscriptions.values_mut() {
            subscription.subscribed = true;
        }
        self.reconnect();
        let mut missing = self.missing();
        while !missing.is_empty() || self.subscriptions.values().any(|s| !s.caught_up) {
            let frame = self.receiver.next();
            self.believe(&frame);
            missing = self.missing();
        }
        for (filter, subscription) in &self.subscriptions {
            let distinct: BTreeSet<_> = subscription.seen.iter().collect();
            assert_eq!(distinct.len(), subscription.seen.len(), "{filter} got one twice");
            let of = |n: &u64| self.acknowledged.get(n).copied();
            let order: Vec<u64> = subscription.seen.iter().filter_map(of).collect();
            assert!(order.is_sorted(), "{filter}: {order:?}");
        }
    }

    fn missing(&self) -> Vec<(&'static str, u64)> {
        let mut missing = Vec::new();
        for (filter, subscription) in &self.subscriptions {
            let seen: BTreeSet<_> = subscription.seen.iter().copied().collect();
            for (n, seq) in &self.acknowledged {
                let topic = self.sent[*n as usize];
                if *seq > subscription.begun_after && selects(filter, topic) && !seen.contains(n) {
                    missing.push((*filter, *n));
                }
            }
        }
        missing
    }
}

fn seq_of(position: &Value) -> u64 {
    position.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

fn cases() -> u32 {
    std::env::var("FIELDGATE_SINCE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

#[test]
fn each_subscription_gets_each_acknowledged_message_once_and_in_order() {
    let shared = std::cell::RefCell::new(Shared::new());
    let config = ProptestConfig {
        cases: cases(),
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ops = prop::collection::vec(op(), 5..30);
    let outcome = TestRunner::new(config).run(&ops, |ops| {
        let mut shared = shared.borrow_mut();
        let mut world = World::new(&mut shared);
        for op in &ops {
            world.step(op);
        }
        world.finish();
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\n{}", shared.borrow().gateway.output());
    }
}
