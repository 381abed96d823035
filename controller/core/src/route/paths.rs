//! Enumerates the loop-free paths between two hosts, lowest cost first.
//!
//! Best first over partial paths. The cost so far never shrinks when a link is added, and what is still to come is
//! bounded from below by a shortest-path tree towards the goal (A*, with the bound of Hart, Nilsson, Raphael 1968); so
//! complete paths leave the queue in the order of their cost, and only partial paths that could be among the first
//! ones are ever looked at. A partial path goes on by one step at a time, the one first that is on the cheapest way from
//! there; so in a dense network most steps are never looked at, either.
use super::cost::Sum;
use super::field::{COST, Field, LOST, Left, PRICE, RTT, Step, most, row};
use super::strain::Strain;
use super::tour::Vias;
use super::{Ask, DEFAULT_HOPS, hops_searched};
use crate::topology::{Family, Link, Need, Spot, Topology};
use petgraph::stable_graph::{EdgeIndex, NodeIndex};
use proto_model::circuit::Path;
use proto_model::plan::Weights;
use proto_model::{Bandwidth, Name, NodeName};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// Partial paths of one search at most; a search that ends here is not complete.
pub const MAX_PARTIAL: usize = 100_000;

#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub topology: &'a Topology,
    pub weights: &'a Weights,
    pub ask: &'a Ask<'a>,
    pub from: NodeIndex,
    pub to: NodeIndex,
    pub pinned: Option<&'a [NodeIndex]>,
    /// Keep to the bounds; else any usable link.
    pub strict: bool,
    /// The path that a backup is sought for, and what of it to keep away from.
    pub beside: Option<Beside<'a>>,
}

/// How far a backup keeps away from its path.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    pub path: &'a Path,
    /// Also from its transit hosts; else only from its links.
    pub hosts: bool,
    /// What a link has to have free for it.
    pub need: Need,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trail {
    pub nodes: Vec<NodeIndex>,
    pub edges: Vec<EdgeIndex>,
}

impl Trail {
    /// None: it crosses a host twice.
    pub(super) fn of(from: u32, steps: &[Step]) -> Option<Self> {
        let hosts = std::iter::once(from).chain(steps.iter().map(|step| step.to));
        let nodes: Vec<_> = hosts.map(|host| NodeIndex::new(host as usize)).collect();
        let distinct: BTreeSet<_> = nodes.iter().collect();
        let edges = steps.iter().map(Step::link).collect();
        (distinct.len() == nodes.len()).then_some(Self { nodes, edges })
    }
}

#[derive(Clone, Debug)]
pub struct Found {
    pub trails: Vec<Trail>,
    pub end: End,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There are no more paths.
    Complete,
    /// As many were found as were asked for.
    Enough,
    /// [`MAX_PARTIAL`] was reached.
    CutOff,
}

/// A partial path, and the step by which it came about.
struct Partial {
    before: Option<(u32, EdgeIndex)>,
    at: u32,
    hops: u8,
    v4: bool,
    v6: bool,
    /// Bit i: the i-th host to cross has been crossed.
    via: u32,
    sum: Sum,
    /// Round-trip time, loss and price as a [`Step`] has them.
    low: [f64; 3],
    /// Where it goes on: place in [`Search::fans`].
    fan: u32,
}

/// Entry of the queue; greater comes first.
struct Open {
    estimate: f64,
    hops: u8,
    partial: u32,
    /// Not the partial path itself, but how it goes on by this step of its fan and the dearer ones.
    step: Option<u32>,
}

impl Ord for Open {
    /// Lowest estimate; then the longer one, which is nearer to the goal; then the older one.
    fn cmp(&self, other: &Self) -> Ordering {
        let estimate = other.estimate.total_cmp(&self.estimate);
        let hops = self.hops.cmp(&other.hops);
        estimate.then(hops).then((other.partial, other.step).cmp(&(self.partial, self.step)))
    }
}
impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Open {}

