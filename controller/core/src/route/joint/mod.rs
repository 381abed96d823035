//! Places several circuits together, so that as much bandwidth as can be is admitted where not all of it fits.
//!
//! Strict classes of priority: what a higher class takes, a lower one does not get. All or nothing per request. Within a
//! class the best split of the requests over paths and the prices of what is scarce come from the linear relaxation (see
//! [`prices`]), which also bounds from above what any placement could admit. A placement is made of the split (see [`dive`]), and
//! others greedily by the prices; the best one is changed as long as that admits more, or until the work is at its end.
mod cuts;
mod dive;
mod improve;
mod moves;
mod prices;
mod rooms;
mod simplex;
mod split;
mod timed;
mod work;

use super::{Ask, decide, paths};
use crate::topology::Topology;
use improve::Board;
use moves::Stand;
use prices::Prices;
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::plan::Weights;
pub use proto_model::together::Class;
use proto_model::{Bandwidth, CircuitId, NodeName};
use rooms::{Rooms, Way};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use work::Work;

pub use moves::Standing;
pub use timed::{Timed, place_all, seek_moves};

/// Paths of a request at the beginning; the prices may bring others.
const PATHS: usize = 8;
/// Looks at links and numbers that one answer takes, beside the first paths of each request.
const WORK: usize = 200_000_000;
/// Paths of a request at most.
const MOST_PATHS: usize = 24;

/// A circuit that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub from: NodeName,
    pub to: NodeName,
    pub bounds: Bounds,
    /// 0 (least) to 255.
    pub priority: u8,
    /// The only hosts to cross, in order.
    pub pinned: Option<Vec<NodeName>>,
}

/// What becomes of the requests; each index is that of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    pub placed: BTreeMap<usize, Path>,
    pub refused: BTreeMap<usize, Refused>,
    /// Highest priority first.
    pub classes: Vec<Class>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refused {
    pub why: String,
    /// Circuits that stand and would have to give way; empty: none would help, or none was found with the work allowed.
    pub moves: Vec<Move>,
}

/// It would need this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    pub circuit: CircuitId,
    pub from: Path,
    pub to: Path,
}

impl std::fmt::Display for Move {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "needs moving circuit {} from {} to {}", self.circuit, self.from, self.to)
    }
}

/// Decides for all of them; `standing` are the circuits that are booked in the topology and may be asked to move.
pub fn place(topology: &Topology, weights: &Weights, wanted: &[Wanted], standing: &[Standing]) -> Answer {
    let (mut answer, rooms) = place_classes(topology, weights, wanted, &mut Work::new(WORK));
    let mut stand = Stand::new(topology, standing);
    for (index, refused) in &mut answer.refused {
        let found = stand.seek(topology, weights, &wanted[*index], &rooms);
        refused.moves = found.into_iter().map(|(_, moved)| moved).collect();
    }
    answer
}

/// Without a word about those that stand; with what is left. Each class has its share of the work, and what the higher ones
/// did not need.
fn place_classes(
    topology: &Topology,
    weights: &Weights,
    wanted: &[Wanted],
    work: &mut Work,
) -> (Answer, Rooms) {
    let mut answer = Answer::default();
    let mut rooms = Rooms::new(topology);
    let mut classes: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (index, request) in wanted.iter().enumerate() {
        classes.entry(request.priority).or_default().push(index);
    }
    let mut left = wanted.len();
    for (priority, class) in classes.into_iter().rev() {
        let count = class.len();
        let mut part = work.part(count, left);
        place_class(topology, weights, wanted, (priority, class), (&mut rooms, &mut answer), &mut part);
        work.join(part);
        left -= count;
    }
    (answer, rooms)
}

