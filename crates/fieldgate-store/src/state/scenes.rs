//! What registry records do to scenes.
//!
//! Called in seq order by the one thread that applies the log. Invariant: the devices and the group of
//! a scene are there; a number is given once; the bytes of a tenant's scenes are counted.

use std::{collections::BTreeMap, sync::Arc};

use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
};

use super::{
    State,
    changes::RowKey,
    tenants::{Tenant, no_such},
};
use crate::registry::{Scene, ScenePlan, SceneStep};

/// Most scenes of a tenant, and most bytes of all of them.
const SCENES_MAX: usize = 1_000;
const SCENE_BYTES_MAX: usize = 16 << 20;
/// Most devices of a scene.
pub const SCENE_DEVICES_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Scenes {
    by_id: BTreeMap<String, Arc<Scene>>,
    byte_len: usize,
}

impl Scenes {
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Scene>> {
        self.by_id.get(id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Arc<Scene>)> {
        self.by_id.iter()
    }

    pub(super) fn restore(&mut self, scene: Arc<Scene>) {
        self.byte_len += scene.byte_len();
        self.by_id.insert(scene.id.clone(), scene);
    }

    pub(super) fn has_group(&self, group: &str) -> bool {
        self.by_id.values().any(|scene| scene.plan.group.as_deref() == Some(group))
    }

    /// A group goes with its scenes; the rows that this touches.
    pub(super) fn remove_of(&mut self, tenant: &TenantId, group: &str) -> Vec<RowKey> {
        let is_of = |scene: &Scene| scene.plan.group.as_deref() == Some(group);
        let gone = self.by_id.extract_if(.., |_, scene| is_of(scene));
        let mut touched = Vec::new();
        for (id, scene) in gone {
            self.byte_len -= scene.byte_len();
            touched.push(RowKey::Scene(tenant.clone(), id));
        }
        touched
    }

    /// A device goes from all scenes; the rows that this touches.
    pub(super) fn forget(&mut self, tenant: &TenantId, device: &str) -> Vec<RowKey> {
        let mut touched = Vec::new();
        for scene in self.by_id.values_mut() {
            if scene.plan.sets.contains_key(device) {
                let before = scene.byte_len();
                Arc::make_mut(scene).plan.sets.remove(device);
                self.byte_len -= before - scene.byte_len();
                touched.push(RowKey::Scene(tenant.clone(), scene.id.clone()));
            }
        }
        touched
    }

    /// Puts a scene in its place, if there is room for it.
    fn set(&mut self, scene: Scene) -> Result<(), Fault> {
        let before = self.by_id.get(&scene.id).map_or(0, |scene| scene.byte_len());
        let byte_len = self.byte_len - before + scene.byte_len();
        if byte_len > SCENE_BYTES_MAX && scene.byte_len() > before {
            let text = "the scenes of this tenant take too many bytes together: remove one";
            return Err(Fault::new(Code::QueueFull, text));
        }
        self.byte_len = byte_len;
        self.by_id.insert(scene.id.clone(), Arc::new(scene));
        Ok(())
    }
}

impl State {
    /// Every scene of a tenant, by id.
    #[must_use]
    pub fn scenes(&self, tenant: &TenantId) -> Vec<Arc<Scene>> {
        let inner = self.read();
        let scenes = inner.tenants.get(tenant).map(|tenant| &tenant.scenes.by_id);
        scenes.map(|scenes| scenes.values().cloned().collect()).unwrap_or_default()
    }

