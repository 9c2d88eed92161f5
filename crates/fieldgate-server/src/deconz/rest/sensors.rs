//! Sensors: what devices measure, and sensors that apps make to bring values in.

use std::sync::Arc;

use bytes::Bytes;
use fieldgate_core::{
    fault::Fault,
    id::{DeviceId, Seq},
    message::Message,
    topic::Topic,
};
use fieldgate_dialects::deconz::{Clip, Error, Part, clip, put};
use fieldgate_store::{
    Log as _, Record,
    registry::{Change, Described, Device},
    secret::random_text,
    state::CLIP_PREFIX,
};

use super::{
    Asked, act,
    lights::{look_at, one, rename},
    listing,
    reply::Reply,
    visit::{Visit, no_method},
};
use crate::{
    deconz::Making,
    fabric::{append_fault, now},
};

/// Length of the random end of the id of a sensor that an app makes.
const ID_LEN: usize = 10;

/// What is at `/sensors` and below.
pub(super) async fn answer(
    visit: &Visit<'_>,
    asked: &Asked,
    rest: &[&str],
) -> Result<Reply, Error> {
    match (asked.method.as_str(), rest) {
        ("GET", []) => listing::answer(visit, false).await,
        ("POST", []) => create(visit, &asked.body).await,
        ("GET", [id]) => one(visit, false, id),
        ("PUT", [id]) => rename(visit, false, id, &asked.body).await,
        ("DELETE", [id]) => remove(visit, id).await,
        ("PUT", [id, "config"]) => set_config(visit, id, &asked.body).await,
        ("PUT", [id, "state"]) => set_state(visit, id, &asked.body).await,
        (method, _) => Err(no_method(method, &visit.address)),
    }
}

/// Has a device set what its sensor is configured to.
async fn set_config(visit: &Visit<'_>, id: &str, body: &Bytes) -> Result<Reply, Error> {
    let (device, asked) = look_at(visit, false, id, |shown, (part, instance), _| {
        let asked = put::sensor_config(&visit.address, body, &shown.device, part, instance);
        (shown.id.clone(), asked)
    })?;
    if let Some(payload) = asked.payload() {
        let done = act::command(visit, &[(device, Bytes::from(payload))]).await;
        done.map_err(|fault| visit.error(&fault))?;
    }
    Ok(Reply::Done(asked.answers))
}

/// Makes a sensor of an app: a device, which is one sensor and has the values that the app writes.
async fn create(visit: &Visit<'_>, body: &Bytes) -> Result<Reply, Error> {
    let made = clip::create(&visit.address, body)?;
    let _kept = made.clip.unique_id.as_deref().map(|given| keep(visit, given)).transpose()?;
    let word = made.clip.part.as_str().to_owned();
    let random = random_text(ID_LEN).map_err(|_| Error::Busy(visit.address.clone()))?;
    let id: DeviceId =
        format!("{CLIP_PREFIX}{random}").parse().map_err(|_| Error::Busy(visit.address.clone()))?;
    let profile = Described { revision: 1, profile: Arc::new(made.profile) };
    let device = Device {
        id: id.as_str().to_owned(),
        kind: Some(profile.profile.kind.as_str().to_owned()),
        name: Some(profile.profile.name.clone()),
        profile: Some(profile),
        ..Device::default()
    };
    let parts = Change::Parts {
        device: id.as_str().to_owned(),
        parts: vec![(false, word.clone(), 1)],
        clip: Some(made.clip.to_text()),
    };
    visit.pay(1, body.len()).map_err(|fault| visit.error(&fault))?;
    let mut group =
        vec![visit.change_record(Change::DeviceAdd(device)), visit.change_record(parts)];
    group.extend(messages(visit, &id, made.told).map(Record::Message));
    enter(visit, group).await.map_err(|fault| visit.error(&fault))?;
    let parts = visit.shared.state.parts(&visit.bridge.tenant, &id);
    let number = parts.and_then(|parts| parts.numbers.get(&(word, 1)).copied());
    number.map(Reply::id).ok_or_else(|| Error::Busy(visit.address.clone()))
}

