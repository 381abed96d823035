//! Knows the nodes and the resources of the region.
pub mod nodes;
pub mod resources;
