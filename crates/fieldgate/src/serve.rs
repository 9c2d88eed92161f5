//! `fieldgate serve`: the gateway until a signal ends it.
//!
//! SIGTERM and SIGINT drain, a second one ends at once (130), SIGHUP reads certificate and
//! configuration again.

use std::{
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use fieldgate_server::{Config, Reloaded, Running, Sources, StartOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::{EnvFilter, reload};

use crate::{
    args::ServeArgs,
    cli::config,
    failure::{Exit, Failure},
    output, wire,
};

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let started = Instant::now();
    use_small_pages();
    let mut flags = Vec::new();
    if !args.listen.is_empty() {
        let list: Vec<_> = args.listen.iter().map(|address| format!("{address:?}")).collect();
        flags.push(("--listen", format!("listen.http=[{}]", list.join(", "))));
    }
    let ws_port = args.ws_port.iter().map(|port| format!("deconz.ws_port={port}"));
    flags.extend(ws_port.map(|pair| ("--ws-port", pair)));
    let sources = config::sources(&args.sources, &flags);
    let config = config::read(&sources)?;
    args.ready_file.as_deref().map_or(Ok(()), check_ready_file)?;
    let set_level = log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let options = StartOptions { self_signed: args.self_signed, ..StartOptions::default() };
        let weakened = config.store.durability == "os";
        let running = wire::start(config, &args.data, options).await?;
        tracing::info!(
            configuration = config::told(&sources),
            data = %args.data.display(),
            version = env!("CARGO_PKG_VERSION"),
            "ready"
        );
        announce(&running, weakened);
        if let Some(path) = &args.ready_file
            && let Err(failure) = ready(path, &running, started.elapsed())
        {
            // A log that is left open looks like a crash to the next start.
            running.drain().await;
            return Err(failure);
        }
        // Fails where nobody waits for it, which is everywhere but under systemd.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        let again = || config::sources(&args.sources, &flags);
        signals
            .run_until_drained(running, |running| read_again(running, &again(), &set_level))
            .await
    });
    // A second signal must not wait for what the first began.
    runtime.shutdown_background();
    result
}

/// Keeps the kernel from giving memory in pages of 2 MiB, which the allocator asks it for.
///
/// Whoever touches a byte of such a page has all of it: a connection at rest cost twice its memory
/// (`docs/decisions/0005`).
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        // An old kernel, or a filter of system calls: more memory, and nothing else.
        tracing::debug!(%error, "large pages stay");
    }
}

/// Sets the level of the log.
pub(crate) type SetLevel = Box<dyn Fn(&str) -> Result<(), String>>;

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|error| format!("log.level {level:?}: {error}"))
}

/// Logs go to stderr, in the form and from the level that the configuration says.
pub(crate) fn log(config: &Config) -> Result<SetLevel, Failure> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&config.log.level).map_err(Failure::usage)?)
        .with_writer(io::stderr);
    let (result, set_level) = if config.log.format == "json" {
        let builder = builder.json().flatten_event(true).with_filter_reloading();
        let set_level = setter(builder.reload_handle());
        (builder.try_init(), set_level)
    } else {
        use io::IsTerminal as _;
        let color = io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let builder = builder.with_ansi(color).with_target(false).with_filter_reloading();
        let set_level = setter(builder.reload_handle());
        (builder.try_init(), set_level)
    };
    result.map_err(|e| Failure::new(Exit::Failed, "logging", e.to_string()))?;
    Ok(set_level)
}

fn setter<S: 'static>(handle: reload::Handle<EnvFilter, S>) -> SetLevel {
    Box::new(move |level| handle.reload(filter(level)?).map_err(|error| error.to_string()))
}

fn announce(running: &Running, weakened: bool) {
    if weakened {
        output::note(
            "WARNING: store.durability is \"os\": an acknowledgement does not mean stored",
        );
    }
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
    write_whole(path, &ready.to_string()).map_err(|error| not_written(path, &error))
}

/// Looks whether the ready file can be made, before anything is opened.
fn check_ready_file(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let found = std::fs::metadata(folder.unwrap_or(Path::new(".")));
    let found = found.map_err(|error| not_written(path, &error))?;
    if found.is_dir() {
        Ok(())
    } else {
        Err(not_written(path, &io::ErrorKind::NotADirectory.into()))
    }
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    let text = format!("--ready-file {} cannot be written: {error}", path.display());
    Failure::new(Exit::Failed, "io", text)
        .hint("name a file in a folder that is there and that this user may write to")
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = std::fs::File::create(&name)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&name, path)
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
    async fn run_until_drained(
        &mut self,
        running: Running,
        on_hangup: impl Fn(&Running),
    ) -> Result<(), Failure> {
        loop {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
                _ = self.hangup.recv() => on_hangup(&running),
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

/// Reads certificate and configuration again; tells what changed, and what needs a restart.
fn read_again(running: &Running, sources: &Sources, set_level: &SetLevel) {
    match running.reload_certificate() {
        Ok(()) if running.is_tls() => tracing::info!("the certificate was read again"),
        Ok(()) => (),
        Err(error) => tracing::error!(%error, "the certificate stays as it was"),
    }
    let config = match fieldgate_server::config::load(sources) {
        Ok(config) => config,
        Err(errors) => {
            for error in errors {
                tracing::error!(%error, "the configuration stays as it was");
            }
            return;
        }
    };
    let Reloaded { changed, needs_restart, .. } = running.reconfigure(&config);
    if let Err(error) = set_level(&config.log.level) {
        tracing::error!(error, "the log's level stays as it was");
    }
    let from = config::told(sources);
    tracing::info!(from, changed = changed.join(" "), "the configuration was read again");
    if !needs_restart.is_empty() {
        tracing::warn!(keys = needs_restart.join(" "), "these settings need a restart");
    }
}
