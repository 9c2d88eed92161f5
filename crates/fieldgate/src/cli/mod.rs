//! The commands that talk to a gateway or look into its folder; one file each.

pub(crate) mod admin;
pub(crate) mod command;
pub(crate) mod config;
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
