//! Tests of `things`.

use std::collections::BTreeMap;

use fieldgate_core::{
    access::{Identity, Verb},
    id::Seq,
    topic::Topic,
};

use super::*;
use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{Access, RegistryChange, Session, SignInBy, SignInStep},
    secret::{MasterKey, PasswordHash, hash_password},
};

struct Life {
    state: State,
    seq: u64,
    password: PasswordHash,
}

fn default() -> TenantId {
    TenantId::default_tenant()
}

fn link(device: &str) -> AccountStep {
    AccountStep::Link(device.to_owned())
}

impl Life {
    fn begin() -> Self {
        let state = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
        Self { state, seq: 0, password: hash_password("correct horse").unwrap() }
    }

    /// Applies a change that arrives at this time.
    fn at(&mut self, ms: u64, change: Change) -> Result<Vec<Effect>, Code> {
        self.seq += 1;
        let record = Record::Registry(Box::new(RegistryChange::local("default", change)));
        let entry = Entry { seq: Seq(self.seq), arrived: UnixMs(ms), record };
        let effects = self.state.apply(&Followed::Entry(Arc::new(entry)));
        let outcome = self.state.outcome(Seq(self.seq)).unwrap();
        outcome.map(|()| effects).map_err(|fault| fault.code)
    }

    fn thing(&self, id: &str) -> Device {
        let hash = self.state.master_key().hash_thing(&format!("token of {id}"));
        let credentials = BTreeMap::from([("thing-1".to_owned(), hash)]);
        Device { id: id.to_owned(), credentials, ..Device::default() }
    }

    fn add(&mut self, id: &str) {
        let device = self.thing(id);
        self.at(0, Change::DeviceAdd(device)).unwrap();
    }

    fn account(&mut self, user: &str, step: AccountStep) -> Result<Vec<Effect>, Code> {
        self.at(0, Change::Account { user: user.to_owned(), step })
    }

    fn register(&mut self, user: &str, email: &str) {
        let (email, password) = (email.to_owned(), self.password.clone());
        self.account(user, AccountStep::Register { email, password }).unwrap();
    }

    fn sign_in(&mut self, user: &str) -> Principal {
        let token = format!("access of {user}");
        let access = Access { hash: self.state.master_key().hash(&token), ends_ms: 100 };
        let session =
            Session { family: [1; 32], refresh: [2; 32], ends_ms: 100, access: vec![access] };
        let by = SignInBy::Password(self.password.clone());
        let step = SignInStep::Begin { by, session };
        self.at(0, Change::SignIns { user: user.to_owned(), step }).unwrap();
        self.state.verify_token(&default(), None, &token, UnixMs(1)).unwrap()
    }

    fn code(&mut self, id: &str, ends_ms: u64) -> Result<Vec<Effect>, Code> {
        let hash = self.state.master_key().hash_activation(&format!("code {id}"));
        let (device, kind, groups) = (None, None, Vec::new());
        let step = ActivationStep::Add(Activation {
            id: id.to_owned(),
            hash,
            device,
            kind,
            groups,
            ends_ms,
        });
        self.at(1, Change::Activation { id: id.to_owned(), step })
    }

    fn activate(&mut self, ms: u64, code: &str, device: &str) -> Result<Vec<Effect>, Code> {
        let step = ActivationStep::Use(Box::new(self.thing(device)));
        self.at(ms, Change::Activation { id: code.to_owned(), step })
    }

    fn known_code(&self, id: &str, ms: u64) -> bool {
        self.state.activation_of(&format!("code {id}"), UnixMs(ms)).is_some()
    }

    /// The same state, from its rows.
    fn restart(&mut self) {
        let again = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
        let snapshot = self.state.snapshot(&self.state.changes());
        snapshot.rows.into_iter().for_each(|(key, row)| again.restore(key, row));
        self.state = again;
    }
}

fn reads(principal: &Principal, device: &str) -> bool {
    let topic: Topic = format!("devices/{device}/telemetry").parse().unwrap();
    principal.may_receive(&topic) && principal.may_at(Verb::Read, &topic)
}

