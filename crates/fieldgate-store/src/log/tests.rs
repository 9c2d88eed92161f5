//! The log on a real folder: what is acknowledged stays, numbers are never given twice.

use std::os::unix::fs::FileExt as _;

use fieldgate_core::message::Qos;

use super::*;
use crate::{
    disk::faulty::{FaultyDisk, Rates},
    testing::message_at,
};

fn message(qos: Qos, payload: &str) -> Record {
    message_at("devices/a/telemetry", qos, payload)
}

fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 10,
        tail_bytes_max: 4 << 10,
        free_bytes_min: 0,
        ..LogOptions::default()
    }
}

fn wait_durable(log: &LocalLog, seq: u64) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while log.frontier().durable.0 < seq {
        assert!(std::time::Instant::now() < deadline, "{:?} not durable", log.frontier());
        std::thread::yield_now();
    }
}

type Lost = (u64, u64, GapReason);

/// Every payload in the log with its number, and every gap.
fn read_all(log: &LocalLog) -> (Vec<(u64, String)>, Vec<Lost>) {
    let (mut messages, mut gaps) = (Vec::new(), Vec::new());
    let mut from = log.oldest();
    let end = log.frontier().durable;
    while from <= end {
        let chunk = log.read(from, &ReadFilter::default(), 64 << 10).unwrap();
        assert!(chunk.next > from, "reading stands still at {from}");
        from = chunk.next;
        for item in chunk.items {
            match item {
                Followed::Entry(entry) => {
                    if let Record::Message(message) = &entry.record {
                        let text = String::from_utf8(message.payload.to_vec()).unwrap();
                        messages.push((entry.seq.0, text));
                    }
                }
                Followed::Gap(range, reason) => gaps.push((*range.start(), *range.end(), reason)),
            }
        }
    }
    (messages, gaps)
}

#[test]
fn what_was_durable_is_there_after_a_clean_stop_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LocalLog::open(folder.path(), small()).unwrap();
    for n in 0..2_000 {
        let range = log.append(vec![message(Qos::AtLeastOnce, &n.to_string())], UnixMs(n)).unwrap();
        wait_durable(&log, *range.end());
    }
    let before = read_all(&log);
    assert_eq!(before.0.len(), 2_000);
    drop(log);
    let (log, recovery) = LocalLog::open(folder.path(), small()).unwrap();
    assert_eq!(recovery.crash_gap, None);
    assert_eq!(read_all(&log), before);
    assert!(before.1.is_empty());
    assert_eq!(log.append(vec![message(Qos::AtMostOnce, "x")], UnixMs(0)).unwrap(), 2_001..=2_001);
    assert!(verify(folder.path()).unwrap().segment_count > 1);
}

#[test]
fn after_a_crash_numbering_goes_on_behind_the_reservation() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let (log, _) = LocalLog::open(folder.path(), small()).unwrap();
    let range = log.append(vec![message(Qos::AtLeastOnce, "kept"); 3], UnixMs(0)).unwrap();
    wait_durable(&log, *range.end());
    for name in std::fs::read_dir(folder.path()).unwrap() {
        let name = name.unwrap();
        std::fs::copy(name.path(), copy.path().join(name.file_name())).unwrap();
    }
    let (log, recovery) = LocalLog::open(copy.path(), small()).unwrap();
    assert_eq!(recovery.crash_gap, Some((Seq(4), Seq(65_539))));
    let (messages, gaps) = read_all(&log);
    assert_eq!(messages.len(), 3);
    assert_eq!(gaps, [(4, 65_539, GapReason::Crash)]);
    let range = log.append(vec![message(Qos::AtLeastOnce, "new")], UnixMs(0)).unwrap();
    assert_eq!(range, 65_541..=65_541);
}

#[test]
fn a_flipped_byte_is_fenced_and_its_neighbours_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { tail_bytes_max: 0, ..small() };
    let (log, _) = LocalLog::open(folder.path(), options).unwrap();
    for n in 0..20 {
        let range = log.append(vec![message(Qos::AtLeastOnce, &n.to_string())], UnixMs(n)).unwrap();
        wait_durable(&log, *range.end());
    }
    drop(log);
    let path = folder.path().join("0000000000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1_000] ^= 0x40;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(verify(folder.path()).unwrap().damages.len(), 1);
    let (log, _) = LocalLog::open(folder.path(), options).unwrap();
    let (messages, gaps) = read_all(&log);
    assert_eq!(messages.len(), 19);
    assert!(matches!(gaps[..], [(from, to, GapReason::Damaged)] if from == to), "{gaps:?}");
}

