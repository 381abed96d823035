//! The words that controller, agent, API and CLI share; nothing here acts.
//!
//! Values are well formed by construction: a `Name` is a valid DNS label, a `Bandwidth` is bits per second. Foreign
//! data enters through `proto-wire`'s `convert`, text through [`std::str::FromStr`], stored state through serde.
#![forbid(unsafe_code)]

pub mod access;
pub mod address;
pub mod choice;
pub mod circuit;
pub mod desired;
pub mod foresight;
pub mod insight;
pub mod intent;
pub mod name;
pub mod plan;
pub mod policy;
pub mod query;
pub mod refusal;
pub mod report;
pub mod request;
pub mod resource;
pub mod rule;
pub mod seal;
pub mod shortage;
pub mod together;
pub mod topology;
pub mod trace;
pub mod trail;
pub mod units;
pub mod until;

/// What IPv6 wants of every link, in bytes (RFC 8200 §5).
pub const LEAST_IPV6_MTU: u16 = 1280;

pub use address::{FabricAddress, FabricPrefix, Label};
pub use foresight::{Horizon, Risk, Weighed, Weight};
pub use name::{CircuitId, CircuitName, Name, NodeName, PathId, ResourceId, ServiceName};
pub use refusal::{Kind, Refusal};
pub use seal::{Seal, SealKey};
pub use units::{Bandwidth, Generation, Latency, Loss, Price, Timestamp};
pub use until::Until;
