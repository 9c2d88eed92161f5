//! A worker: one thread with its own runtime, where links and the hub that writes to them live.
//!
//! Other threads reach it through its [`Inbox`] alone. What is routed to a worker that does not keep
//! up is not queued without bound: past the bound its links read the range from the log. When its hub
//! panics, its links are closed and a new hub goes on with what waits.

use std::{
    any::Any,
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    future::poll_fn,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use fieldgate_core::{
    access::Principal,
    close::CloseReason,
    dialect::GapReason,
    id::{Seq, TenantId},
};
use fieldgate_dialects::wire::Form;
use fieldgate_store::{Entry, state::CommandMoved};
use tokio::sync::Notify;

use crate::{
    documents::Changed,
    fabric::Shared,
    hub::{Hub, RollCall},
    link,
    sink::Sink,
    socketio::{self, Handshake, Probing},
    subscriptions::StreamAsk,
};

/// Most messages that wait for a worker.
const ROUTED_LEN_MAX: usize = 65_536;
/// Frames for deCONZ clients that wait take so many bytes at most.
const PUSHED_BYTES_MAX: usize = 64 << 20;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

/// A message for some subscriptions of one worker.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) entry: Arc<Entry>,
    pub(crate) slots: Vec<u32>,
}

/// A new connection, its upgrade answered, or the answer begun that is its stream.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) sink: Sink,
    pub(crate) read_ahead: Bytes,
    pub(crate) form: Form,
    pub(crate) principal: Option<Principal>,
    pub(crate) peer: std::net::IpAddr,
    pub(crate) permit: crate::throttle::Permit,
    /// What it follows from the beginning on.
    pub(crate) stream: Option<Box<StreamAsk>>,
    /// Of Socket.IO: how its session began.
    pub(crate) session: Option<Box<Handshake>>,
}

/// What a worker must do beside delivering.
#[derive(Debug)]
pub(crate) enum Control {
    /// Serve this connection.
    Handover(Box<Handover>),
    /// A session may go over to this socket.
    Upgrade { link: u64, sink: Sink, probing: Probing },
    /// End a connection.
    Kick(u64, CloseReason),
    /// A command waits for the device of this connection.
    Command { link: u64, seq: Seq },
    /// A command of this connection's principal moved.
    CommandMoved { link: u64, moved: Box<CommandMoved> },
    /// The rights of this connection's principal changed.
    RightsChanged { link: u64 },
    /// Tell who is connected.
    RollCall(Box<RollCall>),
    /// Numbers that will not come.
    Gap(RangeInclusive<u64>, GapReason),
    /// Tell clients to come back later, and close.
    Drain,
    /// End the thread.
    Stop,
    /// Break the hub.
    #[cfg(test)]
    Panic,
    /// Break the task of a connection.
    #[cfg(test)]
    PanicLink(u64),
    /// So many ms pass for every connection.
    #[cfg(test)]
    Pass(u64),
}

/// Frames that were made for deCONZ clients, headers included, and how many they are.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// For all that listen; with it they have everything up to this number.
    All { frames: Bytes, count: u64, through: Seq },
    /// For one, which listens from now on.
    First { link: u64, frames: Bytes, count: u64, through: Seq },
    /// Some for all had no room here.
    Lost,
}

impl Pushed {
    const fn byte_len(&self) -> usize {
        match self {
            Self::All { frames, .. } => frames.len(),
            // Of these there is one for each connection.
            Self::First { .. } | Self::Lost => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    routed: Vec<Routed>,
    pushed: Vec<Pushed>,
    pushed_bytes: usize,
    overflowed_from: Option<Seq>,
    control: Vec<Control>,
    /// Names of devices: as many as there are, at most.
    documents: Changed,
    /// Tenants whose groups may have other devices.
    grouped: BTreeSet<TenantId>,
    durable: bool,
}

/// What a worker tells of its connections, twice a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// Bytes that wait in their outboxes.
    pub(crate) outbox_bytes: usize,
    /// How many read from the log because they do not keep up.
    pub(crate) behind_count: usize,
}

/// The only way into a worker, and what it tells of itself.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    notify: Notify,
    /// The lowest number whose application the worker waits for; above every number if none.
    awaited: AtomicU64,
    overflow_count: AtomicU64,
    told: Mutex<Told>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            notify: Notify::default(),
            awaited: AtomicU64::new(u64::MAX),
            overflow_count: AtomicU64::default(),
            told: Mutex::default(),
        }
    }
}

