//! Rows survive the round trip, and no bytes panic.

use proptest::prelude::*;

use super::*;
use crate::{
    audit::{Author, Said},
    registry::{Device, TenantInfo, TenantLimits},
    testing::message_at,
};
use fieldgate_core::audit::Act;

fn entry(seq: u64, topic: &str) -> Arc<Entry> {
    let record = message_at(topic, fieldgate_core::message::Qos::AtLeastOnce, "{}");
    Arc::new(Entry { seq: Seq(seq), arrived: UnixMs(7), record })
}

fn survive(rows: impl IntoIterator<Item = (RowKey, Row)>) {
    for (key, row) in rows {
        let (table, place) = encode_key(&key);
        let (back, again) = decode(table, &place, &encode_row(&row)).unwrap();
        assert_eq!(back, key);
        assert_eq!(encode_row(&again), encode_row(&row));
    }
}

#[test]
fn rows_survive_the_round_trip() {
    let tenant = TenantId::default_tenant;
    let device = Device { id: "lamp".to_owned(), ..Device::default() };
    let command = entry(9, "devices/lamp/commands");
    let Record::Message(message) = &command.record else { panic!("a message") };
    let command = OpenCommand::of(&command, message, CommandState::Sent).unwrap();
    let password = crate::secret::hash_password("correct horse").unwrap();
    let (name, role) = ("ada".to_owned(), "viewer".to_owned());
    let user = crate::registry::User { name: name.clone(), role, password };
    let access = crate::registry::Access { hash: [3; 32], ends_ms: 4 };
    let sign_ins = crate::registry::SignIns {
        sessions: vec![crate::registry::Session {
            family: [1; 32],
            refresh: [2; 32],
            ends_ms: 5,
            access: vec![access],
        }],
        links: vec![crate::registry::LoginLink { hash: [6; 32], ends_ms: 7 }],
    };
    let said = Said::done(Act::KeyAdd, &Author::local(), "dashboard").with("role", "viewer");
    let audited = AuditEntry::after(None, Seq(4), UnixMs(5), said);
    let (id, name_of_group) = ("hall/2 #".to_owned(), Some("Hall".to_owned()));
    let group =
        crate::registry::Group { id: id.clone(), number: 7, name: name_of_group, last_scene: 3 };
    let numbers = crate::registry::Numbers { group: 9, scene: 2 };
    let guard = crate::registry::Guard {
        sealed: [("hmac-1".to_owned(), crate::registry::Sealed(vec![1, 2]))].into(),
        integrity: true,
        nonces: fieldgate_core::replay::Nonces::of_parts(UnixMs(5), [([7; 16], UnixMs(9))].into()),
    };
    let plan = crate::registry::ScenePlan {
        transition: Some(0.4),
        sets: [("lamp".to_owned(), "{}".to_owned())].into(),
        ..Default::default()
    };
    let scene = crate::registry::Scene { id: "s".to_owned(), number: 2, plan };
    let mut wishes = fieldgate_core::state::Desired::default();
    wishes.take(Seq(8), r#"{"on":true,"é":{"a":[1.0]}}"#, fieldgate_core::state::WISHES);
    let wishes = Arc::new(wishes);
    let limits = TenantLimits { devices_max: Some(3), ..TenantLimits::default() };
    let info = TenantInfo { added_ms: 1, removed_ms: Some(2), limits };
    let rows = [
        (RowKey::Tenant(tenant()), Row::Tenant(info)),
        (RowKey::Audit(tenant(), Trail::Access, 1), Row::Audit(Arc::new(audited))),
        (RowKey::Group(tenant(), id), Row::Group(Arc::new(group))),
        (RowKey::Numbers(tenant()), Row::Numbers(numbers)),
        (RowKey::Guard(tenant(), "lamp".parse().unwrap()), Row::Guard(Arc::new(guard))),
        (RowKey::Scene(tenant(), "s".to_owned()), Row::Scene(Arc::new(scene))),
        (RowKey::SignIns(tenant(), name.clone()), Row::SignIns(Arc::new(sign_ins))),
        (RowKey::User(tenant(), name), Row::User(Arc::new(user))),
        (RowKey::Device(tenant(), "lamp".parse().unwrap()), Row::Device(Arc::new(device))),
        (RowKey::Retained(tenant(), "a/b".parse().unwrap()), Row::Retained(entry(3, "a/b"))),
        (RowKey::Command(Seq(9)), Row::Command(command)),
        (RowKey::Desired(tenant(), "lamp".parse().unwrap()), Row::Desired(wishes)),
    ];
    survive(rows);
}

#[test]
fn what_is_kept_of_integrations_survives_the_round_trip() {
    use crate::registry::{
        Aside, Asides, Integration, IntegrationKind, Origin, Progress, Sealed, Target, TokenIn,
    };
    let (tenant, name) = (TenantId::default_tenant, || "out".to_owned());
    let target = Target {
        url: "https://example.test/".to_owned(),
        token_in: Some(TokenIn::Query("k".to_owned())),
        secret: Some(Sealed(vec![1, 2])),
        rate_max: Some(7),
        ..Target::default()
    };
    let (kind, target) = (IntegrationKind::WebSocket, Some(target));
    let out = Integration { name: name(), kind, paused: true, token: Some([4; 32]), target };
    let last_error = Some(("it hangs".to_owned(), 9));
    let progress = Progress { run: 1, cursor: 5, last_error, ..Progress::default() };
    let aside = Aside { reason: "400".to_owned(), time_ms: 3, retry: true };
    let asides = Asides { messages: [(5, aside)].into(), forgotten: 2 };
    let origin = Origin { source: "cloud".to_owned(), gateway: Some("g".to_owned()) };
    let account = crate::registry::Account {
        email: Some("ada@example.test".to_owned()),
        things: ["lamp".to_owned()].into(),
        settings: Some("{}".to_owned()),
    };
    let activation = crate::registry::Activation {
        id: name(),
        hash: [5; 32],
        groups: vec!["hall".to_owned()],
        ends_ms: 9,
        ..Default::default()
    };
    let rows = [
        (RowKey::Account(tenant(), "ada".to_owned()), Row::Account(Arc::new(account))),
        (RowKey::Activation(tenant(), name()), Row::Activation(Arc::new(activation))),
        (RowKey::Integration(tenant(), name()), Row::Integration(Arc::new(out))),
        (RowKey::Progress(tenant(), name()), Row::Progress(Arc::new(progress))),
        (RowKey::Asides(tenant(), name()), Row::Asides(Arc::new(asides))),
        (RowKey::Origin(tenant(), "lamp".parse().unwrap()), Row::Origin(Arc::new(origin))),
    ];
    survive(rows);
}

#[test]
fn what_is_kept_for_deconz_apps_survives_the_round_trip() {
    use crate::registry::{BridgeKey, PartNumbers, Parts};
    let tenant = TenantId::default_tenant;
    let parts = Parts {
        address: [7; 8],
        numbers: [(("light".to_owned(), 1), 3), (("battery".to_owned(), 15), 9)].into(),
        clip: Some("{}".to_owned()),
    };
    let key = BridgeKey {
        id: "hub-1".to_owned(),
        name: "hub#1".to_owned(),
        hash: [5; 32],
        created_ms: 1,
        used_ms: 2,
        addresses: [("::1".to_owned(), 2)].into(),
    };
    let numbers = PartNumbers { light: 3, sensor: 9 };
    survive([
        (RowKey::Parts(tenant(), "lamp".parse().unwrap()), Row::Parts(Arc::new(parts))),
        (RowKey::PartNumbers(tenant()), Row::PartNumbers(numbers)),
        (RowKey::BridgeKey(tenant(), "hub-1".to_owned()), Row::BridgeKey(Arc::new(key))),
    ]);
}

#[test]
fn an_ended_command_is_no_row() {
    let entry = entry(9, "devices/lamp/commands");
    let mut bytes = vec![V1, CommandState::Completed as u8];
    put_entry(&entry, &mut bytes);
    assert!(decode(Table::Command, &9u64.to_be_bytes(), &bytes).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let versioned: Vec<u8> = std::iter::once(V1).chain(value).collect();
        for table in Table::ALL {
            let _ = decode(table, &key, &versioned);
        }
        let _ = Applied::decode(&versioned);
    }

    #[test]
    fn what_a_device_reported_survives_the_round_trip(parts in proptest::collection::btree_map(
        "[a-zä]{1,9}",
        (any::<(Option<u8>, bool, u64, u64)>(), 0..3usize, proptest::option::of("[kPa%]{1,3}")),
        0..9,
    ), taken: u64) {
        use fieldgate_core::state::{Origin, Quality, Reported, Resource};
        let parts = parts.into_iter().map(|(name, ((value, is_given, time, seq), quality, unit))| {
            let origin = Origin { time: UnixMs(time), is_given, seq: Seq(seq) };
            let quality = [Quality::Good, Quality::Uncertain, Quality::Bad][quality];
            let value = value.map(|value| value.to_string().into());
            let unit = unit.map(Into::into);
            (name.into(), Resource { value, unit, quality, origin })
        });
        let reported = Reported::of_parts(Seq(taken), parts.collect()).unwrap();
        let key = RowKey::Reported(TenantId::default_tenant(), "lamp".parse().unwrap());
        let (table, place) = encode_key(&key);
        let bytes = encode_row(&Row::Reported(Arc::new(reported.clone())));
        let (back, row) = decode(table, &place, &bytes).unwrap();
        let Row::Reported(again) = row else { panic!("{row:?}") };
        prop_assert_eq!((back, &*again), (key, &reported));
        for cut in 1..bytes.len() {
            if let Ok((_, Row::Reported(less))) = decode(table, &place, &bytes[..cut]) {
                prop_assert!(less.all().len() < reported.all().len(), "cut to {}", cut);
            }
        }
    }
}
