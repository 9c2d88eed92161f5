//! The record of a subscription: what it takes, and where it continues.

use super::*;

fn tracked(since: Option<Since>) -> (Tracked, mpsc::Receiver<Event>) {
    tracked_of("devices/+/telemetry", since)
}

/// One that was not sent yet, and where its events come.
pub(crate) fn tracked_of(filter: &str, since: Option<Since>) -> (Tracked, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel(4);
    let ask = Subscribe {
        filter: filter.parse().unwrap(),
        qos: Qos::AtLeastOnce,
        since,
        slow: None,
        rate_max: None,
    };
    let tracked = Tracked {
        ask,
        resume: true,
        position: None,
        phase: Phase::Unsent,
        reference: String::new(),
        not_before: None,
        sender,
        opened: None,
    };
    (tracked, events)
}

fn frame(seq: u64) -> Received {
    Received {
        topic: "devices/a/telemetry".into(),
        msgid: format!("e:{seq}"),
        seq,
        ..Received::default()
    }
}

fn takes(tracked: &mut Tracked, received: &Received) -> bool {
    tracked.takes(received, &received.topic.parse().unwrap())
}

fn at(text: &str) -> Option<Position> {
    Some(text.parse().unwrap())
}

#[test]
fn a_reconnect_continues_behind_the_last_message() {
    let (mut tracked, _events) = tracked(None);
    assert!(!tracked.encode("s".into()).contains("since"));
    tracked.stands(at("e:5"));
    assert!(takes(&mut tracked, &frame(7)));
    tracked.phase = Phase::Unsent;
    assert!(tracked.encode("s".into()).contains(r#""since":{"after":"e:7"}"#));
}

#[test]
fn during_a_replay_only_its_own_frames_count() {
    let (mut tracked, _events) = tracked(Some(Since::All));
    tracked.encode("s".into());
    tracked.stands(at("e:0"));
    let replayed = Received { replay: Some("devices/+/telemetry".into()), ..frame(3) };
    let other = Received { replay: Some("#".into()), ..frame(4) };
    assert!(takes(&mut tracked, &replayed));
    assert!(!takes(&mut tracked, &other));
    assert!(!takes(&mut tracked, &frame(9)), "live frames belong to others");
    tracked.caught_up(at("e:9"));
    assert!(!takes(&mut tracked, &frame(9)), "told already");
    assert!(takes(&mut tracked, &frame(10)));
}

#[test]
fn where_a_replay_stands_is_told_by_its_own_frames_alone() {
    let (mut tracked, _events) = tracked(Some(Since::All));
    tracked.encode("s".into());
    // As the answer to one that was given up says it, if it comes this late.
    tracked.stands(at("e:7"));
    let replayed = Received { replay: Some("devices/+/telemetry".into()), ..frame(1) };
    assert!(takes(&mut tracked, &replayed));
    assert_eq!(tracked.position, at("e:1"));
}

#[test]
fn retained_and_overtaking_messages_do_not_move_the_position() {
    let (mut tracked, _events) = tracked(None);
    tracked.encode("s".into());
    tracked.stands(at("e:5"));
    assert!(takes(&mut tracked, &Received { retain: true, ..frame(2) }));
    assert!(takes(&mut tracked, &Received { ahead: true, ..frame(9) }));
    assert_eq!(tracked.position, at("e:5"));
    assert!(takes(&mut tracked, &frame(6)));
}

#[test]
fn a_gap_moves_a_live_subscription_and_another_epoch_starts_anew() {
    let (mut tracked, _events) = tracked(None);
    tracked.encode("s".into());
    tracked.stands(at("e:5"));
    tracked.skips(at("e:8"));
    tracked.skips(at("e:6"));
    assert_eq!(tracked.position, at("e:8"));
    tracked.skips(at("f:2"));
    assert!(takes(&mut tracked, &Received { msgid: "f:3".into(), ..frame(3) }));
}
