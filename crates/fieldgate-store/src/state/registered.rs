//! Which tenants there are, and what each may have.
//!
//! `default` always is. A name that was removed stays known and is never given again: what the log,
//! the ledger and the windows still hold under it is nobody's. Called in seq order by the one thread
//! that applies the log.

use std::collections::BTreeMap;

use fieldgate_core::{
    fault::{Code, Fault},
    id::{TenantId, UnixMs},
};

use super::{
    Effect, State, StateLimits,
    changes::RowKey,
    tenants::{Inner, Owner, Tenant, no_such},
};
use crate::registry::{Change, RegistryChange, TenantInfo, TenantLimits};

/// Most tenants beside `default`.
const TENANTS_MAX: usize = 1_000;
/// Most names that are known, with those that were removed.
const NAMES_MAX: usize = 10_000;

/// What a tenant has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantCounts {
    /// Devices in its registry.
    pub devices: usize,
    /// API keys.
    pub keys: usize,
    /// People.
    pub users: usize,
    /// Retained messages.
    pub retained: usize,
    /// Bytes of retained messages.
    pub retained_bytes: usize,
    /// Commands that have not ended.
    pub commands: usize,
}

impl State {
    /// Tells whether there is such a tenant.
    #[must_use]
    pub fn has_tenant(&self, tenant: &TenantId) -> bool {
        self.read().has_tenant(tenant)
    }

    /// The tenants that there are, by name, with what each may have.
    #[must_use]
    pub fn tenants(&self) -> BTreeMap<TenantId, TenantInfo> {
        let inner = self.read();
        let live = inner.known.iter().filter(|(_, info)| info.removed_ms.is_none());
        let mut tenants: BTreeMap<_, _> = live.map(|(id, info)| (id.clone(), *info)).collect();
        tenants.entry(TenantId::default_tenant()).or_default();
        tenants
    }

    /// What a tenant has now.
    #[must_use]
    pub fn tenant_counts(&self, id: &TenantId) -> TenantCounts {
        let inner = self.read();
        let Some(tenant) = inner.tenants.get(id) else { return TenantCounts::default() };
        TenantCounts {
            devices: tenant.devices.len(),
            keys: tenant.keys.len(),
            users: tenant.users.len(),
            retained: tenant.retained.len(),
            retained_bytes: tenant.retained_bytes,
            commands: inner.commands.count_of(id),
        }
    }
}

impl Inner {
    pub(super) fn has_tenant(&self, id: &TenantId) -> bool {
        let known = self.known.get(id);
        known.map_or(id.as_str() == "default", |info| info.removed_ms.is_none())
    }

    /// Whether this was a tenant once. What is still said in its name counts for nothing.
    pub(super) fn is_removed(&self, id: &TenantId) -> bool {
        self.known.get(id).is_some_and(|info| info.removed_ms.is_some())
    }

    /// Refuses a change for a tenant that there is not. What an earlier release wrote was never
    /// refused for that.
    pub(super) fn check_tenant(&self, id: &TenantId, change: &RegistryChange) -> Result<(), Fault> {
        let makes_one = matches!(change.change, Change::TenantAdd(_));
        // No earlier release wrote these: of a tenant that is gone they would make a part of it again.
        let is_new = matches!(change.change, Change::Parts { .. } | Change::Bridge(_));
        let is_old = change.author.is_none() && !is_new;
        if makes_one || is_old || self.has_tenant(id) {
            return Ok(());
        }
        Err(no_such("tenant", id.as_str()))
    }

    /// The bounds of a tenant: those of all, or its own where these are smaller.
    pub(super) fn limits_of(&self, id: &TenantId, limits: &StateLimits) -> StateLimits {
        let own = self.known.get(id).map(|info| info.limits).unwrap_or_default();
        let smaller = |max: usize, own: Option<u64>| {
            own.and_then(|own| usize::try_from(own).ok()).map_or(max, |own| max.min(own))
        };
        StateLimits {
            devices_max: smaller(limits.devices_max, own.devices_max),
            retained_max: smaller(limits.retained_max, own.retained_max),
            ..*limits
        }
    }

