//! The thread that keeps what apps see, and tells those who listen what changed.
//!
//! In: the feed. Out: frames for the push socket, records that give numbers to new parts, and when apps
//! were last seen. Nobody waits for it: what it could not take in time it reads from the log.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::{dialect::GapReason, id::Seq, message::Kind};
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
/// How long it waits before it begins anew: what went wrong may do so again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often those who listen are noted as seen.
const SEEN_PERIOD: Duration = Duration::from_secs(3_600);
/// So many bytes of the log are read at a time.
const READ_BYTES: usize = 1 << 20;
/// So much is dealt with before a request may look at the view.
const TURN_LEN: usize = 512;

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
    /// It was removed.
    Removed(&'a str),
    /// The numbers of its parts.
    Numbers(&'a str),
    /// Groups or scenes.
    Groups,
    /// All goes.
    Everything,
    Nothing,
}

/// Follows until the feed ends.
pub(crate) fn run(shared: &Arc<Shared>, from: Seq) {
    let Some(bridge) = &shared.bridge else { return };
    let mut from = from;
    loop {
        match catch_unwind(AssertUnwindSafe(|| follow(shared, bridge, from))) {
            Ok(Ok(())) => return,
            Ok(Err(Lost)) => tracing::error!("deCONZ: the log lacks what was routed"),
            Err(_) => tracing::error!("deCONZ: the mirror panicked"),
        }
        // Nobody is told of what is half done; listeners come again, and hear what is.
        *bridge.view() = None;
        shared.inboxes.iter().for_each(|inbox| inbox.push(Pushed::Lost));
        std::thread::sleep(PAUSE);
        from = shared.applied();
    }
}

/// The log does not have any more what the feed had no room for.
#[derive(Debug)]
struct Lost;

fn follow(shared: &Shared, bridge: &Bridge, from: Seq) -> Result<(), Lost> {
    let view = View::load(shared, &bridge.tenant, from);
    let keys = shared.state.bridge_keys(&bridge.tenant);
    let known = keys.iter().flat_map(|key| key.addresses.keys());
    let known = known.filter_map(|address| address.parse().ok()).collect();
    bridge.cursors().set_before(known, Instant::now());
    *bridge.view() = Some(view);
    bridge.set_shown(from);
    let listeners = Listeners::default();
    let mut mirror = Mirror { shared, bridge, listeners, seen: Instant::now() };
    while let Some(batch) = bridge.feed.take(REST) {
        mirror.turn(batch)?;
    }
    Ok(())
}

impl Mirror<'_> {
    /// Looks at the view, which nobody else writes.
    fn with<T>(&mut self, work: impl FnOnce(&mut Self, &mut View) -> T) -> Option<T> {
        let bridge = self.bridge;
        let mut view = bridge.view();
        view.as_mut().map(|view| {
            view.frames.set_idle(self.listeners.is_empty());
            view.frames.set_wants_all(self.shared.config.deconz.notify_all);
            let done = work(self, view);
            self.send(view);
            done
        })
    }

    /// Deals with what was told, a little at a time: requests look at the view between.
    fn turn(&mut self, batch: Batch) -> Result<(), Lost> {
        let mut told = batch.told.into_iter();
        loop {
            let some: Vec<Told> = told.by_ref().take(TURN_LEN).collect();
            if some.is_empty() {
                break;
            }
            self.with(|mirror, view| some.into_iter().for_each(|told| mirror.hear(view, told)));
        }
        if batch.is_cut {
            self.catch_up()?;
        }
        let shown = self.with(|mirror, view| {
            let shared = mirror.shared;
            batch.present.iter().for_each(|name| view.on_presence(shared, name));
            if batch.is_cut {
                // The log was asked for messages alone.
                view.sweep(shared);
            }
            view.forgive(shared);
            let is_whole = view.sweep_groups(shared);
            mirror.ask_for_numbers(view);
            is_whole.then_some(view.position)
        });
        if let Some(position) = shown.flatten() {
            self.bridge.set_shown(position);
        }
        if self.seen.elapsed() >= SEEN_PERIOD {
            self.seen = Instant::now();
            self.listeners.all().for_each(|listener| self.note_seen(listener));
        }
        Ok(())
    }

    fn hear(&mut self, view: &mut View, told: Told) {
        match told {
            Told::Entry(entry) => self.on_entry(view, &entry),
            Told::SceneCalled { group, scene } => {
                view.frames.push(&event::scene_called(group, scene));
            }
            Told::Join(listener) => self.join(view, listener),
            Told::Read(link, read) => self.listeners.has_read(link, read),
            Told::Leave(link) => {
                if let Some(listener) = self.listeners.leave(link) {
                    let Listener { address, read, .. } = listener;
                    self.bridge.cursors().on_left(address, read, Instant::now());
                    self.note_seen(&listener);
                }
            }
        }
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
            Touched::Device(id) | Touched::Removed(id) | Touched::Numbers(id) => {
                let Ok(id) = id.parse() else { return };
                if matches!(touched, Touched::Removed(_)) {
                    view.on_removed(self.shared, &id);
                } else if matches!(touched, Touched::Numbers(_)) {
                    view.on_numbers(self.shared, &id);
                } else {
                    view.refresh(self.shared, &id);
                }
            }
            Touched::Groups => view.groups.set_dirty(true),
            Touched::Everything => view.clear(),
            Touched::Nothing => (),
        }
    }

    /// Reads from the log what the feed had no room for.
    fn catch_up(&mut self) -> Result<(), Lost> {
        let until = self.bridge.fed();
        let tenant = Some(self.bridge.tenant.clone());
        let filter = ReadFilter { tenant, ..ReadFilter::default() };
        while let Some(position) = self.with(|_, view| view.position).filter(|at| *at < until) {
            let chunk = self.shared.log.read(position.next(), &filter, READ_BYTES);
            let chunk = chunk.map_err(|error| {
                tracing::error!(%error, "deCONZ: the log cannot be read");
                Lost
            })?;
            let is_lost = |item: &Followed| match item {
                Followed::Gap(_, reason) => *reason != GapReason::Crash,
                Followed::Entry(_) => false,
            };
            if chunk.items.iter().any(is_lost) {
                return Err(Lost);
            }
            self.with(|mirror, view| {
                let entries = chunk.items.iter().filter_map(|item| match item {
                    Followed::Entry(entry) if entry.seq <= until => Some(entry),
                    Followed::Entry(_) | Followed::Gap(..) => None,
                });
                entries.for_each(|entry| mirror.on_entry(view, entry));
                view.position = view.position.max(chunk.next.prev().min(until));
            });
        }
        Ok(())
    }

    /// A client listens from now on; first it hears what changed while it was away.
    fn join(&mut self, view: &mut View, listener: Listener) {
        self.send(view);
        let here = self.listeners.read_at(listener.address);
        let read = self.bridge.read_of(&listener);
        let before = read.is_none();
        let read = read.map_or(Seq(0), |read| here.map_or(read, |here| here.min(read)));
        let (frames, count) = view.since(read, before).take().unwrap_or_default();
        let (link, through) = (listener.link, view.position);
        if let Some(inbox) = self.shared.inboxes.get(link.worker) {
            inbox.push(Pushed::First { link: link.link, frames, count, through });
        }
        self.note_seen(&listener);
        self.listeners.enter(Listener { read, ..listener });
        view.frames.set_idle(false);
    }

    fn send(&self, view: &mut View) {
        if let Some((frames, count)) = view.frames.take() {
            for inbox in &self.shared.inboxes {
                let (frames, through) = (frames.clone(), view.position);
                inbox.push(Pushed::All { frames, count, through });
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

    /// Whoever listens from an address that is known keeps it known.
    fn note_seen(&self, listener: &Listener) {
        if let Some(key) = &listener.key
            && self.bridge.knows(self.shared, key, listener.address)
        {
            self.bridge.note_seen(self.shared, key, listener.address);
        }
    }
}

/// What notes that an app was seen.
pub(super) fn seen(bridge: &Bridge, key: &str, address: String) -> Record {
    let step = BridgeStep::Seen { id: key.to_owned(), address };
    let change = Change::Bridge(step);
    let tenant = bridge.tenant.as_str().to_owned();
    Record::Registry(Box::new(RegistryChange { tenant, change, author: None }))
}

/// What a change of the registry is of, as far as apps see it.
fn touched(change: &Change) -> Touched<'_> {
    match change {
        Change::DeviceAdd(device) | Change::DeviceAddSigning { device, .. } => {
            Touched::Device(&device.id)
        }
        Change::Activation { step: ActivationStep::Use(device), .. } => Touched::Device(&device.id),
        Change::DeviceRemove(device) => Touched::Removed(device),
        Change::ProfileSet { device, .. }
        | Change::SourceDevice { device, .. }
        | Change::Edit { edit: Edit::Device { id: device, .. }, .. } => Touched::Device(device),
        Change::Parts { device, .. } => Touched::Numbers(device),
        Change::Group { .. } | Change::Scene { .. } => Touched::Groups,
        Change::TenantRemove => Touched::Everything,
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
