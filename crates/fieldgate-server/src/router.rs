//! The router: one thread that follows the log in seq order.
//!
//! It applies each record to the state, finds the subscriptions that a message reaches, and puts it
//! into the inbox of each worker concerned. It never waits for a worker.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use fieldgate_core::{
    dialect::CommandState,
    id::{Seq, TenantId, UnixMs},
    message::Kind,
};
use fieldgate_store::{
    Entry, Follow, Followed, Log, Record,
    record::{BY_REPORT, CommandChange},
    state::{Effect, OpenCommand},
};

use crate::{
    documents::Notes,
    downlinks::{self, Echoes},
    fabric::{Shared, message_of, now},
    ledger::DropReason,
    pursuit::Pursuit,
    refusals,
    thingsee_out::may_move,
    wishes,
    worker::{Control, Routed},
};

const BATCH_LEN_MAX: usize = 512;
/// How often it looks for what expired and was refused.
const EXPIRY_PERIOD: Duration = Duration::from_millis(500);

/// Follows the log until it is closed.
pub(crate) fn run(shared: &Arc<Shared>, mut follow: Box<dyn Follow>) {
    let mut steps = Vec::new();
    let mut outgoing: Vec<Vec<Routed>> = shared.inboxes.iter().map(|_| Vec::new()).collect();
    // Not by the wall clock: that may be set back, and then nothing would expire for as long.
    let mut expiry_looked_at: Option<Instant> = None;
    let (mut pursuit, mut notes) = (Pursuit::default(), Notes::new());
    let mut echoes = Echoes::default();
    echoes.look_again(shared);
    shared.state.look_again();
    loop {
        let wait_max = notes.wait_max(EXPIRY_PERIOD);
        let open = follow.next(&mut steps, BATCH_LEN_MAX, wait_max);
        let mut effects = Vec::new();
        let mut accepted = Accepted { shared, tenant: None, count: 0, total: 0 };
        let applied = {
            let mut routing = shared.routing();
            for step in &steps {
                effects.extend(shared.state.apply(step));
                let seq = match step {
                    Followed::Entry(entry) => entry.seq,
                    Followed::Gap(range, _) => Seq(*range.end()),
                };
                routing.routed = routing.routed.max(seq);
                if let Followed::Entry(entry) = step {
                    accepted.count(entry);
                    route(&routing, entry, &mut outgoing);
                }
            }
            routing.routed
        };
        // Who is told that something is applied may take it that its effects were told, too.
        effects.into_iter().for_each(|effect| obey(shared, effect));
        // Whoever waits for what is applied looks at what the mirror was told by then.
        if let Some(bridge) = &shared.bridge {
            bridge.route(&steps);
        }
        shared.set_applied(applied);
        drop(accepted);
        for (inbox, routed) in shared.inboxes.iter().zip(&mut outgoing) {
            if !routed.is_empty() {
                inbox.route(std::mem::take(routed));
            }
        }
        notes.note(shared, &steps);
        notes.tell(shared);
        // An echo answers a command that was applied before it, and mostly none is open at all.
        let may_echo = shared.state.has_open_commands();
        for step in steps.drain(..) {
            notice(shared, &mut pursuit, may_echo.then_some(&mut echoes), &step);
        }
        // Before reports are looked at: an echo says more than that the values are there.
        echoes.run(shared);
        // Payloads are read here: behind the messages, and without a lock that anybody waits for.
        shared.state.settle(&*shared.log).into_iter().for_each(|effect| obey(shared, effect));
        pursuit.run(shared);
        if expiry_looked_at.is_none_or(|at| at.elapsed() >= EXPIRY_PERIOD) {
            expiry_looked_at = Some(Instant::now());
            let time = now();
            expire_commands(shared, time);
            refusals::enter(shared, time, false);
        }
        if !open {
            return;
        }
    }
}

/// Counts messages: of each tenant once for a run of them, and all together at its end.
struct Accepted<'a> {
    shared: &'a Shared,
    tenant: Option<TenantId>,
    count: u64,
    total: u64,
}

impl Accepted<'_> {
    fn count(&mut self, entry: &Entry) {
        let Some(message) = message_of(entry) else { return };
        if self.tenant.as_ref() != Some(&message.tenant) {
            self.tell();
            self.tenant = Some(message.tenant.clone());
        }
        self.count += 1;
    }

    fn tell(&mut self) {
        if let Some(tenant) = &self.tenant {
            self.shared.throttle.tenants.accepted(tenant, self.count);
        }
        self.total += std::mem::take(&mut self.count);
    }
}

impl Drop for Accepted<'_> {
    fn drop(&mut self) {
        self.tell();
        self.shared.stats.accepted.fetch_add(self.total, Ordering::Relaxed);
    }
}

