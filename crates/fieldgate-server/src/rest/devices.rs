//! Devices and their secrets.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, http::StatusCode};
use fieldgate_core::{
    access::Verb,
    fault::Fault,
    id::DeviceId,
    profile::{Kind, Profile},
    topic::Filter,
};
use fieldgate_dialects::native;
use fieldgate_store::{
    registry::{Change, Described, Device, SecretHash},
    secret::{OWN_TOKEN_BYTES_MIN, TokenKind, is_thing_token, make_token, random_text},
    state::GROUPS_PER_DEVICE_MAX,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Admin, Asker, Body, Path, bad},
    io_fault,
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
        .routes(routes!(rotate))
        .routes(routes!(credentials, credential_add))
        .routes(routes!(credential_show, credential_remove))
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
}

impl DeviceView {
    fn of(device: &Device) -> Self {
        Self {
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
    /// Its id, unique in the tenant.
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
}

/// A secret to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCredential {
    /// What it is for.
    #[serde(default, rename = "type")]
    credential: CredentialType,
    /// A secret of your own, 16 bytes or more; one is made if there is none.
    token: Option<String>,
    /// Whether who connects with it may replace the profile of the device, and of those that the
    /// device speaks for.
    #[serde(default)]
    allow_profile: bool,
}

/// What a secret is for.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CredentialType {
    /// The native dialect and HTTP.
    #[default]
    Token,
    /// The thethings.iO dialect alone.
    Thing,
    /// Not yet.
    Hmac,
}

/// What was made for a device. The secret is told this once.
#[derive(Serialize, ToSchema)]
struct MadeToken {
    /// Its tenant.
    tenant: String,
    /// The device.
    id: String,
    /// The secret; null if it was brought along.
    #[schema(required = true)]
    token: Option<String>,
}

/// A secret that was made. It is told this once.
#[derive(Serialize, ToSchema)]
struct MadeCredential {
    /// Its tenant.
    tenant: String,
    /// The device.
    id: String,
    /// The secret's id.
    credential: String,
    /// What it is for.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The secret; null if it was brought along.
    #[schema(required = true)]
    token: Option<String>,
}

/// A secret of a device, without the secret.
#[derive(Debug, Serialize, ToSchema)]
struct CredentialView {
    /// Its id.
    id: String,
    /// What it is for.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Whether it may replace profiles.
    allow_profile: bool,
}

impl CredentialView {
    fn of(device: &Device, id: &str) -> Self {
        let allow_profile = device.describing.contains(id);
        Self { id: id.to_owned(), kind: type_of(id), allow_profile }
    }
}

/// A new secret, and the token in clear if it was made here.
struct Secret {
    id: String,
    hash: SecretHash,
    token: Option<String>,
}

/// The devices that the asker may read, by id.
#[utoipa::path(get, path = "/v1/devices", tag = "devices",
    operation_id = "listDevices", params(PageQuery),
    responses((status = 200, description = "A page.", body = List<DeviceView>), Problems))]
async fn list(asker: Asker, page: Page) -> Json<List<DeviceView>> {
    let devices = asker.shared.state.devices(asker.tenant());
    let may = |device: &&Arc<Device>| may_read(&asker, &device.id);
    let List { items, next } = page.cut(devices.iter().filter(may), |device| &device.id);
    Json(List { items: items.into_iter().map(|device| DeviceView::of(device)).collect(), next })
}

/// Makes a device and tells its secret, once.
#[utoipa::path(post, path = "/v1/devices", tag = "devices",
    operation_id = "addDevice", request_body = NewDevice,
    responses((status = 201, description = "It is made.", body = MadeToken), Problems))]
