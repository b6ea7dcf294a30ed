//! Fuzz target: see `a_sidecar_is_a_hash_or_nothing`.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::a_sidecar_is_a_hash_or_nothing(bytes));
