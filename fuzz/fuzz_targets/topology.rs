//! Random text as topology files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foreweave_fuzz::topology::check(bytes));
