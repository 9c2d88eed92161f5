//! Which documents of devices (`devices/{id}/state`) changed, for the workers whose links follow them.
//!
//! A document is made of the state, not a message of the log. In: what was applied. Out: the names of
//! devices, to each worker, ten times a second at most; the worker makes the document when it sends it
//! (`hub/documents.rs`). While nobody follows documents nothing is noted. Bounded by the number of
//! devices.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use fieldgate_core::{
    dialect::CommandState,
    id::{DeviceId, TenantId},
    message::{Kind, Message, Qos},
    state::{Desired, Reported},
    topic::{Filter, Topic},
};
use fieldgate_dialects::native;
use fieldgate_store::{Followed, Record, registry::Change};

use crate::fabric::{Shared, now};

/// How often a document is told at most.
const PERIOD: Duration = Duration::from_millis(100);

/// Devices whose documents changed.
pub(crate) type Changed = BTreeSet<(TenantId, DeviceId)>;

/// Tells whether a subscription follows documents: it names their leaf. One by `#` or with `+` at the
/// end gets what documents are made of.
pub(crate) fn follows(filter: &Filter) -> bool {
    let mut levels = filter.levels();
    let (root, device, leaf) = (levels.next(), levels.next(), levels.next());
    matches!(root, Some("devices" | "+"))
        && device.is_some_and(|device| device != "#")
        && leaf == Some("state")
        && levels.next().is_none()
}

/// The document of a device, as the message that the gateway makes of it.
pub(crate) fn message(
    tenant: &TenantId,
    device: &DeviceId,
    reported: &Reported,
    desired: &Desired,
) -> Message {
    let topic = Topic::of_device(device, "state");
    let payload = native::encode_document(reported, desired);
    let message = Message::json(tenant.clone(), topic, "gateway".into(), now(), payload);
    Message { qos: Qos::AtMostOnce, retain: true, ..message }
}

/// How many subscriptions follow documents.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    follower_count: AtomicUsize,
}

impl Documents {
    /// One more follows, and looks at the state behind this.
    pub(crate) fn begin(&self) {
        self.follower_count.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn end(&self) {
        self.follower_count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Asked behind applying: who begins to follow later sees what was applied.
    fn is_followed(&self) -> bool {
        self.follower_count.load(Ordering::SeqCst) > 0
    }
}

/// What the thread that routes has to tell.
#[derive(Debug)]
pub(crate) struct Notes {
    changed: Changed,
    told: Instant,
}

impl Notes {
    pub(crate) fn new() -> Self {
        Self { changed: Changed::new(), told: Instant::now() }
    }

    /// Notes what steps changed that were applied.
    pub(crate) fn note(&mut self, shared: &Shared, steps: &[Followed]) {
        if shared.documents.is_followed() {
            self.changed.extend(steps.iter().filter_map(touched));
        }
    }

    /// How long the next look may wait.
    pub(crate) fn wait_max(&self, otherwise: Duration) -> Duration {
        if self.changed.is_empty() {
            otherwise
        } else {
            PERIOD.saturating_sub(self.told.elapsed()).min(otherwise)
        }
    }

    /// Tells the workers, if it is time.
    pub(crate) fn tell(&mut self, shared: &Shared) {
        if self.changed.is_empty() || self.told.elapsed() < PERIOD {
            return;
        }
        self.told = Instant::now();
        let changed = std::mem::take(&mut self.changed);
        shared.inboxes.iter().for_each(|inbox| inbox.documents(&changed));
    }
}

/// The device whose document a step may have changed.
fn touched(step: &Followed) -> Option<(TenantId, DeviceId)> {
    let Followed::Entry(entry) = step else { return None };
    match &entry.record {
        Record::Message(message) => {
            let changes = matches!(message.kind, Kind::Telemetry | Kind::Reported | Kind::Desired);
            let device = message.topic.device().filter(|_| changes)?;
            Some((message.tenant.clone(), device.parse().ok()?))
        }
        // A reply counts as a report where the profile says so.
        Record::Command(change) => (change.state == CommandState::Completed)
            .then(|| (change.tenant.clone(), change.device.clone())),
        Record::Registry(change) => {
            let Change::ProfileSet { device, .. } = &change.change else { return None };
            Some((change.tenant.parse().ok()?, device.parse().ok()?))
        }
        Record::Note(_) | Record::Gap { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_the_leaf_follows_documents() {
        let follows = |filter: &str| follows(&filter.parse().unwrap());
        for filter in ["devices/a/state", "devices/+/state", "+/+/state", "+/a/state"] {
            assert!(follows(filter), "{filter}");
        }
        for filter in [
            "#",
            "devices/#",
            "devices/a/#",
            "devices/+/+",
            "a/+/state",
            "devices/a/state/#",
            "state",
        ] {
            assert!(!follows(filter), "{filter}");
        }
    }
}
