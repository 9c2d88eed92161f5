//! Topics and filters, as in MQTT 5.0 section 4.7: text in, checked names out.
//!
//! Pure. Invariant: a [`Topic`] has no wildcard; a [`Filter`] has wildcards only as whole levels,
//! `#` only as the last. Empty levels are levels. `#` and a leading `+` never match `$…` topics.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::{id::DeviceId, message::Kind};

/// Hard bounds; the configuration may lower them (`limits.topic_bytes_max`, `topic_levels_max`).
pub const TOPIC_BYTES_MAX: usize = 512;
/// Most levels of a topic or filter.
pub const TOPIC_LEVELS_MAX: usize = 32;

/// Why a topic or filter was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTopic {
    /// No character.
    #[error("a topic has at least one character")]
    Empty,
    /// Over [`TOPIC_BYTES_MAX`].
    #[error("a topic of {0} bytes exceeds the limit of 512")]
    TooLong(usize),
    /// Over [`TOPIC_LEVELS_MAX`].
    #[error("a topic of {0} levels exceeds the limit of 32")]
    TooDeep(usize),
    /// A control or non-character (MQTT 5.0 1.5.4).
    #[error("a topic must not hold control characters or Unicode non-characters")]
    Character,
    /// `+` or `#` in a topic name, or not as a whole (last) level of a filter.
    #[error("the wildcards + and # stand only in filters, as a whole level, # only as the last")]
    Wildcard,
}

/// A name that messages are published to. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// A pattern over topics. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(Arc<str>);

impl Topic {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, in order.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Names `devices/{id}/{leaf}`; `leaf` is one of the names of [`Kind`].
    #[must_use]
    pub fn of_device(device: &DeviceId, leaf: &str) -> Self {
        Self(Arc::from(["devices/", device.as_str(), "/", leaf].concat()))
    }

    /// Tells whose topic this is, for `devices/{id}/…`; the id is not checked further.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.0.strip_prefix("devices/").map(first_level)
    }

    /// The first level.
    #[must_use]
    pub fn root(&self) -> &str {
        first_level(&self.0)
    }

    /// Tells what the messages of this topic are about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let Some(rest) = self.0.strip_prefix("devices/") else { return Kind::Application };
        match rest.get(first_level(rest).len()..).unwrap_or_default() {
            "/telemetry" => Kind::Telemetry,
            "/events" => Kind::Event,
            "/commands" => Kind::Command,
            "/replies" => Kind::Reply,
            "/state" => Kind::State,
            "/state/reported" => Kind::Reported,
            "/state/desired" => Kind::Desired,
            "/presence" => Kind::Presence,
            _ => Kind::Application,
        }
    }
}

impl Filter {
    /// Selects every topic of a device: `devices/{id}/#`.
    #[must_use]
    pub fn of_device(device: &DeviceId) -> Self {
        Self(Arc::from(["devices/", device.as_str(), "/#"].concat()))
    }

    /// The pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The levels, in order.
    pub fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// What stands before the first wildcard, with its `/`; nothing if there is none. Every topic that
    /// it selects begins with that, but for the `a` that `a/#` selects.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.0.find(['+', '#']).and_then(|at| self.0.get(..at))
    }

    /// Tells whether this filter selects `topic` (MQTT 5.0 4.7.1 to 4.7.3).
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        self.matches_name(topic.as_str())
    }

    /// The same for the name of a topic.
    #[must_use]
    pub fn matches_name(&self, name: &str) -> bool {
        let mut filter = self.levels();
        let mut levels = name.split('/');
        let mut first = true;
        loop {
            match (filter.next(), levels.next()) {
                (Some("#" | "+"), Some(level)) if first && level.starts_with('$') => return false,
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => (),
                (Some(wanted), Some(level)) if wanted == level => (),
                _ => return false,
            }
            first = false;
        }
    }

    /// Tells whether every topic that `other` selects is selected by this filter too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if &*self.0 == "#" {
            return !other.0.starts_with('$');
        }
        let mut mine = self.levels();
        let mut theirs = other.levels();
        let mut first = true;
        loop {
            match (mine.next(), theirs.next()) {
                (Some("#" | "+"), Some(level)) if first && level.starts_with('$') => return false,
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(level)) if level != "#" => (),
                (Some(wanted), Some(level)) if wanted == level => (),
                _ => return false,
            }
            first = false;
        }
    }
}

impl Filter {
    /// Tells whether some topic is selected by both; may say yes of `$` topics alone.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut mine = self.levels();
        let mut theirs = other.levels();
        loop {
            match (mine.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some("+"), Some(_)) | (Some(_), Some("+")) => (),
                (Some(a), Some(b)) if a == b => (),
                _ => return false,
            }
        }
    }
}

/// What stands before the first `/`. Levels are short: a search for them would cost more than a step
/// a byte does.
fn first_level(text: &str) -> &str {
    let len = text.bytes().take_while(|byte| *byte != b'/').count();
    text.get(..len).unwrap_or_default()
}

fn check(text: &str) -> Result<(), InvalidTopic> {
    if text.is_empty() {
        return Err(InvalidTopic::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(InvalidTopic::TooLong(text.len()));
    }
    // Bytes, not characters: every record that is read back passes here, and `/` is ASCII.
    let level_count = 1 + text.bytes().filter(|byte| *byte == b'/').count();
    if level_count > TOPIC_LEVELS_MAX {
        return Err(InvalidTopic::TooDeep(level_count));
    }
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Ok(());
    }
    let noncharacter = |c: char| {
        let code = u32::from(c);
        (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
    };
    if text.chars().any(|c| c.is_control() || noncharacter(c)) {
        return Err(InvalidTopic::Character);
    }
    Ok(())
}

impl FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        check(text)?;
        if text.bytes().any(|byte| matches!(byte, b'+' | b'#')) {
            return Err(InvalidTopic::Wildcard);
        }
        Ok(Self(Arc::from(text)))
    }
}

impl FromStr for Filter {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        check(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            let wildcard = level.contains(['+', '#']);
            let last = levels.peek().is_none();
            if wildcard && level != "+" && !(level == "#" && last) {
                return Err(InvalidTopic::Wildcard);
            }
        }
        Ok(Self(Arc::from(text)))
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&Topic> for Filter {
    fn from(topic: &Topic) -> Self {
        Self(Arc::clone(&topic.0))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
