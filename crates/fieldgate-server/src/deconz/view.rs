//! What apps see of a tenant: its devices as lights and sensors, and its groups.
//!
//! Written by the mirror's thread alone, in the order of the log; read by requests. Out: frames of what
//! changed. Invariant: a number leads to the part that has it as long as apps see that part.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::{
    dialect::CommandState,
    id::{DeviceId, Seq, TenantId},
    message::Message,
    state::Bounds,
};
use fieldgate_dialects::deconz::{Change, Clip, Device, Facts, Part};
use fieldgate_store::registry;

use super::{
    frames::Frames,
    grouped::Groups,
    shown::{Moved, Place, Shown},
};
use crate::{downlinks, fabric::Shared};

/// Most devices that are not in the registry.
const STRANGERS_MAX: usize = 10_000;
/// How long a device that did not answer a command is taken for unreachable, if nothing is heard of it.
const SILENCE: Duration = Duration::from_secs(30);
/// So many parts that went are told to who was away.
const GONE_MAX: usize = 1_000;

/// The tenant as apps see it.
#[derive(Debug)]
pub(super) struct View {
    tenant: TenantId,
    /// Everything up to here was looked at.
    pub(super) position: Seq,
    devices: BTreeMap<DeviceId, Shown>,
    /// How many of them are not in the registry.
    stranger_count: usize,
    lights: BTreeMap<u64, (DeviceId, Place)>,
    sensors: BTreeMap<u64, (DeviceId, Place)>,
    pub(super) groups: Groups,
    /// Devices whose lights may have been switched since groups were looked at.
    switched: BTreeSet<DeviceId>,
    /// Devices that did not answer.
    silent: BTreeSet<DeviceId>,
    /// Frames of what went lately, and behind which number.
    gone: VecDeque<(Seq, String)>,
    /// Devices that have parts without a number that nobody asked for yet.
    nameless: BTreeSet<DeviceId>,
    /// How large the state of a device may grow.
    bounds: Bounds,
    pub(super) frames: Frames,
}

impl View {
    /// What there is now. Nobody is told of it.
    pub(super) fn load(shared: &Shared, tenant: &TenantId, position: Seq) -> Self {
        let limits = &shared.config.limits;
        let bounds = Bounds { resources_max: limits.resources_per_device_max, ..Bounds::default() };
        let mut view = Self {
            tenant: tenant.clone(),
            position,
            devices: BTreeMap::new(),
            stranger_count: 0,
            lights: BTreeMap::new(),
            sensors: BTreeMap::new(),
            groups: Groups::default(),
            switched: BTreeSet::new(),
            silent: BTreeSet::new(),
            gone: VecDeque::new(),
            nameless: BTreeSet::new(),
            bounds,
            frames: Frames::default(),
        };
        let registered = shared.state.devices(tenant);
        let registered = registered.iter().filter_map(|device| device.id.parse().ok());
        let known = shared.state.known_devices(tenant, |_| true);
        let all: BTreeSet<DeviceId> = registered.chain(known).collect();
        for id in &all {
            view.enter(shared, id);
        }
        view.sweep_groups(shared);
        view.frames = Frames::default();
        view
    }

    /// The part with this number.
    pub(super) fn part(&self, is_light: bool, number: u64) -> Option<(&Shown, Place)> {
        let list = if is_light { &self.lights } else { &self.sensors };
        let (id, place) = list.get(&number)?;
        Some((self.devices.get(id)?, *place))
    }

    /// Every light or every sensor from this number on, by its number.
    pub(super) fn parts_from(
        &self,
        is_light: bool,
        from: u64,
    ) -> impl Iterator<Item = (u64, &Shown, Place)> {
        let list = if is_light { &self.lights } else { &self.sensors };
        list.range(from..).filter_map(|(number, (id, place))| {
            self.devices.get(id).map(|shown| (*number, shown, *place))
        })
    }

    /// The number of each light of a device.
    pub(super) fn lights_of(&self, id: &DeviceId) -> Vec<(u64, Place)> {
        let places = self.devices.get(id).into_iter().flat_map(Shown::places);
        let lights = places.filter(|((part, _), _)| part.is_light());
        lights.map(|(place, number)| (number, place)).collect()
    }

