//! The links that a search may use, in rows, and bounds from below of what is left from each host.
use super::cost;
use super::paths::{Query, has_room};
use super::tour::{Table, Vias};
use crate::topology::{PortAt, Road};
use petgraph::stable_graph::{EdgeIndex, NodeIndex};
use petgraph::visit::NodeIndexable;
use proto_model::{Bandwidth, NodeName};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// What adds up over the links of a path, each as the place of its weight in a [`Step`].
pub(super) const RTT: usize = 0;
pub(super) const LOST: usize = 1;
pub(super) const PRICE: usize = 2;
pub(super) const COST: usize = 3;

/// From a host over a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) to: u32,
    pub(super) edge: u32,
    /// Rounded down: milliseconds, −ln(1 − loss), micro-dollars per gigabyte, least cost.
    pub(super) weights: [f32; 4],
}

impl Step {
    pub(super) fn weight(&self, what: usize) -> f64 {
        f64::from(self.weights[what])
    }

    pub(super) fn link(&self) -> EdgeIndex {
        EdgeIndex::new(self.edge as usize)
    }
}

#[derive(Debug)]
pub(super) struct Field {
    /// Of host i: `steps[first[i]..first[i + 1]]`.
    first: Vec<u32>,
    steps: Vec<Step>,
}

/// A link that may be used: its ends, its number, its weights.
type Passable = ([u32; 2], u32, [f32; 4]);

