//! One token: what it claims, whether its signature holds, and whom its claims make of somebody.
//!
//! Pure but for the clock of the library, which looks at `nbf`. Invariant: nothing that a token says
//! is believed before its signature is verified, with the algorithm and the kind of key that the
//! configuration names for its issuer; what is read earlier only finds that issuer and its key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use fieldgate_core::{
    access::{Grant, Identity, Principal, Role},
    id::{TenantId, UnixMs},
};
use jsonwebtoken::{DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::KEY_ID_BYTES_MAX;
use crate::config::{Algorithm, Issuer, Right};

/// Longest token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest subject.
const SUBJECT_BYTES_MAX: usize = 128;

/// What a token says of itself, believed by nobody.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) issuer: String,
    pub(super) key_id: Option<String>,
}

#[derive(Deserialize)]
struct Head {
    kid: Option<String>,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Body {
    iss: String,
}

/// The algorithm's name in a token and a key.
pub(super) const fn name_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RS256 => "RS256",
        Algorithm::PS256 => "PS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        Algorithm::HS256 => "HS256",
    }
}

/// Reads which issuer and key a token claims.
pub(super) fn claimed(token: &str) -> Result<Claimed, &'static str> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("the token is too long");
    }
    let mut parts = token.split('.');
    let (head, body): (Head, Body) = match (parts.next(), parts.next()) {
        (Some(head), Some(body)) => (part(head)?, part(body)?),
        _ => return Err("it is no token"),
    };
    if head.crit.is_some() {
        return Err("the token asks for an extension (crit)");
    }
    if head.kid.as_ref().is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
        return Err("the name of its key is too long");
    }
    Ok(Claimed { issuer: body.iss, key_id: head.kid })
}

fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "a part of it is no base64url")?;
    serde_json::from_slice(&bytes).map_err(|_| "a part of it is no JSON with what is needed")
}

/// Verifies a token of this issuer with one of its keys; who presents it.
pub(super) fn verify(
    issuer: &Issuer,
    token: &str,
    key: &DecodingKey,
    now: UnixMs,
) -> Result<Principal, &'static str> {
    let mut rules = Validation::new(match issuer.algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
    });
    rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    rules.set_issuer(&[&issuer.issuer]);
    rules.set_audience(&[&issuer.audience]);
    rules.validate_nbf = true;
    // Of `exp` it is looked at below: a right ends when its token does, to the second.
    rules.leeway = issuer.leeway_ms / 1_000;
    let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, key, &rules);
    principal(issuer, &decoded.map_err(|error| reason(error.kind()))?.claims, now)
}

fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind as Kind;
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library may know more")]
    match kind {
        Kind::InvalidAlgorithm => "its algorithm is not the issuer's",
        Kind::InvalidSignature => "its signature does not fit",
        Kind::InvalidAudience => "it is for another audience",
        Kind::InvalidIssuer => "its issuer is another one",
        Kind::ExpiredSignature => "it is over",
        Kind::ImmatureSignature => "it does not hold yet",
        Kind::MissingRequiredClaim(_) => "it lacks one of exp, iss, aud and sub",
        _ => "it is no token that holds",
    }
}

/// Whom verified claims make of somebody.
fn principal(
    issuer: &Issuer,
    claims: &Map<String, Value>,
    now: UnixMs,
) -> Result<Principal, &'static str> {
    let ends_s = claims.get("exp").and_then(seconds).ok_or("exp is no time")?;
    let expires = UnixMs(ends_s.saturating_mul(1_000));
    if expires <= now {
        return Err("it is over");
    }
    let subject = claims.get("sub").and_then(Value::as_str).ok_or("sub is no text")?;
    let plain = !subject.is_empty() && !subject.contains(|c: char| c.is_control());
    if !plain || subject.len() > SUBJECT_BYTES_MAX {
        return Err("sub is empty, too long, or holds a control character");
    }
    let (role, grants) = rights(issuer, claims)?;
    Ok(Principal {
        tenant: tenant(issuer, claims)?,
        name: format!("user:{}:{subject}", issuer.name).into(),
        identity: Identity::User,
        role,
        grants,
        only: None,
        proof: None,
        expires: Some(expires),
    })
}

/// Whole seconds, rounded down.
fn seconds(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = |value: f64| (value >= 0.0).then_some(value as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(whole))
}

fn tenant(issuer: &Issuer, claims: &Map<String, Value>) -> Result<TenantId, &'static str> {
    let name = match &issuer.tenant_claim {
        None => issuer.tenant.as_deref().unwrap_or("default"),
        Some(claim) => {
            let value = look(claims, claim).and_then(Value::as_str);
            let tenant = value.and_then(|value| issuer.tenants.get(value));
            tenant.ok_or("its tenant claim means no tenant here")?
        }
    };
    name.parse().map_err(|_| "its tenant is no tenant")
}

/// A claim by its name, or by a JSON Pointer.
fn look<'a>(claims: &'a Map<String, Value>, claim: &str) -> Option<&'a Value> {
    let Some(pointer) = claim.strip_prefix('/') else { return claims.get(claim) };
    let (first, rest) = pointer.split_once('/').map_or((pointer, None), |(a, b)| (a, Some(b)));
    let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    rest.map_or(Some(value), |rest| value.pointer(&format!("/{rest}")))
}

