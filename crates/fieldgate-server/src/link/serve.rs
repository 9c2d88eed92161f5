//! The task of one connection: it reads, obeys, and drains what the socket could not take at once.
//!
//! Invariant: of two links of one device the older has ended before the younger is looked at.

use std::{
    future::{self, Future},
    io,
    ops::ControlFlow,
    rc::Rc,
    sync::atomic::Ordering,
    time::Duration,
};

use fieldgate_core::close::CloseReason;
use fieldgate_dialects::{
    wire::Form,
    ws::{self, Decoder},
};

use super::Link;
use crate::{
    asks::{self, Inbound, Outcome},
    commands, deconz,
    fabric::Shared,
    hub::Hub,
    share::Held,
    socketio::{self, Session},
    subscriptions, thingsee_out,
    worker::Handover,
};

/// How long a peer may take to read the close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How long a link does not read whose frame is too much for now, or has to wait, before that is looked
/// at again.
const INPUT_WAIT: Duration = Duration::from_millis(20);
/// So many frames of one link are obeyed before the rest of its worker has a turn.
const TURN_FRAMES: u32 = 128;
/// How long the older link of a device may take to end before the newer one is served all the same.
pub(crate) const TAKEOVER_WAIT: Duration = Duration::from_secs(1);

fn ws_limits(shared: &Shared, authenticated: bool) -> ws::Limits {
    let limits = &shared.config.limits;
    let frame_bytes_max = if authenticated {
        limits.frame_bytes_max
    } else {
        limits.unauthenticated_frame_bytes_max.min(limits.frame_bytes_max)
    };
    ws::Limits { frame_bytes_max, message_bytes_max: frame_bytes_max, fragment_count_max: 1_024 }
}

/// Takes a link out of its hub, also when its task panics.
struct Entered<'a>(&'a Hub, &'a Rc<Link>);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.remove_link(self.1);
        if let Some(session) = &self.1.session {
            session.end_second();
        }
        if !std::thread::panicking() {
            return;
        }
        // Nobody drains it any more: whoever waits for room goes.
        self.1.close(CloseReason::Internal);
        if let Some(carrier) = self.1.carrier() {
            carrier.close(CloseReason::Internal);
        } else {
            self.0.shared.stats.count_close(CloseReason::Internal);
            drop(self.1.permit.take());
        }
    }
}

/// Serves one connection until it ends.
///
/// There are many of these at rest, and a future has room for all that it may ever wait for: what
/// happens seldom is boxed.
pub(crate) async fn run(hub: Rc<Hub>, handover: Box<Handover>) {
    let Handover { sink, read_ahead, form, principal, peer, permit, stream, session } = *handover;
    let Ok(socket) = sink.into_socket() else { return };
    let session = session.map(|handshake| Box::new(Session::new(*handshake)));
    let link = Rc::new(Link::new(&hub, (socket, form), (peer, Some(permit)), session));
    hub.add_link(&link);
    let entered = Entered(&hub, &link);
    // Even empty it would keep the HTTP layer's read buffer for as long as the connection lives.
    let first = read_ahead.to_vec();
    drop(read_ahead);
    if hub.shared.draining.load(Ordering::SeqCst) {
        link.close(CloseReason::Restart);
    }
    if link.session.is_some() {
        socketio::open(&hub, &link);
    }
    if let Some(principal) = principal {
        asks::welcome(&hub, &link, principal);
    }
    if let Some(mut ask) = stream {
        subscriptions::open_stream(&hub, &link, &ask);
        if let Some(following) = ask.following.take() {
            thingsee_out::follow(&hub, &link, following);
        }
    }
    if form == Form::Deconz && !link.is_closing() {
        deconz::listen(&hub, &link);
    }
    let reason = serve(&hub, &link, first).await;
    // Before the close is said: who hears it finds it counted, and whoever takes over need not wait
    // until the peer has heard it.
    hub.shared.stats.count_close(reason);
    drop(entered);
    Box::pin(finish(&hub, &link, reason)).await;
    tracing::debug!(link = link.id, reason = reason.label(), "link ended");
    drop(link.permit.take());
}

