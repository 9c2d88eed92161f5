//! Commands on their way: to devices, through their life, and back to who sent them.
//!
//! Every step is a record in the log before anybody hears of it (`guarantees.md`, "Commands").

mod fit;

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use bytes::Bytes;
use fieldgate_core::{
    access::{Identity, Principal},
    dialect::{Answer, CommandAsk, CommandState, CommandTarget},
    fault::{Code, Fault},
    id::{DeviceId, MsgId, Position, Seq, TenantId, UnixMs},
    message::{Content, Message, Priority},
    topic::Topic,
};
use fieldgate_dialects::wire::Form;
use fieldgate_store::{
    Log, Record,
    log::LocalLog,
    record::CommandChange,
    registry::Device,
    state::{Admit, OpenCommand},
};

use crate::{
    admit::admit_new,
    asks::{self, Refused},
    fabric::{Shared, now},
    hub::{Hub, Then},
    link::Link,
    pursuit,
};
use fit::Fitted;

/// How long a command waits for its device unless told otherwise, in ms.
pub(crate) const EXPIRES_MS: u64 = 3_600_000;
/// Most devices of one command: they are one group in the log.
const DEVICES_MAX: usize = 4_096;
/// Most commands that wait for one device. Exact for who waits for each answer; commands sent without
/// waiting are counted once they are applied, so up to what the log's intake holds may come on top.
const OPEN_PER_DEVICE_MAX: usize = 1_000;
/// Most commands that wait in one tenant, and their payloads together.
const OPEN_PER_TENANT_MAX: usize = 100_000;
const OPEN_BYTES_PER_TENANT_MAX: usize = 256 << 20;

/// A command that is in the log, or was before.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) admitted: Admit,
    /// Each device that it is for, in the order of their numbers.
    pub(crate) devices: Vec<String>,
}

/// Sends a command of a link.
pub(crate) fn send(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    ask: CommandAsk,
) -> Result<(), Refused> {
    let pay = |more| asks::take_rate(hub, link, principal, more, 0);
    let Issued { admitted, devices } = issue(&hub.shared, principal, &ask, pay)?;
    let (reference, device_count) = (ask.reference, devices.len());
    hub.when_applied(link, admitted.range(), Then::CommandAccepted { reference, device_count });
    Ok(())
}

/// Appends a command: one message for each device, all durable or none. Of several devices those
/// whose profile does not take it end `failed` at once; if none takes it, nothing is sent. `pay` is
/// asked for the devices beyond the first. A repeat is told as it was, whatever would be said of it now.
pub(crate) fn issue(
    shared: &Shared,
    principal: &Principal,
    ask: &CommandAsk,
    pay: impl FnOnce(usize) -> Result<(), Fault>,
) -> Result<Issued, Refused> {
    let (time, tenant) = (now(), &principal.tenant);
    let devices = devices_of(shared, principal, &ask.to)?;
    let names = devices.iter().map(|(id, _)| id.as_str().to_owned()).collect();
    let fit = || {
        if ask.expires.is_some_and(|expires| expires <= time) {
            return Err(Fault::new(Code::Expired, "expires is in the past"));
        }
        for (device, _) in &devices {
            check_room(shared, tenant, device, ask.payload.len())?;
        }
        pay(devices.len().saturating_sub(1))?;
        fit::each(shared, tenant, ask, devices)
    };
    let letter = Letter {
        reference: ask.reference.as_ref(),
        priority: ask.priority,
        expires: end_of(shared, ask.expires, time),
        content: ask.content,
    };
    append(shared, principal, &letter, names, fit(), time)
}

/// Appends a command of its own for each of these devices, otherwise as [`issue`]. One that its sender
/// may not command refuses all of them.
pub(crate) fn issue_each(
    shared: &Shared,
    principal: &Principal,
    wishes: &[(DeviceId, Bytes)],
    reference: Option<&MsgId>,
    expires: Option<UnixMs>,
    pay: impl FnOnce(usize) -> Result<(), Fault>,
) -> Result<Issued, Refused> {
    let (time, tenant) = (now(), &principal.tenant);
    let mut devices = Vec::with_capacity(wishes.len());
    for (id, payload) in wishes {
        if !principal.may_command(id) {
            return Err(Fault::new(Code::NotAllowed, format!("no right to command {id}")).into());
        }
        let device = shared.state.device(tenant, id);
        let none = || Fault::new(Code::NotFound, nobody(&CommandTarget::Device(id.clone())));
        devices.push((id.clone(), device.ok_or_else(none)?, payload.clone()));
    }
    let fit = || {
        for (id, payload) in wishes {
            check_room(shared, tenant, id, payload.len())?;
        }
        pay(devices.len().saturating_sub(1))?;
        fit::own(shared, tenant, devices)
    };
    let letter = Letter {
        reference,
        priority: Priority::Normal,
        expires: end_of(shared, expires, time),
        content: Content::Json,
    };
    let names = wishes.iter().map(|(id, _)| id.as_str().to_owned()).collect();
    append(shared, principal, &letter, names, fit(), time)
}

