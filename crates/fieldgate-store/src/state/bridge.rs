//! The numbers that the parts of devices have for deCONZ apps, and the keys of these apps.
//!
//! Called in seq order by the one thread that applies the log; conditions are decided here, when the
//! record's turn comes. Invariant: a number or an address is given once in a tenant, and stays with its
//! device also when that goes. Source: `resources.md`, "Ids".

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use aws_lc_rs::digest;
use fieldgate_core::{
    access::{Grant, Identity, Principal, Verb},
    fault::{Code, Fault},
    id::{DeviceId, TenantId, UnixMs},
};

use super::{
    Effect, State,
    changes::{Row, RowKey},
    tenants::{Inner, Owner, Tenant, no_such},
};
use crate::registry::{
    BridgeKey, BridgeStep, PartNumbers, Parts, bridge_id, bridge_name, proof_of,
};

/// Most devices of a tenant that have numbers, with those that are gone.
pub const NUMBERED_DEVICES_MAX: usize = 200_000;
/// Most parts of a device.
const PARTS_MAX: usize = 1_000;
/// Longest word of a part, in bytes.
const WORD_BYTES_MAX: usize = 32;
/// Most bytes of what an app says that its sensor is.
pub const CLIP_BYTES_MAX: usize = 2 << 10;
/// What the id of a sensor begins with that an app made.
pub const CLIP_PREFIX: &str = "clip-";
/// Most keys of a tenant.
pub const BRIDGE_KEYS_MAX: usize = 1_000;
/// Longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 160;
/// Most addresses that are kept of a key; then the one longest unseen is forgotten.
pub const ADDRESSES_MAX: usize = 64;

/// What is kept of a tenant for deCONZ apps.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    parts: BTreeMap<DeviceId, Arc<Parts>>,
    /// Those of `parts`.
    addresses: HashSet<[u8; 8]>,
    numbers: PartNumbers,
    keys: BTreeMap<String, Arc<BridgeKey>>,
}

impl State {
    /// What a device is to deCONZ apps, also one that is gone; nothing before it has a number.
    #[must_use]
    pub fn parts(&self, tenant: &TenantId, device: &DeviceId) -> Option<Arc<Parts>> {
        self.read().tenants.get(tenant)?.bridge.parts.get(device).cloned()
    }

    /// The same of every device that ever had a number, by id.
    #[must_use]
    pub fn all_parts(&self, tenant: &TenantId) -> Vec<(DeviceId, Arc<Parts>)> {
        let inner = self.read();
        let all = inner.tenants.get(tenant).map(|tenant| tenant.bridge.parts.iter());
        all.into_iter().flatten().map(|(id, parts)| (id.clone(), Arc::clone(parts))).collect()
    }

    /// The keys of deCONZ apps, by id.
    #[must_use]
    pub fn bridge_keys(&self, tenant: &TenantId) -> Vec<Arc<BridgeKey>> {
        let inner = self.read();
        let all = inner.tenants.get(tenant).map(|tenant| tenant.bridge.keys.values());
        all.into_iter().flatten().cloned().collect()
    }

    /// One of them.
    #[must_use]
    pub fn bridge_key(&self, tenant: &TenantId, id: &str) -> Option<Arc<BridgeKey>> {
        self.read().tenants.get(tenant)?.bridge.keys.get(id).cloned()
    }

    /// Who presents the key of a deCONZ app, which counts on that interface alone.
    #[must_use]
    pub fn verify_bridge_key(&self, token: &str) -> Option<(Principal, Arc<BridgeKey>)> {
        let hash = self.key.hash_bridge(token);
        let inner = self.read();
        let Owner::Bridge(tenant, id) = inner.owners.get(&hash)? else { return None };
        let key = inner.tenants.get(tenant)?.bridge.keys.get(id)?;
        Some((key.principal(tenant), Arc::clone(key)))
    }
}

impl Bridge {
    pub(super) fn rows(&self, id: &TenantId) -> impl Iterator<Item = (RowKey, Row)> {
        let parts = |(device, row): (&DeviceId, &Arc<Parts>)| {
            (RowKey::Parts(id.clone(), device.clone()), Row::Parts(row.clone()))
        };
        let key = |(name, row): (&String, &Arc<BridgeKey>)| {
            (RowKey::BridgeKey(id.clone(), name.clone()), Row::BridgeKey(row.clone()))
        };
        let numbers = self.numbers_row().map(|row| (RowKey::PartNumbers(id.clone()), row));
        self.parts.iter().map(parts).chain(self.keys.iter().map(key)).chain(numbers)
    }

