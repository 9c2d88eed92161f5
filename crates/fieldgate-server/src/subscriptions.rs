//! Subscriptions: begun with what is retained or with history, and ended.
//!
//! In: an ask whose form is checked. Out: a member of the hub, and its first answers. Absent: what
//! history is, which is `catchup`'s.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    sync::Arc,
};

use fieldgate_core::{
    access::Principal,
    close::CloseReason,
    dialect::{Answer, Marks, Since, SlowMode, Subscribe},
    fault::{Code, Fault},
    id::{DeviceId, Position, Seq, TenantId},
    lane::Slow,
    message::{Kind, Message, Qos},
    topic::Filter,
};
use fieldgate_store::{Entry, Log};

use crate::{
    asks, catchup, documents,
    fabric::{Shared, message_of, now},
    hub::{Hub, Paced},
    ledger::DropReason,
    link::Link,
    signal::Ending,
    thingsee_out::{self, Following},
};

/// So many bytes of retained messages are sent before the socket is looked at again.
const RETAINED_BYTES_MAX: usize = 128 * 1024;

/// So much of a tenant is looked at for the price of one message.
const LOOKED_AT_LEN: usize = 1_000;

/// A subscription of one link.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) tenant: TenantId,
    pub(crate) filter: Filter,
    pub(crate) qos: Qos,
    /// What it asked for; else what suits the message.
    pub(crate) slow: Option<SlowMode>,
    /// What it gets less often than it comes.
    pub(crate) paced: Option<Box<Paced>>,
    /// Messages up to here came another way, or will; `u64::MAX` while it replays.
    pub(crate) live_after: Cell<Seq>,
    pub(crate) replaying: Cell<bool>,
    /// Devices whose documents changed while it replays, and were not told since.
    pub(crate) changed: RefCell<BTreeSet<DeviceId>>,
    pub(crate) ending: Ending,
}

impl Subscription {
    /// What happens to messages that a slow receiver did not take.
    pub(crate) fn slow(&self, qos: Qos, message: &Message) -> Slow {
        if qos > Qos::AtMostOnce {
            return Slow::Overflow;
        }
        let mode = self.slow.unwrap_or(match message.kind {
            Kind::Telemetry | Kind::State | Kind::Presence => SlowMode::Latest,
            // Of what changed in a device no piece stands for the ones before.
            Kind::Event
            | Kind::Command
            | Kind::Reply
            | Kind::Reported
            | Kind::Desired
            | Kind::Application => SlowMode::DropOldest,
        });
        match mode {
            SlowMode::Latest => Slow::Latest(message.topic.clone()),
            SlowMode::DropOldest => Slow::DropOldest,
            SlowMode::Disconnect => Slow::Disconnect,
        }
    }
}

/// The subscriptions of one link, in the order of their filters; most links have one.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<Rc<Subscription>>);

impl Subscriptions {
    fn place_of(&self, filter: &Filter) -> Result<usize, usize> {
        self.0.binary_search_by(|subscription| subscription.filter.cmp(filter))
    }

    /// Enters one; there is none of its filter.
    fn insert(&mut self, subscription: Rc<Subscription>) {
        if let Err(at) = self.place_of(&subscription.filter) {
            // Growing by doubling starts at four.
            self.0.reserve_exact(usize::from(self.0.is_empty()));
            self.0.insert(at, subscription);
        }
    }

