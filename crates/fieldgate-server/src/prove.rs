//! Who a first frame is by, and whether a device signed what came after it.
//!
//! A token is looked at where it comes. A signed claim is taken once: its nonce goes into the log, and
//! the answer waits until it is durable, so that no crash lets it be taken again. Runs on the link's
//! worker and never waits: a claim that is not settled comes back to be looked at again.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use fieldgate_core::{
    access::{Identity, Principal},
    close::CloseReason,
    dialect::{Answer, Ask, AuthMac, Proof},
    fault::{Code, Fault},
    id::{DeviceId, Seq, TenantId, UnixMs},
    replay::{Nonces, Replay},
};
use fieldgate_dialects::native::{self, MacKey, Refusal};
use fieldgate_store::{
    AppendError, Log, Record,
    registry::{Change, RegistryChange},
    state::SigningSecret,
};

use crate::{
    asks::{Outcome, limits_of, welcome},
    fabric::{Shared, now},
    hub::Hub,
    link::Link,
};

/// Most nonces of a connection that are remembered.
const NONCES_MAX: usize = 1_024;

/// A claim whose nonce is on its way into the log.
#[derive(Debug)]
pub(crate) struct Proving {
    seq: Seq,
    principal: Principal,
    signing: Signing,
}

/// What the frames of a connection are checked with.
#[derive(Debug)]
pub(crate) struct Signing {
    key: MacKey,
    /// Whether each must be signed.
    required: Cell<bool>,
    /// Nothing signed before the claim is taken: it was for an earlier connection.
    nonces: RefCell<Nonces<Box<str>>>,
}

impl Signing {
    fn new(key: MacKey, since: UnixMs) -> Self {
        let nonces = RefCell::new(Nonces::since(since));
        Self { key, required: Cell::new(false), nonces }
    }
}

/// Why a claim is not settled as good.
enum NotTaken {
    /// The log is full: look again.
    Full,
    Wrong,
    /// Taken too often.
    RateLimited,
    /// It cannot be written down, so it cannot be taken.
    Unavailable,
}

/// Deals with a text frame of a connection that is nobody's yet.
pub(crate) fn on_first(hub: &Rc<Hub>, link: &Rc<Link>, text: &str) -> Outcome {
    if link.proving.borrow().is_some() {
        return settle(hub, link);
    }
    let auth = match native::decode_first(text, &limits_of(&hub.shared)) {
        Ok(auth) => auth,
        Err(reason) => {
            link.close(reason);
            return Outcome::Done;
        }
    };
    if !hub.shared.throttle.may_try(link.peer) {
        link.close(CloseReason::RateLimited);
        return Outcome::Done;
    }
    let (tenant, time) = (auth.tenant.unwrap_or_else(TenantId::default_tenant), now());
    match &auth.proof {
        Proof::Token { device, token } => {
            match hub.shared.state.verify_token(&tenant, device.as_ref(), &token.0, time) {
                Some(principal) => welcome(hub, link, principal),
                None => wrong(hub, link, tenant, device.as_ref()),
            }
            Outcome::Done
        }
        Proof::Mac(claim) => match take(&hub.shared, &tenant, claim, time) {
            Ok(proving) => {
                *link.proving.borrow_mut() = Some(Box::new(proving));
                settle(hub, link)
            }
            Err(why) => not_taken(hub, link, &why, tenant, &claim.device),
        },
    }
}

/// Tells the same words for whatever is wrong with a credential.
fn wrong(hub: &Rc<Hub>, link: &Rc<Link>, tenant: TenantId, device: Option<&DeviceId>) {
    // A name that nobody has may be anything, also a secret.
    let known = device.filter(|id| hub.shared.state.device(&tenant, id).is_some());
    let target = known.map(|id| id.as_str().to_owned()).unwrap_or_default();
    hub.shared.wrong_credential(link.peer, tenant, target);
    hub.answer(link, &Answer::NotAuthenticated { timestamp: now() });
    link.close(CloseReason::AuthFailed);
}

fn not_taken(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    why: &NotTaken,
    tenant: TenantId,
    device: &DeviceId,
) -> Outcome {
    match why {
        NotTaken::Full => return Outcome::Full,
        NotTaken::Wrong => wrong(hub, link, tenant, Some(device)),
        NotTaken::RateLimited => link.close(CloseReason::RateLimited),
        NotTaken::Unavailable => link.close(CloseReason::NoCapacity),
    }
    Outcome::Done
}

