//! Documents of devices on their way to the links of one worker.
//!
//! Made when they are sent, once for all links of a turn: a link that does not keep up is owed the name
//! of the device alone, and gets the document of the moment in which there is room. So nothing is lost
//! that is still so. They are out of turn (`ahead`, or `retain` at the beginning of a subscription): no
//! position moves with them. One that replays gets them before its history, and what changed meanwhile
//! behind it: until then a client takes nothing for it but its replay.

use std::rc::Rc;

use bytes::Bytes;
use fieldgate_core::{
    dialect::Marks,
    id::{DeviceId, Seq, TenantId},
    message::Message,
    topic::Topic,
};
use fieldgate_dialects::wire::Form;

use super::Hub;
use crate::{
    documents::{self, Changed, follows},
    link::Link,
    subscriptions::Subscription,
};

/// So many devices are looked at before other work of this thread.
const TURN_DEVICES: usize = 256;
/// So many bytes of documents are sent before the socket is looked at again.
const BYTES_MAX: usize = 128 * 1024;
/// What it counts as to look for a document that is not there.
const NO_DOCUMENT_BYTES: usize = 64;

/// A document as it is now.
struct Document {
    seq: Seq,
    message: Message,
}

impl Hub {
    /// A subscription of documents has its first member here, or its last one went.
    pub(super) fn follow(&self, subscription: &Subscription, slot: u32, begins: bool) {
        if !follows(&subscription.filter) {
            return;
        }
        let mut documents = self.documents.borrow_mut();
        let index = documents.entry(subscription.tenant.clone()).or_default();
        if begins {
            self.shared.documents.begin();
            index.insert(&subscription.filter, slot);
        } else {
            self.shared.documents.end();
            index.remove(&subscription.filter, slot);
        }
    }

    /// Sends what changed to those who follow it; tells whether more waits.
    pub(crate) fn tell_documents(self: &Rc<Self>, changed: Changed) -> bool {
        let mut waiting = self.changed.borrow_mut();
        waiting.extend(changed);
        if self.documents.borrow().values().all(fieldgate_core::index::Index::is_empty) {
            waiting.clear();
        }
        for _ in 0..TURN_DEVICES {
            let Some((tenant, device)) = waiting.pop_first() else { return false };
            self.tell_document(&tenant, &device);
        }
        !waiting.is_empty()
    }

    fn tell_document(self: &Rc<Self>, tenant: &TenantId, device: &DeviceId) {
        let topic = Topic::of_device(device, "state");
        let mut links: Vec<Rc<Link>> = Vec::new();
        let slots = self.slots.borrow();
        if let Some(index) = self.documents.borrow().get(tenant) {
            index.matches(&topic, &mut |slot: u32| {
                let members = slots.get(&slot).into_iter().flat_map(|slot| &slot.members);
                for (link, subscription) in members {
                    if subscription.replaying.get() {
                        subscription.changed.borrow_mut().insert(device.clone());
                    } else {
                        links.push(Rc::clone(link));
                    }
                }
            });
        }
        drop(slots);
        links.sort_unstable_by_key(|link| link.id);
        links.dedup_by_key(|link| link.id);
        let mut frames: Vec<(Form, Bytes)> = Vec::new();
        let mut document = None;
        for link in links.iter().filter(|link| !link.is_closing()) {
            if link.outbox.has_waiting() || !link.documents.borrow().is_empty() {
                link.documents.borrow_mut().insert(device.clone(), false);
                self.flow(link);
                continue;
            }
            if document.is_none() {
                document = Some(self.document(tenant, device));
            }
            let Some(Some(document)) = &document else { return };
            let known = frames.iter().find(|(form, _)| *form == link.form.get());
            let frame = known.map(|(_, frame)| frame.clone()).unwrap_or_else(|| {
                let marks = Marks { ahead: true, ..Marks::default() };
                let frame =
                    self.encode_marked(document.seq, &document.message, marks, link.form.get());
                frames.push((link.form.get(), frame.clone()));
                frame
            });
            self.touch(link);
            link.outbox.push_shared(frame);
        }
    }

    /// Begins with the documents that a subscription selects, as they are.
    pub(crate) fn first_documents(self: &Rc<Self>, link: &Rc<Link>, subscription: &Subscription) {
        if follows(&subscription.filter) {
            self.owe_documents(link, self.selected(subscription), true);
        }
    }

    /// The devices whose documents a subscription selects.
    fn selected(&self, subscription: &Subscription) -> impl IntoIterator<Item = DeviceId> {
        self.shared.state.known_devices(&subscription.tenant, |device| {
            subscription.filter.matches_name(Topic::of_device(device, "state").as_str())
        })
    }

