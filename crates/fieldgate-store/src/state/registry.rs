//! What registry records do to the people of a tenant, and to single secrets of a device.
//!
//! Called in seq order by the one thread that applies the log. Conditions are decided here, when the
//! record's turn comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fieldgate_core::{
    fault::{Code, Fault},
    id::{DeviceId, TenantId},
};

use super::{
    Effect, State,
    tenants::{Inner, Owner, Tenant, no_such},
};
use crate::registry::{ApiKey, Change, SecretHash, SignIns, User};

/// Most people of a tenant.
const USERS_MAX: usize = 10_000;
/// Most secrets of a device.
const CREDENTIALS_MAX: usize = 16;

impl State {
    /// Every person of a tenant, by name.
    #[must_use]
    pub fn users(&self, tenant: &TenantId) -> Vec<Arc<User>> {
        let inner = self.read();
        inner.tenants.get(tenant).map(|t| t.users.values().cloned().collect()).unwrap_or_default()
    }

    /// The person of this name.
    #[must_use]
    pub fn user(&self, tenant: &TenantId, name: &str) -> Option<Arc<User>> {
        self.read().tenants.get(tenant)?.users.get(name).cloned()
    }
}

impl Tenant {
    /// Applies a change that is about a person; does nothing with any other.
    pub(super) fn change_user(
        &mut self,
        tenant: &TenantId,
        change: &Change,
    ) -> Result<Vec<Effect>, Fault> {
        match change {
            Change::UserAdd(user) => {
                if self.users.contains_key(&user.name) {
                    let text = format!("user {} exists already", user.name);
                    return Err(Fault::new(Code::Conflict, text));
                }
                if self.users.len() >= USERS_MAX {
                    let text = format!("a tenant has at most {USERS_MAX} users");
                    return Err(Fault::new(Code::QueueFull, text));
                }
                self.users.insert(user.name.clone(), Arc::new(user.clone()));
                Ok(Vec::new())
            }
            Change::UserRemove(name) => {
                self.users.remove(name).ok_or_else(|| no_such("user", name))?;
                let name = format!("user:{name}").into();
                Ok(vec![Effect::RightsChanged { tenant: tenant.clone(), name }])
            }
            Change::UserPassword { name, password } => {
                let user = self.users.get_mut(name).ok_or_else(|| no_such("user", name))?;
                Arc::make_mut(user).password = password.clone();
                let name = format!("user:{name}").into();
                Ok(vec![Effect::RightsChanged { tenant: tenant.clone(), name }])
            }
            Change::DeviceAdd(_)
            | Change::DeviceRemove(_)
            | Change::DeviceRotate { .. }
            | Change::KeyAdd(_)
            | Change::KeyRevoke(_)
            | Change::CredentialAdd { .. }
            | Change::CredentialRemove { .. }
            | Change::ProfileSet { .. }
            | Change::SignIns { .. }
            | Change::Group { .. }
            | Change::DeviceAddSigning { .. }
            | Change::SigningAdd { .. }
            | Change::SigningRotate { .. }
            | Change::Integrity { .. }
            | Change::ClaimTaken { .. }
            | Change::Edit { .. }
            | Change::Scene { .. }
            | Change::TenantAdd(_)
            | Change::TenantSet(_)
            | Change::TenantRemove
            | Change::Integration { .. }
            | Change::SourceDevice { .. }
            | Change::Account { .. }
            | Change::Activation { .. }
            | Change::Parts { .. }
            | Change::Bridge(_) => Ok(Vec::new()),
        }
    }
}

impl Inner {
    /// Replaces all secrets of a device by one.
    pub(super) fn rotate(
        &mut self,
        tenant_id: &TenantId,
        id: &str,
        credential: &str,
        hash: &SecretHash,
    ) -> Result<Vec<Effect>, Fault> {
        let key: DeviceId = id.parse().map_err(|_| no_such("device", id))?;
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        let device = tenant.devices.get_mut(&key).ok_or_else(|| no_such("device", id))?;
        device.credentials.values().for_each(|hash| drop(self.owners.remove(hash)));
        let device = Arc::make_mut(device);
        device.credentials = BTreeMap::from([(credential.to_owned(), *hash)]);
        // The new secret may what one of the old ones might.
        if !device.describing.is_empty() {
            device.describing = BTreeSet::from([credential.to_owned()]);
        }
        tenant.tidy_guard(&key);
        self.owners.insert(*hash, Owner::Device(tenant_id.clone(), key));
        Ok(vec![Effect::RightsChanged { tenant: tenant_id.clone(), name: id.into() }])
    }

