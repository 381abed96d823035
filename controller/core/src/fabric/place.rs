//! Puts circuits on their paths and takes them off, and places those anew whose path does not serve.
use super::Fabric;
use crate::circuit::{Circuit, Phase, Waiting};
use crate::compile::{self, Tip};
use crate::deadlines::Deadline;
use crate::protection::Protection;
use crate::record::{Placed, Record};
use crate::route::paths::inner;
use crate::topology::moved_to;
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::desired::{Gate, Object, ObjectKey};
use proto_model::insight::Happened;
use proto_model::intent::Bounds;
use proto_model::plan::Plan;
use proto_model::{CircuitId, Label, NodeName, Refusal, ResourceId, Timestamp};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

impl Fabric {
    /// Everything that a placed circuit holds beside its labels.
    pub(super) fn occupy(&mut self, id: CircuitId, spec: &CircuitSpec, route: &Placed) {
        self.book(id, route, spec);
        for node in &route.hosts() {
            if let Some(at) = self.nodes.get_mut(node) {
                at.circuits.insert(id);
            }
        }
        for resource in [&spec.source, &spec.destination] {
            if let Some(member) = self.resources.get_mut(resource) {
                member.add_mtu(route.mtu_of_both());
            }
            self.refresh_interface(resource);
        }
    }

    /// What it may send, and what it is seen to send.
    pub(super) fn book(&mut self, id: CircuitId, route: &Placed, spec: &CircuitSpec) {
        self.topology.reserve(&route.path, spec.bounds.bandwidth);
        self.topology.ends(&route.path, spec.bounds.bandwidth, spec.expires);
        let rate = self.circuits.get(id).map(|circuit| circuit.rate.now()).unwrap_or_default();
        self.topology.carry(&route.path, rate, spec.bounds.bandwidth);
        let Some(lane) = route.second().filter(|_| !spec.bounds.bandwidth.is_zero()) else { return };
        self.topology.reserve_backup(&route.path, &lane.path, spec.bounds.bandwidth);
        for (spot, _) in moved_to(&route.path, &lane.path, spec.bounds.bandwidth) {
            self.backups.entry(spot).or_default().insert((spec.priority, id));
        }
    }

    pub(super) fn unbook(&mut self, id: CircuitId, route: &Placed, spec: &CircuitSpec) {
        self.topology.release(&route.path, spec.bounds.bandwidth);
        self.topology.ends_not(&route.path, spec.bounds.bandwidth, spec.expires);
        let rate = self.circuits.get(id).map(|circuit| circuit.rate.now()).unwrap_or_default();
        self.topology.carry_less(&route.path, rate, spec.bounds.bandwidth);
        let Some(lane) = route.second().filter(|_| !spec.bounds.bandwidth.is_zero()) else { return };
        self.topology.release_backup(&route.path, &lane.path, spec.bounds.bandwidth);
        for (spot, _) in moved_to(&route.path, &lane.path, spec.bounds.bandwidth) {
            if let Some(circuits) = self.backups.get_mut(&spot) {
                circuits.remove(&(spec.priority, id));
                if circuits.is_empty() {
                    self.backups.remove(&spot);
                }
            }
        }
    }

    /// Makes the ENI of a resource as its circuits need it.
    pub(super) fn refresh_interface(&mut self, id: &ResourceId) {
        let Some(member) = self.resources.get(id) else { return };
        let node = member.resource.metadata.node.clone();
        match member.eni(self.resources.interface(&member.resource)) {
            Some(eni) => self.desire(&node, Object::Eni(eni)),
            None => self.undesire(&node, &ObjectKey::Eni(id.clone())),
        }
    }

    pub(super) fn undesire(&mut self, node: &NodeName, key: &ObjectKey) {
        if let Some(at) = self.nodes.get_mut(node) {
            at.desire.remove(key);
            self.step.tell(node, false);
        }
    }

