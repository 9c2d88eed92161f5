//! Integrations: what flows in from another system, or out to one, and how far that came.
//!
//! Types only; `state` applies changes in seq order. Secrets are here hashed or sealed alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Sealed, SecretHash, tag_of};

/// What an integration does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IntegrationKind {
    /// The Thingsee cloud connects to us and brings arrays.
    ThingseeIn,
    /// We connect to a WebSocket server and bring it arrays.
    WebSocket,
    /// We post arrays to an HTTP server.
    Rest,
}

impl IntegrationKind {
    /// Every kind, in the order of the manual.
    pub const ALL: [Self; 3] = [Self::ThingseeIn, Self::WebSocket, Self::Rest];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ThingseeIn => "thingsee-in",
            Self::WebSocket => "websocket",
            Self::Rest => "rest",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// How messages are written for a target.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
pub enum Format {
    /// Thingsee arrays.
    #[default]
    Thingsee,
    /// Arrays of native frames.
    Native,
    /// Native frames, one a line.
    NativeLines,
}

impl Format {
    /// Every format, in the order of the manual.
    pub const ALL: [Self; 3] = [Self::Thingsee, Self::Native, Self::NativeLines];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thingsee => "thingsee",
            Self::Native => "native",
            Self::NativeLines => "native-lines",
        }
    }

    /// The format of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == word)
    }
}

/// Where in a request the secret stands that we show to a target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenIn {
    /// In this header; in `Authorization` behind `Bearer`.
    Header(String),
    /// In this parameter of the query.
    Query(String),
}

/// Where an integration delivers to, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Target {
    /// Its address, without a secret.
    pub url: String,
    /// Which topics.
    pub filter: String,
    /// How they are written.
    pub format: Format,
    /// Where the secret stands; without one, none is shown.
    pub token_in: Option<TokenIn>,
    /// The secret that we show.
    pub secret: Option<Sealed>,
    /// The secret that we sign with.
    pub signing: Option<Sealed>,
    /// Whether private addresses may be connected to.
    pub allow_private: bool,
    /// Most messages a second; without a number, as many as it takes.
    pub rate_max: Option<u64>,
    /// Most messages of a batch; without a number, as many as is usual.
    pub batch_max: Option<u64>,
}

/// An integration, as people want it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integration {
    /// Its name, unique in the tenant.
    pub name: String,
    /// What it does.
    pub kind: IntegrationKind,
    /// Whether it rests.
    pub paused: bool,
    /// Of what comes in: the token that is shown to us.
    pub token: Option<SecretHash>,
    /// Of what goes out: where to.
    pub target: Option<Target>,
}

/// How far an integration came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Progress {
    /// The number of the record that it begins with: another after a replay was asked for.
    pub run: u64,
    /// Everything up to this number was delivered, or set aside, or is not for it.
    pub cursor: u64,
    /// Messages that were delivered.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Messages that were ever set aside.
    pub set_aside: u64,
    /// Why the last failed attempt failed, and when, in Unix ms.
    pub last_error: Option<(String, u64)>,
}

/// A message that its target does not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// What the target said.
    pub reason: String,
    /// When it was set aside, in Unix ms.
    pub time_ms: u64,
    /// Whether it is to be tried once more.
    pub retry: bool,
}

/// What was set aside of an integration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Asides {
    /// By the message's number.
    pub messages: BTreeMap<u64, Aside>,
    /// How many were forgotten to make room.
    pub forgotten: u64,
}

/// Where a device came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The integration that brought it.
    pub source: String,
    /// The gateway that it was last heard by.
    pub gateway: Option<String>,
}

/// From where on an integration delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// From the record on that adds it.
    Now,
    /// Behind this number.
    After(u64),
}

/// Parts of a target that are replaced. What is not named stays; of what may be nothing,
/// `Some(None)` makes it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct IntegrationEdit {
    /// Its address; refused without a new `secret` if it has one: who may only edit must not learn it.
    pub url: Option<String>,
    /// Which topics.
    pub filter: Option<String>,
    /// How they are written.
    pub format: Option<Format>,
    /// Where the secret stands.
    pub token_in: Option<Option<TokenIn>>,
    /// The secret that we show.
    pub secret: Option<Option<Sealed>>,
    /// The secret that we sign with.
    pub signing: Option<Option<Sealed>>,
    /// Whether private addresses may be connected to.
    pub allow_private: Option<bool>,
    /// Most messages a second.
    pub rate_max: Option<Option<u64>>,
    /// Most messages of a batch.
    pub batch_max: Option<Option<u64>>,
}

/// What the delivery says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Report {
    /// [`Progress::run`] as it was when this began; refused if it is another now.
    pub run: u64,
    /// Everything up to this number is done; a smaller one than before changes nothing.
    pub cursor: u64,
    /// Messages that were delivered since the last report.
    pub delivered: u64,
    /// Attempts that failed since the last report.
    pub failed: u64,
    /// Why the last of these failed.
    pub error: Option<String>,
    /// What was set aside: the message's number, and what the target said.
    pub aside: Vec<(u64, String)>,
    /// What was set aside before and is delivered now.
    pub settled: Vec<u64>,
}

/// How an integration changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntegrationStep {
    /// It appears; refused if the name is taken.
    Add {
        /// As it is.
        integration: Box<Integration>,
        /// From where on it delivers.
        start: Start,
    },
    /// Parts of its target are replaced.
    Edit(Box<IntegrationEdit>),
    /// It rests, or goes on.
    Pause(bool),
    /// It goes.
    Remove,
    /// The token of what comes in is replaced.
    Rotate(SecretHash),
    /// What is behind this number is delivered again.
    Replay(u64),
    /// A message that was set aside is to be tried once more.
    Retry(u64),
    /// A message that was set aside is forgotten.
    Drop(u64),
    /// How far it came.
    Report(Box<Report>),
}

impl Integration {
    /// Stands for the integration as it is told: without its secrets.
    #[must_use]
    pub fn tag(&self) -> u64 {
        let Self { name, kind, paused, token: _, target } = self;
        let told = target.as_ref().map(|target| {
            let Target { url, filter, format, token_in, secret, signing, .. } = target;
            let secrets = (secret.is_some(), signing.is_some());
            let Target { allow_private, rate_max, batch_max, .. } = target;
            (url, filter, format, token_in, secrets, allow_private, rate_max, batch_max)
        });
        tag_of(&(name, kind, paused, told))
    }
}

impl IntegrationStep {
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Add { integration, .. } => {
                let target = integration.target.as_ref();
                target.map_or(0, |target| target.url.len() + target.filter.len())
            }
            Self::Edit(edit) => {
                let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                len(&edit.url) + len(&edit.filter)
            }
            Self::Report(report) => {
                let aside: usize = report.aside.iter().map(|(_, text)| 32 + text.len()).sum();
                aside + 8 * report.settled.len()
            }
            Self::Pause(_)
            | Self::Remove
            | Self::Rotate(_)
            | Self::Replay(_)
            | Self::Retry(_)
            | Self::Drop(_) => 0,
        }
    }
}
