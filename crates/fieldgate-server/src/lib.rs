//! The gateway's IO shell: sockets, workers, routing, HTTP and operation.
//!
//! [`start`] brings everything up on an opened store; [`Running`] tells where it listens and ends it.

pub mod admin;
mod admit;
mod asks;
mod asyncapi;
mod auth;
mod catchup;
mod commands;
pub mod config;
mod deconz;
mod deliver;
mod documents;
mod downlinks;
mod fabric;
mod forwarded;
mod http;
mod hub;
mod idle;
mod ingest;
mod integrations;
mod kamea;
mod ledger;
mod link;
mod listen;
mod metrics;
mod outbox;
mod outcomes;
mod present;
mod profiles;
mod prove;
mod pursuit;
mod refusals;
mod repeats;
mod rest;
mod router;
mod share;
mod signal;
mod sink;
mod socketio;
mod status;
mod subscriptions;
mod tenancy;
#[cfg(test)]
mod testing;
mod thethings;
mod thingsee_out;
mod throttle;
mod tickets;
mod tls;
mod waiters;
mod wishes;
mod worker;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use fieldgate_core::{audit::Act, id::TenantId};
use fieldgate_store::{
    Log as _, Record, Store,
    audit::{Author, Note, Said},
};
use tokio_util::sync::CancellationToken;

pub use config::{Config, ConfigError, Reloaded, Sources};
pub use tls::TlsError;

use crate::{
    config::{Plaintext, WsPort},
    deconz::Push,
    fabric::Fabric,
    listen::Purpose,
    tls::TlsConfig,
};

/// How often the certificate's files are looked at.
const CERTIFICATE_WATCH: Duration = Duration::from_secs(2);

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be bound.
    #[error("{address} cannot be bound: {source}")]
    Bind {
        /// The address.
        address: String,
        /// The system's words.
        source: io::Error,
    },
    /// Plain text would be served beyond this machine.
    #[error(
        "{0} is not loopback and there is no TLS: set listen.tls, or --self-signed, or name the \
         listener in listen.plaintext if a proxy ends TLS"
    )]
    Plaintext(String),
    /// The certificate is of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a start may be told beside the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct StartOptions {
    /// Make a certificate for the bound names.
    pub self_signed: bool,
    /// Worker threads; 0: one for each core.
    pub worker_count: usize,
}

/// A gateway that accepts.
#[derive(Debug)]
pub struct Running {
    fabric: Fabric,
    listeners: BTreeMap<&'static str, Vec<SocketAddr>>,
    fingerprint: Option<String>,
    tls: Option<Arc<TlsConfig>>,
    folder: PathBuf,
    stop: CancellationToken,
    deliveries: tokio::task::JoinHandle<()>,
    ready_ms: u64,
}