/// Looks at a claim, and writes down that it is taken.
fn take(
    shared: &Shared,
    tenant: &TenantId,
    claim: &AuthMac,
    time: UnixMs,
) -> Result<Proving, NotTaken> {
    let (state, device) = (&shared.state, &claim.device);
    let secrets = state.signing_secrets(tenant, device);
    let found = signer(&secrets, |key| key.fits_auth(tenant, claim));
    let (proof, key) = found.ok_or(NotTaken::Wrong)?;
    let principal = state.signing_device(tenant, device, proof).ok_or(NotTaken::Wrong)?;
    let nonce = state.master_key().hash_nonce(tenant, device, &claim.nonce);
    let checked = state.check_claim(tenant, device, &nonce, claim.timestamp, time);
    checked.map_err(|why| {
        tracing::debug!(%device, %why, "a signed claim was refused");
        NotTaken::Wrong
    })?;
    // Each claim is a record in the log: they count as messages of their device do.
    let paid = shared.throttle.take(&shared.throttle.sender(&principal), 1, 0);
    paid.map_err(|_| NotTaken::RateLimited)?;
    let change = Change::ClaimTaken {
        device: device.as_str().to_owned(),
        nonce,
        timestamp_ms: claim.timestamp.0,
    };
    let tenant = tenant.as_str().to_owned();
    let change = RegistryChange { tenant, change, author: None };
    let range = shared.log.append(vec![Record::Registry(Box::new(change))], time);
    let range = range.map_err(|error| {
        if error == AppendError::Full {
            return NotTaken::Full;
        }
        tracing::warn!(%error, "a signed claim cannot be written down");
        NotTaken::Unavailable
    })?;
    let signing = Signing::new(key, claim.timestamp);
    Ok(Proving { seq: Seq(*range.end()), principal, signing })
}

/// The secret that fits. Each is tried, also behind one that does.
fn signer(
    secrets: &[SigningSecret],
    mut fits: impl FnMut(&MacKey) -> bool,
) -> Option<(u64, MacKey)> {
    let mut found = None;
    for SigningSecret { proof, secret } in secrets {
        let key = MacKey::new(secret);
        let fits = fits(&key);
        found = proof.filter(|_| fits).map(|proof| (proof, key)).or(found);
    }
    found
}

/// Ends the wait for a claim once it is durable and its turn has come.
fn settle(hub: &Rc<Hub>, link: &Rc<Link>) -> Outcome {
    let shared = &hub.shared;
    let Some(seq) = link.proving.borrow().as_ref().map(|proving| proving.seq) else {
        return Outcome::Done;
    };
    if shared.log.durable() < seq {
        return Outcome::Full;
    }
    let refused = shared.log.is_refused(seq);
    if !refused && !shared.is_applied_for(hub.number, seq) {
        return Outcome::Full;
    }
    let Some(proving) = link.proving.borrow_mut().take() else { return Outcome::Done };
    let decided = if refused { Err(Code::StorageUnavailable) } else { outcome(shared, seq) };
    match decided {
        Ok(()) => {
            *link.signing.borrow_mut() = Some(Box::new(proving.signing));
            welcome(hub, link, proving.principal);
            Outcome::Done
        }
        Err(code) => {
            let is_wrong = matches!(code, Code::Replayed | Code::NotFound);
            let why = if is_wrong { NotTaken::Wrong } else { NotTaken::Unavailable };
            let Identity::Device { id, .. } = &proving.principal.identity else {
                return Outcome::Done;
            };
            not_taken(hub, link, &why, proving.principal.tenant.clone(), id)
        }
    }
}

fn outcome(shared: &Shared, seq: Seq) -> Result<(), Code> {
    shared.outcome(seq).map_err(|fault| fault.code)
}

/// Notes whether each frame of this link must be signed now.
pub(crate) fn note_rights(shared: &Shared, link: &Link, principal: &Principal) {
    let signing = link.signing.borrow();
    if let (Some(signing), Identity::Device { id, .. }) = (&*signing, &principal.identity) {
        let guard = shared.state.guard(&principal.tenant, id);
        signing.required.set(guard.is_some_and(|guard| guard.integrity));
    }
}

/// Decodes a text frame, and checks that it is signed where it must be.
pub(crate) fn decode_text(
    shared: &Shared,
    link: &Link,
    principal: &Principal,
    text: &str,
) -> Result<Ask, Refusal> {
    let limits = limits_of(shared);
    let signing = link.signing.borrow();
    let Some(signing) = signing.as_deref() else { return native::decode_text(text, &limits) };
    let by = (&principal.tenant, &signing.key);
    let (ask, seal) = native::decode_signed(text, &limits, by, signing.required.get())?;
    // A frame that comes back to be tried again was taken.
    if let Some(seal) = seal.filter(|_| !link.paid.get()) {
        let taken = signing.nonces.borrow_mut().take(seal.nonce, seal.timestamp, now(), NONCES_MAX);
        taken.map_err(|why| {
            let code = if why == Replay::Seen { Code::Replayed } else { Code::BadMac };
            let reference = native::reference_of(text);
            Refusal { fault: Fault::new(code, format!("{why}")), reference }
        })?;
    }
    Ok(ask)
}

/// Decodes a binary frame, which carries no code.
pub(crate) fn decode_binary(shared: &Shared, link: &Link, bytes: &[u8]) -> Result<Ask, Refusal> {
    if link.signing.borrow().as_ref().is_some_and(|signing| signing.required.get()) {
        return Err(native::unsigned_binary());
    }
    native::decode_binary(bytes, &limits_of(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_is_tried_for_every_claim() {
        let all: Vec<_> = [Some(1), Some(2), None, None]
            .into_iter()
            .map(|proof| SigningSecret { proof, secret: vec![1] })
            .collect();
        for (fitting, proof) in [(usize::MAX, None), (0, Some(1)), (1, Some(2)), (2, None)] {
            let mut tried = 0;
            let found = signer(&all, |_| {
                tried += 1;
                tried - 1 == fitting
            });
            assert_eq!((found.map(|(proof, _)| proof), tried), (proof, all.len()));
        }
    }
}
