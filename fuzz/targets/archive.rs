//! Fuzz target: see `an_archive_has_only_members_of_one_set`.
#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::an_archive_has_only_members_of_one_set(bytes));
