//! What links and interfaces are seen to carry: by circuits, and beside them, as the kernels of hosts count it.
//!
//! An interface's counters say what all have sent; less what circuits are seen to send it is the traffic beside them, which
//! is remembered, so that a circuit that moves takes its part along at once.
use super::measure::FRESH;
use super::others::Others;
use super::{Link, Spot, Topology, networks_of};
use crate::rate::smoothed;
use crate::telemetry::{Counter, Reading};
use petgraph::stable_graph::{EdgeIndex, NodeIndex};
use petgraph::visit::EdgeRef;
use proto_model::circuit::Path;
use proto_model::report::Carried;
use proto_model::topology::{LinkId, Underlay};
use proto_model::{Bandwidth, Name, NodeName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What circuits are seen to bring to a place, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) all: Bandwidth,
    /// Of it, what is within their reservations.
    held: Bandwidth,
}

impl Sent {
    pub(super) fn unreserved(self) -> Bandwidth {
        self.all.saturating_sub(self.held)
    }
}

/// The counters of an interface. Directions: what it sends, what it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    counters: [Counter; 2],
    /// By the agent's clock.
    read: Timestamp,
    /// As smooth as the rates of circuits, so that what grows by a circuit is not taken for others' in the meantime.
    rates: [Bandwidth; 2],
    /// When they were told last, by ours.
    heard: Option<Timestamp>,
}

impl Meter {
    /// What is measured is not more than the interface's speed.
    fn take(&mut self, carried: &Carried, counted: Timestamp, speed: Bandwidth, now: Timestamp) {
        if counted <= self.read || !self.is_fresh(now) {
            *self = Self::default();
        }
        self.read = counted;
        let counts = [carried.sent_bytes, carried.received_bytes];
        let readings: [Reading; 2] = std::array::from_fn(|way| self.counters[way].read(counted, counts[way]));
        // An interface that began anew says nothing of either direction.
        if let [Reading::Rate(sent), Reading::Rate(received)] = readings {
            let new = [sent, received];
            self.rates = std::array::from_fn(|way| smoothed(self.rates[way], new[way].min(speed)));
            self.heard = Some(now);
        }
    }

    /// Also before the first rate is known.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.heard.is_none_or(|at| now.since(at) <= FRESH)
    }

    fn rates(&self, now: Timestamp) -> Option<[Bandwidth; 2]> {
        self.heard.filter(|at| now.since(*at) <= FRESH).map(|_| self.rates)
    }
}

/// When what hosts told of their interfaces will be too old.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    at: BTreeMap<NodeName, Timestamp>,
    order: BTreeSet<(Timestamp, NodeName)>,
}

impl Due {
    fn set(&mut self, node: &NodeName, at: Timestamp) {
        if let Some(old) = self.at.insert(node.clone(), at) {
            self.order.remove(&(old, node.clone()));
        }
        self.order.insert((at, node.clone()));
    }

    fn take(&mut self, now: Timestamp) -> Option<NodeName> {
        let (_, node) = self.order.first().filter(|(at, _)| *at < now)?.clone();
        self.order.pop_first();
        self.at.remove(&node);
        Some(node)
    }
}

const SENDS: usize = 0;
const RECEIVES: usize = 1;

/// An interface of a host in a network, as its counters and those of circuits show it.
#[derive(Clone, Debug)]
pub(super) struct Gauge {
    /// Kernel name.
    interface: String,
    speed: Option<Bandwidth>,
    /// Its owner lets the agent queue what leaves there.
    shape: bool,
    meter: Meter,
    carried: Sent,
    /// What it sends and receives beside circuits; none: it is not counted.
    beside: Option<[Bandwidth; 2]>,
}

impl Gauge {
    /// Several interfaces in one network count as the first of them, of known speed if there is one.
    fn of(underlays: &[Underlay], network: &Name, carried: Sent) -> Option<Self> {
        let here = || underlays.iter().filter(|underlay| underlay.network == *network);
        let first = here().find(|underlay| underlay.speed.is_some()).or_else(|| here().next())?;
        Some(Self {
            interface: first.interface.clone(),
            speed: first.speed,
            shape: here().any(|underlay| underlay.shape),
            meter: Meter::default(),
            carried,
            beside: None,
        })
    }

    /// By all that use it; none: that is not known.
    fn used(&self, way: usize) -> Option<Bandwidth> {
        Some(self.beside?[way].saturating_add(self.carried.all))
    }

    /// By all but reserved circuits.
    fn unreserved(&self, way: usize) -> Option<Bandwidth> {
        Some(self.beside?[way].saturating_add(self.carried.unreserved()))
    }

