//! Fuzzes `fieldgate_store::fuzzing::segment`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fieldgate_store::fuzzing::segment(data));
