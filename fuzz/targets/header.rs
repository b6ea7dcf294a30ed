//! Fuzz target: see `a_header_has_a_possible_layout`.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::a_header_has_a_possible_layout(bytes));
