//! One delivery at work: reads the log, sends, and writes down how far it came.
//!
//! What is to be done is decided by `core::delivery`; here it is done, one attempt and one reading at
//! a time. Invariant: what is written down is behind what the target took, never ahead of it; so a
//! crash repeats, and loses nothing.

mod retry;

use std::{
    collections::VecDeque,
    future::pending,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fieldgate_core::{
    delivery::{Breaker, Delivery, Habits, Item, Outcome, Step},
    id::{Seq, TenantId, UnixMs},
};
use fieldgate_store::{Log as _, ReadError, registry::Report};
use tokio::{
    task::{JoinError, JoinHandle},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use super::{
    read::{Stretch, Wanted, batch, content_type, read},
    rest::RestTarget,
    shown::{Shown, State},
    target::{Failure, Parcel},
    websocket::{WebSocketLink, WebSocketTarget},
};
use crate::{
    fabric::{Shared, now},
    ledger::DropReason,
};

/// What moves is written down so often.
const WRITE_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at a log that goes on: what comes meanwhile is read together.
const READ_PAUSE: Duration = Duration::from_millis(5);
/// After a reading that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// What is under way at the end may take so long.
const LAST_TIME: Duration = Duration::from_secs(1);
/// What was only passed over is worth a record from so many numbers on: the record is in the log
/// too, and would be passed over in its turn.
const PASSED_LEN: u64 = 1 << 16;

/// Where batches go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Rest(RestTarget),
    WebSocket(WebSocketTarget),
}

/// What one delivery is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) whose: Whose,
    pub(crate) wanted: Wanted,
    pub(crate) target: Target,
    pub(crate) habits: Habits,
    /// Its life: reports of another are refused.
    pub(crate) run: u64,
    /// Everything up to here is done.
    pub(crate) cursor: Seq,
    /// What was set aside and is to be tried once more.
    pub(crate) retries: VecDeque<Seq>,
}

/// Whose delivery it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Whose {
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
}

/// Writes a report into the log; false if there is no room now.
pub(crate) type Write = Box<dyn FnMut(&Report) -> bool + Send>;

type Sent = (Option<WebSocketLink>, Result<(), Failure>);
type Attempt = Pin<Box<dyn Future<Output = Sent> + Send>>;
type Waking = Pin<Box<dyn Future<Output = ()> + Send>>;
type Reading = JoinHandle<Result<Stretch, ReadError>>;

/// What came next.
enum Event {
    Stop,
    Ended(Result<(), Failure>),
    Read(Result<Result<Stretch, ReadError>, JoinError>),
    /// The log went on.
    Moved,
    /// Time did.
    Go,
}

struct Runner {
    shared: Arc<Shared>,
    plan: Plan,
    delivery: Delivery<Box<[u8]>>,
    shown: Arc<Shown>,
    write: Write,
    started: Instant,
    link: Option<WebSocketLink>,
    attempt: Option<Attempt>,
    /// Whether the attempt makes a link, and how many items it sends.
    is_connecting: bool,
    sent_len: u64,
    /// The attempt is this message's alone, which was set aside.
    retrying: Option<Seq>,
    reading: Option<Reading>,
    /// Until the log has more.
    waking: Option<Waking>,
    read_again: Instant,
    report: Report,
    written: Seq,
    write_again: Instant,
}

/// Delivers until it is told to stop.
pub(crate) async fn run(
    shared: Arc<Shared>,
    plan: Plan,
    shown: Arc<Shown>,
    write: Write,
    stop: CancellationToken,
) {
    let needs_link = matches!(plan.target, Target::WebSocket(_));
    let started = Instant::now();
    let mut runner = Runner {
        delivery: Delivery::new(plan.habits, plan.cursor, needs_link),
        report: Report { run: plan.run, cursor: plan.cursor.0, ..Report::default() },
        written: plan.cursor,
        shared,
        plan,
        shown,
        write,
        started,
        link: None,
        attempt: None,
        is_connecting: false,
        sent_len: 0,
        retrying: None,
        reading: None,
        waking: None,
        read_again: started,
        write_again: started,
    };
    while runner.step(&stop).await {}
    runner.finish().await;
}

