//! An issuer of tokens on a port of its own, with keys that it made: what it signs, and what it
//! publishes, is what the test says.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Now, as tokens tell time.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// One key to sign with.
pub(crate) enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
    Hmac(Vec<u8>),
    None,
}

impl Signer {
    pub(crate) fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap()))
    }

    pub(crate) fn ec() -> Self {
        Self::Ec(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()))
    }

    pub(crate) fn ed() -> Self {
        Self::Ed(Box::new(Ed25519KeyPair::generate().unwrap()))
    }

    /// What is published of it.
    pub(crate) fn public(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let (n, e) = (key.modulus(), key.exponent());
                json!({"kty": "RSA", "kid": id, "use": "sig",
                       "n": text(n.big_endian_without_leading_zero()),
                       "e": text(e.big_endian_without_leading_zero())})
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref().to_vec();
                json!({"kty": "EC", "crv": "P-256", "kid": id,
                       "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id,
                       "x": text(pair.public_key().as_ref())})
            }
            Self::Hmac(key) => json!({"kty": "oct", "kid": id, "k": text(key)}),
            Self::None => Value::Null,
        }
    }

    /// The bytes of its public half, as somebody would take them for a shared secret.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ed(pair) => pair.public_key().as_ref().to_vec(),
            Self::Hmac(_) | Self::None => Vec::new(),
        }
    }

    fn sign(&self, algorithm: &Value, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Rsa(pair) => {
                let how: &dyn signature::RsaEncoding = if algorithm == "PS256" {
                    &signature::RSA_PSS_SHA256
                } else {
                    &signature::RSA_PKCS1_SHA256
                };
                let mut signed = vec![0; pair.public_modulus_len()];
                pair.sign(how, &SystemRandom::new(), message, &mut signed).unwrap();
                signed
            }
            Self::Ec(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Hmac(key) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, key);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::None => Vec::new(),
        }
    }

    /// A token with this head and these claims.
    pub(crate) fn token(&self, head: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(head), part(claims));
        let signed = self.sign(&head["alg"], message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    }
}

/// An issuer.
pub(crate) struct Issuer {
    pub(crate) address: String,
    keys: Arc<Mutex<Vec<Value>>>,
}

impl Issuer {
    /// Starts with these keys published.
    pub(crate) fn start(keys: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(keys));
        let (own, published) = (address.clone(), Arc::clone(&keys));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4_096];
                let len = stream.read(&mut head).unwrap_or(0);
                let body = if head[..len].starts_with(b"GET /keys ") {
                    json!({"keys": *published.lock().unwrap()})
                } else {
                    json!({"issuer": own, "jwks_uri": format!("{own}/keys")})
                };
                let body = body.to_string();
                let _gone = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { address, keys }
    }

    /// Publishes other keys.
    pub(crate) fn publish(&self, keys: Vec<Value>) {
        *self.keys.lock().unwrap() = keys;
    }

    /// The setting that makes a gateway take its tokens.
    pub(crate) fn setting(&self, name: &str, algorithm: &str) -> String {
        let issuer = &self.address;
        format!(
            "{{ name = {name:?}, issuer = {issuer:?}, algorithm = {algorithm:?}, \
             audience = \"fieldgate\", role_claim = \"/realm/roles\", rights = {{ \
             viewers = [\"viewer\"], operators = [\"operator\", \"!subscribe:private/#\"] }} }}"
        )
    }

    /// What its tokens say of an operator, for ten minutes.
    pub(crate) fn claims(&self) -> Value {
        json!({"iss": self.address, "aud": ["other", "fieldgate"], "sub": "ada",
               "exp": now_s() + 600, "realm": {"roles": ["operators"]}})
    }
}
