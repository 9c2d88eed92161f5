//! The bare limits: what the same work costs with nothing around it.
//!
//! [`run_fanout`] is a process of its own (`fieldgate-bench bare-fanout`), so that its CPU time can be
//! read like the gateway's. Nagle is off on both sides.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::FallocateFlags;

use crate::process::Process;

/// Starts the bare loop for frames of `frame_len` bytes and `subscriber_count` sockets.
pub(crate) fn start_fanout(
    frame_len: usize,
    subscriber_count: usize,
    coalesce: bool,
) -> Result<(Process, std::net::SocketAddr)> {
    // The child takes the port over a moment after it is freed here.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare-fanout").arg(address.to_string()).arg(frame_len.to_string());
    command.arg(subscriber_count.to_string()).arg(if coalesce { "coalesce" } else { "each" });
    let process = Process::start(&mut command)?;
    let started = Instant::now();
    while TcpStream::connect(address).is_err() {
        if started.elapsed().as_secs() > 5 {
            bail!("the bare loop did not start");
        }
        std::thread::yield_now();
    }
    Ok((process, address))
}

/// The bare loop: a blocking read of the publisher, a non-blocking send to each subscriber.
///
/// The first connection probes the port, the next `subscriber_count` ones subscribe, the last one
/// publishes frames of `frame_len` bytes, which go out as they came: each alone, or with `coalesce`
/// all that one read brought in one write.
pub(crate) fn run_fanout(args: &[String]) -> Result<()> {
    let [address, frame_len, subscriber_count, mode] = args else { bail!("four arguments") };
    let (frame_len, subscriber_count) = (frame_len.parse()?, subscriber_count.parse::<usize>()?);
    let listener = TcpListener::bind(address)?;
    listener.accept()?;
    let mut subscribers = Vec::with_capacity(subscriber_count);
    for _ in 0..subscriber_count {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        subscribers.push(socket);
    }
    let (mut publisher, _) = listener.accept()?;
    let mut buffer = vec![0; 256 * 1024];
    let mut held = 0;
    loop {
        let free = buffer.get_mut(held..).context("a full buffer")?;
        match publisher.read(free)? {
            0 => return Ok(()),
            len => held += len,
        }
        let whole = held - held % frame_len;
        let ready = buffer.get(..whole).unwrap_or_default();
        let unit = if mode == "coalesce" { whole.max(1) } else { frame_len };
        for frame in ready.chunks(unit) {
            for subscriber in &mut subscribers {
                match subscriber.write(frame) {
                    Ok(len) if len == frame.len() => (),
                    Ok(_) => bail!("a short write: the bare loop has no outbox"),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => bail!("a full socket"),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        buffer.copy_within(whole..held, 0);
        held -= whole;
    }
}

/// Appends batches to a preallocated, already written file and syncs each; returns records a second.
///
/// `seconds` bounds the run; the file wraps.
pub(crate) fn durable_appends(
    folder: &Path,
    record_len: usize,
    batch_len: usize,
    seconds: f64,
) -> Result<f64> {
    use std::os::unix::fs::FileExt as _;
    const FILE_BYTES: u64 = 64 << 20;
    let file = File::create(folder.join("bare"))?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    let zeros = vec![0; 1 << 20];
    for megabyte in 0..FILE_BYTES >> 20 {
        file.write_all_at(&zeros, megabyte << 20)?;
    }
    file.sync_all()?;
    let batch = vec![0x55_u8; record_len * batch_len];
    let (mut at, mut records) = (0, 0);
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < seconds {
        if at + batch.len() as u64 > FILE_BYTES {
            at = 0;
        }
        file.write_all_at(&batch, at)?;
        rustix::fs::fdatasync(&file)?;
        at += batch.len() as u64;
        records += batch_len;
    }
    Ok(records as f64 / started.elapsed().as_secs_f64())
}
