//! People of apps: they enter themselves, sign in, keep settings and change their password
//! (`wire.md` 1.4).
//!
//! Nothing here tells whether an address is known: whoever enters themselves gets an account of
//! their own, whatever the address, and a sign-in looks at as many passwords as an address may have.

use std::{collections::BTreeMap, sync::Arc};

use axum::{http::StatusCode, response::Response};
use fieldgate_core::{
    fault::{Code, Fault},
    id::TenantId,
};
use fieldgate_dialects::thethings;
use fieldgate_store::{
    registry::{Access, AccountStep, Change, Session, SignInBy, SignInStep, User},
    secret::{
        PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, PasswordHash, SignInPart, TokenKind, make_token,
        random_text,
    },
    state::{ACCOUNTS_PER_ADDRESS_MAX, SETTINGS_BYTES_MAX},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    answer::{Done, Refusals, Refused, RefusedBody, json, text},
    asker::{Document, Object, Person, Visitor},
};
use crate::{
    auth::{Turn, check_email},
    fabric::now,
};

/// Length of the random part of a name that nobody chose.
const NAME_LEN: usize = 12;
const DAY_MS: u64 = 86_400_000;
const WRONG: &str = "Invalid email or password";
const NO_REGISTRATION: &str = "People do not enter themselves in this app";

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(password))
        .routes(routes!(settings, put_settings))
}

/// Who somebody is.
#[derive(Deserialize, ToSchema)]
struct Credentials {
    /// Their address, or their name.
    email: String,
    /// Their password.
    #[schema(format = Password)]
    password: String,
    /// The app: a key of `thethings.apps`.
    app: String,
}

/// A new password.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewPassword {
    /// The one that holds now.
    #[schema(format = Password)]
    current_password: String,
    /// The new one.
    #[schema(format = Password)]
    password: String,
    /// The new one again.
    #[schema(format = Password)]
    confirmation_password: String,
}

/// Somebody is signed in. The token is told this once.
#[derive(Serialize, ToSchema)]
struct SignedIn {
    /// Always `success`.
    status: &'static str,
    /// For people.
    message: &'static str,
    /// The session token: what to send as `Authorization`.
    token: String,
}

/// The tenant of an app, and whether people may enter themselves.
fn app_of(visitor: &Visitor, app: &str) -> Option<(TenantId, bool)> {
    let shared = visitor.shared();
    let app = shared.config.thethings.apps.get(app)?;
    let tenant: TenantId = app.tenant.parse().ok()?;
    shared.state.has_tenant(&tenant).then_some((tenant, app.register))
}

/// Those who may be meant, and how many passwords are looked at for such a name.
fn candidates(visitor: &Visitor, tenant: &TenantId, name: &str) -> (Vec<Arc<User>>, usize) {
    let state = &visitor.shared().state;
    if name.contains('@') {
        return (state.users_at(tenant, name), ACCOUNTS_PER_ADDRESS_MAX);
    }
    // People of outside issuers are called user:ISSUER:SUBJECT: no name of ours may look like one.
    let user = state.user(tenant, name).filter(|user| !user.name.contains(':'));
    (user.into_iter().collect(), 1)
}

/// Signs a person in with their name or address and their password.
#[utoipa::path(post, path = "/v2/login", tag = "people", operation_id = "loginToApp",
    request_body = Credentials, security(()),
    responses(Refusals, (status = 200, description = "Signed in.", body = SignedIn),
        (status = 401, description = "Something of it is wrong.", body = RefusedBody)))]
