//! TLS: certificates from PEM files or made for this start, read again without a restart.
//!
//! TLS 1.2 and later, by rustls with aws-lc-rs. Connections that stand keep the certificate that
//! they began with.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs as provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Listen;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or is no PEM.
    #[error("{path}: {why}")]
    Pem {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate and the key do not go together, or are of no use.
    #[error("the certificate and key cannot be used")]
    Rustls(#[from] rustls::Error),
    /// No certificate could be made.
    #[error("no certificate could be made")]
    Make(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("the certificate could not be stored")]
    Io(#[from] io::Error),
}

/// The certificate in use.
#[derive(Debug)]
pub(crate) struct TlsConfig {
    current: ArcSwap<ServerConfig>,
    cert: PathBuf,
    key: PathBuf,
}

impl TlsConfig {
    pub(crate) fn load(cert: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let current = ArcSwap::from(read(&cert, &key)?);
        Ok(Self { current, cert, key })
    }

    /// Reads the files again; what stood before stays if they are of no use.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        self.current.store(read(&self.cert, &self.key)?);
        Ok(())
    }

    /// Reads the files again whenever one of them has changed, until told to stop.
    pub(crate) async fn watch(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        let mut seen = self.changed_at();
        while tokio::time::timeout(every, stop.cancelled()).await.is_err() {
            let changed = self.changed_at();
            if changed == seen {
                continue;
            }
            seen = changed;
            match self.reload() {
                Ok(()) => tracing::info!("the certificate was read again"),
                Err(error) => tracing::error!(%error, "the changed certificate is of no use"),
            }
        }
    }

    fn changed_at(&self) -> [Option<SystemTime>; 2] {
        [&self.cert, &self.key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

/// Looks whether a certificate and a key are of use.
pub(crate) fn check(cert: &PathBuf, key: &PathBuf) -> Result<(), TlsError> {
    read(cert, key).map(drop)
}

fn read(cert: &PathBuf, key: &PathBuf) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |path: &PathBuf, error: rustls::pki_types::pem::Error| TlsError::Pem {
        path: path.display().to_string(),
        why: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(cert, error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
    let provider = Arc::new(provider::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What clients call a gateway that listens there: the hosts that are bound, those that
/// `listen.hosts` names, and, where every address of the machine is bound, each of those and its name.
pub(crate) fn names_of(listen: &Listen) -> io::Result<Vec<String>> {
    let bound = |address: &String| {
        address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned())
    };
    let mut names: BTreeSet<String> = listen.http.iter().filter_map(bound).collect();
    names.extend(listen.hosts.iter().cloned());
    names.insert("localhost".to_owned());
    let count = names.len();
    names.retain(|name| !name.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()));
    if names.len() < count {
        names.extend(if_addrs::get_if_addrs()?.iter().map(|held| held.ip().to_string()));
        let system = rustix::system::uname();
        let is_plain = |name: &&str| !name.is_empty() && name.is_ascii();
        names.extend(system.nodename().to_str().ok().filter(is_plain).map(str::to_owned));
    }
    Ok(names.into_iter().collect())
}

/// Makes a certificate for these names in `folder`; returns its files and SHA-256 fingerprint.
pub(crate) fn self_signed(
    folder: &std::path::Path,
    names: Vec<String>,
) -> Result<(PathBuf, PathBuf, String), TlsError> {
    let made = rcgen::generate_simple_self_signed(names)?;
    std::fs::create_dir_all(folder)?;
    let (cert, key) = (folder.join("self-signed.crt"), folder.join("self-signed.key"));
    std::fs::write(&cert, made.cert.pem())?;
    write_private(&key, made.signing_key.serialize_pem().as_bytes())?;
    let hash = digest::digest(&digest::SHA256, made.cert.der());
    let hex: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Ok((cert, key, hex.join(":")))
}

fn write_private(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_names_that_clients_can_use() {
        let named = |http: &str| {
            let (http, hosts) = (vec![http.to_owned()], vec!["gw.example.com".to_owned()]);
            names_of(&Listen { http, hosts, ..Listen::default() }).unwrap()
        };
        assert_eq!(named("[2001:db8::1]:80"), ["2001:db8::1", "gw.example.com", "localhost"]);
        for everywhere in ["0.0.0.0:80", "[::]:80"] {
            let names = named(everywhere);
            assert!(names.contains(&"127.0.0.1".to_owned()), "{names:?}");
            assert!(!names.iter().any(|name| name == "0.0.0.0" || name == "::"), "{names:?}");
        }
    }

    #[tokio::test]
    async fn a_changed_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let names = || vec!["localhost".to_owned()];
        let (cert, key, _) = self_signed(folder.path(), names()).unwrap();
        let tls = Arc::new(TlsConfig::load(cert.clone(), key).unwrap());
        let first = tls.current.load_full();
        std::fs::write(&cert, "no certificate").unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&first, &tls.current.load_full()));

        let stop = CancellationToken::new();
        let every = Duration::from_millis(1);
        let watching = tokio::spawn(Arc::clone(&tls).watch(every, stop.clone()));
        tokio::task::yield_now().await;
        self_signed(folder.path(), names()).unwrap();
        let taken = async {
            while Arc::ptr_eq(&first, &tls.current.load_full()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
        stop.cancel();
        watching.await.unwrap();
    }
}
