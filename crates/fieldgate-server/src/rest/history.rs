//! `GET /v1/devices/{id}/history`: what a device said, and what was said to it.
//!
//! In: a request. Out: a page of messages as they came, and of the holes between them. Read from the
//! log, off the runtime's threads, in the turns that a principal has there.

mod cursor;
pub(crate) mod page;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Uri, header},
    response::Response,
};
use fieldgate_core::{
    access::Verb,
    fault::{Code, Fault},
    id::{DeviceId, Epoch, Position, TenantId, UnixMs},
};
use fieldgate_store::{Log as _, ReadFilter};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Asker, Path, bad},
    query::{bad as wrong, once, parameters, position, time_of, unknown},
};
use crate::http::Problem;
use page::{Edge, Wanted};

const LEN: usize = 100;
const LEN_MAX: usize = 1_000;
const KINDS: [&str; 5] = ["telemetry", "events", "commands", "replies", "state"];
const KNOWN: &str = "from, to, after, cursor, limit, order and kind";

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(history))
}

/// A page of a history. Described here, written as it is read.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryPage {
    /// Messages and gaps, in the order asked for.
    items: Vec<HistoryItem>,
    /// What `cursor` is to be for the next page; null where nothing more is there now.
    #[schema(required = true)]
    next: Option<String>,
}

/// A message, or numbers that nobody will see.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "described, not made")]
enum HistoryItem {
    Message(Box<HistoryMessage>),
    Gap { gap: HistoryGap },
}

/// A message as it came.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryMessage {
    /// When it arrived, in Unix ms.
    arrived: u64,
    /// Where it was published.
    topic: String,
    /// What was sent: JSON as it is, text as a string, bytes as `{"base64":"…"}`.
    payload: Value,
    /// Its number.
    seq: u64,
    /// When it happened, in Unix ms.
    timestamp: u64,
    /// Who sent it.
    from: String,
    /// Its position.
    msgid: String,
    /// The sender's own id of it.
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// `uncertain`, where the sender's time was not believed.
    quality: Option<String>,
    /// The sender's time, then.
    #[serde(rename = "deviceTimestamp")]
    device_timestamp: Option<u64>,
    /// The sender's promise, where it is not 0.
    qos: Option<u8>,
    /// Whether it was to be kept.
    retain: Option<bool>,
}

/// Positions, both inclusive, that nobody will see.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryGap {
    /// The first.
    from: String,
    /// The last.
    to: String,
    /// `retention`, `crash`, `damaged` or `epoch`.
    reason: String,
}

/// The parameters of a history, for the description.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described, not read: `read` refuses with better words")]
struct HistoryParams {
    /// From here on, inclusive: an arrival time in Unix ms or RFC 3339, or a position.
    from: Option<String>,
    /// Up to here, inclusive: the same.
    to: Option<String>,
    /// Behind this position, in the page's order.
    after: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Most items of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u64>,
    /// `asc`: the oldest first; `desc`: the newest.
    #[param(default = "asc")]
    order: Option<String>,
    /// `telemetry`, `events`, `commands`, `replies` or `state`; may be repeated.
    #[param(style = Form, explode)]
    kind: Option<Vec<String>>,
}

/// What a device said and what was said to it, as the log holds it, a page at a time.
#[utoipa::path(get, path = "/v1/devices/{id}/history", tag = "messages",
    operation_id = "readHistory", params(("id" = String, Path, description = "The device."),
    HistoryParams),
    responses((status = 200, description = "A page.", body = HistoryPage), Problems))]
