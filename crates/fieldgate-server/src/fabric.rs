//! What all threads of the gateway share: log, state, routing table, workers, and who is connected.
//!
//! Locks here are held for a look-up or an insertion, never over IO or an await.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fieldgate_core::{
    audit::Act,
    fault::{Code, Fault},
    id::{Position, Seq, TenantId, UnixMs},
    index::Index,
    topic::Filter,
};
use fieldgate_store::{
    AppendError, Entry, Log, Record, Store, TablesStatus,
    audit::Author,
    log::{LocalLog, Recovery},
    registry::RegistryChange,
    state::State,
};

use crate::{
    auth::Auth,
    config::{Config, LiveConfig},
    deconz::{self, Bridge, unlock::Unlock},
    deliver::Deliveries,
    documents::Documents,
    forwarded::Proxies,
    ingest::Gateways,
    integrations::Integrations,
    kamea::Service,
    ledger::{self, Ledger},
    metrics::Stats,
    outcomes::Outcomes,
    present::{LinkRef, Present},
    refusals::{self, Refusal, Refusals},
    repeats::Repeats,
    share::Share,
    socketio::Sessions,
    thingsee_out::Followed,
    throttle::{Throttle, open_files_max},
    tickets::Tickets,
    waiters::Waiters,
    wishes::Wishes,
    worker::{self, Control, Inbox},
};

/// How long whoever may wait does so before it tries a full log again.
pub(crate) const FULL_WAIT: Duration = Duration::from_millis(1);
/// How far behind routing may be for somebody to wait for it.
pub(crate) const BEHIND_MAX: Duration = Duration::from_secs(1);
/// How often a request does so before it is told to come back.
pub(crate) const FULL_TRIES: usize = 20;

/// Which subscriptions there are, and how far routing has come. Both under one lock, so that a
/// subscription knows exactly from which number on it is live.
#[derive(Debug, Default)]
pub(crate) struct Routing {
    pub(crate) tenants: HashMap<TenantId, Index<(usize, u32)>>,
    pub(crate) routed: Seq,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: Arc<LocalLog>,
    pub(crate) state: Arc<State>,
    pub(crate) tables: Arc<TablesStatus>,
    /// What opening the log found.
    pub(crate) recovery: Recovery,
    pub(crate) started: Instant,
    pub(crate) config: LiveConfig,
    pub(crate) ledger: Ledger,
    pub(crate) stats: Stats,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) draining: AtomicBool,
    /// The bound addresses, by listener name; set once everything is bound.
    pub(crate) listeners: std::sync::OnceLock<serde_json::Value>,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) proxies: Proxies,
    pub(crate) auth: Auth,
    /// What waits for slow receivers, and the unfinished frames of all links.
    pub(crate) outboxes: Arc<Share>,
    pub(crate) inputs: Arc<Share>,
    pub(crate) present: Present,
    pub(crate) outcomes: Outcomes,
    pub(crate) refusals: Refusals,
    pub(crate) tickets: Tickets,
    pub(crate) wishes: Wishes,
    pub(crate) documents: Documents,
    pub(crate) groups_followed: Followed,
    pub(crate) repeats: Repeats,
    pub(crate) integrations: Integrations,
    /// When devices of sources were last said to have moved.
    pub(crate) gateways: Gateways,
    pub(crate) deliveries: Deliveries,
    /// What a worker has done away from its thread.
    pub(crate) runtime: tokio::runtime::Handle,
    /// Socket.IO sessions that requests carry.
    pub(crate) sessions: Sessions,
    /// Who says what Kamea clients may see.
    pub(crate) kamea: Service,
    /// Whether deCONZ apps may make keys for themselves.
    pub(crate) unlock: Unlock,
    /// What deCONZ apps see, if they are served.
    pub(crate) bridge: Option<Bridge>,
    routing: Mutex<Routing>,
    /// Up to here the state has the log.
    applied: AtomicU64,
    next_worker: AtomicUsize,
    /// Who waits until something is durable, or applied.
    for_durable: Waiters,
    for_applied: Waiters,
}

