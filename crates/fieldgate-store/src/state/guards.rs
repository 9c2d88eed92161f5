//! Devices that sign: their sealed secrets, the claims that were taken, and who must sign each frame.
//!
//! Changed in seq order by the one thread that applies the log; conditions are decided here, when the
//! record's turn comes. Invariant: a claim is taken once, also by who reads the log again.

use std::{collections::BTreeSet, sync::Arc};

use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
    id::{DeviceId, TenantId, UnixMs},
    replay::Replay,
};

use super::{
    Effect, State, StateLimits,
    tenants::{Inner, Tenant, no_such},
};
use crate::registry::{Change, Guard, HmacSecret, NonceHash, Sealed, SecretHash, proof_of};

/// Most secrets of a device to sign with. So many are tried for every claim, whosever it is.
pub const SIGNING_MAX: usize = 4;
/// Most claims of a device that are remembered.
const CLAIMS_MAX: usize = 256;

/// A secret that a claim is tried with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningSecret {
    /// Names it; nothing if there is none and the work is for its own sake.
    pub proof: Option<u64>,
    /// The secret.
    pub secret: Vec<u8>,
}

impl State {
    /// What a claim to be this device is tried with: always [`SIGNING_MAX`] secrets, each as much work
    /// as the others, whether the device is known and whatever it has.
    #[must_use]
    pub fn signing_secrets(&self, tenant: &TenantId, device: &DeviceId) -> Vec<SigningSecret> {
        let known = {
            let inner = self.read();
            let of = inner.tenants.get(tenant);
            of.and_then(|of| {
                Some((of.guards.get(device)?.clone(), of.devices.get(device)?.clone()))
            })
        };
        let none = Sealed(vec![0; 76]);
        let mut tried: Vec<SigningSecret> = Vec::with_capacity(SIGNING_MAX);
        if let Some((guard, device_row)) = &known {
            for (credential, sealed) in guard.sealed.iter().take(SIGNING_MAX) {
                let opened = self.key.open_signing(tenant, device, credential, sealed);
                if opened.is_none() {
                    tracing::warn!(%device, "a secret cannot be opened: is master.key another?");
                }
                let proof = device_row.credentials.get(credential).map(proof_of);
                let proof = proof.filter(|_| opened.is_some());
                tried.push(SigningSecret { proof, secret: opened.unwrap_or_default() });
            }
        }
        while tried.len() < SIGNING_MAX {
            let opened = self.key.open_signing(tenant, device, "none", &none);
            tried.push(SigningSecret { proof: None, secret: opened.unwrap_or_default() });
        }
        tried
    }

    /// Who a claim is by, that the secret with this proof fits.
    #[must_use]
    pub fn signing_device(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        proof: u64,
    ) -> Option<Principal> {
        self.read().tenants.get(tenant)?.principal_of(tenant, device, proof)
    }

    /// Whether a claim may be taken.
    ///
    /// # Errors
    ///
    /// [`Replay`].
    pub fn check_claim(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        nonce: &NonceHash,
        timestamp: UnixMs,
        now: UnixMs,
    ) -> Result<(), Replay> {
        let guard = self.guard(tenant, device).unwrap_or_default();
        guard.nonces.check(nonce, timestamp, now)
    }

    /// What guards a device.
    #[must_use]
    pub fn guard(&self, tenant: &TenantId, device: &DeviceId) -> Option<Arc<Guard>> {
        self.read().tenants.get(tenant)?.guards.get(device).cloned()
    }
}

impl Tenant {
    /// Who a connection is that the credential with this proof opened: a device whose frames must be
    /// signed is opened by what it signs with alone.
    pub(super) fn principal_of(
        &self,
        tenant: &TenantId,
        id: &DeviceId,
        proof: u64,
    ) -> Option<Principal> {
        let device = self.devices.get(id)?;
        let guard = self.guards.get(id);
        let of_proof = |(_, hash): &(&String, &SecretHash)| proof_of(hash) == proof;
        let (credential, _) = device.credentials.iter().find(of_proof)?;
        let opens = guard.is_none_or(|g| !g.integrity || g.sealed.contains_key(credential));
        if opens { device.principal(tenant, proof) } else { None }
    }

    /// Forgets the secrets to sign with that the device has no more; then what guards nothing.
    pub(super) fn tidy_guard(&mut self, id: &DeviceId) {
        let credentials = self.devices.get(id).map(|device| &device.credentials);
        let Some(guard) = self.guards.get_mut(id) else { return };
        let is_known = |name: &String| credentials.is_some_and(|known| known.contains_key(name));
        let guard = Arc::make_mut(guard);
        guard.sealed.retain(|name, _| is_known(name));
        if credentials.is_none() || (guard.sealed.is_empty() && !guard.integrity) {
            self.guards.remove(id);
        }
    }

