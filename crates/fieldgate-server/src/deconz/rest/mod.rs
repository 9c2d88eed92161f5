//! REST below `/api`, as deCONZ has it (`wire.md` 2.2 to 2.6).
//!
//! Addresses are matched here, by hand: which part of one is wrong decides which error is told. Every
//! answer is JSON, an error too. Invariant: without a key that counts nothing is told but the name of the
//! gateway, and nothing is changed.

mod act;
mod config;
mod cors;
mod describe;
mod groups;
mod keys;
mod lights;
mod listing;
pub(super) mod reply;
mod scenes;
mod sensors;
mod visit;

use std::net::IpAddr;

use axum::{
    extract::Request,
    http::{HeaderMap, Method},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use fieldgate_dialects::deconz::Error;

pub(crate) use self::describe::{Examples, openapi, scene_called};
use self::{
    reply::Reply,
    visit::{Visit, no_method},
};
use super::Bridge;
use crate::{http::Caller, listen::Purpose, rest::body_of, status::readiness};

/// Most bytes of a body.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Answers a request on `listen.deconz`.
pub(super) async fn answer(caller: &Caller, client: IpAddr, request: Request) -> Response {
    if request.method() == Method::OPTIONS {
        return cors::preflight();
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_end_matches('/').to_owned();
    let Some(bridge) =
        caller.shared().bridge.as_ref().filter(|_| caller.purpose() == Purpose::Deconz)
    else {
        return reply::failure(no_method(parts.method.as_str(), &cors::behind_key(&path)));
    };
    let body = match body_of(caller.shared(), body, BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    if parts.method.is_safe() {
        bridge.caught_up().await;
    }
    let asked = Asked { method: parts.method, headers: parts.headers, body };
    let answered = match path.split('/').skip(1).collect::<Vec<_>>()[..] {
        ["api"] => keys::acquire(caller, client, bridge, &asked).await,
        ["api", "config"] if asked.method == Method::GET => {
            Ok(config::basic(caller.shared(), bridge))
        }
        ["api", key, ref rest @ ..] => below_key(caller, client, bridge, key, rest, &asked).await,
        _ => Err(no_method(asked.method.as_str(), &path)),
    };
    match answered {
        Ok(reply) => reply.respond(&asked.headers),
        Err(error) => reply::failure(error),
    }
}

/// A request, but for its address.
#[derive(Debug)]
struct Asked {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

/// What is below `/api/KEY`.
async fn below_key(
    caller: &Caller,
    client: IpAddr,
    bridge: &Bridge,
    key: &str,
    rest: &[&str],
    asked: &Asked,
) -> Result<Reply, Error> {
    let shared = caller.shared();
    let address = format!("/{}", rest.join("/"));
    let visit = match Visit::of(caller, client, bridge, &asked.headers, key, &address) {
        Ok(visit) => visit,
        Err(error) => {
            let may_know = shared.config.deconz.basic_config && rest == ["config"];
            if may_know && asked.method == Method::GET {
                return Ok(config::basic(shared, bridge));
            }
            caller.may_try(client).map_err(|_| Error::Busy(address.clone()))?;
            let _counted = caller.wrong(client);
            return Err(error);
        }
    };
    if readiness(shared).is_err() || bridge.view().is_none() {
        return Err(Error::NotConnected(address));
    }
    visit.note_seen();
    let body = &asked.body;
    match (asked.method.as_str(), rest) {
        ("GET", []) => config::everything(&visit).await,
        (_, ["config", rest @ ..]) => config::answer(&visit, asked, rest).await,
        (_, ["lights", rest @ ..]) => lights::answer(&visit, asked, rest).await,
        (_, ["sensors", rest @ ..]) => sensors::answer(&visit, asked, rest).await,
        (_, ["groups", group, "scenes", rest @ ..]) => {
            scenes::answer(&visit, asked.method.as_str(), group, rest, body).await
        }
        (_, ["groups", rest @ ..]) => groups::answer(&visit, asked, rest).await,
        // What there is nothing of here; apps ask for it all the same.
        ("GET", ["scenes" | "schedules" | "rules" | "resourcelinks" | "alarmsystems"]) => {
            Ok(Reply::empty())
        }
        (method, _) => Err(no_method(method, &address)),
    }
}