async fn add(
    Admin(asker): Admin,
    Body(new): Body<NewDevice>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let id: DeviceId = new.id.parse().map_err(bad)?;
    if let Some(filter) = &new.gateway_for {
        let wrong = |why| bad(format!("gateway_for is a filter of device ids: {why}"));
        filter.parse::<Filter>().map_err(wrong)?;
    }
    let kind = new.kind.as_deref().map(native::parse_kind).transpose()?;
    new.name.iter().try_for_each(|name| check_text("a device's name", name))?;
    let groups = groups_of(new.groups)?;
    let secret = secret(&asker, &id, new.credential, new.token)?;
    let device = Device {
        id: new.id,
        kind: new.kind,
        name: new.name,
        groups,
        gateway_for: new.gateway_for,
        describing: new.allow_profile.then(|| secret.id.clone()).into_iter().collect(),
        credentials: BTreeMap::from([(secret.id, secret.hash)]),
        profile: kind.map(profile_of),
    };
    asker.change(Change::DeviceAdd(device)).await?;
    Ok((StatusCode::CREATED, Json(made(&asker, &id, secret.token))))
}

/// One device.
#[utoipa::path(get, path = "/v1/devices/{id}", tag = "devices",
    operation_id = "showDevice", params(("id" = String, Path)),
    responses((status = 200, description = "It is there.", body = DeviceWhole), Problems))]
async fn show(asker: Asker, Path(id): Path<String>) -> Result<Json<DeviceWhole>, Problem> {
    must_read(&asker, &id)?;
    let found = device(&asker, &id)?;
    let described = found.profile.as_ref();
    let profile = described.map(|described| native::encode_profile(&described.profile));
    let profile = profile.map(|text| serde_json::from_str(&text)).transpose().map_err(bad)?;
    let revision = described.map(|described| described.revision);
    Ok(Json(DeviceWhole { device: DeviceView::of(&found), revision, profile }))
}

/// Removes a device; its connections end within a second.
#[utoipa::path(delete, path = "/v1/devices/{id}", tag = "devices",
    operation_id = "removeDevice", params(("id" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn remove(Admin(asker): Admin, Path(id): Path<String>) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { seq: asker.change(Change::DeviceRemove(id)).await? }))
}

/// Replaces all secrets of a device by a new one, which is told once.
#[utoipa::path(post, path = "/v1/devices/{id}/rotate", tag = "devices",
    operation_id = "rotateDevice",
    params(("id" = String, Path)),
    responses((status = 201, description = "It is made.", body = MadeToken), Problems))]
async fn rotate(
    Admin(asker): Admin,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<MadeToken>), Problem> {
    let id: DeviceId = id.parse().map_err(bad)?;
    let Secret { id: credential, hash, token } = secret(&asker, &id, CredentialType::Token, None)?;
    asker.change(Change::DeviceRotate { id: id.as_str().to_owned(), credential, hash }).await?;
    Ok((StatusCode::CREATED, Json(made(&asker, &id, token))))
}

/// The secrets of a device, without the secrets.
#[utoipa::path(get, path = "/v1/devices/{id}/credentials", tag = "devices",
    operation_id = "listCredentials",
    params(("id" = String, Path), PageQuery),
    responses((status = 200, description = "A page.", body = List<CredentialView>), Problems))]
async fn credentials(
    Admin(asker): Admin,
    Path(id): Path<String>,
    page: Page,
) -> Result<Json<List<CredentialView>>, Problem> {
    let device = device(&asker, &id)?;
    let List { items, next } = page.cut(device.credentials.keys(), |id| id);
    let view = |id: &String| CredentialView::of(&device, id);
    Ok(Json(List { items: items.into_iter().map(view).collect(), next }))
}

/// Makes one more secret for a device and tells it, once.
#[utoipa::path(post, path = "/v1/devices/{id}/credentials", tag = "devices",
    operation_id = "addCredential",
    params(("id" = String, Path)), request_body = NewCredential,
    responses((status = 201, description = "It is made.", body = MadeCredential), Problems))]
