//! Pages over a log of small segments: together they hold everything once, whatever their bounds.

use std::{path::Path, time::Instant};

use fieldgate_core::{
    id::Seq,
    message::{Message, Qos},
    testing,
};
use fieldgate_store::{
    Record,
    log::{LocalLog, LogOptions},
};
use serde_json::json;

use super::*;

fn open(folder: &Path) -> Arc<LocalLog> {
    let options = LogOptions {
        segment_bytes: 64 << 10,
        tail_bytes_max: 8 << 10,
        free_bytes_min: 0,
        retention_bytes: u64::MAX,
        ..LogOptions::default()
    };
    LocalLog::open(folder, options).unwrap().0
}

fn append(log: &LocalLog, device: &str, payload: &str, arrived: u64) -> u64 {
    let topic = format!("devices/{device}/telemetry");
    let message = Message { ..testing::message(&topic, Qos::AtLeastOnce, payload) };
    let range = log.append(vec![Record::Message(message)], UnixMs(arrived)).unwrap();
    *range.end()
}

fn wait_durable(log: &LocalLog, seq: u64) {
    let began = Instant::now();
    while log.frontier().durable.0 < seq {
        assert!(began.elapsed() < crate::testing::LIMIT, "{seq} is not durable");
        std::thread::yield_now();
    }
}

fn page(log: &LocalLog, query: &str) -> Value {
    let uri = format!("/?{query}").parse().unwrap();
    let tenant = TenantId::default_tenant();
    let wanted = read(&uri, &tenant, &"d".parse().unwrap(), log.epoch()).unwrap();
    serde_json::from_slice(&page::read(log, &wanted).unwrap()).unwrap()
}

/// The items of all pages, and how many pages there were.
fn all(log: &LocalLog, query: &str, mut between: impl FnMut()) -> (Vec<Value>, usize) {
    let (mut items, mut cursor, mut count) = (Vec::new(), String::new(), 0);
    loop {
        let page = page(log, &format!("{query}{cursor}"));
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        count += 1;
        let Some(next) = page["next"].as_str() else { return (items, count) };
        cursor = format!("&cursor={next}");
        between();
    }
}

fn seqs(items: &[Value]) -> Vec<u64> {
    items.iter().map(|item| item["seq"].as_u64().unwrap()).collect()
}

#[test]
fn pages_hold_each_message_once_in_either_order_while_others_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let (mut wanted, mut last) = (Vec::new(), 0);
    for n in 0..900_u64 {
        let device = if n % 7 == 3 || (300..340).contains(&n) { "d" } else { "other" };
        last = append(&log, device, &"x".repeat(usize::try_from(n % 50).unwrap() * 10), n);
        if device == "d" {
            wanted.push(last);
        }
    }
    wait_durable(&log, last);
    for limit in [1, 7, 1_000] {
        let (items, _) = all(&log, &format!("limit={limit}"), || ());
        assert_eq!(seqs(&items), wanted, "{limit}");
        let (items, _) = all(&log, &format!("limit={limit}&order=desc"), || ());
        let backwards: Vec<u64> = wanted.iter().rev().copied().collect();
        assert_eq!(seqs(&items), backwards, "{limit}");
    }
    // What is written meanwhile comes behind, or not at all where the newest came first.
    let mut meanwhile = Vec::new();
    let (items, _) = all(&log, "limit=50", || {
        if meanwhile.len() < 5 {
            meanwhile.push(append(&log, "d", "new", 5_000));
            wait_durable(&log, meanwhile[meanwhile.len() - 1]);
        }
    });
    assert_eq!(seqs(&items), [wanted.clone(), meanwhile.clone()].concat());
    let (before, mut more) = (items, 0);
    let (items, _) = all(&log, "limit=50&order=desc", || {
        more = append(&log, "d", "newer", 6_000);
    });
    wait_durable(&log, more);
    let backwards: Vec<u64> = seqs(&before).into_iter().rev().collect();
    assert_eq!(seqs(&items), backwards);
    log.close();
}

