//! Tables and log together give the state that the whole log gives, whenever the process ends.

use std::sync::Arc;

use fieldgate_core::{
    dialect::CommandState,
    id::{DeviceId, Seq, TenantId, UnixMs},
    message::{Content, Qos},
    profile::Profile,
    state::Bounds,
};
use proptest::prelude::*;

use super::{
    apply::Work,
    load::{LogFacts, load},
    memory::MemoryTables,
};
use crate::{
    export::Exports,
    log::{LocalLog, LogOptions},
    port::{Log as _, ReadFilter},
    record::{CommandChange, Record},
    registry::{
        AccountStep, Activation, ActivationStep, BridgeKey, BridgeStep, Change, Device, GroupStep,
        HmacSecret, Integration, IntegrationKind, IntegrationStep, RegistryChange, Report, Sealed,
        Start, Target,
    },
    secret::MasterKey,
    state::{State, StateLimits},
    testing::{message_at, rows_of},
};

#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    Remove(u8),
    Group {
        id: u8,
        devices: Vec<u8>,
        how: u8,
    },
    /// A device that signs.
    Sign(u8),
    Claim {
        id: u8,
        nonce: u8,
    },
    Describe {
        id: u8,
        model: u8,
    },
    /// Something of an integration; the two smallest are sources.
    Integrate {
        id: u8,
        how: u8,
        number: u64,
    },
    /// A source brings a device.
    Bring {
        id: u8,
        device: u8,
        gateway: u8,
    },
    /// Something of a person of an app.
    Person {
        id: u8,
        device: u8,
        how: u8,
    },
    /// Something of a code that makes a device.
    Code {
        id: u8,
        device: u8,
        how: u8,
    },
    /// Something that deCONZ apps see of a device, or of their keys.
    Bridge {
        id: u8,
        how: u8,
    },
    Retain {
        topic: u8,
        len: u8,
    },
    Command(u8),
    Report {
        device: u8,
        time: Option<u8>,
        is_state: bool,
        what: &'static str,
    },
    Settle,
    Move {
        back: u64,
        state: CommandState,
    },
    Write,
    Restart,
    StoreFails(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let states = vec![
        CommandState::Sent,
        CommandState::Acknowledged,
        CommandState::Completed,
        CommandState::Expired,
    ];
    prop_oneof![
        3 => (0u8..4).prop_map(Step::Add),
        2 => (0u8..4).prop_map(Step::Remove),
        2 => (0u8..4).prop_map(Step::Sign),
        3 => (0u8..4, 0u8..5).prop_map(|(id, nonce)| Step::Claim { id, nonce }),
        2 => (0u8..4, 0u8..3).prop_map(|(id, model)| Step::Describe { id, model }),
        4 => (0u8..3, proptest::collection::vec(0u8..4, 0..3), 0u8..4)
            .prop_map(|(id, devices, how)| Step::Group { id, devices, how }),
        6 => (0u8..4, 0u8..9, 0u64..40)
            .prop_map(|(id, how, number)| Step::Integrate { id, how, number }),
        4 => (0u8..3, 0u8..4, 0u8..3)
            .prop_map(|(id, device, gateway)| Step::Bring { id, device, gateway }),
        5 => (0u8..3, 0u8..4, 0u8..6)
            .prop_map(|(id, device, how)| Step::Person { id, device, how }),
        4 => (0u8..3, 0u8..4, 0u8..3).prop_map(|(id, device, how)| Step::Code { id, device, how }),
        5 => (0u8..4, 0u8..6).prop_map(|(id, how)| Step::Bridge { id, how }),
        5 => (0u8..5, 0u8..3).prop_map(|(topic, len)| Step::Retain { topic, len }),
        3 => (0u8..3).prop_map(Step::Command),
        3 => (0u64..6, proptest::sample::select(states))
            .prop_map(|(back, state)| Step::Move { back, state }),
        8 => (0u8..4, proptest::option::of(0u8..5), any::<bool>(), report()).prop_map(
            |(device, time, is_state, what)| Step::Report { device, time, is_state, what }
        ),
        2 => Just(Step::Settle),
        4 => Just(Step::Write),
        2 => Just(Step::Restart),
        1 => any::<bool>().prop_map(Step::StoreFails),
    ]
}