    pub(super) fn parts_row(&self, device: &DeviceId) -> Option<Row> {
        self.parts.get(device).cloned().map(Row::Parts)
    }

    pub(super) fn numbers_row(&self) -> Option<Row> {
        (self.numbers != PartNumbers::default()).then_some(Row::PartNumbers(self.numbers))
    }

    pub(super) fn key_row(&self, id: &str) -> Option<Row> {
        self.keys.get(id).cloned().map(Row::BridgeKey)
    }

    /// Who uses the key of this name now; `None`: the name is not of such a key.
    pub(super) fn fresh(
        &self,
        tenant: &TenantId,
        principal: &Principal,
    ) -> Option<Option<Principal>> {
        let key = self.keys.get(bridge_id(&principal.name)?);
        let same = key.filter(|key| principal.proof == Some(proof_of(&key.hash)));
        Some(same.map(|key| key.principal(tenant)))
    }

    fn set_parts(&mut self, device: DeviceId, parts: Arc<Parts>) {
        self.addresses.insert(parts.address);
        self.parts.insert(device, parts);
    }

    /// A device goes: its numbers wait for it, what an app said that it is does not. A sensor that an
    /// app made goes whole: its id is random, and nothing gets it again.
    pub(super) fn forget_device(&mut self, tenant: &TenantId, device: &DeviceId) -> Option<RowKey> {
        let parts = self.parts.get_mut(device).filter(|parts| parts.clip.is_some())?;
        if device.as_str().starts_with(CLIP_PREFIX) {
            let address = parts.address;
            self.addresses.remove(&address);
            self.parts.remove(device);
        } else {
            Arc::make_mut(parts).clip = None;
        }
        Some(RowKey::Parts(tenant.clone(), device.clone()))
    }

    /// The address of a device that has none: its profile's, else one that follows from its name.
    fn address_of(&self, tenant: &TenantId, device: &DeviceId, own: Option<&str>) -> [u8; 8] {
        let own = own.and_then(parse_address).filter(|own| !self.addresses.contains(own));
        own.unwrap_or_else(|| {
            let mut name = format!("{tenant}/{device}");
            let mut tried = 0u32;
            loop {
                let address = hashed(&name);
                if !self.addresses.contains(&address) {
                    return address;
                }
                tried += 1;
                name = format!("{tenant}/{device}#{tried}");
            }
        })
    }

    fn add_key(&mut self, key: &BridgeKey) -> Result<(), Fault> {
        if self.keys.contains_key(&key.id) {
            return Err(Fault::new(Code::Conflict, format!("key {} exists already", key.id)));
        }
        if key.name.is_empty() || key.name.len() > NAME_BYTES_MAX {
            let text = format!("the name of a key is 1 to {NAME_BYTES_MAX} bytes");
            return Err(Fault::new(Code::BadValue, text));
        }
        if self.keys.len() >= BRIDGE_KEYS_MAX {
            let text = format!("a tenant has at most {BRIDGE_KEYS_MAX} deCONZ keys: revoke one");
            return Err(Fault::new(Code::QueueFull, text));
        }
        self.keys.insert(key.id.clone(), Arc::new(key.clone()));
        Ok(())
    }

    fn see(&mut self, id: &str, address: &str, arrived: UnixMs) -> Result<(), Fault> {
        let key = self.keys.get_mut(id).ok_or_else(|| no_such("deCONZ key", id))?;
        if address.parse::<IpAddr>().is_err() {
            return Err(Fault::new(Code::BadValue, format!("{address:?} is no IP address")));
        }
        let key = Arc::make_mut(key);
        key.used_ms = key.used_ms.max(arrived.0);
        if key.addresses.len() >= ADDRESSES_MAX && !key.addresses.contains_key(address) {
            let longest = key.addresses.iter().min_by_key(|(_, at_ms)| **at_ms);
            let longest = longest.map(|(address, _)| address.clone());
            longest.map(|address| key.addresses.remove(&address));
        }
        let at_ms = key.addresses.entry(address.to_owned()).or_default();
        *at_ms = arrived.0.max(*at_ms);
        Ok(())
    }
}

/// Whether nobody in particular is meant, whom the configuration lets listen. Every key proves itself.
pub(super) fn is_guest(principal: &Principal) -> bool {
    let listens = |grant: &Grant| grant.verb == Verb::Subscribe;
    principal.identity == Identity::Key
        && principal.proof.is_none()
        && principal.role.is_none()
        && principal.grants.iter().all(listens)
}

/// Eight bytes in hex, as a profile has them.
fn parse_address(text: &str) -> Option<[u8; 8]> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes?.try_into().ok()
}

