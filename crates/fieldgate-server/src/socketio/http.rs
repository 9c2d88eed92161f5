//! `/socket.io/`: sessions are opened here, polled, posted to, and gone over to a WebSocket.
//!
//! In: requests. Out: bodies of packets, and links. What a request has to be, and what it is told where it
//! is not, is Engine.IO's: its clients read `code` and `message`. Invariant: an id names a session to
//! whoever was told it, and to nobody else; it is random and long.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fieldgate_core::{admission::NoPlace, close::CloseReason, fault::Code};
use fieldgate_dialects::{
    socketio::{
        Carried, Encoding, Engine, decoded_again, is_of_first_generation, read_payload,
        write_payload,
    },
    wire::Form,
    ws::{self, Decoder, Event, Limits, Opcode},
};
use fieldgate_store::secret::random_text;
use serde_json::json;

use super::{Handshake, aside};
use crate::{
    fabric::Shared,
    http::{Caller, Joining, Offer, Problem, refuse},
    rest::query::parameters,
    sink::{Exchange, Polled, Probe, Sink},
    throttle::Permit,
    worker::{Control, Handover},
};

/// Signs of a session's id, and of those of its namespaces.
pub(super) const SID_LEN: usize = 22;

/// Sessions that polling requests may name.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    exchanges: HashMap<Arc<str>, Weak<Exchange>>,
    sweep_at: usize,
}

impl Sessions {
    fn enter(&self, sid: &Arc<str>, exchange: &Arc<Exchange>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.exchanges.len() >= known.sweep_at.max(1_024) {
            known.exchanges.retain(|_, exchange| exchange.strong_count() > 0);
            known.sweep_at = known.exchanges.len() * 2;
        }
        known.exchanges.insert(Arc::clone(sid), Arc::downgrade(exchange));
    }

    fn find(&self, sid: &str) -> Option<Arc<Exchange>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.exchanges.get(sid).and_then(Weak::upgrade)
    }
}

/// Whether a path is served here.
pub(crate) fn is_ours(path: &str) -> bool {
    path.strip_prefix("/socket.io").is_some_and(|rest| rest.is_empty() || rest == "/")
}

/// What is wrong with a request, in Engine.IO's numbers.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Transport = 0,
    Session = 1,
    Method = 2,
    Request = 3,
    Version = 5,
}

impl Wrong {
    const fn message(self) -> &'static str {
        match self {
            Self::Transport => "Transport unknown",
            Self::Session => "Session ID unknown",
            Self::Method => "Bad handshake method",
            Self::Request => "Bad request",
            Self::Version => "Unsupported protocol version",
        }
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        told(StatusCode::BAD_REQUEST, self as u8, self.message())
    }
}

/// A refusal that is not of the protocol, as its clients read one.
fn in_its_words(problem: Problem) -> Response {
    let (status, fault) = problem.into_parts();
    told(status, Wrong::Request as u8, &fault.message)
}

fn told(status: StatusCode, code: u8, message: &str) -> Response {
    (status, axum::Json(json!({"code": code, "message": message}))).into_response()
}

/// What an address says.
#[derive(Debug)]
struct Asked {
    engine: Engine,
    is_websocket: bool,
    sid: Option<String>,
    /// Whether bytes may be answered as such, not in base64.
    takes_bytes: bool,
}

impl Asked {
    fn read(uri: &Uri) -> Result<Self, Wrong> {
        let mut asked = HashMap::new();
        for (name, value) in parameters(uri).map_err(|_| Wrong::Request)? {
            asked.entry(name).or_insert(value);
        }
        let engine = asked.get("EIO").and_then(|word| Engine::of_word(word));
        let engine = engine.ok_or(Wrong::Version)?;
        let is_websocket = match asked.get("transport").map(String::as_str) {
            Some("websocket") => true,
            // Scripts that call a function (JSONP) are not served.
            Some("polling") if !asked.contains_key("j") => false,
            _ => return Err(Wrong::Transport),
        };
        let takes_bytes = !asked.contains_key("b64");
        Ok(Self { engine, is_websocket, sid: asked.remove("sid"), takes_bytes })
    }
}

