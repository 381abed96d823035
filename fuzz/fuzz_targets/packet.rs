//! Random frames through the parser and the firewall.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foreweave_fuzz::packet::check(bytes));
