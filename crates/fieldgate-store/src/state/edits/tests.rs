//! Edits, as records make them.

use fieldgate_core::id::{Seq, UnixMs};

use super::*;
use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{ApiKey, Change, RegistryChange, User},
    secret::{MasterKey, hash_password},
    state::State,
};

struct Run {
    state: State,
    seq: u64,
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

impl Run {
    fn new(limits: StateLimits) -> Self {
        let state = State::new(MasterKey::ephemeral().unwrap(), limits);
        let mut run = Self { state, seq: 0 };
        let groups = vec!["hall".to_owned()];
        let lamp = Device { id: "lamp".to_owned(), groups, ..Device::default() };
        run.apply(Change::DeviceAdd(lamp)).unwrap();
        run
    }

    fn apply(&mut self, change: Change) -> Result<Vec<Effect>, Code> {
        self.seq += 1;
        let change = RegistryChange::local("default", change);
        let (seq, record) = (Seq(self.seq), Record::Registry(Box::new(change)));
        let entry = Entry { seq, arrived: UnixMs(self.seq), record };
        let effects = self.state.apply(&Followed::Entry(Arc::new(entry)));
        let outcome = self.state.outcome(Seq(self.seq)).unwrap();
        outcome.map(|()| effects).map_err(|fault| fault.code)
    }

    fn edit(&mut self, expected: Option<u64>, edit: Edit) -> Result<usize, Code> {
        self.apply(Change::Edit { expected, edit }).map(|effects| effects.len())
    }

    fn lamp(&self) -> Arc<Device> {
        self.state.device(&tenant(), &"lamp".parse().unwrap()).unwrap()
    }
}

fn device(
    name: Option<Option<&str>>,
    kind: Option<&str>,
    groups: Option<&[&str]>,
    gateway_for: Option<Option<&str>>,
) -> Edit {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let groups = groups.map(|groups| groups.iter().map(|group| (*group).to_owned()).collect());
    let (name, gateway_for) = (name.map(text), gateway_for.map(text));
    Edit::Device { id: "lamp".to_owned(), name, kind: text(kind), groups, gateway_for }
}

#[test]
fn what_is_not_named_stays_and_a_condition_is_what_was_read() {
    let mut run = Run::new(StateLimits::default());
    let first = run.lamp().tag(None, None);
    assert_eq!(run.edit(Some(first), device(Some(Some("Lamp")), None, None, None)), Ok(0));
    assert_eq!(run.lamp().groups, ["hall"]);
    let again = device(Some(None), None, None, None);
    assert_eq!(run.edit(Some(first), again.clone()), Err(Code::Conflict));
    assert_eq!(run.lamp().name.as_deref(), Some("Lamp"));
    assert_eq!(run.edit(None, again), Ok(0));
    assert_eq!(run.lamp().tag(None, None), first);
    let groups = device(None, None, Some(&["attic", "hall"]), Some(Some("+")));
    assert_eq!(run.edit(None, groups), Ok(1));
    let attic = run.state.group(&tenant(), "attic").unwrap();
    assert_eq!((attic.group.number, attic.devices.len()), (2, 1));
    assert_eq!(run.edit(None, device(None, None, Some(&[]), None)), Ok(0));
    assert_eq!(run.state.group(&tenant(), "attic").unwrap().devices.len(), 0);
    assert_eq!(run.lamp().gateway_for.as_deref(), Some("+"));
    let other = Edit::Device {
        id: "other".to_owned(),
        name: None,
        kind: None,
        groups: None,
        gateway_for: None,
    };
    assert_eq!(run.edit(None, other), Err(Code::NotFound));
}

#[test]
fn a_kind_is_a_profile_or_a_word_in_it() {
    let room = 2 * Profile::default().byte_len();
    let mut run = Run::new(StateLimits { profile_bytes_max: room, ..StateLimits::default() });
    assert_eq!(run.edit(None, device(None, Some("toaster"), None, None)), Err(Code::BadValue));
    let lit = device(Some(Some("x")), Some("light"), Some(&["new"]), None);
    assert_eq!(run.edit(None, lit), Err(Code::QueueFull));
    assert_eq!((run.lamp().name.clone(), run.lamp().groups.clone()), (None, vec!["hall".into()]));
    assert!(run.state.group(&tenant(), "new").is_none());
    let told = |run: &Run| {
        let lamp = run.lamp();
        let described = lamp.profile.as_ref().map(|d| (d.revision, d.profile.kind));
        (lamp.kind.clone().unwrap_or_default(), described, lamp.profile_bytes())
    };
    run.edit(None, device(None, Some("sensor"), None, None)).unwrap();
    assert_eq!(told(&run).1, Some((1, Kind::Sensor)));
    run.edit(None, device(None, Some("machine"), None, None)).unwrap();
    run.edit(None, device(None, Some("machine"), None, None)).unwrap();
    let (kind, described, _) = told(&run);
    assert_eq!((kind.as_str(), described), ("machine", Some((2, Kind::Machine))));
}

#[test]
fn a_key_and_a_person_get_other_rights_at_once() {
    let mut run = Run::new(StateLimits::default());
    let hash = run.state.master_key().hash("secret");
    let (name, role) = ("app".to_owned(), Some("viewer".to_owned()));
    let key = ApiKey { name: name.clone(), hash, role, grants: Vec::new(), expires_ms: None };
    let tag = key.tag();
    run.apply(Change::KeyAdd(key)).unwrap();
    let edit = |role: Option<Option<&str>>, expires_ms| Edit::Key {
        name: name.clone(),
        role: role.map(|role| role.map(str::to_owned)),
        grants: None,
        expires_ms,
    };
    assert_eq!(run.edit(None, edit(Some(None), None)), Err(Code::BadValue));
    assert_eq!(run.edit(Some(tag), edit(Some(Some("admin")), Some(Some(9)))), Ok(1));
    assert_eq!(run.edit(Some(tag), edit(None, None)), Err(Code::Conflict));
    let at = |run: &Run, now| run.state.verify_token(&tenant(), None, "secret", UnixMs(now));
    assert_eq!(at(&run, 8).unwrap().role.unwrap().to_string(), "admin");
    assert!(at(&run, 9).is_none());
    let password = hash_password("correct horse").unwrap();
    let ada = User { name: "ada".to_owned(), role: "viewer".to_owned(), password };
    let tag = ada.tag();
    run.apply(Change::UserAdd(ada)).unwrap();
    let edit = |name: &str| Edit::User { name: name.to_owned(), role: Some("operator".to_owned()) };
    assert_eq!(run.edit(Some(tag), edit("ada")), Ok(1));
    assert_eq!(run.state.user(&tenant(), "ada").unwrap().role, "operator");
    assert_eq!(run.edit(Some(tag), edit("ada")), Err(Code::Conflict));
    assert_eq!(run.edit(None, edit("bob")), Err(Code::NotFound));
}
