//! Administration of devices and their secrets.

use std::collections::BTreeMap;

use fieldgate_core::{fault::Fault, id::DeviceId, topic::Filter};
use fieldgate_store::{
    registry::{Change, Device, SecretHash},
    secret::{OWN_TOKEN_BYTES_MIN, TokenKind, is_thing_token, make_token, random_text},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, bad, io_fault, list, no_such, unknown};

/// Most bytes of a name for people, of a kind, and of a group's name.
const TEXT_BYTES_MAX: usize = 128;
const GROUPS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    id: String,
    kind: Option<String>,
    name: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    gateway_for: Option<String>,
    #[serde(default, rename = "type")]
    credential: CredentialType,
    token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCredential {
    #[serde(default, rename = "type")]
    credential: CredentialType,
    token: Option<String>,
}

/// What a secret is for.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CredentialType {
    #[default]
    Token,
    Thing,
    Hmac,
}

/// A new secret, and the token in clear if it was made here.
struct Secret {
    id: String,
    hash: SecretHash,
    token: Option<String>,
}

/// Carries out a request below `/devices`.
pub(super) async fn act(ask: &Ask<'_>, method: &str, path: &[&str]) -> Result<Value, Fault> {
    match (method, path) {
        ("POST", []) => add(ask).await,
        ("GET", []) => {
            let devices = ask.shared.state.devices(&ask.tenant);
            Ok(list(devices.iter().map(|device| show(device))))
        }
        ("GET", [id]) => device(ask, id).map(|device| show(&device)),
        ("DELETE", [id]) => ask.change(Change::DeviceRemove((*id).to_owned())).await,
        ("POST", [id, "rotate"]) => rotate(ask, id).await,
        ("POST", [id, "credentials"]) => credential_add(ask, id).await,
        ("GET", [id, "credentials"]) => {
            let device = device(ask, id)?;
            Ok(list(device.credentials.keys().map(|id| json!({"id": id, "type": type_of(id)}))))
        }
        ("DELETE", [device, "credentials", credential]) => {
            let (device, credential) = ((*device).to_owned(), (*credential).to_owned());
            ask.change(Change::CredentialRemove { device, credential }).await
        }
        _ => Err(unknown()),
    }
}

fn device(ask: &Ask<'_>, id: &str) -> Result<std::sync::Arc<Device>, Fault> {
    let id: DeviceId = id.parse().map_err(bad)?;
    let device = ask.shared.state.device(&ask.tenant, &id);
    device.ok_or_else(|| no_such("device", id.as_str()))
}

fn show(device: &Device) -> Value {
    let credentials: Vec<&String> = device.credentials.keys().collect();
    json!({
        "id": device.id, "kind": device.kind, "name": device.name, "groups": device.groups,
        "gateway_for": device.gateway_for, "credentials": credentials,
    })
}

/// What a credential is for, which its id begins with.
fn type_of(credential: &str) -> &'static str {
    if credential.starts_with("thing-") { "thing" } else { "token" }
}

/// Makes a secret, or takes the one brought.
fn secret(
    ask: &Ask<'_>,
    device: &DeviceId,
    kind: CredentialType,
    own: Option<String>,
) -> Result<Secret, Fault> {
    let key = ask.shared.state.master_key();
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
            ("token", key.hash_own(&ask.tenant, device, &own), None)
        }
        (CredentialType::Token, None) => {
            let token = make(TokenKind::Device)?;
            ("token", key.hash(&token), Some(token))
        }
    };
    Ok(Secret { id: format!("{prefix}-{random}"), hash, token })
}

fn check_text(what: &str, text: &str) -> Result<(), Fault> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        let rule = format!("1 to {TEXT_BYTES_MAX} bytes without control characters");
        return Err(bad(format!("{what} is {rule}")));
    }
    Ok(())
}

async fn add(ask: &Ask<'_>) -> Result<Value, Fault> {
    let new: NewDevice = ask.body()?;
    let id: DeviceId = new.id.parse().map_err(bad)?;
    if let Some(filter) = &new.gateway_for {
        let wrong = |why| bad(format!("gateway_for is a filter of device ids: {why}"));
        filter.parse::<Filter>().map_err(wrong)?;
    }
    new.kind.iter().try_for_each(|kind| check_text("a device's kind", kind))?;
    new.name.iter().try_for_each(|name| check_text("a device's name", name))?;
    new.groups.iter().try_for_each(|group| check_text("a group's name", group))?;
    if new.groups.len() > GROUPS_MAX {
        return Err(bad(format!("a device is in at most {GROUPS_MAX} groups")));
    }
    let secret = secret(ask, &id, new.credential, new.token)?;
    let device = Device {
        id: new.id,
        kind: new.kind,
        name: new.name,
        groups: new.groups,
        gateway_for: new.gateway_for,
        credentials: BTreeMap::from([(secret.id, secret.hash)]),
    };
    ask.change(Change::DeviceAdd(device)).await?;
    Ok(json!({"tenant": ask.tenant.as_str(), "id": id.as_str(), "token": secret.token}))
}

async fn rotate(ask: &Ask<'_>, id: &str) -> Result<Value, Fault> {
    let id: DeviceId = id.parse().map_err(bad)?;
    let Secret { id: credential, hash, token } = secret(ask, &id, CredentialType::Token, None)?;
    ask.change(Change::DeviceRotate { id: id.as_str().to_owned(), credential, hash }).await?;
    Ok(json!({"tenant": ask.tenant.as_str(), "id": id.as_str(), "token": token}))
}

async fn credential_add(ask: &Ask<'_>, id: &str) -> Result<Value, Fault> {
    let id: DeviceId = id.parse().map_err(bad)?;
    let new: NewCredential = ask.body()?;
    let Secret { id: credential, hash, token } = secret(ask, &id, new.credential, new.token)?;
    let device = id.as_str().to_owned();
    let made = json!({
        "tenant": ask.tenant.as_str(), "id": device, "credential": credential,
        "type": type_of(&credential), "token": token,
    });
    ask.change(Change::CredentialAdd { device, credential, hash }).await?;
    Ok(made)
}
