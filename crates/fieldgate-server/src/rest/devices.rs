//! Devices; their secrets are in `credentials`.

mod edit;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::Verb,
    fault::Fault,
    id::DeviceId,
    profile::{Kind, Profile},
    topic::Filter,
};
use fieldgate_dialects::native;
use fieldgate_store::{
    registry::{Change, Described, Device},
    state::GROUPS_PER_DEVICE_MAX,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Admin, Asker, Body, Path, bad},
    credentials::{CredentialType, Integrity, Kept, secret},
    etag,
    idempotency::{Forgets, Once},
    list::{List, Page, PageQuery},
    no_such,
};
use crate::http::Problem;

/// Most bytes of a name for people and of a group's id.
const TEXT_BYTES_MAX: usize = 128;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, remove))
        .merge(edit::router())
}

/// A device.
#[derive(Debug, Serialize, ToSchema)]
struct DeviceView {
    /// Its id, unique in the tenant.
    #[schema(pattern = "^[A-Za-z0-9._:~-]{1,128}$", examples("lamp-1"))]
    id: String,
    /// What it is.
    #[schema(examples("light"))]
    kind: Option<String>,
    /// Its name for people.
    name: Option<String>,
    /// The groups that it is in.
    groups: Vec<String>,
    /// The device ids that it may speak for: a filter.
    gateway_for: Option<String>,
    /// The ids of its secrets.
    credentials: Vec<String>,
    /// Whether each of its frames must be signed.
    integrity: Integrity,
    /// The integration that brought it.
    source: Option<String>,
    /// The gateway that its source last heard it by.
    gateway: Option<String>,
}

impl DeviceView {
    fn of(asker: &Asker, device: &Device) -> Self {
        let id = device.id.parse().ok();
        let state = &asker.shared.state;
        let guard = id.as_ref().and_then(|id| state.guard(asker.tenant(), id));
        let origin = id.and_then(|id| state.origin(asker.tenant(), &id));
        let (source, gateway) =
            origin.map(|origin| (origin.source.clone(), origin.gateway.clone())).unzip();
        Self {
            source,
            gateway: gateway.flatten(),
            integrity: Integrity::of(guard.as_deref()),
            id: device.id.clone(),
            kind: device.kind.clone(),
            name: device.name.clone(),
            groups: device.groups.clone(),
            gateway_for: device.gateway_for.clone(),
            credentials: device.credentials.keys().cloned().collect(),
        }
    }
}

/// A device with its profile.
#[derive(Debug, Serialize, ToSchema)]
struct DeviceWhole {
    #[serde(flatten)]
    device: DeviceView,
    /// Rises with each change of the profile, from 1; null without one.
    revision: Option<u64>,
    /// What it is and which of its resources may be written; null: a sensor of which nothing may.
    #[schema(value_type = Option<Object>)]
    profile: Option<Value>,
}

/// A device to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    /// Its id, unique in the tenant. It does not begin with `key:`, `user:` or `source:`.
    #[schema(pattern = "^[A-Za-z0-9._:~-]{1,128}$", examples("lamp-1"))]
    id: String,
    /// What it is: light, plug, cover, lock, thermostat, switch, sensor, gateway, machine or other.
    /// It gets the profile of that kind.
    #[schema(examples("light"))]
    kind: Option<String>,
    /// Its name for people.
    #[schema(max_length = 128)]
    name: Option<String>,
    /// The groups that it is in. One that is not there is made.
    #[serde(default)]
    #[schema(max_items = 64)]
    groups: Vec<String>,
    /// The device ids that it may speak for: a filter.
    gateway_for: Option<String>,
    /// What its secret is for.
    #[serde(default, rename = "type")]
    credential: CredentialType,
    /// A secret of your own, 16 bytes or more; one is made if there is none.
    token: Option<String>,
    /// Whether who connects with it may replace the profile of the device, and of those that the
    /// device speaks for.
    #[serde(default)]
    allow_profile: bool,
    /// Whether each of its frames must be signed; then its secret is of the type `hmac`.
    #[serde(default)]
    integrity: Integrity,
}

/// What was made for a device. The secret is told this once.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// Its tenant.
    tenant: String,
    /// The device.
    id: String,
    /// The secret; null if it was brought along, and in the answer to a repeat.
    #[schema(required = true)]
    token: Option<String>,
}

impl MadeToken {
    pub(super) fn new(asker: &Asker, id: &DeviceId, token: Option<String>) -> Self {
        let (tenant, id) = (asker.tenant().as_str().to_owned(), id.as_str().to_owned());
        Self { tenant, id, token }
    }
}

impl Forgets for MadeToken {
    fn forget(&mut self) {
        self.token = None;
    }
}

/// The devices that the asker may read, by id.
#[utoipa::path(get, path = "/v1/devices", tag = "devices",
    operation_id = "listDevices", params(PageQuery),
    responses((status = 200, description = "A page.", body = List<DeviceView>), Problems))]
async fn list(asker: Asker, page: Page) -> Json<List<DeviceView>> {
    let devices = asker.shared.state.devices(asker.tenant());
    let may = |device: &&Arc<Device>| may_read(&asker, &device.id);
    let List { items, next } = page.cut(devices.iter().filter(may), |device| &device.id);
    Json(List {
        items: items.into_iter().map(|device| DeviceView::of(&asker, device)).collect(),
        next,
    })
}

/// Makes a device and tells its secret, once.
#[utoipa::path(post, path = "/v1/devices", tag = "devices",
    operation_id = "addDevice", request_body = NewDevice,
    responses((status = 201, description = "It is made.", body = MadeToken), Problems))]
