//! The push socket: a WebSocket at any path, for whoever may listen.

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::header,
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::{Grant, Identity, Principal, Verb},
    audit::Act,
    fault::Code,
    id::UnixMs,
    topic::Filter,
};
use fieldgate_dialects::{deconz::Error, wire::Form};
use fieldgate_store::audit::Author;

use super::{
    Bridge,
    access::{self, Barred, Entrance, Visit},
    rest::reply,
};
use crate::{
    fabric::{Shared, now},
    http::{Caller, Joining, Offer, origin_is_known, value_of},
    refusals::Refusal,
};

/// Whether a request asks for a WebSocket.
pub(super) fn is_upgrade(request: &Request) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

/// Opens the socket for who may listen.
pub(super) fn open(caller: &Caller, client: IpAddr, request: Request) -> Response {
    let shared = caller.shared();
    let Some(bridge) = &shared.bridge else {
        return reply::failure(Error::NotConnected("/".to_owned()));
    };
    let offer = match Offer::of(caller, &request) {
        Ok(Ok(offer)) => offer,
        Ok(Err(refused)) => return refused,
        Err(_draining) => return reply::failure(Error::NotConnected("/".to_owned())),
    };
    let principal = match listener_of(caller, bridge, client, &request) {
        Ok(principal) => principal,
        Err(refused) => return refused,
    };
    let joining = Joining {
        form: Form::Deconz,
        subprotocol: None,
        principal: Some(principal),
        stream: None,
        session: None,
    };
    offer.take(caller, request, joining).unwrap_or_else(IntoResponse::into_response)
}

/// Who listens: the app whose key is shown, or else what is known of the address.
fn listener_of(
    caller: &Caller,
    bridge: &Bridge,
    client: IpAddr,
    request: &Request,
) -> Result<Principal, Response> {
    let shared = caller.shared();
    let shown = value_of(request.uri().query(), "apikey=");
    if let Some(token) = shown.or_else(|| Caller::bearer(request.headers())) {
        let found = shared.state.verify_bridge_key(&token);
        let found = found.filter(|(principal, _)| principal.tenant == bridge.tenant);
        if let Some((principal, key)) = found {
            if !caller.is_proxied() && !caller.is_relayed(request.headers()) {
                bridge.note_seen(shared, &key.id, client);
            }
            return Ok(principal);
        }
        caller.may_try(client).map_err(IntoResponse::into_response)?;
        let _counted = caller.wrong(client);
        return Err(reply::failure(Error::Unauthorized("/".to_owned())));
    }
    let visit = Visit {
        address: client,
        is_proxied: caller.is_proxied() || caller.is_relayed(request.headers()),
        origin_is_known: origin_is_known(shared, request.headers()),
        is_listed: bridge.listed.contains(client),
        is_open: shared.config.deconz.push == "open",
    };
    let keys = shared.state.bridge_keys(&bridge.tenant);
    let here = bridge.seen_at(client);
    match access::decide(&visit, keys.iter().map(|key| &**key), &here, now()) {
        Ok(Entrance::Key(id)) => {
            let key = keys.iter().find(|key| key.id == id);
            let principal = key.map(|key| key.principal(&bridge.tenant));
            principal.ok_or_else(|| reply::failure(Error::Unauthorized("/".to_owned())))
        }
        Ok(Entrance::Configured) => Ok(configured(bridge)),
        Err(barred) => Err(refuse(shared, bridge, client, barred)),
    }
}

/// Who is let in by the configuration: nobody in particular, who may listen as long as there is the
/// tenant. No key could be withdrawn, so it is of the kind that somebody else vouches for.
fn configured(bridge: &Bridge) -> Principal {
    let all = "#".parse::<Filter>().ok();
    let listens = all.map(|filter| Grant { deny: false, verb: Verb::Subscribe, filter });
    Principal {
        tenant: bridge.tenant.clone(),
        name: "deconz".into(),
        identity: Identity::User,
        role: None,
        grants: listens.into_iter().collect(),
        only: None,
        proof: None,
        expires: Some(UnixMs(u64::MAX)),
    }
}

fn refuse(shared: &Shared, bridge: &Bridge, client: IpAddr, barred: Barred) -> Response {
    let target = match barred {
        Barred::Origin => "deconz push: a page of another origin",
        Barred::Unknown => "deconz push: an address without a call in 24 hours",
        Barred::Proxied => "deconz push: behind a proxy without a key",
    };
    shared.refuse(Refusal {
        tenant: bridge.tenant.clone(),
        author: Author { name: String::new(), address: Some(client) },
        act: Act::Authenticate,
        code: Code::NotAllowed,
        target: target.to_owned(),
    });
    reply::failure(Error::Unauthorized("/".to_owned()))
}
