//! Where bandwidth is booked: on links, and on the interfaces of hosts by which several links leave.
use super::{Link, Others, Topology};
use petgraph::stable_graph::EdgeIndex;
use proto_model::circuit::Path;
use proto_model::topology::{LinkId, Underlay};
use proto_model::{Bandwidth, Name, NodeName};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// In each direction.
    Link(LinkId),
    /// What a host sends into a network, and receives from it.
    Port(NodeName, Name),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "{link}"),
            Self::Port(node, network) => write!(f, "{node}'s interface in {network}"),
        }
    }
}

/// Every place that a path takes bandwidth of, and how many times: a host that passes a circuit on by the interface by which it
/// came sends and receives it twice there.
pub fn spots(path: &Path) -> BTreeMap<Spot, u64> {
    let mut spots = BTreeMap::new();
    for link in &path.links {
        let (a, b) = link.ends();
        for end in [a, b] {
            *spots.entry(Spot::Port(end.clone(), link.network().clone())).or_default() += 1;
        }
        spots.insert(Spot::Link(link.clone()), 1);
    }
    spots
}

/// How many times a path takes bandwidth there.
pub(super) fn times(path: &Path, spot: &Spot) -> u64 {
    match spot {
        Spot::Link(link) => u64::from(path.links.contains(link)),
        Spot::Port(node, network) => crossed(path, node, network),
    }
}

fn crossed(path: &Path, node: &NodeName, network: &Name) -> u64 {
    let here = |link: &&LinkId| link.other(node).is_some() && link.network() == network;
    path.links.iter().filter(here).count() as u64
}

pub(super) fn multiply(need: Bandwidth, times: u64) -> Bandwidth {
    Bandwidth::from_bits_per_second(need.bits_per_second().saturating_mul(times))
}

/// Of what an agent queues for, hundredths that circuits can reserve: the rest is for probes, control and the host's own
/// traffic.
const RESERVABLE: u64 = 95;

pub(super) fn reservable(capacity: Bandwidth) -> Bandwidth {
    multiply(Bandwidth::from_bits_per_second(capacity.bits_per_second() / 100), RESERVABLE)
}

/// What a link or interface has left of what, and who has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub free: Bandwidth,
    /// What circuits can reserve.
    pub most: Bandwidth,
    pub capacity: Bandwidth,
    /// By circuits, now and later.
    pub taken: Bandwidth,
    pub others: Others,
}

impl Room {
    fn of(most: Bandwidth, capacity: Bandwidth, taken: Bandwidth, others: Others) -> Self {
        let free = most.saturating_sub(taken).saturating_sub(others.most());
        Self { free, most, capacity, taken, others }
    }

    /// Without what everybody can see, where only circuits have the rest.
    pub fn briefly(&self) -> String {
        if self.others.most().is_zero() { format!("{} free", self.free) } else { self.to_string() }
    }
}

/// `60 Mbit/s of 100 Mbit/s free`.
impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { free, most, capacity, taken, others } = self;
        let alone = others.most().is_zero();
        match most == capacity {
            true if alone => return write!(f, "{free} of {capacity} free"),
            true => write!(f, "{free} free of {capacity}")?,
            false => write!(f, "{free} free of {most} ({RESERVABLE} % of {capacity})")?,
        }
        if alone { Ok(()) } else { write!(f, ": {taken} reserved, {others}") }
    }
}

/// An interface of known speed, in one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Kernel name.
    pub interface: String,
    pub speed: Bandwidth,
    /// Of it, what circuits can reserve.
    pub most: Bandwidth,
    pub(super) reserved: Bandwidth,
    pub(super) planned: Bandwidth,
    pub(super) shared: Bandwidth,
    /// By how much it may be used more than when that was forecast.
    pub(super) rise: Option<Bandwidth>,
    /// What reservations leave to traffic that is none of theirs.
    pub others: Others,
}

