//! Deliveries to targets that stop, hang, answer late, refuse and lie, in simulated time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const HABITS: Habits = Habits {
    batch_len_max: 16,
    batch_bytes_max: 1_000,
    batch_age_ms: 50,
    backoff: Backoff { first: Duration::from_millis(500), max: Duration::from_secs(30) },
    failure_count_max: 5,
    open_ms: 30_000,
    steady_ms: 10_000,
    refused_count_max: 4,
    wait_ms_max: 600_000,
    catch_up: None,
};

/// How a target behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    /// No connection is to be had.
    Away,
    /// It takes the connection, and says nothing more.
    Silent,
    /// It takes the batch, and says so late.
    Late,
    /// It takes the batch, and the connection breaks before it says so.
    Torn,
    /// It says that it took the batch, and closes.
    Liar,
    /// It asks to come back in a minute.
    Busy,
    /// It does not know us.
    Barred,
}

/// A target, a log of which every third number is for it, and time.
struct World {
    delivery: Delivery<()>,
    needs_link: bool,
    now_ms: u64,
    end: u64,
    poison: BTreeSet<u64>,
    moods: Vec<(u64, Mood)>,
    /// Each batch that the target saw whole, and whether it kept it.
    seen: Vec<(Vec<u64>, bool)>,
    set_aside: Vec<u64>,
    /// Everything up to here was acknowledged or set aside.
    settled: u64,
    attempt_count: u64,
    random: u64,
}

impl World {
    fn new(habits: Habits, needs_link: bool, end: u64) -> Self {
        Self {
            delivery: Delivery::new(habits, Seq(0), needs_link),
            needs_link,
            now_ms: 1_000,
            end,
            poison: BTreeSet::new(),
            moods: Vec::new(),
            seen: Vec::new(),
            set_aside: Vec::new(),
            settled: 0,
            attempt_count: 0,
            random: 88_172_645_463_325_252,
        }
    }

    fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn mood(&self) -> Mood {
        let past = self.moods.iter().rev().find(|(from_ms, _)| *from_ms <= self.now_ms);
        past.map_or(Mood::Well, |(_, mood)| *mood)
    }

    fn read(&mut self) {
        while self.delivery.wants_more() && self.delivery.read_to().0 < self.end {
            let from = self.delivery.read_to().0 + 1;
            let through = self.end.min(from + 9);
            let items = (from..=through).filter(|seq| seq % 3 == 0);
            let items = items.map(|seq| Item { seq: Seq(seq), byte_len: 40, body: () });
            self.delivery.offer(items, Seq(through), self.now_ms);
            self.delivery.set_head(Seq(self.end));
            let bound = 2 * self.delivery.habits.batch_len_max + 10;
            assert!(self.delivery.waiting_len() <= bound, "what waits is bounded");
        }
    }

    fn attempt(&mut self, batch: &[u64]) -> Outcome {
        self.attempt_count += 1;
        let is_good = batch.iter().all(|seq| !self.poison.contains(seq));
        let keeps = if is_good { Outcome::Taken } else { Outcome::Refused };
        let (takes_ms, outcome) = match self.mood() {
            Mood::Well | Mood::Liar => (2, keeps),
            Mood::Late => (5_000, keeps),
            Mood::Torn => {
                self.seen.push((batch.to_vec(), is_good));
                (2, Outcome::Failed)
            }
            Mood::Away => (1, Outcome::Failed),
            Mood::Silent => (30_000, Outcome::Failed),
            Mood::Busy => (1, Outcome::Later { after_ms: 60_000 }),
            Mood::Barred => (1, Outcome::Barred),
        };
        self.now_ms += takes_ms;
        if matches!(outcome, Outcome::Taken | Outcome::Refused) {
            self.seen.push((batch.to_vec(), is_good));
        }
        outcome
    }

    fn end_with(&mut self, outcome: Outcome) {
        let random = self.chance();
        if let Some(item) = self.delivery.ended(outcome, self.now_ms, random) {
            assert!(item.seq.0 > self.settled);
            self.settled = item.seq.0;
            self.set_aside.push(item.seq.0);
        }
    }

