//! Fuzzes `targets::thingsee_binary`.
#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, unreachable_pub)]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::thingsee_binary(data));
