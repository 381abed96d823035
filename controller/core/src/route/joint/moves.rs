//! Which circuits that stand would have to move for a request that does not fit.
use super::rooms::{Rooms, Way};
use super::work::Work;
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
/// Looks that one answer takes for what would have to move.
const WORK: usize = 100_000_000;
/// Looks that a path of a circuit is worth.
const LOOKS: usize = 8;

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
    /// By place in the list; none: it cannot be asked.
    ways: Vec<Option<Way>>,
    others: BTreeMap<usize, Vec<Way>>,
    /// For all that is sought.
    work: Work,
}

/// Who moves, by place in the list, and where.
type Moved = Vec<(usize, Way)>;

impl<'a> Stand<'a> {
    pub(super) fn new(topology: &Topology, all: &'a [Standing]) -> Self {
        let rooms = Rooms::new(topology);
        let ways = all.iter().map(|circuit| rooms.way(topology, circuit.path.clone())).collect();
        Self { all, ways, others: BTreeMap::new(), work: Work::new(WORK) }
    }

    /// It moves already.
    pub(super) fn forget(&mut self, at: usize) {
        self.ways[at] = None;
    }

    /// The fewest moves found that make room on one of the request's paths, each with its place in the list; empty: none, or
    /// the work is at its end.
    pub(super) fn seek(
        &mut self,
        topology: &Topology,
        weights: &Weights,
        wanted: &Wanted,
        rooms: &Rooms,
    ) -> Vec<(usize, Move)> {
        let need = wanted.bounds.bandwidth.bits_per_second();
        let mut best = Moved::new();
        if self.ways.iter().all(Option::is_none) || wanted.pinned.is_some() || !self.work.search(topology) {
            return Vec::new();
        }
        for way in ways(topology, weights, wanted, rooms) {
            let found = self.make_room(topology, weights, (&way, need), rooms);
            if let Some(moved) = found.filter(|moved| best.is_empty() || moved.len() < best.len()) {
                best = moved;
            }
        }
        best.sort_by_key(|(at, _)| *at);
        let moves = best.into_iter().map(|(at, new)| {
            let Standing { circuit, path, .. } = &self.all[at];
            (at, Move { circuit: *circuit, from: path.clone(), to: new.path })
        });
        moves.collect()
    }

    /// Those that take most of what is short first, each to the first other path with room.
    fn make_room(
        &mut self,
        topology: &Topology,
        weights: &Weights,
        (way, need): (&Way, u64),
        rooms: &Rooms,
    ) -> Option<Moved> {
        // What is left when all have moved, and what is left to move to, until they have.
        let (mut after, mut until) = (rooms.clone(), rooms.clone());
        let mut moved = Moved::new();
        while !after.fits(way, need) {
            if moved.len() == MOST_MOVES || !self.work.spend(rooms.len() + self.ways.len() * LOOKS) {
                return None;
            }
            let lacks = |(row, times): &&(u32, u32)| after.free(*row) / u64::from(*times) < need;
            let short: BTreeSet<u32> = way.rows.iter().filter(lacks).map(|(row, _)| *row).collect();
            let helpers = self.helpers(&short, &moved);
            let (at, new) = helpers.into_iter().take(MOST_ASKED).find_map(|at| {
                let new = self.goes_elsewhere(topology, weights, (at, &short), (&mut after, &mut until))?;
                Some((at, new))
            })?;
            moved.push((at, new));
        }
        Some(moved)
    }

    /// Those whose move makes room, the most of it first.
    fn helpers(&self, short: &BTreeSet<u32>, moved: &Moved) -> Vec<usize> {
        let relief = |old: &Way| old.rows.iter().filter(|(row, _)| short.contains(row)).count();
        let known = |at: usize| moved.iter().any(|(known, _)| *known == at);
        let reliefs = self.ways.iter().enumerate().filter(|(at, _)| !known(*at));
        let reliefs = reliefs.filter_map(|(at, old)| Some((at, relief(old.as_ref()?))));
        let mut helpers: Vec<(usize, usize)> = reliefs.filter(|(_, relief)| *relief > 0).collect();
        helpers.sort_by_key(|(at, relief)| std::cmp::Reverse((*relief, self.bandwidth(*at))));
        helpers.into_iter().map(|(at, _)| at).collect()
    }

    /// Where it finds room apart from what is short, which it then takes; none: nowhere, and nothing has changed.
    fn goes_elsewhere(
        &mut self,
        topology: &Topology,
        weights: &Weights,
        (at, short): (usize, &BTreeSet<u32>),
        (after, until): (&mut Rooms, &mut Rooms),
    ) -> Option<Way> {
        let (its, old) = (self.bandwidth(at), self.ways[at].clone()?);
        self.find_others(at, topology, weights, after)?;
        after.give_back(&old, its);
        until.give_back(&old, its);
        let clear = |new: &Way| !new.rows.iter().any(|(row, _)| short.contains(row));
        let serves = |new: &&Way| clear(new) && after.fits(new, its) && until.fits(new, its);
        let new = self.others.get(&at).into_iter().flatten().find(serves).cloned();
        // It stays where it is until all have moved.
        let Some(new) = new else {
            after.take(&old, its);
            until.take(&old, its);
            return None;
        };
        after.take(&new, its);
        until.take(&old, its);
        until.take(&new, its);
        Some(new)
    }

    fn bandwidth(&self, at: usize) -> u64 {
        self.all[at].wanted.bounds.bandwidth.bits_per_second()
    }

    /// None: the work is at its end.
    fn find_others(
        &mut self,
        at: usize,
        topology: &Topology,
        weights: &Weights,
        rooms: &Rooms,
    ) -> Option<()> {
        if !self.work.spend(PATHS * LOOKS) {
            return None;
        }
        if !self.others.contains_key(&at) {
            if !self.work.search(topology) {
                return None;
            }
            self.others.insert(at, ways(topology, weights, &self.all[at].wanted, rooms));
        }
        Some(())
    }
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
