//! The hub shard of one worker: who subscribed to what here, and the way of a message to them.
//!
//! The way of a message to them is in `deliver`. Lives on one thread.

mod deliver;
mod documents;
mod frames;
mod paced;
mod pending;
mod push;
mod roll;
mod rooms;
mod train;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    ops::RangeInclusive,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use fieldgate_core::{
    close::CloseReason,
    dialect::{Answer, GapReason},
    id::{Seq, TenantId, UnixMs},
    index::Index,
    topic::Filter,
};
use fieldgate_store::{AppendError, Log, Record};

use crate::{
    catchup, commands,
    documents::{Changed, follows},
    fabric::{Shared, now},
    link::Link,
    outbox::{Tick, taken},
    present::LinkRef,
    prove,
    sink::Writer,
    socketio,
    subscriptions::Subscription,
    thingsee_out,
    worker::Told,
};

pub(crate) use paced::Paced;
pub(crate) use pending::Then;
pub(crate) use roll::{Client, RollCall};

#[derive(Debug, Default)]
struct Slot {
    members: Vec<(Rc<Link>, Rc<Subscription>)>,
}

/// When something was read: what stands in the same bytes came at the same time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) time: UnixMs,
    pub(crate) instant: Instant,
}

impl Clock {
    fn now() -> Self {
        Self { time: now(), instant: Instant::now() }
    }
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: usize,
    pub(crate) scratch: RefCell<Vec<u8>>,
    pub(crate) space: tokio::sync::Notify,
    slots: RefCell<HashMap<u32, Slot>>,
    slot_of: RefCell<HashMap<(TenantId, Filter), u32>>,
    /// The slots of those who follow documents, and devices whose documents changed.
    documents: RefCell<HashMap<TenantId, Index<u32>>>,
    changed: RefCell<Changed>,
    next_slot: Cell<u32>,
    links: RefCell<BTreeMap<u64, Rc<Link>>>,
    next_link: Cell<u64>,
    pending: RefCell<VecDeque<pending::Pending>>,
    /// Everything up to here that waited to be durable was dealt with.
    durable: Cell<Seq>,
    touched: RefCell<Vec<Rc<Link>>>,
    text: RefCell<Vec<u8>>,
    joined: RefCell<Vec<u8>>,
    writer: RefCell<Writer>,
    /// Whether this tick appended what is to be announced.
    appended: Cell<bool>,
    /// Frames of this tick that are not counted with those of other workers yet.
    received_count: Cell<u64>,
    clock: Cell<Clock>,
    rooms: RefCell<rooms::Interned>,
    /// The links of the push socket that are told of changes.
    listeners: RefCell<BTreeMap<u64, push::Listening>>,
}

impl Hub {
    pub(crate) fn new(shared: Arc<Shared>, number: usize) -> Self {
        let durable = Cell::new(shared.log.durable());
        Self {
            shared,
            number,
            scratch: RefCell::new(vec![0; 64 * 1024]),
            space: tokio::sync::Notify::new(),
            slots: RefCell::default(),
            slot_of: RefCell::default(),
            documents: RefCell::default(),
            changed: RefCell::default(),
            next_slot: Cell::new(0),
            links: RefCell::default(),
            next_link: Cell::new(0),
            pending: RefCell::default(),
            durable,
            touched: RefCell::default(),
            text: RefCell::default(),
            joined: RefCell::default(),
            writer: RefCell::new(Writer::new()),
            appended: Cell::default(),
            received_count: Cell::default(),
            clock: Cell::new(Clock::now()),
            rooms: RefCell::default(),
            listeners: RefCell::default(),
        }
    }

    /// Ends every link of a hub that panicked, and makes the one that takes its place.
    ///
    /// Numbers go on, so that nothing said about an old link or slot reaches a new one.
    pub(crate) fn replaced(&self) -> Self {
        for link in self.links.take().into_values() {
            link.close(CloseReason::Internal);
            self.remove_link(&link);
        }
        for ((tenant, filter), slot) in self.slot_of.take() {
            self.shared.unsubscribe(&tenant, &filter, (self.number, slot));
            if follows(&filter) {
                self.shared.documents.end();
            }
        }
        let hub = Self::new(Arc::clone(&self.shared), self.number);
        hub.next_slot.set(self.next_slot.get());
        hub.next_link.set(self.next_link.get());
        hub
    }

    #[cfg(test)]
    pub(crate) fn break_link(&self, link: u64) {
        if let Some(link) = self.link(link) {
            link.breaks.set(true);
            link.wake();
        }
    }

    /// Lets time pass for every link.
    #[cfg(test)]
    pub(crate) fn pass(self: &Rc<Self>, ms: u64) {
        for link in self.links.borrow().values() {
            link.late_ms.set(link.late_ms.get() + ms);
        }
        self.on_tick();
    }