    pub(super) fn used_most(&self) -> Option<Bandwidth> {
        [SENDS, RECEIVES].into_iter().filter_map(|way| self.used(way)).max()
    }

    /// What nobody reserved; none: it is not counted, or what is reserved is guarded against it.
    pub(super) fn others(&self) -> Option<Bandwidth> {
        let ways = [SENDS, RECEIVES].into_iter().filter(|_| !self.shape);
        ways.filter_map(|way| self.unreserved(way)).max()
    }
}

impl Topology {
    /// What the kernel of a host has counted until `counted`, by its agent's clock; of interfaces that it did not announce, it says nothing.
    pub fn count(&mut self, node: &NodeName, carried: &[Carried], counted: Timestamp) {
        let Some(at) = self.place(node).filter(|_| !carried.is_empty()) else { return };
        let now = self.now;
        for gauge in self.graph[at].gauges.values_mut() {
            if let Some(carried) = carried.iter().find(|carried| carried.interface == gauge.interface) {
                gauge.meter.take(carried, counted, gauge.speed.unwrap_or(Bandwidth::MAX), now);
            }
        }
        self.due.set(node, now.plus(FRESH));
        self.read_meters(at);
    }

    /// What hosts told too long ago says nothing of the present.
    pub(super) fn forget_counts(&mut self) {
        while let Some(node) = self.due.take(self.now) {
            if let Some(at) = self.place(&node) {
                self.read_meters(at);
            }
        }
    }

    fn read_meters(&mut self, at: NodeIndex) {
        let now = self.now;
        let mut changed = Vec::new();
        for (network, gauge) in &mut self.graph[at].gauges {
            let rates = gauge.meter.rates(now);
            let beside = rates.map(|rates| rates.map(|rate| rate.saturating_sub(gauge.carried.all)));
            if std::mem::replace(&mut gauge.beside, beside) != beside {
                changed.push(network.clone());
            }
        }
        changed.iter().for_each(|network| self.weigh_at(at, network));
    }

    /// What circuits are seen to bring to each link and interface of a path: so much more, of which `reserved` is theirs.
    pub fn carry(&mut self, path: &Path, rate: Bandwidth, reserved: Bandwidth) {
        self.change_sent(path, rate, reserved, Bandwidth::saturating_add);
        self.weigh_around(path, rate);
    }

    /// So much less.
    pub fn carry_less(&mut self, path: &Path, rate: Bandwidth, reserved: Bandwidth) {
        self.change_sent(path, rate, reserved, Bandwidth::saturating_sub);
        self.weigh_around(path, rate);
    }

    /// Another rate was measured. What that means to other links of the same interfaces is seen when these report.
    pub fn carry_instead(&mut self, path: &Path, [before, now]: [Bandwidth; 2], reserved: Bandwidth) {
        if before == now {
            return;
        }
        self.change_sent(path, before, reserved, Bandwidth::saturating_sub);
        self.change_sent(path, now, reserved, Bandwidth::saturating_add);
        for link in &path.links {
            if let Some(edge) = self.edges.get(link).copied() {
                self.weigh(edge);
            }
        }
    }

    fn change_sent(
        &mut self,
        path: &Path,
        rate: Bandwidth,
        reserved: Bandwidth,
        change: fn(Bandwidth, Bandwidth) -> Bandwidth,
    ) {
        for link in path.links.iter().filter(|_| !rate.is_zero()) {
            let (a, b) = link.ends();
            let port = |node: &NodeName| Spot::Port(node.clone(), link.network().clone());
            for spot in [Spot::Link(link.clone()), port(a), port(b)] {
                let old = self.carried.remove(&spot).unwrap_or_default();
                let new = Sent { all: change(old.all, rate), held: change(old.held, rate.min(reserved)) };
                self.show_sent(&spot, new);
                if new != Sent::default() {
                    self.carried.insert(spot, new);
                }
            }
        }
    }

    fn show_sent(&mut self, spot: &Spot, sent: Sent) {
        match spot {
            Spot::Link(link) => {
                if let Some(at) = self.edges.get(link) {
                    self.graph[*at].carried = sent;
                }
            }
            Spot::Port(node, network) => {
                let gauge = self.places.get(node).and_then(|at| self.graph[*at].gauges.get_mut(network));
                gauge.into_iter().for_each(|gauge| gauge.carried = sent);
            }
        }
    }

    pub(super) fn gauges_of(&self, node: &NodeName, underlays: &[Underlay]) -> BTreeMap<Name, Gauge> {
        let gauge = |network: Name| {
            let carried = self.sent(&Spot::Port(node.clone(), network.clone()));
            let gauge = Gauge::of(underlays, &network, carried)?;
            Some((network, gauge))
        };
        networks_of(underlays).into_iter().filter_map(gauge).collect()
    }

