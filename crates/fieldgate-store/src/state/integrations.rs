//! The integrations of each tenant, how far they came, and the devices of sources.
//!
//! What records do to them is in `change`. Invariant: the owner of each token of a source is that source.

mod change;

use std::{collections::BTreeMap, sync::Arc};

use fieldgate_core::{
    access::{Identity, Principal},
    id::{DeviceId, TenantId},
};

use super::{
    OpenCommand, State,
    changes::{Row, RowKey},
    tenants::{Inner, Owner},
};
use crate::{
    registry::{Asides, Integration, Origin, Progress, proof_of},
    secret::IntegrationPart,
};

/// Most integrations of a tenant.
pub const INTEGRATIONS_MAX: usize = 100;
/// Most messages that are set aside of one; then the oldest is forgotten, and counted.
pub const ASIDES_MAX: usize = 1_000;

/// What is kept of the integrations of a tenant, by name.
#[derive(Debug, Default)]
pub(super) struct Integrations {
    known: BTreeMap<String, Arc<Integration>>,
    progress: BTreeMap<String, Arc<Progress>>,
    asides: BTreeMap<String, Arc<Asides>>,
    origins: BTreeMap<DeviceId, Arc<Origin>>,
    /// How many devices each source has.
    counts: BTreeMap<String, usize>,
}

/// An integration and how far it came.
#[derive(Debug, Clone)]
pub struct Integrated {
    /// Its tenant.
    pub tenant: TenantId,
    /// As people want it.
    pub integration: Arc<Integration>,
    /// How far it came.
    pub progress: Arc<Progress>,
    /// What was set aside.
    pub asides: Arc<Asides>,
}

/// What we show to a target, and sign with. Never printed.
#[derive(Default)]
pub struct TargetSecrets {
    /// What we show.
    pub token: Option<String>,
    /// What we sign with.
    pub signing: Option<Vec<u8>>,
}

impl std::fmt::Debug for TargetSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TargetSecrets(…)")
    }
}

/// Why nobody is let in by a source's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceRefused {
    /// It is no source's, or not that one's.
    Unknown,
    /// The source rests.
    Paused,
}

impl State {
    /// Every integration of a tenant, by name.
    #[must_use]
    pub fn integrations(&self, tenant: &TenantId) -> Vec<Integrated> {
        let inner = self.read();
        let of = inner.tenants.get(tenant).map(|found| &found.integrations);
        let names = of.into_iter().flat_map(|of| of.known.keys().filter_map(|n| of.one(tenant, n)));
        names.collect()
    }

    /// Every integration of every tenant, in the order of both names.
    #[must_use]
    pub fn all_integrations(&self) -> Vec<Integrated> {
        let inner = self.read();
        let mut all = Vec::new();
        for (id, tenant) in &inner.tenants {
            let of = &tenant.integrations;
            all.extend(of.known.keys().filter_map(|name| of.one(id, name)));
        }
        all
    }

    /// The integration of this name.
    #[must_use]
    pub fn integration(&self, tenant: &TenantId, name: &str) -> Option<Integrated> {
        self.read().tenants.get(tenant)?.integrations.one(tenant, name)
    }

    /// What an integration shows to its target and signs with; nothing of it if `master.key` is
    /// another than it was sealed under.
    #[must_use]
    pub fn target_secrets(&self, tenant: &TenantId, integration: &Integration) -> TargetSecrets {
        let Some(target) = &integration.target else { return TargetSecrets::default() };
        let open = |part, sealed: &Option<_>| {
            let sealed = sealed.as_ref()?;
            self.key.open_integration(tenant, &integration.name, part, sealed)
        };
        let token = open(IntegrationPart::Token, &target.secret);
        let token = token.and_then(|bytes| String::from_utf8(bytes).ok());
        TargetSecrets { token, signing: open(IntegrationPart::Signing, &target.signing) }
    }

    /// The source that presents this token; `name`: it must be this one.
    ///
    /// The work is the same for an unknown source and a wrong token.
    ///
    /// # Errors
    ///
    /// [`SourceRefused`].
    pub fn source_of(&self, name: Option<&str>, token: &str) -> Result<Principal, SourceRefused> {
        let hash = self.key.hash_source(token);
        let inner = self.read();
        let Some(Owner::Source(tenant, owner)) = inner.owners.get(&hash) else {
            return Err(SourceRefused::Unknown);
        };
        if name.is_some_and(|name| name != owner) {
            return Err(SourceRefused::Unknown);
        }
        let found = inner.tenants.get(tenant).map(|of| &of.integrations);
        let source =
            found.and_then(|found| found.known.get(owner)).ok_or(SourceRefused::Unknown)?;
        if source.paused {
            return Err(SourceRefused::Paused);
        }
        source.source(tenant).ok_or(SourceRefused::Unknown)
    }

    /// Where a device came from, if a source brought it.
    #[must_use]
    pub fn origin(&self, tenant: &TenantId, device: &DeviceId) -> Option<Arc<Origin>> {
        self.read().tenants.get(tenant)?.integrations.origins.get(device).cloned()
    }

    /// The commands that wait for the devices of a source, oldest first.
    #[must_use]
    pub fn open_commands_of(&self, tenant: &TenantId, source: &str) -> Vec<OpenCommand> {
        let inner = self.read();
        let Some(of) = inner.tenants.get(tenant) else { return Vec::new() };
        let origin = |device: &DeviceId| of.integrations.origins.get(device);
        let devices = inner.commands.devices().into_iter().filter(|(owner, device)| {
            owner == tenant && origin(device).is_some_and(|origin| origin.source == source)
        });
        let mut open: Vec<OpenCommand> =
            devices.flat_map(|(_, device)| inner.commands.of(tenant, &device)).collect();
        open.sort_unstable_by_key(|command| command.entry.seq);
        open
    }

