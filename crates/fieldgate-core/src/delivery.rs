//! Delivery of a log to somebody else's server: what is sent when, what is sent again, what is set
//! aside.
//!
//! Pure; time is an argument, in milliseconds of any clock that only rises, and so is chance. In:
//! items in the order of their numbers, and how each attempt ended. Out: the next [`Step`].
//! Invariant: one batch is under way at a time, always the oldest that waits; the cursor passes an
//! item only when it was taken or is set aside; what waits is bounded by two batches and what was
//! read last.

use std::{collections::VecDeque, time::Duration};

use crate::{backoff::Backoff, id::Seq, rate::Bucket};

/// How a delivery behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Habits {
    /// Most items of a batch.
    pub batch_len_max: usize,
    /// Most bytes of a batch, but for an item that alone has more.
    pub batch_bytes_max: usize,
    /// So long the first item of a batch waits for company.
    pub batch_age_ms: u64,
    /// The waits between attempts.
    pub backoff: Backoff,
    /// So many failures in a row open the breaker.
    pub failure_count_max: u32,
    /// So long the breaker stays open, less up to a half by chance.
    pub open_ms: u64,
    /// A link that stood so long was a good one.
    pub steady_ms: u64,
    /// So many items set aside in a row, with none taken between, open the breaker: a target that
    /// refuses everything is no reason to set everything aside.
    pub refused_count_max: u32,
    /// No target makes us wait longer than this.
    pub wait_ms_max: u64,
    /// How a target that was away is spared.
    pub catch_up: Option<CatchUp>,
}

/// The rate of a target that is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// Items a second.
    pub per_second: u64,
    /// While so many numbers behind, or more.
    pub behind_len: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            batch_len_max: 1_000,
            batch_bytes_max: 256 << 10,
            batch_age_ms: 50,
            backoff: Backoff::default(),
            failure_count_max: 5,
            open_ms: 30_000,
            steady_ms: 10_000,
            refused_count_max: 8,
            wait_ms_max: 3_600_000,
            catch_up: None,
        }
    }
}

/// Something to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    /// Its number.
    pub seq: Seq,
    /// What it costs of a batch.
    pub byte_len: usize,
    /// The rest of it.
    pub body: T,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The batch is the target's.
    Taken,
    /// The target does not want something that is in it.
    Refused,
    /// The target does not want us: only a person can mend that.
    Barred,
    /// It did not work, this time.
    Failed,
    /// The target asks to come back after so long.
    Later {
        /// How long.
        after_ms: u64,
    },
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make a link; then [`Delivery::connected`] or [`Delivery::ended`].
    Connect,
    /// Send [`Delivery::batch`]; then [`Delivery::ended`].
    Send,
    /// Nothing, before this time or before something else happens.
    Wait(Option<u64>),
}

/// Whether a target is trusted with a whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    /// It is.
    Closed,
    /// It is left alone.
    Open,
    /// One item tries whether it is back.
    HalfOpen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Each attempt makes its own.
    NotNeeded,
    Down,
    Connecting,
    Up {
        since_ms: u64,
    },
}

#[derive(Debug)]
struct Waiting<T> {
    item: Item<T>,
    at_ms: u64,
}

/// One delivery.
#[derive(Debug)]
pub struct Delivery<T> {
    habits: Habits,
    waiting: VecDeque<Waiting<T>>,
    byte_len: usize,
    /// Everything up to here was read.
    read: Seq,
    /// How far the log has come.
    head: Seq,
    /// So many of those that wait are under way.
    sending: Option<usize>,
    /// So many go together once more, as they did before.
    again: Option<usize>,
    /// So many of those that wait were in a batch that was refused, less those that went since.
    suspect_len: usize,
    /// Whether the suspects as they are were refused: then there is a bad one among them.
    is_surely_among: bool,
    breaker: Breaker,
    is_unwanted: bool,
    failure_count: u32,
    refused_count: u32,
    not_before_ms: u64,
    link: Link,
    bucket: Option<Bucket>,
}

impl<T> Delivery<T> {
    /// Begins behind `cursor`. A target with a link of its own is connected to before there is
    /// something to send, and whenever the link is lost.
    #[must_use]
    pub fn new(habits: Habits, cursor: Seq, needs_link: bool) -> Self {
        Self {
            habits,
            waiting: VecDeque::new(),
            byte_len: 0,
            read: cursor,
            head: cursor,
            sending: None,
            again: None,
            suspect_len: 0,
            is_surely_among: false,
            breaker: Breaker::Closed,
            is_unwanted: false,
            failure_count: 0,
            refused_count: 0,
            not_before_ms: 0,
            link: if needs_link { Link::Down } else { Link::NotNeeded },
            bucket: None,
        }
    }

