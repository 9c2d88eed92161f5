//! Opening a folder again: with its tables, without them, with less than they need.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use fieldgate_core::{
    dialect::GapReason,
    id::{DeviceId, TenantId},
    message::Qos,
    testing::message,
    topic::Filter,
};

use super::*;
use crate::{
    log::LogOptions,
    record::Record,
    registry::{Change, Device, RegistryChange},
    testing::message_at,
};

const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

fn options() -> StoreOptions {
    let log = LogOptions {
        free_bytes_min: 0,
        segment_bytes: 256 << 10,
        retention_bytes: 1 << 20,
        tail_bytes_max: 64 << 10,
        ..LogOptions::default()
    };
    StoreOptions { log, ..StoreOptions::default() }
}

/// Appends, waits until it is stored, and applies it, as the server does.
fn put(store: &Store, records: Vec<Record>) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = UnixMs(u64::try_from(now).unwrap());
    let seqs = store.log.append(records, now).unwrap();
    until(|| store.log.frontier().durable.0 >= *seqs.end());
    read_all(&store.log, Seq(*seqs.start()), Seq(*seqs.end()), |step| {
        learn(&store.state, step);
        store.state.apply(step);
    })
    .unwrap();
    *seqs.end()
}

fn until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "did not come to hold");
        std::thread::yield_now();
    }
}

fn device(id: &str) -> Record {
    let change = Change::DeviceAdd(Device {
        id: id.to_owned(),
        credentials: BTreeMap::from([("1".to_owned(), [7; 32])]),
        ..Device::default()
    });
    Record::Registry(Box::new(RegistryChange::local("default", change)))
}

fn retained(topic: &str, payload: &str) -> Record {
    let mut message = message(topic, Qos::AtLeastOnce, payload);
    message.retain = true;
    message.reference = "m-1".parse().ok();
    Record::Message(message)
}

/// A folder whose log has forgotten its beginning: a device, a retained message, then much more.
fn aged() -> (tempfile::TempDir, Seq) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    put(&store, vec![device("lamp"), retained("a/b", "kept")]);
    let filler = "x".repeat(10_000);
    until(|| {
        put(&store, vec![message_at("t", Qos::AtLeastOnce, &filler); 8]);
        store.log.oldest() > Seq(3)
    });
    let oldest = store.log.oldest();
    store.log.close();
    (folder, oldest)
}

fn assert_whole(store: &Store) {
    let tenant = TenantId::default_tenant();
    let lamp: DeviceId = "lamp".parse().unwrap();
    assert_eq!(store.state.device(&tenant, &lamp).unwrap().credentials.len(), 1);
    let filter: Filter = "a/#".parse().unwrap();
    let kept = store.state.retained(&tenant, &filter);
    assert!(matches!(&kept[..], [entry] if entry.seq == Seq(2)), "{kept:?}");
}

#[test]
fn a_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    assert!(matches!(Store::open(folder.path(), options()), Err(OpenStoreError::InUse)));
    let mode = std::fs::metadata(folder.path().join("master.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(store);
    assert!(Store::open(folder.path(), options()).is_ok());
}

#[test]
fn what_retention_takes_from_the_log_stands_in_the_tables() {
    let (folder, oldest) = aged();
    let store = Store::open(folder.path(), options()).unwrap();
    assert_whole(&store);
    assert!(!store.tables.is_failing());
    let chunk = store.log.read(Seq(1), &ReadFilter::default(), 1).unwrap();
    let gap = Followed::Gap(1..=oldest.prev().0, GapReason::Retention);
    assert_eq!(format!("{:?}", chunk.items.first()), format!("{:?}", Some(&gap)));
}

#[test]
fn lost_tables_are_rebuilt_from_an_export() {
    let (folder, _) = aged();
    std::fs::remove_dir_all(folder.path().join("tables")).unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    assert_whole(&store);
    until(|| store.tables.applied() >= store.applied);
    drop(store);
    // The rebuilt tables serve alone.
    std::fs::remove_dir_all(folder.path().join("exports")).unwrap();
    assert_whole(&Store::open(folder.path(), options()).unwrap());
}

#[test]
fn damaged_tables_are_rebuilt_from_an_export() {
    let (folder, _) = aged();
    for entry in walk(&folder.path().join("tables")) {
        let mut bytes = std::fs::read(&entry).unwrap();
        bytes.iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
        std::fs::write(&entry, bytes).unwrap();
    }
    assert_whole(&Store::open(folder.path(), options()).unwrap());
}

#[test]
fn tables_that_lost_what_they_had_are_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let (tables, old) = (folder.path().join("tables"), folder.path().join("old"));
    let add = |id: &str| {
        let store = Store::open(folder.path(), options()).unwrap();
        let seq = put(&store, vec![device(id)]);
        until(|| store.tables.applied() >= Seq(seq));
        // The next batch of the log says how far the tables are.
        put(&store, vec![message_at("t", Qos::AtLeastOnce, "x")]);
        store.log.close();
    };
    add("lamp");
    copy(&tables, &old);
    add("door");
    std::fs::remove_dir_all(&tables).unwrap();
    std::fs::rename(&old, &tables).unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    let devices = store.state.devices(&TenantId::default_tenant());
    let ids: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(ids, ["door", "lamp"]);
}