    /// A device that is not seen yet.
    fn enter(&mut self, shared: &Shared, id: &DeviceId) {
        let registered = shared.state.device(&self.tenant, id);
        let parts = shared.state.parts(&self.tenant, id);
        let facts = facts_of(id, registered.as_deref(), parts.as_deref());
        let reported = shared.state.reported(&self.tenant, id).unwrap_or_default();
        self.stranger_count += usize::from(registered.is_none());
        let device = Device::new(facts, (*reported).clone(), self.bounds);
        let mut shown = Shown::new(id.clone(), registered, device);
        shown.begin(parts.as_deref());
        let reachable = is_reachable(shared, &self.tenant, &mut shown);
        shown.device.set_reachable(reachable);
        let named: Vec<_> = shown.places().collect();
        if shown.wants_numbers() {
            self.nameless.insert(id.clone());
        }
        self.devices.insert(id.clone(), shown);
        self.note_moved(id, Moved { came: named, gone: Vec::new() });
    }

    fn note_moved(&mut self, id: &DeviceId, moved: Moved) {
        for (place, number) in moved.came {
            self.list(place.0).insert(number, (id.clone(), place));
            self.groups.set_dirty(place.0.is_light());
        }
        for (place, number, frame) in moved.gone {
            if self.gone.len() >= GONE_MAX {
                self.gone.pop_front();
            }
            self.gone.push_back((self.position.next(), frame));
            self.list(place.0).remove(&number);
            self.groups.set_dirty(place.0.is_light());
        }
    }

    fn list(&mut self, part: Part) -> &mut BTreeMap<u64, (DeviceId, Place)> {
        if part.is_light() { &mut self.lights } else { &mut self.sensors }
    }

    /// Does something to a device, and tells what changed by it.
    fn with(
        &mut self,
        shared: &Shared,
        id: &DeviceId,
        work: impl FnOnce(&mut Shown) -> Vec<Change>,
    ) {
        let Some(shown) = self.devices.get_mut(id) else { return };
        let changes = work(shown);
        if changes.is_empty() {
            return;
        }
        if changes.iter().any(is_switched) {
            self.switched.insert(id.clone());
        }
        let parts = shared.state.parts(&self.tenant, id);
        let moved = shown.tell(changes, parts.as_deref(), self.position, &mut self.frames);
        if shown.wants_numbers() {
            self.nameless.insert(id.clone());
        }
        self.note_moved(id, moved);
    }

    /// A message of a device.
    pub(super) fn on_message(&mut self, shared: &Shared, seq: Seq, message: &Message) {
        let Some(id) = message.topic.device().and_then(|id| id.parse::<DeviceId>().ok()) else {
            return;
        };
        if !self.devices.contains_key(&id) {
            if shared.state.device(&self.tenant, &id).is_none()
                && self.stranger_count >= STRANGERS_MAX
            {
                return;
            }
            // What this message says may be in the state already: then nobody would hear of it.
            self.enter_empty(shared, &id);
        }
        let (tenant, position) = (self.tenant.clone(), self.position);
        self.with(shared, &id, |shown| {
            let mut changes = Vec::new();
            if shown.silent.take().is_some() {
                let reachable = is_reachable(shared, &tenant, shown);
                changes = shown.set_reachable(reachable, position);
            }
            changes.extend(shown.device.take(seq, message));
            changes
        });
    }

    /// A device of which nothing was reported before this message.
    fn enter_empty(&mut self, shared: &Shared, id: &DeviceId) {
        let registered = shared.state.device(&self.tenant, id);
        let parts = shared.state.parts(&self.tenant, id);
        let facts = facts_of(id, registered.as_deref(), parts.as_deref());
        let device = Device::new(facts, fieldgate_core::state::Reported::default(), self.bounds);
        self.stranger_count += usize::from(registered.is_none());
        let shown = Shown::new(id.clone(), registered, device);
        self.devices.insert(id.clone(), shown);
        let places = |shown: &mut Shown| {
            let new = |(part, instance)| Change::New(part, instance);
            shown.device.parts().into_iter().map(new).collect()
        };
        self.with(shared, id, places);
        self.look_at(shared, id);
    }