/// What all messages of one command have in common.
struct Letter<'a> {
    reference: Option<&'a MsgId>,
    priority: Priority,
    expires: UnixMs,
    content: Content,
}

/// Appends what was fitted for these devices, or refuses it as `fitted` says, unless it is a repeat.
fn append(
    shared: &Shared,
    principal: &Principal,
    letter: &Letter<'_>,
    devices: Vec<String>,
    fitted: Result<Vec<Fitted>, Fault>,
    time: UnixMs,
) -> Result<Issued, Refused> {
    let message = |fitted: &Fitted| {
        let (tenant, from) = (principal.tenant.clone(), Arc::clone(&principal.name));
        let topic = Topic::of_device(&fitted.device, "commands");
        Message {
            reference: letter.reference.cloned(),
            priority: letter.priority,
            expires: Some(letter.expires),
            content: letter.content,
            ..Message::json(tenant, topic, from, time, fitted.payload.clone())
        }
    };
    let mut taken = Vec::new();
    let enter = |log: &LocalLog| {
        taken = fitted?;
        let records = taken.iter().map(message).map(Record::Message).collect();
        Ok(log.append(records, time)?)
    };
    let admitted = match letter.reference {
        Some(reference) => admit_new(shared, principal, reference, time, enter)?,
        None => Admit::New(enter(&shared.log)?),
    };
    if let Admit::New(range) = &admitted {
        fit::fail_refused(shared, &principal.tenant, *range.start(), taken);
    }
    Ok(Issued { admitted, devices })
}

/// When a command becomes worthless: as asked, at the latest when the log forgets it.
fn end_of(shared: &Shared, asked: Option<UnixMs>, time: UnixMs) -> UnixMs {
    let latest = UnixMs(time.0.saturating_add(shared.config.retention.age_ms));
    asked.unwrap_or(UnixMs(time.0.saturating_add(EXPIRES_MS))).min(latest)
}

/// Looks whether one more command may wait for a device.
fn check_room(
    shared: &Shared,
    tenant: &TenantId,
    device: &DeviceId,
    payload_len: usize,
) -> Result<(), Fault> {
    let open = shared.state.open_count(tenant, device);
    let text = if open.device_count >= OPEN_PER_DEVICE_MAX {
        format!("{OPEN_PER_DEVICE_MAX} commands wait for {device} already")
    } else if open.tenant_count >= OPEN_PER_TENANT_MAX
        || open.tenant_bytes + payload_len > OPEN_BYTES_PER_TENANT_MAX
    {
        "too many commands wait for the devices of this tenant".to_owned()
    } else {
        return Ok(());
    };
    Err(Fault::new(Code::QueueFull, text))
}

fn devices_of(
    shared: &Shared,
    principal: &Principal,
    to: &CommandTarget,
) -> Result<Vec<(DeviceId, Arc<Device>)>, Fault> {
    let state = &shared.state;
    let tenant = &principal.tenant;
    let mut wanted: Vec<Arc<Device>> = match to {
        CommandTarget::Device(id) => state.device(tenant, id).into_iter().collect(),
        CommandTarget::Group(group) => state.devices_in(tenant, group),
        CommandTarget::Filter(_) => state.devices(tenant),
    };
    if let CommandTarget::Filter(filter) = to {
        wanted.retain(|device| {
            format!("devices/{}", device.id).parse().is_ok_and(|topic| filter.matches(&topic))
        });
    }
    let named = wanted.into_iter().filter_map(|device| Some((device.id.parse().ok()?, device)));
    let allowed: Vec<_> = named.filter(|(id, _)| principal.may_command(id)).collect();
    if let CommandTarget::Device(id) = to
        && !principal.may_command(id)
    {
        return Err(Fault::new(Code::NotAllowed, format!("no right to command {id}")));
    }
    if allowed.is_empty() {
        return Err(Fault::new(Code::NotFound, nobody(to)));
    }
    if allowed.len() > DEVICES_MAX {
        let text = format!("{} devices exceed {DEVICES_MAX} of one command", allowed.len());
        return Err(Fault::new(Code::TooLarge, text));
    }
    Ok(allowed)
}

