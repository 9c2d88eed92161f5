//! What apps are told of a device: numbers first, presses once, and what is, to who was away.

use fieldgate_core::{
    message::{Content, Kind, Message, Qos},
    state::{Bounds, Reported},
    testing,
};
use fieldgate_dialects::{
    deconz::Facts,
    ws::{Decoder, Event, Limits},
};
use serde_json::{Value, json};

use super::*;

/// A device without a profile, and what apps are told.
struct Bench {
    shown: Shown,
    frames: Frames,
    seq: Seq,
}

fn parts(numbers: &[(&str, u64)]) -> Parts {
    let numbers = numbers.iter().map(|(word, number)| (((*word).to_owned(), 1), *number));
    Parts { address: [2; 8], numbers: numbers.collect(), clip: None }
}

impl Bench {
    fn new() -> Self {
        let facts = Facts { name: "d".to_owned(), ..Facts::default() };
        let device = Device::new(facts, Reported::default(), Bounds::default());
        let shown = Shown::new("d".parse().unwrap(), None, device);
        Self { shown, frames: Frames::default(), seq: Seq(0) }
    }

    fn hear(&mut self, kind: Kind, payload: &str, known: Option<&Parts>) -> Moved {
        self.seq = self.seq.next();
        let leaf = if kind == Kind::Event { "events" } else { "telemetry" };
        let topic = format!("devices/d/{leaf}");
        let message = testing::message(&topic, Qos::AtLeastOnce, payload);
        let message = Message { kind, content: Content::Json, ..message };
        let changes = self.shown.device.take(self.seq, &message);
        self.shown.tell(changes, known, self.seq, &mut self.frames)
    }

    /// What was told since the last time.
    fn told(&mut self) -> Vec<Value> {
        let Some((bytes, count)) = self.frames.take() else { return Vec::new() };
        let limits =
            Limits { frame_bytes_max: 1 << 20, message_bytes_max: 1 << 20, fragment_count_max: 1 };
        let mut told = Vec::new();
        let fed = Decoder::client(limits).feed(&mut bytes.to_vec(), &mut |event| {
            if let Event::Text(text) = event {
                told.push(serde_json::from_str(text).unwrap());
            }
            std::ops::ControlFlow::Continue(())
        });
        assert!(fed.is_ok());
        assert_eq!(told.len() as u64, count);
        told
    }

    fn since(&mut self, read: u64, before: bool) -> Vec<Value> {
        self.shown.tell_since(Seq(read), before, &mut self.frames);
        self.told()
    }
}

#[test]
fn what_is_seen_first_is_added_once_it_has_a_number_and_then_changed() {
    let mut bench = Bench::new();
    bench.hear(Kind::Telemetry, r#"{"temperature":21.3}"#, None);
    assert_eq!(bench.told(), Vec::<Value>::new());
    assert!(bench.shown.wants_numbers());
    assert_eq!(bench.shown.ask(), [(Part::Temperature, 1)]);
    assert!(!bench.shown.wants_numbers(), "it is asked once");
    let moved = bench.shown.on_numbers(&parts(&[("temperature", 7)]), bench.seq, &mut bench.frames);
    assert_eq!(moved.came, [((Part::Temperature, 1), 7)]);
    let told = bench.told();
    assert_eq!((&told[0]["e"], &told[0]["id"]), (&json!("added"), &json!("7")));
    assert_eq!(told[1]["e"], "changed");
    assert_eq!(told[1]["state"]["temperature"], 2_130);
    assert_eq!(told.len(), 2);
}

#[test]
fn a_press_that_came_before_the_number_is_told_once() {
    let mut bench = Bench::new();
    let press = r#"{"event":"button","data":{"button":2002}}"#;
    bench.hear(Kind::Event, press, None);
    bench.hear(Kind::Event, press, None);
    bench.shown.on_numbers(&parts(&[("switch", 1)]), bench.seq, &mut bench.frames);
    let told = bench.told();
    let presses = told.iter().filter(|frame| frame["state"]["buttonevent"] == 2_002).count();
    assert_eq!((told.len(), presses), (3, 2), "{told:?}");
    assert_eq!(bench.since(0, true).iter().filter(|frame| frame.get("state").is_some()).count(), 0);
}

#[test]
fn who_was_away_hears_what_is_and_not_what_was_before() {
    let mut bench = Bench::new();
    let known = parts(&[("temperature", 1), ("humidity", 2)]);
    bench.hear(Kind::Telemetry, r#"{"temperature":20}"#, Some(&known));
    bench.hear(Kind::Telemetry, r#"{"humidity":40}"#, Some(&known));
    bench.hear(Kind::Telemetry, r#"{"temperature":21}"#, Some(&known));
    bench.told();
    let states = |told: Vec<Value>| -> Vec<Value> {
        told.into_iter().filter_map(|frame| frame.get("state").cloned()).collect()
    };
    let told = states(bench.since(2, false));
    assert_eq!((told.len(), &told[0]["temperature"]), (1, &json!(2_100)));
    assert_eq!(bench.since(3, false), Vec::<Value>::new());
    assert_eq!(states(bench.since(0, false)).len(), 2);
    let changes = bench.shown.set_reachable(false, Seq(3));
    bench.shown.tell(changes, Some(&known), Seq(3), &mut bench.frames);
    bench.told();
    let told = bench.since(3, false);
    assert!(told.iter().all(|frame| frame["config"]["reachable"] == false), "{told:?}");
    assert_eq!(told.len(), 2);
}

#[test]
fn all_of_a_state_is_told_where_that_is_asked_for() {
    let mut bench = Bench::new();
    let known = parts(&[("lightlevel", 1)]);
    bench.hear(Kind::Telemetry, r#"{"lux":6}"#, Some(&known));
    bench.told();
    bench.hear(Kind::Telemetry, r#"{"lux":7}"#, Some(&known));
    let some = bench.told();
    assert!(some[0]["state"].get("dark").is_none(), "{some:?}");
    bench.frames.set_wants_all(true);
    bench.hear(Kind::Telemetry, r#"{"lux":8}"#, Some(&known));
    let all = bench.told();
    assert_eq!((&all[0]["state"]["dark"], &all[0]["state"]["lux"]), (&json!(true), &json!(8)));
}

#[test]
fn what_ends_is_deleted() {
    let mut bench = Bench::new();
    bench.hear(Kind::Telemetry, r#"{"temperature":20}"#, Some(&parts(&[("temperature", 4)])));
    bench.told();
    let moved = bench.shown.end(&mut bench.frames);
    assert_eq!(moved.gone.len(), 1);
    let told = bench.told();
    assert_eq!((&told[0]["e"], &told[0]["id"]), (&json!("deleted"), &json!("4")));
}
