//! The links as searches read them: in one row, without names and texts, kept in step with each change.
//!
//! A search looks at every link several times; a link with its names, samples and tags is spread over many cache lines.
use super::{Family, Topology};
use petgraph::stable_graph::{EdgeIndex, NodeIndex};
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Loss, Name, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// A link, as of [`Topology::now`].
#[derive(Clone, Copy, Debug)]
pub struct Road {
    /// Of the graph.
    pub ends: [u32; 2],
    /// For [`Roads::free_of`], in the order of the ends; none: its speed is not known.
    pub ports: [Option<PortAt>; 2],
    /// Milliseconds, rounded down; not a number: unknown.
    pub rtt: f32,
    /// Micro-dollars per gigabyte, rounded down.
    pub price: f32,
    /// `−ln(1 − loss)`, which adds up over a path; rounded down.
    pub lost: f32,
    /// For [`Roads::tag_sets`].
    pub tags: u32,
    /// None: its capacity is not known.
    pub free: Option<Bandwidth>,
    pub usable: bool,
    pub encrypted: bool,
    pub require_encryption: bool,
    pub v4: bool,
    pub v6: bool,
}

/// Where the row of an interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAt(NonZeroU32);

impl PortAt {
    pub fn row(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Clone, Debug, Default)]
pub struct Roads {
    /// By edge.
    rows: Vec<Option<Road>>,
    /// What interfaces have free.
    ports: Vec<Bandwidth>,
    port_at: BTreeMap<NodeIndex, BTreeMap<Name, PortAt>>,
    spare_ports: Vec<PortAt>,
    tags: Tags,
    /// When a measurement that a row shows will be too old.
    due: BTreeMap<Timestamp, BTreeSet<EdgeIndex>>,
    /// By edge, when that is looked at.
    due_at: BTreeMap<EdgeIndex, Timestamp>,
}

/// Sets of tags, each kept once; the empty one is not counted.
#[derive(Clone, Debug, Default)]
struct Tags {
    numbers: BTreeMap<BTreeSet<Name>, u32>,
    sets: Vec<(BTreeSet<Name>, usize)>,
    spare: Vec<u32>,
}

impl Tags {
    fn take(&mut self, tags: &BTreeSet<Name>) -> u32 {
        if let Some(number) = self.numbers.get(tags) {
            self.sets[*number as usize].1 += 1;
            return *number;
        }
        let number = self.spare.pop().unwrap_or_else(|| {
            self.sets.push((BTreeSet::new(), 0));
            self.sets.len() as u32 - 1
        });
        self.sets[number as usize] = (tags.clone(), 1);
        self.numbers.insert(tags.clone(), number);
        number
    }

    fn give_back(&mut self, number: u32) {
        let (tags, count) = &mut self.sets[number as usize];
        *count -= 1;
        if *count == 0 {
            self.numbers.remove(tags);
            tags.clear();
            self.spare.push(number);
        }
    }
}

impl Roads {
    /// Those that are there, each with its edge.
    pub fn iter(&self) -> impl Iterator<Item = (EdgeIndex, &Road)> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(at, row)| Some((EdgeIndex::new(at), row.as_ref()?)))
    }

    pub fn get(&self, edge: EdgeIndex) -> Option<&Road> {
        self.rows.get(edge.index())?.as_ref()
    }

    pub fn free_of(&self, port: PortAt) -> Bandwidth {
        self.ports.get(port.row()).copied().unwrap_or_default()
    }

    /// By [`Road::tags`].
    pub fn tag_sets(&self) -> impl Iterator<Item = &BTreeSet<Name>> {
        self.tags.sets.iter().map(|(tags, _)| tags)
    }

    fn port(&self, node: NodeIndex, network: &Name) -> Option<PortAt> {
        self.port_at.get(&node)?.get(network).copied()
    }

    fn take_port(&mut self) -> PortAt {
        self.spare_ports.pop().unwrap_or_else(|| {
            self.ports.push(Bandwidth::ZERO);
            PortAt(NonZeroU32::MIN.saturating_add(self.ports.len() as u32 - 1))
        })
    }

    fn forget_due(&mut self, edge: EdgeIndex) {
        let Some(at) = self.due_at.remove(&edge) else { return };
        if let Some(edges) = self.due.get_mut(&at) {
            edges.remove(&edge);
            if edges.is_empty() {
                self.due.remove(&at);
            }
        }
    }
}