impl Shared {
    pub(crate) fn routing(&self) -> MutexGuard<'_, Routing> {
        self.routing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn position(&self, seq: Seq) -> Position {
        Position { epoch: self.log.epoch(), seq }
    }

    pub(crate) fn subscribe(&self, tenant: &TenantId, filter: &Filter, at: (usize, u32)) -> Seq {
        let mut routing = self.routing();
        routing.tenants.entry(tenant.clone()).or_default().insert(filter, at);
        routing.routed
    }

    pub(crate) fn unsubscribe(&self, tenant: &TenantId, filter: &Filter, at: (usize, u32)) {
        if let Some(index) = self.routing().tenants.get_mut(tenant) {
            index.remove(filter, at);
        }
    }

    pub(crate) fn tell(&self, link: LinkRef, control: Control) {
        if let Some(inbox) = self.inboxes.get(link.worker) {
            inbox.control(control);
        }
    }

    /// The router has applied and routed everything up to `seq`: tells who waits for it.
    pub(crate) fn set_applied(&self, seq: Seq) {
        // First said, then looked who waits; who waits says so first, then looks again.
        self.applied.store(seq.0, Ordering::SeqCst);
        self.inboxes.iter().for_each(|inbox| inbox.applied(seq));
        self.for_applied.moved(seq.0);
    }

    /// The state has everything up to here.
    pub(crate) fn applied(&self) -> Seq {
        Seq(self.applied.load(Ordering::SeqCst))
    }

    /// Waits until the state has everything up to `seq`.
    pub(crate) async fn for_applied(&self, seq: Seq) {
        self.for_applied.until(seq.0, || self.applied().0).await;
    }

    /// Whether the state has everything up to `seq`. If not, the worker hears of it when it has.
    pub(crate) fn is_applied_for(&self, worker: usize, seq: Seq) -> bool {
        let is_applied = || self.applied() >= seq;
        is_applied()
            || self.inboxes.get(worker).is_some_and(|inbox| {
                inbox.set_awaited(seq);
                is_applied()
            })
    }

    /// Hands a new connection to the next worker in turn.
    pub(crate) fn hand_over(&self, handover: worker::Handover) {
        let turn = self.next_worker.fetch_add(1, Ordering::Relaxed) % self.inboxes.len().max(1);
        if let Some(inbox) = self.inboxes.get(turn) {
            inbox.control(Control::Handover(Box::new(handover)));
        }
    }

    /// Appends one record and waits until it is durable and its turn has come.
    pub(crate) async fn append_durable(&self, record: Record) -> Result<Seq, Fault> {
        let range = loop {
            match self.log.append(vec![record.clone()], now()) {
                Ok(range) => break range,
                Err(AppendError::Full) => tokio::time::sleep(FULL_WAIT).await,
                Err(error) => return Err(append_fault(&error)),
            }
        };
        let seq = Seq(*range.end());
        self.settled(seq, true).await?;
        Ok(seq)
    }

    /// Waits until a record is durable and, if asked for, applied.
    pub(crate) async fn settled(&self, seq: Seq, applied: bool) -> Result<(), Fault> {
        self.for_durable.until(seq.0, || self.log.durable().0).await;
        if applied {
            self.for_applied(seq).await;
        }
        if self.log.is_refused(seq) {
            return Err(Fault::new(Code::StorageUnavailable, "the disk failed"));
        }
        Ok(())
    }

    /// Waits until the state has what is durable now: whoever was told that something is stored reads
    /// it. Who is asked while routing is further behind than [`BEHIND_MAX`] tells what there is.
    pub(crate) async fn caught_up(&self) {
        let durable = self.log.durable();
        if self.applied() < durable {
            let _late = tokio::time::timeout(BEHIND_MAX, self.for_applied(durable)).await;
        }
    }

