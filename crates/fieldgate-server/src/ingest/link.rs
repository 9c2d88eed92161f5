//! The WebSocket of a source: it sends arrays and hears nothing, so what cannot be taken now waits, and
//! with it the reading.
//!
//! Runs on the link's worker. A frame that has to wait for the log, for a rate, or for its devices is
//! tried again as a whole.

use std::{rc::Rc, sync::atomic::Ordering};

use fieldgate_core::{access::Principal, fault::Fault, id::Seq};
use fieldgate_dialects::{thingsee, ws::Event};
use fieldgate_store::AppendError;

use super::{bring, limits_of, message_count, set_aside, take};
use crate::{
    asks::Outcome,
    fabric::{Shared, append_fault, now},
    hub::{Hub, Then},
    link::Link,
};

/// Deals with a data frame of a source.
pub(crate) fn on_frame(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    frame: &Event<'_>,
) -> Outcome {
    let (decoded, byte_len) = match *frame {
        Event::Text(text) => (thingsee::decode_text(text, &limits_of(&hub.shared)), text.len()),
        Event::Binary(bytes) => {
            (thingsee::decode_binary(bytes, &limits_of(&hub.shared)), bytes.len())
        }
        Event::Ping(_) | Event::Pong(_) | Event::Close { .. } => return Outcome::Done,
    };
    let count = decoded.as_ref().map_or(1, message_count);
    // A frame that comes back to be tried again is paid for.
    if !link.paid.get() {
        let sender = link.sender(hub, principal);
        if hub.shared.throttle.take(sender, count as u64, byte_len as u64).is_err() {
            return Outcome::Full;
        }
        link.paid.set(true);
        hub.count_received();
    }
    let outcome = match decoded {
        Ok(elements) => on_elements(hub, link, principal, elements),
        Err(fault) => {
            refuse(&hub.shared, principal, &[(0, fault)]);
            // Who sends what is no frame at all is not what we take it for.
            link.count_error();
            Outcome::Done
        }
    };
    if outcome == Outcome::Done {
        link.paid.set(false);
        link.brought.take();
    }
    outcome
}

fn on_elements(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    principal: &Principal,
    elements: thingsee::Elements,
) -> Outcome {
    let (shared, count) = (&hub.shared, elements.len());
    let brought = link.brought.take();
    if brought.as_ref().is_some_and(|asked| !shared.is_applied_for(hub.number, asked.until)) {
        *link.brought.borrow_mut() = brought;
        return Outcome::Full;
    }
    let taken = if let Some(brought) = brought {
        let taken = take(shared, principal, elements, Some(&brought));
        *link.brought.borrow_mut() = Some(brought);
        taken
    } else {
        match bring(shared, principal, &elements) {
            Ok(Some(asked)) => {
                *link.brought.borrow_mut() = Some(Box::new(asked));
                return Outcome::Full;
            }
            Ok(None) => take(shared, principal, elements, None),
            Err(error) => Err(error),
        }
    };
    match taken {
        Ok(taken) => {
            link.taken.set(link.taken.get().max(taken.last));
            let any = u64::from(!taken.refused.is_empty());
            shared.stats.refused.fetch_add(any, Ordering::Relaxed);
            Outcome::Done
        }
        // It hears of no error: what is not read waits where it is.
        Err(AppendError::Full | AppendError::Unavailable(_)) => Outcome::Full,
        Err(error) => {
            let fault = append_fault(&error);
            let refused: Vec<_> = (0..count).map(|at| (at, fault.clone())).collect();
            refuse(shared, principal, &refused);
            Outcome::Done
        }
    }
}

/// Answers a ping: of a source once what stood of its newest array is on stable storage, and never if
/// it was refused. What comes behind the ping is read meanwhile. One pong an array waits at most: a
/// ping behind another one, with nothing between them, is read when the first was answered.
pub(crate) fn on_ping(hub: &Hub, link: &Rc<Link>, payload: &[u8]) -> Outcome {
    let taken = link.taken.get();
    if taken == Seq(0) {
        hub.pong(link, payload);
        return Outcome::Done;
    }
    let is_open = taken > hub.shared.log.durable();
    if is_open && link.ponged.replace(taken) == taken {
        return Outcome::Full;
    }
    hub.when_durable(link, taken.0..=taken.0, Then::Pong(payload.into()));
    Outcome::Done
}

fn refuse(shared: &Shared, principal: &Principal, refused: &[(usize, Fault)]) {
    shared.stats.refused.fetch_add(1, Ordering::Relaxed);
    set_aside(shared, principal, refused, now());
}
