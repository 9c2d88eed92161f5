//! The lanes under full sockets: order, bounds, and what each policy loses.

use proptest::prelude::*;

use super::*;

/// A value of some resources: resource → the number of the message that set it.
type Value = BTreeMap<u8, u32>;

/// Merges values, ten bytes for each resource, and remembers what went and what was before it.
#[derive(Default)]
struct Lost<T> {
    merged_count: usize,
    dropped: Vec<(T, Option<T>)>,
}

impl Losses<Value> for Lost<Value> {
    fn merge(&mut self, newer: &mut Value, older: Value) -> usize {
        self.merged_count += 1;
        for (resource, value) in older {
            newer.entry(resource).or_insert(value);
        }
        newer.len() * 10
    }

    fn drop_item(&mut self, item: Value, before: Option<&mut Value>) -> Record<Value> {
        self.dropped.push((item, before.cloned()));
        Record::None
    }
}

impl Losses<u32> for Lost<u32> {
    fn merge(&mut self, _: &mut u32, _: u32) -> usize {
        unreachable!("these tests have no two values of a topic")
    }

    fn drop_item(&mut self, item: u32, before: Option<&mut u32>) -> Record<u32> {
        self.dropped.push((item, before.copied()));
        Record::None
    }
}

fn push(lanes: &mut Lanes<u32>, item: u32, len: usize, priority: Priority, slow: Slow) -> Pushed {
    let way = lanes.way(priority, len);
    lanes.push(item, len, way, slow, &mut Lost::default())
}

fn plain(lanes: &mut Lanes<u32>, item: u32, len: usize, priority: Priority) -> bool {
    let way = lanes.way(priority, len);
    let pushed = lanes.push(item, len, way, Slow::Overflow, &mut Lost::default());
    assert_eq!(pushed, Pushed::Queued);
    way.is_ahead()
}

fn drain<T>(lanes: &mut Lanes<T>) -> Vec<(T, bool)> {
    std::iter::from_fn(|| lanes.pop()).collect()
}

fn topic(number: u64) -> Topic {
    format!("t/{number}").parse().unwrap()
}

#[test]
fn lanes_leave_in_order_and_overtaking_is_marked() {
    let mut lanes = Lanes::new(1_000);
    assert!(!plain(&mut lanes, 1, 10, Priority::Critical));
    assert!(!plain(&mut lanes, 2, 10, Priority::Bulk));
    assert!(plain(&mut lanes, 3, 10, Priority::Normal));
    assert!(plain(&mut lanes, 4, 10, Priority::Critical));
    let left = drain(&mut lanes);
    assert_eq!(left, [(1, false), (4, true), (3, true), (2, false)]);
    assert_eq!((lanes.queued_bytes(), lanes.is_empty()), (0, true));
}

#[test]
fn at_most_64_kib_go_ahead_of_one_backlog() {
    let mut lanes = Lanes::new(1 << 20);
    plain(&mut lanes, 0, 10, Priority::Normal);
    assert!(plain(&mut lanes, 1, AHEAD_BYTES_MAX, Priority::Critical));
    assert!(!plain(&mut lanes, 2, 1, Priority::Critical));
    assert_eq!(drain(&mut lanes), [(1, true), (0, false), (2, false)]);
    plain(&mut lanes, 3, 10, Priority::Normal);
    assert!(plain(&mut lanes, 4, 1, Priority::Critical));
}

#[test]
fn what_the_log_holds_back_is_a_backlog_as_long_as_it_lasts() {
    let mut lanes = Lanes::new(100);
    lanes.set_elsewhere(true);
    assert!(!lanes.way(Priority::Normal, 10).is_ahead());
    assert!(plain(&mut lanes, 1, AHEAD_BYTES_MAX, Priority::Critical));
    assert_eq!(drain(&mut lanes), [(1, true)]);
    assert!(!lanes.way(Priority::Critical, 1).is_ahead());
    lanes.set_elsewhere(false);
    lanes.set_elsewhere(true);
    assert!(lanes.way(Priority::Critical, 1).is_ahead());
}

#[test]
fn a_full_backlog_is_overtaken_all_the_same() {
    let mut lanes = Lanes::new(100);
    plain(&mut lanes, 1, 100, Priority::Normal);
    assert!(plain(&mut lanes, 2, 50, Priority::Critical));
    assert_eq!(push(&mut lanes, 3, 1, Priority::Normal, Slow::Overflow), Pushed::Overflow);
    assert_eq!(drain(&mut lanes), [(2, true), (1, false)]);
}

