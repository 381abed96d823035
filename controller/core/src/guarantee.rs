//! Shows a circuit with what its links do to it: where its bandwidth is guaranteed and where not, and which are silent.
use crate::circuit::Circuit;
use crate::registry::nodes::Node;
use crate::silence::{self, Silent};
use crate::topology::{Port, Topology};
use proto_model::circuit::Path;
use proto_model::desired::ObjectKey;
use proto_model::request::CircuitView;
use proto_model::topology::LinkId;
use proto_model::{Bandwidth, Name, NodeName};
use std::collections::{BTreeMap, BTreeSet};

/// A circuit as it is shown.
pub fn view(circuit: &Circuit, topology: &Topology, nodes: &BTreeMap<NodeName, Node>) -> CircuitView {
    let mut view = circuit.view();
    let Silent { dead, remark } = silence::of(circuit, topology);
    view.circuit.silence = dead;
    if !remark.is_empty() {
        let said = &mut view.circuit.protection;
        *said = if said.is_empty() { remark } else { format!("{said}; {remark}") };
    }
    if !circuit.spec.bounds.bandwidth.is_zero() && circuit.scheduled().is_none() {
        let shown = &mut view.circuit;
        let paths: Vec<&Path> = shown.path.iter().chain(&shown.backup).collect();
        shown.guarantee = text(&paths, topology, nodes);
    }
    view
}

/// Of each link and of both its directions: the host that sends into it keeps the circuit's share, if it may and can.
fn text(paths: &[&Path], topology: &Topology, nodes: &BTreeMap<NodeName, Node>) -> String {
    let links = || paths.iter().flat_map(|path| &path.links);
    if links().next().is_none() {
        return String::new();
    }
    let (mut missing, mut failed, mut narrow) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for id in links() {
        let Some(link) = topology.link(id) else { continue };
        narrow.extend(link.over_booked().map(|over| over_booked(id, over)));
        missing.extend(link.unshaped().map(|node| format!("{node} in {}", id.network())));
        let (one, other) = id.ends();
        for host in [one, other] {
            let port = topology.port(host, id.network());
            narrow.extend(port.and_then(|port| over_booked_port(host, port)));
            failed.extend(nodes.get(host).and_then(|node| trouble(node, id.network())));
        }
    }
    let join = |places: BTreeSet<String>| places.into_iter().collect::<Vec<_>>().join(", ");
    let part = |text: &str, places: BTreeSet<String>| {
        (!places.is_empty()).then(|| format!("{text}: {}", join(places)))
    };
    let parts = [
        part("not kept in full", narrow),
        part("only accounted where nobody allowed to shape", missing),
        part("only accounted where queues could not be made", failed),
    ];
    match parts.into_iter().flatten().collect::<Vec<_>>() {
        none if none.is_empty() => "kept at every host".into(),
        parts => parts.join("; "),
    }
}

/// More was promised than the link has, since its capacity was lowered or backups came into use.
fn over_booked(id: &LinkId, over: Bandwidth) -> String {
    let (a, b) = id.ends();
    format!("{a}–{b} ({}) is over-booked by {over}", id.network())
}

/// The same of an interface: of all that leaves by it.
fn over_booked_port(host: &NodeName, port: &Port) -> Option<String> {
    port.over_booked().map(|over| format!("{} of {host} is over-booked by {over}", port.interface))
}

/// Why a host that may shape what it sends into a network does not.
fn trouble(node: &Node, network: &Name) -> Option<String> {
    let shaped = node.record.underlays.iter().filter(|at| at.shape && at.network == *network);
    let mut troubles = shaped.filter_map(|at| node.failures.get(&ObjectKey::Queues(at.interface.clone())));
    troubles.next().map(|why| format!("{} in {network} ({why})", node.record.name))
}
