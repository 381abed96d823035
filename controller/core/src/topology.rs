//! Knows the hosts, the links between them, and how much of each link is reserved.
//!
//! Each pair of hosts with interfaces in one network is a link. The graph is changed where a host's announcement
//! changes it, never built anew.
mod ahead;
mod calendar;
mod carried;
mod foresee;
mod link;
mod measure;
mod others;
mod roads;
mod shared;
mod spot;
mod views;

pub use ahead::Ahead;
pub use calendar::Window;
pub use foresee::{Expected, Foreseen};
pub use link::{End, Link};
pub use measure::{FRESH, Known, Source};
pub use others::Others;
pub use roads::{PortAt, Road, Roads, lost};
pub use shared::{Failure, moved_to};
pub use spot::{Port, Room, Spot, Tight, spots};

use carried::Gauge;
use measure::Samples;
use petgraph::stable_graph::{EdgeIndex, NodeIndex, StableUnGraph};
use petgraph::visit::EdgeRef;
use proto_model::topology::{LinkId, LinkValues, Measured, Underlay};
use proto_model::{Bandwidth, Name, NodeName, Timestamp};
use shared::Shared;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Bytes that the outer headers take: IP, UDP, VXLAN, inner Ethernet.
const OVERHEAD_V4: u16 = 20 + 8 + 8 + 14;
const OVERHEAD_V6: u16 = 40 + 8 + 8 + 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// A host in the graph.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: NodeName,
    /// Its agent is in contact.
    pub connected: bool,
    underlays: Vec<Underlay>,
    /// By network; those of known speed.
    ports: BTreeMap<Name, Port>,
    /// By network.
    gauges: BTreeMap<Name, Gauge>,
}

/// What a measurement changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Something may be placed now that could not be before.
    pub better: bool,
    /// The link has fallen silent, or answers again.
    pub turned: bool,
}

/// How much a link has to have free for a backup of which not all is known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// If it shares no host with its path: then every failure of the path moves the circuit.
    Most,
    /// If it shares all hosts with it: then only the failure of a link does.
    Least,
}

/// Of two addresses of one family.
fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    }
}

#[derive(Clone, Debug, Default)]
pub struct Topology {
    graph: StableUnGraph<Place, Link>,
    places: BTreeMap<NodeName, NodeIndex>,
    edges: BTreeMap<LinkId, EdgeIndex>,
    networks: BTreeMap<Name, BTreeSet<NodeName>>,
    /// Also of links that are not there at the moment.
    configured: BTreeMap<LinkId, LinkValues>,
    reserved: BTreeMap<Spot, Bandwidth>,
    shared: Shared,
    calendar: calendar::Calendar,
    /// By circuits; also where nothing is at the moment.
    carried: BTreeMap<Spot, carried::Sent>,
    due: carried::Due,
    /// Where admission leaves something to others than circuits.
    others: BTreeMap<Spot, Others>,
    /// It does not now.
    by_reservations: bool,
    /// Links whose neighbours are to be told anew whom to measure.
    changed: BTreeSet<LinkId>,
    /// Measurements are as old as this clock says.
    now: Timestamp,
    /// What searches read.
    roads: Roads,
    max_links: usize,
    /// Pairs left out because of `max_links`, by the host whose announcement brought them.
    left_out: BTreeMap<NodeName, usize>,
}

impl Topology {
    pub fn new(max_links: usize) -> Self {
        Self { max_links, ..Self::default() }
    }

    pub fn graph(&self) -> &StableUnGraph<Place, Link> {
        &self.graph
    }

    pub fn place(&self, node: &NodeName) -> Option<NodeIndex> {
        self.places.get(node).copied()
    }

    /// How a host reaches an address of its underlay that is no host of the fabric: its own address, the one that has most
    /// leading bits in common with it, and the bytes of an inner packet that fit.
    pub fn beside(&self, node: &NodeName, remote: IpAddr) -> Option<(IpAddr, u16)> {
        let underlays = &self.graph[self.place(node)?].underlays;
        let all =
            underlays.iter().flat_map(|underlay| underlay.addresses.iter().map(|at| (*at, underlay.mtu)));
        let near = all.filter(|(at, _)| at.is_ipv4() == remote.is_ipv4() && *at != remote);
        let (at, mtu) = near.max_by_key(|(at, _)| (common_bits(*at, remote), std::cmp::Reverse(*at)))?;
        let overhead = if remote.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        Some((at, mtu.saturating_sub(overhead)))
    }

    /// Whether this is an underlay address of that host.
    pub fn is_address_of(&self, node: &NodeName, address: IpAddr) -> bool {
        self.place(node)
            .is_some_and(|at| self.graph[at].underlays.iter().any(|u| u.addresses.contains(&address)))
    }

