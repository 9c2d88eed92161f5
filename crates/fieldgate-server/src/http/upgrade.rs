//! From a request to a WebSocket: what has to be in the one, and the way of its socket to the other.
//!
//! In: a request that asks for it, and who joins how. Out: the answer, and behind it a link of a worker.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fieldgate_core::{
    access::Principal,
    fault::{Code, Fault},
};
use fieldgate_dialects::{wire::Form, ws};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{Caller, Problem, refuse, text};
use crate::{
    idle::Watched, sink::Sink, socketio::Handshake, subscriptions::StreamAsk, throttle::Permit,
    worker::Handover,
};

/// A request that may become a WebSocket.
#[derive(Debug)]
pub(crate) struct Offer {
    accept: String,
    /// Whose it is, behind a proxy too.
    pub(crate) client: IpAddr,
}

/// Who joins, and how.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) form: Form,
    pub(crate) subprotocol: Option<&'static str>,
    /// Without one, its first frame has to say.
    pub(crate) principal: Option<Principal>,
    /// What it follows from the beginning on.
    pub(crate) stream: Option<Box<StreamAsk>>,
    /// Of Socket.IO: what its session is.
    pub(crate) session: Option<Box<Handshake>>,
}

impl Offer {
    /// Reads what a request offers; else the answer to one that is no upgrade.
    ///
    /// # Errors
    ///
    /// The gateway takes no new connection.
    pub(crate) fn of(
        caller: &Caller,
        request: &Request,
    ) -> Result<Result<Self, Response>, Problem> {
        let headers = request.headers();
        let connection = all(headers, "connection");
        let checked = ws::check_upgrade(&ws::UpgradeHeaders {
            method: request.method().as_str(),
            http11: request.version() == Version::HTTP_11,
            host: text(headers, "host"),
            upgrade: text(headers, "upgrade"),
            connection: connection.as_deref(),
            key: text(headers, "sec-websocket-key"),
            version: text(headers, "sec-websocket-version"),
        });
        let accept = match checked {
            Ok(accept) => accept,
            Err(error) => return Ok(Err(not_an_upgrade(error))),
        };
        if caller.shared().draining.load(Ordering::SeqCst) {
            return Err(refuse(Code::Busy, "the gateway is draining"));
        }
        Ok(Ok(Self { accept, client: caller.client(request.extensions()) }))
    }

    /// Takes the offer: the answer, behind which the socket goes to a worker.
    ///
    /// # Errors
    ///
    /// There is no place for it.
    pub(crate) fn take(
        self,
        caller: &Caller,
        request: Request,
        joining: Joining,
    ) -> Result<Response, Problem> {
        let Joining { form, subprotocol, principal, stream, session } = joining;
        let (peer, permit) = (self.client, caller.take_place(self.client)?);
        let shared = Arc::clone(caller.shared());
        let mut response = self.accept(request, move |sink, read_ahead| {
            shared.hand_over(Handover {
                sink,
                read_ahead,
                form,
                principal,
                peer,
                permit,
                stream,
                session,
            });
        });
        if let Some(name) = subprotocol {
            let name = HeaderValue::from_static(name);
            response.headers_mut().insert("sec-websocket-protocol", name);
        }
        Ok(response)
    }

    /// Takes the offer for a connection that has a place already: `then` gets the one of this socket,
    /// too.
    ///
    /// # Errors
    ///
    /// There is no place for it.
    pub(crate) fn take_over(
        self,
        caller: &Caller,
        request: Request,
        then: impl FnOnce(Sink, Bytes, Permit) + Send + 'static,
    ) -> Result<Response, Problem> {
        let permit = caller.take_place(self.client)?;
        Ok(self.accept(request, move |sink, read_ahead| then(sink, read_ahead, permit)))
    }

    fn accept(
        self,
        mut request: Request,
        then: impl FnOnce(Sink, Bytes) + Send + 'static,
    ) -> Response {
        let on_upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            match on_upgrade.await.map(take_back) {
                Ok(Ok((sink, read_ahead))) => then(sink, read_ahead),
                Ok(Err(error)) => tracing::warn!(%error, "an upgraded socket was lost"),
                Err(error) => tracing::debug!(%error, "upgrade failed"),
            }
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::UPGRADE, "websocket")
            .header(header::CONNECTION, "Upgrade")
            .header("sec-websocket-accept", self.accept)
            .body(Body::empty())
            .unwrap_or_default()
    }
}

/// A header that may stand in several lines.
pub(super) fn all(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    Some(values.collect::<Vec<_>>().join(",")).filter(|joined| !joined.is_empty())
}

fn not_an_upgrade(error: ws::HandshakeError) -> Response {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    let fault = Fault::new(Code::BadValue, error.to_string());
    let mut response = Problem::new(status, fault).into_response();
    if status == StatusCode::UPGRADE_REQUIRED {
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    }
    response
}

/// The socket behind an upgrade, with its TLS session, and the bytes that were read beyond it.
fn take_back(upgraded: hyper::upgrade::Upgraded) -> std::io::Result<(Sink, Bytes)> {
    let upgraded = match upgraded.downcast::<TokioIo<Watched<TcpStream>>>() {
        Ok(plain) => {
            return Ok((Sink::Tcp(plain.io.into_inner().stream.into_std()?), plain.read_buf));
        }
        Err(upgraded) => upgraded,
    };
    let tls = upgraded
        .downcast::<TokioIo<Watched<TlsStream<TcpStream>>>>()
        .map_err(|_| std::io::Error::other("neither a plain nor a TLS socket"))?;
    let (stream, session) = tls.io.into_inner().stream.into_inner();
    Ok((Sink::Tls(stream.into_std()?, Box::new(session)), tls.read_buf))
}
