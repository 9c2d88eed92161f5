//! What every engine of the log must do: one set of tests, run on each.
//!
//! `sync` makes what was given durable and waits for it; where an engine syncs by itself it waits.

use std::{sync::Arc, time::Duration};

use fieldgate_core::{
    dialect::GapReason,
    id::{Seq, TenantId, UnixMs},
    message::Qos,
};

use crate::{
    log::{LocalLog, LogOptions},
    memory::SimLog,
    port::{Follow, Followed, Log, ReadFilter},
    testing::message_at,
};

const LIMIT: Duration = Duration::from_secs(10);

fn wait_durable(log: &dyn Log, seq: u64) {
    let deadline = std::time::Instant::now() + LIMIT;
    while log.frontier().durable.0 < seq {
        assert!(std::time::Instant::now() < deadline, "{:?} not durable", log.frontier());
        std::thread::yield_now();
    }
}

fn seqs(items: &[Followed]) -> Vec<u64> {
    items
        .iter()
        .map(|item| match item {
            Followed::Entry(entry) => entry.seq.0,
            Followed::Gap(range, reason) => panic!("gap {range:?} {reason:?}"),
        })
        .collect()
}

fn follow_all(follow: &mut dyn Follow, len: usize) -> Vec<Followed> {
    let mut out = Vec::new();
    let deadline = std::time::Instant::now() + LIMIT;
    while out.len() < len {
        assert!(std::time::Instant::now() < deadline, "only {} of {len}", out.len());
        follow.next(&mut out, 100, Duration::from_millis(20));
    }
    out
}

fn numbers_are_contiguous_and_rise(log: &dyn Log) {
    for expected in [1..=1, 2..=4, 5..=5] {
        let group = vec![message_at("t", Qos::AtLeastOnce, "x"); expected.clone().count()];
        assert_eq!(log.append(group, UnixMs(0)).unwrap(), expected);
    }
    wait_durable(log, 5);
    assert_eq!(log.frontier().ordered, Seq(5));
    assert!(!log.is_refused(Seq(3)));
}

fn readers_and_the_follower_see_one_order(log: &dyn Log) {
    let mut follow = log.follow(Seq(0));
    for n in 0..100 {
        let qos = if n % 3 == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
        log.append(vec![message_at("t", qos, &n.to_string())], UnixMs(n)).unwrap();
    }
    let followed = follow_all(follow.as_mut(), 100);
    assert_eq!(seqs(&followed), (1..=100).collect::<Vec<_>>());
    wait_durable(log, 100);
    let chunk = log.read(Seq(1), &ReadFilter::default(), 1 << 20).unwrap();
    assert_eq!(seqs(&chunk.items), seqs(&followed));
    assert_eq!(chunk.next, Seq(101));
    let chunk = log.read(Seq(101), &ReadFilter::default(), 1 << 20).unwrap();
    assert!(chunk.items.is_empty());
    assert_eq!(chunk.next, Seq(101));
}

fn a_filter_selects_and_moves_on(log: &dyn Log) {
    for n in 0..50 {
        let topic = format!("devices/{}/telemetry", n % 5);
        log.append(vec![message_at(&topic, Qos::AtLeastOnce, "x")], UnixMs(n)).unwrap();
    }
    wait_durable(log, 50);
    let filter = ReadFilter {
        tenant: Some(TenantId::default_tenant()),
        filters: vec!["devices/3/#".parse().unwrap()],
        arrived_from: Some(UnixMs(10)),
        arrived_until: None,
    };
    let chunk = log.read(Seq(1), &filter, 1 << 20).unwrap();
    assert_eq!(seqs(&chunk.items), [14, 19, 24, 29, 34, 39, 44, 49]);
    assert_eq!(chunk.next, Seq(51));
    let filter = ReadFilter { arrived_until: Some(UnixMs(38)), ..filter };
    let chunk = log.read(Seq(1), &filter, 1 << 20).unwrap();
    assert_eq!(seqs(&chunk.items), [14, 19, 24, 29, 34, 39]);
    assert_eq!(chunk.next, Seq(51));
    let other = ReadFilter { tenant: Some("other".parse().unwrap()), ..ReadFilter::default() };
    let chunk = log.read(Seq(1), &other, 1 << 20).unwrap();
    assert!(chunk.items.is_empty() && chunk.next == Seq(51));
    assert_eq!(log.seek_time(UnixMs(10)).unwrap(), Seq(11));
    assert_eq!(log.seek_time(UnixMs(1_000)).unwrap(), Seq(51));
}