    /// The scene with this id.
    #[must_use]
    pub fn scene(&self, tenant: &TenantId, id: &str) -> Option<Arc<Scene>> {
        self.read().tenants.get(tenant)?.scenes.get(id).cloned()
    }
}

impl Tenant {
    /// Applies a change of a scene; returns the rows that it touches.
    pub(super) fn change_scene(
        &mut self,
        tenant: &TenantId,
        id: &str,
        expected: Option<u64>,
        step: &SceneStep,
    ) -> Result<Vec<RowKey>, Fault> {
        let before = self.scenes.get(id).cloned();
        if expected.is_some_and(|tag| tag != before.as_ref().map_or(0, |scene| scene.tag())) {
            let text = format!("the scene {id} is not what it was: read it again");
            return Err(Fault::new(Code::Conflict, text));
        }
        let mut touched = vec![RowKey::Scene(tenant.clone(), id.to_owned())];
        match step {
            SceneStep::Put(plan) => {
                self.check_plan(plan, before.is_none())?;
                let kept = before.filter(|scene| scene.plan.group == plan.group);
                // A number that is given for nothing would stay a hole: room is looked for first.
                let number = kept.as_ref().map_or(0, |scene| scene.number);
                self.scenes.set(Scene { id: id.to_owned(), number, plan: plan.clone() })?;
                if kept.is_none() {
                    let (number, row) = self.next_scene(tenant, plan.group.as_deref());
                    touched.push(row);
                    let scene = self.scenes.by_id.get_mut(id).map(Arc::make_mut);
                    scene.into_iter().for_each(|scene| scene.number = number);
                }
            }
            SceneStep::Store(sets) => {
                let before = before.ok_or_else(|| no_such("scene", id))?;
                let mut scene = (*before).clone();
                for (device, set) in &mut scene.plan.sets {
                    if let Some(stored) = sets.get(device) {
                        set.clone_from(stored);
                    }
                }
                self.scenes.set(scene)?;
            }
            SceneStep::Remove => {
                let scene = self.scenes.by_id.remove(id).ok_or_else(|| no_such("scene", id))?;
                self.scenes.byte_len -= scene.byte_len();
            }
        }
        Ok(touched)
    }

    fn check_plan(&self, plan: &ScenePlan, is_new: bool) -> Result<(), Fault> {
        if is_new && self.scenes.by_id.len() >= SCENES_MAX {
            let text = format!("a tenant has at most {SCENES_MAX} scenes: remove one");
            return Err(Fault::new(Code::QueueFull, text));
        }
        if plan.sets.len() > SCENE_DEVICES_MAX {
            let text = format!("a scene has at most {SCENE_DEVICES_MAX} devices");
            return Err(Fault::new(Code::TooLarge, text));
        }
        if let Some(group) = &plan.group {
            self.groups.get(group).ok_or_else(|| no_such("group", group))?;
        }
        let missing = plan.sets.keys().find(|id| !self.devices.contains_key(id.as_str()));
        missing.map_or(Ok(()), |id| Err(no_such("device", id)))
    }
}

#[cfg(test)]
mod tests {
    use fieldgate_core::id::{Seq, UnixMs};

    use super::*;
    use crate::{
        port::Followed,
        record::{Entry, Record},
        registry::{Change, Device, GroupStep, RegistryChange},
        secret::MasterKey,
        state::StateLimits,
    };

    struct Run {
        state: State,
        seq: u64,
    }

    impl Run {
        fn new() -> Self {
            let state = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
            let mut run = Self { state, seq: 0 };
            for id in ["a", "b"] {
                let groups = vec!["hall".to_owned()];
                run.apply(Change::DeviceAdd(Device {
                    id: id.to_owned(),
                    groups,
                    ..Device::default()
                }))
                .unwrap();
            }
            run
        }

        fn apply(&mut self, change: Change) -> Result<(), Code> {
            self.seq += 1;
            let change = RegistryChange::local("default", change);
            let (seq, record) = (Seq(self.seq), Record::Registry(Box::new(change)));
            let entry = Entry { seq, arrived: UnixMs(self.seq), record };
            self.state.apply(&Followed::Entry(Arc::new(entry)));
            self.state.outcome(Seq(self.seq)).unwrap().map_err(|fault| fault.code)
        }

        fn step(&mut self, id: &str, expected: Option<u64>, step: SceneStep) -> Result<(), Code> {
            self.apply(Change::Scene { id: id.to_owned(), expected, step })
        }

        fn scene(&self, id: &str) -> Option<Arc<Scene>> {
            self.state.scene(&TenantId::default_tenant(), id)
        }

        fn number(&self, id: &str) -> u64 {
            self.scene(id).unwrap().number
        }
    }

    fn sets(sets: &[(&str, &str)]) -> BTreeMap<String, String> {
        sets.iter().map(|(device, set)| ((*device).to_owned(), (*set).to_owned())).collect()
    }

