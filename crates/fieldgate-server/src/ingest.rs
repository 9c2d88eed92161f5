//! What sources bring: Thingsee arrays on a WebSocket of theirs, or posted.
//!
//! In: the elements of a frame. Out: one message in the log for each that stands; the others are
//! written down with their reason. A device is made at its first sight, before anything of it is
//! taken. Invariant: a source writes the telemetry of its own devices, and nothing else; what is
//! refused of one element costs its neighbours nothing.

mod gateways;
mod link;
mod post;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap, HashSet},
};

use fieldgate_core::{
    access::{Identity, Principal},
    dialect::{Draft, Target},
    fault::{Code, Fault},
    id::{DeviceId, MsgId, Seq, UnixMs},
    message::Message,
    topic::Topic,
};
use fieldgate_dialects::thingsee::{self, Element, Elements};
use fieldgate_store::{
    AppendError, Log, Record,
    audit::Author,
    registry::{Change, RegistryChange},
};

use crate::{
    admit::admit,
    fabric::{Shared, now},
    ledger::DropReason,
};

pub(crate) use gateways::Gateways;
pub(crate) use link::{is_stored, on_frame};
pub(crate) use post::{answer, source_at};

/// So many devices are made together: more would be too much for one group in the log.
const BROUGHT_LEN_MAX: usize = 256;

/// The bounds of one frame.
fn limits_of(shared: &Shared) -> thingsee::Limits {
    let limits = &shared.config.limits;
    thingsee::Limits {
        json_depth_max: limits.json_depth_max,
        batch_len_max: limits.batch_len_max,
        resources_max: limits.resources_per_device_max,
        frame_bytes_max: limits.frame_bytes_max,
    }
}

/// Devices of a frame that are seen for the first time: the log decides about them.
#[derive(Debug)]
pub(crate) struct Brought {
    until: Seq,
    asked: Vec<(DeviceId, Seq)>,
}

/// What became of a frame.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// How many elements are stored, those that were before too.
    accepted_count: usize,
    refused: Vec<(usize, Fault)>,
    /// The newest number of them.
    last: Seq,
}

/// What a device is to a source.
enum Standing {
    /// It brought it, and through this gateway before.
    Own {
        gateway: Option<String>,
    },
    /// There is no such device.
    New,
    Foreign,
}

fn source_of(principal: &Principal) -> Option<&str> {
    match &principal.identity {
        Identity::Source { name } => Some(name),
        Identity::Device { .. } | Identity::Key | Identity::User => None,
    }
}

fn standing(shared: &Shared, principal: &Principal, source: &str, device: &DeviceId) -> Standing {
    match shared.state.origin(&principal.tenant, device) {
        Some(origin) if origin.source == source => {
            Standing::Own { gateway: origin.gateway.clone() }
        }
        Some(_) => Standing::Foreign,
        None if shared.state.device(&principal.tenant, device).is_some() => Standing::Foreign,
        None => Standing::New,
    }
}

/// Whether a source may have no more devices.
fn full(shared: &Shared, principal: &Principal, source: &str) -> Option<Fault> {
    let limits = &shared.config.limits;
    let of_source = shared.state.source_device_count(&principal.tenant, source);
    let of_tenant = shared.state.tenant_counts(&principal.tenant).devices;
    let tenant =
        shared.state.tenants().get(&principal.tenant).and_then(|info| info.limits.devices_max);
    let tenant_max = tenant.and_then(|max| usize::try_from(max).ok());
    let tenant_max = tenant_max.unwrap_or(limits.devices_per_tenant_max);
    let text = if of_source >= limits.devices_per_source_max {
        "limits.devices_per_source_max is reached"
    } else if of_tenant >= tenant_max {
        "limits.devices_per_tenant_max is reached"
    } else {
        return None;
    };
    Some(Fault::new(Code::QueueFull, text))
}