fn report() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        r#"{"a":1}"#,
        r#"{"a":{"x":1}}"#,
        r#"{"a":{"x":null,"y":[2]},"b":true}"#,
        r#"{"a":null}"#,
        r#"{"values":[{"tag":"b","value":7,"unit":"kPa"}],"quality":"uncertain"}"#,
        r#"{"values":[{"tag":"b","value":8}],"quality":"bad"}"#,
        r#"{"c":"a value that leaves no room for another one of its length in the state"}"#,
        r#"{"d":"a value that leaves no room for another one of its length in the state"}"#,
    ])
}

struct Gateway {
    folder: tempfile::TempDir,
    log: Arc<LocalLog>,
    tables: MemoryTables,
    state: Arc<State>,
    work: Work,
    commands: Vec<(Seq, DeviceId)>,
}

fn key() -> MasterKey {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, [9; 32]).unwrap();
    MasterKey::open(&path).unwrap()
}

/// A bound that is reached, so that what is refused depends on what is there.
fn empty() -> Arc<State> {
    let reported = Bounds { resources_max: 3, bytes_max: 350 };
    let limits = StateLimits {
        retained_max: 3,
        devices_max: 3,
        devices_per_source_max: 2,
        reported,
        ..StateLimits::default()
    };
    Arc::new(State::new(key(), limits))
}

fn replay(log: &LocalLog, state: &State, from: Seq) {
    let mut next = from;
    while next <= log.frontier().durable {
        let chunk = log.read(next, &ReadFilter::default(), 1 << 20).unwrap();
        chunk.items.iter().for_each(|step| drop(state.apply(step)));
        next = chunk.next;
    }
}

impl Gateway {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions {
            free_bytes_min: 0,
            segment_bytes: 64 << 10,
            sync: false,
            ..LogOptions::default()
        };
        let (log, _) = LocalLog::open(&folder.path().join("log"), options).unwrap();
        let (tables, state) = (MemoryTables::default(), empty());
        let exports = Exports::new(folder.path().join("exports"));
        let boxed = Box::new(tables.clone());
        let work = Work::new(Arc::clone(&log), Arc::clone(&state), boxed, exports, None);
        Self { folder, log, tables, state, work, commands: Vec::new() }
    }

    /// A new process with what the tables hold; the log stays open, as it would be read again.
    fn restart(&mut self) {
        let facts = LogFacts {
            epoch: self.log.epoch(),
            applied: self.work.status.applied(),
            end: self.log.frontier().durable,
        };
        self.state = empty();
        let loaded = load(&self.tables, facts, &mut |known| self.state.window().learn(known));
        let trusted = loaded.map(|loaded| {
            loaded.rows.into_iter().for_each(|(key, row)| self.state.restore(key, row));
            (loaded.applied, loaded.chunks)
        });
        let trusted = trusted.ok();
        let exports = Exports::new(self.folder.path().join("exports"));
        let boxed = Box::new(self.tables.clone());
        let (log, state) = (Arc::clone(&self.log), Arc::clone(&self.state));
        let applied = trusted.as_ref().map_or(Seq(0), |(applied, _)| *applied);
        self.work = Work::new(log, state, boxed, exports, trusted);
        self.state.changes().applied = applied;
        replay(&self.log, &self.state, applied.next());
    }

    fn put(&mut self, record: Record) {
        let seq = Seq(*self.log.append(vec![record], UnixMs(1)).unwrap().end());
        while self.log.frontier().durable < seq {
            std::thread::yield_now();
        }
        replay(&self.log, &self.state, seq);
    }

    fn change(&mut self, change: Change) {
        let change = RegistryChange::local("default", change);
        self.put(Record::Registry(Box::new(change)));
    }

    fn run(&mut self, step: &Step) {
        if let Some(change) = change_of(step, &self.state) {
            return self.change(change);
        }
        match step {
            Step::Retain { topic, len } => {
                let payload = "x".repeat(usize::from(*len));
                let record = message_at(&format!("r/{topic}"), Qos::AtLeastOnce, &payload);
                let Record::Message(mut message) = record else { panic!("a message") };
                message.retain = true;
                self.put(Record::Message(message));
            }
            Step::Command(device) => {
                let topic = format!("devices/{device}/commands");
                self.put(message_at(&topic, Qos::AtLeastOnce, "{}"));
                let device = device.to_string().parse().unwrap();
                self.commands.push((self.log.frontier().ordered, device));
            }
            Step::Report { device, time, is_state, what } => {
                let leaf = if *is_state { "state/reported" } else { "telemetry" };
                let topic = format!("devices/{device}/{leaf}");
                let record = message_at(&topic, Qos::AtLeastOnce, what);
                let Record::Message(mut message) = record else { panic!("a message") };
                message.content = Content::Json;
                message.is_time_given = time.is_some();
                message.timestamp = UnixMs(time.unwrap_or(9).into());
                self.put(Record::Message(message));
            }
            Step::Settle => drop(self.state.settle(&*self.log)),
            Step::Move { back, state } => {
                let at = usize::try_from(*back).unwrap();
                let Some((command, device)) = self.commands.iter().rev().nth(at).cloned() else {
                    return;
                };
                self.put(Record::Command(CommandChange {
                    tenant: TenantId::default_tenant(),
                    device,
                    command,
                    state: *state,
                    payload: None,
                    by: "test".into(),
                }));
            }
            Step::Write => self.work.step(true),
            Step::Restart => self.restart(),
            Step::StoreFails(failing) => self.tables.fail(*failing),
            Step::Add(_)
            | Step::Remove(_)
            | Step::Group { .. }
            | Step::Sign(_)
            | Step::Claim { .. }
            | Step::Describe { .. }
            | Step::Integrate { .. }
            | Step::Bring { .. }
            | Step::Person { .. }
            | Step::Code { .. }
            | Step::Bridge { .. } => panic!("{step:?} changes the registry"),
        }
    }
}

