//! Replays the committed corpora of the fuzz targets.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panic")]

#[path = "../../../fuzz/targets.rs"]
mod targets;

use std::{fs, path::Path};

#[test]
fn no_stored_input_breaks_a_promise() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, target) in targets::ALL {
        let mut count = 0;
        for entry in fs::read_dir(corpora.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let held = std::panic::catch_unwind(|| target(&input)).is_ok();
            assert!(held, "{}", path.display());
            count += 1;
        }
        assert!(count > 0, "the corpus of {name} is empty");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_a_promise(data: Vec<u8>) {
        for (_, target) in targets::ALL {
            target(&data);
        }
    }
}
