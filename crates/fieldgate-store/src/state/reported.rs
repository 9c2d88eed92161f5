//! What devices reported: messages wait, and are merged when there is a reason to.
//!
//! A message costs the router a look-up and a push; its JSON is read when many of its device wait, when
//! the row is written, or when somebody asks. Merged is only what is durable, so that nothing is
//! written down that a failing disk refused. Nobody who pushes waits for somebody who merges.
//! Invariant: what is merged is what the log says up to a number that the device's state names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use fieldgate_core::{
    id::{DeviceId, Seq, TenantId},
    message::{Content, Kind, Message},
    state::{Bounds, Reported},
};

use super::{Effect, State, changes::Changes, tenants::Tenant};
use crate::{
    port::Log,
    record::{Entry, Record},
};

/// So many messages of a device wait at most, but for those that are not durable yet.
const WAITING_MAX: usize = 64;
/// Above so many bytes that wait, of all devices together, each message is merged at once.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Most devices of a tenant that are not in its registry and have a state.
const STRANGERS_MAX: usize = 10_000;
/// Refusals of so many devices are told apart until somebody takes them.
const REFUSED_MAX: usize = 1_024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the slots of a state have in common.
#[derive(Debug, Default)]
pub(super) struct Desk {
    bounds: Bounds,
    waiting_bytes: AtomicUsize,
    due: Mutex<Vec<Arc<Slot>>>,
    /// Of devices that somebody waits for, those that reported something.
    noticed: Mutex<Vec<Arc<Slot>>>,
    refused: Mutex<BTreeMap<(TenantId, Arc<str>), u64>>,
}

impl Desk {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Notes readings that had no room.
    fn refuse(&self, tenant: &TenantId, device: &str, count: usize) {
        if count == 0 {
            return;
        }
        let mut refused = lock(&self.refused);
        let key = (tenant.clone(), device.into());
        let is_full = refused.len() >= REFUSED_MAX && !refused.contains_key(&key);
        let key = if is_full { (tenant.clone(), "*".into()) } else { key };
        *refused.entry(key).or_default() += count as u64;
    }
}

/// The state of one device.
#[derive(Debug)]
pub(crate) struct Slot {
    tenant: TenantId,
    device: DeviceId,
    desk: Arc<Desk>,
    /// Locked before `waiting`.
    merged: Mutex<Arc<Reported>>,
    waiting: Mutex<Waiting>,
}

/// When a state was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Behind the message with this number.
    Behind(Seq),
    /// It is so.
    Now,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of their numbers.
    entries: Vec<Arc<Entry>>,
    byte_len: usize,
    /// Whether those who write rows know that there is something to write.
    is_changed: bool,
    is_due: bool,
    /// Whether somebody may wait for what it reports. A new one is looked at once.
    is_watched: bool,
    is_noticed: bool,
    /// Up to here it was looked at.
    looked_at: Seq,
    /// The state that was looked at last, with what was not durable, so that no message is read again
    /// for each that follows it.
    seen: Option<Arc<Reported>>,
    /// What was merged since it was noticed.
    unseen: Vec<Arc<Entry>>,
}

impl Slot {
    fn new(tenant: TenantId, device: DeviceId, desk: Arc<Desk>, merged: Arc<Reported>) -> Self {
        let waiting = Waiting { is_watched: true, looked_at: merged.taken(), ..Waiting::default() };
        let (merged, waiting) = (Mutex::new(merged), Mutex::new(waiting));
        Self { tenant, device, desk, merged, waiting }
    }

    pub(super) const fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(super) const fn device(&self) -> &DeviceId {
        &self.device
    }

    pub(crate) fn key(&self) -> (TenantId, DeviceId) {
        (self.tenant.clone(), self.device.clone())
    }

    /// Takes a message; tells whether whoever writes rows must hear of it.
    fn push(self: &Arc<Self>, entry: &Arc<Entry>) -> bool {
        let byte_len = entry.record.memory_bytes();
        let total = self.desk.waiting_bytes.fetch_add(byte_len, Ordering::Relaxed) + byte_len;
        let mut waiting = lock(&self.waiting);
        waiting.entries.push(Arc::clone(entry));
        waiting.byte_len += byte_len;
        let is_due = waiting.entries.len() >= WAITING_MAX || total > WAITING_BYTES_MAX;
        if is_due && !std::mem::replace(&mut waiting.is_due, true) {
            lock(&self.desk.due).push(Arc::clone(self));
        }
        if waiting.is_watched {
            self.notice(&mut waiting);
        }
        !std::mem::replace(&mut waiting.is_changed, true)
    }

    fn notice(self: &Arc<Self>, waiting: &mut Waiting) {
        if !std::mem::replace(&mut waiting.is_noticed, true) {
            lock(&self.desk.noticed).push(Arc::clone(self));
        }
    }

