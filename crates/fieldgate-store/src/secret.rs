//! Secrets: tokens made, hashed and compared; the key that tokens are hashed under; passwords.
//!
//! Invariant: a secret is known in clear only while it is made or checked; nothing here prints one.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc};
use aws_lc_rs::{hmac, rand};
use fieldgate_core::id::{DeviceId, TenantId};
use serde::{Deserialize, Serialize};

use crate::registry::SecretHash;

/// Shortest token of a user's own, in bytes (`cli.md`, `device add --token-stdin`).
pub const OWN_TOKEN_BYTES_MIN: usize = 16;
/// Length of a thing's token, in base64url characters.
pub const THING_TOKEN_LEN: usize = 43;
/// Shortest password of a person, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The key under which every credential is hashed.
pub struct MasterKey(hmac::Key);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Reads the key at `path`, or makes one there (mode 0600).
    ///
    /// # Errors
    ///
    /// The file's; `InvalidData` if it does not hold 32 bytes.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match OpenOptions::new().read(true).open(path) {
            Ok(mut file) => {
                file.read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bytes = random::<32>()?.to_vec();
                let mut options = OpenOptions::new();
                let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
            }
            Err(error) => return Err(error),
        }
        if bytes.len() != 32 {
            let text = "master.key does not hold 32 bytes";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// A key of this process alone, for tests.
    ///
    /// # Errors
    ///
    /// If there is no randomness.
    pub fn ephemeral() -> io::Result<Self> {
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?)))
    }

    /// Hashes a token that this gateway made: it is unguessable and stands alone.
    #[must_use]
    pub fn hash(&self, token: &str) -> SecretHash {
        self.hash_parts(&["token", token])
    }

    /// Hashes a token of the user's own: it counts for one device alone.
    #[must_use]
    pub fn hash_own(&self, tenant: &TenantId, device: &DeviceId, token: &str) -> SecretHash {
        self.hash_parts(&["own", tenant.as_str(), device.as_str(), token])
    }

    /// The key that the duplicate window hashes `msgid`s under.
    pub(crate) fn window_key(&self) -> [u8; 16] {
        let mut key = [0; 16];
        for (slot, byte) in key.iter_mut().zip(self.hash_parts(&["window"])) {
            *slot = byte;
        }
        key
    }

    /// Hashes the token of a thing: it counts in the thethings.iO dialect alone.
    #[must_use]
    pub fn hash_thing(&self, token: &str) -> SecretHash {
        self.hash_parts(&["thing", token])
    }

    /// Hashes a part of a sign-in: each kind counts as what it is alone.
    #[must_use]
    pub fn hash_sign_in(&self, part: SignInPart, text: &str) -> SecretHash {
        let kind = match part {
            SignInPart::Family => "family",
            SignInPart::Refresh => "refresh",
            SignInPart::Link => "link",
        };
        self.hash_parts(&[kind, text])
    }

    fn hash_parts(&self, parts: &[&str]) -> SecretHash {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = [0; 32];
        for (slot, byte) in hash.iter_mut().zip(context.sign().as_ref()) {
            *slot = *byte;
        }
        hash
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(bytes)
}

/// Tells whether this is written as a thing's token is.
#[must_use]
pub fn is_thing_token(token: &str) -> bool {
    token.len() == THING_TOKEN_LEN && token.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// What of a sign-in is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInPart {
    /// The name that the tokens of one session share.
    Family,
    /// The token that new ones are made with.
    Refresh,
    /// A code to sign in with once.
    Link,
}

/// What a token is for; its prefix says so to people and scanners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A device's: `fg_d_…`.
    Device,
    /// An API key: `fg_k_…`.
    Key,
    /// One that a person who signed in shows: `fg_a_…`.
    Access,
    /// A code to sign in with once: `fg_l_…`.
    Link,
    /// A thing's, for the thethings.iO dialect: 43 characters and no prefix, as things send it.
    Thing,
}

/// Makes a token of 256 random bits.
///
/// # Errors
///
/// If there is no randomness.
pub fn make_token(kind: TokenKind) -> io::Result<String> {
    let prefix = match kind {
        TokenKind::Device => "fg_d_",
        TokenKind::Key => "fg_k_",
        TokenKind::Access => "fg_a_",
        TokenKind::Link => "fg_l_",
        TokenKind::Thing => "",
    };
    Ok(format!("{prefix}{}", random_text(THING_TOKEN_LEN)?))
}

/// Makes random text of `len` characters, 6 bits each.
///
/// # Errors
///
/// If there is no randomness.
pub fn random_text(len: usize) -> io::Result<String> {
    let bytes = random::<64>()?;
    let letter = |byte: &u8| ALPHABET.get(usize::from(byte & 63)).copied().map(char::from);
    Ok(bytes.iter().take(len).filter_map(letter).collect())
}

/// What is stored of a password: Argon2id in the PHC string format, salt and costs included.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Hashes a password with a salt of its own: Argon2id, 19 MiB, two passes, one lane, which is both
/// what OWASP asks for and the library's default.
///
/// Takes a core for tens of milliseconds: never called where others wait.
///
/// # Errors
///
/// If there is no randomness, or not enough memory.
pub fn hash_password(password: &str) -> io::Result<PasswordHash> {
    let salt = random::<16>()?;
    let hashed: Result<phc::PasswordHash, _> =
        Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
    hashed.map(|hash| PasswordHash(hash.to_string())).map_err(io::Error::other)
}

/// Whether a password is the one that was hashed. Takes as long as hashing it.
#[must_use]
pub fn verify_password(password: &str, kept: &PasswordHash) -> bool {
    let parsed = phc::PasswordHash::new(&kept.0);
    let verify = |parsed| Argon2::default().verify_password(password.as_bytes(), &parsed);
    parsed.is_ok_and(|parsed| verify(parsed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_kept_as_argon2id_with_the_costs_that_owasp_asks_for() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert!(verify_password("correct horse", &hash));
        assert!(!verify_password("correct horse ", &hash));
        assert!(!verify_password("", &PasswordHash(String::new())));
        assert_ne!(hash, hash_password("correct horse").unwrap(), "each has a salt of its own");
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    }
}
