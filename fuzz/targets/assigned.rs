//! Fuzz target: see `assigned_names_differ`.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::assigned_names_differ(bytes));
