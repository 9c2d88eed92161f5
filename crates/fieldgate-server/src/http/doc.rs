//! `/doc`: the description of the interface, as JSON and YAML.

use axum::{
    Json, Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{Caller, Problem};
use crate::rest;
use fieldgate_core::fault::{Code, Fault};

pub(super) fn routes() -> Router<Caller> {
    Router::new()
        .route("/doc/openapi.json", get(|| async { Json(rest::openapi()) }))
        .route("/doc/openapi.yaml", get(yaml))
}

async fn yaml() -> Response {
    let kind = (header::CONTENT_TYPE, "application/yaml");
    match rest::openapi().to_yaml() {
        Ok(text) => ([kind], text).into_response(),
        Err(error) => {
            let fault = Fault::new(Code::Busy, format!("the description was not written: {error}"));
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, fault).into_response()
        }
    }
}
