//! `GET /v1/stream`: what is routed, as server-sent events.
//!
//! In: a request. Out: a link of a worker whose socket is the body of the answer. Absent: delivery,
//! which is that of every link; the form of events, which is a dialect's.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Extension,
    body::Body,
    http::{HeaderMap, HeaderValue, Uri, header},
    response::Response,
};
use bytes::Bytes;
use fieldgate_core::{
    dialect::{Since, SlowMode, Subscribe},
    fault::{Code, Fault},
    message::Qos,
    topic::InvalidTopic,
};
use fieldgate_dialects::wire::Form;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Problems,
    asker::{Asker, Entrance, Opener},
    query::{bad, once, parameters, position, time_of, unknown},
};
use crate::{
    http::{Problem, refuse},
    sink::{Sink, pipe},
    subscriptions::{self, StreamAsk},
    worker::Handover,
};

const KNOWN: &str = "topic, since, after, qos and mode";

pub(super) fn router() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(stream))
}

/// The parameters of a stream, for the description.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "described, not read: `read` refuses with better words")]
struct StreamParams {
    /// A filter, such as `devices/+/telemetry`; may be repeated.
    #[param(style = Form, explode)]
    topic: Vec<String>,
    /// History first: `all`, or an arrival time in Unix ms or RFC 3339.
    since: Option<String>,
    /// History first: what is behind this position. The header `Last-Event-ID` counts more.
    after: Option<String>,
    /// 1: nothing is left out for a slow reader; 0: `mode` decides about it.
    #[param(minimum = 0, maximum = 1, default = 1)]
    qos: Option<u8>,
    /// At `qos=0`: `latest`, `drop-oldest` or `disconnect`.
    mode: Option<String>,
    /// In place of another credential: what `POST /v1/tickets` made.
    ticket: Option<String>,
}

/// What is routed, as server-sent events: `message`, `gap`, `caught_up`, `reconnect`, `close`.
#[utoipa::path(get, path = "/v1/stream", tag = "messages",
    operation_id = "streamMessages", params(StreamParams),
    responses((status = 200, description = "Events, until either side ends it.",
        content_type = "text/event-stream", body = String), Problems))]