/// Up to `ask.limit` paths in the order of their cost.
pub fn lowest(query: &Query<'_>) -> Found {
    Search::new(query).collect()
}

struct Search<'a> {
    query: &'a Query<'a>,
    max_hops: u8,
    goal: u32,
    field: Field,
    vias: Vias,
    cost_left: Left,
    hops_left: Left,
    /// The bounds of round-trip time, loss and price, and bounds from below of what is left of each.
    most: [f64; 3],
    left: [Option<Left>; 3],
    strain: Option<Strain>,
    partials: Vec<Partial>,
    queue: BinaryHeap<Open>,
    /// Steps in the order of the least cost that a path over them has from there, by host and hosts crossed.
    fans: Vec<Vec<(f64, Step)>>,
    fan_at: BTreeMap<(u32, u32), u32>,
    looked_at: usize,
}

impl<'a> Search<'a> {
    fn new(query: &'a Query<'a>) -> Self {
        let bounds = query.ask.bounds;
        let max_hops =
            if query.strict { bounds.max_hops.unwrap_or(DEFAULT_HOPS) } else { hops_searched(bounds) };
        let (field, vias) = (Field::new(query, max_hops), Vias::new(query));
        let (goal, most) = (row(query.to), most(query));
        let tree = |what: usize, most| {
            Left::new(&vias, goal, |goal| field.least(goal, most, |step: &Step| step.weight(what)))
        };
        let left = [RTT, LOST, PRICE].map(|what| most[what].is_finite().then(|| tree(what, most[what])));
        Self {
            query,
            max_hops,
            goal,
            cost_left: tree(COST, f64::INFINITY),
            hops_left: Left::new(&vias, goal, |goal| field.hops(goal)),
            left,
            strain: Strain::new(&field, &vias, [row(query.from), goal], most),
            most,
            field,
            vias,
            partials: Vec::new(),
            queue: BinaryHeap::new(),
            fans: Vec::new(),
            fan_at: BTreeMap::new(),
            looked_at: 0,
        }
    }

    fn collect(&mut self) -> Found {
        let from = row(self.query.from);
        let begin = Partial {
            before: None,
            at: from,
            hops: 0,
            v4: true,
            v6: true,
            via: self.vias.bit(from),
            sum: Sum::default(),
            low: [0.0; 3],
            fan: 0,
        };
        if self.can_arrive(&begin.low, from, begin.via, 0) {
            self.offer(begin);
        }
        let mut trails = Vec::new();
        while let Some(open) = self.queue.pop() {
            if let Some(step) = open.step {
                self.go_on(open.partial, step);
            } else if self.partials[open.partial as usize].at == self.goal {
                trails.push(self.trail(open.partial));
                if trails.len() == self.query.ask.limit {
                    let end = if self.queue.is_empty() { End::Complete } else { End::Enough };
                    return Found { trails, end };
                }
            } else {
                self.spread(open.partial);
            }
            if self.looked_at >= MAX_PARTIAL {
                return Found { trails, end: End::CutOff };
            }
        }
        Found { trails, end: End::Complete }
    }

    /// From a partial path onwards, the cheapest step first.
    fn spread(&mut self, partial: u32) {
        let Partial { at, via, .. } = self.partials[partial as usize];
        let fan = match self.fan_at.get(&(at, via)) {
            Some(fan) => *fan,
            None => {
                let fan = self.fan(at, via);
                self.fans.push(fan);
                let place = self.fans.len() as u32 - 1;
                self.fan_at.insert((at, via), place);
                place
            }
        };
        self.partials[partial as usize].fan = fan;
        self.queue_step(partial, 0);
    }

