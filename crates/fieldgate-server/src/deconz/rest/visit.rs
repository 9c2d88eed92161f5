//! Who asks, and what a request may take.

use std::{net::IpAddr, sync::Arc};

use axum::http::HeaderMap;
use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
    id::Seq,
};
use fieldgate_dialects::deconz::Error;
use fieldgate_store::{
    Record,
    audit::Author,
    registry::{BridgeKey, Change, RegistryChange},
};

use super::super::{Bridge, view::View};
use crate::{asks::rate_fault, fabric::Shared, http::Caller};

/// A request with a key that counts.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) bridge: &'a Bridge,
    pub(super) principal: Principal,
    pub(super) key: Arc<BridgeKey>,
    pub(super) client: IpAddr,
    /// Whether its address says nothing: a proxy that nobody configured stands before it.
    is_relayed: bool,
    /// Behind the key.
    pub(super) address: String,
}

impl<'a> Visit<'a> {
    /// Who shows a key that counts. Only a wrong one is held back, and by whoever calls this.
    pub(super) fn of(
        caller: &'a Caller,
        client: IpAddr,
        bridge: &'a Bridge,
        headers: &HeaderMap,
        token: &str,
        address: &str,
    ) -> Result<Self, Error> {
        let shared = caller.shared();
        let found = shared.state.verify_bridge_key(token);
        let found = found.filter(|(principal, _)| principal.tenant == bridge.tenant);
        let (principal, key) = found.ok_or_else(|| Error::Unauthorized(address.to_owned()))?;
        caller.authenticate();
        let (is_relayed, address) = (caller.is_relayed(headers), address.to_owned());
        Ok(Self { shared, bridge, principal, key, client, is_relayed, address })
    }

    /// Its address counts as known from now on.
    pub(super) fn note_seen(&self) {
        if !self.is_relayed {
            self.bridge.note_seen(self.shared, &self.key.id, self.client);
        }
    }

    /// The app has read everything up to this number.
    pub(super) fn note_read(&self, read: Seq) {
        if !self.is_relayed {
            self.bridge.note_read(self.client, read);
        }
    }

    /// Looks at what apps see.
    pub(super) fn look<T>(&self, look: impl FnOnce(&View) -> T) -> Result<T, Error> {
        let view = self.bridge.view();
        view.as_ref().map(look).ok_or_else(|| Error::NotConnected(self.address.clone()))
    }

    /// Takes from the rates of the app.
    pub(super) fn pay(&self, message_count: usize, byte_len: usize) -> Result<(), Fault> {
        let throttle = &self.shared.throttle;
        let sender = throttle.sender(&self.principal);
        let paid = throttle.take(&sender, message_count as u64, byte_len as u64);
        paid.map_err(|wait_ms| rate_fault(self.shared, wait_ms))
    }

    fn record(&self, change: Change) -> RegistryChange {
        let name = self.principal.name.to_string();
        let author = Some(Author { name, address: Some(self.client) });
        RegistryChange { tenant: self.bridge.tenant.as_str().to_owned(), change, author }
    }

    /// Changes the registry: durable and decided when this returns.
    pub(super) async fn change(&self, change: Change) -> Result<Seq, Fault> {
        self.pay(1, 0)?;
        let seq = self.shared.change_registry(self.record(change)).await?;
        self.bridge.until_shown(seq).await;
        Ok(seq)
    }

    /// A change of the registry, for a group of records.
    pub(super) fn change_record(&self, change: Change) -> Record {
        Record::Registry(Box::new(self.record(change)))
    }

    /// What is told of a fault.
    pub(super) fn error(&self, fault: &Fault) -> Error {
        error_at(&self.address, fault)
    }
}

/// What is told of a fault that the rest of the gateway found.
pub(super) fn error_at(address: &str, fault: &Fault) -> Error {
    let path = address.to_owned();
    if fault.code == Code::QueueFull {
        return Error::QueueFull(path);
    }
    if fault.code == Code::StorageUnavailable {
        return Error::NotConnected(path);
    }
    // Somebody else changed it meanwhile: an app that is told so tries again.
    if fault.code.is_temporary() || fault.code == Code::Conflict {
        return Error::Busy(path);
    }
    if fault.code == Code::NotFound {
        return Error::NotAvailable(path);
    }
    let name = resource_of(fault).to_owned();
    if fault.code == Code::NotAllowed {
        return Error::ReadOnly { path, name };
    }
    if fault.code == Code::TooLarge {
        return Error::TooMany(path);
    }
    Error::InvalidValue { path, name, value: fault.message.to_string() }
}

fn resource_of(fault: &Fault) -> &str {
    fault.reading.as_ref().map_or("body", |reading| &reading.resource)
}

/// The method means nothing at an address.
pub(super) fn no_method(method: &str, path: &str) -> Error {
    Error::Method { path: path.to_owned(), method: method.to_owned() }
}

/// A parameter is only to be read.
pub(super) fn read_only(path: &str, name: &str) -> Error {
    Error::ReadOnly { path: path.to_owned(), name: name.to_owned() }
}
