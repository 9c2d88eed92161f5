//! Wishes on their way: checked, into the log, and out of it when they are met.
//!
//! A wish is a message on `devices/{id}/state/desired`: a merge patch in the device's own names and
//! units, null where it is withdrawn. One that is met is withdrawn by the gateway. Invariant: all of them
//! enter the log under one lock, so that what was looked at before is still so when a wish gets its
//! number. What they make a device do is `pursuit`'s.

use std::{
    ops::RangeInclusive,
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use fieldgate_core::{
    access::Principal,
    dialect::DesiredAsk,
    fault::{Code, Fault},
    id::{DeviceId, MsgId, Seq, TenantId, UnixMs},
    json,
    message::{Message, Qos},
    state::WISHES,
    topic::Topic,
};
use fieldgate_dialects::native;
use fieldgate_store::{Log, Record, log::LocalLog, state::Admit};

use crate::{
    admit::admit_new,
    asks::Refused,
    fabric::{Shared, now},
    hub::{Hub, Then},
    link::Link,
    pursuit::Connected,
};

/// Who speaks where a wish makes the gateway say something. No principal has this name.
pub(crate) const WISHES_NAME: &str = "gateway/desired";

/// A wish that has its number and is not in the state yet.
#[derive(Debug)]
struct Pending {
    seq: Seq,
    tenant: TenantId,
    device: DeviceId,
    patch: Bytes,
    /// It withdraws what was met.
    is_end: bool,
}

/// What is on its way. There are as many as the log's intake holds, at most.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pending: Mutex<Vec<Pending>>,
    /// Devices that connected, for the thread that routes.
    pub(crate) connected: Connected,
}

impl Wishes {
    fn pending(&self) -> MutexGuard<'_, Vec<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a device met a wish that is in the state still, as its end is on its way.
    pub(crate) fn is_ending(&self, tenant: &TenantId, device: &DeviceId, applied: Seq) -> bool {
        let ends = |one: &Pending| one.is_end && one.seq > applied && one.is_of(tenant, device);
        self.pending().iter().any(ends)
    }
}

/// Wishes something of a link's.
pub(crate) fn wish(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    ask: &DesiredAsk,
) -> Result<(), Refused> {
    let range = admit(&hub.shared, principal, ask)?;
    if let Some(reference) = ask.reference.clone().filter(|_| ask.qos > Qos::AtMostOnce) {
        hub.when_applied(link, range, Then::Ack { reference, batch: None });
    }
    Ok(())
}

/// Appends a wish; the numbers to acknowledge it with.
///
/// # Errors
///
/// Who asks has no right to command the device, its profile does not take the values, or somebody
/// wished something else since.
pub(crate) fn admit(
    shared: &Shared,
    principal: &Principal,
    ask: &DesiredAsk,
) -> Result<RangeInclusive<u64>, Refused> {
    let (tenant, device) = (&principal.tenant, &ask.device);
    if !principal.may_command(device) {
        return Err(Fault::new(Code::NotAllowed, format!("no right to command {device}")).into());
    }
    let missing = || Fault::new(Code::NotFound, format!("there is no device {device}"));
    let known = shared.state.device(tenant, device).ok_or_else(missing)?;
    let profile = known.profile.as_ref().map(|described| &*described.profile);
    let fitted = native::fit_desired(&ask.patch, profile).map(Bytes::from);
    let mut pending = shared.wishes.pending();
    let applied = shared.applied();
    pending.retain(|one| one.seq > applied);
    let time = now();
    let mut taken = Bytes::new();
    let enter = |log: &LocalLog| {
        taken = fitted?;
        check(shared, &pending, tenant, ask, &taken)?;
        let reference = ask.reference.clone();
        let record = record(tenant, device, &principal.name, reference, &taken, time);
        Ok(log.append(vec![record], time)?)
    };
    // A repeat is told as it was, whatever was wished since: it is looked at only if it is new.
    let admitted = match ask.reference.as_ref().filter(|_| ask.qos > Qos::AtMostOnce) {
        Some(reference) => admit_new(shared, principal, reference, time, enter)?,
        None => Admit::New(enter(&shared.log)?),
    };
    let range = admitted.range();
    if matches!(admitted, Admit::New(_)) {
        pending.push(Pending::new(&range, tenant, device, taken));
    }
    Ok(range)
}

