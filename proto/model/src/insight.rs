//! What a decision leaves open: what would change it, what its paths are expected to be, what was decided before.
use crate::circuit::Path;
use crate::request::CircuitRef;
use crate::topology::{Forecast, LinkId, Quantity};
use crate::{Latency, Loss, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a value comes from that decisions go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Configured,
    Measured,
    Forecast,
    /// Neither: it is not known.
    Unknown,
}

/// Made when a plan is asked for, of a decision and of the present; never part of the record of a decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Insight {
    /// When it was asked for: forecasts are of then.
    pub at: Timestamp,
    /// At most one per candidate.
    pub flips: Vec<Flip>,
    /// What is expected of the candidates of which something is measured.
    pub paths: Vec<PathOutlook>,
    /// Each link of the candidates once.
    pub links: Vec<LinkOutlook>,
    /// The last decisions about the circuit, the oldest first; empty for a dry run.
    pub past: Vec<Past>,
}

/// What would change the decision about a candidate, with the other numbers as they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flip {
    /// Index into the plan's candidates.
    pub candidate: usize,
    /// Above the cost of the chosen one; of the chosen one: below that of the next. Below 0: a bound keeps it out, not its cost.
    pub dearer: f64,
    /// Bounds that it breaks: all of these together would let it serve.
    pub all: Vec<Change>,
    /// Terms of its cost: one of these alone would make it the cheapest, or, of the chosen one, make another so.
    pub any: Vec<Change>,
    /// The same for people.
    pub sentence: String,
}

/// A quantity and what it would have to be; texts with units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `rtt`, `loss`, `price`, `load`, `hop` or `free`.
    pub what: String,
    pub now: String,
    /// With its direction: `below 12.3 ms`, `60 Mbit/s or more`.
    pub needed: String,
}

/// What is expected of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathOutlook {
    /// Index into the plan's candidates.
    pub candidate: usize,
    /// By quantity, then horizon. The model is that of the link that adds most to the width of the band.
    pub forecasts: Vec<Forecast>,
}

/// What decisions know of a link, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOutlook {
    pub link: LinkId,
    /// As decisions go by it; none: it is not known.
    pub rtt: Option<Latency>,
    pub rtt_from: Origin,
    pub loss: Loss,
    pub loss_from: Origin,
    /// By quantity, then horizon.
    pub forecasts: Vec<Forecast>,
}

/// What was decided, or happened to a circuit's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// It was put on this path: made, or placed anew.
    Placed,
    /// It left a path that works for a better one.
    Moved,
    /// A move was begun and not carried out.
    GivenUp,
    /// The backup became the path, because the path had failed or lost a host or link.
    Promoted,
    /// An end turned to the backup by itself.
    Switched,
    /// An end came back from the backup.
    Returned,
    /// It was taken off its path.
    Suspended,
}

/// One entry of a circuit's past, as long as the controller lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub at: Timestamp,
    pub what: Happened,
    /// None: it was on no path.
    pub from: Option<Path>,
    /// None: it is on no path.
    pub to: Option<Path>,
    /// With the numbers, as a sentence.
    pub why: String,
    /// What was expected then of the path that it was on, and of the other one, as far ahead as decisions look.
    pub of_from: Vec<Forecast>,
    pub of_to: Vec<Forecast>,
}

/// What a series is asked of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// The circuit as it ran, its path, its backup, and the other paths of its decision; of the load, what is sent each way.
    Circuit(CircuitRef),
    Link(LinkId),
    /// 1 to 8, each of links that join its hosts.
    Paths(Vec<Path>),
}

/// Part played by a line of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The circuit runs there.
    Path,
    Backup,
    /// It was a candidate of the decision, or a path that was asked for.
    Candidate,
    /// A link that was asked for.
    Link,
    /// The circuit itself as it ran, on whichever path; the line's path is the last of them.
    Circuit,
    /// What is sent from its source to its destination.
    Forth,
    /// And back.
    Back,
    /// Both together, within one host.
    Both,
}

/// What was measured in one step; of a path the sums over its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// When the step began.
    pub at: Timestamp,
    pub least: u64,
    pub mean: u64,
    pub most: u64,
}

/// A path or a link over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub role: Role,
    pub path: Path,
    /// Where its values come from; more than one kind: the least known of them.
    pub from: Origin,
    /// Ascending in time; a step in which a link of it was not measured is missing.
    pub points: Vec<Point>,
    /// Ascending in horizon.
    pub forecasts: Vec<Forecast>,
}

/// Past and future of one quantity, in its unit (see [`Quantity`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    pub quantity: Quantity,
    /// When it was asked for: forecasts begin then.
    pub at: Timestamp,
    /// Between two points.
    pub step: Duration,
    /// What the circuit must keep, or what is reserved for it each way; of a link's load its capacity. None: there is no such.
    pub bound: Option<u64>,
    pub lines: Vec<Line>,
}
