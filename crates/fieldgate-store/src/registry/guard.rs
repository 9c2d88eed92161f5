//! What a device signs with, and which of its signed claims were taken.
//!
//! Secrets are here sealed alone. A row of its own beside the device's: it changes with each claim.

use std::{collections::BTreeMap, fmt};

use fieldgate_core::{id::UnixMs, replay::Nonces};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SecretHash;

/// A nonce, hashed under the master key.
pub type NonceHash = [u8; 16];

/// An `hmac` secret of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HmacSecret {
    /// Its id among the device's credentials.
    pub credential: String,
    /// Its hash, which names it.
    pub hash: SecretHash,
    /// Itself.
    pub sealed: Sealed,
}

/// Bytes that only the master key opens.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

/// What guards a device, beside the hashes of its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Guard {
    /// Its `hmac` secrets, by credential.
    pub sealed: BTreeMap<String, Sealed>,
    /// Whether each of its frames must be signed.
    pub integrity: bool,
    /// Of the claims that were taken.
    #[serde(with = "Written")]
    pub nonces: Nonces<NonceHash>,
}

/// Nonces as they are written down.
#[derive(Serialize, Deserialize)]
struct Written {
    floor_ms: u64,
    seen: BTreeMap<NonceHash, u64>,
}

impl Written {
    fn serialize<S: Serializer>(nonces: &Nonces<NonceHash>, to: S) -> Result<S::Ok, S::Error> {
        let (floor, seen) = nonces.parts();
        let seen = seen.iter().map(|(nonce, time)| (*nonce, time.0)).collect();
        Serialize::serialize(&Self { floor_ms: floor.0, seen }, to)
    }

    fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Nonces<NonceHash>, D::Error> {
        let Self { floor_ms, seen } = Deserialize::deserialize(from)?;
        let seen = seen.into_iter().map(|(nonce, time)| (nonce, UnixMs(time))).collect();
        Ok(Nonces::of_parts(UnixMs(floor_ms), seen))
    }
}
