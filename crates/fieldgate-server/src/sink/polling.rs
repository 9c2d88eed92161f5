//! A socket whose other end are the bodies of polling requests (Engine.IO), until it goes over to a
//! socket of its own.
//!
//! In: whole WebSocket frames, of the link and of its client. Out: the same. What a body is made of is
//! the exchange's to say: the link sees a WebSocket, whatever carries it. Invariant: at most
//! [`OUT_BYTES_MAX`] bytes and one write wait for a poll, at most one body for the link. Whose client is
//! silent for too long has no session, to the moment: deadlines of links are looked at twice a second.

use std::{
    cell::RefCell,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{Socket, take_front};
use crate::present::LinkRef;

/// So many bytes may wait for a poll before the link has to keep the rest.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// What the requests of a session and its link share.
#[derive(Debug)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    /// How long its client may be silent, and when it was heard: by a body, however long that waits.
    silence: Duration,
    heard: Mutex<Instant>,
    /// Its link, once a worker serves it.
    pub(crate) link: OnceLock<LinkRef>,
    /// For the link: a body came, or its client is gone.
    arrived: Notify,
    /// For the link: a poll took something.
    room: Notify,
    /// For whoever polls.
    something: Notify,
    /// For whoever posts: the link took a body.
    taken: Notify,
    /// Whether its client encodes texts twice.
    pub(crate) encodes_twice: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    has_poll: bool,
    has_post: bool,
    /// Another transport is being tried; once that answers, a poll that finds nothing ends at once.
    has_probe: bool,
    is_probed: bool,
    is_over: bool,
    /// The client is gone.
    is_gone: bool,
    /// The link has ended: nothing follows.
    is_ended: bool,
    /// The session is somebody's.
    is_known: bool,
    /// Its client showed a credential, whoever's that is.
    has_shown: bool,
}

/// What becomes of another transport that asks for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It is tried.
    Begun,
    /// One is tried already, or was taken.
    Taken,
    /// There is no such session any more.
    Ended,
}

/// What a poll got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// Frames of the link.
    Frames(Vec<u8>),
    /// Nothing: it goes on elsewhere, or its client has closed it.
    Nothing,
    /// Another request polls already: both end.
    Twice,
    /// There is no such session any more.
    Ended,
}

/// The one poll of a session. Dropped before it got something, its client has given up.
struct Poll<'a>(&'a Exchange);

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if std::mem::take(&mut state.has_poll) {
            drop(state);
            self.0.leave();
        }
    }
}

/// The one body that is read for a session, also of a request that goes away before it is answered.
pub(crate) struct Post<'a>(&'a Exchange);

impl Drop for Post<'_> {
    fn drop(&mut self) {
        self.0.state().has_post = false;
    }
}

impl State {
    /// Whether the session has ended; what it said last may wait for a poll.
    const fn is_past(&self) -> bool {
        self.is_gone || self.is_ended
    }
}

impl Exchange {
    /// Requests of a client that may be silent for so long.
    pub(crate) fn new(silence: Duration) -> Self {
        Self {
            state: Mutex::default(),
            silence,
            heard: Mutex::new(Instant::now()),
            link: OnceLock::new(),
            arrived: Notify::new(),
            room: Notify::new(),
            something: Notify::new(),
            taken: Notify::new(),
            encodes_twice: AtomicBool::new(false),
        }
    }

    fn heard(&self) -> MutexGuard<'_, Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its client is there, or what it sent is still to be dealt with.
    pub(super) fn note_heard(&self) {
        *self.heard() = Instant::now();
    }

