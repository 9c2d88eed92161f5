//! Values of devices: written as telemetry, and read back out of what was reported and of the log.
//!
//! Invariant: a write is durable, and read by the next request, when it returns.

use std::{
    cell::OnceCell,
    cmp::Reverse,
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::{
    access::{Grant, Principal, Verb},
    dialect::{Draft, Target},
    fault::{Code, Fault},
    id::{DeviceId, Position, Seq, TenantId, UnixMs},
    message::{Content, Kind, Message, Priority, Qos},
    state::{Desired, Reported},
    topic::{Filter, Topic},
};
use fieldgate_dialects::{
    Telling,
    thethings::{self, Written},
};
use fieldgate_store::{AppendError, Entry, Log, ReadError, ReadFilter, Record};

use crate::{
    admit::admit,
    documents,
    fabric::{FULL_TRIES, FULL_WAIT, Shared, append_fault, message_of, now},
    rest::history_page::{self, Collect, Edge, Found, Wanted},
    thingsee_out,
};

/// A time that a device gave may be so far ahead of when it arrived.
const AHEAD_MS: u64 = 300_000;
/// So many values are looked at before the newest of them are told, as they may be out of order: for
/// each that is wanted, and beside that.
const SPREAD: usize = 4;
const SPREAD_MIN: usize = 100;
/// So long the log is looked at for one request; what is begun is finished.
const SEARCH_TIME: Duration = Duration::from_secs(2);

/// A value, and when it was so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) text: String,
    pub(super) time: UnixMs,
}

/// What values of a resource are wanted.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) limit: usize,
    pub(super) from: Option<UnixMs>,
    pub(super) to: Option<UnixMs>,
}

impl Range {
    /// Whether the newest value of all is wanted, and nothing else.
    const fn is_one(&self) -> bool {
        self.limit == 1 && self.from.is_none() && self.to.is_none()
    }

    fn holds(&self, time: UnixMs) -> bool {
        self.from.is_none_or(|from| from <= time) && self.to.is_none_or(|to| time <= to)
    }
}

/// Whoever may write values of a device, as the device's own dialect has them: its sender stays.
pub(super) fn writer(principal: &Principal, device: &DeviceId) -> Principal {
    let filter = || Filter::of_device(device);
    let verbs = [Verb::Impersonate, Verb::Publish];
    let more = verbs.map(|verb| Grant { deny: false, verb, filter: filter() });
    let grants = principal.grants.iter().cloned().chain(more).collect();
    Principal { grants, ..principal.clone() }
}

/// Stores values as telemetry of a device.
pub(super) async fn write(
    shared: &Shared,
    principal: &Principal,
    device: &DeviceId,
    written: &[Written],
) -> Result<(), Fault> {
    let mut tries = 0;
    let last = loop {
        let (time, topic) = (now(), OnceCell::new());
        let admit = |one: &Written| {
            let draft = draft(device, one);
            admit(shared, &topic, principal, draft, time).map(Record::Message)
        };
        let records = written.iter().map(admit).collect::<Result<Vec<_>, _>>()?;
        match shared.log.append(records, time) {
            Ok(range) => break Seq(*range.end()),
            Err(AppendError::Full) if tries < FULL_TRIES => tokio::time::sleep(FULL_WAIT).await,
            Err(error) => return Err(append_fault(&error)),
        }
        tries += 1;
    };
    shared.log.announce();
    shared.settled(last, true).await
}

fn draft(device: &DeviceId, written: &Written) -> Draft {
    Draft {
        target: Target::Topic(Topic::of_device(device, "telemetry")),
        timestamp: written.time,
        reference: None,
        // Who gets an answer is promised what it says.
        qos: Qos::AtLeastOnce,
        retain: false,
        priority: Priority::Normal,
        expires: None,
        content: Content::Json,
        payload: written.payload.clone(),
        original: None,
    }
}

/// The last value of each resource of a device, as its state has it.
pub(super) fn last(shared: &Shared, tenant: &TenantId, device: &DeviceId) -> Vec<Item> {
    let reported = shared.state.reported(tenant, device);
    let told = reported.map(|of| items(shared, &document(tenant, device, &of), None));
    told.unwrap_or_default()
}

fn document(tenant: &TenantId, device: &DeviceId, reported: &Reported) -> Message {
    documents::message(tenant, device, reported, &Desired::default())
}