    pub(crate) fn link_ref(&self, link: &Link) -> LinkRef {
        LinkRef { worker: self.number, link: link.id }
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_link.set(self.next_link.get() + 1);
        self.next_link.get()
    }

    pub(crate) fn add_link(&self, link: &Rc<Link>) {
        self.links.borrow_mut().insert(link.id, Rc::clone(link));
    }

    /// Forgets a link and its subscriptions.
    pub(crate) fn remove_link(&self, link: &Rc<Link>) {
        self.links.borrow_mut().remove(&link.id);
        link.end_following(&self.shared);
        self.leave_rooms(link);
        self.end_listening(link);
        let subscriptions = std::mem::take(&mut *link.subscriptions.borrow_mut());
        for subscription in subscriptions.values() {
            self.remove_member(link, subscription);
        }
        if let Some(principal) = link.principal() {
            self.shared.present.leave(&principal, self.link_ref(link));
            if let Some(bridge) = &self.shared.bridge {
                bridge.presence(&principal);
            }
        }
    }

    pub(crate) fn link(&self, id: u64) -> Option<Rc<Link>> {
        self.links.borrow().get(&id).cloned()
    }

    /// Enters a subscription; returns the number behind which it is live.
    pub(crate) fn add_member(&self, link: &Rc<Link>, subscription: &Rc<Subscription>) -> Seq {
        let key = (subscription.tenant.clone(), subscription.filter.clone());
        let slot = *self.slot_of.borrow_mut().entry(key).or_insert_with(|| {
            self.next_slot.set(self.next_slot.get().wrapping_add(1));
            self.next_slot.get()
        });
        let member = (Rc::clone(link), Rc::clone(subscription));
        let mut slots = self.slots.borrow_mut();
        let members = &mut slots.entry(slot).or_default().members;
        // Most have one; growing by doubling starts at four.
        let begins = members.is_empty();
        members.reserve_exact(usize::from(begins));
        members.push(member);
        drop(slots);
        if begins {
            self.follow(subscription, slot, true);
        }
        let (tenant, filter) = (&subscription.tenant, &subscription.filter);
        self.shared.subscribe(tenant, filter, (self.number, slot))
    }

    pub(crate) fn remove_member(&self, link: &Rc<Link>, subscription: &Rc<Subscription>) {
        subscription.ending.end();
        let key = (subscription.tenant.clone(), subscription.filter.clone());
        let Some(slot) = self.slot_of.borrow().get(&key).copied() else { return };
        let mut slots = self.slots.borrow_mut();
        let Some(members) = slots.get_mut(&slot).map(|slot| &mut slot.members) else { return };
        members.retain(|(member, _)| member.id != link.id);
        if members.is_empty() {
            slots.remove(&slot);
            self.slot_of.borrow_mut().remove(&key);
            self.follow(subscription, slot, false);
            self.shared.unsubscribe(&key.0, &key.1, (self.number, slot));
        }
    }

    /// Tells every subscriber here of numbers that will not come.
    pub(crate) fn tell_gap(&self, range: &RangeInclusive<u64>, reason: GapReason) {
        let (first, last) = (Seq(*range.start()), Seq(*range.end()));
        let (from, to) = (self.shared.position(first), self.shared.position(last));
        let gap = Answer::Gap { from, to, reason };
        let mut text = self.text.borrow_mut();
        for link in self.links.borrow().values() {
            // Who is still before it in the log finds it there, in its place.
            let finds_it = link.behind.get() && link.log_next.get() <= first;
            if finds_it || link.subscriptions.borrow().is_empty() {
                continue;
            }
            self.touch(link);
            link.note_hole();
            link.outbox.push_tick(|tick| {
                if link.delivered.get() > last {
                    link.form.get().write_aside(&gap, &mut text, tick);
                } else {
                    link.form.get().write_answer(&gap, &mut text, tick);
                }
            });
        }
    }

    pub(crate) fn touch(&self, link: &Rc<Link>) {
        if !link.touched.replace(true) {
            self.touched.borrow_mut().push(Rc::clone(link));
        }
    }

    /// Queues an answer for the end of this tick.
    pub(crate) fn answer(&self, link: &Rc<Link>, answer: &Answer) {
        if matches!(answer, Answer::Gap { .. }) {
            link.note_hole();
        }
        let mut text = self.text.borrow_mut();
        self.touch(link);
        link.outbox.push_tick(|tick| link.form.get().write_answer(answer, &mut text, tick));
    }

    /// Appends records that nobody waits for; they are routed together with the rest of this tick.
    pub(crate) fn append(&self, group: Vec<Record>, arrived: UnixMs) -> Result<(), AppendError> {
        self.shared.log.append(group, arrived)?;
        self.appended.set(true);
        Ok(())
    }

    /// Looks at the time, before what was read is obeyed.
    pub(crate) fn look_at_clock(&self) -> Clock {
        let clock = Clock::now();
        self.clock.set(clock);
        clock
    }