/// Why a command has no receiver; the same words for a device that may not be known of.
fn nobody(to: &CommandTarget) -> String {
    match to {
        CommandTarget::Device(id) => format!("there is no device {id}"),
        CommandTarget::Group(group) => {
            format!("no device that you may command is in the group {group}")
        }
        CommandTarget::Filter(filter) => {
            let filter = filter.as_str();
            format!("no device that you may command matches {filter}, which selects by devices/ID")
        }
    }
}

fn change(command: &OpenCommand, state: CommandState, by: &Arc<str>) -> CommandChange {
    CommandChange {
        tenant: command.tenant.clone(),
        device: command.device.clone(),
        command: command.entry.seq,
        state,
        payload: None,
        by: Arc::clone(by),
    }
}

/// The turn of a link has come: its device gets what waits for it.
pub(crate) fn begin(hub: &Rc<Hub>, link: &Rc<Link>) {
    let from = hub.shared.applied();
    link.served.set(Some(from));
    pursuit::connected(&hub.shared, link, from);
    offer_open(hub, link);
}

/// Offers what waits for the device of a link, oldest first, as far as it may go.
pub(crate) fn offer_open(hub: &Rc<Hub>, link: &Rc<Link>) {
    let Some(principal) = link.principal() else { return };
    let (state, tenant) = (&hub.shared.state, &principal.tenant);
    let open = match &principal.identity {
        Identity::Device { id, .. } => state.open_commands(tenant, id),
        Identity::Source { name } => state.open_commands_of(tenant, name),
        Identity::Key | Identity::User => return,
    };
    link.held_back.set(false);
    for command in open {
        if !offer_one(hub, link, &principal, &command) {
            link.held_back.set(true);
            return;
        }
    }
}

/// A command that was offered is on its way, or will not be.
pub(crate) fn sent(link: &Link, byte_len: usize) {
    link.offered_bytes.set(link.offered_bytes.get().saturating_sub(byte_len));
}

/// Offers a command that came just now.
pub(crate) fn offer(hub: &Rc<Hub>, link: &Rc<Link>, seq: Seq) {
    if link.held_back.get() {
        return offer_open(hub, link);
    }
    let Some(principal) = link.principal() else { return };
    let Some(command) = hub.shared.state.open_command(seq) else { return };
    link.held_back.set(!offer_one(hub, link, &principal, &command));
}

/// Hands a command to its device: first `sent` becomes durable, then the frame leaves. False if it
/// has to wait until the device has acknowledged others.
fn offer_one(hub: &Rc<Hub>, link: &Rc<Link>, by: &Principal, command: &OpenCommand) -> bool {
    let seq = command.entry.seq;
    // Before its turn a link takes no command; what waits is offered when it comes.
    let Some(served_from) = link.served.get() else { return true };
    if command.expires.is_some_and(|expires| expires <= now())
        || link.offered.borrow().contains_key(&seq)
    {
        return true;
    }
    if pursuit::is_ours(command) && seq <= served_from {
        // What the device is in now decides what it gets of its wishes.
        return true;
    }
    let resent = command.state == CommandState::Sent && link.form.get() == Form::V1;
    if (command.state == CommandState::Queued || resent)
        && let Err(fault) = fit::again(&hub.shared, command)
    {
        // Looked at once a connection: its end in the log comes a moment later.
        link.offered.borrow_mut().insert(seq, true);
        fit::fail(&hub.shared, command, &fault);
        return true;
    }
    let byte_len = command.payload_len();
    if !has_window(hub, link, byte_len) {
        return false;
    }
    match command.state {
        CommandState::Queued => (),
        // A client that acknowledges by protocol gets again what it did not acknowledge.
        CommandState::Sent if link.form.get() == Form::V1 => {
            link.offered.borrow_mut().insert(seq, false);
            hub.send_command(link, seq, true);
            return true;
        }
        CommandState::Sent
        | CommandState::Acknowledged
        | CommandState::Completed
        | CommandState::Failed
        | CommandState::Expired
        | CommandState::Cancelled => return true,
    }
    let record = Record::Command(change(command, CommandState::Sent, &by.name));
    match hub.shared.log.append(vec![record], now()) {
        Ok(range) => {
            link.offered.borrow_mut().insert(seq, false);
            link.offered_bytes.set(link.offered_bytes.get() + byte_len);
            hub.when_durable(link, range, Then::SendCommand { command: seq, byte_len });
        }
        // It stays queued; the next connection of the device gets it.
        Err(error) => tracing::warn!(%error, command = seq.0, "command not sent"),
    }
    true
}

