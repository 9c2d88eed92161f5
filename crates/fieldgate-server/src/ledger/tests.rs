//! The ledger on a folder of its own.

use super::*;

fn small() -> RingOptions {
    RingOptions { file_bytes_max: 2_048, file_count_max: 4 }
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn query(text: &str) -> DropsQuery {
    DropsQuery::of(&format!("/drops?{text}").parse().unwrap()).unwrap()
}

/// What a page shows: who and how many.
fn page(ledger: &Ledger, text: &str) -> (Vec<(String, u64)>, Option<u64>) {
    let page = ledger.read("default", &query(text)).unwrap();
    let items = page.items.into_iter().map(|item| (item.who, item.count));
    (items.collect(), page.next.map(|next| next.parse().unwrap()))
}

fn drops(ledger: &Ledger, range: std::ops::Range<u64>) {
    for second in range {
        let (who, time) = (format!("d{second}"), UnixMs(second * 1_000));
        ledger.record(&tenant(), &who, DropReason::Conflated, 1, time);
    }
}

fn sizes(folder: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).collect()
}

#[test]
fn entries_of_one_second_receiver_and_reason_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, keeper) = Ledger::open(folder.path()).unwrap();
    for (who, reason, ms) in [
        ("a", DropReason::Overflow, 5_000),
        ("a", DropReason::Overflow, 5_999),
        ("b", DropReason::Overflow, 5_500),
        ("a", DropReason::Expired, 5_500),
        ("a", DropReason::Overflow, 6_000),
    ] {
        ledger.record(&tenant(), who, reason, 2, UnixMs(ms));
    }
    let expected: Vec<_> =
        [("a", 2), ("a", 2), ("b", 2), ("a", 4)].map(|(who, n)| (who.to_owned(), n)).into();
    assert_eq!(page(&ledger, ""), (expected.clone(), None));
    drop(keeper);
    // Written, it is the same.
    assert_eq!(page(&ledger, ""), (expected, None));
    assert_eq!(page(&ledger, "reason=expired").0, [("a".to_owned(), 2)]);
    assert_eq!(page(&ledger, "who=b").0, [("b".to_owned(), 2)]);
    assert_eq!(page(&ledger, "from=6000&to=6000").0, [("a".to_owned(), 2)]);
    assert_eq!(ledger.totals()[&DropReason::Overflow], 8);
    assert!(ledger.read("other", &query("")).unwrap().items.is_empty());
}

#[test]
fn the_ring_outlives_the_process_stays_within_its_bound_and_keeps_its_totals() {
    let folder = tempfile::tempdir().unwrap();
    let mut written = 0;
    for round in 1..=10 {
        let (ledger, keeper) = Ledger::open_with(folder.path(), small()).unwrap();
        assert_eq!(ledger.totals()[&DropReason::Conflated], written);
        drops(&ledger, written..written + 30);
        written += 30;
        drop(keeper);
        let sizes = sizes(folder.path());
        assert!(sizes.len() <= 4 && sizes.iter().all(|size| *size <= 2_048), "{sizes:?}");
        let newest = page(&ledger, "limit=1").0;
        assert_eq!(newest, [(format!("d{}", written - 1), 1)], "round {round}");
    }
}

#[test]
fn pages_show_every_entry_once_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    let options = RingOptions { file_count_max: 20, ..small() };
    let (ledger, keeper) = Ledger::open_with(folder.path(), options).unwrap();
    drops(&ledger, 0..120);
    drop(keeper);
    let (ledger, _keeper) = Ledger::open_with(folder.path(), options).unwrap();
    // These wait for their second to be over, or are written meanwhile: it makes no difference.
    drops(&ledger, 120..150);
    for limit in [1, 7, 40, 1_000] {
        let (mut seen, mut before) = (Vec::new(), String::new());
        loop {
            let (items, next) = page(&ledger, &format!("limit={limit}{before}"));
            assert!(items.len() <= limit);
            seen.extend(items.into_iter().map(|(who, _)| who));
            let Some(next) = next else { break };
            before = format!("&cursor={next}");
        }
        let expected: Vec<_> = (0..150).rev().map(|second| format!("d{second}")).collect();
        assert_eq!(seen, expected, "limit {limit}");
    }
}