#[test]
fn what_goes_in_turn_is_behind_everything_whatever_the_bound() {
    let mut lanes = Lanes::new(20);
    lanes.push_in_turn(1, 10);
    plain(&mut lanes, 2, 10, Priority::Bulk);
    lanes.push_in_turn(3, 100);
    assert_eq!(drain(&mut lanes), [(1, false), (2, false), (3, false)]);
}

#[test]
fn what_must_not_be_lost_overflows_to_the_log() {
    let mut lanes = Lanes::new(30);
    plain(&mut lanes, 1, 20, Priority::Normal);
    push(&mut lanes, 2, 10, Priority::Normal, Slow::DropOldest);
    assert_eq!(push(&mut lanes, 3, 10, Priority::Normal, Slow::Overflow), Pushed::Overflow);
    assert_eq!(drain(&mut lanes), [(1, false), (2, false)]);
}

#[test]
fn drop_oldest_drops_the_oldest_of_the_lowest_lane() {
    let mut lanes = Lanes::new(30);
    push(&mut lanes, 1, 10, Priority::Normal, Slow::DropOldest);
    push(&mut lanes, 2, 10, Priority::Bulk, Slow::DropOldest);
    push(&mut lanes, 3, 10, Priority::Bulk, Slow::DropOldest);
    let mut lost = Lost::default();
    // In turn: it may not go ahead of the bulk that waits.
    let way = Way { lane: NORMAL, ahead: false };
    lanes.push(4, 10, way, Slow::DropOldest, &mut lost);
    assert_eq!(lost.dropped, [(2, None)]);
    let items: Vec<u32> = drain(&mut lanes).into_iter().map(|(item, _)| item).collect();
    assert_eq!(items, [1, 4, 3]);
}

/// Leaves a record of five bytes for a run of drops: the numbers of its first and last.
struct Recording;

impl Losses<(u32, u32)> for Recording {
    fn merge(&mut self, _: &mut (u32, u32), _: (u32, u32)) -> usize {
        unreachable!("nothing here has a topic")
    }

    fn drop_item(
        &mut self,
        item: (u32, u32),
        before: Option<&mut (u32, u32)>,
    ) -> Record<(u32, u32)> {
        match before {
            Some((100.., last)) => {
                *last = item.0;
                Record::Before(6)
            }
            _ => Record::Here((100 + item.0, item.0), 5),
        }
    }
}

#[test]
fn a_record_of_what_was_dropped_stands_in_its_place_and_counts() {
    let mut lanes = Lanes::new(36);
    let mut push = |item, slow| {
        let way = lanes.way(Priority::Normal, 10);
        lanes.push((item, item), 10, way, slow, &mut Recording)
    };
    push(1, Slow::DropOldest);
    push(2, Slow::DropOldest);
    push(3, Slow::Overflow);
    for item in 4..8 {
        push(item, Slow::DropOldest);
    }
    // 6 for the record of two, 10 for the protected one, 6 for those behind it, 10 for the last.
    assert_eq!(lanes.queued_bytes(), 32);
    let items: Vec<_> = drain(&mut lanes).into_iter().map(|(item, _)| item).collect();
    assert_eq!(items, [(101, 2), (3, 3), (104, 6), (7, 7)]);
    assert_eq!(lanes.queued_bytes(), 0);
}

#[test]
fn half_of_what_goes_ahead_is_left_to_what_is_critical() {
    let mut lanes = Lanes::new(1 << 20);
    plain(&mut lanes, 0, 10, Priority::Bulk);
    assert!(plain(&mut lanes, 1, AHEAD_BYTES_MAX / 2, Priority::Normal));
    assert!(!plain(&mut lanes, 2, 1, Priority::Normal));
    assert!(plain(&mut lanes, 3, AHEAD_BYTES_MAX / 2, Priority::Critical));
    assert_eq!(drain(&mut lanes), [(3, true), (1, true), (0, false), (2, false)]);
}

#[test]
fn disconnect_ends_the_connection_and_an_item_above_the_bound_is_dropped() {
    let mut lanes = Lanes::new(5);
    assert_eq!(push(&mut lanes, 1, 6, Priority::Normal, Slow::Disconnect), Pushed::Disconnect);
    let mut lost = Lost::default();
    let way = lanes.way(Priority::Normal, 6);
    assert_eq!(lanes.push(1, 6, way, Slow::DropOldest, &mut lost), Pushed::Queued);
    assert_eq!(lost.dropped, [(1, None)]);
    assert!(lanes.is_empty());
}