    /// Somebody waits for what it reports, from now on.
    fn watch(self: &Arc<Self>) {
        let mut waiting = lock(&self.waiting);
        waiting.is_watched = true;
        self.notice(&mut waiting);
    }

    /// Nobody waits for what it reports any more.
    pub(super) fn unwatch(&self) {
        let mut waiting = lock(&self.waiting);
        (waiting.is_watched, waiting.is_noticed) = (false, false);
        (waiting.seen, waiting.unseen) = (None, Vec::new());
    }

    /// Shows the state behind each message that was not looked at yet, in their order, and then the
    /// state as it is, with what is not durable yet.
    pub(super) fn look(&self, log: &dyn Log, mut see: impl FnMut(&Reported, Moment)) {
        let (mut seen, entries, looked_at) = {
            let merged = lock(&self.merged);
            let mut waiting = lock(&self.waiting);
            waiting.is_noticed = false;
            let seen = waiting.seen.take().unwrap_or_else(|| Arc::clone(&merged));
            let mut entries = std::mem::take(&mut waiting.unseen);
            let first = waiting.entries.partition_point(|entry| entry.seq <= seen.taken());
            entries.extend(waiting.entries.iter().skip(first).cloned());
            let newest = entries.last().map_or(waiting.looked_at, |entry| entry.seq);
            (seen, entries, std::mem::replace(&mut waiting.looked_at, newest))
        };
        for entry in entries.iter().filter(|entry| !log.is_refused(entry.seq)) {
            merge_into(&mut seen, std::iter::once(entry), self.desk.bounds);
            if entry.seq > looked_at {
                see(&seen, Moment::Behind(entry.seq));
            }
        }
        see(&seen, Moment::Now);
        let mut waiting = lock(&self.waiting);
        // Where nothing waits it is what was merged.
        if waiting.is_watched && !waiting.entries.is_empty() {
            waiting.seen = Some(seen);
        }
    }

    /// Merges what is durable; what the log refused is forgotten. Tells whether something waits on.
    pub(crate) fn settle(&self, log: &dyn Log) -> (Arc<Reported>, bool) {
        let durable = log.frontier().durable;
        let mut merged = lock(&self.merged);
        let (entries, is_left) = {
            let mut waiting = lock(&self.waiting);
            let ready = waiting.entries.partition_point(|entry| entry.seq <= durable);
            let entries = if ready == waiting.entries.len() {
                std::mem::take(&mut waiting.entries)
            } else {
                waiting.entries.drain(..ready).collect()
            };
            let byte_len = entries.iter().map(|entry| entry.record.memory_bytes()).sum();
            waiting.byte_len -= byte_len;
            self.desk.waiting_bytes.fetch_sub(byte_len, Ordering::Relaxed);
            waiting.is_due = false;
            if waiting.is_noticed {
                waiting.seen.get_or_insert_with(|| Arc::clone(&merged));
                waiting.unseen.extend(entries.iter().cloned());
            }
            waiting.is_changed = !waiting.entries.is_empty();
            (entries, waiting.is_changed)
        };
        let stands = |entry: &&Arc<Entry>| !log.is_refused(entry.seq);
        self.merge(&mut merged, entries.iter().filter(stands));
        (Arc::clone(&merged), is_left)
    }

    /// All that is known, with what is not durable yet.
    fn view(&self) -> Arc<Reported> {
        let (mut seen, entries) = {
            let merged = lock(&self.merged);
            (Arc::clone(&merged), lock(&self.waiting).entries.clone())
        };
        merge_into(&mut seen, entries.iter(), self.desk.bounds);
        seen
    }

    fn merge<'a>(&self, merged: &mut Arc<Reported>, entries: impl Iterator<Item = &'a Arc<Entry>>) {
        let refused_count = merge_into(merged, entries, self.desk.bounds);
        self.desk.refuse(&self.tenant, self.device.as_str(), refused_count);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.desk.waiting_bytes.fetch_sub(waiting.byte_len, Ordering::Relaxed);
    }
}

/// How many readings had no room.
fn merge_into<'a>(
    merged: &mut Arc<Reported>,
    entries: impl Iterator<Item = &'a Arc<Entry>>,
    bounds: Bounds,
) -> usize {
    let mut refused_count = 0;
    for entry in entries {
        if let Record::Message(message) = &entry.record {
            refused_count += Arc::make_mut(merged).take(entry.seq, message, bounds);
        }
    }
    refused_count
}

/// The slots of a tenant.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_device: HashMap<DeviceId, Arc<Slot>>,
    /// How many of them the registry does not have.
    stranger_count: usize,
}

