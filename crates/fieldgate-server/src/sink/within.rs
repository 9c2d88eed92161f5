//! A socket within that of another link: what the second namespace of a Socket.IO session reads and
//! writes.
//!
//! In: whole WebSocket frames, of the link and of its client. Out: the same; the link that has the
//! socket, its carrier, takes those of the link in its own turn. Both live on one worker. Invariant: at
//! most [`BYTES_MAX`] bytes and one write wait in each direction, and a frame is never cut.

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    rc::Rc,
};

use tokio::sync::Notify;

use super::take_front;
use crate::link::Link;

/// So many bytes may wait before whoever brings more has to keep it.
const BYTES_MAX: usize = 64 * 1024;

/// What a link and its carrier share.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    incoming: RefCell<Vec<u8>>,
    outgoing: RefCell<Vec<u8>>,
    /// The carrier has ended.
    is_gone: Cell<bool>,
    /// For the link: something came, or its carrier is gone.
    arrived: Notify,
    /// For the link: what it wrote was taken.
    room: Notify,
}

impl Channel {
    /// Hands a frame of the client to the link; false if it has to take others first.
    pub(crate) fn put(&self, frame: &[u8]) -> bool {
        let mut incoming = self.incoming.borrow_mut();
        if !incoming.is_empty() && incoming.len() + frame.len() > BYTES_MAX {
            return false;
        }
        incoming.extend_from_slice(frame);
        self.arrived.notify_one();
        true
    }

    /// Bytes of the client that the link has not taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.incoming.borrow().len()
    }

    /// Takes what the link has written.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.room.notify_one();
        self.outgoing.take()
    }

    /// The carrier has ended.
    pub(crate) fn end(&self) {
        self.is_gone.set(true);
        self.arrived.notify_one();
        self.room.notify_one();
    }
}

/// The end that a link has.
#[derive(Debug)]
pub(crate) struct Within {
    channel: Rc<Channel>,
    carrier: Rc<Link>,
}

impl Within {
    pub(crate) const fn new(channel: Rc<Channel>, carrier: Rc<Link>) -> Self {
        Self { channel, carrier }
    }

    /// The link that has the socket.
    pub(crate) const fn carrier(&self) -> &Rc<Link> {
        &self.carrier
    }

    /// Waits until there is something to read, or the carrier is gone. Cancel safe.
    pub(super) async fn readable(&self) {
        while self.channel.incoming.borrow().is_empty() && !self.channel.is_gone.get() {
            self.channel.arrived.notified().await;
        }
    }

    /// Waits until a write takes something, or fails. Cancel safe.
    pub(super) async fn writable(&self) {
        let is_full = || self.channel.outgoing.borrow().len() >= BYTES_MAX;
        while is_full() && !self.channel.is_gone.get() {
            self.channel.room.notified().await;
        }
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut incoming = self.channel.incoming.borrow_mut();
        if incoming.is_empty() {
            let is_gone = self.channel.is_gone.get();
            return if is_gone { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let len = take_front(&mut incoming, buffer);
        if incoming.is_empty() {
            *incoming = Vec::new();
        }
        Ok(len)
    }

    /// Takes all or nothing: a frame is never cut.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.channel.is_gone.get() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut outgoing = self.channel.outgoing.borrow_mut();
        if outgoing.len() >= BYTES_MAX {
            return Err(ErrorKind::WouldBlock.into());
        }
        outgoing.extend_from_slice(bytes);
        self.carrier.wake();
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_bounded_but_for_one_frame() {
        let channel = Channel::default();
        let long = vec![7; 2 * BYTES_MAX];
        assert!(channel.put(&long), "a frame that is alone passes whatever its length");
        assert!(!channel.put(b"x"));
        channel.incoming.take();
        assert!(channel.put(&long[..BYTES_MAX - 1]) && channel.put(b"x"));
        assert!(!channel.put(b"x"));
    }
}
