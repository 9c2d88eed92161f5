//! The slow scrub: sealed segments are read through, so that damage is found while there is a copy.
//!
//! It reads as everybody else does, and what it finds is counted and named in the same place. A step
//! is short and bounded, and somebody else's thread makes the pauses. What it learned of a segment
//! that nobody reads is forgotten behind it: memory does not grow with the log.

use std::{sync::Arc, time::Duration};

use fieldgate_core::{dialect::GapReason, id::Seq};

use super::{segment::Segment, segments::Segments};
use crate::port::{Followed, ReadFilter};

/// Bytes of records that a step reads.
const STEP_BYTES: usize = 256 << 10;
/// Between two steps: 2 MiB a second.
pub(super) const PAUSE: Duration = Duration::from_millis(125);
/// Between the end of a pass and the next.
pub(super) const REST: Duration = Duration::from_secs(24 * 3600);

/// How far a pass is.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    next: Option<Seq>,
    /// Segments of which nothing was known before.
    unmarked: Vec<Arc<Segment>>,
}

impl Scrub {
    /// Reads the next stretch of what is sealed, as far as it is `stored`. Returns false at the end
    /// of a pass; the step behind it begins another.
    pub(super) fn step(&mut self, segments: &Segments, stored: Seq) -> bool {
        let from = self.next.unwrap_or_else(|| segments.oldest());
        let newest = segments.newest().filter(|newest| *newest <= stored && from <= *newest);
        let next = newest.and_then(|newest| {
            self.borrow(segments, from);
            // What is missing before the newest segment may be explained within it.
            let next = read(segments, from, stored)?;
            (next <= newest).then_some(next)
        });
        self.next = next;
        let here = next.and_then(|next| segments.of(next).0);
        let here = here.map_or(Seq(u64::MAX), |segment| segment.header.first);
        self.unmarked.retain(|segment| {
            let is_ahead = segment.header.first >= here;
            if !is_ahead {
                segment.forget_marks();
            }
            is_ahead
        });
        next.is_some()
    }

    fn borrow(&mut self, segments: &Segments, from: Seq) {
        let (holder, newer) = segments.of(from);
        for segment in [holder, newer].into_iter().flatten() {
            let is_held = self.unmarked.iter().any(|held| Arc::ptr_eq(held, &segment));
            if !is_held && !segment.is_marked() {
                self.unmarked.push(segment);
            }
        }
    }
}

/// Reads one stretch for what is wrong with it; returns what stands behind it. What cannot be read
/// at all costs the rest of its segment: which numbers stand there nobody can say.
fn read(segments: &Segments, from: Seq, end: Seq) -> Option<Seq> {
    let read = || segments.read(from, end, &ReadFilter::default(), STEP_BYTES);
    match read().or_else(|_| read()).or_else(|_| read()) {
        Ok(chunk) => Some(chunk.next.max(from.next())),
        Err(error) => {
            tracing::error!(%error, seq = from.0, "log unreadable");
            let gap = Followed::Gap(from.0..=from.0, GapReason::Damaged);
            segments.stats.note_damage(std::slice::from_ref(&gap));
            segments.of(from).1.map(|newer| newer.header.first)
        }
    }
}

