//! Random bytes as stored records.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foreweave_fuzz::record::check(bytes));