#[test]
fn a_flood_has_a_bounded_number_of_entries_and_loses_no_count() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, keeper) = Ledger::open(folder.path()).unwrap();
    for number in 0..5_000 {
        let who = format!("d{number}");
        ledger.record(&tenant(), &who, DropReason::Overflow, 1, UnixMs(1_000));
    }
    drop(keeper);
    let max = pending::SECOND_LEN_MAX as u64;
    let newest = page(&ledger, "limit=1").0;
    assert_eq!(newest, [("*".to_owned(), 5_000 - max)]);
    assert_eq!(ledger.totals()[&DropReason::Overflow], 5_000);
    let lines = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().lines().count());
    assert_eq!(lines.sum::<usize>() as u64, max + 2);
}

#[test]
fn a_torn_end_is_cut_and_a_damaged_line_costs_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, keeper) = Ledger::open(folder.path()).unwrap();
    drops(&ledger, 0..4);
    drop(keeper);
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"\"d1\"").unwrap();
    bytes[at + 1] = b'x';
    bytes.extend_from_slice(b"deadbeef {\"time\":1");
    std::fs::write(&path, bytes).unwrap();
    let (ledger, keeper) = Ledger::open(folder.path()).unwrap();
    drops(&ledger, 9..10);
    drop(keeper);
    let who: Vec<_> = page(&ledger, "").0.into_iter().map(|(who, _)| who).collect();
    assert_eq!(who, ["d9", "d3", "d2", "d0"]);
    // Neither a file without a whole line nor a foreign one stops a start.
    std::fs::write(folder.path().join("0000000000000099.jsonl"), "dead").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let (ledger, _keeper) = Ledger::open(folder.path()).unwrap();
    drops(&ledger, 10..11);
    assert_eq!(page(&ledger, "limit=2").0[0].0, "d10");
}

#[test]
fn a_disk_that_takes_nothing_costs_bounded_memory_and_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, keeper) = Ledger::open(folder.path()).unwrap();
    // Nothing can be made where the folder was.
    std::fs::remove_dir(folder.path()).unwrap();
    drops(&ledger, 0..20_000);
    assert!(ledger.pending().waiting().len() <= 16_384);
    assert_eq!(ledger.totals()[&DropReason::Conflated], 20_000);
    assert!(ledger.write_out(false).is_err());
    std::fs::create_dir(folder.path()).unwrap();
    drop(keeper);
    assert_eq!(page(&ledger, "limit=1").0, [("d19999".to_owned(), 1)]);
}

#[test]
fn a_query_with_a_wrong_key_or_value_is_refused() {
    for (wrong, told) in [
        ("limit=0", "limit is a whole number from 1 to 1000"),
        ("limit=1001", "limit is a whole number from 1 to 1000"),
        ("limit=", "limit is a whole number from 1 to 1000"),
        ("cursor=-1", "cursor is the next of an earlier page"),
        ("from=now", "from is a time in Unix ms: a whole number from 0 on"),
        ("to=1.5", "to is a time in Unix ms: a whole number from 0 on"),
        (
            "reason=nonsense",
            "reason is one of conflated, overflow, expired, retained_full, state_full, desired_unfit, source_bad, source_foreign, source_full",
        ),
        ("who=a&who=b", "who is given twice: give it once"),
        (
            "when=1",
            "no parameter \"when\": this address takes limit, cursor, reason, who, from and to",
        ),
    ] {
        let fault = DropsQuery::of(&format!("/drops?{wrong}").parse().unwrap()).unwrap_err();
        assert_eq!(fault.code.as_str(), "bad_value", "{wrong}");
        assert!(fault.message.contains(told), "{wrong}: {fault}");
    }
    let long = format!("/drops?{}=1", "x".repeat(1_000)).parse().unwrap();
    assert!(DropsQuery::of(&long).unwrap_err().message.len() < 200);
    let read = DropsQuery::of(&"/drops?token=secret&limit=x".parse().unwrap());
    assert!(!read.unwrap_err().message.contains("secret"));
}
