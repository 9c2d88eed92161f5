//! The judge of `since.rs`: what a subscriber believes of its frames, as `docs/protocol/native.md`
//! tells a client, and whether it got everything once and in order.
//!
//! Pure: events in, a verdict out. What it took can be told to another one, changed on the way.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub(super) type Checked = Result<(), String>;

/// What happens to a client, in order.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// The next message goes out to this topic.
    Sent {
        topic: &'static str,
        waits: bool,
    },
    /// The sender got a frame.
    Told(Value),
    /// A filter is subscribed, for the first time behind `begin`, later where it was.
    Subscribe {
        filter: &'static str,
        begin: u64,
    },
    Unsubscribed(&'static str),
    /// The receiver is on a new connection.
    Reconnected,
    /// The receiver got a frame; `renewed` was subscribed anew and not yet answered.
    Frame {
        frame: Value,
        renewed: Option<&'static str>,
    },
}

/// What is known of one subscription.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// The last position that it accounts for.
    pub(super) after: u64,
    /// Messages up to here were never asked for.
    begun_after: u64,
    pub(super) caught_up: bool,
    pub(super) subscribed: bool,
    pub(super) seen: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Client {
    /// What each topic, filter and id begins with.
    pub(super) root: String,
    pub(super) history: Vec<Event>,
    pub(super) subscriptions: BTreeMap<&'static str, Subscription>,
    /// Topics of the messages by their number in `payload`.
    pub(super) sent: Vec<&'static str>,
    pub(super) unacknowledged: BTreeSet<u64>,
    /// Number of the message to its place in the log.
    acknowledged: BTreeMap<u64, u64>,
    /// What is known of each place in the log.
    pub(super) places: BTreeMap<u64, u64>,
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}

fn selects(filter: &str, topic: &str) -> bool {
    match filter {
        "#" => true,
        "a/#" => topic.starts_with("a/"),
        "+/b" => topic.ends_with("/b"),
        exact => exact == topic,
    }
}