#[test]
fn latest_keeps_the_newest_of_each_resource_at_its_newest_place() {
    let mut lanes = Lanes::new(40);
    let mut lost = Lost::default();
    let mut push = |resource: u8, number: u32, of| {
        let value = Value::from([(resource, number)]);
        let way = lanes.way(Priority::Normal, 10);
        lanes.push(value, 10, way, Slow::Latest(topic(of)), &mut lost);
    };
    for (resource, number, of) in [(1, 1, 7), (1, 2, 8), (1, 3, 7), (2, 4, 8)] {
        push(resource, number, of);
    }
    // 1 has a newer value queued (3): the two become one.
    push(1, 5, 7);
    let left: Vec<Value> = drain(&mut lanes).into_iter().map(|(value, _)| value).collect();
    let one = |resource, number| Value::from([(resource, number)]);
    assert_eq!(left, [one(1, 1), one(1, 2), one(2, 4), one(1, 5)]);
    assert_eq!((lost.merged_count, lost.dropped.len()), (1, 0));
}

#[test]
fn conflation_for_ever_holds_no_more_than_what_is_queued() {
    let mut lanes = Lanes::new(30);
    lanes.push_in_turn(Value::new(), 10);
    for number in 0..10_000 {
        let value = Value::from([(1, number)]);
        let way = lanes.way(Priority::Normal, 10);
        lanes.push(value, 10, way, Slow::Latest(topic(1)), &mut Lost::default());
        assert!(lanes.lanes.iter().map(|lane| lane.slots.len()).sum::<usize>() <= 3);
    }
}

/// Values with their topic and number; merging keeps both honest.
struct Checked(Lost<Value>);

impl Losses<(u64, u32, Value)> for Checked {
    fn merge(&mut self, newer: &mut (u64, u32, Value), older: (u64, u32, Value)) -> usize {
        assert!(newer.0 == older.0 && newer.1 > older.1);
        self.0.merge(&mut newer.2, older.2)
    }

    fn drop_item(
        &mut self,
        item: (u64, u32, Value),
        _: Option<&mut (u64, u32, Value)>,
    ) -> Record<(u64, u32, Value)> {
        self.0.drop_item(item.2, None);
        Record::None
    }
}

proptest! {
    /// A receiver that applies what it gets, in order, knows the newest value of every resource of
    /// every topic that was not dropped, whatever was conflated on the way.
    #[test]
    fn a_slow_receiver_of_latest_ends_with_the_newest_values(
        steps in prop::collection::vec((0..4_u64, 0..4_u8, 0..4_u8, any::<bool>()), 1..200),
        bound in 160..400_usize,
    ) {
        let mut lanes: Lanes<(u64, u32, Value)> = Lanes::new(bound);
        let mut lost = Checked(Lost::default());
        let (mut sent, mut got) = (HashMap::new(), HashMap::new());
        let mut newest = None;
        for (number, (of, first, second, pop)) in (0..).zip(steps) {
            let value = Value::from([(first, number), (second, number)]);
            sent.extend(value.iter().map(|(resource, value)| ((of, *resource), *value)));
            let len = value.len() * 10;
            let way = lanes.way(Priority::Normal, len);
            let slow = Slow::Latest(topic(of));
            prop_assert_eq!(
                lanes.push((of, number, value), len, way, slow, &mut lost), Pushed::Queued
            );
            prop_assert!(lanes.queued_bytes() <= bound);
            if pop && let Some(((of, number, value), _)) = lanes.pop() {
                prop_assert!(newest.is_none_or(|newest| newest < number));
                newest = Some(number);
                got.extend(value.into_iter().map(|(resource, value)| ((of, resource), value)));
            }
        }
        for ((of, _, value), _) in drain(&mut lanes) {
            got.extend(value.into_iter().map(|(resource, value)| ((of, resource), value)));
        }
        // Four topics of four resources, 10 bytes each, always fit: nothing needs to be dropped.
        prop_assert!(lost.0.dropped.is_empty());
        prop_assert_eq!(got, sent);
        prop_assert_eq!(lanes.queued_bytes(), 0);
    }
}
