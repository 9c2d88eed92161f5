//! What one link still has to send: the bytes of this tick, and what its socket did not take.
//!
//! Bounded in bytes. Written to by the hub, drained by the link. Absent: any decision of what to do
//! when it is full, which is the hub's.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
};

use bytes::{Buf, Bytes};
use fieldgate_core::id::Seq;

use crate::sink::Socket;

#[derive(Debug)]
struct Waiting {
    bytes: Bytes,
    /// The number of a QoS 0 message, which may be dropped.
    droppable: Option<Seq>,
}

/// Frames on their way to one socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    tick: RefCell<Vec<u8>>,
    waiting: RefCell<VecDeque<Waiting>>,
    waiting_bytes: Cell<usize>,
    front_started: Cell<bool>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting_bytes.get() == 0 && self.tick.borrow().is_empty()
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
        write(&mut self.tick.borrow_mut());
    }

    /// Writes a shared frame at once, if nothing waits; what the socket did not take waits.
    pub(crate) fn write_now(
        &self,
        socket: &Socket,
        frame: &Bytes,
        droppable: Option<Seq>,
    ) -> io::Result<()> {
        let taken = match socket.try_write(frame) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if taken < frame.len() {
            let started = taken > 0;
            self.wait(frame.slice(taken..), droppable.filter(|_| !started));
            self.front_started.set(started);
        }
        Ok(())
    }

    /// Queues a frame behind what waits.
    pub(crate) fn wait(&self, bytes: Bytes, droppable: Option<Seq>) {
        self.waiting_bytes.set(self.waiting_bytes.get() + bytes.len());
        self.waiting.borrow_mut().push_back(Waiting { bytes, droppable });
    }

    /// Ends a tick: everything of it goes out in one write, or waits.
    pub(crate) fn flush_tick(&self, socket: &Socket) -> io::Result<()> {
        let mut tick = std::mem::take(&mut *self.tick.borrow_mut());
        if tick.is_empty() {
            return Ok(());
        }
        if self.has_waiting() {
            self.wait(Bytes::from(tick), None);
            return Ok(());
        }
        match socket.try_write(&tick) {
            Ok(taken) if taken == tick.len() => (),
            Ok(taken) => {
                self.wait(Bytes::from(tick.split_off(taken)), None);
                self.front_started.set(true);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait(Bytes::from(tick), None);
            }
            Err(error) => return Err(error),
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

    /// Drops the oldest droppable frames until `byte_len` more bytes fit under `max`; returns how
    /// many, with the first and last number of them.
    pub(crate) fn drop_oldest(&self, byte_len: usize, max: usize) -> Option<(Seq, Seq, u64)> {
        let mut waiting = self.waiting.borrow_mut();
        let mut dropped: Option<(Seq, Seq, u64)> = None;
        let mut at = usize::from(self.front_started.get());
        while self.waiting_bytes.get() + byte_len > max {
            let Some(seq) = waiting.get(at).map(|frame| frame.droppable) else { break };
            let Some(seq) = seq else {
                at += 1;
                continue;
            };
            if let Some(frame) = waiting.remove(at) {
                self.waiting_bytes.set(self.waiting_bytes.get() - frame.bytes.len());
            }
            dropped = Some(dropped.map_or((seq, seq, 1), |(first, _, n)| (first, seq, n + 1)));
        }
        dropped
    }
}
