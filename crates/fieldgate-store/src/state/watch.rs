//! What somebody waits for: devices that do what an open command says, or a wish, as their reports
//! show.
//!
//! Looked at behind routing, by the thread that applies, and only for devices of which something is
//! awaited; message by message, so that a value that was reached is not missed because another one
//! came at once. Invariant: what is found here changes nothing; whoever hears of it writes it into the
//! log, where the first end of a command stands.

use std::{collections::BTreeMap, sync::Arc};

use fieldgate_core::{
    dialect::CommandState,
    id::{DeviceId, Seq, TenantId},
    json,
    message::{Content, Message},
    profile::{Profile, Resource},
    resource::Type,
    state::{Quality, Reported},
    topic::Topic,
};

use super::{
    CommandMoved, Effect, OpenCommand, State,
    changes::Changes,
    reported::{Moment, Slot},
};
use crate::{
    port::Log,
    record::{BY_REPORT, CommandChange, Entry, Record},
};

/// So many of a device's commands are looked at, the newest; the others end by a reply, or expire.
const COMMANDS_MAX: usize = 16;

/// A command, and what of its device it is waited for.
struct Awaited {
    command: OpenCommand,
    /// Own names and values.
    set: Vec<(String, String)>,
}

/// What a payload sets, by the device's own names.
fn set_of(message: &Message) -> Vec<(String, String)> {
    let text = std::str::from_utf8(&message.payload).unwrap_or_default();
    let members = json::members(text).filter(|_| message.content == Content::Json);
    let members = members.unwrap_or_default();
    let set = members.iter().find(|member| member.name.as_deref() == Some("set"));
    let set = set.and_then(|set| json::members(set.value)).unwrap_or_default();
    let pair =
        |member: json::Member<'_>| Some((member.name?.into_owned(), member.value.to_owned()));
    set.into_iter().filter_map(pair).collect()
}

/// Tells whether a value was reached, behind the message with a number.
pub(super) fn is_reached(
    profile: Option<&Profile>,
    reported: &Reported,
    name: &str,
    wanted: &str,
    behind: Seq,
) -> bool {
    let known = reported.resource(name).filter(|known| known.origin.seq > behind);
    let Some(known) = known.filter(|known| known.quality != Quality::Bad) else { return false };
    let Some(value) = known.value.as_deref() else { return false };
    let described = profile.and_then(|p| p.resources.iter().find(|r| r.name == name));
    match described {
        Some(resource) => resource.is_met(wanted, value, known.unit.as_deref()),
        None => Resource { value: Type::Json, ..Resource::default() }.is_met(wanted, value, None),
    }
}

impl Awaited {
    fn is_reached(&self, profile: Option<&Profile>, reported: &Reported) -> bool {
        let behind = self.command.entry.seq;
        let mut set = self.set.iter();
        set.all(|(name, wanted)| is_reached(profile, reported, name, wanted, behind))
    }
}

impl State {
    /// Looks at a device of which something may be awaited.
    pub(super) fn look(&self, slot: &Slot, log: &dyn Log) -> Vec<Effect> {
        let (tenant, device) = (slot.tenant(), slot.device());
        let profile = self.profile(tenant, device);
        let mut awaited = self.awaited(tenant, device);
        let desired = self.desired(tenant, device).filter(|desired| !desired.is_empty());
        if awaited.is_empty() && desired.is_none() {
            slot.unwatch();
            return Vec::new();
        }
        let mut effects = Vec::new();
        let mut met = BTreeMap::new();
        slot.look(log, |reported, moment| {
            for (name, wish) in desired.iter().flat_map(|desired| desired.all()) {
                // What was so before somebody wished it, and is not now, meets nothing.
                let counts = match moment {
                    Moment::Behind(seq) => seq > wish.seq,
                    Moment::Now => true,
                };
                let profile = profile.as_deref();
                if counts && is_reached(profile, reported, name, &wish.value, Seq(0)) {
                    met.insert(Box::from(name), wish.seq);
                }
            }
            awaited.retain(|one| {
                let is_open = !one.is_reached(profile.as_deref(), reported);
                if !is_open {
                    effects.push(Effect::CommandMet(one.command.clone()));
                }
                is_open
            });
        });
        if !met.is_empty() {
            let (tenant, device) = (tenant.clone(), device.clone());
            effects.push(Effect::WishesMet { tenant, device, met: met.into_iter().collect() });
        }
        effects
    }

    pub(super) fn profile(&self, tenant: &TenantId, device: &DeviceId) -> Option<Arc<Profile>> {
        let described = self.device(tenant, device)?;
        described.profile.as_ref().map(|described| Arc::clone(&described.profile))
    }

    /// The commands of a device that its reports may end.
    fn awaited(&self, tenant: &TenantId, device: &DeviceId) -> Vec<Awaited> {
        let mut open = self.read().commands.newest_of(tenant, device, COMMANDS_MAX);
        open.retain(|command| command.state < CommandState::Completed);
        let awaited = open.into_iter().filter_map(|command| {
            let Record::Message(message) = &command.entry.record else { return None };
            let set = set_of(message);
            (!set.is_empty()).then_some(Awaited { set, command })
        });
        awaited.collect()
    }

