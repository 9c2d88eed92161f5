//! Replays the stored inputs of the fuzz targets. Included by the tests of the crates whose decoders
//! are fuzzed.

use std::{fs, path::Path};

type Target = fn(&[u8]);

/// The inputs of one target, by the name of their file.
pub(crate) fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "the corpus of {target} is empty");
    inputs
}

/// Gives every target its inputs.
pub(crate) fn replay(targets: &[(&str, Target)]) {
    for (name, target) in targets {
        for (file, input) in inputs(name) {
            let held = std::panic::catch_unwind(|| target(&input)).is_ok();
            assert!(held, "{name}/{file}");
        }
    }
}