fn seq_of(position: &Value) -> u64 {
    position.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

impl Client {
    pub(super) fn new(root: &str) -> Self {
        Self { root: root.to_owned(), ..Self::default() }
    }

    pub(super) fn take(&mut self, event: Event) -> Checked {
        self.history.push(event.clone());
        match event {
            Event::Sent { topic, waits } => {
                if waits {
                    self.unacknowledged.insert(self.sent.len() as u64);
                }
                self.sent.push(topic);
            }
            Event::Told(frame) => return self.acknowledge(&frame),
            Event::Subscribe { filter, begin } => {
                let first =
                    || Subscription { after: begin, begun_after: begin, ..Default::default() };
                let subscription = self.subscriptions.entry(filter).or_insert_with(first);
                subscription.subscribed = true;
                subscription.caught_up = false;
            }
            Event::Unsubscribed(filter) => {
                self.subscriptions.get_mut(filter).unwrap().subscribed = false;
            }
            // Nothing is live on a new connection before it has been resumed there.
            Event::Reconnected => {
                self.subscriptions.values_mut().for_each(|s| s.caught_up = false);
            }
            Event::Frame { frame, renewed } => return self.believe(&frame, renewed),
        }
        Ok(())
    }

    /// A topic, filter or id without the root of this client.
    fn own<'a>(&self, name: &'a Value) -> Result<&'a str, String> {
        let own = name.as_str().and_then(|name| name.strip_prefix(&self.root));
        own.ok_or_else(|| format!("{name} is of another case"))
    }

    fn acknowledge(&mut self, frame: &Value) -> Checked {
        if frame["type"] != "ack" {
            return Ok(());
        }
        let n = self.own(&frame["msgid"])?.parse().unwrap();
        let seq = frame["seq"].as_u64().unwrap();
        self.unacknowledged.remove(&n);
        let before = self.acknowledged.insert(n, seq);
        ensure(before.is_none_or(|before| before == seq), || {
            format!("{n} is at {seq} and at {before:?}")
        })?;
        self.place(seq, n)
    }

    /// No place holds two messages, and no message two places that count.
    fn place(&mut self, seq: u64, n: u64) -> Checked {
        let before = self.places.insert(seq, n);
        ensure(before.is_none_or(|before| before == n), || {
            format!("{seq} holds {n} and {before:?}")
        })
    }

    fn believe(&mut self, frame: &Value, renewed: Option<&str>) -> Checked {
        match frame["type"].as_str().unwrap() {
            "mqtt" => return self.message(frame, renewed),
            "caught_up" => {
                let topic = self.own(&frame["topic"])?;
                if renewed != Some(topic) {
                    let subscription = self.subscriptions.get_mut(topic).unwrap();
                    subscription.after = subscription.after.max(seq_of(&frame["position"]));
                    subscription.caught_up = true;
                }
            }
            "gap" => {
                let (from, to) = (seq_of(&frame["from"]), seq_of(&frame["to"]));
                ensure(frame["reason"] == "crash", || format!("{frame}"))?;
                let acknowledged = self.acknowledged.values().find(|seq| (from..=to).contains(seq));
                ensure(acknowledged.is_none(), || {
                    format!("{acknowledged:?} was acknowledged, and is in the gap {from} to {to}")
                })?;
                let live = |s: &&mut Subscription| s.caught_up && s.subscribed;
                for subscription in self.subscriptions.values_mut().filter(live) {
                    subscription.after = subscription.after.max(to);
                }
            }
            "pong" | "reconnect" => (),
            other => return Err(format!("{other}: {frame}")),
        }
        Ok(())
    }

    fn message(&mut self, frame: &Value, renewed: Option<&str>) -> Checked {
        let (seq, n) = (frame["seq"].as_u64().unwrap(), frame["payload"].as_u64().unwrap());
        let topic = self.own(&frame["topic"])?;
        ensure(topic == self.sent[n as usize], || format!("{frame} was sent elsewhere"))?;
        self.place(seq, n)?;
        if !frame["replay"].is_null() {
            let filter = self.own(&frame["replay"])?;
            if renewed == Some(filter) {
                return Ok(());
            }
            let subscription = self.subscriptions.get_mut(filter).unwrap();
            let due = selects(filter, topic) && !subscription.caught_up && seq > subscription.after;
            ensure(due, || format!("{frame} behind {}", subscription.after))?;
            subscription.after = seq;
            subscription.seen.push(n);
            return Ok(());
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
        ensure(wanted, || format!("nobody waits for {frame}"))
    }

    /// The first acknowledged message that did not come, or what has not caught up yet.
    pub(super) fn missing(&self) -> Option<String> {
        for (filter, subscription) in &self.subscriptions {
            let seen: BTreeSet<_> = subscription.seen.iter().copied().collect();
            for (n, seq) in &self.acknowledged {
                let topic = self.sent[*n as usize];
                if *seq > subscription.begun_after && selects(filter, topic) && !seen.contains(n) {
                    return Some(format!("{filter} lacks {n} at {seq}"));
                }
            }
            if !subscription.caught_up {
                return Some(format!("{filter} has not caught up"));
            }
        }
        None
    }

    /// Everything acknowledged reached every subscription, once and in order.
    pub(super) fn judge(&self) -> Checked {
        if let Some(missing) = self.missing() {
            return Err(missing);
        }
        for (filter, subscription) in &self.subscriptions {
            let distinct: BTreeSet<_> = subscription.seen.iter().collect();
            let once = distinct.len() == subscription.seen.len();
            ensure(once, || format!("{filter} got one twice: {:?}", subscription.seen))?;
            let of = |n: &u64| self.acknowledged.get(n).copied();
            let order: Vec<u64> = subscription.seen.iter().filter_map(of).collect();
            ensure(order.is_sorted(), || format!("{filter}: {order:?}"))?;
        }
        Ok(())
    }
}
