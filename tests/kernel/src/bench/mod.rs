//! The data plane without a network: programs loaded, fed frame by frame, and timed.
#![expect(unsafe_code, reason = "bpf.rs makes system calls")]
pub mod bpf;
pub mod dataplane;