async fn add(Admin(asker): Admin, Body(new): Body<NewDevice>) -> Result<Once<MadeToken>, Problem> {
    let id: DeviceId = new.id.parse().map_err(bad)?;
    new.gateway_for.iter().try_for_each(|filter| check_filter(filter))?;
    let kind = new.kind.as_deref().map(native::parse_kind).transpose()?;
    new.name.iter().try_for_each(|name| check_text("a device's name", name))?;
    let groups = groups_of(new.groups)?;
    let integrity = new.integrity == Integrity::Required;
    if integrity && !matches!(new.credential, CredentialType::Hmac) {
        return Err(bad("integrity takes a credential of type hmac").into());
    }
    let secret = secret(&asker, &id, new.credential, new.token, None)?;
    let mut device = Device {
        id: new.id,
        kind: new.kind,
        name: new.name,
        groups,
        gateway_for: new.gateway_for,
        profile: kind.map(profile_of),
        ..Device::default()
    };
    let describing = new.allow_profile;
    asker
        .change(match secret.kept {
            Kept::Signing(secret) => {
                Change::DeviceAddSigning { device, secret, describing, integrity }
            }
            Kept::Hash(hash) => {
                device.describing = describing.then(|| secret.id.clone()).into_iter().collect();
                device.credentials = BTreeMap::from([(secret.id, hash)]);
                Change::DeviceAdd(device)
            }
        })
        .await?;
    Ok(Once(MadeToken::new(&asker, &id, secret.token)))
}

/// One device.
#[utoipa::path(get, path = "/v1/devices/{id}", tag = "devices",
    operation_id = "showDevice", params(("id" = String, Path)),
    responses(
        (status = 200, description = "It is there.", body = DeviceWhole,
            headers(("ETag" = String, description = "Its revision."))),
        (status = 304, description = "`If-None-Match` names the revision that it has."),
        Problems))]
async fn show(
    asker: Asker,
    Path(id): Path<String>,
    known: etag::Known,
) -> Result<Response, Problem> {
    must_read(&asker, &id)?;
    let found = device(&asker, &id)?;
    known.or_whole(tag_of(&asker, &found), || Ok(whole(&asker, &found)?))
}

fn whole(asker: &Asker, device: &Device) -> Result<Response, Fault> {
    let described = device.profile.as_ref();
    let profile = described.map(|described| native::encode_profile(&described.profile));
    let profile = profile.map(|text| serde_json::from_str(&text)).transpose().map_err(bad)?;
    let revision = described.map(|described| described.revision);
    let whole = DeviceWhole { device: DeviceView::of(asker, device), revision, profile };
    Ok(([etag::tag(tag_of(asker, device))], Json(whole)).into_response())
}

/// The revision of a device.
fn tag_of(asker: &Asker, device: &Device) -> u64 {
    let id = device.id.parse().ok();
    let state = &asker.shared.state;
    let guard = id.as_ref().and_then(|id| state.guard(asker.tenant(), id));
    let origin = id.and_then(|id| state.origin(asker.tenant(), &id));
    device.tag(guard.as_deref(), origin.as_deref())
}

/// Removes a device; its connections end within a second.
#[utoipa::path(delete, path = "/v1/devices/{id}", tag = "devices",
    operation_id = "removeDevice", params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn remove(Admin(asker): Admin, Path(id): Path<String>) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { seq: asker.change(Change::DeviceRemove(id)).await? }))
}

/// What a device of a kind has before it says more itself.
pub(crate) fn profile_of(kind: Kind) -> Described {
    let profile = Profile { kind, resources: kind.template(), ..Profile::default() };
    Described { revision: 1, profile: Arc::new(profile) }
}

/// The topics of a device, as rights name them.
pub(super) fn topics_of(id: &str) -> String {
    format!("devices/{id}/#")
}

/// Whoever administers may see what there is to administer.
fn may_read(asker: &Asker, id: &str) -> bool {
    asker.may_at(Verb::Read, &topics_of(id)) || asker.may_at(Verb::Admin, "#")
}

/// Refuses who may not read what is known of a device.
pub(super) fn must_read(asker: &Asker, id: &str) -> Result<(), Problem> {
    if may_read(asker, id) { Ok(()) } else { asker.must_at(Verb::Read, &topics_of(id)) }
}

pub(super) fn device(asker: &Asker, id: &str) -> Result<Arc<Device>, Fault> {
    let id: DeviceId = id.parse().map_err(bad)?;
    let device = asker.shared.state.device(asker.tenant(), &id);
    device.ok_or_else(|| no_such("device", id.as_str()))
}

fn check_filter(filter: &str) -> Result<(), Fault> {
    let wrong = |why| bad(format!("gateway_for is a filter of device ids: {why}"));
    filter.parse::<Filter>().map(drop).map_err(wrong)
}

/// The groups that a device is to be in, each once.
pub(super) fn groups_of(asked: Vec<String>) -> Result<Vec<String>, Fault> {
    if asked.len() > GROUPS_PER_DEVICE_MAX {
        return Err(bad(format!("a device is in at most {GROUPS_PER_DEVICE_MAX} groups")));
    }
    let mut groups: Vec<String> = Vec::new();
    for group in asked {
        check_text("a group's id", &group)?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

pub(super) fn check_text(what: &str, text: &str) -> Result<(), Fault> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        let rule = format!("1 to {TEXT_BYTES_MAX} bytes without control characters");
        return Err(bad(format!("{what} is {rule}")));
    }
    Ok(())
}
