//! What every answer on `listen.deconz` has, also one that was refused before its address was looked at.
//!
//! In: what was asked, and an answer. Out: the answer, with the headers that pages need (`wire.md` 2.2)
//! and as the list of errors that apps read (2.3). Invariant: no answer holds the key of its address.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use fieldgate_dialects::deconz::{Answer, Error, gateway, write_answers};

use super::{super::Bridge, reply::JSON};
use crate::fabric::Shared;

const ALLOWED: [(HeaderName, &str); 2] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, PUT, DELETE"),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "Authorization, Access-Control-Allow-Origin, Content-Type",
    ),
];
const EXPOSED: HeaderValue = HeaderValue::from_static("Gateway-Name, Gateway-Uuid");

/// What a page of another origin may send.
pub(super) fn preflight() -> Response {
    (StatusCode::OK, ALLOWED).into_response()
}

impl Bridge {
    /// Keeps what the answer to a request on the listeners of deCONZ needs of it.
    pub(crate) fn hear(request: &Request) -> Heard {
        Heard::of(request)
    }
}

/// What of a request its answer needs.
#[derive(Debug)]
pub(crate) struct Heard {
    origin: Option<HeaderValue>,
    method: Method,
    address: String,
}

impl Heard {
    fn of(request: &Request) -> Self {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let address = behind_key(request.uri().path().trim_end_matches('/'));
        Self { origin, method: request.method().clone(), address }
    }

    /// Makes an answer one of this interface.
    pub(crate) fn finish(self, shared: &Shared, response: Response) -> Response {
        let mut response = self.listed(response);
        let any = HeaderValue::from_static("*");
        let echoed = self.origin.filter(|_| self.method == Method::OPTIONS);
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, echoed.unwrap_or(any));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        if let Ok(name) = HeaderValue::from_bytes(shared.config.deconz.name.as_bytes()) {
            headers.insert("gateway-name", name);
        }
        let uuid = shared.bridge.as_ref().map(|bridge| gateway::uuid(bridge.mac));
        if let Some(uuid) = uuid.and_then(|uuid| HeaderValue::try_from(uuid).ok()) {
            headers.insert("gateway-uuid", uuid);
        }
        response
    }

    /// What the rest of the gateway refused, as apps read it; its status and its headers stay.
    fn listed(&self, response: Response) -> Response {
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != "application/problem+json") {
            return response;
        }
        let (mut parts, _) = response.into_parts();
        let text = write_answers(&[Answer::Failure(self.error(parts.status))]);
        parts.headers.insert(header::CONTENT_TYPE, JSON);
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(parts, text.into())
    }

    fn error(&self, status: StatusCode) -> Error {
        let path = self.address.clone();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST => {
                Error::Unauthorized(path)
            }
            StatusCode::BAD_REQUEST => Error::InvalidJson(path),
            StatusCode::PAYLOAD_TOO_LARGE => Error::TooMany(path),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Error::Method { path, method: self.method.as_str().to_owned() }
            }
            _ => Error::Busy(path),
        }
    }
}

/// A path without the key in it.
pub(super) fn behind_key(path: &str) -> String {
    match path.strip_prefix("/api/") {
        Some(rest) => rest.split_once('/').map_or("/".to_owned(), |(_, rest)| format!("/{rest}")),
        None if matches!(path, "" | "/api") => "/".to_owned(),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use fieldgate_core::fault::Code;

    use super::*;
    use crate::http::refuse;

    #[test]
    fn an_address_that_is_told_holds_no_key() {
        for (path, told) in [
            ("", "/"),
            ("/api", "/"),
            ("/api/fgd_secret", "/"),
            ("/api/fgd_secret/lights/1", "/lights/1"),
            ("/other", "/other"),
        ] {
            assert_eq!(behind_key(path), told);
        }
    }

    #[tokio::test]
    async fn what_the_gateway_refuses_is_a_list_of_errors_too() {
        let request = Request::put("/api/fgd_secret/lights/1").body(Body::empty()).unwrap();
        let heard = Heard::of(&request);
        for (code, status, number) in [
            (Code::Busy, 503, 951),
            (Code::RateLimited, 429, 951),
            (Code::NotAllowed, 403, 1),
            (Code::TooLarge, 413, 11),
            (Code::BadValue, 400, 2),
        ] {
            let response = heard.listed(refuse(code, "no").into_response());
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (status, &JSON)
            );
            let bytes = to_bytes(response.into_body(), 1_000).await.unwrap();
            let list: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let error = &list[0]["error"];
            assert_eq!((&error["type"], &error["address"]), (&number.into(), &"/lights/1".into()));
        }
    }
}