impl Slots {
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.by_device.values()
    }

    #[cfg(test)]
    pub(super) fn waiting_count(&self, device: &str) -> usize {
        self.by_device.get(device).map_or(0, |slot| lock(&slot.waiting).entries.len())
    }

    /// The registry has it from now on.
    pub(super) fn adopt(&mut self, device: &DeviceId) {
        if self.by_device.contains_key(device) {
            self.stranger_count = self.stranger_count.saturating_sub(1);
        }
    }

    /// The registry had it until now: nothing of it stays.
    pub(super) fn remove(&mut self, device: &DeviceId) {
        self.by_device.remove(device);
    }

    pub(super) fn get(&self, device: &DeviceId) -> Option<&Arc<Slot>> {
        self.by_device.get(device)
    }

    fn insert(&mut self, slot: Slot, is_stranger: bool) -> Arc<Slot> {
        let slot = Arc::new(slot);
        self.stranger_count += usize::from(is_stranger);
        self.by_device.insert(slot.device.clone(), Arc::clone(&slot));
        slot
    }
}

impl Tenant {
    /// The slot of a device that has none yet, if there may be one more.
    fn new_slot(&mut self, tenant: &TenantId, device: &str, desk: &Arc<Desk>) -> Option<Arc<Slot>> {
        let device: DeviceId = device.parse().ok()?;
        let is_stranger = !self.devices.contains_key(&device);
        if is_stranger && self.slots.stranger_count >= STRANGERS_MAX {
            return None;
        }
        let slot = Slot::new(tenant.clone(), device, Arc::clone(desk), Arc::default());
        Some(self.slots.insert(slot, is_stranger))
    }

    /// Takes a state as it was written down; the registry is there already.
    pub(super) fn restore_slot(
        &mut self,
        tenant: TenantId,
        device: DeviceId,
        desk: &Arc<Desk>,
        reported: Arc<Reported>,
    ) {
        let is_stranger = !self.devices.contains_key(&device);
        let slot = Slot::new(tenant, device, Arc::clone(desk), reported);
        self.slots.insert(slot, is_stranger);
    }
}

/// Tells whether a message says what its device is in.
pub(super) const fn is_report(message: &Message) -> bool {
    matches!(message.kind, Kind::Telemetry | Kind::Reported)
        && matches!(message.content, Content::Json)
}

impl State {
    /// Keeps a message that says what its device is in.
    pub(super) fn report(&self, entry: &Arc<Entry>, message: &Message, changes: &mut Changes) {
        let Some(device) = message.topic.device() else { return };
        let known = {
            let inner = self.read();
            let slots = inner.tenants.get(&message.tenant).map(|tenant| &tenant.slots);
            let slot = slots.and_then(|slots| slots.by_device.get(device));
            slot.map(|slot| slot.push(entry).then(|| Arc::clone(slot)))
        };
        let changed = known.unwrap_or_else(|| {
            let mut inner = self.write();
            let tenant = inner.tenants.entry(message.tenant.clone()).or_default();
            let slot = tenant.new_slot(&message.tenant, device, &self.desk);
            if slot.is_none() {
                self.desk.refuse(&message.tenant, device, 1);
            }
            slot.filter(|slot| slot.push(entry))
        });
        if let Some(slot) = changed {
            changes.slot(slot);
        }
    }

    /// Merges what waits longest. Called often by whoever applies, outside of locks.
    pub fn settle(&self, log: &dyn Log) -> Vec<Effect> {
        let noticed = std::mem::take(&mut *lock(&self.desk.noticed));
        let mut effects: Vec<Effect> =
            noticed.iter().flat_map(|slot| self.look(slot, log)).collect();
        let due = std::mem::take(&mut *lock(&self.desk.due));
        due.iter().for_each(|slot| drop(slot.settle(log)));
        let refused = std::mem::take(&mut *lock(&self.desk.refused));
        let effect = |((tenant, device), count)| Effect::ReportRefused { tenant, device, count };
        effects.extend(refused.into_iter().map(effect));
        effects
    }

    /// Somebody waits for what this device reports; what it has reported is looked at with the next
    /// [`Self::settle`].
    pub fn watch(&self, tenant: &TenantId, device: &DeviceId) {
        let inner = self.read();
        if let Some(slot) = inner.tenants.get(tenant).and_then(|t| t.slots.get(device)) {
            slot.watch();
        }
    }

    /// What a device reported, as far as it was routed; nothing if it never did.
    ///
    /// Costs the reading of what was not merged yet; do not ask on a worker for many devices at once.
    #[must_use]
    pub fn reported(&self, tenant: &TenantId, device: &DeviceId) -> Option<Arc<Reported>> {
        let slot = self.read().tenants.get(tenant)?.slots.by_device.get(device).cloned();
        slot.map(|slot| slot.view()).filter(|reported| reported.taken() > Seq(0))
    }
}