    fn remove(&mut self, filter: &Filter) -> Option<Rc<Subscription>> {
        self.place_of(filter).ok().map(|at| self.0.remove(at))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Rc<Subscription>> {
        self.0.iter()
    }

    fn contains(&self, filter: &Filter) -> bool {
        self.place_of(filter).is_ok()
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a stream follows, and from where; its `subscribes` name no beginning of their own.
#[derive(Debug)]
pub(crate) struct StreamAsk {
    pub(crate) subscribes: Vec<Subscribe>,
    pub(crate) since: Option<Since>,
    /// Where groups are among it: what they are followed by.
    pub(crate) following: Option<Box<Following>>,
}

/// Tells whether a principal whose link has so many others may subscribe.
///
/// # Errors
///
/// The right or the limit that says no.
pub(crate) fn check(
    shared: &Shared,
    principal: &Principal,
    ask: &Subscribe,
    other_count: usize,
) -> Result<(), Fault> {
    let limits = &shared.config.limits;
    limits.check_topic(ask.filter.as_str())?;
    if !principal.may_subscribe(&ask.filter) {
        let text = format!("no right to subscribe to {}", ask.filter);
        return Err(Fault::new(Code::NotAllowed, text));
    }
    if ask.rate_max.is_some() && documents::follows(&ask.filter) {
        let text =
            "maxRate is not for the documents of devices: they come ten times a second at most";
        return Err(Fault::new(Code::BadValue, text));
    }
    if other_count >= limits.topics_per_connection_max {
        return Err(Fault::new(Code::TooLarge, "limits.topics_per_connection_max is reached"));
    }
    Ok(())
}

/// Starts a subscription: with what is retained, or with history.
pub(crate) fn subscribe(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    ask: &Subscribe,
) -> Result<(), Fault> {
    let count = {
        let subscriptions = link.subscriptions.borrow();
        subscriptions.len() - usize::from(subscriptions.contains(&ask.filter))
    };
    check(&hub.shared, principal, ask, count)?;
    pay_for_looking(hub, link, principal, ask)?;
    if let Some(old) = link.subscriptions.borrow_mut().remove(&ask.filter) {
        hub.remove_member(link, &old);
    }
    let (subscription, routed) = enter(hub, link, principal, ask);
    match ask.since {
        Some(since) => catchup::start_replay(hub, link, &subscription, since),
        None => {
            subscription.live_after.set(routed);
            let position = hub.shared.position(routed);
            let (filter, qos) = (ask.filter.clone(), ask.qos);
            hub.answer(link, &Answer::Subscribed { filter, qos, position });
            send_retained(hub, link, &subscription, routed, &[]);
            hub.first_documents(link, &subscription);
        }
    }
    Ok(())
}

/// Takes what it costs to look for what a subscription begins with: of all that the tenant retains, and
/// of the documents of its devices, on the worker. Who asks for history gets the first only where its
/// position is of another life of the log. A filter for one topic asks for one thing, and pays no more
/// than its frame; where there is much to look at, others have a turn behind it as well.
fn pay_for_looking(
    hub: &Hub,
    link: &Link,
    principal: &Principal,
    ask: &Subscribe,
) -> Result<(), Fault> {
    let begins_anew = match ask.since {
        None => true,
        Some(Since::After(position)) => position.epoch != hub.shared.log.epoch(),
        Some(Since::All | Since::Time(_)) => false,
    };
    let follows = documents::follows(&ask.filter);
    if !begins_anew && !follows {
        return Ok(());
    }
    let counts = hub.shared.state.tenant_counts(&principal.tenant);
    let retained = if begins_anew { counts.retained } else { 0 };
    let documents = if follows { counts.devices } else { 0 };
    let price = (retained + documents) / LOOKED_AT_LEN;
    if price == 0 {
        return Ok(());
    }
    if ask.filter.levels().any(|level| level == "+" || level == "#") {
        asks::take_rate(hub, link, principal, price, 0)?;
    }
    link.end_turn();
    Ok(())
}

/// Enters a subscription that is not live yet; tells the number behind which it can be.
fn enter(
    hub: &Hub,
    link: &Rc<Link>,
    principal: &Principal,
    ask: &Subscribe,
) -> (Rc<Subscription>, Seq) {
    let subscription = Rc::new(Subscription {
        tenant: principal.tenant.clone(),
        filter: ask.filter.clone(),
        qos: ask.qos,
        slow: ask.slow,
        paced: ask.rate_max.map(|per_second| Box::new(Paced::new(per_second))),
        live_after: Cell::new(Seq(u64::MAX)),
        replaying: Cell::new(ask.since.is_some()),
        changed: RefCell::default(),
        ending: Ending::default(),
    });
    link.subscriptions.borrow_mut().insert(Rc::clone(&subscription));
    let routed = hub.add_member(link, &subscription);
    (subscription, routed)
}

/// Adds a subscription to those of a stream, live from now on; who may is decided.
pub(crate) fn join(hub: &Hub, link: &Rc<Link>, principal: &Principal, ask: &Subscribe) {
    let (subscription, routed) = enter(hub, link, principal, ask);
    subscription.live_after.set(routed);
}

/// Starts all subscriptions of a stream at one position. They were checked when it was asked for; a
/// credential that went since then has ended the link, and a right that went ends it here.
pub(crate) fn open_stream(hub: &Rc<Hub>, link: &Rc<Link>, ask: &StreamAsk) {
    let Some(principal) = link.principal().filter(|_| !link.is_closing()) else { return };
    if !ask.subscribes.iter().all(|ask| principal.may_subscribe(&ask.filter)) {
        return link.close(CloseReason::RightsWithdrawn);
    }
    let entered = ask.subscribes.iter().map(|ask| enter(hub, link, &principal, ask));
    let (subscriptions, routed): (Vec<_>, Vec<_>) = entered.unzip();
    if let Some(since) = ask.since {
        return catchup::start_stream(hub, link, since);
    }
    // Where the last of them is live the others are, too.
    let routed = routed.into_iter().max().unwrap_or_default();
    begin_stream(hub, link, &subscriptions, hub.shared.position(routed));
    if link.form.get().is_thingsee() {
        return thingsee_out::tell_last_state(hub, link);
    }
    send_all_retained(hub, link, &subscriptions, routed);
    subscriptions.iter().for_each(|subscription| hub.first_documents(link, subscription));
}

/// Tells a stream where it begins: what comes live is behind that.
pub(crate) fn begin_stream(
    hub: &Hub,
    link: &Rc<Link>,
    subscriptions: &[Rc<Subscription>],
    position: Position,
) {
    for subscription in subscriptions {
        subscription.live_after.set(position.seq);
    }
    if let Some(first) = subscriptions.first() {
        let (filter, qos) = (first.filter.clone(), first.qos);
        hub.answer(link, &Answer::Subscribed { filter, qos, position });
    }
}

/// At what promise a link gets a message that comes live, if at all.
pub(crate) fn granted(link: &Link, seq: Seq, message: &Message) -> Option<Qos> {
    let subscriptions = link.subscriptions.borrow();
    // One that began, or ended its replay, later has what is before that.
    let live = subscriptions.values().filter(|s| s.live_after.get() < seq);
    let granted = live.filter(|s| s.filter.matches(&message.topic)).map(|s| s.qos).max();
    granted.map(|granted| granted.min(message.qos))
}

/// The subscription with a pace that alone gets a message, if that is so.
pub(crate) fn paced_alone(link: &Link, seq: Seq, message: &Message) -> Option<Rc<Subscription>> {
    let subscriptions = link.subscriptions.borrow();
    let mut live = subscriptions
        .values()
        .filter(|s| s.live_after.get() < seq && s.filter.matches(&message.topic));
    let first = live.next().filter(|first| first.paced.is_some())?;
    live.all(|s| s.paced.is_some()).then(|| Rc::clone(first))
}

/// Sends the retained messages of a stream, each once.
fn send_all_retained(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    subscriptions: &[Rc<Subscription>],
    until: Seq,
) {
    for (nth, subscription) in subscriptions.iter().enumerate() {
        let before = subscriptions.get(..nth).unwrap_or_default();
        send_retained(hub, link, subscription, until, before);
    }
}

/// Sends the retained messages of a subscription, as they were when it began, but for what others of
/// its link send: so many at once, and what is left as the socket takes it.
fn send_retained(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    subscription: &Rc<Subscription>,
    until: Seq,
    others: &[Rc<Subscription>],
) {
    let mut left = retained(hub, link, subscription, until, others).into_iter();
    if link.outbox.byte_len() <= link.outbox.bytes_max() {
        send_some(hub, link, subscription, &mut left, None);
    }
    if left.len() == 0 {
        return;
    }
    let (hub, link, subscription) = (Rc::clone(hub), Rc::clone(link), Rc::clone(subscription));
    tokio::task::spawn_local(async move {
        let sent = send_left(&hub, &link, &subscription, left, None);
        let _unless_ended = subscription.ending.or_over(sent).await;
    });
}

/// Tells the retained messages of a subscription whose position is of another life of the log, as the
/// socket takes them, as part of the replay that is named `mark`: all of them, before this returns.
pub(crate) async fn tell_retained(
    hub: &Hub,
    link: &Rc<Link>,
    subscription: &Subscription,
    (until, others): (Seq, &[Rc<Subscription>]),
    mark: Option<&str>,
) {
    let left = retained(hub, link, subscription, until, others).into_iter();
    send_left(hub, link, subscription, left, mark).await;
}

/// What was retained for a subscription at this number, but for what others of its link send.
fn retained(
    hub: &Hub,
    link: &Link,
    subscription: &Subscription,
    until: Seq,
    others: &[Rc<Subscription>],
) -> Vec<Arc<Entry>> {
    if link.form.get().is_thingsee() {
        // Its last state is made of what was reported, and tells the same.
        return Vec::new();
    }
    let sent_by = |entry: &Entry, other: &Subscription| {
        message_of(entry).is_some_and(|message| other.filter.matches(&message.topic))
    };
    let mut entries = hub.shared.state.retained(&subscription.tenant, &subscription.filter);
    // A document is made of the state, whatever was kept under its name.
    entries.retain(|entry| message_of(entry).is_none_or(|message| message.kind != Kind::State));
    entries.retain(|entry| entry.seq <= until && !others.iter().any(|other| sent_by(entry, other)));
    entries
}

async fn send_left(
    hub: &Hub,
    link: &Rc<Link>,
    subscription: &Subscription,
    mut left: std::vec::IntoIter<Arc<Entry>>,
    mark: Option<&str>,
) {
    while left.len() > 0 {
        link.room().await;
        if link.is_closing() || subscription.ending.is_over() {
            return;
        }
        send_some(hub, link, subscription, &mut left, mark);
        hub.flush();
        tokio::task::yield_now().await;
    }
}

fn send_some(
    hub: &Hub,
    link: &Rc<Link>,
    subscription: &Subscription,
    left: &mut std::vec::IntoIter<Arc<Entry>>,
    mark: Option<&str>,
) {
    let time = now();
    let (mut sent_bytes, mut expired_count) = (0, 0);
    while sent_bytes < RETAINED_BYTES_MAX
        && let Some(entry) = left.next()
    {
        let Some(message) = message_of(&entry) else { continue };
        // What replaced it meanwhile came live, or comes in the replay.
        if !hub.shared.state.is_retained(&entry) {
            continue;
        }
        if message.is_over(time) {
            expired_count += 1;
            continue;
        }
        let qos = subscription.qos.min(message.qos);
        let marks = Marks { qos, retain: true, replay: mark, ..Marks::default() };
        sent_bytes += hub.push_marked(link, (entry.seq, message), marks, link.form.get());
    }
    hub.note_lost(link, &subscription.tenant, DropReason::Expired, expired_count);
}

/// Ends a subscription.
pub(crate) fn unsubscribe(hub: &Rc<Hub>, link: &Rc<Link>, filter: Filter) -> Result<(), Fault> {
    let removed = link.subscriptions.borrow_mut().remove(&filter);
    let Some(subscription) = removed else {
        return Err(Fault::new(Code::NotFound, format!("there is no subscription of {filter}")));
    };
    hub.remove_member(link, &subscription);
    hub.answer(link, &Answer::Unsubscribed { filter });
    Ok(())
}

#[cfg(test)]
mod tests;
