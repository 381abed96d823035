//! Random text as everything that people type.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foreweave_fuzz::text::check(bytes));