impl Pending {
    fn new(
        range: &RangeInclusive<u64>,
        tenant: &TenantId,
        device: &DeviceId,
        patch: Bytes,
    ) -> Self {
        let seq = Seq(*range.start());
        Self { seq, tenant: tenant.clone(), device: device.clone(), patch, is_end: false }
    }

    fn is_of(&self, tenant: &TenantId, device: &DeviceId) -> bool {
        self.tenant == *tenant && self.device == *device
    }

    fn names(&self, name: &str) -> bool {
        let members = json::members(text(&self.patch)).unwrap_or_default();
        members.iter().any(|member| member.name.as_deref() == Some(name))
    }
}

fn text(patch: &[u8]) -> &str {
    std::str::from_utf8(patch).unwrap_or_default()
}

/// Looks whether a wish still may enter, with those that just did.
fn check(
    shared: &Shared,
    pending: &[Pending],
    tenant: &TenantId,
    ask: &DesiredAsk,
    patch: &[u8],
) -> Result<(), Fault> {
    let device = &ask.device;
    let of = || pending.iter().filter(|one| one.is_of(tenant, device));
    let desired = shared.state.desired(tenant, device).unwrap_or_default();
    if let Some(if_seq) = ask.if_seq {
        let members = json::members(text(patch)).unwrap_or_default();
        let mut names = members.iter().filter_map(|member| member.name.as_deref());
        let applied = desired.newer(text(patch), if_seq);
        let newer = applied
            .as_deref()
            .or_else(|| names.find(|name| of().any(|one| one.seq > if_seq && one.names(name))));
        if let Some(name) = newer {
            let text =
                format!("{name} was wished to be something else since: read the state again");
            return Err(Fault::new(Code::Conflict, text).about(None, name));
        }
    }
    let mut merged = (*desired).clone();
    for one in of() {
        merged.take(one.seq, text(&one.patch), WISHES);
    }
    if merged.take(Seq(u64::MAX), text(patch), WISHES) > 0 {
        let text = format!(
            "the wishes of {device} would exceed {} resources or {} bytes",
            WISHES.resources_max, WISHES.bytes_max
        );
        return Err(Fault::new(Code::TooLarge, text));
    }
    Ok(())
}

fn record(
    tenant: &TenantId,
    device: &DeviceId,
    from: &Arc<str>,
    reference: Option<MsgId>,
    patch: &Bytes,
    time: UnixMs,
) -> Record {
    let topic = Topic::of_device(device, "state/desired");
    // At QoS 1: it changes the state, which must never hold what the log may still refuse.
    let message = Message::json(tenant.clone(), topic, Arc::clone(from), time, patch.clone());
    Record::Message(Message { reference, ..message })
}

/// Withdraws wishes that are met, but for those that were wished anew since.
pub(crate) fn meet(shared: &Shared, tenant: &TenantId, device: &DeviceId, met: &[(Box<str>, Seq)]) {
    let mut pending = shared.wishes.pending();
    let applied = shared.applied();
    pending.retain(|one| one.seq > applied);
    let Some(desired) = shared.state.desired(tenant, device) else { return };
    let mut patch = Vec::new();
    for (name, seq) in met {
        let is_current = desired.wish(name).is_some_and(|wish| wish.seq == *seq);
        if !is_current || pending.iter().any(|one| one.is_of(tenant, device) && one.names(name)) {
            continue;
        }
        patch.push(if patch.is_empty() { b'{' } else { b',' });
        native::write_name(&mut patch, name);
        patch.extend_from_slice(b":null");
    }
    if patch.is_empty() {
        return;
    }
    patch.push(b'}');
    let (patch, time) = (Bytes::from(patch), now());
    let record = record(tenant, device, &WISHES_NAME.into(), None, &patch, time);
    match shared.log.append(vec![record], time) {
        Ok(range) => {
            let end = Pending::new(&range, tenant, device, patch);
            pending.push(Pending { is_end: true, ..end });
        }
        Err(error) => {
            tracing::debug!(%error, %device, "a wish that is met stays");
            shared.state.watch(tenant, device);
        }
    }
}
