//! Frames of messages in the form of the link that they go to.
//!
//! In: a message with what is known of its delivery. Out: its bytes, alone or behind what goes out in
//! this tick. Absent: what a form says, which is its dialect's.

use std::rc::Rc;

use bytes::Bytes;
use fieldgate_core::{
    dialect::{Answer, Delivery, GapReason, Marks},
    id::{Seq, TenantId},
    message::Message,
};
use fieldgate_dialects::{
    socketio::Look,
    wire::{Context, Form},
};

use super::Hub;
use crate::{
    link::Link,
    outbox::{Item, Late},
    thingsee_out,
};

/// About what a frame has beside its payload.
const FRAME_BYTES: usize = 256;

impl Hub {
    /// One whole frame, header included.
    pub(crate) fn encode_marked(
        &self,
        seq: Seq,
        message: &Message,
        marks: Marks<'_>,
        form: Form,
    ) -> Bytes {
        let delivery = Delivery { position: self.shared.position(seq), message, marks };
        let mut frame = Vec::with_capacity(FRAME_BYTES + message.payload.len());
        self.write_delivery(form, &delivery, &mut frame);
        frame.into()
    }

    /// Adds a message, in this form, to what goes out to a link at the end of this tick; how many bytes
    /// that is.
    pub(crate) fn push_marked(
        &self,
        link: &Rc<Link>,
        (seq, message): (Seq, &Message),
        marks: Marks<'_>,
        form: Form,
    ) -> usize {
        let delivery = Delivery { position: self.shared.position(seq), message, marks };
        self.touch(link);
        link.outbox.push_tick(|tick| {
            let before = tick.len();
            self.write_delivery(form, &delivery, tick);
            let frame = tick.get(before..).unwrap_or_default();
            link.note_asked(frame);
            frame.len()
        })
    }

    /// Appends what a form says of a message.
    pub(super) fn write_delivery(&self, form: Form, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        let known =
            |tenant: &TenantId, device: &str| thingsee_out::about(&self.shared, tenant, device);
        let rooms = self.rooms_of(form);
        let (kamea, things) = (&self.shared.config.kamea, self.shared.config.thethings.naming());
        let (event, body, names) = (&kamea.event, &kamea.body, kamea.naming());
        let look = Look { event, body, names, things };
        let rooms = rooms.as_deref().map(|rooms| (rooms, look));
        let context = Context { known: &known, things, rooms };
        form.write_delivery(delivery, context, &mut self.text.borrow_mut(), out);
    }

    /// The frame of something that waited, now that its turn has come.
    pub(crate) fn encode_item(&self, link: &Link, item: Item, ahead: bool) -> Bytes {
        match item {
            Item::Ready(bytes) | Item::Frame(_, bytes) => bytes,
            Item::Late(late) => {
                let Late { seq, qos, ref message, count, ahead: late_ahead } = *late;
                let ahead = ahead || late_ahead;
                let marks = Marks { qos, ahead, conflated_count: count, ..Marks::default() };
                self.encode_marked(seq, message, marks, link.form.get())
            }
            Item::Gap(first, last) => self.encode_gap(link, first, last, GapReason::Overflow),
        }
    }

    /// One whole frame, header included.
    fn encode_gap(&self, link: &Link, first: Seq, last: Seq, reason: GapReason) -> Bytes {
        let (from, to) = (self.shared.position(first), self.shared.position(last));
        let mut frame = Vec::new();
        let gap = Answer::Gap { from, to, reason };
        link.note_hole();
        link.form.get().write_answer(&gap, &mut self.text.borrow_mut(), &mut frame);
        frame.into()
    }
}
