//! Follows links that fall silent: what is said of the circuits over them changes, a few per step.
use super::Fabric;
use crate::deadlines::Deadline;
use crate::silence;
use crate::topology::FRESH;
use proto_model::topology::LinkId;
use proto_model::{CircuitId, Timestamp};
use std::time::Duration;

/// Circuits that one step looks at.
const LISTEN_PER_STEP: usize = 512;
/// After it a measurement that was just fresh is not.
const A_MOMENT: Duration = Duration::from_millis(1);

impl Fabric {
    /// Something was measured. What says that the link is silent is true for as long as measurements are fresh.
    pub(super) fn follow_silence(&mut self, link: &LinkId, turned: bool, now: Timestamp) {
        if turned {
            self.listen_anew(link, now);
        }
        let known = Deadline::Silence(link.clone());
        match self.topology.link(link).and_then(|link| link.silence) {
            Some(_) => self.deadlines.set(known, now.plus(FRESH + A_MOMENT)),
            None if turned => self.deadlines.clear(&known),
            None => {}
        }
    }

    pub(super) fn silence_is_old(&mut self, link: &LinkId, now: Timestamp) {
        let turned = self.topology.listen(link);
        self.follow_silence(link, turned, now);
    }

    /// The link has fallen silent, answers again, or is another one.
    pub(super) fn listen_anew(&mut self, link: &LinkId, now: Timestamp) {
        let Some(node) = self.nodes.get(link.ends().0) else { return };
        let crosses = |id: &&CircuitId| {
            let route = self.circuits.get(**id).and_then(|circuit| circuit.phase.route());
            route.is_some_and(|route| {
                let backup = route.second().is_some_and(|lane| lane.path.links.contains(link));
                backup || route.path.links.contains(link)
            })
        };
        self.doubtful.extend(node.circuits.iter().filter(crosses));
        if !self.doubtful.is_empty() {
            self.deadlines.set_if_none(Deadline::Listen, now);
        }
    }

    /// Announces those of which something else is to be said now.
    pub(super) fn listen(&mut self, now: Timestamp) {
        for _ in 0..LISTEN_PER_STEP {
            let Some(id) = self.doubtful.pop_first() else { return };
            let Some(circuit) = self.circuits.get(id) else { continue };
            if silence::of(circuit, &self.topology) != self.silences.get(id) {
                self.step.announce_circuit(id);
            }
        }
        if !self.doubtful.is_empty() {
            self.deadlines.set(Deadline::Listen, now);
        }
    }

    /// Something about the circuit changed, or it is gone.
    pub(super) fn note_silence(&mut self, id: CircuitId) {
        let circuit = self.circuits.get(id);
        let silent = circuit.map(|circuit| silence::of(circuit, &self.topology)).unwrap_or_default();
        self.silences.set(id, silent);
    }
}
