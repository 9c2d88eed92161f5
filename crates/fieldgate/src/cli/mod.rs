//! The commands that talk to a gateway or look into its folder; one file each.

pub(crate) mod admin;
pub(crate) mod command;
pub(crate) mod config;
pub(crate) mod device;
pub(crate) mod key;
pub(crate) mod log;
pub(crate) mod publish;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod subscribe;
pub(crate) mod user;

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::Failure;

/// Asks before something is destroyed. Without a terminal only `--yes` will do.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{question} Add --yes: there is no terminal to ask on"
        )));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(crate::failure::Exit::Failed, "cancelled", "nothing was changed"))
}

/// Reads a secret from stdin; one final newline does not belong to it.
pub(crate) fn secret_from_stdin() -> Result<String, Failure> {
    let mut secret = std::io::read_to_string(std::io::stdin().lock())?;
    if secret.ends_with('\n') {
        secret.pop();
        if secret.ends_with('\r') {
            secret.pop();
        }
    }
    Ok(secret)
}

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