async fn login(visitor: Visitor, Object(asked): Object<Credentials>) -> Result<Response, Refused> {
    visitor.may_try()?;
    let app = app_of(&visitor, &asked.app);
    let (users, count) = match &app {
        Some((tenant, _)) => candidates(&visitor, tenant, &asked.email),
        None => (Vec::new(), if asked.email.contains('@') { ACCOUNTS_PER_ADDRESS_MAX } else { 1 }),
    };
    let turn = Turn::wait().await?;
    // Others of this address may have failed meanwhile.
    visitor.may_try()?;
    let kept = users.iter().map(|user| user.password.clone()).collect();
    let found = turn.find(asked.password, kept, count).await?;
    let user = found.and_then(|nth| users.get(nth));
    let Some(((tenant, _), user)) = app.zip(user) else { return Err(visitor.wrong(WRONG)) };
    let token = begin(&visitor, &tenant, &user.name, user.password.clone()).await?;
    Ok(json(StatusCode::OK, &SignedIn { status: "success", message: "logged in", token }))
}

/// Enters a person, where the app allows it, and signs them in. A known address gets the same answer
/// as a new one. Each counts against its address as a wrong password does.
#[utoipa::path(post, path = "/v2/register", tag = "people", operation_id = "registerInApp",
    request_body = Credentials, security(()),
    responses(Refusals, (status = 201, description = "Entered, and signed in.", body = SignedIn),
        (status = 403, description = "The app does not allow it.", body = RefusedBody)))]
async fn register(
    visitor: Visitor,
    Object(asked): Object<Credentials>,
) -> Result<Response, Refused> {
    visitor.may_try()?;
    let open = app_of(&visitor, &asked.app).filter(|(_, register)| *register);
    let Some((tenant, _)) = open else {
        // Whether there is such an app is told no more than whether it is open.
        visitor.shared().throttle.failed(visitor.client);
        return Err(Refused::new(StatusCode::FORBIDDEN, NO_REGISTRATION));
    };
    check_email(&asked.email)?;
    check_password(&asked.password)?;
    visitor.shared().throttle.failed(visitor.client);
    let (users, count) = candidates(&visitor, &tenant, &asked.email);
    let kept = users.iter().map(|user| user.password.clone()).collect();
    let known = Turn::wait().await?.find(asked.password.clone(), kept, count).await?;
    let hashed = Turn::wait().await?.hash(asked.password).await?;
    // Who is known by both is somebody who asks again.
    let (name, password) = match known.and_then(|nth| users.get(nth)) {
        Some(user) => (user.name.clone(), user.password.clone()),
        None => (enter(&visitor, &tenant, asked.email, &hashed).await?, hashed),
    };
    let token = begin(&visitor, &tenant, &name, password).await?;
    Ok(json(StatusCode::CREATED, &SignedIn { status: "success", message: "registered", token }))
}

/// Enters a person under a new name.
async fn enter(
    visitor: &Visitor,
    tenant: &TenantId,
    email: String,
    password: &PasswordHash,
) -> Result<String, Fault> {
    let name = format!("app-{}", random_text(NAME_LEN).map_err(|error| io_fault(&error))?);
    let step = AccountStep::Register { email, password: password.clone() };
    let change = Change::Account { user: name.clone(), step };
    visitor.change(tenant, &format!("user:{name}"), change).await?;
    Ok(name)
}

fn io_fault(error: &std::io::Error) -> Fault {
    Fault::new(Code::Busy, error.to_string())
}

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadValue, text.into())
}

fn check_password(password: &str) -> Result<(), Fault> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(bad(format!("a password has {PASSWORD_CHARS_MIN} characters or more")));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(bad(format!("a password has {PASSWORD_BYTES_MAX} bytes or less")));
    }
    Ok(())
}

