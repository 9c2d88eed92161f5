//! Secrets: tokens made, hashed and compared; the key that tokens are hashed under; passwords.
//!
//! Invariant: a secret is known in clear only while it is made or checked; nothing here prints one.

mod token;

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac, rand,
};
use fieldgate_core::id::{DeviceId, TenantId};
use serde::{Deserialize, Serialize};

use crate::{
    disk,
    registry::{NonceHash, Sealed, SecretHash},
};
pub use token::{THING_TOKEN_LEN, TokenKind, is_thing_token, make_token, plain_text, random_text};

/// Shortest token of a user's own, in bytes (`cli.md`, `device add --token-stdin`).
pub const OWN_TOKEN_BYTES_MIN: usize = 16;
/// Longest secret to sign with, in bytes.
pub const SIGNING_BYTES_MAX: usize = 256;
/// Shortest password of a person, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// The key under which every credential is hashed, and what must be used again is sealed.
pub struct MasterKey {
    hashing: hmac::Key,
    sealing: RandomizedNonceKey,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// Reads the key at `path`, or makes one there (mode 0600). A stop in between leaves none.
    ///
    /// # Errors
    ///
    /// The file's; `InvalidData` if it does not hold 32 bytes.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) if bytes.len() == 32 => Self::of_bytes(&bytes),
            Ok(_) => {
                let text = "master.key does not hold 32 bytes: restore it from a copy";
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes = random::<32>()?;
                make_file(path, &bytes)?;
                Self::of_bytes(&bytes)
            }
            Err(error) => Err(error),
        }
    }

    fn of_bytes(bytes: &[u8]) -> io::Result<Self> {
        let hashing = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, &hash_parts(&hashing, &["seal"]));
        let sealing =
            sealing.map_err(|_| io::Error::other("master.key makes no key to seal with"))?;
        Ok(Self { hashing, sealing })
    }

    /// A key of this process alone, for tests.
    ///
    /// # Errors
    ///
    /// If there is no randomness.
    pub fn ephemeral() -> io::Result<Self> {
        Self::of_bytes(&random::<32>()?)
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

    /// Hashes what opens one connection.
    #[must_use]
    pub fn hash_ticket(&self, ticket: &str) -> SecretHash {
        self.hash_parts(&["ticket", ticket])
    }

    /// Hashes the token of a thing: it counts in the thethings.iO dialect alone.
    #[must_use]
    pub fn hash_thing(&self, token: &str) -> SecretHash {
        self.hash_parts(&["thing", token])
    }

    /// Hashes a code that makes a device.
    #[must_use]
    pub fn hash_activation(&self, code: &str) -> SecretHash {
        self.hash_parts(&["activation", code])
    }

    /// Hashes the key of a deCONZ app: it counts on that interface alone.
    #[must_use]
    pub fn hash_bridge(&self, token: &str) -> SecretHash {
        self.hash_parts(&["bridge", token])
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

    /// Hashes the token of a source: it counts where the source brings its messages alone.
    #[must_use]
    pub fn hash_source(&self, token: &str) -> SecretHash {
        self.hash_parts(&["source", token])
    }

    /// Stands for a request: for the same parts alone.
    #[must_use]
    pub fn hash_request(&self, parts: &[&str]) -> SecretHash {
        self.hash_parts(&[&["request"], parts].concat())
    }

    /// Hashes a secret that a device signs with: it names the secret, and lets nobody in.
    #[must_use]
    pub fn hash_signing(&self, tenant: &TenantId, device: &DeviceId, secret: &str) -> SecretHash {
        self.hash_parts(&["hmac", tenant.as_str(), device.as_str(), secret])
    }

    /// Hashes the nonce of a signed claim.
    #[must_use]
    pub fn hash_nonce(&self, tenant: &TenantId, device: &DeviceId, nonce: &str) -> NonceHash {
        let mut short = NonceHash::default();
        let whole = self.hash_parts(&["nonce", tenant.as_str(), device.as_str(), nonce]);
        for (slot, byte) in short.iter_mut().zip(whole) {
            *slot = byte;
        }
        short
    }

    /// Seals a secret that a device signs with, for this credential of this device alone.
    ///
    /// # Errors
    ///
    /// If there is no randomness.
    pub fn seal_signing(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        credential: &str,
        secret: &str,
    ) -> io::Result<Sealed> {
        self.seal(&signing(tenant, device, credential), secret)
    }

    /// Seals a secret of an integration, for this use of this integration alone.
    ///
    /// # Errors
    ///
    /// If there is no randomness.
    pub fn seal_integration(
        &self,
        tenant: &TenantId,
        name: &str,
        part: IntegrationPart,
        secret: &str,
    ) -> io::Result<Sealed> {
        self.seal(&of_integration(tenant, name, part), secret)
    }

    /// Opens what was sealed for this use of this integration; nothing if it was not.
    #[must_use]
    pub fn open_integration(
        &self,
        tenant: &TenantId,
        name: &str,
        part: IntegrationPart,
        sealed: &Sealed,
    ) -> Option<Vec<u8>> {
        self.open_sealed(&of_integration(tenant, name, part), sealed)
    }

    fn seal(&self, about: &[&str], secret: &str) -> io::Result<Sealed> {
        let mut bytes = secret.as_bytes().to_vec();
        let about = Aad::from(framed(about));
        let sealed = self.sealing.seal_in_place_append_tag(about, &mut bytes);
        let nonce = sealed.map_err(|_| io::Error::other("the secret could not be sealed"))?;
        Ok(Sealed([nonce.as_ref(), &*bytes].concat()))
    }

    /// Opens what was sealed for this credential of this device; nothing if it was not.
    #[must_use]
    pub fn open_signing(
        &self,
        tenant: &TenantId,
        device: &DeviceId,
        credential: &str,
        sealed: &Sealed,
    ) -> Option<Vec<u8>> {
        self.open_sealed(&signing(tenant, device, credential), sealed)
    }

    fn open_sealed(&self, about: &[&str], sealed: &Sealed) -> Option<Vec<u8>> {
        work::count();
        let (nonce, bytes) = sealed.0.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = bytes.to_vec();
        let about = Aad::from(framed(about));
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.sealing.open_in_place(nonce, about, &mut bytes).ok()?;
        Some(opened.to_vec())
    }

    fn hash_parts(&self, parts: &[&str]) -> SecretHash {
        work::count();
        hash_parts(&self.hashing, parts)
    }
}

/// Makes a file that is whole or not there, and is there from now on.
fn make_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    disk::sync_folder_of(path)
}

