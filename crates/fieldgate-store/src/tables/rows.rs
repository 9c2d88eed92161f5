//! Rows as bytes: each begins with its version; integers in keys are big-endian.
//!
//! Invariant: decoding never panics on any bytes; what it accepts is what was encoded.

mod ids;

use std::sync::Arc;

use fieldgate_core::{
    audit::Trail,
    dialect::CommandState,
    id::{Epoch, Seq, TenantId, UnixMs},
};
pub(crate) use ids::{decode_ids, encode_ids};
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
    },
};

const V1: u8 = 1;
/// Devices with a profile; ids, those of a sender together.
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
const INTEGRATION: u8 = b'i';
const PROGRESS: u8 = b'p';
const ASIDES: u8 = b'a';
const ORIGIN: u8 = b'o';
const ACCOUNT: u8 = b'm';
const ACTIVATION: u8 = b'v';
const PARTS: u8 = b'e';
const PART_NUMBERS: u8 = b'l';
const BRIDGE_KEY: u8 = b'b';

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
        RowKey::Integration(tenant, name) => {
            (Table::Registry, named(tenant, Some(INTEGRATION), name))
        }
        RowKey::Progress(tenant, name) => (Table::Registry, named(tenant, Some(PROGRESS), name)),
        RowKey::Asides(tenant, name) => (Table::Registry, named(tenant, Some(ASIDES), name)),
        RowKey::Origin(tenant, id) => (Table::Registry, named(tenant, Some(ORIGIN), id.as_str())),
        RowKey::Account(tenant, name) => (Table::Registry, named(tenant, Some(ACCOUNT), name)),
        RowKey::Activation(tenant, id) => (Table::Registry, named(tenant, Some(ACTIVATION), id)),
        RowKey::Parts(tenant, id) => (Table::Registry, named(tenant, Some(PARTS), id.as_str())),
        RowKey::PartNumbers(tenant) => (Table::Registry, named(tenant, Some(PART_NUMBERS), "")),
        RowKey::BridgeKey(tenant, id) => (Table::Registry, named(tenant, Some(BRIDGE_KEY), id)),
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
        Row::Integration(integration) => put(&**integration, &mut out),
        Row::Progress(progress) => put(&**progress, &mut out),
        Row::Asides(asides) => put(&**asides, &mut out),
        Row::Origin(origin) => put(&**origin, &mut out),
        Row::Account(account) => put(&**account, &mut out),
        Row::Activation(activation) => put(&**activation, &mut out),
        Row::Parts(parts) => put(&**parts, &mut out),
        Row::PartNumbers(numbers) => put(numbers, &mut out),
        Row::BridgeKey(key) => put(&**key, &mut out),
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
        INTEGRATION => {
            let integration = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::Integration(tenant, name.to_owned()), Row::Integration(integration)))
        }
        PROGRESS => {
            let progress = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::Progress(tenant, name.to_owned()), Row::Progress(progress)))
        }
        ASIDES => {
            let asides = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::Asides(tenant, name.to_owned()), Row::Asides(asides)))
        }
        ORIGIN => {
            let id = name.parse().map_err(|_| BadRow)?;
            Ok((RowKey::Origin(tenant, id), Row::Origin(Arc::new(take(versioned(value)?)?))))
        }
        ACCOUNT => {
            let account = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::Account(tenant, name.to_owned()), Row::Account(account)))
        }
        ACTIVATION => {
            let activation = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::Activation(tenant, name.to_owned()), Row::Activation(activation)))
        }
        kind => decode_bridge(kind, tenant, name, value),
    }
}

/// Rows of what deCONZ apps see.
fn decode_bridge(
    kind: u8,
    tenant: TenantId,
    name: &str,
    value: &[u8],
) -> Result<(RowKey, Row), BadRow> {
    match kind {
        PARTS => {
            let id = name.parse().map_err(|_| BadRow)?;
            Ok((RowKey::Parts(tenant, id), Row::Parts(Arc::new(take(versioned(value)?)?))))
        }
        PART_NUMBERS => {
            Ok((RowKey::PartNumbers(tenant), Row::PartNumbers(take(versioned(value)?)?)))
        }
        BRIDGE_KEY => {
            let key = Arc::new(take(versioned(value)?)?);
            Ok((RowKey::BridgeKey(tenant, name.to_owned()), Row::BridgeKey(key)))
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

#[cfg(test)]
mod tests;