fn items(shared: &Shared, message: &Message, wanted: Option<&str>) -> Vec<Item> {
    let known = |tenant: &TenantId, device: &str| thingsee_out::about(shared, tenant, device);
    let telling = Telling { names: shared.config.thethings.naming(), known: &known };
    let mut items = Vec::new();
    thethings::each_item(message, wanted, telling, |key, text, time| {
        items.push(Item { key: key.to_owned(), text: text.to_owned(), time });
    });
    items
}

/// What the state has of a resource.
#[derive(Debug, Default)]
struct Known {
    /// The newest first; more than one where the device has several names for it.
    items: Vec<Item>,
    /// Up to where the log may have newer ones: a value with a time of its own replaced what was there,
    /// which had none and may be of a later time.
    doubtful: Option<Seq>,
}

impl Known {
    fn of(shared: &Shared, tenant: &TenantId, device: &DeviceId, resource: &str) -> Self {
        let Some(reported) = shared.state.reported(tenant, device) else { return Self::default() };
        let mut items = items(shared, &document(tenant, device, &reported), Some(resource));
        items.sort_by_key(|item| Reverse(item.time));
        let is_one = |time| items.iter().any(|item| item.time == time);
        let origins = reported.present().map(|(_, resource)| resource.origin);
        let given = origins.filter(|origin| origin.is_given && is_one(origin.time));
        let doubtful = given.map(|origin| origin.seq).max();
        Self { items, doubtful }
    }
}

/// Until when the log is looked at for a request that begins now.
pub(super) fn search_end() -> Instant {
    Instant::now() + SEARCH_TIME
}

/// The newest values of a resource; nothing if the device has no such resource: neither its state, nor
/// the newest stretch of the log.
pub(super) async fn newest(
    shared: &Arc<Shared>,
    reader: &Principal,
    device: &DeviceId,
    resource: &str,
    range: Range,
) -> Result<Option<Vec<Item>>, Fault> {
    let known = Known::of(shared, &reader.tenant, device, resource);
    let until = search_end();
    if range.is_one() && !known.items.is_empty() {
        let newest = newest_of(shared, reader, device, resource, known, until).await?;
        return Ok(Some(newest.into_iter().collect()));
    }
    let limit = range.limit;
    let search = Search {
        arrived_from: range.from.map(|from| UnixMs(from.0.saturating_sub(AHEAD_MS))),
        up_to: None,
        is_there: !known.items.is_empty(),
        is_for_one: range.is_one(),
        enough: limit * SPREAD + SPREAD_MIN,
        range: range.clone(),
        until,
    };
    let mut found = search.run(shared, reader, device, resource).await?;
    if !found.is_there {
        return Ok(None);
    }
    // What the log has no more, or not in what was read of it.
    let is_new = |item: &Item| found.items.iter().all(|other| other.time != item.time);
    let kept = known.items.into_iter().filter(|item| range.holds(item.time) && is_new(item));
    let kept: Vec<_> = kept.collect();
    found.items.extend(kept);
    if !found.is_whole && found.items.len() < limit {
        let text = "looking for so many values takes too long: ask for fewer, or name startDate";
        return Err(Fault::new(Code::Busy, text));
    }
    found.items.sort_by_key(|item| Reverse(item.time));
    found.items.truncate(limit);
    Ok(Some(found.items))
}

/// The newest value of a resource that the state has. Where looking for it takes too long, it is the
/// one that came last.
pub(super) async fn newest_known(
    shared: &Arc<Shared>,
    reader: &Principal,
    device: &DeviceId,
    resource: &str,
    until: Instant,
) -> Result<Option<Item>, Fault> {
    let known = Known::of(shared, &reader.tenant, device, resource);
    newest_of(shared, reader, device, resource, known, until).await
}

async fn newest_of(
    shared: &Arc<Shared>,
    reader: &Principal,
    device: &DeviceId,
    resource: &str,
    known: Known,
    until: Instant,
) -> Result<Option<Item>, Fault> {
    let Some(last) = known.items.into_iter().next() else { return Ok(None) };
    let Some(doubtful) = known.doubtful.filter(|_| Instant::now() < until) else {
        return Ok(Some(last));
    };
    // What is newer came no earlier than it was so, but for clocks that are ahead: of a device that
    // tells the present time that is next to nothing of the log.
    let from = UnixMs(last.time.0.saturating_add(1));
    let search = Search {
        arrived_from: Some(from),
        up_to: Some(doubtful),
        is_there: true,
        is_for_one: true,
        enough: SPREAD + SPREAD_MIN,
        range: Range { limit: 1, from: Some(from), to: None },
        until,
    };
    let found = search.run(shared, reader, device, resource).await?;
    // Of several of one time the first that was found came last.
    let newer = found.items.into_iter().rev().max_by_key(|item| item.time);
    Ok(newer.or(Some(last)))
}

