//! Sends over real sockets, in numbers beside the ring's size.

use std::{
    io::Read as _,
    net::Shutdown,
    os::{fd::AsFd as _, unix::net::UnixStream},
};

use super::*;

fn pairs(count: usize) -> Vec<(UnixStream, UnixStream)> {
    (0..count).map(|_| UnixStream::pair().unwrap()).collect()
}

fn send<'a>((socket, _): &'a (UnixStream, UnixStream), bytes: &'a [u8]) -> Send<'a> {
    Send { socket: socket.as_fd(), bytes }
}

fn received((_, peer): &mut (UnixStream, UnixStream), len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn each_gets_its_own_whatever_the_number() {
    let mut ring = Ring::new().unwrap();
    for count in [0, 1, 2, 255, 256, 257, 600] {
        let mut pairs = pairs(count);
        let texts: Vec<_> = (0..count).map(|at| format!("for {at}")).collect();
        let sends = pairs.iter().zip(&texts).map(|(pair, text)| send(pair, text.as_bytes()));
        let taken: Vec<_> = ring.send_each(sends).map(Result::unwrap).collect();
        assert_eq!(taken, texts.iter().map(String::len).collect::<Vec<_>>());
        for (pair, text) in pairs.iter_mut().zip(&texts) {
            assert_eq!(received(pair, text.len()), text.as_bytes());
        }
    }
}

#[test]
fn a_failure_is_told_of_the_send_that_failed_and_its_neighbours_stand() {
    let mut ring = Ring::new().unwrap();
    let mut pairs = pairs(4);
    let large = vec![7; 16 << 20];
    pairs[1].0.shutdown(Shutdown::Write).unwrap();
    let sends = [b"a".as_slice(), b"b", &large, b"d"];
    let results: Vec<_> =
        ring.send_each(pairs.iter().zip(sends).map(|(pair, bytes)| send(pair, bytes))).collect();
    assert_eq!(results[0].as_ref().unwrap(), &1);
    assert_eq!(results[1].as_ref().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    // The socket blocks, and the send does not: it takes what fits.
    let taken = *results[2].as_ref().unwrap();
    assert!(0 < taken && taken < large.len(), "{taken}");
    assert_eq!(results[3].as_ref().unwrap(), &1);
    assert_eq!(received(&mut pairs[3], 1), b"d");
    let again: Vec<_> = ring.send_each([send(&pairs[2], &large)]).collect();
    assert_eq!(again[0].as_ref().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(received(&mut pairs[2], taken).len(), taken);
}

#[test]
fn a_caller_that_panics_leaves_nothing_behind() {
    let mut ring = Ring::new().unwrap();
    let pair = &mut pairs(1)[0];
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let sends = (0..3).map(|at| if at == 2 { panic!("as asked") } else { send(pair, b"lost") });
        ring.send_each(sends).count()
    }));
    assert!(broken.is_err());
    let taken: Vec<_> = ring.send_each([send(pair, b"kept")]).map(Result::unwrap).collect();
    assert_eq!((taken, received(pair, 4)), (vec![4], b"kept".to_vec()));
}
