//! Reading the log for receivers: replays that were asked for, and links that fell behind.
//!
//! Chunks are read on the blocking pool and handed over as the socket takes them. The last step to
//! live is taken without a pause on the worker's thread, from memory alone, so that nothing is missed or
//! doubled: up to the routed number from the log, behind it from the hub. Invariant: a worker never reads
//! the disk.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use fieldgate_core::{
    dialect::{Answer, GapReason, Marks, Since},
    id::{Position, Seq, UnixMs},
    message::{Message, Qos},
    topic::Filter,
};
use fieldgate_dialects::wire::Form;
use fieldgate_store::{Chunk, Followed, Log, ReadFilter};

use crate::{
    fabric::{Shared, message_of, now},
    hub::Hub,
    ledger::DropReason,
    link::Link,
    subscriptions::{Subscription, begin_stream, granted, paced_alone, tell_retained},
    throttle::Sender,
};

const CHUNK_BYTES_MAX: usize = 256 * 1024;
const CHUNK_BYTES_MIN: usize = 16 * 1024;
/// Closer than this to the present the rest is taken in one step, if it is in memory.
const LAST_STEP_LEN_MAX: u64 = 1_024;
/// How long a reader rests that could read nothing: the log may be stopped.
const PAUSE: Duration = Duration::from_millis(1);

/// At what promise a message is sent, if at all.
type QosOf<'a> = &'a dyn Fn(Seq, &Message) -> Option<Qos>;

/// How what is read is told, where that is not as all that the link follows.
#[derive(Debug, Clone, Copy, Default)]
struct Way<'a> {
    /// The filter whose replay it is.
    mark: Option<&'a str>,
    form: Option<Form>,
}

/// Tells a link, in this form, what some filters select behind a position, until the present; returns
/// the number behind which live begins, or nothing if the reader ended before. What cannot be told
/// from there is `foreign` to this log: nothing is read then.
pub(crate) async fn tell_past(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    (filters, form): (Vec<Filter>, Form),
    after: Position,
    done: &dyn Fn() -> bool,
) -> Result<Option<Seq>, Foreign> {
    let start = start_of(&hub.shared, Since::After(after)).await;
    if start.foreign.is_some() || start.next < hub.shared.log.oldest() {
        return Err(Foreign);
    }
    let Some(principal) = link.principal() else { return Ok(None) };
    let tenant = Some(principal.tenant.clone());
    let filter = ReadFilter { tenant, filters, ..ReadFilter::default() };
    let next = Cell::new(start.next);
    // Filters are of the rights that the reader began with; those may have ended meanwhile.
    let qos_of = |_: Seq, message: &Message| {
        link.principal().filter(|now| now.may_receive(&message.topic)).map(|_| message.qos)
    };
    let way = Way { mark: None, form: Some(form) };
    let routed = follow(hub, link, &next, || filter.clone(), way, &qos_of, done).await;
    Ok(routed.map(|routed| routed.max(next.get().prev())))
}

/// A position that is not, or not any more, in this log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Foreign;

/// Starts the replay of a subscription.
pub(crate) fn start_replay(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    subscription: &Rc<Subscription>,
    since: Since,
) {
    let (hub, link, subscription) = (Rc::clone(hub), Rc::clone(link), Rc::clone(subscription));
    tokio::task::spawn_local(async move {
        let start = start_of(&hub.shared, since).await;
        // Also of a subscription that ended meanwhile: each ask has its answer.
        let (filter, qos) = (subscription.filter.clone(), subscription.qos);
        let position = hub.shared.position(start.next.prev());
        hub.answer(&link, &Answer::Subscribed { filter, qos, position });
        let replay = replay(&hub, &link, &subscription, start);
        let _unless_ended = subscription.ending.or_over(replay).await;
        hub.flush();
    });
}