thread_local! {
    /// The room of the last search, for the next one. Two hundred hosts that all see each other need 1.5 MB, which allocators give
    /// back to the kernel after each search; to have these pages made again takes twice as long as the search itself.
    static ROOM: Cell<(Vec<Passable>, Vec<Step>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

impl Drop for Field {
    fn drop(&mut self) {
        let (passable, steps) = ROOM.take();
        let mine = std::mem::take(&mut self.steps);
        ROOM.set((passable, if mine.capacity() > steps.capacity() { mine } else { steps }));
    }
}

impl Field {
    pub(super) fn new(query: &Query<'_>, max_hops: u8) -> Self {
        let gate = Gate::new(query);
        let by_loss = cost::least_by_loss(query.weights, max_hops);
        let mut first = vec![0; query.topology.graph().node_bound() + 2];
        let (mut open, mut steps) = ROOM.take();
        open.clear();
        for (edge, road) in query.topology.roads().iter().filter(|(edge, road)| gate.lets(*edge, road)) {
            let weights = [road.rtt, road.lost, road.price, cost::least_of(road, query.weights, by_loss)];
            open.push((road.ends, edge.index() as u32, weights));
            road.ends.iter().for_each(|end| first[*end as usize + 2] += 1);
        }
        for at in 2..first.len() {
            first[at] += first[at - 1];
        }
        // Each place is written: there are as many as ends.
        steps.resize(open.len() * 2, Step { to: 0, edge: 0, weights: [0.0; 4] });
        for ([a, b], edge, weights) in &open {
            for (from, to) in [(*a, *b), (*b, *a)] {
                let place = &mut first[from as usize + 1];
                steps[*place as usize] = Step { to, edge: *edge, weights: *weights };
                *place += 1;
            }
        }
        ROOM.set((open, Vec::new()));
        first.pop();
        Self { first, steps }
    }

    pub(super) fn hosts(&self) -> usize {
        self.first.len() - 1
    }

    pub(super) fn steps(&self, from: u32) -> &[Step] {
        let at = from as usize;
        &self.steps[self.first[at] as usize..self.first[at + 1] as usize]
    }

    /// Least sum of a link's weight from each host to `goal` (Dijkstra); infinite where there is no way, or none up to
    /// `most`.
    pub(super) fn least(&self, goal: u32, most: f64, weight: impl Fn(&Step) -> f64) -> Vec<f64> {
        let mut least = vec![f64::INFINITY; self.hosts()];
        let mut queue = BinaryHeap::from([Reverse((0, goal))]);
        least[goal as usize] = 0.0;
        while let Some(Reverse((bits, at))) = queue.pop() {
            let so_far = f64::from_bits(bits);
            if so_far > least[at as usize] {
                continue;
            }
            for step in self.steps(at) {
                let sum = so_far + weight(step);
                if sum < least[step.to as usize] && sum <= most {
                    least[step.to as usize] = sum;
                    // Numbers from zero on are ordered as their bits are.
                    queue.push(Reverse((sum.to_bits(), step.to)));
                }
            }
        }
        least
    }

    /// The same for the number of links (breadth first).
    pub(super) fn hops(&self, goal: u32) -> Vec<f64> {
        let mut hops = vec![f64::INFINITY; self.hosts()];
        hops[goal as usize] = 0.0;
        let mut reached = vec![goal];
        let mut next = 0;
        while let Some(at) = reached.get(next).copied().filter(|_| reached.len() < self.hosts()) {
            next += 1;
            for step in self.steps(at) {
                if hops[step.to as usize].is_infinite() {
                    hops[step.to as usize] = hops[at as usize] + 1.0;
                    reached.push(step.to);
                }
            }
        }
        hops
    }

    pub(super) fn len(&self) -> usize {
        self.steps.len()
    }

    /// A way that `least` stands for. One of no weight at all may lead back to where it was: then it ends there.
    pub(super) fn way(&self, from: u32, least: &[f64], weight: impl Fn(&Step) -> f64) -> Vec<Step> {
        let (mut at, mut way) = (from, Vec::new());
        while least[at as usize] > 0.0 && way.len() < self.hosts() {
            let left = |step: &&Step| weight(step) + least[step.to as usize];
            let Some(step) = self.steps(at).iter().min_by(|a, b| left(a).total_cmp(&left(b))) else { break };
            way.push(*step);
            at = step.to;
        }
        way
    }
}

/// Least of one quantity from each host to the goal, over hosts that are still to be crossed.
#[derive(Debug)]
pub(super) struct Left {
    goal: Vec<f64>,
    tour: Option<Table>,
}

impl Left {
    pub(super) fn new(vias: &Vias, goal: u32, tree: impl Fn(u32) -> Vec<f64>) -> Self {
        let tour = (!vias.is_empty()).then(|| Table::new(vias, goal, &tree));
        Self { goal: tree(goal), tour }
    }

    pub(super) fn from(&self, at: u32, crossed: u32) -> f64 {
        let direct = self.goal[at as usize];
        self.tour.as_ref().map_or(direct, |tour| direct.max(tour.left(at, crossed)))
    }

    pub(super) fn goal(&self) -> &[f64] {
        &self.goal
    }
}

/// Whether a link may be used, looked at alone.
struct Gate<'a> {
    query: &'a Query<'a>,
    /// Hosts to keep away from.
    shut: Vec<bool>,
    /// By number of a set of tags.
    tags: Vec<bool>,
    /// Links of the path that a backup is sought for.
    own: BTreeSet<EdgeIndex>,
    most: [f32; 3],
}

impl<'a> Gate<'a> {
    fn new(query: &'a Query<'a>) -> Self {
        let bounds = query.ask.bounds;
        let topology = query.topology;
        let mut shut = vec![false; topology.graph().node_bound()];
        let of_path =
            query.beside.filter(|beside| beside.hosts).map(|beside| super::paths::inner(beside.path));
        let away = bounds.avoid.iter().chain(query.ask.shun).chain(of_path.into_iter().flatten());
        for node in away.filter_map(|name: &NodeName| topology.place(name)) {
            shut[node.index()] = query.strict;
        }
        let sets = topology.roads().tag_sets();
        let tags =
            sets.map(|tags| bounds.require_tags.is_subset(tags) && bounds.avoid_tags.is_disjoint(tags));
        let own = query.beside.iter().flat_map(|beside| &beside.path.links);
        let own = own.filter_map(|link| topology.edge(link)).collect();
        // Up: what is rounded to a link's disadvantage is judged exactly later.
        let most = most(query).map(|most| (most as f32).next_up());
        Self { query, shut, tags: tags.collect(), own, most }
    }

    fn lets(&self, edge: EdgeIndex, road: &Road) -> bool {
        road.usable && (!self.query.strict || self.keeps(edge, road))
    }

    fn keeps(&self, edge: EdgeIndex, road: &Road) -> bool {
        let bounds = self.query.ask.bounds;
        let [rtt, lost, price] = self.most;
        // An unknown round-trip time is not a number, and no such is within a bound.
        let timely = bounds.max_rtt.is_none() || road.rtt <= rtt;
        timely
            && road.lost <= lost
            && road.price <= price
            && self.tags[road.tags as usize]
            && (!bounds.encrypted_links || road.encrypted)
            && (bounds.encrypted || !road.require_encryption)
            && !road.ends.iter().any(|end| self.shut[*end as usize])
            && self.has_room(edge, road)
            && !self.own.contains(&edge)
    }

    fn has_room(&self, edge: EdgeIndex, road: &Road) -> bool {
        let asked = self.query.ask.bounds.bandwidth;
        let roads = self.query.topology.roads();
        let has = |port: &Option<PortAt>| port.is_none_or(|port| roads.free_of(port) >= asked);
        let enough = road.free.is_some_and(|free| free >= asked) && road.ports.iter().all(has);
        // A backup may need less than is asked; the books say how much.
        let less = || self.query.beside.is_some() && has_room(self.query, &self.query.topology.graph()[edge]);
        asked == Bandwidth::ZERO || enough || less()
    }
}

/// The bounds of round-trip time in milliseconds, −ln(1 − loss) and price; infinite where there is none.
pub(super) fn most(query: &Query<'_>) -> [f64; 3] {
    let bounds = query.ask.bounds;
    let of = |bound: Option<f64>| bound.filter(|_| query.strict).unwrap_or(f64::INFINITY);
    [
        of(bounds.max_rtt.map(|max| max.as_millis_f64())),
        // A bound in whole millionths.
        of(bounds.max_loss.map(|max| crate::topology::lost(max) + 1e-9)),
        of(bounds.max_price.map(|max| max.micro_dollars_per_gb() as f64)),
    ]
}

pub(super) fn row(node: NodeIndex) -> u32 {
    node.index() as u32
}
