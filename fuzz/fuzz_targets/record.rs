//! Fuzzes `fieldgate_store::fuzzing::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fieldgate_store::fuzzing::record(data));
