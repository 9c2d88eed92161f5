//! The deCONZ dialect (`docs/protocol/deconz.md`): one tenant as a deCONZ gateway, for apps of smart
//! homes. REST below `/api` and the push socket, both on `listen.deconz`.
//!
//! Devices are told as lights and sensors by the pure `dialects/deconz`; the mirror is the thread that
//! keeps them; what an app asks to be done is a command as any other.

mod access;
mod feed;
mod frames;
mod grouped;
mod listener;
mod mirror;
mod push;
mod rest;
mod shown;
pub(crate) mod unlock;
mod view;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{extract::Request, response::Response};
use fieldgate_core::{
    access::{Identity, Principal},
    id::{Seq, TenantId},
    message::Kind,
};
use fieldgate_store::{Followed, Log as _, Record, secret::MasterKey};

use self::{
    feed::{Feed, Told},
    listener::{Cursors, Listener},
    view::View,
};
use crate::{
    config::Config,
    fabric::{BEHIND_MAX, Shared, now},
    forwarded::Networks,
    http::Caller,
    hub::Hub,
    link::Link,
    present::LinkRef,
    waiters::Waiters,
};

pub(crate) use mirror::run;
pub(crate) use rest::{Examples, openapi, scene_called};

/// How often it is noted at most that an app was seen.
const SEEN_PERIOD: Duration = Duration::from_secs(600);
/// How long whoever changed something waits at most until apps see it.
const SHOWN_WAIT: Duration = Duration::from_secs(2);
/// The log has what was noted longer ago than this.
const RECENT: Duration = Duration::from_secs(60);
/// Most addresses of which it is remembered here.
const SEEN_MAX: usize = 65_536;

/// What requests, connections and the mirror share.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) tenant: TenantId,
    feed: Feed,
    /// Nothing until it is loaded.
    view: Mutex<Option<View>>,
    seen: Mutex<HashMap<(String, IpAddr), Instant>>,
    cursors: Mutex<Cursors>,
    /// The names of sensors that apps are making, which the log has not decided about yet.
    making: Mutex<HashSet<String>>,
    /// The newest record that the mirror was told of.
    fed: AtomicU64,
    /// Up to here apps see what is so, and who waits for that.
    shown: AtomicU64,
    for_shown: Waiters,
    /// The addresses from which anybody may listen.
    listed: Networks,
    /// Six bytes that stand for this gateway.
    mac: [u8; 6],
    /// The port of REST.
    port: OnceLock<u16>,
    /// Where apps are to open the push socket.
    push: OnceLock<Push>,
}

/// Where the push socket is.
#[derive(Debug)]
pub(crate) struct Push {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
}

impl Bridge {
    /// Nothing where there is no listener for it.
    pub(crate) fn of(config: &Config, master: &MasterKey) -> Option<Self> {
        if config.listen.deconz.is_empty() {
            return None;
        }
        let tenant = config.deconz.tenant.parse().unwrap_or_else(|_| TenantId::default_tenant());
        Some(Self {
            tenant,
            feed: Feed::default(),
            view: Mutex::default(),
            seen: Mutex::default(),
            cursors: Mutex::default(),
            making: Mutex::default(),
            fed: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            for_shown: Waiters::default(),
            listed: Networks::new(&config.deconz.push_allow),
            mac: mac_of(master, &config.deconz.tenant),
            port: OnceLock::new(),
            push: OnceLock::new(),
        })
    }

