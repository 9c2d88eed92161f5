//! Subscriptions: the stream an application reads, and the record the link keeps of each.
//!
//! Invariant: a position moves only forward within an epoch, only past what was handed out, and
//! during a replay only with frames of that replay (`native.md`, "Positions belong to
//! subscriptions"). So `since after` behind it continues without gap or double.

use std::{ops::Deref, sync::Arc};

use fieldgate_core::{
    dialect::{Since, SlowMode, Subscribe},
    id::Position,
    message::Qos,
    topic::{Filter, Topic},
};
use fieldgate_dialects::native::client::{self as wire, Received};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{error::SubscribeError, state::Shared};

/// A routed message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Arc<Received>);

impl Deref for Message {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.0
    }
}

impl Message {
    /// Its place in the log, if the server said one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.msgid.parse().ok()
    }

    /// Reads the payload.
    ///
    /// # Errors
    ///
    /// The parser's, if it is not of this form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.payload)
    }
}

/// Positions that will not come, both inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// First.
    pub from: String,
    /// Last.
    pub to: String,
    /// `retention`, `overflow`, `crash`, `damaged` or `epoch`.
    pub reason: String,
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A message.
    Message(Message),
    /// A hole, before the next message.
    Gap(Gap),
    /// The history is told; what follows is live.
    CaughtUp,
    /// After a reconnect the server refused for good to go on: the last event.
    Refused {
        /// The stable code.
        code: String,
        /// For people.
        message: String,
    },
}

/// A subscription that is being put together.
#[derive(Debug)]
#[must_use = "nothing happens before `open`"]
pub struct SubscribeRequest {
    shared: Arc<Shared>,
    filter: String,
    qos: Qos,
    since: Option<Since>,
    slow: Option<SlowMode>,
    rate_max: Option<f64>,
    resume: bool,
    queue_len_max: usize,
}

impl SubscribeRequest {
    pub(crate) fn new(shared: &Arc<Shared>, filter: &str) -> Self {
        Self {
            shared: Arc::clone(shared),
            filter: filter.to_owned(),
            qos: Qos::AtMostOnce,
            since: None,
            slow: None,
            rate_max: None,
            resume: true,
            queue_len_max: 256,
        }
    }

    /// At least once.
    pub const fn qos1(mut self) -> Self {
        self.qos = Qos::AtLeastOnce;
        self
    }

    /// Starts with the history from here; else with the retained messages.
    pub const fn since(mut self, since: Since) -> Self {
        self.since = Some(since);
        self
    }

    /// What the server does when this client is slow; at QoS 0 only.
    pub const fn slow_mode(mut self, mode: SlowMode) -> Self {
        self.slow = Some(mode);
        self
    }

    /// Most messages a second for each topic; at QoS 0 only.
    pub const fn rate_max(mut self, per_second: f64) -> Self {
        self.rate_max = Some(per_second);
        self
    }

    /// After a reconnect, starts with what is live instead of what was missed.
    pub const fn live_only(mut self) -> Self {
        self.resume = false;
        self
    }

    /// How many events wait for [`Subscription::next`] before this client stops reading its socket;
    /// 256 unless told otherwise.
    pub const fn queue_len_max(mut self, len: usize) -> Self {
        self.queue_len_max = if len == 0 { 1 } else { len };
        self
    }

    /// Subscribes, and waits for the server's answer (across reconnects).
    ///
    /// # Errors
    ///
    /// [`SubscribeError`].
    pub async fn open(self) -> Result<Subscription, SubscribeError> {
        let filter: Filter =
            self.filter.parse().map_err(|e: fieldgate_core::topic::InvalidTopic| {
                SubscribeError::Filter(e.to_string())
            })?;
        let (sender, events) = mpsc::channel(self.queue_len_max);
        let (opened, answer) = oneshot::channel();
        let Self { shared, qos, since, slow, rate_max, resume, .. } = self;
        {
            let mut state = shared.lock();
            if let Some(end) = &state.end {
                return Err(SubscribeError::Ended(end.clone()));
            }
            if state.tracked.iter().any(|tracked| tracked.ask.filter == filter) {
                return Err(SubscribeError::Twice);
            }
            let ask = Subscribe { filter: filter.clone(), qos, since, slow, rate_max };
            state.tracked.push(Tracked {
                ask,
                resume,
                position: None,
                phase: Phase::Unsent,
                reference: String::new(),
                not_before: None,
                sender,
                opened: Some(opened),
            });
        }
        // From here on the guard below takes the subscription back if the caller goes away.
        let subscription = Subscription { shared, filter, events, position: None };
        subscription.shared.wake();
        let ended = || SubscribeError::Ended(crate::error::End::Closed);
        answer.await.unwrap_or_else(|_| Err(ended()))?;
        Ok(subscription)
    }
}

/// A stream of messages, gaps and the end of the history. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    filter: Filter,
    events: mpsc::Receiver<Event>,
    position: Option<Position>,
}

impl Subscription {
    /// The next event; none once the client ended, or after [`Event::Refused`]. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await?;
        if let Event::Message(message) = &event
            && !message.retain
            && !message.ahead
        {
            self.position = message.position().or(self.position);
        }
        Some(event)
    }

    /// The last position that [`Self::next`] gave out: keep it to go on from another process.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &str {
        self.filter.as_str()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // One that was refused has no record: that of its filter may be of who opened it anew, and
        // reads another queue.
        self.events.close();
        let mut state = self.shared.lock();
        let mine = |t: &Tracked| t.ask.filter == self.filter && t.sender.is_closed();
        let Some(at) = state.tracked.iter().position(mine) else { return };
        if state.tracked.swap_remove(at).phase != Phase::Unsent {
            state.leaving.push(Leaving::new(self.filter.clone()));
            drop(state);
            self.shared.wake();
        }
    }
}

