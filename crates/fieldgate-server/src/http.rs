//! HTTP: who answers which request, `/v1` among them, and the upgrade to WebSocket.
//!
//! Every error is `application/problem+json` with its stable code. Secrets may stand in queries:
//! nothing here logs a URL.

mod doc;
mod known;
mod origin;
mod probes;
mod problem;
mod upgrade;

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use fieldgate_core::{
    access::Principal,
    admission::NoPlace,
    fault::{Code, Fault},
    id::TenantId,
};
use fieldgate_dialects::{native, ws};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use crate::{
    asks::form_of,
    deconz,
    fabric::{Shared, now},
    idle::Phase,
    ingest,
    listen::Purpose,
    rest::{self, Entrance},
    socketio, thethings, thingsee_out,
    throttle::{Permit, Refusal},
};

use known::Known;
pub(crate) use origin::origin_is_known;
use origin::{host_is_known, is_preflight, preflight};
pub(crate) use problem::{Problem, ProblemBody, refuse, unauthorized};
pub(crate) use upgrade::{Joining, Offer};

/// Who is at the other end of one HTTP connection.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Arc<Inner>);

const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("etag, retry-after, allow, idempotent-replayed");

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    peer: IpAddr,
    admitted: Mutex<Admitted>,
    purpose: Purpose,
    phase: Arc<Phase>,
    known: Known,
}

/// Whose request it is, behind a proxy too.
#[derive(Debug, Clone, Copy)]
struct Client(IpAddr);

/// Whether a connection was let in.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It has a place.
    Yes(Permit),
    /// Its place went on to a WebSocket or a stream.
    Upgraded,
    /// It is told why not.
    No { why: NoPlace, _refusal: Refusal },
}

