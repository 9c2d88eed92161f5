//! Why a command failed, and the exit code that says so.
//!
//! Invariant: the exit codes are the operator's page's: 1 failed, 2 usage, 3 unreachable, 4 refused,
//! 5 store damaged or in use, 130 interrupted.

mod hints;

use std::{error::Error, io::Write, process::ExitCode};

use fieldgate_client::{ConnectError, End, SendError, SubscribeError};
use serde_json::json;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    Refused = 4,
    Store = 5,
    Interrupted = 130,
}

/// A failure, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// A stable word.
    pub(crate) code: String,
    pub(crate) message: String,
    /// What to do, where it is not what the code says.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &str, message: impl Into<String>) -> Self {
        Self { exit, code: code.to_owned(), message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted", "interrupted")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self
    }

    /// What to do, if anything is known.
    fn told_hint(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| hints::hint_of(&self.code))
    }

    /// Tells it on stderr, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        // Nothing is left to tell a failure of stderr to.
        let _ = if json {
            let Self { code, message, .. } = self;
            let error = match self.told_hint() {
                Some(hint) => json!({"code": code, "message": message, "hint": hint}),
                None => json!({"code": code, "message": message}),
            };
            writeln!(stderr, "{}", json!({"error": error}))
        } else if self.exit == Exit::Interrupted {
            Ok(())
        } else {
            let hint = self.told_hint().map(|hint| format!("\n  {hint}")).unwrap_or_default();
            writeln!(stderr, "fieldgate: {} ({}){hint}", self.message, self.code)
        };
        ExitCode::from(self.exit as u8)
    }
}

/// An error and everything that caused it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        // What is wrong stands before the first empty line, behind it usage and tips.
        let text = error.to_string();
        let said = text.split("\n\n").next().unwrap_or_default();
        let said = said.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>();
        let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let usage = text.lines().find(|line| line.starts_with("Usage: "));
        Self::usage(said.join(" ")).hint(tip.or(usage).unwrap_or_default())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, "io", chain(&error))
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let message = chain(&error);
        match error {
            ConnectError::Address(_) => Self::usage(message),
            ConnectError::Refused { status: None | Some(401 | 403), .. }
            | ConnectError::Closed { code: 4403, .. } => {
                Self::new(Exit::Refused, "not_authenticated", message)
            }
            ConnectError::Refused { status, code, .. } => {
                let exit =
                    if matches!(status, Some(400 | 422)) { Exit::Usage } else { Exit::Failed };
                Self::new(exit, code.as_deref().unwrap_or("refused"), message)
            }
            ConnectError::NoTls { .. } => Self::new(Exit::Unreachable, "unreachable", message)
                .hint("does it speak TLS? try http://"),
            ConnectError::OnlyTls { .. } => Self::new(Exit::Unreachable, "unreachable", message)
                .hint("does it speak TLS? try https://"),
            ConnectError::Tls { .. } => Self::new(Exit::Unreachable, "untrusted", message),
            ConnectError::Protocol(_) => Self::new(Exit::Failed, "protocol", message),
            ConnectError::Unreachable { .. }
            | ConnectError::TimedOut { .. }
            | ConnectError::Busy { .. }
            | ConnectError::Closed { .. }
            | _ => Self::new(Exit::Unreachable, "unreachable", message)
                .hint("is the gateway running? name it with --url or FIELDGATE_URL"),
        }
    }
}

impl From<End> for Failure {
    fn from(end: End) -> Self {
        let message = chain(&end);
        match end {
            End::Refused(error) => error.into(),
            End::ByServer { code: 4403, .. } => {
                Self::new(Exit::Refused, "not_authenticated", message)
            }
            End::ByServer { code: 1009, .. } => Self::new(Exit::Failed, "too_large", message)
                .hint("limits.frame_bytes_max bounds a frame"),
            End::Closed | End::ByServer { .. } | _ => Self::new(Exit::Failed, "closed", message),
        }
    }
}

fn refused(code: &str, message: String) -> Failure {
    let exit = if code == "not_allowed" { Exit::Refused } else { Exit::Failed };
    Failure::new(exit, code, message)
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        let message = chain(&error);
        match error {
            SendError::Refused { code, message } => refused(&code, message),
            SendError::Payload(_) => Self::usage(message),
            SendError::Ended(end) => end.into(),
            SendError::Unacknowledged { .. } => {
                Self::new(Exit::Failed, "not_acknowledged", message)
            }
            SendError::Full { .. } | SendError::Duplicate | _ => {
                Self::new(Exit::Failed, "not_sent", message)
            }
        }
    }
}

impl From<SubscribeError> for Failure {
    fn from(error: SubscribeError) -> Self {
        let message = chain(&error);
        match error {
            SubscribeError::Refused { code, message } => refused(&code, message),
            SubscribeError::Ended(end) => end.into(),
            SubscribeError::Filter(_) | SubscribeError::Twice | _ => Self::usage(message),
        }
    }
}
