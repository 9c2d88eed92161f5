//! A train: consecutive messages for the same subscriptions, encoded once and joined.
//!
//! In: what the router put together for one worker. Out: for each wire form and promise one run of
//! ready bytes that all receivers share, and where each frame in it ends. A train of one message is
//! that message's frame.

use bytes::Bytes;
use fieldgate_core::{
    id::Seq,
    message::{Message, Qos},
};
use fieldgate_dialects::wire::Form;

use crate::worker::Routed;

/// Most bytes of payload that are joined: a receiver that is slow keeps the whole run for the sake
/// of one frame in it.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// The messages of a train, in seq order; never empty.
pub(super) type Cars<'a> = [(Seq, &'a Message)];

/// Cuts a batch into trains.
pub(super) fn trains(batch: &[Routed]) -> impl Iterator<Item = &[Routed]> {
    let mut payload_bytes = 0;
    batch.chunk_by(move |one, next| {
        payload_bytes += payload_len(one);
        let joined =
            one.slots == next.slots && payload_bytes + payload_len(next) <= PAYLOAD_BYTES_MAX;
        if !joined {
            payload_bytes = 0;
        }
        joined
    })
}

fn payload_len(routed: &Routed) -> usize {
    crate::fabric::message_of(&routed.entry).map_or(0, |message| message.payload.len())
}

/// One frame of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) start: usize,
    pub(super) end: usize,
    /// At what promise it is delivered.
    pub(super) qos: Qos,
}

/// The frames of a train in one form.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) bytes: Bytes,
    frames: Vec<Frame>,
    /// Whether its receivers acknowledge what they get, and may have to wait for that.
    pub(super) asks: bool,
}

impl Run {
    /// Encodes each message with `encode`, which appends one frame to `scratch`.
    pub(super) fn new(
        cars: &Cars<'_>,
        granted: Qos,
        scratch: &mut Vec<u8>,
        mut encode: impl FnMut(Seq, &Message, Qos, &mut Vec<u8>),
    ) -> Self {
        scratch.clear();
        let mut frames = Vec::with_capacity(cars.len());
        for (seq, message) in cars {
            let (start, qos) = (scratch.len(), granted.min(message.qos));
            encode(*seq, message, qos, scratch);
            frames.push(Frame { start, end: scratch.len(), qos });
        }
        Self { bytes: Bytes::copy_from_slice(scratch), frames, asks: false }
    }

    /// Where the frames from this car on begin.
    pub(super) fn start(&self, from: usize) -> usize {
        self.frames(from).first().map_or(self.bytes.len(), |frame| frame.start)
    }

    /// The frames from this car on.
    pub(super) fn frames(&self, from: usize) -> &[Frame] {
        self.frames.get(from..).unwrap_or_default()
    }
}

/// The runs of the train in hand, one for each wire form and promise.
#[derive(Debug, Default)]
pub(super) struct Runs(Vec<((Form, Qos), Run)>);

impl Runs {
    /// Where the run is: a reference counted up and down for each receiver would cost as much as the
    /// rest of its way through here.
    pub(super) fn place(&mut self, form: Form, qos: Qos, make: impl FnOnce() -> Run) -> usize {
        let known = self.0.iter().position(|(key, _)| *key == (form, qos));
        if known.is_none() {
            self.0.push(((form, qos), make()));
        }
        known.unwrap_or(self.0.len() - 1)
    }

    /// The run at a place.
    pub(super) fn at(&self, place: usize) -> &Run {
        static EMPTY: Run = Run { bytes: Bytes::new(), frames: Vec::new(), asks: false };
        self.0.get(place).map_or(&EMPTY, |(_, run)| run)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fieldgate_core::{id::UnixMs, testing};
    use fieldgate_store::{Entry, Record};

    use super::*;

    fn message(payload_len: usize, qos: Qos) -> Message {
        testing::message("a", qos, vec![0; payload_len])
    }

    fn routed(seq: u64, payload_len: usize, slots: &[u32]) -> Routed {
        let record = Record::Message(message(payload_len, Qos::AtMostOnce));
        let entry = Arc::new(Entry { seq: Seq(seq), arrived: UnixMs(0), record });
        Routed { entry, slots: slots.to_vec() }
    }

    #[test]
    fn a_train_ends_where_the_subscriptions_or_the_size_do() {
        let batch = [
            routed(1, 10, &[1]),
            routed(2, 10, &[1]),
            routed(3, 10, &[1, 2]),
            routed(4, PAYLOAD_BYTES_MAX, &[1, 2]),
            routed(5, 1, &[1, 2]),
            routed(6, PAYLOAD_BYTES_MAX - 1, &[1, 2]),
        ];
        let lengths: Vec<_> = trains(&batch).map(<[Routed]>::len).collect();
        assert_eq!(lengths, [2, 1, 1, 2]);
        assert_eq!(trains(&[]).count(), 0);
    }

    #[test]
    fn a_run_holds_the_frames_and_their_promises() {
        let (loose, kept) = (message(1, Qos::AtMostOnce), message(2, Qos::AtLeastOnce));
        let cars = [(Seq(1), &loose), (Seq(2), &kept), (Seq(3), &loose)];
        let mut scratch = b"left behind".to_vec();
        let encode = |seq: Seq, message: &Message, qos: Qos, out: &mut Vec<u8>| {
            out.extend(vec![u8::try_from(seq.0).unwrap(); message.payload.len() + qos as usize]);
        };
        let run = Run::new(&cars, Qos::ExactlyOnce, &mut scratch, encode);
        assert_eq!(&run.bytes[..], [1, 2, 2, 2, 3]);
        let ends: Vec<_> = run.frames(0).iter().map(|f| (f.start, f.end, f.qos)).collect();
        let (loose, kept) = (Qos::AtMostOnce, Qos::AtLeastOnce);
        assert_eq!(ends, [(0, 1, loose), (1, 4, kept), (4, 5, loose)]);
        assert_eq!(run.frames(2).len(), 1);
        assert_eq!(run.frames(4), []);
    }
}