#[test]
fn a_torn_tail_is_cut_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LocalLog::open(folder.path(), small()).unwrap();
    let range = log.append(vec![message(Qos::AtLeastOnce, "kept")], UnixMs(0)).unwrap();
    wait_durable(&log, *range.end());
    let range = log.append(vec![message(Qos::AtLeastOnce, "torn")], UnixMs(0)).unwrap();
    wait_durable(&log, *range.end());
    drop(log);
    let path = folder.path().join("0000000000000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"torn").unwrap();
    bytes[at..].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let (log, recovery) = LocalLog::open(folder.path(), small()).unwrap();
    assert!(recovery.cut_bytes > 0);
    assert!(recovery.crash_gap.is_some());
    assert_eq!(read_all(&log).0, [(1, "kept".to_owned())]);
    let cut = std::fs::read_dir(folder.path()).unwrap();
    assert!(cut.into_iter().any(|f| f.unwrap().file_name().to_string_lossy().ends_with(".cut")));
}

#[test]
fn qos_0_is_followed_at_once_and_qos_1_once_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LocalLog::open(folder.path(), small()).unwrap();
    let mut follow = log.follow(Seq(0));
    let mut out = Vec::new();
    log.append(vec![message(Qos::AtMostOnce, "0")], UnixMs(0)).unwrap();
    assert!(follow.next(&mut out, 10, Duration::from_secs(5)));
    assert_eq!(out.len(), 1);
    let range = log.append(vec![message(Qos::AtLeastOnce, "1")], UnixMs(0)).unwrap();
    assert!(follow.next(&mut out, 10, Duration::from_secs(5)));
    assert!(log.frontier().durable.0 >= *range.end());
    assert_eq!(out.len(), 2);
    log.close();
    while follow.next(&mut out, 10, Duration::from_secs(5)) {}
    assert_eq!(out.len(), 2);
}

#[test]
fn qos_0_that_nobody_waits_for_is_durable_within_a_tenth_of_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LocalLog::open(folder.path(), small()).unwrap();
    // Other work on the machine may hold one up: a wait that is too long holds up each.
    let took = || {
        let range = log.append(vec![message(Qos::AtMostOnce, "0")], UnixMs(0)).unwrap();
        let begun = std::time::Instant::now();
        wait_durable(&log, *range.end());
        begun.elapsed()
    };
    let in_time = (0..20).any(|_| took() <= Duration::from_millis(100));
    assert!(in_time, "none of 20 was");
}

#[test]
fn concurrent_groups_are_contiguous_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) =
        LocalLog::open(folder.path(), LogOptions { segment_bytes: 1 << 20, ..small() }).unwrap();
    let mut follow = log.follow(Seq(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for n in 0..500 {
                    let group = vec![message(Qos::AtLeastOnce, &format!("{thread}-{n}")); 3];
                    while log.append(group.clone(), UnixMs(0)).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut out = Vec::new();
        while out.len() < 6_000 {
            assert!(follow.next(&mut out, 100, Duration::from_secs(10)));
        }
        let seqs: Vec<u64> = out
            .iter()
            .map(|item| match item {
                Followed::Entry(entry) => entry.seq.0,
                Followed::Gap(..) => panic!("{item:?}"),
            })
            .collect();
        assert_eq!(seqs, (1..=6_000).collect::<Vec<_>>());
    });
    assert_eq!(read_all(&log).0.len(), 6_000);
}

