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

/// Those that may be asked, with what they take and where else they could go.
pub(super) struct Stand<'a> {
    all: &'a [Standing],
    ways: Vec<(usize, Way)>,
    others: BTreeMap<usize, Vec<Way>>,
}

impl<'a> Stand<'a> {
    pub(super) fn new(topology: &Topology, all: &'a [Standing]) -> Self {
        let rooms = Rooms::new(topology);
        let way = |(at, circuit): (usize, &Standing)| Some((at, rooms.way(topology, circuit.path.clone())?));
        Self { all, ways: all.iter().enumerate().filter_map(way).collect(), others: BTreeMap::new() }
    }

    /// It moves already.
    pub(super) fn forget(&mut self, at: usize) {
        self.ways.retain(|(known, _)| *known != at);
    }

    fn bandwidth(&self, at: usize) -> u64 {
        self.all[at].wanted.bounds.bandwidth.bits_per_second()
    }

    fn others(&mut self, at: usize, topology: &Topology, weights: &Weights, rooms: &Rooms) -> &[Way] {
        self.others.entry(at).or_insert_with(|| ways(topology, weights, &self.all[at].wanted, rooms))
    }
}

/// The fewest moves found that make room on one of the request's paths, each with its place in the list; empty: none.
pub(super) fn seek(
    topology: &Topology,
    weights: &Weights,
    wanted: &Wanted,
    stand: &mut Stand<'_>,
    rooms: &Rooms,
) -> Vec<(usize, Move)> {
    let need = wanted.bounds.bandwidth.bits_per_second();
    let mut best: Vec<(usize, Move)> = Vec::new();
    if stand.ways.is_empty() || wanted.pinned.is_some() {
        return best;
    }
    for way in ways(topology, weights, wanted, rooms) {
        let found = make_room(topology, weights, (&way, need), stand, rooms);
        if let Some(moves) = found.filter(|moves| best.is_empty() || moves.len() < best.len()) {
            best = moves;
        }
    }
    best
}

/// Those that take most of what is short first, each to the first other path with room.
fn make_room(
    topology: &Topology,
    weights: &Weights,
    (way, need): (&Way, u64),
    stand: &mut Stand<'_>,
    rooms: &Rooms,
) -> Option<Vec<(usize, Move)>> {
    // What is left when all have moved, and what is left to move to, until they have.
    let (mut after, mut until) = (rooms.clone(), rooms.clone());
    let mut moved: Vec<(usize, Move)> = Vec::new();
    while !after.fits(way, need) {
        if moved.len() == MOST_MOVES {
            return None;
        }
        let lacks = |(row, times): &&(u32, u32)| after.free(*row) / u64::from(*times) < need;
        let short: BTreeSet<u32> = way.rows.iter().filter(lacks).map(|(row, _)| *row).collect();
        let relief = |old: &Way| old.rows.iter().filter(|(row, _)| short.contains(row)).count();
        let helps = |(at, old): &&(usize, Way)| moved.iter().all(|(known, _)| known != at) && relief(old) > 0;
        let mut helpers: Vec<(usize, Way)> = stand.ways.iter().filter(helps).cloned().collect();
        helpers.sort_by_key(|(at, old)| std::cmp::Reverse((relief(old), stand.bandwidth(*at))));
        let (at, old, new) = helpers.into_iter().take(MOST_ASKED).find_map(|(at, old)| {
            let its = stand.bandwidth(at);
            let (mut freed, mut free) = (after.clone(), until.clone());
            freed.give_back(&old, its);
            free.give_back(&old, its);
            let clear = |new: &Way| !new.rows.iter().any(|(row, _)| short.contains(row));
            let serves = |new: &&Way| clear(new) && freed.fits(new, its) && free.fits(new, its);
            let new = stand.others(at, topology, weights, rooms).iter().find(serves).cloned()?;
            Some((at, old, new))
        })?;
        let its = stand.bandwidth(at);
        after.give_back(&old, its);
        after.take(&new, its);
        until.take(&new, its);
        let Standing { circuit, path, .. } = &stand.all[at];
        moved.push((at, Move { circuit: *circuit, from: path.clone(), to: new.path }));
    }
    moved.sort_by_key(|(at, _)| *at);
    Some(moved)
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