impl Port {
    /// Several interfaces in one network count as the first of them.
    pub(super) fn of(underlays: &[Underlay], network: &Name) -> Option<Self> {
        let mut here = underlays.iter().filter(|underlay| underlay.network == *network);
        let first = here.clone().find(|underlay| underlay.speed.is_some())?;
        let (interface, speed) = (first.interface.clone(), first.speed?);
        let most = if here.any(|underlay| underlay.shape) { reservable(speed) } else { speed };
        let [reserved, planned, shared] = [Bandwidth::ZERO; 3];
        let others = Others::default();
        Some(Self { interface, speed, most, reserved, planned, shared, rise: None, others })
    }

    pub fn free(&self) -> Bandwidth {
        self.room().free
    }

    pub fn room(&self) -> Room {
        Room::of(self.most, self.speed, self.taken().saturating_add(self.planned), self.others)
    }

    /// By paths and backups.
    pub fn taken(&self) -> Bandwidth {
        self.reserved.saturating_add(self.shared)
    }

    /// By how much more is promised than it sends; none: by nothing.
    pub fn over_booked(&self) -> Option<Bandwidth> {
        let over = self.taken().saturating_sub(self.speed);
        (!over.is_zero()).then_some(over)
    }
}

/// The interface that holds up a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tight {
    pub node: NodeName,
    pub port: Port,
    /// So many times the path takes bandwidth of it.
    pub times: u64,
}

impl Tight {
    /// Which interface, and how much of how much is free there.
    pub fn said(&self) -> String {
        format!("{} of {} has {}", self.port.interface, self.node, self.port.room())
    }

    /// How much of it a circuit takes that needs so much.
    pub fn taken_by(&self, need: Bandwidth) -> String {
        match self.times {
            0 | 1 => format!("{need} is asked"),
            more => format!("{need} is asked {more} times: the path comes and goes by it"),
        }
    }

    /// That a circuit gets less than is free, where it does.
    pub fn and_again(&self) -> &'static str {
        if self.times > 1 { ", and the path comes and goes by it" } else { "" }
    }

    /// What each crossing can have at most.
    pub fn free(&self) -> Bandwidth {
        Bandwidth::from_bits_per_second(self.port.free().bits_per_second() / self.times.max(1))
    }
}

impl Link {
    /// None: its capacity is not known.
    pub fn room(&self) -> Option<Room> {
        let taken = self.taken().saturating_add(self.planned);
        Some(Room::of(self.most()?, self.capacity()?, taken, self.others))
    }
}

impl Topology {
    /// None: its speed is not known, or it is not there.
    pub fn port(&self, node: &NodeName, network: &Name) -> Option<&Port> {
        self.graph[self.place(node)?].ports.get(network)
    }

    /// By network, the interfaces of a host that are over-booked, and by how much.
    pub fn over_booked_ports(&self, node: &NodeName) -> BTreeMap<Name, Bandwidth> {
        let ports = self.place(node).map(|at| &self.graph[at].ports).into_iter().flatten();
        ports.filter_map(|(network, port)| Some((network.clone(), port.over_booked()?))).collect()
    }

    /// Whether an interface leaves a path less than each of its links does.
    pub fn holds_up(&self, edges: &[EdgeIndex]) -> bool {
        let roads = || edges.iter().filter_map(|edge| self.roads.get(*edge));
        let most = roads().filter_map(|road| road.free).min().unwrap_or(Bandwidth::MAX);
        let ports = || roads().flat_map(|road| road.ports.into_iter().flatten());
        ports().any(|port| {
            let times = ports().filter(|other| *other == port).count() as u64;
            self.roads.free_of(port).bits_per_second() / times < most.bits_per_second()
        })
    }

    /// The interface that leaves a path least.
    pub fn tightest_port(&self, path: &Path) -> Option<Tight> {
        let ends = path.links.iter().flat_map(|link| {
            let (a, b) = link.ends();
            [(a, link.network()), (b, link.network())]
        });
        let known = ends.filter_map(|(node, network)| {
            let port = self.port(node, network)?;
            let times = crossed(path, node, network);
            Some((port.free().bits_per_second() / times.max(1), node, port, times))
        });
        let (_, node, port, times) = known.min_by_key(|(free, ..)| *free)?;
        Some(Tight { node: node.clone(), port: port.clone(), times })
    }

