//! What is done about wishes: the difference between what a device is wished to be in and what it
//! reported goes to it as a command.
//!
//! At once where it is connected, else when it connects: after the first `state` that it sends, which
//! may say that somebody changed it by hand, or two seconds later. One command at a time; a newer one
//! cancels it. Lives on the thread that routes. Absent: trying again; what a device refused, or did not
//! report, waits until it connects again or somebody wishes again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use fieldgate_core::{
    access::Identity,
    dialect::CommandState,
    id::{DeviceId, Seq, TenantId},
    message::{Kind, Message},
    topic::Topic,
};
use fieldgate_dialects::native;
use fieldgate_store::{AppendError, Log, Record, record::CommandChange, state::OpenCommand};

use crate::{
    commands::EXPIRES_MS,
    downlinks,
    fabric::{Shared, message_of, now},
    link::Link,
    wishes::WISHES_NAME,
};

/// How long a device that connected may take to tell its state.
const FIRST_STATE: Duration = Duration::from_secs(2);

type Device = (TenantId, DeviceId);

/// Devices of which something is wished and that connected: up to which number the state was then.
#[derive(Debug, Default)]
pub(crate) struct Connected(Mutex<BTreeMap<Device, Seq>>);

impl Connected {
    fn take(&self) -> BTreeMap<Device, Seq> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Tells whether the gateway sent a command for a wish.
pub(crate) fn is_ours(command: &OpenCommand) -> bool {
    *command.sender == *WISHES_NAME
}

/// A link is served from here on, where the state goes up to `from`.
pub(crate) fn connected(shared: &Shared, link: &Link, from: Seq) {
    let Some(principal) = link.principal() else { return };
    let tenant = &principal.tenant;
    let device = match &principal.identity {
        Identity::Device { id, .. } => id,
        Identity::Source { name } => {
            let devices = shared.state.wished_devices(tenant);
            let is_its = |device: &DeviceId| {
                shared.state.origin(tenant, device).is_some_and(|origin| *origin.source == **name)
            };
            let its = devices.into_iter().filter(is_its);
            let its = its.map(|device| ((tenant.clone(), device), from));
            let connected = &shared.wishes.connected.0;
            return connected.lock().unwrap_or_else(PoisonError::into_inner).extend(its);
        }
        Identity::Key | Identity::User => return,
    };
    let wished = shared.state.desired(tenant, device).is_some_and(|desired| !desired.is_empty());
    if !wished && !shared.state.open_commands(tenant, device).iter().any(is_ours) {
        return;
    }
    let mut connected = shared.wishes.connected.0.lock().unwrap_or_else(PoisonError::into_inner);
    connected.insert((tenant.clone(), device.clone()), from);
}

/// Why a device is looked at.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    /// Commands up to here are of a connection before.
    since: Seq,
}

/// Which devices are looked at, and when.
#[derive(Debug, Default)]
pub(crate) struct Pursuit {
    due: BTreeMap<Device, Due>,
}

impl Pursuit {
    /// Hears of a message that was applied.
    pub(crate) fn heard(&mut self, shared: &Shared, message: &Message) {
        let is_first_state = message.kind == Kind::Reported && !self.due.is_empty();
        let is_wish = message.kind == Kind::Desired && *message.from != *WISHES_NAME;
        if !is_first_state && !is_wish {
            return;
        }
        let Some(device) = message.topic.device().and_then(|id| id.parse::<DeviceId>().ok()) else {
            return;
        };
        let key = (message.tenant.clone(), device);
        match self.due.get_mut(&key) {
            // Who connected just now is looked at when it told what it is in.
            Some(due) if is_first_state => due.at = Instant::now(),
            Some(_) => (),
            None if is_wish && is_served(shared, &key) => {
                self.due.insert(key, Due { at: Instant::now(), since: Seq(0) });
            }
            None => (),
        }
    }

    /// Does what is due.
    pub(crate) fn run(&mut self, shared: &Shared) {
        for (key, since) in shared.wishes.connected.take() {
            self.due.insert(key, Due { at: Instant::now() + FIRST_STATE, since });
        }
        if self.due.is_empty() {
            return;
        }
        let (time, applied) = (Instant::now(), shared.applied());
        self.due.retain(|key, due| {
            if due.at > time {
                return true;
            }
            // What was met is wished no more, whatever the device said next.
            if shared.wishes.is_ending(&key.0, &key.1, applied) {
                return true;
            }
            // Who is gone is looked at when it comes again. A full log: in the next turn.
            is_served(shared, key) && pursue(shared, key, due.since).is_err()
        });
    }
}

fn is_served(shared: &Shared, (tenant, device): &Device) -> bool {
    downlinks::serving(shared, tenant, device.as_str()).is_some()
}

/// Sends what a device is not in yet, in the place of what was sent before.
fn pursue(shared: &Shared, key: &Device, since: Seq) -> Result<(), AppendError> {
    let (tenant, device) = key;
    let wanted = shared.state.difference(tenant, device);
    let payload = native::encode_wished(&wanted);
    let mut open = shared.state.open_commands(tenant, device);
    open.retain(is_ours);
    let is_same = |command: &OpenCommand| {
        let message = message_of(&command.entry);
        command.entry.seq > since && message.is_some_and(|message| message.payload == payload)
    };
    let stands = open.iter().rposition(is_same).filter(|_| !wanted.is_empty());
    if let Some(stands) = stands {
        open.remove(stands);
    }
    let mut records: Vec<Record> = open.iter().map(cancelled).collect();
    if stands.is_none() && !wanted.is_empty() {
        records.push(command(tenant, device, payload));
    }
    if records.is_empty() {
        return Ok(());
    }
    shared.log.append(records, now()).map(drop).inspect_err(|error| {
        tracing::debug!(%error, %device, "what is wished is not sent yet");
    })
}

fn cancelled(command: &OpenCommand) -> Record {
    Record::Command(CommandChange {
        tenant: command.tenant.clone(),
        device: command.device.clone(),
        command: command.entry.seq,
        state: CommandState::Cancelled,
        payload: None,
        by: WISHES_NAME.into(),
    })
}

fn command(tenant: &TenantId, device: &DeviceId, payload: Vec<u8>) -> Record {
    let time = now();
    let topic = Topic::of_device(device, "commands");
    Record::Message(Message {
        expires: Some(fieldgate_core::id::UnixMs(time.0.saturating_add(EXPIRES_MS))),
        ..Message::json(tenant.clone(), topic, WISHES_NAME.into(), time, payload)
    })
}
