//! Administration: JSON over HTTP on `admin.sock` and below `/v1`, or on the open folder itself.
//!
//! Whoever can write the data folder is its administrator (`cli.md`). Secrets are answered once, and
//! what carries one on its way in has no `Debug`.

mod devices;
mod keys;
mod users;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Query, Request, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
};
use fieldgate_store::{
    Store,
    registry::{Change, RegistryChange},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    fabric::{Fabric, Shared},
    ledger::DropsQuery,
    status::status_of,
};

/// Most bytes of a request.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

fn bad(error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::BadValue, format!("{error}"))
}

fn io_fault(error: &std::io::Error) -> Fault {
    Fault::new(Code::Busy, error.to_string())
}

fn no_such(what: &str, name: &str) -> Fault {
    Fault::new(Code::NotFound, format!("there is no {what} {name}"))
}

/// What is asked for, in whose name.
struct Ask<'a> {
    shared: &'a Shared,
    tenant: TenantId,
    body: &'a [u8],
}

impl Ask<'_> {
    fn body<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(self.body).map_err(bad)
    }

    /// Changes the registry: durable and decided when this returns.
    async fn change(&self, change: Change) -> Result<Value, Fault> {
        let tenant = self.tenant.as_str().to_owned();
        let seq = self.shared.change_registry(RegistryChange { tenant, change }).await?;
        Ok(json!({"seq": seq.0}))
    }
}

/// Carries out one administrative request of whoever administers all tenants.
pub(crate) async fn act(
    shared: &Shared,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Value, Fault> {
    let uri: Uri = path.parse().map_err(|_| bad("the path is no path"))?;
    let tenant = tenant_of(&uri)?;
    match (method, uri.path()) {
        ("GET", "/status") => Ok(status_of(shared)),
        ("GET", "/drops") => shared.ledger.page(&tenant, DropsQuery::of(&uri)?).await,
        (method, path) => act_in(shared, tenant, method, path, body).await,
    }
}

/// Carries out one administrative request within a tenant.
pub(crate) async fn act_in(
    shared: &Shared,
    tenant: TenantId,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Value, Fault> {
    let parts: Vec<String> =
        path.trim_matches('/').split('/').map(decoded).collect::<Result<_, _>>()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let ask = Ask { shared, tenant, body };
    match (method, parts.as_slice()) {
        (_, ["devices", rest @ ..]) => devices::act(&ask, method, rest).await,
        (_, ["keys", rest @ ..]) => keys::act(&ask, method, rest).await,
        (_, ["users", rest @ ..]) => users::act(&ask, method, rest).await,
        _ => Err(unknown()),
    }
}

/// `?tenant=NAME`, else the default one.
fn tenant_of(uri: &Uri) -> Result<TenantId, Fault> {
    let query = Query::<BTreeMap<String, String>>::try_from_uri(uri);
    let Query(query) = query.map_err(|_| bad("the query is no query"))?;
    query.get("tenant").map_or("default", String::as_str).parse().map_err(bad)
}

fn unknown() -> Fault {
    Fault::new(Code::NotFound, "there is no such administrative request")
}

fn list(items: impl Iterator<Item = Value>) -> Value {
    let items: Vec<Value> = items.collect();
    json!({"items": items, "next": null})
}

/// A segment of a path, or a value of a query, without its percent signs. A plus stays one.
pub(crate) fn decoded(segment: &str) -> Result<String, Fault> {
    let malformed = || Fault::new(Code::BadValue, "the path is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (high, low) = (digit().ok_or_else(malformed)?, digit().ok_or_else(malformed)?);
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| malformed())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_as_it_was_meant() {
        assert_eq!(decoded("a%3Ab~"), Ok("a:b~".to_owned()));
        assert_eq!(decoded("%E2%9C%93"), Ok("\u{2713}".to_owned()));
        for broken in ["%", "%3", "%zz", "%ff"] {
            assert!(decoded(broken).is_err(), "{broken}");
        }
    }
}