/// Tells what is behind its start, then goes live. May be dropped wherever it waits.
async fn replay(hub: &Rc<Hub>, link: &Rc<Link>, subscription: &Rc<Subscription>, start: Start) {
    let mark = subscription.filter.as_str();
    let position = hub.shared.position(start.next.prev());
    if let Some(from) = start.foreign {
        hub.answer(link, &Answer::Gap { from, to: position, reason: GapReason::Epoch });
        tell_retained(hub, link, subscription, (position.seq, &[]), Some(mark)).await;
    }
    // They are no messages of the log: what changed while nobody listened is not in the history.
    hub.tell_documents_as_they_are(link, subscription, Some(mark)).await;
    let filter = ReadFilter {
        tenant: Some(subscription.tenant.clone()),
        filters: vec![subscription.filter.clone()],
        arrived_from: start.arrived_from,
        arrived_until: None,
    };
    let qos_of = |_: Seq, message: &Message| Some(subscription.qos.min(message.qos));
    let done = || link.is_closing() || subscription.ending.is_over();
    let next = Cell::new(start.next);
    let Some(routed) = follow(
        hub,
        link,
        &next,
        || filter.clone(),
        Way { mark: Some(mark), form: None },
        &qos_of,
        &done,
    )
    .await
    else {
        return;
    };
    // Who asks for what is behind its own acknowledged message may be ahead of the router.
    let reached = routed.max(next.get().prev());
    subscription.replaying.set(false);
    subscription.live_after.set(reached);
    let (filter, position) = (subscription.filter.clone(), hub.shared.position(reached));
    hub.answer(link, &Answer::CaughtUp { filter, position });
    hub.owe_documents(link, subscription.changed.take(), false);
}

/// Where history begins.
struct Start {
    next: Seq,
    arrived_from: Option<UnixMs>,
    /// What was asked for, where it is of another life of the log.
    foreign: Option<Position>,
}

async fn start_of(shared: &Shared, since: Since) -> Start {
    let (mut arrived_from, mut foreign) = (None, None);
    let next = match since {
        Since::All => shared.log.oldest(),
        Since::After(position) if position.epoch != shared.log.epoch() => {
            foreign = Some(position);
            shared.routing().routed.next()
        }
        // Nobody saw a number that was not given: what is on its way is new to whoever says so.
        Since::After(position) if position.seq > shared.log.frontier().ordered => {
            shared.routing().routed.next()
        }
        Since::After(position) => position.seq.next(),
        Since::Time(time) => {
            arrived_from = Some(time);
            let log = Arc::clone(&shared.log);
            let found = tokio::task::spawn_blocking(move || log.seek_time(time)).await;
            // Then all of it is read, and what is too early passed over.
            found
                .map_err(std::io::Error::other)
                .and_then(|found| found.map_err(std::io::Error::other))
                .unwrap_or_else(|error| {
                    tracing::error!(%error, "times in the log are unreadable");
                    shared.log.oldest()
                })
        }
    };
    Start { next, arrived_from, foreign }
}

/// Begins a stream with history. All of its subscriptions are read together, as those of a link that
/// fell behind are: a stream has one position.
pub(crate) fn start_stream(hub: &Rc<Hub>, link: &Rc<Link>, since: Since) {
    link.behind.set(true);
    link.outbox.set_elsewhere(true);
    let (hub, link) = (Rc::clone(hub), Rc::clone(link));
    tokio::task::spawn_local(async move {
        stream(&hub, &link, since).await;
        hub.flush();
    });
}