    pub(super) fn sent(&self, spot: &Spot) -> Sent {
        self.carried.get(spot).copied().unwrap_or_default()
    }

    /// The links of a path, and those that leave by the same interfaces where these are counted.
    fn weigh_around(&mut self, path: &Path, rate: Bandwidth) {
        for link in path.links.iter().filter(|_| !rate.is_zero()) {
            let (a, b) = link.ends();
            for at in [a, b].map(|node| self.place(node)).into_iter().flatten() {
                let gauge = self.graph[at].gauges.get(link.network());
                if gauge.is_some_and(|gauge| gauge.beside.is_some()) {
                    self.weigh_at(at, link.network());
                }
            }
            if let Some(edge) = self.edges.get(link).copied() {
                self.weigh(edge);
            }
        }
    }

    /// An interface, and all links that leave by it.
    pub(super) fn weigh_at(&mut self, at: NodeIndex, network: &Name) {
        let here = self.graph.edges(at).filter(|edge| edge.weight().id.network() == network);
        let edges: Vec<EdgeIndex> = here.map(|edge| edge.id()).collect();
        edges.into_iter().for_each(|edge| self.weigh(edge));
        self.weigh_interface(at, network);
    }

    pub(super) fn weigh_interface(&mut self, at: NodeIndex, network: &Name) {
        let place = &self.graph[at];
        let Some((port, gauge)) = place.ports.get(network).zip(place.gauges.get(network)) else { return };
        let others = Others { seen: gauge.others(), rise: port.rise };
        let spot = Spot::Port(place.name.clone(), network.clone());
        self.set_others(spot, others);
    }

    /// After a change on a link or at one of its ends.
    pub(super) fn weigh(&mut self, edge: EdgeIndex) {
        let Some((a, b)) = self.graph.edge_endpoints(edge) else { return };
        let link = &self.graph[edge];
        let network = link.id.network();
        // Of two hosts that are alone in their network: all that either sends there goes to the other.
        let alone = self.networks.get(network).is_some_and(|members| members.len() == 2);
        let speed = |gauge: &Gauge| gauge.speed.or_else(|| link.capacity().filter(|_| alone));
        let [a, b] = [a, b].map(|at| {
            let gauge = self.graph[at].gauges.get(network)?;
            Some((gauge, speed(gauge)?))
        });
        let ways = [[a, b], [b, a]].map(|ends| Way { link, ends });
        let loads = ways.each_ref().map(Way::load);
        let guarded = link.ends.map(|end| end.shape);
        let others =
            ways.iter().zip(guarded).filter(|(_, guarded)| !guarded).filter_map(|(way, _)| way.others());
        let others = Others { seen: others.max(), rise: link.rise };
        let spot = Spot::Link(link.id.clone());
        let link = &mut self.graph[edge];
        link.loads = loads;
        link.load = loads.into_iter().flatten().max().unwrap_or_default();
        self.set_others(spot, others);
    }

    /// By direction, of links of which something is known.
    pub fn loads(&self) -> impl Iterator<Item = (&LinkId, [Option<Bandwidth>; 2])> {
        let links = self.graph.edge_weights();
        links.filter(|link| link.is_weighed()).map(|link| (&link.id, link.loads))
    }
}

/// A direction of a link, with the interfaces of its sender and its receiver, and how fast they are.
struct Way<'a> {
    link: &'a Link,
    ends: [Option<(&'a Gauge, Bandwidth)>; 2],
}

impl Way<'_> {
    /// The larger of what circuits are seen to send over it, and of its capacity less what is free of the interfaces at its ends.
    fn load(&self) -> Option<Bandwidth> {
        let by_circuits = self.link.carried.all;
        let taken = self.taken(Gauge::used).map(|taken| taken.max(by_circuits));
        taken.or_else(|| Some(by_circuits).filter(|rate| !rate.is_zero()))
    }

    /// The same without what reserved circuits send; none: no interface at its ends is counted.
    fn others(&self) -> Option<Bandwidth> {
        self.taken(Gauge::unreserved).map(|taken| taken.max(self.link.carried.unreserved()))
    }

    fn taken(&self, of: fn(&Gauge, usize) -> Option<Bandwidth>) -> Option<Bandwidth> {
        let capacity = self.link.capacity()?;
        let ends = self.ends.into_iter().zip([SENDS, RECEIVES]);
        let free = ends.filter_map(|(end, way)| {
            let (gauge, speed) = end?;
            Some(speed.saturating_sub(of(gauge, way)?))
        });
        Some(capacity.saturating_sub(free.min()?))
    }
}