    fn view(&self) -> MutexGuard<'_, Option<View>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<(String, IpAddr), Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cursors(&self) -> MutexGuard<'_, Cursors> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn making(&self) -> MutexGuard<'_, HashSet<String>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a name from whoever else makes a sensor of it at the same time; nothing if somebody does.
    fn make(&self, unique_id: &str) -> Option<Making<'_>> {
        let unique_id = unique_id.to_ascii_lowercase();
        let is_free = self.making().insert(unique_id.clone());
        is_free.then(|| Making { bridge: self, unique_id })
    }

    /// Says where REST and the push socket are.
    pub(crate) fn set_places(&self, port: u16, push: Push) {
        let _set_once = self.port.set(port);
        let _set_once = self.push.set(push);
    }

    /// A scene was called, by whomever.
    pub(crate) fn scene_called(&self, group: u64, scene: u64) {
        self.feed.tell(Told::SceneCalled { group, scene });
    }

    fn set_shown(&self, seq: Seq) {
        self.shown.store(seq.0, Ordering::SeqCst);
        self.for_shown.moved(seq.0);
    }

    /// Waits until apps see what a record of the tenant did: whoever changed something finds it changed.
    async fn until_shown(&self, seq: Seq) {
        // It is done all the same, and told when it is seen.
        let _late = tokio::time::timeout(SHOWN_WAIT, self.for_shown(seq)).await;
    }

    /// Waits until apps see what the router has told of: whoever was told that something is stored
    /// reads it. Bounded as the wait for the router is.
    async fn caught_up(&self) {
        let fed = self.fed();
        let is_behind = self.shown.load(Ordering::SeqCst) < fed.0 && self.view().is_some();
        if is_behind {
            let _late = tokio::time::timeout(BEHIND_MAX, self.for_shown(fed)).await;
        }
    }

    async fn for_shown(&self, seq: Seq) {
        self.for_shown.until(seq.0, || self.shown.load(Ordering::SeqCst)).await;
    }

    fn fed(&self) -> Seq {
        Seq(self.fed.load(Ordering::SeqCst))
    }

    /// What the router applies.
    pub(crate) fn route(&self, steps: &[Followed]) {
        let ours = |step: &'_ &Followed| match step {
            Followed::Entry(entry) => self.concerns(&entry.record),
            Followed::Gap(..) => false,
        };
        let Some(Followed::Entry(newest)) = steps.iter().rev().find(ours) else { return };
        // First this: what has no room in the feed is read from the log up to here.
        self.fed.store(newest.seq.0, Ordering::SeqCst);
        self.feed.route(steps.iter().filter(ours).filter_map(|step| match step {
            Followed::Entry(entry) => Some(Arc::clone(entry)),
            Followed::Gap(..) => None,
        }));
    }

    fn concerns(&self, record: &Record) -> bool {
        match record {
            Record::Message(message) => {
                matches!(message.kind, Kind::Telemetry | Kind::Reported | Kind::Event)
                    && message.tenant == self.tenant
            }
            Record::Command(change) => change.tenant == self.tenant,
            Record::Registry(change) => change.tenant == self.tenant.as_str(),
            Record::Note(_) | Record::Gap { .. } => false,
        }
    }

    /// The connections of somebody are others than before.
    pub(crate) fn presence(&self, principal: &Principal) {
        let is_reached =
            matches!(principal.identity, Identity::Device { .. } | Identity::Source { .. });
        if is_reached && principal.tenant == self.tenant {
            self.feed.present(Arc::clone(&principal.name));
        }
    }

    /// A listening connection has read everything up to this number.
    pub(crate) fn has_read(&self, link: LinkRef, read: Seq) {
        self.feed.tell(Told::Read(link, read));
    }

    /// A connection ended.
    pub(crate) fn leave(&self, link: LinkRef) {
        self.feed.tell(Told::Leave(link));
    }

    /// Nothing comes any more.
    pub(crate) fn end(&self) {
        self.feed.end();
    }

    /// Up to where whoever listens has read everything; nothing of who may have done so before this life
    /// of the gateway alone: of a client that is not known, be it let in without a key, and of each that
    /// comes from an address that was known before. What others did there since says nothing of it.
    fn read_of(&self, listener: &Listener) -> Option<Seq> {
        let now = Instant::now();
        let mut cursors = self.cursors();
        if cursors.may_be_of_before(listener.address, now) {
            return None;
        }
        cursors.of(listener.address, now)
    }

    /// Whether a key was used from an address.
    fn knows(&self, shared: &Shared, key: &str, address: IpAddr) -> bool {
        let registered = shared.state.bridge_key(&self.tenant, key);
        registered.is_some_and(|key| key.addresses.contains_key(&told(address)))
            || self.seen().contains_key(&(key.to_owned(), address))
    }

    /// Somebody read everything up to this number by a request.
    fn note_read(&self, address: IpAddr, read: Seq) {
        self.cursors().on_read(address, read, Instant::now());
    }

    /// The keys that were used from an address not long ago. The log has them a moment later, and clients
    /// open the push socket within that moment.
    fn seen_at(&self, address: IpAddr) -> Vec<String> {
        let seen = self.seen();
        let here = seen.iter().filter(|((_, of), at)| *of == address && at.elapsed() < RECENT);
        here.map(|((key, _), _)| key.clone()).collect()
    }

    /// Notes that an app was seen, in the log too if that was not done a moment ago.
    fn note_seen(&self, shared: &Shared, key: &str, address: IpAddr) {
        let mut seen = self.seen();
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        let name = (key.to_owned(), address);
        if seen.get(&name).is_some_and(|noted| noted.elapsed() < SEEN_PERIOD) {
            return;
        }
        match shared.log.append(vec![mirror::seen(self, key, told(address))], now()) {
            Ok(_) => {
                seen.insert(name, Instant::now());
                shared.log.announce();
            }
            // It is said again with the next call.
            Err(error) => tracing::debug!(%error, "that an app was seen is not noted"),
        }
    }
}

/// A name that is kept, until the log has decided about its sensor.
#[derive(Debug)]
struct Making<'a> {
    bridge: &'a Bridge,
    unique_id: String,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.bridge.making().remove(&self.unique_id);
    }
}

/// The same as long as the data folder is; locally administered, of one station (IEEE 802).
fn mac_of(master: &MasterKey, tenant: &str) -> [u8; 6] {
    let [first, b, c, d, e, f, ..] = master.hash_bridge(&format!("gateway/{tenant}"));
    [(first & 0xfc) | 2, b, c, d, e, f]
}

/// An address as the registry has it.
fn told(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// A link of the push socket is there: it hears of changes from now on.
pub(crate) fn listen(hub: &Hub, link: &Link) {
    let (Some(bridge), Some(principal)) = (&hub.shared.bridge, link.principal()) else { return };
    let key = principal.name.strip_prefix(KEY_PREFIX).map(str::to_owned);
    let listener = Listener { link: hub.link_ref(link), key, address: link.peer, read: Seq(0) };
    bridge.feed.tell(Told::Join(listener));
}

/// What the name of an app begins with, before the id of its key.
const KEY_PREFIX: &str = "deconz:";

/// Answers a request on `listen.deconz`.
pub(crate) async fn answer(caller: &Caller, client: IpAddr, request: Request) -> Response {
    if push::is_upgrade(&request) {
        return push::open(caller, client, request);
    }
    rest::answer(caller, client, request).await
}

#[cfg(test)]
mod tests;
