//! People, their passwords, and codes with which they sign in once.

use std::sync::Arc;

use axum::{
    Json,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use fieldgate_core::{access::Role, fault::Fault, id::DeviceId};
use fieldgate_store::{
    registry::{AccountStep, Change, Edit, LoginLink, SignInStep, User},
    secret::{
        PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, PasswordHash, SignInPart, TokenKind, make_token,
    },
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Changed, Problems,
    asker::{Admin, Asker, Body, Path, bad},
    etag,
    idempotency::{Forgets, Once},
    io_fault,
    list::{List, Page, PageQuery},
    no_such,
    patch::given,
};
use crate::{
    auth::{Turn, check_email},
    fabric::now,
    http::Problem,
};

/// How long a code to sign in with holds.
const CODE_LIFETIME_MS: u64 = 600_000;

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(show, edit, remove))
        .routes(routes!(change_password))
        .routes(routes!(login_link))
}

/// A person.
#[derive(Debug, Serialize, ToSchema)]
struct UserView {
    /// Their name, unique in the tenant.
    name: String,
    /// `admin`, `operator`, `viewer` or `member`.
    role: String,
    /// The address with which they sign in beside their name, in apps of thethings.iO.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

impl UserView {
    fn of(asker: &Asker, user: &User) -> Self {
        let account = asker.shared.state.account(asker.tenant(), &user.name);
        let email = account.and_then(|account| account.email.clone());
        Self { name: user.name.clone(), role: user.role.clone(), email }
    }
}

/// A person to be entered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    /// Their name, unique in the tenant, written like a device id without a colon.
    #[schema(pattern = "^[A-Za-z0-9._~-]{1,128}$")]
    name: String,
    /// `admin`, `operator`, `viewer` or `member`.
    role: String,
    /// Their password.
    #[schema(min_length = 8, max_length = 1024, format = Password)]
    password: String,
    /// An address with which they sign in beside their name, in apps of thethings.iO; three people may
    /// have the same. It stays as it is while they are there.
    #[serde(default)]
    #[schema(max_length = 254)]
    email: Option<String>,
}

/// What of a person is to be another. What is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserPatch {
    /// `admin`, `operator`, `viewer` or `member`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    role: Option<String>,
}

/// A password to be set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// The password.
    #[schema(min_length = 8, max_length = 1024, format = Password)]
    password: String,
}

/// A code that was made. It is told this once.
#[derive(Serialize, ToSchema)]
struct MadeCode {
    /// Who signs in with it.
    user: String,
    /// The code, for `POST /v1/login-link`; null in the answer to a repeat.
    #[schema(required = true)]
    code: Option<String>,
    /// Worthless from this time on, in Unix ms.
    expires: u64,
}

impl Forgets for MadeCode {
    fn forget(&mut self) {
        self.code = None;
    }
}

/// The people, by name.
#[utoipa::path(get, path = "/v1/users", tag = "access",
    operation_id = "listUsers", params(PageQuery),
    responses((status = 200, description = "A page.", body = List<UserView>), Problems))]
async fn list(Admin(asker): Admin, page: Page) -> Result<Json<List<UserView>>, Problem> {
    let users = asker.shared.state.users(asker.tenant());
    let List { items, next } = page.cut(users.iter(), |user| &user.name);
    Ok(Json(List {
        items: items.into_iter().map(|user| UserView::of(&asker, user)).collect(),
        next,
    }))
}

/// One person.
#[utoipa::path(get, path = "/v1/users/{name}", tag = "access",
    operation_id = "showUser", params(("name" = String, Path)),
    responses(
        (status = 200, description = "They are there.", body = UserView,
            headers(("ETag" = String, description = "Their revision."))),
        (status = 304, description = "`If-None-Match` names the revision that they have."),
        Problems))]
async fn show(
    Admin(asker): Admin,
    Path(name): Path<String>,
    known: etag::Known,
) -> Result<Response, Problem> {
    let user = user(&asker, &name)?;
    known.or_whole(user.tag(), || Ok(answer(&asker, &user)))
}

fn user(asker: &Asker, name: &str) -> Result<Arc<User>, Fault> {
    let found = asker.shared.state.user(asker.tenant(), name);
    found.ok_or_else(|| no_such("user", name))
}

fn answer(asker: &Asker, user: &User) -> Response {
    ([etag::tag(user.tag())], Json(UserView::of(asker, user))).into_response()
}

