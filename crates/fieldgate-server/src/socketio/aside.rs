//! What the first namespace of a connection waits with, so that the second one goes on: its messages lie
//! aside where one of them has to wait for another system, or for the rates of its principal.
//!
//! In: messages in their order, of the link that has the socket. Out: the same, in that order. Absent: the
//! second namespace, whose messages wait on its own side (`sink/within.rs`). Invariant: at most
//! [`BYTES_MAX`] bytes and one message lie here; above that the connection is not read.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

use fieldgate_core::close::CloseReason;
use fieldgate_dialects::socketio::head;

use super::{Message, Session, deal};
use crate::{asks::Outcome, hub::Hub, link::Link};

/// So many bytes may lie aside.
pub(super) const BYTES_MAX: usize = 64 * 1024;
/// What one costs beside its bytes.
const MESSAGE_BYTES: usize = size_of::<Kept>();
/// So many are dealt with before the rest of the worker has a turn.
const AT_ONCE: usize = 64;
/// How long it takes at most until the first of them is tried again.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
enum Kept {
    Text(String),
    Binary(Vec<u8>),
}

impl Kept {
    const fn byte_len(&self) -> usize {
        MESSAGE_BYTES
            + match self {
                Self::Text(text) => text.len(),
                Self::Binary(bytes) => bytes.len(),
            }
    }

    fn as_message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

/// The messages that lie aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    kept: RefCell<VecDeque<Kept>>,
    byte_len: Cell<usize>,
    /// So many binary messages belong to the last of them, and follow.
    binary_count: Cell<usize>,
    /// Whether a task wakes the link.
    is_waking: Cell<bool>,
}

impl Aside {
    pub(super) fn is_empty(&self) -> bool {
        self.kept.borrow().is_empty()
    }

    pub(super) const fn byte_len(&self) -> usize {
        self.byte_len.get()
    }

    pub(super) const fn awaits_bytes(&self) -> bool {
        self.binary_count.get() > 0
    }

    fn push(&self, kept: Kept) {
        self.byte_len.set(self.byte_len.get() + kept.byte_len());
        self.kept.borrow_mut().push_back(kept);
    }

    fn pop(&self) -> Option<Kept> {
        let mut all = self.kept.borrow_mut();
        let kept = all.pop_front()?;
        self.byte_len.set(self.byte_len.get() - kept.byte_len());
        if all.is_empty() {
            // Even empty it keeps the room that it had.
            *all = VecDeque::new();
        }
        Some(kept)
    }

    fn put_back(&self, kept: Kept) {
        self.byte_len.set(self.byte_len.get() + kept.byte_len());
        self.kept.borrow_mut().push_front(kept);
    }
}

/// Deals with a message of the first namespace, or lays it aside; [`Outcome::Full`] where there is no room
/// for it. What is of no namespace with rooms, or joins the other one, waits for nothing that lies here.
pub(super) fn take(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    session: &Session,
    message: Message<'_>,
) -> Outcome {
    let aside = &session.aside;
    if link.carrier().is_some() {
        // The second one: what it waits with lies between the two.
        return deal(hub, link, session, message);
    }
    if aside.is_empty() {
        let missing_count = session.missing_count();
        if deal(hub, link, session, message) == Outcome::Done {
            return Outcome::Done;
        }
        aside.binary_count.set(missing_count);
    } else if let Message::Text(text) = message {
        if aside.awaits_bytes() {
            link.close(CloseReason::ProtocolError);
            return Outcome::Done;
        }
        if is_elsewhere(session, text) {
            // What the first of those aside has paid for is not paid again, and pays for nothing else.
            let paid = link.paid.replace(false);
            let outcome = deal(hub, link, session, message);
            link.paid.set(paid);
            if outcome == Outcome::Done {
                return Outcome::Done;
            }
        }
    }
    lay(hub, link, session, message)
}

/// Whether a packet is whole, and none of the first namespace, whose order it is not in.
fn is_elsewhere(session: &Session, text: &str) -> bool {
    let state = session.state.borrow();
    let own = state.joined.as_ref().map(|joined| joined.namespace.name());
    let is_other = |text| {
        head(text).is_ok_and(|(head, _)| head.attachment_count == 0 && Some(head.namespace) != own)
    };
    state.attaching.is_none() && is_other(text)
}

fn lay(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, message: Message<'_>) -> Outcome {
    let aside = &session.aside;
    let (kept, binary_count) = match message {
        Message::Text(text) => {
            let Ok((head, _)) = head(text) else {
                link.close(CloseReason::ProtocolError);
                return Outcome::Done;
            };
            (Kept::Text(text.to_owned()), head.attachment_count)
        }
        Message::Binary(bytes) => {
            let Some(binary_count) = aside.binary_count.get().checked_sub(1) else {
                link.close(CloseReason::ProtocolError);
                return Outcome::Done;
            };
            (Kept::Binary(bytes.to_vec()), binary_count)
        }
    };
    if !aside.is_empty() && aside.byte_len() + kept.byte_len() > BYTES_MAX {
        return Outcome::Full;
    }
    aside.binary_count.set(binary_count);
    aside.push(kept);
    wake_later(hub, link, session);
    Outcome::Done
}

/// Goes on with what lies aside, as far as it can be dealt with now.
pub(super) fn go_on(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session) {
    let aside = &session.aside;
    for _ in 0..AT_ONCE {
        if link.is_closing() || link.outbox.is_flooded() {
            break;
        }
        let Some(kept) = aside.pop() else { return };
        if deal(hub, link, session, kept.as_message()) == Outcome::Full {
            aside.put_back(kept);
            break;
        }
    }
    if !aside.is_empty() {
        wake_later(hub, link, session);
    }
}

/// Has a link look again, once there is room in the log, an answer, or after a moment.
fn wake_later(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session) {
    if session.aside.is_waking.replace(true) {
        return;
    }
    let (hub, link) = (Rc::clone(hub), Rc::clone(link));
    tokio::task::spawn_local(async move {
        let _timed_out = tokio::time::timeout(LOOK, hub.space.notified()).await;
        if let Some(session) = &link.session {
            session.aside.is_waking.set(false);
        }
        link.wake();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_aside_comes_in_its_order_and_is_counted_down_to_nothing() {
        let aside = Aside::default();
        aside.push(Kept::Text("4one".to_owned()));
        aside.push(Kept::Binary(vec![1, 2]));
        assert_eq!(aside.byte_len(), 2 * MESSAGE_BYTES + 6);
        let first = aside.pop().unwrap();
        assert!(matches!(first.as_message(), Message::Text("4one")));
        aside.put_back(first);
        assert!(matches!(aside.pop(), Some(Kept::Text(_))));
        assert!(matches!(aside.pop(), Some(Kept::Binary(_))) && aside.pop().is_none());
        assert_eq!((aside.byte_len(), aside.kept.borrow().capacity()), (0, 0));
    }
}
