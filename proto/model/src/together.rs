//! Circuits that are asked for together, and what becomes of each.
use crate::circuit::Path;
use crate::request::CircuitRequest;
use crate::{Bandwidth, CircuitId, CircuitName, ResourceId};
use serde::{Deserialize, Serialize};

/// Circuits of one request at most: placing them holds everybody else up meanwhile.
pub const MOST: usize = 100;

/// Circuits that shall be placed so that as much bandwidth as can be is admitted, those of higher priorities first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRequest {
    /// At least one.
    pub circuits: Vec<CircuitRequest>,
    /// Only say what would become of them.
    pub dry_run: bool,
    /// Move circuits that stand, make before break, where that makes room for those that would be refused.
    pub moves: bool,
    /// A repeated key within 24 hours gives the first answer; with other content it is refused.
    pub idempotency_key: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Highest priority first.
    pub classes: Vec<Class>,
    /// In the order of the request.
    pub outcomes: Vec<Outcome>,
}

/// How well the requests of one priority were placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    pub priority: u8,
    pub wanted: Bandwidth,
    pub placed: Bandwidth,
    /// No placement admits more, given what higher classes took; also none that splits requests.
    pub bound: Bandwidth,
}

impl Class {
    /// Share of the bound that was missed: at most so much better could any placement be.
    pub fn gap(&self) -> f64 {
        let [placed, bound] = [self.placed, self.bound].map(|sum| sum.bits_per_second() as f64);
        if bound > 0.0 { (1.0 - placed / bound).max(0.0) } else { 0.0 }
    }
}

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub name: CircuitName,
    pub source: ResourceId,
    pub destination: ResourceId,
    pub bandwidth: Bandwidth,
    pub priority: u8,
    /// Its number; none: it is not made.
    pub circuit: Option<CircuitId>,
    /// None: it is refused, or waits for `moves`.
    pub path: Option<Path>,
    /// Why it is refused, with the numbers; empty: it is not.
    pub refused: String,
    /// What would be accepted, or the next step; empty when there is none.
    pub hint: String,
    /// Circuits that stand and would have to give way; when it is made, those that are moving now.
    pub moves: Vec<Move>,
}

/// A circuit that gives way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub circuit: CircuitId,
    pub name: CircuitName,
    pub from: Path,
    pub to: Path,
}

impl std::fmt::Display for Move {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}) from {} to {}", self.circuit, self.name, self.from, self.to)
    }
}