    /// Applies a change that is about a tenant as a whole ([`Change::is_of_tenant`]).
    pub(super) fn change_tenant(
        &mut self,
        id: &TenantId,
        change: &Change,
        arrived: UnixMs,
    ) -> Result<Vec<Effect>, Fault> {
        if let Change::TenantAdd(limits) = change {
            self.add_tenant(id, *limits, arrived)?;
        } else if let Change::TenantSet(limits) = change {
            self.known.entry(id.clone()).or_default().limits = *limits;
        } else if *change == Change::TenantRemove {
            let gone = self.remove_tenant(id, arrived)?;
            let names = gone.iter().flat_map(|gone| gone.integrations.names());
            let integrations = names.map(|name| Effect::IntegrationChanged {
                tenant: id.clone(),
                name: name.as_str().into(),
            });
            let tenant = Effect::TenantChanged { tenant: id.clone() };
            return Ok(std::iter::once(tenant).chain(integrations).collect());
        }
        Ok(vec![Effect::TenantChanged { tenant: id.clone() }])
    }

    fn add_tenant(
        &mut self,
        id: &TenantId,
        limits: TenantLimits,
        arrived: UnixMs,
    ) -> Result<(), Fault> {
        if self.has_tenant(id) {
            return Err(Fault::new(Code::Conflict, format!("tenant {id} exists already")));
        }
        if self.is_removed(id) {
            let text = format!("tenant {id} was removed: its name is not given again");
            return Err(Fault::new(Code::Conflict, text));
        }
        let live = self.known.values().filter(|info| info.removed_ms.is_none()).count();
        if live >= TENANTS_MAX || self.known.len() >= NAMES_MAX {
            let text = format!(
                "there are at most {TENANTS_MAX} tenants, and {NAMES_MAX} names with those that \
                 were removed"
            );
            return Err(Fault::new(Code::QueueFull, text));
        }
        let info = TenantInfo { added_ms: arrived.0, removed_ms: None, limits };
        self.known.insert(id.clone(), info);
        Ok(())
    }

    fn remove_tenant(&mut self, id: &TenantId, arrived: UnixMs) -> Result<Option<Tenant>, Fault> {
        if id.as_str() == "default" {
            return Err(Fault::new(Code::Conflict, "the tenant default cannot be removed"));
        }
        let info = self.known.get_mut(id).ok_or_else(|| no_such("tenant", id.as_str()))?;
        info.removed_ms = Some(arrived.0);
        let gone = self.tenants.remove(id);
        self.owners.retain(|_, owner| owner.tenant() != id);
        self.commands.forget(id);
        Ok(gone)
    }

    /// Every row that goes if a change is made that removes a tenant.
    pub(super) fn gone_with(&self, change: &RegistryChange) -> Vec<RowKey> {
        let Ok(id) = &change.tenant.parse::<TenantId>() else { return Vec::new() };
        let tenant = self.tenants.get(id).filter(|_| change.change == Change::TenantRemove);
        let Some(tenant) = tenant else { return Vec::new() };
        let mut keys: Vec<RowKey> = tenant.rows(id).into_iter().map(|(key, _)| key).collect();
        let reported = tenant.slots.all().map(|slot| slot.key());
        keys.extend(reported.map(|(tenant, device)| RowKey::Reported(tenant, device)));
        keys.extend(self.commands.seqs_of(id).map(RowKey::Command));
        keys
    }
}

