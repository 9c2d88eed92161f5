//! What people of apps have beside their rights, and codes that make a device once.
//!
//! Called in seq order by the one thread that applies the log; conditions are decided here, when the
//! record's turn comes. Invariant: a link is to a device that there is, and goes with it; a code makes
//! one device, and none after its end.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
    id::{DeviceId, TenantId, UnixMs},
};

use super::{
    Effect, State, StateLimits,
    changes::{Row, RowKey},
    tenants::{Inner, Owner, Tenant, no_such},
};
use crate::{
    registry::{Account, AccountStep, Activation, ActivationStep, Change, Device, User, proof_of},
    secret::PasswordHash,
};

/// Most devices that a person links.
pub const THINGS_MAX: usize = 200;
/// Most people who sign in with one address: nobody proves that it is theirs, so whoever came first
/// does not shut out the others.
pub const ACCOUNTS_PER_ADDRESS_MAX: usize = 3;
/// Most bytes of what an app keeps for a person.
pub const SETTINGS_BYTES_MAX: usize = 8 << 10;
/// Most codes of a tenant.
const ACTIVATIONS_MAX: usize = 10_000;

/// What is kept of things and their people in a tenant.
#[derive(Debug, Default)]
pub(super) struct Things {
    accounts: BTreeMap<String, Arc<Account>>,
    /// Who signs in with an address.
    by_address: HashMap<String, Vec<String>>,
    activations: BTreeMap<String, Arc<Activation>>,
}

/// An address that differs by its case alone is the same one.
fn folded(address: &str) -> String {
    address.to_lowercase()
}

impl State {
    /// What a person of an app has.
    #[must_use]
    pub fn account(&self, tenant: &TenantId, user: &str) -> Option<Arc<Account>> {
        self.read().tenants.get(tenant)?.things.accounts.get(user).cloned()
    }

    /// Everybody who may sign in with an address: [`ACCOUNTS_PER_ADDRESS_MAX`] at most.
    #[must_use]
    pub fn users_at(&self, tenant: &TenantId, address: &str) -> Vec<Arc<User>> {
        let inner = self.read();
        let Some(tenant) = inner.tenants.get(tenant) else { return Vec::new() };
        let names = tenant.things.by_address.get(&folded(address));
        names.into_iter().flatten().filter_map(|name| tenant.users.get(name).cloned()).collect()
    }

    /// The device that presents the token of a thing, which counts in the thethings.iO dialect alone.
    #[must_use]
    pub fn verify_thing(&self, token: &str) -> Option<Principal> {
        let hash = self.key.hash_thing(token);
        let inner = self.read();
        let Owner::Device(tenant, id) = inner.owners.get(&hash)? else { return None };
        inner.tenants.get(tenant)?.principal_of(tenant, id, proof_of(&hash))
    }

    /// The codes of a tenant, by id.
    #[must_use]
    pub fn activations(&self, tenant: &TenantId) -> Vec<Arc<Activation>> {
        let inner = self.read();
        let all = inner.tenants.get(tenant).map(|tenant| tenant.things.activations.values());
        all.into_iter().flatten().cloned().collect()
    }

    /// What a code makes, and where; nothing once it is spent or over.
    #[must_use]
    pub fn activation_of(&self, code: &str, now: UnixMs) -> Option<(TenantId, Arc<Activation>)> {
        let hash = self.key.hash_activation(code);
        let inner = self.read();
        let Owner::Activation(tenant, id) = inner.owners.get(&hash)? else { return None };
        let found = inner.tenants.get(tenant)?.things.activations.get(id)?;
        (now.0 < found.ends_ms).then(|| (tenant.clone(), Arc::clone(found)))
    }
}

impl Things {
    pub(super) fn rows(&self, id: &TenantId) -> impl Iterator<Item = (RowKey, Row)> {
        let account = |(name, row): (&String, &Arc<Account>)| {
            (RowKey::Account(id.clone(), name.clone()), Row::Account(row.clone()))
        };
        let activation = |(name, row): (&String, &Arc<Activation>)| {
            (RowKey::Activation(id.clone(), name.clone()), Row::Activation(row.clone()))
        };
        self.accounts.iter().map(account).chain(self.activations.iter().map(activation))
    }

