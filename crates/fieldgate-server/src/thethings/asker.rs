//! Who asks, and what a request brings along.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRequest, FromRequestParts, Path, RawPathParams, Request},
    http::{header, request::Parts},
};
use fieldgate_core::{
    access::{Identity, Principal},
    fault::{Code, Fault},
    id::{DeviceId, TenantId},
};
use fieldgate_dialects::thethings;
use fieldgate_store::{
    audit::Author,
    registry::{Change, RegistryChange},
};
use serde::de::DeserializeOwned;

use super::{
    answer::Refused,
    who::{session_principal, thing_principal},
};
use crate::{
    asks::rate_fault,
    fabric::Shared,
    http::Caller,
    rest::{Entrance, body_of},
};

/// Most bytes of a body that is no write of values.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Most fields of a form beside those of values.
const FIELDS_MAX: usize = 32;
/// How many fields of a form a value has, with those of its place.
const FIELDS_PER_VALUE: usize = 6;
const FORM: &str = "application/x-www-form-urlencoded";
const NO_SESSION: &str = "Invalid session token";
const NO_THING: &str = "Invalid thing token";

/// Where a request came in.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) caller: Caller,
    pub(super) client: IpAddr,
}

/// A thing, by the token in its address.
#[derive(Debug)]
pub(super) struct Thing {
    pub(super) visitor: Visitor,
    pub(super) principal: Principal,
    pub(super) device: DeviceId,
}

/// A person of an app, or a program, by a session token.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) visitor: Visitor,
    pub(super) principal: Principal,
}

/// A body as JSON, whatever it was sent as; read after the asker is known.
#[derive(Debug)]
pub(super) struct Document(pub(super) String);

/// The same, read as an object with certain members.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

/// The names in an address.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl Visitor {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.caller.shared()
    }

    /// Refuses an address from which too much was wrong.
    pub(super) fn may_try(&self) -> Result<(), Refused> {
        Ok(self.caller.may_try(self.client)?)
    }

    /// Counts a wrong secret.
    pub(super) fn wrong(&self, message: &str) -> Refused {
        let tenant = TenantId::default_tenant();
        self.shared().wrong_credential(self.client, tenant, String::new());
        Refused::unauthorized(message)
    }

    /// Takes from the rates of somebody.
    pub(super) fn pay(
        &self,
        principal: &Principal,
        message_count: usize,
        byte_len: usize,
    ) -> Result<(), Fault> {
        let throttle = &self.shared().throttle;
        let sender = throttle.sender(principal);
        let paid = throttle.take(&sender, message_count as u64, byte_len as u64);
        paid.map_err(|wait_ms| rate_fault(self.shared(), wait_ms))
    }

    /// Changes the registry: durable and decided when this returns.
    pub(super) async fn change(
        &self,
        tenant: &TenantId,
        author: &str,
        change: Change,
    ) -> Result<(), Fault> {
        let author = Some(Author { name: author.to_owned(), address: Some(self.client) });
        let change = RegistryChange { tenant: tenant.as_str().to_owned(), change, author };
        self.shared().change_registry(change).await.map(drop)
    }

    /// The device that a token proves.
    pub(super) fn thing(&self, token: &str) -> Result<(Principal, DeviceId), Refused> {
        self.may_try()?;
        let found = thing_principal(self.shared(), token);
        let principal = found.ok_or_else(|| self.wrong(NO_THING))?;
        match principal.identity.clone() {
            Identity::Device { id, .. } => Ok((principal, id)),
            Identity::Key | Identity::User | Identity::Source { .. } => Err(self.wrong(NO_THING)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refused> {
        match parts.extensions.get::<Entrance>() {
            Some(Entrance::Listener(caller, client)) => {
                Ok(Self { caller: caller.clone(), client: *client })
            }
            Some(Entrance::Local(_)) | None => Err(Refused::unauthorized(NO_SESSION)),
        }
    }
}

impl<S: Sync + Send> FromRequestParts<S> for Thing {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let visitor = Visitor::from_request_parts(parts, state).await?;
        let names = RawPathParams::from_request_parts(parts, state).await;
        let names = names.map_err(|_| Refused::unauthorized(NO_THING))?;
        let token = names.iter().find(|(name, _)| *name == "token").map(|(_, token)| token);
        let (principal, device) = visitor.thing(token.unwrap_or_default())?;
        Ok(Self { visitor, principal, device })
    }
}

impl<S: Sync + Send> FromRequestParts<S> for Person {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let visitor = Visitor::from_request_parts(parts, state).await?;
        let shown = parts.headers.get(header::AUTHORIZATION);
        let shown = shown.and_then(|shown| shown.to_str().ok());
        let shown = shown.ok_or_else(|| Refused::unauthorized(NO_SESSION))?;
        visitor.may_try()?;
        let found = session_principal(visitor.shared(), shown);
        let principal = found.ok_or_else(|| visitor.wrong(NO_SESSION))?;
        Ok(Self { visitor, principal })
    }
}

impl<S: Sync + Send, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let found = Path::<T>::from_request_parts(parts, state).await;
        let wrong = |_| Refused::not_found("there is nothing at this address");
        found.map(|Path(names)| Self(names)).map_err(wrong)
    }
}

impl<S: Sync> FromRequest<S> for Document {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        document(request, state, |shared| shared.config.limits.frame_bytes_max).await.map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Object<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let text = document(request, state, |_| BODY_BYTES_MAX).await?;
        let bad = |error: &dyn std::fmt::Display| Fault::new(Code::BadValue, error.to_string());
        if !text.trim_start().starts_with('{') {
            return Err(bad(&"the body is a JSON object").into());
        }
        let read = serde_json::from_str(&text).map_err(|error| bad(&error));
        Ok(Self(read?))
    }
}

/// Reads a body: JSON, or a form, whatever it says it is.
async fn document<S: Sync>(
    request: Request,
    state: &S,
    max: impl Fn(&Shared) -> usize,
) -> Result<String, Refused> {
    let (mut parts, body) = request.into_parts();
    let visitor = Visitor::from_request_parts(&mut parts, state).await?;
    let shared = visitor.shared();
    let bytes = body_of(shared, body, max(shared)).await?;
    let text = String::from_utf8(bytes.into());
    let text = text.map_err(|_| Fault::new(Code::BadJson, "the body is not UTF-8"))?;
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    // Names of types are the same in any case; parameters may follow.
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    let is_form = kind.is_some_and(|kind| kind.eq_ignore_ascii_case(FORM));
    // Tools send JSON under this type, too, unless they are told another.
    if is_form && !text.trim_start().starts_with(['{', '[']) {
        let pairs_max = shared.config.limits.batch_len_max * FIELDS_PER_VALUE + FIELDS_MAX;
        return Ok(thethings::form_to_json(&text, pairs_max)?);
    }
    Ok(text)
}