/// What is looked for in the log, the newest first.
struct Search {
    range: Range,
    /// No earlier than this it arrived.
    arrived_from: Option<UnixMs>,
    /// No later number is looked at.
    up_to: Option<Seq>,
    /// Whether the device has the resource for all that is known; else one stretch is looked at.
    is_there: bool,
    /// Whether the newest value is all that is wanted.
    is_for_one: bool,
    /// So many values are looked at.
    enough: usize,
    until: Instant,
}

impl Search {
    async fn run(
        self,
        shared: &Arc<Shared>,
        reader: &Principal,
        device: &DeviceId,
        resource: &str,
    ) -> Result<Collected, Fault> {
        let sender = shared.throttle.sender(reader);
        let busy = |_| Fault::new(Code::Busy, "the values were not read: try again");
        let turn = Arc::clone(&sender.log_turns).acquire_owned().await.map_err(busy)?;
        let collected = Collected {
            shared: Arc::clone(shared),
            resource: resource.to_owned(),
            is_there: self.is_there,
            search: self,
            items: Vec::new(),
            is_newest: false,
            is_whole: false,
        };
        let (tenant, device) = (reader.tenant.clone(), device.clone());
        let read = tokio::task::spawn_blocking(move || {
            // Whoever hangs up meanwhile keeps the turn until the log is left alone.
            let _turn = turn;
            collected.read(&tenant, &device)
        });
        let read = read.await.map_err(|_| Fault::new(Code::Busy, "the values were not read"))?;
        read.map_err(|error| {
            tracing::error!(%error, "values could not be read from the log");
            Fault::new(Code::StorageUnavailable, "the log could not be read")
        })
    }
}

/// Values that were found.
struct Collected {
    shared: Arc<Shared>,
    resource: String,
    search: Search,
    items: Vec<Item>,
    /// Whether the device has the resource.
    is_there: bool,
    /// Whether the newest value is among them: what came before one without a time of its own is of
    /// before.
    is_newest: bool,
    /// Whether nothing was left to look at.
    is_whole: bool,
}

impl Collect for Collected {
    fn is_full(&self) -> bool {
        self.items.len() >= self.search.enough || self.search.is_for_one && self.is_newest
    }

    fn push(&mut self, found: &Found) {
        let Found::Entry(entry) = found else { return };
        let Some(message) = of(entry) else { return };
        for item in items(&self.shared, message, Some(&self.resource)).into_iter().rev() {
            self.is_there = true;
            if self.search.range.holds(item.time) {
                self.is_newest |= !message.is_time_given;
                self.items.push(item);
            }
        }
    }
}

fn of(entry: &Entry) -> Option<&Message> {
    message_of(entry).filter(|message| matches!(message.kind, Kind::Telemetry | Kind::Reported))
}

impl Collected {
    /// Reads until there is enough, or for long enough.
    fn read(mut self, tenant: &TenantId, device: &DeviceId) -> Result<Self, ReadError> {
        let log = &*Arc::clone(&self.shared.log);
        let filter = |leaf| Filter::from(&Topic::of_device(device, leaf));
        // What came before the wanted time is of before.
        let from = self.search.arrived_from;
        let mut wanted = Wanted {
            filter: ReadFilter {
                tenant: Some(tenant.clone()),
                filters: vec![filter("telemetry"), filter("state/reported")],
                arrived_from: from,
                arrived_until: None,
            },
            from: from.map(Edge::Time),
            to: self.search.up_to.map(Edge::At),
            after: None,
            newest_first: true,
            limit: self.search.enough,
        };
        loop {
            let left = history_page::walk(log, &wanted, &mut self)?;
            self.is_whole = left.is_none();
            let may_go_on = self.is_there && !self.is_full() && Instant::now() < self.search.until;
            let Some(seq) = left.filter(|_| may_go_on) else { return Ok(self) };
            wanted.after = Some(Position { epoch: log.epoch(), seq });
        }
    }
}
