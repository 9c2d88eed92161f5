//! Groups, as records make and change them.

use fieldgate_core::id::{Seq, UnixMs};

use super::*;
use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{Change, RegistryChange},
    secret::MasterKey,
    state::StateLimits,
};

struct Run {
    state: State,
    seq: u64,
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

impl Run {
    fn new() -> Self {
        let state = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
        let mut run = Self { state, seq: 0 };
        for id in ["a", "b", "c"] {
            run.apply(Change::DeviceAdd(Device { id: id.to_owned(), ..Device::default() }))
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

    fn step(&mut self, id: &str, expected: Option<u64>, step: GroupStep) -> Result<(), Code> {
        self.apply(Change::Group { id: id.to_owned(), expected, step })
    }

    fn put(&mut self, id: &str, devices: &[&str]) -> Result<(), Code> {
        self.step(id, None, put(devices))
    }

    fn number(&self, id: &str) -> Option<u64> {
        self.state.group(&tenant(), id).map(|grouped| grouped.group.number)
    }

    /// The devices of a group, from both sides.
    fn devices(&self, id: &str) -> Vec<String> {
        let grouped = self.state.group(&tenant(), id);
        let told: Vec<String> =
            grouped.iter().flat_map(|g| g.devices.iter()).map(ToString::to_string).collect();
        let all = self.state.devices(&tenant()).into_iter();
        let say = all.filter(|device| device.groups.iter().any(|group| group == id));
        assert_eq!(say.map(|device| device.id.clone()).collect::<Vec<_>>(), told);
        let found = self.state.devices_in(&tenant(), id);
        assert_eq!(found.iter().map(|device| device.id.clone()).collect::<Vec<_>>(), told);
        told
    }

    fn tag(&self, id: &str) -> u64 {
        self.state.group(&tenant(), id).unwrap().tag()
    }
}

fn put(devices: &[&str]) -> GroupStep {
    let devices = devices.iter().map(|id| (*id).to_owned()).collect();
    GroupStep::Put { name: None, devices }
}

#[test]
fn a_group_has_the_devices_that_say_so_whoever_said_it_first() {
    let mut run = Run::new();
    let groups = vec!["hall".to_owned(), "all".to_owned()];
    run.apply(Change::DeviceAdd(Device { id: "d".to_owned(), groups, ..Device::default() }))
        .unwrap();
    assert_eq!((run.devices("hall"), run.number("hall")), (vec!["d".to_owned()], Some(1)));
    run.put("hall", &["b", "a", "b"]).unwrap();
    assert_eq!(
        (run.devices("hall"), run.devices("all")),
        (vec!["a".into(), "b".into()], vec!["d".into()])
    );
    run.step("hall", None, GroupStep::Join("d".to_owned())).unwrap();
    run.step("hall", None, GroupStep::Join("d".to_owned())).unwrap();
    run.step("hall", None, GroupStep::Leave("a".to_owned())).unwrap();
    assert_eq!(run.devices("hall"), ["b", "d"]);
    assert_eq!(run.step("hall", None, GroupStep::Leave("a".to_owned())), Err(Code::NotFound));
    run.apply(Change::DeviceRemove("d".to_owned())).unwrap();
    assert_eq!((run.devices("hall"), run.devices("all")), (vec!["b".to_owned()], vec![]));
    let name = Some(Some("Hall".to_owned()));
    run.step("hall", None, GroupStep::Edit { name, devices: None }).unwrap();
    let hall = run.state.group(&tenant(), "hall").unwrap();
    assert_eq!((hall.group.name.as_deref(), hall.devices.len()), (Some("Hall"), 1));
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut run = Run::new();
    assert_eq!(run.put("hall", &["a", "x"]), Err(Code::NotFound));
    assert_eq!((run.number("hall"), run.devices("hall")), (None, vec![]));
    for step in
        [GroupStep::Remove, GroupStep::Join("a".to_owned()), GroupStep::Leave("a".to_owned())]
    {
        assert_eq!(run.step("hall", None, step), Err(Code::NotFound));
    }
    let edit = GroupStep::Edit { name: None, devices: None };
    assert_eq!(run.step("hall", None, edit), Err(Code::NotFound));
    for number in 0..GROUPS_PER_DEVICE_MAX {
        run.put(&format!("g{number}"), &["a"]).unwrap();
    }
    assert_eq!(run.put("one more", &["b", "a"]), Err(Code::QueueFull));
    assert_eq!(run.number("one more"), None);
    assert_eq!(run.put("g3", &["a", "b"]), Ok(()));
    let groups = (0..=GROUPS_PER_DEVICE_MAX).map(|number| format!("h{number}")).collect();
    let many = Device { id: "d".to_owned(), groups, ..Device::default() };
    assert_eq!(run.apply(Change::DeviceAdd(many)), Err(Code::QueueFull));
    assert_eq!(run.number("h0"), None);
}

#[test]
fn a_number_is_given_once() {
    let mut run = Run::new();
    run.put("x", &[]).unwrap();
    run.put("y", &[]).unwrap();
    run.step("y", None, GroupStep::Remove).unwrap();
    run.put("y", &[]).unwrap();
    run.put("x", &["a"]).unwrap();
    assert_eq!((run.number("x"), run.number("y")), (Some(1), Some(3)));
}

#[test]
fn a_condition_is_what_was_read() {
    let mut run = Run::new();
    assert_eq!(run.step("hall", Some(9), put(&[])), Err(Code::Conflict));
    assert_eq!(run.step("hall", Some(0), put(&["a"])), Ok(()));
    assert_eq!(run.step("hall", Some(0), put(&["a"])), Err(Code::Conflict));
    let tag = run.tag("hall");
    assert_eq!(run.step("hall", Some(tag), put(&["a", "b"])), Ok(()));
    assert_ne!(run.tag("hall"), tag);
    assert_eq!(run.step("hall", Some(tag), put(&[])), Err(Code::Conflict));
    run.apply(Change::DeviceRemove("b".to_owned())).unwrap();
    assert_eq!(run.tag("hall"), tag);
    assert_eq!(run.step("hall", Some(tag), GroupStep::Remove), Ok(()));
    run.put("hall", &["a"]).unwrap();
    // Another group, which happens to be called the same.
    assert_ne!(run.tag("hall"), tag);
}

#[test]
fn groups_that_only_devices_name_are_made_when_the_rows_are_there() {
    let run = Run::new();
    for (id, groups) in [("p", &["z", "a b"][..]), ("q", &["z", "m"])] {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let device = Device { id: id.to_owned(), groups, ..Device::default() };
        let key = RowKey::Device(tenant(), id.parse().unwrap());
        run.state.restore(key, Row::Device(Arc::new(device)));
    }
    let group = Group { id: "m".to_owned(), number: 4, ..Group::default() };
    run.state.restore(RowKey::Group(tenant(), "m".to_owned()), Row::Group(Arc::new(group)));
    let numbers = crate::registry::Numbers { group: 6, scene: 0 };
    run.state.restore(RowKey::Numbers(tenant()), Row::Numbers(numbers));
    run.state.adopt_groups(&mut run.state.changes());
    let numbers = ["a b", "m", "z"].map(|id| run.number(id));
    assert_eq!(numbers, [Some(7), Some(4), Some(8)]);
    let written: Vec<RowKey> = run.state.changes().take().rows.into_keys().collect();
    let group = |id: &str| RowKey::Group(tenant(), id.to_owned());
    let wanted = [group("a b"), group("z"), RowKey::Numbers(tenant())];
    assert!(wanted.iter().all(|key| written.contains(key)), "{written:?}");
    assert!(!written.contains(&group("m")), "{written:?}");
}