impl Inbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn control(&self, control: Control) {
        self.queue().control.push(control);
        self.notify.notify_one();
    }

    /// Documents changed that links here may follow.
    pub(crate) fn documents(&self, changed: &Changed) {
        self.queue().documents.extend(changed.iter().cloned());
        self.notify.notify_one();
    }

    /// The groups of a tenant may have other devices, and links here may follow them.
    pub(crate) fn groups_moved(&self, tenant: &TenantId) {
        self.queue().grouped.insert(tenant.clone());
        self.notify.notify_one();
    }

    #[cfg(test)]
    fn controls(&self, controls: Vec<Control>) {
        self.queue().control.extend(controls);
        self.notify.notify_one();
    }

    /// The durable frontier moved, or what the worker waited for is applied.
    pub(crate) fn durable_moved(&self) {
        self.queue().durable = true;
        self.notify.notify_one();
    }

    /// The worker waits until the state has this number. Once it has the lowest of those that are waited
    /// for, whoever waits for another says so again.
    pub(crate) fn set_awaited(&self, seq: Seq) {
        self.awaited.fetch_min(seq.0, Ordering::SeqCst);
    }

    /// The state has everything up to `seq`: wakes the worker if it waits for that.
    pub(crate) fn applied(&self, seq: Seq) {
        let none = |awaited| (awaited <= seq.0).then_some(u64::MAX);
        if self.awaited.fetch_update(Ordering::SeqCst, Ordering::SeqCst, none).is_ok() {
            self.durable_moved();
        }
    }

    /// Hands over frames for deCONZ clients; above a bound nothing more until they are taken.
    pub(crate) fn push(&self, pushed: Pushed) {
        let mut queue = self.queue();
        queue.pushed_bytes += pushed.byte_len();
        let is_cut = matches!(queue.pushed.last(), Some(Pushed::Lost));
        if queue.pushed_bytes <= PUSHED_BYTES_MAX {
            queue.pushed.push(pushed);
        } else if !is_cut {
            queue.pushed.push(Pushed::Lost);
        }
        drop(queue);
        self.notify.notify_one();
    }

    /// Messages that wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.queue().routed.len()
    }

    /// How often more came than may wait.
    pub(crate) fn overflow_count(&self) -> u64 {
        self.overflow_count.load(Ordering::Relaxed)
    }

    pub(crate) fn told(&self) -> Told {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    pub(crate) fn route(&self, mut routed: Vec<Routed>) {
        let mut queue = self.queue();
        if queue.overflowed_from.is_none() && queue.routed.len() + routed.len() > ROUTED_LEN_MAX {
            queue.overflowed_from = routed.first().map(|first| first.entry.seq);
            self.overflow_count.fetch_add(1, Ordering::Relaxed);
        }
        if queue.overflowed_from.is_none() {
            queue.routed.append(&mut routed);
        }
        drop(queue);
        self.notify.notify_one();
    }
}

/// Runs one worker until it is told to stop.
pub(crate) fn run(shared: &Arc<Shared>, number: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "a worker could not start");
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, serve(Arc::clone(shared), number));
}

async fn serve(shared: Arc<Shared>, number: usize) {
    let Some(inbox) = shared.inboxes.get(number).map(Arc::clone) else { return };
    // Kept here, so that what was not obeyed yet outlives the hub that should have.
    let controls = RefCell::default();
    let mut hub = Rc::new(Hub::new(shared, number));
    while let Err(panic) = caught(rounds(&inbox, &controls, &hub)).await {
        let why = panic.downcast_ref::<&str>().copied().unwrap_or("see above");
        tracing::error!(worker = number, why, "a hub panicked: its connections are closed");
        hub = Rc::new(hub.replaced());
    }
}

/// Runs a future until it is ready or panics.
async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    // What a panic may leave half done is the hub's, which is replaced.
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Serves until told to stop.
async fn rounds(inbox: &Inbox, controls: &RefCell<VecDeque<Control>>, hub: &Rc<Hub>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = inbox.notify.notified() => (),
            _ = tick.tick() => inbox.tell(hub.on_tick()),
        }
        // First the links that have something to read: without this a flood of messages would starve
        // them, and what becomes durable or is routed meanwhile leaves in the same write.
        tokio::task::yield_now().await;
        let Queue {
            routed,
            pushed,
            pushed_bytes: _,
            overflowed_from,
            control,
            documents,
            grouped,
            durable,
        } = std::mem::take(&mut *inbox.queue());
        controls.borrow_mut().extend(control);
        // Acknowledgements go first: a sender waits for them, a receiver does not know yet.
        if durable {
            hub.on_durable();
        }
        hub.deliver(&routed);
        pushed.into_iter().for_each(|pushed| hub.push(pushed));
        if let Some(from) = overflowed_from {
            hub.fall_behind(from);
        }
        let next = || controls.borrow_mut().pop_front();
        while let Some(control) = next() {
            if !obey(hub, control) {
                return;
            }
        }
        if !grouped.is_empty() {
            hub.groups_moved(&grouped);
        }
        if hub.tell_documents(documents) {
            inbox.notify.notify_one();
        }
        hub.flush();
    }
}

fn obey(hub: &Rc<Hub>, control: Control) -> bool {
    match control {
        Control::Handover(handover) => {
            tokio::task::spawn_local(link::run(Rc::clone(hub), handover));
        }
        Control::Upgrade { link, sink, probing } => socketio::upgrade(hub, link, sink, probing),
        Control::Kick(link, reason) => hub.kick(link, reason),
        Control::Command { link, seq } => hub.offer_command(link, seq),
        Control::CommandMoved { link, moved } => hub.tell_command(link, *moved),
        Control::RightsChanged { link } => hub.recheck(link),
        Control::RollCall(call) => hub.answer_roll(*call),
        Control::Gap(range, reason) => hub.tell_gap(&range, reason),
        Control::Drain => hub.drain(),
        Control::Stop => return false,
        #[cfg(test)]
        Control::Panic => panic!("as asked"),
        #[cfg(test)]
        Control::PanicLink(link) => hub.break_link(link),
        #[cfg(test)]
        Control::Pass(ms) => hub.pass(ms),
    }
    true
}

#[cfg(test)]
mod tests;
