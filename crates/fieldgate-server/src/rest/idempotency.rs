//! `Idempotency-Key`: a POST that is sent twice is done once, and answered twice.
//!
//! Around every address but those to sign in, where nobody is known yet to whom a key could
//! belong. What was done is kept with its answer, without secrets; what was refused is not, for nothing
//! came of it. The work goes on if whoever asked has gone. Source: draft-ietf-httpapi-idempotency-key-header.

use std::{convert::Infallible, time::Instant};

use aws_lc_rs::digest;
use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use fieldgate_core::{
    fault::{Code, Fault},
    id::MsgId,
};
use serde::Serialize;
use utoipa::openapi::{
    OpenApi,
    path::{Operation, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
    security::SecurityRequirement,
};

use super::{
    asker::{Asker, bad, body_of},
    routed, sign_in,
};
use crate::{
    http::Problem,
    repeats::{ANSWER_BYTES_MAX, Fingerprint, Kept, Taken, Turn},
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key.
const KEY_BYTES_MAX: usize = 255;
/// The headers of an answer that are told again.
const TOLD_AGAIN: [HeaderName; 3] = [header::CONTENT_TYPE, header::ETAG, header::CACHE_CONTROL];

/// What a message of this request is called unless its sender says so: the window of `msgid`s, which
/// outlives a restart, then knows a repeat.
#[derive(Debug, Clone)]
pub(super) struct Derived(pub(super) Option<MsgId>);

impl<S: Sync> FromRequestParts<S> for Derived {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self(None)))
    }
}

/// An answer without its secret.
pub(super) trait Forgets: Serialize {
    /// Takes the secret out.
    fn forget(&mut self);
}

/// An answer that tells a secret, once: who asks again gets it without.
pub(super) struct Once<T>(pub(super) T);

/// The body that is kept in place of the one that was told.
#[derive(Debug, Clone)]
struct Unsaid(Bytes);

impl<T: Forgets> IntoResponse for Once<T> {
    fn into_response(self) -> Response {
        let Self(mut told) = self;
        let private = [(header::CACHE_CONTROL, "no-store")];
        let mut response = (StatusCode::CREATED, private, Json(&told)).into_response();
        told.forget();
        // What could not be written is not kept.
        if let Ok(unsaid) = serde_json::to_vec(&told) {
            response.extensions_mut().insert(Unsaid(unsaid.into()));
        }
        response
    }
}

/// Whether a request brings a key that counts. Where people sign in nobody is known yet to whom one
/// could belong.
pub(super) fn concerns(request: &Request) -> bool {
    *request.method() == Method::POST
        && request.headers().contains_key(&KEY)
        && !sign_in::PATHS.contains(&request.uri().path())
}

/// Answers a request with a key.
pub(super) async fn answer(request: Request) -> Response {
    match taken(request).await {
        Err(problem) => problem.into_response(),
        Ok((Taken::First(turn), request)) => {
            let work = tokio::spawn(run(turn, request));
            let broken = || Fault::new(Code::Busy, "the request broke off");
            work.await.unwrap_or_else(|_| Problem::from(broken()).into_response())
        }
        Ok((Taken::Again(kept), _)) => again(kept),
        Ok((Taken::Running, _)) => {
            let text = "the request with this Idempotency-Key still runs: ask again in a moment";
            let mut response = Problem::from(Fault::new(Code::Conflict, text)).into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Ok((Taken::Other, _)) => {
            let text = "this Idempotency-Key was used for another request: take a new one";
            let fault = Fault::new(Code::Conflict, text);
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, fault).into_response()
        }
        Ok((Taken::Full, _)) => {
            let text = "too many requests with an Idempotency-Key run at a time";
            Problem::from(Fault::new(Code::RateLimited, text)).into_response()
        }
    }
}

/// Looks who asks and whether they asked before; the request can then be read again.
async fn taken(request: Request) -> Result<(Taken, Request), Problem> {
    let (mut parts, body) = request.into_parts();
    let key = key_of(&parts.headers)?;
    let asker = Asker::from_request_parts(&mut parts, &()).await?;
    let (shared, principal) = (&asker.shared, &asker.principal);
    let body = body_of(shared, body, shared.config.limits.frame_bytes_max).await?;
    let owner = (principal.tenant.clone(), principal.name.clone());
    let address = address_of(&parts);
    let said = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &body));
    let request = [principal.tenant.as_str(), &principal.name, &key, &address, &said];
    let fingerprint = shared.state.master_key().hash_request(&request);
    let taken = shared.repeats.take(owner, &key, fingerprint, Instant::now());
    parts.extensions.insert(Derived(msgid_of(&fingerprint)));
    Ok((taken, Request::from_parts(parts, Body::from(body))))
}

/// The address without the credential that may stand in it: the same request may show another one.
fn address_of(parts: &Parts) -> String {
    let query = parts.uri.query().unwrap_or_default();
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("token=")).collect();
    format!("{}?{}", parts.uri.path(), kept.join("&"))
}

fn msgid_of(fingerprint: &Fingerprint) -> Option<MsgId> {
    let (head, _) = fingerprint.split_at_checked(18)?;
    format!("idem-{}", URL_SAFE_NO_PAD.encode(head)).parse().ok()
}

