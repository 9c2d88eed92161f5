//! The ready frames of one message, so that it is encoded once for all its receivers.

use bytes::Bytes;
use fieldgate_core::message::Qos;
use fieldgate_dialects::native::Form;

/// The ready frames of the message in hand, one per wire form and promise.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<((Form, Qos), Bytes)>);

impl Frames {
    /// Lends the frame: a reference counted up and down for each receiver would cost as much as the
    /// rest of its way through here.
    pub(crate) fn get(&mut self, form: Form, qos: Qos, make: impl FnOnce() -> Bytes) -> &Bytes {
        let known = self.0.iter().position(|(key, _)| *key == (form, qos));
        let at = known.unwrap_or(self.0.len());
        if known.is_none() {
            self.0.push(((form, qos), make()));
        }
        static EMPTY: Bytes = Bytes::new();
        self.0.get(at).map_or(&EMPTY, |(_, frame)| frame)
    }
}
