//! The data plane without a fabric: programs loaded, fed frame by frame, and timed.
#![expect(unsafe_code, reason = "bpf.rs makes system calls")]
pub mod bpf;
pub mod dataplane;
pub mod endpoint;
pub mod hop;
pub mod line;
pub mod report;
pub mod rivals;
pub mod wires;
