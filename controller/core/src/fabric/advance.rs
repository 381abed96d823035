//! Moves each circuit on when its nodes have reported what they were told.
use super::Fabric;
use super::place::ends;
use crate::circuit::{Phase, Waiting};
use crate::deadlines::Deadline;
use crate::record::{Placed, RecordKey};
use proto_model::request::Event;
use proto_model::{CircuitId, Generation, NodeName, Timestamp};

impl Fabric {
    /// Notes which nodes have to report what they were told in this step before the circuit moves on.
    pub(super) fn wait_for(&mut self, id: CircuitId, nodes: impl IntoIterator<Item = NodeName>) {
        let waits = self.waits(id, nodes);
        if let Some(waiting) = self.circuits.get_mut(id).and_then(|circuit| circuit.phase.waiting_mut()) {
            *waiting = waits;
        }
    }

    /// Notes which ends have to report the rules that they were told in this step.
    pub(super) fn wait_for_rules(&mut self, id: CircuitId) {
        let Some(route) = self.circuits.get(id).and_then(|circuit| circuit.phase.route()) else { return };
        let waits = self.waits(id, ends(route));
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.rules_waiting = waits;
        }
    }

    pub(super) fn waits(&mut self, id: CircuitId, nodes: impl IntoIterator<Item = NodeName>) -> Waiting {
        let mut waits = Waiting::new();
        for name in nodes {
            let Some(node) = self.nodes.get_mut(&name) else { continue };
            let generation = node.desire.carrying();
            node.awaiting.entry(generation).or_default().insert(id);
            waits.insert(name, generation);
        }
        waits
    }

    /// A node has reported, or an object failed or recovered: moves the circuit on if nothing is in its way.
    pub(super) fn advance(&mut self, id: CircuitId, now: Timestamp) {
        self.advance_protection(id, now);
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let late = |node: &NodeName, need: &mut Generation| {
            self.nodes.get(node).is_some_and(|at| at.reported < *need)
        };
        if !circuit.rules_waiting.is_empty() {
            circuit.rules_waiting.retain(late);
            // Other phases are announced when they end.
            if circuit.rules_waiting.is_empty() && matches!(circuit.phase, Phase::Active { .. }) {
                self.step.announce_circuit(id);
            }
        }
        let mut phase = circuit.phase.clone();
        if let Some(waiting) = phase.waiting_mut() {
            waiting.retain(late);
            let clear = waiting.is_empty();
            if let Some(current) = circuit.phase.waiting_mut() {
                current.clone_from(waiting);
            }
            if !clear {
                return;
            }
        }
        let troubled = !circuit.trouble.is_empty();
        match phase {
            Phase::Building { route, .. } if !troubled => self.open(id, route, now),
            Phase::Opening { route, .. } if !troubled => {
                self.circuits.enter(id, Phase::Active { route }, now);
                self.deadlines.clear(&Deadline::Trouble(id));
                self.step.persist(id);
                self.step.announce_circuit(id);
            }
            Phase::Closing { .. } => self.vanish(id),
            Phase::Building { .. }
            | Phase::Opening { .. }
            | Phase::Active { .. }
            | Phase::Suspended { .. }
            | Phase::Scheduled { .. } => {}
        }
    }

    /// Every hop is in place: tells the two ends to let packets in.
    fn open(&mut self, id: CircuitId, route: Placed, now: Timestamp) {
        let ends = ends(&route);
        self.circuits.enter(id, Phase::Opening { route, waiting: Waiting::new() }, now);
        if let Err(broken) = self.want_objects(id) {
            self.suspend(id, format!("its path does not compile: {broken}"), now);
            self.queue(id, now);
            return;
        }
        self.be_patient(id, now);
        self.wait_for(id, ends);
        self.step.persist(id);
        self.step.announce_circuit(id);
    }

    /// Every host in contact has let go of it.
    pub(super) fn vanish(&mut self, id: CircuitId) {
        self.end_trace(id);
        let left = self.left_on(id);
        if self.circuits.remove(id).is_some() {
            self.ran.forget(&id);
            self.deadlines.clear(&Deadline::Retry(id));
            self.deadlines.clear(&Deadline::Ends(id));
            self.deadlines.clear(&Deadline::Starts(id));
            self.step.delete(RecordKey::Circuit(id));
            self.step.delete(RecordKey::Decision(id));
            self.step.announce_gone(Event::CircuitGone { id, left });
        }
    }
}
