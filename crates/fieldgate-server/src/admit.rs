//! Messages on their way into the log, whatever brought them: what may be sent, by whom, and once.

use std::{cell::OnceCell, ops::RangeInclusive, sync::Arc};

use bytes::Bytes;
use fieldgate_core::{
    access::{Identity, Principal},
    dialect::{Draft, Target},
    fault::{Code, Fault},
    id::{DeviceId, MsgId, UnixMs},
    message::{Kind, Message, Priority},
    reading::{Stamp, decide_time},
    topic::Topic,
};
use fieldgate_store::{
    AppendError, Log, Record,
    log::LocalLog,
    state::{Admit, joined},
};

use crate::{asks::Refused, fabric::Shared};

/// Most records of one group of the log, and most bytes of them in memory.
const GROUP_LEN_MAX: usize = 4_096;
pub(crate) const GROUP_BYTES_MAX: usize = 1 << 20;

/// A topic that its sender may write.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    topic: Topic,
    kind: Kind,
}

impl Way {
    /// Whether there may be such a topic, and this principal may write it.
    pub(crate) fn to(shared: &Shared, principal: &Principal, topic: Topic) -> Result<Self, Fault> {
        shared.config.limits.check_topic(topic.as_str())?;
        if topic.as_str().starts_with('$') {
            let text = "topics that start with $ belong to the gateway";
            return Err(Fault::new(Code::BadTopic, text));
        }
        if !principal.may_publish(&topic) {
            return Err(Fault::new(Code::NotAllowed, format!("no right to publish to {topic}")));
        }
        Ok(Self { kind: topic.kind(), topic })
    }
}

/// Makes a message of a draft: rights, times, lane. `own_telemetry` keeps where a device's own
/// telemetry goes, once it sent some.
pub(crate) fn admit(
    shared: &Shared,
    own_telemetry: &OnceCell<Topic>,
    principal: &Principal,
    mut draft: Draft,
    time: UnixMs,
) -> Result<Message, Fault> {
    let target = std::mem::replace(&mut draft.target, Target::Telemetry(None));
    let way = Way::to(shared, principal, topic_of(own_telemetry, principal, target)?)?;
    admit_to(shared, principal, way, draft, time)
}

/// The same where it was looked at where it goes; what the draft says of that counts for nothing.
pub(crate) fn admit_to(
    shared: &Shared,
    principal: &Principal,
    way: Way,
    draft: Draft,
    time: UnixMs,
) -> Result<Message, Fault> {
    let Way { topic, kind } = way;
    let bytes = draft.original.as_ref().map_or(0, Bytes::len).max(draft.payload.len());
    if bytes > shared.config.limits.message_bytes_max {
        let text = format!("{bytes} bytes exceed limits.message_bytes_max");
        return Err(Fault::new(Code::TooLarge, text));
    }
    if draft.expires.is_some_and(|expires| expires <= time) {
        return Err(Fault::new(Code::Expired, "expires is in the past"));
    }
    let Stamp { timestamp, is_given, device_timestamp } = decide_time(draft.timestamp, time);
    let may_command = || {
        topic.device().and_then(|id| id.parse().ok()).is_some_and(|id| principal.may_command(&id))
    };
    let priority = match draft.priority {
        Priority::Critical if kind != Kind::Event && !may_command() => Priority::Normal,
        asked @ (Priority::Critical | Priority::Normal | Priority::Bulk) => asked,
    };
    Ok(Message {
        tenant: principal.tenant.clone(),
        qos: draft.qos,
        topic,
        kind,
        from: Arc::clone(&principal.name),
        timestamp,
        is_time_given: is_given,
        device_timestamp,
        reference: draft.reference,
        retain: draft.retain,
        priority,
        expires: draft.expires,
        content: draft.content,
        payload: draft.payload,
        original: draft.original,
    })
}

