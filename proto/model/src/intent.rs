//! "I need to talk to whatever offers service X, with latency below Y and bandwidth above Z."
use crate::{Bandwidth, Horizon, Latency, Loss, Name, NodeName, Price, Risk, ServiceName, Weighed, Weight};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a path must keep; an absent bound does not constrain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Round-trip time over the whole path, at most.
    pub max_rtt: Option<Latency>,
    /// Loss over the whole path, at most; also what makes a circuit leave a lossy path.
    #[serde(default)]
    pub max_loss: Option<Loss>,
    /// Reserved in each direction; zero: best effort.
    pub bandwidth: Bandwidth,
    /// In each direction, at most: what is more is dropped where it enters. Not below `bandwidth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Bandwidth>,
    /// Encrypted end to end, between the hosts of its two ends.
    pub encrypted: bool,
    /// Only links declared as encrypted.
    #[serde(default)]
    pub encrypted_links: bool,
    /// Sum of the links' prices, at most.
    pub max_price: Option<Price>,
    /// 1 to 16 links; default 8.
    pub max_hops: Option<u8>,
    /// Hosts that the path must cross, in any order.
    pub via: BTreeSet<NodeName>,
    /// Hosts that it must not cross.
    pub avoid: BTreeSet<NodeName>,
    /// Words that every link must carry.
    pub require_tags: BTreeSet<Name>,
    /// Words that no link may carry.
    pub avoid_tags: BTreeSet<Name>,
    /// Probability with which the bounds of round-trip time and loss may be broken within the horizon; none: the controller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// How far ahead these are to be kept; none: the controller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Horizon>,
    /// Weights of the cost instead of the controller's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Weighed, Weight>,
}

/// A resource's wish to talk to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub service: ServiceName,
    pub bounds: Bounds,
    /// 0 (least) to 255.
    pub priority: u8,
}
