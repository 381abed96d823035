//! Knows which hosts may still have something of a circuit that was taken off them.
use super::Fabric;
use proto_model::request::Left;
use proto_model::{CircuitId, NodeName};

impl Fabric {
    /// These were told in this step to let go of something of the circuit.
    pub(super) fn note_leaving(&mut self, id: CircuitId, hosts: impl IntoIterator<Item = NodeName>) {
        let told = hosts.into_iter().filter_map(|name| {
            let generation = self.nodes.get(&name)?.desire.carrying();
            Some((name, generation))
        });
        let told: Vec<_> = told.collect();
        self.forget_left(id);
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        circuit.leaving.extend(told);
    }

    /// Those that have reported it gone, or are gone themselves, are named no longer.
    pub(super) fn forget_left(&mut self, id: CircuitId) {
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.leaving.retain(|node, need| self.nodes.get(node).is_some_and(|at| at.reported < *need));
        }
    }

    /// Those that have not reported it gone: one out of contact removes it when its agent is back.
    pub(super) fn left_on(&self, id: CircuitId) -> Left {
        let Some(circuit) = self.circuits.get(id) else { return Left::default() };
        let late = circuit.leaving.iter().filter_map(|(name, need)| {
            let node = self.nodes.get(name).filter(|node| node.reported < *need)?;
            Some((name.clone(), node.is_connected()))
        });
        let late: Vec<_> = late.collect();
        let absent = late.iter().filter(|(_, connected)| !connected);
        Left {
            absent: absent.map(|(name, _)| name.clone()).collect(),
            pending: late.iter().map(|(name, _)| name.clone()).collect(),
        }
    }
}
