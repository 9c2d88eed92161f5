//! What people of apps see: the things that they linked, or that their role shows them, and their
//! values (`wire.md` 1.4).

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    http::{StatusCode, Uri},
    response::Response,
};
use fieldgate_core::{
    access::Verb,
    dialect::{CommandAsk, CommandTarget},
    fault::{Code, Fault},
    id::{DeviceId, Seq},
    message::{Content, Priority},
    topic::Topic,
};
use fieldgate_dialects::thethings;
use fieldgate_store::registry::{AccountStep, Change};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    answer::{Done, Refusals, Refused, RefusedBody, json, text},
    asker::{Document, Named, Object, Person},
    thing::{RangeParams, ReadValue, WriteBody, limits_of, list, range_of, told},
    values,
    who::{Seen, ThingOf, devices_of, thing_of_token},
};
use crate::{
    asks, commands,
    fabric::{FULL_TRIES, FULL_WAIT, append_fault},
};

/// Most things of one answer, in the order of their ids.
const SHOWN_MAX: usize = 1_000;
const NO_THING: &str = "there is no such thing";

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(things, link))
        .routes(routes!(unlink))
        .routes(routes!(resources))
        .routes(routes!(resource))
        .routes(routes!(read, write))
}

/// A thing to be linked.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Link {
    /// Its token: whoever knows it may.
    thing_token: String,
}

/// A thing that was linked.
#[derive(Serialize, ToSchema)]
struct Linked<'a> {
    /// Always `success`.
    status: &'static str,
    /// Always `linked`.
    message: &'static str,
    /// Its id, which is no secret.
    #[serde(rename = "thingId")]
    thing_id: &'a str,
}

/// A thing.
#[derive(Serialize, ToSchema)]
struct ThingView {
    /// Its id.
    #[serde(rename = "_id")]
    id: String,
    /// Its name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// A resource, and which things have it.
#[derive(Serialize, ToSchema)]
struct ResourceView {
    /// Its name.
    name: String,
    /// The ids of the things.
    things: Vec<String>,
}

impl Person {
    /// Whether they may read what is known of a device.
    fn may_read(&self, device: &DeviceId) -> bool {
        self.principal.may_at(Verb::Read, &Topic::of_device(device, "telemetry"))
    }

    /// The devices that they see.
    fn devices(&self) -> Vec<DeviceId> {
        let shared = self.visitor.shared();
        let may = |id: &DeviceId| self.may_read(id);
        match devices_of(shared, &self.principal) {
            Seen::Only(devices) => devices.into_iter().filter(may).take(SHOWN_MAX).collect(),
            Seen::All => {
                let devices = shared.state.devices(&self.principal.tenant);
                let ids = devices.iter().filter_map(|device| device.id.parse().ok());
                ids.filter(may).take(SHOWN_MAX).collect()
            }
        }
    }

    /// The device that an address names, by its id or its token, if they may see it.
    fn device(&self, name: &str) -> Result<DeviceId, Refused> {
        let (shared, tenant) = (self.visitor.shared(), &self.principal.tenant);
        let is_seen = |id: &DeviceId| self.may_read(id);
        let by_id = name.parse::<DeviceId>().ok().filter(is_seen);
        // Whose id it is but not theirs is answered as nobody's: nobody learns what there is.
        let found = match by_id.filter(|id| shared.state.device(tenant, id).is_some()) {
            Some(id) => Some(id),
            None => self.by_token(name)?.filter(is_seen),
        };
        found.ok_or_else(|| Refused::not_found(NO_THING))
    }

    /// The device of a thing's token. A guess counts against the address of whoever asks.
    fn by_token(&self, token: &str) -> Result<Option<DeviceId>, Refused> {
        self.visitor.may_try()?;
        match thing_of_token(self.visitor.shared(), &self.principal.tenant, token) {
            ThingOf::Ours(id) => Ok(Some(id)),
            ThingOf::Malformed => Ok(None),
            ThingOf::Foreign | ThingOf::Unknown => {
                let _counted = self.visitor.wrong(NO_THING);
                Ok(None)
            }
        }
    }
}

/// Links a thing to whoever asks: they see it and write to it from now on.
#[utoipa::path(post, path = "/v2/me/things", tag = "mine", operation_id = "linkThing",
    request_body = Link,
    responses(Refusals, (status = 200, description = "It is linked.", body = Linked<'static>),
        (status = 404, description = "The token is nobody's.", body = RefusedBody)))]