    /// Takes an allocated path into use: reserves, and wants its objects with closed gates.
    pub(super) fn build(&mut self, id: CircuitId, route: Placed, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let spec = circuit.spec.clone();
        self.occupy(id, &spec, &route);
        let nodes = route.path.nodes.clone();
        self.circuits.enter(id, Phase::Building { route, waiting: Waiting::new() }, now);
        if let Err(broken) = self.want_objects(id) {
            // Decided on this topology in this very step, so this is a bug; the circuit is not lost by it.
            self.suspend(id, format!("its path does not compile: {broken}"), now);
            return;
        }
        self.inherit_trouble(id);
        self.be_patient(id, now);
        self.wait_for(id, nodes);
        self.wait_for_rules(id);
        self.wait_for_backup(id, now);
        self.note_lacking(id);
        self.note_placed(id, now);
        self.step.persist(id);
        self.step.announce_circuit(id);
        self.give_way_to_plans(id, now);
    }

    /// What a host could not make before and is wanted still: an interface that other circuits share, an end that
    /// only got another path. The host does not say it again.
    fn inherit_trouble(&mut self, id: CircuitId) {
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let Some(route) = circuit.phase.route() else { return };
        // Nobody has seen the labels of the hops before.
        let mut keys = compile::keys(id, route);
        keys.retain(|(_, key)| !matches!(key, ObjectKey::Hop(_)));
        for resource in [&circuit.spec.source, &circuit.spec.destination] {
            if let Some(member) = self.resources.get(resource) {
                keys.push((member.resource.metadata.node.clone(), ObjectKey::Eni(resource.clone())));
            }
        }
        for (node, key) in keys {
            let why = self.nodes.get(&node).and_then(|at| at.failures.get(&key)).cloned();
            circuit.trouble.extend(why.map(|why| ((node, key), why)));
        }
    }

    /// From now on its hosts have so long to do what they are told.
    pub(super) fn be_patient(&mut self, id: CircuitId, now: Timestamp) {
        self.deadlines.set(Deadline::Trouble(id), now.plus(self.settings.timing.build_patience));
    }

    /// Wants the objects of a placed circuit as its phase and the topology are now.
    pub(super) fn want_objects(&mut self, id: CircuitId) -> Result<(), compile::Broken> {
        let Some(circuit) = self.circuits.get(id) else { return Ok(()) };
        let Some(route) = circuit.phase.route() else { return Ok(()) };
        let tip = |resource| self.resources.get(resource).map(|member| member.resource.address);
        let Some((source, destination)) = tip(&circuit.spec.source).zip(tip(&circuit.spec.destination))
        else {
            return Ok(());
        };
        let keys = |node: Option<&NodeName>| {
            let node = node.and_then(|name| self.nodes.get(name));
            node.map(|node| node.record.seal_keys.as_slice()).unwrap_or_default()
        };
        let nodes = &route.path.nodes;
        let sealed = circuit.spec.bounds.encrypted;
        let compiled = compile::Circuit {
            id,
            source: Tip { resource: &circuit.spec.source, address: source },
            destination: Tip { resource: &circuit.spec.destination, address: destination },
            route,
            retiring: circuit.protection.retiring.as_ref().map(|old| &old.lane),
            bounds: &circuit.spec.bounds,
            keys: sealed.then(|| [keys(nodes.first()), keys(nodes.last())]),
            gate: if circuit.phase.opened() { Gate::Open } else { Gate::Closed },
            expires: circuit.spec.expires,
            rules_version: circuit.rules_version,
            rules: &circuit.rules,
            revert: circuit.revert.as_ref(),
        };
        for (node, object) in compile::objects(&compiled, &self.topology)? {
            self.desire(&node, object);
        }
        Ok(())
    }

