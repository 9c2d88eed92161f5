//! What both kinds of targets have in common: where they are, how we show who we are, and how an
//! attempt failed.
//!
//! Invariant: no secret is in what is told of a failure.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use fieldgate_core::{
    delivery::Outcome,
    id::{Epoch, Seq},
};
use http::{HeaderName, HeaderValue};
use reqwest::Url;

use super::address::{BadUrl, Guarded, read_url};

/// So much of what a target says is told on.
pub(crate) const TOLD_BYTES_MAX: usize = 300;
/// What stands in the place of a secret.
const MASK: &str = "***";

/// Why an attempt did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) outcome: Outcome,
    /// In words, for a person.
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(outcome: Outcome, text: impl Into<String>) -> Self {
        Self { outcome, text: text.into() }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, text)
    }
}

/// Where a secret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Into this header, as it is; into `Authorization` behind `Bearer`, unless it names a scheme.
    Header(String),
    /// Into this parameter of the query.
    Query(String),
}

/// One batch as it goes out.
#[derive(Debug, Clone)]
pub(crate) struct Parcel {
    /// `epoch:first-last`: a repeat has the name of what it repeats.
    pub(crate) name: String,
    pub(crate) body: Bytes,
    pub(crate) content_type: &'static str,
}

impl Parcel {
    pub(crate) fn name(epoch: Epoch, first: Seq, last: Seq) -> String {
        format!("{epoch}:{first}-{last}")
    }
}

/// A target, ready to be connected to.
#[derive(Clone)]
pub(crate) struct Aim {
    /// Without a fragment.
    pub(crate) url: Url,
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
    pub(crate) guarded: Guarded,
    secrets: Vec<String>,
}

/// Never prints the address's query or a header.
impl std::fmt::Debug for Aim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aim").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// Why a target cannot be aimed at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadAim {
    #[error(transparent)]
    Url(#[from] BadUrl),
    #[error("{0:?} is no name of a header")]
    Name(String),
    #[error("the secret has characters that no header may have")]
    Secret,
}

impl Aim {
    /// Takes the URL of a target, and the secret for it with its place.
    ///
    /// # Errors
    ///
    /// [`BadAim`].
    pub(crate) fn new(
        url: &str,
        schemes: [&'static str; 2],
        credential: Option<(&Place, &str)>,
        guarded: Guarded,
    ) -> Result<Self, BadAim> {
        let mut url = read_url(url, schemes, guarded.allow_private)?;
        // A client never transmits it: it is ours alone to read.
        url.set_fragment(None);
        let mut header = None;
        let mut secrets = Vec::new();
        match credential {
            Some((Place::Query(name), secret)) => {
                url.query_pairs_mut().append_pair(name, secret);
                let written = url.query().and_then(|query| query.rsplit('=').next());
                secrets.extend(written.map(str::to_owned));
            }
            Some((Place::Header(name), secret)) => {
                let bad = |_| BadAim::Name(name.clone());
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(bad)?;
                let is_bare = name == http::header::AUTHORIZATION && !secret.contains(' ');
                let value = if is_bare { format!("Bearer {secret}") } else { secret.to_owned() };
                let value = HeaderValue::from_str(&value).map_err(|_| BadAim::Secret)?;
                header = Some((name, with_care(value)));
            }
            None => (),
        }
        secrets.extend(credential.map(|(_, secret)| secret.to_owned()));
        if let Some(encoded) = credential.map(|(_, secret)| URL_SAFE_NO_PAD.encode(secret)) {
            secrets.push(encoded);
        }
        secrets.retain(|secret| !secret.is_empty());
        Ok(Self { url, header, guarded, secrets })
    }

    /// Something of which nobody may be told.
    pub(crate) fn also_secret(&mut self, secret: &str) {
        if !secret.is_empty() {
            self.secrets.push(secret.to_owned());
        }
    }

    /// What a target said, as it may be told: its beginning, on one line, without our secrets.
    pub(crate) fn told(&self, said: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(said).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret.as_str(), MASK);
        }
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let end = text.floor_char_boundary(TOLD_BYTES_MAX);
        text.get(..end).unwrap_or_default().trim().to_owned()
    }

    pub(crate) fn secret_bytes_max(&self) -> usize {
        self.secrets.iter().map(String::len).max().unwrap_or(0)
    }
}

fn with_care(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
