//! The rival "Node ws": npm's WebSocket server, sending what it gets to everybody else.
//!
//! It authenticates nobody, matches no topic and keeps nothing: the least that a gateway glued
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

const PACKAGE: &str = "ws@8.18.3";
const SCRIPT: &str = include_str!("rivals/ws.mjs");
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts it and waits until it listens.
pub(crate) fn start_fanout(folder: &TempDir) -> Result<(Process, SocketAddr)> {
    let home = install()?;
    // A module is looked for beside the script that asks for it.
    let script = home.join("fanout.mjs");
    fs::write(&script, SCRIPT)?;
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

/// The folder with the package, installed unless it is there.
fn install() -> Result<PathBuf> {
    let home = std::env::current_exe()?
        .ancestors()
        .nth(2)
        .context("the bench runs from a build folder")?
        .join("foreign/bench-node");
    if home.join("node_modules/ws").is_dir() {
        return Ok(home);
    }
    fs::create_dir_all(&home)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", PACKAGE]);
    let status = npm.current_dir(&home).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !status.success() {
        bail!("npm install {PACKAGE}: {status}");
    }
    Ok(home)
}
