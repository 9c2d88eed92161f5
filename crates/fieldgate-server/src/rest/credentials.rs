//! The secrets of devices: made, listed without the secret, replaced, removed; and whether a device
//! must sign each frame.

use axum::Json;
use fieldgate_core::{
    fault::Fault,
    id::{DeviceId, MsgId},
};
use fieldgate_store::{
    registry::{Change, Device, Guard, HmacSecret, SecretHash},
    secret::{
        OWN_TOKEN_BYTES_MIN, SIGNING_BYTES_MAX, TokenKind, is_thing_token, make_token, plain_text,
    },
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Admin, Asker, Body, Path, bad},
    devices::{MadeToken, device},
    idempotency::{Derived, Forgets, Once},
    io_fault,
    list::{List, Page, PageQuery},
    no_such,
};
use crate::http::Problem;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(rotate))
        .routes(routes!(credentials, credential_add))
        .routes(routes!(credential_show, credential_remove))
        .routes(routes!(integrity))
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
pub(super) enum CredentialType {
    /// The native dialect and HTTP.
    #[default]
    Token,
    /// The thethings.iO dialect alone.
    Thing,
    /// For signing: the `auth` frame, and envelopes. Four at most.
    Hmac,
}

/// Whether each frame of a device must be signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Integrity {
    /// It need not be.
    #[default]
    Off,
    /// It must, and the device is opened by a signed claim alone.
    Required,
}

impl Integrity {
    pub(super) fn of(guard: Option<&Guard>) -> Self {
        if guard.is_some_and(|guard| guard.integrity) { Self::Required } else { Self::Off }
    }
}

/// A device's integrity, as it is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewIntegrity {
    /// What holds from now on.
    integrity: Integrity,
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
    /// The secret; null if it was brought along, and in the answer to a repeat.
    #[schema(required = true)]
    token: Option<String>,
}

impl Forgets for MadeCredential {
    fn forget(&mut self) {
        self.token = None;
    }
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

/// A new secret, and in clear if it was made here.
pub(super) struct Secret {
    pub(super) id: String,
    pub(super) kept: Kept,
    pub(super) token: Option<String>,
}

/// What is kept of a secret.
pub(super) enum Kept {
    /// To compare with.
    Hash(SecretHash),
    /// To sign with, too.
    Signing(HmacSecret),
}

/// Replaces all secrets of a device by a new one, which is told once: a token, or one for signing if
/// each of its frames must be signed.
#[utoipa::path(post, path = "/v1/devices/{id}/rotate", tag = "devices",
    operation_id = "rotateDevice",
    params(("id" = String, Path)),
    responses((status = 201, description = "It is made.", body = MadeToken), Problems))]
async fn rotate(Admin(asker): Admin, Path(id): Path<String>) -> Result<Once<MadeToken>, Problem> {
    let id: DeviceId = id.parse().map_err(bad)?;
    let guard = asker.shared.state.guard(asker.tenant(), &id);
    let kind = match Integrity::of(guard.as_deref()) {
        Integrity::Off => CredentialType::Token,
        Integrity::Required => CredentialType::Hmac,
    };
    let Secret { id: credential, kept, token } = secret(&asker, &id, kind, None, None)?;
    let device = id.as_str().to_owned();
    asker
        .change(match kept {
            Kept::Hash(hash) => Change::DeviceRotate { id: device, credential, hash },
            Kept::Signing(secret) => Change::SigningRotate { device, secret },
        })
        .await?;
    Ok(Once(MadeToken::new(&asker, &id, token)))
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
    Derived(derived): Derived,
    Body(new): Body<NewCredential>,
) -> Result<Once<MadeCredential>, Problem> {
    let id: DeviceId = id.parse().map_err(bad)?;
    // A repeat after a restart finds that this one is there already.
    let label = derived.as_ref().map(label_of);
    let made = secret(&asker, &id, new.credential, new.token, label)?;
    let Secret { id: credential, kept, token } = made;
    let device = id.as_str().to_owned();
    let made = MadeCredential {
        tenant: asker.tenant().as_str().to_owned(),
        id: device.clone(),
        credential: credential.clone(),
        kind: type_of(&credential),
        token,
    };
    let describing = new.allow_profile;
    asker
        .change(match kept {
            Kept::Hash(hash) => Change::CredentialAdd { device, credential, hash, describing },
            Kept::Signing(secret) => Change::SigningAdd { device, secret, describing },
        })
        .await?;
    Ok(Once(made))
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

/// Says whether each frame of a device must be signed. What a token opened ends when it must.
#[utoipa::path(put, path = "/v1/devices/{id}/integrity", tag = "devices",
    operation_id = "setIntegrity",
    params(("id" = String, Path)), request_body = NewIntegrity,
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn integrity(
    Admin(asker): Admin,
    Path(device): Path<String>,
    Body(new): Body<NewIntegrity>,
) -> Result<Json<Changed>, Problem> {
    let required = new.integrity == Integrity::Required;
    Ok(Json(Changed { seq: asker.change(Change::Integrity { device, required }).await? }))
}

/// What a credential is for, which its id begins with.
fn type_of(credential: &str) -> &'static str {
    match credential.split_once('-') {
        Some(("thing", _)) => "thing",
        Some(("hmac", _)) => "hmac",
        _ => "token",
    }
}

