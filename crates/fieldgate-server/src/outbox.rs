//! What one link still has to send: the bytes of this tick, and what its socket did not take.
//!
//! Bounded in bytes. Written to by the hub, drained by the link. Absent: any decision of what to do
//! when it is full, which is the hub's.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    ops::Range,
};

use bytes::{Buf, Bytes};
use fieldgate_core::id::Seq;

use crate::sink::Socket;

#[derive(Debug)]
struct Waiting {
    bytes: Bytes,
    /// The number of a QoS 0 message, which may be dropped.
    droppable: Option<Seq>,
    /// The numbers of dropped messages, told in their place.
    gap: Option<(Seq, Seq)>,
}

/// Encodes the record of a gap, first and last number included.
pub(crate) type EncodeGap<'a> = &'a dyn Fn(Seq, Seq) -> Bytes;

/// What goes out at the end of this tick.
#[derive(Debug, Default)]
enum Tick {
    #[default]
    Empty,
    /// One run of frames, which other links have too.
    Shared(Bytes),
    /// Anything else.
    Own(Vec<u8>),
}

impl Tick {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes.into(),
        }
    }
}

/// Writes once; tells how much the socket took.
fn write_some(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    match socket.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

/// Frames on their way to one socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    tick: RefCell<Tick>,
    waiting: RefCell<VecDeque<Waiting>>,
    waiting_bytes: Cell<usize>,
    front_started: Cell<bool>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.byte_len() == 0
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting_bytes.get() > 0
    }

    /// Bytes that wait, those of this tick included.
    pub(crate) fn byte_len(&self) -> usize {
        self.waiting_bytes.get() + self.tick.borrow().len()
    }

    /// Adds a frame to what goes out at the end of this tick.
    pub(crate) fn push_tick(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut tick = self.tick.borrow_mut();
        if let Tick::Own(bytes) = &mut *tick {
            return write(bytes);
        }
        let mut bytes = tick.as_slice().to_vec();
        write(&mut bytes);
        *tick = Tick::Own(bytes);
    }

    /// Adds frames that other links get too; nothing is copied while they are all there is.
    pub(crate) fn push_shared(&self, frames: &Bytes) {
        let empty = matches!(*self.tick.borrow(), Tick::Empty);
        if empty {
            self.tick.replace(Tick::Shared(frames.clone()));
        } else {
            self.push_tick(|own| own.extend_from_slice(frames));
        }
    }

    /// Writes shared frames at once, if nothing waits; what the socket did not take waits. `parts`
    /// are the frames, each with the number of a message that may be dropped.
    pub(crate) fn write_now(
        &self,
        socket: &Socket,
        frames: &Bytes,
        parts: impl Iterator<Item = (Range<usize>, Option<Seq>)>,
    ) -> io::Result<()> {
        let taken = write_some(socket, frames)?;
        if taken < frames.len() {
            for (part, droppable) in parts.filter(|(part, _)| part.end > taken) {
                let started = part.start < taken;
                if started {
                    self.front_started.set(true);
                }
                let rest = frames.slice(part.start.max(taken)..part.end);
                self.wait(rest, droppable.filter(|_| !started));
            }
        }
        Ok(())
    }

    /// Queues a frame behind what waits.
    pub(crate) fn wait(&self, bytes: Bytes, droppable: Option<Seq>) {
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes.len());
        self.waiting.borrow_mut().push_back(Waiting { bytes, droppable, gap: None });
    }

    /// Ends a tick: everything of it goes out in one write, or waits.
    pub(crate) fn flush_tick(&self, socket: &Socket) -> io::Result<()> {
        let tick = self.tick.take();
        let mut taken = 0;
        if !self.has_waiting() && tick.len() > 0 {
            taken = write_some(socket, tick.as_slice())?;
            self.front_started.set(0 < taken && taken < tick.len());
        }
        if taken < tick.len() {
            self.wait(tick.into_bytes().slice(taken..), None);
        }
        Ok(())
    }

    /// Writes as much of what waits as the socket takes.
    pub(crate) fn drain(&self, socket: &Socket) -> io::Result<()> {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(front) = waiting.front_mut() {
            match socket.try_write(&front.bytes) {
                Ok(taken) => {
                    self.waiting_bytes.set(self.waiting_bytes.get() - taken);
                    front.bytes.advance(taken);
                    self.front_started.set(front.bytes.has_remaining());
                    if !front.bytes.has_remaining() {
                        waiting.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        waiting.shrink_to(8);
        socket.try_send().map(|_gone| ())
    }

    /// Drops the oldest droppable frames until `byte_len` more bytes fit under `max`, each run of
    /// them replaced by the record of its gap; returns how many.
    pub(crate) fn drop_oldest(&self, byte_len: usize, max: usize, encode: EncodeGap<'_>) -> u64 {
        let mut count = 0;
        let mut at = usize::from(self.front_started.get());
        while self.waiting_bytes.get() + byte_len > max {
            let Some(seq) = self.waiting.borrow().get(at).map(|frame| frame.droppable) else {
                break;
            };
            let Some(seq) = seq else {
                at += 1;
                continue;
            };
            if let Some(frame) = self.waiting.borrow_mut().remove(at) {
                self.waiting_bytes.set(self.waiting_bytes.get() - frame.bytes.len());
            }
            at = self.put_gap(at, seq, encode);
            count += 1;
        }
        count
    }

    /// Tells at the end of what waits that a message was dropped.
    pub(crate) fn drop_newest(&self, seq: Seq, encode: EncodeGap<'_>) {
        let end = self.waiting.borrow().len();
        self.put_gap(end, seq, encode);
    }

    /// Puts `seq` into the gap before place `at`, or into a new one there; returns the place behind.
    fn put_gap(&self, at: usize, seq: Seq, encode: EncodeGap<'_>) -> usize {
        let mut waiting = self.waiting.borrow_mut();
        let before = at.checked_sub(1).filter(|&before| before > 0 || !self.front_started.get());
        let known = before.and_then(|before| waiting.get_mut(before)).filter(|f| f.gap.is_some());
        if let Some(known) = known {
            let first = known.gap.map_or(seq, |(first, _)| first);
            let bytes = encode(first, seq);
            self.waiting_bytes.set(self.waiting_bytes.get() + bytes.len() - known.bytes.len());
            (known.bytes, known.gap) = (bytes, Some((first, seq)));
            return at;
        }
        let bytes = encode(seq, seq);
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes.len());
        waiting.insert(at, Waiting { bytes, droppable: None, gap: Some((seq, seq)) });
        at + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(first: Seq, last: Seq) -> Bytes {
        format!("[{first}-{last}]").into()
    }

    fn text(outbox: &Outbox) -> String {
        let waiting = outbox.waiting.borrow();
        waiting.iter().map(|frame| String::from_utf8_lossy(&frame.bytes).into_owned()).collect()
    }

    #[test]
    fn a_gap_stands_where_the_dropped_frames_stood_and_costs_its_own_bytes_once() {
        let outbox = Outbox::default();
        for seq in 1..=6 {
            let droppable = (seq != 3).then_some(Seq(seq));
            outbox.wait(format!("<{seq:010}>").into(), droppable);
        }
        assert_eq!(outbox.drop_oldest(12, 6 * 12, &encode), 2);
        assert_eq!(text(&outbox), "[1-2]<0000000003><0000000004><0000000005><0000000006>");
        outbox.wait("<0000000007>".into(), Some(Seq(7)));
        assert_eq!(outbox.drop_oldest(12, 5 * 12, &encode), 2);
        outbox.drop_newest(Seq(8), &encode);
        outbox.drop_newest(Seq(9), &encode);
        let expected = "[1-2]<0000000003>[4-5]<0000000006><0000000007>[8-9]";
        assert_eq!(text(&outbox), expected);
        assert_eq!(outbox.byte_len(), expected.len());
    }

    #[test]
    fn a_started_frame_is_never_dropped_nor_changed() {
        let outbox = Outbox::default();
        for seq in 1..=3 {
            outbox.wait(format!("<{seq:010}>").into(), Some(Seq(seq)));
        }
        assert_eq!(outbox.drop_oldest(0, 30, &encode), 1);
        assert_eq!(text(&outbox), "[1-1]<0000000002><0000000003>");
        outbox.front_started.set(true);
        assert_eq!(outbox.drop_oldest(0, 10, &encode), 2);
        assert_eq!(text(&outbox), "[1-1][2-3]");
    }
}