fn topic_of(
    own_telemetry: &OnceCell<Topic>,
    principal: &Principal,
    target: Target,
) -> Result<Topic, Fault> {
    let (device, leaf) = match target {
        Target::Topic(topic) => return Ok(topic),
        Target::Telemetry(None) if let Identity::Device { id, .. } = &principal.identity => {
            let own = own_telemetry.get_or_init(|| Topic::of_device(id, "telemetry"));
            return Ok(own.clone());
        }
        Target::Telemetry(device) => (device, "telemetry"),
        Target::Event(device) => (device, "events"),
        Target::Reported(device) => (device, "state/reported"),
    };
    let device = named_or_own(principal, device)?;
    if !principal.speaks_for(&device) {
        return Err(Fault::new(Code::NotAllowed, format!("no right to speak for {device}")));
    }
    Ok(Topic::of_device(&device, leaf))
}

/// The device that something is about: the one it names, else its sender.
pub(crate) fn named_or_own(
    principal: &Principal,
    device: Option<DeviceId>,
) -> Result<DeviceId, Fault> {
    match (device, &principal.identity) {
        (Some(device), _) => Ok(device),
        (None, Identity::Device { id, .. }) => Ok(id.clone()),
        (None, Identity::Key | Identity::User | Identity::Source { .. }) => {
            let text = "who is not a device names one in deviceId";
            Err(Fault::new(Code::MissingField, text))
        }
    }
}

/// Lets `append` give numbers under an id of their sender, unless the log has them: the numbers to
/// acknowledge them with.
pub(crate) fn append_once(
    shared: &Shared,
    principal: &Principal,
    reference: &MsgId,
    time: UnixMs,
    append: impl FnOnce(&LocalLog) -> Result<RangeInclusive<u64>, AppendError>,
) -> Result<RangeInclusive<u64>, AppendError> {
    Ok(admit_once(shared, principal, reference, time, append)?.range())
}

/// Appends messages that each stand alone, in runs that are a group of the log each; the oldest and the
/// newest number of them, those that were stored before too.
///
/// # Errors
///
/// What the log says. Runs before are stored then; when all of them come again, those with an id are
/// known.
pub(crate) fn append_each(
    shared: &Shared,
    principal: &Principal,
    records: Vec<Record>,
    time: UnixMs,
) -> Result<Option<RangeInclusive<u64>>, AppendError> {
    let append_run = |run: Vec<Record>| {
        shared.state.window().admit_each(
            &principal.tenant,
            &principal.name,
            run,
            time,
            |seq| shared.log.is_refused(seq),
            |fresh| shared.log.append(fresh, time),
        )
    };
    let (mut spans, mut run, mut bytes) = (Vec::new(), Vec::new(), 0);
    for record in records {
        let more = record.memory_bytes();
        if run.len() >= GROUP_LEN_MAX || bytes + more > GROUP_BYTES_MAX && !run.is_empty() {
            spans.extend(append_run(std::mem::take(&mut run))?);
            bytes = 0;
        }
        bytes += more;
        run.push(record);
    }
    spans.extend(append_run(run)?);
    Ok(spans.into_iter().fold(None, joined))
}

/// As [`append_once`], for who does more with what is new.
fn admit_once(
    shared: &Shared,
    principal: &Principal,
    reference: &MsgId,
    time: UnixMs,
    append: impl FnOnce(&LocalLog) -> Result<RangeInclusive<u64>, AppendError>,
) -> Result<Admit, AppendError> {
    shared.state.window().admit(
        &principal.tenant,
        &principal.name,
        reference,
        time,
        |seq| shared.log.is_refused(seq),
        || append(&shared.log),
    )
}

/// The same, where `append` may refuse what is new for reasons of its own. A repeat is told as it was:
/// what would be said of it now concerns nobody.
pub(crate) fn admit_new(
    shared: &Shared,
    principal: &Principal,
    reference: &MsgId,
    time: UnixMs,
    append: impl FnOnce(&LocalLog) -> Result<RangeInclusive<u64>, Refused>,
) -> Result<Admit, Refused> {
    let mut fault = None;
    let admitted = admit_once(shared, principal, reference, time, |log| {
        append(log).map_err(|refused| match refused {
            Refused::Full => AppendError::Full,
            Refused::Fault(why) => {
                fault = Some(why);
                AppendError::Unavailable("it was refused")
            }
        })
    });
    match fault {
        Some(fault) => Err(Refused::Fault(fault)),
        None => Ok(admitted?),
    }
}
