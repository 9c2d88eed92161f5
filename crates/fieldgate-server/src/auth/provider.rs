//! One issuer and its keys: a file, or a set that is asked for and kept.
//!
//! A task of its own asks: at the start, then now and again, so that a key that the issuer took back
//! ends, and at once when a token names a key that is not known, though not more often than the tempo
//! allows. Whoever presents that token waits for the answer, never for longer than one. While the
//! issuer does not answer, the set that is known stays. Bounded: one question at a time, in time, bytes
//! and keys; redirects are not followed.

use std::{
    error::Error,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jsonwebtoken::DecodingKey;
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    NotTaken,
    keys::{BadSet, Keys, SET_BYTES_MAX},
};
use crate::config::{Algorithm, Issuer, discovery_address, is_loopback, key_address};

/// Shortest key of HS256 (RFC 7518, 3.2), and the longest file that is taken for one.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=1_024;

/// How often and how long an issuer is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tempo {
    /// Between two questions because of unknown keys, and after one that failed.
    pub(super) pause: Duration,
    /// Between two questions without a reason.
    pub(super) period: Duration,
    /// For one answer.
    pub(super) patience: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            pause: Duration::from_secs(30),
            period: Duration::from_secs(300),
            patience: Duration::from_secs(5),
        }
    }
}

/// One issuer.
#[derive(Debug)]
pub(super) struct Provider {
    issuer: Issuer,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(Arc<DecodingKey>),
    Asked(Arc<Asked>),
}