    /// One step; false when nothing is left to do.
    fn step(&mut self) -> bool {
        self.read();
        match self.delivery.next(self.now_ms) {
            Step::Connect => match self.mood() {
                Mood::Away | Mood::Barred => {
                    let outcome = self.attempt(&[]);
                    self.end_with(outcome);
                }
                Mood::Well | Mood::Silent | Mood::Late | Mood::Torn | Mood::Liar | Mood::Busy => {
                    self.delivery.connected(self.now_ms)
                }
            },
            Step::Send => {
                let batch: Vec<u64> = self.delivery.batch().map(|item| item.seq.0).collect();
                self.check_batch(&batch);
                assert!(!batch.is_empty() && batch.len() <= self.delivery.habits.batch_len_max);
                let liar = self.needs_link && self.mood() == Mood::Liar;
                let outcome = self.attempt(&batch);
                if outcome == Outcome::Taken {
                    self.settled = *batch.last().unwrap();
                }
                self.end_with(outcome);
                if liar && outcome == Outcome::Taken {
                    self.end_with(Outcome::Failed);
                }
            }
            Step::Wait(Some(until_ms)) => {
                assert!(until_ms > self.now_ms, "a wait has an end ahead");
                self.now_ms = until_ms;
            }
            Step::Wait(None) => return false,
        }
        true
    }

    fn run(&mut self) {
        let mut step_count = 0;
        while self.delivery.cursor() < Seq(self.end) {
            assert!(self.step() || self.delivery.cursor() == Seq(self.end), "it stands still");
            step_count += 1;
            assert!(step_count < 1_000_000, "it goes round in circles");
        }
    }

    /// Nothing lost, and nothing kept that was refused.
    fn check(&self) {
        let kept: BTreeSet<u64> = self
            .seen
            .iter()
            .filter(|(_, keeps)| *keeps)
            .flat_map(|(batch, _)| batch)
            .copied()
            .collect();
        let wanted: BTreeSet<u64> =
            (1..=self.end).filter(|seq| seq % 3 == 0 && !self.poison.contains(seq)).collect();
        assert_eq!(kept, wanted);
    }

    /// What is sent is the oldest that was not acknowledged, without a hole: so the order stays, and
    /// nothing is repeated but what the target did not say that it took.
    fn check_batch(&self, batch: &[u64]) {
        let from = self.settled + 1;
        let wanted = (from..=self.end).filter(|seq| seq % 3 == 0).take(batch.len());
        assert!(wanted.eq(batch.iter().copied()), "{batch:?} behind {}", self.settled);
    }

    fn restart(&mut self, written: Seq) {
        self.settled = written.0;
        self.delivery = Delivery::new(HABITS, written, self.needs_link);
    }
}

#[test]
fn a_batch_leaves_when_it_is_full_or_old() {
    let mut delivery = Delivery::new(HABITS, Seq(0), false);
    let item = |seq, byte_len| Item { seq: Seq(seq), byte_len, body: () };
    assert_eq!(delivery.next(0), Step::Wait(None));
    delivery.offer([item(2, 10)], Seq(4), 100);
    assert_eq!((delivery.next(100), delivery.cursor()), (Step::Wait(Some(150)), Seq(1)));
    delivery.offer([item(5, 10)], Seq(5), 120);
    assert_eq!((delivery.next(150), delivery.batch().count()), (Step::Send, 2));
    assert_eq!(delivery.next(150), Step::Wait(None), "one at a time");
    delivery.ended(Outcome::Taken, 160, 0);
    assert_eq!(delivery.cursor(), Seq(5));
    delivery.offer((6..40).map(|seq| item(seq, 10)), Seq(40), 200);
    assert!(!delivery.wants_more());
    assert_eq!((delivery.next(200), delivery.batch().count()), (Step::Send, 16));
    delivery.ended(Outcome::Taken, 200, 0);
    assert!(delivery.wants_more());
    let mut large = Delivery::new(HABITS, Seq(0), false);
    large.offer([item(1, 600), item(2, 600), item(3, 9_000)], Seq(3), 0);
    for _ in 0..3 {
        assert_eq!((large.next(0), large.batch().count()), (Step::Send, 1));
        large.ended(Outcome::Taken, 0, 0);
    }
}

