//! Groups of devices: what `group:ID` in a command means.

use axum::{
    Json,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use fieldgate_core::{access::Verb, fault::Fault, id::DeviceId};
use fieldgate_store::{
    registry::{Change, GroupStep},
    state::Grouped,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Asker, Path, Text, bad, parse},
    devices::{check_text, topics_of},
    etag,
    list::{List, Page, PageQuery},
    no_such,
    patch::given,
};
use crate::http::Problem;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, replace, edit, remove))
        .routes(routes!(join, leave))
}

/// A group, without its devices.
#[derive(Debug, Serialize, ToSchema)]
struct GroupSummary {
    /// Its id, unique in the tenant: `group:ID` in a command.
    #[schema(examples("hall"))]
    id: String,
    /// Its number, from 1: fixed when it was made, and never given again.
    number: u64,
    /// Its name for people.
    name: Option<String>,
    /// How many devices are in it.
    device_count: usize,
}

impl GroupSummary {
    fn of(Grouped { group, devices }: &Grouped) -> Self {
        Self {
            id: group.id.clone(),
            number: group.number,
            name: group.name.clone(),
            device_count: devices.len(),
        }
    }
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
struct GroupView {
    #[serde(flatten)]
    group: GroupSummary,
    /// The ids of its devices.
    devices: Vec<String>,
}

/// A group as it is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGroup {
    /// Its name for people.
    #[schema(max_length = 128)]
    name: Option<String>,
    /// The ids of its devices.
    devices: Vec<String>,
}

/// What of a group is to be another. What is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GroupPatch {
    /// Its name for people; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 128)]
    name: Option<Option<String>>,
    /// The ids of its devices: the whole list; null: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    devices: Option<Option<Vec<String>>>,
}

/// The groups whose devices the asker may read, by id.
#[utoipa::path(get, path = "/v1/groups", tag = "devices", operation_id = "listGroups",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = List<GroupSummary>), Problems))]
async fn list(asker: Asker, page: Page) -> Json<List<GroupSummary>> {
    let groups = asker.shared.state.groups(asker.tenant());
    let all = may_read_all(&asker);
    let may = |grouped: &&Grouped| all || may_read(&asker, grouped);
    let List { items, next } = page.cut(groups.iter().filter(may), |grouped| &grouped.group.id);
    Json(List { items: items.into_iter().map(GroupSummary::of).collect(), next })
}

/// One group. It takes the right to read each of its devices.
#[utoipa::path(get, path = "/v1/groups/{id}", tag = "devices", operation_id = "showGroup",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "It is there.", body = GroupView,
            headers(("ETag" = String, description = "Its revision."))),
        (status = 304, description = "`If-None-Match` names the revision that it has."),
        Problems))]
async fn show(
    asker: Asker,
    Path(id): Path<String>,
    known: etag::Known,
) -> Result<Response, Problem> {
    let found = group(&asker, &id);
    // What may not be read is like what is not there.
    if !may_read_all(&asker) && !found.as_ref().is_ok_and(|found| may_read(&asker, found)) {
        asker.must(Verb::Read)?;
    }
    let grouped = found?;
    known.or_whole(grouped.tag(), || Ok(answer(&grouped)))
}

/// Makes a group, or replaces it whole. With `If-Match` only if it has that revision still, with
/// `If-None-Match: *` only if it is not there.
#[utoipa::path(put, path = "/v1/groups/{id}", tag = "devices", operation_id = "replaceGroup",
    params(("id" = String, Path)), request_body = NewGroup,
    responses(
        (status = 200, description = "It is as asked, and durable.", body = GroupView,
            headers(("ETag" = String, description = "Its new revision."))),
        Problems))]
async fn replace(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
    Text(text): Text,
) -> Result<Response, Problem> {
    asker.must(Verb::Write)?;
    check_text("a group's id", &id)?;
    let NewGroup { name, devices } = parse(text.as_bytes())?;
    check_ids(&devices)?;
    name.iter().try_for_each(|name| check_text("a group's name", name))?;
    change(&asker, &id, &headers, GroupStep::Put { name, devices }).await?;
    Ok(answer(&group(&asker, &id)?))
}

