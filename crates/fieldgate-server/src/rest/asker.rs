//! Who asks, and what a request brings along.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    body::{Body as Whole, Bytes, to_bytes},
    extract::{self, FromRequest, FromRequestParts, Query, Request},
    http::{Uri, request::Parts},
};
use fieldgate_core::{
    access::{Identity, Principal, Role, Verb},
    fault::{Code, Fault},
    id::{DeviceId, TenantId},
    topic::Filter,
};
use fieldgate_store::{
    Record,
    audit::{Author, Note, Said},
    registry::{Change, RegistryChange},
};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{no_such, watch::Trace};
use crate::{
    asks::rate_fault,
    fabric::Shared,
    http::{Caller, Problem, unauthorized},
};

/// Most bytes of a request's body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How a request came in, which decides who asks.
#[derive(Debug, Clone)]
pub(crate) enum Entrance {
    /// By `admin.sock`, or on a folder that no gateway has open: whoever can do that administers
    /// every tenant (`cli.md`).
    Local(Arc<Shared>),
    /// By a listener, from this address, with a credential.
    Listener(Caller, IpAddr),
}

impl Entrance {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        match self {
            Self::Local(shared) => shared,
            Self::Listener(caller, _) => caller.shared(),
        }
    }
}

/// Who asks.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) principal: Arc<Principal>,
    /// From where, if by the network.
    address: Option<IpAddr>,
}

/// Who opens a connection: a ticket counts, too.
#[derive(Debug)]
pub(crate) struct Opener(pub(crate) Asker);

/// Who asks, and may administer the tenant: known before anything of a body is read.
#[derive(Debug)]
pub(crate) struct Admin(pub(crate) Asker);

/// A JSON body, bounded in bytes and time, and read after the asker is known.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

/// A body that is text, bounded as a frame is.
#[derive(Debug)]
pub(crate) struct Text(pub(crate) String);

/// The names in a path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

pub(crate) fn bad(error: impl std::fmt::Display) -> Fault {
    Fault::new(Code::BadValue, format!("{error}"))
}

/// Reads a JSON object. A list would count as its fields, in their order.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Fault> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(Fault::new(Code::BadJson, "the body is a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| unread(&error))?;
    reader.end().map_err(|error| Fault::new(Code::BadJson, error.to_string()))?;
    Ok(read)
}

/// Why a body is none of its kind, and which field of it.
fn unread(error: &serde_path_to_error::Error<serde_json::Error>) -> Fault {
    let (path, why) = (error.path().to_string(), error.inner());
    let code = match why.classify() {
        Category::Syntax | Category::Eof | Category::Io => Code::BadJson,
        Category::Data if why.to_string().starts_with("missing field") => Code::MissingField,
        Category::Data => Code::BadValue,
    };
    Fault::new(code, if path == "." { why.to_string() } else { format!("{path}: {why}") })
}

/// `?tenant=NAME`, if it is given.
fn tenant_of(uri: &Uri) -> Result<Option<TenantId>, Fault> {
    if uri.query().is_none() {
        return Ok(None);
    }
    let query = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(query) = query.map_err(|_| bad("the query is no query"))?;
    let mut named = query.iter().filter(|(name, _)| name == "tenant");
    let tenant = named.next().map(|(_, value)| value.parse().map_err(bad)).transpose()?;
    if named.next().is_some() {
        return Err(bad("tenant is given twice: give it once"));
    }
    Ok(tenant)
}

/// Refuses a request that names another tenant than that of its credential: any other one is none
/// that it may know of.
pub(crate) fn check_tenant(uri: &Uri, principal: &Principal) -> Result<(), Fault> {
    let other = tenant_of(uri)?.filter(|named| *named != principal.tenant);
    other.map_or(Ok(()), |other| Err(no_such("tenant", other.as_str())))
}

pub(super) fn entrance(parts: &Parts) -> Result<&Entrance, Problem> {
    let known = parts.extensions.get::<Entrance>();
    known.ok_or_else(|| unauthorized("this request came in nowhere"))
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let asker = Self::of(parts, false).await?;
        if let Some(trace) = parts.extensions.get::<Trace>() {
            trace.asks(asker.tenant(), &asker.principal.name);
        }
        Ok(asker)
    }
}

impl Asker {
    async fn of(parts: &Parts, opens: bool) -> Result<Self, Problem> {
        match entrance(parts)? {
            Entrance::Local(shared) => {
                let tenant = tenant_of(&parts.uri)?.unwrap_or_else(TenantId::default_tenant);
                if !shared.state.has_tenant(&tenant) {
                    return Err(no_such("tenant", tenant.as_str()).into());
                }
                let principal = Principal {
                    tenant,
                    name: "local".into(),
                    identity: Identity::User,
                    role: Some(Role::Admin),
                    grants: Vec::new(),
                    only: None,
                    proof: None,
                    expires: None,
                };
                let principal = Arc::new(principal);
                Ok(Self { shared: Arc::clone(shared), principal, address: None })
            }
            Entrance::Listener(caller, client) => {
                let principal = if opens {
                    caller.opener(&parts.headers, &parts.uri, *client).await?
                } else {
                    caller.principal(&parts.headers, &parts.uri, *client).await?
                };
                let principal = principal
                    .ok_or_else(|| unauthorized("send Authorization: Bearer with an API key"))?;
                let shared = Arc::clone(caller.shared());
                Ok(Self { shared, principal, address: Some(*client) })
            }
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Opener {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Asker::of(parts, true).await.map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let asker = Asker::from_request_parts(parts, state).await?;
        asker.must(Verb::Admin)?;
        Ok(Self(asker))
    }
}

impl<S: Sync + Send, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let found = extract::Path::<T>::from_request_parts(parts, state).await;
        found.map(|extract::Path(names)| Self(names)).map_err(|error| bad(error.body_text()).into())
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = read(request, |_| BODY_BYTES_MAX).await?;
        Ok(Self(parse(&bytes)?))
    }
}