#[test]
fn a_range_is_by_time_or_by_position_and_both_ends_belong_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    // Workers ask for the time before they ask for the number.
    let arrived: Vec<u64> = (0..500_u64).map(|n| 100_000 + n * 100 - (n % 3) * 150).collect();
    let numbers: Vec<u64> = arrived.iter().map(|at| append(&log, "d", "x", *at)).collect();
    wait_durable(&log, 500);
    for (from, to) in [(0, 200_000), (110_000, 120_000), (109_999, 110_001), (300_000, 400_000)] {
        let inside = |at: &u64| from <= *at && *at <= to;
        let wanted: Vec<u64> =
            numbers.iter().zip(&arrived).filter(|(_, at)| inside(at)).map(|(n, _)| *n).collect();
        for order in ["asc", "desc"] {
            let query = format!("limit=70&from={from}&to={to}&order={order}");
            let mut found = seqs(&all(&log, &query, || ()).0);
            if order == "desc" {
                found.reverse();
            }
            assert_eq!(found, wanted, "{query}");
        }
    }
    let at = |seq| Position { epoch: log.epoch(), seq: Seq(seq) };
    let found = |query: &str| seqs(&all(&log, query, || ()).0);
    assert_eq!(found(&format!("from={}&to={}", at(10), at(12))), [10, 11, 12]);
    assert_eq!(found(&format!("after={}&to={}", at(10), at(12))), [11, 12]);
    assert_eq!(found(&format!("order=desc&after={}&from={}", at(12), at(10))), [11, 10]);
    assert_eq!(found(&format!("from={}", at(501))), [0; 0]);
    log.close();
}

#[test]
fn a_page_is_bounded_in_bytes_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let payload = "x".repeat(40_000);
    let wanted: Vec<u64> = (0..60).map(|n| append(&log, "d", &payload, n)).collect();
    wait_durable(&log, 60);
    for order in ["asc", "desc"] {
        let (items, count) = all(&log, &format!("limit=1000&order={order}"), || ());
        let mut found = seqs(&items);
        if order == "desc" {
            found.reverse();
        }
        assert_eq!(found, wanted);
        // 2.4 MB in pages of one, on a slow machine in smaller ones.
        assert!(count >= 3, "{count} pages");
    }
    log.close();
}

#[test]
fn a_position_of_another_life_of_the_log_is_told_as_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let first = append(&log, "d", "x", 1);
    wait_durable(&log, first);
    let items = page(&log, "after=zz:77")["items"].take();
    assert_eq!(
        (&items[0]["gap"]["from"], &items[0]["gap"]["reason"]),
        (&json!("zz:77"), &json!("epoch"))
    );
    assert_eq!(items[1]["seq"], first);
    log.close();
}

#[test]
fn what_is_wrong_is_named_with_what_it_takes() {
    let refused = |query: &str| {
        let uri = format!("/?{query}").parse().unwrap();
        let (tenant, device) = (TenantId::default_tenant(), "d".parse().unwrap());
        read(&uri, &tenant, &device, Epoch(1)).unwrap_err()
    };
    for (query, told) in [
        ("from=yesterday", "from is a time in Unix ms or RFC 3339, or a position"),
        ("to=2:5", "to is of another life of the log"),
        ("after=x", "after is a position"),
        ("cursor=x", "cursor is the next of"),
        ("after=1:5&cursor=x", "exclude each other"),
        ("limit=0", "limit is a whole number from 1 to 1000"),
        ("limit=1&limit=2", "limit is given twice"),
        ("order=up", "order is asc or desc"),
        ("kind=all", "kind is one of telemetry, events"),
        ("since=all", "there is no parameter \"since\""),
    ] {
        let fault = refused(query);
        assert!(fault.message.contains(told), "{query}: {}", fault.message);
    }
}
