//! Rows as bytes: each begins with its version; integers in keys are big-endian.
//!
//! Invariant: decoding never panics on any bytes; what it accepts is what was encoded.

use std::sync::Arc;

use fieldgate_core::{
    audit::Trail,
    dialect::CommandState,
    id::{Epoch, Seq, TenantId, UnixMs},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Table, desired, reported};
use crate::{
    audit::AuditEntry,
    codec,
    record::{Entry, Record},
    registry::old::DeviceV1,
    state::{
        OpenCommand,
        changes::{Row, RowKey},
        window::KnownId,
    },
};

const V1: u8 = 1;
/// Devices with a profile.
const V2: u8 = 2;
const DEVICE: u8 = b'd';
const API_KEY: u8 = b'k';
const USER: u8 = b'u';
const SIGN_INS: u8 = b's';
const GROUP: u8 = b'g';
const NUMBERS: u8 = b'n';
const GUARD: u8 = b'h';
const SCENE: u8 = b'c';
const TENANT: u8 = b't';
/// Bytes of one known id in a row.
const ID_BYTES: usize = 40;

/// These bytes are no row of a version known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadRow;

/// What the tables stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
}

pub(crate) const APPLIED_KEY: &[u8] = b"applied";

impl Applied {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut out = vec![V1];
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.seq.0.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadRow> {
        let rest = versioned(bytes)?;
        let (epoch, seq) = rest.split_first_chunk().ok_or(BadRow)?;
        let seq = seq.try_into().map_err(|_| BadRow)?;
        Ok(Self { epoch: Epoch(u32::from_le_bytes(*epoch)), seq: Seq(u64::from_le_bytes(seq)) })
    }
}

fn versioned(bytes: &[u8]) -> Result<&[u8], BadRow> {
    bytes.strip_prefix(&[V1]).ok_or(BadRow)
}

/// Where a row stands.
pub(crate) fn encode_key(key: &RowKey) -> (Table, Vec<u8>) {
    let named = |tenant: &TenantId, kind: Option<u8>, name: &str| {
        let mut out = tenant.as_str().as_bytes().to_vec();
        out.push(0);
        out.extend(kind);
        out.extend_from_slice(name.as_bytes());
        out
    };
    match key {
        RowKey::Tenant(tenant) => (Table::Registry, named(tenant, Some(TENANT), "")),
        RowKey::Device(tenant, id) => (Table::Registry, named(tenant, Some(DEVICE), id.as_str())),
        RowKey::Key(tenant, name) => (Table::Registry, named(tenant, Some(API_KEY), name)),
        RowKey::User(tenant, name) => (Table::Registry, named(tenant, Some(USER), name)),
        RowKey::SignIns(tenant, name) => (Table::Registry, named(tenant, Some(SIGN_INS), name)),
        RowKey::Group(tenant, id) => (Table::Registry, named(tenant, Some(GROUP), id)),
        RowKey::Scene(tenant, id) => (Table::Registry, named(tenant, Some(SCENE), id)),
        RowKey::Numbers(tenant) => (Table::Registry, named(tenant, Some(NUMBERS), "")),
        RowKey::Guard(tenant, id) => (Table::Registry, named(tenant, Some(GUARD), id.as_str())),
        RowKey::Retained(tenant, topic) => (Table::Retained, named(tenant, None, topic.as_str())),
        RowKey::Command(seq) => (Table::Command, seq.0.to_be_bytes().to_vec()),
        RowKey::Reported(tenant, id) => (Table::Reported, named(tenant, None, id.as_str())),
        RowKey::Audit(tenant, trail, number) => {
            let mut key = named(tenant, Some(trail_byte(*trail)), "");
            key.extend_from_slice(&number.to_be_bytes());
            (Table::Audit, key)
        }
        RowKey::Desired(tenant, id) => (Table::Desired, named(tenant, None, id.as_str())),
    }
}

/// What stands there.
pub(crate) fn encode_row(row: &Row) -> Vec<u8> {
    let mut out = vec![if matches!(row, Row::Device(_)) { V2 } else { V1 }];
    match row {
        Row::Tenant(info) => put(info, &mut out),
        Row::Device(device) => put(&**device, &mut out),
        Row::Key(key) => put(&**key, &mut out),
        Row::User(user) => put(&**user, &mut out),
        Row::SignIns(sign_ins) => put(&**sign_ins, &mut out),
        Row::Group(group) => put(&**group, &mut out),
        Row::Numbers(numbers) => put(numbers, &mut out),
        Row::Guard(guard) => put(&**guard, &mut out),
        Row::Scene(scene) => put(&**scene, &mut out),
        Row::Retained(entry) => put_entry(entry, &mut out),
        Row::Command(command) => {
            out.push(command.state as u8);
            put_entry(&command.entry, &mut out);
        }
        Row::Reported(state) => reported::put(state, &mut out),
        Row::Audit(entry) => put(&**entry, &mut out),
        Row::Desired(wishes) => desired::put(wishes, &mut out),
    }
    out
}

fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing plain data to memory has no way to fail; an empty row would be refused when read.
    out.extend_from_slice(&postcard::to_stdvec(value).unwrap_or_default());
}

fn put_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.seq.0.to_le_bytes());
    out.extend_from_slice(&entry.arrived.0.to_le_bytes());
    codec::encode(&entry.record, out);
}

/// Reads a row back.
pub(crate) fn decode(table: Table, key: &[u8], value: &[u8]) -> Result<(RowKey, Row), BadRow> {
    if table == Table::Registry {
        return decode_registry(key, value);
    }
    let value = versioned(value)?;
    match table {
        Table::Retained => {
            let (tenant, topic) = split_tenant(key)?;
            let topic = text(topic)?.parse().map_err(|_| BadRow)?;
            Ok((RowKey::Retained(tenant, topic), Row::Retained(take_entry(value)?)))
        }
        Table::Command => {
            let (state, value) = value.split_first().ok_or(BadRow)?;
            let entry = take_entry(value)?;
            let Record::Message(message) = &entry.record else { return Err(BadRow) };
            let command = OpenCommand::of(&entry, message, open_state(*state)?).ok_or(BadRow)?;
            Ok((RowKey::Command(entry.seq), Row::Command(command)))
        }
        Table::Reported => {
            let (tenant, device) = split_tenant(key)?;
            let device = text(device)?.parse().map_err(|_| BadRow)?;
            let state = reported::take(value).ok_or(BadRow)?;
            Ok((RowKey::Reported(tenant, device), Row::Reported(Arc::new(state))))
        }
        Table::Audit => {
            let (tenant, rest) = split_tenant(key)?;
            let (byte, number) = rest.split_first().ok_or(BadRow)?;
            let trail = Trail::ALL.into_iter().find(|trail| trail_byte(*trail) == *byte);
            let number = u64::from_be_bytes(number.try_into().map_err(|_| BadRow)?);
            let entry: AuditEntry = take(value)?;
            if entry.number != number {
                return Err(BadRow);
            }
            let key = RowKey::Audit(tenant, trail.ok_or(BadRow)?, number);
            Ok((key, Row::Audit(Arc::new(entry))))
        }
        Table::Desired => {
            let (tenant, device) = split_tenant(key)?;
            let device = text(device)?.parse().map_err(|_| BadRow)?;
            let wishes = desired::take(value).ok_or(BadRow)?;
            Ok((RowKey::Desired(tenant, device), Row::Desired(Arc::new(wishes))))
        }
        Table::Meta | Table::MsgId | Table::Registry => Err(BadRow),
    }
}

const fn trail_byte(trail: Trail) -> u8 {
    match trail {
        Trail::Admin => b'm',
        Trail::Access => b'x',
    }
}

fn decode_registry(key: &[u8], value: &[u8]) -> Result<(RowKey, Row), BadRow> {
    let (tenant, rest) = split_tenant(key)?;
    let (kind, name) = rest.split_first().ok_or(BadRow)?;
    let name = text(name)?;
    match *kind {
        DEVICE => {
            let id = name.parse().map_err(|_| BadRow)?;
            let device = match value.strip_prefix(&[V2]) {
                Some(value) => take(value)?,
                None => take::<DeviceV1>(versioned(value)?)?.into(),
            };
            Ok((RowKey::Device(tenant, id), Row::Device(Arc::new(device))))
        }
        API_KEY => {
            let key = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::Key(tenant, name.to_owned()), Row::Key(key)))
        }
        USER => {
            let user = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::User(tenant, name.to_owned()), Row::User(user)))
        }
        TENANT => Ok((RowKey::Tenant(tenant), Row::Tenant(take(versioned(value)?)?))),
        SIGN_INS => {
            let sign_ins = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::SignIns(tenant, name.to_owned()), Row::SignIns(sign_ins)))
        }
        GROUP => {
            let group = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::Group(tenant, name.to_owned()), Row::Group(group)))
        }
        SCENE => {
            let scene = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::Scene(tenant, name.to_owned()), Row::Scene(scene)))
        }
        NUMBERS => Ok((RowKey::Numbers(tenant), Row::Numbers(take(versioned(value)?)?))),
        GUARD => {
            let id = name.parse().map_err(|_| BadRow)?;
            Ok((RowKey::Guard(tenant, id), Row::Guard(Arc::new(take(versioned(value)?)?))))
        }
        _ => Err(BadRow),
    }
}