#[test]
fn a_failed_batch_is_repeated_as_it_was_and_a_target_that_is_away_is_asked_rarely() {
    let mut world = World::new(HABITS, false, 3_000);
    world.moods = vec![(0, Mood::Away), (3_600_000, Mood::Well)];
    world.read();
    let mut lens = BTreeSet::new();
    while world.now_ms < 3_600_000 {
        assert!(world.step());
        lens.insert(world.delivery.again);
        assert!(!world.delivery.is_unwanted());
    }
    assert!((100..=260).contains(&world.attempt_count), "{}", world.attempt_count);
    assert_eq!(lens, BTreeSet::from([Some(16)]));
    world.run();
    world.check();
    assert_eq!((world.delivery.breaker(), world.delivery.failure_count()), (Breaker::Closed, 0));
    assert_eq!(world.seen[0].0.len(), 1, "one item tries whether it is back");
}

#[test]
fn who_is_not_let_in_is_not_halved_and_not_hurried() {
    let mut world = World::new(HABITS, false, 300);
    world.moods = vec![(0, Mood::Barred), (100_000, Mood::Well)];
    assert!(world.step());
    assert_eq!(world.delivery.breaker(), Breaker::Open);
    let wait_ms = world.delivery.not_before_ms(world.now_ms).unwrap() - world.now_ms;
    assert!((15_000..=30_000).contains(&wait_ms), "{wait_ms}");
    assert!(world.delivery.is_unwanted());
    world.run();
    world.check();
    assert!(world.set_aside.is_empty() && !world.delivery.is_unwanted());
    assert!(world.attempt_count < 40, "{}", world.attempt_count);
}

#[test]
fn a_target_that_refuses_everything_gets_little_set_aside() {
    let mut world = World::new(HABITS, false, 3_000);
    world.poison = (0..3_000).collect();
    while world.now_ms < 3_600_000 {
        assert!(world.step());
    }
    assert!(world.set_aside.len() <= 4 + 240, "{}", world.set_aside.len());
    assert!(world.attempt_count <= 300, "{}", world.attempt_count);
    assert!(world.delivery.is_unwanted());
    world.moods = vec![(world.now_ms, Mood::Away), (world.now_ms + 100_000, Mood::Well)];
    while world.delivery.is_unwanted() {
        assert!(world.step(), "what is not there wants nothing and does not want nothing");
    }
    world.poison.clear();
    world.run();
    assert_eq!(world.delivery.breaker(), Breaker::Closed);
}

#[test]
fn a_wait_that_is_asked_for_is_kept_up_to_its_bound_and_is_no_failure() {
    let mut delivery = Delivery::new(HABITS, Seq(0), false);
    delivery.offer([Item { seq: Seq(1), byte_len: 1, body: () }], Seq(1), 0);
    for (asked_ms, waits_ms) in [(7_000, 7_000), (u64::MAX, 600_000), (0, 0)] {
        let now_ms = delivery.not_before_ms(0).unwrap_or(0) + 50;
        assert_eq!(delivery.next(now_ms), Step::Send);
        delivery.ended(Outcome::Later { after_ms: asked_ms }, now_ms, 0);
        let wait = delivery.not_before_ms(now_ms).map_or(0, |until_ms| until_ms - now_ms);
        assert_eq!((wait, delivery.failure_count()), (waits_ms, 0));
    }
}

