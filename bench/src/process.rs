//! Processes under measurement: the gateway and its rivals, and what the kernel says they used.
//!
//! Everything is read from `/proc`. Invariant: a process started here ends with its owner.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

/// Where a server is kept that is measured.
pub(crate) const SERVER_CORE: usize = 0;
/// Where the clients of a server are kept.
pub(crate) const CLIENT_CORE: usize = 1;

/// A child process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

/// Runs `work` with this thread, and the processes that it starts, kept on one core.
///
/// # Errors
///
/// There is no such core for this process, or what `work` says.
pub(crate) fn on_core<T>(core: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(None)?;
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("core {core} is not to be had"))?;
    let done = work();
    sched_setaffinity(None, &before)?;
    done
}

/// Whether this thread is kept on one core.
pub(crate) fn is_pinned() -> bool {
    sched_getaffinity(None).is_ok_and(|cores| cores.count() == 1)
}

impl Process {
    /// Starts a process without input and output.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().with_context(|| format!("{command:?}"))?))
    }

    /// CPU time of all its threads, user and system, in seconds. Resolution 10 ms.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<f64> {
        Ok(self.field("status", "VmRSS:")? * 1024.0)
    }

    /// Bytes of the pages that it made dirty. A large page counts whole for one byte of it.
    pub(crate) fn dirtied_bytes(&self) -> Result<f64> {
        self.field("io", "write_bytes:")
    }

    fn field(&self, file: &str, name: &str) -> Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.0.id()))?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
        Ok(line.split_whitespace().next().context("no value")?.parse()?)
    }

    /// Ends it at once, as `kill -9`.
    pub(crate) fn kill(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the disk under `target` did so far, for whoever asked it to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskUse {
    /// Bytes written to the device.
    pub(crate) written_bytes: f64,
    /// Flushes that the device completed.
    pub(crate) flush_count: f64,
}

impl DiskUse {
    /// Reads `/proc/diskstats` for the device of `folder`. Source: kernel, `admin-guide/iostats`.
    pub(crate) fn now(folder: &Path) -> Result<Self> {
        let device = rustix::fs::stat(folder)?.st_dev;
        let wanted = [rustix::fs::major(device), rustix::fs::minor(device)].map(|n| n.to_string());
        let text = fs::read_to_string("/proc/diskstats")?;
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|fields| fields.starts_with(&wanted.each_ref().map(|n| &**n)));
        let line = line.context("the disk is not in /proc/diskstats")?;
        let field = |at: usize| line.get(at).and_then(|field| field.parse::<f64>().ok());
        let written_bytes = field(9).context("no sectors written")? * 512.0;
        Ok(Self { written_bytes, flush_count: field(18).unwrap_or(f64::NAN) })
    }
}

/// A folder for data on the disk that `target` is on: a RAM disk would make syncs free.
pub(crate) fn data_folder() -> Result<TempDir> {
    fs::create_dir_all("target")?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in("target")?)
}

/// A running gateway with its own data folder.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// From start to the ready file.
    pub(crate) ready: Duration,
    binary: PathBuf,
    data: PathBuf,
    listeners: serde_json::Value,
}

fn listener_of(listeners: &serde_json::Value, name: &str) -> Result<SocketAddr> {
    let address = listeners.pointer(&format!("/{name}/0")).and_then(serde_json::Value::as_str);
    Ok(address.context("no such address in the ready file")?.parse()?)
}

impl Gateway {
    /// Starts the gateway on `data` and waits until it is ready.
    pub(crate) fn start(binary: &Path, data: &Path, tls: bool) -> Result<Self> {
        Self::start_with(binary, data, if tls { &["--self-signed"] } else { &[] })
    }

    /// The same with further arguments.
    pub(crate) fn start_with(binary: &Path, data: &Path, args: &[&str]) -> Result<Self> {
        let ready_file = data.with_extension("ready");
        drop(fs::remove_file(&ready_file));
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data").arg(data).arg("--ready-file").arg(&ready_file);
        command.args(["--listen", "127.0.0.1:0", "--set", "log.level=\"error\""]);
        for rate in ["messages_per_second", "message_burst", "bytes_per_second"] {
            command.args(["--set", &format!("limits.{rate}=1000000000")]);
        }
        command.args(args);
        let started = Instant::now();
        let process = Process::start(&mut command)?;
        let text = loop {
            if let Ok(text) = fs::read_to_string(&ready_file) {
                break text;
            }
            if started.elapsed() > Duration::from_secs(60) {
                bail!("the gateway was not ready within 60 s");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let ready = started.elapsed();
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let listeners = value.get("listeners").cloned().unwrap_or_default();
        let address = listener_of(&listeners, "http")?;
        let (binary, data) = (binary.to_owned(), data.to_owned());
        Ok(Self { process, address, ready, binary, data, listeners })
    }

    /// Where it listens under this name.
    pub(crate) fn listener(&self, name: &str) -> Result<SocketAddr> {
        listener_of(&self.listeners, name)
    }

    /// Makes a device and returns its token.
    pub(crate) fn device(&self, id: &str) -> Result<String> {
        self.ask(&["device", "add", id], "token")
    }

    /// Makes a lamp.
    pub(crate) fn light(&self, id: &str) -> Result<()> {
        self.ask(&["device", "add", id, "--kind", "light"], "token").map(drop)
    }

    /// Makes a source of Thingsee arrays and returns its token.
    pub(crate) fn source(&self, name: &str) -> Result<String> {
        self.ask(&["integration", "add", name, "--kind", "thingsee-in"], "token")
    }

    /// Makes an API key with these grants and returns it.
    pub(crate) fn key(&self, name: &str, grants: &[&str]) -> Result<String> {
        let mut args = vec!["key", "add", name];
        args.extend(grants.iter().flat_map(|grant| ["--grant", grant]));
        self.ask(&args, "key")
    }

    /// Runs a command that administers it, and returns what that prints.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.binary);
        let output = command.args(args).arg("--json").arg("--data").arg(&self.data).output()?;
        if !output.status.success() {
            bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    fn ask(&self, args: &[&str], wanted: &str) -> Result<String> {
        let value: serde_json::Value = serde_json::from_slice(&self.run(args)?)?;
        let value = value.get(wanted).and_then(serde_json::Value::as_str);
        Ok(value.with_context(|| format!("no {wanted} in the answer"))?.to_owned())
    }

    /// Reads `/metrics`, summed over labels.
    pub(crate) fn metrics(&self, key: &str) -> Result<HashMap<String, f64>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let host = self.address;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\
             Connection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let mut metrics = HashMap::new();
        for line in text.lines().filter(|line| line.starts_with("fieldgate_")) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
            *metrics.entry(name.to_owned()).or_default() += value.unwrap_or_default();
        }
        Ok(metrics)
    }
}
