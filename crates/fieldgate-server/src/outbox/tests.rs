//! What waits: its order, its records of loss, its memory.

use fieldgate_core::{message::Content, testing};

use super::*;

fn outbox(item_count: usize) -> Outbox {
    Outbox::new(item_count * (ITEM_BYTES + 1), &Share::new(1 << 20))
}

fn frame(outbox: &Outbox, seq: u64, slow: Slow, lost: &mut Lost) -> Pushed {
    let bytes = Bytes::from_static(b"f");
    let item = match slow {
        Slow::Overflow => Item::Ready(bytes),
        Slow::Latest(_) | Slow::DropOldest | Slow::Disconnect => Item::Frame(Seq(seq), bytes),
    };
    let way = outbox.way(Priority::Normal, item.byte_len());
    outbox.queue(item, way, slow, lost)
}

fn left(outbox: &Outbox) -> String {
    let text = |item, ahead| match item {
        Item::Ready(bytes) => format!("{ahead}:{}", String::from_utf8_lossy(&bytes)),
        Item::Frame(seq, _) => seq.0.to_string(),
        Item::Late(late) => {
            format!("{}x{}={:?}{ahead}", late.seq.0, late.count, late.message.payload)
        }
        Item::Gap(first, last) => format!("[{}-{}]", first.0, last.0),
    };
    let all: Vec<String> = outbox.with_backlog(|backlog| {
        std::iter::from_fn(|| backlog.lanes.pop()).map(|(item, ahead)| text(item, ahead)).collect()
    });
    <[String]>::join(&all, " ")
}

#[test]
fn a_gap_stands_where_the_dropped_frames_stood() {
    let (outbox, mut lost) = (outbox(4), Lost::default());
    for seq in 1..=9 {
        let slow = if seq == 3 { Slow::Overflow } else { Slow::DropOldest };
        assert_eq!(frame(&outbox, seq, slow, &mut lost), Pushed::Queued);
    }
    assert_eq!(left(&outbox), "[1-2] false:f [4-8] 9");
    assert_eq!((lost.dropped_count, lost.conflated_count), (7, 0));
    assert!(outbox.is_empty() && outbox.backlog.borrow().is_none());
}

#[test]
fn what_this_tick_has_goes_before_what_is_queued_and_after_what_waits() {
    let (outbox, mut lost) = (outbox(9), Lost::default());
    outbox.wait("one".into());
    outbox.push_tick(|tick| tick.extend_from_slice(b"two"));
    frame(&outbox, 3, Slow::DropOldest, &mut lost);
    assert_eq!(left(&outbox), "false:one false:two 3");
}

fn message(kind: Kind, payload: &'static str) -> Message {
    Message { kind, content: Content::Json, ..testing::message("a", Qos::AtMostOnce, payload) }
}

#[test]
fn telemetry_is_merged_and_anything_else_is_replaced() {
    for (kind, expected) in [
        (Kind::Telemetry, r#"{"t":1,"h":2}"#),
        (Kind::Event, r#"{"h":2}"#),
        (Kind::Application, r#"{"h":2}"#),
    ] {
        let (outbox, mut lost) =
            (Outbox::new(MESSAGE_BYTES + 20, &Share::new(1 << 20)), Lost::default());
        for (seq, payload) in [(1, r#"{"t":1}"#), (2, r#"{"h":2}"#)] {
            let message = message(kind, payload);
            let item = Item::late(Seq(seq), Qos::AtMostOnce, &message);
            let way = outbox.way(Priority::Normal, item.byte_len());
            let slow = Slow::Latest(message.topic.clone());
            assert_eq!(outbox.queue(item, way, slow, &mut lost), Pushed::Queued);
        }
        assert_eq!(left(&outbox), format!("2x2=b{expected:?}false"));
        assert_eq!((lost.dropped_count, lost.conflated_count), (0, 1));
    }
}

#[test]
fn what_all_hold_together_shrinks_what_each_may() {
    let share = Share::new(10 * (ITEM_BYTES as u64 + 1));
    let outboxes = [(); 2].map(|()| Outbox::new(usize::MAX, &share));
    let mut lost = Lost::default();
    for seq in 1..=100 {
        for outbox in &outboxes {
            frame(outbox, seq, Slow::DropOldest, &mut lost);
        }
    }
    assert!(outboxes.iter().all(|outbox| outbox.byte_len() <= 6 * (ITEM_BYTES + 1)));
    assert!(outboxes.iter().all(|outbox| left(outbox).ends_with(" 98 99 100")));
    assert_eq!(share.bound(usize::MAX), usize::MAX);
}

#[test]
fn answers_beyond_every_bound_are_a_flood_until_they_are_gone() {
    let outbox = outbox(4);
    outbox.wait(vec![0; ANSWERS_BYTES].into());
    assert!(!outbox.is_flooded());
    outbox.push_tick(|tick| tick.resize(3 * 4 * (ITEM_BYTES + 1), 0));
    assert!(outbox.is_flooded());
    outbox.tick.take();
    left(&outbox);
    assert!(!outbox.is_flooded());
}

#[test]
fn the_lanes_stay_while_the_log_is_read_and_no_longer() {
    let outbox = outbox(4);
    outbox.set_elsewhere(true);
    assert!(outbox.way(Priority::Critical, 10).is_ahead());
    assert!(outbox.backlog.borrow().is_some());
    outbox.set_elsewhere(false);
    assert!(outbox.backlog.borrow().is_none());
}
