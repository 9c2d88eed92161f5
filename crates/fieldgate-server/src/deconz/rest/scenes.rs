//! Scenes of a group: those of `/v1`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fieldgate_core::{fault::Fault, id::DeviceId};
use fieldgate_dialects::deconz::{Answer, Error, put};
use fieldgate_store::registry::{Change, Scene, ScenePlan, SceneStep};
use serde_json::Value;

use super::{
    act,
    groups::{free_id, number_of, with},
    reply::Reply,
    visit::{Visit, no_method},
};
use crate::{
    deconz::grouped::SceneOf,
    rest::{scene_payload, stored_of},
};

/// What is at `/groups/GROUP/scenes` and below.
pub(super) async fn answer(
    visit: &Visit<'_>,
    method: &str,
    group: &str,
    rest: &[&str],
    body: &Bytes,
) -> Result<Reply, Error> {
    let group = number_of(visit, group)?;
    match (method, rest) {
        ("GET", []) => with(visit, group, |_, group| Reply::tagged(group.scenes_json())),
        ("POST", []) => create(visit, group, body).await,
        ("GET", [id]) => Ok(Reply::tagged(scene(visit, group, id)?.json())),
        ("PUT", [id]) => rename(visit, group, id, body).await,
        ("DELETE", [id]) => {
            let scene = scene(visit, group, id)?;
            change(visit, &scene.id, None, SceneStep::Remove).await?;
            Ok(done(id))
        }
        ("PUT", [id, "store"]) => store(visit, group, id, body).await,
        ("PUT", [id, "recall"]) => recall(visit, group, id, body).await,
        (method, _) => Err(no_method(method, &visit.address)),
    }
}

fn done(id: &str) -> Reply {
    Reply::Done(vec![Answer::Success("id".to_owned(), Value::from(id))])
}

/// A scene of a group.
fn scene(visit: &Visit<'_>, group: u64, id: &str) -> Result<SceneOf, Error> {
    let none = || Error::NotAvailable(format!("/groups/{group}/scenes/{id}"));
    let number = id.parse().map_err(|_| none())?;
    with(visit, group, |_, group| group.scene(number).cloned())?.ok_or_else(none)
}

/// What `/v1` has of it.
fn registered(visit: &Visit<'_>, scene: &SceneOf) -> Result<std::sync::Arc<Scene>, Error> {
    let found = visit.shared.state.scene(&visit.bridge.tenant, &scene.id);
    found.ok_or_else(|| Error::NotAvailable(visit.address.clone()))
}

async fn create(visit: &Visit<'_>, group: u64, body: &Bytes) -> Result<Reply, Error> {
    let asked = put::scene(&visit.address, body, true);
    if let Some(failure) = asked.failure() {
        return Err(failure.clone());
    }
    let Some(name) = asked.name else { return Ok(Reply::Done(asked.answers)) };
    let is_taken = |id: &str| visit.shared.state.scene(&visit.bridge.tenant, id).is_some();
    let id = free_id(&name, is_taken);
    let of = with(visit, group, |_, group| group.id.clone())?;
    let sets = sets_of(visit, group, BTreeMap::new())?;
    let plan = ScenePlan { name: Some(name), group: of, transition: None, sets };
    change(visit, &id, Some(0), SceneStep::Put(plan)).await?;
    let made = visit.shared.state.scene(&visit.bridge.tenant, &id);
    made.map(|made| Reply::id(made.number)).ok_or_else(|| Error::Busy(visit.address.clone()))
}

/// What the lights of a group and the devices of a scene reported, as far as it can be written; else
/// what was there.
fn sets_of(
    visit: &Visit<'_>,
    group: u64,
    before: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Error> {
    let devices = with(visit, group, |view, group| {
        let lights = group.lights.iter().filter_map(|number| view.part(true, *number));
        lights.map(|(shown, _)| shown.id.clone()).collect::<Vec<DeviceId>>()
    })?;
    let own: Vec<DeviceId> = before.keys().filter_map(|id| id.parse().ok()).collect();
    let devices: BTreeSet<DeviceId> = devices.into_iter().chain(own).collect();
    let mut sets = before;
    for device in devices {
        if let Some(set) = stored_of(visit.shared, &visit.bridge.tenant, &device) {
            sets.insert(device.as_str().to_owned(), set);
        }
    }
    Ok(sets)
}

async fn store(visit: &Visit<'_>, group: u64, id: &str, body: &Bytes) -> Result<Reply, Error> {
    put::call(&visit.address, body)?;
    let scene = scene(visit, group, id)?;
    let before = registered(visit, &scene)?;
    let plan = before.plan.clone();
    let sets = sets_of(visit, group, plan.sets.clone())?;
    let step = SceneStep::Put(ScenePlan { sets, ..plan });
    change(visit, &scene.id, Some(before.tag()), step).await?;
    Ok(done(id))
}

async fn rename(visit: &Visit<'_>, group: u64, id: &str, body: &Bytes) -> Result<Reply, Error> {
    let scene = scene(visit, group, id)?;
    let asked = put::scene(&visit.address, body, false);
    let Some(name) = asked.name else { return Ok(Reply::Done(asked.answers)) };
    let before = registered(visit, &scene)?;
    let step = SceneStep::Put(ScenePlan { name: Some(name), ..before.plan.clone() });
    change(visit, &scene.id, Some(before.tag()), step).await?;
    Ok(Reply::Done(asked.answers))
}

async fn recall(visit: &Visit<'_>, group: u64, id: &str, body: &Bytes) -> Result<Reply, Error> {
    put::call(&visit.address, body)?;
    let scene = scene(visit, group, id)?;
    let plan = &registered(visit, &scene)?.plan;
    let wish = |(device, set): (&String, &String)| {
        let device: DeviceId = device.parse().ok()?;
        Some((device, Bytes::from(scene_payload(set, plan.transition))))
    };
    let wishes: Vec<_> = plan.sets.iter().filter_map(wish).collect();
    act::command(visit, &wishes).await.map_err(|fault| visit.error(&fault))?;
    visit.bridge.scene_called(group, scene.number);
    Ok(done(id))
}

/// `expected`: the tag of the scene as it was read; 0 of one that there must not be.
async fn change(
    visit: &Visit<'_>,
    id: &str,
    expected: Option<u64>,
    step: SceneStep,
) -> Result<(), Error> {
    let change = Change::Scene { id: id.to_owned(), expected, step };
    let changed: Result<_, Fault> = visit.change(change).await;
    changed.map(drop).map_err(|fault| visit.error(&fault))
}
