//! The one task of a client: keeps a connection up, writes what waits, hands out what comes.
//!
//! It ends when the client is closed, or when the server says for good not to come back; then
//! [`Shared`] tells every handle why. Invariant: it reads the socket only while everything read
//! before was handed out, so that a slow application slows this connection alone.

mod receive;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::SinkExt;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_websockets::{CloseCode, Message};

use crate::{
    Backoff, Link,
    buffer::Frame,
    command::Command,
    endpoint::{Endpoint, Socket, Turn, turn},
    error::{ConnectError, End, may_return},
    state::{Shared, State},
    subscribe::{Event, Leaving, Phase, Tracked},
};

/// Frames queued in one turn before the socket is flushed.
const FRAMES_PER_TURN_MAX: usize = 64;
/// And so many bytes, but for the last frame: what a flush may take has to be little, since pings wait
/// behind it and [`Habits::silence`] bounds it.
const BYTES_PER_TURN_MAX: usize = 64 * 1024;
/// How long the end of a connection may take once the close frame is out.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// A connection that lived this long starts the backoff anew.
const SETTLED: Duration = Duration::from_secs(10);

/// How the link behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habits {
    pub(crate) backoff: Backoff,
    /// A ping at least this often.
    pub(crate) ping: Duration,
    /// Silence after which the connection is dead, and how long the peer may take for one flush.
    pub(crate) silence: Duration,
    /// How long a close waits for what is not acknowledged.
    pub(crate) drain: Duration,
}

/// Why one connection ended.
enum Parting {
    /// The client is closing, and is done.
    Done,
    /// The server closed, with its code.
    Closed { code: u16, reason: String },
    /// The socket failed, or nothing came or went for too long.
    Lost(String),
}

enum Handoff {
    Event(mpsc::Sender<Event>, Event),
    Command(mpsc::Sender<Command>, Command),
}

impl Handoff {
    /// Waits until there is room, or nobody reads any more.
    async fn room(&self) {
        match self {
            Self::Event(to, _) => drop(to.reserve().await),
            Self::Command(to, _) => drop(to.reserve().await),
        }
    }

    /// Hands over, or gives itself back if the queue is full.
    fn deliver(self) -> Option<Self> {
        use mpsc::error::TrySendError::Full;
        match self {
            Self::Event(to, event) => match to.try_send(event) {
                Err(Full(event)) => Some(Self::Event(to, event)),
                _ => None,
            },
            Self::Command(to, command) => match to.try_send(command) {
                Err(Full(command)) => Some(Self::Command(to, command)),
                _ => None,
            },
        }
    }
}

pub(crate) struct Runner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Endpoint,
    pub(crate) habits: Habits,
    pub(crate) link: watch::Sender<Link>,
    handoff: VecDeque<Handoff>,
    reconnect_after: Option<Duration>,
    drain_until: Option<Instant>,
}

impl Runner {
    pub(crate) fn new(
        shared: Arc<Shared>,
        endpoint: Endpoint,
        habits: Habits,
        link: watch::Sender<Link>,
    ) -> Self {
        Self {
            shared,
            endpoint,
            habits,
            link,
            handoff: VecDeque::new(),
            reconnect_after: None,
            drain_until: None,
        }
    }

    /// Runs until the client is over.
    pub(crate) async fn run(mut self, first: Option<(Socket, String)>) {
        let mut next = first;
        let mut attempt = 0;
        let end = loop {
            let (socket, epoch) = match next.take() {
                Some(connected) => connected,
                None => match self.connect().await {
                    Ok(connected) => connected,
                    Err(None) => break End::Closed,
                    Err(Some(error)) if !error.is_temporary() => break End::Refused(error),
                    Err(Some(error)) => {
                        self.rest(&mut attempt, chain(&error)).await;
                        continue;
                    }
                },
            };
            self.link.send_replace(Link::Online { epoch });
            let since = Instant::now();
            let parting = self.serve(socket).await;
            self.disconnected();
            if since.elapsed() >= SETTLED {
                attempt = 0;
            }
            match parting {
                Parting::Done => break End::Closed,
                Parting::Closed { code, reason } if !may_return(code) => {
                    break End::ByServer { code, reason };
                }
                Parting::Closed { code, reason } => {
                    self.rest(&mut attempt, format!("closed by the server: {code} {reason}")).await;
                }
                Parting::Lost(why) => self.rest(&mut attempt, why).await,
            }
        };
        self.link.send_replace(Link::Ended(end.clone()));
        self.shared.finish(end);
    }

