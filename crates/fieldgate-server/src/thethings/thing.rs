//! What things do: they are activated, write values, and read them back (`wire.md` 1.2).

use std::collections::BTreeMap;

use axum::{
    http::{StatusCode, Uri},
    response::Response,
};
use fieldgate_core::{
    fault::{Code, Fault},
    id::UnixMs,
};
use fieldgate_dialects::{
    native,
    thethings::{self, Written, date},
};
use fieldgate_store::{
    registry::{ActivationStep, Change, Device},
    secret::{TokenKind, make_token, plain_text, random_text},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    answer::{Done, Refusals, Refused, RefusedBody, json, text},
    asker::{Document, Named, Object, Thing, Visitor},
    stream,
    values::{self, Item, Range},
};
use crate::{
    fabric::{Shared, now},
    rest::{kind_profile, query::once, query::parameters},
};

/// Length of the id of a thing that names none.
const ID_LEN: usize = 22;
/// Most values of one answer.
const LIMIT_MAX: usize = 100;
const NO_CODE: &str = "Invalid activation code";
/// The resource that tells what a thing is.
const DESCRIPTION: &str = "description";

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(activate))
        .routes(routes!(stream::open, write))
        .routes(routes!(resources))
        .routes(routes!(all_resources))
        .routes(routes!(resource, describe))
        .routes(routes!(time))
}

/// A code that makes a thing.
#[derive(Deserialize, ToSchema)]
struct Activate {
    /// The code.
    #[serde(rename = "activationCode")]
    activation_code: String,
}

/// A thing that was made. Its token is told this once.
#[derive(Serialize, ToSchema)]
struct Activated {
    /// Always `created`.
    status: &'static str,
    /// What it sends in its addresses from now on: 43 characters.
    #[serde(rename = "thingToken")]
    thing_token: String,
    /// Its id, which is no secret.
    #[serde(rename = "thingId")]
    thing_id: String,
}

/// A value that is written.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `thethings::read_values` reads")]
pub(super) struct WriteBody {
    /// The values.
    values: Vec<WriteValue>,
}

/// One value.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `thethings::read_values` reads")]
struct WriteValue {
    /// The resource; not where the address names it.
    key: Option<String>,
    /// Any JSON; its type stays.
    value: serde_json::Value,
    /// When it was so: `YYYYMMDDHHmmss`, `YYYYMMDDTHHmmss` or ISO 8601, in UTC.
    datetime: Option<String>,
    /// Where: kept as the resource `geo`.
    geo: Option<Geo>,
}

/// A place.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `thethings::read_values` reads")]
struct Geo {
    lat: f64,
    long: f64,
}

/// A value that was read.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what `thethings::write_item` writes")]
pub(super) struct ReadValue {
    /// Where values of more than one resource are told.
    key: Option<String>,
    value: serde_json::Value,
    /// ISO 8601 in UTC, always with milliseconds.
    datetime: String,
}

/// A resource of a thing.
#[derive(Serialize, ToSchema)]
struct ResourceName {
    name: String,
}

/// The time. The value stands last: things cut it out.
#[derive(Serialize, ToSchema)]
struct Time {
    value: serde_json::Value,
}

/// Makes a thing with a code, once.
#[utoipa::path(post, path = "/v2/things", tag = "things", operation_id = "activateThing",
    request_body = Activate, security(()),
    responses(Refusals, (status = 201, description = "It is made.", body = Activated),
        (status = 401, description = "There is no such code, or not any more.", body = RefusedBody)))]
