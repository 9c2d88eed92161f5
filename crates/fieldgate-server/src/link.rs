//! One connection: its socket, its rights and its deadlines; [`serve`] is the task that reads it.
//!
//! The hub writes to a link directly. A link owns no buffer while idle: bytes are read into the
//! worker's scratch.

mod serve;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet},
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::{
    access::Principal,
    admission::NoPlace,
    close::CloseReason,
    id::{DeviceId, Seq},
    message::Qos,
    rate::Insistence,
    topic::Topic,
};
use fieldgate_dialects::wire::Form;
use tokio::sync::Notify;

use crate::{
    fabric::{self, Shared},
    hub::Hub,
    ingest::Brought,
    outbox::Outbox,
    present::Predecessor,
    prove::{Proving, Signing},
    sink::Socket,
    subscriptions::Subscriptions,
    thingsee_out::Following,
    throttle::{Permit, Sender},
};

#[cfg(test)]
pub(crate) use serve::TAKEOVER_WAIT;
pub(crate) use serve::run;

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) form: Form,
    pub(crate) socket: Socket,
    pub(crate) outbox: Outbox,
    pub(crate) touched: Cell<bool>,
    pub(crate) delivered: Cell<Seq>,
    pub(crate) overlap: Cell<(Seq, Qos)>,
    /// The newest number that went to a subscription without a pace, and to one with it.
    pub(crate) unpaced: Cell<Seq>,
    pub(crate) paced: Cell<Seq>,
    /// Whether it reads the log, and where it is there.
    pub(crate) behind: Cell<bool>,
    pub(crate) log_next: Cell<Seq>,
    /// What came ahead of its turn in the log.
    pub(crate) overtook: RefCell<BTreeSet<Seq>>,
    pub(crate) subscriptions: RefCell<Subscriptions>,
    /// Devices whose documents it is owed, and whether as the first ones of a subscription.
    pub(crate) documents: RefCell<BTreeMap<DeviceId, bool>>,
    /// Whether a task sends them.
    pub(crate) documents_flow: Cell<bool>,
    /// Whether numbers will not come of which its form cannot tell: it gets the last state instead.
    pub(crate) hole: Cell<bool>,
    /// The devices that it follows where those of a group are among them.
    pub(crate) following: RefCell<Option<Box<Following>>>,
    /// Commands that it was offered, and whether it has acknowledged them.
    pub(crate) offered: RefCell<BTreeMap<Seq, bool>>,
    /// Whether others wait until it has.
    pub(crate) held_back: Cell<bool>,
    /// Bytes of those that are not on their way yet.
    pub(crate) offered_bytes: Cell<usize>,
    pub(crate) acknowledges: Cell<bool>,
    /// Links of the same device that must have ended before this one is served.
    pub(crate) predecessors: RefCell<Vec<Predecessor>>,
    /// Up to here the state was when its turn came, if it has.
    pub(crate) served: Cell<Option<Seq>>,
    turn_frames: Cell<u32>,
    #[cfg(test)]
    pub(crate) breaks: Cell<bool>,
    /// What its principal may send, from the first message on.
    sender: OnceCell<Arc<Sender>>,
    /// Whether the frame that is tried again was counted.
    pub(crate) paid: Cell<bool>,
    permit: RefCell<Option<Permit>>,
    /// Of a source: devices that the log is to decide about before its frame is tried again.
    pub(crate) brought: RefCell<Option<Box<Brought>>>,
    /// Where a device's own telemetry goes, once it sent some.
    pub(crate) own_telemetry: OnceCell<Topic>,
    pub(crate) started: Instant,
    pub(crate) peer: std::net::IpAddr,
    principal: RefCell<Option<Rc<Principal>>>,
    /// A signed claim that is not settled, and what a settled one lets its frames be checked with.
    pub(crate) proving: RefCell<Option<Box<Proving>>>,
    pub(crate) signing: RefCell<Option<Box<Signing>>>,
    closing: Cell<Option<CloseReason>>,
    notify: Notify,
    heard_ms: Cell<u64>,
    pinged_ms: Cell<u64>,
    errors: Cell<(u64, u32)>,
    limited: Cell<Insistence>,
}