    fn is_silent(&self) -> bool {
        self.heard().elapsed() >= self.silence
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client is gone.
    pub(crate) fn leave(&self) {
        self.state().is_gone = true;
        self.arrived.notify_one();
        self.something.notify_waiters();
        self.taken.notify_waiters();
    }

    /// Its client was silent for too long: it is told where it waits, and else there is no session.
    pub(crate) fn forsake(&self) {
        if !self.state().has_poll {
            self.leave();
        }
    }

    /// The session is somebody's from now on: its requests are, too.
    pub(crate) fn become_known(&self) {
        self.state().is_known = true;
        self.something.notify_waiters();
    }

    /// Whether the session is somebody's.
    pub(crate) fn is_known(&self) -> bool {
        self.state().is_known
    }

    /// Its client showed a credential, whoever's that is.
    pub(crate) fn note_shown(&self) {
        self.state().has_shown = true;
    }

    /// Whether it did.
    pub(crate) fn has_shown(&self) -> bool {
        self.state().has_shown
    }

    /// Waits for what the link says. One request at a time. `on_known` is called while the session is
    /// somebody's, also where it becomes so meanwhile.
    pub(crate) async fn poll(&self, on_known: impl Fn()) -> Polled {
        {
            let is_silent = self.is_silent();
            let mut state = self.state();
            let has_heard = state.is_ended && state.outgoing.is_empty();
            if is_silent || state.is_over || state.is_gone || has_heard {
                return Polled::Ended;
            }
            if std::mem::replace(&mut state.has_poll, true) {
                drop(state);
                return Polled::Twice;
            }
        }
        let poll = Poll(self);
        loop {
            let mut something = std::pin::pin!(self.something.notified());
            // Whoever says so between the look and the wait is heard.
            something.as_mut().enable();
            if self.is_known() {
                on_known();
            }
            if let Some(polled) = self.polled() {
                drop(poll);
                return polled;
            }
            something.await;
        }
    }

    /// What there is for a poll, which ends with it.
    fn polled(&self) -> Option<Polled> {
        let mut state = self.state();
        let polled = if !state.outgoing.is_empty() {
            Polled::Frames(std::mem::take(&mut state.outgoing))
        } else if state.is_probed || state.is_over || state.is_ended || state.is_gone {
            Polled::Nothing
        } else {
            return None;
        };
        state.has_poll = false;
        let is_ended = state.is_ended;
        drop(state);
        self.room.notify_one();
        if is_ended {
            // Who has ended waits until the last of it was polled.
            self.arrived.notify_one();
        }
        Some(polled)
    }

    /// Hands a body's frames to the link, once it has taken those before; false if it is gone.
    pub(crate) async fn post(&self, frames: &[u8]) -> bool {
        loop {
            let mut taken = std::pin::pin!(self.taken.notified());
            taken.as_mut().enable();
            {
                let mut state = self.state();
                if state.is_past() || state.is_over {
                    return false;
                }
                if state.incoming.is_empty() {
                    self.note_heard();
                    state.incoming.extend_from_slice(frames);
                    self.arrived.notify_one();
                    return true;
                }
            }
            taken.await;
        }
    }

    /// A body may be read for it, if none is: one at a time, until what this gives is dropped.
    pub(crate) fn begin_post(&self) -> Option<Post<'_>> {
        let is_taken = std::mem::replace(&mut self.state().has_post, true);
        (!is_taken).then(|| Post(self))
    }

    /// Whether requests may come for it.
    pub(crate) fn is_open(&self) -> bool {
        let is_silent = self.is_silent();
        let state = self.state();
        !(is_silent || state.is_over || state.is_past())
    }

    /// Another transport is tried, if there is something to go over from.
    pub(crate) fn begin_probe(&self) -> Probe {
        let is_silent = self.is_silent();
        let mut state = self.state();
        if state.is_over {
            Probe::Taken
        } else if is_silent || state.is_past() {
            Probe::Ended
        } else if std::mem::replace(&mut state.has_probe, true) {
            Probe::Taken
        } else {
            Probe::Begun
        }
    }

    /// A poll that waits has to end, so that its client can go over.
    pub(crate) fn release_poll(&self) {
        self.state().is_probed = true;
        self.something.notify_waiters();
    }

    /// The other transport was not taken.
    pub(crate) fn end_probe(&self) {
        let mut state = self.state();
        (state.has_probe, state.is_probed) = (false, false);
    }
}

/// The end that a link has.
#[derive(Debug)]
pub(crate) struct Polling {
    exchange: Arc<Exchange>,
    over: std::cell::OnceCell<Over>,
}

/// What the session went over to.
#[derive(Debug)]
struct Over {
    socket: Socket,
    /// What came in the last body and was not read yet.
    unread: RefCell<Vec<u8>>,
    /// What no poll took.
    unsent: RefCell<Vec<u8>>,
}

