//! The thread that keeps what apps see, and tells those who listen what changed.
//!
//! In: the feed. Out: frames for the push socket, records that give numbers to new parts, and when apps
//! were last seen. Nobody waits for it: what it could not take in time it reads from the log.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::{id::Seq, message::Kind};
use fieldgate_dialects::deconz::event;
use fieldgate_store::{
    Entry, Followed, Log as _, ReadFilter, Record,
    registry::{ActivationStep, BridgeStep, Change, Edit, RegistryChange},
};

use super::{
    Bridge,
    feed::{Batch, Told},
    listener::{Listener, Listeners},
    view::View,
};
use crate::{
    fabric::{Shared, now},
    worker::Pushed,
};

/// How long it rests at most: what had no room in the log is tried again then.
const REST: Duration = Duration::from_millis(100);
/// How long it waits behind a panic, which may come again.
const PANIC_PAUSE: Duration = Duration::from_secs(1);
/// How often those who listen are noted as seen.
const SEEN_PERIOD: Duration = Duration::from_secs(3_600);
/// So many bytes of the log are read at a time.
const READ_BYTES: usize = 1 << 20;

/// What the thread holds.
#[derive(Debug)]
struct Mirror<'a> {
    shared: &'a Shared,
    bridge: &'a Bridge,
    listeners: Listeners,
    seen: Instant,
}

/// What a change touches.
#[derive(Debug, Clone, Copy)]
enum Touched<'a> {
    /// What a device is, or whether it is there.
    Device(&'a str),
    /// The numbers of its parts.
    Numbers(&'a str),
    /// Groups, scenes, or everything.
    All,
    Nothing,
}

/// Follows until the feed ends.
pub(crate) fn run(shared: &Arc<Shared>, from: Seq) {
    let Some(bridge) = &shared.bridge else { return };
    let mut from = from;
    while catch_unwind(AssertUnwindSafe(|| follow(shared, bridge, from))).is_err() {
        tracing::error!(
            "the mirror of deCONZ panicked: it begins anew, and its clients come again"
        );
        for inbox in &shared.inboxes {
            inbox.push(Pushed::Lost);
        }
        std::thread::sleep(PANIC_PAUSE);
        from = shared.applied();
    }
}

fn follow(shared: &Shared, bridge: &Bridge, from: Seq) {
    let view = View::load(shared, &bridge.tenant, from);
    *bridge.view() = Some(view);
    bridge.set_shown(from);
    let listeners = Listeners::default();
    let mut mirror = Mirror { shared, bridge, listeners, seen: Instant::now() };
    while mirror.turn(bridge.feed.take(REST)) {}
}

impl Mirror<'_> {
    /// Deals with what was told; false at the end.
    fn turn(&mut self, batch: Batch) -> bool {
        let mut guard = self.bridge.view();
        let Some(view) = guard.as_mut() else { return false };
        view.frames.set_idle(self.listeners.is_empty());
        let mut goes_on = true;
        for told in batch.told {
            match told {
                Told::Entry(entry) => self.on_entry(view, &entry),
                Told::Presence(name) => view.on_presence(self.shared, &name),
                Told::SceneCalled { group, scene } => {
                    view.frames.push(&event::scene_called(group, scene));
                }
                Told::Join(listener) => self.join(view, listener),
                Told::Leave(link) => {
                    if let Some(listener) = self.listeners.leave(link) {
                        self.note_seen(&listener, Seq(0));
                    }
                }
                Told::End => goes_on = false,
            }
        }
        if batch.is_cut {
            self.catch_up(view);
            // The log was asked for messages alone.
            view.sweep(self.shared);
        }
        let is_whole = view.sweep_groups(self.shared);
        self.ask_for_numbers(view);
        self.send(view);
        let position = view.position;
        drop(guard);
        if is_whole {
            self.bridge.set_shown(position);
        }
        if self.seen.elapsed() >= SEEN_PERIOD {
            self.seen = Instant::now();
            self.listeners.all().for_each(|listener| self.note_seen(listener, Seq(0)));
        }
        goes_on
    }

    fn on_entry(&self, view: &mut View, entry: &Entry) {
        if entry.seq <= view.position {
            return;
        }
        view.position = entry.seq;
        match &entry.record {
            Record::Message(message) => {
                if matches!(message.kind, Kind::Telemetry | Kind::Reported | Kind::Event) {
                    view.on_message(self.shared, entry.seq, message);
                }
            }
            Record::Command(change) => {
                view.on_command(self.shared, &change.device, change.state);
            }
            Record::Registry(change) => self.on_change(view, &change.change),
            Record::Note(_) | Record::Gap { .. } => (),
        }
    }

    fn on_change(&self, view: &mut View, change: &Change) {
        let touched = touched(change);
        match touched {
            Touched::Device(id) | Touched::Numbers(id) => {
                let Ok(id) = id.parse() else { return };
                if matches!(touched, Touched::Device(_)) {
                    view.refresh(self.shared, &id);
                } else {
                    view.on_numbers(self.shared, &id);
                }
                // Its groups may be others, too.
                view.groups.set_dirty(true);
            }
            Touched::All => view.groups.set_dirty(true),
            Touched::Nothing => (),
        }
    }

    /// Reads from the log what the feed had no room for.
    fn catch_up(&self, view: &mut View) {
        let until = self.shared.applied();
        let tenant = Some(self.bridge.tenant.clone());
        let filter = ReadFilter { tenant, ..ReadFilter::default() };
        while view.position < until {
            let chunk = match self.shared.log.read(view.position.next(), &filter, READ_BYTES) {
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::error!(%error, "deCONZ clients miss changes that the log should have");
                    return;
                }
            };
            let entries = chunk.items.iter().filter_map(|item| match item {
                Followed::Entry(entry) if entry.seq <= until => Some(entry),
                Followed::Entry(_) | Followed::Gap(..) => None,
            });
            for entry in entries {
                self.on_entry(view, entry);
                self.send(view);
            }
            view.position = view.position.max(chunk.next.prev().min(until));
        }
    }

    /// A client listens from now on; first it hears what changed while it was away.
    fn join(&mut self, view: &mut View, listener: Listener) {
        self.send(view);
        let read = self.bridge.read_of(self.shared, &listener);
        let (frames, count) = match read {
            Some((read, before)) => view.since(read, before).take().unwrap_or_default(),
            None => Default::default(),
        };
        let link = listener.link;
        if let Some(inbox) = self.shared.inboxes.get(link.worker) {
            inbox.push(Pushed::First { link: link.link, frames, count });
        }
        self.note_seen(&listener, view.position);
        self.listeners.enter(listener);
        view.frames.set_idle(false);
    }

    fn send(&self, view: &mut View) {
        if let Some((frames, count)) = view.frames.take() {
            for inbox in &self.shared.inboxes {
                inbox.push(Pushed::All { frames: frames.clone(), count });
            }
        }
    }

    /// Has the log number what apps do not see yet.
    fn ask_for_numbers(&self, view: &mut View) {
        for (id, places) in view.take_nameless() {
            let part = |(part, instance): (fieldgate_dialects::deconz::Part, u8)| {
                (part.is_light(), part.as_str().to_owned(), instance)
            };
            let parts = places.into_iter().map(part).collect();
            let change = Change::Parts { device: id.as_str().to_owned(), parts, clip: None };
            let tenant = self.bridge.tenant.as_str().to_owned();
            let change = RegistryChange { tenant, change, author: None };
            let record = Record::Registry(Box::new(change));
            if let Err(error) = self.shared.log.append(vec![record], now()) {
                tracing::debug!(%error, device = id.as_str(), "numbers are asked for again");
                view.keep_nameless(id);
            }
        }
    }

    /// Notes that an app was seen, and how far it has read.
    fn note_seen(&self, listener: &Listener, read: Seq) {
        if let Some(key) = &listener.key {
            self.bridge.note_seen(self.shared, key, listener.address, read);
        }
    }
}