/// Changes a person's role: a JSON merge patch (RFC 7396). What they are signed in with has the new
/// rights within a second. With `If-Match` only if they have that revision still.
#[utoipa::path(patch, path = "/v1/users/{name}", tag = "access",
    operation_id = "editUser", params(("name" = String, Path)),
    request_body(content = UserPatch, content_type = "application/merge-patch+json"),
    responses(
        (status = 200, description = "It is as asked, and durable.", body = UserView,
            headers(("ETag" = String, description = "Their new revision."))),
        Problems))]
async fn edit(
    Admin(asker): Admin,
    Path(name): Path<String>,
    headers: HeaderMap,
    Body(patch): Body<UserPatch>,
) -> Result<Response, Problem> {
    let expected = etag::expected(&headers)?;
    let role = patch.role.map(|role| role.parse::<Role>()).transpose().map_err(bad)?;
    let edit = Edit::User { name: name.clone(), role: role.map(|role| role.to_string()) };
    let changed = asker.change(Change::Edit { expected, edit }).await;
    let now = user(&asker, &name)?;
    changed.map_err(|fault| etag::refused(fault, expected, now.tag()))?;
    Ok(answer(&asker, &now))
}

/// Enters a person.
#[utoipa::path(post, path = "/v1/users", tag = "access",
    operation_id = "addUser", request_body = NewUser,
    responses((status = 201, description = "It is made.", body = UserView), Problems))]
async fn add(
    Admin(asker): Admin,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let NewUser { name, role, password, email } = new;
    // With a colon it could be taken for that of somebody whom an outside issuer names.
    let _valid: DeviceId = name
        .parse()
        .ok()
        .filter(|_| !name.contains(':'))
        .ok_or_else(|| bad("a user's name is written like a device id, without a colon"))?;
    let role = role.parse::<Role>().map_err(bad)?.to_string();
    email.as_deref().map_or(Ok(()), check_email)?;
    let password = hashed(password).await?;
    let made = UserView { name: name.clone(), role: role.clone(), email: email.clone() };
    let change = match email {
        Some(email) => {
            Change::Account { user: name, step: AccountStep::Enter { role, email, password } }
        }
        None => Change::UserAdd(User { name, role, password }),
    };
    asker.change(change).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Removes a person.
#[utoipa::path(delete, path = "/v1/users/{name}", tag = "access",
    operation_id = "removeUser", params(("name" = String, Path)),
    responses((status = 200, description = "It is done, and durable.", body = Changed), Problems))]
async fn remove(Admin(asker): Admin, Path(name): Path<String>) -> Result<Json<Changed>, Problem> {
    Ok(Json(Changed { seq: asker.change(Change::UserRemove(name)).await? }))
}

/// Replaces a person's password.
#[utoipa::path(post, path = "/v1/users/{name}/password", tag = "access",
    operation_id = "changePassword",
    params(("name" = String, Path)), request_body = NewPassword,
    responses((status = 201, description = "It is done, and durable.", body = Changed), Problems))]
async fn change_password(
    Admin(asker): Admin,
    Path(name): Path<String>,
    Body(new): Body<NewPassword>,
) -> Result<(StatusCode, Json<Changed>), Problem> {
    // Decided again when the record's turn comes; here it saves the work.
    if !asker.shared.state.users(asker.tenant()).iter().any(|user| user.name == name) {
        return Err(no_such("user", &name).into());
    }
    let password = hashed(new.password).await?;
    let seq = asker.change(Change::UserPassword { name, password }).await?;
    Ok((StatusCode::CREATED, Json(Changed { seq })))
}

async fn hashed(password: String) -> Result<PasswordHash, Fault> {
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(bad(format!("a password has {PASSWORD_CHARS_MIN} characters or more")));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(bad(format!("a password has {PASSWORD_BYTES_MAX} bytes or less")));
    }
    Turn::wait().await?.hash(password).await
}

/// Makes a code with which a person signs in once, within ten minutes, and tells it, once.
#[utoipa::path(post, path = "/v1/users/{name}/login-link", tag = "access",
    operation_id = "makeLoginCode", params(("name" = String, Path)),
    responses((status = 201, description = "It is made.", body = MadeCode), Problems))]
async fn login_link(
    Admin(asker): Admin,
    Path(user): Path<String>,
) -> Result<Once<MadeCode>, Problem> {
    let code = make_token(TokenKind::Link).map_err(|error| io_fault(&error))?;
    let expires = now().0.saturating_add(CODE_LIFETIME_MS);
    let hash = asker.shared.state.master_key().hash_sign_in(SignInPart::Link, &code);
    let step = SignInStep::Link(LoginLink { hash, ends_ms: expires });
    asker.change(Change::SignIns { user: user.clone(), step }).await?;
    Ok(Once(MadeCode { user, code: Some(code), expires }))
}
