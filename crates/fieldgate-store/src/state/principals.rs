//! Who presents a token, and what who is known may do now.

use std::sync::atomic::Ordering;

use fieldgate_core::{
    access::{Identity, Principal},
    id::{DeviceId, TenantId, UnixMs},
};
use subtle::ConstantTimeEq;

use super::{State, bridge};
use crate::registry::{SecretHash, proof_of};

impl State {
    /// Who presents this token. `device` is named by devices; a token of their own counts only then.
    ///
    /// The work is the same for an unknown device and a wrong token.
    #[must_use]
    pub fn verify_token(
        &self,
        tenant: &TenantId,
        device: Option<&DeviceId>,
        token: &str,
        now: UnixMs,
    ) -> Option<Principal> {
        let hash = self.key.hash(token);
        let inner = self.read();
        let Some(id) = device else {
            return inner.owner_of(&hash, now);
        };
        let own = self.key.hash_own(tenant, id, token);
        let known = inner.tenants.get(tenant).and_then(|t| t.devices.get(id));
        let equal = |c: &SecretHash| bool::from(c.ct_eq(&hash) | c.ct_eq(&own));
        let matching = |found, c| if equal(c) { Some(proof_of(c)) } else { found };
        let proof = known?.credentials.values().fold(None, matching)?;
        inner.tenants.get(tenant)?.principal_of(tenant, id, proof)
    }

    /// A number that rises with each change of the registry: as long as it stays, so does who a token
    /// names and what they may, but for what expires.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The principal again, with the rights that it has now, as far as its ticket leaves them; nothing
    /// if it is gone.
    #[must_use]
    pub fn refresh(&self, principal: &Principal, now: UnixMs) -> Option<Principal> {
        let fresh = self.fresh(principal, now)?;
        Some(Principal { only: principal.only.clone(), ..fresh })
    }

    fn fresh(&self, principal: &Principal, now: UnixMs) -> Option<Principal> {
        if principal.identity == Identity::User && principal.proof.is_none() {
            // Somebody else said who this is, and until when.
            let holds = principal.expires.is_some_and(|end| now < end)
                && self.has_tenant(&principal.tenant);
            return holds.then(|| principal.clone());
        }
        if bridge::is_guest(principal) {
            // The configuration lets it in, as long as there is what it listens to.
            return self.has_tenant(&principal.tenant).then(|| principal.clone());
        }
        let inner = self.read();
        let tenant = inner.tenants.get(&principal.tenant)?;
        if let Identity::Device { id, .. } = &principal.identity {
            return tenant.principal_of(&principal.tenant, id, principal.proof?);
        }
        if let Identity::Source { name } = &principal.identity {
            return tenant.integrations.fresh(&principal.tenant, name, principal.proof?);
        }
        if principal.identity == Identity::User {
            let name = principal.name.strip_prefix("user:")?;
            return tenant.signed_in(&principal.tenant, name, principal.proof?, now);
        }
        if let Some(bridge) = tenant.bridge.fresh(&principal.tenant, principal) {
            return bridge;
        }
        let name = principal.name.strip_prefix("key:").unwrap_or(&principal.name);
        let key = tenant.keys.get(name)?;
        let same = principal.proof == Some(proof_of(&key.hash));
        (same && key.is_valid_at(now)).then(|| key.principal(&principal.tenant))
    }
}
