//! The outbox under full sockets: order, bounds, and what each policy loses.

use proptest::prelude::*;

use super::*;

/// A value of some resources: resource → the number of the message that set it.
type Value = BTreeMap<u8, u32>;

fn merge(newer: &mut Value, older: Value) -> usize {
    for (resource, value) in older {
        newer.entry(resource).or_insert(value);
    }
    newer.len() * 10
}

const fn queued(ahead: bool, conflated_count: usize, dropped_count: usize) -> Pushed {
    Pushed::Queued { ahead, conflated_count, dropped_count }
}

fn plain(outbox: &mut Outbox<u32>, item: u32, len: usize, priority: Priority) -> Pushed {
    outbox.push(item, len, priority, Slow::Overflow, &mut |_: &mut u32, _| unreachable!())
}

fn drain<T>(outbox: &mut Outbox<T>) -> Vec<(T, bool)> {
    std::iter::from_fn(|| outbox.pop()).collect()
}

#[test]
fn lanes_leave_in_order_and_overtaking_is_marked() {
    let mut outbox = Outbox::new(1_000);
    assert_eq!(plain(&mut outbox, 1, 10, Priority::Critical), queued(false, 0, 0));
    assert_eq!(plain(&mut outbox, 2, 10, Priority::Bulk), queued(false, 0, 0));
    assert!(outbox.would_go_ahead(Priority::Normal, 10));
    assert_eq!(plain(&mut outbox, 3, 10, Priority::Normal), queued(true, 0, 0));
    assert_eq!(plain(&mut outbox, 4, 10, Priority::Critical), queued(true, 0, 0));
    let left = drain(&mut outbox);
    assert_eq!(left, [(1, false), (4, true), (3, true), (2, false)]);
    assert_eq!((outbox.queued_bytes(), outbox.is_empty()), (0, true));
}

#[test]
fn at_most_64_kib_go_ahead_of_one_backlog() {
    let mut outbox = Outbox::new(1 << 20);
    plain(&mut outbox, 0, 10, Priority::Normal);
    plain(&mut outbox, 1, AHEAD_BYTES_MAX, Priority::Critical);
    assert!(!outbox.would_go_ahead(Priority::Critical, 1));
    assert_eq!(plain(&mut outbox, 2, 1, Priority::Critical), queued(false, 0, 0));
    assert_eq!(drain(&mut outbox), [(1, true), (0, false), (2, false)]);
    plain(&mut outbox, 3, 10, Priority::Normal);
    assert!(outbox.would_go_ahead(Priority::Critical, 1));
}

#[test]
fn what_must_not_be_lost_overflows_to_the_log() {
    let mut outbox = Outbox::new(30);
    let mut none = |_: &mut u32, _| unreachable!();
    plain(&mut outbox, 1, 20, Priority::Normal);
    outbox.push(2, 10, Priority::Normal, Slow::DropOldest, &mut none);
    assert_eq!(plain(&mut outbox, 3, 10, Priority::Normal), Pushed::Overflow);
    assert_eq!(outbox.drain_protected(), [1]);
    assert_eq!(outbox.queued_bytes(), 10);
    assert_eq!(drain(&mut outbox), [(2, false)]);
}

#[test]
fn drop_oldest_drops_the_oldest_of_the_lowest_lane() {
    let mut outbox = Outbox::new(30);
    let mut none = |_: &mut u32, _| unreachable!();
    let mut push = |outbox: &mut Outbox<u32>, item, priority| {
        outbox.push(item, 10, priority, Slow::DropOldest, &mut none)
    };
    push(&mut outbox, 1, Priority::Normal);
    push(&mut outbox, 2, Priority::Bulk);
    push(&mut outbox, 3, Priority::Bulk);
    assert_eq!(push(&mut outbox, 4, Priority::Normal), queued(true, 0, 1));
    let items: Vec<u32> = drain(&mut outbox).into_iter().map(|(item, _)| item).collect();
    assert_eq!(items, [1, 4, 3]);
}

