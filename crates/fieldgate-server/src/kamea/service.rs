//! The service that says who may see a device: one request for each question.
//!
//! Redirects are not followed, proxies not used, and the address is looked at each time that a name is
//! resolved. Bounded: questions at a time, the time for asking and reading, how long who asks waits for
//! its turn, and the bytes of an answer. Invariant: the token goes to the configured service, and into no
//! log.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest;
use fieldgate_dialects::kamea::{Answer, Place, Question, answer};
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::pace::Pace;
use crate::{
    config::Authorization,
    deliver::address::{Guarded, SystemNames, causes},
};

/// Most questions at a time; further ones wait.
const AT_ONCE_MAX: usize = 64;
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Connections that are kept for the next question.
const IDLE_MAX: usize = 8;

/// What asks, and remembers whether it is answered.
#[derive(Debug)]
pub(crate) struct Service {
    /// Made when it is needed first: it reads the system's certificates.
    client: OnceCell<Client>,
    places: Semaphore,
    pace: Pace,
    is_failing: AtomicBool,
}

impl Default for Service {
    fn default() -> Self {
        let places = Semaphore::new(AT_ONCE_MAX);
        let is_failing = AtomicBool::new(false);
        Self { client: OnceCell::new(), places, pace: Pace::default(), is_failing }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the authorization service could not be asked in {0} ms: others were before")]
    Busy(u128),
    #[error("the authorization service did not answer in {0} ms")]
    Late(u64),
    #[error("the authorization service cannot be asked: {0}")]
    Address(String),
    #[error("the authorization service could not be reached")]
    Http(#[source] reqwest::Error),
    #[error("the answer of the authorization service is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the authorization service gave no clear answer: {0}")]
    Unclear(String),
    #[error("the authorization service gave no clear answer: {0}")]
    Down(String),
}

impl NoAnswer {
    /// Whether more questions would do the service no good; what answers, if not to the question, is
    /// well.
    const fn is_failure(&self) -> bool {
        match self {
            Self::Late(_) | Self::Address(_) | Self::Http(_) | Self::Down(_) => true,
            Self::Busy(_) | Self::TooLong | Self::Unclear(_) => false,
        }
    }
}

/// What somebody is called whose token nobody here can read: the same for the same token.
pub(super) fn name_of(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    let mut name = "kamea:".to_owned();
    for byte in hash.as_ref().iter().take(6) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

impl Service {
    /// Whether a question would be asked at once.
    #[cfg(test)]
    pub(super) fn has_place(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// Asks, and says what was answered; that nothing was, for the client, without what is behind it.
    /// The question waits for its turn for `patience` at most, which is no part of its own time.
    pub(super) async fn ask(
        &self,
        config: &Authorization,
        token: &str,
        question: &Question<'_>,
        patience: Duration,
    ) -> Answer {
        // What no header can hold is no token.
        let Ok(mut token) = HeaderValue::from_str(&format!("Bearer {token}")) else {
            return Answer::Denied;
        };
        token.set_sensitive(true);
        let Ok(place) = tokio::time::timeout(patience, self.place()).await else {
            return Answer::Unclear(NoAnswer::Busy(patience.as_millis()).to_string());
        };
        let limit = Duration::from_millis(config.timeout_ms);
        // Who waits for a place does not hold what asking needs.
        let asking = Box::pin(self.asked(config, token, question));
        let asked = tokio::time::timeout(limit, asking).await;
        let asked = asked.unwrap_or(Err(NoAnswer::Late(config.timeout_ms)));
        match &asked {
            Err(error) if error.is_failure() => self.pace.on_failure(),
            Ok(_) | Err(_) => self.pace.on_answer(),
        }
        drop(place);
        self.told(asked)
    }

    /// Waits for a place and a turn; none is ever refused, as the places are never closed.
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.places.acquire().await.ok();
        self.pace.turn().await;
        place
    }

    /// What the client is told; the log has when that begins to fail and when it ends.
    fn told(&self, asked: Result<Answer, NoAnswer>) -> Answer {
        match asked {
            Ok(answer) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the authorization service answers again");
                }
                answer
            }
            Err(error) => {
                let source = causes(&error);
                if self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::debug!(%error, source, "no answer from the authorization service");
                } else {
                    tracing::warn!(%error, source, "no answer from the authorization service");
                }
                Answer::Unclear(error.to_string())
            }
        }
    }

    async fn asked(
        &self,
        config: &Authorization,
        token: HeaderValue,
        question: &Question<'_>,
    ) -> Result<Answer, NoAnswer> {
        let address = |why: String| NoAnswer::Address(why);
        let http = |error: reqwest::Error| NoAnswer::Http(error.without_url());
        let base = config.base().map_err(address)?;
        let path = config.path.path(question);
        let url = format!("{}{path}", base.as_str().trim_end_matches('/'));
        let url = reqwest::Url::parse(&url).map_err(|error| address(error.to_string()))?;
        let method = Method::from_bytes(config.method.as_bytes())
            .map_err(|error| address(error.to_string()))?;
        let client = self.client.get_or_try_init(client).await?;
        let has_body = method != Method::GET;
        let mut request = client.request(method, url);
        request = request.header(AUTHORIZATION, token).header(ACCEPT, "application/json");
        if has_body {
            let body = config.body.body(question);
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(http)?;
        let status = response.status();
        let body = if status.is_success() { read(response).await? } else { Vec::new() };
        match answer(status.as_u16(), &body, Place(&config.answer)) {
            Answer::Unclear(why) if is_down(status) => Err(NoAnswer::Down(why)),
            Answer::Unclear(why) => Err(NoAnswer::Unclear(why)),
            clear @ (Answer::Allowed | Answer::Denied) => Ok(clear),
        }
    }
}

/// Whether a status says that the service is not well, rather than what it thinks of the question.
fn is_down(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Makes what asks, aside: the system's certificates are files.
async fn client() -> Result<Client, NoAnswer> {
    let made = tokio::task::spawn_blocking(|| {
        Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Guarded { names: Arc::new(SystemNames), allow_private: true })
            .pool_max_idle_per_host(IDLE_MAX)
            .user_agent(concat!("fieldgate/", env!("CARGO_PKG_VERSION")))
            .build()
    });
    let made = made.await.map_err(|error| NoAnswer::Address(error.to_string()))?;
    made.map_err(NoAnswer::Http)
}

async fn read(mut response: Response) -> Result<Vec<u8>, NoAnswer> {
    let http = |error: reqwest::Error| NoAnswer::Http(error.without_url());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(http)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(NoAnswer::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
