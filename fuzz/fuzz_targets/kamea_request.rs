//! Fuzzes `targets::kamea_request`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, unreachable_pub)]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::kamea_request(data));