    /// Looks at every device of which something is awaited, when its turn comes: what was reported may
    /// not have been told when the process ended.
    pub fn look_again(&self) {
        let devices = {
            let inner = self.read();
            let mut devices = inner.commands.devices();
            for (tenant, of) in &inner.tenants {
                let wished = of.desired.iter().filter(|(_, desired)| !desired.is_empty());
                devices.extend(wished.map(|(device, _)| (tenant.clone(), device.clone())));
            }
            devices
        };
        devices.iter().for_each(|(tenant, device)| self.watch(tenant, device));
    }

    /// Takes what a command set for what its device is in, where its profile says that a reply is as
    /// good as a report. What the device says itself is better.
    pub(super) fn assume(
        &self,
        entry: &Entry,
        change: &CommandChange,
        moved: &CommandMoved,
        changes: &mut Changes,
    ) {
        if change.state != CommandState::Completed || *change.by == *BY_REPORT {
            return;
        }
        let profile = self.profile(&change.tenant, &change.device);
        let Record::Message(command) = &moved.command.entry.record else { return };
        if !profile.is_some_and(|profile| profile.is_assumed) {
            return;
        }
        let Some(payload) = assumed(command) else { return };
        let topic = Topic::of_device(&change.device, "telemetry");
        let (tenant, by) = (command.tenant.clone(), Arc::clone(&change.by));
        let message = Message::json(tenant, topic, by, entry.arrived, payload);
        let message = Message { priority: command.priority, ..message };
        let record = Record::Message(message.clone());
        let entry = Arc::new(Entry { seq: entry.seq, arrived: entry.arrived, record });
        self.report(&entry, &message, changes);
    }
}

/// What a command set, as samples that nobody is sure of.
fn assumed(command: &Message) -> Option<String> {
    let text = std::str::from_utf8(&command.payload).ok()?;
    let members = json::members(text).filter(|_| command.content == Content::Json)?;
    let set = members.iter().find(|member| member.name.as_deref() == Some("set"))?;
    let mut samples = Vec::new();
    json::each_member(set.value, |member| {
        let (tag, value) = (member.written_name, member.value);
        samples.push(format!("{{\"tag\":{tag},\"value\":{value}}}"));
    })?;
    Some(format!("{{\"values\":[{}],\"quality\":\"uncertain\"}}", samples.join(",")))
}

#[cfg(test)]
mod tests {
    use fieldgate_core::{id::UnixMs, message::Qos, testing};

    use super::*;
    use crate::{
        memory::SimLog,
        port::Followed,
        registry::{Change, Described, Device, RegistryChange},
        secret::MasterKey,
        state::StateLimits,
    };

    struct Run {
        state: State,
        log: Arc<SimLog>,
        seq: u64,
    }

    impl Run {
        fn new(is_assumed: bool) -> Self {
            let state = State::new(MasterKey::ephemeral().unwrap(), StateLimits::default());
            let log = SimLog::new();
            let mut run = Self { state, log, seq: 0 };
            let resource = |name: &str| Resource {
                name: name.to_owned(),
                value: Type::Json,
                writable: true,
                ..Resource::default()
            };
            let resources = ["on", "n"].map(resource).into();
            let profile = Arc::new(Profile { is_assumed, resources, ..Profile::default() });
            let described = Some(Described { revision: 1, profile });
            let device = Device { id: "d".to_owned(), profile: described, ..Device::default() };
            let change = RegistryChange::local("default", Change::DeviceAdd(device));
            run.apply(Record::Registry(Box::new(change)));
            run
        }

        fn apply(&mut self, record: Record) -> Seq {
            self.log.append(vec![record.clone()], UnixMs(1)).unwrap();
            self.seq += 1;
            let entry = Entry { seq: Seq(self.seq), arrived: UnixMs(self.seq), record };
            self.state.apply(&Followed::Entry(Arc::new(entry)));
            Seq(self.seq)
        }

        fn say(&mut self, leaf: &str, payload: &str) -> Seq {
            let topic = format!("devices/d/{leaf}");
            let message = testing::message(&topic, Qos::AtLeastOnce, payload);
            self.apply(Record::Message(Message { content: Content::Json, ..message }))
        }

        fn end(&mut self, command: Seq, by: &str) {
            let device = "d".parse().unwrap();
            let (tenant, state) = (TenantId::default_tenant(), CommandState::Completed);
            let change =
                CommandChange { tenant, device, command, state, payload: None, by: by.into() };
            self.apply(Record::Command(change));
        }

        /// The wishes that are found to be met.
        fn wishes_met(&self) -> Vec<(String, Seq)> {
            let met = |effect| {
                if let Effect::WishesMet { met, .. } = effect { met } else { Vec::new() }
            };
            let met = self.state.settle(&*self.log).into_iter().flat_map(met);
            met.map(|(name, seq)| (name.into_string(), seq)).collect()
        }

