//! The crash checker: seeded lives of a log on a simulated disk, each followed by a look at all.
//!
//! What it holds the log to: everything acknowledged is there, nothing is doubled or made up, no
//! number is given twice, every number is an entry or in a gap, no group is split, damage is fenced.
//! No threads: the test takes the writer's steps, so that a seed is a run. Each control of
//! `control` must make it fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Range, RangeInclusive},
    sync::Arc,
    time::Duration,
};

use fieldgate_core::{
    dialect::GapReason,
    id::{Seq, UnixMs},
    message::Qos,
};

use super::{
    Follower, LocalLog, LogOptions,
    format::{Batch, HEADER_BYTES},
    inspect::verify_on,
    intake::Intake,
    recover,
    repair::repair_on,
    scrub::Scrub,
    segments::Segments,
    writer::Writer,
};
use crate::{
    control::Control,
    disk::faulty::{Dice, FaultyDisk, Rates},
    port::{Chunk, Follow, Followed, Log, ReadFilter},
    record::{Entry, Record},
    testing::{change, failures, message_at, seeds},
};

#[derive(Debug, Clone)]
struct Given {
    payload: String,
    first: u64,
    last: u64,
    waits: bool,
}

struct World {
    disk: FaultyDisk,
    dice: Dice,
    rates: Rates,
    flips: bool,
    flipped: bool,
    /// A flipped bit in the last batch that counts looks like a write that a crash tore.
    tail_flipped: BTreeSet<u64>,
    given: BTreeMap<u64, Given>,
    acked: BTreeSet<u64>,
    voided: BTreeSet<u64>,
    message_count: u64,
}

struct Life {
    intake: Arc<Intake>,
    segments: Arc<Segments>,
    writer: Writer,
    follower: Follower,
    born: u64,
    failed_from: Option<u64>,
}

type Checked<T = ()> = Result<T, String>;

/// Below this much free disk messages are refused.
const FREE_MIN: u64 = 1_000;

fn options(seed: u64) -> LogOptions {
    LogOptions {
        segment_bytes: 1 << 10 << (seed % 3),
        tail_bytes_max: if seed.is_multiple_of(2) { 0 } else { 4 << 10 },
        free_bytes_min: FREE_MIN,
        retention_bytes: u64::MAX,
        ..LogOptions::default()
    }
}

fn rates(seed: u64) -> Rates {
    let none = Rates::default();
    match seed % 5 {
        0 => none,
        1 => Rates { sync_error: 20, ..none },
        2 => Rates { write_error: 20, create_error: 8, ..none },
        3 => Rates { crash: 60, ..none },
        _ => {
            Rates { write_error: 40, sync_error: 40, read_error: 30, create_error: 20, crash: 200 }
        }
    }
}

fn text_of(entry: &Entry) -> Option<&str> {
    let Record::Message(message) = &entry.record else { return None };
    std::str::from_utf8(&message.payload).ok()
}

impl World {
    fn new(seed: u64, flips: bool) -> Self {
        Self {
            disk: FaultyDisk::new(seed),
            dice: Dice::new(seed),
            rates: rates(seed),
            flips,
            flipped: false,
            tail_flipped: BTreeSet::new(),
            given: BTreeMap::new(),
            acked: BTreeSet::new(),
            voided: BTreeSet::new(),
            message_count: 0,
        }
    }

    fn open(&mut self, options: LogOptions) -> Checked<Life> {
        for attempt in 0..20 {
            self.disk.set_rates(if attempt < 5 { self.rates } else { Rates::default() });
            if attempt >= 5 {
                self.disk.set_free(u64::MAX);
            }
            let disk = Arc::new(self.disk.clone());
            match recover::recover(disk, options) {
                // To name damage is no reason not to start: a crash there comes to light later.
                Ok((segments, writer, recovery)) if !self.disk.is_crashed() => {
                    self.disk.set_rates(Rates::default());
                    let segments = Arc::new(segments);
                    let intake = Arc::new(Intake::new(&recovery, options));
                    let from = recovery.next.prev();
                    intake.join(from);
                    let follower = Follower {
                        intake: Arc::clone(&intake),
                        segments: Arc::clone(&segments),
                        next: recovery.next,
                    };
                    let born = recovery.next.0;
                    return Ok(Life {
                        intake,
                        segments,
                        writer,
                        follower,
                        born,
                        failed_from: None,
                    });
                }
                _ if self.dice.one_in(2) => self.disk.kill(),
                _ => self.disk.power_loss(),
            }
        }
        Err("the log does not open on a sound disk".to_owned())
    }

