//! A target that takes batches by POST: one request a batch, and what its answer means.
//!
//! Redirects are not followed, proxies not used, and the address is checked at each connection, so
//! that a request goes where an administrator sent it, or nowhere. Bounded: one request at a time, in
//! time, and in bytes of its answer. Absent: any retry; `core::delivery` decides about that.

use std::{error::Error, io, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use fieldgate_core::{delivery::Outcome, id::UnixMs};
use reqwest::{Client, Response, StatusCode, header};

use super::{
    address::{causes, check, literal},
    target::{Aim, Failure, Parcel, TOLD_BYTES_MAX},
};
use crate::fabric::now;

/// So much of an answer that is good is read, so that its connection may be used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Time and body, signed.
pub(crate) const SIGNATURE: &str = "fieldgate-signature";
/// The name of the batch.
pub(crate) const BATCH: &str = "fieldgate-batch";

/// A target that takes POST.
#[derive(Clone)]
pub(crate) struct RestTarget {
    aim: Arc<Aim>,
    client: Client,
    signing: Option<Arc<hmac::Key>>,
}

impl std::fmt::Debug for RestTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestTarget").field("aim", &self.aim).finish_non_exhaustive()
    }
}

impl RestTarget {
    /// Makes ready. Reads the system's certificates: not for a worker. `patience` is for one request
    /// as a whole.
    ///
    /// # Errors
    ///
    /// The system has no certificates to trust.
    pub(crate) fn new(
        mut aim: Aim,
        signing: Option<&[u8]>,
        patience: Duration,
    ) -> Result<Self, reqwest::Error> {
        if let Some(secret) = signing.and_then(|secret| std::str::from_utf8(secret).ok()) {
            aim.also_secret(secret);
        }
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(aim.guarded.clone())
            .connect_timeout(CONNECT_TIME.min(patience))
            .timeout(patience)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("fieldgate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let signing = signing.map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret));
        Ok(Self { aim: Arc::new(aim), client, signing: signing.map(Arc::new) })
    }

    /// Sends a batch, and says what became of it.
    ///
    /// # Errors
    ///
    /// [`Failure`]: it was not taken, or we were not told so.
    pub(crate) async fn post(&self, parcel: Parcel) -> Result<(), Failure> {
        // A name is checked when it is resolved; an address in a URL is not resolved.
        if let Some(address) = self.aim.url.host_str().and_then(literal) {
            check(address, self.aim.guarded.allow_private)
                .map_err(|why| Failure::new(Outcome::Barred, why.to_string()))?;
        }
        let mut request = self.client.post(self.aim.url.clone());
        if let Some((name, value)) = &self.aim.header {
            request = request.header(name, value);
        }
        if let Some(key) = &self.signing {
            request = request.header(SIGNATURE, signature(key, now(), &parcel.body));
        }
        let request = request
            .header(header::CONTENT_TYPE, parcel.content_type)
            .header(BATCH, parcel.name)
            .body(parcel.body);
        let answer = request.send().await.map_err(unsent)?;
        self.judge(answer).await
    }

    async fn judge(&self, answer: Response) -> Result<(), Failure> {
        let status = answer.status();
        if status.is_success() {
            // Its end is waited for, so that the connection is free; what it says is not looked at.
            let _unread = read(answer, ANSWER_BYTES_MAX).await;
            return Ok(());
        }
        let later = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let outcome = outcome_of(status, later, now());
        // A secret that is cut off at the end would not be known for one.
        let wanted = TOLD_BYTES_MAX + self.aim.secret_bytes_max();
        let said = self.aim.told(&read(answer, wanted).await);
        let mut text = format!("it answered with status {}", status.as_u16());
        if status.is_redirection() {
            text.push_str(", and redirects are not followed");
        }
        if !said.is_empty() {
            text = format!("{text}: {said}");
        }
        Err(Failure::new(outcome, text))
    }
}

/// `t=<ms>,v1=<hex>`: the body and the time, so that nobody sends it again later.
pub(crate) fn signature(key: &hmac::Key, time: UnixMs, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{}.", time.0).as_bytes());
    context.update(body);
    let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={},v1={hex}", time.0)
}

/// What a status means for the batch.
fn outcome_of(status: StatusCode, later: Option<&str>, now: UnixMs) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Taken,
        // Elsewhere is not where it was sent; who we are is for a person to mend.
        300..=399 | 401 | 403 | 407 => Outcome::Barred,
        429 | 503 => match later.and_then(|text| wait_ms(text, now)) {
            Some(after_ms) => Outcome::Later { after_ms },
            None => Outcome::Failed,
        },
        408 | 425 => Outcome::Failed,
        400..=499 => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn wait_ms(text: &str, now: UnixMs) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let time = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_millisecond();
    Some(u64::try_from(time).ok()?.saturating_sub(now.0))
}

/// Up to so many bytes of an answer. One that breaks off is taken as far as it came.
async fn read(mut answer: Response, bytes_max: usize) -> Vec<u8> {
    let mut said = Vec::new();
    while said.len() < bytes_max
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        said.extend_from_slice(&chunk);
    }
    said.truncate(bytes_max);
    said
}

fn unsent(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let outermost: &(dyn Error + 'static) = &error;
    let is_forbidden = std::iter::successors(Some(outermost), |&cause| cause.source())
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
    let text = if error.is_timeout() {
        "it did not answer in time".to_owned()
    } else {
        match causes(&error) {
            why if why.is_empty() => error.to_string(),
            why => format!("it could not be reached: {why}"),
        }
    };
    Failure::new(if is_forbidden { Outcome::Barred } else { Outcome::Failed }, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_over_the_time_and_the_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        // HMAC-SHA256 of `1634567890123.[]` under `key`, by another implementation.
        assert_eq!(
            signature(&key, UnixMs(1_634_567_890_123), b"[]"),
            "t=1634567890123,v1=efe8ea9419047b24f7d007ddae8a094464f08384496da41f282daa578d822557"
        );
    }

    #[test]
    fn each_status_has_its_meaning() {
        let at = UnixMs(1_792_567_000_000);
        let outcome = |status, later| outcome_of(StatusCode::from_u16(status).unwrap(), later, at);
        for (statuses, expected) in [
            (&[200, 201, 202, 204, 299][..], Outcome::Taken),
            (&[301, 302, 303, 307, 308, 304, 401, 403, 407], Outcome::Barred),
            (&[400, 404, 405, 409, 410, 413, 415, 422, 451], Outcome::Refused),
            (&[408, 425, 429, 500, 502, 503, 504, 599, 700], Outcome::Failed),
        ] {
            for status in statuses {
                assert_eq!(outcome(*status, None), expected, "{status}");
            }
        }
        for status in [429, 503] {
            assert_eq!(outcome(status, Some("7")), Outcome::Later { after_ms: 7_000 });
            assert_eq!(outcome(status, Some("soon")), Outcome::Failed);
            let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
            assert_eq!(outcome(status, date), Outcome::Later { after_ms: 680_000 });
        }
        let past = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(outcome(503, past), Outcome::Later { after_ms: 0 });
    }
}
