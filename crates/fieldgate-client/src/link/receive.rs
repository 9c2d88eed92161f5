//! What the server says: one frame in, and who is concerned by it gets his part.
//!
//! Absent: the socket, and what is written back; that waits in `State`. Invariant: nothing here
//! waits. What an application has no room for stays in `handoff`.

use std::{sync::Arc, time::Duration};

use fieldgate_core::topic::Topic;
use fieldgate_dialects::native::client::{self as wire, Received, ServerFrame};
use tokio::time::Instant;
use tokio_websockets::Message;

use super::{Handoff, Parting, Runner};
use crate::{
    buffer::is_temporary,
    command::{Arrival, Command, CommandUpdate},
    publish::Accepted,
    state::State,
    subscribe::{Event, Gap, Phase, Tracked, share},
};

impl Runner {
    pub(super) fn on_message(&mut self, message: &Message) -> Option<Parting> {
        if let Some((code, reason)) = message.as_close() {
            return Some(Parting::Closed { code: code.into(), reason: reason.to_owned() });
        }
        let text = message.as_text()?;
        match wire::decode_server_frame(text) {
            Ok(frame) => self.on_frame(frame),
            Err(error) => tracing::warn!(%error, "a frame of the server is unreadable"),
        }
        self.hand_out();
        None
    }

    fn on_frame(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Message(received) => self.on_received(received),
            ServerFrame::Ack { msgid: Some(msgid), seq, devices, refused_count } => {
                let accepted = Accepted { seq, msgid: msgid.clone(), devices, refused_count };
                self.shared.lock().outbox.acknowledged(&msgid, accepted);
            }
            ServerFrame::Error { code, message, reference } => {
                self.on_error(&code, message, reference.as_deref());
            }
            ServerFrame::Control { msgid, device, payload, .. } => {
                self.on_control(msgid, device, payload);
            }
            ServerFrame::Subscribed { topic, position } => {
                let mut state = self.shared.lock();
                if let Some(tracked) = state.in_phase(Phase::Asked, &topic) {
                    tracked.stands(position);
                }
            }
            ServerFrame::CaughtUp { topic, position } => {
                let mut state = self.shared.lock();
                if let Some(tracked) = state.in_phase(Phase::Replaying, &topic) {
                    tracked.caught_up(position);
                    let handoff = Handoff::Event(tracked.sender.clone(), Event::CaughtUp);
                    self.handoff.push_back(handoff);
                }
            }
            ServerFrame::Unsubscribed { topic } => {
                self.shared.lock().leaving.retain(|leaving| leaving.filter.as_str() != topic);
            }
            ServerFrame::Gap { from, to, reason } => self.on_gap(&Gap { from, to, reason }),
            ServerFrame::CommandState { reference, device, state, payload } => {
                let lives = self.shared.lock().lives.get(&reference).cloned();
                if let Some(life) = lives {
                    // A broadcast's follower that does not keep up misses steps, nobody else does.
                    let _ = life.try_send(CommandUpdate { device, state, payload });
                }
            }
            ServerFrame::Reconnect { after_ms } => {
                self.reconnect_after = Some(Duration::from_millis(after_ms));
            }
            ServerFrame::Auth { .. }
            | ServerFrame::Ack { .. }
            | ServerFrame::Pong
            | ServerFrame::Other
            | _ => (),
        }
    }

    fn on_received(&mut self, received: Box<Received>) {
        let mut state = self.shared.lock();
        if received.qos > 0 && !received.msgid.is_empty() {
            state.control.push_back(wire::encode_ack(&received.msgid));
        }
        let Ok(topic) = received.topic.parse::<Topic>() else { return };
        let takers: Vec<_> = state
            .tracked
            .iter_mut()
            .filter_map(|tracked| tracked.takes(&received, &topic).then(|| tracked.sender.clone()))
            .collect();
        drop(state);
        let message = share(received);
        for taker in takers {
            self.handoff.push_back(Handoff::Event(taker, Event::Message(message.clone())));
        }
    }

    /// A refusal names the message or the subscription that it is of.
    fn on_error(&mut self, code: &str, message: String, reference: Option<&str>) {
        let now = Instant::now();
        let mut state = self.shared.lock();
        if let Some(reference) = reference
            && state.outbox.refused(reference, code, &message, now)
        {
            return;
        }
        let again = now + state.outbox.repeat();
        if reference.is_some_and(|reference| state.leave_refused(reference, code, again)) {
            return;
        }
        let named = |t: &Tracked| t.phase == Phase::Asked && Some(&*t.reference) == reference;
        let Some(at) = state.tracked.iter().position(named) else {
            tracing::warn!(code, message, "the server refused something");
            return;
        };
        if is_temporary(code) && state.tracked.get_mut(at).is_some_and(|t| t.postpone(again)) {
            return;
        }
        let tracked = state.tracked.swap_remove(at);
        drop(state);
        if let Some((reader, event)) = tracked.refuse(code.to_owned(), message) {
            self.handoff.push_back(Handoff::Event(reader, event));
        }
    }

    fn on_control(&mut self, msgid: String, device: String, payload: String) {
        let mut state = self.shared.lock();
        match state.inbox.arrives(&msgid) {
            Arrival::Nothing => (),
            Arrival::Acknowledge => state.control.push_back(wire::encode_ack(&msgid)),
            Arrival::GiveTo(taker) => {
                drop(state);
                let command = Command { shared: Arc::clone(&self.shared), msgid, device, payload };
                self.handoff.push_back(Handoff::Command(taker, command));
            }
        }
    }

    /// A gap names no subscription: one of a slow receiver is the live ones', any other belongs to a
    /// replay if one runs, else to all.
    fn on_gap(&mut self, gap: &Gap) {
        let mut state = self.shared.lock();
        let replays = state.tracked.iter().any(|t| t.phase == Phase::Replaying);
        let of_replay = replays && gap.reason != "overflow";
        for tracked in &mut state.tracked {
            let concerned = match tracked.phase {
                Phase::Replaying => of_replay,
                Phase::Live { .. } => !of_replay,
                Phase::Unsent | Phase::Asked => false,
            };
            if concerned {
                tracked.skips(gap.to.parse().ok());
                let event = Event::Gap(gap.clone());
                self.handoff.push_back(Handoff::Event(tracked.sender.clone(), event));
            }
        }
    }
}

impl State {
    /// The subscription to this filter, if it is in this phase.
    fn in_phase(&mut self, phase: Phase, topic: &str) -> Option<&mut Tracked> {
        self.tracked.iter_mut().find(|t| t.phase == phase && t.ask.filter.as_str() == topic)
    }

    /// A refusal came: false if it is not of a filter that is being left. One for good says that there
    /// is nothing to leave.
    fn leave_refused(&mut self, reference: &str, code: &str, again: Instant) -> bool {
        let Some(leaving) = self.leaving.iter_mut().find(|l| l.is_named(reference)) else {
            return false;
        };
        if is_temporary(code) {
            leaving.postpone(again);
        } else {
            self.leaving.retain(|l| !l.is_named(reference));
        }
        true
    }
}