impl Runner {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Begins what may be begun, and waits for what comes next; false at the end.
    async fn step(&mut self, stop: &CancellationToken) -> bool {
        let routed = self.shared.applied();
        self.delivery.set_head(routed);
        let next_ms = self.begin();
        self.read_more(routed);
        self.tell(routed);
        match self.event(stop, next_ms).await {
            Event::Stop => return false,
            Event::Ended(result) => self.ended(result),
            Event::Read(result) => self.took(result),
            Event::Moved => self.waking = None,
            Event::Go => (),
        }
        if self.write_again <= Instant::now() {
            self.write_down();
        }
        true
    }

    /// Does what is due; tells until when there is nothing more.
    fn begin(&mut self) -> Option<u64> {
        if self.retry() {
            return None;
        }
        match self.delivery.next(self.now_ms()) {
            Step::Wait(until_ms) => return until_ms,
            Step::Connect => {
                let Target::WebSocket(target) = self.plan.target.clone() else { return None };
                self.is_connecting = true;
                self.attempt = Some(Box::pin(async move {
                    match target.connect().await {
                        Ok(link) => (Some(link), Ok(())),
                        Err(failure) => (None, Err(failure)),
                    }
                }));
            }
            Step::Send => {
                let parcel = self.parcel();
                self.is_connecting = false;
                self.attempt = Some(match (&self.plan.target, self.link.take()) {
                    (Target::Rest(target), _) => {
                        let target = target.clone();
                        Box::pin(async move { (None, target.post(parcel).await) })
                    }
                    (Target::WebSocket(_), Some(mut link)) => Box::pin(async move {
                        let result = link.deliver(parcel).await;
                        (result.is_ok().then_some(link), result)
                    }),
                    (Target::WebSocket(_), None) => {
                        Box::pin(async { (None, Err(Failure::failed("the connection is gone"))) })
                    }
                });
            }
        }
        None
    }

    fn parcel(&mut self) -> Parcel {
        let format = self.plan.wanted.format;
        let body = batch(format, self.delivery.batch());
        self.sent_len = u64::try_from(self.delivery.batch().count()).unwrap_or(u64::MAX);
        let seq_of = |item: Option<&Item<_>>| item.map_or(Seq(0), |item| item.seq);
        let first = seq_of(self.delivery.batch().next());
        let last = seq_of(self.delivery.batch().last());
        Parcel {
            name: Parcel::name(self.shared.log.epoch(), first, last),
            body: Bytes::from(body),
            content_type: content_type(format),
        }
    }

    /// Begins to read if there is something and room for it, or to wait for something.
    fn read_more(&mut self, routed: Seq) {
        if self.reading.is_some() || !self.delivery.wants_more() {
            return;
        }
        let after = self.delivery.read_to();
        if routed <= after {
            let shared = Arc::clone(&self.shared);
            self.waking.get_or_insert_with(|| {
                Box::pin(async move { shared.for_applied(after.next()).await })
            });
        } else if self.read_again <= Instant::now() {
            let (shared, wanted) = (Arc::clone(&self.shared), self.plan.wanted.clone());
            self.reading =
                Some(tokio::task::spawn_blocking(move || read(&shared, &wanted, after, routed)));
        }
    }