fn place_class(
    topology: &Topology,
    weights: &Weights,
    wanted: &[Wanted],
    (priority, class): (u8, Vec<usize>),
    (rooms, answer): (&mut Rooms, &mut Answer),
    work: &mut Work,
) {
    let mut board = Board::new(rooms.clone());
    let all = sum(&class.iter().map(|index| &wanted[*index]).collect::<Vec<_>>());
    let mut indices = Vec::new();
    for index in class {
        match ways(topology, weights, &wanted[index], rooms) {
            Ok(ways) => {
                board.add(wanted[index].bounds.bandwidth.bits_per_second(), ways);
                indices.push(index);
            }
            Err(why) => {
                answer.refused.insert(index, Refused { why, moves: Vec::new() });
            }
        }
    }
    let requests: Vec<&Wanted> = indices.iter().map(|index| &wanted[*index]).collect();
    let (prices, split) = Prices::seek(topology, weights, &requests, &mut board, work);
    dive::dive(&mut board, split, work);
    board.climb(&prices, work);
    board.improve(&prices, work);
    board.shake(&prices, work);
    for (at, index) in indices.iter().enumerate() {
        match board.chosen(at) {
            Some(way) => {
                answer.placed.insert(*index, way.path.clone());
            }
            None => {
                let why = crowded(&wanted[*index], &board, at);
                answer.refused.insert(*index, Refused { why, moves: Vec::new() });
            }
        }
    }
    let placed = Bandwidth::from_bits_per_second(board.placed());
    let most = Bandwidth::from_bits_per_second(prices.bound().ceil() as u64);
    // Of those that fit somewhere alone.
    let bound = most.min(sum(&requests)).max(placed);
    answer.classes.push(Class { priority, wanted: all, placed, bound });
    *rooms = board.into_rooms();
}

fn sum(requests: &[&Wanted]) -> Bandwidth {
    requests.iter().fold(Bandwidth::ZERO, |sum, one| sum.saturating_add(one.bounds.bandwidth))
}

/// Paths on which the request alone fits in what is left, the cheapest first.
fn ways(topology: &Topology, weights: &Weights, wanted: &Wanted, rooms: &Rooms) -> Result<Vec<Way>, String> {
    let ask = Ask {
        from: &wanted.from,
        to: &wanted.to,
        bounds: &wanted.bounds,
        pinned: wanted.pinned.as_deref(),
        shun: &BTreeSet::new(),
        limit: PATHS,
    };
    let weights = &weights.with(&wanted.bounds.weights);
    let decision = decide(topology, weights, &ask);
    if decision.chosen().is_none() {
        return Err(decision.why_refused(&ask));
    }
    let fit = decision.judged.into_iter().filter(|judged| judged.broken.is_empty());
    let mut ways: Vec<Way> = fit.filter_map(|judged| rooms.way(topology, judged.candidate.path)).collect();
    if wanted.pinned.is_none() && (decision.cut_off || ways.len() < PATHS) {
        more_ways(topology, weights, &ask, rooms, &mut ways);
    }
    let need = wanted.bounds.bandwidth.bits_per_second();
    ways.retain(|way| rooms.fits(way, need));
    if ways.is_empty() {
        return Err(format!(
            "from {} to {}: requests of a higher priority leave less than {} on each path",
            wanted.from, wanted.to, wanted.bounds.bandwidth
        ));
    }
    Ok(ways)
}

/// The first list also has paths that break a bound; this one has none.
fn more_ways(topology: &Topology, weights: &Weights, ask: &Ask<'_>, rooms: &Rooms, ways: &mut Vec<Way>) {
    let (Some(from), Some(to)) = (topology.place(ask.from), topology.place(ask.to)) else { return };
    if from == to {
        return;
    }
    let query = paths::Query { topology, weights, ask, from, to, pinned: None, strict: true, beside: None };
    for judged in super::judge(topology, weights, ask, paths::lowest(&query).trails) {
        let known = ways.iter().any(|way| way.path == judged.candidate.path);
        if judged.broken.is_empty() && !known {
            ways.extend(rooms.way(topology, judged.candidate.path));
        }
    }
}

fn crowded(wanted: &Wanted, board: &Board, at: usize) -> String {
    let need = wanted.bounds.bandwidth;
    let nearest = board.nearest(at);
    let what =
        nearest.map(|(path, free)| format!("; nearest is {path} with {free} left")).unwrap_or_default();
    format!("{need} from {} to {} do not fit beside the others{what}", wanted.from, wanted.to)
}

#[cfg(test)]
mod tests;