    pub(super) fn add_key(
        &mut self,
        tenant_id: &TenantId,
        key: &ApiKey,
    ) -> Result<Vec<Effect>, Fault> {
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        if tenant.keys.contains_key(&key.name) {
            return Err(Fault::new(Code::Conflict, format!("key {} exists already", key.name)));
        }
        tenant.keys.insert(key.name.clone(), Arc::new(key.clone()));
        self.owners.insert(key.hash, Owner::Key(tenant_id.clone(), key.name.clone()));
        Ok(Vec::new())
    }

    pub(super) fn revoke_key(
        &mut self,
        tenant_id: &TenantId,
        name: &str,
    ) -> Result<Vec<Effect>, Fault> {
        let keys = self.tenants.get_mut(tenant_id).map(|tenant| &mut tenant.keys);
        let key = keys.and_then(|keys| keys.remove(name)).ok_or_else(|| no_such("key", name))?;
        self.owners.remove(&key.hash);
        let name = format!("key:{name}").into();
        Ok(vec![Effect::RightsChanged { tenant: tenant_id.clone(), name }])
    }

    /// Applies a change that is about a person: with them, or with their password, everything ends
    /// that they were let in with. Does nothing with any other.
    pub(super) fn change_person(
        &mut self,
        tenant_id: &TenantId,
        change: &Change,
    ) -> Result<Vec<Effect>, Fault> {
        let tenant = self.tenants.entry(tenant_id.clone()).or_default();
        let effects = tenant.change_user(tenant_id, change)?;
        if let Change::UserRemove(name) | Change::UserPassword { name, .. } = change {
            self.set_sign_ins(tenant_id, name, SignIns::default());
        }
        if let (Change::UserRemove(name), Some(tenant)) = (change, self.tenants.get_mut(tenant_id))
        {
            tenant.forget_account(name);
        }
        Ok(effects)
    }

    /// Applies a change that is about one secret of a device; does nothing with any other.
    pub(super) fn change_credential(
        &mut self,
        tenant: &TenantId,
        change: &Change,
    ) -> Result<Vec<Effect>, Fault> {
        let (id, credential, added) = match change {
            Change::CredentialAdd { device, credential, hash, describing } => {
                (device, credential, Some((*hash, *describing)))
            }
            Change::CredentialRemove { device, credential } => (device, credential, None),
            Change::DeviceAdd(_)
            | Change::DeviceRemove(_)
            | Change::DeviceRotate { .. }
            | Change::KeyAdd(_)
            | Change::KeyRevoke(_)
            | Change::UserAdd(_)
            | Change::UserRemove(_)
            | Change::UserPassword { .. }
            | Change::ProfileSet { .. }
            | Change::SignIns { .. }
            | Change::Group { .. }
            | Change::DeviceAddSigning { .. }
            | Change::SigningAdd { .. }
            | Change::SigningRotate { .. }
            | Change::Integrity { .. }
            | Change::ClaimTaken { .. }
            | Change::Edit { .. }
            | Change::Scene { .. }
            | Change::TenantAdd(_)
            | Change::TenantSet(_)
            | Change::TenantRemove
            | Change::Integration { .. }
            | Change::SourceDevice { .. }
            | Change::Account { .. }
            | Change::Activation { .. }
            | Change::Parts { .. }
            | Change::Bridge(_) => return Ok(Vec::new()),
        };
        let missing = || no_such("device", id);
        let key: DeviceId = id.parse().map_err(|_| missing())?;
        let devices = self.tenants.get_mut(tenant).map(|tenant| &mut tenant.devices);
        let device = devices.and_then(|devices| devices.get_mut(&key)).ok_or_else(missing)?;
        let device = Arc::make_mut(device);
        let Some((hash, describing)) = added else {
            device.describing.remove(credential);
            let hash = device.credentials.remove(credential);
            let hash = hash.ok_or_else(|| no_such("credential", credential))?;
            self.owners.remove(&hash);
            let name = device.id.as_str().into();
            if let Some(tenant) = self.tenants.get_mut(tenant) {
                tenant.tidy_guard(&key);
            }
            return Ok(vec![Effect::RightsChanged { tenant: tenant.clone(), name }]);
        };
        if device.credentials.contains_key(credential)
            || device.credentials.values().any(|known| *known == hash)
        {
            let text = format!("device {id} has this credential already");
            return Err(Fault::new(Code::Conflict, text));
        }
        if device.credentials.len() >= CREDENTIALS_MAX {
            let text = format!("a device has at most {CREDENTIALS_MAX} credentials: remove one");
            return Err(Fault::new(Code::QueueFull, text));
        }
        device.credentials.insert(credential.clone(), hash);
        if describing {
            device.describing.insert(credential.clone());
        }
        self.owners.insert(hash, Owner::Device(tenant.clone(), key));
        Ok(Vec::new())
    }
}