#[test]
fn a_store_that_cannot_know_its_devices_does_not_open() {
    let (folder, oldest) = aged();
    std::fs::remove_dir_all(folder.path().join("tables")).unwrap();
    std::fs::remove_dir_all(folder.path().join("exports")).unwrap();
    match Store::open(folder.path(), options()) {
        Err(OpenStoreError::StateLost { from, to }) => {
            assert_eq!((from, to), (Seq(1), oldest.prev()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_msgid_is_known_after_a_restart_and_after_a_rebuild() {
    let folder = tempfile::tempdir().unwrap();
    let known = |store: &Store| store.state.window().all().len();
    let store = Store::open(folder.path(), options()).unwrap();
    let seq = put(&store, vec![retained("a/b", "x")]);
    until(|| store.tables.applied() >= Seq(seq));
    store.log.close();
    drop(store);
    assert_eq!(known(&Store::open(folder.path(), options()).unwrap()), 1);
    std::fs::remove_dir_all(folder.path().join("tables")).unwrap();
    assert_eq!(known(&Store::open(folder.path(), options()).unwrap()), 1);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    for file in walk(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
}

#[test]
fn opening_anew_builds_on_the_tables_and_not_on_the_whole_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    let seq = put(&store, vec![device("lamp"); 3]);
    until(|| store.tables.applied() >= Seq(seq));
    store.log.close();
    drop(store);
    let store = Store::open(folder.path(), options()).unwrap();
    // What is not replayed has no outcome.
    assert!(store.state.outcome(Seq(1)).is_none());
    assert_eq!(store.state.devices(&TenantId::default_tenant()).len(), 1);
    assert_eq!(Arc::strong_count(&store.tables), 2);
}

#[test]
fn an_export_from_the_future_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), options()).unwrap();
    let first = put(&store, vec![device("lamp")]);
    until(|| store.tables.exported() >= Seq(first));
    drop(store);
    for file in walk(&folder.path().join("exports")) {
        let file = OpenOptions::new().write(true).open(file).unwrap();
        // The clock was two days ahead then, or was set back since.
        let ahead = SystemTime::now() + std::time::Duration::from_secs(48 * 3_600);
        file.set_modified(ahead).unwrap();
    }
    let store = Store::open(folder.path(), options()).unwrap();
    let second = put(&store, vec![device("door")]);
    until(|| store.tables.exported() >= Seq(second));
}

#[test]
fn a_folder_whose_key_is_gone_is_not_given_another() {
    let folder = tempfile::tempdir().unwrap();
    let (key, aside) = (folder.path().join("master.key"), folder.path().join("aside"));
    put(&Store::open(folder.path(), options()).unwrap(), vec![device("lamp")]);
    std::fs::rename(&key, &aside).unwrap();
    assert!(matches!(Store::open(folder.path(), options()), Err(OpenStoreError::KeyLost)));
    assert!(!key.exists());
    std::fs::rename(&aside, &key).unwrap();
    assert!(Store::open(folder.path(), options()).is_ok());
}