fn open_state(byte: u8) -> Result<CommandState, BadRow> {
    let open = [CommandState::Queued, CommandState::Sent, CommandState::Acknowledged];
    open.into_iter().find(|state| *state as u8 == byte).ok_or(BadRow)
}

fn split_tenant(key: &[u8]) -> Result<(TenantId, &[u8]), BadRow> {
    let at = key.iter().position(|byte| *byte == 0).ok_or(BadRow)?;
    let (tenant, rest) = key.split_at_checked(at).ok_or(BadRow)?;
    let tenant = text(tenant)?.parse().map_err(|_| BadRow)?;
    Ok((tenant, rest.get(1..).unwrap_or_default()))
}

fn text(bytes: &[u8]) -> Result<&str, BadRow> {
    std::str::from_utf8(bytes).map_err(|_| BadRow)
}

fn take<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRow> {
    postcard::from_bytes(bytes).map_err(|_| BadRow)
}

fn take_entry(bytes: &[u8]) -> Result<Arc<Entry>, BadRow> {
    let (seq, rest) = bytes.split_first_chunk().ok_or(BadRow)?;
    let (arrived, rest) = rest.split_first_chunk().ok_or(BadRow)?;
    let record = codec::decode(rest).map_err(|_| BadRow)?;
    let (seq, arrived) = (u64::from_le_bytes(*seq), u64::from_le_bytes(*arrived));
    Ok(Arc::new(Entry { seq: Seq(seq), arrived: UnixMs(arrived), record }))
}

/// Known ids as one row.
pub(crate) fn encode_ids(ids: &[KnownId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + ids.len() * ID_BYTES);
    out.push(V1);
    for known in ids {
        out.extend_from_slice(&known.sender.to_le_bytes());
        out.extend_from_slice(&known.id.to_le_bytes());
        out.extend_from_slice(&known.seq.0.to_le_bytes());
        out.extend_from_slice(&known.arrived.0.to_le_bytes());
    }
    out
}

/// Reads a row of known ids back.
pub(crate) fn decode_ids(bytes: &[u8]) -> Result<Vec<KnownId>, BadRow> {
    let (chunks, rest) = versioned(bytes)?.as_chunks::<ID_BYTES>();
    if !rest.is_empty() {
        return Err(BadRow);
    }
    chunks.iter().map(|chunk| decode_id(chunk)).collect()
}

fn decode_id(bytes: &[u8]) -> Result<KnownId, BadRow> {
    let (sender, rest) = bytes.split_first_chunk().ok_or(BadRow)?;
    let (id, rest) = rest.split_first_chunk().ok_or(BadRow)?;
    let (seq, rest) = rest.split_first_chunk().ok_or(BadRow)?;
    let arrived = rest.try_into().map_err(|_| BadRow)?;
    Ok(KnownId {
        sender: u64::from_le_bytes(*sender),
        id: u128::from_le_bytes(*id),
        seq: Seq(u64::from_le_bytes(*seq)),
        arrived: UnixMs(u64::from_le_bytes(arrived)),
    })
}

#[cfg(test)]
mod tests {
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
        let group = crate::registry::Group {
            id: id.clone(),
            number: 7,
            name: name_of_group,
            last_scene: 3,
        };
        let numbers = crate::registry::Numbers { group: 9, scene: 2 };
        let guard = crate::registry::Guard {
            sealed: [("hmac-1".to_owned(), crate::registry::Sealed(vec![1, 2]))].into(),
            integrity: true,
            nonces: fieldgate_core::replay::Nonces::of_parts(
                UnixMs(5),
                [([7; 16], UnixMs(9))].into(),
            ),
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
        for (key, row) in rows {
            let (table, place) = encode_key(&key);
            let (back, again) = decode(table, &place, &encode_row(&row)).unwrap();
            assert_eq!(back, key);
            assert_eq!(encode_row(&again), encode_row(&row));
        }
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
            let _ = decode_ids(&versioned);
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

        #[test]
        fn ids_survive_the_round_trip(ids in proptest::collection::vec(any::<(u64, u128, u64, u64)>(), 0..20)) {
            let known = |(sender, id, seq, at): &(u64, u128, u64, u64)| KnownId {
                sender: *sender, id: *id, seq: Seq(*seq), arrived: UnixMs(*at),
            };
            let ids: Vec<KnownId> = ids.iter().map(known).collect();
            prop_assert_eq!(decode_ids(&encode_ids(&ids)), Ok(ids));
        }
    }
}
