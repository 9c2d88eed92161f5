//! People sign in, go on, and sign out.
//!
//! A sign-in is a family of tokens: one to show, for minutes, and one that makes the next two, once.
//! If that one comes a second time somebody else has it, and the whole family ends. What is wrong is
//! told in the same words whatever it is, and counts against the address. Tokens are random, and the
//! log keeps their hashes alone.

use std::{net::IpAddr, sync::Arc, sync::atomic::Ordering};

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderName, StatusCode, header, request::Parts},
};
use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
};
use fieldgate_store::{
    audit::Author,
    registry::{Access, Change, RegistryChange, SecretHash, Session, SignInBy, SignInStep, User},
    secret::{SignInPart, TokenKind, make_token, random_text},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Body, Entrance, bad, entrance},
    io_fault,
    watch::Trace,
};
use crate::{
    auth::Turn,
    fabric::{Shared, now},
    http::{Problem, refuse, unauthorized},
};

const REFRESH_PREFIX: &str = "fg_r_";
/// Characters of the family in a refresh token, and of what is new in each.
const FAMILY_LEN: usize = 22;
const SECRET_LEN: usize = 43;
const WRONG_LOGIN: &str = "the name or the password is wrong";
const WRONG_REFRESH: &str = "the refresh token is not valid";
const WRONG_CODE: &str = "the code is not valid";
/// Answers that hold a secret are kept by nobody between.
const NO_STORE: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

type Answered = ([(HeaderName, &'static str); 1], Json<SignedIn>);

/// Where nobody is known yet.
pub(super) const PATHS: [&str; 4] = ["/v1/login", "/v1/login-link", "/v1/refresh", "/v1/logout"];

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(login))
        .routes(routes!(login_link))
        .routes(routes!(refresh))
        .routes(routes!(logout))
}

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    /// The tenant; `default` unless named.
    tenant: Option<String>,
    /// The person's name.
    name: String,
    /// Their password.
    #[schema(format = Password)]
    password: String,
}

/// A code that `fieldgate login-link` made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoginCode {
    /// The code.
    code: String,
}

/// The token that makes the next ones.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The token.
    refresh_token: String,
}

/// Somebody is signed in. The tokens are told this once.
#[derive(Serialize, ToSchema)]
struct SignedIn {
    /// The tenant.
    tenant: String,
    /// The person's name.
    name: String,
    /// `admin`, `operator`, `viewer` or `member`.
    role: String,
    /// What to send as `Authorization: Bearer`.
    access_token: String,
    /// The access token is worthless from this time on, in Unix ms.
    expires: u64,
    /// What makes the next two tokens, once.
    refresh_token: String,
    /// The session ends at this time, in Unix ms, unless tokens are made before.
    refresh_expires: u64,
}

/// Somebody who is nobody yet, at an address that may try.
struct Visitor {
    shared: Arc<Shared>,
    /// On this machine's own socket, none.
    client: Option<IpAddr>,
    trace: Trace,
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let trace = parts.extensions.get::<Trace>().cloned().unwrap_or_default();
        let visitor = match entrance(parts)? {
            Entrance::Local(shared) => Self { shared: Arc::clone(shared), client: None, trace },
            Entrance::Listener(caller, client) => {
                Self { shared: Arc::clone(caller.shared()), client: Some(*client), trace }
            }
        };
        visitor.may_try()?;
        Ok(visitor)
    }
}

impl Visitor {
    fn may_try(&self) -> Result<(), Problem> {
        if self.client.is_none_or(|client| self.shared.throttle.may_try(client)) {
            return Ok(());
        }
        Err(refuse(Code::RateLimited, "too many failed authentications"))
    }

    /// Counts a wrong credential.
    fn wrong(&self, message: &'static str) -> Problem {
        if let Some(client) = self.client {
            self.shared.throttle.failed(client);
        }
        self.shared.stats.auth_failures.fetch_add(1, Ordering::Relaxed);
        unauthorized(message)
    }

    /// Each pair of tokens is a record in the log: they count as messages of their person do.
    fn take_rate(&self, held: &Held) -> Result<(), Problem> {
        let Session { refresh: hash, ends_ms, .. } = held.session;
        let principal = held.user.principal(&held.tenant, &Access { hash, ends_ms });
        let throttle = &self.shared.throttle;
        let taken = throttle.take(&throttle.sender(&principal), 1, 0);
        taken.map_err(|_| refuse(Code::RateLimited, "above limits.messages_per_second"))
    }

