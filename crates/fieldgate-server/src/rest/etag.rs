//! Revisions as entity tags (RFC 9110, 8.8.3 and 13.1).

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use fieldgate_core::fault::{Code, Fault};

use super::asker::bad;
use crate::http::Problem;

/// The tag of a revision.
pub(super) fn tag(revision: u64) -> (HeaderName, HeaderValue) {
    // Digits from the last to the first, between quotes.
    let (mut text, mut at, mut rest) = ([b'"'; 22], 21, revision);
    loop {
        at -= 1;
        if let (Some(place), Ok(digit)) = (text.get_mut(at), u8::try_from(rest % 10)) {
            *place = b'0' + digit;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let tag = HeaderValue::from_bytes(text.get(at - 1..).unwrap_or_default());
    (header::ETAG, tag.unwrap_or(HeaderValue::from_static("\"\"")))
}

/// What revision a change expects: that of `If-Match`, or none yet with `If-None-Match: *`. `None`: the
/// change comes whatever is there.
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let wrong = || bad("If-Match is one tag as ETag told it, and If-None-Match is *");
    let text =
        |name| headers.get(name).map(|value: &HeaderValue| value.to_str().map_err(|_| wrong()));
    match (text(header::IF_MATCH).transpose()?, text(header::IF_NONE_MATCH).transpose()?) {
        (None, None) => Ok(None),
        (None, Some("*")) => Ok(Some(0)),
        (Some(tag), None) => {
            let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            revision.and_then(|revision| revision.parse().ok()).map(Some).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// A change that was refused: 412 if what is there (`now`; 0: nothing) is not what was expected.
pub(super) fn refused(fault: Fault, expected: Option<u64>, now: u64) -> Problem {
    let has_changed = expected.is_some_and(|expected| expected != now);
    if has_changed && fault.code == Code::Conflict {
        return Problem::new(StatusCode::PRECONDITION_FAILED, fault);
    }
    fault.into()
}

/// The revision that whoever asks has already: `If-None-Match`.
#[derive(Debug)]
pub(super) struct Known(Option<HeaderValue>);

impl<S: Sync> FromRequestParts<S> for Known {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.get(header::IF_NONE_MATCH).cloned()))
    }
}

impl Known {
    /// 304 if this revision is known, else the whole of it.
    pub(super) fn or_whole(
        &self,
        revision: u64,
        whole: impl FnOnce() -> Result<Response, Problem>,
    ) -> Result<Response, Problem> {
        let (name, tag) = tag(revision);
        if self.0.as_ref() == Some(&tag) {
            return Ok((StatusCode::NOT_MODIFIED, [(name, tag)]).into_response());
        }
        whole()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_tag_comes_back_as_the_revision_it_stands_for() {
        let (name, value) = tag(7);
        assert_eq!((name, value.to_str().unwrap()), (header::ETAG, "\"7\""));
        for revision in [0, 9, 10, u64::MAX] {
            assert_eq!(tag(revision).1, *format!("\"{revision}\""));
        }
        assert_eq!(expected(&headers(&[])), Ok(None));
        assert_eq!(expected(&headers(&[(header::IF_MATCH, "\"7\"")])), Ok(Some(7)));
        assert_eq!(expected(&headers(&[(header::IF_NONE_MATCH, "*")])), Ok(Some(0)));
        for wrong in ["7", "\"\"", "\"x\"", "W/\"7\"", "*", "\"7\", \"8\""] {
            assert!(expected(&headers(&[(header::IF_MATCH, wrong)])).is_err(), "{wrong}");
        }
        let known = Known(Some(HeaderValue::from_static("\"7\"")));
        let status = |known: &Known, revision| {
            known.or_whole(revision, || Ok(StatusCode::OK.into_response())).unwrap().status()
        };
        assert_eq!(status(&known, 7), StatusCode::NOT_MODIFIED);
        assert_eq!(status(&known, 8), StatusCode::OK);
        assert_eq!(status(&Known(None), 7), StatusCode::OK);
    }
}
