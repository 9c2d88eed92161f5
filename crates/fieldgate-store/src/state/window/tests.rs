//! Tests of the window.

use fieldgate_core::message::{Message, Qos};
use proptest::prelude::*;

use super::*;

fn learn(window: &Window, sender: &str, number: u64) {
    let id = format!("m{number}").parse().unwrap();
    let at = UnixMs(number);
    window.learn(window.name(&TenantId::default_tenant(), sender, &id, Seq(number), at));
}

#[test]
fn a_sender_keeps_its_newest_ten_thousand() {
    let window = Window::new([7; 16]);
    (1..=10_005).for_each(|number| learn(&window, "a", number));
    let all = window.all();
    assert_eq!(all.len(), 10_000);
    assert_eq!(all.first().map(|known| known.seq), Some(Seq(6)));
}

#[test]
fn an_id_whose_message_was_refused_names_the_next_one() {
    let window = Window::new([7; 16]);
    let (tenant, id) = (TenantId::default_tenant(), "m".parse().unwrap());
    let admit = |seq: u64, refused: u64, at| {
        let is_refused = |seq| seq == Seq(refused);
        let taken = || Ok(seq..=seq);
        window.admit(&tenant, &Arc::from("a"), &id, UnixMs(at), is_refused, taken).unwrap()
    };
    assert_eq!(admit(1, 0, 0), Admit::New(1..=1));
    assert_eq!(admit(2, 0, 0), Admit::Repeat(Seq(1)));
    assert_eq!(admit(3, 1, 9), Admit::New(3..=3));
    // The refused one leaves the window; the other stays.
    assert_eq!(admit(4, 1, WINDOW_MS + 1), Admit::Repeat(Seq(3)));
    assert_eq!(window.all().len(), 1);
    assert_eq!(admit(5, 1, WINDOW_MS + 10), Admit::New(5..=5));
}

fn record(id: &str) -> Record {
    let message = fieldgate_core::testing::message("t", Qos::AtLeastOnce, "");
    Record::Message(Message { reference: id.parse().ok(), ..message })
}

#[test]
fn of_several_each_is_taken_once() {
    let window = Window::new([7; 16]);
    let tenant = TenantId::default_tenant();
    let admit = |ids: &[&str], first: u64, refused: u64| {
        let mut appended = Vec::new();
        let append = |fresh: Vec<Record>| {
            let id = |record: &Record| record.repeatable().map(|(_, id)| id.to_string());
            appended = fresh.iter().map(|record| id(record).unwrap_or_default()).collect();
            Ok(first..=first + fresh.len() as u64 - 1)
        };
        let is_refused = |seq| seq == Seq(refused);
        let records = ids.iter().map(|id| record(id)).collect();
        let span = window.admit_each(&tenant, "a", records, UnixMs(0), is_refused, append);
        (span.unwrap(), appended.join(" "))
    };
    let told = |span, appended: &str| (Some(span), appended.to_owned());
    assert_eq!(admit(&["a", "", "b", "a", ""], 1, 0), told(1..=4, "a  b "));
    assert_eq!(admit(&["b", "c", "", "a"], 5, 0), told(1..=6, "c "));
    assert_eq!(admit(&["a", "b"], 7, 0), told(1..=3, ""));
    assert_eq!(admit(&["c"], 7, 0), told(5..=5, ""));
    assert_eq!(admit(&[], 7, 0), (None, String::new()));
    // One that was refused is stored when it comes again; so is all of what found no room.
    assert_eq!(admit(&["a", "b"], 7, 3), told(1..=7, "b"));
    let records = vec![record("d")];
    let full = |_| Err(AppendError::Full);
    let full = window.admit_each(&tenant, "a", records, UnixMs(0), |_| false, full);
    assert_eq!(full, Err(AppendError::Full));
    assert_eq!(admit(&["d"], 8, 0), told(8..=8, "d"));
    // What one call knows, the other does too.
    let id = "d".parse().unwrap();
    let alone = window.admit(&tenant, &Arc::from("a"), &id, UnixMs(0), |_| false, || Ok(9..=9));
    assert_eq!(alone, Ok(Admit::Repeat(Seq(8))));
}

#[test]
fn what_is_learned_at_a_start_is_what_was_known_before_it() {
    let (tenant, id) = (TenantId::default_tenant(), "m".parse().unwrap());
    let later = UnixMs(WINDOW_MS + 60_000);
    let admit = |window: &Window, seq: u64, at| {
        let taken = || Ok(seq..=seq);
        window.admit(&tenant, &Arc::from("a"), &id, at, |_| false, taken).unwrap()
    };
    let live = Window::new([7; 16]);
    assert_eq!(admit(&live, 1, UnixMs(0)), Admit::New(1..=1));
    assert_eq!(admit(&live, 2, later), Admit::New(2..=2));
    assert_eq!(admit(&live, 3, later), Admit::Repeat(Seq(2)));
    let started = Window::new([7; 16]);
    started.learn(started.name(&tenant, "a", &id, Seq(1), UnixMs(0)));
    started.learn(started.name(&tenant, "a", &id, Seq(2), later));
    assert_eq!(admit(&started, 3, later), Admit::Repeat(Seq(2)));
}

