//! The way of routed messages to the links of one worker.
//!
//! A train of messages is encoded once per wire form and written straight to each socket, in one
//! write; what a socket does not take waits in its outbox, frame by frame, within bounds.

use std::{rc::Rc, sync::atomic::Ordering};

use bytes::Bytes;
use fieldgate_core::{
    close::CloseReason,
    dialect::{Delivery, GapReason, Marks, SlowMode},
    id::{Seq, UnixMs},
    message::{Message, Qos},
};
use fieldgate_dialects::{
    native::{self, Form},
    ws::{self, Opcode},
};

use super::{
    Hub,
    train::{Cars, Run, Runs, trains},
};
use crate::{
    catchup,
    fabric::{message_of, now},
    ledger::DropReason,
    link::{Link, Subscription},
    worker::Routed,
};

/// Most bytes that are collected for one socket before they are written, whatever the tick brings.
const TICK_BYTES_MAX: usize = 128 * 1024;

impl Hub {
    /// Delivers what the router sent, in seq order.
    pub(crate) fn deliver(self: &Rc<Self>, batch: &[Routed]) {
        let time = now();
        let mut delivered_count = 0;
        for train in trains(batch) {
            delivered_count += self.deliver_train(train, time, train.len() == batch.len());
        }
        self.shared.stats.delivered.fetch_add(delivered_count, Ordering::Relaxed);
    }

    /// Delivers messages for the same slots; `alone` if nothing else is delivered in this tick.
    fn deliver_train(self: &Rc<Self>, train: &[Routed], time: UnixMs, alone: bool) -> u64 {
        let cars: Vec<_> = train.iter().filter_map(|routed| self.due(routed, time)).collect();
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
            }
        }
        let mut runs = Runs::default();
        let mut delivered_count = 0;
        for (link, subscription) in members() {
            if link.delivered.get() == *last || link.is_closing() {
                continue;
            }
            link.delivered.set(*last);
            let (of, overlap) = link.overlap.get();
            let granted = if of == *last { overlap } else { subscription.qos };
            let run = runs.get(link.form, granted, || self.encode_run(&cars, granted, link.form));
            let live_after = subscription.live_after.get();
            let from = cars.partition_point(|(seq, _)| *seq <= live_after);
            delivered_count += self.send(link, subscription, run, from, &cars, alone);
        }
        delivered_count
    }

    /// The message of a car, unless its time is over.
    fn due<'a>(&self, routed: &'a Routed, time: UnixMs) -> Option<(Seq, &'a Message)> {
        let message = message_of(&routed.entry)?;
        if message.expires.is_some_and(|expires| expires <= time) {
            let (ledger, who) = (&self.shared.ledger, message.topic.as_str());
            ledger.record(&message.tenant, who, DropReason::Expired, 1, time);
            return None;
        }
        Some((routed.entry.seq, message))
    }

    fn encode_run(&self, cars: &Cars<'_>, granted: Qos, form: Form) -> Run {
        let mut text = self.text.borrow_mut();
        Run::new(cars, granted, &mut self.joined.borrow_mut(), |seq, message, qos, out| {
            let marks = Marks { qos, ..Marks::default() };
            text.clear();
            let delivery = Delivery { position: self.shared.position(seq), message, marks };
            native::encode_delivery(&delivery, form, &mut text);
            ws::write_header(out, Opcode::Text, text.len());
            out.extend_from_slice(&text);
        })
    }

    /// Gives the frames of a run, from one car on, to one link: to its socket, to this tick, or to
    /// what waits. Tells how many it dealt with; the log has the rest for a link that fell behind.
    fn send(
        self: &Rc<Self>,
        link: &Rc<Link>,
        subscription: &Rc<Subscription>,
        run: &Run,
        from: usize,
        cars: &Cars<'_>,
        alone: bool,
    ) -> u64 {
        let frames = run.frames(from);
        if link.outbox.has_waiting() {
            let cars = cars.get(from..).unwrap_or_default();
            let queued = frames.iter().zip(cars).take_while(|(frame, (seq, message))| {
                let bytes = run.bytes.slice(frame.start..frame.end);
                self.queue(link, subscription, &bytes, (*seq, message, frame.droppable))
            });
            return queued.count() as u64;
        }
        let tail;
        let bytes = match frames.first() {
            Some(frame) if frame.start > 0 => {
                tail = run.bytes.slice(frame.start..);
                &tail
            }
            Some(_) | None => &run.bytes,
        };
        if !alone || !link.outbox.is_empty() {
            self.touch(link);
            link.outbox.push_shared(bytes);
            if link.outbox.byte_len() > TICK_BYTES_MAX {
                Self::flush_link(link);
            }
            return frames.len() as u64;
        }
        let start = frames.first().map_or(0, |frame| frame.start);
        let parts = frames.iter().map(|f| (f.start - start..f.end - start, f.droppable));
        if link.outbox.write_now(&link.socket, bytes, parts).is_err() {
            link.close(CloseReason::PeerClosed);
        } else if link.has_unsent() {
            link.wake();
        }
        frames.len() as u64
    }

    /// Queues one frame for a link whose socket is full; false if no more may follow it.
    fn queue(
        self: &Rc<Self>,
        link: &Rc<Link>,
        subscription: &Rc<Subscription>,
        frame: &Bytes,
        (seq, message, droppable): (Seq, &Message, Option<Seq>),
    ) -> bool {
        let max = self.shared.config.limits.outbox_bytes_max;
        if link.outbox.byte_len() + frame.len() <= max && !link.has_conflated() {
            link.outbox.wait(frame.clone(), droppable);
        } else if droppable.is_none() {
            catchup::fall_behind(self, link, seq);
            return false;
        } else {
            self.spare(link, subscription, frame, seq, message);
        }
        !link.is_closing()
    }

    /// A QoS 0 message for a receiver whose outbox is full (`guarantees.md`, "Slow receivers").
    fn spare(
        &self,
        link: &Rc<Link>,
        subscription: &Rc<Subscription>,
        frame: &Bytes,
        seq: Seq,
        message: &Message,
    ) {
        let max = self.shared.config.limits.outbox_bytes_max;
        let dropped = |reason, count| {
            let who = link.principal().map_or_else(String::new, |p| p.name.to_string());
            self.shared.ledger.record(&message.tenant, &who, reason, count, now());
        };
        match subscription.slow {
            SlowMode::Disconnect => link.close(CloseReason::SlowReceiver),
            SlowMode::Latest => {
                if link.conflate(seq, message, max) {
                    dropped(DropReason::Conflated, 1);
                }
            }
            SlowMode::DropOldest => {
                let gap = |first, last| self.encode_gap(link, first, last, GapReason::Overflow);
                let mut count = link.outbox.drop_oldest(frame.len(), max, &gap);
                if link.outbox.byte_len() + frame.len() <= max {
                    link.outbox.wait(frame.clone(), Some(seq));
                } else {
                    link.outbox.drop_newest(seq, &gap);
                    count += 1;
                }
                if count > 0 {
                    dropped(DropReason::Overflow, count);
                }
            }
        }
    }
}
