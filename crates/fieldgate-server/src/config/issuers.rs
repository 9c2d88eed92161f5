//! Who else may say who somebody is: issuers of tokens, and what their tokens are worth here.
//!
//! Text alone: nothing is asked and no file is opened here; that is `auth`'s.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use fieldgate_core::{
    access::{Grant, Role},
    id::TenantId,
};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::units;

/// How far the clock of an issuer may be ahead of ours, at most.
const LEEWAY_MS_MAX: u64 = 60_000;
const NAME_BYTES_MAX: usize = 32;

/// One issuer of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What it is called here: part of the names of its people, `user:NAME:SUBJECT`.
    pub name: String,
    /// The `iss` of its tokens, exactly.
    pub issuer: String,
    /// What its tokens are signed with; any other algorithm is refused.
    pub algorithm: Algorithm,
    /// What `aud` must hold.
    pub audience: String,
    /// Where its keys are; without it `issuer` is asked (OpenID Connect Discovery).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// The key of HS256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The tenant of all of its people; without it and `tenant_claim`, `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The claim that names the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_claim: Option<String>,
    /// Which value of that claim means which tenant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, String>,
    /// The claim that `rights` reads: a name, or a JSON Pointer such as `/realm_access/roles`.
    pub role_claim: String,
    /// Which value of that claim gives which roles and grants.
    pub rights: BTreeMap<String, Vec<String>>,
    /// How far its clock may be ahead: milliseconds, or `"30s"`.
    #[serde(rename = "leeway", default = "default_leeway_ms", with = "units::duration")]
    pub leeway_ms: u64,
}

const fn default_leeway_ms() -> u64 {
    30_000
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
pub enum Algorithm {
    RS256,
    PS256,
    ES256,
    EdDSA,
    HS256,
}

/// A role or a grant, as `rights` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Right {
    Role(Role),
    Grant(Grant),
}

impl Right {
    pub(crate) fn of(text: &str) -> Option<Self> {
        let grant = || text.parse().ok().map(Self::Grant);
        text.parse().ok().map(Self::Role).or_else(grant)
    }
}

/// An address that keys may be read from: `https`, or this machine.
pub(crate) fn key_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let allowed = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (allowed && plain).then_some(url)
}

/// Whether an address is of this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Where the OpenID Connect Discovery document of an issuer is.
pub(crate) fn discovery_address(issuer: &str) -> Option<Url> {
    key_address(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')))
}

/// What is wrong with a list of issuers.
pub(super) fn wrong(issuers: &[Issuer]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, issuer) in issuers.iter().enumerate() {
        let before = issuers.get(..at).unwrap_or_default();
        if before.iter().any(|other| other.name == issuer.name) {
            wrong.push(format!("has two issuers named {:?}", issuer.name));
        }
        if before.iter().any(|other| other.issuer == issuer.issuer) {
            wrong.push(format!("has two entries for {:?}", issuer.issuer));
        }
        let of_one = issuer.wrong().into_iter();
        wrong.extend(of_one.map(|why| format!("of {:?}: {why}", issuer.name)));
    }
    wrong
}

impl Issuer {
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let name =
            self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !name || self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            wrong.push("`name` is 1 to 32 of a-z 0-9 -".to_owned());
        }
        if self.issuer.is_empty() || self.audience.is_empty() || self.role_claim.is_empty() {
            wrong.push("`issuer`, `audience` and `role_claim` must not be empty".to_owned());
        }
        if self.leeway_ms > LEEWAY_MS_MAX {
            wrong.push("`leeway` must not exceed 60s".to_owned());
        }
        wrong.extend(self.wrong_keys().map(str::to_owned));
        wrong.extend(self.wrong_tenants());
        if self.rights.is_empty() {
            wrong.push("`rights` gives nobody any right".to_owned());
        }
        for right in self.rights.values().flatten().filter(|text| Right::of(text).is_none()) {
            wrong.push(format!(
                "{right:?} in `rights` is no role (admin, operator, viewer, member) and no \
                 grant (VERB:FILTER)"
            ));
        }
        wrong
    }

    fn wrong_keys(&self) -> Option<&'static str> {
        let address = self.jwks_url.as_deref();
        match (self.algorithm, address, &self.key_file) {
            (Algorithm::HS256, None, Some(_)) => None,
            (Algorithm::HS256, _, _) => Some("HS256 takes a `key_file` and no `jwks_url`"),
            (_, _, Some(_)) => Some("`key_file` is for HS256 alone"),
            (_, Some(url), None) if key_address(url).is_none() => {
                Some("`jwks_url` must begin with https:// (or be an address of this machine)")
            }
            (_, None, None) if discovery_address(&self.issuer).is_none() => {
                Some("without `jwks_url`, `issuer` must begin with https://")
            }
            _ => None,
        }
    }

    fn wrong_tenants(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.tenant.is_some() && self.tenant_claim.is_some() {
            wrong.push("either `tenant` or `tenant_claim`".to_owned());
        }
        if self.tenant_claim.is_some() == self.tenants.is_empty() {
            wrong.push("`tenant_claim` and `tenants` go together".to_owned());
        }
        for tenant in self.tenants.values().chain(&self.tenant) {
            if let Err(error) = tenant.parse::<TenantId>() {
                wrong.push(error.to_string());
            }
        }
        wrong
    }
}