    /// Tells the documents that a subscription with a history selects, before the history: as part of
    /// the replay that is named `mark`, as the socket takes them, all of them before this returns.
    pub(crate) async fn tell_documents_as_they_are(
        &self,
        link: &Rc<Link>,
        subscription: &Subscription,
        mark: Option<&str>,
    ) {
        if !follows(&subscription.filter) {
            return;
        }
        let mut left = self.selected(subscription).into_iter().peekable();
        while left.peek().is_some() {
            link.room().await;
            if link.is_closing() || subscription.ending.is_over() {
                return;
            }
            let mut sent_bytes = 0;
            while sent_bytes < BYTES_MAX
                && let Some(device) = left.next()
            {
                subscription.changed.borrow_mut().remove(&device);
                let marks = Marks { retain: true, replay: mark, ..Marks::default() };
                sent_bytes += self.send_document(link, (&subscription.tenant, &device), marks);
            }
            self.flush();
            tokio::task::yield_now().await;
        }
    }

    /// Sends the documents of these devices, as they are when there is room: as the `first` ones of a
    /// subscription, or because they changed. What changed is never told as one of the first: who
    /// follows it already passes those over.
    pub(crate) fn owe_documents(
        self: &Rc<Self>,
        link: &Rc<Link>,
        devices: impl IntoIterator<Item = DeviceId>,
        first: bool,
    ) {
        let mut owed = link.documents.borrow_mut();
        for device in devices {
            owed.entry(device).and_modify(|known| *known &= first).or_insert(first);
        }
        drop(owed);
        if link.outbox.has_room() {
            self.send_documents(link);
        }
        self.flow(link);
    }

    /// Sends what a link is owed as it takes it.
    fn flow(self: &Rc<Self>, link: &Rc<Link>) {
        if link.documents.borrow().is_empty() || link.documents_flow.replace(true) {
            return;
        }
        let (hub, link) = (Rc::clone(self), Rc::clone(link));
        tokio::task::spawn_local(async move {
            while !link.documents.borrow().is_empty() {
                link.room().await;
                if link.is_closing() {
                    return;
                }
                hub.send_documents(&link);
                hub.flush();
                tokio::task::yield_now().await;
            }
            link.documents_flow.set(false);
        });
    }

    fn send_documents(&self, link: &Rc<Link>) {
        let Some(principal) = link.principal() else { return };
        let mut sent_bytes = 0;
        while sent_bytes < BYTES_MAX {
            let next = link.documents.borrow_mut().pop_first();
            let Some((device, retain)) = next else { return };
            let topic = Topic::of_device(&device, "state");
            let follows = link.subscriptions.borrow().values().any(|subscription| {
                // These readers get it as the last values of what they follow.
                let form = link.form.get();
                if form.is_thingsee() || form == Form::Things {
                    subscription.filter.matches(&Topic::of_device(&device, "telemetry"))
                } else {
                    follows(&subscription.filter) && subscription.filter.matches(&topic)
                }
            });
            if !follows {
                sent_bytes += NO_DOCUMENT_BYTES;
                continue;
            }
            let marks = Marks { retain, ahead: !retain, ..Marks::default() };
            sent_bytes += self.send_document(link, (&principal.tenant, &device), marks);
        }
    }

    /// Sends the document of a device as it is, if there is one; tells what of a turn that took.
    fn send_document(
        &self,
        link: &Rc<Link>,
        (tenant, device): (&TenantId, &DeviceId),
        marks: Marks<'_>,
    ) -> usize {
        let Some(document) = self.document(tenant, device) else { return NO_DOCUMENT_BYTES };
        self.push_marked(link, (document.seq, &document.message), marks, link.form.get())
    }

    /// What was last known of a device, in this form; nothing, where that has nothing to say.
    pub(crate) fn last_values(&self, link: &Link, device: &DeviceId, form: Form) -> Option<Bytes> {
        let document = link.principal().and_then(|p| self.document(&p.tenant, device))?;
        let marks = Marks { retain: true, ..Marks::default() };
        let frame = self.encode_marked(document.seq, &document.message, marks, form);
        Some(frame).filter(|frame| !frame.is_empty())
    }

    /// Leaves a frame to the end of this tick.
    pub(crate) fn push_frame(&self, link: &Rc<Link>, frame: &[u8]) {
        self.touch(link);
        link.outbox.push_tick(|tick| tick.extend_from_slice(frame));
    }

    /// The document of a device; nothing if nothing is known of it.
    fn document(&self, tenant: &TenantId, device: &DeviceId) -> Option<Document> {
        let state = &self.shared.state;
        let (reported, desired) = (state.reported(tenant, device), state.desired(tenant, device));
        if reported.is_none() && desired.is_none() {
            return None;
        }
        let (reported, desired) = (reported.unwrap_or_default(), desired.unwrap_or_default());
        let message = documents::message(tenant, device, &reported, &desired);
        Some(Document { seq: reported.taken().max(desired.taken()), message })
    }
}