#[test]
fn an_id_of_a_clock_that_was_ahead_is_forgotten_too() {
    let window = Window::new([7; 16]);
    let (tenant, id) = (TenantId::default_tenant(), "m".parse().unwrap());
    let admit = |seq: u64, at| {
        let taken = || Ok(seq..=seq);
        window.admit(&tenant, &Arc::from("a"), &id, UnixMs(at), |_| false, taken).unwrap()
    };
    let year = 365 * 24 * 3_600_000;
    assert_eq!(admit(1, 2 * year), Admit::New(1..=1));
    // The clock was set right.
    assert_eq!(admit(2, year), Admit::New(2..=2));
    assert_eq!(admit(3, year + 1), Admit::Repeat(Seq(2)));
}

#[test]
fn what_the_tables_lack_is_known_until_it_is_written() {
    let window = Window::new([7; 16]);
    for seq in 1..=9 {
        learn(&window, if seq % 3 == 0 { "a" } else { "b" }, seq);
    }
    let unwritten = |written, until| {
        let ids = window.unwritten(Seq(written), Seq(until));
        assert!(ids.is_sorted_by_key(|known| (
            ids.iter().position(|o| o.sender == known.sender),
            known.seq
        )));
        let mut seqs: Vec<u64> = ids.iter().map(|known| known.seq.0).collect();
        seqs.sort_unstable();
        seqs
    };
    assert_eq!(unwritten(0, 9), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(unwritten(4, 7), [5, 6, 7]);
    window.set_written(Seq(8));
    // Of the other sender all is written.
    assert_eq!((unwritten(4, 9), window.has_unwritten()), (vec![6, 9], true));
    window.set_written(Seq(9));
    assert!(!window.has_unwritten());
    learn(&window, "b", 10);
    assert_eq!(unwritten(9, 10), [10]);
    window.sweep(UnixMs(u64::MAX));
    assert!(!window.has_unwritten());
}

#[test]
fn a_sender_without_ids_is_forgotten() {
    let window = Window::new([7; 16]);
    learn(&window, "a", 1);
    learn(&window, "b", 400_000);
    window.sweep(UnixMs(WINDOW_MS + 2));
    assert_eq!(window.all().len(), 1);
    assert_eq!(window.sender_count.load(Ordering::Relaxed), 1);
}

#[test]
fn many_senders_share_the_bound() {
    let window = Window::new([7; 16]);
    window.sender_count.store(IDS_MAX / 4 - 1, Ordering::Relaxed);
    // The first to come has the share of a sender less.
    learn(&window, "a", 0);
    (1..=10).for_each(|number| learn(&window, "a", number));
    assert_eq!(window.all().len(), 4);
}

#[test]
fn names_of_two_senders_never_meet() {
    let window = Window::new([7; 16]);
    let (tenant, id) = (TenantId::default_tenant(), "m".parse().unwrap());
    let [a, b] = ["a", "b"].map(|from| window.name(&tenant, from, &id, Seq(1), UnixMs(0)));
    assert_ne!(a.id, b.id);
    assert_ne!(a.sender, b.sender);
}

/// The window as a list: the newest of a sender that are young enough.
#[derive(Default)]
struct Model(Vec<(u64, u64, u64)>);

impl Model {
    fn admit(&mut self, id: u64, seq: u64, now: u64, refused: u64, share: usize) -> Option<u64> {
        self.0.retain(|(_, at, _)| at + WINDOW_MS >= now);
        let known = self.0.iter().find(|(other, ..)| *other == id).map(|(.., seq)| *seq);
        if let Some(known) = known.filter(|known| *known != refused) {
            return Some(known);
        }
        // Who was refused keeps its place among the newest, as nobody.
        self.0.iter_mut().filter(|(other, ..)| *other == id).for_each(|gone| gone.0 = u64::MAX);
        self.0.push((id, now, seq));
        self.0.drain(..self.0.len().saturating_sub(share));
        None
    }
}

proptest! {
    #[test]
    fn the_window_is_the_list_that_it_stands_for(
        steps in proptest::collection::vec((0..40_u64, 0..4_u64, any::<bool>()), 0..500),
    ) {
        let (window, tenant) = (Window::new([7; 16]), TenantId::default_tenant());
        let share = 16;
        window.sender_count.store(IDS_MAX / share - 1, Ordering::Relaxed);
        let mut model = Model::default();
        let (mut now, mut refused) = (0, 0);
        for (seq, (id, pause, is_refused)) in (1..).zip(steps) {
            now += if pause == 3 { WINDOW_MS / 4 } else { pause };
            let msgid = format!("m{id}").parse().unwrap();
            let taken = || Ok(seq..=seq);
            let is = |other| other == Seq(refused);
            let admitted = window.admit(&tenant, &Arc::from("a"), &msgid, UnixMs(now), is, taken);
            // The first to come has the share of a sender less.
            let share = if seq == 1 { share + 1 } else { share };
            let expected = model.admit(id, seq, now, refused, share);
            let expected = expected.map_or(Admit::New(seq..=seq), |seq| Admit::Repeat(Seq(seq)));
            prop_assert_eq!(admitted, Ok(expected));
            if is_refused {
                refused = seq;
            }
        }
        let known: Vec<u64> = window.all().iter().map(|known| known.seq.0).collect();
        let is_known = |(id, _, seq): &(u64, u64, u64)| (*id != u64::MAX).then_some(*seq);
        prop_assert_eq!(known, model.0.iter().filter_map(is_known).collect::<Vec<_>>());
    }
}