/// Answers a request.
pub(crate) async fn answer(caller: &Caller, request: Request) -> Response {
    let asked_with = request.headers().clone();
    let mut response = match Asked::read(request.uri()) {
        Ok(asked) if asked.is_websocket => {
            websocket(caller, request, asked).unwrap_or_else(in_its_words)
        }
        Ok(asked) => polling(caller, request, asked).await,
        Err(wrong) => wrong.into_response(),
    };
    allow_origin(&asked_with, &mut response);
    response
}

/// Lets a page of any origin read an answer. Clients of the older versions ask with cookies, of which
/// there are none here, and take no other permission.
pub(crate) fn allow_origin(asked_with: &HeaderMap, response: &mut Response) {
    let Some(origin) = asked_with.get(header::ORIGIN) else { return };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    let yes = HeaderValue::from_static("true");
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
}

fn handshake(engine: Engine, sid: &Arc<str>, headers: &HeaderMap, uri: &Uri) -> Box<Handshake> {
    let bearer = Caller::token(headers, uri).map(Into::into);
    Box::new(Handshake { engine, sid: Arc::clone(sid), bearer })
}

fn websocket(caller: &Caller, request: Request, asked: Asked) -> Result<Response, Problem> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Ok(Wrong::Request.into_response());
    }
    let offer = match Offer::of(caller, &request)? {
        Ok(offer) => offer,
        Err(refused) => return Ok(refused),
    };
    let Some(sid) = asked.sid else {
        let sid = random_sid()?;
        let session = handshake(asked.engine, &sid, request.headers(), request.uri());
        let joining = Joining {
            form: Form::Session,
            subprotocol: None,
            principal: None,
            stream: None,
            session: Some(session),
        };
        return offer.take(caller, request, joining);
    };
    let shared = Arc::clone(caller.shared());
    let Some(exchange) = shared.sessions.find(&sid) else {
        return Ok(Wrong::Session.into_response());
    };
    let Some(link) = exchange.link.get().copied() else {
        return Ok(Wrong::Session.into_response());
    };
    let tried = match exchange.begin_probe() {
        Probe::Begun => Some(Trying(exchange)),
        Probe::Taken => None,
        Probe::Ended => return Ok(Wrong::Session.into_response()),
    };
    offer.take_over(caller, request, move |sink, read_ahead, permit| {
        // Nobody who waits for the answer has sent anything by now.
        if read_ahead.is_empty() {
            let probing = Probing { tried, permit };
            shared.tell(link, Control::Upgrade { link: link.link, sink, probing });
        }
    })
}

/// A socket that asks for a session. It has a place of its own until it has gone over or is gone.
#[derive(Debug)]
pub(crate) struct Probing {
    /// Nothing if the session has another one: this one is turned away.
    pub(super) tried: Option<Trying>,
    pub(super) permit: Permit,
}

/// Another transport is tried for a session, until this is dropped.
#[derive(Debug)]
pub(super) struct Trying(Arc<Exchange>);

impl Drop for Trying {
    fn drop(&mut self) {
        self.0.end_probe();
    }
}

fn random_sid() -> Result<Arc<str>, Problem> {
    random_text(SID_LEN).map(Into::into).map_err(|error| {
        tracing::error!(%error, "no random numbers");
        refuse(Code::Busy, "no session could be made")
    })
}

async fn polling(caller: &Caller, request: Request, asked: Asked) -> Response {
    let shared = caller.shared();
    match (request.method(), &asked.sid) {
        (&Method::GET, Some(sid)) => match shared.sessions.find(sid) {
            Some(exchange) => poll(caller, &exchange, &asked).await,
            None => Wrong::Session.into_response(),
        },
        (&Method::POST, Some(sid)) => match shared.sessions.find(sid) {
            Some(exchange) => post(caller, &exchange, &asked, request).await,
            None => Wrong::Session.into_response(),
        },
        (&Method::GET, None) => match begin(caller, &request, &asked) {
            Ok(exchange) => poll(caller, &exchange, &asked).await,
            Err(problem) => in_its_words(problem),
        },
        _ => Wrong::Method.into_response(),
    }
}