#[test]
fn a_time_is_found_where_the_first_record_that_late_is_whatever_the_clock_did() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 1 << 20, ..small() };
    let (log, _) = LocalLog::open(folder.path(), options).unwrap();
    // The clock is set back now and then, and blocks end where they end.
    let arrived: Vec<u64> = (0..12_000_u64).map(|n| n - (n / 700 % 3) * 500 % n.max(1)).collect();
    for run in arrived.chunks(100) {
        for at in run {
            log.append(vec![message(Qos::AtMostOnce, "x")], UnixMs(*at)).unwrap();
        }
        log.announce();
    }
    wait_durable(&log, 12_000);
    for time in (0..12_500).step_by(97) {
        let first = arrived.iter().position(|at| *at >= time).unwrap_or(arrived.len());
        assert_eq!(log.seek_time(UnixMs(time)).unwrap().0, first as u64 + 1, "{time}");
    }
    log.close();
}

#[test]
fn a_torn_batch_whose_first_page_was_lost_is_cut_as_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        let (log, recovery) = LocalLog::open(folder.path(), small()).unwrap();
        let range = log.append(vec![message(Qos::AtLeastOnce, text)], UnixMs(1)).unwrap();
        wait_durable(&log, *range.end());
        log.close();
        recovery
    };
    write("whole");
    let mut files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let segment = files.find(|path| path.extension().is_some_and(|end| end == "seg")).unwrap();
    // Pages of a write reach the disk in any order: the first did not, the third did.
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[7; 4096], 12 << 10).unwrap();
    let first = write("next");
    assert!(first.cut_bytes > 0 && first.crash_gap.is_some(), "{first:?}");
    let second = write("last");
    assert_eq!((second.cut_bytes, second.crash_gap), (0, None), "{second:?}");
}

#[test]
fn what_is_refused_while_the_log_is_stopped_is_no_damage_whatever_stands_before_it() {
    let disk = FaultyDisk::new(1);
    let options = LogOptions { tail_bytes_max: 0, ..small() };
    let (mut manual, _) = ManualLog::open(Arc::new(disk.clone()), options).unwrap();
    let log = Arc::clone(&manual.log);
    let send = |text| *log.append(vec![message(Qos::AtLeastOnce, text)], UnixMs(1)).unwrap().end();
    let stored = send("stored");
    manual.step();
    let refused = send("refused");
    disk.set_rates(Rates { write_error: 1, create_error: 1, ..Rates::default() });
    manual.step();
    assert!(log.is_stopped() && log.frontier().durable == Seq(refused));
    let crash = (refused, refused, GapReason::Crash);
    assert_eq!(read_all(&log), (vec![(stored, "stored".to_owned())], vec![crash]));
    disk.set_rates(Rates::default());
    let name = disk.list().unwrap().into_iter().find(|name| name.ends_with(".seg")).unwrap();
    let (file, mut bytes) = (disk.open(&name).unwrap(), vec![0; 4 << 10]);
    file.read_at(0, &mut bytes).unwrap();
    let at = bytes.windows(6).position(|bytes| bytes == b"stored").unwrap();
    file.write_at(at as u64, b"broken").unwrap();
    for _ in 0..2 {
        let damage = (stored, stored, GapReason::Damaged);
        assert_eq!(read_all(&log), (vec![], vec![damage, crash]));
        assert_eq!(log.status().damaged, [stored..=stored]);
        // And the same once it goes on in a new segment.
        manual.keep_house();
        assert!(!log.is_stopped());
    }
}

#[test]
fn what_is_older_than_memory_is_read_from_the_disk_and_never_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = LocalLog::open(folder.path(), small()).unwrap();
    let range = log.append(vec![message(Qos::AtLeastOnce, "before")], UnixMs(1)).unwrap();
    let recent = |log: &LocalLog, from| {
        log.read_recent(Seq(from), &ReadFilter::default(), 1 << 20).map(|chunk| chunk.items.len())
    };
    wait_durable(&log, *range.end());
    assert_eq!(recent(&log, 1), Some(1));
    log.close();
    drop(log);
    let (log, _) = LocalLog::open(folder.path(), small()).unwrap();
    assert_eq!(recent(&log, 1), None);
    let range = log.append(vec![message(Qos::AtLeastOnce, "behind")], UnixMs(2)).unwrap();
    wait_durable(&log, *range.end());
    assert_eq!((recent(&log, 1), recent(&log, *range.start())), (None, Some(1)));
    assert_eq!(read_all(&log).0.len(), 2);
}
