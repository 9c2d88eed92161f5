//! What the registry wrote before its devices had profiles, and still reads.
//!
//! Invariant: these forms never change; what they lack is empty.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Change, Device, RegistryChange, SecretHash};

/// Where the changes whose form is another now stand in the list of changes.
const DEVICE_ADD: u32 = 0;
const CREDENTIAL_ADD: u32 = 8;

#[derive(Deserialize)]
pub(crate) struct DeviceV1 {
    id: String,
    kind: Option<String>,
    name: Option<String>,
    groups: Vec<String>,
    gateway_for: Option<String>,
    credentials: BTreeMap<String, SecretHash>,
}

#[derive(Deserialize)]
struct CredentialAddV1 {
    device: String,
    credential: String,
    hash: SecretHash,
}

impl From<DeviceV1> for Device {
    fn from(old: DeviceV1) -> Self {
        let DeviceV1 { id, kind, name, groups, gateway_for, credentials } = old;
        let describing = BTreeSet::new();
        Self { id, kind, name, groups, gateway_for, credentials, describing, profile: None }
    }
}

#[derive(Deserialize)]
struct RegistryChangeV2 {
    tenant: String,
    change: Change,
}

/// Reads a change as it was written before records said who asked for it.
pub(crate) fn change_v2(bytes: &[u8]) -> Result<RegistryChange, postcard::Error> {
    let RegistryChangeV2 { tenant, change } = postcard::from_bytes(bytes)?;
    Ok(RegistryChange { tenant, change, author: None })
}

/// Reads a change as it was written.
pub(crate) fn change(bytes: &[u8]) -> Result<RegistryChange, postcard::Error> {
    let ((tenant, place), rest) = postcard::take_from_bytes::<(String, u32)>(bytes)?;
    let change = match place {
        DEVICE_ADD => Change::DeviceAdd(postcard::from_bytes::<DeviceV1>(rest)?.into()),
        CREDENTIAL_ADD => {
            let CredentialAddV1 { device, credential, hash } = postcard::from_bytes(rest)?;
            Change::CredentialAdd { device, credential, hash, describing: false }
        }
        _ => return change_v2(bytes),
    };
    Ok(RegistryChange { tenant, change, author: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codec,
        record::Record,
        state::changes::Row,
        tables::{Table, rows},
    };

    /// The fields of a device as they were written.
    fn device() -> Vec<u8> {
        let text = b"\x04lamp\x01\x05plant\x00\x01\x03all\x01\x01+\x01\x07token-1";
        [&text[..], &[9; 32]].concat()
    }

    fn expected() -> Device {
        Device {
            id: "lamp".to_owned(),
            kind: Some("plant".to_owned()),
            groups: vec!["all".to_owned()],
            gateway_for: Some("+".to_owned()),
            credentials: BTreeMap::from([("token-1".to_owned(), [9; 32])]),
            ..Device::default()
        }
    }

    fn read(change: &[u8]) -> Change {
        let bytes = [b"\x03\x07default", change].concat();
        let Ok(Record::Registry(change)) = codec::decode(&bytes) else { panic!("a change") };
        assert_eq!(change.tenant, "default");
        let mut again = Vec::new();
        codec::encode(&Record::Registry(change.clone()), &mut again);
        assert_eq!(codec::decode(&again), Ok(Record::Registry(change.clone())));
        change.change
    }

    #[test]
    fn what_was_written_before_is_read() {
        let add = [&[0], &*device()].concat();
        assert_eq!(read(&add), Change::DeviceAdd(expected()));
        assert_eq!(read(b"\x01\x04lamp"), Change::DeviceRemove("lamp".to_owned()));
        let credential = [&b"\x08\x04lamp\x07token-2"[..], &[7; 32]].concat();
        let (device, name) = ("lamp".to_owned(), "token-2".to_owned());
        let hash = [7; 32];
        assert_eq!(
            read(&credential),
            Change::CredentialAdd { device, credential: name, hash, describing: false }
        );
    }

    #[test]
    fn what_was_written_before_records_said_who_asked_is_nobodys() {
        let Ok(Record::Registry(change)) = codec::decode(b"\x05\x07default\x01\x04lamp") else {
            panic!("a change")
        };
        assert_eq!(change.change, Change::DeviceRemove("lamp".to_owned()));
        assert_eq!((change.author.as_ref(), crate::audit::told(&change)), (None, None));
        let mut again = Vec::new();
        let local = RegistryChange::local("default", change.change);
        codec::encode(&Record::Registry(Box::new(local.clone())), &mut again);
        assert_eq!(codec::decode(&again), Ok(Record::Registry(Box::new(local))));
    }

    #[test]
    fn a_row_that_was_written_before_is_read() {
        let value = [&[1], &*device()].concat();
        let (_, row) = rows::decode(Table::Registry, b"default\0dlamp", &value).unwrap();
        let Row::Device(device) = &row else { panic!("a device") };
        assert_eq!(**device, expected());
        let again = rows::encode_row(&row);
        assert_ne!(again, value);
        let (_, row) = rows::decode(Table::Registry, b"default\0dlamp", &again).unwrap();
        let Row::Device(device) = &row else { panic!("a device") };
        assert_eq!(**device, expected());
    }
}
