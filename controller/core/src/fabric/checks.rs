//! What must hold at any time in the world of the tests: wires and books.
use super::world::{Agent, World};
use crate::guarantee;
use crate::silence::Silence;
use crate::topology::{Port, Spot};
use proto_model::circuit::{CircuitState, Path};
use proto_model::desired::{Endpoint, Gate, Hop, Leg, NextHop, Object, ObjectKey, Receive, Side, Tell};
use proto_model::report::Way;
use proto_model::topology::LinkId;
use proto_model::{CircuitId, Name, NodeName};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    fn endpoint(&self, node: &NodeName, id: CircuitId, side: Side) -> Option<&Endpoint> {
        match self.agents.get(node)?.objects.get(&ObjectKey::Endpoint(id, side))? {
            Object::Endpoint(end) => Some(end),
            Object::Eni(_)
            | Object::Hop(_)
            | Object::Rules(_)
            | Object::Peer(_)
            | Object::Trace(_)
            | Object::Policy(_) => None,
        }
    }

    /// Follows the packets of every active circuit through what the agents have: they must arrive at the other end,
    /// at every hop under a label and between addresses that it expects. Also compares the books.
    pub(super) fn check(&mut self) {
        self.check_wires();
        self.check_books();
    }

    pub(super) fn check_wires(&mut self) {
        self.check_counts();
        let circuits: Vec<_> = self
            .fabric
            .circuits
            .iter()
            .map(|circuit| guarantee::view(circuit, &self.fabric.topology, &self.fabric.nodes).circuit)
            .collect();
        for circuit in &circuits {
            // A plain device has no end to be followed to.
            if !circuit.external.is_empty() {
                continue;
            }
            let heard = |path: &Path| {
                path.nodes.iter().all(|node| self.agents.get(node).is_some_and(Agent::is_heard))
            };
            let Some(path) = circuit.path.as_ref().filter(|_| circuit.state == CircuitState::Active) else {
                continue;
            };
            self.check_gates(circuit.id, &path.nodes);
            if heard(path) {
                self.follow_both(circuit.id, path, Way::Primary);
            }
            if let Some(backup) = circuit.backup.as_ref().filter(|backup| heard(path) && heard(backup)) {
                self.follow_both(circuit.id, backup, Way::Backup);
            }
        }
        for (node, agent) in &self.agents {
            if agent.is_heard() {
                let Tell::Whole { objects, .. } = self.fabric.nodes[node].desire.whole() else {
                    panic!("whole")
                };
                assert!(
                    agent.objects.values().eq(objects.iter()),
                    "{node} has something else than is desired"
                );
            }
        }
    }

    fn check_counts(&self) {
        let mut counts = super::standing::Counts {
            switches: self.fabric.standing().switches,
            moves: self.fabric.standing().moves,
            ..Default::default()
        };
        for circuit in self.fabric.circuits.iter() {
            let Some(route) = circuit.phase.route().filter(|route| !route.path.links.is_empty()) else {
                continue;
            };
            match (&route.backup, circuit.protection.on_backup.len()) {
                (Some(_), 1..) => counts.on_backup += 1,
                (Some(backup), 0) if backup.ready => counts.protected += 1,
                (Some(_), 0) | (None, _) => counts.unprotected += 1,
            }
            let silent = |path: &Path| {
                let silence = |id| self.fabric.topology.link(id)?.silence;
                path.links.iter().any(|id| matches!(silence(id), Some(Silence::Since(_))))
            };
            let second = route.backup.as_ref().filter(|backup| backup.ready);
            let all = silent(&route.path) && second.is_none_or(|backup| silent(&backup.lane.path));
            counts.silent += usize::from(all);
        }
        assert_eq!(self.fabric.standing(), counts);
    }

    /// What is reserved is what paths need and the worst failure brings; after any failure everything fits.
    pub(super) fn check_books(&self) {
        self.check_sums();
        for view in self.fabric.topology.views() {
            let most = self.fabric.topology.link(&view.id).map_or(view.capacity, |link| link.most());
            assert!(most.is_none_or(|most| view.reserved <= most), "{} is over-booked", view.id);
        }
        for ((node, _), port) in self.ports() {
            assert!(port.taken() <= port.most, "{} of {node} is over-booked: {port:?}", port.interface);
        }
        self.check_failures();
        self.check_to_come();
    }

    /// The same, but a link may be shown to be over-booked by what its paths need, or by backups that are in use.
    pub(super) fn check_books_in_use(&self) {
        self.check_sums();
        for view in self.fabric.topology.views() {
            for (failure, _) in self.fabric.topology.excess(&Spot::Link(view.id.clone())) {
                for circuit in self.fabric.circuits.iter() {
                    let Some(route) = circuit.phase.route() else { continue };
                    let Some(backup) = route.second().filter(|_| !circuit.spec.bounds.bandwidth.is_zero())
                    else {
                        continue;
                    };
                    let moved = backup.path.links.contains(&view.id) && !route.path.links.contains(&view.id);
                    let moved = moved && failure.moves(&route.path, &backup.path);
                    let used = self.fabric.may_be_on_backup(circuit.id);
                    assert!(
                        !moved || used,
                        "{} takes room on {} that others are promised",
                        circuit.id,
                        view.id
                    );
                }
            }
        }
    }

    /// Those of known speed.
    fn ports(&self) -> Vec<((&NodeName, &Name), &Port)> {
        let named = self.fabric.nodes.iter().flat_map(|(name, node)| {
            node.record.underlays.iter().map(move |underlay| (name, &underlay.network))
        });
        named.filter_map(|at| Some((at, self.fabric.topology.port(at.0, at.1)?))).collect()
    }

    /// How many times a path leaves or comes by an interface of that host in that network, counted by its hosts.
    fn crossings(path: &Path) -> BTreeMap<(&NodeName, &Name), u64> {
        let mut crossings = BTreeMap::new();
        for (pair, link) in path.nodes.windows(2).zip(&path.links) {
            for node in pair {
                *crossings.entry((node, link.network())).or_default() += 1;
            }
        }
        crossings
    }

    fn check_sums(&self) {
        let circuits: Vec<_> = self.fabric.circuits.iter().filter_map(Booked::of).collect();
        let mut reserved: BTreeMap<&LinkId, u64> = BTreeMap::new();
        let mut moved: BTreeMap<&LinkId, BTreeMap<Failure<'_>, u64>> = BTreeMap::new();
        for circuit in &circuits {
            for link in &circuit.path.links {
                *reserved.entry(link).or_default() += circuit.need;
            }
            let Some(backup) = circuit.backup else { continue };
            for link in backup.links.iter().filter(|link| !circuit.path.links.contains(link)) {
                for failure in circuit.failures.difference(&circuit.of_backup) {
                    *moved.entry(link).or_default().entry(*failure).or_default() += circuit.need;
                }
            }
        }
        for view in self.fabric.topology.views() {
            let worst = moved.get(&view.id).and_then(|sums| sums.values().max().copied());
            let sum = reserved.get(&view.id).copied().unwrap_or(0) + worst.unwrap_or(0);
            assert_eq!(view.reserved.bits_per_second(), sum, "{}", view.id);
        }
        self.check_sums_of_interfaces(&circuits);
    }

    fn check_sums_of_interfaces(&self, circuits: &[Booked<'_>]) {
        let mut sums: BTreeMap<(&NodeName, &Name), Sums<'_>> = BTreeMap::new();
        for circuit in circuits {
            let on_path = Self::crossings(circuit.path);
            for (interface, times) in &on_path {
                sums.entry(*interface).or_default().0 += times * circuit.need;
            }
            for (interface, times) in circuit.backup.into_iter().flat_map(Self::crossings) {
                let more = times.saturating_sub(on_path.get(&interface).copied().unwrap_or(0)) * circuit.need;
                for failure in circuit.failures.difference(&circuit.of_backup).filter(|_| more > 0) {
                    *sums.entry(interface).or_default().1.entry(*failure).or_default() += more;
                }
            }
        }
        for (at, port) in self.ports() {
            let (reserved, moved) = sums.remove(&at).unwrap_or_default();
            let sum = reserved + moved.values().max().copied().unwrap_or(0);
            assert_eq!(port.taken().bits_per_second(), sum, "{} of {}", port.interface, at.0);
        }
    }

    /// At no instant to come have paths more than there is: of those that stand until their ends, and of those that are
    /// scheduled for their time.
    fn check_to_come(&self) {
        let starts = self.fabric.circuits.iter().filter(|circuit| circuit.scheduled().is_some());
        let starts: BTreeSet<_> = starts.filter_map(|circuit| circuit.spec.starts).collect();
        for start in starts {
            let then = self.fabric.circuits.iter().filter(|circuit| {
                circuit.spec.expires.is_none_or(|end| end > start)
                    && (circuit.scheduled().is_none() || circuit.spec.starts <= Some(start))
            });
            let mut links: BTreeMap<&LinkId, u64> = BTreeMap::new();
            let mut interfaces: BTreeMap<(&NodeName, &Name), u64> = BTreeMap::new();
            for circuit in then {
                let path = circuit.scheduled().or(circuit.phase.route().map(|route| &route.path));
                let need = circuit.spec.bounds.bandwidth.bits_per_second();
                for link in path.into_iter().flat_map(|path| &path.links) {
                    *links.entry(link).or_default() += need;
                }
                for (interface, times) in path.into_iter().flat_map(Self::crossings) {
                    *interfaces.entry(interface).or_default() += times * need;
                }
            }
            for (link, sum) in links {
                let most = self.fabric.topology.link(link).and_then(|link| link.most());
                let fits = most.is_none_or(|most| sum <= most.bits_per_second());
                assert!(fits, "at {start} {link} is promised {sum} of {most:?}");
            }
            for ((node, network), sum) in interfaces {
                let Some(port) = self.fabric.topology.port(node, network) else { continue };
                let most = port.most.bits_per_second();
                assert!(sum <= most, "at {start} {node} in {network} is promised {sum} of {most}");
            }
        }
    }

    fn check_failures(&self) {
        let circuits: Vec<_> = self.fabric.circuits.iter().filter_map(Booked::of).collect();
        let everything: BTreeSet<_> = circuits.iter().flat_map(|circuit| &circuit.failures).collect();
        for failure in everything {
            let mut crossing: BTreeMap<&LinkId, u64> = BTreeMap::new();
            let mut interfaces: BTreeMap<(&NodeName, &Name), u64> = BTreeMap::new();
            for circuit in &circuits {
                let path = (!circuit.failures.contains(failure)).then_some(circuit.path);
                let way = path.or(circuit.backup.filter(|_| !circuit.of_backup.contains(failure)));
                for link in way.into_iter().flat_map(|way| &way.links) {
                    *crossing.entry(link).or_default() += circuit.need;
                }
                for (interface, times) in way.into_iter().flat_map(Self::crossings) {
                    *interfaces.entry(interface).or_default() += times * circuit.need;
                }
            }
            for ((node, network), sum) in interfaces {
                let Some(port) = self.fabric.topology.port(node, network) else { continue };
                let most = port.most.bits_per_second();
                assert!(
                    sum <= most,
                    "after the end of {failure:?}, {node} in {network} carries {sum} of {most}"
                );
            }
            for (link, sum) in crossing {
                let capacity = self.fabric.topology.link(link).and_then(|link| link.capacity());
                let fits = capacity.is_none_or(|capacity| sum <= capacity.bits_per_second());
                assert!(fits, "after the end of {failure:?}, {link} carries {sum} of {capacity:?}");
            }
        }
    }

    /// An end that is open stays so until it is told otherwise, heard of or not.
    fn check_gates(&self, id: CircuitId, nodes: &[NodeName]) {
        for (node, side) in [(&nodes[0], Side::Source), (&nodes[nodes.len() - 1], Side::Destination)] {
            let gate = self.endpoint(node, id, side).map(|end| end.gate);
            assert_eq!(gate, Some(Gate::Open), "{id} is active, at {node}");
        }
    }

    fn follow_both(&self, id: CircuitId, path: &Path, way: Way) {
        self.follow(id, &path.nodes, Side::Source, way);
        let back: Vec<_> = path.nodes.iter().rev().cloned().collect();
        self.follow(id, &back, Side::Destination, way);
    }

    fn follow(&self, id: CircuitId, nodes: &[NodeName], from: Side, way: Way) {
        let (first, last) = (&nodes[0], &nodes[nodes.len() - 1]);
        let to = match from {
            Side::Source => Side::Destination,
            Side::Destination => Side::Source,
        };
        let (Some(start), Some(end)) = (self.endpoint(first, id, from), self.endpoint(last, id, to)) else {
            panic!("an end of {id} is missing")
        };
        assert_eq!(start.gate, Gate::Open);
        for (node, end) in [(first, start), (last, end)] {
            let agent = &self.agents[node];
            assert!(agent.objects.contains_key(&ObjectKey::Rules(id)), "{node} has no rules of {id}");
            let eni = agent.objects.get(&ObjectKey::Eni(end.resource.clone()));
            assert!(matches!(eni, Some(Object::Eni(_))), "{node} has no interface of {}", end.resource);
        }
        if let Leg::Local { resource, .. } = &start.leg {
            return assert_eq!(*resource, end.resource);
        }
        let Some((mut send, _)) = ways(start, way) else {
            // Its hosts are not ready; then no end knows of it.
            return assert_eq!(ways(end, way), None, "{id}: one end has a backup");
        };
        for pair in nodes.windows(2) {
            assert_eq!(send.node, pair[1]);
            let receives = |label, local, from| {
                assert_eq!((label, local, from), (send.label, send.remote, send.local), "into {}", pair[1]);
            };
            if pair[1] == *last {
                let (_, receive) = ways(end, way).expect("both ends have it");
                return receives(receive.label, receive.local, receive.from);
            }
            let next = self.hop(&pair[1], &send);
            assert_eq!((next.circuit, next.from_side), (id, from));
            receives(next.receive.label, next.receive.local, next.receive.from);
            send = next.send.clone();
        }
    }

    fn hop(&self, node: &NodeName, send: &NextHop) -> &Hop {
        match self.agents[node].objects.get(&ObjectKey::Hop(send.label)) {
            Some(Object::Hop(hop)) => hop,
            other => panic!("{node} has {other:?} under label {}", send.label),
        }
    }
}

