//! Which circuits that stand would have to move for a request that does not fit.
use super::rooms::{Rooms, Way};
use super::{Move, PATHS, Wanted};
use crate::route::{Ask, judge, paths};
use crate::topology::Topology;
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::plan::Weights;
use proto_model::{Bandwidth, CircuitId};
use std::collections::{BTreeMap, BTreeSet};

/// Circuits that move for one request, at most: more is a new plan, not a favour.
const MOST_MOVES: usize = 3;
/// Circuits that are asked whether they could go elsewhere, at most, for each move.
const MOST_ASKED: usize = 50;

/// A circuit that is booked.
#[derive(Clone, Debug)]
pub struct Standing {
    pub circuit: CircuitId,
    pub wanted: Wanted,
    pub path: Path,
}

/// The fewest moves found that make room on one of the request's paths; empty: none.
pub(super) fn seek(
    topology: &Topology,
    weights: &Weights,
    wanted: &Wanted,
    standing: &[Standing],
    rooms: &Rooms,
) -> Vec<Move> {
    let need = wanted.bounds.bandwidth.bits_per_second();
    let stand: Vec<(usize, Way)> = standing
        .iter()
        .enumerate()
        .filter_map(|(at, circuit)| Some((at, rooms.way(topology, circuit.path.clone())?)))
        .collect();
    let mut known = BTreeMap::new();
    let mut others = |at: usize| -> Vec<Way> {
        let ways = || ways(topology, weights, &standing[at].wanted, rooms);
        known.entry(at).or_insert_with(ways).clone()
    };
    let all = ways(topology, weights, wanted, rooms);
    let moves = all.iter().filter_map(|way| make_room(way, need, standing, &stand, rooms, &mut others));
    moves.min_by_key(Vec::len).unwrap_or_default()
}

/// Those that take most of what is short first, each to the first other path with room.
fn make_room(
    way: &Way,
    need: u64,
    standing: &[Standing],
    stand: &[(usize, Way)],
    rooms: &Rooms,
    others: &mut impl FnMut(usize) -> Vec<Way>,
) -> Option<Vec<Move>> {
    let mut rooms = rooms.clone();
    let mut moved: BTreeMap<usize, Move> = BTreeMap::new();
    while !rooms.fits(way, need) {
        if moved.len() == MOST_MOVES {
            return None;
        }
        let short: BTreeSet<u32> = way
            .rows
            .iter()
            .filter(|(row, times)| rooms.free(*row) / u64::from(*times) < need)
            .map(|(row, _)| *row)
            .collect();
        let helps = |(at, old): &&(usize, Way)| {
            !moved.contains_key(at) && old.rows.iter().any(|(row, _)| short.contains(row))
        };
        let mut helpers: Vec<&(usize, Way)> = stand.iter().filter(helps).collect();
        let bandwidth = |at: usize| standing[at].wanted.bounds.bandwidth.bits_per_second();
        let relief = |old: &Way| old.rows.iter().filter(|(row, _)| short.contains(row)).count();
        helpers.sort_by_key(|(at, old)| std::cmp::Reverse((relief(old), bandwidth(*at))));
        let found = helpers.into_iter().take(MOST_ASKED).find_map(|(at, old)| {
            let its = bandwidth(*at);
            rooms.give_back(old, its);
            let clear = |new: &Way| !new.rows.iter().any(|(row, _)| short.contains(row));
            let new = others(*at).into_iter().find(|new| clear(new) && rooms.fits(new, its));
            match &new {
                Some(new) => rooms.take(new, its),
                None => rooms.take(old, its),
            }
            new.map(|new| (*at, new.path))
        });
        let (at, to) = found?;
        let Standing { circuit, path, .. } = &standing[at];
        moved.insert(at, Move { circuit: *circuit, from: path.clone(), to });
    }
    Some(moved.into_values().collect())
}

/// Paths that keep the bounds, whatever is free on them.
fn ways(topology: &Topology, weights: &Weights, wanted: &Wanted, rooms: &Rooms) -> Vec<Way> {
    let (Some(from), Some(to)) = (topology.place(&wanted.from), topology.place(&wanted.to)) else {
        return Vec::new();
    };
    let bounds = Bounds { bandwidth: Bandwidth::ZERO, ..wanted.bounds.clone() };
    let ask = Ask {
        from: &wanted.from,
        to: &wanted.to,
        bounds: &bounds,
        pinned: None,
        shun: &BTreeSet::new(),
        limit: PATHS,
    };
    let query =
        paths::Query { topology, weights, ask: &ask, from, to, pinned: None, strict: true, beside: None };
    let judged = judge(topology, weights, &ask, paths::lowest(&query).trails);
    let fit = judged.into_iter().filter(|judged| judged.broken.is_empty());
    fit.filter_map(|judged| rooms.way(topology, judged.candidate.path)).collect()
}