    pub fn is_connected(&self, node: &NodeName) -> bool {
        self.place(node).is_some_and(|at| self.graph[at].connected)
    }

    pub fn link(&self, id: &LinkId) -> Option<&Link> {
        self.edges.get(id).map(|at| &self.graph[*at])
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    pub fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.mirror_due();
        self.forget_counts();
    }

    /// Links that came, went or changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<LinkId> {
        std::mem::take(&mut self.changed)
    }

    /// What a host's probes saw of a link of its own; of others it says nothing.
    pub fn measure(&mut self, node: &NodeName, id: &LinkId, measured: Measured) -> News {
        let end = match id.ends() {
            (a, _) if a == node => 0,
            (_, b) if b == node => 1,
            _ => return News::default(),
        };
        let Some(at) = self.edges.get(id).copied() else { return News::default() };
        let link = &mut self.graph[at];
        let before = link.samples;
        link.samples.take(end, measured, self.now);
        let turned = link.listen(self.now);
        let better = link.samples.is_better(&before, self.now);
        self.mirror(at);
        News { better, turned }
    }

    pub fn left_out(&self, node: &NodeName) -> usize {
        self.left_out.get(node).copied().unwrap_or(0)
    }

    pub fn add_node(&mut self, name: NodeName) {
        if !self.places.contains_key(&name) {
            let (underlays, ports, gauges) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
            let place = Place { name: name.clone(), connected: false, underlays, ports, gauges };
            self.places.insert(name, self.graph.add_node(place));
        }
    }

    /// Also forgets what was configured of its links; tells which.
    pub fn remove_node(&mut self, name: &NodeName) -> Vec<LinkId> {
        self.set_underlays(name, Vec::new());
        if let Some(at) = self.places.remove(name) {
            self.graph.remove_node(at);
        }
        self.left_out.remove(name);
        let gone: Vec<_> = self.configured.keys().filter(|id| id.other(name).is_some()).cloned().collect();
        for id in &gone {
            self.configured.remove(id);
        }
        gone
    }

    pub fn set_connected(&mut self, name: &NodeName, connected: bool) {
        if let Some(at) = self.place(name) {
            self.graph[at].connected = connected;
            let edges: Vec<_> = self.graph.edges(at).map(|edge| edge.id()).collect();
            for edge in edges {
                self.judge(edge);
            }
        }
    }

    /// What the host announces; true when it differs from before.
    pub fn set_underlays(&mut self, name: &NodeName, underlays: Vec<Underlay>) -> bool {
        let Some(at) = self.place(name) else { return false };
        if self.graph[at].underlays == underlays {
            return false;
        }
        self.detach(name, at);
        for spot in self.ports_of(name) {
            self.others.remove(&spot);
        }
        let port = |network: Name| Some((network.clone(), Port::of(&underlays, &network)?));
        self.graph[at].ports = networks_of(&underlays).into_iter().filter_map(port).collect();
        self.graph[at].gauges = self.gauges_of(name, &underlays);
        self.graph[at].underlays = underlays;
        self.mirror_ports(at);
        self.attach(name, at);
        for spot in self.ports_of(name) {
            self.show(&spot);
        }
        true
    }

    /// Those of known speed.
    pub fn ports_of(&self, name: &NodeName) -> Vec<Spot> {
        let Some(at) = self.place(name) else { return Vec::new() };
        self.graph[at].ports.keys().map(|network| Spot::Port(name.clone(), network.clone())).collect()
    }

    fn detach(&mut self, name: &NodeName, at: NodeIndex) {
        let edges: Vec<_> = self.graph.edges(at).map(|edge| edge.id()).collect();
        for edge in edges {
            self.mirror_no_more(edge);
            if let Some(link) = self.graph.remove_edge(edge) {
                self.edges.remove(&link.id);
                self.others.remove(&Spot::Link(link.id.clone()));
                self.changed.insert(link.id);
            }
        }
        for network in networks_of(&self.graph[at].underlays) {
            if let Some(members) = self.networks.get_mut(&network) {
                members.remove(name);
                if members.is_empty() {
                    self.networks.remove(&network);
                }
            }
        }
    }

    fn attach(&mut self, name: &NodeName, at: NodeIndex) {
        let mut left_out = 0;
        for network in networks_of(&self.graph[at].underlays) {
            let members = self.networks.entry(network.clone()).or_default();
            let others: Vec<_> = members.iter().filter_map(|other| self.places.get(other).copied()).collect();
            members.insert(name.clone());
            for other in others {
                if self.edges.len() >= self.max_links {
                    left_out += 1;
                    continue;
                }
                self.join(at, other, network.clone());
            }
        }
        match left_out {
            0 => self.left_out.remove(name),
            some => self.left_out.insert(name.clone(), some),
        };
    }

    fn join(&mut self, one: NodeIndex, other: NodeIndex, network: Name) {
        let (a, b) = if self.graph[one].name < self.graph[other].name { (one, other) } else { (other, one) };
        let ends = [end(&self.graph[a].underlays, &network), end(&self.graph[b].underlays, &network)];
        let Some(id) = LinkId::new(self.graph[a].name.clone(), self.graph[b].name.clone(), network) else {
            return;
        };
        let values = self.configured.get(&id).cloned().unwrap_or_default();
        let spot = Spot::Link(id.clone());
        let ((reserved, planned), shared) = (self.booked(&spot), self.shared.of(&spot));
        let link = Link {
            id: id.clone(),
            values,
            reserved,
            planned,
            shared,
            carried: self.sent(&spot),
            loads: [None; 2],
            load: Bandwidth::ZERO,
            load_then: Bandwidth::ZERO,
            rise: None,
            others: Others::default(),
            samples: Samples::default(),
            foreseen: Foreseen::default(),
            spreads: crate::forecast::Spreads::default(),
            silence: None,
            ends,
            usable: false,
        };
        let edge = self.graph.add_edge(a, b, link);
        self.changed.insert(id.clone());
        self.edges.insert(id, edge);
        self.weigh(edge);
        self.judge(edge);
    }

    pub fn configured(&self) -> usize {
        self.configured.len()
    }

    pub fn is_configured(&self, id: &LinkId) -> bool {
        self.configured.contains_key(id)
    }

    pub fn configure(&mut self, id: LinkId, values: LinkValues) {
        if let Some(at) = self.edges.get(&id).copied() {
            self.graph[at].values = values.clone();
            self.graph[at].listen(self.now);
            self.changed.insert(id.clone());
            self.weigh(at);
            self.judge(at);
        }
        self.configured.insert(id, values);
    }

    /// False: nothing was configured.
    pub fn forget(&mut self, id: &LinkId) -> bool {
        let known = self.configured.contains_key(id);
        if known {
            self.configure(id.clone(), LinkValues::default());
            self.configured.remove(id);
        }
        known
    }

    /// Why nothing new is placed on it; none: it is usable.
    pub fn why_unusable(&self, link: &Link) -> Option<String> {
        if link.values.disabled {
            return Some("an operator disabled it".into());
        }
        let (a, b) = link.id.ends();
        if let Some(gone) = [a, b].into_iter().find(|end| !self.is_connected(end)) {
            return Some(format!("{gone} is not connected"));
        }
        (!link.has(Family::V4) && !link.has(Family::V6))
            .then(|| format!("{a} and {b} have no address of a common family in it"))
    }

    fn judge(&mut self, edge: EdgeIndex) {
        let usable = self.why_unusable(&self.graph[edge]).is_none();
        self.graph[edge].usable = usable;
        self.mirror(edge);
    }
}

