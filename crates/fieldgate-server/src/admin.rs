//! The requests of `/v1` on this machine: on `admin.sock`, or on the open folder itself.
//!
//! Whoever can write the data folder is its administrator (`cli.md`), of the tenant named by
//! `?tenant=`.

use std::{path::Path, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use fieldgate_core::fault::{Code, Fault};
use fieldgate_store::Store;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    fabric::{Fabric, Shared},
    rest::{self, Entrance},
};

/// Most bytes of an answer on the open folder.
const ANSWER_BYTES_MAX: usize = 64 << 20;

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    rest::answer(Entrance::Local(shared), request).await
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

/// Carries out one request on a folder that no gateway has open; returns status and body.
///
/// # Errors
///
/// The gateway could not start on the store, or what is asked for is no request.
pub async fn offline(
    store: Store,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<(u16, Value), Fault> {
    let started = Fabric::start(crate::Config::default(), store, 1);
    let fabric = started.map_err(|error| Fault::new(Code::Busy, error.to_string()))?;
    let answer = ask(&fabric.shared, method, path, body).await;
    fabric.drain(std::time::Duration::ZERO).await;
    answer
}

/// One request as `admin.sock` takes it.
pub(crate) async fn ask(
    shared: &Arc<Shared>,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<(u16, Value), Fault> {
    let request = Request::builder().method(method).uri(path).body(Body::from(body));
    let request = request.map_err(|error| Fault::new(Code::BadValue, error.to_string()))?;
    let response = rest::answer(Entrance::Local(Arc::clone(shared)), request).await;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX).await;
    let body = body.map_err(|error| Fault::new(Code::Busy, error.to_string()))?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
