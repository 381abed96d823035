//! Enumerates the loop-free paths between two hosts, lowest cost first.
//!
//! Best first over partial paths. The cost so far never shrinks when a link is added, and what is still to come is
//! bounded from below by a shortest-path tree towards the goal (A*, with the bound of Hart, Nilsson, Raphael 1968); so
//! complete paths leave the queue in the order of their cost, and only partial paths that could be among the first
//! ones are ever looked at.
use super::cost::{self, Sum};
use super::tour::Tour;
use super::{Ask, DEFAULT_HOPS, hops_searched};
use crate::topology::{Family, Link, Need, Spot, Topology};
use petgraph::stable_graph::{EdgeIndex, NodeIndex};
use petgraph::visit::{EdgeRef, NodeIndexable};
use proto_model::circuit::Path;
use proto_model::plan::Weights;
use proto_model::{Bandwidth, Latency, Loss, Name, NodeName, Price, Timestamp};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

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
    before: Option<(usize, EdgeIndex)>,
    at: NodeIndex,
    hops: u8,
    sum: Sum,
    rtt: Option<Latency>,
    price: Price,
    v4: bool,
    v6: bool,
    /// Bit i: the i-th host to cross has been crossed.
    via: u32,
}

/// Entry of the queue; greater comes first.
struct Open {
    estimate: f64,
    hops: u8,
    partial: usize,
}

impl Ord for Open {
    /// Lowest estimate; then the longer one, which is nearer to the goal; then the older one.
    fn cmp(&self, other: &Self) -> Ordering {
        let estimate = other.estimate.total_cmp(&self.estimate);
        estimate.then(self.hops.cmp(&other.hops)).then(other.partial.cmp(&self.partial))
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
    /// Lower bounds from each host to the goal.
    cost_left: Vec<f64>,
    hops_left: Vec<f64>,
    rtt_left: Option<Vec<f64>>,
    loss_left: Option<Vec<f64>>,
    price_left: Option<Vec<f64>>,
    tour: Tour,
    partials: Vec<Partial>,
    queue: BinaryHeap<Open>,
}

impl<'a> Search<'a> {
    fn new(query: &'a Query<'a>) -> Self {
        let bounds = query.ask.bounds;
        let max_hops =
            if query.strict { bounds.max_hops.unwrap_or(DEFAULT_HOPS) } else { hops_searched(bounds) };
        let strict = |bound: bool| (query.strict && bound).then_some(());
        let now = query.topology.now();
        Self {
            query,
            max_hops,
            cost_left: least(query, query.to, |link| cost::additive(link, query.weights, now)),
            hops_left: least(query, query.to, |_| 1.0),
            rtt_left: strict(bounds.max_rtt.is_some())
                .map(|()| least(query, query.to, |link| rtt_of(link, now))),
            loss_left: strict(bounds.max_loss.is_some())
                .map(|()| least(query, query.to, |link| lost(link.loss(now).value))),
            price_left: strict(bounds.max_price.is_some()).map(|()| least(query, query.to, price_of)),
            tour: Tour::new(query),
            partials: Vec::new(),
            queue: BinaryHeap::new(),
        }
    }

    fn collect(&mut self) -> Found {
        self.offer(Partial {
            before: None,
            at: self.query.from,
            hops: 0,
            sum: Sum::default(),
            rtt: Some(Latency::ZERO),
            price: Price::FREE,
            v4: true,
            v6: true,
            via: self.tour.crossed(self.query.from),
        });
        let mut trails = Vec::new();
        while let Some(open) = self.queue.pop() {
            if self.partials[open.partial].at == self.query.to {
                trails.push(self.trail(open.partial));
                if trails.len() == self.query.ask.limit {
                    let end = if self.queue.is_empty() { End::Complete } else { End::Enough };
                    return Found { trails, end };
                }
                continue;
            }
            self.extend(open.partial);
            if self.partials.len() >= MAX_PARTIAL {
                return Found { trails, end: End::CutOff };
            }
        }
        Found { trails, end: End::Complete }
    }

    fn extend(&mut self, from: usize) {
        let (at, hops) = (self.partials[from].at, self.partials[from].hops);
        let graph = self.query.topology.graph();
        let now = self.query.topology.now();
        for edge in graph.edges(at) {
            let next = if edge.source() == at { edge.target() } else { edge.source() };
            if !self.may_step(hops, next, edge.weight()) || self.crosses(from, next) {
                continue;
            }
            if !self.may_turn(from, edge.weight()) {
                continue;
            }
            let (partial, link) = (&self.partials[from], edge.weight());
            let grown = Partial {
                before: Some((from, edge.id())),
                at: next,
                hops: hops + 1,
                sum: partial.sum.and(link, self.query.ask.bounds.bandwidth, now),
                rtt: partial.rtt.zip(link.rtt(now).value).map(|(sum, rtt)| sum.saturating_add(rtt)),
                price: partial.price.saturating_add(link.values.price),
                v4: partial.v4 && link.has(Family::V4),
                v6: partial.v6 && link.has(Family::V6),
                via: partial.via | self.tour.crossed(next),
            };
            if !self.query.strict || self.within_bounds(&grown) {
                self.offer(grown);
            }
        }
    }

    fn may_step(&self, hops: u8, next: NodeIndex, link: &Link) -> bool {
        let index = next.index();
        if f64::from(hops) + 1.0 + self.hops_left[index] > f64::from(self.max_hops) {
            return false;
        }
        if self.query.pinned.is_some_and(|pinned| pinned.get(usize::from(hops) + 1) != Some(&next)) {
            return false;
        }
        allowed(self.query, link) && (!self.query.strict || self.welcome(next))
    }