impl Link {
    pub(crate) fn principal(&self) -> Option<Rc<Principal>> {
        self.principal.borrow().clone()
    }

    pub(crate) fn set_principal(&self, principal: Principal) -> Rc<Principal> {
        let principal = Rc::new(principal);
        *self.principal.borrow_mut() = Some(Rc::clone(&principal));
        principal
    }

    /// Numbers will not come. A form that can say so does.
    pub(crate) fn note_hole(&self) {
        self.hole.set(self.form.is_thingsee());
    }

    /// Whether it only receives: it sends nothing, and takes no commands.
    pub(crate) fn is_stream(&self) -> bool {
        self.form.only_receives()
    }

    pub(crate) fn age_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Ends the connection for this reason, unless it ends already.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.closing.get().is_none() {
            self.closing.set(Some(reason));
        }
        self.notify.notify_one();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Counts an error of the client; ten in ten seconds end the connection.
    pub(crate) fn count_error(&self) {
        let now = self.age_ms();
        let (since, count) = self.errors.get();
        let (since, count) = if now > since + 10_000 { (now, 1) } else { (since, count + 1) };
        self.errors.set((since, count));
        if count >= 10 {
            self.close(CloseReason::ProtocolError);
        }
    }

    /// Notes that a message was over the rate; ten seconds of it end the connection.
    pub(crate) fn note_limited(&self) {
        let mut limited = self.limited.get();
        if limited.on_refusal(self.age_ms()) >= 10_000 {
            self.close(CloseReason::RateLimited);
        }
        self.limited.set(limited);
    }

    /// What is counted of its principal.
    pub(crate) fn sender(&self, hub: &Hub, principal: &Principal) -> &Arc<Sender> {
        self.sender.get_or_init(|| hub.shared.throttle.sender(principal))
    }

    /// Moves it to those who proved who they are, if there is a place.
    pub(crate) fn authenticate(&self, takes_over: bool) -> Result<(), NoPlace> {
        let mut permit = self.permit.borrow_mut();
        permit.as_mut().map_or(Ok(()), |permit| permit.authenticate(takes_over))
    }

    /// Looks at what should have happened by now.
    pub(crate) fn on_tick(&self, shared: &Shared) {
        let now = self.age_ms();
        let expires = self.principal.borrow().as_ref().and_then(|principal| principal.expires);
        if self.socket.was_read() {
            self.heard_ms.set(now);
        }
        if self.principal.borrow().is_none() && now >= shared.config.limits.auth_ms {
            self.close(CloseReason::AuthTimeout);
        } else if expires.is_some_and(|end| end <= fabric::now()) {
            self.close(CloseReason::RightsWithdrawn);
        } else if now.saturating_sub(self.heard_ms.get()) >= shared.config.heartbeat.silence_ms {
            self.close(CloseReason::HeartbeatTimeout);
        }
    }

    pub(crate) fn wants_ping(&self, shared: &Shared) -> bool {
        let now = self.age_ms();
        let due = now.saturating_sub(self.pinged_ms.get()) >= shared.config.heartbeat.ping_ms;
        if due {
            self.pinged_ms.set(now);
        }
        due && !self.is_closing() && self.principal.borrow().is_some()
    }

    /// Whether something is left to send, in the outbox or in the socket's TLS session.
    pub(crate) fn has_unsent(&self) -> bool {
        self.outbox.has_waiting() || self.socket.has_unsent()
    }

    /// Writes as much of what waits as the socket takes.
    fn drain(&self, hub: &Hub) -> io::Result<()> {
        self.outbox.drain(&self.socket, &|item, ahead| hub.encode_item(self, item, ahead))
    }

    /// Waits until at least half of the outbox is free, or the link ends.
    pub(crate) async fn room(&self) {
        while !self.is_closing() && self.outbox.byte_len() > self.outbox.bytes_max() / 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
