//! `fieldgate serve`: the gateway until a signal ends it.
//!
//! SIGTERM and SIGINT drain, a second one ends at once (130), SIGHUP reads certificates again.

use std::{
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use fieldgate_server::{Config, Running, StartOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    args::ServeArgs,
    cli::config,
    failure::{Exit, Failure},
    output, wire,
};

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let mut flags = Vec::new();
    if !args.listen.is_empty() {
        let list: Vec<_> = args.listen.iter().map(|address| format!("{address:?}")).collect();
        flags.push(format!("listen.http=[{}]", list.join(", ")));
    }
    let sources = config::sources(&args.sources, &flags);
    let config = config::read(&sources)?;
    log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let options = StartOptions { self_signed: args.self_signed, ..StartOptions::default() };
        let running = wire::start(config, &args.data, options).await?;
        tracing::info!(
            configuration = config::told(&sources),
            data = %args.data.display(),
            version = env!("CARGO_PKG_VERSION"),
            "ready"
        );
        announce(&running);
        if let Some(path) = &args.ready_file {
            ready(path, &running, started.elapsed())?;
        }
        // Fails where nobody waits for it, which is everywhere but under systemd.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        signals.run_until_drained(running).await
    });
    // A second signal must not wait for what the first began.
    runtime.shutdown_background();
    result
}

/// Logs go to stderr, in the form and from the level that the configuration says.
pub(crate) fn log(config: &Config) -> Result<(), Failure> {
    let level = &config.log.level;
    let filter = EnvFilter::try_new(level)
        .map_err(|e| Failure::usage(format!("log.level {level:?}: {e}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = if config.log.format == "json" {
        builder.json().flatten_event(true).try_init()
    } else {
        use std::io::IsTerminal;
        let color = std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(color).with_target(false).try_init()
    };
    result.map_err(|e| Failure::new(Exit::Failed, "logging", e.to_string()))
}

fn announce(running: &Running) {
    let scheme = if running.is_tls() { "https" } else { "http" };
    for address in running.listeners().get("http").into_iter().flatten() {
        output::note(&format!("fieldgate listens on {scheme}://{address}"));
    }
    if let Some(fingerprint) = running.fingerprint() {
        output::note(&format!("self-signed certificate, SHA-256 {fingerprint}"));
    }
}

/// Writes the ready file whole, by rename.
pub(crate) fn ready(path: &Path, running: &Running, took: Duration) -> Result<(), Failure> {
    let mut ready = running.ready_json();
    if let Some(fields) = ready.as_object_mut() {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        fields.insert("ready_ms".to_owned(), ms.into());
        for name in ["data", "admin"] {
            let absolute = fields.get(name).and_then(|p| std::path::absolute(p.as_str()?).ok());
            if let Some(absolute) = absolute {
                fields.insert(name.to_owned(), absolute.to_string_lossy().into());
            }
        }
    }
    let text = ready.to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = std::fs::File::create(&name)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(std::fs::rename(&name, path)?)
}

/// The signals that a gateway obeys.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to end. Cancel safe.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }

    /// Serves until the first signal, then drains; a second one ends at once.
    async fn run_until_drained(&mut self, running: Running) -> Result<(), Failure> {
        loop {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
                _ = self.hangup.recv() => reload(&running),
            }
        }
        self.drain(running).await
    }

    pub(crate) async fn drain(&mut self, running: Running) -> Result<(), Failure> {
        tracing::info!("draining; a second signal ends at once");
        tokio::select! {
            biased;
            () = self.stop() => Err(Failure::interrupted()),
            () = running.drain() => {
                tracing::info!("drained");
                Ok(())
            }
        }
    }
}

fn reload(running: &Running) {
    match running.reload() {
        Ok(()) => tracing::info!("certificates are read again; other settings need a restart"),
        Err(error) => tracing::error!(%error, "certificates stay as they were"),
    }
}