async fn link(person: Person, Object(asked): Object<Link>) -> Result<Response, Refused> {
    let user = person.user()?.to_owned();
    let device = person.by_token(&asked.thing_token)?;
    let device = device.ok_or_else(|| Refused::not_found(NO_THING))?;
    person.visitor.pay(&person.principal, 1, 0)?;
    let step = AccountStep::Link(device.as_str().to_owned());
    person.change(Change::Account { user, step }).await?;
    let linked = Linked { status: "success", message: "linked", thing_id: device.as_str() };
    Ok(json(StatusCode::OK, &linked))
}

/// Ends such a link.
#[utoipa::path(delete, path = "/v2/me/things/{thing}", tag = "mine", operation_id = "unlinkThing",
    params(("thing" = String, Path, description = "Its id.")),
    responses(Refusals, (status = 200, description = "It is done.", body = Done),
        (status = 404, description = "It was not linked.", body = RefusedBody)))]
async fn unlink(person: Person, Named(thing): Named<String>) -> Result<Response, Refused> {
    let user = person.user()?.to_owned();
    person.visitor.pay(&person.principal, 1, 0)?;
    person.change(Change::Account { user, step: AccountStep::Unlink(thing) }).await?;
    Ok(json(StatusCode::OK, &Done::success("unlinked")))
}

/// The things that whoever asks sees.
#[utoipa::path(get, path = "/v2/me/things", tag = "mine", operation_id = "listMyThings",
    responses(Refusals, (status = 200, description = "1,000 at most.", body = Vec<ThingView>)))]
async fn things(person: Person) -> Response {
    let (shared, tenant) = (person.visitor.shared(), &person.principal.tenant);
    let view = |id: DeviceId| ThingView {
        name: shared.state.device(tenant, &id).and_then(|device| device.name.clone()),
        id: id.as_str().to_owned(),
    };
    json(StatusCode::OK, &person.devices().into_iter().map(view).collect::<Vec<_>>())
}

/// The resources of those things, and which things have each.
#[utoipa::path(get, path = "/v2/me/resources", tag = "mine", operation_id = "listMyResources",
    responses(Refusals, (status = 200, description = "All.", body = Vec<ResourceView>)))]
async fn resources(person: Person) -> Response {
    let (shared, tenant) = (person.visitor.shared(), &person.principal.tenant);
    let mut by_name: BTreeMap<String, BTreeSet<DeviceId>> = BTreeMap::new();
    for device in person.devices() {
        for item in values::last(shared, tenant, &device) {
            by_name.entry(item.key).or_default().insert(device.clone());
        }
    }
    let view = |(name, things): (String, BTreeSet<DeviceId>)| ResourceView {
        name,
        things: things.into_iter().map(|id| id.as_str().to_owned()).collect(),
    };
    json(StatusCode::OK, &by_name.into_iter().map(view).collect::<Vec<_>>())
}

/// The last values of a resource, by the id of each thing that has it.
#[utoipa::path(get, path = "/v2/me/resources/{resource}", tag = "mine",
    operation_id = "readMyResource", params(("resource" = String, Path)),
    responses(Refusals, (status = 200, description = "An object of arrays.",
        body = BTreeMap<String, Vec<ReadValue>>)))]
async fn resource(person: Person, Named(resource): Named<String>) -> Result<Response, Refused> {
    let (shared, reader) = (person.visitor.shared(), &person.principal);
    let until = values::search_end();
    let mut out = vec![b'{'];
    for device in person.devices() {
        let newest = values::newest_known(shared, reader, &device, &resource, until).await?;
        let Some(item) = newest else { continue };
        if out.len() > 1 {
            out.push(b',');
        }
        // An id holds nothing that JSON would escape.
        out.extend_from_slice(format!("\"{device}\":").as_bytes());
        out.append(&mut list(&[item], false));
    }
    out.push(b'}');
    Ok(text(StatusCode::OK, out))
}