    /// `by`: whose act it is; nobody's but the gateway's if nothing.
    async fn change(
        &self,
        tenant: &TenantId,
        user: &str,
        step: SignInStep,
        by: Option<&User>,
    ) -> Result<(), Fault> {
        let name = by.map_or_else(|| "gateway".to_owned(), |user| format!("user:{}", user.name));
        let author = Some(Author { name, address: self.client });
        let change = Change::SignIns { user: user.to_owned(), step };
        let change = RegistryChange { tenant: tenant.as_str().to_owned(), change, author };
        self.shared.change_registry(change).await.map(drop)
    }

    fn hash(&self, part: SignInPart, text: &str) -> SecretHash {
        self.shared.state.master_key().hash_sign_in(part, text)
    }

    /// Begins a session, if what it is granted for still holds when its turn comes.
    async fn begin(
        &self,
        tenant: &TenantId,
        user: &User,
        by: SignInBy,
        wrong: &'static str,
    ) -> Result<Answered, Problem> {
        let family = random_text(FAMILY_LEN).map_err(|error| io_fault(&error))?;
        let made = Made::new(&self.shared, &family)?;
        let session = Session {
            family: self.hash(SignInPart::Family, &family),
            refresh: made.refresh_hash,
            ends_ms: made.refresh_ends_ms,
            access: vec![made.access_hash],
        };
        let begun =
            self.change(tenant, &user.name, SignInStep::Begin { by, session }, Some(user)).await;
        match begun {
            Ok(()) => Ok(made.told(tenant, user)),
            Err(fault) if was_decided(&fault) => Err(self.wrong(wrong)),
            Err(fault) => Err(fault.into()),
        }
    }
}

/// Whether a change was refused because of what it is, not because of the moment.
fn was_decided(fault: &Fault) -> bool {
    matches!(fault.code, Code::Conflict | Code::NotFound)
}

/// Two new tokens.
struct Made {
    access: String,
    access_hash: Access,
    refresh: String,
    refresh_hash: SecretHash,
    refresh_ends_ms: u64,
}

impl Made {
    fn new(shared: &Shared, family: &str) -> Result<Self, Fault> {
        let (key, auth, time) = (shared.state.master_key(), &shared.config.auth, now().0);
        let access = make_token(TokenKind::Access).map_err(|error| io_fault(&error))?;
        let secret = random_text(SECRET_LEN).map_err(|error| io_fault(&error))?;
        let refresh = format!("{REFRESH_PREFIX}{family}{secret}");
        let ends_ms = time.saturating_add(auth.access_lifetime_ms);
        Ok(Self {
            access_hash: Access { hash: key.hash(&access), ends_ms },
            access,
            refresh_hash: key.hash_sign_in(SignInPart::Refresh, &refresh),
            refresh,
            refresh_ends_ms: time.saturating_add(auth.refresh_lifetime_ms),
        })
    }

    fn told(self, tenant: &TenantId, user: &User) -> Answered {
        let told = SignedIn {
            tenant: tenant.as_str().to_owned(),
            name: user.name.clone(),
            role: user.role.clone(),
            access_token: self.access,
            expires: self.access_hash.ends_ms,
            refresh_token: self.refresh,
            refresh_expires: self.refresh_ends_ms,
        };
        (NO_STORE, Json(told))
    }
}

/// Signs a person in with their password.
#[utoipa::path(post, path = "/v1/login", tag = "access",
    operation_id = "login", request_body = Login, security(()),
    responses((status = 200, description = "Signed in.", body = SignedIn), Problems))]
async fn login(visitor: Visitor, Body(login): Body<Login>) -> Result<Answered, Problem> {
    let tenant: TenantId = login.tenant.as_deref().unwrap_or("default").parse().map_err(bad)?;
    let turn = Turn::wait().await?;
    // Others of this address may have failed meanwhile.
    visitor.may_try()?;
    let user = visitor.shared.state.user(&tenant, &login.name).filter(|user| may_sign_in(user));
    visitor.trace.concerns(&tenant, user.as_ref().map(|user| user.name.as_str()));
    let kept = user.as_ref().map(|user| user.password.clone());
    let fits = turn.verify(login.password, kept).await?;
    match user.filter(|_| fits) {
        Some(user) => {
            let by = SignInBy::Password(user.password.clone());
            visitor.begin(&tenant, &user, by, WRONG_LOGIN).await
        }
        None => Err(visitor.wrong(WRONG_LOGIN)),
    }
}

/// People of outside issuers are called `user:ISSUER:SUBJECT`: no name of ours may look like one.
fn may_sign_in(user: &User) -> bool {
    !user.name.contains(':')
}