async fn history(asker: Asker, Path(id): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let device: DeviceId = id.parse().map_err(bad)?;
    let shared = Arc::clone(&asker.shared);
    let wanted = read(&uri, asker.tenant(), &device, shared.log.epoch())?;
    for filter in &wanted.filter.filters {
        asker.must_at(Verb::Read, filter.as_str())?;
    }
    let sender = shared.throttle.sender(&asker.principal);
    let stopped = |_| Fault::new(Code::Busy, "the history was not read: try again");
    let turn = Arc::clone(&sender.log_turns).acquire_owned().await.map_err(stopped)?;
    let reading = tokio::task::spawn_blocking(move || {
        // Whoever hangs up meanwhile keeps the turn until the log is left alone.
        let _turn = turn;
        page::read(&*shared.log, &wanted)
    });
    let read = reading.await.map_err(|_| Fault::new(Code::Busy, "the history was not read"))?;
    let page = read.map_err(|error| {
        tracing::error!(%error, "a history could not read the log");
        Fault::new(Code::StorageUnavailable, "the log could not be read")
    })?;
    let mut response = Response::new(Body::from(page));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn read(uri: &Uri, tenant: &TenantId, device: &DeviceId, epoch: Epoch) -> Result<Wanted, Fault> {
    let (mut from, mut to, mut after, mut next) = (None, None, None, None);
    let (mut limit, mut order, mut kinds) = (None, None, Vec::new());
    for (name, value) in parameters(uri)? {
        match name.as_str() {
            "from" => once(&mut from, &name, edge(&name, &value, epoch)?)?,
            "to" => once(&mut to, &name, edge(&name, &value, epoch)?)?,
            "after" => once(&mut after, &name, position(&name, &value)?)?,
            "cursor" => once(&mut next, &name, value)?,
            "limit" => {
                let len = value.parse().ok().filter(|len| (1..=LEN_MAX).contains(len));
                let text = || wrong(format!("limit is a whole number from 1 to {LEN_MAX}"));
                once(&mut limit, &name, len.ok_or_else(text)?)?;
            }
            "order" => once(&mut order, &name, newest_first(&value)?)?,
            "kind" => {
                let kind = KINDS.into_iter().find(|kind| *kind == value);
                let text = || wrong(format!("kind is one of {}", KINDS.join(", ")));
                let kind = kind.ok_or_else(text)?;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            _ => return Err(unknown(&name, KNOWN)),
        }
    }
    let newest_first = order.unwrap_or(false);
    if after.is_some() && next.is_some() {
        return Err(wrong("after and cursor exclude each other: give one of them"));
    }
    if let Some(cursor) = next {
        let text = || wrong("cursor is the next of an earlier page in the same order");
        after = Some(cursor::decode(&cursor, newest_first).ok_or_else(text)?);
    }
    if kinds.is_empty() {
        kinds.push("#");
    }
    let topic = |kind: &&str| format!("devices/{device}/{kind}").parse();
    let filters = kinds.iter().map(topic).collect::<Result<_, _>>().map_err(bad)?;
    let time = |edge| match edge {
        Some(Edge::Time(time)) => Some(time),
        Some(Edge::At(_)) | None => None,
    };
    let (arrived_from, arrived_until): (Option<UnixMs>, Option<UnixMs>) = (time(from), time(to));
    let tenant = Some(tenant.clone());
    let filter = ReadFilter { tenant, filters, arrived_from, arrived_until };
    Ok(Wanted { filter, from, to, after, newest_first, limit: limit.unwrap_or(LEN) })
}

/// Reads a time or a position of this log.
fn edge(name: &str, value: &str, epoch: Epoch) -> Result<Edge, Fault> {
    if let Some(time) = time_of(value) {
        return Ok(Edge::Time(time));
    }
    match value.parse() {
        Ok(Position { epoch: of, seq }) if of == epoch => Ok(Edge::At(seq)),
        Ok(_) => {
            let text = format!("{name} is of another life of the log: ask by time");
            Err(Fault::new(Code::Conflict, text))
        }
        Err(_) => {
            Err(wrong(format!("{name} is a time in Unix ms or RFC 3339, or a position epoch:seq")))
        }
    }
}

fn newest_first(value: &str) -> Result<bool, Fault> {
    match value {
        "asc" => Ok(false),
        "desc" => Ok(true),
        _ => Err(wrong("order is asc or desc")),
    }
}

#[cfg(test)]
mod tests;
