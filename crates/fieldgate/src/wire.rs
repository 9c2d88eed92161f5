//! The one place that puts a gateway together: store, server, certificate.
//!
//! Invariant: whatever starts a gateway also stops it, and the store is closed before this returns.

use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
    time::Duration,
};

use fieldgate_server::{Config, Running, StartError, StartOptions, admin};
use fieldgate_store::{OpenStoreError, Store, StoreOptions, secret::MasterKey};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::failure::{Exit, Failure, chain};

/// Takes the lock of a data folder, as a running gateway does.
pub(crate) fn lock(folder: &Path) -> Result<File, Failure> {
    let lock = OpenOptions::new().write(true).open(folder.join("LOCK")).map_err(|error| {
        Failure::new(Exit::Store, "storage", format!("{}: {error}", folder.display()))
    })?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let text = format!("{}: the data folder is in use", folder.display());
        Failure::new(Exit::Store, "storage", text).hint("another gateway runs on this folder")
    })?;
    Ok(lock)
}

/// Opens a data folder.
pub(crate) fn open_store(folder: &Path, options: StoreOptions) -> Result<Store, Failure> {
    Store::open(folder, options).map_err(|error| {
        let text = format!("{}: {}", folder.display(), chain(&error));
        let failure = Failure::new(Exit::Store, "storage", text);
        if matches!(error, OpenStoreError::InUse) {
            return failure.hint("another gateway runs on this folder");
        }
        failure
    })
}

/// Has `master.key` of a data folder lead to a key that is kept elsewhere, so that whoever opens the
/// folder without the configuration finds it, too.
fn link_key(folder: &Path, key: &Path) -> Result<(), Failure> {
    let key = std::path::absolute(key)?;
    let told = |what: &Path, error: &dyn std::fmt::Display| {
        let text = format!("security.master_key_file: {}: {error}", what.display());
        Failure::new(Exit::Store, "storage", text)
    };
    if !key.exists() && !folder.join("log").exists() {
        MasterKey::open(&key).map_err(|error| told(&key, &error))?;
    }
    std::fs::create_dir_all(folder)?;
    let link = folder.join("master.key");
    match std::fs::symlink_metadata(&link) {
        Ok(there) if there.is_symlink() => {
            if std::fs::read_link(&link)? == key {
                return Ok(());
            }
            std::fs::remove_file(&link)?;
        }
        Ok(_) => {
            let text =
                "the folder has a key of its own, under which its secrets are: move it there";
            return Err(told(&link, &text));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(error) => return Err(told(&link, &error)),
    }
    Ok(std::os::unix::fs::symlink(&key, &link)?)
}

/// What the configuration says about the store.
fn store_options(config: &Config) -> StoreOptions {
    let mut options = StoreOptions::default();
    options.log.sync = config.store.durability != "os";
    options.log.free_bytes_min = config.store.free_bytes_min;
    options.log.retention_age = Duration::from_millis(config.retention.age_ms);
    options.log.retention_bytes = config.retention.bytes;
    options.state.reported.resources_max = config.limits.resources_per_device_max;
    options.state.devices_max = config.limits.devices_per_tenant_max;
    options.state.devices_per_source_max = config.limits.devices_per_source_max;
    options.state.retained_max = config.limits.retained_per_tenant_max;
    options.state.retained_bytes_max =
        usize::try_from(config.limits.retained_bytes_per_tenant_max).unwrap_or(usize::MAX);
    if !options.log.sync {
        tracing::warn!("store.durability is \"os\": an acknowledgement does not mean stored");
    }
    options
}

/// Says so if the log may grow past what the disk has.
fn warn_of_small_disk(config: &Config, folder: &Path) {
    let disk_bytes = match rustix::fs::statvfs(folder) {
        Ok(disk) => disk.f_blocks.saturating_mul(disk.f_frsize),
        Err(error) => {
            tracing::warn!(%error, "the size of the disk is unknown");
            return;
        }
    };
    let needed = config.retention.bytes.saturating_add(config.store.free_bytes_min);
    if disk_bytes < needed {
        tracing::warn!(
            disk_bytes,
            needed_bytes = needed,
            "the disk is smaller than retention.bytes and store.free_bytes_min together: messages \
             will be refused before the oldest go; set retention.bytes"
        );
    }
}

/// Longest path of a socket, in bytes: `sun_path` of Linux holds 108, the last of which is 0.
const SOCKET_BYTES_MAX: usize = 107;

/// Whether the path of the folder's `admin.sock` is one that a socket can have.
pub(crate) fn check_socket(folder: &Path) -> Result<(), Failure> {
    let socket = folder.join("admin.sock");
    let len = socket.as_os_str().len();
    if len <= SOCKET_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "{} is {len} bytes, a socket's path may have {SOCKET_BYTES_MAX}: choose a shorter --data",
        socket.display()
    );
    Err(Failure::usage(text).hint("a path from the working folder on is shorter, too"))
}