#[test]
fn disconnect_ends_the_connection_and_an_item_above_the_bound_is_dropped() {
    let mut outbox = Outbox::new(5);
    let mut none = |_: &mut u32, _| unreachable!();
    assert_eq!(
        outbox.push(1, 6, Priority::Normal, Slow::Disconnect, &mut none),
        Pushed::Disconnect
    );
    let pushed = outbox.push(1, 6, Priority::Normal, Slow::DropOldest, &mut none);
    assert_eq!(pushed, queued(false, 0, 1));
    assert!(outbox.is_empty());
}

#[test]
fn latest_keeps_the_newest_of_each_resource_at_its_newest_place() {
    let mut outbox = Outbox::new(40);
    let mut push = |resource: u8, number: u32, topic| {
        let value = Value::from([(resource, number)]);
        outbox.push(value, 10, Priority::Normal, Slow::Latest(topic), &mut merge)
    };
    for (resource, number, topic) in [(1, 1, 7), (1, 2, 8), (1, 3, 7), (2, 4, 8)] {
        assert_eq!(push(resource, number, topic), queued(false, 0, 0));
    }
    // 1 has a newer value queued (3): the two become one.
    assert_eq!(push(1, 5, 7), queued(false, 1, 0));
    let left: Vec<Value> = drain(&mut outbox).into_iter().map(|(value, _)| value).collect();
    let one = |resource, number| Value::from([(resource, number)]);
    assert_eq!(left, [one(1, 1), one(1, 2), one(2, 4), one(1, 5)]);
}

#[test]
fn conflation_for_ever_holds_no_more_than_what_is_queued() {
    let mut outbox = Outbox::new(30);
    plain_value(&mut outbox);
    for number in 0..10_000 {
        let value = Value::from([(1, number)]);
        outbox.push(value, 10, Priority::Normal, Slow::Latest(1), &mut merge);
        assert!(outbox.lanes.iter().map(|lane| lane.slots.len()).sum::<usize>() <= 3);
    }
}

fn plain_value(outbox: &mut Outbox<Value>) {
    outbox.push(Value::new(), 10, Priority::Normal, Slow::Overflow, &mut merge);
}

proptest! {
    /// A receiver that applies what it gets, in order, knows the newest value of every resource of
    /// every topic that was not dropped, whatever was conflated on the way.
    #[test]
    fn a_slow_receiver_of_latest_ends_with_the_newest_values(
        steps in prop::collection::vec((0..4_u64, 0..4_u8, 0..4_u8, any::<bool>()), 1..200),
        bound in 160..400_usize,
    ) {
        let mut outbox: Outbox<(u64, u32, Value)> = Outbox::new(bound);
        let mut merge_items = |newer: &mut (u64, u32, Value), older: (u64, u32, Value)| {
            assert!(newer.0 == older.0 && newer.1 > older.1);
            merge(&mut newer.2, older.2)
        };
        let (mut sent, mut got) = (HashMap::new(), HashMap::new());
        let (mut newest, mut dropped) = (None, 0);
        for (number, (topic, first, second, pop)) in (0..).zip(steps) {
            let value = Value::from([(first, number), (second, number)]);
            sent.extend(value.iter().map(|(resource, value)| ((topic, *resource), *value)));
            let len = value.len() * 10;
            let pushed = outbox.push(
                (topic, number, value), len, Priority::Normal, Slow::Latest(topic), &mut merge_items,
            );
            let Pushed::Queued { dropped_count, .. } = pushed else { panic!("{pushed:?}") };
            dropped += dropped_count;
            prop_assert!(outbox.queued_bytes() <= bound);
            if pop && let Some(((topic, number, value), _)) = outbox.pop() {
                prop_assert!(newest.is_none_or(|newest| newest < number));
                newest = Some(number);
                got.extend(value.into_iter().map(|(resource, value)| ((topic, resource), value)));
            }
        }
        for ((topic, _, value), _) in drain(&mut outbox) {
            got.extend(value.into_iter().map(|(resource, value)| ((topic, resource), value)));
        }
        // Four topics of four resources, 10 bytes each, always fit: nothing needs to be dropped.
        prop_assert_eq!(dropped, 0);
        prop_assert_eq!(got, sent);
        prop_assert_eq!(outbox.queued_bytes(), 0);
    }
}