    async fn event(&mut self, stop: &CancellationToken, next_ms: Option<u64>) -> Event {
        let at = |ms| self.started + Duration::from_millis(ms);
        let due = [next_ms.map(at), self.read_due(), self.write_due()].into_iter().flatten().min();
        let moved = async {
            match &mut self.waking {
                Some(waking) => waking.await,
                None => pending().await,
            }
        };
        let io = io(&mut self.attempt, &mut self.link);
        let read = async {
            match &mut self.reading {
                Some(reading) => reading.await,
                None => pending().await,
            }
        };
        let time = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => pending().await,
            }
        };
        // The end goes first, then what frees memory, then what takes it.
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            result = io => Event::Ended(result),
            result = read => Event::Read(result),
            () = moved => Event::Moved,
            () = time => Event::Go,
        }
    }

    fn read_due(&self) -> Option<Instant> {
        let waits = self.reading.is_none() && self.delivery.wants_more();
        Some(self.read_again).filter(|_| waits && self.shared.applied() > self.delivery.read_to())
    }

    fn write_due(&self) -> Option<Instant> {
        Some(self.write_again).filter(|_| self.is_worth_a_report())
    }

    /// An attempt ended, or a link at rest.
    fn ended(&mut self, result: Result<(), Failure>) {
        let was_sending = self.attempt.take().is_some() && !self.is_connecting;
        if let Some(seq) = self.retrying.take() {
            return self.retried(seq, result);
        }
        let now_ms = self.now_ms();
        match result {
            Ok(()) if was_sending => {
                self.delivery.ended(Outcome::Taken, now_ms, 0);
                self.report.delivered += self.sent_len;
            }
            Ok(()) => self.delivery.connected(now_ms),
            Err(failure) => {
                self.link = None;
                let set_aside = self.delivery.ended(failure.outcome, now_ms, random());
                if let Some(item) = set_aside {
                    self.report.aside.push((item.seq.0, failure.text.clone()));
                }
                self.report.failed += 1;
                self.report.error = Some(failure.text.clone());
                self.shown.failed(failure.text, now());
            }
        }
        self.report.cursor = self.delivery.cursor().0;
    }

    fn took(&mut self, result: Result<Result<Stretch, ReadError>, JoinError>) {
        self.reading = None;
        self.read_again = Instant::now();
        match result {
            Ok(Ok(stretch)) => {
                let is_end = stretch.through >= self.shared.applied();
                let is_short = stretch.items.len() < self.plan.habits.batch_len_max;
                if is_end && is_short || stretch.through == self.delivery.read_to() {
                    self.read_again += READ_PAUSE;
                }
                self.note_lost(&stretch);
                let now_ms = self.now_ms();
                self.delivery.offer(stretch.items, stretch.through, now_ms);
                self.report.cursor = self.delivery.cursor().0;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a delivery could not read the log");
                self.read_again += FAILED_PAUSE;
            }
            Err(error) => {
                tracing::error!(%error, "the reading of a delivery ended early");
                self.read_again += FAILED_PAUSE;
            }
        }
    }

    /// What will never be delivered goes into the ledger.
    fn note_lost(&self, stretch: &Stretch) {
        let Whose { tenant, name } = &self.plan.whose;
        let who = format!("integration:{name}");
        for (reason, count) in [
            (DropReason::NoForm, stretch.formless_count),
            (DropReason::Expired, stretch.expired_count),
            (DropReason::Retention, stretch.lost_len),
        ] {
            if count > 0 {
                self.shared.ledger.record(tenant, &who, reason, count, now());
            }
        }
    }

    fn is_worth_a_report(&self) -> bool {
        let Report { cursor, delivered, failed, aside, settled, .. } = &self.report;
        *delivered > 0
            || *failed > 0
            || !aside.is_empty()
            || !settled.is_empty()
            || cursor.saturating_sub(self.written.0) >= PASSED_LEN
    }

    fn write_down(&mut self) {
        if !self.is_worth_a_report() {
            return;
        }
        self.write_again = Instant::now() + WRITE_PAUSE;
        if (self.write)(&self.report) {
            self.written = Seq(self.report.cursor);
            let (run, cursor) = (self.report.run, self.report.cursor);
            self.report = Report { run, cursor, ..Report::default() };
        }
    }

    /// Lets what is under way end, if it does soon, so that less is repeated; and writes down how far
    /// it came.
    async fn finish(&mut self) {
        if self.attempt.is_some() {
            let io = tokio::time::timeout(LAST_TIME, io(&mut self.attempt, &mut self.link)).await;
            io.into_iter().for_each(|result| self.ended(result));
        }
        self.write_again = Instant::now();
        self.write_down();
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    fn tell(&self, routed: Seq) {
        let now_ms = self.now_ms();
        let waits_ms = self.delivery.not_before_ms(now_ms).map(|until_ms| until_ms - now_ms);
        let state = match waits_ms {
            _ if self.delivery.is_unwanted() => State::Broken,
            Some(_) => State::Waiting,
            None if self.delivery.failure_count() > 0 => State::Retrying,
            None => State::Running,
        };
        let retry_at = waits_ms.map(|ms| UnixMs(now().0.saturating_add(ms)));
        let behind_len = routed.0.saturating_sub(self.delivery.cursor().0);
        self.shown.set(state, self.delivery.cursor(), behind_len, retry_at);
    }
}

/// What is under way; or the link at rest, of which only an end is told.
async fn io(
    attempt: &mut Option<Attempt>,
    link: &mut Option<WebSocketLink>,
) -> Result<(), Failure> {
    if let Some(attempt) = attempt {
        let (back, result) = attempt.await;
        *link = back;
        return result;
    }
    match link {
        Some(link) => Err(link.rest().await),
        None => pending().await,
    }
}

/// Chance, of no secret use.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(Instant::now())
}
