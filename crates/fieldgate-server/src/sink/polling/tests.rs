//! Both ends of a polling session, and the way to a socket of its own.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    time::Duration,
};

use tokio::time::timeout;

use super::*;
use crate::sink::Sink;

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(1_000);

fn ends() -> (Polling, Arc<Exchange>) {
    let exchange = Arc::new(Exchange::new(LONG));
    (Polling::new(Arc::clone(&exchange)), exchange)
}

fn frames(bytes: &[u8]) -> Polled {
    Polled::Frames(bytes.to_vec())
}

#[tokio::test]
async fn what_is_written_waits_for_a_poll_up_to_the_bound() {
    let (polling, exchange) = ends();
    assert_eq!(polling.try_write(b"one").unwrap(), 3);
    assert_eq!(polling.try_write(b"two").unwrap(), 3);
    assert_eq!(exchange.poll(|| ()).await, frames(b"onetwo"));
    // A write is taken whole or not at all: frames are never cut.
    assert_eq!(polling.try_write(&[0; OUT_BYTES_MAX]).unwrap(), OUT_BYTES_MAX);
    assert_eq!(polling.try_write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(timeout(SHORT, polling.writable()).await.is_err());
    exchange.poll(|| ()).await;
    polling.writable().await.unwrap();
    assert_eq!(polling.try_write(b"x").unwrap(), 1);
}

#[tokio::test]
async fn room_is_for_who_writes_though_who_reads_waits_too() {
    let (polling, exchange) = ends();
    polling.try_write(&[0; OUT_BYTES_MAX]).unwrap();
    let both = async {
        tokio::select! {
            biased;
            read = polling.readable() => panic!("nothing came: {read:?}"),
            written = polling.writable() => written.unwrap(),
        }
    };
    tokio::join!(both, exchange.poll(|| ()));
}

#[tokio::test]
async fn a_poll_waits_for_what_is_written_and_a_second_one_is_told() {
    let (polling, exchange) = ends();
    let waiting = {
        let exchange = Arc::clone(&exchange);
        tokio::spawn(async move { exchange.poll(|| ()).await })
    };
    tokio::task::yield_now().await;
    assert_eq!(exchange.poll(|| ()).await, Polled::Twice);
    polling.try_write(b"x").unwrap();
    assert_eq!(waiting.await.unwrap(), frames(b"x"));
}

#[tokio::test]
async fn who_gives_a_poll_up_is_gone() {
    let (polling, exchange) = ends();
    assert!(timeout(SHORT, exchange.poll(|| ())).await.is_err());
    polling.readable().await.unwrap();
    assert_eq!(polling.try_read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(polling.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(exchange.poll(|| ()).await, Polled::Ended);
    assert!(!exchange.post(b"x").await && !exchange.is_open());
    assert_eq!(exchange.begin_probe(), Probe::Ended);
}

#[tokio::test]
async fn who_was_silent_for_too_long_has_no_session_whenever_its_link_looks() {
    let exchange = Arc::new(Exchange::new(Duration::ZERO));
    let polling = Polling::new(Arc::clone(&exchange));
    polling.try_write(b"2").unwrap();
    assert_eq!((exchange.poll(|| ()).await, exchange.begin_probe()), (Polled::Ended, Probe::Ended));
    assert!(!exchange.is_open());

    // Its link has looked: who waits is told, and who comes later finds none.
    let (polling, exchange) = ends();
    let waiting = {
        let exchange = Arc::clone(&exchange);
        tokio::spawn(async move { exchange.poll(|| ()).await })
    };
    tokio::task::yield_now().await;
    exchange.forsake();
    polling.try_write(b"1").unwrap();
    assert_eq!(waiting.await.unwrap(), frames(b"1"));
    exchange.forsake();
    assert_eq!(exchange.poll(|| ()).await, Polled::Ended);
    assert_eq!(polling.try_write(b"1").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn a_body_waits_until_the_one_before_was_taken() {
    let (polling, exchange) = ends();
    assert!(timeout(SHORT, polling.readable()).await.is_err());
    assert!(exchange.post(b"one").await);
    polling.readable().await.unwrap();
    let second = {
        let exchange = Arc::clone(&exchange);
        tokio::spawn(async move { exchange.post(b"two").await })
    };
    tokio::task::yield_now().await;
    let mut buffer = [0; 2];
    assert_eq!((polling.try_read(&mut buffer).unwrap(), &buffer), (2, b"on"));
    assert!(!second.is_finished());
    assert_eq!((polling.try_read(&mut buffer).unwrap(), buffer[0]), (1, b'e'));
    assert!(second.await.unwrap());
    assert_eq!((polling.try_read(&mut buffer).unwrap(), &buffer), (2, b"tw"));
}

#[tokio::test]
async fn what_ends_is_told_before_its_end() {
    let (polling, exchange) = ends();
    polling.try_write(b"bye").unwrap();
    polling.end();
    assert!(timeout(SHORT, polling.readable()).await.is_err(), "it was not polled yet");
    assert_eq!(exchange.poll(|| ()).await, frames(b"bye"));
    polling.readable().await.unwrap();
    assert_eq!(polling.try_read(&mut [0; 8]).unwrap(), 0);
    drop(polling);
    assert_eq!(exchange.poll(|| ()).await, Polled::Ended);
}

async fn pair() -> (Socket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let socket = Sink::Tcp(stream).into_socket().unwrap();
    // Until the runtime has looked at it, it counts as full.
    socket.writable().await.unwrap();
    (socket, peer)
}

#[tokio::test]
async fn what_waits_goes_over_in_both_directions() {
    let (polling, exchange) = ends();
    assert_eq!((exchange.begin_probe(), exchange.begin_probe()), (Probe::Begun, Probe::Taken));
    assert!(timeout(SHORT, exchange.something.notified()).await.is_err());
    exchange.release_poll();
    assert_eq!(exchange.poll(|| ()).await, Polled::Nothing, "so that its client can go over");
    polling.try_write(b"for a poll").unwrap();
    assert!(exchange.post(b"from a body").await);
    let (socket, mut peer) = pair().await;
    polling.go_over(socket);
    assert_eq!((exchange.poll(|| ()).await, exchange.begin_probe()), (Polled::Ended, Probe::Taken));
    let mut buffer = [0; 32];
    polling.readable().await.unwrap();
    let len = polling.try_read(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"from a body");
    assert!(polling.wire().is_some(), "nothing stands before what is written");
    polling.try_write(b" and then").unwrap();
    let mut heard = [0; 19];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"for a poll and then");
}

#[tokio::test]
async fn who_ends_while_it_goes_over_says_so_there() {
    let (polling, exchange) = ends();
    assert_eq!(exchange.begin_probe(), Probe::Begun);
    polling.try_write(b"bye").unwrap();
    polling.end();
    let (socket, mut peer) = pair().await;
    polling.go_over(socket);
    let mut heard = String::new();
    peer.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "bye");
}