fn a_small_chunk_is_continued(log: &dyn Log) {
    for n in 0..40 {
        let payload = "x".repeat(500);
        log.append(vec![message_at("t", Qos::AtLeastOnce, &payload)], UnixMs(n)).unwrap();
    }
    wait_durable(log, 40);
    let (mut from, mut found) = (log.oldest(), Vec::new());
    while from <= log.frontier().durable {
        let chunk = log.read(from, &ReadFilter::default(), 1_000).unwrap();
        assert!(chunk.next > from && chunk.items.len() < 40);
        from = chunk.next;
        found.extend(seqs(&chunk.items));
    }
    assert_eq!(found, (1..=40).collect::<Vec<_>>());
}

fn the_durable_frontier_wakes(log: &dyn Log) {
    let (tell, told) = std::sync::mpsc::channel();
    log.on_durable(Arc::new(move |frontier| {
        let _ = tell.send(frontier.durable);
    }));
    log.append(vec![message_at("t", Qos::AtLeastOnce, "x")], UnixMs(0)).unwrap();
    assert_eq!(told.recv_timeout(LIMIT), Ok(Seq(1)));
}

fn a_closed_log_takes_nothing_and_ends_its_follower(log: &dyn Log) {
    let mut follow = log.follow(Seq(0));
    log.append(vec![message_at("t", Qos::AtLeastOnce, "x")], UnixMs(0)).unwrap();
    log.close();
    assert!(log.append(vec![message_at("t", Qos::AtLeastOnce, "x")], UnixMs(0)).is_err());
    let mut out = Vec::new();
    let deadline = std::time::Instant::now() + LIMIT;
    while follow.next(&mut out, 10, Duration::from_millis(20)) {
        assert!(std::time::Instant::now() < deadline, "the follower never ends");
    }
    assert_eq!(seqs(&out), [1]);
}

fn an_empty_group_is_refused(log: &dyn Log) {
    assert!(log.append(Vec::new(), UnixMs(0)).is_err());
    assert_eq!(log.frontier().ordered, Seq(0));
}

const ALL: [fn(&dyn Log); 7] = [
    numbers_are_contiguous_and_rise,
    readers_and_the_follower_see_one_order,
    a_filter_selects_and_moves_on,
    a_small_chunk_is_continued,
    the_durable_frontier_wakes,
    a_closed_log_takes_nothing_and_ends_its_follower,
    an_empty_group_is_refused,
];

#[test]
fn the_local_log_keeps_the_contract() {
    for tail_bytes_max in [0, 32 << 20] {
        for test in ALL {
            let folder = tempfile::tempdir().unwrap();
            let options = LogOptions {
                segment_bytes: 8 << 10,
                tail_bytes_max,
                free_bytes_min: 0,
                ..LogOptions::default()
            };
            test(LocalLog::open(folder.path(), options).unwrap().0.as_ref());
        }
    }
}

#[test]
fn the_log_in_memory_keeps_the_contract() {
    for test in ALL {
        test(SimLog::new().as_ref());
    }
}

#[test]
fn what_the_sim_log_refuses_is_a_crash_gap() {
    let log = SimLog::manual();
    let mut follow = log.follow(Seq(0));
    log.append(vec![message_at("t", Qos::AtLeastOnce, "x"); 2], UnixMs(0)).unwrap();
    let mut out = Vec::new();
    assert!(follow.next(&mut out, 10, Duration::ZERO) && out.is_empty());
    log.refuse();
    assert!(log.is_refused(Seq(2)));
    follow.next(&mut out, 10, Duration::ZERO);
    assert!(matches!(&out[..], [Followed::Gap(range, GapReason::Crash)] if *range == (1..=2)));
}

#[test]
fn an_announced_run_reaches_a_follower_that_waits() {
    let log = SimLog::manual();
    let mut follow = log.follow(Seq(0));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let mut out = Vec::new();
            while out.len() < 2 {
                assert!(follow.next(&mut out, 10, Duration::from_secs(60)));
            }
            out.len()
        });
        for _ in 0..2 {
            log.append(vec![message_at("t", Qos::AtMostOnce, "x")], UnixMs(0)).unwrap();
        }
        while !waiting.is_finished() {
            // It may not wait yet.
            log.announce();
            std::thread::yield_now();
        }
        assert_eq!(waiting.join().unwrap(), 2);
    });
}
