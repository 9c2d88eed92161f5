//! Tests of the test: a history that a real gateway told is judged sound, and each change of it that
//! a defect could make is found, wherever it is made.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    From, Op, Shared, World,
    client::{Checked, Client, Event},
};

/// What one event gave: the subscriptions that took a message, or the one that caught up.
#[derive(Debug, Clone, PartialEq)]
enum Gave {
    Nothing,
    Message(Vec<&'static str>),
    End(&'static str),
}

fn judge(root: &str, history: &[Event]) -> Checked {
    let mut client = Client::new(root);
    history.iter().try_for_each(|event| client.take(event.clone()))?;
    client.judge()
}

/// What each event gave.
fn effects(root: &str, history: &[Event]) -> Vec<Gave> {
    let mut client = Client::new(root);
    let look = |client: &Client| -> BTreeMap<&'static str, (usize, bool)> {
        let subscriptions = client.subscriptions.iter();
        subscriptions.map(|(filter, s)| (*filter, (s.seen.len(), s.caught_up))).collect()
    };
    let effect = |event: &Event| {
        let before = look(&client);
        client.take(event.clone()).unwrap();
        let Event::Frame { .. } = event else { return Gave::Nothing };
        let mut took = Vec::new();
        for (filter, (count, caught_up)) in look(&client) {
            let (count_before, caught_up_before) = before[filter];
            if caught_up && !caught_up_before {
                return Gave::End(filter);
            }
            if count > count_before {
                took.push(filter);
            }
        }
        if took.is_empty() { Gave::Nothing } else { Gave::Message(took) }
    };
    history.iter().map(effect).collect()
}

/// A life with overlapping filters, replays that are broken off, live messages and a kill.
fn history() -> (String, Vec<Event>) {
    let publish = |topic, count| Op::Publish { topic, qos: 1, count };
    let subscribe = |filter| Op::Subscribe { filter, from: From::All };
    let ops = [
        publish(0, 12),
        publish(2, 8),
        Op::Settle,
        subscribe(0),
        subscribe(2),
        Op::Read { count: 7 },
        Op::Reconnect,
        Op::Read { count: 60 },
        publish(0, 10),
        publish(3, 5),
        Op::Settle,
        Op::Read { count: 60 },
        subscribe(3),
        Op::Kill,
        publish(1, 10),
        Op::Settle,
    ];
    let mut shared = Shared::new();
    let mut world = World::new(&mut shared);
    world.live(&ops);
    (world.client.root, world.client.history)
}

#[test]
fn what_a_defect_would_change_in_a_history_is_found() {
    let (root, history) = history();
    assert_eq!(judge(&root, &history), Ok(()));
    let effects = effects(&root, &history);
    let (mut lost, mut doubled, mut swapped, mut early) = (0, 0, 0, 0);
    let found = |changed: &[Event], what: &str, at: usize| {
        assert!(judge(&root, changed).is_err(), "{what} at {at}: {:?}", history[at]);
    };
    for (at, gave) in effects.iter().enumerate() {
        let next = effects.get(at + 1);
        if let Gave::Message(filters) = gave {
            let mut changed = history.clone();
            let event = changed.remove(at);
            found(&changed, "lost", at);
            lost += 1;
            // While a filter is renewed, what comes live may be of its former life, and is let pass.
            let excused = |frame: &Value| frame["replay"].is_null();
            if !matches!(&event, Event::Frame { frame, renewed: Some(_) } if excused(frame)) {
                changed.insert(at, event.clone());
                changed.insert(at, event);
                found(&changed, "doubled", at);
                doubled += 1;
            }
            if let Some(Gave::Message(others)) = next
                && others.iter().any(|other| filters.contains(other))
            {
                let mut changed = history.clone();
                changed.swap(at, at + 1);
                found(&changed, "swapped", at);
                swapped += 1;
            }
        }
        // The end of a replay is told one message early, or one too late.
        if let (Gave::Message(filters), Some(Gave::End(ended)))
        | (Gave::End(ended), Some(Gave::Message(filters))) = (gave, next)
            && filters.contains(ended)
        {
            let mut changed = history.clone();
            changed.swap(at, at + 1);
            found(&changed, "an end in the wrong place", at);
            early += 1;
        }
    }
    assert!(
        lost > 50 && doubled > 50 && swapped > 20 && early > 0,
        "{lost} {doubled} {swapped} {early}"
    );
}
