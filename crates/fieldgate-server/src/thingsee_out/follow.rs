//! Which devices a reader follows while the groups that it named change.
//!
//! In: the registry. Out: subscriptions of a link, begun and ended. A device that comes is told by its
//! last state first. Bounded by `limits.topics_per_connection_max` devices; a link whose groups grow
//! beyond it ends.

use std::{
    collections::BTreeSet,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
};

use fieldgate_core::{
    access::Principal,
    close::CloseReason,
    dialect::Subscribe,
    fault::{Code, Fault},
    id::DeviceId,
    message::Qos,
    topic::{Filter, Topic},
};
use fieldgate_store::registry::Change;

use crate::{fabric::Shared, hub::Hub, link::Link, subscriptions};

/// How many links follow groups.
#[derive(Debug, Default)]
pub(crate) struct Followed(AtomicUsize);

impl Followed {
    /// Asked behind applying: who begins to follow later sees what was applied.
    pub(crate) fn is_any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

/// Tells whether a change may move devices into groups or out of them.
pub(crate) const fn may_move(change: &Change) -> bool {
    matches!(
        change,
        Change::DeviceAdd(_)
            | Change::DeviceAddSigning { .. }
            | Change::DeviceRemove(_)
            | Change::Group { .. }
            | Change::Edit { .. }
    )
}

/// What a reader named, and what it follows for it.
#[derive(Debug, Default)]
pub(crate) struct Following {
    groups: BTreeSet<String>,
    named: BTreeSet<DeviceId>,
    now: BTreeSet<DeviceId>,
}

impl Following {
    pub(super) const fn new(groups: BTreeSet<String>, named: BTreeSet<DeviceId>) -> Self {
        Self { groups, named, now: BTreeSet::new() }
    }

    /// Notes that these devices are followed.
    pub(super) fn begin(&mut self, devices: BTreeSet<DeviceId>) {
        self.now = devices;
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(String::as_str)
    }

    pub(super) fn named(&self) -> impl Iterator<Item = &DeviceId> {
        self.named.iter()
    }

    /// Whether it can change.
    pub(super) fn moves(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The devices that it is about now, but for those of a group that the principal may not see.
    pub(super) fn devices(&self, shared: &Shared, principal: &Principal) -> BTreeSet<DeviceId> {
        let may =
            |device: &&DeviceId| filters_of(device).iter().all(|f| principal.may_subscribe(f));
        let grouped = self.groups.iter().filter_map(|id| shared.state.group(&principal.tenant, id));
        let grouped: Vec<_> = grouped.map(|grouped| grouped.devices).collect();
        let members = grouped.iter().flat_map(|devices| devices.iter()).filter(may);
        self.named.iter().chain(members).cloned().collect()
    }

    pub(super) fn check_size(&self, shared: &Shared, count: usize) -> Result<(), Fault> {
        let max = shared.config.limits.topics_per_connection_max;
        if count <= max {
            return Ok(());
        }
        let text = format!("{count} devices exceed limits.topics_per_connection_max = {max}");
        Err(Fault::new(Code::TooLarge, text))
    }
}

/// The topics of a device that Thingsee objects are made of.
pub(super) fn filters_of(device: &DeviceId) -> Vec<Filter> {
    ["telemetry", "state/reported"].map(|leaf| Filter::from(&Topic::of_device(device, leaf))).into()
}

/// A subscription whose slow receivers read the log.
pub(super) const fn subscribe(filter: Filter) -> Subscribe {
    Subscribe { filter, qos: Qos::AtLeastOnce, since: None, slow: None, rate_max: None }
}

/// A link follows from now on what its address named; its subscriptions are begun.
pub(crate) fn follow(hub: &Rc<Hub>, link: &Rc<Link>, following: Box<Following>) {
    hub.shared.groups_followed.0.fetch_add(1, Ordering::SeqCst);
    *link.following.borrow_mut() = Some(following);
    // The groups may have changed since they were looked at.
    refollow(hub, link);
}

impl Link {
    /// It ends.
    pub(crate) fn end_following(&self, shared: &Shared) {
        if self.following.take().is_some() {
            shared.groups_followed.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Follows what a link named as it is now.
pub(crate) fn refollow(hub: &Rc<Hub>, link: &Rc<Link>) {
    let Some(principal) = link.principal().filter(|_| !link.is_closing()) else { return };
    let (gone, new) = {
        let mut slot = link.following.borrow_mut();
        let Some(following) = slot.as_mut() else { return };
        let devices = following.devices(&hub.shared, &principal);
        if following.check_size(&hub.shared, devices.len()).is_err() {
            return link.close(CloseReason::Policy);
        }
        let before = std::mem::replace(&mut following.now, devices);
        let gone: Vec<DeviceId> = before.difference(&following.now).cloned().collect();
        let new: Vec<DeviceId> = following.now.difference(&before).cloned().collect();
        (gone, new)
    };
    for filter in gone.iter().flat_map(filters_of) {
        let _not_there = subscriptions::unsubscribe(hub, link, filter);
    }
    for filter in new.iter().flat_map(filters_of) {
        subscriptions::join(hub, link, &principal, &subscribe(filter));
    }
    hub.owe_documents(link, new, true);
}
