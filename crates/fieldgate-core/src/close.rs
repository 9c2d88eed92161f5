//! The catalogue of endings: why a connection ended, and what its peer is told.
//!
//! Pure. Source of the numbers: RFC 6455 section 7.4.1 and `native.md`, "Close codes".

macro_rules! reasons {
    ($(#[doc = $about:literal] $name:ident = $code:literal, $label:literal, $text:literal, $retry:literal;)*) => {
        /// Why a connection ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CloseReason {
            $(#[doc = $about] $name,)*
        }

        impl CloseReason {
            /// Every reason, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The WebSocket close code.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The word in logs and metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The text in the close frame, at most 123 bytes.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether the peer may come back by itself.
            #[must_use]
            pub const fn may_return(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about.trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// The peer closed, or its socket ended.
    PeerClosed = 1000, "peer_closed", "", true;
    /// RFC 6455 was violated.
    WebSocketProtocol = 1002, "websocket_protocol", "WebSocket protocol error", false;
    /// A text frame that is not UTF-8.
    BadUtf8 = 1007, "bad_utf8", "Invalid UTF-8", false;
    /// A rule of this server.
    Policy = 1008, "policy", "Policy violation", false;
    /// A frame or message above the limit.
    FrameTooLarge = 1009, "frame_too_large", "Frame above the limit", false;
    /// A defect of ours.
    Internal = 1011, "internal", "Internal error", true;
    /// The server restarts or drains.
    Restart = 1012, "restart", "Restart", true;
    /// Nothing came for too long.
    HeartbeatTimeout = 4001, "heartbeat_timeout", "Heartbeat timeout", true;
    /// Malformed or unexpected frames.
    ProtocolError = 4400, "protocol_error", "Protocol error", false;
    /// No credential came in time.
    AuthTimeout = 4401, "auth_timeout", "Not authenticated in time", true;
    /// A wrong credential.
    AuthFailed = 4403, "auth_failed", "Authentication failed", false;
    /// A right was withdrawn.
    RightsWithdrawn = 4403, "rights_withdrawn", "Rights withdrawn", false;
    /// The same device connected anew.
    TakenOver = 4409, "taken_over", "Session taken over", false;
    /// A limit of messages, bytes or attempts was exceeded and kept exceeded.
    RateLimited = 4429, "rate_limited", "Rate limited", true;
    /// The receiver does not take what it subscribed to, and asked to be closed for it.
    SlowReceiver = 1008, "slow_receiver", "Receiver too slow", true;
    /// An administrator ended it; it may come back.
    Disconnected = 1008, "disconnected", "Disconnected by an administrator", true;
    /// No place in the pool.
    NoCapacity = 4503, "no_capacity", "No capacity", true;
}
