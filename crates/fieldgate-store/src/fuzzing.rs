//! What is fuzzed of recovery: one function per decoder, any bytes in, a panic where a promise is
//! broken. Called by the targets in `fuzz/`, and here with the stored corpora and with random bytes.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a target fails by panicking"
)]

use crate::{
    codec, export,
    log::fuzzing as log,
    tables::{
        Table,
        rows::{Applied, decode, decode_ids, encode_ids, encode_key, encode_row},
    },
};

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const ALL: &[(&str, Target)] =
    &[("record", record), ("segment", segment), ("index", index), ("export", export), ("row", row)];

/// A record is no record, or the same after another round.
pub fn record(data: &[u8]) {
    let Ok(record) = codec::decode(data) else { return };
    let mut again = Vec::new();
    codec::encode(&record, &mut again);
    // As bytes: a number of it may be none, which is like nothing.
    let mut same = Vec::new();
    codec::encode(&codec::decode(&again).expect("what was written"), &mut same);
    assert_eq!(same, again, "{record:?}");
}

/// A segment opens, is read, verified and repaired, or is no segment; then it takes messages.
pub fn segment(data: &[u8]) {
    log::segment(data);
}

/// An index that lies costs no more than looking again.
pub fn index(data: &[u8]) {
    log::index(data);
}

/// An export is whole or none.
pub fn export(data: &[u8]) {
    export::any_bytes(data);
}

/// The first byte chooses the table, the second the length of the key.
pub fn row(data: &[u8]) {
    let [table, len, rest @ ..] = data else { return };
    let (key, value) = rest.split_at(usize::from(*len).min(rest.len()));
    let table = Table::ALL[usize::from(*table) % Table::ALL.len()];
    if let Ok((key, row)) = decode(table, key, value) {
        let (table, place) = encode_key(&key);
        let (again, same) = decode(table, &place, &encode_row(&row)).expect("what was written");
        assert_eq!((again, encode_row(&same)), (key, encode_row(&row)));
    }
    if let Ok(ids) = decode_ids(value) {
        assert_eq!(decode_ids(&encode_ids(&ids)), Ok(ids));
    }
    if let Ok(applied) = Applied::decode(value) {
        assert_eq!(applied.encode(), value);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/stored.rs"]
mod stored;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_stored_input_breaks_a_promise() {
        stored::replay(ALL);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn no_bytes_break_a_promise(data: Vec<u8>) {
            for (_, target) in ALL {
                target(&data);
            }
        }

        /// Stored inputs with some bytes overwritten come further than random ones.
        #[test]
        fn no_change_of_a_stored_input_breaks_a_promise(
            target in 0..ALL.len(), chosen: prop::sample::Index,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let (name, target) = ALL[target];
            let inputs = stored::inputs(name);
            let mut data = chosen.get(&inputs).1.clone();
            for (at, value) in changes {
                if !data.is_empty() {
                    let at = at.index(data.len());
                    data[at] = value;
                }
            }
            if let Some(cut) = cut {
                data.truncate(cut.index(data.len() + 1));
            }
            target(&data);
        }
    }
}
