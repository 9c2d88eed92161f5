//! Integrations while the gateway runs: who delivers learns here that one changed, and says here how
//! it does.

use std::{
    fmt::Debug,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use fieldgate_core::id::{Seq, TenantId, UnixMs};
use fieldgate_store::state::Integrated;
use tokio::sync::watch;

/// What is known of them beside the registry.
#[derive(Debug, Default)]
pub(crate) struct Integrations {
    /// Moves with each change: whoever follows it reads the registry again
    /// ([`fieldgate_store::state::State::all_integrations`]).
    pub(crate) changes: watch::Sender<()>,
    /// Who delivers; nobody on a folder that no gateway has open.
    pub(crate) deliverer: OnceLock<Arc<dyn Deliverer>>,
}

impl Integrations {
    /// The registry has an integration that is new, is to do something else, or is gone.
    pub(crate) fn changed(&self) {
        self.changes.send_replace(());
    }

    /// How a delivery does, if it is at work.
    pub(crate) fn doing(&self, tenant: &TenantId, name: &str) -> Option<Doing> {
        self.deliverer.get()?.doing(tenant, name)
    }
}

/// How an integration does, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It works, or there is nothing to do.
    Running,
    /// A person told it to rest.
    Paused,
    /// Its target is tried again later, or nobody brings anything.
    Waiting,
    /// It does not work before a person mends it.
    Broken,
}

impl Phase {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Broken => "broken",
        }
    }
}

/// How a delivery does: newer than what is written down of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doing {
    pub(crate) phase: Phase,
    /// Everything up to here was delivered, or set aside, or is not for it.
    pub(crate) cursor: Seq,
    /// Why the last failed attempt failed, and when.
    pub(crate) last_error: Option<(String, UnixMs)>,
    /// When its target is tried again.
    pub(crate) retry_at: Option<UnixMs>,
}

/// What a target did when it was tried: `Err`, if it would take nothing.
pub(crate) type Tried = Result<String, String>;

/// Who delivers, as far as others ask it.
pub(crate) trait Deliverer: Debug + Send + Sync {
    /// How a delivery does, if it is at work.
    fn doing(&self, tenant: &TenantId, name: &str) -> Option<Doing>;

    /// Tries a target once, without a message. No secret is in what it tells.
    fn try_target(&self, target: Integrated) -> Pin<Box<dyn Future<Output = Tried> + Send>>;
}