/// The first bytes of the SHA-256 of a name, marked as an address that nobody assigned.
fn hashed(name: &str) -> [u8; 8] {
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    let mut address = [0; 8];
    for (slot, byte) in address.iter_mut().zip(hash.as_ref()) {
        *slot = *byte;
    }
    let [first, ..] = &mut address;
    *first = (*first & 0xfc) | 2;
    address
}

impl Tenant {
    /// Gives each of these parts of a device a number that has none, in this order.
    pub(super) fn change_parts(
        &mut self,
        tenant: &TenantId,
        device: &str,
        wanted: &[(bool, String, u8)],
        clip: Option<&String>,
    ) -> Result<Vec<Effect>, Fault> {
        let id: DeviceId =
            device.parse().map_err(|_| Fault::new(Code::BadValue, "this is no device id"))?;
        if clip.is_some() && !self.devices.contains_key(&id) {
            return Err(no_such("device", device));
        }
        let bridge = &mut self.bridge;
        let mut parts = match bridge.parts.get(&id) {
            Some(known) => (**known).clone(),
            None if bridge.parts.len() >= NUMBERED_DEVICES_MAX => {
                let text = format!("at most {NUMBERED_DEVICES_MAX} devices have numbers");
                return Err(Fault::new(Code::QueueFull, text));
            }
            None => {
                let profile = self.devices.get(&id).and_then(|device| device.profile.as_ref());
                let own = profile.and_then(|described| described.profile.unique_id.as_deref());
                let address = bridge.address_of(tenant, &id, own);
                Parts { address, ..Parts::default() }
            }
        };
        let mut numbers = bridge.numbers;
        for (is_light, word, instance) in wanted {
            if word.is_empty() || word.len() > WORD_BYTES_MAX {
                let text = format!("the word of a part is 1 to {WORD_BYTES_MAX} bytes");
                return Err(Fault::new(Code::BadValue, text));
            }
            let key = (word.clone(), *instance);
            parts.numbers.entry(key).or_insert_with(|| numbers.give(*is_light));
        }
        if parts.numbers.len() > PARTS_MAX {
            let text = format!("a device has at most {PARTS_MAX} parts");
            return Err(Fault::new(Code::QueueFull, text));
        }
        if let Some(clip) = clip {
            if clip.len() > CLIP_BYTES_MAX {
                let text = format!("a sensor of {} bytes exceeds {CLIP_BYTES_MAX}", clip.len());
                return Err(Fault::new(Code::TooLarge, text));
            }
            parts.clip = Some(clip.clone());
        }
        bridge.numbers = numbers;
        bridge.set_parts(id, Arc::new(parts));
        Ok(Vec::new())
    }
}

impl Inner {
    /// Applies a change of the keys of apps.
    pub(super) fn change_bridge(
        &mut self,
        tenant_id: &TenantId,
        step: &BridgeStep,
        arrived: UnixMs,
    ) -> Result<Vec<Effect>, Fault> {
        let bridge = &mut self.tenants.entry(tenant_id.clone()).or_default().bridge;
        match step {
            BridgeStep::KeyAdd(key) => {
                bridge.add_key(key)?;
                self.owners.insert(key.hash, Owner::Bridge(tenant_id.clone(), key.id.clone()));
            }
            BridgeStep::KeyRemove(id) => {
                let gone = bridge.keys.remove(id).ok_or_else(|| no_such("deCONZ key", id))?;
                self.owners.remove(&gone.hash);
                let (tenant, name) = (tenant_id.clone(), bridge_name(id).into());
                return Ok(vec![Effect::RightsChanged { tenant, name }]);
            }
            BridgeStep::Seen { id, address } => bridge.see(id, address, arrived)?,
        }
        Ok(Vec::new())
    }

    /// Takes a row of these as it was written down.
    pub(super) fn restore_bridge(&mut self, key: RowKey, row: Row) {
        match (key, row) {
            (RowKey::Parts(tenant, device), Row::Parts(parts)) => {
                self.tenants.entry(tenant).or_default().bridge.set_parts(device, parts);
            }
            (RowKey::PartNumbers(tenant), Row::PartNumbers(numbers)) => {
                self.tenants.entry(tenant).or_default().bridge.numbers = numbers;
            }
            (RowKey::BridgeKey(tenant, id), Row::BridgeKey(key)) => {
                self.owners.insert(key.hash, Owner::Bridge(tenant.clone(), id.clone()));
                self.tenants.entry(tenant).or_default().bridge.keys.insert(id, key);
            }
            (key, row) => self.restore_integration(key, row),
        }
    }
}

#[cfg(test)]
mod tests;