    /// One attempt; no error if the client was closed meanwhile.
    async fn connect(&mut self) -> Result<(Socket, String), Option<ConnectError>> {
        let shared = Arc::clone(&self.shared);
        let endpoint = self.endpoint.clone();
        let attempt = endpoint.connect();
        tokio::pin!(attempt);
        loop {
            if self.is_over() {
                return Err(None);
            }
            let limit = self.drain_until.unwrap_or_else(|| Instant::now() + self.habits.silence);
            tokio::select! {
                connected = &mut attempt => return connected.map_err(Some),
                () = shared.woken() => (),
                () = sleep_until(limit) => (),
            }
        }
    }

    /// Waits before the next attempt; the reason is told to whoever watches.
    async fn rest(&mut self, attempt: &mut u32, why: String) {
        let random = uuid::Uuid::now_v7().as_u64_pair().1 << 2;
        let delay = self.habits.backoff.delay(*attempt, random);
        let delay = self.reconnect_after.take().map_or(delay, |asked| {
            // Spread over as much again, so that not everybody comes back at the same instant.
            asked + self.habits.backoff.delay(0, random)
        });
        *attempt += 1;
        tracing::debug!(reason = why, delay_ms = delay.as_millis(), "offline");
        self.link.send_replace(Link::Offline { reason: why, retry_in: delay });
        let until = Instant::now() + delay;
        while !self.is_over() {
            let limit = self.drain_until.map_or(until, |drain| drain.min(until));
            tokio::select! {
                () = sleep_until(limit) => if Instant::now() >= until { return },
                () = self.shared.woken() => (),
            }
        }
    }

    /// Whether a close was asked for and nothing is left to wait for.
    fn is_over(&mut self) -> bool {
        let state = self.shared.lock();
        if !state.closing {
            return false;
        }
        self.drain_until.get_or_insert_with(|| Instant::now() + self.habits.drain);
        (state.outbox.is_empty() && state.control.is_empty()) || self.is_late()
    }

    /// Whether the close that was asked for has had its time.
    fn is_late(&self) -> bool {
        self.drain_until.is_some_and(|until| Instant::now() >= until)
    }

    fn disconnected(&mut self) {
        let mut state = self.shared.lock();
        state.outbox.disconnected();
        // Acks name deliveries of the connection that is gone.
        state.control.clear();
        state.leaving.clear();
        for tracked in &mut state.tracked {
            tracked.phase = Phase::Unsent;
            tracked.not_before = None;
        }
    }

    async fn serve(&mut self, mut socket: Socket) -> Parting {
        let silence = self.habits.silence;
        let mut heard = Instant::now();
        let mut ping_at = heard + self.habits.ping;
        // Until when what is written has to be out; none if it is.
        let mut flush_by = None;
        loop {
            if flush_by.is_none() {
                match self.write(&mut socket) {
                    Ok(wrote) => flush_by = wrote.then(|| Instant::now() + silence),
                    Err(error) => return Parting::Lost(error.to_string()),
                }
            }
            if self.is_over() && (flush_by.is_none() || self.is_late()) {
                return close(&mut socket).await;
            }
            let reading = self.handoff.is_empty();
            let dead_at = reading.then(|| heard + silence);
            let deadline = self.deadline(ping_at, flush_by, dead_at);
            tokio::select! {
                biased;
                // Handing out goes first: it is what makes reading possible again.
                () = room(&self.handoff), if !reading => {
                    self.hand_out();
                    heard = Instant::now();
                }
                turned = turn(&mut socket, flush_by.is_some(), reading) => match turned {
                    Turn::Flushed => flush_by = None,
                    Turn::Read(Some(Ok(message))) => {
                        heard = Instant::now();
                        if let Some(parting) = self.on_message(&message) {
                            let _ = timeout(CLOSE_WAIT, socket.close()).await;
                            return parting;
                        }
                    }
                    Turn::Read(Some(Err(error))) => return Parting::Lost(error.to_string()),
                    Turn::Read(None) => return Parting::Lost("the connection ended".to_owned()),
                },
                () = self.shared.woken() => (),
                () = sleep_until(deadline) => {
                    let now = Instant::now();
                    if let Some(parting) = lost(now, flush_by, dead_at) {
                        return parting;
                    }
                    if now >= ping_at {
                        ping_at = now + self.habits.ping;
                        if let Err(error) = socket.start_send_unpin(Message::ping("")) {
                            return Parting::Lost(error.to_string());
                        }
                        flush_by.get_or_insert(now + silence);
                    }
                }
            }
        }
    }

