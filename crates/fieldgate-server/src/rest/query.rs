//! Reading a query: each parameter once unless it may be repeated, unknown ones refused.
//!
//! A refusal names the parameter and what it takes, never its value.

use std::borrow::Cow;

use axum::{extract::Query, http::Uri};
use fieldgate_core::{
    fault::{Code, Fault},
    id::{Position, UnixMs},
};

/// How much of an unknown parameter's name is told.
const NAME_LEN_MAX: usize = 40;

pub(crate) fn bad(message: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(Code::BadValue, message)
}

/// The parameters of a request, in order, but for those that tell who asks.
pub(crate) fn parameters(uri: &Uri) -> Result<Vec<(String, String)>, Fault> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
    let Query(mut pairs) = pairs.map_err(|_| bad("the query is not written name=value&…"))?;
    pairs.retain(|(name, _)| !matches!(name.as_str(), "token" | "tenant"));
    Ok(pairs)
}

/// Keeps the value of a parameter that is given once.
pub(crate) fn once<T>(slot: &mut Option<T>, name: &str, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(format!("{name} is given twice: give it once"))),
    }
}

pub(crate) fn unknown(name: &str, known: &str) -> Fault {
    let name: String = name.chars().take(NAME_LEN_MAX).collect();
    bad(format!("there is no parameter {name:?}: this address takes {known}"))
}

/// A time: Unix ms, or as RFC 3339 writes it.
pub(crate) fn time_of(value: &str) -> Option<UnixMs> {
    if let Ok(ms) = value.parse() {
        return Some(UnixMs(ms));
    }
    let time: jiff::Timestamp = value.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(UnixMs)
}

pub(crate) fn position(name: &str, value: &str) -> Result<Position, Fault> {
    value.parse().map_err(|_| bad(format!("{name} is a position: epoch:seq")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_or_rfc_3339() {
        assert_eq!(time_of("1634567890123"), Some(UnixMs(1_634_567_890_123)));
        assert_eq!(time_of("1970-01-01T00:00:01.5Z"), Some(UnixMs(1_500)));
        assert_eq!(time_of("1970-01-01T02:00:00+02:00"), Some(UnixMs(0)));
        for wrong in ["", "-1", "yesterday", "1969-12-31T23:59:59Z", "2026-01-01T00:00:00"] {
            assert_eq!(time_of(wrong), None, "{wrong}");
        }
    }
}