    pub(super) fn account_row(&self, user: &str) -> Option<Row> {
        self.accounts.get(user).cloned().map(Row::Account)
    }

    pub(super) fn activation_row(&self, id: &str) -> Option<Row> {
        self.activations.get(id).cloned().map(Row::Activation)
    }

    /// What a person may beside their role.
    pub(super) fn allow(&self, user: &str, principal: Principal) -> Principal {
        let Some(account) = self.accounts.get(user) else { return principal };
        Principal { grants: account.grants().collect(), ..principal }
    }

    fn set_account(&mut self, user: &str, new: Account) {
        if let Some(old) = self.accounts.remove(user) {
            self.forget_address(user, old.email.as_deref());
        }
        if let Some(address) = &new.email {
            self.by_address.entry(folded(address)).or_default().push(user.to_owned());
        }
        if new != Account::default() {
            self.accounts.insert(user.to_owned(), Arc::new(new));
        }
    }

    fn forget_address(&mut self, user: &str, address: Option<&str>) {
        let Some(address) = address.map(folded) else { return };
        let Some(names) = self.by_address.get_mut(&address) else { return };
        names.retain(|name| name != user);
        if names.is_empty() {
            self.by_address.remove(&address);
        }
    }

    fn has_room_at(&self, address: &str) -> bool {
        let known = self.by_address.get(&folded(address)).map_or(0, Vec::len);
        known < ACCOUNTS_PER_ADDRESS_MAX
    }

    /// Ends every link to a device that goes; tells whose.
    pub(super) fn forget_device(&mut self, id: &DeviceId) -> Vec<String> {
        let linked = self.accounts.iter().filter(|(_, a)| a.things.contains(id.as_str()));
        let users: Vec<String> = linked.map(|(user, _)| user.clone()).collect();
        for user in &users {
            if let Some(account) = self.accounts.get_mut(user) {
                Arc::make_mut(account).things.remove(id.as_str());
            }
        }
        users
    }
}

impl Tenant {
    /// Applies a change of what a person of an app has.
    pub(super) fn change_account(
        &mut self,
        tenant: &TenantId,
        user: &str,
        step: &AccountStep,
    ) -> Result<Vec<Effect>, Fault> {
        let known = self.things.accounts.get(user).map(|known| (**known).clone());
        let mut new = known.unwrap_or_default();
        match step {
            AccountStep::Register { email, password } => {
                // Past the bound they have their name alone, and nobody is told.
                let email = self.things.has_room_at(email).then_some(email);
                return self.enter(tenant, user, ("member", password), email);
            }
            AccountStep::Enter { role, email, password } => {
                if !self.things.has_room_at(email) {
                    let text = format!("{ACCOUNTS_PER_ADDRESS_MAX} people have this address");
                    return Err(Fault::new(Code::QueueFull, text));
                }
                return self.enter(tenant, user, (role, password), Some(email));
            }
            AccountStep::Link(thing) => {
                let is_known =
                    thing.parse().is_ok_and(|id: DeviceId| self.devices.contains_key(&id));
                if !is_known {
                    return Err(no_such("device", thing));
                }
                if new.things.len() >= THINGS_MAX && !new.things.contains(thing) {
                    let text = format!("a person links {THINGS_MAX} things at most");
                    return Err(Fault::new(Code::QueueFull, text));
                }
                new.things.insert(thing.clone());
            }
            AccountStep::Unlink(thing) => {
                if !new.things.remove(thing) {
                    return Err(no_such("link to", thing));
                }
            }
            AccountStep::Settings(settings) => new.settings = Some(settings.clone()),
        }
        if !self.users.contains_key(user) {
            return Err(no_such("user", user));
        }
        self.things.set_account(user, new);
        let name = format!("user:{user}").into();
        Ok(vec![Effect::RightsChanged { tenant: tenant.clone(), name }])
    }

    /// Enters a person, with an address to sign in with if there is one.
    fn enter(
        &mut self,
        tenant: &TenantId,
        user: &str,
        (role, password): (&str, &PasswordHash),
        email: Option<&String>,
    ) -> Result<Vec<Effect>, Fault> {
        let (name, role) = (user.to_owned(), role.to_owned());
        let effects = self.change_user(
            tenant,
            &Change::UserAdd(User { name, role, password: password.clone() }),
        )?;
        self.things.set_account(user, Account { email: email.cloned(), ..Account::default() });
        Ok(effects)
    }