    /// Takes a circuit off its path: objects, reservation, labels. Returns the hosts that it was on.
    pub(super) fn clear(&mut self, id: CircuitId, now: Timestamp) -> BTreeSet<NodeName> {
        let Some(circuit) = self.circuits.get_mut(id) else { return BTreeSet::new() };
        circuit.trouble.clear();
        circuit.lost_ends.clear();
        circuit.rules_waiting.clear();
        let Some(route) = circuit.phase.route().cloned() else { return BTreeSet::new() };
        let spec = circuit.spec.clone();
        let mut nodes = route.hosts();
        for deadline in [Deadline::Trouble(id), Deadline::Backup(id), Deadline::Repair(id)] {
            self.deadlines.clear(&deadline);
        }
        self.lacking.remove(&id);
        nodes.extend(self.end_retirement(id).into_iter().flat_map(|lane| lane.path.nodes));
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.protection = Protection::default();
        }
        self.end_move(id);
        for (node, key) in compile::keys(id, &route) {
            self.undesire(&node, &key);
        }
        for resource in [&spec.source, &spec.destination] {
            if let Some(member) = self.resources.get_mut(resource) {
                member.remove_mtu(route.mtu_of_both());
            }
            self.refresh_interface(resource);
        }
        self.unbook(id, &route, &spec);
        if !spec.bounds.bandwidth.is_zero() {
            self.retry_suspended(now);
        }
        self.hold_labels(compile::labels(&route));
        self.note_leaving(id, nodes.iter().cloned());
        for node in &nodes {
            if let Some(at) = self.nodes.get_mut(node) {
                at.circuits.remove(&id);
            }
        }
        nodes
    }

    /// Keeps labels until each node has reported that nothing listens under them: all of this step, because the objects
    /// of some nodes change after their labels were let go.
    pub(super) fn hold_labels(&mut self, labels: Vec<(NodeName, Label)>) {
        self.step.hold(labels);
    }

    pub(super) fn suspend(&mut self, id: CircuitId, why: String, now: Timestamp) {
        let from = self.route_of(id).map(|route| route.path);
        self.note_past(id, Happened::Suspended, [from, None], why.clone(), now);
        self.clear(id, now);
        self.circuits.enter(id, Phase::Suspended { why }, now);
        self.step.persist(id);
        self.step.announce_circuit(id);
    }

    /// Puts a circuit on the list of those that are placed anew, a few per step.
    pub(super) fn queue(&mut self, id: CircuitId, now: Timestamp) {
        if let Some(circuit) = self.circuits.get(id) {
            self.work.insert((Reverse(circuit.spec.priority), id));
            self.deadlines.set_if_none(Deadline::Work, now);
        }
    }

    /// Something got better: suspended circuits may fit now. Waits a little, because good news comes in groups.
    pub(super) fn retry_suspended(&mut self, now: Timestamp) {
        const GATHER: Duration = Duration::from_millis(500);
        if !self.circuits.suspended.is_empty() || !self.given_up.is_empty() {
            self.deadlines.set_if_none(Deadline::RetryAll, now.plus(GATHER));
        }
        self.sweep_lacking(now);
    }

    /// Places a suspended circuit, or one whose path does not serve any longer; hosts in `shun` are kept out.
    pub(super) fn place_anew(&mut self, id: CircuitId, shun: &BTreeSet<NodeName>, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        if circuit.phase.is_closing() || circuit.scheduled().is_some() {
            return;
        }
        let spec = circuit.spec.clone();
        let (mut old, opened) = (circuit.phase.route().cloned(), circuit.phase.opened());
        if let Err(refusal) = self.check_ends(&spec) {
            if old.is_none() {
                self.set_why(id, reason(refusal));
            } else if self.has_lost_its_end(id) {
                let lost = self.circuits.get(id).and_then(Circuit::lost_text);
                self.suspend(id, lost.unwrap_or_else(|| reason(refusal)), now);
            }
            return;
        }
        if let Some(broken) = old.as_ref().filter(|old| self.is_left(old, shun)) {
            if self.can_promote(id, shun) {
                return self.promote(id, now);
            }
            if self.stands_before_it_is_left(id, &spec, broken, shun, now) {
                return;
            }
            old = self.route_of(id);
        }
        // Its own reservation is not in its way.
        if let Some(old) = &old {
            self.unbook(id, old, &spec);
        }
        let outcome = self.choose_for_standing(&spec, shun, old.as_ref(), now);
        if let Some(old) = &old {
            self.book(id, old, &spec);
        }
        let outcome = outcome.and_then(|chosen| {
            let moves = old.as_ref().is_none_or(|old| old.path != chosen.path.path);
            if moves {
                self.allocate_both(&chosen, now).map(|placed| Some((placed, chosen.plan)))
            } else {
                Ok(None)
            }
        });
        match outcome {
            Ok(None) => {}
            Ok(Some((placed, plan))) => self.rebuild(id, placed, plan, now),
            Err(refusal) => self.could_not_place(id, old.as_ref(), opened, reason(refusal), now),
        }
    }

    /// Hosts of the path that are out of contact may forward, so another one is built as the backup first; when it stands,
    /// it becomes the path. False: there is none, or the path cannot be kept for so long.
    fn stands_before_it_is_left(
        &mut self,
        id: CircuitId,
        spec: &CircuitSpec,
        old: &Placed,
        shun: &BTreeSet<NodeName>,
        now: Timestamp,
    ) -> bool {
        let is_active =
            self.circuits.get(id).is_some_and(|circuit| matches!(circuit.phase, Phase::Active { .. }));
        if !is_active || !shun.is_empty() || compile::mtu(&old.path, &spec.bounds, &self.topology).is_err() {
            return false;
        }
        let broken = old.second().is_some_and(|lane| self.is_broken(&lane.path));
        match &old.backup {
            Some(backup) if !broken => return !backup.ready,
            // Either way may be in use, and there is no third: the one that the ends chose is kept.
            Some(_) if self.may_be_on_backup(id) => {
                if old
                    .second()
                    .is_some_and(|lane| compile::mtu(&lane.path, &spec.bounds, &self.topology).is_ok())
                {
                    self.promote(id, now);
                }
                return true;
            }
            Some(_) => {
                self.drop_backup(id, "a host of it and of the path is lost; another one is sought", now);
                self.tell_anew(id, now);
            }
            None => {}
        }
        let shun = self.circuits.get(id).map(|circuit| circuit.protection.shunned(now)).unwrap_or_default();
        let Ok(second) = self.seek(spec, &shun, &old.path) else { return false };
        self.protect(id, Ok(second), now);
        self.route_of(id).is_some_and(|route| route.backup.is_some())
    }

    fn rebuild(&mut self, id: CircuitId, placed: Placed, plan: Plan, now: Timestamp) {
        self.clear(id, now);
        self.deadlines.clear(&Deadline::Retry(id));
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.decision = Some(Box::new(plan.clone()));
        }
        self.step.put(Record::Decision(id, plan));
        self.build(id, placed, now);
    }

    /// An open circuit stays where it is: its hosts may still forward.
    fn could_not_place(
        &mut self,
        id: CircuitId,
        old: Option<&Placed>,
        opened: bool,
        why: String,
        now: Timestamp,
    ) {
        match (old, opened) {
            (None, _) => self.set_why(id, why),
            (Some(_), true) => {}
            (Some(_), false) => self.suspend(id, why, now),
        }
    }

    fn set_why(&mut self, id: CircuitId, new: String) {
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        if let Phase::Suspended { why } = &mut circuit.phase
            && *why != new
        {
            *why = new;
            self.step.persist(id);
            self.step.announce_circuit(id);
        }
    }

    /// Whether a path can carry its circuit any longer.
    pub(super) fn is_broken(&self, path: &Path) -> bool {
        inner(path).iter().any(|node| self.nodes.get(node).is_none_or(|at| at.is_given_up()))
            || compile::mtu(path, &Bounds::default(), &self.topology).is_err()
    }

    /// Whether a host of its ends is lost for longer than this circuit waits for it: an active one may still be used.
    pub(super) fn has_lost_its_end(&self, id: CircuitId) -> bool {
        let Some(circuit) = self.circuits.get(id) else { return false };
        let is_active = matches!(circuit.phase, Phase::Active { .. });
        let is_lost = |name: &NodeName| {
            let node = self.nodes.get(name);
            node.is_some_and(|node| node.is_given_up() && (node.ends_released || !is_active))
        };
        // A local one holds nothing of anybody else.
        let holds = |route: &Placed| !is_active || route.path.nodes.len() > 1;
        circuit.phase.route().is_some_and(|route| holds(route) && ends(route).iter().any(is_lost))
    }

    pub(super) fn circuit(&self, id: CircuitId) -> Option<&Circuit> {
        self.circuits.get(id)
    }
}

/// The hosts of its two ends, which may be one.
pub(super) fn ends(route: &Placed) -> Vec<NodeName> {
    [route.path.nodes.first(), route.path.nodes.last()].into_iter().flatten().cloned().collect()
}

/// For people who asked for nothing just now: without the field.
pub(super) fn reason(refusal: Refusal) -> String {
    Refusal { field: String::new(), ..refusal }.to_string()
}
