//! Says where a circuit's bandwidth is guaranteed, and where it is only accounted.
use crate::circuit::Circuit;
use crate::topology::Topology;
use proto_model::circuit::Path;
use proto_model::request::CircuitView;

/// A circuit as it is shown.
pub fn view(circuit: &Circuit, topology: &Topology) -> CircuitView {
    let mut view = circuit.view();
    if !circuit.spec.bounds.bandwidth.is_zero() {
        let shown = &mut view.circuit;
        let paths: Vec<&Path> = shown.path.iter().chain(&shown.backup).collect();
        shown.guarantee = text(&paths, topology);
    }
    view
}

/// Of each link and of both its directions: the host that sends into it keeps the circuit's share, if it may.
fn text(paths: &[&Path], topology: &Topology) -> String {
    let links = || paths.iter().flat_map(|path| &path.links);
    if links().next().is_none() {
        return String::new();
    }
    let mut missing: Vec<String> = Vec::new();
    for id in links() {
        let Some(link) = topology.link(id) else { continue };
        missing.extend(link.unshaped().map(|node| format!("{node} in {}", id.network())));
    }
    missing.sort();
    missing.dedup();
    if missing.is_empty() {
        return "kept at every host".into();
    }
    format!("only accounted where nobody allowed to shape: {}", missing.join(", "))
}