/// Whether a device may get one more command before it has read and acknowledged those it has. Who
/// never acknowledges gets all that it reads.
fn has_window(hub: &Hub, link: &Link, byte_len: usize) -> bool {
    let waiting = link.offered_bytes.get() + link.outbox.byte_len();
    if waiting > 0 && waiting + byte_len > link.outbox.bytes_max() {
        return false;
    }
    let max = hub.shared.config.limits.inflight_max;
    let mut offered = link.offered.borrow_mut();
    let window = |offered: &BTreeMap<Seq, bool>| {
        let unacknowledged = offered.values().filter(|acknowledged| !**acknowledged).count();
        !link.acknowledges.get() || unacknowledged < max
    };
    if offered.len() < OPEN_PER_DEVICE_MAX && window(&offered) {
        return true;
    }
    // Those that ended meanwhile no longer count.
    offered.retain(|seq, _| hub.shared.state.open_command(*seq).is_some());
    window(&offered)
}

/// A device has acknowledged or answered a command: there may be room for the next.
fn free_window(hub: &Rc<Hub>, link: &Rc<Link>, command: Seq) {
    if let Some(acknowledged) = link.offered.borrow_mut().get_mut(&command) {
        *acknowledged = true;
    }
    if link.held_back.get() {
        offer_open(hub, link);
    }
}

/// An open command that is this principal's to answer.
fn own_command(hub: &Hub, principal: &Principal, position: Position) -> Result<OpenCommand, Fault> {
    let found = (position.epoch == hub.shared.log.epoch())
        .then(|| hub.shared.state.open_command(position.seq))
        .flatten();
    found
        .filter(|c| c.tenant == principal.tenant && principal.speaks_for(&c.device))
        .ok_or_else(|| Fault::new(Code::NotFound, "there is no such open command"))
}

/// Tells whether a command of this principal's ended not long ago.
fn has_ended(hub: &Hub, principal: &Principal, position: Position) -> bool {
    let outcome = hub.shared.outcomes.of(position.seq);
    let outcome = outcome.filter(|_| position.epoch == hub.shared.log.epoch());
    outcome.is_some_and(|outcome| {
        let device = outcome.device.parse();
        outcome.tenant == principal.tenant && device.is_ok_and(|id| principal.speaks_for(&id))
    })
}

/// A device has a command. Acknowledgements of other deliveries mean nothing without a session.
pub(crate) fn acknowledge(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    position: Position,
) -> Result<(), Refused> {
    link.acknowledges.set(true);
    let is_device = matches!(principal.identity, Identity::Device { .. });
    let Ok(command) = own_command(hub, principal, position) else { return Ok(()) };
    if is_device && command.state < CommandState::Acknowledged {
        let change = change(&command, CommandState::Acknowledged, &principal.name);
        hub.shared.log.append(vec![Record::Command(change)], now())?;
    }
    free_window(hub, link, position.seq);
    Ok(())
}

/// A device tells how a command ended.
pub(crate) fn reply(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    position: Position,
    ok: bool,
    payload: Option<Bytes>,
    reference: Option<MsgId>,
) -> Result<(), Refused> {
    let command = match own_command(hub, principal, position) {
        Ok(command) => command,
        Err(fault) => {
            // Its reports may have told it before: an end stands, and this says nothing new.
            has_ended(hub, principal, position).then_some(()).ok_or(fault)?;
            if let Some(reference) = reference {
                hub.answer(link, &Answer::Ack { reference, seq: position.seq, batch: None });
            }
            free_window(hub, link, position.seq);
            return Ok(());
        }
    };
    let state = if ok { CommandState::Completed } else { CommandState::Failed };
    let change = CommandChange { payload, ..change(&command, state, &principal.name) };
    let range = hub.shared.log.append(vec![Record::Command(change)], now())?;
    if let Some(reference) = reference {
        hub.when_applied(link, range, Then::Ack { reference, batch: None });
    }
    free_window(hub, link, position.seq);
    Ok(())
}

/// Its sender takes a command back.
pub(crate) fn cancel(
    hub: &Rc<Hub>,
    principal: &Principal,
    position: Position,
) -> Result<(), Refused> {
    let command = hub.shared.state.open_command(position.seq);
    let command = command
        .filter(|c| c.tenant == principal.tenant && principal.may_command(&c.device))
        .ok_or_else(|| Fault::new(Code::NotFound, "there is no such open command"))?;
    let change = change(&command, CommandState::Cancelled, &principal.name);
    hub.shared.log.append(vec![Record::Command(change)], now())?;
    Ok(())
}

#[cfg(test)]
mod tests;
