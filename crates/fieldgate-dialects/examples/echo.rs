//! An echo server on the WebSocket codec alone, for conformance suites.
//!
//! `echo PORT_FILE` binds a free port of loopback and writes its number to the file. One thread a
//! connection; it tests the codec. The gateway's links are held to the same classes of cases in
//! `crates/fieldgate/tests/it/conformance.rs`.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    ops::ControlFlow,
};

use fieldgate_core::close::CloseReason;
use fieldgate_dialects::ws::{self, Decoder, Event, Limits, Opcode};

const MESSAGE_BYTES_MAX: usize = 32 << 20;

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let file = std::env::args().nth(1).unwrap_or_else(|| "port".to_owned());
    std::fs::write(file, listener.local_addr()?.port().to_string())?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("connection ended: {error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let head = read_head(&mut stream)?;
    let field = |name: &str| {
        let prefix = format!("{name}:");
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&prefix))?;
        line.split_once(':').map(|(_, value)| value.trim())
    };
    let accept = ws::accept_key(field("sec-websocket-key").unwrap_or_default());
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    let mut decoder = Decoder::server(Limits {
        frame_bytes_max: MESSAGE_BYTES_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
        fragment_count_max: 1 << 20,
    });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        let mut closed = false;
        let fed = decoder.feed(buffer.get_mut(..len).unwrap_or_default(), &mut |event| {
            match event {
                Event::Text(text) => {
                    out.extend_from_slice(&ws::frame(Opcode::Text, text.as_bytes()))
                }
                Event::Binary(bytes) => out.extend_from_slice(&ws::frame(Opcode::Binary, bytes)),
                Event::Ping(payload) => out.extend_from_slice(&ws::pong_frame(payload)),
                Event::Pong(_) => (),
                Event::Close { code, .. } => {
                    out.extend_from_slice(&ws::close_echo(code));
                    closed = true;
                }
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = fed {
            let reason: CloseReason = error.close_reason();
            out.extend_from_slice(&ws::close_frame(reason));
            closed = true;
        }
        stream.write_all(&out)?;
        if closed {
            return stream.shutdown(std::net::Shutdown::Write);
        }
    }
}

/// Reads the request head, one byte at a time so that no frame behind it is taken.
fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 * 1024 {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