    /// Changes the registry: durable and decided when this returns.
    pub(crate) async fn change_registry(&self, change: RegistryChange) -> Result<Seq, Fault> {
        change.check_new()?;
        let seq = self.append_durable(Record::Registry(Box::new(change))).await?;
        self.outcome(seq).map(|()| seq)
    }

    /// Counts a refusal, for the audit of the tenant that it is about, if there is one.
    pub(crate) fn refuse(&self, mut refusal: Refusal) {
        if !self.state.has_tenant(&refusal.tenant) {
            refusal.tenant = TenantId::default_tenant();
        }
        self.refusals.count(refusal);
    }

    /// A wrong credential came from this address.
    pub(crate) fn wrong_credential(&self, address: IpAddr, tenant: TenantId, target: String) {
        self.throttle.failed(address);
        self.stats.auth_failures.fetch_add(1, Ordering::Relaxed);
        let author = Author { name: String::new(), address: Some(address) };
        let (act, code) = (Act::Authenticate, Code::NotAllowed);
        self.refuse(Refusal { tenant, author, act, code, target });
    }

    /// How a change of the registry ended whose turn has come.
    pub(crate) fn outcome(&self, seq: Seq) -> Result<(), Fault> {
        let unknown = || Err(Fault::new(Code::Busy, "the outcome of this change is not known"));
        self.state.outcome(seq).unwrap_or_else(unknown)
    }
}

/// What a client is told when the log does not take its message.
pub(crate) fn append_fault(error: &AppendError) -> Fault {
    match error {
        AppendError::Full => Fault::new(Code::QueueFull, "the log's intake is full: try again"),
        AppendError::TooLarge { .. } => Fault::new(Code::TooLarge, error.to_string()),
        AppendError::Unavailable(why) => Fault::new(Code::StorageUnavailable, *why),
        _ => Fault::new(Code::StorageUnavailable, error.to_string()),
    }
}

/// The wall clock.
pub(crate) fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The running threads.
#[derive(Debug)]
pub(crate) struct Fabric {
    pub(crate) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    // Dropped in this order: the last drops are written while the folder is still ours.
    _keeper: ledger::Keeper,
    _store: Store,
}

