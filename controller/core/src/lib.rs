//! Decides: which resources there are, which path a circuit takes, what each node shall have. No I/O, no clock.
#![forbid(unsafe_code)]

pub mod io;
pub mod record;
