//! The namespace `/v2` of thethings.iO: `authenticate`, `subscribe`, `unsubscribe` (`wire.md` 1.6).
//!
//! Every event is answered by one of the same name, and by an acknowledgement where one is asked for.
//! Nothing here closes a connection: its clients expect none.

use std::rc::Rc;

use fieldgate_core::{
    access::Principal,
    id::{DeviceId, TenantId},
    json::{each_member, string},
};
use fieldgate_dialects::socketio::Room;
use serde::Serialize;

use super::{Call, Session, acknowledge, emit, rooms};
use crate::{
    asks,
    hub::Hub,
    link::Link,
    thethings::{ThingOf, devices_of, session_principal, thing_of_token},
};

/// What an event is answered.
#[derive(Debug, Serialize)]
struct Reply<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a str>,
}

/// Why an event is refused.
type Refused = (u16, &'static str);

const ANONYMOUS: Refused = (401, "Invalid session token");
const NO_THING: Refused = (404, "there is no such thing");

pub(super) fn on_event(hub: &Rc<Hub>, link: &Rc<Link>, session: &Session, call: &Call<'_>) {
    let argument = call.arguments.first().copied().unwrap_or_default();
    let resource = member(argument, "resource");
    let done = match call.name {
        "authenticate" => authenticate(hub, link, member(argument, "sessionToken")).map(|()| {
            session.settle_credential();
            ("", None)
        }),
        "subscribe" if session.owes_credential() => Err(ANONYMOUS),
        "subscribe" => room_of(hub, link, resource.as_deref()).and_then(|room| {
            rooms::may_enter(hub, link, session, &room)?;
            Ok(("subscribed", Some(room)))
        }),
        // Who is in no such room has left it.
        "unsubscribe" => Ok(("unsubscribed", None)),
        _ => Err((404, "there is no such event: authenticate, subscribe and unsubscribe")),
    };
    let (status, code, message) = match &done {
        Ok((message, _)) => ("success", None, *message),
        Err((code, message)) => ("error", Some(*code), *message),
    };
    let reply = Reply { status, code, message, resource: resource.as_deref() };
    let reply = serde_json::to_vec(&reply).unwrap_or_default();
    emit(hub, link, call.name, &reply);
    acknowledge(hub, link, call.id, &reply);
    // What a room begins with comes behind the answer.
    match (call.name, done, resource) {
        (_, Ok((_, Some(room))), _) => rooms::enter(hub, link, session, room),
        ("unsubscribe", _, Some(resource)) => rooms::leave(hub, link, session, &resource),
        _ => (),
    }
}

/// What an object says under a name, where that is a text.
fn member(object: &str, wanted: &str) -> Option<String> {
    let mut found = None;
    each_member(object, |member| {
        if member.name.as_deref() == Some(wanted) {
            found = string(member.value).map(std::borrow::Cow::into_owned);
        }
    })?;
    found
}

fn authenticate(hub: &Rc<Hub>, link: &Rc<Link>, token: Option<String>) -> Result<(), Refused> {
    let shared = &hub.shared;
    if !shared.throttle.may_try(link.peer) {
        return Err((429, "too many wrong session tokens from this address"));
    }
    let found = token.and_then(|token| session_principal(shared, &token));
    let Some(found) = found else {
        shared.wrong_credential(link.peer, TenantId::default_tenant(), String::new());
        return Err(ANONYMOUS);
    };
    match link.principal() {
        Some(principal) if principal.name == found.name && principal.tenant == found.tenant => {
            Ok(())
        }
        Some(_) => Err((403, "this connection is somebody else's")),
        None => {
            asks::welcome(hub, link, found);
            if link.is_closing() {
                return Err((503, "there is no place for this connection"));
            }
            Ok(())
        }
    }
}

/// The room of a topic, where its client may enter it.
fn room_of(hub: &Hub, link: &Link, topic: Option<&str>) -> Result<Room, Refused> {
    let principal = link.principal().ok_or(ANONYMOUS)?;
    let topic =
        topic.ok_or((400, "resource is missing: a topic such as /me/resources/temperature"))?;
    if let Some(resource) = topic.strip_prefix("/me/resources/") {
        let is_name = !resource.is_empty() && resource.len() <= 128 && !resource.contains('/');
        let unknown = (404, "a topic is /me/resources/{resource} or /things/{thingToken}");
        return if is_name { Ok(Room::Resource(resource.into())) } else { Err(unknown) };
    }
    let token = topic.strip_prefix("/things/");
    let token =
        token.ok_or((404, "a topic is /me/resources/{resource} or /things/{thingToken}"))?;
    let device = thing_of(hub, link, &principal, token)?;
    Ok(Room::Thing(device, token.into()))
}

fn thing_of(
    hub: &Hub,
    link: &Link,
    principal: &Principal,
    token: &str,
) -> Result<DeviceId, Refused> {
    let shared = &hub.shared;
    if !shared.throttle.may_try(link.peer) {
        return Err((429, "too many wrong thing tokens from this address"));
    }
    match thing_of_token(shared, &principal.tenant, token) {
        ThingOf::Ours(device) if devices_of(shared, principal).has(&device) => Ok(device),
        ThingOf::Ours(_) => Err((403, "this thing is not yours: link it with POST /v2/me/things")),
        ThingOf::Malformed => Err(NO_THING),
        ThingOf::Foreign | ThingOf::Unknown => {
            shared.wrong_credential(link.peer, principal.tenant.clone(), String::new());
            Err(NO_THING)
        }
    }
}