/// Values of a resource of a thing, the newest first.
#[utoipa::path(get, path = "/v2/me/resources/{resource}/{thing}", tag = "mine",
    operation_id = "readMyThing",
    params(("resource" = String, Path),
        ("thing" = String, Path, description = "Its id, or its token."), RangeParams),
    responses(Refusals, (status = 200, description = "The values.", body = Vec<ReadValue>),
        (status = 404, description = "There is no such thing, or it has no such resource.",
            body = RefusedBody)))]
async fn read(
    person: Person,
    Named((resource, thing)): Named<(String, String)>,
    uri: Uri,
) -> Result<Response, Refused> {
    let range = range_of(&uri)?;
    let device = person.device(&thing)?;
    let shared = person.visitor.shared();
    told(values::newest(shared, &person.principal, &device, &resource, range).await?)
}

/// Writes to a resource of a thing: a command, where the thing's profile says that it is writable;
/// else a value, which its stream brings to the thing.
#[utoipa::path(post, path = "/v2/me/resources/{resource}/{thing}", tag = "mine",
    operation_id = "writeMyThing",
    params(("resource" = String, Path),
        ("thing" = String, Path, description = "Its id, or its token.")),
    request_body = WriteBody,
    responses(Refusals, (status = 201, description = "It is stored.", body = Done),
        (status = 403, description = "No right to command it.", body = RefusedBody),
        (status = 404, description = "There is no such thing.", body = RefusedBody)))]
async fn write(
    person: Person,
    Named((resource, thing)): Named<(String, String)>,
    Document(body): Document,
) -> Result<Response, Refused> {
    let device = person.device(&thing)?;
    if !person.principal.may_command(&device) {
        return Err(Refused::new(StatusCode::FORBIDDEN, "no right to write to this thing"));
    }
    let shared = person.visitor.shared();
    let known = shared.state.device(&person.principal.tenant, &device);
    let profile = known.as_ref().and_then(|known| known.profile.as_ref());
    let is_writable =
        profile.is_some_and(|described| described.profile.lookup().writable(&resource).is_ok());
    let (written, set) = {
        let values = thethings::read_values(&body, Some(&resource), &limits_of(shared))?;
        let set = is_writable.then(|| set_of(&values)).transpose()?;
        (thethings::messages(&values), set)
    };
    if let Some(payload) = set {
        person.visitor.pay(&person.principal, 1, body.len())?;
        command(&person, device, payload).await?;
    } else {
        person.visitor.pay(&person.principal, written.len(), body.len())?;
        let writer = values::writer(&person.principal, &device);
        values::write(shared, &writer, &device, &written).await?;
    }
    Ok(json(StatusCode::CREATED, &Done::created()))
}

/// What a command says that sets a resource.
fn set_of(values: &[thethings::Value<'_>]) -> Result<String, Fault> {
    let bad = |text: &'static str| Fault::new(Code::BadValue, text);
    let [value] = values else {
        return Err(bad("this resource is set: send one value"));
    };
    let key = serde_json::to_string(&value.key).map_err(|_| bad("the resource is no text"))?;
    Ok(format!("{{\"set\":{{{key}:{}}}}}", value.text))
}

async fn command(person: &Person, device: DeviceId, payload: String) -> Result<(), Fault> {
    let shared = person.visitor.shared();
    let ask = CommandAsk {
        to: CommandTarget::Device(device),
        reference: None,
        priority: Priority::Normal,
        expires: None,
        content: Content::Json,
        payload: payload.into(),
    };
    let mut tries = 0;
    let issued = loop {
        match commands::issue(shared, &person.principal, &ask, |_| Ok(())) {
            Ok(issued) => break issued,
            Err(asks::Refused::Full) if tries < FULL_TRIES => {
                tokio::time::sleep(FULL_WAIT).await;
            }
            Err(asks::Refused::Full) => {
                return Err(append_fault(&fieldgate_store::AppendError::Full));
            }
            Err(asks::Refused::Fault(fault)) => return Err(fault),
        }
        tries += 1;
    };
    shared.settled(Seq(*issued.admitted.range().end()), true).await
}
