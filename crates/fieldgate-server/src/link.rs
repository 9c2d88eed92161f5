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
    time::Instant,
};

use fieldgate_core::{
    access::Principal,
    admission::NoPlace,
    close::CloseReason,
    id::{DeviceId, Seq, TenantId},
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
    socketio::Session,
    subscriptions::Subscriptions,
    thingsee_out::Following,
    throttle::{Permit, Sender},
};

#[cfg(test)]
pub(crate) use serve::TAKEOVER_WAIT;
pub(crate) use serve::{run, run_within};

/// How long a Socket.IO session may be nobody's: its client may ask a person first.
const JOIN_MS: u64 = 45_000;

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    /// What it is sent; of Socket.IO, changed with the rooms that it is in.
    pub(crate) form: Cell<Form>,
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
    /// How much older it is than its clock says.
    #[cfg(test)]
    pub(crate) late_ms: Cell<u64>,
    /// What its principal may send, from the first message on.
    sender: OnceCell<Arc<Sender>>,
    /// Whether the frame that is tried again was counted.
    pub(crate) paid: Cell<bool>,
    permit: RefCell<Option<Permit>>,
    /// Of Socket.IO: what its session is.
    pub(crate) session: Option<Box<Session>>,
    /// Of a source: devices that the log is to decide about before its frame is tried again.
    pub(crate) brought: RefCell<Option<Box<Brought>>>,
    /// Of a source: the newest number of what it sent: a pong waits until that is stored.
    pub(crate) taken: Cell<Seq>,
    /// Of a source: up to which number of those a pong waits.
    pub(crate) ponged: Cell<Seq>,
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
    /// A connection that is nobody's yet.
    pub(crate) fn new(
        hub: &Hub,
        (socket, form): (Socket, Form),
        (peer, permit): (std::net::IpAddr, Option<Permit>),
        session: Option<Box<Session>>,
    ) -> Self {
        Self {
            id: hub.next_id(),
            form: Cell::new(form),
            socket,
            outbox: Outbox::new(hub.shared.config.limits.outbox_bytes_max, &hub.shared.outboxes),
            touched: Cell::new(false),
            delivered: Cell::new(Seq(0)),
            overlap: Cell::new((Seq(0), Qos::AtMostOnce)),
            unpaced: Cell::new(Seq(0)),
            paced: Cell::new(Seq(0)),
            behind: Cell::new(false),
            log_next: Cell::new(Seq(0)),
            overtook: RefCell::default(),
            subscriptions: RefCell::default(),
            documents: RefCell::default(),
            documents_flow: Cell::new(false),
            hole: Cell::new(false),
            following: RefCell::default(),
            offered: RefCell::default(),
            held_back: Cell::new(false),
            offered_bytes: Cell::new(0),
            acknowledges: Cell::new(form == Form::V1),
            predecessors: RefCell::default(),
            served: Cell::new(None),
            turn_frames: Cell::new(0),
            #[cfg(test)]
            breaks: Cell::new(false),
            #[cfg(test)]
            late_ms: Cell::new(0),
            sender: OnceCell::new(),
            paid: Cell::new(false),
            permit: RefCell::new(permit),
            session,
            brought: RefCell::default(),
            taken: Cell::new(Seq(0)),
            ponged: Cell::new(Seq(0)),
            own_telemetry: OnceCell::new(),
            started: Instant::now(),
            peer,
            principal: RefCell::new(None),
            proving: RefCell::default(),
            signing: RefCell::default(),
            closing: Cell::new(None),
            notify: Notify::new(),
            heard_ms: Cell::new(0),
            pinged_ms: Cell::new(0),
            errors: Cell::new((0, 0)),
            limited: Cell::default(),
        }
    }

    pub(crate) fn principal(&self) -> Option<Rc<Principal>> {
        self.principal.borrow().clone()
    }

    pub(crate) fn set_principal(&self, mut principal: Principal) -> Rc<Principal> {
        // Each message has the name of its tenant: a copy of its own for each link, so that cores that
        // count the owners of one do not wait for each other.
        principal.tenant = principal.tenant.copied();
        let principal = Rc::new(principal);
        *self.principal.borrow_mut() = Some(Rc::clone(&principal));
        principal
    }

    /// Numbers will not come. A form that can say so does.
    pub(crate) fn note_hole(&self) {
        let form = self.form.get();
        self.hole.set(form.is_told_by_state() || form.is_session());
    }

    /// Whether it only receives: it sends nothing, and takes no commands.
    pub(crate) fn is_stream(&self) -> bool {
        self.form.get().only_receives()
    }

    pub(crate) fn age_ms(&self) -> u64 {
        self.age_ms_at(Instant::now())
    }

    fn age_ms_at(&self, at: Instant) -> u64 {
        let age_ms = u64::try_from((at - self.started).as_millis()).unwrap_or(u64::MAX);
        #[cfg(test)]
        let age_ms = age_ms + self.late_ms.get();
        age_ms
    }

    /// Ends the connection for this reason, unless it ends already.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.closing.get().is_none() {
            self.closing.set(Some(reason));
            self.outbox.freed().tell();
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

    /// The link whose socket it has, if it is the second namespace of a session.
    pub(crate) const fn carrier(&self) -> Option<&Rc<Self>> {
        match &self.socket {
            Socket::Within(within) => Some(within.carrier()),
            Socket::Tcp(_) | Socket::Tls(_) | Socket::Pipe(_) | Socket::Polling(_) => None,
        }
    }

    /// Whether the connection is somebody's: its own, or in its second namespace.
    pub(crate) fn is_known(&self) -> bool {
        let session = self.session.as_ref();
        self.principal.borrow().is_some() || session.is_some_and(|session| session.is_carrying())
    }

    /// Whether its connection is one of this tenant already, by its other namespace.
    pub(crate) fn is_beside(&self, tenant: &TenantId) -> bool {
        match self.carrier() {
            Some(carrier) => carrier.principal().is_some_and(|first| first.tenant == *tenant),
            None => self.session.as_ref().is_some_and(|session| session.carries(tenant)),
        }
    }

    /// Moves it to those who proved who they are, if there is a place.
    pub(crate) fn authenticate(&self, takes_over: bool) -> Result<(), NoPlace> {
        if let Some(carrier) = self.carrier() {
            // Two namespaces are one connection, with one place.
            carrier.authenticate(takes_over)?;
            if let (Some(session), Some(principal)) = (&carrier.session, self.principal()) {
                session.carry(&principal.tenant);
            }
            carrier.wake();
            return Ok(());
        }
        let mut permit = self.permit.borrow_mut();
        permit.as_mut().map_or(Ok(()), |permit| permit.authenticate(takes_over))?;
        if let Socket::Polling(polling) = &self.socket {
            polling.exchange().become_known();
        }
        Ok(())
    }

    /// Looks at what should have happened by now.
    pub(crate) fn on_tick(&self, shared: &Shared) {
        let now = self.age_ms();
        let expires = self.principal.borrow().as_ref().and_then(|principal| principal.expires);
        if self.socket.was_read() {
            self.heard_ms.set(now);
        }
        let auth_ms = self.session.as_ref().map_or(shared.config.limits.auth_ms, |_| JOIN_MS);
        // Of two namespaces one is enough for the connection to be somebody's, and its heart beats once.
        let is_within = self.carrier().is_some();
        if !is_within && !self.is_known() && now >= auth_ms {
            self.close(CloseReason::AuthTimeout);
        } else if expires.is_some_and(|end| end <= fabric::now()) {
            self.close(CloseReason::RightsWithdrawn);
        } else if !is_within
            && now.saturating_sub(self.heard_ms.get()) >= shared.config.heartbeat.silence_ms
        {
            self.close(CloseReason::HeartbeatTimeout);
        }
    }

    pub(crate) fn wants_ping(&self, shared: &Shared) -> bool {
        let now = self.age_ms();
        let due = now.saturating_sub(self.pinged_ms.get()) >= shared.config.heartbeat.ping_ms;
        if due {
            self.pinged_ms.set(now);
        }
        let is_pinged = match &self.session {
            // Clients of the older version ping themselves, of the newer expect it from the beginning.
            Some(session) => session.is_pinged() && self.carrier().is_none(),
            None => self.principal.borrow().is_some(),
        };
        due && is_pinged && !self.is_closing()
    }

    /// Whether something is left to send, in the outbox or in the socket's TLS session.
    pub(crate) fn has_unsent(&self) -> bool {
        self.outbox.has_waiting() || self.socket.has_unsent()
    }

    /// Writes as much of what waits as the socket takes.
    fn drain(&self, hub: &Hub) -> io::Result<()> {
        self.outbox.drain(&self.socket, &|item, ahead| hub.encode_item(self, item, ahead))
    }

    /// Waits until at least half of the outbox is free, and half of what its client has to acknowledge
    /// is, or the link ends.
    pub(crate) async fn room(&self) {
        while !self.is_closing() {
            if !self.outbox.has_room() {
                self.outbox.freed().next().await;
            } else if !self.is_kept_waiting().await {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