    fn fan(&self, at: u32, via: u32) -> Vec<(f64, Step)> {
        let steps = self.field.steps(at).iter();
        let left = |step: &Step| self.cost_left.from(step.to, via | self.vias.bit(step.to));
        let mut fan: Vec<_> = steps.map(|step| (step.weight(COST) + left(step), *step)).collect();
        fan.retain(|(left, _)| left.is_finite());
        fan.sort_unstable_by(|(a, x), (b, y)| a.total_cmp(b).then(x.edge.cmp(&y.edge)));
        fan
    }

    fn queue_step(&mut self, partial: u32, step: u32) {
        let before = &self.partials[partial as usize];
        let Some((left, _)) = self.fans[before.fan as usize].get(step as usize) else { return };
        let estimate = self.estimate(&before.sum, *left);
        self.queue.push(Open { estimate, hops: before.hops, partial, step: Some(step) });
    }

    /// At least so much is the cost of a path that begins so, when so much is left: of what it adds to the loss, only that
    /// which arrives there.
    fn estimate(&self, sum: &Sum, left: f64) -> f64 {
        let arrives = 1.0 - f64::from(sum.loss().ppm()) / 1e6;
        sum.cost(self.query.weights) + arrives * left
    }

    /// By this step of its fan, and later by the next one.
    fn go_on(&mut self, from: u32, step: u32) {
        self.looked_at += 1;
        self.queue_step(from, step + 1);
        let before = &self.partials[from as usize];
        let (_, step) = self.fans[before.fan as usize][step as usize];
        let via = before.via | self.vias.bit(step.to);
        let mut low = before.low;
        (0..3).for_each(|what| low[what] += step.weight(what));
        let may = self.is_pinned(before.hops, step.to)
            && self.can_arrive(&low, step.to, via, before.hops + 1)
            && !self.crosses(from, step.to)
            && self.may_turn(from, step.edge);
        if may {
            let edge = EdgeIndex::new(step.edge as usize);
            let link = &self.query.topology.graph()[edge];
            let grown = Partial {
                before: Some((from, edge)),
                at: step.to,
                hops: before.hops + 1,
                v4: before.v4 && link.has(Family::V4),
                v6: before.v6 && link.has(Family::V6),
                via,
                sum: before.sum.and(link, self.query.ask.bounds.bandwidth, self.query.topology.now()),
                low,
                fan: 0,
            };
            if !self.query.strict || self.is_fit(&grown) {
                self.offer(grown);
            }
        }
    }

    fn is_pinned(&self, hops: u8, next: u32) -> bool {
        let host =
            |pinned: &[NodeIndex]| pinned.get(usize::from(hops) + 1).map(|host| row(*host)) == Some(next);
        self.query.pinned.is_none_or(host)
    }

    /// Whether so much so far, and what is still to come at least, are within the bounds.
    fn can_arrive(&self, low: &[f64; 3], at: u32, via: u32, hops: u8) -> bool {
        let within = |what: usize| {
            let left = self.left[what].as_ref().map_or(0.0, |left| left.from(at, via));
            self.left[what].is_none() || low[what] + left <= self.most[what] * (1.0 + 1e-9)
        };
        f64::from(hops) + self.hops_left.from(at, via) <= f64::from(self.max_hops)
            && (0..3).all(within)
            && self.strain.as_ref().is_none_or(|strain| strain.can_keep(low, at, via))
    }

    fn crosses(&self, mut partial: u32, host: u32) -> bool {
        loop {
            let Partial { at, before, .. } = &self.partials[partial as usize];
            match before {
                _ if *at == host => return true,
                Some((before, _)) => partial = *before,
                None => return false,
            }
        }
    }

