//! How commands ended, for who waits for it by a request.
//!
//! The newest ends are kept for a while: a command may end before its sender says that it waits.
//! Bounded in number and bytes; who asks too late is told what is known.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use fieldgate_core::{
    dialect::CommandState,
    id::{Seq, TenantId},
};
use fieldgate_store::state::CommandMoved;
use tokio::sync::mpsc;

const KEPT_MAX: usize = 8_192;
const KEPT_BYTES_MAX: usize = 8 << 20;

/// How a command ended.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) tenant: TenantId,
    pub(crate) device: String,
    pub(crate) state: CommandState,
    /// What the device said: one JSON value.
    pub(crate) payload: Option<Bytes>,
}

type Waiting = HashMap<Seq, Vec<mpsc::Sender<(Seq, Outcome)>>>;

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<(Seq, Outcome)>,
    kept_bytes: usize,
    waiting: Waiting,
}

/// Ends, and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(Mutex<Inner>);

fn byte_len(outcome: &Outcome) -> usize {
    outcome.payload.as_ref().map_or(0, Bytes::len)
}

impl Outcomes {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command moved.
    pub(crate) fn moved(&self, moved: &CommandMoved) {
        let command = &moved.command;
        if !command.state.is_end() {
            return;
        }
        let outcome = Outcome {
            tenant: command.tenant.clone(),
            device: command.device.as_str().to_owned(),
            state: command.state,
            payload: moved.payload.clone(),
        };
        let mut inner = self.inner();
        for waiting in inner.waiting.remove(&command.entry.seq).into_iter().flatten() {
            // Who waited may have gone; there is room, for each ends once.
            let _gone = waiting.try_send((command.entry.seq, outcome.clone()));
        }
        inner.kept_bytes += byte_len(&outcome);
        inner.kept.push_back((command.entry.seq, outcome));
        while inner.kept.len() > KEPT_MAX || inner.kept_bytes > KEPT_BYTES_MAX {
            let Some((_, oldest)) = inner.kept.pop_front() else { break };
            inner.kept_bytes -= byte_len(&oldest);
        }
    }

    /// How a command ended, if that is still known.
    pub(crate) fn of(&self, seq: Seq) -> Option<Outcome> {
        let inner = self.inner();
        let found = inner.kept.iter().rev().find(|(of, _)| *of == seq);
        found.map(|(_, outcome)| outcome.clone())
    }

    /// Hears of the ends of these commands, also of those that have ended.
    pub(crate) fn watch(&self, seqs: &[Seq]) -> Watch<'_> {
        let (sender, ended) = mpsc::channel(seqs.len().max(1));
        let mut inner = self.inner();
        let past: Vec<_> =
            inner.kept.iter().filter(|(seq, _)| seqs.contains(seq)).cloned().collect();
        for seq in seqs.iter().filter(|seq| past.iter().all(|(of, _)| of != *seq)) {
            inner.waiting.entry(*seq).or_default().push(sender.clone());
        }
        drop(inner);
        for outcome in past {
            let _room = sender.try_send(outcome);
        }
        Watch { outcomes: self, seqs: seqs.to_vec(), ended }
    }
}

/// Somebody who waits.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    outcomes: &'a Outcomes,
    seqs: Vec<Seq>,
    ended: mpsc::Receiver<(Seq, Outcome)>,
}

impl Watch<'_> {
    /// The next end; never, once all have been told.
    pub(crate) async fn next(&mut self) -> Option<(Seq, Outcome)> {
        self.ended.recv().await
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.ended.close();
        let mut inner = self.outcomes.inner();
        for seq in &self.seqs {
            if let Some(waiting) = inner.waiting.get_mut(seq) {
                waiting.retain(|sender| !sender.is_closed());
                if waiting.is_empty() {
                    inner.waiting.remove(seq);
                }
            }
        }
    }
}
