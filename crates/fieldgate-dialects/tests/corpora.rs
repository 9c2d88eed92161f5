//! Replays the committed corpora of the fuzz targets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

#[path = "../../../fuzz/targets.rs"]
mod targets;

#[path = "../../../fuzz/stored.rs"]
mod stored;

#[test]
fn no_stored_input_breaks_a_promise() {
    stored::replay(targets::ALL);
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_a_promise(data: Vec<u8>) {
        for (_, target) in targets::ALL {
            target(&data);
        }
    }
}