fn route(routing: &crate::fabric::Routing, entry: &Arc<Entry>, outgoing: &mut [Vec<Routed>]) {
    let Some(message) = message_of(entry) else { return };
    let Some(index) = routing.tenants.get(&message.tenant) else { return };
    index.matches(&message.topic, &mut |(worker, slot): (usize, u32)| {
        let Some(list) = outgoing.get_mut(worker) else { return };
        match list.last_mut() {
            Some(last) if last.entry.seq == entry.seq => last.slots.push(slot),
            _ => list.push(Routed { entry: Arc::clone(entry), slots: vec![slot] }),
        }
    });
}

/// What connections must hear of beside their subscriptions.
fn notice(shared: &Shared, pursuit: &mut Pursuit, echoes: Option<&mut Echoes>, step: &Followed) {
    match step {
        Followed::Gap(range, reason) => {
            for inbox in &shared.inboxes {
                inbox.control(Control::Gap(range.clone(), *reason));
            }
        }
        Followed::Entry(entry) => {
            if let Record::Registry(change) = &entry.record
                && shared.groups_followed.is_any()
                && may_move(&change.change)
                && let Ok(tenant) = change.tenant.parse()
            {
                shared.inboxes.iter().for_each(|inbox| inbox.groups_moved(&tenant));
            }
            let Some(message) = message_of(entry) else { return };
            pursuit.heard(shared, message);
            if let Some(echoes) = echoes {
                echoes.heard(shared, message);
            }
            if message.kind != Kind::Command {
                return;
            }
            let Some(device) = message.topic.device() else { return };
            // A command goes to the newest connection of its device.
            if let Some(link) = downlinks::serving(shared, &message.tenant, device) {
                shared.tell(link, Control::Command { link: link.link, seq: entry.seq });
            }
        }
    }
}

fn obey(shared: &Shared, effect: Effect) {
    match effect {
        Effect::CommandMoved(moved) => {
            shared.outcomes.moved(&moved);
            if moved.command.state == CommandState::Expired {
                let command = &moved.command;
                let who = command.device.as_str();
                shared.ledger.record(&command.tenant, who, DropReason::Expired, 1, now());
            }
            for link in shared.present.serving(&moved.command.tenant, &moved.command.sender) {
                let control =
                    Control::CommandMoved { link: link.link, moved: Box::new(moved.clone()) };
                shared.tell(link, control);
            }
        }
        Effect::WishesRefused { tenant, device, count } => {
            let (who, reason) = (device.as_str(), DropReason::DesiredUnfit);
            shared.ledger.record(&tenant, who, reason, count, now());
        }
        Effect::WishesMet { tenant, device, met } => wishes::meet(shared, &tenant, &device, &met),
        Effect::CommandMet(command) => complete(shared, &command),
        Effect::RightsChanged { tenant, name } => {
            for link in shared.present.of(&tenant, &name) {
                shared.tell(link, Control::RightsChanged { link: link.link });
            }
        }
        Effect::TenantChanged { tenant } => tenant_changed(shared, &tenant),
        Effect::IntegrationChanged { .. } => shared.integrations.changed(),
        Effect::RetainedRefused { tenant, topic } => {
            shared.ledger.record(&tenant, topic.as_str(), DropReason::RetainedFull, 1, now());
        }
        Effect::ReportRefused { tenant, device, count } => {
            shared.ledger.record(&tenant, &device, DropReason::StateFull, count, now());
        }
    }
}

/// Ends a command whose device reported what it sets. The first end in the log stands.
fn complete(shared: &Shared, command: &OpenCommand) {
    let time = now();
    if command.expires.is_some_and(|expires| expires <= time) {
        return;
    }
    let record = Record::Command(CommandChange {
        tenant: command.tenant.clone(),
        device: command.device.clone(),
        command: command.entry.seq,
        state: CommandState::Completed,
        payload: None,
        by: BY_REPORT.into(),
    });
    if let Err(error) = shared.log.append(vec![record], time) {
        tracing::debug!(%error, command = command.entry.seq.0, "a command that is done stays open");
        shared.state.watch(&command.tenant, &command.device);
    }
}

/// Sets what a tenant may have; of one that is gone, every link ends.
fn tenant_changed(shared: &Shared, tenant: &TenantId) {
    if let Some(info) = shared.state.tenants().get(tenant) {
        shared.throttle.tenants.set(tenant, &info.limits);
        return;
    }
    shared.throttle.tenants.forget(tenant);
    for link in shared.present.of_tenant(tenant) {
        shared.tell(link, Control::RightsChanged { link: link.link });
    }
}

fn expire_commands(shared: &Shared, time: UnixMs) {
    for command in shared.state.expired_commands(time) {
        let record = Record::Command(CommandChange {
            tenant: command.tenant,
            device: command.device,
            command: command.entry.seq,
            state: CommandState::Expired,
            payload: None,
            by: "gateway".into(),
        });
        if let Err(error) = shared.log.append(vec![record], time) {
            // Looked at again in half a second; the command stays open until then.
            tracing::debug!(%error, "expiry of a command waits");
            return;
        }
    }
}
