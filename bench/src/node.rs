//! The rivals "Node ws" and "Node socket.io": npm's servers, sending what they get to everybody else, or
//! to everybody in a room.
//!
//! They authenticate nobody, match no topic and keep nothing: the least that a gateway glued
//! together in Node would do.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::process::Process;

const PACKAGES: [&str; 2] = ["ws@8.18.3", "socket.io@4.8.1"];
const WS: &str = include_str!("rivals/ws.mjs");
const ROOM: &str = include_str!("rivals/socketio.mjs");
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts "Node ws" and waits until it listens.
pub(crate) fn start_fanout(folder: &TempDir) -> Result<(Process, SocketAddr)> {
    start(folder, WS)
}

/// Starts "Node socket.io" and waits until it listens.
pub(crate) fn start_room(folder: &TempDir) -> Result<(Process, SocketAddr)> {
    start(folder, ROOM)
}

fn start(folder: &TempDir, text: &str) -> Result<(Process, SocketAddr)> {
    let home = install()?;
    // A module is looked for beside the script that asks for it.
    let script = home.join("rival.mjs");
    fs::write(&script, text)?;
    let port_file = folder.path().join("port");
    let mut process = Process::start(Command::new("node").arg(&script).arg(&port_file))?;
    let started = Instant::now();
    while !port_file.exists() {
        if started.elapsed() > PATIENCE {
            process.kill();
            bail!("it did not start");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let port = fs::read_to_string(&port_file)?.parse().context("its port")?;
    Ok((process, (Ipv4Addr::LOCALHOST, port).into()))
}

/// The folder with the packages, installed unless they are there.
fn install() -> Result<PathBuf> {
    let home = std::env::current_exe()?
        .ancestors()
        .nth(2)
        .context("the bench runs from a build folder")?
        .join("foreign/bench-node");
    if home.join("node_modules/socket.io").is_dir() {
        return Ok(home);
    }
    fs::create_dir_all(&home)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock"]);
    npm.args(PACKAGES);
    let status = npm.current_dir(&home).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !status.success() {
        bail!("npm install {PACKAGES:?}: {status}");
    }
    Ok(home)
}