    /// Forgets what a person had who is no more.
    pub(super) fn forget_account(&mut self, user: &str) {
        self.things.set_account(user, Account::default());
    }
}

impl Inner {
    /// Applies a change of the codes that make devices.
    pub(super) fn change_activation(
        &mut self,
        tenant_id: &TenantId,
        id: &str,
        step: &ActivationStep,
        arrived: UnixMs,
        limits: &StateLimits,
    ) -> Result<Vec<Effect>, Fault> {
        match step {
            ActivationStep::Add(activation) => self.add_activation(tenant_id, activation, arrived),
            ActivationStep::Remove => {
                self.spend(tenant_id, id).ok_or_else(|| no_such("activation code", id))?;
                Ok(Vec::new())
            }
            ActivationStep::Use(device) => self.activate(tenant_id, id, device, arrived, limits),
        }
    }

    fn add_activation(
        &mut self,
        tenant_id: &TenantId,
        activation: &Activation,
        arrived: UnixMs,
    ) -> Result<Vec<Effect>, Fault> {
        let things = &self.tenants.entry(tenant_id.clone()).or_default().things;
        if things.activations.contains_key(&activation.id) {
            let text = format!("activation code {} exists already", activation.id);
            return Err(Fault::new(Code::Conflict, text));
        }
        let is_over = |(_, one): &(&String, &Arc<Activation>)| one.ends_ms <= arrived.0;
        let over = things.activations.iter().filter(is_over).map(|(id, _)| id.clone());
        let over: Vec<String> = over.collect();
        if things.activations.len() - over.len() >= ACTIVATIONS_MAX {
            let text = format!("a tenant has at most {ACTIVATIONS_MAX} activation codes");
            return Err(Fault::new(Code::QueueFull, text));
        }
        for id in over {
            self.spend(tenant_id, &id);
            self.touched.push(RowKey::Activation(tenant_id.clone(), id));
        }
        let owner = Owner::Activation(tenant_id.clone(), activation.id.clone());
        self.owners.insert(activation.hash, owner);
        let things = &mut self.tenants.entry(tenant_id.clone()).or_default().things;
        things.activations.insert(activation.id.clone(), Arc::new(activation.clone()));
        Ok(Vec::new())
    }

    fn activate(
        &mut self,
        tenant_id: &TenantId,
        id: &str,
        device: &Device,
        arrived: UnixMs,
        limits: &StateLimits,
    ) -> Result<Vec<Effect>, Fault> {
        let things = self.tenants.get(tenant_id).map(|tenant| &tenant.things);
        let found = things.and_then(|things| things.activations.get(id));
        if found.is_none_or(|found| found.ends_ms <= arrived.0) {
            return Err(no_such("activation code", id));
        }
        let effects = self.add_device(tenant_id, device, limits)?;
        self.spend(tenant_id, id);
        if let Ok(device) = device.id.parse() {
            self.touched.push(RowKey::Device(tenant_id.clone(), device));
        }
        Ok(effects)
    }

    fn spend(&mut self, tenant_id: &TenantId, id: &str) -> Option<()> {
        let things = &mut self.tenants.get_mut(tenant_id)?.things;
        let gone = things.activations.remove(id)?;
        self.owners.remove(&gone.hash);
        Some(())
    }

    /// Takes a row of these as it was written down.
    pub(super) fn restore_thing(&mut self, key: RowKey, row: Row) {
        match (key, row) {
            (RowKey::Account(tenant_id, user), Row::Account(account)) => {
                let things = &mut self.tenants.entry(tenant_id).or_default().things;
                things.set_account(&user, (*account).clone());
            }
            (RowKey::Activation(tenant_id, id), Row::Activation(activation)) => {
                let owner = Owner::Activation(tenant_id.clone(), id.clone());
                self.owners.insert(activation.hash, owner);
                let things = &mut self.tenants.entry(tenant_id).or_default().things;
                things.activations.insert(id, activation);
            }
            (key, row) => self.restore_bridge(key, row),
        }
    }
}

#[cfg(test)]
mod tests;