/// Serves the second namespace of a session, which has the socket of the first one: what ends one of
/// them ends both.
pub(crate) async fn run_within(hub: Rc<Hub>, link: Rc<Link>) {
    let entered = Entered(&hub, &link);
    let reason = serve(&hub, &link, Vec::new()).await;
    drop(entered);
    Box::pin(finish(&hub, &link, reason)).await;
    tracing::debug!(link = link.id, reason = reason.label(), "namespace ended");
    if let Some(carrier) = link.carrier() {
        carrier.close(reason);
    }
}

async fn serve(hub: &Rc<Hub>, link: &Rc<Link>, mut read_ahead: Vec<u8>) -> CloseReason {
    let mut is_known = link.principal.borrow().is_some();
    let mut decoder = Decoder::server(ws_limits(&hub.shared, is_known));
    if is_known {
        Box::pin(take_turn(hub, link)).await;
    }
    let mut inbound = Vec::new();
    let mut held = Held::new(&hub.shared.inputs);
    hub.look_at_clock();
    decode(hub, link, &mut decoder, &mut read_ahead, &mut inbound);
    drop(read_ahead);
    loop {
        #[cfg(test)]
        assert!(!link.breaks.get(), "as asked");
        if !inbound.is_empty() {
            Box::pin(handle(hub, link, std::mem::take(&mut inbound))).await;
        }
        if let Some(session) = &link.session {
            let anonymous = link.principal.borrow().is_none();
            socketio::carry(hub, link, session);
            if anonymous && link.principal.borrow().is_some() {
                Box::pin(take_turn(hub, link)).await;
            }
        }
        if !is_known && link.is_known() {
            is_known = true;
            decoder.set_limits(ws_limits(&hub.shared, true));
        }
        hub.flush();
        if let Some(reason) = link.closing.get() {
            return reason;
        }
        let waiting = link.has_unsent();
        let waiting_bytes = link.session.as_ref().map_or(0, |session| session.waiting_bytes());
        held.set(decoder.buffered_bytes() + waiting_bytes);
        if held.is_above(usize::MAX) || link.outbox.is_flooded() {
            pause(hub, link, future::pending()).await;
            continue;
        }
        tokio::select! {
            biased;
            () = link.notify.notified() => (),
            // Reading goes before draining: a flood then starves only its own sender, where the
            // other order would let our own traffic hide the peer's heartbeats.
            ready = link.socket.readable() => {
                if ready.is_err() || !read(hub, link, &mut decoder, &mut inbound) {
                    link.close(CloseReason::PeerClosed);
                }
            }
            ready = link.socket.writable(), if waiting => {
                if ready.is_err() || link.drain(hub).is_err() {
                    link.close(CloseReason::PeerClosed);
                }
            }
        }
    }
}

impl Link {
    /// What was obeyed just now took as long as many frames: the rest of the worker has a turn.
    pub(crate) fn end_turn(&self) {
        self.turn_frames.set(TURN_FRAMES);
    }
}

/// Does everything but read, until something has moved or the link ends, for a while at most.
async fn pause(hub: &Hub, link: &Link, moved: impl Future<Output = ()>) {
    let drained = async {
        while !link.is_closing() {
            tokio::select! {
                biased;
                // Whether there is something to send may be another now.
                () = link.notify.notified() => (),
                ready = link.socket.writable(), if link.has_unsent() => {
                    if ready.is_err() || link.drain(hub).is_err() {
                        link.close(CloseReason::PeerClosed);
                    }
                }
            }
        }
    };
    let wait = async {
        tokio::select! {
            biased;
            () = drained => (),
            () = moved => (),
        }
    };
    // Boxed, so that a link at rest has no room for it.
    let _timed_out = Box::pin(tokio::time::timeout(INPUT_WAIT, wait)).await;
}