/// What tells a secret of this request from others.
fn label_of(derived: &MsgId) -> String {
    derived.as_str().chars().skip_while(|c| *c != '-').skip(1).take(12).collect()
}

/// Makes a secret, or takes the one brought. Its id ends with `label`, else with something random.
pub(super) fn secret(
    asker: &Asker,
    device: &DeviceId,
    kind: CredentialType,
    own: Option<String>,
    label: Option<String>,
) -> Result<Secret, Fault> {
    let key = asker.shared.state.master_key();
    let random = label.map_or_else(|| plain_text(8), Ok).map_err(|e| io_fault(&e))?;
    let make = |kind| make_token(kind).map_err(|e| io_fault(&e));
    if let (CredentialType::Token | CredentialType::Hmac, Some(own)) = (kind, &own)
        && own.len() < OWN_TOKEN_BYTES_MIN
    {
        return Err(bad(format!("a token of one's own has {OWN_TOKEN_BYTES_MIN} bytes or more")));
    }
    let (prefix, hash, token) = match (kind, own) {
        (CredentialType::Hmac, own) => {
            return signing(asker, device, format!("hmac-{random}"), own);
        }
        (CredentialType::Thing, Some(own)) if !is_thing_token(&own) => {
            return Err(bad("a thing's token is exactly 43 base64url characters"));
        }
        (CredentialType::Thing, Some(own)) => ("thing", key.hash_thing(&own), None),
        (CredentialType::Thing, None) => {
            let token = make(TokenKind::Thing)?;
            ("thing", key.hash_thing(&token), Some(token))
        }
        (CredentialType::Token, Some(own)) => {
            ("token", key.hash_own(asker.tenant(), device, &own), None)
        }
        (CredentialType::Token, None) => {
            let token = make(TokenKind::Device)?;
            ("token", key.hash(&token), Some(token))
        }
    };
    Ok(Secret { id: format!("{prefix}-{random}"), kept: Kept::Hash(hash), token })
}

/// Makes a secret to sign with, or takes the one brought.
fn signing(
    asker: &Asker,
    device: &DeviceId,
    id: String,
    own: Option<String>,
) -> Result<Secret, Fault> {
    if own.as_ref().is_some_and(|own| own.len() > SIGNING_BYTES_MAX) {
        return Err(bad(format!("a secret to sign with has {SIGNING_BYTES_MAX} bytes at most")));
    }
    let key = asker.shared.state.master_key();
    let is_own = own.is_some();
    let secret = match own {
        Some(own) => own,
        None => make_token(TokenKind::Signing).map_err(|e| io_fault(&e))?,
    };
    let sealed = key.seal_signing(asker.tenant(), device, &id, &secret);
    let kept = Kept::Signing(HmacSecret {
        credential: id.clone(),
        hash: key.hash_signing(asker.tenant(), device, &secret),
        sealed: sealed.map_err(|e| io_fault(&e))?,
    });
    Ok(Secret { id, kept, token: (!is_own).then_some(secret) })
}