/// Starts the gateway on an opened store. Returns once every listener accepts.
///
/// # Errors
///
/// [`StartError`]; then nothing listens.
pub async fn start(
    config: Config,
    store: Store,
    options: StartOptions,
) -> Result<Running, StartError> {
    let started = Instant::now();
    let folder = store.folder.clone();
    let (tls, fingerprint) = prepare_tls(&config, &folder, options)?;
    let mut bound = Vec::new();
    let mut listeners: BTreeMap<&'static str, Vec<SocketAddr>> = BTreeMap::new();
    let lists = [
        ("http", &config.listen.http, Purpose::Everything),
        ("metrics", &config.listen.metrics, Purpose::Metrics),
        ("deconz", &config.listen.deconz, Purpose::Deconz),
    ];
    for (name, addresses, purpose) in lists {
        for address in addresses {
            let is_tls = tls.is_some() && speaks_tls(&config, name, purpose);
            check_plaintext(&config, name, address, is_tls)?;
            let bind = |source| StartError::Bind { address: address.clone(), source };
            let listener = listen::bind(address).await.map_err(bind)?;
            listeners.entry(name).or_default().push(listener.local_addr()?);
            bound.push((listener, purpose, is_tls));
        }
    }
    let beside = listeners.get("deconz").and_then(|addresses| addresses.first().copied());
    if let Some(listener) = bind_push(&config, beside).await? {
        listeners.entry("deconz_push").or_default().push(listener.local_addr()?);
        bound.push((listener, Purpose::Push, tls.is_some() && !is_plain(&config, "deconz")));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let worker_count = if options.worker_count == 0 { cores } else { options.worker_count };
    let fabric = Fabric::start(config, store, worker_count)?;
    let _set_once = fabric.shared.listeners.set(serde_json::json!({
        "listeners": listeners, "tls": tls.is_some(),
    }));
    if let Some(bridge) = &fabric.shared.bridge {
        if fabric.shared.config.deconz.push == "open" {
            tracing::warn!("deconz.push is open: whoever reaches listen.deconz sees every change");
        }
        let first = |name| listeners.get(name).and_then(|list| list.first());
        if let Some(at) = first("deconz_push").or_else(|| first("deconz")) {
            let is_tls = tls.is_some() && !is_plain(&fabric.shared.config, "deconz");
            let port = first("deconz").map_or(0, SocketAddr::port);
            // An address that stands for all of this machine is none that an app can open.
            let local = IpAddr::from(Ipv4Addr::LOCALHOST);
            let ip = if at.ip().is_unspecified() { local } else { at.ip() };
            bridge.set_places(port, Push { address: ip.to_string(), port: at.port(), is_tls });
        }
    }
    let stop = CancellationToken::new();
    if let Err(error) = admin::serve(Arc::clone(&fabric.shared), &folder, stop.clone()).await {
        // A log that is left open looks like a crash to the next start.
        fabric.drain(Duration::ZERO).await;
        return Err(error.into());
    }
    if let Some(tls) = &tls {
        tokio::spawn(Arc::clone(tls).watch(CERTIFICATE_WATCH, stop.clone()));
    }
    let deliveries = tokio::spawn(deliver::serve(Arc::clone(&fabric.shared), stop.clone()));
    for (listener, purpose, is_tls) in bound {
        let tls = tls.clone().filter(|_| is_tls);
        let shared = Arc::clone(&fabric.shared);
        tokio::spawn(listen::run(listener, shared, tls, purpose, stop.clone()));
    }
    let ready_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Running { fabric, listeners, fingerprint, tls, folder, stop, deliveries, ready_ms })
}

type PreparedTls = (Option<Arc<TlsConfig>>, Option<String>);

fn prepare_tls(
    config: &Config,
    folder: &std::path::Path,
    options: StartOptions,
) -> Result<PreparedTls, StartError> {
    if let (Some(cert), Some(key)) = (&config.listen.tls.cert, &config.listen.tls.key) {
        return Ok((Some(Arc::new(TlsConfig::load(cert.clone(), key.clone())?)), None));
    }
    if !options.self_signed {
        return Ok((None, None));
    }
    let names = tls::names_of(&config.listen)?;
    let (cert, key, fingerprint) = tls::self_signed(&folder.join("certs"), names)?;
    Ok((Some(Arc::new(TlsConfig::load(cert, key)?)), Some(fingerprint)))
}

