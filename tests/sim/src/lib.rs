//! Whole fabrics in virtual time: topologies, a pretended kernel, and the contract that it shares with the real one.
#![forbid(unsafe_code)]

pub mod chance;
pub mod contract;
pub mod host;
pub mod kernel;
pub mod maps;
pub mod objects;
pub mod queues;
pub mod scenario;
pub mod topology;
pub mod world;