async fn credential_add(
    Admin(asker): Admin,
    Path(id): Path<String>,
    Body(new): Body<NewCredential>,
) -> Result<(StatusCode, Json<MadeCredential>), Problem> {
    let id: DeviceId = id.parse().map_err(bad)?;
    let Secret { id: credential, hash, token } = secret(&asker, &id, new.credential, new.token)?;
    let device = id.as_str().to_owned();
    let made = MadeCredential {
        tenant: asker.tenant().as_str().to_owned(),
        id: device.clone(),
        credential: credential.clone(),
        kind: type_of(&credential),
        token,
    };
    let describing = new.allow_profile;
    asker.change(Change::CredentialAdd { device, credential, hash, describing }).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// A secret of a device, without the secret.
#[utoipa::path(get, path = "/v1/devices/{id}/credentials/{credential}", tag = "devices",
    operation_id = "showCredential",
    params(("id" = String, Path), ("credential" = String, Path)),
    responses((status = 200, description = "It is there.", body = CredentialView), Problems))]
async fn credential_show(
    Admin(asker): Admin,
    Path((id, credential)): Path<(String, String)>,
) -> Result<Json<CredentialView>, Problem> {
    let device = device(&asker, &id)?;
    if !device.credentials.contains_key(&credential) {
        return Err(no_such("credential", &credential).into());
    }
    Ok(Json(CredentialView::of(&device, &credential)))
}

/// Removes a secret of a device; what it opened ends within a second.
#[utoipa::path(delete, path = "/v1/devices/{id}/credentials/{credential}", tag = "devices",
    operation_id = "removeCredential",
    params(("id" = String, Path), ("credential" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn credential_remove(
    Admin(asker): Admin,
    Path((device, credential)): Path<(String, String)>,
) -> Result<Json<Changed>, Problem> {
    let change = Change::CredentialRemove { device, credential };
    Ok(Json(Changed { seq: asker.change(change).await? }))
}

/// What a device of a kind has before it says more itself.
fn profile_of(kind: Kind) -> Described {
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

fn made(asker: &Asker, id: &DeviceId, token: Option<String>) -> MadeToken {
    let (tenant, id) = (asker.tenant().as_str().to_owned(), id.as_str().to_owned());
    MadeToken { tenant, id, token }
}

/// What a credential is for, which its id begins with.
fn type_of(credential: &str) -> &'static str {
    if credential.starts_with("thing-") { "thing" } else { "token" }
}

/// Makes a secret, or takes the one brought.
fn secret(
    asker: &Asker,
    device: &DeviceId,
    kind: CredentialType,
    own: Option<String>,
) -> Result<Secret, Fault> {
    let key = asker.shared.state.master_key();
    let random = random_text(8).map_err(|e| io_fault(&e))?;
    let make = |kind| make_token(kind).map_err(|e| io_fault(&e));
    let (prefix, hash, token) = match (kind, own) {
        (CredentialType::Hmac, _) => {
            return Err(bad("credentials of type hmac come with a later release: take type token"));
        }
        (CredentialType::Thing, Some(own)) if !is_thing_token(&own) => {
            return Err(bad("a thing's token is exactly 43 base64url characters"));
        }
        (CredentialType::Thing, Some(own)) => ("thing", key.hash_thing(&own), None),
        (CredentialType::Thing, None) => {
            let token = make(TokenKind::Thing)?;
            ("thing", key.hash_thing(&token), Some(token))
        }
        (CredentialType::Token, Some(own)) if own.len() < OWN_TOKEN_BYTES_MIN => {
            let text = format!("a token of one's own has {OWN_TOKEN_BYTES_MIN} bytes or more");
            return Err(bad(text));
        }
        (CredentialType::Token, Some(own)) => {
            ("token", key.hash_own(asker.tenant(), device, &own), None)
        }
        (CredentialType::Token, None) => {
            let token = make(TokenKind::Device)?;
            ("token", key.hash(&token), Some(token))
        }
    };
    Ok(Secret { id: format!("{prefix}-{random}"), hash, token })
}

/// The groups that a device is to be in, each once.
fn groups_of(asked: Vec<String>) -> Result<Vec<String>, Fault> {
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
