//! Commands, both sides: an application sends one and follows its life; a device takes and answers.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fieldgate_dialects::native::client as wire;
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, time::Instant};

use crate::{
    buffer::Frame,
    error::SendError,
    payload::Payload,
    publish::{Accepted, Receipt},
    state::Shared,
};

/// Steps of one command that may wait for [`CommandLife::next`]; more of a broadcast's are dropped.
const UPDATES_MAX: usize = 1_024;
/// Commands that may wait for [`Commands::next`] before the client stops reading its socket.
const COMMANDS_MAX: usize = 64;
/// Ids of commands remembered, so that each is given out once.
const GIVEN_MAX: usize = 1_024;

/// One step in the life of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandUpdate {
    /// Whose.
    pub device: String,
    /// `queued`, `sent`, `acknowledged`, `completed`, `failed`, `expired` or `cancelled`.
    pub state: String,
    /// What the device said: one JSON value.
    pub payload: Option<String>,
}

impl CommandUpdate {
    /// Tells whether nothing comes after this state.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "expired" | "cancelled")
    }
}

/// A command that is being put together.
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `wait`"]
pub struct CommandRequest {
    shared: Arc<Shared>,
    to: String,
    payload: Payload,
    expires: Option<u64>,
    msgid: Option<String>,
}

impl CommandRequest {
    pub(crate) fn new(shared: &Arc<Shared>, to: &str, payload: Payload) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, to: to.to_owned(), payload, expires: None, msgid: None }
    }

    /// When it becomes worthless, in Unix ms; an hour from now unless told otherwise.
    pub const fn expires(mut self, unix_ms: u64) -> Self {
        self.expires = Some(unix_ms);
        self
    }

    /// The id under which the server recognises repeats; else one is made.
    pub fn msgid(mut self, msgid: impl Into<String>) -> Self {
        self.msgid = Some(msgid.into());
        self
    }

    /// Sends it, and returns once it is durable in the device's inbox.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub async fn send(self) -> Result<CommandLife, SendError> {
        let msgid = self.msgid.unwrap_or_else(|| self.shared.next_msgid());
        let payload = self.payload.into_json().map_err(SendError::Payload)?;
        let frame = Frame::text(wire::encode_command(&self.to, &payload, &msgid, self.expires));
        let (sender, updates) = mpsc::channel(UPDATES_MAX);
        let shared = self.shared;
        shared.lock().lives.insert(msgid.clone(), sender);
        let mut life = CommandLife { shared, msgid, updates, accepted: Accepted::default() };
        let receipt = life.shared.enqueue(frame, Some(life.msgid.clone()))?;
        let ticket = receipt.ticket;
        life.accepted = match tokio::time::timeout(life.shared.patience, receipt).await {
            Ok(answer) => answer?,
            Err(_) => {
                let last = life.shared.lock().outbox.withdraw(ticket);
                return Err(SendError::Unacknowledged { last });
            }
        };
        Ok(life)
    }

    /// Sends it to one device and follows it to its end, or for as long as `limit`.
    ///
    /// # Errors
    ///
    /// [`SendError`], if it was not taken.
    pub async fn wait(self, limit: Duration) -> Result<Outcome, SendError> {
        let deadline = Instant::now() + limit;
        let mut life = self.send().await?;
        let mut outcome = Outcome {
            msgid: life.msgid.clone(),
            seq: life.accepted.seq,
            state: "queued".to_owned(),
            payload: None,
            is_end: false,
        };
        while let Ok(Some(update)) = tokio::time::timeout_at(deadline, life.next()).await {
            outcome.is_end = update.is_end();
            outcome.state = update.state;
            outcome.payload = update.payload;
            if outcome.is_end {
                break;
            }
        }
        Ok(outcome)
    }
}

/// How far a command came while somebody waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its id.
    pub msgid: String,
    /// Its number in the log.
    pub seq: u64,
    /// Its last known state.
    pub state: String,
    /// What the device said: one JSON value.
    pub payload: Option<String>,
    /// Whether it ended.
    pub is_end: bool,
}

/// The life of a command that was taken.
#[derive(Debug)]
pub struct CommandLife {
    shared: Arc<Shared>,
    msgid: String,
    updates: mpsc::Receiver<CommandUpdate>,
    accepted: Accepted,
}

impl CommandLife {
    /// The next step, of any of its devices; none once the client ended. Cancel safe.
    pub async fn next(&mut self) -> Option<CommandUpdate> {
        self.updates.recv().await
    }

