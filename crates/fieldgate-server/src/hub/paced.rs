//! `maxRate`: messages of a subscription that are kept back until their topic is due.
//!
//! Over `core::pace`. Bounded: what a link's subscriptions keep back counts against the bound of its
//! outbox; past it the oldest leaves before its time. Absent: history, which comes at full speed.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::atomic::Ordering,
    time::Duration,
};

use fieldgate_core::{
    dialect::Marks,
    id::Seq,
    message::{Message, Qos},
    pace::Pace,
};

use super::Hub;
use crate::{
    fabric::now,
    ledger::DropReason,
    link::Link,
    outbox::{Item, Late, Lost, late_byte_len},
    subscriptions::Subscription,
};

/// A sleeping task looks this often whether its link is still there.
const LOOK: Duration = Duration::from_secs(1);

/// What one subscription keeps back.
#[derive(Debug)]
pub(crate) struct Paced {
    pace: RefCell<Pace<Late>>,
    byte_len: Cell<usize>,
    /// Whether a task waits for the oldest of it.
    awaited: Cell<bool>,
}

impl Paced {
    pub(crate) fn new(per_second: f64) -> Self {
        Self {
            pace: RefCell::new(Pace::new(per_second)),
            byte_len: Cell::new(0),
            awaited: Cell::new(false),
        }
    }

    fn pop(&self, now_ms: u64, in_any_case: bool) -> Option<Late> {
        let late = self.pace.borrow_mut().pop(now_ms, in_any_case)?;
        self.byte_len.set(self.byte_len.get().saturating_sub(late_byte_len(&late.message)));
        Some(late)
    }
}

impl Hub {
    /// Gives a message to a subscription that has a pace: now, or when it is due.
    pub(crate) fn pace(
        self: &Rc<Self>,
        link: &Rc<Link>,
        subscription: &Rc<Subscription>,
        paced: &Paced,
        (seq, message): (Seq, &Message),
    ) {
        let mut lost = Lost::default();
        let (mut gained, mut freed) = (late_byte_len(message), 0);
        let late = Late::new(seq, Qos::AtMostOnce, message);
        let offered = paced.pace.borrow_mut().offer(
            &message.topic,
            seq,
            late,
            link.age_ms(),
            |newer, older| {
                freed = late_byte_len(&older.message);
                lost.conflate(newer, &older);
                gained = late_byte_len(&newer.message);
            },
        );
        self.write_down(link, &message.tenant, &lost);
        if let Some(late) = offered {
            return self.give(link, subscription, late);
        }
        paced.byte_len.set(paced.byte_len.get() + gained - freed);
        while kept_bytes(link) > link.outbox.bytes_max()
            && let Some(late) = paced.pop(link.age_ms(), true)
        {
            self.give(link, subscription, late);
        }
        if !paced.awaited.replace(true) {
            self.wait(link, subscription);
        }
    }

    /// Gives what is kept back as it becomes due. Holds nothing alive meanwhile.
    fn wait(self: &Rc<Self>, link: &Rc<Link>, subscription: &Rc<Subscription>) {
        let all = (Rc::downgrade(self), Rc::downgrade(link), Rc::downgrade(subscription));
        tokio::task::spawn_local(async move {
            let mut sleep = Duration::ZERO;
            loop {
                tokio::time::sleep(sleep).await;
                let (Some(hub), Some(link), Some(subscription)) =
                    (all.0.upgrade(), all.1.upgrade(), all.2.upgrade())
                else {
                    return;
                };
                let Some(paced) = &subscription.paced else { return };
                if subscription.ending.is_over() || link.is_closing() {
                    return;
                }
                while let Some(late) = paced.pop(link.age_ms(), false) {
                    hub.give(&link, &subscription, late);
                }
                hub.flush();
                let due_ms = paced.pace.borrow().due_ms();
                let Some(due_ms) = due_ms else {
                    paced.awaited.set(false);
                    return;
                };
                sleep = Duration::from_millis(due_ms.saturating_sub(link.age_ms())).min(LOOK);
            }
        });
    }

    /// Sends or queues a message whose time has come.
    fn give(self: &Rc<Self>, link: &Rc<Link>, subscription: &Subscription, mut late: Late) {
        let time = now();
        if late.message.is_over(time) {
            let (ledger, who) = (&self.shared.ledger, late.message.topic.as_str());
            return ledger.record(&late.message.tenant, who, DropReason::Expired, 1, time);
        }
        // Another subscription of the link may have gone on meanwhile.
        late.ahead = late.seq < link.delivered.get();
        link.delivered.set(link.delivered.get().max(late.seq));
        self.shared.stats.delivered.fetch_add(1, Ordering::Relaxed);
        if link.outbox.has_waiting() {
            self.queue_late(link, subscription, late);
            return;
        }
        let Late { seq, qos, ref message, count, ahead } = late;
        let marks = Marks { qos, ahead, conflated_count: count, ..Marks::default() };
        self.push_marked(link, (seq, message), marks, link.form.get());
    }

    fn queue_late(self: &Rc<Self>, link: &Rc<Link>, subscription: &Subscription, late: Late) {
        let slow = subscription.slow(late.qos, &late.message);
        let way = link.outbox.way(late.message.priority, late_byte_len(&late.message));
        let (seq, tenant) = (late.seq, late.message.tenant.clone());
        self.queue_item(link, Item::Late(Box::new(late)), way, slow, (seq, &tenant));
    }
}

fn kept_bytes(link: &Link) -> usize {
    let subscriptions = link.subscriptions.borrow();
    subscriptions.values().filter_map(|s| s.paced.as_ref()).map(|p| p.byte_len.get()).sum()
}
