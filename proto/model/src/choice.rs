//! How a circuit's path is chosen by cost: whose advice counts, what each path is forecast to cost, and what would change it.
use crate::circuit::Path;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// As it stands now. Costs are those of [`crate::plan::Weights`], as the links' latest forecasts make them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The paths that were weighed when it was looked for paths last: the first is the one that the circuit was placed on, which
    /// experts are compared with.
    pub ways: Vec<Way>,
    /// The path that the circuit has; index into `ways`.
    pub here: usize,
    /// What the expert advises.
    pub wanted: usize,
    /// What is chosen: `wanted`, or `here` if that is not better by the margin.
    pub chosen: usize,
    /// Whose advice is followed; a name in `experts`.
    pub expert: String,
    /// By which forecast ways are compared: `agile`, `steady` or `shrunk`.
    pub by: String,
    /// By how much another way has to cost less: from how wrong the forecasts of this circuit's paths have been.
    pub margin: f64,
    /// What following each expert would have brought so far.
    pub experts: Vec<Expert>,
    /// What would change the choice; none: nothing that a path could cost would.
    pub flip: Option<Flip>,
    /// How long a step is.
    pub step: Duration,
    /// Why the circuit does not move although another way is chosen; empty: it does, or none is.
    #[serde(default)]
    pub held: String,
}

/// A path that could be taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Way {
    pub path: Path,
    /// What it costs beside round-trip time and loss: hops, load, price.
    pub beside: f64,
    /// All of it, by each forecast; none: not known.
    pub agile: Option<f64>,
    pub steady: Option<f64>,
    pub shrunk: Option<f64>,
    /// It keeps all bounds and has room, as of the last look.
    pub usable: bool,
}

/// An expert, and its record with this circuit and with all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expert {
    /// `reference` stays on the first way; the others take what is cheapest by the forecast of their name.
    pub name: String,
    /// What it advises; index into the ways.
    pub advises: usize,
    /// By how much its ways turned out to cost more than the first one, mean per step, older steps counting less; negative: less.
    pub own: f64,
    /// The same over all circuits.
    pub all: f64,
    /// For how many steps its own record counts, and for how many that of all beside it.
    pub evidence: f64,
    pub prior: f64,
    /// Both together, as the distance to the best: the lowest is followed.
    pub score: f64,
}

/// The way that is next to being taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// Index into the ways.
    pub way: usize,
    /// It would be taken below this cost …
    pub below: f64,
    /// … and costs so much.
    pub now: f64,
}
