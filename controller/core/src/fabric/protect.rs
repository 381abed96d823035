//! Gives circuits a second way, promotes it when the first is gone, and finds another one.
use super::Fabric;
use super::place::{ends, reason};
use crate::circuit::{Circuit, Phase, Waiting};
use crate::compile;
use crate::deadlines::Deadline;
use crate::protection::Retiring;
use crate::record::{Backup, Lane, Placed};
use crate::route;
use crate::route::backup::{self, Second};
use crate::route::paths::inner;
use crate::topology::{Failure, Spot, spots};
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::desired::ObjectKey;
use proto_model::insight::Happened;
use proto_model::{CircuitId, Generation, NodeName, Timestamp};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

/// A path that both ends have left stands for so long: what was sent by it may wait in queues on the way.
const DRAIN: Duration = Duration::from_secs(1);

/// Whose object it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concern {
    Path,
    Backup,
    /// Of a path that is being left.
    Nobody,
}

pub(super) fn concern(circuit: &Circuit, node: &NodeName, key: &ObjectKey) -> Concern {
    let ObjectKey::Hop(_) = key else { return Concern::Path };
    let Some(route) = circuit.phase.route() else { return Concern::Nobody };
    let has = |lane: &Lane| compile::hop_keys(lane).iter().any(|(at, hop)| at == node && hop == key);
    if has(&route.lane()) {
        Concern::Path
    } else if route.second().is_some_and(has) {
        Concern::Backup
    } else {
        Concern::Nobody
    }
}

