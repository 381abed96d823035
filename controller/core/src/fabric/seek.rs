//! Seeks backups, a few per step: for circuits that lost theirs, and when something got better for all without one.
use super::Fabric;
use crate::deadlines::Deadline;
use proto_model::{CircuitId, Timestamp};
use std::ops::Bound;
use std::time::Duration;

/// Circuits that one step seeks a backup for.
const SEEK_PER_STEP: usize = 32;
/// Those without one are looked at again when something got better: so many at a time, with such a pause, so that a
/// hundred thousand of them on a network without second ways cost a few per cent of a processor.
const SWEEP_PER_STEP: usize = 16;
const SWEEP_PAUSE: Duration = Duration::from_millis(200);
impl Fabric {
    /// Seeks backups for a few circuits: first those that lost theirs, then, when something got better, the others.
    pub(super) fn protect_some(&mut self, now: Timestamp) {
        let mut left = SEEK_PER_STEP;
        while let Some((_, id)) = if left > 0 { self.seeking.pop_first() } else { None } {
            left -= 1;
            self.try_to_protect(id, now);
        }
        if !self.seeking.is_empty() {
            return self.deadlines.set(Deadline::Protect, now);
        }
        for _ in 0..SWEEP_PER_STEP.min(left) {
            if self.sweep == 0 {
                return;
            }
            self.sweep -= 1;
            let after = (Bound::Excluded(self.swept), Bound::Unbounded);
            let next = self.lacking.range(after).next().or_else(|| self.lacking.first()).copied();
            let Some(id) = next else {
                self.sweep = 0;
                return;
            };
            self.swept = id;
            self.try_to_protect(id, now);
        }
        if self.sweep > 0 {
            self.deadlines.set(Deadline::Protect, now.plus(SWEEP_PAUSE));
        }
    }

    /// Something got better: every circuit without a disjoint backup is looked at once more.
    pub(super) fn sweep_lacking(&mut self, now: Timestamp) {
        if !self.lacking.is_empty() {
            self.sweep = self.lacking.len();
            self.deadlines.set_if_none(Deadline::Protect, now.plus(SWEEP_PAUSE));
        }
    }

    /// A circuit without a disjoint backup, or with one that is broken, gets a better one if there is one.
    pub(super) fn try_to_protect(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let Some(route) = circuit.phase.route().cloned() else { return };
        let spec = circuit.spec.clone();
        if self.check_ends(&spec).is_err() || circuit.moving.is_some() {
            return;
        }
        // Left when another one stands.
        if self.is_broken(&route.path) {
            return self.queue(id, now);
        }
        let shun = circuit.protection.shunned(now);
        let Some(backup) = &route.backup else {
            let second = self.seek(&spec, &shun, &route.path);
            return self.protect(id, second, now);
        };
        let in_use = self.may_be_on_backup(id);
        let broken = self.is_broken(&backup.lane.path);
        if !broken && (route.protection.is_empty() || in_use) {
            return;
        }
        // By what an end sends is not taken away. It becomes the path when that one is dead, and is left like any path.
        if in_use {
            let text = "a host of the backup is lost, and an end may send by it: it is kept";
            return self.remark(id, text.into());
        }
        // Its own reservation is not in its way.
        let (path, bandwidth) = (&route.path, spec.bounds.bandwidth);
        self.topology.release_backup(path, &backup.lane.path, bandwidth);
        let second = self.seek(&spec, &shun, path);
        self.topology.reserve_backup(path, &backup.lane.path, bandwidth);
        match second {
            Ok(same) if same.candidate.path == backup.lane.path => self.remark(id, same.remark),
            Ok(better) if broken || better.remark.is_empty() => {
                self.drop_backup(id, "", now);
                self.protect(id, Ok(better), now);
            }
            // Who is out of contact may forward; the agents see for themselves.
            Err(why) if broken => {
                self.remark(id, format!("a host of the backup is lost, and there is no other: {why}"));
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn remark(&mut self, id: CircuitId, text: String) {
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let Some(route) = circuit.phase.route_mut().filter(|route| route.protection != text) else { return };
        route.protection = text;
        self.step.persist(id);
        self.step.announce_circuit(id);
        self.note_lacking(id);
    }

    /// Keeps the list of those that are looked at when something got better.
    pub(super) fn note_lacking(&mut self, id: CircuitId) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let lacks = circuit.phase.route().is_some_and(|route| {
            let second = route.backup.is_none() || !route.protection.is_empty();
            second && self.unprotectable(&circuit.spec, &route.path).is_none()
        });
        match lacks {
            true => self.lacking.insert(id),
            false => self.lacking.remove(&id),
        };
    }
}
