//! What can go wrong, by operation: connecting, sending, subscribing; and why a client ended.

use std::sync::Arc;

/// Why no connection stands.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be used.
    #[error("{0}")]
    Address(String),
    /// Nobody answered there.
    #[error("{address} could not be reached")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What the system said.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// No answer in time.
    #[error("{address} did not answer in time")]
    TimedOut {
        /// Host and port.
        address: String,
    },
    /// The server turned the credential down, or the request.
    #[error("the server refused: {reason}")]
    Refused {
        /// The HTTP status, if it was refused before the upgrade.
        status: Option<u16>,
        /// The stable code, if the server told one.
        code: Option<String>,
        /// For people.
        reason: String,
    },
    /// The server's certificate is not trusted, or TLS failed otherwise.
    #[error("TLS with {address} failed: {reason}")]
    Tls {
        /// Host and port.
        address: String,
        /// What was wrong.
        reason: String,
    },
    /// The address asks for TLS, and what answers there speaks none.
    #[error("{address} does not speak TLS: try http:// or ws://")]
    NoTls {
        /// Host and port.
        address: String,
    },
    /// The address asks for plain text, and what answers there speaks TLS.
    #[error("{address} speaks TLS: try https:// or wss://")]
    OnlyTls {
        /// Host and port.
        address: String,
    },
    /// The server is there but cannot serve now.
    #[error("the server is busy (HTTP {status})")]
    Busy {
        /// The HTTP status.
        status: u16,
    },
    /// The connection was closed while it was being set up.
    #[error("the server closed the connection: {code} {reason}")]
    Closed {
        /// WebSocket close code.
        code: u16,
        /// Its text.
        reason: String,
    },
    /// What answered does not speak this protocol.
    #[error("what answers there is no Fieldgate: {0}")]
    Protocol(String),
}

impl ConnectError {
    /// Tells whether another attempt may succeed without anybody changing anything.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Busy { .. } => true,
            Self::Closed { code, .. } => may_return(*code),
            Self::Address(_)
            | Self::Tls { .. }
            | Self::NoTls { .. }
            | Self::OnlyTls { .. }
            | Self::Refused { .. }
            | Self::Protocol(_) => false,
        }
    }
}

/// Whether a client may come back by itself after this close code (`native.md`, "Close codes").
pub(crate) const fn may_return(code: u16) -> bool {
    !matches!(code, 1002 | 1003 | 1007 | 1008 | 1009 | 4400 | 4403 | 4409)
}

/// Why a client ended for good.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum End {
    /// It was asked to.
    #[error("the client was closed")]
    Closed,
    /// The server closed the connection with a code that says not to come back.
    #[error("the server closed the connection for good: {code} {reason}")]
    ByServer {
        /// WebSocket close code.
        code: u16,
        /// Its text.
        reason: String,
    },
    /// A later attempt to connect was turned down.
    #[error("the server no longer takes this client")]
    Refused(#[source] ConnectError),
}

/// Why a message was not stored.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The buffer holds as much as it may; nothing was taken.
    #[error("the buffer is full: {records} messages, {bytes} bytes")]
    Full {
        /// What it holds.
        records: usize,
        /// What it holds.
        bytes: usize,
    },
    /// The server refused it.
    #[error("refused: {code}: {message}")]
    Refused {
        /// The stable code.
        code: String,
        /// For people.
        message: String,
    },
    /// No acknowledgement came in time; it may or may not be stored.
    #[error("not acknowledged in time{}", last.as_ref().map(|l| format!(" (last answer: {l})")).unwrap_or_default())]
    Unacknowledged {
        /// The last temporary refusal, if there was one.
        last: Option<String>,
    },
    /// The payload cannot be written as JSON.
    #[error("the payload is not valid: {0}")]
    Payload(String),
    /// A message with this `msgid` is waiting already.
    #[error("a message with this msgid is waiting already")]
    Duplicate,
    /// The client ended.
    #[error("the client ended")]
    Ended(#[source] End),
}

/// Why a subscription does not stand.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The filter is not valid.
    #[error("{0}")]
    Filter(String),
    /// This client has a subscription with this filter.
    #[error("this client subscribes to this filter already")]
    Twice,
    /// The server refused it.
    #[error("refused: {code}: {message}")]
    Refused {
        /// The stable code.
        code: String,
        /// For people.
        message: String,
    },
    /// The client ended.
    #[error("the client ended")]
    Ended(#[source] End),
}