impl<S: Sync> FromRequest<S> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = read(request, |shared| shared.config.limits.frame_bytes_max).await?;
        let text = String::from_utf8(bytes.into());
        Ok(Self(text.map_err(|_| Fault::new(Code::BadJson, "the body is not UTF-8"))?))
    }
}

async fn read(request: Request, max: impl Fn(&Shared) -> usize) -> Result<Bytes, Problem> {
    let (parts, body) = request.into_parts();
    let shared = entrance(&parts)?.shared();
    body_of(shared, body, max(shared)).await
}

/// Reads a body, bounded in bytes and time.
pub(crate) async fn body_of(shared: &Shared, body: Whole, max: usize) -> Result<Bytes, Problem> {
    let limit = Duration::from_millis(shared.config.limits.handshake_ms);
    let read = tokio::time::timeout(limit, to_bytes(body, max)).await;
    let read = read.map_err(|_| Fault::new(Code::Busy, "the body did not come in time"))?;
    Ok(read.map_err(|_| {
        let text = format!("the body is above {max} bytes, or broke off");
        Fault::new(Code::TooLarge, text)
    })?)
}

fn no_right(verb: Verb, filter: &str) -> Problem {
    let text = format!("no right to do this: it takes {verb}:{filter}");
    Fault::new(Code::NotAllowed, text).into()
}

impl Asker {
    /// Whether the request came in on this machine's own socket or folder.
    pub(crate) const fn is_local(&self) -> bool {
        self.address.is_none()
    }

    pub(crate) fn tenant(&self) -> &TenantId {
        &self.principal.tenant
    }

    /// Refuses who has not this right over everything.
    pub(crate) fn must(&self, verb: Verb) -> Result<(), Problem> {
        self.must_at(verb, "#")
    }

    /// Refuses who has not this right over all that `filter` selects.
    pub(crate) fn must_at(&self, verb: Verb, filter: &str) -> Result<(), Problem> {
        if self.may_at(verb, filter) { Ok(()) } else { Err(no_right(verb, filter)) }
    }

    /// Refuses who has not this right over all topics of a device.
    pub(crate) fn must_of(&self, verb: Verb, device: &DeviceId) -> Result<(), Problem> {
        let filter = Filter::of_device(device);
        if self.principal.may(verb, &filter) {
            return Ok(());
        }
        Err(no_right(verb, filter.as_str()))
    }

    pub(crate) fn may_at(&self, verb: Verb, filter: &str) -> bool {
        filter.parse::<Filter>().is_ok_and(|filter| self.principal.may(verb, &filter))
    }

    /// Takes from the rates of who asks.
    pub(crate) fn pay(&self, message_count: usize, byte_len: usize) -> Result<(), Fault> {
        let throttle = &self.shared.throttle;
        let sender = throttle.sender(&self.principal);
        let paid = throttle.take(&sender, message_count as u64, byte_len as u64);
        paid.map_err(|wait_ms| rate_fault(&self.shared, wait_ms))
    }

    /// Changes the registry: durable and decided when this returns.
    pub(crate) async fn change(&self, change: Change) -> Result<u64, Fault> {
        self.change_of(self.tenant(), change).await
    }

    /// The same for a tenant as a whole.
    pub(crate) async fn change_of(&self, tenant: &TenantId, change: Change) -> Result<u64, Fault> {
        let (tenant, author) = (tenant.as_str().to_owned(), Some(self.author()));
        let seq = self.shared.change_registry(RegistryChange { tenant, change, author }).await?;
        Ok(seq.0)
    }

    /// Whether the gateway as a whole is theirs to look at, with the right for it: on this machine,
    /// and in the tenant `default`.
    pub(crate) fn is_of_gateway(&self) -> bool {
        self.address.is_none() || *self.tenant() == TenantId::default_tenant()
    }

    /// Enters an act that is no change of the registry: it is durable before it is done.
    pub(crate) async fn enter(&self, said: Said) -> Result<u64, Fault> {
        let note = Note { tenant: self.tenant().as_str().to_owned(), said };
        let seq = self.shared.append_durable(Record::Note(Box::new(note))).await?;
        Ok(seq.0)
    }

    /// Who asks, as the audit says it.
    pub(crate) fn author(&self) -> Author {
        Author { name: self.principal.name.as_ref().to_owned(), address: self.address }
    }
}
