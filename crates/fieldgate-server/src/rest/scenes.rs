//! Scenes: what each of some devices is to be set to, recalled as one command.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fieldgate_core::{
    access::Verb,
    fault::{Code, Fault},
    id::DeviceId,
};
use fieldgate_dialects::native;
use fieldgate_store::{
    registry::{Change, Scene, ScenePlan, SceneStep},
    state::{Admit, SCENE_DEVICES_MAX},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Asker, Path, Text, bad, parse},
    commands::{Commanded, sent, wait_of},
    devices::{check_text, topics_of},
    etag,
    groups::{may_read_all, may_read_each},
    idempotency::Derived,
    list::{List, Page, PageQuery},
    no_such,
    stored::stored,
};
use crate::{commands, http::Problem};

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, replace, remove))
        .routes(routes!(store))
        .routes(routes!(recall))
}

/// A scene, without what it sets.
#[derive(Debug, Serialize, ToSchema)]
struct SceneSummary {
    /// Its id, unique in the tenant.
    #[schema(examples("evening"))]
    id: String,
    /// Its number in its group, or among those without one, from 1: never given again.
    number: u64,
    /// Its name for people.
    name: Option<String>,
    /// The group that it is listed with.
    group: Option<String>,
    /// Seconds that it takes.
    transition: Option<f64>,
    /// How many devices it sets.
    device_count: usize,
}

impl SceneSummary {
    fn of(scene: &Scene) -> Self {
        let Scene { id, number, plan: ScenePlan { name, group, transition, sets } } = scene;
        Self {
            id: id.clone(),
            number: *number,
            name: name.clone(),
            group: group.clone(),
            transition: *transition,
            device_count: sets.len(),
        }
    }
}

/// A scene.
#[derive(Debug, Serialize, ToSchema)]
struct SceneView {
    #[serde(flatten)]
    scene: SceneSummary,
    /// What each device is set to.
    members: Vec<Member>,
}

/// What a device is set to.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Member {
    /// The device.
    device: String,
    /// Resources and their values, as in a command.
    #[schema(value_type = Object)]
    set: Box<RawValue>,
}

/// A scene as it is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewScene {
    /// Its name for people.
    #[schema(max_length = 128)]
    name: Option<String>,
    /// The group that it is listed with.
    group: Option<String>,
    /// Seconds that it takes.
    #[schema(minimum = 0)]
    transition: Option<f64>,
    /// What each device is set to; each device once.
    #[schema(min_items = 1, max_items = 1000)]
    members: Vec<Member>,
}

/// The scenes whose devices the asker may read, by id.
#[utoipa::path(get, path = "/v1/scenes", tag = "devices", operation_id = "listScenes",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = List<SceneSummary>), Problems))]
async fn list(asker: Asker, page: Page) -> Json<List<SceneSummary>> {
    let scenes = asker.shared.state.scenes(asker.tenant());
    let all = may_read_all(&asker);
    let may = |scene: &&Arc<Scene>| all || may_read(&asker, scene);
    let List { items, next } = page.cut(scenes.iter().filter(may), |scene| &scene.id);
    Json(List { items: items.into_iter().map(|scene| SceneSummary::of(scene)).collect(), next })
}

/// One scene. It takes the right to read each of its devices.
#[utoipa::path(get, path = "/v1/scenes/{id}", tag = "devices", operation_id = "showScene",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "It is there.", body = SceneView,
            headers(("ETag" = String, description = "Its revision."))),
        (status = 304, description = "`If-None-Match` names the revision that it has."),
        Problems))]
async fn show(
    asker: Asker,
    Path(id): Path<String>,
    known: etag::Known,
) -> Result<Response, Problem> {
    let found = scene(&asker, &id);
    // What may not be read is like what is not there.
    if !may_read_all(&asker) && !found.as_ref().is_ok_and(|found| may_read(&asker, found)) {
        asker.must(Verb::Read)?;
    }
    let scene = found?;
    known.or_whole(scene.tag(), || Ok(answer(&scene)?))
}