/// The strongest role, and all grants and denials, that the values of the role claim give.
fn rights(
    issuer: &Issuer,
    claims: &Map<String, Value>,
) -> Result<(Option<Role>, Vec<Grant>), &'static str> {
    let (mut role, mut grants) = (None, Vec::new());
    for value in values(look(claims, &issuer.role_claim)) {
        for right in issuer.rights.get(value).into_iter().flatten() {
            match Right::of(right) {
                Some(Right::Role(given)) => {
                    role = Some(role.map_or(given, |role: Role| role.min(given)));
                }
                Some(Right::Grant(grant)) if !grants.contains(&grant) => grants.push(grant),
                Some(Right::Grant(_)) | None => (),
            }
        }
    }
    if role.is_none() && grants.iter().all(|grant| grant.deny) {
        return Err("nothing in its role claim gives a right here");
    }
    Ok((role, grants))
}

/// The texts of a list; of one text the whole and, as in `scope`, its words.
fn values(claim: Option<&Value>) -> Vec<&str> {
    match claim {
        Some(Value::String(text)) => {
            let words = text.split(' ').filter(|word| !word.is_empty() && *word != text);
            std::iter::once(text.as_str()).chain(words).collect()
        }
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn issuer(more: &str) -> Issuer {
        let text = format!(
            "name = \"corp\"\nissuer = \"https://a.b\"\nalgorithm = \"RS256\"\n\
             audience = \"fieldgate\"\nrole_claim = \"roles\"\n{more}\n[rights]\n\
             admins = [\"admin\"]\nviewers = [\"viewer\"]\n\"two words\" = [\"operator\"]\n\
             kitchen = [\"publish:kitchen/#\", \"!subscribe:private/#\"]\nnobody = [\"!read:#\"]\n"
        );
        toml::from_str(&text).unwrap()
    }

    fn of(issuer: &Issuer, claims: Value) -> Result<Principal, &'static str> {
        let mut all = json!({"sub": "s", "exp": 100, "roles": ["viewers"]});
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        all.as_object_mut().unwrap().extend(claims);
        principal(issuer, all.as_object().unwrap(), UnixMs(99_999))
    }

    #[test]
    fn a_right_ends_with_its_token_to_the_second() {
        let issuer = issuer("");
        let found = of(&issuer, json!({})).unwrap();
        assert_eq!((&*found.name, found.expires), ("user:corp:s", Some(UnixMs(100_000))));
        assert_eq!(found.tenant, TenantId::default_tenant());
        assert_eq!(of(&issuer, json!({"exp": 99})), Err("it is over"));
        assert_eq!(of(&issuer, json!({"exp": 99.99})), Err("it is over"));
        assert_eq!(of(&issuer, json!({"exp": 1e300})).unwrap().expires, Some(UnixMs(u64::MAX)));
        for wrong in [json!("100"), json!(-1), json!(null)] {
            assert_eq!(of(&issuer, json!({"exp": wrong})), Err("exp is no time"));
        }
    }

    #[test]
    fn a_subject_is_bounded_and_plain() {
        let issuer = issuer("");
        assert!(of(&issuer, json!({"sub": "auth0|a@b.c"})).is_ok());
        for wrong in [json!(""), json!("a\nb"), json!("x".repeat(129)), json!(3)] {
            assert!(of(&issuer, json!({"sub": wrong})).is_err());
        }
    }

    #[test]
    fn the_role_claim_gives_the_strongest_role_and_every_grant() {
        let issuer = issuer("");
        let rights = |roles: Value| {
            let found = of(&issuer, json!({"roles": roles}))?;
            let grants: Vec<String> = found.grants.iter().map(ToString::to_string).collect();
            Ok::<_, &str>((found.role, grants.join(" ")))
        };
        assert_eq!(rights(json!(["viewers", "admins", 3])).unwrap().0, Some(Role::Admin));
        assert_eq!(rights(json!("viewers kitchen")).unwrap().0, Some(Role::Viewer));
        assert_eq!(rights(json!("two words")).unwrap().0, Some(Role::Operator));
        let both = "publish:kitchen/# !subscribe:private/#";
        assert_eq!(rights(json!(["kitchen", "kitchen"])), Ok((None, both.to_owned())));
        for none in [json!([]), json!(["unknown"]), json!(["nobody"]), json!({}), json!(null)] {
            assert!(rights(none).is_err());
        }
    }

    #[test]
    fn a_claim_is_a_name_or_a_pointer() {
        let claims = json!({"https://a.b/roles": 1, "a": {"b/c": [2]}});
        let claims = claims.as_object().unwrap();
        assert_eq!(look(claims, "https://a.b/roles"), Some(&json!(1)));
        assert_eq!(look(claims, "/a/b~1c"), Some(&json!([2])));
        assert_eq!(look(claims, "/https:~1~1a.b~1roles"), Some(&json!(1)));
        assert_eq!((look(claims, "/a/x"), look(claims, "x")), (None, None));
    }

    #[test]
    fn the_tenant_is_the_configured_one_or_what_the_claim_means() {
        let fixed = issuer("tenant = \"acme\"");
        assert_eq!(of(&fixed, json!({})).unwrap().tenant.as_str(), "acme");
        let by_claim = issuer("tenant_claim = \"org\"\ntenants = { o1 = \"acme\" }");
        assert_eq!(of(&by_claim, json!({"org": "o1"})).unwrap().tenant.as_str(), "acme");
        for wrong in [json!({"org": "acme"}), json!({}), json!({"org": ["o1"]})] {
            assert!(of(&by_claim, wrong).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(
            text in "\\PC{0,60}",
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4),
        ) {
            let encoded: Vec<String> =
                parts.iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
            let key = DecodingKey::from_rsa_raw_components(b"n", b"e");
            for token in [text, encoded.join(".")] {
                prop_assert!(claimed(&token).is_err());
                prop_assert!(verify(&issuer(""), &token, &key, UnixMs(0)).is_err());
            }
        }
    }
}