/// Starts a gateway.
pub(crate) async fn start(
    config: Config,
    folder: &Path,
    options: StartOptions,
) -> Result<Running, Failure> {
    check_socket(folder)?;
    if let Some(key) = &config.security.master_key_file {
        link_key(folder, key)?;
    }
    let store = open_store(folder, store_options(&config))?;
    warn_of_small_disk(&config, folder);
    fieldgate_server::start(config, store, options).await.map_err(|error| {
        let failure = Failure::new(Exit::Failed, "start", error.to_string());
        match error {
            StartError::Bind { .. } => failure.hint("--listen 127.0.0.1:0 takes any free port"),
            StartError::Plaintext(_) | StartError::Tls(_) => {
                Failure { exit: Exit::Usage, ..failure }
            }
            StartError::Io(_) | _ => failure,
        }
    })
}

/// How a folder is opened for one request: nothing that is kept goes.
///
/// How long and how much is kept is what the gateway was configured with. Nobody says that here, and
/// what is opened keeps house and reads the end of the log as a gateway does, so there is no bound.
fn resting_options() -> StoreOptions {
    let mut options = StoreOptions::default();
    options.log.free_bytes_min = 0;
    options.log.retention_age = Duration::MAX;
    options.log.retention_bytes = u64::MAX;
    options.state.reported.resources_max = usize::MAX;
    options.state.devices_max = usize::MAX;
    options.state.devices_per_source_max = usize::MAX;
    options.state.retained_max = usize::MAX;
    options.state.retained_bytes_max = usize::MAX;
    options
}

/// One administrative request on a folder that no gateway has open; returns status and body.
pub(crate) fn offline(
    folder: &Path,
    method: &str,
    path: &str,
    body: Vec<u8>,
) -> Result<(u16, Value), Failure> {
    let store = open_store(folder, resting_options())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let answered = runtime.block_on(admin::offline(store, method, path, body));
    answered.map_err(|fault| Failure::new(Exit::Failed, fault.code.as_str(), fault.message))
}

#[cfg(test)]
mod tests {
    use fieldgate_core::id::{Seq, UnixMs};
    use fieldgate_store::{
        Log as _, ReadFilter, Record,
        registry::{Change, Device, RegistryChange},
    };

    use super::*;

    /// A folder with two segments, of which the first is larger than what is kept by default.
    fn large() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut options = StoreOptions::default();
        options.log.free_bytes_min = 0;
        options.log.segment_bytes = 64 << 10;
        let store = Store::open(folder.path(), options).unwrap();
        let device = |number: usize| {
            let device = Device { id: format!("{number:0>100}"), ..Device::default() };
            let change = RegistryChange::local("default", Change::DeviceAdd(device));
            Record::Registry(Box::new(change))
        };
        while store.log.status().segment_count < 2 {
            let last = *store.log.append((0..100).map(device).collect(), UnixMs(1)).unwrap().end();
            while store.log.frontier().durable.0 < last {
                std::thread::yield_now();
            }
        }
        // What stands in the tables is not read from the log again: it is about to be very long.
        let mut next = Seq(1);
        while next <= store.log.frontier().durable {
            let chunk = store.log.read(next, &ReadFilter::default(), 1 << 20).unwrap();
            chunk.items.iter().for_each(|step| drop(store.state.apply(step)));
            next = chunk.next;
        }
        while store.tables.applied().next() < next {
            std::thread::yield_now();
        }
        store.log.close();
        drop(store);
        let files = std::fs::read_dir(folder.path().join("log")).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let first = files.filter(|path| path.extension().is_some_and(|end| end == "seg")).min();
        let file = OpenOptions::new().write(true).open(first.unwrap()).unwrap();
        file.set_len(StoreOptions::default().log.retention_bytes + 1).unwrap();
        folder
    }

    #[test]
    fn a_folder_that_is_opened_for_one_request_keeps_all_that_it_has() {
        let folder = large();
        // Wanted to go at the opening, if it may not go yet.
        let is_too_much = |options| {
            let store = open_store(folder.path(), options).unwrap();
            let status = store.log.status();
            status.is_held_back || status.segment_count < 2
        };
        assert!(!is_too_much(resting_options()));
        let mut options = StoreOptions::default();
        options.log.free_bytes_min = 0;
        assert!(is_too_much(options), "the bound that a gateway has by default");
    }
}
