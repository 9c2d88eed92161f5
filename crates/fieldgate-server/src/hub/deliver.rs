//! The way of routed messages to the links of one worker.
//!
//! A train of messages is encoded once per wire form and written straight to each socket, in one
//! write; what a socket does not take waits in its outbox, frame by frame, within bounds.

use std::{io, rc::Rc, sync::atomic::Ordering};

use bytes::Bytes;
use fieldgate_core::{
    close::CloseReason,
    dialect::{Delivery, Marks},
    id::{Seq, TenantId, UnixMs},
    lane::{Pushed, Slow, Way},
    message::{Message, Priority, Qos},
};
use fieldgate_dialects::wire::Form;

use super::{
    Hub,
    train::{Cars, Run, Runs, trains},
};
use crate::{
    catchup,
    fabric::{message_of, now},
    ledger::DropReason,
    link::Link,
    outbox::{Item, Lost, late_byte_len, taken},
    subscriptions::{self, Subscription},
    worker::Routed,
};

/// Most bytes that are collected for one socket before they are written, whatever the tick brings.
pub(super) const TICK_BYTES_MAX: usize = 128 * 1024;

/// Frames for one link: those of a run, from one car on.
#[derive(Debug)]
struct Shot<'a> {
    link: &'a Rc<Link>,
    subscription: &'a Rc<Subscription>,
    /// Its place among the runs.
    run: usize,
    from: usize,
}

impl Hub {
    /// Delivers what the router sent, in seq order.
    pub(crate) fn deliver(self: &Rc<Self>, batch: &[Routed]) {
        let time = now();
        let mut delivered_count = 0;
        let messages = batch.iter().filter_map(|routed| message_of(&routed.entry));
        for message in messages.filter(|message| message.is_over(time)) {
            let (ledger, who) = (&self.shared.ledger, message.topic.as_str());
            ledger.record(&message.tenant, who, DropReason::Expired, 1, time);
        }
        for train in trains(batch) {
            delivered_count += self.deliver_train(train, time, train.len() == batch.len());
        }
        self.shared.stats.delivered.fetch_add(delivered_count, Ordering::Relaxed);
    }

    /// Delivers messages for the same slots; `alone` if nothing else is delivered in this tick.
    fn deliver_train(self: &Rc<Self>, train: &[Routed], time: UnixMs, alone: bool) -> u64 {
        let cars: Vec<_> = train.iter().filter_map(|routed| due(routed, time)).collect();
        let ends = cars.first().zip(cars.last()).zip(train.first());
        let Some((((first, _), (last, _)), Routed { slots: at, .. })) = ends else { return 0 };
        let slots = self.slots.borrow();
        let members = || {
            let slots = at.iter().filter_map(|slot| slots.get(slot));
            let all = slots.flat_map(|slot| &slot.members);
            all.filter(|(link, s)| !link.behind.get() && s.live_after.get() < *last)
        };
        if at.len() > 1 {
            // Overlapping subscriptions deliver once, at the highest promise.
            for (link, subscription) in members() {
                if subscription.live_after.get() >= *first && train.len() > 1 {
                    // It begins within the train: the promise differs from message to message.
                    let each = train.chunks(1).map(|one| self.deliver_train(one, time, false));
                    return each.sum();
                }
                let (of, qos) = link.overlap.get();
                let qos = if of == *last { qos.max(subscription.qos) } else { subscription.qos };
                link.overlap.set((*last, qos));
                if subscription.paced.is_none() {
                    link.unpaced.set(*last);
                }
            }
        }
        for (seq, message) in cars.iter().filter(|(_, m)| m.priority == Priority::Critical) {
            let slots = at.iter().filter_map(|slot| slots.get(slot));
            let behind = slots.flat_map(|slot| &slot.members).filter(|(link, _)| link.behind.get());
            behind.for_each(|(link, _)| self.overtake(link, *seq, message));
        }
        let mut runs = Runs::default();
        let mut shots = Vec::new();
        let mut delivered_count = 0;
        for (link, subscription) in members() {
            if link.delivered.get() == *last || link.is_closing() {
                continue;
            }
            let live_after = subscription.live_after.get();
            let from = cars.partition_point(|(seq, _)| *seq <= live_after);
            if let Some(paced) = &subscription.paced {
                let elsewhere = at.len() > 1 && link.unpaced.get() == *last;
                if !elsewhere && link.paced.replace(*last) != *last {
                    let cars = cars.get(from..).unwrap_or_default();
                    cars.iter().for_each(|car| self.pace(link, subscription, paced, *car));
                }
                continue;
            }
            link.delivered.set(*last);
            let (of, overlap) = link.overlap.get();
            let granted = if of == *last { overlap } else { subscription.qos };
            let run = runs.place(link.form.get(), granted, || {
                self.encode_run(&cars, granted, link.form.get())
            });
            if runs.at(run).bytes.len() == runs.at(run).start(from) {
                // A form may have nothing to say of a message.
                continue;
            }
            let shot = Shot { link, subscription, run, from };
            if runs.at(run).asks {
                delivered_count += self.send_counted(&shot, runs.at(run), &cars);
            } else if alone && link.outbox.is_empty() {
                shots.push(shot);
            } else {
                delivered_count += self.send_later(&shot, runs.at(run), &cars);
            }
        }
        delivered_count + self.send_now(&shots, &runs, &cars)
    }