fn change(principal: &Principal, source: &str, element: &Element) -> Record {
    Record::Registry(Box::new(RegistryChange {
        tenant: principal.tenant.as_str().to_owned(),
        change: Change::SourceDevice {
            source: source.to_owned(),
            device: element.device.as_str().to_owned(),
            gateway: element.gateway.as_ref().map(|gateway| gateway.as_str().to_owned()),
        },
        author: Some(Author::gateway()),
    }))
}

/// Asks the log to make the devices of a frame that there are not; nothing if there is none, or no
/// room for one. What was asked for and came to nothing may be asked for again.
///
/// # Errors
///
/// What the log says; some may have been asked for.
fn bring(
    shared: &Shared,
    principal: &Principal,
    elements: &Elements,
) -> Result<Option<Brought>, AppendError> {
    let Some(source) = source_of(principal) else { return Ok(None) };
    let mut seen = HashSet::new();
    let new: Vec<&Element> = elements
        .iter()
        .filter_map(|element| element.as_ref().ok())
        .filter(|element| seen.insert(&element.device))
        .filter(|element| {
            matches!(standing(shared, principal, source, &element.device), Standing::New)
        })
        .collect();
    if new.is_empty() || full(shared, principal, source).is_some() {
        return Ok(None);
    }
    let mut brought = Brought { until: Seq(0), asked: Vec::with_capacity(new.len()) };
    for part in new.chunks(BROUGHT_LEN_MAX) {
        let records = part.iter().map(|element| change(principal, source, element)).collect();
        let range = shared.log.append(records, now())?;
        brought.until = Seq(*range.end());
        let numbered = part.iter().zip(range).map(|(one, seq)| (one.device.clone(), Seq(seq)));
        brought.asked.extend(numbered);
    }
    shared.log.announce();
    Ok(Some(brought))
}

/// Stores what stands of a frame, and writes down what does not. `brought`: what was asked for, and
/// has been decided.
///
/// # Errors
///
/// What the log says; then nothing is stored and nothing written down: it may be tried again.
fn take(
    shared: &Shared,
    principal: &Principal,
    elements: Elements,
    brought: Option<&Brought>,
) -> Result<Taken, AppendError> {
    let time = now();
    let mut taken = Taken::default();
    let mut messages = Vec::with_capacity(elements.len());
    let mut moved = Vec::new();
    let mut gate =
        Gate { shared, principal, brought, full: OnceCell::new(), known: HashMap::new() };
    for (index, element) in elements.into_iter().enumerate() {
        let admitted = element.and_then(|element| {
            if gate.pass(&element)? && shared.gateways.may_tell(principal, &element, time) {
                moved.extend(source_of(principal).map(|name| change(principal, name, &element)));
            }
            admit_element(shared, principal, element, time)
        });
        match admitted {
            Ok(message) => messages.push(message),
            Err(fault) => taken.refused.push((index, fault)),
        }
    }
    taken.accepted_count = messages.len();
    taken.last = append_each(shared, principal, messages, time)?;
    if !moved.is_empty()
        && let Err(error) = shared.log.append(moved, time)
    {
        tracing::debug!(%error, "through which gateways devices came is told later");
    }
    set_aside(shared, principal, &taken.refused, time);
    Ok(taken)
}

fn admit_element(
    shared: &Shared,
    principal: &Principal,
    element: Element,
    time: UnixMs,
) -> Result<Message, Fault> {
    // That it is the source's own was looked at.
    let target = Target::Topic(Topic::of_device(&element.device, "telemetry"));
    admit(shared, &OnceCell::new(), principal, Draft { target, ..element.draft }, time)
}

/// Who of a frame's devices may pass.
struct Gate<'a> {
    shared: &'a Shared,
    principal: &'a Principal,
    brought: Option<&'a Brought>,
    full: OnceCell<Option<Fault>>,
    /// The gateways of the devices that were looked at, or why one may not pass.
    known: HashMap<DeviceId, Result<Option<String>, Fault>>,
}

