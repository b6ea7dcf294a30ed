//! Fuzz target: see `metadata_survives_a_round_trip`.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::metadata_survives_a_round_trip(bytes));
