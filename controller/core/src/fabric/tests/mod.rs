//! What the fabric promises, each promise a test.
mod agents;
mod certificates;
mod circuits;
mod refusals;
mod resources;
mod restart;
mod storm;
