//! Values of devices: written as telemetry, and read back out of what was reported and of the log.
//!
//! Invariant: a write is durable, and read by the next request, when it returns.

use std::{cell::OnceCell, sync::Arc};

use fieldgate_core::{
    access::{Grant, Principal, Verb},
    dialect::{Draft, Target},
    fault::{Code, Fault},
    id::{DeviceId, Position, Seq, TenantId, UnixMs},
    message::{Content, Kind, Message, Priority, Qos},
    state::Desired,
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
/// So many stretches of the log are read for one request.
const STRETCHES_MAX: usize = 8;

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

/// The last values of a device: of a resource, or of all.
pub(super) fn last(
    shared: &Shared,
    tenant: &TenantId,
    device: &DeviceId,
    wanted: Option<&str>,
) -> Vec<Item> {
    let reported = shared.state.reported(tenant, device);
    let nothing = Desired::default();
    let document = reported.map(|of| documents::message(tenant, device, &of, &nothing));
    document.map(|document| items(shared, &document, wanted)).unwrap_or_default()
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

/// The newest values of a resource; nothing if the device has no such resource.
pub(super) async fn newest(
    shared: &Arc<Shared>,
    reader: &Principal,
    device: &DeviceId,
    resource: &str,
    range: Range,
) -> Result<Option<Vec<Item>>, Fault> {
    let last = last(shared, &reader.tenant, device, Some(resource));
    if last.is_empty() {
        return Ok(None);
    }
    if range.limit == 1 && range.from.is_none() && range.to.is_none() {
        return Ok(Some(last));
    }
    let sender = shared.throttle.sender(reader);
    let busy = |_| Fault::new(Code::Busy, "the values were not read: try again");
    let turn = Arc::clone(&sender.log_turns).acquire_owned().await.map_err(busy)?;
    let collected = Collected {
        shared: Arc::clone(shared),
        resource: resource.to_owned(),
        enough: range.limit * SPREAD + SPREAD_MIN,
        range,
        items: Vec::new(),
    };
    let (tenant, device) = (reader.tenant.clone(), device.clone());
    let read = tokio::task::spawn_blocking(move || {
        // Whoever hangs up meanwhile keeps the turn until the log is left alone.
        let _turn = turn;
        collected.read(&tenant, &device)
    });
    let read = read.await.map_err(|_| Fault::new(Code::Busy, "the values were not read"))?;
    let (items, is_whole) = read.map_err(|error| {
        tracing::error!(%error, "values could not be read from the log");
        Fault::new(Code::StorageUnavailable, "the log could not be read")
    })?;
    if !is_whole {
        let text = "looking for so many values takes too long: ask for fewer, or name startDate";
        return Err(Fault::new(Code::Busy, text));
    }
    Ok(Some(items))
}

/// Values that were found.
struct Collected {
    shared: Arc<Shared>,
    resource: String,
    enough: usize,
    range: Range,
    items: Vec<Item>,
}

impl Collect for Collected {
    fn is_full(&self) -> bool {
        self.items.len() >= self.enough
    }

    fn push(&mut self, found: &Found) {
        let Found::Entry(entry) = found else { return };
        let Some(message) = of(entry) else { return };
        let found = items(&self.shared, message, Some(&self.resource)).into_iter().rev();
        let (from, to) = (self.range.from, self.range.to);
        let is_within = |item: &Item| {
            from.is_none_or(|from| from <= item.time) && to.is_none_or(|to| item.time <= to)
        };
        self.items.extend(found.filter(is_within));
    }
}

fn of(entry: &Entry) -> Option<&Message> {
    message_of(entry).filter(|message| matches!(message.kind, Kind::Telemetry | Kind::Reported))
}

impl Collected {
    /// Reads until there is enough; says whether what was found is all that is wanted.
    fn read(
        mut self,
        tenant: &TenantId,
        device: &DeviceId,
    ) -> Result<(Vec<Item>, bool), ReadError> {
        let log = &*Arc::clone(&self.shared.log);
        let filter = |leaf| Filter::from(&Topic::of_device(device, leaf));
        // What came before the wanted time is of before, but for clocks that were ahead.
        let from = self.range.from.map(|from| UnixMs(from.0.saturating_sub(AHEAD_MS)));
        let mut wanted = Wanted {
            filter: ReadFilter {
                tenant: Some(tenant.clone()),
                filters: vec![filter("telemetry"), filter("state/reported")],
                arrived_from: from,
                arrived_until: None,
            },
            from: from.map(Edge::Time),
            to: None,
            after: None,
            newest_first: true,
            limit: self.enough,
        };
        let mut left = None;
        for _ in 0..STRETCHES_MAX {
            left = history_page::walk(log, &wanted, &mut self)?;
            let Some(seq) = left.filter(|_| !self.is_full()) else { break };
            wanted.after = Some(Position { epoch: log.epoch(), seq });
        }
        let is_whole = left.is_none() || self.items.len() >= self.range.limit;
        self.items.sort_by_key(|item| std::cmp::Reverse(item.time));
        self.items.truncate(self.range.limit);
        Ok((self.items, is_whole))
    }
}