/// How an end sends and receives one way.
fn ways(end: &Endpoint, way: Way) -> Option<(NextHop, Receive)> {
    let Leg::Tunnel { send, receive, backup, .. } = &end.leg else { panic!("not a tunnel") };
    match way {
        Way::Primary => Some((send.clone(), receive[0].clone())),
        Way::Backup => backup.as_ref().map(|backup| (backup.send.clone(), backup.receive.clone())),
    }
}

/// A circuit that needs bandwidth.
struct Booked<'a> {
    need: u64,
    path: &'a Path,
    failures: BTreeSet<Failure<'a>>,
    backup: Option<&'a Path>,
    of_backup: BTreeSet<Failure<'a>>,
}

/// What paths reserve at an interface, and what each failure would bring there.
type Sums<'a> = (u64, BTreeMap<Failure<'a>, u64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Failure<'a> {
    Host(&'a NodeName),
    Link(&'a LinkId),
}

impl<'a> Booked<'a> {
    fn of(circuit: &'a crate::circuit::Circuit) -> Option<Self> {
        let route = circuit.phase.route()?;
        let need = circuit.spec.bounds.bandwidth.bits_per_second();
        let backup = route.second().map(|lane| &lane.path);
        Some(Self {
            need,
            path: &route.path,
            failures: failures(&route.path),
            backup,
            of_backup: backup.map(failures).unwrap_or_default(),
        })
        .filter(|_| need > 0)
    }
}

/// What a path dies of: its links, and the hosts between its ends.
fn failures(path: &Path) -> BTreeSet<Failure<'_>> {
    let hosts = path.nodes[1..path.nodes.len().max(2) - 1].iter().map(Failure::Host);
    hosts.chain(path.links.iter().map(Failure::Link)).collect()
}
