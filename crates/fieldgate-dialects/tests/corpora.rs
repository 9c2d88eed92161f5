//! Replays the committed corpora of the fuzz targets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

use proptest::prelude::*;

#[path = "../../../fuzz/targets.rs"]
mod targets;

#[path = "../../../fuzz/stored.rs"]
mod stored;

#[test]
fn no_stored_input_breaks_a_promise() {
    stored::replay(targets::ALL);
}

proptest! {
    #[test]
    fn no_bytes_break_a_promise(data: Vec<u8>) {
        for (_, target) in targets::ALL {
            target(&data);
        }
    }

    /// Stored inputs with some bytes overwritten come further than random ones.
    #[test]
    fn no_change_of_a_stored_input_breaks_a_promise(
        target in 0..targets::ALL.len(), chosen: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (name, target) = targets::ALL[target];
        let mut data = chosen.get(&stored::inputs(name)).1.clone();
        for (at, value) in changes {
            if !data.is_empty() {
                let at = at.index(data.len());
                data[at] = value;
            }
        }
        target(&data);
    }
}