/// Begins a session whose requests this is the first of.
fn begin(caller: &Caller, request: &Request, asked: &Asked) -> Result<Arc<Exchange>, Problem> {
    let shared = caller.shared();
    let client = caller.client(request.extensions());
    if shared.draining.load(Ordering::SeqCst) {
        return Err(refuse(Code::Busy, "the gateway is draining"));
    }
    let permit = shared.throttle.enter(Some(client)).map_err(|why| match why {
        NoPlace::Address => {
            refuse(Code::RateLimited, "limits.connections_per_address_max is reached")
        }
        NoPlace::Unauthenticated => refuse(Code::Busy, "limits.unauthenticated_max is reached"),
        NoPlace::Connections => refuse(Code::Busy, "limits.connections_max is reached"),
    })?;
    let silence = Duration::from_millis(shared.config.heartbeat.silence_ms);
    let (sid, exchange) = (random_sid()?, Arc::new(Exchange::new(silence)));
    shared.sessions.enter(&sid, &exchange);
    let session = handshake(asked.engine, &sid, request.headers(), request.uri());
    if session.bearer.is_some() {
        exchange.note_shown();
    }
    shared.hand_over(Handover {
        sink: Sink::Polling(Arc::clone(&exchange)),
        read_ahead: Bytes::new(),
        form: Form::Session,
        principal: None,
        peer: client,
        permit,
        stream: None,
        session: Some(session),
    });
    Ok(exchange)
}