    /// Appends a group; says whether it was taken.
    fn append(&mut self, life: &Life) -> Checked<bool> {
        let len = 1 + self.dice.below(4);
        let (mut group, mut payloads) = (Vec::new(), Vec::new());
        for _ in 0..len {
            self.message_count += 1;
            let waits = !self.dice.one_in(3);
            let payload = format!("{}-{}", self.message_count, "x".repeat(waits as usize * 40));
            let topic = format!("devices/{}/telemetry", self.message_count % 7);
            let qos = if waits { Qos::AtLeastOnce } else { Qos::AtMostOnce };
            group.push(message_at(&topic, qos, &payload));
            payloads.push((payload, waits));
        }
        let Ok(range) = life.intake.append(group, UnixMs(self.message_count)) else {
            return Ok(false);
        };
        for (seq, (payload, waits)) in range.clone().zip(payloads) {
            let (first, last) = (*range.start(), *range.end());
            let given = Given { payload, first, last, waits };
            if let Some(before) = self.given.insert(seq, given) {
                return Err(format!("number {seq} given twice, before for {}", before.payload));
            }
        }
        Ok(true)
    }

    /// The disk gets full, or has room again: what may be taken is, and nothing else.
    fn fill(&mut self, life: &mut Life) -> Checked {
        let free = [0, FREE_MIN / 4 - 1, FREE_MIN / 4, FREE_MIN - 1, FREE_MIN, u64::MAX];
        let free = free[usize::try_from(self.dice.below(6)).unwrap()];
        self.disk.set_free(free);
        life.writer.keep_house(&life.intake, &life.segments);
        self.note_told(life);
        let may = |least| free >= least && !life.intake.is_stopped();
        let record = life.intake.append(vec![change()], UnixMs(0)).is_ok();
        let taken = (self.append(life)?, record);
        if taken == (may(FREE_MIN), may(FREE_MIN / 4)) {
            return Ok(());
        }
        Err(format!("with {free} bytes free messages and records are taken: {taken:?}"))
    }

    /// Notes what the senders have been told by now.
    fn note_told(&mut self, life: &mut Life) {
        let durable = life.intake.frontier().durable.0;
        if durable < life.born {
            return;
        }
        for (&seq, _) in self.given.range(life.born..=durable) {
            if !life.intake.is_refused(Seq(seq)) {
                self.acked.insert(seq);
            }
        }
        if life.writer.failed.is_some() {
            life.failed_from.get_or_insert(life.writer.last.0);
        }
        if life.writer.failed.is_none() {
            life.failed_from = None;
            let refused = self.given.range(life.born..=durable).map(|(seq, _)| *seq);
            self.voided.extend(refused.filter(|seq| life.intake.is_refused(Seq(*seq))));
        }
    }

    fn follow(&mut self, life: &mut Life) -> Checked {
        let mut expected = life.follower.next.0;
        let mut out = Vec::new();
        life.follower.next(&mut out, 64, Duration::ZERO);
        let durable = life.intake.frontier().durable.0;
        for item in &out {
            match item {
                Followed::Entry(entry) => {
                    let seq = entry.seq.0;
                    if seq != expected {
                        return Err(format!("followed {seq}, not {expected}"));
                    }
                    self.check_entry(entry)?;
                    let waits = self.given.get(&seq).is_some_and(|given| given.waits);
                    if waits && seq > durable {
                        return Err(format!("{seq} routed before it was durable"));
                    }
                    expected = seq + 1;
                }
                Followed::Gap(range, _) if *range.start() == expected => expected = range.end() + 1,
                Followed::Gap(range, _) => {
                    return Err(format!("followed gap {range:?}, not {expected}"));
                }
            }
        }
        Ok(())
    }

    fn check_entry(&self, entry: &Entry) -> Checked {
        let Some(text) = text_of(entry) else { return Ok(()) };
        match self.given.get(&entry.seq.0) {
            Some(given) if given.payload == text => Ok(()),
            given => Err(format!("{} holds {text}, not {given:?}", entry.seq)),
        }
    }

