//! Who showed a credential on this connection last: it is verified once, for as long as nothing
//! changes on which that rests.
//!
//! Absent: tokens of outside issuers, whose keys come and go without a change of the registry.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::HeaderValue;
use fieldgate_core::{access::Principal, id::UnixMs};

/// The last credential of a connection.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Option<Verified>>);

#[derive(Debug)]
struct Verified {
    /// The header as it came; it prints as sensitive.
    shown: HeaderValue,
    /// The registry's revision before it was verified.
    revision: u64,
    principal: Arc<Principal>,
}

impl Known {
    /// Who this header names, if it is the one that was shown last and still holds.
    pub(super) fn recall(
        &self,
        shown: &HeaderValue,
        revision: u64,
        now: UnixMs,
    ) -> Option<Arc<Principal>> {
        let verified = self.lock();
        let known = verified.as_ref().filter(|known| known.revision == revision)?;
        // Behind a proxy one connection carries the requests of many: nobody learns by time how much
        // of another's credential they guessed.
        let same = verify_slices_are_equal(known.shown.as_bytes(), shown.as_bytes()).is_ok();
        let holds = same && known.principal.expires.is_none_or(|end| now < end);
        holds.then(|| Arc::clone(&known.principal))
    }

    /// Keeps who this header named while the registry had this revision.
    pub(super) fn keep(&self, shown: &HeaderValue, revision: u64, principal: &Arc<Principal>) {
        let mut shown = shown.clone();
        shown.set_sensitive(true);
        *self.lock() = Some(Verified { shown, revision, principal: Arc::clone(principal) });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Verified>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use fieldgate_core::{
        access::{Identity, Role},
        id::TenantId,
    };

    use super::*;

    #[test]
    fn a_credential_is_known_until_it_is_another_or_something_changes_or_it_expires() {
        let principal = Arc::new(Principal {
            tenant: TenantId::default_tenant(),
            name: "key:a".into(),
            identity: Identity::Key,
            role: Some(Role::Admin),
            grants: Vec::new(),
            only: None,
            proof: None,
            expires: Some(UnixMs(100)),
        });
        let (known, shown) = (Known::default(), HeaderValue::from_static("Bearer abc"));
        let recalled = |shown: &HeaderValue, revision, now| {
            known.recall(shown, revision, UnixMs(now)).is_some()
        };
        assert!(!recalled(&shown, 7, 1));
        known.keep(&shown, 7, &principal);
        assert!(recalled(&shown, 7, 99));
        for other in ["Bearer abd", "Bearer ab", "Bearer abcd", ""] {
            assert!(!recalled(&HeaderValue::from_static(other), 7, 1), "{other}");
        }
        assert!(!recalled(&shown, 8, 1), "the registry changed");
        assert!(!recalled(&shown, 7, 100), "it expired");
        assert!(!format!("{known:?}").contains("abc"));
    }
}