/// What of the registry a step changes.
fn change_of(step: &Step, state: &State) -> Option<Change> {
    Some(match step {
        Step::Add(id) => {
            let groups = vec![format!("g{}", id % 3)];
            Change::DeviceAdd(Device { id: id.to_string(), groups, ..Device::default() })
        }
        Step::Remove(id) => Change::DeviceRemove(id.to_string()),
        Step::Sign(id) => {
            let (credential, sealed) = ("hmac-1".to_owned(), Sealed(vec![*id; 3]));
            let secret = HmacSecret { credential, hash: [*id; 32], sealed };
            let device = Device { id: id.to_string(), ..Device::default() };
            let (describing, integrity) = (*id % 2 == 0, *id == 3);
            Change::DeviceAddSigning { device, secret, describing, integrity }
        }
        Step::Claim { id, nonce } => {
            let (device, nonce) = (id.to_string(), [*nonce; 16]);
            Change::ClaimTaken { device, nonce, timestamp_ms: 1 }
        }
        Step::Describe { id, model } => {
            let profile = Arc::new(Profile { model: model.to_string(), ..Profile::default() });
            Change::ProfileSet { device: id.to_string(), expected: None, profile }
        }
        Step::Group { id, devices, how } => {
            let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
            let first = devices.first().cloned().unwrap_or_default();
            let step = match how {
                0 => GroupStep::Remove,
                1 => GroupStep::Join(first),
                2 => GroupStep::Leave(first),
                _ => GroupStep::Put { name: Some(first), devices },
            };
            Change::Group { id: format!("g{id}"), expected: None, step }
        }
        Step::Integrate { id, how, number } => integrate(*id, *how, *number, state),
        Step::Bring { id, device, gateway } => Change::SourceDevice {
            source: format!("i{id}"),
            device: device.to_string(),
            gateway: (*gateway > 0).then(|| gateway.to_string()),
        },
        Step::Person { id, device, how } => person(*id, *device, *how),
        Step::Code { id, device, how } => code(*id, *device, *how),
        Step::Bridge { id, how } => bridge(*id, *how),
        Step::Retain { .. }
        | Step::Command(_)
        | Step::Report { .. }
        | Step::Settle
        | Step::Move { .. }
        | Step::Write
        | Step::Restart
        | Step::StoreFails(_) => return None,
    })
}

fn person(id: u8, device: u8, how: u8) -> Change {
    let user = format!("u{id}");
    let step = match how {
        0 => return Change::UserRemove(user),
        1 => {
            let password = crate::secret::PasswordHash::of_test();
            AccountStep::Register { email: format!("{}@b", id % 2), password }
        }
        2 => AccountStep::Enter {
            role: "viewer".to_owned(),
            email: format!("{}@b", id % 2),
            password: crate::secret::PasswordHash::of_test(),
        },
        3 => AccountStep::Unlink(device.to_string()),
        4 => AccountStep::Settings(format!("{{\"a\":{device}}}")),
        _ => AccountStep::Link(device.to_string()),
    };
    Change::Account { user, step }
}