    /// When what is obeyed now was read.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock.get()
    }

    /// Counts a frame. Workers would get in each other's way if each looked at the sum for each frame.
    pub(crate) fn count_received(&self) {
        self.received_count.set(self.received_count.get() + 1);
    }

    /// Ends a tick: one write for each link that something was queued for, and one word to the
    /// router.
    pub(crate) fn flush(&self) {
        if self.appended.replace(false) {
            self.shared.log.announce();
        }
        let received_count = self.received_count.take();
        if received_count > 0 {
            self.shared.stats.received.fetch_add(received_count, Ordering::Relaxed);
        }
        let touched = self.touched.take();
        let ticks: Vec<_> = touched.into_iter().filter_map(Self::take_tick).collect();
        let mut writer = self.writer.borrow_mut();
        let writes = ticks.iter().map(|(link, tick)| (&link.socket, tick.as_slice()));
        let written = writer.write_each(writes);
        ticks
            .iter()
            .zip(written)
            .for_each(|((link, tick), taken)| Self::end_tick(link, tick, taken));
    }

    /// What a link has to write now, if anything.
    fn take_tick(link: Rc<Link>) -> Option<(Rc<Link>, Tick)> {
        link.touched.set(false);
        let tick = link.outbox.take_tick();
        if tick.as_slice().is_empty() {
            Self::end_tick(&link, &tick, Ok(0));
            return None;
        }
        Some((link, tick))
    }

    fn end_tick(link: &Link, tick: &Tick, written: io::Result<usize>) {
        match taken(written) {
            Ok(taken) => link.outbox.keep(tick, taken),
            Err(_) => link.close(CloseReason::PeerClosed),
        }
        if link.has_unsent() {
            link.wake();
        }
    }

    fn flush_link(link: &Link) {
        let tick = link.outbox.take_tick();
        let written = link.socket.try_write(tick.as_slice());
        Self::end_tick(link, &tick, written);
    }

    pub(crate) fn kick(&self, link: u64, reason: CloseReason) {
        if let Some(link) = self.link(link) {
            link.close(reason);
        }
    }

    /// Looks at the rights of a link again: what it may no longer see ends.
    pub(crate) fn recheck(self: &Rc<Self>, link: u64) {
        let Some(link) = self.link(link) else { return };
        let Some(principal) = link.principal() else { return };
        let Some(fresh) = self.shared.state.refresh(&principal, now()) else {
            return link.close(CloseReason::RightsWithdrawn);
        };
        prove::note_rights(&self.shared, &link, &principal);
        if fresh == *principal {
            return;
        }
        let fresh = link.set_principal(fresh);
        // Rooms may be of fewer devices from now on.
        socketio::on_rights(self, &link);
        let is_left = |s: &Rc<Subscription>| fresh.may_subscribe(&s.filter);
        if !link.subscriptions.borrow().values().all(is_left) {
            link.close(CloseReason::RightsWithdrawn);
        }
    }

    /// The groups of these tenants may have other devices.
    pub(crate) fn groups_moved(self: &Rc<Self>, tenants: &BTreeSet<TenantId>) {
        let is_of = |link: &&Rc<Link>| {
            let principal = link.principal();
            principal.is_some_and(|principal| tenants.contains(&principal.tenant))
        };
        let links: Vec<_> = self.links.borrow().values().filter(is_of).cloned().collect();
        links.iter().for_each(|link| thingsee_out::refollow(self, link));
    }

    /// Every link here reads from the log what this worker could not take.
    pub(crate) fn fall_behind(self: &Rc<Self>, from: Seq) {
        let links: Vec<_> = self.links.borrow().values().cloned().collect();
        for link in links {
            catchup::fall_behind(self, &link, from);
        }
    }

    /// Looks at the deadlines of every link; tells what waits for them.
    pub(crate) fn on_tick(self: &Rc<Self>) -> Told {
        let mut told = Told::default();
        for link in self.links.borrow().values() {
            link.on_tick(&self.shared);
            told.outbox_bytes += link.outbox.byte_len();
            told.behind_count += usize::from(link.behind.get());
            if link.held_back.get() {
                commands::offer_open(self, link);
            }
            if link.session.is_some() {
                socketio::on_tick(self, link);
            } else if link.hole.take() {
                thingsee_out::tell_last_state(self, link);
            }
        }
        for link in self.links.borrow().values() {
            if link.wants_ping(&self.shared) {
                self.touch(link);
                self.note_ping(link);
                link.outbox.push_tick(|tick| link.form.get().write_ping(tick));
            }
        }
        told
    }

    /// Tells every client to come back later.
    pub(crate) fn drain(&self) {
        for link in self.links.borrow().values() {
            if link.principal().is_some() {
                self.answer(link, &Answer::Reconnect { after_ms: 1_000 });
            }
            link.close(CloseReason::Restart);
        }
    }
}