/// Keeps a name that no other part has from whoever asks for it meanwhile.
fn keep<'a>(visit: &Visit<'a>, given: &str) -> Result<Making<'a>, Error> {
    let kept = visit.bridge.make(given).filter(|_| !is_taken(visit, given));
    kept.ok_or_else(|| {
        let (path, name) = (visit.address.clone(), "uniqueid".to_owned());
        Error::Duplicate { path, name, value: given.to_owned() }
    })
}

/// Whether another part has this name already, also one of a device that may come back.
fn is_taken(visit: &Visit<'_>, given: &str) -> bool {
    let first = given.get(..2).and_then(|byte| u8::from_str_radix(byte, 16).ok());
    let all = visit.shared.state.all_parts(&visit.bridge.tenant);
    all.iter().any(|(_, parts)| {
        let own = parts.clip.as_deref().and_then(Clip::parse).and_then(|clip| clip.unique_id);
        if let Some(own) = own {
            return own.eq_ignore_ascii_case(given);
        }
        // Most addresses differ in their first byte: their names need not be written.
        parts.address.first().copied() == first
            && parts.numbers.keys().any(|(word, instance)| {
                let part = Part::parse(word);
                let name = part.map(|part| part.unique_id(parts.address, *instance));
                name.is_some_and(|name| name.eq_ignore_ascii_case(given))
            })
    })
}

/// Appends records as one group; durable, decided and seen by apps when this returns.
async fn enter(visit: &Visit<'_>, group: Vec<Record>) -> Result<(), Fault> {
    let range = visit.shared.log.append(group, now()).map_err(|error| append_fault(&error))?;
    visit.shared.log.announce();
    let last = Seq(*range.end());
    visit.shared.settled(last, true).await?;
    visit.shared.outcome(Seq(*range.start()))?;
    visit.bridge.until_shown(last).await;
    Ok(())
}

/// What an app told, as its sensor's messages.
fn messages(
    visit: &Visit<'_>,
    device: &DeviceId,
    told: clip::Told,
) -> impl Iterator<Item = Message> {
    let of = |leaf, payload: Option<String>| {
        let (tenant, from) = (visit.bridge.tenant.clone(), Arc::clone(&visit.principal.name));
        let topic = Topic::of_device(device, leaf);
        payload.map(|payload| Message::json(tenant, topic, from, now(), payload))
    };
    let telemetry = of("telemetry", told.telemetry);
    telemetry.into_iter().chain(of("events", told.event))
}

/// What an app said that its sensor is; nothing of another one.
fn clip_of(visit: &Visit<'_>, device: &DeviceId) -> Option<Clip> {
    let parts = visit.shared.state.parts(&visit.bridge.tenant, device)?;
    Clip::parse(parts.clip.as_deref()?)
}

/// Takes the values of a sensor that an app made.
async fn set_state(visit: &Visit<'_>, id: &str, body: &Bytes) -> Result<Reply, Error> {
    let (device, state) = look_at(visit, false, id, |shown, (part, instance), _| {
        (shown.id.clone(), shown.device.state(part, instance))
    })?;
    let Some(clip) = clip_of(visit, &device) else {
        return Ok(Reply::Done(clip::refuse(&visit.address, body, &state)));
    };
    let (told, answers) = clip::state(&visit.address, body, &clip);
    let messages: Vec<Record> = messages(visit, &device, told).map(Record::Message).collect();
    if !messages.is_empty() {
        visit.pay(messages.len(), body.len()).map_err(|fault| visit.error(&fault))?;
        let range = visit.shared.log.append(messages, now());
        let range = range.map_err(|error| visit.error(&append_fault(&error)))?;
        visit.shared.log.announce();
        let last = Seq(*range.end());
        let stored = visit.shared.settled(last, true).await;
        stored.map_err(|fault| visit.error(&fault))?;
        visit.bridge.until_shown(last).await;
    }
    Ok(Reply::Done(answers))
}

/// Removes a sensor that an app made. Others are devices, which it takes administration to remove.
async fn remove(visit: &Visit<'_>, id: &str) -> Result<Reply, Error> {
    let (device, number) =
        look_at(visit, false, id, |shown, _, number| (shown.id.clone(), number))?;
    if clip_of(visit, &device).is_none() {
        return Err(no_method("DELETE", &visit.address));
    }
    let change = Change::DeviceRemove(device.as_str().to_owned());
    visit.change(change).await.map_err(|fault| visit.error(&fault))?;
    Ok(Reply::id(number))
}
