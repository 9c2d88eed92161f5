//! The buffer under virtual time: repeats, order, bounds, temporary refusals.

use super::*;

const REPEAT: Duration = Duration::from_secs(5);

fn outbox(records_max: usize) -> Outbox {
    Outbox::new(BufferLimits { records_max, bytes_max: 100, inflight_max: 2 }, REPEAT)
}

type Answer = oneshot::Receiver<Result<Accepted, SendError>>;

fn push(outbox: &mut Outbox, text: &str, msgid: Option<&str>) -> Result<Answer, SendError> {
    let (done, answer) = oneshot::channel();
    outbox.push(Frame::text(text.to_owned()), msgid.map(str::to_owned), done)?;
    Ok(answer)
}

fn next(outbox: &mut Outbox, now: Instant) -> Option<String> {
    outbox.next(now).map(|frame| match frame {
        Frame::Text(bytes) | Frame::Binary(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
    })
}

#[test]
fn what_is_not_acknowledged_is_repeated_in_order_after_a_reconnect() {
    let now = Instant::now();
    let mut outbox = outbox(10);
    let _a = push(&mut outbox, "a", Some("1")).unwrap();
    let mut b = push(&mut outbox, "b", None).unwrap();
    let _c = push(&mut outbox, "c", Some("3")).unwrap();
    assert_eq!(next(&mut outbox, now).as_deref(), Some("a"));
    assert_eq!(next(&mut outbox, now).as_deref(), Some("b"));
    assert!(b.try_recv().unwrap().is_ok());
    outbox.disconnected();
    assert_eq!(next(&mut outbox, now).as_deref(), Some("a"));
    assert_eq!(next(&mut outbox, now).as_deref(), Some("c"));
    assert_eq!(next(&mut outbox, now), None);
}

#[test]
fn a_silent_server_hears_the_same_message_every_five_seconds() {
    let now = Instant::now();
    let mut outbox = outbox(10);
    let mut answer = push(&mut outbox, "a", Some("1")).unwrap();
    assert_eq!(next(&mut outbox, now).as_deref(), Some("a"));
    assert_eq!(outbox.deadline(), Some(now + REPEAT));
    assert_eq!(next(&mut outbox, now + REPEAT / 2), None);
    assert_eq!(next(&mut outbox, now + REPEAT).as_deref(), Some("a"));
    assert!(outbox.acknowledged("1", Accepted { seq: 7, ..Accepted::default() }));
    assert_eq!(answer.try_recv().unwrap().unwrap().seq, 7);
    assert!(!outbox.acknowledged("1", Accepted::default()));
    assert_eq!(next(&mut outbox, now + REPEAT * 2), None);
}

#[test]
fn the_window_bounds_what_is_in_flight() {
    let now = Instant::now();
    let mut outbox = outbox(10);
    let _answers: Vec<_> =
        ["1", "2", "3"].iter().map(|id| push(&mut outbox, id, Some(id)).unwrap()).collect();
    assert!(next(&mut outbox, now).is_some() && next(&mut outbox, now).is_some());
    assert_eq!(next(&mut outbox, now), None);
    outbox.acknowledged("1", Accepted::default());
    assert_eq!(next(&mut outbox, now).as_deref(), Some("3"));
}

#[test]
fn a_full_buffer_is_an_error_and_takes_nothing() {
    let mut outbox = outbox(1);
    let _a = push(&mut outbox, "a", Some("1")).unwrap();
    assert!(matches!(push(&mut outbox, "b", Some("2")), Err(SendError::Full { records: 1, .. })));
    outbox.withdraw(0);
    let long = "x".repeat(101);
    assert!(matches!(push(&mut outbox, &long, None), Err(SendError::Full { .. })));
    assert!(push(&mut outbox, "b", Some("2")).is_ok());
}

#[test]
fn a_temporary_refusal_keeps_the_message_and_then_sends_one_at_a_time() {
    let now = Instant::now();
    let mut outbox = outbox(10);
    let mut a = push(&mut outbox, "a", Some("1")).unwrap();
    let _b = push(&mut outbox, "b", Some("2")).unwrap();
    next(&mut outbox, now);
    assert!(outbox.refused("1", "storage_unavailable", "full", now));
    assert!(a.try_recv().is_err(), "nobody is told yet");
    assert_eq!(next(&mut outbox, now), None);
    assert_eq!(next(&mut outbox, now + REPEAT).as_deref(), Some("a"));
    assert_eq!(next(&mut outbox, now + REPEAT), None);
    outbox.acknowledged("1", Accepted::default());
    assert_eq!(next(&mut outbox, now + REPEAT).as_deref(), Some("b"));
}

#[test]
fn a_pause_is_waited_out_however_early_a_repeat_is_due() {
    let now = Instant::now();
    let mut outbox = outbox(10);
    let _a = push(&mut outbox, "a", Some("1")).unwrap();
    let _b = push(&mut outbox, "b", Some("2")).unwrap();
    assert!(next(&mut outbox, now).is_some() && next(&mut outbox, now).is_some());
    let refused = now + REPEAT / 2;
    assert!(outbox.refused("2", "queue_full", "full", refused));
    assert_eq!(outbox.deadline(), Some(refused + REPEAT), "\"a\" is due before, and has to wait");
    assert_eq!(next(&mut outbox, now + REPEAT), None);
    assert_eq!(next(&mut outbox, refused + REPEAT).as_deref(), Some("a"));
}

#[test]
fn a_refusal_for_good_reaches_the_caller() {
    let now = Instant::now();
    let mut outbox = outbox(10);
    let mut answer = push(&mut outbox, "a", Some("1")).unwrap();
    next(&mut outbox, now);
    assert!(outbox.refused("1", "not_allowed", "no", now));
    assert!(matches!(answer.try_recv(), Ok(Err(SendError::Refused { .. }))));
    assert!(outbox.is_empty());
}
