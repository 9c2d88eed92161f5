//! What the handles of a client and its link task share, behind one short lock.
//!
//! Invariant: the lock is never held across an await; whoever changes what the link should write
//! calls [`Shared::wake`].

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    buffer::{Frame, Outbox},
    command::{CommandUpdate, Inbox},
    error::{End, SendError},
    publish::Receipt,
    subscribe::{Leaving, Tracked},
};

pub(crate) struct State {
    pub(crate) outbox: Outbox,
    /// Acks. Bounded by what the server delivers unacknowledged.
    pub(crate) control: VecDeque<String>,
    pub(crate) tracked: Vec<Tracked>,
    /// Each filter at most once.
    pub(crate) leaving: Vec<Leaving>,
    /// By the command's `msgid`.
    pub(crate) lives: HashMap<String, mpsc::Sender<CommandUpdate>>,
    pub(crate) inbox: Inbox,
    /// Set once, when the client is over.
    pub(crate) end: Option<End>,
    pub(crate) closing: bool,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    notify: Notify,
    prefix: String,
    counter: AtomicU64,
    /// How long a send waits by default.
    pub(crate) patience: Duration,
    /// Whether every frame must be signed.
    pub(crate) signs: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(outbox: Outbox, patience: Duration, signs: bool) -> Self {
        let state = State {
            outbox,
            control: VecDeque::new(),
            tracked: Vec::new(),
            leaving: Vec::new(),
            lives: HashMap::new(),
            inbox: Inbox::default(),
            end: None,
            closing: false,
        };
        Self {
            state: Mutex::new(state),
            notify: Notify::new(),
            prefix: uuid::Uuid::now_v7().simple().to_string(),
            counter: AtomicU64::new(0),
            patience,
            signs,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// An id that no other client and no earlier message has.
    pub(crate) fn next_msgid(&self) -> String {
        format!("{}-{}", self.prefix, self.counter.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn enqueue(
        &self,
        frame: Frame,
        msgid: Option<String>,
    ) -> Result<Receipt, SendError> {
        let (done, answer) = oneshot::channel();
        let ticket = {
            let mut state = self.lock();
            if let Some(end) = &state.end {
                return Err(SendError::Ended(end.clone()));
            }
            if state.closing {
                return Err(SendError::Ended(End::Closed));
            }
            state.outbox.push(frame, msgid, done)?
        };
        self.wake();
        Ok(Receipt { ticket, answer })
    }

    pub(crate) fn control(&self, frame: String) {
        self.lock().control.push_back(frame);
        self.wake();
    }

    /// Ends everything; the first reason stands.
    pub(crate) fn finish(&self, end: End) {
        let mut state = self.lock();
        let end = state.end.get_or_insert(end).clone();
        state.outbox.end(&SendError::Ended(end.clone()));
        for tracked in &mut state.tracked {
            tracked.refuse_opening(crate::error::SubscribeError::Ended(end.clone()));
        }
        // Dropping the senders is how the streams learn of the end.
        state.tracked.clear();
        state.leaving.clear();
        state.lives.clear();
        state.inbox.end();
    }
}
