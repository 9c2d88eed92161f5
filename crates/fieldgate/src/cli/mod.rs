//! The commands that talk to a gateway or look into its folder; one file each.

pub(crate) mod admin;
pub(crate) mod command;
pub(crate) mod config;
pub(crate) mod deconz;
pub(crate) mod device;
pub(crate) mod integration;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod prompt;
pub(crate) mod publish;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod subscribe;
pub(crate) mod tenant;
pub(crate) mod user;

use crate::failure::Failure;

/// One JSON value if the text is one, else text.
pub(crate) fn payload(text: &str) -> fieldgate_client::Payload {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => fieldgate_client::Payload::raw_json(text),
        Err(_) => fieldgate_client::Payload::text(text),
    }
}

/// Now, in Unix milliseconds.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// When something ends after this time, in Unix ms.
pub(crate) fn end_after(duration: std::time::Duration) -> u64 {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    now_ms().saturating_add(ms)
}

/// When something ends, for people.
pub(crate) fn told_end(expires_ms: u64) -> String {
    let time = told_time(expires_ms);
    if expires_ms <= now_ms() { format!("{time} (over)") } else { time }
}

/// A time for people, to the second.
pub(crate) fn told_time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| {
        let time = jiff::Timestamp::from_millisecond(ms).ok()?;
        time.round(jiff::Unit::Second).ok()
    });
    time.map_or_else(|| "never".to_owned(), |time| time.to_string())
}

/// A runtime for a command that waits for the network.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
            result = future => result,
        }
    })
}
