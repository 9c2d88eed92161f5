//! Subscriptions: begun with what is retained or with history, and ended.
//!
//! In: an ask whose form is checked. Out: a member of the hub, and its first answers. Absent: what
//! history is, which is `catchup`'s.

use std::{cell::Cell, rc::Rc};

use fieldgate_core::{
    access::Principal,
    dialect::{Answer, Marks, Subscribe},
    fault::{Code, Fault},
    id::Seq,
    message::{Message, Qos},
    topic::Filter,
};

use crate::{
    catchup,
    fabric::{message_of, now},
    hub::{Hub, Paced},
    link::{Link, Subscription},
};

/// Starts a subscription: with what is retained, or with history.
pub(crate) fn subscribe(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    ask: &Subscribe,
) -> Result<(), Fault> {
    let limits = &hub.shared.config.limits;
    if !principal.may_subscribe(&ask.filter) {
        let text = format!("no right to subscribe to {}", ask.filter);
        return Err(Fault::new(Code::NotAllowed, text));
    }
    if let Some(old) = link.subscriptions.borrow_mut().remove(&ask.filter) {
        hub.remove_member(link, &old);
    }
    if link.subscriptions.borrow().len() >= limits.topics_per_connection_max {
        return Err(Fault::new(Code::TooLarge, "limits.topics_per_connection_max is reached"));
    }
    if ask.since.is_some() {
        let replaying = link.subscriptions.borrow().values().filter(|s| s.replaying.get()).count();
        if replaying >= limits.replays_per_principal_max {
            return Err(Fault::new(Code::Busy, "limits.replays_per_principal_max are running"));
        }
    }
    let subscription = Rc::new(Subscription {
        tenant: principal.tenant.clone(),
        filter: ask.filter.clone(),
        qos: ask.qos,
        slow: ask.slow,
        paced: ask.rate_max.map(|per_second| Box::new(Paced::new(per_second))),
        live_after: Cell::new(Seq(u64::MAX)),
        replaying: Cell::new(ask.since.is_some()),
        ended: Cell::new(false),
    });
    link.subscriptions.borrow_mut().insert(ask.filter.clone(), Rc::clone(&subscription));
    let routed = hub.add_member(link, &subscription);
    match ask.since {
        Some(since) => catchup::start_replay(hub, link, &subscription, since),
        None => {
            subscription.live_after.set(routed);
            let position = hub.shared.position(routed);
            let (filter, qos) = (ask.filter.clone(), ask.qos);
            hub.answer(link, &Answer::Subscribed { filter, qos, position });
            send_retained(hub, link, &subscription, routed);
        }
    }
    Ok(())
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

/// Sends the retained messages of a subscription, as they were when it began.
pub(crate) fn send_retained(hub: &Hub, link: &Rc<Link>, subscription: &Subscription, until: Seq) {
    let time = now();
    for entry in hub.shared.state.retained(&subscription.tenant, &subscription.filter) {
        let Some(message) = message_of(&entry).filter(|_| entry.seq <= until) else { continue };
        if message.expires.is_some_and(|expires| expires <= time) {
            continue;
        }
        let qos = subscription.qos.min(message.qos);
        let marks = Marks { qos, retain: true, ..Marks::default() };
        let frame = hub.encode_marked(entry.seq, message, marks, link.form);
        hub.touch(link);
        link.outbox.push_tick(|tick| tick.extend_from_slice(&frame));
    }
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
