//! Lights: everything that an app switches (`wire.md` 2.5, 2.6).

use bytes::Bytes;
use fieldgate_dialects::deconz::{Error, put};
use fieldgate_store::registry::{Change, Edit};

use super::{
    Asked, act, listing,
    reply::Reply,
    visit::{Visit, no_method, read_only},
};
use crate::deconz::shown::{Place, Shown};

/// What is at `/lights` and below.
pub(super) async fn answer(
    visit: &Visit<'_>,
    asked: &Asked,
    rest: &[&str],
) -> Result<Reply, Error> {
    match (asked.method.as_str(), rest) {
        ("GET", []) => listing::answer(visit, true).await,
        ("GET", [id]) => one(visit, true, id),
        ("PUT", [id]) => rename(visit, true, id, &asked.body).await,
        ("PUT", [id, "state"]) => set(visit, id, &asked.body).await,
        (method, _) => Err(no_method(method, &visit.address)),
    }
}

/// One light or sensor.
pub(super) fn one(visit: &Visit<'_>, is_light: bool, id: &str) -> Result<Reply, Error> {
    let found = look_at(visit, is_light, id, |shown, place, _| shown.resource(place))?;
    found.map(Reply::tagged).ok_or_else(|| Error::NotAvailable(visit.address.clone()))
}

/// Looks at a light or a sensor by its number.
pub(super) fn look_at<T>(
    visit: &Visit<'_>,
    is_light: bool,
    id: &str,
    look: impl FnOnce(&Shown, Place, u64) -> T,
) -> Result<T, Error> {
    let list = if is_light { "lights" } else { "sensors" };
    let none = || Error::NotAvailable(format!("/{list}/{id}"));
    let number: u64 = id.parse().map_err(|_| none())?;
    let found = visit.look(|view| {
        view.part(is_light, number).map(|(shown, place)| look(shown, place, number))
    })?;
    found.ok_or_else(none)
}

/// Gives a device another name: each of its lights and sensors has it.
pub(super) async fn rename(
    visit: &Visit<'_>,
    is_light: bool,
    id: &str,
    body: &Bytes,
) -> Result<Reply, Error> {
    let (device, is_registered, about) = look_at(visit, is_light, id, |shown, place, _| {
        (shown.id.clone(), shown.registered.is_some(), shown.resource(place).unwrap_or_default())
    })?;
    let asked = put::rename(&visit.address, body, &about);
    let Some(name) = asked.name else { return Ok(Reply::Done(asked.answers)) };
    if !is_registered {
        return Err(read_only(&visit.address, "name"));
    }
    let edit = Edit::Device {
        id: device.as_str().to_owned(),
        name: Some(Some(name)),
        kind: None,
        groups: None,
        gateway_for: None,
    };
    let changed = visit.change(Change::Edit { expected: None, edit }).await;
    changed.map_err(|fault| visit.error(&fault))?;
    Ok(Reply::Done(asked.answers))
}

/// Has a light do something.
async fn set(visit: &Visit<'_>, id: &str, body: &Bytes) -> Result<Reply, Error> {
    let (device, asked) = look_at(visit, true, id, |shown, (_, instance), _| {
        (shown.id.clone(), put::light_state(&visit.address, body, &shown.device, instance))
    })?;
    if let Some(payload) = asked.payload() {
        let done = act::command(visit, &[(device, Bytes::from(payload))]).await;
        done.map_err(|fault| visit.error(&fault))?;
    }
    Ok(Reply::Done(asked.answers))
}
