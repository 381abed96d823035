//! Decides what a host's kernel needs: desired state in, kernel steps out. No I/O, no clock.
#![forbid(unsafe_code)]

pub mod io;
pub mod kernel_state;