    /// Everything up to here was taken, set aside, or was not to be delivered.
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.waiting.front().map_or(self.read, |first| first.item.seq.prev())
    }

    /// Everything up to here was read: what is read next begins behind it.
    #[must_use]
    pub const fn read_to(&self) -> Seq {
        self.read
    }

    /// Whether there is room for more.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.waiting.len() < self.habits.batch_len_max.saturating_mul(2)
            && self.byte_len < self.habits.batch_bytes_max.saturating_mul(2)
    }

    /// How many items wait, those under way among them.
    #[must_use]
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the target is trusted.
    #[must_use]
    pub const fn breaker(&self) -> Breaker {
        self.breaker
    }

    /// Whether the target is there, and wants either not us or nothing of what we have: a person must
    /// mend that. One that fails comes back by itself.
    #[must_use]
    pub const fn is_unwanted(&self) -> bool {
        self.is_unwanted
    }

    /// Failures since the last success.
    #[must_use]
    pub const fn failure_count(&self) -> u32 {
        self.failure_count
    }

    /// When the next attempt may be made, if one has to wait.
    #[must_use]
    pub fn not_before_ms(&self, now_ms: u64) -> Option<u64> {
        Some(self.not_before_ms).filter(|not_before_ms| *not_before_ms > now_ms)
    }

    /// The log has come so far.
    pub fn set_head(&mut self, head: Seq) {
        self.head = self.head.max(head);
    }

    /// Takes what was read, in order; everything up to `through` was looked at.
    pub fn offer(&mut self, items: impl IntoIterator<Item = Item<T>>, through: Seq, now_ms: u64) {
        for item in items {
            debug_assert!(item.seq > self.read && item.seq <= through, "items come in order");
            self.byte_len = self.byte_len.saturating_add(item.byte_len);
            self.waiting.push_back(Waiting { item, at_ms: now_ms });
        }
        self.read = self.read.max(through);
        self.head = self.head.max(through);
    }

    /// What is under way, in order.
    pub fn batch(&self) -> impl Iterator<Item = &Item<T>> {
        self.waiting.iter().take(self.sending.unwrap_or(0)).map(|waiting| &waiting.item)
    }

    /// The link stands.
    pub fn connected(&mut self, now_ms: u64) {
        self.link = Link::Up { since_ms: now_ms };
    }

    /// Tells what to do now.
    pub fn next(&mut self, now_ms: u64) -> Step {
        if self.sending.is_some() || self.link == Link::Connecting {
            return Step::Wait(None);
        }
        if now_ms < self.not_before_ms {
            return Step::Wait(Some(self.not_before_ms));
        }
        if self.breaker == Breaker::Open {
            self.breaker = Breaker::HalfOpen;
        }
        if self.link == Link::Down {
            self.link = Link::Connecting;
            return Step::Connect;
        }
        let steady_ms = self.steady_from_ms();
        if self.failure_count > 0 && steady_ms.is_some_and(|steady_ms| steady_ms <= now_ms) {
            self.mend();
        }
        let Some(due_ms) = self.due_ms(now_ms) else {
            return Step::Wait(steady_ms.filter(|_| self.failure_count > 0));
        };
        if due_ms > now_ms {
            return Step::Wait(Some(due_ms));
        }
        let len = self.next_len();
        if let Some(wait_ms) = self.spare(len, now_ms) {
            return Step::Wait(Some(now_ms.saturating_add(wait_ms)));
        }
        self.sending = Some(len);
        Step::Send
    }

    /// What was begun ended so: a batch, the making of a link, or a link at rest. Gives back what is
    /// set aside. `random` are 64 random bits.
    pub fn ended(&mut self, outcome: Outcome, now_ms: u64, random: u64) -> Option<Item<T>> {
        let sent = self.sending.take();
        if outcome == Outcome::Taken {
            self.taken(sent.unwrap_or(0));
            return None;
        }
        if self.steady_from_ms().is_some_and(|steady_ms| steady_ms <= now_ms) {
            self.failure_count = 0;
        }
        let had_link = self.link != Link::NotNeeded;
        if had_link {
            self.link = Link::Down;
        }
        // A half-open breaker tried one item alone: what went together before is open again.
        self.again = sent.filter(|_| self.breaker == Breaker::Closed).or(self.again);
        match outcome {
            Outcome::Refused if sent.is_some() => {
                if had_link {
                    self.wait(self.habits.backoff.delay(0, random), now_ms);
                }
                return self.refused(sent.unwrap_or(0), now_ms, random);
            }
            Outcome::Later { after_ms } => {
                let wait_ms = after_ms.min(self.habits.wait_ms_max);
                self.wait(Duration::from_millis(wait_ms), now_ms);
            }
            Outcome::Barred => {
                self.is_unwanted = true;
                self.fail(true, now_ms, random);
            }
            Outcome::Failed | Outcome::Refused | Outcome::Taken => {
                self.is_unwanted = false;
                self.fail(false, now_ms, random);
            }
        }
        None
    }

    fn taken(&mut self, len: usize) {
        for _ in 0..len {
            self.pop();
        }
        self.mend();
        self.again = None;
        self.refused_count = 0;
        self.suspect_len = self.suspect_len.saturating_sub(len);
    }

    fn pop(&mut self) -> Option<Item<T>> {
        let item = self.waiting.pop_front()?.item;
        self.byte_len = self.byte_len.saturating_sub(item.byte_len);
        Some(item)
    }

    fn mend(&mut self) {
        self.is_unwanted = false;
        self.failure_count = 0;
        self.breaker = Breaker::Closed;
    }

    fn refused(&mut self, len: usize, now_ms: u64, random: u64) -> Option<Item<T>> {
        self.again = None;
        self.failure_count = 0;
        if len > 1 {
            // Of older suspects those behind this batch are as good as any other.
            (self.suspect_len, self.is_surely_among) = (len, true);
            return None;
        }
        self.suspect_len = self.suspect_len.saturating_sub(1);
        self.is_surely_among = false;
        self.refused_count = self.refused_count.saturating_add(1);
        self.is_unwanted = self.refused_count >= self.habits.refused_count_max;
        if self.is_unwanted {
            self.open(now_ms, random);
        } else {
            self.breaker = Breaker::Closed;
        }
        self.pop()
    }

    fn fail(&mut self, at_once: bool, now_ms: u64, random: u64) {
        self.failure_count = self.failure_count.saturating_add(1);
        let is_enough = self.failure_count >= self.habits.failure_count_max;
        if at_once || is_enough || self.breaker != Breaker::Closed {
            self.open(now_ms, random);
        } else {
            self.wait(self.habits.backoff.delay(self.failure_count - 1, random), now_ms);
        }
    }

    fn open(&mut self, now_ms: u64, random: u64) {
        self.breaker = Breaker::Open;
        let period = Duration::from_millis(self.habits.open_ms);
        self.wait(Backoff { first: period, max: period }.delay(0, random), now_ms);
    }

    fn wait(&mut self, time: Duration, now_ms: u64) {
        let wait_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.not_before_ms = self.not_before_ms.max(now_ms.saturating_add(wait_ms));
    }

    /// From when on the link, if it still stands, was a good one.
    fn steady_from_ms(&self) -> Option<u64> {
        let Link::Up { since_ms } = self.link else { return None };
        Some(since_ms.saturating_add(self.habits.steady_ms))
    }

    /// When the next batch is due, but for the rate.
    fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let first = self.waiting.front()?;
        let is_known = self.again.is_some() || self.suspect_len > 0;
        let is_full = self.waiting.len() >= self.habits.batch_len_max
            || self.byte_len >= self.habits.batch_bytes_max;
        if is_known || is_full || self.breaker != Breaker::Closed {
            return Some(now_ms);
        }
        Some(first.at_ms.saturating_add(self.habits.batch_age_ms))
    }

    /// How many go together: at least one.
    fn next_len(&self) -> usize {
        if self.breaker != Breaker::Closed {
            return 1;
        }
        if let Some(again) = self.again {
            return again.min(self.waiting.len());
        }
        let len_max = match self.suspect_len {
            0 => self.habits.batch_len_max,
            len if self.is_surely_among => len / 2,
            len => len,
        };
        let (mut len, mut byte_len) = (0, 0_usize);
        for waiting in self.waiting.iter().take(len_max) {
            byte_len = byte_len.saturating_add(waiting.item.byte_len);
            if len > 0 && byte_len > self.habits.batch_bytes_max {
                break;
            }
            len += 1;
        }
        len.max(1)
    }

    /// Takes of the rate what the next batch costs; or tells how long to wait.
    fn spare(&mut self, len: usize, now_ms: u64) -> Option<u64> {
        let catch_up = self.habits.catch_up?;
        let behind_len = self.head.0.saturating_sub(self.cursor().0);
        if behind_len < catch_up.behind_len {
            self.bucket = None;
            return None;
        }
        // A tenth of a second's worth at once, so that the rate is even.
        let burst = (catch_up.per_second / 10).max(1);
        let bucket =
            self.bucket.get_or_insert_with(|| Bucket::new(catch_up.per_second, burst, now_ms));
        let count = u64::try_from(len).unwrap_or(u64::MAX);
        if bucket.take(count, now_ms) { None } else { Some(bucket.wait_ms(count, now_ms).max(1)) }
    }
}

#[cfg(test)]
mod tests;
