//! The crash checker of everything above the log: repeats, state, tables and exports.
//!
//! Seeded lives on a simulated disk, each followed by a start. What it holds them to: what was
//! acknowledged under an id stands in the log once, under the number that was told; the window knows
//! what the log holds and nothing else; the state of a start, from tables or an export and the log
//! behind, is the state of the whole log. `Control::EagerWindow` must make it fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use fieldgate_core::{
    dialect::CommandState,
    id::{DeviceId, MsgId, TenantId},
    message::Qos,
    profile::Profile,
    testing::message,
};

use super::*;
use crate::{
    control::Control,
    disk::faulty::{Dice, FaultyDisk, Rates},
    log::ManualLog,
    port::Follow,
    record::{CommandChange, Record},
    registry::{Change, Device, RegistryChange},
    state::Admit,
    tables::memory::{MemoryTables, Rows},
    testing::{failures, report, rows_of, seeds},
};

type Checked<T = ()> = Result<T, String>;

fn rates(seed: u64) -> Rates {
    let none = Rates::default();
    match seed % 4 {
        0 => none,
        1 => Rates { crash: 80, ..none },
        2 => Rates { write_error: 12, sync_error: 12, create_error: 8, ..none },
        _ => Rates { write_error: 30, sync_error: 30, create_error: 20, crash: 200, ..none },
    }
}

struct World {
    folder: tempfile::TempDir,
    disk: FaultyDisk,
    tables: MemoryTables,
    old_tables: Rows,
    dice: Dice,
    rates: Rates,
    options: LogOptions,
    id_count: u64,
    acked: BTreeMap<u64, u64>,
    commands: Vec<(Seq, DeviceId)>,
}

struct Life {
    log: ManualLog,
    state: Arc<State>,
    work: Work,
    follow: Box<dyn Follow>,
    /// Ids and numbers of what was taken and not yet answered.
    pending: Vec<(u64, u64)>,
}

fn now() -> UnixMs {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    UnixMs(u64::try_from(now).unwrap())
}

