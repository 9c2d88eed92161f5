//! Kamea clients: whether one may see a device, decided by its rights here or by another service.
//!
//! In: a token that nobody has looked at yet, and a request. Out: a [`Verdict`]. Absent: Socket.IO, and
//! what a client is sent. Invariant: nobody sees a device for whom nobody said yes, now.

mod pace;
mod service;

use std::{net::IpAddr, time::Duration};

use fieldgate_core::{
    access::{Grant, Identity, Principal, Verb},
    audit::Act,
    fault::Code,
    id::{DeviceId, TenantId, UnixMs},
    topic::Filter,
};
use fieldgate_dialects::kamea::{Answer, Question, Request};
use fieldgate_store::audit::Author;

use crate::{
    fabric::{Shared, now},
    refusals::Refusal,
};

pub(crate) use service::Service;

/// What is said of devices as telemetries, as the last levels of topics; the first one is what the
/// right to see a device means.
const SAID: [&str; 3] = ["telemetry", "events", "state/reported"];
/// The last second that anybody writes down: what a service allows, it ends itself.
const NEVER: UnixMs = UnixMs(253_402_300_799_000);

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// They may.
    Allowed(Box<Room>),
    /// They may not: `access_denied`, and the end of the connection.
    Denied,
    /// Nobody can tell: `internal_server_error` with this message, and the connection stays. What was
    /// open is shut until somebody can.
    Failed(String),
}

/// What somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    /// The device, as it is called here.
    pub(crate) device: DeviceId,
    /// What is followed of it.
    pub(crate) filters: Vec<Filter>,
    /// Who they are, in the tenant of the device. Where a service was asked: somebody who may do
    /// nothing but follow these filters.
    pub(crate) principal: Principal,
}

/// Decides whether who shows `bearer` may see what `request` names.
///
/// `address` is the client's: its wrong tokens count, and too many fail. None for what was allowed
/// before and is asked again. `patience` is how long a question to a service may wait for its turn; `None`
/// is as long as the question itself may take. A tenant that is not configured is denied as one that is not theirs.
/// Waits for other systems where they are asked: not for a worker's thread.
pub(crate) async fn authorize(
    shared: &Shared,
    bearer: Option<&str>,
    address: Option<IpAddr>,
    request: &Request,
    patience: Option<Duration>,
) -> Verdict {
    let config = &shared.config.kamea;
    let Some(token) = bearer else { return Verdict::Denied };
    let tenant = config.tenant_of(&request.tenant);
    let Some(tenant) = tenant.filter(|tenant| shared.state.has_tenant(tenant)) else {
        refused(shared, address, &TenantId::default_tenant(), "", &request.device);
        return Verdict::Denied;
    };
    if address.is_some_and(|address| !shared.throttle.may_try(address)) {
        return Verdict::Failed("too many failed authentications".to_owned());
    }
    let known = request.devices().find(|id| shared.state.device(&tenant, id).is_some());
    let device = known.unwrap_or_else(|| request.device.clone());
    if config.authorization.is_asked() {
        let own = Duration::from_millis(config.authorization.timeout_ms);
        let patience = patience.unwrap_or(own);
        let asked = (token, request, patience);
        by_service(shared, asked, address, (tenant, device)).await
    } else {
        by_rights(shared, token, address, (tenant, device)).await
    }
}

/// The topics that say something of a device as telemetries.
pub(crate) fn filters(device: &DeviceId) -> Vec<Filter> {
    let all = SAID.iter().map(|said| format!("devices/{device}/{said}"));
    all.filter_map(|filter| filter.parse().ok()).collect()
}

/// By the rights that the token has here.
async fn by_rights(
    shared: &Shared,
    token: &str,
    address: Option<IpAddr>,
    (tenant, device): (TenantId, DeviceId),
) -> Verdict {
    let time = now();
    let found = if shared.auth.concerns(token) {
        match shared.auth.verify(token, time).await {
            Ok(found) => found,
            Err(fault) => return Verdict::Failed(fault.message.into_owned()),
        }
    } else {
        shared.state.verify_token(&TenantId::default_tenant(), None, token, time)
    };
    let Some(principal) = found else {
        if let Some(address) = address {
            shared.wrong_credential(address, tenant, device.as_str().to_owned());
        }
        return Verdict::Denied;
    };
    let mut filters = filters(&device);
    let first = filters.first().cloned();
    filters.retain(|filter| principal.may_subscribe(filter));
    if principal.tenant != tenant || filters.first() != first.as_ref() {
        refused(shared, address, &principal.tenant, &principal.name, &device);
        return Verdict::Denied;
    }
    Verdict::Allowed(Box::new(Room { device, filters, principal }))
}

/// By the answer of another service, which is handed the token as it came.
async fn by_service(
    shared: &Shared,
    (token, request, patience): (&str, &Request, Duration),
    address: Option<IpAddr>,
    (tenant, device): (TenantId, DeviceId),
) -> Verdict {
    let config = &shared.config.kamea.authorization;
    let question = Question {
        tenant_id: &request.tenant,
        device_id: request.device.as_str(),
        permission: &config.permission,
    };
    match shared.kamea.ask(config, token, &question, patience).await {
        Answer::Allowed => {
            let filters = filters(&device);
            let principal = guest(tenant, token, &filters);
            Verdict::Allowed(Box::new(Room { device, filters, principal }))
        }
        Answer::Denied => {
            // Whether the token or the right was wrong, only the service knows.
            match address {
                Some(address) => {
                    shared.wrong_credential(address, tenant, device.as_str().to_owned());
                }
                None => refused(shared, address, &tenant, "", &device),
            }
            Verdict::Denied
        }
        Answer::Unclear(why) => Verdict::Failed(why),
    }
}

/// Who is nobody here, and may follow these filters.
fn guest(tenant: TenantId, token: &str, filters: &[Filter]) -> Principal {
    let may =
        |filter: &Filter| Grant { deny: false, verb: Verb::Subscribe, filter: filter.clone() };
    Principal {
        tenant,
        name: service::name_of(token).into(),
        identity: Identity::User,
        role: None,
        grants: filters.iter().map(may).collect(),
        only: None,
        proof: None,
        expires: Some(NEVER),
    }
}

/// Enters a refusal in the audit.
fn refused(
    shared: &Shared,
    address: Option<IpAddr>,
    tenant: &TenantId,
    name: &str,
    device: &DeviceId,
) {
    let author = Author { name: name.to_owned(), address };
    let (tenant, target) = (tenant.clone(), device.as_str().to_owned());
    shared.refuse(Refusal {
        tenant,
        author,
        act: Act::Authenticate,
        code: Code::NotAllowed,
        target,
    });
}

#[cfg(test)]
mod tests;