    /// When there is something to do without anything happening.
    fn deadline(
        &self,
        ping_at: Instant,
        flush_by: Option<Instant>,
        dead_at: Option<Instant>,
    ) -> Instant {
        // What is due before the flush has to wait for it: nothing is written till then.
        let due = flush_by.or_else(|| self.shared.lock().deadline());
        [due, dead_at, self.drain_until].into_iter().flatten().fold(ping_at, Instant::min)
    }

    /// Queues what may go out now; says whether there was anything.
    fn write(&self, socket: &mut Socket) -> Result<bool, tokio_websockets::Error> {
        let now = Instant::now();
        let (mut frame_count, mut byte_count) = (0, 0);
        while frame_count < FRAMES_PER_TURN_MAX && byte_count < BYTES_PER_TURN_MAX {
            let Some(frame) = next_frame(&self.shared, now) else { break };
            frame_count += 1;
            byte_count += frame.len();
            socket.start_send_unpin(self.endpoint.message(frame))?;
        }
        Ok(frame_count > 0)
    }

    fn hand_out(&mut self) {
        while let Some(handoff) = self.handoff.pop_front() {
            if let Some(back) = handoff.deliver() {
                self.handoff.push_front(back);
                return;
            }
        }
    }
}

impl State {
    /// When [`next_frame`] may have something that it does not have now. What was refused for now is
    /// not asked for while another answer is to come, and then that answer is a turn of its own.
    fn deadline(&self) -> Option<Instant> {
        let postponed = self.tracked.iter().filter_map(|t| t.not_before).min();
        let again = postponed.filter(|_| !self.is_asking());
        let leave = self.leaving.iter().filter_map(Leaving::not_before).min();
        [self.outbox.deadline(), again, leave].into_iter().flatten().min()
    }

    /// Whether a subscription was asked for and not answered: they are asked for one at a time.
    fn is_asking(&self) -> bool {
        self.tracked.iter().any(|t| t.phase == Phase::Asked)
    }
}

/// Acks, then filters that are left, then subscriptions, then messages.
fn next_frame(shared: &Shared, now: Instant) -> Option<Frame> {
    let mut state = shared.lock();
    if let Some(control) = state.control.pop_front() {
        return Some(Frame::text(control));
    }
    if let Some(leaving) = state.leaving.iter_mut().find(|l| l.is_due(now)) {
        return Some(Frame::text(leaving.encode(shared.next_msgid())));
    }
    let asking = state.is_asking();
    let State { tracked, leaving, outbox, .. } = &mut *state;
    let is_left = |t: &Tracked| leaving.iter().any(|l| l.filter == t.ask.filter);
    let due = tracked.iter_mut().find(|t| !asking && t.is_due(now) && !is_left(t));
    match due {
        Some(tracked) => Some(Frame::text(tracked.encode(shared.next_msgid()))),
        None => outbox.next(now),
    }
}

/// Why the connection is given up at this time, if it is.
fn lost(now: Instant, flush_by: Option<Instant>, dead_at: Option<Instant>) -> Option<Parting> {
    if dead_at.is_some_and(|at| now >= at) {
        return Some(Parting::Lost("nothing came from the server for too long".to_owned()));
    }
    let stuck = flush_by.is_some_and(|by| now >= by);
    stuck.then(|| Parting::Lost("the server took nothing for too long".to_owned()))
}

/// An error with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn room(handoff: &VecDeque<Handoff>) {
    if let Some(first) = handoff.front() {
        first.room().await;
    }
}

/// Says goodbye, and waits a moment for the same.
async fn close(socket: &mut Socket) -> Parting {
    let goodbye = Message::close(Some(CloseCode::NORMAL_CLOSURE), "");
    let until = Instant::now() + CLOSE_WAIT;
    if socket.start_send_unpin(goodbye).is_ok() {
        let _ = timeout_at(until, socket.close()).await;
    }
    Parting::Done
}

#[cfg(test)]
mod tests;
