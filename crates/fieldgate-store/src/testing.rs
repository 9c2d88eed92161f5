//! What the tests of this crate share: a message as a record, a state as rows, and the running of
//! seeds.

use fieldgate_core::{message::Qos, testing::message};

use crate::record::Record;

/// A message of the default tenant.
pub(crate) fn message_at(topic: &str, qos: Qos, payload: &str) -> Record {
    Record::Message(message(topic, qos, payload))
}

/// An act of administration.
#[cfg(test)]
pub(crate) fn change() -> Record {
    use crate::registry::{Change, Device, RegistryChange};
    let device = Device { id: "d".to_owned(), ..Device::default() };
    Record::Registry(Box::new(RegistryChange::local("default", Change::DeviceAdd(device))))
}

#[cfg(test)]
pub(crate) use rows::{report, rows_of};
#[cfg(test)]
pub(crate) use seeds::{failures, seeds};

#[cfg(test)]
mod rows {
    use std::collections::BTreeSet;

    use fieldgate_core::message::{Content, Message};

    use crate::{
        port::Log,
        state::{
            State,
            changes::{Row, RowKey},
        },
        tables::{
            Table,
            rows::{encode_key, encode_row},
        },
    };

    /// What a device reports, in place of what the message says.
    pub(crate) fn report(message: &mut Message, id: u64) {
        let leaf = if id % 8 < 4 { "telemetry" } else { "state/reported" };
        message.topic = format!("devices/{}/{leaf}", id % 3).parse().unwrap();
        message.kind = message.topic.kind();
        message.content = Content::Json;
        message.payload = format!("{{\"r\":{{\"v{}\":{id}}}}}", id % 5).into();
        message.is_time_given = id.is_multiple_of(5);
    }

    /// A whole state as the rows that it would be written down in; everything must be durable.
    pub(crate) fn rows_of(state: &State, log: &dyn Log) -> BTreeSet<(Table, Vec<u8>, Vec<u8>)> {
        let mut snapshot = state.snapshot(&state.changes());
        assert_eq!(snapshot.settle(log).len(), 0, "all is durable");
        let row = |(key, row): &(RowKey, Row)| (encode_key(key), encode_row(row));
        snapshot.rows.iter().map(row).map(|((table, key), row)| (table, key, row)).collect()
    }
}

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
