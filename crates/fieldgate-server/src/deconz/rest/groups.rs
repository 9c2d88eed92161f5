//! Groups: those of `/v1`, as far as lights are in them.

use bytes::Bytes;
use fieldgate_core::id::DeviceId;
use fieldgate_dialects::deconz::{Error, put};
use fieldgate_store::registry::{Change, GroupStep};
use serde_json::{Map, Value};

use super::{
    Asked, act,
    reply::Reply,
    visit::{Visit, no_method},
};
use crate::deconz::{grouped::Group, view::View};

/// What is at `/groups` and below, but for scenes.
pub(super) async fn answer(
    visit: &Visit<'_>,
    asked: &Asked,
    rest: &[&str],
) -> Result<Reply, Error> {
    match (asked.method.as_str(), rest) {
        ("GET", []) => visit.look(|view| Reply::tagged(all(view))),
        ("POST", []) => create(visit, &asked.body).await,
        ("GET", [id]) => {
            let number = number_of(visit, id)?;
            with(visit, number, |view, group| Reply::tagged(group.json(view, number)))
        }
        ("PUT", [id]) => edit(visit, id, &asked.body).await,
        ("DELETE", [id]) => remove(visit, id).await,
        ("PUT", [id, "action"]) => act_on(visit, id, &asked.body).await,
        (method, _) => Err(no_method(method, &visit.address)),
    }
}

/// Every group by its number.
pub(super) fn all(view: &View) -> Map<String, Value> {
    let whole = |(number, group): (u64, &Group)| {
        (number.to_string(), Value::Object(group.json(view, number)))
    };
    view.groups.all().map(whole).collect()
}

pub(super) fn number_of(visit: &Visit<'_>, id: &str) -> Result<u64, Error> {
    id.parse().map_err(|_| Error::NotAvailable(visit.address.clone()))
}

/// Looks at a group.
pub(super) fn with<T>(
    visit: &Visit<'_>,
    number: u64,
    look: impl FnOnce(&View, &Group) -> T,
) -> Result<T, Error> {
    let found = visit.look(|view| view.groups.get(number).map(|group| look(view, group)))?;
    found.ok_or_else(|| Error::NotAvailable(format!("/groups/{number}")))
}

/// What `/v1` calls a group.
fn id_of(visit: &Visit<'_>, number: u64, method: &str) -> Result<String, Error> {
    let id = with(visit, number, |_, group| group.id.clone())?;
    id.ok_or_else(|| no_method(method, &visit.address))
}

async fn create(visit: &Visit<'_>, body: &Bytes) -> Result<Reply, Error> {
    let asked = put::group(&visit.address, body, true);
    if let Some(failure) = asked.failure() {
        return Err(failure.clone());
    }
    let Some(name) = asked.name else { return Ok(Reply::Done(asked.answers)) };
    let is_taken = |id: &str| visit.shared.state.group(&visit.bridge.tenant, id).is_some();
    let id = free_id(&name, is_taken);
    let devices = members(visit, &id, asked.lights.as_deref().unwrap_or_default())?;
    let step = GroupStep::Put { name: Some(name), devices };
    change(visit, &id, Some(0), step).await?;
    let made = visit.shared.state.group(&visit.bridge.tenant, &id);
    let number =
        made.map(|made| made.group.number).ok_or_else(|| Error::Busy(visit.address.clone()))?;
    Ok(Reply::id(number))
}

async fn edit(visit: &Visit<'_>, id: &str, body: &Bytes) -> Result<Reply, Error> {
    let number = number_of(visit, id)?;
    let id = id_of(visit, number, "PUT")?;
    let edit = put::group(&visit.address, body, false);
    if edit.name.is_none() && edit.lights.is_none() {
        return Ok(Reply::Done(edit.answers));
    }
    let devices = edit.lights.as_ref().map(|lights| members(visit, &id, lights)).transpose()?;
    let step = GroupStep::Edit { name: edit.name.map(Some), devices };
    change(visit, &id, None, step).await?;
    Ok(Reply::Done(edit.answers))
}

/// The devices of a group whose lights are to be these; what is no light stays.
fn members(visit: &Visit<'_>, id: &str, lights: &[u64]) -> Result<Vec<String>, Error> {
    let grouped = visit.shared.state.group(&visit.bridge.tenant, id);
    let before = grouped.map(|grouped| grouped.devices).unwrap_or_default();
    visit.look(|view| {
        let others = before.iter().filter(|device| view.lights_of(device).is_empty());
        let mut members: Vec<String> = others.map(|device| device.as_str().to_owned()).collect();
        for number in lights {
            let Some((shown, _)) = view.part(true, *number) else {
                return Err(Error::InvalidValue {
                    path: visit.address.clone(),
                    name: "lights".to_owned(),
                    value: number.to_string(),
                });
            };
            members.push(shown.id.as_str().to_owned());
        }
        members.dedup();
        Ok(members)
    })?
}

async fn remove(visit: &Visit<'_>, id: &str) -> Result<Reply, Error> {
    let number = number_of(visit, id)?;
    let id = id_of(visit, number, "DELETE")?;
    // As apps know it, its scenes go with it.
    change(visit, &id, None, GroupStep::RemoveWithScenes).await?;
    Ok(Reply::id(number))
}

async fn change(
    visit: &Visit<'_>,
    id: &str,
    expected: Option<u64>,
    step: GroupStep,
) -> Result<(), Error> {
    let changed = visit.change(Change::Group { id: id.to_owned(), expected, step }).await;
    changed.map(drop).map_err(|fault| visit.error(&fault))
}

/// Has every light of a group do something, each what it can.
async fn act_on(visit: &Visit<'_>, id: &str, body: &Bytes) -> Result<Reply, Error> {
    let number = number_of(visit, id)?;
    let (wishes, answers) = with(visit, number, |view, group| {
        let lights = group.lights.iter().filter_map(|number| view.part(true, *number));
        let lights: Vec<_> = lights.map(|(shown, (_, instance))| (shown, instance)).collect();
        let devices: Vec<_> =
            lights.iter().map(|(shown, instance)| (&shown.device, *instance)).collect();
        let action = put::group_action(&visit.address, body, &devices);
        let wishes = lights.iter().zip(&action.each);
        let wishes = wishes
            .filter_map(|((shown, _), asked)| Some((shown.id.clone(), asked.payload()?.into())));
        (wishes.collect::<Vec<(DeviceId, Bytes)>>(), action.answers)
    })?;
    act::command(visit, &wishes).await.map_err(|fault| visit.error(&fault))?;
    Ok(Reply::Done(answers))
}

/// An id that can be read, made of a name.
pub(super) fn free_id(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let plain =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let plain: String = plain.take(40).collect();
    let plain = plain.trim_matches('-');
    let stem = if plain.is_empty() { "app" } else { plain };
    let numbered = (2_u32..).map(|number| format!("{stem}-{number}"));
    let mut ids = std::iter::once(stem.to_owned()).chain(numbered);
    ids.find(|id| !is_taken(id)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_of_a_name_and_is_free() {
        assert_eq!(free_id("Living room", |_| false), "living-room");
        assert_eq!(free_id("Küche!", |_| false), "k-che");
        assert_eq!(free_id("居間", |_| false), "app");
        assert_eq!(free_id("hall", |id| matches!(id, "hall" | "hall-2")), "hall-3");
    }
}
