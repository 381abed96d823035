//! A decision with its reasons: the path chosen, what each term of its cost was, and why each other one was not.
use crate::choice::Choice;
use crate::circuit::Path;
use crate::insight::Insight;
use crate::intent::Bounds;
use crate::resource::Resource;
use crate::{Bandwidth, Latency, Loss, NodeName, Price, Weighed, Weight};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one unit of each quantity adds to the cost of a path. Configurable; shown with every decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Per millisecond of round-trip time.
    pub rtt: f64,
    /// Per hop.
    pub hop: f64,
    /// Times the share of the tightest link's capacity in use after placement (0–1), squared.
    pub load: f64,
    /// Per cent of loss.
    pub loss: f64,
    /// Per dollar and gigabyte.
    pub price: f64,
    /// For a link whose round-trip time is not known, instead of `rtt`.
    pub unknown: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { rtt: 1.0, hop: 0.5, load: 20.0, loss: 50.0, price: 100.0, unknown: 50.0 }
    }
}

impl Weights {
    /// With those that an intent has of its own.
    #[must_use]
    pub fn with(self, own: &BTreeMap<Weighed, Weight>) -> Self {
        let of = |term, weight| own.get(&term).map_or(weight, |own| own.value());
        Self {
            rtt: of(Weighed::Rtt, self.rtt),
            hop: of(Weighed::Hop, self.hop),
            load: of(Weighed::Load, self.load),
            loss: of(Weighed::Loss, self.loss),
            price: of(Weighed::Price, self.price),
            unknown: of(Weighed::Unknown, self.unknown),
        }
    }
}

/// One summand of a path's cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// Which weight: `rtt`, `hop`, `load`, `loss`, `price`, `unknown`.
    pub name: String,
    /// The quantity with its unit, for people: `12.5 ms`.
    pub quantity: String,
    /// Its part of the cost.
    pub cost: f64,
}

/// What a path offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Sum over the links; none when one of them is not known.
    pub rtt: Option<Latency>,
    /// Free at the tightest link before this placement; none when a link's capacity is not known.
    pub free: Option<Bandwidth>,
    pub loss: Loss,
    pub price: Price,
    pub encrypted: bool,
    pub mtu: u16,
}

/// A path that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub path: Path,
    pub offer: Offer,
    pub terms: Vec<Term>,
    /// Sum of the terms.
    pub cost: f64,
    /// Why it cannot serve: each bound it breaks, with both numbers. Empty: it could.
    pub rejected: Vec<String>,
}

/// What would be feasible, when what was asked is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feasible {
    /// Most bandwidth with all other bounds as asked.
    pub bandwidth: Option<Bandwidth>,
    /// Least round-trip time with all other bounds as asked.
    pub rtt: Option<Latency>,
    /// Lowest price with all other bounds as asked.
    pub price: Option<Price>,
    /// The same as sentences: "up to 340 Mbit/s now", "500 Mbit/s if latency ≤ 35 ms is allowed".
    pub sentences: Vec<String>,
}

/// What would change on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostChange {
    pub node: NodeName,
    /// One per object: "create interface fw1 in namespace web with 100.64.0.1".
    pub changes: Vec<String>,
}

/// The answer to a dry run, and the record of a decision. Of nothing at all: no candidate, and nothing chosen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub bounds: Bounds,
    pub weights: Weights,
    /// Index into `candidates`; none: refused.
    pub chosen: Option<usize>,
    /// Lowest cost first, rejected ones last. At most 64 are kept.
    pub candidates: Vec<Candidate>,
    /// How many more were looked at and not kept.
    pub omitted: u32,
    /// Why there is no way at all, when there is none: one sentence.
    pub refused: Option<String>,
    /// Set when refused.
    pub feasible: Option<Feasible>,
    /// Empty when refused.
    pub hosts: Vec<HostChange>,
    /// Of a dry run: the second way that the circuit would get; none: see `protection`.
    #[serde(default)]
    pub backup: Option<Candidate>,
    /// Of a dry run: what the backup shares with the path, or why there is none. Empty: nothing to say.
    #[serde(default)]
    pub protection: String,
    /// Of a dry run: what is bad about the ways that would be taken, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Of a circuit that is explained: how its paths compare now. None: it has none to choose from, or nothing was measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
    /// Made when it is asked for; a record of a decision has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insight: Option<Insight>,
}

/// One answer of a discovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub resource: Resource,
    /// The path that a circuit would take now, and its cost; the order of the answer. None when no source was given.
    pub best: Option<Candidate>,
}

/// Resources that offer the service (or come near) and were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub resource: crate::ResourceId,
    /// With the numbers.
    pub why: String,
}

/// Candidates for one intent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    pub intent: crate::intent::Intent,
    pub found: Vec<Found>,
    pub left_out: Vec<LeftOut>,
}
