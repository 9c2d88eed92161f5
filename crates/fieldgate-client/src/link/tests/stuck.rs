//! The link against a peer that takes nothing: it waits without a turn for nothing, and it ends.
//!
//! A socket in memory and a paused clock, which stands still while anything has something to do: a
//! link that never rests would never end, so the socket counts its turns and panics.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, interval, timeout},
};
use tokio_websockets::ClientBuilder;

use crate::{
    Backoff, BufferLimits, Link,
    buffer::{Done, Frame, Outbox},
    endpoint::{Credential, Endpoint, Socket, Trust},
    link::{CLOSE_WAIT, Habits, Parting, Runner},
    state::Shared,
    subscribe::{Phase, tests::tracked_of},
};

const REPEAT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(75);
const DRAIN: Duration = Duration::from_secs(20);
/// So many bytes are on the way before the socket takes no more.
const ROOM: usize = 64;
/// Far above what any of these tests needs.
const TURNS_MAX: usize = 1_000;

/// Counts how often it is read: once in each turn of the link.
struct Counted {
    inner: DuplexStream,
    turns: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let turns = self.turns.fetch_add(1, Ordering::Relaxed);
        assert!(turns < TURNS_MAX, "the link never rests");
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

struct Deaf {
    runner: Runner,
    socket: Socket,
    shared: Arc<Shared>,
    turns: Arc<AtomicUsize>,
    /// The other end: it never reads, but it says every 5 s that it lives.
    peer: JoinHandle<()>,
}

impl Deaf {
    fn new() -> Self {
        let (near, mut far) = duplex(ROOM);
        let turns = Arc::<AtomicUsize>::default();
        let socket = Counted { inner: near, turns: Arc::clone(&turns) };
        let socket = ClientBuilder::new().take_over(Box::new(socket) as _);
        let peer = tokio::spawn(async move {
            let mut every = interval(Duration::from_secs(5));
            while far.write_all(b"\x89\x00").await.is_ok() {
                every.tick().await;
            }
        });
        let outbox = Outbox::new(BufferLimits::default(), REPEAT);
        let shared = Arc::new(Shared::new(outbox, REPEAT, false));
        let habits = Habits {
            backoff: Backoff::default(),
            ping: Duration::from_secs(25),
            silence: SILENCE,
            drain: DRAIN,
        };
        let trust = Trust::System;
        let endpoint = Endpoint::new("ws://x", Credential::default(), &trust, REPEAT).unwrap();
        let (link, _) = watch::channel(Link::Connecting);
        let runner = Runner::new(Arc::clone(&shared), endpoint, habits, link);
        Self { runner, socket, shared, turns, peer }
    }

    /// Two messages, of which each alone is more than the socket takes.
    fn say(&self) {
        for msgid in ["1", "2"] {
            let frame = Frame::text("x".repeat(10 * ROOM));
            let (done, _): (Done, _) = oneshot::channel();
            self.shared.lock().outbox.push(frame, Some(msgid.to_owned()), done).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_costs_no_turn_for_nothing() {
    let Deaf { mut runner, socket, turns, peer, .. } = {
        let deaf = Deaf::new();
        deaf.say();
        deaf
    };
    let minute = Duration::from_secs(60);
    assert!(timeout(minute, runner.serve(socket)).await.is_err(), "it is within its time");
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns < 60, "{turns} turns, with twelve frames of the peer and two pings");
    peer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_for_too_long_is_lost_though_it_speaks() {
    let deaf = Deaf::new();
    deaf.say();
    let Deaf { mut runner, socket, peer, .. } = deaf;
    let begun = Instant::now();
    let parting = timeout(2 * SILENCE, runner.serve(socket)).await.expect("it still waits");
    assert!(matches!(parting, Parting::Lost(_)));
    assert!(begun.elapsed() >= SILENCE && begun.elapsed() < SILENCE + REPEAT);
    peer.abort();
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_in_its_time_though_the_peer_does_not_read() {
    let deaf = Deaf::new();
    deaf.say();
    let Deaf { runner, socket, shared, peer, .. } = deaf;
    shared.lock().closing = true;
    let begun = Instant::now();
    let run = runner.run(Some((socket, "e".to_owned())));
    timeout(DRAIN + SILENCE, run).await.expect("it never ends");
    let took = begun.elapsed();
    assert!(took >= DRAIN && took <= DRAIN + CLOSE_WAIT + Duration::from_millis(10), "{took:?}");
    peer.abort();
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_an_unanswered_subscription_costs_no_turn() {
    let Deaf { mut runner, socket, shared, turns, peer } = Deaf::new();
    let (mut asked, _events) = tracked_of("a", None);
    asked.phase = Phase::Asked;
    let (mut postponed, _more) = tracked_of("b", None);
    postponed.not_before = Some(Instant::now() + REPEAT);
    shared.lock().tracked.extend([asked, postponed]);
    let served = timeout(Duration::from_secs(20), runner.serve(socket)).await;
    assert!(served.is_err(), "it is within its time");
    assert!(turns.load(Ordering::Relaxed) < 60);
    peer.abort();
}