/// Reads the numbers `from` to `end`, both inclusive, so that what is damaged among them is named.
pub(super) fn look(segments: &Segments, mut from: Seq, end: Seq) {
    while from <= end {
        let Some(next) = read(segments, from, end) else { return };
        from = next;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use fieldgate_core::{id::UnixMs, message::Qos};

    use super::*;
    use crate::{
        disk::{
            Disk as _,
            faulty::{FaultyDisk, Rates},
        },
        log::{LocalLog, LogOptions, ManualLog},
        port::Log as _,
        testing::message_at,
    };

    fn options() -> LogOptions {
        LogOptions {
            segment_bytes: 64 << 10,
            tail_bytes_max: 0,
            free_bytes_min: 0,
            ..LogOptions::default()
        }
    }

    /// A disk with a log of several segments, a batch for each message.
    fn filled() -> FaultyDisk {
        let disk = FaultyDisk::new(3);
        let (mut manual, _) = ManualLog::open(Arc::new(disk.clone()), options()).unwrap();
        for number in 0..40 {
            let text = format!("needle-{number:04}{}", " ".repeat(8 << 10));
            let record = message_at("devices/a/telemetry", Qos::AtLeastOnce, &text);
            manual.log.append(vec![record], UnixMs(1)).unwrap();
            manual.step();
        }
        manual.finish();
        disk
    }

    /// Damages what holds a text; returns its segment.
    fn damage(disk: &FaultyDisk, text: &str) -> String {
        let names = disk.list().unwrap().into_iter().filter(|name| name.ends_with(".seg"));
        for name in names {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![0; usize::try_from(file.byte_len().unwrap()).unwrap()];
            file.read_at(0, &mut bytes).unwrap();
            let found = bytes.windows(text.len()).position(|bytes| bytes == text.as_bytes());
            if let Some(at) = found {
                file.write_at(at as u64, b"x").unwrap();
                return name;
            }
        }
        panic!("{text} is not in the log");
    }

    /// A whole pass; returns how many steps it took.
    fn pass(scrub: &mut Scrub, log: &LocalLog) -> usize {
        (1..10_000).find(|_| !scrub.step(&log.segments, log.intake.stored())).unwrap()
    }

    #[test]
    fn a_pass_names_what_is_damaged_and_nothing_else_though_nobody_reads() {
        let disk = filled();
        let (manual, _) = ManualLog::open(Arc::new(disk.clone()), options()).unwrap();
        let mut scrub = Scrub::default();
        let steps = pass(&mut scrub, &manual.log);
        assert!(steps > 2, "{steps}: a step is short");
        assert!(manual.log.status().damaged.is_empty());
        drop(manual);
        damage(&disk, "needle-0003");
        damage(&disk, "needle-0010");
        let (manual, found) = ManualLog::open(Arc::new(disk.clone()), options()).unwrap();
        assert_eq!(found.damage_count, 0, "a start reads the newest segment alone");
        assert!(manual.log.status().damaged.is_empty());
        pass(&mut scrub, &manual.log);
        assert_eq!(manual.log.status().damaged, [4..=4, 11..=11]);
        // Again, with what was damaged meanwhile.
        damage(&disk, "needle-0005");
        pass(&mut scrub, &manual.log);
        assert_eq!(manual.log.status().damaged, [4..=4, 6..=6, 11..=11]);
        assert!(scrub.unmarked.is_empty());
        let marked = manual.log.segments.all().iter().filter(|held| held.is_marked()).count();
        assert!(marked <= 2, "{marked} segments are remembered that nobody reads");
    }

    #[test]
    fn what_a_failure_left_behind_is_no_damage() {
        let disk = FaultyDisk::new(5);
        let (mut manual, _) = ManualLog::open(Arc::new(disk.clone()), options()).unwrap();
        let log = Arc::clone(&manual.log);
        let send = || {
            let record = message_at("devices/a/telemetry", Qos::AtLeastOnce, "text");
            log.append(vec![record], UnixMs(1)).is_ok()
        };
        for _ in 0..3 {
            assert!(send());
            manual.step();
            assert!(send());
            disk.set_rates(Rates { sync_error: 1, create_error: 1, ..Rates::default() });
            manual.step();
            assert!(log.is_stopped());
            // A pass while the newest segment is void, and once there is another.
            pass(&mut Scrub::default(), &log);
            disk.set_rates(Rates::default());
            manual.keep_house();
            pass(&mut Scrub::default(), &log);
        }
        assert!(log.status().segment_count > 3);
        assert_eq!(log.status().damaged, []);
    }

    #[test]
    fn what_a_start_finds_damaged_is_named() {
        let disk = filled();
        let last = damage(&disk, "needle-0037");
        assert_eq!(
            disk.list().unwrap().into_iter().filter(|n| n.ends_with(".seg")).max(),
            Some(last)
        );
        let (manual, found) = ManualLog::open(Arc::new(disk), options()).unwrap();
        assert_eq!((found.damage_count, manual.log.status().damaged), (1, vec![38..=38]));
    }

    #[test]
    fn a_segment_that_is_lost_is_named_at_the_start() {
        let disk = filled();
        let name = disk.list().unwrap().into_iter().filter(|n| n.ends_with(".seg")).nth(1).unwrap();
        let file = disk.open(&name).unwrap();
        file.write_at(0, &[7; 64 << 10]).unwrap();
        let first: u64 = name.strip_suffix(".seg").unwrap().parse().unwrap();
        let (manual, found) = ManualLog::open(Arc::new(disk), options()).unwrap();
        let newer = manual.log.segments.of(Seq(first)).1.unwrap().header.first;
        assert_eq!(found.damage_count, 1);
        assert_eq!(manual.log.status().damaged, [first..=newer.0 - 1]);
    }

    #[test]
    fn a_log_that_is_open_scrubs_itself() {
        let disk = filled();
        damage(&disk, "needle-0003");
        let (log, _) = LocalLog::open_on(Arc::new(disk), options()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while log.status().damaged != [4..=4] {
            assert!(Instant::now() < deadline, "nothing was found");
            std::thread::yield_now();
        }
    }
}