async fn stream(hub: &Rc<Hub>, link: &Rc<Link>, since: Since) {
    let start = start_of(&hub.shared, since).await;
    let subscriptions: Vec<_> = link.subscriptions.borrow().values().cloned().collect();
    let position = hub.shared.position(start.next.prev());
    begin_stream(hub, link, &subscriptions, position);
    if let Some(from) = start.foreign {
        hub.answer(link, &Answer::Gap { from, to: position, reason: GapReason::Epoch });
        for (nth, subscription) in subscriptions.iter().enumerate() {
            let before = subscriptions.get(..nth).unwrap_or_default();
            tell_retained(hub, link, subscription, (position.seq, before), None).await;
        }
    }
    for subscription in &subscriptions {
        hub.tell_documents_as_they_are(link, subscription, None).await;
    }
    link.log_next.set(start.next);
    let Some(routed) = catch_up(hub, link, start.arrived_from).await else { return };
    let position = hub.shared.position(routed.max(position.seq));
    for subscription in &subscriptions {
        let filter = subscription.filter.clone();
        hub.answer(link, &Answer::CaughtUp { filter, position });
    }
}

/// Reads the log until the present; returns the number behind which live begins, or nothing if the
/// reader ended before.
async fn follow(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    next: &Cell<Seq>,
    filter: impl Fn() -> ReadFilter,
    way: Way<'_>,
    qos_of: QosOf<'_>,
    done: &dyn Fn() -> bool,
) -> Option<Seq> {
    let principal = link.principal()?;
    let sender = Arc::clone(link.sender(hub, &principal));
    loop {
        link.room().await;
        if done() {
            return None;
        }
        let (before, routed) = (next.get(), hub.shared.routing().routed);
        let is_near = routed.0.saturating_sub(before.prev().0) <= LAST_STEP_LEN_MAX;
        let step = if is_near {
            last_step(hub, link, next, &filter(), way, qos_of)
        } else {
            LastStep::Older
        };
        match step {
            LastStep::Live(reached) => return Some(reached),
            LastStep::Short => (),
            LastStep::Older => {
                let chunk = read_older(hub, link, &sender, (next.get(), filter()), done).await?;
                hand_over(hub, link, chunk, routed, next, way, qos_of);
            }
        }
        hub.flush();
        if next.get() == before {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Reads one chunk from the log when it is its sender's turn; nothing if the reader ended before, or
/// ends as the log is unreadable.
async fn read_older(
    hub: &Hub,
    link: &Link,
    sender: &Sender,
    (from, filter): (Seq, ReadFilter),
    done: &dyn Fn() -> bool,
) -> Option<Chunk> {
    let (log, byte_len) = (Arc::clone(&hub.shared.log), chunk_bytes_max(link));
    let turn = Arc::clone(&sender.log_turns).acquire_owned().await.ok()?;
    if done() {
        // Its turn came late: who asks again and again for the same has the log read for the last alone.
        return None;
    }
    let read = move || {
        // A reader may be gone before the log is read: its turn lasts until then.
        let _turn = turn;
        log.read(from, &filter, byte_len)
    };
    let read = tokio::task::spawn_blocking(read).await;
    if done() {
        // Who took its place was told so meanwhile, and must not see what was read for this one.
        return None;
    }
    match read.ok()? {
        Ok(chunk) => Some(chunk),
        Err(error) => {
            tracing::error!(%error, "a replay could not read the log");
            link.close(fieldgate_core::close::CloseReason::Internal);
            None
        }
    }
}

/// How much is read at once: less where a link may hold less.
fn chunk_bytes_max(link: &Link) -> usize {
    (link.outbox.bytes_max() / 4).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}

/// How far the step to live came.
enum LastStep {
    /// Behind this number all comes live.
    Live(Seq),
    /// It did not fit into the outbox, or the log does not show all of it now.
    Short,
    /// Memory does not have it: it is read as what is far behind.
    Older,
}

/// Takes the rest up to the routed number from the log's memory, without a pause.
fn last_step(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    next: &Cell<Seq>,
    filter: &ReadFilter,
    way: Way<'_>,
    qos_of: QosOf<'_>,
) -> LastStep {
    let routed = hub.shared.routing().routed;
    while next.get() <= routed {
        let before = next.get();
        let recent = hub.shared.log.read_recent(before, filter, chunk_bytes_max(link));
        let Some(chunk) = recent else { return LastStep::Older };
        hand_over(hub, link, chunk, routed, next, way, qos_of);
        let full = link.outbox.byte_len() > link.outbox.bytes_max();
        if next.get() == before || (full && next.get() <= routed) {
            return LastStep::Short;
        }
    }
    LastStep::Live(routed)
}

/// Queues the messages and gaps of a chunk, none behind the routed number.
fn hand_over(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    chunk: Chunk,
    routed: Seq,
    next: &Cell<Seq>,
    way: Way<'_>,
    qos_of: QosOf<'_>,
) {
    let (mut expired_count, mut reached) = (0, chunk.next.min(routed.next()));
    for item in chunk.items {
        match item {
            Followed::Entry(entry) if entry.seq <= routed => {
                let Some(message) = message_of(&entry) else { continue };
                let Some(qos) = qos_of(entry.seq, message) else { continue };
                if message.is_over(now()) {
                    expired_count += 1;
                } else if link.is_unanswered() {
                    reached = entry.seq;
                    break;
                } else {
                    send(hub, link, (entry.seq, message, qos), way);
                }
            }
            Followed::Entry(_) => break,
            Followed::Gap(range, reason) => {
                let from = hub.shared.position(Seq(*range.start()));
                let to = hub.shared.position(Seq(*range.end()));
                hub.answer(link, &Answer::Gap { from, to, reason });
            }
        }
    }
    next.set(reached);
    if let Some(principal) = link.principal() {
        hub.note_lost(link, &principal.tenant, DropReason::Expired, expired_count);
    }
}

fn send(hub: &Rc<Hub>, link: &Rc<Link>, (seq, message, qos): (Seq, &Message, Qos), way: Way<'_>) {
    if way.mark.is_none() && way.form.is_none() {
        if let Some(subscription) = paced_alone(link, seq, message)
            && let Some(paced) = &subscription.paced
        {
            return hub.pace(link, &subscription, paced, (seq, message));
        }
        link.delivered.set(seq);
    }
    let marks = Marks { qos, replay: way.mark, ..Marks::default() };
    hub.push_marked(link, (seq, message), marks, way.form.unwrap_or(link.form.get()));
    hub.shared.stats.delivered.fetch_add(1, Ordering::Relaxed);
}

/// The link cannot keep up: from `from` on it reads the log at its own pace.
pub(crate) fn fall_behind(hub: &Rc<Hub>, link: &Rc<Link>, from: Seq) {
    if link.behind.replace(true) {
        return;
    }
    link.log_next.set(from);
    link.outbox.set_elsewhere(true);
    let (hub, link) = (Rc::clone(hub), Rc::clone(link));
    tokio::task::spawn_local(async move {
        catch_up(&hub, &link, None).await;
        hub.flush();
    });
}

/// Reads the log for all subscriptions of a link together, until it keeps up again; returns the
/// number behind which it is live.
async fn catch_up(hub: &Rc<Hub>, link: &Rc<Link>, arrived_from: Option<UnixMs>) -> Option<Seq> {
    let principal = link.principal()?;
    let own = |seq: Seq, message: &Message| -> Option<Qos> {
        let overtook = link.overtook.borrow().contains(&seq);
        if overtook { None } else { granted(link, seq, message) }
    };
    let filter = || ReadFilter {
        tenant: Some(principal.tenant.clone()),
        filters: link.subscriptions.borrow().values().map(|s| s.filter.clone()).collect(),
        arrived_from,
        arrived_until: None,
    };
    let done = || link.is_closing() || link.subscriptions.borrow().is_empty();
    let reached = follow(hub, link, &link.log_next, filter, Way::default(), &own, &done).await;
    link.behind.set(false);
    link.outbox.set_elsewhere(false);
    link.overtook.take();
    let routed = reached?;
    for subscription in link.subscriptions.borrow().values() {
        if !subscription.replaying.get() {
            subscription.live_after.set(routed.max(subscription.live_after.get()));
        }
    }
    Some(routed)
}

#[cfg(test)]
mod tests;