/// What a secret of an integration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegrationPart {
    /// It is shown to the target.
    Token,
    /// What is sent is signed with it.
    Signing,
}

fn of_integration<'a>(tenant: &'a TenantId, name: &'a str, part: IntegrationPart) -> [&'a str; 4] {
    let part = match part {
        IntegrationPart::Token => "token",
        IntegrationPart::Signing => "signing",
    };
    ["integration", tenant.as_str(), name, part]
}

/// What a sealed secret is bound to.
fn signing<'a>(tenant: &'a TenantId, device: &'a DeviceId, credential: &'a str) -> [&'a str; 4] {
    ["hmac", tenant.as_str(), device.as_str(), credential]
}

/// Parts behind their lengths, so that no two lists of parts are the same bytes.
fn framed(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn hash_parts(key: &hmac::Key, parts: &[&str]) -> SecretHash {
    let mut hash = [0; 32];
    for (slot, byte) in hash.iter_mut().zip(hmac::sign(key, &framed(parts)).as_ref()) {
        *slot = *byte;
    }
    hash
}

/// How often a thread hashed or opened something: what a credential costs must not tell what it is.
pub(crate) mod work {
    #[cfg(test)]
    thread_local! {
        static COUNT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    pub(super) fn count() {
        #[cfg(test)]
        COUNT.set(COUNT.get() + 1);
    }

    /// The work that `run` took on this thread.
    #[cfg(test)]
    pub(crate) fn of<T>(run: impl FnOnce() -> T) -> (T, u64) {
        let before = COUNT.get();
        let done = run();
        (done, COUNT.get() - before)
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(bytes)
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

/// What is stored of a password: Argon2id in the PHC string format, salt and costs included.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

#[cfg(test)]
impl PasswordHash {
    /// One that no password fits, made at once.
    pub(crate) fn of_test() -> Self {
        Self(String::new())
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
    fn what_is_sealed_opens_in_its_own_place_alone() {
        let key = MasterKey::ephemeral().unwrap();
        let (tenant, device): (TenantId, DeviceId) = ("t".parse().unwrap(), "d".parse().unwrap());
        let sealed = key.seal_signing(&tenant, &device, "hmac-1", "a secret").unwrap();
        assert!(!sealed.0.windows(8).any(|bytes| bytes == b"a secret"));
        let open = |tenant: &TenantId, device: &DeviceId, credential, sealed: &Sealed| {
            key.open_signing(tenant, device, credential, sealed)
        };
        assert_eq!(open(&tenant, &device, "hmac-1", &sealed).unwrap(), b"a secret");
        assert_eq!(open(&tenant, &device, "hmac-2", &sealed), None);
        assert_eq!(open(&tenant, &"e".parse().unwrap(), "hmac-1", &sealed), None);
        assert_eq!(open(&"u".parse().unwrap(), &device, "hmac-1", &sealed), None);
        let other = MasterKey::ephemeral().unwrap();
        assert_eq!(other.open_signing(&tenant, &device, "hmac-1", &sealed), None);
        for at in 0..sealed.0.len() {
            let mut broken = sealed.clone();
            broken.0[at] ^= 1;
            assert_eq!(open(&tenant, &device, "hmac-1", &broken), None, "byte {at}");
        }
        for len in 0..sealed.0.len() {
            assert_eq!(open(&tenant, &device, "hmac-1", &Sealed(sealed.0[..len].to_vec())), None);
        }
        let again = key.seal_signing(&tenant, &device, "hmac-1", "a secret").unwrap();
        assert_ne!(sealed, again, "each has a nonce of its own");
        assert_eq!(format!("{sealed:?}"), "Sealed(…)");
    }

    #[test]
    fn a_secret_of_an_integration_opens_for_its_use_alone() {
        let key = MasterKey::ephemeral().unwrap();
        let (tenant, other): (TenantId, TenantId) = ("t".parse().unwrap(), "u".parse().unwrap());
        let sealed = key.seal_integration(&tenant, "out", IntegrationPart::Token, "a secret");
        let sealed = sealed.unwrap();
        let open = |tenant, name, part| key.open_integration(tenant, name, part, &sealed);
        assert_eq!(open(&tenant, "out", IntegrationPart::Token).unwrap(), b"a secret");
        assert_eq!(open(&tenant, "out", IntegrationPart::Signing), None);
        assert_eq!(open(&tenant, "in", IntegrationPart::Token), None);
        assert_eq!(open(&other, "out", IntegrationPart::Token), None);
        assert_ne!(key.hash_source("a secret"), key.hash("a secret"));
    }

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