    fn steps(&mut self, life: &mut Life, options: LogOptions) -> Checked {
        self.disk.set_rates(self.rates);
        for _ in 0..20 + self.dice.below(40) {
            match self.dice.below(13) {
                0..=5 => drop(self.append(life)?),
                6..=8 => {
                    let taken = life.intake.take_now();
                    if !taken.entries.is_empty() {
                        life.writer.step(&taken, &life.intake, &life.segments);
                    }
                    self.note_told(life);
                }
                9 => {
                    life.writer.keep_house(&life.intake, &life.segments);
                    self.note_told(life);
                }
                10 => {
                    let ahead = Arc::clone(&life.writer.ahead);
                    ahead.step(&life.segments, options.segment_bytes, None);
                }
                11 => self.fill(life)?,
                _ => self.follow(life)?,
            }
        }
        Ok(())
    }

    fn end(&mut self, mut life: Life) {
        match self.dice.below(4) {
            0 => {
                life.intake.close();
                while !life.writer.step(&life.intake.take_now(), &life.intake, &life.segments) {}
                self.note_told(&mut life);
                self.disk.kill();
            }
            1 => self.disk.kill(),
            _ => self.disk.power_loss(),
        }
        if self.flips && self.dice.one_in(2) {
            self.flip();
        }
    }

    fn flip(&mut self) {
        self.disk.set_rates(Rates::default());
        let batches = batches(&self.disk);
        let Some((name, at)) = self.disk.flip_bit(".seg") else { return };
        self.flipped = true;
        let hit = batches.iter().find(|(of, bytes, _)| *of == name && bytes.contains(&at));
        let newest = self.acked.last();
        if let Some((_, _, numbers)) = hit
            && newest.is_none_or(|newest| newest <= numbers.end())
        {
            self.tail_flipped.extend(numbers.clone());
        }
    }

    /// Reads the whole log and holds it to the promises.
    fn check_all(&self, life: &Life) -> Checked {
        let end = life.intake.frontier().durable;
        let mut scrub = Scrub::default();
        while scrub.step(&life.segments, life.intake.stored()) {}
        let found = life.segments.status().damaged;
        if !self.flipped && !found.is_empty() {
            return Err(format!("{found:?} are called damaged on a sound disk"));
        }
        let (mut present, mut damaged) = (BTreeSet::new(), BTreeSet::new());
        let mut next = Seq(1);
        while next <= end {
            let bytes_max = 1 << 20;
            let read = life.segments.read(next, end, &ReadFilter::default(), bytes_max);
            let chunk = read.map_err(|error| format!("{error:?}"))?;
            self.check_chunk(next, &chunk, &mut present, &mut damaged)?;
            next = chunk.next;
        }
        for seq in &self.acked {
            let told = damaged.contains(seq) || self.tail_flipped.contains(seq);
            if !present.contains(seq) && !told {
                return Err(format!("acknowledged {seq} is gone, and no damage is told"));
            }
        }
        if let Some(seq) = self.voided.iter().find(|seq| present.contains(seq) && !self.flipped) {
            return Err(format!("refused {seq} came back"));
        }
        for given in self.given.values() {
            let held =
                (given.first..=given.last).filter(|seq| present.contains(seq)).count() as u64;
            if held != 0 && held != given.last - given.first + 1 {
                return Err(format!("group {}..={} is split", given.first, given.last));
            }
        }
        self.check_filtered(life, end, &present)
    }

    fn check_chunk(
        &self,
        from: Seq,
        chunk: &Chunk,
        present: &mut BTreeSet<u64>,
        damaged: &mut BTreeSet<u64>,
    ) -> Checked {
        let mut expected = from.0;
        for item in &chunk.items {
            match item {
                Followed::Entry(entry) => {
                    self.check_entry(entry)?;
                    if entry.seq.0 != expected {
                        return Err(format!("{} stands where {expected} should", entry.seq));
                    }
                    if text_of(entry).is_some() {
                        present.insert(expected);
                    }
                    expected += 1;
                }
                Followed::Gap(range, reason) => {
                    if *range.start() != expected {
                        return Err(format!("gap {range:?} stands where {expected} should"));
                    }
                    if *reason != GapReason::Crash && !self.flipped {
                        return Err(format!("gap {range:?} {reason:?} on a sound disk"));
                    }
                    if *reason == GapReason::Damaged {
                        let within = |seq: &&u64| range.contains(*seq);
                        damaged.extend(self.acked.iter().filter(within));
                    }
                    expected = range.end() + 1;
                }
            }
        }
        if expected == chunk.next.0 && expected > from.0 {
            Ok(())
        } else {
            Err(format!("chunk from {from} ends at {expected}, says {}", chunk.next))
        }
    }

