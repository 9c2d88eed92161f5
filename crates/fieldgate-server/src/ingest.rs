//! What sources bring: Thingsee arrays on a WebSocket of theirs, or posted.
//!
//! In: the elements of a frame. Out: one message in the log for each that stands, and an event behind it
//! for a press of a key; the others are written down with their reason. A device is made at its first
//! sight, before anything of it is taken. Invariant: a source writes the telemetry and the events of its
//! own devices, and nothing else; what is refused of one element costs its neighbours nothing.

mod gateways;
mod link;
pub(crate) mod post;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use fieldgate_core::{
    access::{Identity, Principal},
    fault::{Code, Fault},
    id::{DeviceId, Seq, UnixMs},
    message::Message,
    topic::Topic,
};
use fieldgate_dialects::thingsee::{self, Element, Elements};
use fieldgate_store::{
    AppendError, Log, Record,
    audit::Author,
    registry::{Change, Origin, RegistryChange},
};

use crate::{
    admit::{GROUP_BYTES_MAX, Way, admit_to, append_each},
    fabric::{Shared, now},
    ledger::DropReason,
};

pub(crate) use gateways::Gateways;
pub(crate) use link::{on_frame, on_ping};
pub(crate) use post::{answer, source_at};

/// So many devices are made or moved together: more would be too much for one group in the log.
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

/// How many messages a frame is, those that are refused too; one at least.
fn message_count(elements: &Elements) -> usize {
    let of = |element: &Result<Element, Fault>| element.as_ref().map_or(1, Element::message_count);
    elements.iter().map(of).sum::<usize>().max(1)
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
    /// It brought it.
    Own(Arc<Origin>),
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
        Some(origin) if origin.source == source => Standing::Own(origin),
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
    let (mut before, mut seen) = (None, HashSet::new());
    let new: Vec<&Element> = elements
        .iter()
        .filter_map(|element| element.as_ref().ok())
        // Most of a frame is about the device of the element before.
        .filter(|element| before.replace(&element.device) != Some(&element.device))
        .filter(|element| {
            matches!(standing(shared, principal, source, &element.device), Standing::New)
                && element.device.check_new().is_ok()
        })
        .filter(|element| seen.insert(&element.device))
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
    let mut records = Vec::with_capacity(message_count(&elements));
    let mut moved = Vec::new();
    let mut gate = Gate::new(shared, principal, brought);
    for (index, element) in elements.into_iter().enumerate() {
        let admitted = element.and_then(|element| {
            let Passed { origin, way } = gate.pass(&element.device)?;
            let gateway = element.gateway.as_ref().map(DeviceId::as_str);
            let has_moved = gateway.is_some() && gateway != origin.gateway.as_deref();
            if has_moved && shared.gateways.may_tell(principal, &element, time) {
                moved.extend(source_of(principal).map(|name| change(principal, name, &element)));
            }
            let device = &element.device;
            let event = element.event.map(|event| {
                let way = Way::to(shared, principal, Topic::of_device(device, "events"))?;
                admit_to(shared, principal, way, event, time)
            });
            let message = admit_to(shared, principal, way, element.draft, time)?;
            Ok((record_of(message)?, event.transpose()?.map(record_of).transpose()?))
        });
        match admitted {
            Ok((message, event)) => {
                taken.accepted_count += 1;
                records.extend([Some(message), event].into_iter().flatten());
            }
            Err(fault) => taken.refused.push((index, fault)),
        }
    }
    let appended = append_each(shared, principal, records, time)?;
    taken.last = appended.map_or(Seq(0), |range| Seq(*range.end()));
    while !moved.is_empty() {
        let rest = moved.split_off(moved.len().min(BROUGHT_LEN_MAX));
        if let Err(error) = shared.log.append(std::mem::replace(&mut moved, rest), time) {
            tracing::debug!(%error, "through which gateways devices came is told later");
            break;
        }
    }
    set_aside(shared, principal, &taken.refused, time);
    Ok(taken)
}

/// A message as the log takes it.
fn record_of(message: Message) -> Result<Record, Fault> {
    let record = Record::Message(message);
    let bytes = record.memory_bytes();
    if bytes > GROUP_BYTES_MAX {
        let text = format!("{bytes} bytes with its original exceed {GROUP_BYTES_MAX}");
        return Err(Fault::new(Code::TooLarge, text));
    }
    Ok(record)
}

/// What is known of a device that may pass.
#[derive(Clone)]
struct Passed {
    origin: Arc<Origin>,
    /// To its telemetry.
    way: Way,
}

/// Who of a frame's devices may pass.
struct Gate<'a> {
    shared: &'a Shared,
    principal: &'a Principal,
    brought: Option<&'a Brought>,
    full: OnceCell<Option<Fault>>,
    /// The device that was asked about last: most of a frame is about the same.
    last: Option<(DeviceId, Result<Passed, Fault>)>,
    /// Those that were asked about before.
    known: HashMap<DeviceId, Result<Passed, Fault>>,
}

impl<'a> Gate<'a> {
    fn new(shared: &'a Shared, principal: &'a Principal, brought: Option<&'a Brought>) -> Self {
        let (full, known) = (OnceCell::new(), HashMap::new());
        Self { shared, principal, brought, full, last: None, known }
    }

    fn pass(&mut self, device: &DeviceId) -> Result<Passed, Fault> {
        if let Some((last, found)) = &self.last
            && last == device
        {
            return found.clone();
        }
        let found = self.known.get(device).cloned().unwrap_or_else(|| self.look(device));
        let before = self.last.replace((device.clone(), found.clone()));
        self.known.extend(before);
        found
    }

    fn look(&self, device: &DeviceId) -> Result<Passed, Fault> {
        let Some(source) = source_of(self.principal) else {
            return Err(Fault::new(Code::NotAllowed, "this is no source"));
        };
        match standing(self.shared, self.principal, source, device) {
            Standing::Own(origin) => {
                let topic = Topic::of_device(device, "telemetry");
                Ok(Passed { origin, way: Way::to(self.shared, self.principal, topic)? })
            }
            Standing::Foreign => {
                let text = format!("device {device} is not of the source {source}");
                Err(Fault::new(Code::NotAllowed, text))
            }
            Standing::New => Err(self.why_not(source, device)),
        }
    }

    /// Why a device was not made.
    fn why_not(&self, source: &str, device: &DeviceId) -> Fault {
        if let Err(error) = device.check_new() {
            return Fault::new(Code::BadValue, error.to_string());
        }
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
