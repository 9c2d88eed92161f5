//! Names and numbers that identify things: text in, checked newtypes out.
//!
//! Pure. Invariant: a value of these types obeys its bounds; nothing re-checks it later.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// Longest device id, in bytes (`native.md`).
pub const DEVICE_ID_BYTES_MAX: usize = 128;
/// Longest `msgid` a sender may choose, in bytes (`native.md`, "The envelope").
pub const MSG_ID_BYTES_MAX: usize = 64;
/// Sequence numbers stay below 2^53, so that a JSON number carries them exactly.
pub const SEQ_MAX: u64 = (1 << 53) - 1;

/// The place of a record in one log: rising, never reused. The first record has number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The number that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number before, or zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a log; written in base 36. A log that is created or restored gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = ['0'; 7];
        let mut rest = self.0;
        let mut used = 0;
        for slot in digits.iter_mut().rev() {
            *slot = char::from_digit(rest % 36, 36).unwrap_or('0');
            used += 1;
            rest /= 36;
            if rest == 0 {
                break;
            }
        }
        digits.iter().skip(digits.len() - used).try_for_each(|digit| write!(f, "{digit}"))
    }
}

/// A place that a client may come back to: `epoch:seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The life of the log.
    pub epoch: Epoch,
    /// The last number seen.
    pub seq: Seq,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

impl FromStr for Position {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::Position(text.chars().take(40).collect());
        let (epoch, seq) = text.split_once(':').ok_or_else(invalid)?;
        let canonical = |part: &str| !part.is_empty() && !part.starts_with('+');
        if !canonical(epoch) || !canonical(seq) {
            return Err(invalid());
        }
        let epoch = u32::from_str_radix(epoch, 36).map_err(|_| invalid())?;
        let seq = seq.parse::<u64>().ok().filter(|seq| *seq <= SEQ_MAX).ok_or_else(invalid)?;
        Ok(Self { epoch: Epoch(epoch), seq: Seq(seq) })
    }
}

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMs(pub u64);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// Not `[A-Za-z0-9._:~-]{1,128}`.
    #[error("a device id is 1 to 128 of the characters A-Z a-z 0-9 . _ : ~ -, not {0:?}")]
    Device(String),
    /// A device's, with the prefix that others are known by.
    #[error("a new device's id does not begin with {0:?}: choose another")]
    NameOfAnother(&'static str),
    /// Not `[a-z0-9-]{1,64}`.
    #[error("a tenant name is 1 to 64 of the characters a-z 0-9 -, not {0:?}")]
    Tenant(String),
    /// Empty, over 64 bytes, or with a control character.
    #[error("a msgid is 1 to 64 bytes without control characters")]
    MsgId,
    /// Not `epoch:seq`.
    #[error("a position is written epoch:seq, not {0:?}")]
    Position(String),
}

/// A tenant's name. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The tenant of an installation that never heard of tenants.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self(Arc::from("default"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same name in bytes of its own: who clones that shares nothing with who clones this.
    #[must_use]
    pub fn copied(&self) -> Self {
        Self(Arc::from(self.as_str()))
    }
}

impl FromStr for TenantId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(InvalidId::Tenant(text.chars().take(40).collect()));
        }
        Ok(Self(Arc::from(text)))
    }
}

/// What the names of API keys, people and sources begin with, beside which a device stands by its id
/// alone ([`crate::access::Principal::name`]).
const NAMES_OF_OTHERS: [&str; 3] = ["key:", "user:", "source:"];

/// A device's id, unique in its tenant. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Refuses an id that is the name of a key, a person or a source: its device would be taken for
    /// that. For new devices alone; earlier releases made some.
    ///
    /// # Errors
    ///
    /// [`InvalidId::NameOfAnother`].
    pub fn check_new(&self) -> Result<(), InvalidId> {
        let prefix = NAMES_OF_OTHERS.into_iter().find(|prefix| self.0.starts_with(prefix));
        prefix.map_or(Ok(()), |prefix| Err(InvalidId::NameOfAnother(prefix)))
    }
}

impl FromStr for DeviceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:~-".contains(&b);
        let bounded = !text.is_empty() && text.len() <= DEVICE_ID_BYTES_MAX;
        if !bounded || !text.bytes().all(allowed) {
            return Err(InvalidId::Device(text.chars().take(40).collect()));
        }
        Ok(Self(Arc::from(text)))
    }
}

/// An id that a sender chose for one of its messages. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgId(Arc<str>);

impl MsgId {
    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MsgId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bounded = !text.is_empty() && text.len() <= MSG_ID_BYTES_MAX;
        if !bounded || text.chars().any(char::is_control) {
            return Err(InvalidId::MsgId);
        }
        Ok(Self(Arc::from(text)))
    }
}

macro_rules! text_id {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        /// Compares, orders and hashes as the text does.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    )*};
}
text_id!(TenantId, DeviceId, MsgId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_survives_the_round_trip() {
        for epoch in [0, 35, 36, 941_085, u32::MAX] {
            let position = Position { epoch: Epoch(epoch), seq: Seq(SEQ_MAX) };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
    }

    #[test]
    fn malformed_positions_are_refused() {
        for text in
            ["", ":", "a:", ":1", "a:-1", "a:+1", "+a:1", "a:9007199254740992", "zzzzzzzz:1"]
        {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn device_ids_keep_their_alphabet() {
        assert!("sensor-001.a_b:c~D".parse::<DeviceId>().is_ok());
        for text in ["", "a/b", "a b", "ä", "+", "#", &"x".repeat(129)] {
            assert!(text.parse::<DeviceId>().is_err(), "{text}");
        }
    }
}
