//! Fuzz target: see `names_are_what_they_say`.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::names_are_what_they_say(bytes));