    fn guard_mut(&mut self, id: &DeviceId) -> &mut Guard {
        Arc::make_mut(self.guards.entry(id.clone()).or_default())
    }
}

impl Inner {
    /// Applies a change that is about signing; does nothing with any other.
    pub(super) fn change_guard(
        &mut self,
        tenant: &TenantId,
        change: &Change,
        arrived: UnixMs,
        limits: &StateLimits,
    ) -> Result<Vec<Effect>, Fault> {
        match change {
            Change::DeviceAddSigning { device, secret, describing, integrity } => {
                let mut device = device.clone();
                device.credentials.insert(secret.credential.clone(), secret.hash);
                if *describing {
                    device.describing = BTreeSet::from([secret.credential.clone()]);
                }
                let effects = self.add_device(tenant, &device, limits)?;
                self.keep(tenant, &device.id, secret)?.integrity = *integrity;
                Ok(effects)
            }
            Change::SigningAdd { device, secret, describing } => {
                let id = parsed(device)?;
                let guard = self.tenants.get(tenant).and_then(|tenant| tenant.guards.get(&id));
                if guard.is_some_and(|guard| guard.sealed.len() >= SIGNING_MAX) {
                    let text = format!("a device has at most {SIGNING_MAX} secrets to sign with");
                    return Err(Fault::new(Code::QueueFull, text));
                }
                let HmacSecret { credential, hash, .. } = secret.clone();
                let (device, describing) = (device.clone(), *describing);
                let added = Change::CredentialAdd { device, credential, hash, describing };
                let effects = self.change_credential(tenant, &added)?;
                self.keep(tenant, id.as_str(), secret)?;
                Ok(effects)
            }
            Change::SigningRotate { device, secret } => {
                let effects = self.rotate(tenant, device, &secret.credential, &secret.hash)?;
                self.keep(tenant, device, secret)?;
                Ok(effects)
            }
            Change::Integrity { device, required } => {
                self.require_signing(tenant, device, *required)
            }
            Change::ClaimTaken { device, nonce, timestamp_ms } => {
                let id = parsed(device)?;
                let tenant = self.tenants.get_mut(tenant);
                let guard = tenant.and_then(|tenant| tenant.guards.get_mut(&id));
                let guard = Arc::make_mut(guard.ok_or_else(|| no_such("device", device))?);
                let taken = guard.nonces.take(*nonce, UnixMs(*timestamp_ms), arrived, CLAIMS_MAX);
                let replayed = |why: Replay| Fault::new(Code::Replayed, why.to_string());
                taken.map(|()| Vec::new()).map_err(replayed)
            }
            Change::DeviceAdd(_)
            | Change::DeviceRemove(_)
            | Change::DeviceRotate { .. }
            | Change::KeyAdd(_)
            | Change::KeyRevoke(_)
            | Change::UserAdd(_)
            | Change::UserRemove(_)
            | Change::UserPassword { .. }
            | Change::CredentialAdd { .. }
            | Change::CredentialRemove { .. }
            | Change::ProfileSet { .. }
            | Change::SignIns { .. }
            | Change::Group { .. }
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

    /// Keeps the sealed secret of a credential that the device has.
    fn keep(
        &mut self,
        tenant: &TenantId,
        device: &str,
        secret: &HmacSecret,
    ) -> Result<&mut Guard, Fault> {
        let id = parsed(device)?;
        let tenant = self.tenants.get_mut(tenant).ok_or_else(|| no_such("device", device))?;
        let guard = tenant.guard_mut(&id);
        guard.sealed.insert(secret.credential.clone(), secret.sealed.clone());
        Ok(guard)
    }

    fn require_signing(
        &mut self,
        tenant_id: &TenantId,
        device: &str,
        required: bool,
    ) -> Result<Vec<Effect>, Fault> {
        let id = parsed(device)?;
        let tenant = self.tenants.get_mut(tenant_id);
        let tenant = tenant.filter(|tenant| tenant.devices.contains_key(&id));
        let tenant = tenant.ok_or_else(|| no_such("device", device))?;
        let signs = tenant.guards.get(&id).is_some_and(|guard| !guard.sealed.is_empty());
        if required && !signs {
            let text = format!("device {device} has no credential of type hmac: add one first");
            return Err(Fault::new(Code::Conflict, text));
        }
        tenant.guard_mut(&id).integrity = required;
        tenant.tidy_guard(&id);
        Ok(vec![Effect::RightsChanged { tenant: tenant_id.clone(), name: device.into() }])
    }
}

fn parsed(device: &str) -> Result<DeviceId, Fault> {
    device.parse().map_err(|_| no_such("device", device))
}

#[cfg(test)]
mod tests;
