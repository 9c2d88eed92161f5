//! Administration of devices and their secrets.

use std::collections::BTreeMap;

use fieldgate_core::{fault::Fault, id::DeviceId, topic::Filter};
use fieldgate_store::{
    registry::{Change, Device},
    secret::{OWN_TOKEN_BYTES_MIN, TokenKind, make_token, random_text},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, bad, io_fault, list, no_such, unknown};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    id: String,
    kind: Option<String>,
    name: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    gateway_for: Option<String>,
    token: Option<String>,
}

/// Carries out a request below `/devices`.
pub(super) async fn act(ask: &Ask<'_>, method: &str, path: &[&str]) -> Result<Value, Fault> {
    let state = &ask.shared.state;
    match (method, path) {
        ("POST", []) => add(ask).await,
        ("GET", []) => Ok(list(state.devices(&ask.tenant).iter().map(|d| show(d)))),
        ("GET", [id]) => {
            let id: DeviceId = id.parse().map_err(bad)?;
            let device = state.device(&ask.tenant, &id);
            device.map(|device| show(&device)).ok_or_else(|| no_such("device", id.as_str()))
        }
        ("DELETE", [id]) => ask.change(Change::DeviceRemove((*id).to_owned())).await,
        ("POST", [id, "rotate"]) => rotate(ask, id).await,
        _ => Err(unknown()),
    }
}

fn show(device: &Device) -> Value {
    let credentials: Vec<&String> = device.credentials.keys().collect();
    json!({
        "id": device.id, "kind": device.kind, "name": device.name, "groups": device.groups,
        "gateway_for": device.gateway_for, "credentials": credentials,
    })
}

async fn add(ask: &Ask<'_>) -> Result<Value, Fault> {
    let new: NewDevice = ask.body()?;
    let id: DeviceId = new.id.parse().map_err(bad)?;
    if let Some(filter) = &new.gateway_for {
        filter.parse::<Filter>().map_err(bad)?;
    }
    let key = ask.shared.state.master_key();
    let (token, hash) = match new.token {
        Some(token) if token.len() < OWN_TOKEN_BYTES_MIN => {
            return Err(bad(format!(
                "a token of one's own has {OWN_TOKEN_BYTES_MIN} bytes or more"
            )));
        }
        Some(token) => (None, key.hash_own(&ask.tenant, &id, &token)),
        None => {
            let token = make_token(TokenKind::Device).map_err(|e| io_fault(&e))?;
            let hash = key.hash(&token);
            (Some(token), hash)
        }
    };
    let credential = random_text(8).map_err(|e| io_fault(&e))?;
    let device = Device {
        id: new.id,
        kind: new.kind,
        name: new.name,
        groups: new.groups,
        gateway_for: new.gateway_for,
        credentials: BTreeMap::from([(credential, hash)]),
    };
    ask.change(Change::DeviceAdd(device)).await?;
    Ok(json!({"tenant": ask.tenant.as_str(), "id": id.as_str(), "token": token}))
}

async fn rotate(ask: &Ask<'_>, id: &str) -> Result<Value, Fault> {
    let token = make_token(TokenKind::Device).map_err(|e| io_fault(&e))?;
    let hash = ask.shared.state.master_key().hash(&token);
    let credential = random_text(8).map_err(|e| io_fault(&e))?;
    ask.change(Change::DeviceRotate { id: id.to_owned(), credential, hash }).await?;
    Ok(json!({"tenant": ask.tenant.as_str(), "id": id, "token": token}))
}