async fn stream(
    Opener(asker): Opener,
    Extension(entrance): Extension<Entrance>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let Entrance::Listener(caller, peer) = entrance else {
        return Err(refuse(Code::NotAllowed, "a stream is read from a listener"));
    };
    let Asker { shared, principal, .. } = asker;
    if shared.draining.load(Ordering::SeqCst) {
        return Err(refuse(Code::Busy, "the gateway is draining"));
    }
    let ask = read(&uri, &headers)?;
    for (nth, subscribe) in ask.subscribes.iter().enumerate() {
        subscriptions::check(&shared, &principal, subscribe, nth)?;
    }
    let mut permit = caller.take_place(peer)?;
    if permit.authenticate(false).is_err() {
        caller.put_back(permit);
        return Err(refuse(Code::Busy, "limits.connections_max is reached"));
    }
    let (pipe, body) = pipe(caller.phase().stream());
    shared.hand_over(Handover {
        sink: Sink::Pipe(pipe),
        read_ahead: Bytes::new(),
        form: Form::Events,
        principal: Some(Arc::unwrap_or_clone(principal)),
        peer,
        permit,
        stream: Some(Box::new(ask)),
        session: None,
    });
    let mut response = Response::new(Body::new(body));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        // Its place is the stream's, and ends with it.
        (header::CONNECTION, "close"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Reads what is asked for off the address, and where it goes on off `Last-Event-ID`.
fn read(uri: &Uri, headers: &HeaderMap) -> Result<StreamAsk, Fault> {
    let (mut filters, mut since, mut after) = (BTreeSet::new(), None, None);
    let (mut qos, mut slow) = (None, None);
    for (name, value) in parameters(uri)? {
        match name.as_str() {
            "topic" => {
                let wrong = |error: InvalidTopic| Fault::new(Code::BadTopic, error.to_string());
                filters.insert(value.parse().map_err(wrong)?);
            }
            "since" => once(&mut since, &name, beginning(&value)?)?,
            "after" => once(&mut after, &name, Since::After(position(&name, &value)?))?,
            "qos" => once(&mut qos, &name, promise(&value)?)?,
            "mode" => {
                let mode = SlowMode::of_word(&value)
                    .ok_or_else(|| bad("mode is one of latest, drop-oldest and disconnect"))?;
                once(&mut slow, &name, mode)?;
            }
            // It told who asks.
            "ticket" => (),
            _ => return Err(unknown(&name, KNOWN)),
        }
    }
    if filters.is_empty() {
        let text = "topic is missing: name one or more filters, such as devices/+/telemetry";
        return Err(Fault::new(Code::MissingField, text));
    }
    if since.is_some() && after.is_some() {
        return Err(bad("since and after exclude each other: give one of them"));
    }
    let qos = qos.unwrap_or(Qos::AtLeastOnce);
    if slow.is_some() && qos > Qos::AtMostOnce {
        return Err(bad("mode exists at qos 0 only: add qos=0"));
    }
    let since = last_event_id(headers)?.or(after).or(since);
    let subscribe = |filter| Subscribe { filter, qos, since: None, slow, rate_max: None };
    let subscribes = filters.into_iter().map(subscribe).collect();
    Ok(StreamAsk { subscribes, since, following: None })
}

/// Where a reader is that comes back: newer than what its address says. Before the first event it
/// has none, or an empty one.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Since>, Fault> {
    const NAME: &str = "last-event-id";
    let Some(value) = headers.get(NAME).filter(|value| !value.is_empty()) else { return Ok(None) };
    let value = value.to_str().map_err(|_| bad("Last-Event-ID is a position: epoch:seq"))?;
    position("Last-Event-ID", value).map(|position| Some(Since::After(position)))
}

fn beginning(value: &str) -> Result<Since, Fault> {
    if value == "all" {
        return Ok(Since::All);
    }
    let time = time_of(value).map(Since::Time);
    time.ok_or_else(|| bad("since is all, or an arrival time: Unix ms or RFC 3339"))
}

fn promise(value: &str) -> Result<Qos, Fault> {
    match value {
        "0" => Ok(Qos::AtMostOnce),
        "1" => Ok(Qos::AtLeastOnce),
        _ => Err(bad("qos is 0 or 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str, id: Option<&str>) -> Result<StreamAsk, String> {
        let uri = format!("/v1/stream?{query}").parse().unwrap();
        let id = id.map(|id| ("last-event-id".parse().unwrap(), id.parse().unwrap()));
        let headers: HeaderMap = id.into_iter().collect();
        read(&uri, &headers).map_err(|fault| fault.message.into_owned())
    }

    #[test]
    fn where_a_reader_was_is_newer_than_what_its_address_says() {
        let after = |text: &str| Some(Since::After(text.parse().unwrap()));
        let since = |query, id| asked(query, id).unwrap().since;
        assert_eq!(since("topic=a", None), None);
        assert_eq!(since("topic=a&since=all", Some("")), Some(Since::All));
        assert_eq!(since("topic=a&since=all", Some("1:5")), after("1:5"));
        assert_eq!(since("topic=a&after=1:3", Some("1:5")), after("1:5"));
        assert_eq!(since("topic=a&after=1:3", None), after("1:3"));
    }

    #[test]
    fn a_topic_given_twice_is_one_subscription_and_the_credential_is_none_of_ours() {
        let ask = asked("topic=devices/%2B/telemetry&topic=a&topic=a&token=x", None).unwrap();
        let filters: Vec<_> = ask.subscribes.iter().map(|one| one.filter.as_str()).collect();
        assert_eq!(filters, ["a", "devices/+/telemetry"]);
        assert!(ask.subscribes.iter().all(|one| one.qos == Qos::AtLeastOnce));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_it_takes() {
        for (query, id, told) in [
            ("", None, "topic is missing"),
            ("topic=a/%23/b", None, "wildcards"),
            ("topic=a&since=now", None, "since is all, or"),
            ("topic=a&since=all&since=all", None, "since is given twice"),
            ("topic=a&since=all&after=1:2", None, "exclude each other"),
            ("topic=a&after=7", None, "after is a position"),
            ("topic=a", Some("x"), "Last-Event-ID is a position"),
            ("topic=a&qos=2", None, "qos is 0 or 1"),
            ("topic=a&mode=latest", None, "mode exists at qos 0 only"),
            ("topic=a&mode=best&qos=0", None, "mode is one of"),
            ("topic=a&topics=b", None, "there is no parameter \"topics\""),
        ] {
            let refused = asked(query, id).unwrap_err();
            assert!(refused.contains(told), "{query}: {refused}");
        }
    }
}