/// What notes that an app was seen.
pub(super) fn seen(bridge: &Bridge, key: &str, address: String, read: Seq) -> Record {
    let step = BridgeStep::Seen { id: key.to_owned(), address, read: read.0 };
    let tenant = bridge.tenant.as_str().to_owned();
    Record::Registry(Box::new(RegistryChange {
        tenant,
        change: Change::Bridge(step),
        author: None,
    }))
}

/// What a change of the registry is of, as far as apps see it.
fn touched(change: &Change) -> Touched<'_> {
    match change {
        Change::DeviceAdd(device) | Change::DeviceAddSigning { device, .. } => {
            Touched::Device(&device.id)
        }
        Change::Activation { step: ActivationStep::Use(device), .. } => Touched::Device(&device.id),
        Change::DeviceRemove(device)
        | Change::ProfileSet { device, .. }
        | Change::SourceDevice { device, .. }
        | Change::Edit { edit: Edit::Device { id: device, .. }, .. } => Touched::Device(device),
        Change::Parts { device, .. } => Touched::Numbers(device),
        Change::Group { .. } | Change::Scene { .. } | Change::TenantRemove => Touched::All,
        Change::DeviceRotate { .. }
        | Change::KeyAdd(_)
        | Change::KeyRevoke(_)
        | Change::UserAdd(_)
        | Change::UserRemove(_)
        | Change::UserPassword { .. }
        | Change::CredentialAdd { .. }
        | Change::CredentialRemove { .. }
        | Change::SignIns { .. }
        | Change::SigningAdd { .. }
        | Change::SigningRotate { .. }
        | Change::Integrity { .. }
        | Change::ClaimTaken { .. }
        | Change::Edit { edit: Edit::Key { .. } | Edit::User { .. }, .. }
        | Change::TenantAdd(_)
        | Change::TenantSet(_)
        | Change::Integration { .. }
        | Change::Account { .. }
        | Change::Activation { step: ActivationStep::Add(_) | ActivationStep::Remove, .. }
        | Change::Bridge(_) => Touched::Nothing,
    }
}
