//! Integrations change as records say, and what their tokens open is what the registry says by then.

use fieldgate_core::{
    fault::Code,
    id::{Seq, UnixMs},
};

use super::*;
use crate::{
    port::Followed,
    record::{Entry, Record},
    registry::{
        Change, Device, IntegrationEdit, IntegrationKind, IntegrationStep, RegistryChange, Report,
        Start, Target, TokenIn,
    },
    secret::{MasterKey, work},
    state::{Effect, StateLimits},
};

struct Life {
    state: State,
    seq: u64,
    effects: Vec<Effect>,
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn target() -> Target {
    Target {
        url: "https://example.test/in".to_owned(),
        filter: "devices/+/telemetry".to_owned(),
        ..Target::default()
    }
}

impl Life {
    fn begin() -> Self {
        let limits = StateLimits { devices_per_source_max: 2, ..StateLimits::default() };
        let state = State::new(MasterKey::ephemeral().unwrap(), limits);
        Self { state, seq: 0, effects: Vec::new() }
    }

    fn change(&mut self, change: Change) -> Result<(), Code> {
        self.seq += 1;
        let record = Record::Registry(Box::new(RegistryChange::local("default", change)));
        let entry = Entry { seq: Seq(self.seq), arrived: UnixMs(1_000 + self.seq), record };
        self.effects = self.state.apply(&Followed::Entry(Arc::new(entry)));
        self.state.outcome(Seq(self.seq)).unwrap().map_err(|fault| fault.code)
    }

    fn step_if(
        &mut self,
        name: &str,
        expected: Option<u64>,
        step: IntegrationStep,
    ) -> Result<(), Code> {
        self.change(Change::Integration { name: name.to_owned(), expected, step })
    }

    fn step(&mut self, name: &str, step: IntegrationStep) -> Result<(), Code> {
        self.step_if(name, None, step)
    }

    fn add(&mut self, name: &str, token: Option<&str>, target: Option<Target>) -> Result<(), Code> {
        let kind =
            if target.is_some() { IntegrationKind::Rest } else { IntegrationKind::ThingseeIn };
        let token = token.map(|token| self.state.master_key().hash_source(token));
        let integration = Integration { name: name.to_owned(), kind, paused: false, token, target };
        let integration = Box::new(integration);
        self.step(name, IntegrationStep::Add { integration, start: Start::Now })
    }

    fn device(&mut self, source: &str, device: &str, gateway: &str) -> Result<(), Code> {
        let (source, device) = (source.to_owned(), device.to_owned());
        self.change(Change::SourceDevice { source, device, gateway: Some(gateway.to_owned()) })
    }

    fn of(&self, name: &str) -> Integrated {
        self.state.integration(&tenant(), name).unwrap()
    }

    fn report(&mut self, name: &str, report: Report) -> Result<(), Code> {
        let report = Report { run: self.of(name).progress.run, ..report };
        self.step(name, IntegrationStep::Report(Box::new(report)))
    }