/// Binds the port that the push socket has beside its listener, if it is to have one.
async fn bind_push(
    config: &Config,
    beside: Option<SocketAddr>,
) -> Result<Option<tokio::net::TcpListener>, StartError> {
    /// Ports that proxies let through (seed 002), then any free one.
    const FRIENDLY: [u16; 5] = [443, 8_080, 8_088, 20_877, 0];
    let Some(beside) = beside else { return Ok(None) };
    let named;
    let ports: &[u16] = match config.deconz.ws_port {
        WsPort::None => return Ok(None),
        WsPort::Auto => &FRIENDLY,
        WsPort::Port(port) => {
            named = [port.get()];
            &named
        }
    };
    let mut refused = None;
    for port in ports {
        let address = SocketAddr::new(beside.ip(), *port).to_string();
        match listen::bind(&address).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(source) => refused = Some(StartError::Bind { address, source }),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// Whether a listener speaks TLS, once there is a certificate. deCONZ apps mostly cannot: theirs is
/// plain where the configuration names it.
fn speaks_tls(config: &Config, name: &str, purpose: Purpose) -> bool {
    match purpose {
        Purpose::Everything => true,
        Purpose::Deconz | Purpose::Push => !is_plain(config, name),
        Purpose::Metrics => false,
    }
}

/// Whether `listen.plaintext` names a listener.
fn is_plain(config: &Config, name: &str) -> bool {
    match &config.listen.plaintext {
        Plaintext::Word(_) => false,
        Plaintext::List(names) => names.iter().any(|plain| plain == name),
    }
}

fn check_plaintext(
    config: &Config,
    name: &str,
    address: &str,
    has_tls: bool,
) -> Result<(), StartError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if has_tls || loopback || is_plain(config, name) {
        Ok(())
    } else {
        Err(StartError::Plaintext(address.to_owned()))
    }
}

impl Running {
    /// The bound addresses, by listener name.
    #[must_use]
    pub const fn listeners(&self) -> &BTreeMap<&'static str, Vec<SocketAddr>> {
        &self.listeners
    }

    /// Whether `listen.http` speaks TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The SHA-256 fingerprint of a self-signed certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// The data folder.
    #[must_use]
    pub const fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// How long the start took.
    #[must_use]
    pub const fn ready_ms(&self) -> u64 {
        self.ready_ms
    }

    /// What the ready file says (`cli.md`, "Ready, health, end").
    #[must_use]
    pub fn ready_json(&self) -> serde_json::Value {
        serde_json::json!({
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "listeners": self.listeners,
            "data": self.folder,
            "admin": self.folder.join("admin.sock"),
            "ready_ms": self.ready_ms,
        })
    }

    /// One request below `/v1`, as `admin.sock` takes it; returns status and body.
    ///
    /// # Errors
    ///
    /// It is no request.
    pub async fn admin(
        &self,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, serde_json::Value), fieldgate_core::fault::Fault> {
        admin::ask(&self.fabric.shared, method, path, body).await
    }

    /// Reads the certificate again.
    ///
    /// # Errors
    ///
    /// [`TlsError`]; then the one in use stays.
    pub fn reload_certificate(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// Takes what may change without a restart from a configuration that was read again.
    #[must_use]
    pub fn reconfigure(&self, config: &Config) -> Reloaded {
        let shared = &self.fabric.shared;
        let reloaded = shared.config.reload(config);
        let said = Said::done(Act::ConfigReload, &Author::local(), "");
        let said = said.with("changed", &reloaded.changed.join(" "));
        let said = said.with("needs_restart", &reloaded.needs_restart.join(" "));
        let tenant = TenantId::default_tenant().as_str().to_owned();
        let note = Record::Note(Box::new(Note { tenant, said }));
        // The log may be why it was read again: what is set must hold even if it cannot be entered.
        if let Err(error) = shared.log.append(vec![note], fabric::now()) {
            tracing::error!(%error, "that the configuration was read again is not in the audit");
        }
        reloaded
    }

    /// Ends: takes nothing new, tells clients to come back, makes everything durable.
    pub async fn drain(self) {
        let grace = Duration::from_millis(self.fabric.shared.config.drain.grace_ms);
        self.fabric.shared.draining.store(true, std::sync::atomic::Ordering::SeqCst);
        self.stop.cancel();
        // Their last reports go into the log before it is closed.
        if let Err(error) = self.deliveries.await {
            tracing::error!(%error, "the deliveries ended early");
        }
        self.fabric.drain(grace).await;
    }
}
