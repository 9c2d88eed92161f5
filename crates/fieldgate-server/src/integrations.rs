//! Integrations while the gateway runs: who delivers learns here that one changed.

use tokio::sync::watch;

/// What is known of them beside the registry.
#[derive(Debug, Default)]
pub(crate) struct Integrations {
    /// Moves with each change: whoever follows it reads the registry again
    /// ([`fieldgate_store::state::State::all_integrations`]).
    pub(crate) changes: watch::Sender<()>,
}

impl Integrations {
    /// The registry has an integration that is new, is to do something else, or is gone.
    pub(crate) fn changed(&self) {
        self.changes.send_replace(());
    }
}
