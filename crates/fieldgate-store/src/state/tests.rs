//! What records mean, applied in order.

use std::collections::BTreeMap;

use fieldgate_core::{
    dialect::CommandState,
    fault::Code,
    message::{Content, Message, Qos},
    testing,
};

use super::*;
use crate::{
    memory::SimLog,
    port::{Followed, Log as _},
    record::{CommandChange, Entry, Record},
    registry::{Change, RegistryChange},
};

fn state() -> State {
    State::new(
        MasterKey::ephemeral().unwrap(),
        StateLimits { retained_max: 2, ..StateLimits::default() },
    )
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn apply(state: &State, seq: u64, record: Record) -> Vec<Effect> {
    state.apply(&Followed::Entry(Arc::new(Entry { seq: Seq(seq), arrived: UnixMs(seq), record })))
}

fn message(topic: &str, payload: &str, retain: bool) -> Record {
    Record::Message(Message {
        reference: "r-1".parse().ok(),
        retain,
        expires: Some(UnixMs(1_000)),
        ..testing::message(topic, Qos::AtLeastOnce, payload)
    })
}

fn change(change: Change) -> Record {
    Record::Registry(Box::new(RegistryChange::local("default", change)))
}

fn device(state: &State, id: &str, token: &str) -> Change {
    let hash = state.master_key().hash(token);
    let credentials = BTreeMap::from([("1".to_owned(), hash)]);
    Change::DeviceAdd(Device { id: id.to_owned(), credentials, ..Device::default() })
}

#[test]
fn a_device_id_is_given_once() {
    let state = state();
    apply(&state, 1, change(device(&state, "a", "t1")));
    apply(&state, 2, change(device(&state, "a", "t2")));
    assert_eq!(state.outcome(Seq(1)), Some(Ok(())));
    assert_eq!(state.outcome(Seq(2)).unwrap().unwrap_err().code, Code::Conflict);
    let verify = |device: Option<&str>, token: &str| {
        let id = device.map(|id| id.parse().unwrap());
        state.verify_token(&tenant(), id.as_ref(), token, UnixMs(0)).is_some()
    };
    assert!(verify(Some("a"), "t1") && verify(None, "t1"));
    assert!(!verify(Some("a"), "t2") && !verify(Some("b"), "t1") && !verify(None, "t2"));
}

#[test]
fn a_device_with_the_name_of_another_is_asked_for_no_more_and_stays_where_it_is() {
    let state = state();
    for (seq, id) in (1..).zip(["key:k", "user:anna", "source:cloud"]) {
        let record = change(device(&state, id, id));
        let Record::Registry(asked) = &record else { panic!("a change") };
        assert_eq!(asked.check_new().unwrap_err().code, Code::BadValue, "{id}");
        // As the log of an earlier release has it.
        apply(&state, seq, record);
        assert_eq!(state.outcome(Seq(seq)), Some(Ok(())), "{id}");
        assert!(state.device(&tenant(), &id.parse().unwrap()).is_some());
    }
    for id in ["key", "keys:k", "urn:key:k", "00:17:88"] {
        assert_eq!(RegistryChange::local("default", device(&state, id, id)).check_new(), Ok(()));
    }
}

#[test]
fn a_token_of_ones_own_counts_for_its_device_alone() {
    let state = state();
    let id: DeviceId = "a".parse().unwrap();
    let hash = state.master_key().hash_own(&tenant(), &id, "device-secret-token");
    let credentials = BTreeMap::from([("1".to_owned(), hash)]);
    let device = Device { id: "a".to_owned(), credentials, ..Device::default() };
    apply(&state, 1, change(Change::DeviceAdd(device)));
    let verify = |id| state.verify_token(&tenant(), id, "device-secret-token", UnixMs(0)).is_some();
    assert!(verify(Some(&id)));
    assert!(!verify(None));
}

#[test]
fn a_removed_device_is_nobody() {
    let state = state();
    apply(&state, 1, change(device(&state, "a", "t")));
    let effects = apply(&state, 2, change(Change::DeviceRemove("a".to_owned())));
    assert!(matches!(&effects[..], [Effect::RightsChanged { name, .. }] if &**name == "a"));
    assert!(state.verify_token(&tenant(), None, "t", UnixMs(0)).is_none());
    apply(&state, 3, change(Change::DeviceRemove("a".to_owned())));
    assert_eq!(state.outcome(Seq(3)).unwrap().unwrap_err().code, Code::NotFound);
}

#[test]
fn retained_messages_are_the_newest_and_bounded() {
    let state = state();
    apply(&state, 1, message("a/1", "old", true));
    apply(&state, 2, message("a/1", "new", true));
    apply(&state, 3, message("a/2", "x", true));
    let refused = apply(&state, 4, message("a/3", "x", true));
    assert!(matches!(refused[..], [Effect::RetainedRefused { .. }]));
    let seqs = |filter: &str| -> Vec<u64> {
        let entries = state.retained(&tenant(), &filter.parse().unwrap());
        entries.iter().map(|entry| entry.seq.0).collect()
    };
    assert_eq!(seqs("a/#"), [2, 3]);
    apply(&state, 5, message("a/1", "", true));
    assert_eq!(seqs("a/+"), [3]);
}

#[test]
fn the_first_end_of_a_command_stands() {
    let state = state();
    apply(&state, 1, message("devices/lamp/commands", "{}", false));
    let device: DeviceId = "lamp".parse().unwrap();
    let step = |seq, to| {
        let record = Record::Command(CommandChange {
            tenant: tenant(),
            device: device.clone(),
            command: Seq(1),
            state: to,
            payload: None,
            by: "lamp".into(),
        });
        apply(&state, seq, record).len()
    };
    assert_eq!(state.open_commands(&tenant(), &device).len(), 1);
    let open = OpenCount { device_count: 1, tenant_count: 1, tenant_bytes: 2 };
    assert_eq!(state.open_count(&tenant(), &device), open);
    assert_eq!(step(2, CommandState::Sent), 1);
    assert_eq!(step(3, CommandState::Sent), 0);
    assert_eq!(step(4, CommandState::Acknowledged), 1);
    assert_eq!(step(5, CommandState::Queued), 0);
    assert_eq!(state.expired_commands(UnixMs(1_000)).len(), 1);
    assert_eq!(step(6, CommandState::Completed), 1);
    assert_eq!(step(7, CommandState::Failed), 0);
    assert!(state.open_commands(&tenant(), &device).is_empty());
    assert_eq!(state.open_count(&tenant(), &device), OpenCount::default());
}

#[test]
fn what_waits_for_a_device_ends_with_it() {
    let state = state();
    apply(&state, 1, change(device(&state, "lamp", "t1")));
    for (seq, id) in [(2, "lamp"), (3, "other"), (4, "lamp")] {
        apply(&state, seq, message(&format!("devices/{id}/commands"), "{}", false));
    }
    state.changes().take();
    let ended: Vec<_> = apply(&state, 5, change(Change::DeviceRemove("lamp".to_owned())))
        .into_iter()
        .filter_map(|effect| {
            let Effect::CommandMoved(moved) = effect else { return None };
            Some((moved.command.entry.seq.0, moved.command.state))
        })
        .collect();
    assert_eq!(ended, [(2, CommandState::Cancelled), (4, CommandState::Cancelled)]);
    let rows = state.changes().take().rows;
    let is_gone = |seq| rows.get(&RowKey::Command(Seq(seq))).map(Option::is_none);
    assert_eq!([2, 3, 4].map(is_gone), [Some(true), None, Some(true)]);
    // Who gets the id next gets nothing of it.
    apply(&state, 6, change(device(&state, "lamp", "t2")));
    assert!(state.open_commands(&tenant(), &"lamp".parse().unwrap()).is_empty());
    let left = state.open_count(&tenant(), &"other".parse().unwrap());
    assert_eq!(left, OpenCount { device_count: 1, tenant_count: 1, tenant_bytes: 2 });
}

#[test]
fn a_repeat_has_the_number_of_its_message_unless_that_was_refused() {
    let state = state();
    let (sender, id) = (Arc::from("a"), "m".parse().unwrap());
    let admit = |now, refused, next: u64| {
        state
            .window()
            .admit(&tenant(), &sender, &id, UnixMs(now), |_| refused, || Ok(next..=next))
            .unwrap()
    };
    assert_eq!(admit(0, false, 1), Admit::New(1..=1));
    assert_eq!(admit(1, false, 2), Admit::Repeat(Seq(1)));
    assert_eq!(admit(2, true, 3), Admit::New(3..=3));
    assert_eq!(admit(3, false, 4), Admit::Repeat(Seq(3)));
    assert_eq!(admit(700_000, false, 5), Admit::New(5..=5));
}

#[test]
fn a_user_is_decided_when_its_turn_comes() {
    let state = state();
    let add = |role: &str, password: &str| {
        let password = crate::secret::hash_password(password).unwrap();
        Change::UserAdd(crate::registry::User {
            name: "ada".to_owned(),
            role: role.to_owned(),
            password,
        })
    };
    apply(&state, 1, change(add("viewer", "first")));
    apply(&state, 2, change(add("admin", "second")));
    assert_eq!(state.outcome(Seq(2)).unwrap().unwrap_err().code, Code::Conflict);
    let users = state.users(&tenant());
    assert_eq!((users.len(), &*users[0].role), (1, "viewer"));
    let effects = apply(&state, 3, change(Change::UserRemove("ada".to_owned())));
    assert!(matches!(&effects[..], [Effect::RightsChanged { name, .. }] if &**name == "user:ada"));
    assert!(state.users(&tenant()).is_empty());
    apply(&state, 4, change(Change::UserRemove("ada".to_owned())));
    assert_eq!(state.outcome(Seq(4)).unwrap().unwrap_err().code, Code::NotFound);
}

#[test]
fn what_a_secret_proved_ends_with_that_secret_alone() {
    let state = state();
    apply(&state, 1, change(device(&state, "a", "t1")));
    let hash = state.master_key().hash("t2");
    let (device, credential) = ("a".to_owned(), "2".to_owned());
    apply(&state, 2, change(Change::CredentialAdd { device, credential, hash, describing: false }));
    let verify = |token: &str| state.verify_token(&tenant(), None, token, UnixMs(0));
    let (first, second) = (verify("t1").unwrap(), verify("t2").unwrap());
    assert_ne!(first.proof, second.proof);
    let named = state.verify_token(&tenant(), Some(&"a".parse().unwrap()), "t2", UnixMs(0));
    assert_eq!(named.as_ref(), Some(&second));
    let (device, credential) = ("a".to_owned(), "1".to_owned());
    apply(&state, 3, change(Change::CredentialRemove { device, credential }));
    assert!(verify("t1").is_none() && state.refresh(&first, UnixMs(0)).is_none());
    assert_eq!(state.refresh(&second, UnixMs(0)), Some(second));
}

#[test]
fn a_key_that_took_the_place_of_another_does_not_keep_its_streams() {
    let state = state();
    let add = |token: &str| {
        let hash = state.master_key().hash(token);
        let (role, grants, expires_ms) = (Some("admin".to_owned()), Vec::new(), Some(10));
        Change::KeyAdd(ApiKey { name: "k".to_owned(), hash, role, grants, expires_ms })
    };
    apply(&state, 1, change(add("old")));
    let old = state.verify_token(&tenant(), None, "old", UnixMs(0)).unwrap();
    assert_eq!(old.expires, Some(UnixMs(10)));
    apply(&state, 2, change(Change::KeyRevoke("k".to_owned())));
    apply(&state, 3, change(add("new")));
    assert!(state.refresh(&old, UnixMs(0)).is_none());
    let new = state.verify_token(&tenant(), None, "new", UnixMs(9)).unwrap();
    assert!(state.refresh(&new, UnixMs(9)).is_some() && state.refresh(&new, UnixMs(10)).is_none());
}

/// What a device told, at QoS 1.
fn telemetry(device: &str, payload: &str) -> Record {
    let topic = format!("devices/{device}/telemetry");
    Record::Message(Message {
        content: Content::Json,
        ..testing::message(&topic, Qos::AtLeastOnce, payload)
    })
}

fn value(state: &State, device: &str, name: &str) -> Option<String> {
    let reported = state.reported(&tenant(), &device.parse().unwrap())?;
    reported.resource(name)?.value.as_deref().map(str::to_owned)
}

/// A log in which everything is durable.
fn durable_log(until: u64) -> Arc<SimLog> {
    let log = SimLog::new();
    for _ in 0..until {
        log.append(vec![telemetry("d", "{}")], UnixMs(1)).unwrap();
    }
    log
}

#[test]
fn what_a_device_reported_is_known_at_once_and_merged_when_many_messages_wait() {
    let (state, log) = (state(), durable_log(200));
    for seq in 1..=130 {
        apply(&state, seq, telemetry("lamp", &format!("{{\"n\":{seq}}}")));
        assert_eq!(value(&state, "lamp", "n"), Some(seq.to_string()));
    }
    let waiting = || state.read().tenants[&tenant()].slots.waiting_count("lamp");
    assert_eq!(waiting(), 130);
    state.settle(&*log);
    assert_eq!((waiting(), value(&state, "lamp", "n")), (0, Some("130".to_owned())));
    apply(&state, 131, telemetry("lamp", "{\"n\":7}"));
    state.settle(&*log);
    assert_eq!((waiting(), value(&state, "lamp", "n")), (1, Some("7".to_owned())));
}

#[test]
fn large_messages_do_not_wait() {
    let (state, log) = (state(), durable_log(200));
    let payload = format!("{{\"n\":\"{}\"}}", "x".repeat(1 << 20));
    for seq in 1..=20 {
        apply(&state, seq, telemetry(&format!("d{seq}"), &payload));
        state.settle(&*log);
    }
    let inner = state.read();
    let waiting = (1..=20).map(|n| inner.tenants[&tenant()].slots.waiting_count(&format!("d{n}")));
    assert_eq!(waiting.sum::<usize>(), 15, "16 MiB wait, and no more");
}

#[test]
fn a_device_that_is_removed_takes_its_state_along() {
    let state = state();
    apply(&state, 1, change(device(&state, "lamp", "t1")));
    apply(&state, 2, telemetry("lamp", "{\"on\":true}"));
    assert_eq!(value(&state, "lamp", "on").as_deref(), Some("true"));
    apply(&state, 3, change(Change::DeviceRemove("lamp".to_owned())));
    assert_eq!(state.reported(&tenant(), &"lamp".parse().unwrap()), None);
}

#[test]
fn devices_that_nobody_added_have_a_state_up_to_a_bound_and_the_others_always() {
    let (state, log) = (state(), durable_log(20_000));
    let strangers = 10_000;
    for seq in 1..=strangers {
        apply(&state, seq, telemetry(&format!("s{seq}"), "{\"n\":1}"));
    }
    apply(&state, strangers + 1, telemetry("late", "{\"n\":1}"));
    assert_eq!(value(&state, "late", "n"), None);
    let effects = state.settle(&*log);
    let [Effect::ReportRefused { device, count: 1, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(&**device, "late");
    apply(&state, strangers + 2, change(self::device(&state, "known", "t1")));
    apply(&state, strangers + 3, telemetry("known", "{\"n\":1}"));
    assert_eq!(value(&state, "known", "n").as_deref(), Some("1"));
    // One of them is added: there is room for another.
    apply(&state, strangers + 4, change(self::device(&state, "s7", "t2")));
    apply(&state, strangers + 5, telemetry("late", "{\"n\":2}"));
    assert_eq!(value(&state, "late", "n").as_deref(), Some("2"));
}