impl Topology {
    pub fn roads(&self) -> &Roads {
        &self.roads
    }

    /// After a change of the link or of what is known of it.
    pub(super) fn mirror(&mut self, edge: EdgeIndex) {
        let Some((a, b)) = self.graph.edge_endpoints(edge) else { return };
        let link = &self.graph[edge];
        let old = self.roads.get(edge).copied();
        // An interface that changes makes its links anew.
        let port = |at| self.roads.port(at, link.id.network());
        let ports = old.map_or_else(|| [port(a), port(b)], |old| old.ports);
        let rtt = link.rtt(self.now).value;
        let row = Road {
            ends: [a.index() as u32, b.index() as u32],
            ports,
            rtt: rtt.map_or(f32::NAN, |rtt| down(rtt.as_millis_f64())),
            price: down(link.values.price.micro_dollars_per_gb() as f64),
            lost: down(lost(link.loss(self.now).value)),
            tags: 0,
            free: link.free(),
            usable: link.is_usable(),
            encrypted: link.values.encrypted,
            require_encryption: link.values.require_encryption,
            v4: link.has(Family::V4),
            v6: link.has(Family::V6),
        };
        let tags = self.roads.tags.take(&link.values.tags);
        if let Some(old) = old {
            self.roads.tags.give_back(old.tags);
        }
        if self.roads.rows.len() <= edge.index() {
            self.roads.rows.resize(edge.index() + 1, None);
        }
        self.roads.rows[edge.index()] = Some(Road { tags, ..row });
        self.remember_due(edge);
    }

    /// What is booked changes more often than anything else.
    pub(super) fn mirror_free(&mut self, edge: EdgeIndex) {
        let free = self.graph[edge].free();
        if let Some(Some(row)) = self.roads.rows.get_mut(edge.index()) {
            row.free = free;
        }
    }

    pub(super) fn mirror_port(&mut self, node: NodeIndex, network: &Name) {
        let Some(port) = self.graph[node].ports.get(network) else { return };
        let (free, at) = (port.free(), self.roads.port(node, network));
        if let Some(row) = at.and_then(|at| self.roads.ports.get_mut(at.row())) {
            *row = free;
        }
    }

    pub(super) fn mirror_no_more(&mut self, edge: EdgeIndex) {
        if let Some(row) = self.roads.rows.get_mut(edge.index()).and_then(Option::take) {
            self.roads.tags.give_back(row.tags);
        }
        self.roads.forget_due(edge);
    }

    /// The host's interfaces are others now; it has no links at this moment.
    pub(super) fn mirror_ports(&mut self, node: NodeIndex) {
        let old = self.roads.port_at.remove(&node).unwrap_or_default();
        self.roads.spare_ports.extend(old.into_values());
        let networks: Vec<Name> = self.graph[node].ports.keys().cloned().collect();
        for network in networks {
            let at = self.roads.take_port();
            self.roads.port_at.entry(node).or_default().insert(network.clone(), at);
            self.mirror_port(node, &network);
        }
    }

    fn remember_due(&mut self, edge: EdgeIndex) {
        if self.roads.due_at.contains_key(&edge) {
            return;
        }
        if let Some(at) = self.graph[edge].samples.expires(self.now) {
            self.roads.due_at.insert(edge, at);
            self.roads.due.entry(at).or_default().insert(edge);
        }
    }

    /// Rows that show a measurement which is too old now.
    pub(super) fn mirror_due(&mut self) {
        while let Some(due) = self.roads.due.first_entry().filter(|due| *due.key() < self.now) {
            for edge in due.remove() {
                self.roads.due_at.remove(&edge);
                self.mirror(edge);
            }
        }
    }

    pub fn edge(&self, id: &LinkId) -> Option<EdgeIndex> {
        self.edges.get(id).copied()
    }
}