    /// What circuits can reserve there; none: nobody knows, which keeps circuits from a link and not from an interface.
    pub(super) fn most(&self, spot: &Spot) -> Option<Bandwidth> {
        match spot {
            Spot::Link(link) => self.link(link).and_then(Link::most),
            Spot::Port(node, network) => self.port(node, network).map(|port| port.most),
        }
    }

    pub(super) fn reserved(&self, spot: &Spot) -> Bandwidth {
        self.reserved.get(spot).copied().unwrap_or_default()
    }

    pub fn free(&self, spot: &Spot) -> Option<Bandwidth> {
        let taken = self.peak(spot).saturating_add(self.shared.of(spot)).saturating_add(self.left(spot));
        self.most(spot).map(|most| most.saturating_sub(taken))
    }

    /// What is left to others there.
    pub(super) fn left(&self, spot: &Spot) -> Bandwidth {
        let others = match spot {
            Spot::Link(link) => self.link(link).map(|link| link.others),
            Spot::Port(node, network) => self.port(node, network).map(|port| port.others),
        };
        others.unwrap_or_default().most()
    }

    /// Whether there is room for a path that takes so much.
    pub fn fits(&self, path: &Path, need: Bandwidth) -> bool {
        let room = |(spot, times): (Spot, u64)| match self.free(&spot) {
            Some(free) => free >= multiply(need, times),
            None => matches!(spot, Spot::Port(..)),
        };
        need.is_zero() || spots(path).into_iter().all(room)
    }

    /// What paths have there at the fullest instant of what is looked at.
    fn peak(&self, spot: &Spot) -> Bandwidth {
        self.calendar.peak(spot, self.reserved(spot), self.now)
    }

    /// What paths have there now, and how much more at the fullest instant; while a window is looked at, what they have in it.
    pub(super) fn booked(&self, spot: &Spot) -> (Bandwidth, Bandwidth) {
        let (now, peak) = (self.reserved(spot), self.peak(spot));
        if self.calendar.looks() { (peak, Bandwidth::ZERO) } else { (now, peak.saturating_sub(now)) }
    }

    /// What its paths leave for backups.
    pub(super) fn room(&self, spot: &Spot) -> Option<Bandwidth> {
        self.most(spot).map(|most| most.saturating_sub(self.peak(spot)))
    }

    /// The books are the truth; links and hosts show them where searches ask.
    pub(super) fn show(&mut self, spot: &Spot) {
        let ((reserved, planned), shared) = (self.booked(spot), self.shared.of(spot));
        match spot {
            Spot::Link(link) => {
                let Some(at) = self.edges.get(link).copied() else { return };
                let link = &mut self.graph[at];
                (link.reserved, link.planned, link.shared) = (reserved, planned, shared);
                self.mirror_free(at);
            }
            Spot::Port(node, network) => {
                let Some(at) = self.place(node) else { return };
                if let Some(port) = self.graph[at].ports.get_mut(network) {
                    (port.reserved, port.planned, port.shared) = (reserved, planned, shared);
                }
                self.mirror_port(at, network);
            }
        }
    }

    pub fn reserve(&mut self, path: &Path, bandwidth: Bandwidth) {
        self.book(path, |reserved, times| reserved.saturating_add(multiply(bandwidth, times)));
    }

    pub fn release(&mut self, path: &Path, bandwidth: Bandwidth) {
        self.book(path, |reserved, times| reserved.saturating_sub(multiply(bandwidth, times)));
    }

    fn book(&mut self, path: &Path, change: impl Fn(Bandwidth, u64) -> Bandwidth) {
        for (spot, times) in spots(path) {
            let reserved = change(self.reserved(&spot), times);
            match reserved.is_zero() {
                true => self.reserved.remove(&spot),
                false => self.reserved.insert(spot.clone(), reserved),
            };
            self.show(&spot);
        }
    }
}