impl Owner {
    const fn tenant(&self) -> &TenantId {
        match self {
            Self::Device(tenant, _)
            | Self::Key(tenant, _)
            | Self::User(tenant, _)
            | Self::Source(tenant, _)
            | Self::Activation(tenant, _)
            | Self::Bridge(tenant, _) => tenant,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use fieldgate_core::{
        id::Seq,
        message::{Message, Qos},
        testing,
    };

    use super::*;
    use crate::{
        memory::SimLog,
        port::{Followed, Log as _},
        record::{Entry, Record},
        registry::{
            AccountStep, Activation, ActivationStep, ApiKey, BridgeKey, BridgeStep, Device,
            GroupStep, HmacSecret, Integration, IntegrationKind, IntegrationStep, Sealed, Start,
            User,
        },
        secret::{MasterKey, hash_password},
        state::changes::Row,
        tables::rows::{encode_key, encode_row},
        testing::rows_of,
    };

    struct Life {
        state: State,
        seq: u64,
        log: Arc<SimLog>,
        /// The tables, as what was gathered wrote them.
        written: BTreeMap<RowKey, Row>,
    }

    fn acme() -> TenantId {
        "acme".parse().unwrap()
    }

    impl Life {
        fn begin() -> Self {
            let limits = StateLimits { devices_max: 3, ..StateLimits::default() };
            let state = State::new(MasterKey::ephemeral().unwrap(), limits);
            Self { state, seq: 0, log: SimLog::new(), written: BTreeMap::new() }
        }

        fn apply(&mut self, record: Record) -> Vec<Effect> {
            self.seq += 1;
            self.log.append(vec![record.clone()], UnixMs(self.seq)).unwrap();
            let entry = Entry { seq: Seq(self.seq), arrived: UnixMs(self.seq), record };
            let effects = self.state.apply(&Followed::Entry(Arc::new(entry)));
            let mut changes = self.state.changes().take();
            let left = changes.settle(&*self.log);
            assert!(left.is_empty());
            for (key, row) in changes.rows {
                match row {
                    Some(row) => drop(self.written.insert(key, row)),
                    None => drop(self.written.remove(&key)),
                }
            }
            effects
        }

        fn change(&mut self, tenant: &str, change: Change) -> Result<Vec<Effect>, Code> {
            let change = RegistryChange::local(tenant, change);
            let effects = self.apply(Record::Registry(Box::new(change)));
            let outcome = self.state.outcome(Seq(self.seq)).unwrap();
            outcome.map(|()| effects).map_err(|fault| fault.code)
        }

        fn add_device(&mut self, tenant: &str, id: &str) -> Result<Vec<Effect>, Code> {
            let hash = self.state.master_key().hash(&format!("{tenant} {id}"));
            let credentials = BTreeMap::from([("1".to_owned(), hash)]);
            let device = Device { id: id.to_owned(), credentials, ..Device::default() };
            self.change(tenant, Change::DeviceAdd(device))
        }

        fn message(&mut self, tenant: &str, topic: &str, retain: bool) {
            let message = testing::message(topic, Qos::AtLeastOnce, "{\"r\":{\"v\":1}}");
            let tenant = tenant.parse().unwrap();
            self.apply(Record::Message(Message { tenant, retain, ..message }));
        }

        /// Something of everything that a tenant can have.
        fn fill(&mut self, tenant: &str) {
            self.add_device(tenant, "lamp").unwrap();
            let hash = self.state.master_key().hash(&format!("key of {tenant}"));
            let (name, role) = ("app".to_owned(), Some("admin".to_owned()));
            let key = ApiKey { name, hash, role, grants: Vec::new(), expires_ms: None };
            self.change(tenant, Change::KeyAdd(key)).unwrap();
            let password = hash_password("correct horse").unwrap();
            let (name, role) = ("ada".to_owned(), "admin".to_owned());
            self.change(tenant, Change::UserAdd(User { name, role, password })).unwrap();
            let put = GroupStep::Put { name: None, devices: vec!["lamp".to_owned()] };
            let group = Change::Group { id: "hall".to_owned(), expected: None, step: put };
            self.change(tenant, group).unwrap();
            let hash = self.state.master_key().hash(&format!("{tenant} signs"));
            let (credential, sealed) = ("hmac-1".to_owned(), Sealed(vec![1, 2, 3]));
            let secret = HmacSecret { credential, hash, sealed };
            let signing =
                Change::SigningAdd { device: "lamp".to_owned(), secret, describing: false };
            self.change(tenant, signing).unwrap();
            self.fill_integrations(tenant);
            self.fill_things(tenant);
            self.fill_bridge(tenant);
            self.message(tenant, "a/b", true);
            self.message(tenant, "devices/lamp/commands", false);
            self.message(tenant, "devices/lamp/state/reported", false);
        }

        fn fill_things(&mut self, tenant: &str) {
            let link = AccountStep::Link("lamp".to_owned());
            self.change(tenant, Change::Account { user: "ada".to_owned(), step: link }).unwrap();
            let hash = self.state.master_key().hash_activation(&format!("{tenant} code"));
            let (id, ends_ms) = ("one".to_owned(), 1 << 40);
            let code = Activation { id, hash, ends_ms, ..Activation::default() };
            let add = ActivationStep::Add(code);
            self.change(tenant, Change::Activation { id: "one".to_owned(), step: add }).unwrap();
        }

        fn fill_bridge(&mut self, tenant: &str) {
            let hash = self.state.master_key().hash_bridge(&format!("{tenant} hub"));
            let (id, name) = ("one".to_owned(), "hub".to_owned());
            let key = BridgeKey { id, name, hash, ..BridgeKey::default() };
            self.change(tenant, Change::Bridge(BridgeStep::KeyAdd(key))).unwrap();
            let (device, parts) = ("lamp".to_owned(), vec![(true, "light".to_owned(), 1)]);
            self.change(tenant, Change::Parts { device, parts, clip: None }).unwrap();
        }

        fn fill_integrations(&mut self, tenant: &str) {
            let token = Some(self.state.master_key().hash_source(&format!("{tenant} source")));
            let (name, kind) = ("cloud".to_owned(), IntegrationKind::ThingseeIn);
            let cloud = Integration { name, kind, paused: false, token, target: None };
            let step =
                IntegrationStep::Add { integration: Box::new(cloud), start: Start::After(0) };
            let change = Change::Integration { name: "cloud".to_owned(), expected: None, step };
            self.change(tenant, change).unwrap();
            let (source, device) = ("cloud".to_owned(), "TSPR1".to_owned());
            let gateway = Some("TSGW1".to_owned());
            self.change(tenant, Change::SourceDevice { source, device, gateway }).unwrap();
        }

        fn check_written(&self) {
            let written: BTreeSet<_> = self
                .written
                .iter()
                .map(|(key, row)| {
                    let (table, key) = encode_key(key);
                    (table, key, encode_row(row))
                })
                .collect();
            assert_eq!(written, rows_of(&self.state, &*self.log));
        }
    }

    #[test]
    fn a_change_for_a_tenant_that_there_is_not_is_refused() {
        let mut life = Life::begin();
        assert_eq!(life.add_device("acme", "lamp").unwrap_err(), Code::NotFound);
        assert_eq!(life.change("acme", Change::TenantRemove).unwrap_err(), Code::NotFound);
        let limits = TenantLimits::default();
        assert_eq!(life.change("acme", Change::TenantSet(limits)).unwrap_err(), Code::NotFound);
        assert!(life.state.tenants().keys().map(TenantId::as_str).eq(["default"]));
        assert!(life.written.is_empty());
        life.change("acme", Change::TenantAdd(limits)).unwrap();
        assert_eq!(life.change("acme", Change::TenantAdd(limits)).unwrap_err(), Code::Conflict);
        assert_eq!(life.change("default", Change::TenantAdd(limits)).unwrap_err(), Code::Conflict);
        assert_eq!(life.change("default", Change::TenantRemove).unwrap_err(), Code::Conflict);
        life.add_device("acme", "lamp").unwrap();
        life.check_written();
    }

    #[test]
    fn with_a_tenant_everything_of_it_goes_and_its_name_is_not_given_again() {
        let mut life = Life::begin();
        life.fill("default");
        let before = life.state.tenant_counts(&TenantId::default_tenant());
        life.change("acme", Change::TenantAdd(TenantLimits::default())).unwrap();
        life.fill("acme");
        assert_eq!(life.state.tenant_counts(&acme()), before);
        let verify = |state: &State, text: &str| {
            state.verify_token(&acme(), None, text, UnixMs(0)).map(|who| who.tenant)
        };
        let known = verify(&life.state, "key of acme");
        assert_eq!(known, Some(acme()));
        life.check_written();
        let effects = life.change("acme", Change::TenantRemove).unwrap();
        let [Effect::TenantChanged { tenant }, Effect::IntegrationChanged { name, .. }] =
            &effects[..]
        else {
            panic!("{effects:?}")
        };
        assert_eq!((tenant, &**name), (&acme(), "cloud"));
        let gone = |life: &Life| {
            assert_eq!(life.state.tenant_counts(&acme()), TenantCounts::default());
            assert!(verify(&life.state, "key of acme").is_none());
            assert!(verify(&life.state, "acme lamp").is_none());
            assert!(life.state.source_of(None, "acme source").is_err());
            assert!(life.state.activation_of("acme code", UnixMs(0)).is_none());
            assert!(life.state.verify_bridge_key("acme hub").is_none());
            assert!(life.state.all_parts(&acme()).is_empty());
            assert_eq!(life.state.all_integrations().len(), 1, "the other tenant's alone");
            assert!(!life.state.has_tenant(&acme()));
            life.check_written();
        };
        gone(&life);
        // What was on its way is nobody's.
        life.message("acme", "a/b", true);
        life.message("acme", "devices/lamp/commands", false);
        life.message("acme", "devices/lamp/state/reported", false);
        gone(&life);
        let again = life.change("acme", Change::TenantAdd(TenantLimits::default()));
        assert_eq!(again.unwrap_err(), Code::Conflict);
        assert_eq!(life.add_device("acme", "lamp").unwrap_err(), Code::NotFound);
        gone(&life);
        let default = TenantId::default_tenant();
        assert_eq!(life.state.tenant_counts(&default), before, "the other has what it had");
        assert_eq!(life.state.all_parts(&default).len(), 1);
        assert!(life.state.verify_bridge_key("default hub").is_some());
        assert_eq!(verify(&life.state, "key of default"), Some(default));
    }

    #[test]
    fn a_tenant_has_its_own_bounds_where_they_are_smaller() {
        let mut life = Life::begin();
        let limits = |devices_max| TenantLimits { devices_max, ..TenantLimits::default() };
        life.change("acme", Change::TenantAdd(limits(Some(1)))).unwrap();
        life.add_device("acme", "a").unwrap();
        assert_eq!(life.add_device("acme", "b").unwrap_err(), Code::QueueFull);
        life.add_device("default", "a").unwrap();
        life.add_device("default", "b").unwrap();
        life.change("acme", Change::TenantSet(limits(Some(1_000)))).unwrap();
        life.add_device("acme", "b").unwrap();
        life.add_device("acme", "c").unwrap();
        assert_eq!(life.add_device("acme", "d").unwrap_err(), Code::QueueFull);
        let none = TenantLimits { retained_max: Some(0), ..TenantLimits::default() };
        life.change("acme", Change::TenantSet(none)).unwrap();
        life.message("acme", "a", true);
        assert_eq!(life.state.tenant_counts(&acme()).retained, 0);
        life.check_written();
    }

    #[test]
    fn there_are_so_many_tenants_and_no_more() {
        let mut life = Life::begin();
        let add = |number| (format!("t-{number}"), Change::TenantAdd(TenantLimits::default()));
        for number in 0..TENANTS_MAX {
            let (name, change) = add(number);
            life.change(&name, change).unwrap();
        }
        let (name, change) = add(TENANTS_MAX);
        assert_eq!(life.change(&name, change).unwrap_err(), Code::QueueFull);
        assert_eq!(life.state.tenants().len(), TENANTS_MAX + 1);
        life.change("t-7", Change::TenantRemove).unwrap();
        let (name, change) = add(TENANTS_MAX);
        life.change(&name, change).unwrap();
    }
}