    /// Out of the interface by which it comes, it takes twice as much of it.
    fn may_turn(&self, from: usize, link: &Link) -> bool {
        let Some((_, before)) = self.partials[from].before.filter(|_| self.query.strict) else { return true };
        let graph = self.query.topology.graph();
        let network = link.id.network();
        self.query.ask.bounds.bandwidth.is_zero()
            || graph[before].id.network() != network
            || has_port(self.query, &graph[self.partials[from].at].name, network, 2)
    }

    /// Not among the hosts to avoid.
    fn welcome(&self, node: NodeIndex) -> bool {
        let name = &self.query.topology.graph()[node].name;
        let of_path = |beside: Beside<'_>| beside.hosts && inner(beside.path).contains(name);
        !self.query.ask.bounds.avoid.contains(name)
            && !self.query.ask.shun.contains(name)
            && !self.query.beside.is_some_and(of_path)
    }

    /// So far, and with what is still to come at least.
    fn within_bounds(&self, partial: &Partial) -> bool {
        let (bounds, at) = (self.query.ask.bounds, partial.at.index());
        let left = |tree: &Option<Vec<f64>>| tree.as_ref().map_or(0.0, |left| left[at]);
        let rtt = |max: Latency| {
            partial.rtt.is_some_and(|rtt| rtt.nanos() as f64 + left(&self.rtt_left) <= max.nanos() as f64)
        };
        let price = |max: Price| {
            let sum = partial.price.micro_dollars_per_gb() as f64 + left(&self.price_left);
            sum <= max.micro_dollars_per_gb() as f64
        };
        // Sums of rounded logarithms: what is a little above is judged exactly later.
        let loss = |max: Loss| lost(partial.sum.loss()) + left(&self.loss_left) <= lost(max) + 1e-5;
        let arrived = partial.at == self.query.to;
        (partial.v4 || partial.v6)
            && bounds.max_rtt.is_none_or(rtt)
            && bounds.max_loss.is_none_or(loss)
            && bounds.max_price.is_none_or(price)
            && (!arrived || partial.via == self.tour.all())
    }

    fn crosses(&self, mut partial: usize, node: NodeIndex) -> bool {
        loop {
            if self.partials[partial].at == node {
                return true;
            }
            match self.partials[partial].before {
                Some((before, _)) => partial = before,
                None => return false,
            }
        }
    }

    fn offer(&mut self, partial: Partial) {
        let at = partial.at.index();
        let (cost, hops) = self.tour.left(at, partial.via);
        let left = self.cost_left[at].max(cost);
        let hops = f64::from(partial.hops) + self.hops_left[at].max(hops);
        if !left.is_finite() || hops > f64::from(self.max_hops) {
            return;
        }
        let estimate = partial.sum.cost(self.query.weights) + left;
        self.queue.push(Open { estimate, hops: partial.hops, partial: self.partials.len() });
        self.partials.push(partial);
    }

    fn trail(&self, mut partial: usize) -> Trail {
        let mut trail = Trail { nodes: vec![self.partials[partial].at], edges: Vec::new() };
        while let Some((before, edge)) = self.partials[partial].before {
            trail.edges.push(edge);
            trail.nodes.push(self.partials[before].at);
            partial = before;
        }
        trail.nodes.reverse();
        trail.edges.reverse();
        trail
    }
}

/// Whether a path may use the link, looked at alone.
fn allowed(query: &Query<'_>, link: &Link) -> bool {
    if !link.is_usable() {
        return false;
    }
    let bounds = query.ask.bounds;
    !query.strict
        || (has_room(query, link)
            && (!bounds.encrypted_links || link.values.encrypted)
            && (bounds.encrypted || !link.values.require_encryption)
            && bounds.require_tags.is_subset(&link.values.tags)
            && bounds.avoid_tags.is_disjoint(&link.values.tags))
}

fn has_room(query: &Query<'_>, link: &Link) -> bool {
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

/// Adds up over the links of a path.
fn lost(loss: Loss) -> f64 {
    -(-f64::from(loss.ppm()) / 1e6).ln_1p()
}

fn rtt_of(link: &Link, now: Timestamp) -> f64 {
    link.rtt(now).value.map_or(f64::INFINITY, |rtt| rtt.nanos() as f64)
}

fn price_of(link: &Link) -> f64 {
    link.values.price.micro_dollars_per_gb() as f64
}

/// Least sum of a link's `weight` from each host to `goal` (Dijkstra); infinite where there is no way.
pub(super) fn least(query: &Query<'_>, goal: NodeIndex, weight: impl Fn(&Link) -> f64) -> Vec<f64> {
    let graph = query.topology.graph();
    let mut least = vec![f64::INFINITY; graph.node_bound()];
    let mut queue = BinaryHeap::from([Open { estimate: 0.0, hops: 0, partial: goal.index() }]);
    least[goal.index()] = 0.0;
    while let Some(Open { estimate, partial, .. }) = queue.pop() {
        if estimate > least[partial] {
            continue;
        }
        for edge in graph.edges(NodeIndex::new(partial)) {
            let next = if edge.source().index() == partial { edge.target() } else { edge.source() };
            let sum = estimate + weight(edge.weight());
            if sum < least[next.index()] && allowed(query, edge.weight()) {
                least[next.index()] = sum;
                queue.push(Open { estimate: sum, hops: 0, partial: next.index() });
            }
        }
    }
    least
}

#[cfg(test)]
pub(super) mod tests;
