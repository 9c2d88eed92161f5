//! What the tests of this crate share: a message as a record, and the running of seeds.

use fieldgate_core::{message::Qos, testing::message};

use crate::record::Record;

/// A message of the default tenant.
pub(crate) fn message_at(topic: &str, qos: Qos, payload: &str) -> Record {
    Record::Message(message(topic, qos, payload))
}

#[cfg(test)]
pub(crate) use seeds::{failures, seeds};

#[cfg(test)]
mod seeds {
    use crate::control::Control;

    /// How many lives a checker looks at; more by `FIELDGATE_FAULT_SEEDS`.
    pub(crate) fn seeds(usual: u64) -> u64 {
        std::env::var("FIELDGATE_FAULT_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
    }

    /// The seeds that fail, and why, on two threads; with a defect on purpose, if one is given.
    pub(crate) fn failures(
        seeds: u64,
        control: Option<Control>,
        run: impl Fn(u64) -> Result<(), String> + Sync,
    ) -> Vec<(u64, String)> {
        let check = |seed| run(seed).err().map(|why| (seed, why));
        let half =
            |odd| Control::during(control, || (odd..seeds).step_by(2).filter_map(check).collect());
        std::thread::scope(|scope| {
            let odd = scope.spawn(|| half(1));
            let mut found: Vec<(u64, String)> = half(0);
            found.extend(odd.join().unwrap());
            found
        })
    }
}
