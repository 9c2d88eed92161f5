//! `GET /thingsee`: what is routed, as Thingsee arrays over a WebSocket (`docs/protocol/thingsee.md`).
//!
//! In: a request. Out: a link that only receives. Absent: delivery, which is that of every link; the
//! arrays, which are a dialect's. A hole is told by the last state of what the link follows.

mod ask;
mod follow;

use std::{rc::Rc, sync::Arc};

use axum::{
    extract::{Request, State},
    response::Response,
};
use fieldgate_core::{
    id::{DeviceId, TenantId},
    topic::Topic,
};
use fieldgate_dialects::{thingsee::About, wire::Form};

use crate::{
    fabric::Shared,
    http::{Caller, Joining, Offer, Problem, unauthorized},
    hub::Hub,
    link::Link,
};

pub(crate) use follow::{Followed, Following, follow, may_move, refollow};

/// Answers a request with a WebSocket that gets arrays, and nothing else, ever.
pub(crate) async fn open(
    State(caller): State<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let offer = match Offer::of(&caller, &request)? {
        Ok(offer) => offer,
        Err(refused) => return Ok(refused),
    };
    let uri = request.uri();
    let principal = caller.opener(request.headers(), uri, offer.client).await?;
    let principal = principal.ok_or_else(|| {
        unauthorized("send Authorization: Bearer, or name ?token= or ?ticket= in the address")
    })?;
    let (ids, ask) = ask::read(uri)?.resolve(caller.shared(), &principal)?;
    let (form, stream) = (Form::Thingsee(ids), Some(Box::new(ask)));
    let principal = Some(Arc::unwrap_or_clone(principal));
    let joining = Joining { form, subprotocol: None, principal, stream, session: None };
    offer.take(&caller, request, joining)
}

/// What is known of a device, for its objects.
pub(crate) fn about(shared: &Shared, tenant: &TenantId, device: &str) -> About {
    let Ok(id) = device.parse() else { return About::default() };
    let device = shared.state.device(tenant, &id);
    let described = device.as_ref().and_then(|device| device.profile.as_ref());
    // What a source brought came in its words: there are no other sources.
    let origin = shared.state.origin(tenant, &id);
    About {
        profile: described.map(|described| Arc::clone(&described.profile)),
        is_thingsee: origin.is_some(),
        gateway: origin.and_then(|origin| origin.gateway.as_deref().map(Into::into)),
    }
}

/// Sends the last state of every device that a link follows, as the socket takes it.
pub(crate) fn tell_last_state(hub: &Rc<Hub>, link: &Rc<Link>) {
    let Some(principal) = link.principal() else { return };
    let follows = |device: &DeviceId| {
        let telemetry = Topic::of_device(device, "telemetry");
        link.subscriptions.borrow().values().any(|s| s.filter.matches(&telemetry))
    };
    let devices = hub.shared.state.known_devices(&principal.tenant, follows);
    hub.owe_documents(link, devices, true);
}
