//! A set of keys as an issuer publishes it (RFC 7517): bytes in, the usable keys out.
//!
//! Pure. A key of another type, curve, use or algorithm than the issuer's is passed over, and so is
//! one that cannot be read. Invariant: no set holds a key of another kind than its issuer's algorithm
//! takes, so no token can choose one.

use std::{collections::HashMap, sync::Arc};

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::Algorithm;

/// Most bytes of a set.
pub(super) const SET_BYTES_MAX: usize = 256 * 1024;
/// Most keys of a set, usable or not.
const KEYS_MAX: usize = 128;
/// Longest name of a key.
pub(super) const KEY_ID_BYTES_MAX: usize = 256;
/// Bytes of a coordinate on P-256, and of a key on Ed25519.
const POINT_BYTES: usize = 32;

/// Why a set is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadSet {
    #[error("the key set is no JSON object with a list \"keys\"")]
    NotASet,
    #[error("the key set has more than {KEYS_MAX} keys")]
    TooMany,
    #[error("the key set has no key that fits `algorithm`")]
    NoneFits,
}

/// The usable keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    named: HashMap<String, Arc<DecodingKey>>,
    nameless: Vec<Arc<DecodingKey>>,
}

#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a set.
    pub(super) fn read(bytes: &[u8], algorithm: Algorithm) -> Result<Self, BadSet> {
        let set: Set<'_> = serde_json::from_slice(bytes).map_err(|_| BadSet::NotASet)?;
        if set.keys.len() > KEYS_MAX {
            return Err(BadSet::TooMany);
        }
        let mut keys = Self { named: HashMap::new(), nameless: Vec::new() };
        for raw in set.keys {
            let Ok(key) = serde_json::from_str::<Key>(raw.get()) else { continue };
            let Some(usable) = key.usable(algorithm).map(Arc::new) else { continue };
            match key.kid {
                Some(id) => drop(keys.named.entry(id).or_insert(usable)),
                None => keys.nameless.push(usable),
            }
        }
        if keys.named.is_empty() && keys.nameless.is_empty() {
            return Err(BadSet::NoneFits);
        }
        Ok(keys)
    }

    /// The key of this name; of a token that names none, the only one there is.
    pub(super) fn find(&self, id: Option<&str>) -> Option<Arc<DecodingKey>> {
        let Some(id) = id else {
            let mut all = self.named.values().chain(&self.nameless);
            return all.next().filter(|_| all.next().is_none()).map(Arc::clone);
        };
        self.named.get(id).map(Arc::clone)
    }
}

impl Key {
    fn usable(&self, algorithm: Algorithm) -> Option<DecodingKey> {
        let signs = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let name = super::token::name_of(algorithm);
        // RFC 9864 names the curve in place of the family.
        let fits = |alg: &str| alg == name || (algorithm == Algorithm::EdDSA && alg == "Ed25519");
        if !signs || !self.alg.as_deref().is_none_or(fits) {
            return None;
        }
        let point = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| decoded_len(text) == POINT_BYTES)?;
            Some(text.to_owned())
        };
        match (algorithm, self.kty.as_str(), self.crv.as_deref()) {
            (Algorithm::RS256 | Algorithm::PS256, "RSA", _) => {
                DecodingKey::from_rsa_components(self.n.as_ref()?, self.e.as_ref()?).ok()
            }
            (Algorithm::ES256, "EC", Some("P-256")) => {
                DecodingKey::from_ec_components(&point(&self.x)?, &point(&self.y)?).ok()
            }
            (Algorithm::EdDSA, "OKP", Some("Ed25519")) => {
                DecodingKey::from_ed_components(&point(&self.x)?).ok()
            }
            _ => None,
        }
    }
}

/// How many bytes unpadded base64 of this length stands for.
const fn decoded_len(text: &str) -> usize {
    text.len() * 3 / 4
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const POINT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn read(keys: &Value, algorithm: Algorithm) -> Result<Keys, BadSet> {
        Keys::read(json!({"keys": keys}).to_string().as_bytes(), algorithm)
    }

    fn fits(key: Value, algorithm: Algorithm) -> bool {
        read(&Value::Array(vec![key]), algorithm).is_ok()
    }

    #[test]
    fn a_key_of_another_kind_use_or_algorithm_is_passed_over() {
        let rsa = |more: Value| {
            let mut key = json!({"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB"});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            key
        };
        assert!(fits(rsa(json!({})), Algorithm::RS256));
        assert!(fits(rsa(json!({"use": "sig", "alg": "PS256"})), Algorithm::PS256));
        assert!(fits(rsa(json!({"key_ops": ["verify"], "x5c": [1], "new": {}})), Algorithm::RS256));
        for wrong in [
            json!({"use": "enc"}),
            json!({"alg": "PS256"}),
            json!({"key_ops": ["encrypt"]}),
            json!({"kty": "oct", "k": POINT}),
            json!({"kty": "EC", "crv": "P-256", "x": POINT, "y": POINT}),
            json!({"n": "%"}),
            json!({"n": 3}),
        ] {
            assert!(!fits(rsa(wrong.clone()), Algorithm::RS256), "{wrong}");
        }
        assert!(!fits(rsa(json!({})), Algorithm::HS256));
        let ec = json!({"kty": "EC", "crv": "P-256", "x": POINT, "y": POINT});
        assert!(fits(ec.clone(), Algorithm::ES256) && !fits(ec, Algorithm::EdDSA));
        assert!(!fits(
            json!({"kty": "EC", "crv": "P-384", "x": POINT, "y": POINT}),
            Algorithm::ES256
        ));
        assert!(!fits(
            json!({"kty": "EC", "crv": "P-256", "x": POINT, "y": "AA"}),
            Algorithm::ES256
        ));
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": POINT, "alg": "Ed25519"});
        assert!(fits(ed.clone(), Algorithm::EdDSA) && !fits(ed, Algorithm::ES256));
        assert!(!fits(json!({"kty": "OKP", "crv": "X25519", "x": POINT}), Algorithm::EdDSA));
    }

    #[test]
    fn a_token_without_a_key_id_gets_the_only_key_and_no_other() {
        let key = |id: &str| json!({"kty": "RSA", "kid": id, "n": "AQAB", "e": "AQAB"});
        let one = read(&json!([key("a"), {"kty": "new"}]), Algorithm::RS256).unwrap();
        assert!(one.find(Some("a")).is_some() && one.find(None).is_some());
        assert!(one.find(Some("b")).is_none());
        let two = read(&json!([key("a"), key("b")]), Algorithm::RS256).unwrap();
        assert!(two.find(Some("b")).is_some() && two.find(None).is_none());
    }

    #[test]
    fn a_set_is_bounded_and_must_hold_something() {
        let read_text = |text: &str| Keys::read(text.as_bytes(), Algorithm::RS256).unwrap_err();
        assert_eq!(read_text("[]"), BadSet::NotASet);
        assert_eq!(read_text("{\"keys\": {}}"), BadSet::NotASet);
        assert_eq!(read_text("{\"keys\": []}"), BadSet::NoneFits);
        let many: Vec<Value> = (0..=KEYS_MAX).map(|_| json!({})).collect();
        assert_eq!(read(&json!(many), Algorithm::RS256).unwrap_err(), BadSet::TooMany);
    }
}