impl Caller {
    pub(crate) fn new(
        shared: Arc<Shared>,
        peer: IpAddr,
        admitted: Admitted,
        purpose: Purpose,
        phase: Arc<Phase>,
    ) -> Self {
        let admitted = Mutex::new(admitted);
        let known = Known::default();
        Self(Arc::new(Inner { shared, peer, admitted, purpose, phase, known }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.0.purpose
    }

    /// Whether a proxy that is believed is at the other end.
    pub(crate) fn is_proxied(&self) -> bool {
        self.0.shared.proxies.contains(self.0.peer)
    }

    /// Whether a proxy that nobody configured is at the other end: all the world has its address.
    pub(crate) fn is_relayed(&self, headers: &HeaderMap) -> bool {
        let names = ["x-forwarded-for", "forwarded", "via"];
        !self.is_proxied() && names.iter().any(|name| headers.contains_key(*name))
    }

    pub(crate) fn phase(&self) -> &Arc<Phase> {
        &self.0.phase
    }

    /// Takes the place of this connection for what it becomes.
    pub(crate) fn take_place(&self, client: IpAddr) -> Result<Permit, Problem> {
        let admitted = std::mem::replace(&mut *self.0.admitted(), Admitted::Upgraded);
        let Admitted::Yes(mut permit) = admitted else {
            return Err(refuse(Code::Busy, "this connection is being upgraded already"));
        };
        if permit.locate(client).is_err() {
            self.put_back(permit);
            let text = "limits.connections_per_address_max is reached";
            return Err(refuse(Code::RateLimited, text));
        }
        Ok(permit)
    }

    /// Moves the place of this connection to those who proved who they are; without room there it
    /// stays where it is.
    pub(crate) fn authenticate(&self) {
        if let Admitted::Yes(permit) = &mut *self.0.admitted() {
            let _stays = permit.authenticate(false);
        }
    }

    /// The connection stays what it was.
    pub(crate) fn put_back(&self, permit: Permit) {
        *self.0.admitted() = Admitted::Yes(permit);
    }
}

impl Inner {
    fn admitted(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All routes of one connection.
pub(crate) fn router(caller: Caller) -> Router {
    let routes = match caller.0.purpose {
        Purpose::Metrics => Router::new().route("/metrics", get(probes::listened_metrics)),
        // What these answer has no routes here.
        Purpose::Deconz | Purpose::Push => Router::new(),
        Purpose::Everything => Router::new()
            .route("/", get(upgrade))
            .route("/ws", get(upgrade))
            .route("/thingsee", get(thingsee_out::open))
            .route("/healthz", get(probes::alive))
            .route("/readyz", get(probes::ready))
            .route("/metrics", get(probes::keyed_metrics))
            .merge(doc::routes(&caller)),
    };
    routes
        .fallback(|| async { refuse(Code::NotFound, "there is nothing at this address") })
        .method_not_allowed_fallback(|| async {
            let fault = Fault::new(Code::BadValue, "this address takes GET alone");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, fault)
        })
        .with_state(caller)
}

/// Answers a request of one connection, whose routes these are.
pub(crate) async fn answer(
    caller: Caller,
    routes: Router,
    request: http::Request<Incoming>,
) -> Result<Response, Infallible> {
    caller.0.phase.asked();
    let response = guarded(&caller, routes, request.map(Body::new)).await;
    caller.0.phase.answered();
    Ok(response)
}

/// What is below `/v1` has a router of its own: a second one before it would cost as much again.
async fn dispatch(
    caller: &Caller,
    client: IpAddr,
    routes: Router,
    mut request: Request,
) -> Response {
    if caller.0.purpose == Purpose::Everything && request.uri().path().starts_with("/v1/") {
        return rest::answer(Entrance::Listener(caller.clone(), client), request).await;
    }
    if request.method().is_safe() && !probes::is_one(request.uri().path()) {
        caller.0.shared.caught_up().await;
    }
    request.extensions_mut().insert(Client(client));
    if caller.is_app() {
        return deconz::answer(caller, client, request).await;
    }
    if caller.0.purpose == Purpose::Everything
        && let Some(source) = ingest::source_at(&caller.0.shared, request.uri().path())
    {
        return ingest::answer(caller, &source, request).await;
    }
    if caller.0.purpose == Purpose::Everything && thethings::is_ours(request.uri().path()) {
        return thethings::answer(caller, client, request).await;
    }
    if caller.0.purpose == Purpose::Everything && socketio::is_ours(request.uri().path()) {
        return socketio::answer(caller, request).await;
    }
    let answered: Result<Response, Infallible> = routes.oneshot(request).await;
    answered.unwrap_or_else(|never| match never {})
}

/// Answers in the manner of the listener whatever is refused there.
async fn guarded(caller: &Caller, routes: Router, request: Request) -> Response {
    if !caller.is_app() {
        return checked(caller, routes, request).await;
    }
    let asked = deconz::Bridge::hear(&request);
    asked.finish(caller.shared(), checked(caller, routes, request).await)
}

/// Looks at what every request must obey.
async fn checked(caller: &Caller, routes: Router, request: Request) -> Response {
    let refused = match &*caller.0.admitted() {
        Admitted::Yes(_) | Admitted::Upgraded => None,
        Admitted::No { why: NoPlace::Address, .. } => {
            Some((Code::RateLimited, "limits.connections_per_address_max is reached"))
        }
        Admitted::No { why: NoPlace::Unauthenticated, .. } => {
            Some((Code::Busy, "limits.unauthenticated_max is reached"))
        }
        Admitted::No { why: NoPlace::Connections, .. } => {
            Some((Code::Busy, "limits.connections_max is reached"))
        }
    };
    if let Some((code, message)) = refused {
        let mut response = refuse(code, message).into_response();
        // A refused connection has no place: it must not stay.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_none_or(|host| host_is_known(&caller.0.shared, host)) {
        let fault = Fault::new(Code::NotFound, "this host name is not served: see listen.hosts");
        return Problem::new(StatusCode::MISDIRECTED_REQUEST, fault).into_response();
    }
    let client = match caller.0.shared.proxies.client_of(caller.0.peer, request.headers()) {
        Ok(client) => client,
        Err(fault) => return Problem::new(StatusCode::BAD_REQUEST, fault).into_response(),
    };
    // deCONZ answers preflights of its own, for methods and headers of its own.
    let mut response = if is_preflight(&request) && !caller.is_app() {
        let mut response = preflight();
        if socketio::is_ours(request.uri().path()) {
            socketio::allow_origin(request.headers(), &mut response);
        }
        response
    } else {
        dispatch(caller, client, routes, request).await
    };
    if caller.0.purpose == Purpose::Everything {
        // What is served here asks for a token of its own: any page may ask with it.
        let headers = response.headers_mut();
        headers.entry(header::ACCESS_CONTROL_ALLOW_ORIGIN).or_insert(ANY_ORIGIN);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

impl Caller {
    /// Whether an app of a deCONZ gateway is at the other end.
    fn is_app(&self) -> bool {
        matches!(self.0.purpose, Purpose::Deconz | Purpose::Push)
    }

    /// Who a request's credential names. `None`: it has none.
    pub(crate) async fn principal(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        client: IpAddr,
    ) -> Result<Option<Arc<Principal>>, Problem> {
        let (shared, time) = (&self.0.shared, now());
        let (shown, revision) = (headers.get(header::AUTHORIZATION), shared.state.revision());
        let known = shown.and_then(|shown| self.0.known.recall(shown, revision, time));
        if let Some(known) = known {
            rest::check_tenant(uri, &known)?;
            return Ok(Some(known));
        }
        let bearer = bearer(headers);
        let shown = shown.filter(|_| bearer.is_some());
        let Some(token) = bearer.or_else(|| value_of(uri.query(), "token=")) else {
            return Ok(None);
        };
        self.may_try(client)?;
        let is_foreign = shared.auth.concerns(&token);
        let found = if is_foreign {
            shared.auth.verify(&token, time).await?
        } else {
            shared.state.verify_token(&TenantId::default_tenant(), None, &token, time)
        };
        // An issuer may name a tenant that there is not, or not any more.
        let found = found.filter(|principal| shared.state.has_tenant(&principal.tenant));
        let found = Arc::new(found.ok_or_else(|| self.wrong(client))?);
        if let Some(shown) = shown.filter(|_| !is_foreign) {
            self.0.known.keep(shown, revision, &found);
        }
        rest::check_tenant(uri, &found)?;
        Ok(Some(found))
    }

    /// Who opens a connection: whoever the request's credential names, or its ticket, which is spent.
    pub(crate) async fn opener(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        client: IpAddr,
    ) -> Result<Option<Arc<Principal>>, Problem> {
        if let Some(principal) = self.principal(headers, uri, client).await? {
            return Ok(Some(principal));
        }
        let Some(ticket) = value_of(uri.query(), "ticket=") else { return Ok(None) };
        self.may_try(client)?;
        let shared = &self.0.shared;
        let hash = shared.state.master_key().hash_ticket(&ticket);
        let found = shared.tickets.take(&hash, Instant::now());
        // It is worth no more than the credential that it was asked for with is now.
        let found = found.and_then(|maker| shared.state.refresh(&maker, now()));
        found.map(Arc::new).map(Some).ok_or_else(|| self.wrong(client))
    }

    /// The token behind `Authorization: Bearer`.
    pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
        bearer(headers)
    }

    /// The token that a request shows.
    pub(crate) fn token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
        bearer(headers).or_else(|| value_of(uri.query(), "token="))
    }

    pub(crate) fn may_try(&self, client: IpAddr) -> Result<(), Problem> {
        if self.0.shared.throttle.may_try(client) {
            return Ok(());
        }
        Err(refuse(Code::RateLimited, "too many failed authentications"))
    }

    /// Counts a wrong credential; the same words for each.
    pub(crate) fn wrong(&self, client: IpAddr) -> Problem {
        self.0.shared.wrong_credential(client, TenantId::default_tenant(), String::new());
        unauthorized("the credential is not valid")
    }

    pub(crate) fn client(&self, extensions: &Extensions) -> IpAddr {
        extensions.get().map_or(self.0.peer, |Client(client)| *client)
    }
}

/// The token behind `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = text(headers, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// The credential in a query that stands behind this name.
pub(crate) fn value_of(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(name))?;
    // What is not encoded as it should be is a credential that nobody has.
    Some(decoded(value).unwrap_or_else(|| value.to_owned()))
}

/// A value of a query without its percent signs. A plus stays one.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || u8::try_from(char::from(rest.next()?).to_digit(16)?).ok();
        let (high, low) = (digit()?, digit()?);
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The upgrade to WebSocket (`native.md`, "Connecting").
async fn upgrade(State(caller): State<Caller>, request: Request) -> Result<Response, Problem> {
    let offer = match Offer::of(&caller, &request)? {
        Ok(offer) => offer,
        Err(refused) => return Ok(refused),
    };
    let headers = request.headers();
    let principal = caller.opener(headers, request.uri(), offer.client).await?;
    if let (Some(hint), Some(principal)) = (text(headers, "device-id"), &principal)
        && matches!(principal.identity, fieldgate_core::access::Identity::Device { .. })
        && *principal.name != *hint
    {
        return Err(refuse(Code::BadValue, "the header Device-ID contradicts the credential"));
    }
    let offered = upgrade::all(headers, "sec-websocket-protocol");
    let subprotocol = ws::choose_subprotocol(offered.as_deref(), native::SUBPROTOCOLS);
    let form = form_of(subprotocol);
    let principal = principal.map(Arc::unwrap_or_clone);
    offer.take(
        &caller,
        request,
        Joining { form, subprotocol, principal, stream: None, session: None },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_meant() {
        assert_eq!(decoded("a%3Ab~").as_deref(), Some("a:b~"));
        assert_eq!(decoded("%E2%9C%93").as_deref(), Some("\u{2713}"));
        for broken in ["%", "%3", "%zz", "%ff"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }
}
