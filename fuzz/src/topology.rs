//! Topology files: reading never panics, and what is read refers only to what is there.
use tests_sim::topology::Topology;

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(topology) = Topology::parse(text) else { return };
    for link in &topology.links {
        assert!(link.id().is_some(), "a link with one end");
    }
    for workload in &topology.workloads {
        assert!(topology.nodes.contains(&workload.node), "{} is on a host that is not there", workload.name);
    }
}
