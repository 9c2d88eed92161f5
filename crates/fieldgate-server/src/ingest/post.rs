//! The addresses of sources: the upgrade to their WebSocket, and arrays that are posted.
//!
//! In: a request. Out: a link of the source, or what became of each element once it is stored. Who asks
//! is known before anything of a body is read; a source that there is not looks as a wrong token does.

use std::{net::IpAddr, sync::Arc, sync::atomic::Ordering};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
    id::Seq,
};
use fieldgate_dialects::{
    thingsee::{self, Elements},
    wire::Form,
};
use fieldgate_store::{AppendError, state::SourceRefused};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Taken, bring, limits_of, message_count, take};
use crate::{
    asks::rate_fault,
    fabric::{FULL_TRIES, FULL_WAIT, Shared, append_fault},
    http::{Caller, Joining, Offer, Problem, ProblemBody, refuse},
    rest::{self, Problems},
};

/// What the addresses of all sources begin with.
const BELOW: &str = "/ingest/thingsee/";

/// The source that an address is of, by its name or by `thingsee.paths`.
pub(crate) fn source_at(shared: &Shared, path: &str) -> Option<String> {
    let named = path.strip_prefix(BELOW).filter(|name| !name.is_empty() && !name.contains('/'));
    named.map(str::to_owned).or_else(|| shared.config.thingsee.paths.get(path).cloned())
}

/// Which source an address names, for the description.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "described, not read: an address may stand for a source by itself")]
pub(crate) struct SourcePath {
    /// The integration of kind `thingsee-in`.
    #[param(pattern = "^[A-Za-z0-9._:~-]{1,128}$", example = "cloud")]
    source: String,
}

/// How a source shows its token, for the description.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described, not read: a header may hold it, too")]
pub(crate) struct SourceQuery {
    /// The source's token, for who cannot send it as a bearer.
    token: Option<String>,
}

/// What was stored of an array.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Posted {
    /// How many elements are stored, those that were before too.
    accepted: usize,
    /// The others.
    refused: Vec<SetAside>,
}

/// An element that was refused; its neighbours stand.
#[derive(Debug, Serialize, ToSchema)]
struct SetAside {
    /// Which, from 0 on.
    index: usize,
    /// A stable word.
    code: &'static str,
    /// What was wrong with it.
    message: String,
}

/// Answers a request at the address of a source.
pub(crate) async fn answer(caller: &Caller, source: &str, request: Request) -> Response {
    let answered = if request.method() == Method::GET {
        open(caller, source, request)
    } else if request.method() == Method::POST {
        post(caller, source, request).await
    } else {
        let fault = Fault::new(Code::BadValue, "this address takes GET, for WebSocket, and POST");
        let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, fault).into_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
        Ok(response)
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

/// Opens the WebSocket of a source, with the source's token (`?token=`, or as a bearer). What is said on
/// it is in asyncapi.json.
#[utoipa::path(get, path = "/ingest/thingsee/{source}", tag = "integrations",
    operation_id = "open_thingsee",
    params(SourcePath, SourceQuery),
    responses(
        (status = 101, description = "It is open."),
        (status = 426, description = "The request asks for no WebSocket.", body = ProblemBody<'_>,
            content_type = "application/problem+json"),
        Problems))]
pub(crate) fn open(caller: &Caller, source: &str, request: Request) -> Result<Response, Problem> {
    let offer = match Offer::of(caller, &request)? {
        Ok(offer) => offer,
        Err(refused) => return Ok(refused),
    };
    let principal = Some(principal(caller, source, &request, offer.client)?);
    let joining =
        Joining { form: Form::Source, subprotocol: None, principal, stream: None, session: None };
    offer.take(caller, request, joining)
}

/// The source whose token a request shows.
fn principal(
    caller: &Caller,
    source: &str,
    request: &Request,
    client: IpAddr,
) -> Result<Principal, Problem> {
    let found = Caller::token(request.headers(), request.uri());
    let token = found.ok_or_else(|| {
        crate::http::unauthorized("send ?token= or Authorization: Bearer with the source's token")
    })?;
    caller.may_try(client)?;
    caller.shared().state.source_of(Some(source), &token).map_err(|refused| match refused {
        SourceRefused::Unknown => caller.wrong(client),
        SourceRefused::Paused => refuse(Code::Busy, "this source is paused"),
    })
}