impl Polling {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange, over: std::cell::OnceCell::new() }
    }

    /// Whether it went over to a socket of its own.
    pub(crate) fn is_over(&self) -> bool {
        self.over.get().is_some()
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// The socket that it went over to, if nothing stands before what is written to it.
    pub(super) fn wire(&self) -> Option<&Socket> {
        self.over.get().filter(|over| over.unsent.borrow().is_empty()).map(|over| &over.socket)
    }

    /// Goes over: what waits for a poll leaves on the socket first.
    pub(crate) fn go_over(&self, socket: Socket) {
        let mut state = self.exchange.state();
        state.is_over = true;
        let unread = RefCell::new(std::mem::take(&mut state.incoming));
        let unsent = RefCell::new(std::mem::take(&mut state.outgoing));
        let is_ended = state.is_ended;
        drop(state);
        let over = self.over.get_or_init(|| Over { socket, unread, unsent });
        // What it does not take now leaves with the next write; a socket that is gone is found by it.
        let _later = over.send();
        if is_ended {
            over.socket.end();
        }
        self.exchange.arrived.notify_one();
        self.exchange.something.notify_waiters();
        self.exchange.taken.notify_waiters();
    }

    /// Waits until there is something to read, or the client is gone. Cancel safe.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if let Some(over) = self.over.get() {
            if !over.unread.borrow().is_empty() {
                return Ok(());
            }
            return over.socket.wire_readable().await;
        }
        loop {
            {
                let state = self.exchange.state();
                // Who has ended waits until what it said last was polled.
                let heard = state.is_ended && state.outgoing.is_empty();
                if !state.incoming.is_empty() || state.is_gone || heard {
                    return Ok(());
                }
            }
            self.exchange.arrived.notified().await;
        }
    }

    /// Waits until a write takes something, or fails. Cancel safe.
    pub(super) async fn writable(&self) -> io::Result<()> {
        if let Some(over) = self.over.get() {
            return over.socket.wire_writable().await;
        }
        loop {
            {
                let state = self.exchange.state();
                if state.is_gone || state.outgoing.len() < OUT_BYTES_MAX {
                    return Ok(());
                }
            }
            self.exchange.room.notified().await;
        }
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(over) = self.over.get() {
            let mut unread = over.unread.borrow_mut();
            if unread.is_empty() {
                drop(unread);
                return over.socket.try_read(buffer);
            }
            return Ok(take_front(&mut unread, buffer));
        }
        let mut state = self.exchange.state();
        if state.incoming.is_empty() {
            let heard = state.is_ended && state.outgoing.is_empty();
            return if state.is_gone || heard { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        self.exchange.note_heard();
        let len = take_front(&mut state.incoming, buffer);
        let is_empty = state.incoming.is_empty();
        drop(state);
        if is_empty {
            self.exchange.taken.notify_waiters();
        }
        Ok(len)
    }

    /// Takes all or nothing: a frame is never cut.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(over) = self.over.get() {
            return if over.send()? {
                over.socket.try_write(bytes)
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        }
        let mut state = self.exchange.state();
        if state.is_gone || state.is_ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if state.outgoing.len() >= OUT_BYTES_MAX {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.outgoing.extend_from_slice(bytes);
        drop(state);
        self.exchange.something.notify_waiters();
        Ok(bytes.len())
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.over
            .get()
            .is_some_and(|over| !over.unsent.borrow().is_empty() || over.socket.has_unsent())
    }

    pub(super) fn try_send(&self) -> io::Result<bool> {
        match self.over.get() {
            Some(over) => Ok(over.send()? && over.socket.try_send()?),
            None => Ok(true),
        }
    }

    pub(super) fn end(&self) {
        if let Some(over) = self.over.get() {
            return over.socket.end();
        }
        self.exchange.state().is_ended = true;
        self.exchange.something.notify_waiters();
        self.exchange.taken.notify_waiters();
    }
}

impl Over {
    /// Sends what no poll took; tells whether all of it is gone.
    fn send(&self) -> io::Result<bool> {
        let mut unsent = self.unsent.borrow_mut();
        while !unsent.is_empty() {
            match self.socket.try_write(&unsent) {
                Ok(len) => drop(unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        let mut state = self.exchange.state();
        state.is_ended = true;
        state.is_gone = true;
        drop(state);
        self.exchange.something.notify_waiters();
        self.exchange.taken.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