fn code(id: u8, device: u8, how: u8) -> Change {
    let name = format!("c{id}");
    let step = match how {
        0 => ActivationStep::Remove,
        1 => {
            let device = Device { id: device.to_string(), ..Device::default() };
            ActivationStep::Use(Box::new(device))
        }
        _ => ActivationStep::Add(Activation {
            id: name.clone(),
            hash: [100 + id; 32],
            // Some are over when the next one comes.
            ends_ms: if device == 0 { 1 } else { u64::MAX },
            ..Activation::default()
        }),
    };
    Change::Activation { id: name, step }
}

fn bridge(id: u8, how: u8) -> Change {
    let name = format!("b{id}");
    Change::Bridge(match how {
        0 => BridgeStep::KeyRemove(name),
        1 => BridgeStep::Seen { id: name, address: format!("::{id}") },
        2 | 3 => {
            let (id, hash) = (name.clone(), [200 + id; 32]);
            BridgeStep::KeyAdd(BridgeKey { id, name, hash, ..BridgeKey::default() })
        }
        _ => {
            let part = |instance| (how == 4, "light".to_owned(), instance);
            let clip = (how == 5).then(|| name.clone());
            let parts = vec![part(how), part(id + 5)];
            return Change::Parts { device: id.to_string(), parts, clip };
        }
    })
}

fn integrate(id: u8, how: u8, number: u64, state: &State) -> Change {
    let name = format!("i{id}");
    let step = match how {
        0 => IntegrationStep::Remove,
        1 => IntegrationStep::Pause(number.is_multiple_of(2)),
        2 => IntegrationStep::Rotate([id; 32]),
        3 => IntegrationStep::Replay(number),
        4 => IntegrationStep::Retry(number),
        5 => IntegrationStep::Drop(number),
        6 => {
            let (aside, settled) = (vec![(number % 5, "400".to_owned())], vec![number % 3]);
            let known = state.integration(&TenantId::default_tenant(), &name);
            let run = known.map_or(number, |known| known.progress.run);
            // Some are of a run that is over.
            let run = if number.is_multiple_of(4) { run.saturating_sub(1) } else { run };
            let report = Report { run, cursor: number, aside, settled, ..Report::default() };
            IntegrationStep::Report(Box::new(report))
        }
        _ => {
            let (is_source, url) = (id < 2, "https://example.test/".to_owned());
            let kind = if is_source { IntegrationKind::ThingseeIn } else { IntegrationKind::Rest };
            let target = Target { url, ..Target::default() };
            let target = (!is_source).then_some(target);
            let token = is_source.then_some([id; 32]);
            let (name, paused) = (name.clone(), false);
            let integration = Box::new(Integration { name, kind, paused, token, target });
            IntegrationStep::Add { integration, start: Start::After(number) }
        }
    };
    Change::Integration { name, expected: None, step }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_restart_at_any_moment_gives_the_state_of_the_whole_log(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut gateway = Gateway::new();
        for step in &steps {
            gateway.run(step);
        }
        let whole = empty();
        replay(&gateway.log, &whole, Seq(1));
        let log = &*gateway.log;
        prop_assert_eq!(rows_of(&gateway.state, log), rows_of(&whole, log));
        gateway.tables.fail(false);
        gateway.work.step(true);
        gateway.work.step(true);
        gateway.restart();
        prop_assert_eq!(rows_of(&gateway.state, &*gateway.log), rows_of(&whole, &*gateway.log));
        prop_assert!(!gateway.work.status.is_failing());
        let tags = |state: &State| {
            let groups = state.groups(&TenantId::default_tenant());
            groups.iter().map(crate::state::Grouped::tag).collect::<Vec<_>>()
        };
        prop_assert_eq!(tags(&gateway.state), tags(&whole));
    }
}

#[test]
fn a_failing_table_store_is_told_and_written_anew_when_it_works_again() {
    let mut gateway = Gateway::new();
    gateway.run(&Step::Write);
    gateway.tables.fail(true);
    gateway.run(&Step::Add(1));
    gateway.run(&Step::Write);
    assert!(gateway.work.status.is_failing());
    assert!(gateway.state.changes().rows.is_empty(), "nothing is gathered for nobody");
    gateway.run(&Step::Add(2));
    gateway.tables.fail(false);
    gateway.run(&Step::Write);
    assert!(!gateway.work.status.is_failing());
    gateway.restart();
    assert_eq!(gateway.state.devices(&TenantId::default_tenant()).len(), 2);
}
