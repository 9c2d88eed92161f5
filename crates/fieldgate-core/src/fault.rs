//! The catalogue of refusals: every reason that a client can be told, with its stable code.
//!
//! Pure. Each dialect maps a [`Code`] to its own error form; nothing else is ever sent as a code.

use std::{borrow::Cow, fmt};

use crate::resource::format_converted;

macro_rules! codes {
    ($(#[doc = $about:literal] $name:ident = $text:literal, $status:literal, $temporary:literal, $remedy:literal;)*) => {
        /// A stable word for a refusal (`native.md`, "Frames to a client").
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $about] $name,)*
        }

        impl Code {
            /// Every code, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub const fn is_temporary(self) -> bool {
                match self { $(Self::$name => $temporary,)* }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$name => $about.trim_ascii(),)* }
            }

            /// What to do about it, where nothing better is known.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    /// The text is not JSON, or nests too deep.
    BadJson = "bad_json", 400, false,
        "write JSON, nested no deeper than limits.json_depth_max";
    /// A field has a value that it cannot have.
    BadValue = "bad_value", 400, false,
        "the message names the value, and what may stand there";
    /// The frame's `type` is not known here.
    UnknownType = "unknown_type", 400, false,
        "the protocol's page names the types that there are";
    /// A field is missing.
    MissingField = "missing_field", 400, false,
        "the message names the field: add it";
    /// A part of a readable frame is over its limit.
    TooLarge = "too_large", 413, false,
        "send less at once, or raise the limit that the message names";
    /// No right.
    NotAllowed = "not_allowed", 403, false,
        "the message names what may not be done; where a right is missing, take a key that has it: fieldgate key add NAME --grant VERB:FILTER";
    /// No such thing, or none that this principal may know of.
    NotFound = "not_found", 404, false,
        "fieldgate device list, key list, user list and tenant list show what there is";
    /// Too many messages or bytes a second.
    RateLimited = "rate_limited", 429, true,
        "wait as long as the message says, or raise the limit that it names";
    /// A bounded queue of the server is full.
    QueueFull = "queue_full", 503, true,
        "wait until what is there has been taken, then try again";
    /// The server cannot do this now.
    Busy = "busy", 503, true,
        "try again in a moment";
    /// The topic or filter is malformed.
    BadTopic = "bad_topic", 400, false,
        "levels are separated by /; + and # stand in filters alone";
    /// The message authentication code does not fit.
    BadMac = "bad_mac", 401, false,
        "is the secret of the device the one that it was made with?";
    /// The nonce was seen before.
    Replayed = "replayed", 409, false,
        "sign each message with a nonce of its own";
    /// The condition of the request does not hold.
    Conflict = "conflict", 409, false,
        "the message names what stands against it: change that, or ask for something else";
    /// It came after its time.
    Expired = "expired", 410, false,
        "is the device connected? a longer expires gives it more time";
    /// Elements of a batch were refused; the list says which.
    BatchRefused = "batch_refused", 422, false,
        "the message names what was refused: mend it and send it again";
    /// Nothing can be stored now.
    StorageUnavailable = "storage_unavailable", 503, true,
        "the disk is full or fails: fieldgate status tells which";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One refusal: what was wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable word.
    pub code: Code,
    /// A sentence for people. Never holds a secret.
    pub message: Cow<'static, str>,
    /// The reading that it is about, where the frame as a whole stands.
    pub reading: Option<Box<ReadingRef>>,
}

/// Names one reading of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingRef {
    /// Its place among the frame's readings; absent in an element of a batch.
    pub index: Option<usize>,
    /// Its resource, as sent.
    pub resource: Box<str>,
    /// The least value that the resource takes, as a JSON number.
    pub min: Option<Box<str>>,
    /// The greatest one.
    pub max: Option<Box<str>>,
}

impl Fault {
    /// Makes a refusal.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), reading: None }
    }

    /// Names the reading that it is about.
    #[must_use]
    pub fn about(mut self, index: Option<usize>, resource: &str) -> Self {
        let resource = resource.into();
        self.reading = Some(Box::new(ReadingRef { index, resource, min: None, max: None }));
        self
    }

    /// Names the range that the value is to be in, for a fault that names its resource.
    #[must_use]
    pub fn within(mut self, min: Option<f64>, max: Option<f64>) -> Self {
        let number = |bound: Option<f64>| bound.map(|bound| format_converted(bound).into());
        if let Some(reading) = &mut self.reading {
            (reading.min, reading.max) = (number(min), number(max));
        }
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}