/// Signs a person in with a code, once.
#[utoipa::path(post, path = "/v1/login-link", tag = "access",
    operation_id = "loginWithCode", request_body = LoginCode, security(()),
    responses((status = 200, description = "Signed in.", body = SignedIn), Problems))]
async fn login_link(visitor: Visitor, Body(asked): Body<LoginCode>) -> Result<Answered, Problem> {
    let hash = visitor.hash(SignInPart::Link, &asked.code);
    let state = &visitor.shared.state;
    let found = state.signed_in(&hash).filter(|found| found.session.is_none());
    let user = found.as_ref().and_then(|found| state.user(&found.tenant, &found.user));
    match found.zip(user.filter(|user| may_sign_in(user))) {
        Some((found, user)) => {
            visitor.trace.concerns(&found.tenant, Some(&user.name));
            visitor.begin(&found.tenant, &user, SignInBy::Link(hash), WRONG_CODE).await
        }
        None => Err(visitor.wrong(WRONG_CODE)),
    }
}

/// A session that a refresh token is of.
struct Held {
    tenant: TenantId,
    user: Arc<User>,
    family: String,
    session: Session,
    /// The token as it was presented.
    presented: SecretHash,
}

impl Held {
    /// The session of this token; nobody's if it is of none.
    fn of(visitor: &Visitor, token: &str) -> Option<Self> {
        let text = token.strip_prefix(REFRESH_PREFIX)?;
        let (family, secret) = text.split_at_checked(FAMILY_LEN)?;
        let state = &visitor.shared.state;
        let found = state.signed_in(&visitor.hash(SignInPart::Family, family))?;
        let user = state.user(&found.tenant, &found.user)?;
        visitor.trace.concerns(&found.tenant, Some(&user.name));
        (secret.len() == SECRET_LEN).then_some(())?;
        Some(Self {
            tenant: found.tenant,
            user,
            family: family.to_owned(),
            session: found.session?,
            presented: visitor.hash(SignInPart::Refresh, token),
        })
    }

    async fn end(&self, visitor: &Visitor, by: Option<&User>) -> Result<(), Fault> {
        let step = SignInStep::End(self.session.family);
        match visitor.change(&self.tenant, &self.user.name, step, by).await {
            Err(fault) if !was_decided(&fault) => Err(fault),
            // Somebody else ended it.
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// It was used before: whoever has what came of it may be somebody else.
    async fn replayed(&self, visitor: &Visitor) -> Result<Problem, Fault> {
        self.end(visitor, None).await?;
        tracing::warn!(user = self.user.name, "a refresh token came again: its session ended");
        Ok(visitor.wrong(WRONG_REFRESH))
    }
}

/// Makes new tokens, once for each refresh token. One that comes again ends the session.
#[utoipa::path(post, path = "/v1/refresh", tag = "access",
    operation_id = "refreshTokens", request_body = Refresh, security(()),
    responses((status = 200, description = "New tokens.", body = SignedIn), Problems))]
async fn refresh(visitor: Visitor, Body(asked): Body<Refresh>) -> Result<Answered, Problem> {
    let held = Held::of(&visitor, &asked.refresh_token);
    let held = held.ok_or_else(|| visitor.wrong(WRONG_REFRESH))?;
    if held.session.ends_ms <= now().0 {
        return Err(visitor.wrong(WRONG_REFRESH));
    }
    if held.presented != held.session.refresh {
        return Err(held.replayed(&visitor).await?);
    }
    visitor.take_rate(&held)?;
    let made = Made::new(&visitor.shared, &held.family)?;
    let step = SignInStep::Renew {
        family: held.session.family,
        spent: held.presented,
        refresh: made.refresh_hash,
        ends_ms: made.refresh_ends_ms,
        access: made.access_hash,
    };
    match visitor.change(&held.tenant, &held.user.name, step, Some(&held.user)).await {
        Ok(()) => Ok(made.told(&held.tenant, &held.user)),
        // The same token came twice at once.
        Err(fault) if was_decided(&fault) => Err(held.replayed(&visitor).await?),
        Err(fault) => Err(fault.into()),
    }
}

/// Ends a session; what its tokens opened ends within a second.
#[utoipa::path(post, path = "/v1/logout", tag = "access",
    operation_id = "logout", request_body = Refresh, security(()),
    responses((status = 204, description = "The session is over."), Problems))]
async fn logout(visitor: Visitor, Body(asked): Body<Refresh>) -> Result<StatusCode, Problem> {
    let held = Held::of(&visitor, &asked.refresh_token);
    let held = held.ok_or_else(|| visitor.wrong(WRONG_REFRESH))?;
    held.end(&visitor, Some(&held.user)).await?;
    Ok(StatusCode::NO_CONTENT)
}
