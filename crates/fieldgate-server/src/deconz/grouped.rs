//! Groups as apps see them: their lights, their scenes, and whether all or any of them are on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use fieldgate_core::id::{DeviceId, Seq, TenantId};
use fieldgate_dialects::deconz::{
    Light, Map,
    event::{self, List, Subject, What},
    gateway,
};
use fieldgate_store::registry::Scene;
use serde_json::Value;

use super::{frames::Frames, view::View};
use crate::fabric::Shared;

/// The number of the group of scenes that are in none.
const ALL: u64 = 0;
/// How often all of them are looked at, at most.
const PERIOD: Duration = Duration::from_millis(100);

/// A group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// What `/v1` calls it; nothing of the one of all.
    pub(super) id: Option<String>,
    pub(super) name: String,
    /// The numbers of its lights.
    pub(super) lights: Vec<u64>,
    pub(super) scenes: Vec<SceneOf>,
    /// What it was last told to be in.
    state: Map,
    /// Behind which number it last changed.
    moved: Seq,
}

/// A scene of a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SceneOf {
    /// What `/v1` calls it.
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) name: String,
    transition: Option<f64>,
    lights: Vec<u64>,
}

/// All groups, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Groups {
    all: BTreeMap<u64, Group>,
    /// Which groups a device is in.
    of_device: BTreeMap<DeviceId, Vec<u64>>,
    is_dirty: bool,
    /// When all of them were last looked at.
    swept: Option<Instant>,
}

const fn subject(number: u64) -> Subject<'static> {
    Subject { list: List::Groups, number, unique_id: None }
}

impl Groups {
    /// Which there are, or what is in them, is to be looked at again.
    pub(super) fn set_dirty(&mut self, is_dirty: bool) {
        self.is_dirty |= is_dirty;
    }

    /// Whether they are to be looked at, and were a moment ago: to make many devices one by one must not
    /// read all groups for each.
    pub(super) fn is_too_early(&self) -> bool {
        self.is_dirty && self.swept.is_some_and(|swept| swept.elapsed() < PERIOD)
    }

    pub(super) fn get(&self, number: u64) -> Option<&Group> {
        self.all.get(&number)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &Group)> {
        self.all.iter().map(|(number, group)| (*number, group))
    }

    /// Looks at what may have changed, and tells what did.
    pub(super) fn sweep(
        &mut self,
        shared: &Shared,
        tenant: &TenantId,
        view: &View,
        switched: &BTreeSet<DeviceId>,
        frames: &mut Frames,
    ) {
        if std::mem::take(&mut self.is_dirty) {
            self.swept = Some(Instant::now());
            let (now, of_device) = read(shared, tenant, view);
            self.of_device = of_device;
            let before = std::mem::replace(&mut self.all, now);
            for (number, group) in &mut self.all {
                let old = before.get(number);
                let same = old.filter(|old| Group { moved: old.moved, ..group.clone() } == **old);
                group.moved = same.map_or(view.position.next(), |old| old.moved);
            }
            self.tell_difference(view, &before, frames);
            return;
        }
        let touched = switched.iter().filter_map(|id| self.of_device.get(id)).flatten();
        let touched: BTreeSet<u64> = touched.copied().collect();
        for number in touched {
            let Some(group) = self.all.get_mut(&number) else { continue };
            let state = gateway::group_state(&lights_of(view, &group.lights));
            if state != group.state {
                frames.push(&event::changed(subject(number), What::State(&state)));
                (group.state, group.moved) = (state, view.position.next());
            }
        }
    }

    /// Tells what is known of groups that changed behind a number, for a client that was away.
    pub(super) fn tell_since(&self, view: &View, read: Seq, before: bool, frames: &mut Frames) {
        let changed = self.all.iter().filter(|(_, group)| before || group.moved > read);
        for (number, group) in changed {
            let subject = subject(*number);
            frames.push(&event::added(subject, &group.json(view, *number)));
            frames.push(&event::changed(subject, What::Name(&group.name)));
            frames.push(&event::changed(subject, What::State(&group.state)));
        }
    }