/// Makes a scene, or replaces it whole. What it sets is checked by the profile of each device. With
/// `If-Match` only if it has that revision still, with `If-None-Match: *` only if it is not there.
#[utoipa::path(put, path = "/v1/scenes/{id}", tag = "devices", operation_id = "replaceScene",
    params(("id" = String, Path)),
    request_body(content = NewScene, example = json!({"name": "Evening", "transition": 2,
        "members": [{"device": "lamp-1", "set": {"on": true, "brightness": 0.3}}]})),
    responses(
        (status = 200, description = "It is as asked, and durable.", body = SceneView,
            headers(("ETag" = String, description = "Its new revision."))),
        Problems))]
async fn replace(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
    Text(text): Text,
) -> Result<Response, Problem> {
    asker.must(Verb::Write)?;
    check_text("a scene's id", &id)?;
    let plan = plan_of(&asker, parse(text.as_bytes())?)?;
    change(&asker, &id, &headers, SceneStep::Put(plan)).await?;
    Ok(answer(&*scene(&asker, &id)?)?)
}

/// Removes a scene.
#[utoipa::path(delete, path = "/v1/scenes/{id}", tag = "devices", operation_id = "removeScene",
    params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn remove(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Changed>, Problem> {
    asker.must(Verb::Write)?;
    Ok(Json(Changed { seq: change(&asker, &id, &headers, SceneStep::Remove).await? }))
}

/// Makes what the devices of a scene reported what it sets them to, as far as it can be written. A
/// device that reported nothing of the kind stays as it is in the scene.
#[utoipa::path(post, path = "/v1/scenes/{id}/store", tag = "devices", operation_id = "storeScene",
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "It is as reported, and durable.", body = SceneView,
            headers(("ETag" = String, description = "Its new revision."))),
        Problems))]
async fn store(
    asker: Asker,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    asker.must(Verb::Write)?;
    let before = scene(&asker, &id)?;
    let mut sets = BTreeMap::new();
    for device in before.plan.sets.keys() {
        asker.must_at(Verb::Read, &topics_of(device))?;
        sets.extend(stored(&asker, device)?.map(|set| (device.clone(), set)));
    }
    change(&asker, &id, &headers, SceneStep::Store(sets)).await?;
    Ok(answer(&*scene(&asker, &id)?)?)
}

/// Sends each device of a scene what it is to be set to: one entry in the log, all of them or none. It
/// takes the right to command each of them. Answers as a command does.
#[utoipa::path(post, path = "/v1/scenes/{id}/recall", tag = "messages",
    operation_id = "recallScene",
    params(("id" = String, Path),
        ("wait" = Option<String>, Query, description = "At most `60s`.", example = "5s")),
    responses((status = 201, description = "It is stored.", body = Commanded), Problems))]
async fn recall(
    asker: Asker,
    Path(id): Path<String>,
    uri: Uri,
    Derived(derived): Derived,
) -> Result<(StatusCode, Json<Commanded>), Problem> {
    let wait = wait_of(&uri)?;
    let scene = scene(&asker, &id)?;
    let transition = scene.plan.transition;
    let wish = |(device, set): (&String, &String)| {
        let id: DeviceId = device.parse().map_err(bad)?;
        Ok((id, Bytes::from(payload(set, transition))))
    };
    let wishes: Vec<_> = scene.plan.sets.iter().map(wish).collect::<Result<_, Fault>>()?;
    if wishes.is_empty() {
        return Err(Fault::new(Code::NotFound, "the scene has no devices any more").into());
    }
    asker.pay(1, wishes.iter().map(|(_, payload)| payload.len()).sum())?;
    let issue = |is_first| {
        let pay = |more| if is_first { asker.pay(more, 0) } else { Ok(()) };
        let (shared, derived) = (&asker.shared, derived.as_ref());
        let issued = commands::issue_each(shared, &asker.principal, &wishes, derived, None, pay)?;
        // Who asks again with the same key hears of the first time.
        if matches!(issued.admitted, Admit::New(_)) {
            tell_called(&asker, &scene);
        }
        Ok(issued)
    };
    sent(&asker, wait, issue).await
}

