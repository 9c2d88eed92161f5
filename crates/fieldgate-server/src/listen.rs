//! Taking connections: permits before anything is read, TLS, HTTP, and the loop over all of it.
//!
//! Bounded in connections of one address and in sockets that have not authenticated; a head that
//! does not come in time ends the connection.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::{
    fabric::Shared,
    http::{self, Admitted},
    idle::{Phase, Watched},
    tls::TlsConfig,
};

/// While draining, a connection without a request may ask why for so long.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// Pause after a failed accept: the system is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener answers: everything, `/metrics` alone, deCONZ apps, or their push socket alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Everything,
    Metrics,
    Deconz,
    Push,
}

/// Takes connections until told to stop.
pub(crate) async fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<Arc<TlsConfig>>,
    purpose: Purpose,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(serve(stream, peer, shared, tls, purpose, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<Arc<TlsConfig>>,
    purpose: Purpose,
    stop: CancellationToken,
) {
    let handshake = Duration::from_millis(shared.config.limits.handshake_ms);
    let proxied = shared.proxies.contains(peer.ip());
    let admitted = match shared.throttle.enter((!proxied).then(|| peer.ip())) {
        Ok(permit) => Admitted::Yes(permit),
        Err(why) => match shared.throttle.refuse() {
            Some(_refusal) => Admitted::No { why, _refusal },
            None => return,
        },
    };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let silence_ms = u32::try_from(shared.config.heartbeat.silence_ms).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, silence_ms) {
        tracing::debug!(%error, "no TCP_USER_TIMEOUT");
    }
    let phase = Phase::new();
    let caller = http::Caller::new(shared, peer.ip(), admitted, purpose, Arc::clone(&phase));
    match tls {
        None => serve_http(Watched { stream, phase }, caller, &stop).await,
        Some(tls) => {
            let acceptor = tls.acceptor();
            match tokio::time::timeout(handshake, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => serve_http(Watched { stream, phase }, caller, &stop).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            }
        }
    }
}

async fn serve_http<S>(stream: Watched<S>, caller: http::Caller, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (phase, shared) = (Arc::clone(&stream.phase), Arc::clone(caller.shared()));
    let routes = http::router(caller.clone());
    let service = service_fn(move |request| http::answer(caller.clone(), routes.clone(), request));
    let mut connection = pin!(
        http1::Builder::new()
            // Whoever watches the phase does it, for a connection at rest too.
            .header_read_timeout(None)
            .max_buf_size(64 * 1024)
            .max_headers(100)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let mut draining = false;
    loop {
        let limits = &shared.config.limits;
        let head = Duration::from_millis(limits.handshake_ms);
        let end = phase.end(head, Duration::from_millis(limits.idle_http_ms));
        if end <= Instant::now() {
            tracing::debug!("an HTTP connection took too long");
            return;
        }
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN_WAIT).await;
        };
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "HTTP connection ended");
                }
                return;
            }
            () = tokio::time::sleep_until(end.into()) => (),
            () = drained, if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Binds an address; port 0 takes a free one.
pub(crate) async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}