/// What the template shows of an issuer.
pub(super) const EXAMPLE: &str = r#"[{ name = "corp", issuer = "https://id.example.com", algorithm = "RS256", audience = "fieldgate", role_claim = "roles", rights = { staff = ["viewer"] } }]"#;

/// The JSON Schema of a list of issuers.
pub(super) fn schema() -> serde_json::Value {
    let text = serde_json::json!({"type": "string"});
    let texts = serde_json::json!({"type": "array", "items": text});
    serde_json::json!({"type": "array", "items": {
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "issuer", "algorithm", "audience", "role_claim", "rights"],
        "properties": {
            "name": text, "issuer": text, "audience": text, "jwks_url": text, "key_file": text,
            "tenant": text, "tenant_claim": text, "role_claim": text,
            "algorithm": {"enum": ["RS256", "PS256", "ES256", "EdDSA", "HS256"]},
            "tenants": {"type": "object", "additionalProperties": text},
            "rights": {"type": "object", "additionalProperties": texts},
            "leeway": {"anyOf": [{"type": "integer", "minimum": 0}, text]},
        },
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with the example once `from` is `to` in it.
    fn wrong_with(from: &str, to: &str) -> String {
        let text = format!("issuers = {}", EXAMPLE.replacen(from, to, 1));
        let table: toml::Table = text.parse().unwrap();
        let issuers: Vec<Issuer> = table["issuers"].clone().try_into().unwrap();
        wrong(&issuers).join("; ")
    }

    #[test]
    fn the_example_is_right_and_each_contradiction_is_told() {
        assert_eq!(wrong_with("corp", "corp"), "");
        for (from, to, expected) in [
            ("corp", "Corp", "`name`"),
            ("https", "http", "`issuer` must begin with https"),
            ("audience = \"fieldgate\"", "audience = \"\"", "must not be empty"),
            ("RS256", "HS256", "HS256 takes a `key_file`"),
            ("role_claim", "key_file = \"k\", role_claim", "for HS256 alone"),
            ("role_claim", "jwks_url = \"http://a.b/\", role_claim", "`jwks_url` must begin"),
            ("role_claim", "jwks_url = \"https://u:p@a.b/\", role_claim", "`jwks_url` must begin"),
            ("role_claim", "tenant_claim = \"org\", role_claim", "go together"),
            ("role_claim", "tenant = \"a b\", role_claim", "tenant"),
            ("role_claim", "leeway = \"61s\", role_claim", "`leeway`"),
            ("viewer", "root", "\"root\" in `rights`"),
            ("staff = [\"viewer\"]", "", "gives nobody"),
        ] {
            let told = wrong_with(from, to);
            assert!(told.contains(expected), "{to}: {told}");
        }
        assert_eq!(wrong_with("https://id.example.com", "http://127.0.0.1:80"), "");
        let twice = wrong_with(
            "[{",
            "[{ name = \"corp\", issuer = \"https://id.example.com\", \
            algorithm = \"RS256\", audience = \"f\", role_claim = \"r\", rights = { s = [\"viewer\"] } }, {",
        );
        assert!(
            twice.contains("two issuers named") && twice.contains("two entries for"),
            "{twice}"
        );
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in
            ["https://a.b/keys", "http://localhost:1/x", "http://[::1]/x", "http://127.0.0.1"]
        {
            assert!(key_address(good).is_some(), "{good}");
        }
        for bad in ["http://a.b", "ftp://localhost", "https://u@a.b", "/keys", "https://a.b/#x", ""]
        {
            assert!(key_address(bad).is_none(), "{bad}");
        }
        let found = discovery_address("https://a.b/realm/").unwrap();
        assert_eq!(found.as_str(), "https://a.b/realm/.well-known/openid-configuration");
    }
}