    /// Out of the interface by which it comes, it takes twice as much of it.
    fn may_turn(&self, from: u32, edge: u32) -> bool {
        let asked = self.query.ask.bounds.bandwidth;
        let Partial { before, at, .. } = &self.partials[from as usize];
        let turns = self.query.strict && !asked.is_zero();
        let Some((_, before)) = before.filter(|_| turns) else { return true };
        let roads = self.query.topology.roads();
        let port = |edge: EdgeIndex| {
            let road = roads.get(edge)?;
            road.ports[usize::from(road.ends[0] != *at)]
        };
        let Some(port) = port(before).filter(|out| port(EdgeIndex::new(edge as usize)) == Some(*out)) else {
            return true;
        };
        let graph = self.query.topology.graph();
        let twice =
            || has_port(self.query, &graph[NodeIndex::new(*at as usize)].name, graph[before].id.network(), 2);
        roads.free_of(port).bits_per_second() / 2 >= asked.bits_per_second() || twice()
    }

    /// What is known exactly when it is there.
    fn is_fit(&self, partial: &Partial) -> bool {
        let (bounds, sum) = (self.query.ask.bounds, &partial.sum);
        (partial.v4 || partial.v6)
            && bounds.max_rtt.is_none_or(|max| sum.rtt().is_some_and(|rtt| rtt <= max))
            && bounds.max_loss.is_none_or(|max| sum.loss() <= max)
            && bounds.max_price.is_none_or(|max| sum.price() <= max)
            && (partial.at != self.goal || partial.via == self.vias.all())
    }

    fn offer(&mut self, partial: Partial) {
        let left = self.cost_left.from(partial.at, partial.via);
        if left.is_finite() {
            let estimate = self.estimate(&partial.sum, left);
            let place = self.partials.len() as u32;
            self.queue.push(Open { estimate, hops: partial.hops, partial: place, step: None });
            self.partials.push(partial);
        }
    }

    fn trail(&self, mut partial: u32) -> Trail {
        let mut trail = Trail { nodes: Vec::new(), edges: Vec::new() };
        loop {
            let Partial { at, before, .. } = &self.partials[partial as usize];
            trail.nodes.push(NodeIndex::new(*at as usize));
            let Some((before, edge)) = before else { break };
            trail.edges.push(*edge);
            partial = *before;
        }
        trail.nodes.reverse();
        trail.edges.reverse();
        trail
    }
}

/// Slow: asks the books.
pub(super) fn has_room(query: &Query<'_>, link: &Link) -> bool {
    if query.beside.is_some_and(|beside| beside.path.links.contains(&link.id)) {
        return false;
    }
    let asked = query.ask.bounds.bandwidth;
    if asked.is_zero() {
        return true;
    }
    let (a, b) = link.id.ends();
    let has_port = |node| has_port(query, node, link.id.network(), 1);
    let spot = || Spot::Link(link.id.clone());
    link.free().is_some_and(|free| serves(query, free, 1, spot)) && has_port(a) && has_port(b)
}

/// Whether the host's interface in that network, if its speed is known, can be crossed so many times.
fn has_port(query: &Query<'_>, node: &NodeName, network: &Name, times: u64) -> bool {
    let spot = || Spot::Port(node.clone(), network.clone());
    query.topology.port(node, network).is_none_or(|port| serves(query, port.free(), times, spot))
}

/// What is enough for a path is enough for a backup: it needs less as far as it shares, and the books, which take longer, are
/// asked where that decides.
fn serves(query: &Query<'_>, free: Bandwidth, times: u64, spot: impl FnOnce() -> Spot) -> bool {
    let asked = query.ask.bounds.bandwidth.bits_per_second().saturating_mul(times);
    let enough = free.bits_per_second() >= asked;
    enough || query.beside.is_some_and(|beside| free >= need_at(query, beside, &spot(), times))
}

fn need_at(query: &Query<'_>, beside: Beside<'_>, spot: &Spot, times: u64) -> Bandwidth {
    let asked = query.ask.bounds.bandwidth;
    query.topology.need_beside((spot, times), beside.path, beside.need, asked)
}

/// The hosts of a path between its ends.
pub(crate) fn inner(path: &Path) -> &[NodeName] {
    path.nodes.get(1..path.nodes.len().saturating_sub(1)).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests;
