//! Fuzz target: see `a_copy_gets_a_verdict`.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::a_copy_gets_a_verdict(bytes));
