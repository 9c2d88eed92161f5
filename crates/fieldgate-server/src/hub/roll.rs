//! Who is connected here, told to whoever asks.

use std::ops::Bound;

use fieldgate_core::{
    access::Identity,
    id::{TenantId, UnixMs},
};
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::Hub;
use crate::{fabric::now, link::Link};

/// A question for the connections of a worker.
#[derive(Debug)]
pub(crate) struct RollCall {
    pub(crate) tenant: TenantId,
    /// Only those with a higher number.
    pub(crate) after: u64,
    /// At most so many.
    pub(crate) len_max: usize,
    pub(crate) answer: oneshot::Sender<Vec<Client>>,
}

/// A connection that has proved whose it is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Client {
    /// Its id, unique until the gateway restarts.
    #[schema(examples("0-17"))]
    pub(crate) id: String,
    /// Its connection: the same for the two namespaces of one Socket.IO connection, else its id.
    #[schema(examples("0-17"))]
    pub(crate) connection: String,
    /// Its number on its worker.
    #[serde(skip)]
    pub(crate) number: u64,
    /// A device's id, or the name of a key, person or source.
    pub(crate) who: String,
    /// `device`, `key`, `user` or `source`.
    pub(crate) kind: &'static str,
    /// The address that it came from.
    pub(crate) address: String,
    /// When it came, in Unix ms.
    pub(crate) since: u64,
    /// How many subscriptions it has.
    pub(crate) subscriptions: usize,
    /// Bytes that wait for it in memory.
    pub(crate) waiting_bytes: usize,
    /// Whether it does not keep up, and reads from the log.
    pub(crate) behind: bool,
}

impl Hub {
    pub(super) fn client(&self, link: &Link) -> Option<(TenantId, Client)> {
        let principal = link.principal()?;
        let kind = match principal.identity {
            Identity::Device { .. } => "device",
            Identity::Key => "key",
            Identity::User => "user",
            Identity::Source { .. } => "source",
        };
        let UnixMs(time) = now();
        let carrier = link.carrier().map_or(link.id, |carrier| carrier.id);
        let client = Client {
            id: format!("{}-{}", self.number, link.id),
            connection: format!("{}-{carrier}", self.number),
            number: link.id,
            who: principal.name.to_string(),
            kind,
            address: link.peer.to_string(),
            since: time.saturating_sub(link.age_ms()),
            subscriptions: link.subscriptions.borrow().len(),
            waiting_bytes: link.outbox.byte_len(),
            behind: link.behind.get(),
        };
        Some((principal.tenant.clone(), client))
    }

    /// Answers a question for the connections here, in the order of their numbers.
    pub(crate) fn answer_roll(&self, call: RollCall) {
        let RollCall { tenant, after, len_max, answer } = call;
        let links = self.links.borrow();
        let behind = links.range((Bound::Excluded(after), Bound::Unbounded));
        let clients = behind.filter_map(|(_, link)| self.client(link));
        let ours = clients.filter(|(of, _)| *of == tenant).map(|(_, client)| client);
        // Who asked may have gone.
        let _gone = answer.send(ours.take(len_max).collect());
    }
}