/// Family that all links of a path have: IPv4 where it can be. The error names two links that have none in common.
pub fn family<'a>(links: impl Iterator<Item = &'a Link> + Clone) -> Result<Family, String> {
    for family in [Family::V4, Family::V6] {
        if links.clone().all(|link| link.has(family)) {
            return Ok(family);
        }
    }
    let without = |family| links.clone().find(|link| !link.has(family)).map(|link| link.id.to_string());
    Err(format!(
        "no address family is on all its links: {} has no IPv4, {} has no IPv6",
        without(Family::V4).unwrap_or_default(),
        without(Family::V6).unwrap_or_default()
    ))
}

fn networks_of(underlays: &[Underlay]) -> BTreeSet<Name> {
    underlays.iter().map(|underlay| underlay.network.clone()).collect()
}

/// Several interfaces in one network count as one: the first address of each family, the smallest MTU.
fn end(underlays: &[Underlay], network: &Name) -> End {
    let mut end = End { v4: None, v6: None, mtu: u16::MAX, speed: None, shape: false };
    for underlay in underlays.iter().filter(|underlay| underlay.network == *network) {
        for address in underlay.addresses.iter().filter(|address| carries_tunnels(address)) {
            match address {
                IpAddr::V4(v4) => end.v4 = end.v4.or(Some(*v4)),
                IpAddr::V6(v6) => end.v6 = end.v6.or(Some(*v6)),
            }
        }
        end.mtu = end.mtu.min(underlay.mtu);
        end.speed = end.speed.or(underlay.speed);
        end.shape |= underlay.shape;
    }
    end
}

/// A link-local address needs an interface beside it, which an outer header cannot name.
fn carries_tunnels(address: &IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}