/// To the next number below, so that what adds up to a bound never says more than there is.
fn down(value: f64) -> f32 {
    (value as f32).next_down().max(0.0)
}

/// Adds up over the links of a path. All but one in a million at most: a sum must stay a number.
pub fn lost(loss: Loss) -> f64 {
    -(-f64::from(loss.ppm().min(999_999)) / 1e6).ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::FRESH;
    use proto_model::topology::{LinkValues, Measured, Underlay};
    use proto_model::{Latency, NodeName};
    use std::time::Duration;

    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().expect("a name")
    }

    fn pair() -> (Topology, LinkId) {
        let mut topology = Topology::new(10);
        topology.advance(Timestamp(1_000_000_000_000));
        for (node, host) in [("a", 1), ("b", 2)] {
            let underlay = Underlay {
                interface: "eth0".into(),
                network: name("lan"),
                addresses: vec![[10, 0, 0, host].into()],
                mtu: 1500,
                speed: Some(Bandwidth::mbit(1_000)),
                shape: false,
            };
            topology.add_node(name(node));
            topology.set_underlays(&name(node), vec![underlay]);
            topology.set_connected(&name(node), true);
        }
        (topology, LinkId::new(name("a"), name("b"), name("lan")).expect("two ends"))
    }

    fn row(topology: &Topology, id: &LinkId) -> Road {
        *topology.edge(id).and_then(|edge| topology.roads().get(edge)).expect("it is there")
    }

    #[test]
    fn a_row_follows_measurements_until_they_are_too_old() {
        let (mut topology, id) = pair();
        assert!(row(&topology, &id).rtt.is_nan());
        let rtt = Latency::from_millis(7);
        let measured =
            Measured { probes: 9, rtt_min: rtt, rtt_mean: rtt, rtt_max: rtt, ..Measured::default() };
        let begun = topology.now();
        topology.measure(&name::<NodeName>("a"), &id, measured);
        topology.advance(begun.plus(FRESH / 2));
        topology.measure(&name::<NodeName>("b"), &id, measured);
        let known = |topology: &Topology| !row(topology, &id).rtt.is_nan();
        for (after, is_known) in [(30, true), (31, true), (45, true), (46, false)] {
            topology.advance(begun.plus(Duration::from_secs(after)));
            assert_eq!(known(&topology), is_known, "after {after} s");
            let link = topology.link(&id).expect("there");
            assert_eq!(link.rtt(topology.now()).value.is_some(), is_known);
        }
        assert!(topology.roads.due.is_empty() && topology.roads.due_at.is_empty());
    }

    #[test]
    fn rows_of_tags_and_interfaces_are_given_back() {
        let (mut topology, id) = pair();
        for round in 0..5 {
            let tags = BTreeSet::from([name(&format!("t{round}"))]);
            topology.configure(id.clone(), LinkValues { tags: tags.clone(), ..LinkValues::default() });
            let at = row(&topology, &id).tags as usize;
            assert_eq!(topology.roads().tag_sets().nth(at), Some(&tags));
            let mut underlays = topology.graph[topology.place(&name("b")).expect("there")].underlays.clone();
            underlays[0].mtu += 1;
            topology.set_underlays(&name("b"), underlays);
        }
        assert!(topology.roads.tags.sets.len() <= 2, "{:?}", topology.roads.tags);
        assert_eq!(topology.roads.ports.len(), 2);
        topology.remove_node(&name("b"));
        assert_eq!(topology.roads().iter().count(), 0);
        assert_eq!(topology.roads.spare_ports.len(), 1);
    }

    #[test]
    fn what_is_booked_is_seen_at_links_and_interfaces() {
        let (mut topology, id) = pair();
        let (a, b) = (name("a"), name("b"));
        let path = proto_model::circuit::Path { nodes: vec![a, b], links: vec![id.clone()] };
        topology.reserve(&path, Bandwidth::mbit(300));
        let road = row(&topology, &id);
        assert_eq!(road.free, Some(Bandwidth::mbit(700)));
        let free = road.ports.map(|port| topology.roads().free_of(port.expect("of known speed")));
        assert_eq!(free, [Bandwidth::mbit(700); 2]);
    }
}
