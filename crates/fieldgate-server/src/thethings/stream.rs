//! `GET /v2/things/{token}`: what is written to a thing, as a stream of JSON documents (`wire.md` 1.3).
//!
//! In: a request. Out: a link of a worker whose socket is the body of the answer. Absent: delivery,
//! which is that of every link. Invariant: each chunk is one document, whole: clients parse chunk by
//! chunk; and one comes at least every `keepAlive` ms.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Uri, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use fieldgate_core::{
    dialect::Subscribe,
    fault::{Code, Fault},
    message::Qos,
    topic::{Filter, Topic},
};
use fieldgate_dialects::wire::Form;
use hyper::body::{Body as HttpBody, Frame};
use tokio::time::{Instant, Sleep};

use super::{
    answer::{Refusals, Refused, RefusedBody},
    asker::Thing,
    thing::ReadValue,
};
use crate::{
    rest::query::{once, parameters},
    sink::{PipeBody, Sink, pipe},
    subscriptions::{self, StreamAsk},
    worker::Handover,
};

/// How often something comes, in ms, unless the client says.
const KEEP_ALIVE_MS: u64 = 60_000;
const KEEP_ALIVE_MS_MIN: u64 = 1_000;
const KEEP_ALIVE_MS_MAX: u64 = 3_600_000;
/// What comes where nothing else does.
const NOTHING: &[u8] = b"{}";

/// Reads what is written to a thing, as it comes: first `{"status":"success","message":"subscribed"}`,
/// then arrays of `{key,value,datetime}`, and `{}` at least every `keepAlive` ms. Each is a chunk of
/// its own.
#[utoipa::path(get, path = "/v2/things/{token}", tag = "things", operation_id = "streamThing",
    params(("token" = String, Path), ("keepAlive" = Option<u64>, Query, minimum = 1000,
        maximum = 3_600_000, description = "In ms; 60000 unless named.")), security(()),
    responses(Refusals, (status = 200, description = "Documents, until either side ends it.",
            body = Vec<ReadValue>),
        (status = 401, description = "The token is nobody's.", body = RefusedBody)))]
pub(super) async fn open(thing: Thing, uri: Uri) -> Result<Response, Refused> {
    let keep_alive = keep_alive_of(&uri)?;
    let Thing { visitor, principal, device } = thing;
    let (caller, shared) = (&visitor.caller, Arc::clone(visitor.shared()));
    if shared.draining.load(Ordering::SeqCst) {
        return Err(Fault::new(Code::Busy, "the gateway is draining").into());
    }
    let subscribe = |leaf| Subscribe {
        filter: Filter::from(&Topic::of_device(&device, leaf)),
        qos: Qos::AtLeastOnce,
        since: None,
        slow: None,
        rate_max: None,
    };
    let subscribes = vec![subscribe("state/reported"), subscribe("telemetry")];
    for (nth, ask) in subscribes.iter().enumerate() {
        subscriptions::check(&shared, &principal, ask, nth)?;
    }
    let mut permit = caller.take_place(visitor.client)?;
    if permit.authenticate(false).is_err() {
        caller.put_back(permit);
        return Err(Fault::new(Code::Busy, "limits.connections_max is reached").into());
    }
    let (pipe, body) = pipe(caller.phase().stream());
    shared.hand_over(Handover {
        sink: Sink::Pipe(pipe),
        read_ahead: Bytes::new(),
        form: Form::Things,
        principal: Some(principal),
        peer: visitor.client,
        permit,
        stream: Some(Box::new(StreamAsk { subscribes, since: None, following: None })),
        session: None,
    });
    let mut response = Response::new(Body::new(Documents::new(body, keep_alive)));
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        // Its place is the stream's, and ends with it.
        (header::CONNECTION, "close"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// How long nothing may come at most.
fn keep_alive_of(uri: &Uri) -> Result<Duration, Fault> {
    let mut asked = None;
    for (name, value) in parameters(uri)?.into_iter().filter(|(name, _)| name == "keepAlive") {
        let ms = value.parse().ok();
        let ms = ms.filter(|ms| (KEEP_ALIVE_MS_MIN..=KEEP_ALIVE_MS_MAX).contains(ms));
        let text = format!("keepAlive is {KEEP_ALIVE_MS_MIN} to {KEEP_ALIVE_MS_MAX} ms");
        once(&mut asked, &name, ms.ok_or_else(|| Fault::new(Code::BadValue, text))?)?;
    }
    // A little earlier: who hears nothing for that long gives up.
    Ok(Duration::from_millis(asked.unwrap_or(KEEP_ALIVE_MS) / 10 * 9))
}

/// A body of documents: what a link writes with a line end behind each, cut there.
#[derive(Debug)]
struct Documents {
    inner: PipeBody,
    /// What was written and is not cut yet: less than one document and what the pipe holds.
    waiting: BytesMut,
    pause: Duration,
    idle: Pin<Box<Sleep>>,
}

impl Documents {
    fn new(inner: PipeBody, pause: Duration) -> Self {
        let idle = Box::pin(tokio::time::sleep(pause));
        Self { inner, waiting: BytesMut::new(), pause, idle }
    }

    fn cut(&mut self) -> Option<Bytes> {
        let end = self.waiting.iter().position(|byte| *byte == b'\n')?;
        let mut document = self.waiting.split_to(end + 1);
        document.truncate(end);
        Some(document.freeze())
    }

    fn tell(&mut self, document: Bytes) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.idle.as_mut().reset(Instant::now() + self.pause);
        Poll::Ready(Some(Ok(Frame::data(document))))
    }
}

impl HttpBody for Documents {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(document) = self.cut() {
                return self.tell(document);
            }
            match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.into_data().unwrap_or_default();
                    self.waiting.extend_from_slice(&bytes);
                }
                Poll::Ready(end) => return Poll::Ready(end),
                Poll::Pending => break,
            }
        }
        if self.idle.as_mut().poll(context).is_ready() {
            return self.tell(Bytes::from_static(NOTHING));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_comes_a_little_before_the_client_gives_up() {
        let pause = |query: &str| {
            let uri = format!("/v2/things/x{query}").parse().unwrap();
            keep_alive_of(&uri).map(|pause| pause.as_millis()).map_err(|fault| fault.code)
        };
        assert_eq!(pause(""), Ok(54_000));
        assert_eq!(pause("?keepAlive=1000&x=1"), Ok(900));
        for wrong in ["0", "999", "3600001", "x", "-1", "2000&keepAlive=2000"] {
            assert_eq!(pause(&format!("?keepAlive={wrong}")), Err(Code::BadValue), "{wrong}");
        }
    }
}