/// How a body is to be read.
#[derive(Debug, Clone, Copy)]
struct Coding {
    is_cbor: bool,
    is_deflated: bool,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let kind = text(header::CONTENT_TYPE).unwrap_or("application/json");
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_cbor = match kind.as_str() {
            "application/json" | "text/plain" => false,
            "application/cbor" => true,
            _ => return Err(unsupported("a body is application/json or application/cbor")),
        };
        let coding = text(header::CONTENT_ENCODING).unwrap_or_default().trim().to_ascii_lowercase();
        match coding.as_str() {
            "" | "identity" => Ok(Self { is_cbor, is_deflated: false }),
            "deflate" => Ok(Self { is_cbor, is_deflated: true }),
            _ => Err(unsupported("a body is plain, or Content-Encoding: deflate (zlib)")),
        }
    }

    fn decode(self, shared: &Shared, body: &Bytes) -> Result<Elements, Fault> {
        let bounds = limits_of(shared);
        let inflated;
        let bytes = if self.is_deflated {
            inflated = thingsee::inflate(body, bounds.frame_bytes_max)?;
            &inflated
        } else {
            &**body
        };
        if self.is_cbor {
            return thingsee::decode_binary(bytes, &bounds);
        }
        let text = std::str::from_utf8(bytes);
        let text = text.map_err(|_| Fault::new(Code::BadJson, "the body is not UTF-8"))?;
        thingsee::decode_text(text, &bounds)
    }
}

fn unsupported(message: &'static str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Fault::new(Code::BadValue, message))
}

/// Stores an array of Thingsee messages of a source, with the source's token (`?token=`, or as a
/// bearer): JSON, or CBOR as edge gateways write it; `Content-Encoding: deflate` is zlib. What stands is
/// on stable storage when this answers, and a repeat is stored once. The same address takes a WebSocket;
/// `thingsee.paths` gives it others.
#[utoipa::path(post, path = "/ingest/thingsee/{source}", tag = "integrations",
    operation_id = "ingest_thingsee",
    params(SourcePath, SourceQuery),
    request_body(content(
        (Vec<Object> = "application/json", example = json!([{"tsmId": 12100, "tsmEv": 10,
            "temp": 21.3, "tsmTs": 1_520_416_221, "tsmTuid": "TSAR01", "tsmGw": "TSGW01"}])),
        (String = "application/cbor"))),
    responses(
        (status = 200, description = "What stands of it is stored.", body = Posted),
        (status = 415, description = "Another type or coding than these.", body = ProblemBody<'_>,
            content_type = "application/problem+json"),
        Problems))]
pub(crate) async fn post(
    caller: &Caller,
    source: &str,
    request: Request,
) -> Result<Response, Problem> {
    let (shared, client) = (caller.shared(), caller.client(request.extensions()));
    if shared.draining.load(Ordering::SeqCst) {
        return Err(refuse(Code::Busy, "the gateway is draining"));
    }
    let principal = principal(caller, source, &request, client)?;
    let coding = Coding::of(request.headers())?;
    let body: Body = request.into_body();
    let body = rest::body_of(shared, body, shared.config.limits.frame_bytes_max).await?;
    let elements = coding.decode(shared, &body)?;
    let sender = shared.throttle.sender(&principal);
    let count = message_count(&elements) as u64;
    let paid = shared.throttle.take(&sender, count, body.len() as u64);
    paid.map_err(|wait_ms| rate_fault(shared, wait_ms))?;
    let taken = store(shared, &principal, elements).await?;
    let refused = taken.refused.into_iter().map(|(index, fault)| SetAside {
        index,
        code: fault.code.as_str(),
        message: fault.message.into_owned(),
    });
    let posted = Posted { accepted: taken.accepted_count, refused: refused.collect() };
    Ok(Json(posted).into_response())
}

/// Stores the elements of a body; they are durable when this returns.
async fn store(
    shared: &Arc<Shared>,
    principal: &Principal,
    elements: Elements,
) -> Result<Taken, Fault> {
    let brought = until_room(|| bring(shared, principal, &elements)).await?;
    if let Some(brought) = &brought {
        shared.settled(brought.until, true).await?;
    }
    let taken = until_room(|| take(shared, principal, elements.clone(), brought.as_ref())).await?;
    if taken.last > Seq(0) {
        shared.settled(taken.last, false).await?;
    }
    Ok(taken)
}

/// Does what the log may have no room for yet.
async fn until_room<T>(mut work: impl FnMut() -> Result<T, AppendError>) -> Result<T, Fault> {
    let mut tries = 0;
    loop {
        match work() {
            Ok(done) => return Ok(done),
            Err(AppendError::Full) if tries < FULL_TRIES => tokio::time::sleep(FULL_WAIT).await,
            Err(error) => return Err(append_fault(&error)),
        }
        tries += 1;
    }
}
