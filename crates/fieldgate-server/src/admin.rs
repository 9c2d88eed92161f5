//! Administration from this machine: JSON over HTTP on `admin.sock`, or on the open folder itself.
//!
//! Whoever can write the data folder is its administrator (`cli.md`). Secrets are answered once.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::{Grant, Role},
    fault::{Code, Fault},
    id::{DeviceId, TenantId},
    topic::Filter,
};
use fieldgate_store::{
    Store,
    registry::{ApiKey, Change, Device, RegistryChange},
    secret::{OWN_TOKEN_BYTES_MIN, TokenKind, make_token, random_text},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    fabric::{Fabric, Shared},
    http::status_of,
};

const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Deserialize)]
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    role: Option<String>,
    #[serde(default)]
    grants: Vec<String>,
    expires_ms: Option<u64>,
}

fn bad(error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::BadValue, format!("{error}"))
}

fn io_fault(error: &std::io::Error) -> Fault {
    Fault::new(Code::Busy, error.to_string())
}

/// Carries out one administrative request.
pub(crate) async fn act(
    shared: &Shared,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Value, Fault> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let tenant = query.strip_prefix("tenant=").unwrap_or("default");
    let tenant: TenantId = tenant.parse().map_err(bad)?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        ("POST", ["devices"]) => device_add(shared, &tenant, body).await,
        ("GET", ["devices"]) => {
            let items: Vec<Value> = shared.state.devices(&tenant).iter().map(|d| show(d)).collect();
            Ok(json!({"items": items, "next": null}))
        }
        ("GET", ["devices", id]) => {
            let id: DeviceId = id.parse().map_err(bad)?;
            let device = shared.state.device(&tenant, &id);
            let missing = || Fault::new(Code::NotFound, format!("there is no device {id}"));
            device.map(|device| show(&device)).ok_or_else(missing)
        }
        ("DELETE", ["devices", id]) => {
            change(shared, &tenant, Change::DeviceRemove((*id).to_owned())).await
        }
        ("POST", ["devices", id, "rotate"]) => {
            let token = make_token(TokenKind::Device).map_err(|e| io_fault(&e))?;
            let hash = shared.state.master_key().hash(&token);
            let credential = random_text(8).map_err(|e| io_fault(&e))?;
            let id = (*id).to_owned();
            change(shared, &tenant, Change::DeviceRotate { id: id.clone(), credential, hash })
                .await?;
            Ok(json!({"tenant": tenant.as_str(), "id": id, "token": token}))
        }
        ("POST", ["keys"]) => key_add(shared, &tenant, body).await,
        ("GET", ["keys"]) => {
            let item = |key: &Arc<ApiKey>| json!({"id": key.name, "role": key.role, "grants": key.grants, "expires": key.expires_ms});
            let items: Vec<Value> = shared.state.keys(&tenant).iter().map(item).collect();
            Ok(json!({"items": items, "next": null}))
        }
        ("DELETE", ["keys", name]) => {
            change(shared, &tenant, Change::KeyRevoke((*name).to_owned())).await
        }
        ("GET", ["status"]) => Ok(status_of(shared)),
        ("GET", ["drops"]) => {
            let items = shared.ledger.newest(&tenant, 1_000);
            Ok(json!({"items": items, "totals": shared.ledger.totals(), "next": null}))
        }
        _ => Err(Fault::new(Code::NotFound, "there is no such administrative request")),
    }
}

fn show(device: &Device) -> Value {
    let credentials: Vec<&String> = device.credentials.keys().collect();
    json!({
        "id": device.id, "kind": device.kind, "name": device.name, "groups": device.groups,
        "gateway_for": device.gateway_for, "credentials": credentials,
    })
}

async fn change(shared: &Shared, tenant: &TenantId, change: Change) -> Result<Value, Fault> {
    let tenant = tenant.as_str().to_owned();
    let seq = shared.change_registry(RegistryChange { tenant, change }).await?;
    Ok(json!({"seq": seq.0}))
}

async fn device_add(shared: &Shared, tenant: &TenantId, body: &[u8]) -> Result<Value, Fault> {
    let new: NewDevice = serde_json::from_slice(body).map_err(bad)?;
    let id: DeviceId = new.id.parse().map_err(bad)?;
    if let Some(filter) = &new.gateway_for {
        filter.parse::<Filter>().map_err(bad)?;
    }
    let key = shared.state.master_key();
    let (token, hash) = match new.token {
        Some(token) if token.len() < OWN_TOKEN_BYTES_MIN => {
            return Err(bad(format!(
                "a token of one's own has {OWN_TOKEN_BYTES_MIN} bytes or more"
            )));
        }
        Some(token) => (None, key.hash_own(tenant, &id, &token)),
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
    change(shared, tenant, Change::DeviceAdd(device)).await?;
    Ok(json!({"tenant": tenant.as_str(), "id": id.as_str(), "token": token}))
}

async fn key_add(shared: &Shared, tenant: &TenantId, body: &[u8]) -> Result<Value, Fault> {
    let new: NewKey = serde_json::from_slice(body).map_err(bad)?;
    let name: DeviceId =
        new.name.parse().map_err(|_| bad("a key's name is written like a device id"))?;
    for grant in &new.grants {
        grant.parse::<Grant>().map_err(bad)?;
    }
    if let Some(role) = &new.role {
        role.parse::<Role>().map_err(bad)?;
    }
    if new.role.is_none() && new.grants.is_empty() {
        return Err(bad("a key needs a role or a grant"));
    }
    let token = make_token(TokenKind::Key).map_err(|e| io_fault(&e))?;
    let hash = shared.state.master_key().hash(&token);
    let key = ApiKey {
        name: new.name,
        hash,
        role: new.role,
        grants: new.grants,
        expires_ms: new.expires_ms,
    };
    change(shared, tenant, Change::KeyAdd(key)).await?;
    Ok(json!({"id": name.as_str(), "key": token, "expires": new.expires_ms}))
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let method = request.method().clone();
    let path = request.uri().path_and_query().map_or_else(String::new, |p| p.as_str().to_owned());
    let result = match to_bytes(request.into_body(), BODY_BYTES_MAX).await {
        Ok(body) => act(&shared, method.as_str(), &path, &body).await,
        Err(_) => Err(Fault::new(Code::TooLarge, "the request body is too large")),
    };
    match result {
        Ok(value) if method == Method::POST => (StatusCode::CREATED, Json(value)).into_response(),
        Ok(value) => Json(value).into_response(),
        Err(fault) => {
            let status = StatusCode::from_u16(fault.code.http_status());
            let body = json!({"code": fault.code.as_str(), "detail": fault.message});
            (status.unwrap_or(StatusCode::BAD_REQUEST), Json(body)).into_response()
        }
    }
}

/// Serves `admin.sock` in the data folder, mode 0600, until told to stop.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    folder: &Path,
    stop: CancellationToken,
) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("admin.sock");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let listener = tokio::net::UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let router = Router::new().fallback(handle).with_state(shared);
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = served.await {
            tracing::error!(%error, "admin.sock ended");
        }
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::debug!(%error, "admin.sock was not removed");
        }
    });
    Ok(())
}

/// Carries out one request on a folder that no gateway has open.
///
/// # Errors
///
/// The refusal, or that the gateway could not start on the store.
pub async fn offline(store: Store, method: &str, path: &str, body: &[u8]) -> Result<Value, Fault> {
    let fabric = Fabric::start(crate::Config::default(), store, 1).map_err(|e| io_fault(&e))?;
    let result = act(&fabric.shared, method, path, body).await;
    fabric.drain(std::time::Duration::ZERO).await;
    result
}