/// Reads once into the worker's scratch, and obeys what can be obeyed there; false at the end of the
/// stream.
fn read(hub: &Rc<Hub>, link: &Rc<Link>, decoder: &mut Decoder, inbound: &mut Vec<Inbound>) -> bool {
    let mut scratch = hub.scratch.borrow_mut();
    match link.socket.try_read(&mut scratch) {
        Ok(0) => false,
        Ok(len) => {
            link.heard_ms.set(link.age_ms_at(hub.look_at_clock().instant));
            decode(hub, link, decoder, scratch.get_mut(..len).unwrap_or_default(), inbound);
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Obeys frames where they lie; the first that has to wait is kept, and those behind it.
fn decode(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    decoder: &mut Decoder,
    bytes: &mut [u8],
    inbound: &mut Vec<Inbound>,
) {
    let fed = decoder.feed(bytes, &mut |event| {
        let frames = link.turn_frames.get() + 1;
        let now = inbound.is_empty() && frames < TURN_FRAMES && link.served.get().is_some();
        if now && !link.is_closing() && !link.outbox.is_flooded() {
            link.turn_frames.set(frames);
            if asks::on_frame(hub, link, &event) == Outcome::Done {
                return ControlFlow::Continue(());
            }
        }
        inbound.push(Inbound::of(&event));
        ControlFlow::Continue(())
    });
    if let Err(error) = fed {
        inbound.push(Inbound::Broken(error.close_reason()));
    }
}

/// Waits until the older links of the same device have ended, then offers what waits for it.
///
/// Until then nothing of this link is looked at: what the older ones sent comes first in the log.
async fn take_turn(hub: &Rc<Hub>, link: &Rc<Link>) {
    let predecessors = link.predecessors.take();
    if !predecessors.is_empty() {
        hub.flush();
        let all = async {
            for before in &predecessors {
                before.ended.cancelled().await;
            }
        };
        let closing = async {
            while !link.is_closing() {
                link.notify.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = closing => (),
            () = all => (),
            () = tokio::time::sleep(TAKEOVER_WAIT) => {
                tracing::warn!(link = link.id, "an older link of the device did not end in time");
            }
        }
    }
    if !link.is_closing() && !link.is_stream() {
        commands::begin(hub, link);
    }
}

/// Obeys what was read, in order; waits where the log is full, which pauses reading.
async fn handle(hub: &Rc<Hub>, link: &Rc<Link>, inbound: Vec<Inbound>) {
    for frame in inbound {
        link.turn_frames.set(link.turn_frames.get() + 1);
        if link.turn_frames.get() >= TURN_FRAMES {
            // A socket that is always readable would never let go of the thread.
            link.turn_frames.set(0);
            hub.flush();
            tokio::task::yield_now().await;
        }
        // Who does not read its answers gets no more of them.
        while link.outbox.is_flooded() && !link.is_closing() {
            hub.flush();
            pause(hub, link, future::pending()).await;
        }
        let anonymous = link.principal.borrow().is_none();
        while !link.is_closing() {
            hub.look_at_clock();
            let outcome = match frame.as_event() {
                Ok(event) => asks::on_frame(hub, link, &event),
                Err(reason) => {
                    link.close(reason);
                    Outcome::Done
                }
            };
            match outcome {
                Outcome::Done => {
                    if anonymous && link.principal.borrow().is_some() {
                        take_turn(hub, link).await;
                    }
                    break;
                }
                Outcome::Full => {
                    // Who is not read is not silent.
                    link.heard_ms.set(link.age_ms());
                    link.socket.note_heard();
                    if let Some(session) = &link.session {
                        socketio::carry(hub, link, session);
                    }
                    hub.flush();
                    pause(hub, link, hub.space.notified()).await;
                }
            }
        }
    }
}

/// Sends what is left and the close frame, and gives the peer a moment to read it.
async fn finish(hub: &Hub, link: &Link, reason: CloseReason) {
    if reason == CloseReason::PeerClosed {
        // Its own close is answered, if there is still somebody and the socket takes it.
        let _gone = link.drain(hub);
        link.socket.end();
        return;
    }
    socketio::say_farewell(link, reason);
    if link.carrier().is_none() {
        link.outbox.wait(link.form.get().close_frame(reason));
    }
    let deadline = tokio::time::Instant::now() + CLOSE_WAIT;
    while link.has_unsent() {
        let writable = tokio::time::timeout_at(deadline, link.socket.writable()).await;
        if !matches!(writable, Ok(Ok(()))) || link.drain(hub).is_err() {
            return;
        }
    }
    link.socket.end();
    if link.carrier().is_some() {
        return;
    }
    // Until the peer closes: a socket closed with unread bytes would reset, and take the close
    // frame with it.
    loop {
        let readable = tokio::time::timeout_at(deadline, link.socket.readable()).await;
        let read = |()| link.socket.try_read(&mut hub.scratch.borrow_mut());
        match readable.map(|ready| ready.and_then(read)) {
            Ok(Ok(0)) | Err(_) => return,
            Ok(Ok(_)) => (),
            Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => (),
            Ok(Err(_)) => return,
        }
    }
}

#[cfg(test)]
mod tests;