/// Where a subscription stands on the present connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The server does not know of it.
    Unsent,
    /// It was asked.
    Asked,
    /// History comes.
    Replaying,
    /// What comes is live; `fresh`: retained messages come too.
    Live { fresh: bool },
}

type Sender = mpsc::Sender<Event>;

/// The link's record of a subscription.
pub(crate) struct Tracked {
    pub(crate) ask: Subscribe,
    pub(crate) resume: bool,
    pub(crate) position: Option<Position>,
    pub(crate) phase: Phase,
    /// What a refusal of the last frame that asked for it names.
    pub(crate) reference: String,
    /// After a temporary refusal: not asked for again before this time.
    pub(crate) not_before: Option<Instant>,
    pub(crate) sender: Sender,
    pub(crate) opened: Option<oneshot::Sender<Result<(), SubscribeError>>>,
}

impl Tracked {
    /// The frame that starts or continues it.
    pub(crate) fn encode(&mut self, msgid: String) -> String {
        self.phase = Phase::Asked;
        self.not_before = None;
        self.reference = msgid;
        let ask = Subscribe { since: self.since(), ..self.ask.clone() };
        wire::encode_subscribe(&ask, &self.reference)
    }

    /// Whether it may be asked for now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.phase == Phase::Unsent && self.not_before.is_none_or(|at| at <= now)
    }

    /// The server refused it for now. One that never stood is its caller's to repeat; says whether
    /// this one is asked for again, at `again`.
    pub(crate) fn postpone(&mut self, again: Instant) -> bool {
        let stood = self.opened.is_none();
        if stood {
            self.phase = Phase::Unsent;
            self.not_before = Some(again);
        }
        stood
    }

    /// The server refused it: says so to who waits for it, or to who reads it.
    pub(crate) fn refuse(mut self, code: String, message: String) -> Option<(Sender, Event)> {
        if self.opened.is_none() {
            return Some((self.sender, Event::Refused { code, message }));
        }
        self.refuse_opening(SubscribeError::Refused { code, message });
        None
    }

    fn since(&self) -> Option<Since> {
        match self.position {
            Some(position) if self.resume => Some(Since::After(position)),
            _ => self.ask.since,
        }
    }

    /// The server answered that it stands. Where a replay stands, only its own frames tell.
    pub(crate) fn stands(&mut self, position: Option<Position>) {
        let replays = self.since().is_some();
        self.phase = if replays { Phase::Replaying } else { Phase::Live { fresh: true } };
        if !replays && self.position.is_none() {
            self.position = position;
        }
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(Ok(()));
        }
    }

    pub(crate) fn refuse_opening(&mut self, error: SubscribeError) {
        if let Some(opened) = self.opened.take() {
            let _ = opened.send(Err(error));
        }
    }

    pub(crate) fn caught_up(&mut self, position: Option<Position>) {
        self.phase = Phase::Live { fresh: false };
        self.position = position.or(self.position);
    }

    /// Tells whether this message is for this subscription, and moves the position if it is.
    pub(crate) fn takes(&mut self, received: &Received, topic: &Topic) -> bool {
        let replayed = received.replay.as_deref();
        let mine = match self.phase {
            Phase::Unsent | Phase::Asked => false,
            Phase::Replaying => replayed == Some(self.ask.filter.as_str()),
            Phase::Live { fresh } => replayed.is_none() && (fresh || !received.retain),
        };
        if !mine || !self.ask.filter.matches(topic) {
            return false;
        }
        if received.retain || received.ahead {
            return true;
        }
        let Ok(position) = received.msgid.parse::<Position>() else { return true };
        let seen =
            self.position.is_some_and(|p| p.epoch == position.epoch && p.seq >= position.seq);
        if !seen {
            self.position = Some(position);
        }
        !seen
    }

    /// Moves past numbers that will not come live. During a replay its own frames do that.
    pub(crate) fn skips(&mut self, to: Option<Position>) {
        let (Some(to), Phase::Live { .. }) = (to, self.phase) else { return };
        if self.position.is_none_or(|p| p.epoch != to.epoch || p.seq < to.seq) {
            self.position = Some(to);
        }
    }
}

/// A filter that is being left. Until the server said that it is, what comes of it is nobody's, and it
/// is not asked for anew: `subscribed`, `caught_up` and replayed frames name their filter alone.
pub(crate) struct Leaving {
    pub(crate) filter: Filter,
    /// What a refusal of the frame that leaves it names; none if that is not sent.
    reference: Option<String>,
    /// After a temporary refusal: not sent again before this time.
    not_before: Option<Instant>,
}

impl Leaving {
    const fn new(filter: Filter) -> Self {
        Self { filter, reference: None, not_before: None }
    }

    /// The frame that leaves it.
    pub(crate) fn encode(&mut self, msgid: String) -> String {
        let frame = wire::encode_unsubscribe(self.filter.as_str(), &msgid);
        (self.reference, self.not_before) = (Some(msgid), None);
        frame
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.reference.is_none() && self.not_before.is_none_or(|at| at <= now)
    }

    /// When it is due after a temporary refusal.
    pub(crate) const fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Whether a refusal that names this is of its frame.
    pub(crate) fn is_named(&self, reference: &str) -> bool {
        self.reference.as_deref() == Some(reference)
    }

    /// The server refused it for now.
    pub(crate) fn postpone(&mut self, again: Instant) {
        (self.reference, self.not_before) = (None, Some(again));
    }
}

/// Wraps a frame once for all the subscriptions that it is for.
pub(crate) fn share(received: Box<Received>) -> Message {
    Message(Arc::from(received))
}

#[cfg(test)]
pub(crate) mod tests;