async fn activate(visitor: Visitor, Object(asked): Object<Activate>) -> Result<Response, Refused> {
    visitor.may_try()?;
    let shared = visitor.shared();
    let found = shared.state.activation_of(&asked.activation_code, now());
    let found = found.filter(|(tenant, _)| shared.state.has_tenant(tenant));
    let (tenant, activation) = found.ok_or_else(|| visitor.wrong(NO_CODE))?;
    let io = |error: std::io::Error| Fault::new(Code::Busy, error.to_string());
    let token = make_token(TokenKind::Thing).map_err(io)?;
    let id = activation.device.clone().map_or_else(|| plain_text(ID_LEN), Ok).map_err(io)?;
    let credential = format!("thing-{}", random_text(8).map_err(io)?);
    let kind = activation.kind.as_deref().map(native::parse_kind).transpose()?;
    let hash = shared.state.master_key().hash_thing(&token);
    let device = Device {
        id: id.clone(),
        kind: activation.kind.clone(),
        groups: activation.groups.clone(),
        credentials: BTreeMap::from([(credential, hash)]),
        profile: kind.map(kind_profile),
        ..Device::default()
    };
    let step = ActivationStep::Use(Box::new(device));
    let change = Change::Activation { id: activation.id.clone(), step };
    match visitor.change(&tenant, &id, change).await {
        Ok(()) => (),
        // Somebody else was faster.
        Err(fault) if fault.code == Code::NotFound => return Err(visitor.wrong(NO_CODE)),
        Err(fault) => return Err(fault.into()),
    }
    let made = Activated { status: "created", thing_token: token, thing_id: id };
    Ok(json(StatusCode::CREATED, &made))
}

/// The bounds of a write.
pub(super) fn limits_of(shared: &Shared) -> thethings::Limits {
    let limits = &shared.config.limits;
    thethings::Limits { json_depth_max: limits.json_depth_max, values_max: limits.batch_len_max }
}

/// Writes values: telemetry of the thing for every other reader, on stable storage when this
/// answers. The body may be a form with nested names, too.
#[utoipa::path(post, path = "/v2/things/{token}", tag = "things", operation_id = "writeThing",
    params(("token" = String, Path)), request_body = WriteBody, security(()),
    responses(Refusals, (status = 201, description = "They are stored.", body = Done),
        (status = 400, description = "One of them cannot be taken: none is.", body = RefusedBody),
        (status = 401, description = "The token is nobody's.", body = RefusedBody)))]
async fn write(thing: Thing, Document(body): Document) -> Result<Response, Refused> {
    let shared = thing.visitor.shared();
    let written = {
        let values = thethings::read_values(&body, None, &limits_of(shared))?;
        thethings::messages(&values)
    };
    thing.visitor.pay(&thing.principal, written.len(), body.len())?;
    values::write(shared, &thing.principal, &thing.device, &written).await?;
    Ok(json(StatusCode::CREATED, &Done::created()))
}

/// The resources of a thing, by name.
#[utoipa::path(get, path = "/v2/things/{token}/resources", tag = "things",
    operation_id = "listResources", params(("token" = String, Path)), security(()),
    responses(Refusals, (status = 200, description = "All.", body = Vec<ResourceName>)))]
async fn resources(thing: Thing) -> Response {
    let items = last_of(&thing);
    let names = items.into_iter().map(|item| ResourceName { name: item.key });
    json(StatusCode::OK, &names.collect::<Vec<_>>())
}

/// The last value of every resource of a thing.
#[utoipa::path(get, path = "/v2/things/{token}/all_resources", tag = "things",
    operation_id = "readAllResources", params(("token" = String, Path)), security(()),
    responses(Refusals, (status = 200, description = "All.", body = Vec<ReadValue>)))]
async fn all_resources(thing: Thing) -> Response {
    text(StatusCode::OK, list(&last_of(&thing), true))
}

fn last_of(thing: &Thing) -> Vec<Item> {
    values::last(thing.visitor.shared(), &thing.principal.tenant, &thing.device)
}

/// Writes what a thing says of itself: the resource `description`.
#[utoipa::path(put, path = "/v2/things/{token}/resources/{key}", tag = "things",
    operation_id = "describeThing",
    params(("token" = String, Path), ("key" = String, Path, description = "Always `description`.")),
    request_body = Object, security(()),
    responses(Refusals, (status = 200, description = "It is stored.", body = Done)))]
async fn describe(
    thing: Thing,
    Named((_, key)): Named<(String, String)>,
    Document(body): Document,
) -> Result<Response, Refused> {
    if key != DESCRIPTION {
        return Err(Refused::not_found("only the description is put: post values to the thing"));
    }
    let shared = thing.visitor.shared();
    let written: Vec<Written> = {
        let value = thethings::read_value(&body, DESCRIPTION, &limits_of(shared))?;
        thethings::messages(&[value])
    };
    thing.visitor.pay(&thing.principal, 1, body.len())?;
    values::write(shared, &thing.principal, &thing.device, &written).await?;
    Ok(json(StatusCode::OK, &Done::success("updated")))
}