/// The key: a string of RFC 8941 (`"…"`), or the same without quotes.
fn key_of(headers: &HeaderMap) -> Result<String, Fault> {
    let wrong = || {
        let text = "Idempotency-Key is one string in quotes of 1 to 255 printable characters";
        bad(text)
    };
    let mut values = headers.get_all(&KEY).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).ok_or_else(wrong)?.trim();
    let key = match value.strip_prefix('"') {
        Some(rest) => unquoted(rest).ok_or_else(wrong)?,
        None if value.contains(['"', ',', ';', ' ']) => return Err(wrong()),
        None => value.to_owned(),
    };
    let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !printable || values.next().is_some() {
        return Err(wrong());
    }
    Ok(key)
}

/// What stands up to the quote that ends it.
fn unquoted(rest: &str) -> Option<String> {
    let mut key = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(key),
            '\\' => key.push(chars.next().filter(|next| matches!(next, '"' | '\\'))?),
            other => key.push(other),
        }
    }
}

async fn run(turn: Turn, request: Request) -> Response {
    let response = routed(request).await;
    if !response.status().is_success() {
        return response;
    }
    let (parts, body) = response.into_parts();
    // Answers to POST are whole in memory already.
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return Problem::from(Fault::new(Code::Busy, "the answer broke off")).into_response();
    };
    let unsaid = parts.extensions.get::<Unsaid>().map(|Unsaid(body)| body.clone());
    // Who asks that nobody between keeps an answer does not want it kept here.
    let is_private = unsaid.is_none() && parts.headers.contains_key(header::CACHE_CONTROL);
    let kept = unsaid.unwrap_or_else(|| body.clone());
    // A larger answer is of commands: they are known by their `msgid`.
    if !is_private && kept.len() <= ANSWER_BYTES_MAX {
        let told = |name: HeaderName| Some((name.clone(), parts.headers.get(&name)?.clone()));
        let headers = TOLD_AGAIN.into_iter().filter_map(told).collect();
        turn.keep(Kept { status: parts.status, headers, body: kept });
    }
    Response::from_parts(parts, Body::from(body))
}

fn again(kept: Kept) -> Response {
    let Kept { status, headers, body } = kept;
    let mut response = (status, headers, body).into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Says of each POST that has it that it takes the header.
pub(super) fn describe(openapi: &mut OpenApi) {
    for item in openapi.paths.paths.values_mut() {
        let Some(operation) = item.post.as_mut().filter(|operation| takes_key(operation)) else {
            continue;
        };
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(257))
            .examples([serde_json::json!("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"")])
            .build();
        let parameter = ParameterBuilder::new()
            .name("Idempotency-Key")
            .parameter_in(ParameterIn::Header)
            .description(Some(
                "A string in quotes that no other request of yours has: a repeat within 24 hours \
                 is answered as the first one, without doing it again and without its secret.",
            ))
            .schema(Some(schema))
            .build();
        operation.parameters.get_or_insert_default().push(parameter.into());
    }
}

/// Those to sign in are for who is nobody yet.
fn takes_key(operation: &Operation) -> bool {
    operation
        .security
        .as_ref()
        .is_none_or(|security| !security.contains(&SecurityRequirement::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_post_takes_a_key_but_those_to_sign_in() {
        for (path, item) in &crate::rest::openapi().paths.paths {
            if let Some(post) = &item.post {
                assert_ne!(takes_key(post), sign_in::PATHS.contains(&path.as_str()), "{path}");
            }
        }
    }

    #[test]
    fn a_key_is_a_string_in_quotes_or_the_same_without() {
        let read = |values: &[&'static str]| {
            let pairs = values.iter().map(|value| (KEY, HeaderValue::from_static(value)));
            key_of(&pairs.collect()).ok()
        };
        for (value, key) in [
            ("\"8e03-97\"", "8e03-97"),
            ("8e03-97", "8e03-97"),
            (" \"a b\" ", "a b"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
        ] {
            assert_eq!(read(&[value]).as_deref(), Some(key), "{value}");
        }
        for wrong in ["", "\"\"", "\"a", "\"a\"b", "a\"", "a b", "a,b", "\"a\";x=1", r#""a\b""#] {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
        assert_eq!(read(&["a", "b"]), None);
        let long: &'static str = Box::leak("x".repeat(KEY_BYTES_MAX + 1).into_boxed_str());
        assert_eq!((read(&[long]), read(&[&long[1..]]).map(|key| key.len())), (None, Some(255)));
    }

    #[test]
    fn every_post_but_to_sign_in_takes_a_key() {
        for (path, item) in &crate::rest::openapi().paths.paths {
            let Some(post) = &item.post else { continue };
            let has_key = post.parameters.iter().flatten().any(|parameter| {
                matches!(parameter, utoipa::openapi::RefOr::T(it) if it.name == "Idempotency-Key")
            });
            let signs_in = ["/v1/login", "/v1/login-link", "/v1/refresh", "/v1/logout"];
            assert_eq!(has_key, !signs_in.contains(&path.as_str()), "{path}");
        }
    }
}
