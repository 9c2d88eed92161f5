//! What waits to be sent or acknowledged: messages in, frames to write out, answers back.
//!
//! Pure: `now` is an argument. Invariant: a message leaves when it is acknowledged, refused for good
//! or withdrawn, and, at QoS 0, when it is handed to the socket; it keeps its `msgid` and its order.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use crate::{error::SendError, publish::Accepted};

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimits {
    /// Most messages.
    pub records_max: usize,
    /// Most bytes of frames.
    pub bytes_max: usize,
    /// Most messages sent and not yet acknowledged.
    pub inflight_max: usize,
}

impl Default for BufferLimits {
    fn default() -> Self {
        Self { records_max: 10_000, bytes_max: 16 << 20, inflight_max: 256 }
    }
}

/// One WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(Bytes),
    Binary(Bytes),
}

impl Frame {
    pub(crate) fn text(text: String) -> Self {
        Self::Text(Bytes::from(text))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }
}

pub(crate) type Done = oneshot::Sender<Result<Accepted, SendError>>;

struct Waiting {
    frame: Frame,
    /// Absent at QoS 0.
    msgid: Option<String>,
    in_flight: bool,
    last: Option<String>,
    done: Done,
}

/// The buffer.
pub(crate) struct Outbox {
    limits: BufferLimits,
    repeat: Duration,
    waiting: BTreeMap<u64, Waiting>,
    by_msgid: HashMap<String, u64>,
    bytes: usize,
    next_ticket: u64,
    /// Everything below was sent on this connection.
    cursor: u64,
    /// When to repeat what, oldest first; stale lines are skipped.
    repeats: VecDeque<(Instant, u64)>,
    inflight_count: usize,
    /// After a temporary refusal: nothing before this time, and then one at a time.
    pause: Option<Instant>,
    one_by_one: bool,
}

impl Outbox {
    pub(crate) fn new(limits: BufferLimits, repeat: Duration) -> Self {
        Self {
            limits,
            repeat,
            waiting: BTreeMap::new(),
            by_msgid: HashMap::new(),
            bytes: 0,
            next_ticket: 0,
            cursor: 0,
            repeats: VecDeque::new(),
            inflight_count: 0,
            pause: None,
            one_by_one: false,
        }
    }

    /// How long what was refused for now waits.
    pub(crate) const fn repeat(&self) -> Duration {
        self.repeat
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a message, or says why not; then `done` is dropped untouched.
    pub(crate) fn push(
        &mut self,
        frame: Frame,
        msgid: Option<String>,
        done: Done,
    ) -> Result<u64, SendError> {
        let (records, bytes) = (self.waiting.len(), self.bytes);
        if records >= self.limits.records_max || bytes + frame.len() > self.limits.bytes_max {
            return Err(SendError::Full { records, bytes });
        }
        let ticket = self.next_ticket;
        if let Some(msgid) = &msgid {
            if self.by_msgid.contains_key(msgid) {
                return Err(SendError::Duplicate);
            }
            self.by_msgid.insert(msgid.clone(), ticket);
        }
        self.next_ticket += 1;
        self.bytes += frame.len();
        self.waiting.insert(ticket, Waiting { frame, msgid, in_flight: false, last: None, done });
        Ok(ticket)
    }

    /// The next frame to write now, if any.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Frame> {
        if self.pause.is_some_and(|until| until > now) {
            return None;
        }
        self.pause = None;
        if let Some(frame) = self.next_repeat(now) {
            return Some(frame);
        }
        let window = if self.one_by_one { 1 } else { self.limits.inflight_max };
        if self.inflight_count >= window {
            return None;
        }
        let (&ticket, waiting) = self.waiting.range_mut(self.cursor..).next()?;
        self.cursor = ticket + 1;
        if waiting.msgid.is_some() {
            waiting.in_flight = true;
            self.inflight_count += 1;
            self.repeats.push_back((now + self.repeat, ticket));
            return Some(waiting.frame.clone());
        }
        let waiting = self.remove(ticket)?;
        let _ = waiting.done.send(Ok(Accepted::default()));
        Some(waiting.frame)
    }

    fn next_repeat(&mut self, now: Instant) -> Option<Frame> {
        while let Some(&(at, ticket)) = self.repeats.front() {
            let Some(waiting) = self.waiting.get(&ticket).filter(|w| w.in_flight) else {
                self.repeats.pop_front();
                continue;
            };
            if at > now {
                return None;
            }
            let frame = waiting.frame.clone();
            self.repeats.pop_front();
            self.repeats.push_back((now + self.repeat, ticket));
            return Some(frame);
        }
        None
    }

    /// When [`Self::next`] may have something that it does not have now. Within a pause that is its
    /// end, whatever is due before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.pause.or_else(|| self.repeats.front().map(|(at, _)| *at))
    }

    /// An acknowledgement came; false if nothing waits for it.
    pub(crate) fn acknowledged(&mut self, msgid: &str, accepted: Accepted) -> bool {
        let Some(waiting) = self.by_msgid.get(msgid).copied().and_then(|t| self.remove(t)) else {
            return false;
        };
        self.one_by_one = false;
        let _ = waiting.done.send(Ok(accepted));
        true
    }

    /// A refusal came. A temporary one keeps the message, and slows the sending down.
    pub(crate) fn refused(&mut self, msgid: &str, code: &str, message: &str, now: Instant) -> bool {
        let Some(&ticket) = self.by_msgid.get(msgid) else { return false };
        if is_temporary(code) {
            self.pause = Some(now + self.repeat);
            self.one_by_one = true;
            if let Some(waiting) = self.waiting.get_mut(&ticket) {
                waiting.last = Some(format!("{code}: {message}"));
            }
            return true;
        }
        if let Some(waiting) = self.remove(ticket) {
            let refused = SendError::Refused { code: code.to_owned(), message: message.to_owned() };
            let _ = waiting.done.send(Err(refused));
        }
        true
    }

    /// Gives a message up; says the last temporary refusal.
    pub(crate) fn withdraw(&mut self, ticket: u64) -> Option<String> {
        self.remove(ticket).and_then(|waiting| waiting.last)
    }

    /// The connection is gone: everything not acknowledged goes out again, in order.
    pub(crate) fn disconnected(&mut self) {
        self.cursor = 0;
        self.repeats.clear();
        self.inflight_count = 0;
        self.pause = None;
        for waiting in self.waiting.values_mut() {
            waiting.in_flight = false;
        }
    }

    /// The client ended: everybody is told.
    pub(crate) fn end(&mut self, error: &SendError) {
        self.by_msgid.clear();
        self.bytes = 0;
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            let _ = waiting.done.send(Err(error.clone()));
        }
    }

    fn remove(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.bytes -= waiting.frame.len();
        if waiting.in_flight {
            self.inflight_count -= 1;
        }
        if let Some(msgid) = &waiting.msgid {
            self.by_msgid.remove(msgid);
        }
        Some(waiting)
    }
}

/// Whether the same may be taken later.
pub(crate) fn is_temporary(code: &str) -> bool {
    matches!(code, "rate_limited" | "queue_full" | "busy" | "storage_unavailable")
}

#[cfg(test)]
mod tests;