/// Keys that somebody else publishes.
struct Asked {
    name: String,
    issuer: String,
    algorithm: Algorithm,
    client: Client,
    /// The key set, else the document that says where it is.
    key_set: Option<Url>,
    discovery: Option<Url>,
    tempo: Tempo,
    keys: Mutex<Option<Arc<Keys>>>,
    /// Somebody presented a token with a key that is not known.
    wanted: Notify,
    /// Unknown keys are not asked for before this time.
    not_before: Mutex<Instant>,
    /// Counts the answers, and what was none.
    answers: watch::Sender<u64>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why an issuer gave no keys.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("it did not answer in time")]
    Late,
    #[error("it answered with status {0}")]
    Status(u16),
    #[error("its answer is longer than {SET_BYTES_MAX} bytes")]
    TooLong,
    #[error("its discovery document names another issuer, or no address of keys that may be used")]
    Discovery,
    #[error(transparent)]
    Set(#[from] BadSet),
    #[error("it could not be asked")]
    Http(#[source] reqwest::Error),
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the keys of an issuer are, by its discovery document. Somebody far away has no word in what
/// is asked of this machine.
fn discovered(document: &[u8], issuer: &str) -> Option<Url> {
    let document: Discovery = serde_json::from_slice(document).ok()?;
    let is_near = || key_address(issuer).is_some_and(|issuer| is_loopback(&issuer));
    let found = key_address(&document.jwks_uri).filter(|_| document.issuer == issuer)?;
    (!is_loopback(&found) || is_near()).then_some(found)
}

impl Provider {
    /// Reads the key file, or begins to ask.
    pub(super) fn open(
        issuer: &Issuer,
        tempo: Tempo,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let source = match &issuer.key_file {
            Some(path) => {
                let told = |why: String| {
                    let text = format!("auth.issuers: key_file {}: {why}", path.display());
                    io::Error::other(text)
                };
                let mut secret = std::fs::read(path).map_err(|error| told(error.to_string()))?;
                if secret.last() == Some(&b'\n') {
                    secret.pop();
                }
                if !SECRET_BYTES.contains(&secret.len()) {
                    return Err(told("a key of HS256 has 32 to 1024 bytes".to_owned()));
                }
                Source::File(Arc::new(DecodingKey::from_secret(&secret)))
            }
            None => Source::Asked(Asked::begin(issuer, tempo, stop)?),
        };
        Ok(Self { issuer: issuer.clone(), source })
    }

    pub(super) const fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub(super) fn is(&self, claimed: &str) -> bool {
        self.issuer.issuer == claimed
    }

    /// The key that a token names, asked for if it is not known.
    pub(super) async fn key(&self, id: Option<&str>) -> Result<Arc<DecodingKey>, NotTaken> {
        match &self.source {
            Source::File(key) => Ok(Arc::clone(key)),
            Source::Asked(asked) => asked.key(id).await,
        }
    }
}

impl Asked {
    fn begin(issuer: &Issuer, tempo: Tempo, stop: &CancellationToken) -> io::Result<Arc<Self>> {
        let key_set = issuer.jwks_url.as_deref().and_then(key_address);
        let discovery = discovery_address(&issuer.issuer).filter(|_| key_set.is_none());
        let mut client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(tempo.patience)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("fieldgate/", env!("CARGO_PKG_VERSION")));
        if key_set.as_ref().or(discovery.as_ref()).is_some_and(is_loopback) {
            client = client.no_proxy();
        }
        let asked = Arc::new(Self {
            name: issuer.name.clone(),
            issuer: issuer.issuer.clone(),
            algorithm: issuer.algorithm,
            client: client.build().map_err(io::Error::other)?,
            key_set,
            discovery,
            tempo,
            keys: Mutex::default(),
            wanted: Notify::new(),
            not_before: Mutex::new(Instant::now()),
            answers: watch::Sender::new(0),
        });
        tokio::spawn({
            let (asked, stop) = (Arc::clone(&asked), stop.clone());
            async move { stop.run_until_cancelled(asked.run()).await }
        });
        Ok(asked)
    }

    /// Asks, and asks again, until dropped.
    async fn run(&self) {
        let mut was_failing = false;
        loop {
            let answer = tokio::time::timeout(self.tempo.patience, self.ask()).await;
            let wait = match answer.unwrap_or(Err(NoAnswer::Late)) {
                Ok(keys) => {
                    *lock(&self.keys) = Some(Arc::new(keys));
                    if was_failing {
                        tracing::info!(issuer = self.name, "its keys came");
                    }
                    was_failing = false;
                    self.tempo.period
                }
                Err(error) => {
                    self.tell(&error, was_failing);
                    was_failing = true;
                    self.tempo.pause
                }
            };
            self.answers.send_modify(|count| *count += 1);
            tokio::select! {
                biased;
                () = self.wanted.notified() => self.rest().await,
                () = tokio::time::sleep(wait) => (),
            }
        }
    }

    /// Waits until an unknown key may be asked for, and says when the next one may.
    async fn rest(&self) {
        let from = *lock(&self.not_before);
        tokio::time::sleep_until(from.into()).await;
        *lock(&self.not_before) = Instant::now() + self.tempo.pause;
    }

    fn tell(&self, error: &NoAnswer, was_failing: bool) {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        let source = causes.join(": ");
        if was_failing {
            tracing::debug!(issuer = self.name, %error, source, "its keys did not come");
        } else {
            tracing::warn!(issuer = self.name, %error, source, "its keys did not come");
        }
    }

    async fn ask(&self) -> Result<Keys, NoAnswer> {
        let found = match (&self.key_set, &self.discovery) {
            (Some(url), _) => url.clone(),
            (None, Some(url)) => {
                let document = self.fetch(url.clone()).await?;
                discovered(&document, &self.issuer).ok_or(NoAnswer::Discovery)?
            }
            (None, None) => return Err(NoAnswer::Discovery),
        };
        Ok(Keys::read(&self.fetch(found).await?, self.algorithm)?)
    }

    async fn fetch(&self, url: Url) -> Result<Vec<u8>, NoAnswer> {
        let http = |error: reqwest::Error| NoAnswer::Http(error.without_url());
        let mut answer = self.client.get(url).send().await.map_err(http)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(NoAnswer::Status(answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(http)? {
            if body.len() + chunk.len() > SET_BYTES_MAX {
                return Err(NoAnswer::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn known(&self, id: Option<&str>) -> Result<Arc<DecodingKey>, NotTaken> {
        let keys = lock(&self.keys).clone().ok_or(NotTaken::NoKeys)?;
        keys.find(id).ok_or(NotTaken::Wrong("its issuer has no such key"))
    }

    async fn key(&self, id: Option<&str>) -> Result<Arc<DecodingKey>, NotTaken> {
        let mut answers = self.answers.subscribe();
        let known = self.known(id);
        let is_first = *answers.borrow_and_update() == 0;
        if known.is_ok() {
            return known;
        }
        if !is_first {
            self.wanted.notify_one();
            if Instant::now() < *lock(&self.not_before) {
                return known;
            }
        }
        let _late = tokio::time::timeout(self.tempo.patience, answers.changed()).await;
        self.known(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discovery_document_names_its_issuer_and_keys_that_may_be_asked_for() {
        let found = |named: &str, keys: &str, issuer: &str| {
            let document = serde_json::json!({"issuer": named, "jwks_uri": keys, "more": []});
            discovered(document.to_string().as_bytes(), issuer).is_some()
        };
        let (far, near) = ("https://a.b", "http://127.0.0.1:80");
        assert!(found(far, "https://keys.b/set", far));
        assert!(found(near, "http://127.0.0.1:80/keys", near) && found(near, "https://a.b/", near));
        assert!(!found(far, "https://a.b/keys", "https://a.b/"), "another issuer");
        assert!(!found(far, "http://a.b/keys", far), "not over TLS");
        assert!(!found(far, "https://localhost/keys", far), "this machine");
        assert!(discovered(b"{}", far).is_none() && discovered(b"[", far).is_none());
    }
}
