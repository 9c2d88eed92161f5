//! Pace: at most so many messages a second of each topic, the newest kept back until its time.
//!
//! Pure; time is an argument, in milliseconds of any clock that only rises. Source: `native.md`,
//! `maxRate`. Invariant: what leaves rises in number, and two messages of a topic leave at least one
//! gap apart, unless the bound on what is remembered is passed.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
};

use crate::{id::Seq, topic::Topic};

/// So many topics are remembered for one gap; past it some may leave sooner.
pub const TOPICS_MAX: usize = 4_096;
/// No gap is longer.
const GAP_MS_MAX: f64 = 86_400_000.0;

/// What is kept back for one subscription.
#[derive(Debug)]
pub struct Pace<T> {
    gap_ms: u64,
    /// When each topic last left. By hash, which costs no copy of the topic; two that fall together
    /// share a pace.
    left_ms: HashMap<u64, u64>,
    hasher: RandomState,
    held: BTreeMap<Seq, (u64, T)>,
    by_topic: HashMap<u64, Seq>,
}

impl<T> Pace<T> {
    /// Makes a pace of so many messages a second; anything but a number above 0 is one a day.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        let gap_ms = (1_000.0 / per_second).ceil();
        let gap_ms = if gap_ms >= 1.0 { gap_ms.min(GAP_MS_MAX) } else { 1.0 };
        Self {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and a day"
            )]
            gap_ms: gap_ms as u64,
            left_ms: HashMap::new(),
            hasher: RandomState::new(),
            held: BTreeMap::new(),
            by_topic: HashMap::new(),
        }
    }

    /// Takes a message; gives it back if it may leave now. Else it is kept back, and the one of its
    /// topic that was before is merged into it.
    pub fn offer(
        &mut self,
        topic: &Topic,
        seq: Seq,
        mut item: T,
        now_ms: u64,
        merge: impl FnOnce(&mut T, T),
    ) -> Option<T> {
        let topic = self.hasher.hash_one(topic);
        if self.held.is_empty() && self.due_at(topic) <= now_ms {
            self.leave(topic, now_ms);
            return Some(item);
        }
        let before = self.by_topic.insert(topic, seq);
        if let Some((_, older)) = before.and_then(|before| self.held.remove(&before)) {
            merge(&mut item, older);
        }
        self.held.insert(seq, (topic, item));
        None
    }

    /// Takes the oldest message kept back, if its time has come; or in any case.
    pub fn pop(&mut self, now_ms: u64, in_any_case: bool) -> Option<T> {
        let (_, (topic, _)) = self.held.first_key_value()?;
        if !in_any_case && self.due_at(*topic) > now_ms {
            return None;
        }
        let (_, (topic, item)) = self.held.pop_first()?;
        self.by_topic.remove(&topic);
        self.leave(topic, now_ms);
        Some(item)
    }

    /// Tells when to look again; nothing while nothing is kept back.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.held.first_key_value().map(|(_, (topic, _))| self.due_at(*topic))
    }

    fn due_at(&self, topic: u64) -> u64 {
        self.left_ms.get(&topic).map_or(0, |left_ms| left_ms + self.gap_ms)
    }

    fn leave(&mut self, topic: u64, now_ms: u64) {
        if self.left_ms.len() >= TOPICS_MAX && !self.left_ms.contains_key(&topic) {
            self.left_ms.retain(|_, left_ms| *left_ms + self.gap_ms > now_ms);
            if self.left_ms.len() >= TOPICS_MAX {
                self.left_ms.clear();
            }
        }
        self.left_ms.insert(topic, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u64) -> Topic {
        format!("t/{number}").parse().unwrap()
    }

    fn offer(pace: &mut Pace<u64>, of: u64, seq: u64, now_ms: u64) -> Option<u64> {
        pace.offer(&topic(of), Seq(seq), seq, now_ms, |_, _| ())
    }

    #[test]
    fn the_first_leaves_at_once_and_the_newest_after_the_gap() {
        let mut pace = Pace::new(2.0);
        assert_eq!(offer(&mut pace, 1, 1, 1_000), Some(1));
        assert_eq!(pace.due_ms(), None);
        assert_eq!(offer(&mut pace, 1, 2, 1_100), None);
        assert_eq!(offer(&mut pace, 1, 3, 1_200), None);
        assert_eq!((pace.due_ms(), pace.pop(1_499, false)), (Some(1_500), None));
        assert_eq!(pace.pop(1_500, false), Some(3));
        assert_eq!((pace.due_ms(), pace.pop(9_999, false)), (None, None));
        assert_eq!(offer(&mut pace, 1, 4, 1_999), None);
        assert_eq!(pace.pop(1_999, true), Some(4));
    }

    #[test]
    fn a_topic_within_its_rate_waits_only_behind_one_that_is_not() {
        let mut pace = Pace::new(1.0);
        assert_eq!(offer(&mut pace, 1, 1, 0), Some(1));
        assert_eq!(offer(&mut pace, 2, 2, 0), Some(2));
        assert_eq!(offer(&mut pace, 1, 3, 500), None);
        assert_eq!(offer(&mut pace, 3, 4, 600), None);
        assert_eq!(pace.pop(1_000, false), Some(3));
        assert_eq!(pace.pop(1_000, false), Some(4));
    }

    #[test]
    fn odd_rates_have_a_gap_of_one_millisecond_to_a_day() {
        for (rate, gap_ms) in
            [(f64::MAX, 1), (3.0, 334), (f64::MIN_POSITIVE, 86_400_000), (f64::INFINITY, 1)]
        {
            assert_eq!(Pace::<()>::new(rate).gap_ms, gap_ms);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pace = Pace::new(1.0);
        for number in 0..10_000 {
            assert_eq!(offer(&mut pace, number, number, 0), Some(number));
            assert!(pace.left_ms.len() <= TOPICS_MAX);
        }
    }

    proptest! {
        #[test]
        fn numbers_rise_each_topic_keeps_its_gap_and_the_newest_comes(
            steps in prop::collection::vec((0..4_u64, 0..300_u64), 1..200),
        ) {
            let mut pace = Pace::new(4.0);
            let (mut now_ms, mut last) = (1_000, 0);
            let (mut sent, mut newest) = (HashMap::new(), HashMap::new());
            let mut left = |of: u64, seq: u64, now_ms: u64| {
                assert!(seq > last, "{seq} after {last}");
                last = seq;
                let before = sent.insert(of, (seq, now_ms));
                assert!(before.is_none_or(|(_, before_ms)| now_ms >= before_ms + 250));
            };
            for (seq, (of, wait_ms)) in (1..).zip(steps) {
                let until_ms = now_ms + wait_ms;
                while let Some(due_ms) = pace.due_ms().filter(|due_ms| *due_ms <= until_ms) {
                    now_ms = due_ms.max(now_ms);
                    let (of, seq) = pace.pop(now_ms, false).unwrap();
                    left(of, seq, now_ms);
                }
                now_ms = until_ms;
                newest.insert(of, seq);
                if let Some((of, seq)) =
                    pace.offer(&topic(of), Seq(seq), (of, seq), now_ms, |newer, older| {
                        assert!(newer.0 == older.0 && newer.1 > older.1);
                    })
                {
                    left(of, seq, now_ms);
                }
            }
            while let Some(due_ms) = pace.due_ms() {
                now_ms = due_ms.max(now_ms);
                let (of, seq) = pace.pop(now_ms, false).unwrap();
                left(of, seq, now_ms);
            }
            let sent: HashMap<_, _> = sent.into_iter().map(|(of, (seq, _))| (of, seq)).collect();
            prop_assert_eq!(sent, newest);
        }
    }
}
