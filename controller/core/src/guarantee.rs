//! Says where a circuit's bandwidth is guaranteed, and where it is only accounted.
use crate::circuit::Circuit;
use crate::registry::nodes::Node;
use crate::topology::Topology;
use proto_model::circuit::Path;
use proto_model::desired::ObjectKey;
use proto_model::request::CircuitView;
use proto_model::{Name, NodeName};
use std::collections::{BTreeMap, BTreeSet};

/// A circuit as it is shown.
pub fn view(circuit: &Circuit, topology: &Topology, nodes: &BTreeMap<NodeName, Node>) -> CircuitView {
    let mut view = circuit.view();
    if !circuit.spec.bounds.bandwidth.is_zero() {
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
    let (mut missing, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for id in links() {
        let Some(link) = topology.link(id) else { continue };
        missing.extend(link.unshaped().map(|node| format!("{node} in {}", id.network())));
        let (one, other) = id.ends();
        let troubles = [one, other].into_iter().filter_map(|name| trouble(nodes.get(name)?, id.network()));
        failed.extend(troubles);
    }
    let join = |places: BTreeSet<String>| places.into_iter().collect::<Vec<_>>().join(", ");
    match (missing.is_empty(), failed.is_empty()) {
        (true, true) => "kept at every host".into(),
        (false, true) => format!("only accounted where nobody allowed to shape: {}", join(missing)),
        (true, false) => format!("only accounted where queues could not be made: {}", join(failed)),
        (false, false) => format!(
            "only accounted where nobody allowed to shape: {}; and where queues could not be made: {}",
            join(missing),
            join(failed)
        ),
    }
}

/// Why a host that may shape what it sends into a network does not.
fn trouble(node: &Node, network: &Name) -> Option<String> {
    let shaped = node.record.underlays.iter().filter(|at| at.shape && at.network == *network);
    let mut troubles = shaped.filter_map(|at| node.failures.get(&ObjectKey::Queues(at.interface.clone())));
    troubles.next().map(|why| format!("{} in {network} ({why})", node.record.name))
}
