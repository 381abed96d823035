//! Random messages through the wire conversion.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foreweave_fuzz::wire::check(bytes));