    fn encode_run(&self, cars: &Cars<'_>, granted: Qos, form: Form) -> Run {
        let asks = self.rooms_of(form).is_some_and(|rooms| rooms.asks);
        let mut run =
            Run::new(cars, granted, &mut self.joined.borrow_mut(), |seq, message, qos, out| {
                let marks = Marks { qos, ..Marks::default() };
                let delivery = Delivery { position: self.shared.position(seq), message, marks };
                self.write_delivery(form, &delivery, out);
            });
        run.asks = asks;
        run
    }

    /// Sends to who acknowledges what it gets, as long as not too much is open; the log has the rest.
    fn send_counted(self: &Rc<Self>, shot: &Shot<'_>, run: &Run, cars: &Cars<'_>) -> u64 {
        let (link, mut sent_count) = (shot.link, 0);
        let cars = cars.get(shot.from..).unwrap_or_default();
        for (frame, (seq, message)) in run.frames(shot.from).iter().zip(cars) {
            let bytes = run.bytes.slice(frame.start..frame.end);
            if bytes.is_empty() {
                continue;
            }
            if link.is_unanswered() {
                catchup::fall_behind(self, link, *seq);
                break;
            }
            if !link.outbox.has_waiting() {
                self.touch(link);
                link.outbox.push_shared(bytes.clone());
                if link.outbox.byte_len() > TICK_BYTES_MAX {
                    Self::flush_link(link);
                }
            } else if !self.queue(
                link,
                shot.subscription,
                bytes.clone(),
                (*seq, message, frame.qos),
            ) {
                break;
            }
            link.note_asked(&bytes);
            sent_count += 1;
        }
        sent_count
    }

    /// Leaves frames to the end of this tick, or behind what waits. Tells how many it dealt with; the
    /// log has the rest for a link that fell behind.
    fn send_later(self: &Rc<Self>, shot: &Shot<'_>, run: &Run, cars: &Cars<'_>) -> u64 {
        let link = shot.link;
        if link.outbox.has_waiting() {
            return self.queue_all(shot, run, shot.from, cars);
        }
        self.touch(link);
        link.outbox.push_shared(run.bytes.slice(run.start(shot.from)..));
        if link.outbox.byte_len() > TICK_BYTES_MAX {
            Self::flush_link(link);
        }
        run.frames(shot.from).len() as u64
    }