    /// A command of a device ended, or moved on.
    pub(super) fn on_command(&mut self, shared: &Shared, id: &DeviceId, state: CommandState) {
        if state == CommandState::Expired {
            self.silent.insert(id.clone());
        }
        let is_silent = match state {
            CommandState::Expired => true,
            CommandState::Completed | CommandState::Failed | CommandState::Acknowledged => false,
            CommandState::Queued | CommandState::Sent | CommandState::Cancelled => return,
        };
        let (tenant, position) = (self.tenant.clone(), self.position);
        self.with(shared, id, |shown| {
            shown.silent = is_silent.then(Instant::now);
            let reachable = is_reachable(shared, &tenant, shown);
            shown.set_reachable(reachable, position)
        });
    }

    /// Who did not answer for a while may be asked again: nobody knows that it would not.
    pub(super) fn forgive(&mut self, shared: &Shared) {
        let is_over = |id: &DeviceId| {
            let silent = self.devices.get(id).and_then(|shown| shown.silent);
            silent.is_none_or(|silent| silent.elapsed() >= SILENCE)
        };
        let over: Vec<DeviceId> = self.silent.iter().filter(|id| is_over(id)).cloned().collect();
        for id in over {
            self.silent.remove(&id);
            let (tenant, position) = (self.tenant.clone(), self.position);
            self.with(shared, &id, |shown| {
                shown.silent = None;
                let reachable = is_reachable(shared, &tenant, shown);
                shown.set_reachable(reachable, position)
            });
        }
    }

    /// The connections of somebody are others than before.
    pub(super) fn on_presence(&mut self, shared: &Shared, name: &Arc<str>) {
        let own: Option<DeviceId> = name.parse().ok();
        match own.filter(|id| self.devices.contains_key(id)) {
            Some(id) => self.look_at(shared, &id),
            // A source has many.
            None => {
                let all: Vec<DeviceId> = self.devices.keys().cloned().collect();
                all.iter().for_each(|id| self.look_at(shared, id));
            }
        }
    }

    /// Looks whether a device can be reached.
    fn look_at(&mut self, shared: &Shared, id: &DeviceId) {
        let (tenant, position) = (self.tenant.clone(), self.position);
        self.with(shared, id, |shown| {
            let reachable = is_reachable(shared, &tenant, shown);
            shown.set_reachable(reachable, position)
        });
    }

    /// The log gave numbers to parts of a device.
    pub(super) fn on_numbers(&mut self, shared: &Shared, id: &DeviceId) {
        let Some(shown) = self.devices.get_mut(id) else { return };
        let Some(parts) = shared.state.parts(&self.tenant, id) else { return };
        let moved = shown.on_numbers(&parts, self.position, &mut self.frames);
        self.note_moved(id, moved);
    }

    /// Looks at every device again.
    pub(super) fn sweep(&mut self, shared: &Shared) {
        let registered = shared.state.devices(&self.tenant);
        let registered = registered.iter().filter_map(|device| device.id.parse().ok());
        let all: BTreeSet<DeviceId> = registered.chain(self.devices.keys().cloned()).collect();
        for id in &all {
            self.refresh(shared, id);
            self.on_numbers(shared, id);
        }
        self.groups.set_dirty(true);
    }

    /// A device was removed; it may be there again by now, as a new one.
    pub(super) fn on_removed(&mut self, shared: &Shared, id: &DeviceId) {
        self.end(id);
        self.refresh(shared, id);
    }

    /// Nothing is there any more.
    pub(super) fn clear(&mut self) {
        let all: Vec<DeviceId> = self.devices.keys().cloned().collect();
        all.iter().for_each(|id| self.end(id));
        self.groups.set_dirty(true);
    }