/// Begins a session of one long-lived token; its token.
async fn begin(
    visitor: &Visitor,
    tenant: &TenantId,
    user: &str,
    password: PasswordHash,
) -> Result<String, Refused> {
    let shared = visitor.shared();
    let key = shared.state.master_key();
    let random = || random_text(43).map_err(|error| io_fault(&error));
    let token = make_token(TokenKind::Access).map_err(|error| io_fault(&error))?;
    let lifetime_ms = shared.config.thethings.session_days.saturating_mul(DAY_MS);
    let ends_ms = now().0.saturating_add(lifetime_ms);
    let session = Session {
        // Nobody is told these: such a session is not renewed.
        family: key.hash_sign_in(SignInPart::Family, &random()?),
        refresh: key.hash_sign_in(SignInPart::Refresh, &random()?),
        ends_ms,
        access: vec![Access { hash: key.hash(&token), ends_ms }],
    };
    let step = SignInStep::Begin { by: SignInBy::Password(password), session };
    let change = Change::SignIns { user: user.to_owned(), step };
    match visitor.change(tenant, &format!("user:{user}"), change).await {
        Ok(()) => Ok(token),
        // They are gone, or their password was replaced meanwhile.
        Err(fault) if matches!(fault.code, Code::Conflict | Code::NotFound) => {
            Err(visitor.wrong(WRONG))
        }
        Err(fault) => Err(fault.into()),
    }
}

impl Person {
    /// The name of the person; a program is none.
    pub(super) fn user(&self) -> Result<&str, Refused> {
        let name = self.principal.name.strip_prefix("user:");
        name.ok_or_else(|| Refused::new(StatusCode::FORBIDDEN, "an API key is no person"))
    }

    pub(super) async fn change(&self, change: Change) -> Result<(), Refused> {
        let (tenant, author) = (&self.principal.tenant, &self.principal.name);
        Ok(self.visitor.change(tenant, author, change).await?)
    }
}

/// Replaces the password of whoever asks, and ends everything that they are signed in with.
#[utoipa::path(put, path = "/v2/me", tag = "people", operation_id = "changeMyPassword",
    request_body = NewPassword,
    responses(Refusals, (status = 200, description = "It is done.", body = Done),
        (status = 401, description = "The current password is another.", body = RefusedBody)))]
async fn password(person: Person, Object(asked): Object<NewPassword>) -> Result<Response, Refused> {
    let name = person.user()?.to_owned();
    if asked.password != asked.confirmation_password {
        return Err(bad("password and confirmationPassword differ").into());
    }
    check_password(&asked.password)?;
    let user = person.visitor.shared().state.user(&person.principal.tenant, &name);
    let kept = user.map(|user| user.password.clone());
    if !Turn::wait().await?.verify(asked.current_password, kept).await? {
        return Err(person.visitor.wrong(WRONG));
    }
    let password = Turn::wait().await?.hash(asked.password).await?;
    person.change(Change::UserPassword { name, password }).await?;
    Ok(json(StatusCode::OK, &Done::success("updated")))
}

/// What an app keeps for whoever asks: a JSON object.
#[utoipa::path(get, path = "/v2/me/settings", tag = "people", operation_id = "readMySettings",
    responses(Refusals, (status = 200, description = "The settings.", body = Object)))]
async fn settings(person: Person) -> Result<Response, Refused> {
    let name = person.user()?;
    let account = person.visitor.shared().state.account(&person.principal.tenant, name);
    let settings = account.and_then(|account| account.settings.clone());
    Ok(text(StatusCode::OK, settings.unwrap_or_else(|| "{}".to_owned()).into_bytes()))
}

/// Replaces what an app keeps for whoever asks.
#[utoipa::path(put, path = "/v2/me/settings", tag = "people", operation_id = "writeMySettings",
    request_body = Object,
    responses(Refusals, (status = 200, description = "It is done.", body = Done)))]
async fn put_settings(person: Person, Document(body): Document) -> Result<Response, Refused> {
    let name = person.user()?.to_owned();
    let read: Result<BTreeMap<String, IgnoredAny>, _> = serde_json::from_str(&body);
    read.map_err(|_| bad("settings are a JSON object"))?;
    let settings = thethings::compact(&body);
    if settings.len() > SETTINGS_BYTES_MAX {
        return Err(bad(format!("settings have {SETTINGS_BYTES_MAX} bytes or less")).into());
    }
    person.visitor.pay(&person.principal, 1, settings.len())?;
    let step = AccountStep::Settings(settings);
    person.change(Change::Account { user: name, step }).await?;
    Ok(json(StatusCode::OK, &Done::success("updated")))
}