    /// The server's receipt: number and count of devices.
    #[must_use]
    pub const fn accepted(&self) -> &Accepted {
        &self.accepted
    }
}

impl Drop for CommandLife {
    fn drop(&mut self) {
        self.shared.lock().lives.remove(&self.msgid);
    }
}

/// Who takes the commands for this device, and which of them were taken.
///
/// Invariant: what is acknowledged was given out; what waits for somebody who is gone is forgotten,
/// so it comes again.
#[derive(Default)]
pub(crate) struct Inbox {
    taker: Option<mpsc::Sender<Command>>,
    /// Ids of those that wait for the taker.
    waiting: HashSet<String>,
    given: HashSet<String>,
    given_order: VecDeque<String>,
}

/// What is to be done about a command that came.
pub(crate) enum Arrival {
    /// It waits already, or nobody takes commands: without an acknowledgement it comes again.
    Nothing,
    /// It was given out: the acknowledgement was lost.
    Acknowledge,
    /// It is for this one.
    GiveTo(mpsc::Sender<Command>),
}

impl Inbox {
    /// A command came, perhaps again.
    pub(crate) fn arrives(&mut self, msgid: &str) -> Arrival {
        if self.given.contains(msgid) {
            return Arrival::Acknowledge;
        }
        match self.taker.as_ref().filter(|taker| !taker.is_closed()).cloned() {
            None => {
                self.end();
                Arrival::Nothing
            }
            Some(_) if !self.waiting.insert(msgid.to_owned()) => Arrival::Nothing,
            Some(taker) => Arrival::GiveTo(taker),
        }
    }

    /// From now on this one takes commands.
    fn take_over(&mut self, taker: mpsc::Sender<Command>) {
        self.end();
        self.taker = Some(taker);
    }

    /// Somebody takes this one; says whether it is the first time.
    fn give(&mut self, msgid: &str) -> bool {
        self.waiting.remove(msgid);
        if !self.given.insert(msgid.to_owned()) {
            return false;
        }
        self.given_order.push_back(msgid.to_owned());
        if self.given_order.len() > GIVEN_MAX
            && let Some(oldest) = self.given_order.pop_front()
        {
            self.given.remove(&oldest);
        }
        true
    }

    /// Nobody takes commands any more.
    pub(crate) fn end(&mut self) {
        self.taker = None;
        self.waiting.clear();
    }
}

/// The commands for this device. Those that wait when it is dropped are not acknowledged: they come
/// again with the next connection.
#[derive(Debug)]
pub struct Commands {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
}

impl Commands {
    pub(crate) fn open(shared: &Arc<Shared>) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let mut state = shared.lock();
        if state.end.is_none() {
            state.inbox.take_over(sender);
        }
        drop(state);
        Self { shared: Arc::clone(shared), commands }
    }

    /// The next command, acknowledged by taking it; none once the client ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Command> {
        loop {
            let command = self.commands.recv().await?;
            // One that took over may have had it from a later connection.
            let is_first = self.shared.lock().inbox.give(&command.msgid);
            self.shared.control(wire::encode_ack(&command.msgid));
            if is_first {
                return Some(command);
            }
        }
    }
}

/// A command for this device. Each is handed out once, however often it was sent.
#[derive(Debug)]
pub struct Command {
    pub(crate) shared: Arc<Shared>,
    /// Its position.
    pub msgid: String,
    /// For whom: this device, or one that it is a gateway for.
    pub device: String,
    /// What to do: one JSON value.
    pub payload: String,
}

impl Command {
    /// Reads the payload.
    ///
    /// # Errors
    ///
    /// The parser's, if it is not of this form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.payload)
    }

    /// Says that it was done. The answer is repeated until the server has it.
    ///
    /// # Errors
    ///
    /// As [`crate::Publish::enqueue`].
    pub fn done(&self, payload: impl Into<Payload>) -> Result<Receipt, SendError> {
        self.reply(true, payload.into())
    }

    /// Says that it could not be done, and why.
    ///
    /// # Errors
    ///
    /// As [`crate::Publish::enqueue`].
    pub fn failed(&self, payload: impl Into<Payload>) -> Result<Receipt, SendError> {
        self.reply(false, payload.into())
    }

    fn reply(&self, ok: bool, payload: Payload) -> Result<Receipt, SendError> {
        let payload = payload.into_json().map_err(SendError::Payload)?;
        let frame = Frame::text(wire::encode_reply(&self.msgid, ok, Some(&payload)));
        self.shared.enqueue(frame, Some(self.msgid.clone()))
    }
}