impl Gate<'_> {
    /// Whether an element came through another gateway than its device did before.
    fn pass(&mut self, element: &Element) -> Result<bool, Fault> {
        if !self.known.contains_key(&element.device) {
            let looked = self.look(&element.device);
            self.known.insert(element.device.clone(), looked);
        }
        let found = self.known.get(&element.device).cloned();
        let before = found.unwrap_or_else(|| Err(undecided()))?;
        let gateway = element.gateway.as_ref().map(DeviceId::as_str);
        Ok(gateway.is_some() && gateway != before.as_deref())
    }

    fn look(&self, device: &DeviceId) -> Result<Option<String>, Fault> {
        let Some(source) = source_of(self.principal) else {
            return Err(Fault::new(Code::NotAllowed, "this is no source"));
        };
        match standing(self.shared, self.principal, source, device) {
            Standing::Own { gateway } => Ok(gateway),
            Standing::Foreign => {
                let text = format!("device {device} is not of the source {source}");
                Err(Fault::new(Code::NotAllowed, text))
            }
            Standing::New => Err(self.why_not(source, device)),
        }
    }

    /// Why a device was not made.
    fn why_not(&self, source: &str, device: &DeviceId) -> Fault {
        let asked = self.brought.and_then(|brought| {
            brought.asked.iter().find(|(asked, _)| asked == device).map(|(_, seq)| *seq)
        });
        if let Some(seq) = asked {
            return self.shared.outcome(seq).err().unwrap_or_else(undecided);
        }
        let full = self.full.get_or_init(|| full(self.shared, self.principal, source));
        full.clone().unwrap_or_else(undecided)
    }
}

fn undecided() -> Fault {
    Fault::new(Code::Busy, "the device is not there yet, or is gone again: send it again")
}

/// Appends messages that each stand alone; the newest number of them, those that were stored before
/// too.
fn append_each(
    shared: &Shared,
    principal: &Principal,
    messages: Vec<Message>,
    time: UnixMs,
) -> Result<Seq, AppendError> {
    let ids: Vec<Option<MsgId>> = messages.iter().map(|one| one.reference.clone()).collect();
    let ids: Vec<Option<&MsgId>> = ids.iter().map(Option::as_ref).collect();
    let mut messages: Vec<Option<Message>> = messages.into_iter().map(Some).collect();
    let numbers = shared.state.window().admit_each(
        &principal.tenant,
        &principal.name,
        &ids,
        time,
        |seq| shared.log.is_refused(seq),
        |fresh| {
            let fresh = fresh.iter().filter_map(|place| messages.get_mut(*place)?.take());
            shared.log.append(fresh.map(Record::Message).collect(), time)
        },
    )?;
    shared.log.announce();
    Ok(numbers.into_iter().max().unwrap_or_default())
}

/// Writes down what was refused.
fn set_aside(shared: &Shared, principal: &Principal, refused: &[(usize, Fault)], time: UnixMs) {
    let mut counts = BTreeMap::<_, u64>::new();
    for (index, fault) in refused {
        let reason = reason_of(fault.code);
        *counts.entry(reason).or_default() += 1;
        let (source, code) = (&*principal.name, fault.code.as_str());
        tracing::debug!(source, index, code, message = %fault.message, "an element is set aside");
    }
    for (reason, count) in counts {
        shared.ledger.record(&principal.tenant, &principal.name, reason, count, time);
    }
}

/// What the ledger says of an element that was refused.
fn reason_of(code: Code) -> DropReason {
    match code {
        Code::NotAllowed => DropReason::SourceForeign,
        Code::QueueFull | Code::Busy => DropReason::SourceFull,
        Code::BadJson
        | Code::BadValue
        | Code::UnknownType
        | Code::MissingField
        | Code::TooLarge
        | Code::NotFound
        | Code::RateLimited
        | Code::BadTopic
        | Code::BadMac
        | Code::Replayed
        | Code::Conflict
        | Code::Expired
        | Code::BatchRefused
        | Code::StorageUnavailable => DropReason::SourceBad,
    }
}
