//! What happens by itself when its time has come.
use super::Fabric;
use crate::circuit::Phase;
use crate::deadlines::Deadline;
use proto_model::{CircuitId, Timestamp};
use std::collections::BTreeSet;

/// Circuits that one step places anew; so that no step takes long, however many circuits a lost host leaves behind.
const WORK_PER_STEP: usize = 32;
/// Deadlines that one step handles; the rest stay due.
const DEADLINES_PER_STEP: usize = 1_000;

impl Fabric {
    pub(super) fn tick(&mut self, now: Timestamp) {
        for _ in 0..DEADLINES_PER_STEP {
            let Some(deadline) = self.deadlines.pop(now) else { return };
            match deadline {
                Deadline::Lease(id) => self.lease_ran_out(&id, now),
                Deadline::NodeGrace(name) => self.node_given_up(&name, now),
                Deadline::Trouble(id) => self.patience_is_over(id, now),
                Deadline::Retry(id) => self.queue(id, now),
                Deadline::RetryAll => self.queue_unserved(now),
                Deadline::Idempotency(key) => self.forget_key(&key),
                Deadline::Token(hash) => self.drop_token(&hash),
                Deadline::Work => return self.work_off(now),
            }
        }
    }

    /// Suspended circuits, and those that found no way around a lost host.
    fn queue_unserved(&mut self, now: Timestamp) {
        let mut ids = self.circuits.suspended.clone();
        let lost = self.given_up.iter().filter_map(|name| self.nodes.get(name));
        ids.extend(lost.flat_map(|node| node.circuits.iter().copied()));
        for id in ids {
            self.queue(id, now);
        }
    }

    fn work_off(&mut self, now: Timestamp) {
        for _ in 0..WORK_PER_STEP {
            let Some((_, id)) = self.work.pop_first() else { return };
            let Some(circuit) = self.circuits.get(id) else { continue };
            let due = match &circuit.phase {
                Phase::Suspended { .. } => true,
                Phase::Building { route, .. } | Phase::Opening { route, .. } | Phase::Active { route } => {
                    self.is_broken(route)
                }
                Phase::Closing { .. } => false,
            };
            if due {
                self.place_anew(id, &BTreeSet::new(), now);
            }
        }
        if !self.work.is_empty() {
            self.deadlines.set(Deadline::Work, now);
        }
    }

    /// A host could not build an object for too long: another path without it, else the circuit rests for a while.
    fn patience_is_over(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let (Some(why), Some(route)) = (circuit.trouble_text(), circuit.phase.route()) else { return };
        let nodes = &route.path.nodes;
        let transit = nodes.get(1..nodes.len().saturating_sub(1)).unwrap_or_default();
        let troubled: BTreeSet<_> = circuit.trouble.keys().map(|(node, _)| node.clone()).collect();
        let shun: BTreeSet<_> = transit.iter().filter(|node| troubled.contains(*node)).cloned().collect();
        let old = route.path.clone();
        if shun.len() == troubled.len() {
            self.place_anew(id, &shun, now);
        }
        let moved =
            self.circuits.get(id).and_then(|c| c.phase.route()).is_some_and(|route| route.path != old);
        if !moved {
            if !self.is_suspended(id) {
                self.suspend(id, why, now);
            }
            self.deadlines.set(Deadline::Retry(id), now.plus(self.settings.timing.retry));
        }
    }
}
