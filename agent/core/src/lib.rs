//! Decides what a host's kernel needs: desired state in, kernel steps out. No I/O, no clock.
#![forbid(unsafe_code)]

pub mod abi;
pub mod bounds;
pub mod craft;
mod diff;
pub mod frame;
mod groups;
pub mod io;
pub mod kernel_state;
mod ledger;
pub mod lower;
pub mod migrate;
pub mod node;
mod objects;
mod orders;
mod packed;
pub mod protect;
mod queued;
mod rows;
mod sample;
pub mod seal;
mod shares;
mod slots;
mod status;
mod timed;
mod traces;
mod uplink;
