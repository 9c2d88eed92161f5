//! Commands and the profiles of the devices that they are for.
//!
//! Looked at when a command comes, and again when it is handed over: a profile may have changed. What
//! a device does not take ends `failed` with the reason, which is a step in the log as any other.

use std::sync::Arc;

use bytes::Bytes;
use fieldgate_core::{
    dialect::{CommandAsk, CommandState},
    fault::{Code, Fault},
    id::{DeviceId, Seq, TenantId},
    message::Content,
    profile::Profile,
    state::Reported,
};
use fieldgate_dialects::{
    native::{self, Canonical},
    thingsee::downlink,
};
use fieldgate_store::{Log, Record, record::CommandChange, registry::Device, state::OpenCommand};

use crate::fabric::{Shared, message_of, now};

/// Most steps that enter the log together.
const GROUP_LEN_MAX: usize = 256;
/// Most devices of a command that builds on what each reported: reading that takes a worker's time.
const RELATIVE_DEVICES_MAX: usize = 256;

/// A command for one device: in its words and units, or as it came and why the device takes none.
pub(super) struct Fitted {
    pub(super) device: DeviceId,
    pub(super) payload: Bytes,
    fault: Option<Fault>,
}

fn profile_of(device: &Device) -> Option<&Profile> {
    device.profile.as_ref().map(|described| &*described.profile)
}

/// Looks at a command for each of its devices; what is relative, by what each of them reported.
///
/// # Errors
///
/// No device takes it.
pub(super) fn each(
    shared: &Shared,
    tenant: &TenantId,
    ask: &CommandAsk,
    devices: Vec<(DeviceId, Arc<Device>)>,
) -> Result<Vec<Fitted>, Fault> {
    let canonical = match ask.content {
        Content::Json => native::canonical(&ask.payload)?,
        Content::Text | Content::Bytes => None,
    };
    let is_relative = canonical.as_ref().is_some_and(Canonical::is_relative);
    if is_relative && devices.len() > RELATIVE_DEVICES_MAX {
        let text = format!(
            "{} devices exceed {RELATIVE_DEVICES_MAX} of one \"change\" or \"toggle\"",
            devices.len()
        );
        return Err(Fault::new(Code::TooLarge, text));
    }
    let reported =
        |id: &DeviceId| if is_relative { shared.state.reported(tenant, id) } else { None };
    let fit = |(id, device): (DeviceId, Arc<Device>)| {
        let reported = reported(&id);
        let takes = Takes::of(shared, tenant, &id, &device);
        one(id, &takes, &ask.payload, canonical.as_ref(), reported.as_deref())
    };
    some_take(devices.into_iter().map(fit).collect())
}

/// The same for commands that are another for each device, and say what to set.
pub(super) fn own(
    shared: &Shared,
    tenant: &TenantId,
    devices: Vec<(DeviceId, Arc<Device>, Bytes)>,
) -> Result<Vec<Fitted>, Fault> {
    let fit = |(id, device, payload): (DeviceId, Arc<Device>, Bytes)| {
        let canonical = native::canonical(&payload)?;
        let takes = Takes::of(shared, tenant, &id, &device);
        Ok(one(id, &takes, &payload, canonical.as_ref(), None))
    };
    some_take(devices.into_iter().map(fit).collect::<Result<_, Fault>>()?)
}

/// What decides about the commands that a device takes.
struct Takes<'a> {
    profile: Option<&'a Profile>,
    /// Whether a source brought it: it takes the vendor's requests alone.
    is_thingsee: bool,
}

impl<'a> Takes<'a> {
    fn of(shared: &Shared, tenant: &TenantId, id: &DeviceId, device: &'a Device) -> Self {
        let is_thingsee = shared.state.origin(tenant, id).is_some();
        Self { profile: profile_of(device), is_thingsee }
    }