    /// What a device is may be something else, or it came or went.
    pub(super) fn refresh(&mut self, shared: &Shared, id: &DeviceId) {
        let registered = shared.state.device(&self.tenant, id);
        let before = self.devices.get(id).map(|shown| shown.registered.clone());
        let groups = |device: &Option<Arc<registry::Device>>| {
            device.as_ref().map(|device| device.groups.clone()).unwrap_or_default()
        };
        let is_moved = groups(&registered) != before.as_ref().map(groups).unwrap_or_default();
        self.groups.set_dirty(is_moved);
        let Some(device) = registered else {
            // One that nobody made has nothing that the registry could take.
            if before.flatten().is_some() {
                self.end(id);
            }
            return;
        };
        let Some(before) = before else { return self.enter_empty(shared, id) };
        self.stranger_count -= usize::from(before.is_none());
        let parts = shared.state.parts(&self.tenant, id);
        let facts = facts_of(id, Some(&device), parts.as_deref());
        self.with(shared, id, |shown| {
            shown.registered = Some(device);
            shown.device.set_facts(facts)
        });
    }

    fn end(&mut self, id: &DeviceId) {
        let Some(mut shown) = self.devices.remove(id) else { return };
        self.stranger_count -= usize::from(shown.registered.is_none());
        self.silent.remove(id);
        let moved = shown.end(&mut self.frames);
        self.nameless.remove(id);
        self.note_moved(id, moved);
    }

    /// Looks at groups again, as far as they may have changed; false where it is too early for that.
    pub(super) fn sweep_groups(&mut self, shared: &Shared) -> bool {
        if self.groups.is_too_early() {
            return false;
        }
        let switched = std::mem::take(&mut self.switched);
        let mut groups = std::mem::take(&mut self.groups);
        let mut frames = std::mem::take(&mut self.frames);
        groups.sweep(shared, &self.tenant, self, &switched, &mut frames);
        self.frames = frames;
        self.groups = groups;
        true
    }

    /// The devices with parts that want numbers, and which parts: they count as asked for.
    pub(super) fn take_nameless(&mut self) -> Vec<(DeviceId, Vec<Place>)> {
        let ids = std::mem::take(&mut self.nameless);
        let of = |id: DeviceId| {
            let places = self.devices.get_mut(&id)?.ask();
            (!places.is_empty()).then_some((id, places))
        };
        ids.into_iter().filter_map(of).collect()
    }

    /// Those that could not be asked for are asked for later.
    pub(super) fn keep_nameless(&mut self, id: DeviceId) {
        if let Some(shown) = self.devices.get_mut(&id) {
            shown.ask_again();
        }
        self.nameless.insert(id);
    }

    /// The frames for a client that has read everything up to this number; `before` this life of the
    /// gateway: since then anything may have come within reach, or out of it.
    pub(super) fn since(&self, read: Seq, before: bool) -> Frames {
        let mut frames = Frames::default();
        let gone = self.gone.iter().filter(|(seq, _)| *seq > read);
        gone.for_each(|(_, frame)| frames.push(frame));
        self.devices.values().for_each(|shown| shown.tell_since(read, before, &mut frames));
        self.groups.tell_since(self, read, before, &mut frames);
        frames
    }
}

fn facts_of(
    id: &DeviceId,
    registered: Option<&registry::Device>,
    parts: Option<&registry::Parts>,
) -> Facts {
    let name = registered.and_then(|device| device.name.clone());
    let profile = registered.and_then(|device| device.profile.as_ref());
    Facts {
        name: name.unwrap_or_else(|| id.as_str().to_owned()),
        profile: profile.map(|described| Arc::clone(&described.profile)),
        clip: parts.and_then(|parts| Clip::parse(parts.clip.as_deref()?)),
    }
}

/// Whether what changed may switch a group.
fn is_switched(change: &Change) -> bool {
    match change {
        Change::State { part, .. } => part.is_light(),
        Change::New(part, _) | Change::Gone(part, _) => part.is_light(),
        Change::Config { .. } | Change::Name { .. } => false,
    }
}

/// Whether something that is asked of a device comes to it; of what only measures, whether there is no
/// reason to think that it is gone.
fn is_reachable(shared: &Shared, tenant: &TenantId, shown: &mut Shown) -> bool {
    let is_served = downlinks::serving(shared, tenant, shown.id.as_str()).is_some();
    shown.was_linked |= is_served;
    let obeys = shown.device.parts().iter().any(|(part, _)| part.is_light());
    shown.silent.is_none() && (is_served || (!obeys && !shown.was_linked))
}