impl Fabric {
    /// Why a circuit cannot have a backup at all.
    pub(super) fn unprotectable(&self, spec: &CircuitSpec, path: &Path) -> Option<&'static str> {
        if self.outside(spec).is_some() {
            return Some("one end is a plain VXLAN device, which answers no probes: there is no backup");
        }
        if path.hops() == 0 {
            return Some("both ends are on one host: there is nothing to protect");
        }
        spec.pinned_path.is_some().then_some("the path is pinned: there is no backup")
    }

    /// Looks for a second way; `decision` and `ask` are those that the path was chosen by.
    pub(super) fn second(
        &self,
        spec: &CircuitSpec,
        decision: &route::Decision,
        ask: &route::Ask<'_>,
        path: &Path,
    ) -> Result<Second, String> {
        match self.unprotectable(spec, path) {
            Some(why) => Err(why.into()),
            None => backup::choose(&self.topology, &self.weights(&spec.bounds), ask, decision, path),
        }
    }

    /// The second way of the path that is chosen; if that has no disjoint one and another path has, that is chosen.
    pub(super) fn both(
        &self,
        spec: &CircuitSpec,
        decision: &mut route::Decision,
        ask: &route::Ask<'_>,
    ) -> Result<Second, String> {
        let Some(best) = decision.chosen().map(|chosen| chosen.path.clone()) else {
            return Err("there is no path".into());
        };
        let second = self.second(spec, decision, ask, &best);
        if self.unprotectable(spec, &best).is_some() {
            return second;
        }
        let pair = route::pair::prefer(&self.topology, &self.weights(&spec.bounds), ask, decision, &second);
        pair.map_or(second, Ok)
    }

    pub(super) fn seek(
        &self,
        spec: &CircuitSpec,
        shun: &BTreeSet<NodeName>,
        path: &Path,
    ) -> Result<Second, String> {
        if let Some(why) = self.unprotectable(spec, path) {
            return Err(why.into());
        }
        // Mostly there is one, and nobody has to look at all paths.
        let disjoint = self
            .ask(spec, shun)
            .ok()
            .and_then(|ask| backup::disjoint(&self.topology, &self.weights(&spec.bounds), &ask, path));
        if let Some(second) = disjoint {
            return Ok(second);
        }
        let found = self.decide(spec, shun, |decision, ask| self.second(spec, decision, ask, path));
        found.unwrap_or_else(|refusal| Err(reason(refusal)))
    }

    /// Allocates the labels of a second way, or notes why there is none.
    pub(super) fn add_backup(&mut self, route: &mut Placed, second: Result<Second, String>, now: Timestamp) {
        let allocated = second.and_then(|second| {
            let offer = second.candidate.offer;
            let placed = self.allocate(second.candidate.path, offer.mtu, None, now).map_err(reason)?;
            Ok((placed.lane(), second.remark))
        });
        (route.backup, route.protection) = match allocated {
            Ok((lane, remark)) => {
                let ready = inner(&lane.path).is_empty();
                (Some(Backup { lane, ready }), remark)
            }
            Err(why) => (None, why),
        };
    }

    /// Gives a placed circuit without a backup one, if there is one.
    pub(super) fn protect(&mut self, id: CircuitId, second: Result<Second, String>, now: Timestamp) {
        let Some(mut route) = self.route_of(id).filter(|route| route.backup.is_none()) else { return };
        let before = route.clone();
        self.add_backup(&mut route, second, now);
        if route == before {
            return;
        }
        self.exchange(id, &before, &route);
        self.tell_anew(id, now);
        self.wait_for_backup(id, now);
    }

    pub(super) fn route_of(&self, id: CircuitId) -> Option<Placed> {
        self.circuits.get(id).and_then(|circuit| circuit.phase.route()).cloned()
    }

    /// Moves everything that a circuit holds beside its labels and objects from one route to another.
    pub(super) fn exchange(&mut self, id: CircuitId, old: &Placed, new: &Placed) {
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let Some(route) = circuit.phase.route_mut() else { return };
        route.clone_from(new);
        let spec = circuit.spec.clone();
        self.unbook(id, old, &spec);
        self.book(id, new, &spec);
        let (before, after) = (old.hosts(), new.hosts());
        for node in before.difference(&after) {
            if let Some(at) = self.nodes.get_mut(node) {
                at.circuits.remove(&id);
            }
        }
        for node in after.difference(&before) {
            if let Some(at) = self.nodes.get_mut(node) {
                at.circuits.insert(id);
            }
        }
        let (was, is) = (old.mtu_of_both(), new.mtu_of_both());
        if was != is {
            for resource in [&spec.source, &spec.destination] {
                if let Some(member) = self.resources.get_mut(resource) {
                    member.remove_mtu(was);
                    member.add_mtu(is);
                }
                self.refresh_interface(resource);
            }
        }
        self.note_lacking(id);
    }

    /// Tells the hosts of a placed circuit what it is now.
    pub(super) fn tell_anew(&mut self, id: CircuitId, now: Timestamp) {
        self.step.persist(id);
        self.step.announce_circuit(id);
        if let Err(broken) = self.want_objects(id) {
            self.suspend(id, format!("its path does not compile: {broken}"), now);
            self.queue(id, now);
        }
    }

    /// Its hosts may be slow: only the ends' second way depends on them.
    pub(super) fn wait_for_backup(&mut self, id: CircuitId, now: Timestamp) {
        let Some(route) = self.route_of(id) else { return };
        let Some(lane) = route.backup.filter(|backup| !backup.ready).map(|backup| backup.lane) else {
            return;
        };
        let waits = self.waits(id, inner(&lane.path).iter().cloned());
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.protection.waiting = waits;
        }
        self.be_patient_with_backup(id, now);
    }

    fn be_patient_with_backup(&mut self, id: CircuitId, now: Timestamp) {
        self.deadlines.set(Deadline::Backup(id), now.plus(self.settings.timing.build_patience));
    }

    /// Takes the backup out of use; the path is not touched. The caller tells the ends.
    pub(super) fn drop_backup(&mut self, id: CircuitId, why: &str, now: Timestamp) {
        let Some(old) = self.route_of(id) else { return };
        let Some(lane) = old.second() else { return };
        let new = Placed { backup: None, protection: why.into(), ..old.clone() };
        self.forget_lane(id, lane);
        self.exchange(id, &old, &new);
        self.deadlines.clear(&Deadline::Backup(id));
        self.deadlines.clear(&Deadline::Repair(id));
        self.abandon_move(id, "its backup was taken out of use", now);
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.protection.waiting.clear();
            circuit.protection.trouble.clear();
            circuit.protection.on_backup.clear();
            if !circuit.spec.bounds.bandwidth.is_zero() {
                self.retry_suspended(now);
            }
        }
    }

    /// The hops of a path are wanted no longer; its labels rest until that is reported.
    pub(super) fn forget_lane(&mut self, id: CircuitId, lane: &Lane) {
        for (node, key) in compile::hop_keys(lane) {
            self.undesire(&node, &key);
        }
        self.hold_labels(compile::lane_labels(lane));
        self.note_leaving(id, inner(&lane.path).iter().cloned());
        self.step.persist(id);
    }

    /// The backup is gone or bad: another one is sought soon.
    pub(super) fn lose_backup(&mut self, id: CircuitId, why: &str, now: Timestamp) {
        self.drop_backup(id, why, now);
        self.tell_anew(id, now);
        self.seek_soon(id, now);
    }

    pub(super) fn seek_soon(&mut self, id: CircuitId, now: Timestamp) {
        if let Some(circuit) = self.circuits.get(id).filter(|circuit| circuit.phase.route().is_some()) {
            self.seeking.insert((Reverse(circuit.spec.priority), id));
            self.deadlines.set(Deadline::Protect, now);
        }
    }

    /// The ends know the second way, and as far as is known here it stands.
    pub(super) fn can_promote(&self, id: CircuitId, shun: &BTreeSet<NodeName>) -> bool {
        let Some(circuit) = self.circuits.get(id).filter(|circuit| circuit.phase.opened()) else {
            return false;
        };
        let backup = circuit.phase.route().and_then(|route| route.backup.as_ref());
        backup.is_some_and(|backup| {
            backup.ready
                && circuit.protection.trouble.is_empty()
                && !self.is_broken(&backup.lane.path)
                && !backup.lane.path.nodes.iter().any(|node| shun.contains(node))
        })
    }

    /// The backup becomes the path, under the labels that it has. The ends receive the old way, too, until both have
    /// reported that they send the new one; so no packet is lost by it.
    pub(super) fn promote(&mut self, id: CircuitId, now: Timestamp) {
        let Some(route) = self.route_of(id) else { return };
        let to = route.second().map(|lane| lane.path.clone());
        if to.is_some() {
            let why = "its path had failed, or a host or link of it was gone".to_owned();
            self.note_past(id, Happened::Promoted, [Some(route.path), to], why, now);
        }
        self.change_over(id, now);
    }

    /// Makes the backup the path, and lets go of the other one when it is left.
    pub(super) fn change_over(&mut self, id: CircuitId, now: Timestamp) {
        let Some(old) = self.route_of(id) else { return };
        let Some(lane) = old.second().cloned() else { return };
        self.end_retirement(id);
        self.end_move(id);
        let mut new = Placed::on(lane);
        new.protection = "the backup has become the path; another one is sought".into();
        self.exchange(id, &old, &new);
        let keys: BTreeSet<_> = compile::keys(id, &new).into_iter().collect();
        let mut patient = false;
        if let Some(circuit) = self.circuits.get_mut(id) {
            let protection = &mut circuit.protection;
            protection.on_backup.clear();
            protection.waiting.clear();
            protection.retiring = Some(Retiring { lane: old.lane(), waiting: Waiting::new() });
            circuit.trouble.retain(|place, _| matches!(place.1, ObjectKey::Eni(_)) || keys.contains(place));
            circuit.trouble.append(&mut protection.trouble);
            patient = !circuit.trouble.is_empty() || !matches!(circuit.phase, Phase::Active { .. });
        }
        for deadline in [Deadline::Trouble(id), Deadline::Repair(id), Deadline::Backup(id)] {
            self.deadlines.clear(&deadline);
        }
        if patient {
            self.be_patient(id, now);
        }
        self.tell_anew(id, now);
        self.wait_for_ends(id, &new);
        self.note_promotion(id, &new.path);
        let crossed: Vec<_> = spots(&new.path).into_keys().collect();
        self.relieve(&crossed, now);
        self.seek_soon(id, now);
    }

    /// Whether an end may be sending by the backup now: its agent says so, or has said nothing in its present session.
    pub(super) fn may_be_on_backup(&self, id: CircuitId) -> bool {
        let Some(circuit) = self.circuits.get(id) else { return false };
        let Some(route) = circuit.phase.route() else { return false };
        let is_heard = |end: &NodeName| {
            self.nodes.get(end).is_some_and(|at| at.is_connected() && at.reported > Generation(0))
        };
        route.backup.as_ref().is_some_and(|backup| backup.ready)
            && (!circuit.protection.on_backup.is_empty() || !ends(route).iter().all(is_heard))
    }

    /// Of the new path; an opening circuit is open when they have reported.
    pub(super) fn wait_for_ends(&mut self, id: CircuitId, route: &Placed) {
        let waits = self.waits(id, ends(route));
        if let Some(circuit) = self.circuits.get_mut(id) {
            if let Phase::Opening { waiting, .. } = &mut circuit.phase {
                waiting.clone_from(&waits);
            }
            if let Some(retiring) = &mut circuit.protection.retiring {
                retiring.waiting = waits;
            }
        }
    }

    /// Lets go of the path that a circuit was on before. The caller tells the ends.
    pub(super) fn end_retirement(&mut self, id: CircuitId) -> Option<Lane> {
        self.deadlines.clear(&Deadline::Drained(id));
        let lane = self.circuits.get_mut(id)?.protection.retiring.take()?.lane;
        self.forget_lane(id, &lane);
        Some(lane)
    }

    /// Both ends send another way. Nothing is on its way over a host that was removed.
    fn drain(&mut self, id: CircuitId, now: Timestamp) {
        let Some(old) = self.circuits.get(id).and_then(|circuit| circuit.protection.retiring.as_ref()) else {
            return;
        };
        match old.lane.path.nodes.iter().all(|node| self.nodes.contains_key(node)) {
            true => self.deadlines.set_if_none(Deadline::Drained(id), now.plus(DRAIN)),
            false => self.drained(id, now),
        }
    }

    /// A host is about to be removed: what drains over it is let go of.
    pub(super) fn drain_no_more(&mut self, name: &NodeName, now: Timestamp) {
        let over = |lane: &Lane| lane.path.nodes.contains(name);
        let drains = |circuit: &&Circuit| {
            let old = circuit.protection.retiring.as_ref();
            old.is_some_and(|old| old.waiting.is_empty() && over(&old.lane))
        };
        let drained: Vec<_> = self.circuits.iter().filter(drains).map(|circuit| circuit.id).collect();
        drained.into_iter().for_each(|id| self.drained(id, now));
    }

    /// Both ends have sent another way for a while.
    pub(super) fn drained(&mut self, id: CircuitId, now: Timestamp) {
        let retiring = self.circuits.get(id).and_then(|circuit| circuit.protection.retiring.as_ref());
        if retiring.is_some_and(|old| old.waiting.is_empty()) {
            self.end_retirement(id);
            self.tell_anew(id, now);
        }
    }

    /// After one failure its moves are made good; against the next one less may be left. Backups that would come to a
    /// link or an interface by a failure that brings too much give way, those of the least priority first; what is in use stays, and the
    /// place is shown to be over-booked until it is not.
    pub(super) fn relieve(&mut self, spots: &[Spot], now: Timestamp) {
        for spot in spots {
            for (failure, _) in self.topology.excess(spot) {
                for circuit in self.not_needed(spot, &failure) {
                    if self.topology.excess_by(spot, &failure).is_zero() {
                        break;
                    }
                    let why = format!("the backup made room on {spot}; another one is sought");
                    self.lose_backup(circuit, &why, now);
                }
            }
            match self.topology.excess(spot).is_empty() {
                true => self.over_booked.remove(spot),
                false => self.over_booked.insert(spot.clone()),
            };
        }
    }

    /// An end has left its backup, or has said that it is not on it.
    pub(super) fn relieve_again(&mut self, now: Timestamp) {
        let spots: Vec<_> = self.over_booked.iter().cloned().collect();
        self.relieve(&spots, now);
    }

    /// Circuits that a failure would move there and that do not need this way now, those of the least priority
    /// first.
    fn not_needed(&self, spot: &Spot, failure: &Failure) -> Vec<CircuitId> {
        // True: its hosts were lost, and it is about to be moved there.
        let spare = |id: CircuitId| {
            let route = self.circuits.get(id).and_then(|circuit| circuit.phase.route())?;
            let backup = route.backup.as_ref()?;
            let moved = failure.moves(&route.path, &backup.lane.path) && !self.may_be_on_backup(id);
            moved.then(|| (backup.ready && self.is_broken(&route.path), id))
        };
        let holders = self.backups.get(spot).into_iter().flatten();
        let mut spare: Vec<_> = holders.filter_map(|(_, id)| spare(*id)).collect();
        spare.sort_by_key(|(soon, _)| *soon);
        spare.into_iter().map(|(_, id)| id).collect()
    }

    /// A node has reported: the backup may be ready, or the old path be left by all.
    pub(super) fn advance_protection(&mut self, id: CircuitId, now: Timestamp) {
        let late = |node: &NodeName, need: &mut Generation| {
            self.nodes.get(node).is_some_and(|at| at.reported < *need)
        };
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let building = matches!(circuit.phase, Phase::Building { .. });
        let protection = &mut circuit.protection;
        protection.waiting.retain(late);
        let left = protection.retiring.as_mut().is_some_and(|retiring| {
            retiring.waiting.retain(late);
            retiring.waiting.is_empty()
        });
        let built = protection.waiting.is_empty() && protection.trouble.is_empty();
        let backup = circuit.phase.route_mut().and_then(|route| route.backup.as_mut());
        let ready =
            backup.filter(|backup| built && !backup.ready).map(|backup| backup.ready = true).is_some();
        if ready {
            self.deadlines.clear(&Deadline::Backup(id));
            self.step.persist(id);
            self.step.announce_circuit(id);
        }
        if left {
            self.drain(id, now);
        }
        // What is waited for before a broken path is left.
        if ready && self.route_of(id).is_some_and(|route| self.is_broken(&route.path)) {
            self.queue(id, now);
        }
        // The ends of one that is being built are told when they are told to open.
        if ready && !building {
            self.tell_anew(id, now);
        }
        self.advance_move(id, now);
    }

    /// Hosts that failed to build the circuit's backup lately, and these.
    fn shun(&mut self, id: CircuitId, more: BTreeSet<NodeName>, now: Timestamp) -> BTreeSet<NodeName> {
        let until = now.plus(self.settings.timing.retry);
        let Some(circuit) = self.circuits.get_mut(id) else { return more };
        let shunned = &mut circuit.protection.shunned;
        shunned.retain(|_, until| *until > now);
        shunned.extend(more.into_iter().map(|node| (node, until)));
        shunned.keys().cloned().collect()
    }

    /// The backup's hosts fail or are silent for too long: another one without them.
    pub(super) fn backup_is_late(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let Some(route) = circuit.phase.route().filter(|route| route.backup.is_some()).cloned() else {
            return;
        };
        if self.may_be_on_backup(id) {
            return self.be_patient_with_backup(id, now);
        }
        let silent = self.silent(Some(&circuit.protection.waiting), now);
        let failing = circuit.protection.trouble.keys().map(|(node, _)| node.clone());
        let shun: BTreeSet<_> = failing.chain(silent).collect();
        if shun.is_empty() {
            if !circuit.protection.waiting.is_empty() {
                self.be_patient_with_backup(id, now);
            }
            return;
        }
        let spec = circuit.spec.clone();
        self.drop_backup(id, "", now);
        let shun = self.shun(id, shun, now);
        let second = self.seek(&spec, &shun, &route.path);
        if second.is_err() {
            self.deadlines.set(Deadline::Retry(id), now.plus(self.settings.timing.retry));
        }
        self.protect(id, second, now);
        self.tell_anew(id, now);
    }
}