    fn put(group: Option<&str>, of: &[(&str, &str)]) -> SceneStep {
        let group = group.map(str::to_owned);
        SceneStep::Put(ScenePlan { group, sets: sets(of), ..ScenePlan::default() })
    }

    #[test]
    fn numbers_count_in_each_group_and_are_given_once() {
        let mut run = Run::new();
        run.step("x", None, put(Some("hall"), &[("a", "{}")])).unwrap();
        run.step("y", None, put(None, &[("a", "{}")])).unwrap();
        run.step("z", None, put(Some("hall"), &[("b", "{}")])).unwrap();
        assert_eq!(["x", "y", "z"].map(|id| run.number(id)), [1, 1, 2]);
        run.step("z", None, put(None, &[("b", "{}")])).unwrap();
        run.step("x", None, put(Some("hall"), &[("b", "{}")])).unwrap();
        run.step("y", None, SceneStep::Remove).unwrap();
        run.step("y", None, put(Some("hall"), &[])).unwrap();
        assert_eq!(["x", "y", "z"].map(|id| run.number(id)), [1, 3, 2]);
        let group = |step| Change::Group { id: "hall".to_owned(), expected: None, step };
        assert_eq!(run.apply(group(GroupStep::Remove)), Err(Code::Conflict));
        run.step("x", None, SceneStep::Remove).unwrap();
        run.step("y", None, SceneStep::Remove).unwrap();
        assert_eq!(run.apply(group(GroupStep::Remove)), Ok(()));
    }

    #[test]
    fn a_group_takes_its_scenes_with_it_where_that_is_asked_for_and_no_others() {
        let mut run = Run::new();
        run.step("x", None, put(Some("hall"), &[("a", "{}")])).unwrap();
        run.step("y", None, put(Some("hall"), &[("b", "{}")])).unwrap();
        run.step("z", None, put(None, &[("a", "{}")])).unwrap();
        let group = |step| Change::Group { id: "hall".to_owned(), expected: None, step };
        assert_eq!(run.apply(group(GroupStep::RemoveWithScenes)), Ok(()));
        assert_eq!(["x", "y", "z"].map(|id| run.scene(id).is_some()), [false, false, true]);
        assert_eq!(run.apply(group(GroupStep::RemoveWithScenes)), Err(Code::NotFound));
    }

    #[test]
    fn a_scene_names_what_is_there_and_changes_only_for_who_knows_it() {
        let mut run = Run::new();
        assert_eq!(run.step("x", None, put(Some("attic"), &[])), Err(Code::NotFound));
        assert_eq!(run.step("x", None, put(None, &[("c", "{}")])), Err(Code::NotFound));
        assert_eq!(run.step("x", None, SceneStep::Remove), Err(Code::NotFound));
        assert_eq!(run.step("x", Some(0), put(None, &[("a", "1"), ("b", "2")])), Ok(()));
        assert_eq!(run.step("x", Some(0), put(None, &[])), Err(Code::Conflict));
        let tag = run.scene("x").unwrap().tag();
        run.step("x", Some(tag), SceneStep::Store(sets(&[("b", "3"), ("c", "4")]))).unwrap();
        assert_eq!(run.scene("x").unwrap().plan.sets, sets(&[("a", "1"), ("b", "3")]));
        assert_eq!(run.step("x", Some(tag), SceneStep::Remove), Err(Code::Conflict));
        run.apply(Change::DeviceRemove("b".to_owned())).unwrap();
        assert_eq!(run.scene("x").unwrap().plan.sets, sets(&[("a", "1")]));
    }

    #[test]
    fn the_scenes_of_a_tenant_are_bounded_together() {
        let mut run = Run::new();
        let half = "x".repeat(SCENE_BYTES_MAX / 2);
        run.step("x", None, put(None, &[("a", &half)])).unwrap();
        assert_eq!(run.step("y", None, put(None, &[("a", &half)])), Err(Code::QueueFull));
        assert!(run.scene("y").is_none());
        run.apply(Change::DeviceRemove("a".to_owned())).unwrap();
        assert_eq!(run.step("y", None, put(None, &[("b", &half)])), Ok(()));
        assert_eq!(run.number("y"), 2);
    }
}