/// Values of one resource, the newest first.
#[utoipa::path(get, path = "/v2/things/{token}/resources/{key}", tag = "things",
    operation_id = "readResource",
    params(("token" = String, Path), ("key" = String, Path), RangeParams), security(()),
    responses(Refusals, (status = 200, description = "The values.", body = Vec<ReadValue>),
        (status = 404, description = "The thing has no such resource.", body = RefusedBody)))]
async fn resource(
    thing: Thing,
    Named((_, key)): Named<(String, String)>,
    uri: Uri,
) -> Result<Response, Refused> {
    let range = range_of(&uri)?;
    let shared = thing.visitor.shared();
    told(values::newest(shared, &thing.principal, &thing.device, &key, range).await?)
}

/// An answer with values of one resource.
pub(super) fn told(items: Option<Vec<Item>>) -> Result<Response, Refused> {
    let items = items.ok_or_else(|| Refused::not_found("there is no such resource"))?;
    Ok(text(StatusCode::OK, list(&items, false)))
}

/// Values as an array; with their keys where they are of more than one resource.
pub(super) fn list(items: &[Item], has_keys: bool) -> Vec<u8> {
    let mut out = vec![b'['];
    for (nth, item) in items.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        let key = has_keys.then_some(item.key.as_str());
        thethings::write_item(&mut out, key, &item.text, item.time);
    }
    out.push(b']');
    out
}

/// Which values are wanted.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described, not read: `range_of` refuses with better words")]
pub(super) struct RangeParams {
    /// Most values.
    #[param(minimum = 1, maximum = 100, default = 1)]
    limit: Option<u8>,
    /// None from before this time.
    #[param(rename = "startDate")]
    start_date: Option<String>,
    /// None from behind this time.
    #[param(rename = "endDate")]
    end_date: Option<String>,
}

/// Reads which values are wanted. Parameters that nobody knows are left alone, as they were there.
pub(super) fn range_of(uri: &Uri) -> Result<Range, Fault> {
    let (mut limit, mut from, mut to) = (None, None, None);
    for (name, value) in parameters(uri)? {
        match name.as_str() {
            "limit" => {
                let parsed = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                let text = || bad(format!("limit is a whole number from 1 to {LIMIT_MAX}"));
                once(&mut limit, &name, parsed.ok_or_else(text)?)?;
            }
            "startDate" => once(&mut from, &name, date_of(&name, &value)?)?,
            "endDate" => once(&mut to, &name, date_of(&name, &value)?)?,
            _ => (),
        }
    }
    Ok(Range { limit: limit.unwrap_or(1), from, to })
}

fn bad(text: String) -> Fault {
    Fault::new(Code::BadValue, text)
}

fn date_of(name: &str, value: &str) -> Result<UnixMs, Fault> {
    let forms = "is YYYYMMDDHHmmss, YYYYMMDDTHHmmss or ISO 8601 in UTC";
    date::parse(value).ok_or_else(|| bad(format!("{name} {forms}")))
}

/// The time, for things without a clock: `format=UTC`, as ISO 8601, or `unix_timestamp`, in seconds.
#[utoipa::path(get, path = "/v2/utils/date", tag = "things", operation_id = "tellTime",
    params(("thingToken" = String, Query), ("format" = Option<String>, Query)), security(()),
    responses(Refusals, (status = 200, description = "The time.", body = Vec<Time>)))]
async fn time(visitor: Visitor, uri: Uri) -> Result<Response, Refused> {
    let (mut token, mut format) = (None, None);
    for (name, value) in parameters(&uri)? {
        match name.as_str() {
            "thingToken" => once(&mut token, &name, value)?,
            "format" => once(&mut format, &name, value)?,
            _ => (),
        }
    }
    visitor.thing(&token.unwrap_or_default())?;
    let time = now();
    let value = match format.as_deref() {
        None | Some("UTC") => {
            let mut out = Vec::new();
            date::write(&mut out, time);
            String::from_utf8_lossy(&out).into_owned().into()
        }
        Some("unix_timestamp") => (time.0 / 1_000).into(),
        Some(_) => return Err(bad("format is UTC or unix_timestamp".to_owned()).into()),
    };
    Ok(json(StatusCode::OK, &[Time { value }]))
}