    /// A filtered replay shows what an unfiltered one does.
    fn check_filtered(&self, life: &Life, end: Seq, present: &BTreeSet<u64>) -> Checked {
        let filters = vec!["devices/3/#".parse().map_err(|_| "filter")?];
        let filter = ReadFilter { filters, ..ReadFilter::default() };
        let (mut next, mut found) = (Seq(1), BTreeSet::new());
        while next <= end {
            let read = life.segments.read(next, end, &filter, 1 << 20);
            let chunk = read.map_err(|error| format!("{error:?}"))?;
            if chunk.next <= next {
                return Err(format!("a filtered reader stands still at {next}"));
            }
            next = chunk.next;
            for item in &chunk.items {
                if let Followed::Entry(entry) = item {
                    found.insert(entry.seq.0);
                }
            }
        }
        // A header that lost what it declares void brings that back: it is seen, or not.
        found.retain(|seq| !self.voided.contains(seq));
        let wanted = present.difference(&self.voided).copied().filter(|seq| {
            let number = self.given.get(seq).and_then(|given| given.payload.split('-').next());
            number.and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n % 7 == 3)
        });
        let wanted: BTreeSet<u64> = wanted.collect();
        if found == wanted { Ok(()) } else { Err(format!("filtered: {found:?}, not {wanted:?}")) }
    }
}

/// Each batch: its segment, its bytes there, its numbers.
fn batches(disk: &FaultyDisk) -> Vec<(String, Range<u64>, RangeInclusive<u64>)> {
    let mut all = Vec::new();
    for segment in recover::open_all(disk).unwrap() {
        let visit = &mut |offset, step: Result<Batch<'_>, _>| {
            if let Ok(batch) = step {
                let bytes = offset..offset + batch.byte_len as u64;
                all.push((segment.name.clone(), bytes, batch.first.0..=batch.last.0));
            }
            true
        };
        segment.walk(HEADER_BYTES as u64, visit).unwrap();
    }
    all
}

fn run(seed: u64, flips: bool) -> Checked {
    let mut world = World::new(seed, flips);
    let options = options(seed);
    for _ in 0..4 {
        let mut life = world.open(options)?;
        world.check_all(&life)?;
        world.steps(&mut life, options)?;
        world.end(life);
    }
    let life = world.open(options)?;
    world.check_all(&life)?;
    drop(life);
    world.disk.kill();
    let report = verify_on(&world.disk).map_err(|error| format!("{error:?}"))?;
    if !flips && !report.is_sound() {
        return Err(format!("verify on a sound disk: {report:?}"));
    }
    if flips && !report.is_sound() {
        repair_on(&world.disk).map_err(|error| format!("{error:?}"))?;
        let again = verify_on(&world.disk).map_err(|error| format!("{error:?}"))?;
        if !again.is_sound() {
            return Err(format!("after repair: {again:?}, before: {report:?}"));
        }
        let life = world.open(options)?;
        world.check_all(&life)?;
    }
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_by_crashes_and_failing_disks() {
    let failures = failures(seeds(1_000), None, |seed| run(seed, false));
    assert!(failures.is_empty(), "{} runs, such as {:?}", failures.len(), failures.first());
}

#[test]
fn flipped_bits_are_fenced_and_never_served() {
    let failures = failures(seeds(1_000), None, |seed| run(seed, true));
    assert!(failures.is_empty(), "{} runs, such as {:?}", failures.len(), failures.first());
}

#[test]
fn every_defect_on_purpose_is_found() {
    for control in [Control::SyncRemoved, Control::ReservationRemoved, Control::NumbersSwapped] {
        let found = failures(40, Some(control), |seed| run(seed, false));
        assert!(found.len() > 3, "{control:?} was found in {} of 40 runs", found.len());
    }
}

#[test]
fn a_full_disk_takes_administration_down_to_a_quarter_and_no_messages() {
    let disk = FaultyDisk::new(1);
    let options = LogOptions { free_bytes_min: 1_000, ..options(0) };
    let message = || message_at("t", Qos::AtMostOnce, "x");
    for (free, messages, records) in
        [(1_000, true, true), (999, false, true), (250, false, true), (249, false, false)]
    {
        disk.set_free(free);
        let (log, _) = LocalLog::open_on(Arc::new(disk.clone()), options).unwrap();
        assert_eq!(log.append(vec![message()], UnixMs(0)).is_ok(), messages, "{free}");
        assert_eq!(log.append(vec![change()], UnixMs(0)).is_ok(), records, "{free}");
    }
}