    /// Writes to links for which nothing waits; tells as [`Self::send_later`].
    fn send_now(self: &Rc<Self>, shots: &[Shot<'_>], runs: &Runs, cars: &Cars<'_>) -> u64 {
        let writes = shots.iter().map(|shot| {
            let run = runs.at(shot.run);
            (&shot.link.socket, run.bytes.get(run.start(shot.from)..).unwrap_or_default())
        });
        let mut writer = self.writer.borrow_mut();
        let written = shots.iter().zip(writer.write_each(writes));
        written.map(|(shot, written)| self.sent(shot, runs.at(shot.run), cars, written)).sum()
    }

    /// Queues what a socket did not take.
    fn sent(
        self: &Rc<Self>,
        shot: &Shot<'_>,
        run: &Run,
        cars: &Cars<'_>,
        written: io::Result<usize>,
    ) -> u64 {
        let (link, frames) = (shot.link, run.frames(shot.from));
        let Ok(taken) = taken(written) else {
            link.close(CloseReason::PeerClosed);
            return 0;
        };
        let taken = run.start(shot.from) + taken;
        let (mut gone_count, mut queued_count) = (frames.len(), 0);
        if taken < run.bytes.len() {
            gone_count = frames.partition_point(|frame| frame.end <= taken);
            if let Some(begun) = frames.get(gone_count).filter(|frame| frame.start < taken) {
                link.outbox.begun(run.bytes.slice(taken..begun.end));
                gone_count += 1;
            }
            queued_count = self.queue_all(shot, run, shot.from + gone_count, cars);
        }
        if link.has_unsent() {
            link.wake();
        }
        gone_count as u64 + queued_count
    }

    /// Queues the frames of a run, from one car on, until one must not follow; tells how many.
    fn queue_all(self: &Rc<Self>, shot: &Shot<'_>, run: &Run, from: usize, cars: &Cars<'_>) -> u64 {
        let cars = cars.get(from..).unwrap_or_default();
        let queued = run.frames(from).iter().zip(cars).take_while(|(frame, (seq, message))| {
            let bytes = run.bytes.slice(frame.start..frame.end);
            self.queue(shot.link, shot.subscription, bytes, (*seq, message, frame.qos))
        });
        queued.count() as u64
    }

    /// Queues one frame for a link whose socket is full (`guarantees.md`, "Slow receivers"); false if
    /// no more may follow it.
    fn queue(
        self: &Rc<Self>,
        link: &Rc<Link>,
        subscription: &Subscription,
        frame: Bytes,
        (seq, message, qos): (Seq, &Message, Qos),
    ) -> bool {
        // A session's position moves with every event: nothing is left out or goes ahead.
        let is_session = link.session.is_some();
        let slow = if is_session { Slow::Overflow } else { subscription.slow(qos, message) };
        let priority = if is_session { Priority::Normal } else { message.priority };
        let late = || Item::late(seq, qos, message);
        let way = link.outbox.way(priority, late_byte_len(message));
        let item = match &slow {
            // What it will say is not known yet.
            _ if way.is_ahead() => late(),
            Slow::Latest(_) => late(),
            Slow::Overflow => Item::Ready(frame),
            Slow::DropOldest | Slow::Disconnect => Item::Frame(seq, frame),
        };
        self.queue_item(link, item, way, slow, (seq, &message.tenant))
    }

    /// As [`Self::queue`], once it is clear what waits where.
    pub(super) fn queue_item(
        self: &Rc<Self>,
        link: &Rc<Link>,
        item: Item,
        way: Way,
        slow: Slow,
        (seq, tenant): (Seq, &TenantId),
    ) -> bool {
        let mut lost = Lost::default();
        let pushed = link.outbox.queue(item, way, slow, &mut lost);
        self.write_down(link, tenant, &lost);
        match pushed {
            Pushed::Queued => true,
            Pushed::Overflow => {
                catchup::fall_behind(self, link, seq);
                false
            }
            Pushed::Disconnect => {
                link.close(CloseReason::SlowReceiver);
                false
            }
        }
    }

    /// Writes down what a slow receiver did not get.
    pub(super) fn write_down(&self, link: &Link, tenant: &TenantId, lost: &Lost) {
        self.note_lost(link, tenant, DropReason::Conflated, lost.conflated_count);
        self.note_lost(link, tenant, DropReason::Overflow, lost.dropped_count);
    }

    /// Writes down how many a receiver did not get, and why.
    pub(crate) fn note_lost(&self, link: &Link, tenant: &TenantId, reason: DropReason, count: u64) {
        if count > 0 {
            let who = link.principal().map_or_else(String::new, |p| p.name.to_string());
            self.shared.ledger.record(tenant, &who, reason, count, now());
        }
    }

    /// Lets a critical message overtake what a link reads from the log; without room ahead it comes
    /// in its turn.
    fn overtake(&self, link: &Rc<Link>, seq: Seq, message: &Message) {
        if link.session.is_some() {
            return;
        }
        let Some(qos) = subscriptions::granted(link, seq, message) else { return };
        let way = link.outbox.way(message.priority, late_byte_len(message));
        if seq < link.log_next.get() || !way.is_ahead() || !link.overtook.borrow_mut().insert(seq) {
            return;
        }
        let item = Item::late(seq, qos, message);
        link.outbox.queue(item, way, Slow::Overflow, &mut Lost::default());
        self.shared.stats.delivered.fetch_add(1, Ordering::Relaxed);
        link.wake();
    }
}

/// The message of a car, unless its time is over.
fn due(routed: &Routed, time: UnixMs) -> Option<(Seq, &Message)> {
    let message = message_of(&routed.entry).filter(|message| !message.is_over(time))?;
    Some((routed.entry.seq, message))
}
