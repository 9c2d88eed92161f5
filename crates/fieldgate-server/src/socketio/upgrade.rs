//! A session goes over from polling requests to a WebSocket: `2probe`, `3probe`, `5`.
//!
//! Runs beside the link, which goes on with its requests until the last step. Read byte by byte as far
//! as each step needs, so that nothing behind it is taken from the link. A socket too many is closed, as
//! clients know it of others, and nothing is said to it. Bounded in time; each has a place of its own.

use std::{io::ErrorKind, ops::ControlFlow, rc::Rc, time::Duration};

use fieldgate_dialects::ws::{self, Decoder, Event, Limits, Opcode};

use super::http::{Probing, Trying};
use crate::{
    hub::Hub,
    link::Link,
    sink::{Polling, Sink, Socket},
};

/// How long the steps may take together.
const PROBE_WAIT: Duration = Duration::from_secs(10);
/// Longest payload of a step.
const STEP_BYTES_MAX: usize = 125;

/// How long a socket that is turned away may take to read that.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Lets a session go over to this socket, unless it has another one.
pub(crate) fn upgrade(hub: &Rc<Hub>, link: u64, sink: Sink, probing: Probing) {
    let (hub, link) = (Rc::clone(hub), hub.link(link));
    tokio::task::spawn_local(async move {
        let Probing { tried, permit } = probing;
        let Ok(socket) = sink.into_socket() else { return };
        if let (Some(link), Some(tried)) = (link, tried) {
            go_over(&link, socket, tried).await;
        } else {
            // Who is gone needs to hear nothing.
            let _timed_out = tokio::time::timeout(CLOSE_WAIT, turn_away(&hub, &socket)).await;
        }
        drop(permit);
    });
}

async fn go_over(link: &Link, socket: Socket, tried: Trying) {
    let Socket::Polling(polling) = &link.socket else { return };
    let probed = tokio::time::timeout(PROBE_WAIT, probe(polling, &socket)).await;
    // A link that ends says so there: its client does not poll any more.
    if probed == Ok(Some(())) {
        polling.go_over(socket);
        return link.wake();
    }
    // Whoever sees the end of this one may try another.
    drop(tried);
    drop(socket);
}

/// Closes a socket, and waits until its client has.
async fn turn_away(hub: &Hub, socket: &Socket) -> Option<()> {
    write(socket, &ws::close_echo(None)).await?;
    socket.end();
    loop {
        socket.readable().await.ok()?;
        match socket.try_read(&mut hub.scratch.borrow_mut()) {
            Ok(0) => return None,
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(_) => return None,
        }
    }
}

async fn probe(polling: &Polling, socket: &Socket) -> Option<()> {
    step(socket, "2probe").await?;
    write(socket, &ws::frame(Opcode::Text, b"3probe")).await?;
    polling.exchange().release_poll();
    step(socket, "5").await
}

/// Waits for one packet; pings before it are answered.
async fn step(socket: &Socket, packet: &str) -> Option<()> {
    let limits = Limits {
        frame_bytes_max: STEP_BYTES_MAX,
        message_bytes_max: STEP_BYTES_MAX,
        fragment_count_max: 1,
    };
    loop {
        let mut decoder = Decoder::server(limits);
        let mut frame = vec![0; 2];
        fill(socket, &mut frame).await?;
        let payload_len = usize::from(frame.get(1)? & 0x7f);
        if payload_len > STEP_BYTES_MAX {
            return None;
        }
        let mut rest = vec![0; 4 + payload_len];
        fill(socket, &mut rest).await?;
        frame.extend_from_slice(&rest);
        let (mut is_it, mut pinged) = (false, None);
        let fed = decoder.feed(&mut frame, &mut |event| {
            match event {
                Event::Text(text) => is_it = text == packet,
                Event::Ping(payload) => pinged = Some(ws::pong_frame(payload)),
                Event::Binary(_) | Event::Pong(_) | Event::Close { .. } => (),
            }
            ControlFlow::Continue(())
        });
        if fed.is_err() {
            return None;
        }
        match pinged {
            Some(pong) => write(socket, &pong).await?,
            None if is_it => return Some(()),
            None => return None,
        }
    }
}

/// Reads so many bytes, and none behind them.
async fn fill(socket: &Socket, mut buffer: &mut [u8]) -> Option<()> {
    while !buffer.is_empty() {
        socket.readable().await.ok()?;
        match socket.try_read(buffer) {
            Ok(0) => return None,
            Ok(len) => buffer = buffer.get_mut(len..)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(_) => return None,
        }
    }
    Some(())
}

async fn write(socket: &Socket, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        socket.writable().await.ok()?;
        match socket.try_write(bytes) {
            Ok(len) => bytes = bytes.get(len..)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(_) => return None,
        }
    }
    while !socket.try_send().ok()? {
        socket.writable().await.ok()?;
    }
    Some(())
}