fn msgid(id: u64) -> MsgId {
    format!("m{id}").parse().unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let options = LogOptions {
            segment_bytes: 1 << 10 << (seed % 3),
            tail_bytes_max: if seed.is_multiple_of(2) { 0 } else { 4 << 10 },
            free_bytes_min: 0,
            retention_bytes: u64::MAX,
            ..LogOptions::default()
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            disk: FaultyDisk::new(seed),
            tables: MemoryTables::default(),
            old_tables: Rows::new(),
            dice: Dice::new(seed),
            rates: rates(seed),
            options,
            id_count: 0,
            acked: BTreeMap::new(),
            commands: Vec::new(),
        }
    }

    fn empty(&self) -> State {
        let key = MasterKey::open(&self.folder.path().join("master.key")).unwrap();
        let limits = StateLimits { retained_max: 4, devices_max: 3, ..StateLimits::default() };
        State::new(key, limits)
    }

    fn exports(&self) -> Exports {
        Exports::new(self.folder.path().join("exports"))
    }

    /// The files of exports, newest last.
    fn export_files(&self) -> Vec<PathBuf> {
        let Ok(folder) = std::fs::read_dir(self.folder.path().join("exports")) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }

    fn open(&mut self) -> Checked<Life> {
        self.tables.fail(false);
        for attempt in 0..20 {
            self.disk.set_rates(if attempt < 5 { self.rates } else { Rates::default() });
            let opened = ManualLog::open(Arc::new(self.disk.clone()), self.options);
            self.disk.set_rates(Rates::default());
            let Ok((log, recovery)) = opened else {
                if self.dice.one_in(2) {
                    self.disk.kill()
                } else {
                    self.disk.power_loss()
                }
                continue;
            };
            let (state, exports) = (Arc::new(self.empty()), self.exports());
            let built = build(&log.log, &recovery, &state, &self.tables, Ok(()), &exports);
            let built = built.map_err(|error| format!("{error:?}"))?;
            for file in self.export_files() {
                // Old enough for another.
                let file = File::options().write(true).open(file).unwrap();
                file.set_modified(SystemTime::now() - Duration::from_secs(48 * 3_600)).unwrap();
            }
            let tables = Box::new(self.tables.clone());
            let follow = log.log.follow(built.applied);
            let shared = (Arc::clone(&log.log), Arc::clone(&state));
            let work = Work::new(shared.0, shared.1, tables, exports, built.trusted);
            return Ok(Life { log, state, work, follow, pending: Vec::new() });
        }
        Err("the log does not open on a sound disk".to_owned())
    }

    /// Sends a message under an id, new or of before, as a connection does.
    fn send(&mut self, life: &mut Life, id: u64) {
        let payload = format!("{id}");
        let topic = if id.is_multiple_of(4) {
            "devices/1/commands".to_owned()
        } else {
            format!("r/{}", id % 6)
        };
        let mut message = message(&topic, Qos::AtLeastOnce, payload);
        message.reference = Some(msgid(id));
        message.retain = id % 4 == 1;
        if id % 4 == 2 {
            report(&mut message, id);
        }
        let (tenant, from) = (message.tenant.clone(), Arc::clone(&message.from));
        let (log, time) = (&life.log.log, now());
        let admitted = life.state.window().admit(
            &tenant,
            &from,
            &msgid(id),
            time,
            |seq| log.is_refused(seq),
            || log.append(vec![Record::Message(message)], time),
        );
        let seq = match admitted {
            Ok(Admit::New(range)) => Seq(*range.start()),
            Ok(Admit::Repeat(seq)) => seq,
            Err(_) => return,
        };
        life.pending.push((id, seq.0));
        if id.is_multiple_of(4) {
            self.commands.push((seq, "1".parse().unwrap()));
        }
    }

    /// What nobody waits for: QoS 0, with an id that a later repeat at QoS 1 has too.
    fn send_unacknowledged(&mut self, life: &Life) {
        self.id_count += 1;
        let payload = format!("q{}", self.id_count);
        let topic = format!("r/{}", self.id_count % 6);
        let mut message = message(&topic, Qos::AtMostOnce, payload);
        message.reference = Some(msgid(self.id_count));
        message.retain = self.id_count.is_multiple_of(2);
        if !message.retain {
            report(&mut message, self.id_count);
        }
        let _ = life.log.log.append(vec![Record::Message(message)], now());
    }

    fn administer(&mut self, life: &Life) {
        let id = self.dice.below(5).to_string();
        let change = if self.dice.one_in(3) {
            Change::DeviceRemove(id)
        } else if self.dice.one_in(3) {
            let model = self.dice.below(3).to_string();
            let profile = Arc::new(Profile { model, ..Profile::default() });
            Change::ProfileSet { device: id, expected: None, profile }
        } else {
            Change::DeviceAdd(Device { id, ..Device::default() })
        };
        let change = RegistryChange::local("default", change);
        let record = match self.commands.last().filter(|_| self.dice.one_in(2)) {
            Some((command, device)) => Record::Command(CommandChange {
                tenant: TenantId::default_tenant(),
                device: device.clone(),
                command: *command,
                state: [CommandState::Sent, CommandState::Completed]
                    [usize::from(command.0 % 2 == 0)],
                payload: None,
                by: "test".into(),
            }),
            None => Record::Registry(Box::new(change)),
        };
        let _ = life.log.log.append(vec![record], now());
    }

    /// Tells the senders what is durable by now.
    fn answer(&mut self, life: &mut Life) -> Checked {
        let log = &life.log.log;
        let durable = log.frontier().durable.0;
        let done: Vec<(u64, u64)> =
            life.pending.extract_if(.., |(_, seq)| *seq <= durable).collect();
        for (id, seq) in done {
            if log.is_refused(Seq(seq)) {
                continue;
            }
            let before = self.acked.insert(id, seq);
            if before.is_some_and(|before| before != seq) {
                return Err(format!("{id} acknowledged at {before:?} and at {seq}"));
            }
        }
        Ok(())
    }

    fn write(&mut self, life: &mut Life) -> Checked {
        life.log.step();
        self.answer(life)
    }

    fn route(&mut self, life: &mut Life) {
        let mut steps = Vec::new();
        let max = 1 + usize::try_from(self.dice.below(20)).unwrap();
        life.follow.next(&mut steps, max, Duration::ZERO);
        steps.iter().for_each(|step| drop(life.state.apply(step)));
        life.state.settle(&*life.log.log);
    }

    /// The applier's step. It waits for the disk where it must, so the writer goes on meanwhile.
    fn write_tables(&mut self, life: &mut Life) -> Checked {
        let target = life.state.changes().applied;
        let control = Control::active();
        std::thread::scope(|scope| {
            let Life { log, work, .. } = life;
            let step = scope.spawn(|| Control::during(control, || work.step(false)));
            let behind = log.log.frontier().durable < target;
            if behind && self.dice.one_in(3) {
                // The end comes while the step waits; one that does not wait is over by now.
                let patience = Instant::now() + Duration::from_millis(3);
                while !step.is_finished() && Instant::now() < patience {
                    std::thread::yield_now();
                }
                self.disk.crash();
            }
            let waits = |log: &LocalLog| log.frontier().durable < target || log.is_stopped();
            while waits(&log.log) && !self.disk.is_crashed() {
                log.step();
                log.keep_house();
            }
            if self.disk.is_crashed() {
                self.tables.fail(true);
                log.gone();
            }
            step.join().unwrap();
        });
        self.answer(life)
    }

    fn steps(&mut self, life: &mut Life) -> Checked {
        self.disk.set_rates(self.rates);
        for _ in 0..30 + self.dice.below(50) {
            if self.disk.is_crashed() {
                return Ok(());
            }
            match self.dice.below(16) {
                0..=2 => {
                    self.id_count += 1;
                    self.send(life, self.id_count);
                }
                3..=5 => {
                    let id = 1 + self.dice.below(self.id_count.max(1));
                    self.send(life, id);
                }
                6 => self.send_unacknowledged(life),
                7 => self.administer(life),
                8..=9 => self.write(life)?,
                10 => {
                    life.log.keep_house();
                    self.answer(life)?;
                }
                11..=13 => self.route(life),
                14 => self.write_tables(life)?,
                _ => {
                    let failing = self.dice.one_in(3);
                    self.tables.fail(failing);
                    if self.dice.one_in(4) {
                        self.old_tables = self.tables.copy();
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, mut life: Life) -> Checked {
        match self.dice.below(4) {
            0 => {
                life.log.finish();
                self.answer(&mut life)?;
                self.disk.kill();
            }
            1 => self.disk.kill(),
            _ => self.disk.power_loss(),
        }
        self.tables.fail(false);
        match self.dice.below(6) {
            0 => self.tables.put_back(Rows::new()),
            1 => self.tables.put_back(self.old_tables.clone()),
            2 => {
                self.tables.put_back(Rows::new());
                self.tear_export();
            }
            _ => (),
        }
        Ok(())
    }

    /// The newest export is cut short or changed, or another was never finished.
    fn tear_export(&mut self) {
        let Some(newest) = self.export_files().pop() else { return };
        let mut bytes = std::fs::read(&newest).unwrap();
        let at = usize::try_from(self.dice.below(bytes.len() as u64)).unwrap();
        match self.dice.below(3) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << self.dice.below(8),
            _ => {
                let unfinished = newest.with_file_name("unfinished.tmp");
                std::fs::write(unfinished, &bytes[..at]).unwrap();
                return;
            }
        }
        std::fs::write(newest, bytes).unwrap();
    }

    /// Reads the whole log and holds the state, the window and the senders to it.
    fn check(&self, life: &Life) -> Checked {
        let whole = self.empty();
        let (mut stored, mut known) = (BTreeMap::new(), BTreeSet::new());
        let mut twice = None;
        read_all(&life.log.log, Seq(1), life.log.log.frontier().durable, |step| {
            whole.apply(step);
            if let Followed::Entry(entry) = step
                && let Some((message, reference)) = entry.record.repeatable()
            {
                let name = life.state.window().name(
                    &message.tenant,
                    &message.from,
                    reference,
                    entry.seq,
                    entry.arrived,
                );
                known.insert((name.id, entry.seq.0));
                if let Some(before) = stored.insert(reference.to_string(), entry.seq.0) {
                    twice = Some((reference.clone(), before, entry.seq));
                }
            }
        })
        .map_err(|error| format!("{error:?}"))?;
        if let Some(twice) = twice {
            return Err(format!("routed twice: {twice:?}"));
        }
        for (id, seq) in &self.acked {
            let found = stored.get(msgid(*id).as_str());
            if found != Some(seq) {
                return Err(format!("{id} was acknowledged at {seq}, and is at {found:?}"));
            }
        }
        let window = life.state.window().all();
        let window: BTreeSet<(u128, u64)> = window.iter().map(|one| (one.id, one.seq.0)).collect();
        if window != known {
            let (more, less) = (window.difference(&known), known.difference(&window));
            return Err(format!(
                "the window knows {:?} too much, lacks {:?}",
                more.collect::<Vec<_>>(),
                less.collect::<Vec<_>>()
            ));
        }
        let log = &*life.log.log;
        let (has, wanted) = (rows_of(&life.state, log), rows_of(&whole, log));
        let more: Vec<_> = has.iter().filter(|row| !wanted.contains(row)).collect();
        let less: Vec<_> = wanted.iter().filter(|row| !has.contains(row)).collect();
        if has == wanted {
            return Ok(());
        }
        Err(format!("the state has {more:?} where the log says {less:?}"))
    }

    /// On a sound disk every repeat is acknowledged.
    fn repeat_all(&mut self, life: &mut Life) -> Checked {
        for id in 1..=self.id_count {
            self.send(life, id);
            self.write(life)?;
            if !self.acked.contains_key(&id) {
                return Err(format!("{id} cannot be sent"));
            }
        }
        Ok(())
    }
}

fn run(seed: u64) -> Checked {
    let mut world = World::new(seed);
    for _ in 0..4 {
        let mut life = world.open()?;
        world.check(&life)?;
        world.steps(&mut life)?;
        world.end(life)?;
    }
    let mut life = world.open()?;
    world.check(&life)?;
    world.repeat_all(&mut life)?;
    world.end(life)?;
    let life = world.open()?;
    world.check(&life)
}

#[test]
fn repeats_and_state_survive_crashes_failing_disks_and_lost_tables() {
    let failures = failures(seeds(300), None, run);
    assert!(failures.is_empty(), "{} runs, such as {:?}", failures.len(), failures.first());
}

#[test]
fn an_id_remembered_before_its_message_is_durable_is_found() {
    let found = failures(40, Some(Control::EagerWindow), run);
    assert!(found.len() > 3, "found in {} of 40 runs", found.len());
}

#[test]
fn what_a_failing_disk_refuses_is_neither_retained_nor_reported_whatever_its_promise() {
    let mut world = World::new(1);
    let mut life = world.open().unwrap();
    // Of two messages at QoS 0 the second is retained.
    (0..2).for_each(|_| world.send_unacknowledged(&life));
    let routed = |life: &mut Life| {
        let mut steps = Vec::new();
        life.follow.next(&mut steps, 8, Duration::ZERO);
        steps.iter().for_each(|step| drop(life.state.apply(step)));
        steps.len()
    };
    assert_eq!(routed(&mut life), 1, "what is not retained waits for nothing");
    let reported = |life: &Life| {
        let mut snapshot = life.state.snapshot(&life.state.changes());
        let left = snapshot.settle(&*life.log.log).len();
        let (tenant, device) = (TenantId::default_tenant(), "1".parse().unwrap());
        (left, snapshot.rows.len(), life.state.reported(&tenant, &device).is_some())
    };
    assert_eq!(reported(&life), (1, 0, true), "known, and not to be written down yet");
    world.disk.set_rates(Rates { write_error: 1, ..Rates::default() });
    life.log.step();
    world.disk.set_rates(Rates::default());
    life.log.keep_house();
    routed(&mut life);
    assert_eq!(reported(&life), (0, 0, false));
    let all = "#".parse().unwrap();
    assert_eq!(life.state.retained(&TenantId::default_tenant(), &all), []);
    world.check(&life).unwrap();
    // The disk is sound again: the next one is retained.
    (0..2).for_each(|_| world.send_unacknowledged(&life));
    life.log.step();
    routed(&mut life);
    assert_eq!(life.state.retained(&TenantId::default_tenant(), &all).len(), 1);
    world.check(&life).unwrap();
}