        /// What is wished, and missing.
        fn wished(&self) -> (usize, usize) {
            let (tenant, device) = (TenantId::default_tenant(), "d".parse().unwrap());
            let count = self.state.desired(&tenant, &device).map_or(0, |d| d.all().len());
            (count, self.state.difference(&tenant, &device).len())
        }

        /// The commands that are found to be done.
        fn met(&self) -> Vec<Seq> {
            let met = |effect| {
                if let Effect::CommandMet(command) = effect {
                    Some(command.entry.seq)
                } else {
                    None
                }
            };
            self.state.settle(&*self.log).into_iter().filter_map(met).collect()
        }

        fn value(&self, name: &str) -> Option<(String, Quality)> {
            let device = "d".parse().unwrap();
            let reported = self.state.reported(&TenantId::default_tenant(), &device)?;
            let resource = reported.resource(name)?;
            Some((resource.value.as_deref()?.to_owned(), resource.quality))
        }
    }

    #[test]
    fn a_value_that_was_reached_and_left_again_ends_its_command() {
        for merged_by_another in [false, true] {
            let mut run = Run::new(false);
            run.say("telemetry", r#"{"on":true}"#);
            let command = run.say("commands", r#"{"set":{"on":true,"n":[1]}}"#);
            assert_eq!(run.met(), []);
            run.say("telemetry", r#"{"n":[1.0]}"#);
            run.say("events", r#"{"on":true}"#);
            assert_eq!(run.met(), [], "what was so before the command says nothing of it");
            run.say("telemetry", r#"{"on":true}"#);
            run.say("telemetry", r#"{"on":false}"#);
            if merged_by_another {
                let mut snapshot = run.state.snapshot(&run.state.changes());
                assert!(snapshot.settle(&*run.log).is_empty());
            }
            assert_eq!(run.met(), [command]);
        }
    }

    #[test]
    fn a_command_is_found_again_until_its_end_is_in_the_log() {
        let mut run = Run::new(false);
        let command = run.say("commands", r#"{"set":{"on":true}}"#);
        run.say("telemetry", r#"{"on":true}"#);
        assert_eq!((run.met(), run.met()), (vec![command], vec![]));
        run.state.look_again();
        assert_eq!(run.met(), [command]);
        run.end(command, BY_REPORT);
        run.state.look_again();
        run.say("telemetry", r#"{"on":true}"#);
        assert_eq!(run.met(), []);
    }

    #[test]
    fn a_reply_changes_the_state_where_the_profile_says_so_and_a_report_stands_for_itself() {
        for (is_assumed, by, expected) in [
            (true, "d", Some(("[1]".to_owned(), Quality::Uncertain))),
            (false, "d", None),
            (true, BY_REPORT, None),
        ] {
            let mut run = Run::new(is_assumed);
            let command = run.say("commands", r#"{"x":1,"set":{"a\"b":[1]}}"#);
            run.end(command, by);
            assert_eq!(run.value("a\"b"), expected, "{by} {is_assumed}");
            run.end(command, by);
            assert_eq!(run.value("a\"b"), expected, "the first end stands");
        }
    }

    #[test]
    fn a_wish_is_met_by_what_is_so_or_was_so_since() {
        let mut run = Run::new(false);
        run.say("telemetry", r#"{"on":1,"n":1}"#);
        run.say("telemetry", r#"{"on":2}"#);
        // Within one turn: what was so before the wish, and is not any more, meets nothing.
        let first = run.say("state/desired", r#"{"on":1,"n":1,"other":1}"#);
        assert_eq!(run.wished(), (2, 1), "what the profile does not have is not wished");
        assert_eq!(run.wishes_met(), [("n".to_owned(), first)]);
        run.say("state/desired", r#"{"n":null}"#);
        run.say("telemetry", r#"{"on":1.0}"#);
        run.say("telemetry", r#"{"on":2}"#);
        assert_eq!(run.wishes_met(), [("on".to_owned(), first)]);
        // Left again, it is found no more by a state that starts here: the log has to say so.
        assert_eq!((run.wishes_met(), run.wished()), (vec![], (1, 1)));
        let second = run.say("state/desired", r#"{"on":{"a":null,"b":1}}"#);
        run.say("telemetry", r#"{"values":[{"tag":"on","value":{"b":1},"quality":"bad"}]}"#);
        assert_eq!(run.wishes_met(), []);
        run.say("state/reported", r#"{"on":{"b":1}}"#);
        assert_eq!(run.wishes_met(), [("on".to_owned(), second)]);
        run.state.look_again();
        assert_eq!(run.wishes_met(), [("on".to_owned(), second)]);
        run.say("state/desired", r#"{"on":null}"#);
        run.state.look_again();
        assert_eq!((run.wishes_met(), run.wished()), (vec![], (0, 0)));
    }
}