    /// The names of integrations, and of principals, that somebody is told of.
    fn told(&self) -> Vec<String> {
        let name = |effect: &Effect| {
            let (Effect::IntegrationChanged { name, .. } | Effect::RightsChanged { name, .. }) =
                effect
            else {
                panic!("{effect:?}")
            };
            name.to_string()
        };
        self.effects.iter().map(name).collect()
    }
}

#[test]
fn a_name_is_taken_once_and_its_parts_fit_its_kind() {
    let mut life = Life::begin();
    assert_eq!(life.add("cloud", Some("t"), None), Ok(()));
    assert_eq!(life.told(), ["cloud"]);
    assert_eq!(life.add("cloud", None, Some(target())), Err(Code::Conflict));
    assert_eq!(life.add("other", None, None), Err(Code::BadValue), "a source without a token");
    assert_eq!(life.add("other", Some("u"), Some(target())), Err(Code::BadValue), "both");
    for at in 1..INTEGRATIONS_MAX {
        assert_eq!(life.add(&format!("i-{at}"), None, Some(target())), Ok(()));
    }
    assert_eq!(life.add("more", None, Some(target())), Err(Code::QueueFull));
    assert_eq!(life.step("i-1", IntegrationStep::Remove), Ok(()));
    assert_eq!(life.add("more", None, Some(target())), Ok(()));
    assert_eq!(life.step("i-1", IntegrationStep::Remove), Err(Code::NotFound));
    assert_eq!(life.state.integrations(&tenant()).len(), INTEGRATIONS_MAX);
}

#[test]
fn the_token_of_a_source_opens_its_own_door_until_it_rests_or_has_another() {
    let mut life = Life::begin();
    life.add("cloud", Some("first"), None).unwrap();
    life.add("out", None, Some(target())).unwrap();
    let refused = |life: &Life, name, token| life.state.source_of(name, token).unwrap_err();
    let who = life.state.source_of(Some("cloud"), "first").unwrap();
    assert_eq!(life.state.source_of(None, "first").unwrap(), who);
    assert_eq!(&*who.name, "source:cloud");
    assert_eq!(refused(&life, Some("out"), "first"), SourceRefused::Unknown);
    assert_eq!(refused(&life, Some("cloud"), "other"), SourceRefused::Unknown);
    let nobody = life.state.verify_token(&tenant(), None, "first", UnixMs(0));
    assert_eq!(nobody, None, "it opens no other door");
    let fresh = |life: &Life, who| life.state.refresh(who, UnixMs(0)).is_some();
    assert!(fresh(&life, &who));

    life.step("cloud", IntegrationStep::Pause(true)).unwrap();
    assert_eq!(life.told(), ["cloud", "source:cloud"]);
    assert!(!fresh(&life, &who));
    assert_eq!(refused(&life, Some("cloud"), "first"), SourceRefused::Paused);
    assert_eq!(refused(&life, Some("cloud"), "other"), SourceRefused::Unknown);
    life.step("cloud", IntegrationStep::Pause(false)).unwrap();
    assert!(fresh(&life, &who));

    let second = life.state.master_key().hash_source("second");
    assert_eq!(life.step("out", IntegrationStep::Rotate(second)), Err(Code::BadValue));
    life.step("cloud", IntegrationStep::Rotate(second)).unwrap();
    assert_eq!(life.told(), ["cloud", "source:cloud"]);
    assert!(!fresh(&life, &who));
    assert_eq!(refused(&life, None, "first"), SourceRefused::Unknown);
    let who = life.state.source_of(None, "second").unwrap();
    life.step("cloud", IntegrationStep::Remove).unwrap();
    assert_eq!(life.told(), ["cloud", "source:cloud"]);
    assert!(!fresh(&life, &who));
    assert_eq!(refused(&life, None, "second"), SourceRefused::Unknown);
}

#[test]
fn every_wrong_token_costs_the_same_work() {
    let mut life = Life::begin();
    life.add("cloud", Some("first"), None).unwrap();
    let cost = |name, token| work::of(|| drop(life.state.source_of(name, token))).1;
    let right = cost(Some("cloud"), "first");
    for (name, token) in [(Some("cloud"), "other"), (Some("none"), "first"), (None, "other")] {
        assert_eq!(cost(name, token), right, "{name:?} {token}");
    }
}

#[test]
fn a_source_has_the_devices_that_it_saw_first_and_so_many() {
    let mut life = Life::begin();
    life.add("a", Some("a"), None).unwrap();
    life.add("b", Some("b"), None).unwrap();
    life.add("out", None, Some(target())).unwrap();
    let own = Device { id: "own".to_owned(), ..Device::default() };
    life.change(Change::DeviceAdd(own)).unwrap();
    assert_eq!(life.device("a", "own", "g"), Err(Code::NotAllowed), "it is somebody's already");
    assert_eq!(life.device("out", "d1", "g"), Err(Code::NotFound), "it brings nothing");
    assert_eq!(life.device("a", "not an id", "g"), Err(Code::BadValue));
    assert_eq!(life.device("a", "d1", "g1"), Ok(()));
    assert_eq!(life.device("b", "d1", "g1"), Err(Code::NotAllowed));
    assert_eq!(life.device("a", "d1", "g2"), Ok(()), "it went to another gateway");
    let d1: DeviceId = "d1".parse().unwrap();
    let origin = life.state.origin(&tenant(), &d1).unwrap();
    assert_eq!((origin.source.as_str(), origin.gateway.as_deref()), ("a", Some("g2")));
    assert_eq!(life.device("a", "d2", "g1"), Ok(()));
    assert_eq!(life.device("a", "d3", "g1"), Err(Code::QueueFull));
    let refused = life.state.outcome(Seq(life.seq)).unwrap().unwrap_err();
    assert!(refused.message.contains("limits.devices_per_source_max"), "{refused:?}");
    assert_eq!(life.device("b", "d3", "g1"), Ok(()), "each has its own bound");
    assert_eq!(life.state.source_device_count(&tenant(), "a"), 2);
    life.change(Change::DeviceRemove("d1".to_owned())).unwrap();
    assert_eq!(life.state.source_device_count(&tenant(), "a"), 1);
    assert_eq!(life.state.origin(&tenant(), &d1), None);
    assert_eq!(life.device("b", "d1", "g1"), Ok(()), "who is gone may come from elsewhere");
}

#[test]
fn a_cursor_goes_back_by_a_replay_alone_and_reports_of_before_count_no_more() {
    let mut life = Life::begin();
    life.add("out", None, Some(target())).unwrap();
    let run = life.of("out").progress.run;
    assert_eq!((run, life.of("out").progress.cursor), (1, 1), "what comes from now on");
    let report = Report { cursor: 9, delivered: 5, failed: 1, ..Report::default() };
    let report = Report { error: Some("it hangs".to_owned()), ..report };
    life.report("out", report).unwrap();
    assert!(life.told().is_empty(), "who reports knows");
    life.report("out", Report { cursor: 7, delivered: 1, ..Report::default() }).unwrap();
    let progress = life.of("out").progress;
    assert_eq!((progress.cursor, progress.delivered, progress.failed), (9, 6, 1));
    assert_eq!(progress.last_error, Some(("it hangs".to_owned(), 1_002)));
    life.step("out", IntegrationStep::Replay(4)).unwrap();
    assert_eq!(life.told(), ["out"]);
    let late = Report { run, cursor: 20, ..Report::default() };
    let late = IntegrationStep::Report(Box::new(late));
    assert_eq!(life.step("out", late), Err(Code::Conflict));
    let progress = life.of("out").progress;
    assert_eq!((progress.run, progress.cursor, progress.delivered), (4, 4, 6));
    life.step("out", IntegrationStep::Replay(1 << 40)).unwrap();
    assert_eq!(life.of("out").progress.cursor, life.seq, "nothing is behind the end");
    life.add("cloud", Some("t"), None).unwrap();
    assert_eq!(life.step("cloud", IntegrationStep::Replay(0)), Err(Code::BadValue));
}

#[test]
fn what_is_set_aside_is_kept_until_it_is_delivered_dropped_or_too_old() {
    let mut life = Life::begin();
    life.add("out", None, Some(target())).unwrap();
    let aside = |seqs: std::ops::Range<u64>| {
        let cursor = seqs.end - 1;
        let aside = seqs.map(|seq| (seq, format!("400: {seq}"))).collect();
        Report { cursor, aside, ..Report::default() }
    };
    let seqs = |life: &Life| life.of("out").asides.messages.keys().copied().collect::<Vec<_>>();
    assert_eq!(life.step("out", IntegrationStep::Retry(3)), Err(Code::NotFound));
    life.report("out", aside(3..7)).unwrap();
    assert_eq!(seqs(&life), [3, 4, 5, 6]);
    life.step("out", IntegrationStep::Drop(4)).unwrap();
    assert_eq!(life.step("out", IntegrationStep::Drop(4)), Err(Code::NotFound));
    life.step("out", IntegrationStep::Retry(3)).unwrap();
    assert_eq!(life.told(), ["out"]);
    let retried = |life: &Life| life.of("out").asides.messages.get(&3).map(|aside| aside.retry);
    assert_eq!(retried(&life), Some(true));
    life.report("out", aside(3..4)).unwrap();
    assert_eq!(retried(&life), Some(false), "it was refused again");
    assert_eq!(life.of("out").progress.set_aside, 4, "and is still one message");
    life.report("out", aside(4..5)).unwrap();
    assert_eq!(seqs(&life), [3, 5, 6], "what was dropped meanwhile stays so");
    life.report("out", Report { settled: vec![3], ..Report::default() }).unwrap();
    assert_eq!(seqs(&life), [5, 6]);
    life.step("out", IntegrationStep::Replay(5)).unwrap();
    assert_eq!(seqs(&life), [5], "what is delivered again is refused again, or not");
    let max = ASIDES_MAX as u64;
    life.report("out", aside(10..10 + max)).unwrap();
    let asides = life.of("out").asides;
    assert_eq!((asides.messages.len(), asides.forgotten), (ASIDES_MAX, 1));
    assert_eq!(asides.messages.keys().next(), Some(&10), "the oldest went");
    assert_eq!(life.of("out").progress.set_aside, 4 + max);
    let long = Report { aside: vec![(5_000, "x".repeat(10_000))], ..Report::default() };
    life.report("out", long).unwrap();
    assert!(life.of("out").asides.messages[&5_000].reason.len() <= 256);
}

#[test]
fn who_edits_does_not_learn_the_secret_and_edits_what_they_read() {
    let mut life = Life::begin();
    let seal = |life: &Life, secret: &str| {
        let key = life.state.master_key();
        Some(key.seal_integration(&tenant(), "out", IntegrationPart::Token, secret).unwrap())
    };
    let token_in = Some(TokenIn::Header("X-Key".to_owned()));
    let secret = seal(&life, "the secret");
    life.add("out", None, Some(Target { token_in, secret, ..target() })).unwrap();
    let token = |life: &Life| {
        let integration = life.of("out").integration;
        life.state.target_secrets(&tenant(), &integration).token
    };
    assert_eq!(token(&life).as_deref(), Some("the secret"));
    let edit = |edit: IntegrationEdit| IntegrationStep::Edit(Box::new(edit));
    let url = Some("https://elsewhere.test/".to_owned());
    let moved = IntegrationEdit { url, ..IntegrationEdit::default() };
    let before = life.of("out").integration.tag();
    assert_eq!(life.step("out", edit(moved.clone())), Err(Code::BadValue));
    let secret = Some(seal(&life, "another"));
    life.step_if("out", Some(before), edit(IntegrationEdit { secret, ..moved.clone() })).unwrap();
    assert_eq!(token(&life).as_deref(), Some("another"));
    assert_eq!(life.step_if("out", Some(before), edit(moved)), Err(Code::Conflict));
    let bare = IntegrationEdit { secret: Some(None), ..IntegrationEdit::default() };
    assert_eq!(life.step("out", edit(bare.clone())), Err(Code::BadValue), "its place stays");
    let bare = IntegrationEdit { token_in: Some(None), ..bare };
    life.step("out", edit(bare)).unwrap();
    assert_eq!(token(&life), None);
    life.add("cloud", Some("t"), None).unwrap();
    assert_eq!(life.step("cloud", edit(IntegrationEdit::default())), Err(Code::BadValue));
}