async fn poll(caller: &Caller, exchange: &Exchange, asked: &Asked) -> Response {
    let polled = {
        // It waits for a message, not for its client: the session has deadlines of its own.
        let _waits = caller.phase().stream();
        exchange.poll(|| caller.authenticate()).await
    };
    let packets = match polled {
        Polled::Frames(frames) => packets_of(frames),
        Polled::Nothing => vec![Carried::Text("6".into())],
        Polled::Ended => return Wrong::Session.into_response(),
        Polled::Twice => {
            end(caller.shared(), exchange);
            return Wrong::Request.into_response();
        }
    };
    let (encoding, body) = write_payload(asked.engine, asked.takes_bytes, &packets);
    let content = match encoding {
        Encoding::Text => "text/plain; charset=UTF-8",
        Encoding::Bytes => "application/octet-stream",
    };
    ([(header::CONTENT_TYPE, content), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// Ends a session whose client broke the protocol.
fn end(shared: &Shared, exchange: &Exchange) {
    if let Some(link) = exchange.link.get().copied() {
        shared.tell(link, Control::Kick(link.link, CloseReason::ProtocolError));
    }
}

/// As [`end`], and nothing is told to it any more: what a later request asks for is no session.
fn break_off(shared: &Shared, exchange: &Exchange) {
    end(shared, exchange);
    exchange.leave();
}

/// Whether it begins as packets do; what it says is its link's to look at.
fn is_packet(asked: &Asked, packet: &Carried<'_>) -> bool {
    match packet {
        Carried::Text(text) => asked.engine.read_text(text).is_ok(),
        Carried::Binary(bytes) => asked.engine.read_binary(bytes).is_ok(),
    }
}

/// What stands in a text of a client that encodes twice. What it asks to join tells whether it does:
/// before that it sends nothing that could differ.
fn decoded(asked: &Asked, exchange: &Exchange, text: &str) -> Option<String> {
    if asked.engine == Engine::V3 && is_of_first_generation(text) {
        exchange.encodes_twice.store(true, Ordering::Relaxed);
    }
    let twice = exchange.encodes_twice.load(Ordering::Relaxed);
    twice.then(|| decoded_again(text)).flatten()
}

/// The packets that frames of a link are.
fn packets_of(mut frames: Vec<u8>) -> Vec<Carried<'static>> {
    let all = usize::MAX;
    let limits = Limits { frame_bytes_max: all, message_bytes_max: all, fragment_count_max: 1 };
    let mut packets = Vec::new();
    let fed = Decoder::client(limits).feed(&mut frames, &mut |event| {
        packets.extend(match event {
            Event::Text(text) => Some(Carried::Text(text.to_owned().into())),
            Event::Binary(bytes) => Some(Carried::Binary(bytes.to_vec().into())),
            Event::Close { .. } => Some(Carried::Text("1".into())),
            // They are for whoever has a socket.
            Event::Ping(_) | Event::Pong(_) => None,
        });
        ControlFlow::Continue(())
    });
    if fed.is_err() {
        tracing::error!("a link wrote what are no frames");
    }
    packets
}

async fn post(caller: &Caller, exchange: &Exchange, asked: &Asked, request: Request) -> Response {
    let shared = caller.shared();
    if exchange.is_known() {
        caller.authenticate();
    }
    if !exchange.is_open() {
        return Wrong::Session.into_response();
    }
    let Some(_post) = exchange.begin_post() else {
        // Nobody could tell in which order they are meant.
        end(shared, exchange);
        return Wrong::Request.into_response();
    };
    take_body(shared, exchange, asked, request).await
}

/// How long a body may be, and what a longer one is told.
fn body_max(shared: &Shared, exchange: &Exchange) -> (usize, &'static str) {
    let limits = &shared.config.limits;
    let first_max = limits.unauthenticated_frame_bytes_max;
    if exchange.is_known() {
        let text = "the body is above limits.frame_bytes_max, or took too long";
        (limits.frame_bytes_max, text)
    } else if exchange.has_shown() {
        // What waits for another system to decide lies aside, as far as that. Clients of the older version
        // put all together that they have.
        let text = "the body is above 64 KiB before anybody decided, or took too long";
        (aside::BYTES_MAX.max(first_max).min(limits.frame_bytes_max), text)
    } else {
        let text = "the body is above limits.unauthenticated_frame_bytes_max, or took too long";
        (first_max.min(limits.frame_bytes_max), text)
    }
}

async fn take_body(
    shared: &Shared,
    exchange: &Exchange,
    asked: &Asked,
    request: Request,
) -> Response {
    let limits = &shared.config.limits;
    let content = request.headers().get(header::CONTENT_TYPE).cloned();
    let is_bytes = content.is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet"));
    let encoding = if is_bytes { Encoding::Bytes } else { Encoding::Text };
    let wait = Duration::from_millis(limits.handshake_ms);
    let (bytes_max, text) = body_max(shared, exchange);
    let read = to_bytes(request.into_body(), bytes_max);
    let Ok(Ok(body)) = tokio::time::timeout(wait, read).await else {
        break_off(shared, exchange);
        return told(StatusCode::PAYLOAD_TOO_LARGE, 3, text);
    };
    let read = read_payload(asked.engine, encoding, &body);
    let Some(packets) = read.ok().filter(|packets| packets.iter().all(|p| is_packet(asked, p)))
    else {
        break_off(shared, exchange);
        return Wrong::Request.into_response();
    };
    let mut frames = Vec::with_capacity(body.len() + 16 * packets.len());
    for packet in &packets {
        frames.extend(match packet {
            Carried::Text(text) => {
                let again = decoded(asked, exchange, text);
                let text = again.as_deref().unwrap_or(text);
                ws::frame_masked(Opcode::Text, text.as_bytes(), [0; 4])
            }
            Carried::Binary(data) => ws::frame_masked(Opcode::Binary, data, [0; 4]),
        });
    }
    if !exchange.post(&frames).await {
        return Wrong::Session.into_response();
    }
    ([(header::CONTENT_TYPE, "text/html")], Body::from("ok")).into_response()
}