#[test]
fn a_link_that_breaks_at_once_is_made_anew_ever_more_slowly_and_one_that_stood_soon() {
    let mut delivery = Delivery::<()>::new(HABITS, Seq(0), true);
    let (mut now_ms, mut waits) = (0, Vec::new());
    for _ in 0..4 {
        assert_eq!(delivery.next(now_ms), Step::Connect);
        delivery.connected(now_ms);
        delivery.ended(Outcome::Failed, now_ms + 5, u64::MAX);
        let Step::Wait(Some(until_ms)) = delivery.next(now_ms + 5) else { panic!("no wait") };
        waits.push(until_ms - now_ms - 5);
        now_ms = until_ms;
    }
    assert_eq!(waits, [500, 1_000, 2_000, 4_000]);
    assert_eq!(delivery.next(now_ms), Step::Connect);
    delivery.connected(now_ms);
    assert_eq!(delivery.next(now_ms), Step::Wait(Some(now_ms + 10_000)), "until it is a good one");
    assert_eq!(delivery.next(now_ms + 10_000), Step::Wait(None));
    assert_eq!(delivery.failure_count(), 0);
    delivery.ended(Outcome::Failed, now_ms + 20_000, u64::MAX);
    assert_eq!(delivery.next(now_ms + 20_000), Step::Wait(Some(now_ms + 20_500)));
}

#[test]
fn a_target_that_is_far_behind_is_spared_and_one_that_is_not_is_not() {
    let catch_up = CatchUp { per_second: 100, behind_len: 600 };
    let mut world = World::new(HABITS, false, 30_000);
    world.delivery = Delivery::new(Habits { catch_up: Some(catch_up), ..HABITS }, Seq(0), false);
    let started_ms = world.now_ms;
    while world.delivery.cursor() < Seq(30_000 - 600) {
        assert!(world.step());
    }
    // Every third number is an item.
    let took_ms = world.now_ms - started_ms;
    assert!((96_000..=101_000).contains(&took_ms), "{took_ms}");
    let near_ms = world.now_ms;
    world.run();
    assert!(world.now_ms - near_ms < 1_000, "{}", world.now_ms - near_ms);
    world.check();
}

fn mood() -> impl Strategy<Value = Mood> {
    use Mood::*;
    prop::sample::select(vec![Well, Away, Silent, Late, Torn, Liar, Busy, Barred])
}

proptest! {
    #[test]
    fn nothing_is_lost_the_order_stays_and_what_is_refused_is_set_aside_once(
        needs_link: bool,
        random in 1_u64..,
        poison in prop::collection::btree_set(1_u64..300, 0..12),
        moods in prop::collection::vec((1_u64..600_000, mood()), 0..12),
    ) {
        let mut world = World::new(HABITS, needs_link, 900);
        (world.random, world.poison) = (random, poison.iter().map(|n| n * 3).collect());
        let mut from_ms = 0;
        for (lasts_ms, mood) in moods {
            world.moods.push((from_ms, mood));
            from_ms += lasts_ms;
        }
        world.moods.push((from_ms, Mood::Well));
        world.run();
        world.check();
        let set_aside: Vec<u64> = world.poison.iter().copied().collect();
        prop_assert_eq!(&world.set_aside, &set_aside);
        let cost = world.attempt_count;
        prop_assert!(cost < 4_000, "{} attempts", cost);
    }

    #[test]
    fn whoever_begins_anew_at_a_cursor_repeats_what_came_behind_it_and_loses_nothing(
        needs_link: bool,
        random in 1_u64..,
        restarts in prop::collection::vec((1_usize..60, 0_u64..400), 1..8),
        moods in prop::collection::vec((1_u64..60_000, mood()), 0..6),
    ) {
        let mut world = World::new(HABITS, needs_link, 900);
        world.random = random;
        let mut from_ms = 0;
        for (lasts_ms, mood) in moods {
            world.moods.push((from_ms, mood));
            from_ms += lasts_ms;
        }
        world.moods.push((from_ms, Mood::Well));
        let mut written = Seq(0);
        for (step_count, late_len) in restarts {
            for _ in 0..step_count {
                if world.delivery.cursor() < Seq(900) {
                    world.step();
                }
                // What is written down is behind what is true.
                let cursor = world.delivery.cursor();
                written = written.max(Seq(cursor.0.saturating_sub(late_len)));
                prop_assert!(written <= cursor);
            }
            world.restart(written);
        }
        world.run();
        world.check();
    }
}