#[test]
fn a_member_may_what_they_linked_and_nothing_else() {
    let mut life = Life::begin();
    life.add("a");
    life.add("b");
    life.register("ada", "ada@example.test");
    let before = life.sign_in("ada");
    assert!(!reads(&before, "a") && before.grants.is_empty());
    let effects = life.account("ada", link("a")).unwrap();
    assert!(matches!(&effects[..], [Effect::RightsChanged { name, .. }] if &**name == "user:ada"));
    let ada = life.state.refresh(&before, UnixMs(1)).unwrap();
    assert!(reads(&ada, "a") && !reads(&ada, "b"));
    assert!(ada.may_command(&"a".parse().unwrap()) && !ada.may_command(&"b".parse().unwrap()));
    assert!(!ada.may_publish(&"devices/a/telemetry".parse().unwrap()));
    assert!(!ada.may(Verb::Subscribe, &"#".parse().unwrap()));
    life.account("ada", AccountStep::Unlink("a".to_owned())).unwrap();
    assert!(!reads(&life.state.refresh(&before, UnixMs(1)).unwrap(), "a"));
    let again = life.account("ada", AccountStep::Unlink("a".to_owned()));
    assert_eq!(again.unwrap_err(), Code::NotFound);
}

#[test]
fn a_link_goes_with_its_device_and_does_not_come_back_with_its_name() {
    let mut life = Life::begin();
    life.add("a");
    life.register("ada", "ada@example.test");
    life.account("ada", link("a")).unwrap();
    life.at(0, Change::DeviceRemove("a".to_owned())).unwrap();
    life.add("a");
    let ada = life.sign_in("ada");
    assert!(!reads(&ada, "a"));
    assert_eq!(life.account("ada", link("nothing")).unwrap_err(), Code::NotFound);
    assert_eq!(life.account("nobody", link("a")).unwrap_err(), Code::NotFound);
}

#[test]
fn an_address_is_nobodys_own_and_names_so_many_and_no_more() {
    let mut life = Life::begin();
    for nth in 0..=ACCOUNTS_PER_ADDRESS_MAX {
        life.register(
            &format!("u{nth}"),
            if nth == 0 { "Ada@Example.test" } else { "ada@example.test" },
        );
    }
    let names = |life: &Life| {
        let found = life.state.users_at(&default(), "ADA@example.TEST");
        found.iter().map(|user| user.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&life), ["u0", "u1", "u2"]);
    assert!(life.state.user(&default(), "u3").is_some(), "they have their name alone");
    life.at(0, Change::UserRemove("u1".to_owned())).unwrap();
    assert_eq!(names(&life), ["u0", "u2"]);
    assert_eq!(life.state.user(&default(), "u0").unwrap().role, "member");
    life.restart();
    assert_eq!(names(&life), ["u0", "u2"]);
}

#[test]
fn what_a_person_links_is_bounded() {
    let mut life = Life::begin();
    life.register("ada", "ada@example.test");
    for nth in 0..=THINGS_MAX {
        life.add(&nth.to_string());
        let linked = life.account("ada", link(&nth.to_string()));
        assert_eq!(linked.map(drop), if nth < THINGS_MAX { Ok(()) } else { Err(Code::QueueFull) });
    }
    assert!(life.account("ada", link("0")).is_ok(), "once more is no more");
}

#[test]
fn a_code_makes_one_device_once_and_not_after_its_end() {
    let mut life = Life::begin();
    life.code("one", 100).unwrap();
    assert_eq!(life.code("one", 100).unwrap_err(), Code::Conflict);
    assert!(life.known_code("one", 99) && !life.known_code("one", 100));
    assert_eq!(life.activate(100, "one", "a").unwrap_err(), Code::NotFound);
    life.activate(99, "one", "a").unwrap();
    let thing = life.state.verify_thing("token of a").unwrap();
    assert!(matches!(thing.identity, Identity::Device { .. }) && &*thing.name == "a");
    assert_eq!(life.state.verify_token(&default(), None, "token of a", UnixMs(0)), None);
    assert!(!life.known_code("one", 99));
    assert_eq!(life.activate(99, "one", "b").unwrap_err(), Code::NotFound);
    // What cannot be made leaves the code as it is.
    life.code("two", 100).unwrap();
    assert_eq!(life.activate(99, "two", "a").unwrap_err(), Code::Conflict);
    assert!(life.known_code("two", 99));
    life.restart();
    assert_eq!(life.state.activations(&default()).len(), 1);
    life.at(2, Change::Activation { id: "two".to_owned(), step: ActivationStep::Remove }).unwrap();
    assert!(life.state.activations(&default()).is_empty());
}

#[test]
fn codes_that_are_over_make_room() {
    let mut life = Life::begin();
    life.code("one", 2).unwrap();
    life.at(2, {
        let id = "two".to_owned();
        let code =
            Activation { id: id.clone(), hash: [9; 32], ends_ms: 9, ..Activation::default() };
        Change::Activation { id, step: ActivationStep::Add(code) }
    })
    .unwrap();
    let ids: Vec<_> = life.state.activations(&default()).iter().map(|a| a.id.clone()).collect();
    assert_eq!(ids, ["two"]);
}