/// Changes parts of a group: a JSON merge patch (RFC 7396).
#[utoipa::path(patch, path = "/v1/groups/{id}", tag = "devices", operation_id = "editGroup",
    params(("id" = String, Path)),
    request_body(content = GroupPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "It is as asked, and durable.", body = GroupView,
            headers(("ETag" = String, description = "Its new revision."))),
        Problems))]
async fn edit(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
    Text(text): Text,
) -> Result<Response, Problem> {
    asker.must(Verb::Write)?;
    let GroupPatch { name, devices } = parse(text.as_bytes())?;
    let devices = devices.map(Option::unwrap_or_default);
    devices.iter().try_for_each(|devices| check_ids(devices))?;
    name.iter().flatten().try_for_each(|name| check_text("a group's name", name))?;
    change(&asker, &id, &headers, GroupStep::Edit { name, devices }).await?;
    Ok(answer(&group(&asker, &id)?))
}

/// Removes a group; its devices stay. A device that names it again makes another one.
#[utoipa::path(delete, path = "/v1/groups/{id}", tag = "devices", operation_id = "removeGroup",
    params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn remove(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Changed>, Problem> {
    asker.must(Verb::Write)?;
    Ok(Json(Changed { seq: change(&asker, &id, &headers, GroupStep::Remove).await? }))
}

/// Puts a device into a group. One that is in it stays.
#[utoipa::path(put, path = "/v1/groups/{id}/devices/{device}", tag = "devices",
    operation_id = "joinGroup", params(("id" = String, Path), ("device" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn join(
    asker: Asker,
    Path((id, device)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Changed>, Problem> {
    asker.must(Verb::Write)?;
    check_ids(std::slice::from_ref(&device))?;
    Ok(Json(Changed { seq: change(&asker, &id, &headers, GroupStep::Join(device)).await? }))
}

/// Takes a device out of a group.
#[utoipa::path(delete, path = "/v1/groups/{id}/devices/{device}", tag = "devices",
    operation_id = "leaveGroup", params(("id" = String, Path), ("device" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn leave(
    asker: Asker,
    Path((id, device)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<Changed>, Problem> {
    asker.must(Verb::Write)?;
    Ok(Json(Changed { seq: change(&asker, &id, &headers, GroupStep::Leave(device)).await? }))
}

/// Whoever may change everything may see what there is to change.
pub(super) fn may_read_all(asker: &Asker) -> bool {
    [Verb::Read, Verb::Write, Verb::Admin].into_iter().any(|verb| asker.may_at(verb, "#"))
}

/// What has these devices is told whole or not at all, so that who writes back what was read loses
/// nothing. Without any there is nothing to decide by: it takes the right to read everything.
pub(super) fn may_read_each<'a>(asker: &Asker, devices: impl Iterator<Item = &'a str>) -> bool {
    let mut devices = devices.peekable();
    devices.peek().is_some() && devices.all(|id| asker.may_at(Verb::Read, &topics_of(id)))
}

fn may_read(asker: &Asker, grouped: &Grouped) -> bool {
    may_read_each(asker, grouped.devices.iter().map(DeviceId::as_str))
}

fn group(asker: &Asker, id: &str) -> Result<Grouped, Fault> {
    asker.shared.state.group(asker.tenant(), id).ok_or_else(|| no_such("group", id))
}

fn check_ids(devices: &[String]) -> Result<(), Fault> {
    devices.iter().try_for_each(|id| id.parse::<DeviceId>().map(drop).map_err(bad))
}

async fn change(
    asker: &Asker,
    id: &str,
    headers: &HeaderMap,
    step: GroupStep,
) -> Result<u64, Problem> {
    let expected = etag::expected(headers)?;
    let changed = asker.change(Change::Group { id: id.to_owned(), expected, step }).await;
    changed.map_err(|fault| {
        let now = asker.shared.state.group(asker.tenant(), id);
        etag::refused(fault, expected, now.map_or(0, |grouped| grouped.tag()))
    })
}

fn answer(grouped: &Grouped) -> Response {
    let devices = grouped.devices.iter().map(ToString::to_string).collect();
    let view = GroupView { group: GroupSummary::of(grouped), devices };
    ([etag::tag(grouped.tag())], Json(view)).into_response()
}