    /// The payload for it; nothing if it is the sender's as it is.
    fn fit(
        &self,
        payload: &[u8],
        canonical: Option<&Canonical<'_>>,
        reported: Option<&Reported>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        // Without a profile the catalogue of the vendor's settings is what there is.
        let canonical = canonical.filter(|_| self.profile.is_some() || !self.is_thingsee);
        let fitted = canonical.map_or(Ok(None), |c| c.fit(self.profile, reported))?;
        if self.is_thingsee {
            downlink::request(fitted.as_deref().unwrap_or(payload))?;
        }
        Ok(fitted)
    }
}

fn one(
    id: DeviceId,
    takes: &Takes<'_>,
    payload: &Bytes,
    canonical: Option<&Canonical<'_>>,
    reported: Option<&Reported>,
) -> Fitted {
    let fitted = takes.fit(payload, canonical, reported);
    let (payload, fault) = match fitted {
        Ok(other) => (other.map_or_else(|| payload.clone(), Bytes::from), None),
        Err(fault) => (payload.clone(), Some(fault)),
    };
    Fitted { device: id, payload, fault }
}

fn some_take(mut fitted: Vec<Fitted>) -> Result<Vec<Fitted>, Fault> {
    if fitted.iter().any(|one| one.fault.is_none()) {
        return Ok(fitted);
    }
    let count = fitted.len();
    let Some(Fitted { device, fault: Some(mut fault), .. }) = fitted.drain(..).next() else {
        return Ok(Vec::new());
    };
    if count > 1 {
        fault.message =
            format!("none of {count} devices takes it; {device}: {}", fault.message).into();
    }
    Err(fault)
}

fn failed(tenant: &TenantId, device: &DeviceId, command: Seq, fault: &Fault) -> Record {
    Record::Command(CommandChange {
        tenant: tenant.clone(),
        device: device.clone(),
        command,
        state: CommandState::Failed,
        payload: Some(native::encode_failure(fault).into()),
        by: "gateway".into(),
    })
}

/// Ends what was queued for the devices that do not take it; `first` is the number of the first
/// device's message.
pub(super) fn fail_refused(shared: &Shared, tenant: &TenantId, first: u64, fitted: Vec<Fitted>) {
    let refused = (first..).zip(fitted).filter_map(|(seq, one)| {
        one.fault.map(|fault| failed(tenant, &one.device, Seq(seq), &fault))
    });
    let mut records: Vec<Record> = refused.collect();
    while !records.is_empty() {
        let rest = records.split_off(records.len().min(GROUP_LEN_MAX));
        append(shared, std::mem::replace(&mut records, rest));
    }
}

/// Ends a command that its device does not take any more.
pub(super) fn fail(shared: &Shared, command: &OpenCommand, fault: &Fault) {
    append(shared, vec![failed(&command.tenant, &command.device, command.entry.seq, fault)]);
}

fn append(shared: &Shared, records: Vec<Record>) {
    if let Err(error) = shared.log.append(records, now()) {
        // They stay queued: looked at again at the next connection of the device, else they expire.
        tracing::warn!(%error, "a command that does not fit did not end yet");
    }
}

/// Looks at a command again that waited for its device.
///
/// # Errors
///
/// The device does not take it any more.
pub(super) fn again(shared: &Shared, command: &OpenCommand) -> Result<(), Fault> {
    let message = message_of(&command.entry).filter(|message| message.content == Content::Json);
    let Some(message) = message else { return Ok(()) };
    let device = shared.state.device(&command.tenant, &command.device);
    let profile = device.as_deref().and_then(profile_of);
    let is_thingsee = shared.state.origin(&command.tenant, &command.device).is_some();
    if is_thingsee {
        downlink::request(&message.payload)?;
    }
    let Some(canonical) = native::canonical(&message.payload)? else { return Ok(()) };
    if is_thingsee && profile.is_none() {
        return Ok(());
    }
    canonical.still_fits(profile)
}