    fn tell_difference(&self, view: &View, before: &BTreeMap<u64, Group>, frames: &mut Frames) {
        for number in before.keys().filter(|number| !self.all.contains_key(number)) {
            frames.push(&event::deleted(subject(*number)));
        }
        for (number, group) in &self.all {
            let subject = subject(*number);
            let Some(old) = before.get(number) else {
                frames.push(&event::added(subject, &group.json(view, *number)));
                continue;
            };
            if old.name != group.name {
                frames.push(&event::changed(subject, What::Name(&group.name)));
            }
            if old.lights != group.lights || old.scenes != group.scenes {
                let mut whole = group.json(view, *number);
                let members = ["lights", "scenes"];
                let members = members.into_iter().filter_map(|name| whole.remove_entry(name));
                let members: Map = members.collect();
                frames.push(&event::changed(subject, What::Attr(&members)));
            }
            if old.state != group.state {
                frames.push(&event::changed(subject, What::State(&group.state)));
            }
        }
    }
}

impl Group {
    pub(super) fn json(&self, view: &View, number: u64) -> Map {
        let scenes: Vec<_> = self.scenes.iter().map(SceneOf::told).collect();
        gateway::group(&gateway::Group {
            number,
            name: &self.name,
            lights: &lights_of(view, &self.lights),
            scenes: &scenes,
        })
    }

    pub(super) fn scene(&self, number: u64) -> Option<&SceneOf> {
        self.scenes.iter().find(|scene| scene.number == number)
    }

    /// Its scenes by their numbers.
    pub(super) fn scenes_json(&self) -> Map {
        let one = |scene: &SceneOf| {
            (scene.number.to_string(), Value::Object(gateway::listed_scene(&scene.told())))
        };
        self.scenes.iter().map(one).collect()
    }
}

impl SceneOf {
    fn told(&self) -> gateway::Scene<'_> {
        gateway::Scene {
            number: self.number,
            name: &self.name,
            lights: &self.lights,
            transition: self.transition,
        }
    }

    pub(super) fn json(&self) -> Map {
        gateway::scene(&self.told())
    }
}

type Read = (BTreeMap<u64, Group>, BTreeMap<DeviceId, Vec<u64>>);

/// What the registry says.
fn read(shared: &Shared, tenant: &TenantId, view: &View) -> Read {
    let mut scenes: BTreeMap<Option<String>, Vec<SceneOf>> = BTreeMap::new();
    for scene in shared.state.scenes(tenant) {
        scenes.entry(scene.plan.group.clone()).or_default().push(scene_of(&scene, view));
    }
    scenes.values_mut().for_each(|scenes| scenes.sort_by_key(|scene| scene.number));
    let mut all = BTreeMap::new();
    let mut of_device: BTreeMap<DeviceId, Vec<u64>> = BTreeMap::new();
    for grouped in shared.state.groups(tenant) {
        let (id, number) = (grouped.group.id.clone(), grouped.group.number);
        for device in grouped.devices.iter() {
            of_device.entry(device.clone()).or_default().push(number);
        }
        let lights = numbers(view, grouped.devices.iter());
        let name = grouped.group.name.clone().unwrap_or_else(|| id.clone());
        let scenes = scenes.remove(&Some(id.clone())).unwrap_or_default();
        let state = gateway::group_state(&lights_of(view, &lights));
        let moved = Seq(0);
        all.insert(number, Group { id: Some(id), name, lights, scenes, state, moved });
    }
    if let Some(scenes) = scenes.remove(&None) {
        let (name, state) = ("All".to_owned(), gateway::group_state(&[]));
        let (lights, moved) = (Vec::new(), Seq(0));
        all.insert(ALL, Group { id: None, name, lights, scenes, state, moved });
    }
    (all, of_device)
}

fn scene_of(scene: &Scene, view: &View) -> SceneOf {
    let devices: Vec<DeviceId> = scene.plan.sets.keys().filter_map(|id| id.parse().ok()).collect();
    SceneOf {
        id: scene.id.clone(),
        number: scene.number,
        name: scene.plan.name.clone().unwrap_or_else(|| scene.id.clone()),
        transition: scene.plan.transition,
        lights: numbers(view, devices.iter()),
    }
}

/// The numbers of the lights of devices.
fn numbers<'a>(view: &View, devices: impl Iterator<Item = &'a DeviceId>) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        devices.flat_map(|device| view.lights_of(device)).map(|(number, _)| number).collect();
    numbers.sort_unstable();
    numbers
}

/// What lights are in.
fn lights_of(view: &View, numbers: &[u64]) -> Vec<(u64, Light)> {
    let of = |number: &u64| {
        let (shown, (_, instance)) = view.part(true, *number)?;
        Some((*number, shown.device.light(instance)?))
    };
    numbers.iter().filter_map(of).collect()
}