    /// How many devices a source has.
    #[must_use]
    pub fn source_device_count(&self, tenant: &TenantId, source: &str) -> usize {
        let inner = self.read();
        let of = inner.tenants.get(tenant).and_then(|of| of.integrations.counts.get(source));
        of.copied().unwrap_or_default()
    }
}

impl Integration {
    /// Who a connection is that this source's token opened; nobody if it is no source.
    pub(super) fn source(&self, tenant: &TenantId) -> Option<Principal> {
        let hash = self.token.as_ref()?;
        Some(Principal {
            tenant: tenant.clone(),
            name: source_name(&self.name).into(),
            identity: Identity::Source { name: self.name.as_str().into() },
            role: None,
            grants: Vec::new(),
            only: None,
            proof: Some(proof_of(hash)),
            expires: None,
        })
    }
}

/// [`Principal::name`] of a source.
#[must_use]
pub fn source_name(name: &str) -> String {
    format!("source:{name}")
}

impl Integrations {
    fn one(&self, tenant: &TenantId, name: &str) -> Option<Integrated> {
        Some(Integrated {
            tenant: tenant.clone(),
            integration: Arc::clone(self.known.get(name)?),
            progress: self.progress.get(name).cloned().unwrap_or_default(),
            asides: self.asides.get(name).cloned().unwrap_or_default(),
        })
    }

    /// A source with the rights that it has now; nothing if it is gone, rests, or has another token.
    pub(super) fn fresh(&self, tenant: &TenantId, name: &str, proof: u64) -> Option<Principal> {
        let source = self.known.get(name).filter(|source| !source.paused)?.source(tenant)?;
        (source.proof == Some(proof)).then_some(source)
    }

    pub(super) fn origin(&self, device: &str) -> Option<&Origin> {
        self.origins.get(device).map(|origin| &**origin)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.known.keys()
    }

    pub(super) fn rows(&self, id: &TenantId) -> Vec<(RowKey, Row)> {
        let mut rows = Vec::new();
        for (name, row) in &self.known {
            let key = RowKey::Integration(id.clone(), name.clone());
            rows.push((key, Row::Integration(row.clone())));
        }
        for (name, row) in &self.progress {
            rows.push((RowKey::Progress(id.clone(), name.clone()), Row::Progress(row.clone())));
        }
        for (name, row) in &self.asides {
            rows.push((RowKey::Asides(id.clone(), name.clone()), Row::Asides(row.clone())));
        }
        for (device, row) in &self.origins {
            rows.push((RowKey::Origin(id.clone(), device.clone()), Row::Origin(row.clone())));
        }
        rows
    }

    /// What stands in a row of this kind now.
    pub(super) fn row(&self, key: &RowKey) -> Option<Row> {
        match key {
            RowKey::Integration(_, name) => self.known.get(name).cloned().map(Row::Integration),
            RowKey::Progress(_, name) => self.progress.get(name).cloned().map(Row::Progress),
            RowKey::Asides(_, name) => self.asides.get(name).cloned().map(Row::Asides),
            RowKey::Origin(_, device) => self.origins.get(device).cloned().map(Row::Origin),
            RowKey::Tenant(_)
            | RowKey::Device(..)
            | RowKey::Key(..)
            | RowKey::User(..)
            | RowKey::SignIns(..)
            | RowKey::Guard(..)
            | RowKey::Retained(..)
            | RowKey::Command(_)
            | RowKey::Reported(..)
            | RowKey::Audit(..)
            | RowKey::Group(..)
            | RowKey::Numbers(_)
            | RowKey::Scene(..)
            | RowKey::Desired(..)
            | RowKey::Account(..)
            | RowKey::Activation(..)
            | RowKey::Parts(..)
            | RowKey::PartNumbers(_)
            | RowKey::BridgeKey(..) => None,
        }
    }

    fn set_origin(&mut self, device: &DeviceId, origin: Arc<Origin>) {
        let source = origin.source.clone();
        if self.origins.insert(device.clone(), origin).is_none() {
            *self.counts.entry(source).or_default() += 1;
        }
    }

    /// A device is gone.
    pub(super) fn forget_device(&mut self, device: &DeviceId) {
        let Some(origin) = self.origins.remove(device) else { return };
        if let Some(count) = self.counts.get_mut(&origin.source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&origin.source);
            }
        }
    }
}

impl Inner {
    /// Takes a row of an integration as it was written down.
    pub(super) fn restore_integration(&mut self, key: RowKey, row: Row) {
        match (key, row) {
            (RowKey::Integration(tenant, name), Row::Integration(integration)) => {
                if let Some(hash) = integration.token {
                    self.owners.insert(hash, Owner::Source(tenant.clone(), name.clone()));
                }
                self.tenants
                    .entry(tenant)
                    .or_default()
                    .integrations
                    .known
                    .insert(name, integration);
            }
            (RowKey::Progress(tenant, name), Row::Progress(progress)) => {
                self.tenants
                    .entry(tenant)
                    .or_default()
                    .integrations
                    .progress
                    .insert(name, progress);
            }
            (RowKey::Asides(tenant, name), Row::Asides(asides)) => {
                self.tenants.entry(tenant).or_default().integrations.asides.insert(name, asides);
            }
            (RowKey::Origin(tenant, device), Row::Origin(origin)) => {
                self.tenants.entry(tenant).or_default().integrations.set_origin(&device, origin);
            }
            (key, _) => tracing::error!(?key, "a row of another kind"),
        }
    }
}

#[cfg(test)]
mod tests;
