//! Circuits whose packets are followed: for how long, and at which hosts.
use super::Fabric;
use crate::deadlines::Deadline;
use proto_model::desired::{Object, ObjectKey, Trace};
use proto_model::request::{CircuitRef, Response};
use proto_model::trace::{Filter, Traced};
use proto_model::{CircuitId, Kind, NodeName, Refusal, Timestamp};
use std::time::Duration;

/// Circuits that are followed at one time, as many as one host can.
pub(super) const MOST: usize = 64;
/// Agents end by their own clocks; this much later the object goes, too.
const AFTER: Duration = Duration::from_secs(1);

/// A circuit that is followed.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    until: Timestamp,
    nodes: Vec<NodeName>,
}

impl Fabric {
    pub(super) fn start_trace(
        &mut self,
        circuit: &CircuitRef,
        filter: Filter,
        snaplen: u16,
        lasts: Duration,
        wanted: Vec<NodeName>,
        now: Timestamp,
    ) -> Result<Response, Refusal> {
        let found = self.find(circuit)?;
        let (id, name) = (found.id, found.spec.name.clone());
        if let Some(followed) = self.traces.get(&id) {
            let what = format!("{name} is followed already, until {}", followed.until);
            return Err(
                Refusal::precondition(what).hint("wait until then, or end the other trace or capture")
            );
        }
        if self.traces.len() >= MOST {
            let what = format!("{MOST} circuits are followed already, no more are allowed at one time");
            return Err(Refusal::new(Kind::Exhausted, what).hint("end another trace or capture"));
        }
        let nodes = self.nodes_to_follow(id, &wanted)?;
        let until = now.plus(lasts);
        for node in &nodes {
            self.desire(node, Object::Trace(Trace { circuit: id, until, filter, snaplen }));
        }
        self.deadlines.set(Deadline::Trace(id), until.plus(AFTER));
        self.traces.insert(id, Followed { until, nodes: nodes.clone() });
        let absent = nodes.iter().filter(|node| !self.is_connected(node)).cloned().collect();
        Ok(Response::Tracing { circuit: id, name, until, nodes, absent })
    }

    fn is_connected(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|node| node.session().is_some())
    }

    /// In the order of the path; the backup's other hosts last.
    fn nodes_to_follow(&self, id: CircuitId, wanted: &[NodeName]) -> Result<Vec<NodeName>, Refusal> {
        let route = self.circuits.get(id).and_then(|circuit| circuit.phase.route());
        let Some(route) = route else {
            let what = format!("{id} runs nowhere now, so there is nothing to follow");
            return Err(Refusal::precondition(what).hint("foreweave circuit show says why"));
        };
        let mut nodes = route.path.nodes.clone();
        let second = route.second().map(|lane| lane.path.nodes.as_slice()).unwrap_or_default();
        nodes.extend(second.iter().filter(|node| !route.path.nodes.contains(node)).cloned());
        if let Some(stranger) = wanted.iter().find(|node| !nodes.contains(node)) {
            let crossed: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
            let what = format!("{id} does not cross {stranger}; it crosses {}", crossed.join(", "));
            return Err(Refusal::invalid("nodes", what));
        }
        nodes.retain(|node| wanted.is_empty() || wanted.contains(node));
        Ok(nodes)
    }

    /// Hosts tell of what they were asked for, and of nothing else: the records are evidence to whoever reads them.
    pub(super) fn traced(&mut self, name: &NodeName, mut packets: Vec<Traced>) {
        packets.retain(|packet| {
            self.traces.get(&packet.circuit).is_some_and(|followed| followed.nodes.contains(name))
        });
        if !packets.is_empty() {
            self.step.traced(name.clone(), packets);
        }
    }

    /// Only what the same request began: another one may have come since.
    pub(super) fn stop_trace(&mut self, id: CircuitId, until: Timestamp) -> Response {
        if self.traces.get(&id).is_some_and(|followed| followed.until == until) {
            self.end_trace(id);
        }
        Response::Done
    }

    pub(super) fn end_trace(&mut self, id: CircuitId) {
        let Some(followed) = self.traces.remove(&id) else { return };
        self.deadlines.clear(&Deadline::Trace(id));
        for node in &followed.nodes {
            self.undesire(node, &ObjectKey::Trace(id));
        }
    }
}
