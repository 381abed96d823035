//! What happens by itself when its time has come.
use super::Fabric;
use crate::circuit::{Phase, Waiting};
use crate::deadlines::Deadline;
use proto_model::{CircuitId, NodeName, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Circuits that one step places anew; so that no step takes long, however many circuits a lost host leaves behind.
const WORK_PER_STEP: usize = 32;
/// Deadlines that one step handles; the rest stay due.
const DEADLINES_PER_STEP: usize = 1_000;
/// So that no more paths are sought for circuits in trouble either.
const COST_OF_TROUBLE: usize = DEADLINES_PER_STEP / WORK_PER_STEP;

impl Fabric {
    pub(super) fn tick(&mut self, now: Timestamp) {
        let mut left = DEADLINES_PER_STEP;
        while left > 0 {
            let Some(deadline) = self.deadlines.pop(now) else { return };
            // Over patience a path is sought; over a repair backups that gave way.
            let seeks = matches!(
                deadline,
                Deadline::Trouble(_) | Deadline::Backup(_) | Deadline::Repair(_) | Deadline::Starts(_)
            );
            let cost = if seeks { COST_OF_TROUBLE } else { 1 };
            left = left.saturating_sub(cost);
            match deadline {
                Deadline::Lease(id) => self.lease_ran_out(&id, now),
                Deadline::NodeGrace(name) => self.node_given_up(&name, now),
                Deadline::EndGrace(name) => self.release_ends(&name, now),
                Deadline::Trouble(id) => self.patience_is_over(id, now),
                Deadline::Backup(id) => self.backup_is_late(id, now),
                Deadline::Repair(id) => self.repair(id, now),
                Deadline::Ends(id) => self.something_ended(id, now),
                Deadline::Starts(id) => self.start(id, now),
                Deadline::Policy(name) => self.policy_ended(&name, now),
                Deadline::Retry(id) if self.is_suspended(id) => self.queue(id, now),
                Deadline::Retry(id) => self.seek_soon(id, now),
                Deadline::RetryAll => self.queue_unserved(now),
                Deadline::RetryMeasured => self.queue_measured(now),
                Deadline::Idempotency(key) => self.forget_key(&key),
                Deadline::Token(hash) => self.drop_token(&hash),
                Deadline::Query(query) => self.query_is_late(query, now),
                Deadline::Trace(id) => self.end_trace(id),
                Deadline::Silence(link) => self.silence_is_old(&link, now),
                Deadline::Learn => return self.learn_again(now),
                Deadline::LookAhead => return self.look_ahead(now),
                Deadline::Note => return self.note_circuits(now),
                Deadline::Drained(id) => self.drained(id, now),
                Deadline::Moving(id) => self.advance_move(id, now),
                Deadline::Listen => return self.listen(now),
                Deadline::Protect => return self.protect_some(now),
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

    /// A quantity that shrinks little by little is no event.
    fn queue_measured(&mut self, now: Timestamp) {
        let by_measurement = |id: &&CircuitId| {
            let bounds = self.circuits.get(**id).map(|circuit| &circuit.spec.bounds);
            bounds.is_some_and(|bounds| bounds.max_rtt.is_some() || bounds.max_loss.is_some())
        };
        let ids: Vec<_> = self.circuits.suspended.iter().filter(by_measurement).copied().collect();
        for id in ids {
            self.queue(id, now);
        }
    }

    fn work_off(&mut self, now: Timestamp) {
        for _ in 0..WORK_PER_STEP {
            let Some((_, id)) = self.work.pop_first() else { return };
            let Some(circuit) = self.circuits.get(id) else { continue };
            let (due, backup) = match &circuit.phase {
                Phase::Suspended { .. } => (true, false),
                Phase::Building { route, .. } | Phase::Opening { route, .. } | Phase::Active { route } => {
                    let backup = route.second().is_some_and(|lane| self.is_broken(&lane.path));
                    (self.is_broken(&route.path) || self.has_lost_its_end(id), backup)
                }
                Phase::Scheduled { .. } | Phase::Closing { .. } => (false, false),
            };
            if due {
                self.place_anew(id, &BTreeSet::new(), now);
            } else if backup {
                self.try_to_protect(id, now);
            }
        }
        if !self.work.is_empty() {
            self.deadlines.set(Deadline::Work, now);
        }
    }

    /// Hosts in contact that have not got any further for as long as they may.
    pub(super) fn silent(&self, waiting: Option<&Waiting>, now: Timestamp) -> BTreeSet<NodeName> {
        let patience = self.settings.timing.build_patience;
        let is_silent = |name: &NodeName| {
            let node = self.nodes.get(name).filter(|node| node.is_connected());
            node.is_some_and(|node| now.since(node.progressed) >= patience)
        };
        waiting.into_iter().flat_map(BTreeMap::keys).filter(|name| is_silent(name)).cloned().collect()
    }

    /// A host could not build an object, or said nothing, for too long: another path without it, else the circuit rests for a while.
    fn patience_is_over(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let Some(route) = circuit.phase.route() else { return };
        let silent = self.silent(circuit.phase.waiting(), now);
        let silence = silent.first().map(|node| {
            let patience = self.settings.timing.build_patience.as_secs_f64();
            format!("{node} is connected, but has not done what it was told for {patience} s")
        });
        let Some(why) = circuit.trouble_text().or(silence) else {
            // Hosts that get further, or are out of contact; for the latter there is a grace period.
            if circuit.phase.waiting().is_some() {
                self.be_patient(id, now);
            }
            return;
        };
        let nodes = &route.path.nodes;
        let transit = nodes.get(1..nodes.len().saturating_sub(1)).unwrap_or_default();
        let failing = circuit.trouble.keys().map(|(node, _)| node.clone());
        let troubled: BTreeSet<_> = failing.chain(silent).collect();
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
