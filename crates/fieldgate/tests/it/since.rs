//! Resume by `since` under random interleavings: publishing, subscribing, reconnecting at any point,
//! drains and kills of the gateway, filters that overlap.
//!
//! Each subscription must get each acknowledged message that it selects once, and in order. What it
//! believes of a frame is what `docs/protocol/native.md` tells a client to believe.
//! More cases by `FIELDGATE_SINCE_CASES`.

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::support::{Gateway, Seen, Wire};

mod client;
mod defects;

use client::{Client, Event};

// Each case has a tree of its own, so that all share one gateway and its log.
const TOPICS: [&str; 4] = ["a/b", "a/c", "d/b", "d"];
const FILTERS: [&str; 4] = ["a/#", "a/b", "+/b", "#"];

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
    epoch: String,
    sender: Wire,
    receiver: Wire,
    client: Client,
}

impl<'a> World<'a> {
    fn new(shared: &'a mut Shared) -> Self {
        shared.case_count += 1;
        let client = Client::new(&format!("{}/", shared.case_count));
        if !shared.gateway.is_up() {
            shared.gateway.up();
        }
        let sender = shared.gateway.as_app(&shared.key);
        let bearer = format!("Authorization: Bearer {}", shared.key);
        let headers = [bearer.as_str(), "Sec-WebSocket-Protocol: fieldgate.v1.json"];
        let mut receiver = Wire::open(&shared.gateway.address, "/", &headers).unwrap();
        let epoch = receiver.next()["epoch"].as_str().unwrap().to_owned();
        Self { shared, epoch, sender, receiver, client }
    }

    /// Lives through these steps, until everything that was acknowledged has come.
    fn live(&mut self, ops: &[Op]) {
        for op in ops {
            self.step(op);
        }
        self.finish();
    }

    fn take(&mut self, event: Event) {
        if let Err(why) = self.client.take(event) {
            panic!("{why}");
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Publish { topic, qos, count } => {
                for _ in 0..count {
                    let n = self.client.sent.len() as u64;
                    self.take(Event::Sent { topic: TOPICS[topic], waits: qos > 0 });
                    self.publish(n, qos);
                }
            }
            Op::Settle => self.settle(),
            Op::Subscribe { filter, from } => {
                let places: Vec<u64> = self.client.places.keys().copied().collect();
                let begin = match from {
                    From::After(index) if !places.is_empty() => *index.get(&places),
                    From::After(_) | From::All => 0,
                };
                self.subscribe(FILTERS[filter], begin);
            }
            Op::Unsubscribe { filter } => self.unsubscribe(FILTERS[filter]),
            Op::Read { count } => {
                self.receiver.send(&json!({"type": "ping"}));
                for _ in 0..count {
                    let frame = self.receiver.next();
                    if frame["type"] == "pong" {
                        break;
                    }
                    self.believe(frame, None);
                }
            }
            Op::Reconnect => self.reconnect(false),
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
        let root = &self.client.root;
        let topic = root.clone() + self.client.sent[n as usize];
        let mut frame = json!({"type": "publish", "topic": topic, "qos": qos, "payload": n});
        if qos > 0 {
            frame["msgid"] = json!(root.clone() + &n.to_string());
        }
        self.sender.send(&frame);
    }

    fn settle(&mut self) {
        while !self.client.unacknowledged.is_empty() {
            let frame = self.sender.next();
            self.take(Event::Told(frame));
        }
    }

    /// The gateway ends and comes back; the sender repeats what was not acknowledged.
    fn restarted(&mut self) {
        // What was told before the end counts.
        while let Seen::Frame(frame) = self.sender.see() {
            self.take(Event::Told(frame));
        }
        self.shared.gateway.ended();
        self.shared.gateway.up();
        self.sender = self.shared.gateway.as_app(&self.shared.key);
        for n in self.client.unacknowledged.clone() {
            self.publish(n, 1);
        }
        self.reconnect(false);
    }

    /// Goes on with what is subscribed, or with all that ever was.
    fn reconnect(&mut self, all: bool) {
        self.receiver = self.shared.gateway.as_app(&self.shared.key);
        self.take(Event::Reconnected);
        let wanted = self.client.subscriptions.iter().filter(|(_, s)| all || s.subscribed);
        for filter in wanted.map(|(filter, _)| *filter).collect::<Vec<_>>() {
            self.subscribe(filter, 0);
        }
    }

    fn subscribe(&mut self, filter: &'static str, begin: u64) {
        self.take(Event::Subscribe { filter, begin });
        let since = match self.client.subscriptions[filter].after {
            0 => json!("all"),
            after => json!({"after": format!("{}:{after}", self.epoch)}),
        };
        let topic = self.client.root.clone() + filter;
        self.receiver.send(&json!({"type": "subscribe", "topic": topic, "qos": 1, "since": since}));
        // Frames before the answer are of the time before; a replay of that time is over.
        loop {
            let frame = self.receiver.next();
            if frame["type"] == "subscribed" && frame["topic"] == topic {
                break;
            }
            self.believe(frame, Some(filter));
        }
    }

    fn unsubscribe(&mut self, filter: &'static str) {
        if !self.client.subscriptions.get(filter).is_some_and(|s| s.subscribed) {
            return;
        }
        let topic = self.client.root.clone() + filter;
        self.receiver.send(&json!({"type": "unsubscribe", "topic": topic}));
        loop {
            let frame = self.receiver.next();
            if frame["type"] == "unsubscribed" {
                break;
            }
            self.believe(frame, None);
        }
        self.take(Event::Unsubscribed(filter));
    }

    fn believe(&mut self, frame: Value, renewed: Option<&'static str>) {
        self.take(Event::Frame { frame, renewed });
    }

    /// Everything acknowledged reaches every subscription, once and in order.
    fn finish(&mut self) {
        self.settle();
        self.reconnect(true);
        while self.client.missing().is_some() {
            let frame = self.receiver.next();
            self.believe(frame, None);
        }
        if let Err(why) = self.client.judge() {
            panic!("{why}");
        }
    }
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
        // What does not come is waited for each time.
        max_shrink_time: 60_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ops = prop::collection::vec(op(), 5..30);
    let outcome = TestRunner::new(config).run(&ops, |ops| {
        let mut shared = shared.borrow_mut();
        World::new(&mut shared).live(&ops);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\n{}", shared.borrow().gateway.output());
    }
}