impl Fabric {
    /// Starts the router and the workers.
    pub(crate) fn start(config: Config, store: Store, worker_count: usize) -> io::Result<Self> {
        let (ledger, keeper) = Ledger::open(&store.folder.join("ledger"))?;
        let shared = Arc::new(Shared {
            log: Arc::clone(&store.log),
            state: Arc::clone(&store.state),
            tables: Arc::clone(&store.tables),
            recovery: store.recovery,
            started: Instant::now(),
            throttle: Arc::new(Throttle::new(&config.limits, open_files_max())),
            proxies: Proxies::new(&config.listen.trusted_proxies),
            auth: Auth::open(&config.auth)?,
            outboxes: Share::new(config.limits.outbox_total_bytes_max),
            inputs: Share::new(config.limits.input_total_bytes_max),
            bridge: Bridge::of(&config, store.state.master_key()),
            config: config.into(),
            ledger,
            stats: Stats::default(),
            inboxes: (0..worker_count.max(1)).map(|_| Arc::new(Inbox::default())).collect(),
            draining: AtomicBool::new(false),
            listeners: std::sync::OnceLock::new(),
            routing: Mutex::new(Routing { routed: store.applied, ..Routing::default() }),
            applied: AtomicU64::new(store.applied.0),
            present: Present::default(),
            outcomes: Outcomes::default(),
            refusals: Refusals::default(),
            tickets: Tickets::default(),
            wishes: Wishes::default(),
            documents: Documents::default(),
            integrations: Integrations::default(),
            gateways: Gateways::default(),
            groups_followed: Followed::default(),
            deliveries: Deliveries::default(),
            runtime: tokio::runtime::Handle::current(),
            sessions: Sessions::default(),
            kamea: Service::default(),
            unlock: Unlock::default(),
            repeats: Repeats::default(),
            next_worker: AtomicUsize::new(0),
            for_durable: Waiters::default(),
            for_applied: Waiters::default(),
        });
        for (tenant, info) in shared.state.tenants() {
            shared.throttle.tenants.set(&tenant, &info.limits);
        }
        let weak = Arc::downgrade(&shared);
        shared.log.on_durable(Arc::new(move |frontier| {
            if let Some(shared) = weak.upgrade() {
                shared.inboxes.iter().for_each(|inbox| inbox.durable_moved());
                shared.for_durable.moved(frontier.durable.0);
            }
        }));
        let mut threads = Vec::new();
        let follow = shared.log.follow(store.applied);
        threads.push(std::thread::Builder::new().name("router".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || crate::router::run(&shared, follow)
        })?);
        if shared.bridge.is_some() {
            let (shared, from) = (Arc::clone(&shared), store.applied);
            let builder = std::thread::Builder::new().name("mirror".to_owned());
            threads.push(builder.spawn(move || deconz::run(&shared, from))?);
        }
        for number in 0..shared.inboxes.len() {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("worker-{number}"));
            threads.push(builder.spawn(move || worker::run(&shared, number))?);
        }
        Ok(Self { shared, threads: Mutex::new(threads), _keeper: keeper, _store: store })
    }

    /// Tells clients to come back later, closes their connections, and closes the log.
    pub(crate) async fn drain(&self, grace: Duration) {
        let shared = &self.shared;
        shared.draining.store(true, Ordering::SeqCst);
        shared.inboxes.iter().for_each(|inbox| inbox.control(Control::Drain));
        let deadline = tokio::time::Instant::now() + grace;
        while shared.throttle.open_count() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let left = shared.throttle.open_count();
        if left > 0 {
            tracing::warn!(connections = left, "grace is over: connections are cut");
        }
        shared.inboxes.iter().for_each(|inbox| inbox.control(Control::Stop));
        refusals::enter(shared, now(), true);
        let log = Arc::clone(&shared.log);
        if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
            tracing::error!("closing the log panicked");
        }
        if let Some(bridge) = &shared.bridge {
            bridge.end();
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        if joined.await.unwrap_or(1) > 0 {
            tracing::error!("a thread of the gateway had panicked");
        }
    }
}

/// The entry of a message, for those who know that it is one.
pub(crate) fn message_of(entry: &Entry) -> Option<&fieldgate_core::message::Message> {
    match &entry.record {
        Record::Message(message) => Some(message),
        Record::Command(_) | Record::Registry(_) | Record::Note(_) | Record::Gap { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use serde_json::json;

    use super::*;
    use crate::testing::{Gateway, until};

    #[tokio::test]
    async fn who_asks_while_routing_stands_still_waits_a_second_and_then_reads_what_there_is() {
        let gateway = Gateway::start(&[], 1).await;
        let token = gateway.device("d").await;
        let mut device = gateway.connect(&token).await;
        let shared = gateway.shared();
        let (held, holds) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let holder = std::thread::spawn({
            let shared = Arc::clone(shared);
            move || {
                let _routing = shared.routing();
                held.send(()).unwrap();
                wait.recv().unwrap();
            }
        });
        holds.recv().unwrap();
        device.send(json!({"type": "status", "msgid": "a", "data": {"t": 1}})).await;
        assert_eq!(device.next().await["type"], "ack", "it needs the disk alone");
        tokio::time::pause();
        let asked = tokio::time::Instant::now();
        shared.caught_up().await;
        assert!(asked.elapsed() >= BEHIND_MAX && shared.applied() < shared.log.durable());
        assert!(shared.for_applied.is_empty(), "who gave up waits no more");
        let asked = tokio::time::Instant::now();
        let state = gateway.running.admin("GET", "/v1/devices/d/state", Vec::new()).await;
        assert_eq!(state.unwrap().0, 404, "nothing is routed");
        assert!(asked.elapsed() >= BEHIND_MAX, "who asks on this machine waits as well");
        tokio::time::resume();
        go_on.send(()).unwrap();
        until("what was acknowledged", || shared.applied() >= shared.log.durable()).await;
        holder.join().unwrap();
    }
}