/// Tells deCONZ apps that a scene was called.
fn tell_called(asker: &Asker, scene: &Scene) {
    let bridge = asker.shared.bridge.as_ref().filter(|bridge| bridge.tenant == *asker.tenant());
    let Some(bridge) = bridge else { return };
    let group = scene.plan.group.as_ref();
    let group = group.and_then(|group| asker.shared.state.group(asker.tenant(), group));
    bridge.scene_called(group.map_or(0, |group| group.group.number), scene.number);
}

/// The command for a device of a scene.
pub(crate) fn payload(set: &str, transition: Option<f64>) -> String {
    let transition = transition.map(|seconds| format!(",\"transition\":{seconds}"));
    format!("{{\"set\":{set}{}}}", transition.unwrap_or_default())
}

fn plan_of(asker: &Asker, new: NewScene) -> Result<ScenePlan, Fault> {
    let NewScene { name, group, transition, members } = new;
    name.iter().try_for_each(|name| check_text("a scene's name", name))?;
    group.iter().try_for_each(|group| check_text("a group's id", group))?;
    if transition.is_some_and(|seconds| !seconds.is_finite() || seconds < 0.0) {
        return Err(bad("transition is a number of seconds, 0 or more"));
    }
    if members.is_empty() || members.len() > SCENE_DEVICES_MAX {
        return Err(bad(format!("a scene has 1 to {SCENE_DEVICES_MAX} members")));
    }
    let mut sets = BTreeMap::new();
    for Member { device, set } in members {
        check(asker, &device, set.get(), transition)?;
        if sets.insert(device.clone(), set.get().to_owned()).is_some() {
            return Err(bad(format!("the device {device} is a member twice")));
        }
    }
    Ok(ScenePlan { name, group, transition, sets })
}

/// Refuses what a device does not take, as a command would be.
fn check(asker: &Asker, id: &str, set: &str, transition: Option<f64>) -> Result<(), Fault> {
    let device = super::devices::device(asker, id)?;
    let profile = device.profile.as_ref().map(|described| &*described.profile);
    let fits = || {
        let payload = payload(set, transition);
        native::canonical(payload.as_bytes())?.map_or(Ok(None), |c| c.fit(profile, None))
    };
    fits().map(drop).map_err(|fault| {
        let message = format!("{id}: {}", fault.message).into();
        Fault { message, ..fault }
    })
}

fn may_read(asker: &Asker, scene: &Scene) -> bool {
    may_read_each(asker, scene.plan.sets.keys().map(String::as_str))
}

fn scene(asker: &Asker, id: &str) -> Result<Arc<Scene>, Fault> {
    asker.shared.state.scene(asker.tenant(), id).ok_or_else(|| no_such("scene", id))
}

async fn change(
    asker: &Asker,
    id: &str,
    headers: &HeaderMap,
    step: SceneStep,
) -> Result<u64, Problem> {
    let expected = etag::expected(headers)?;
    let changed = asker.change(Change::Scene { id: id.to_owned(), expected, step }).await;
    changed.map_err(|fault| {
        let now = asker.shared.state.scene(asker.tenant(), id);
        etag::refused(fault, expected, now.map_or(0, |scene| scene.tag()))
    })
}

fn answer(scene: &Scene) -> Result<Response, Fault> {
    let member = |(device, set): (&String, &String)| {
        let set = RawValue::from_string(set.clone()).map_err(bad)?;
        Ok(Member { device: device.clone(), set })
    };
    let members = scene.plan.sets.iter().map(member).collect::<Result<_, Fault>>()?;
    let view = SceneView { scene: SceneSummary::of(scene), members };
    Ok(([etag::tag(scene.tag())], Json(view)).into_response())
}
