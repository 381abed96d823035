//! What agents say: sessions come and go, generations are reported, objects fail and recover.
use super::Fabric;
use super::nodes::earlier_enrolment;
use super::place::ends;
use super::protect::{Concern, concern};
use crate::circuit::Phase;
use crate::compile;
use crate::deadlines::Deadline;
use crate::io::Session;
use crate::record::{Placed, Record};
use crate::registry::nodes::{Contact, Node};
use crate::route::admission::MIN_MTU;
use proto_model::access::Fingerprint;
use proto_model::desired::{Object, ObjectKey};
use proto_model::report::{Hello, Report, Say};
use proto_model::{CircuitId, Generation, NodeName, SealKey, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Failures of one node that are remembered, also of objects that it could not remove; the last ones by key are
/// dropped.
const MAX_FAILURES: usize = 50_000;

impl Fabric {
    pub(super) fn agent_said(
        &mut self,
        name: &NodeName,
        session: Session,
        key: Fingerprint,
        say: Say,
        now: Timestamp,
    ) {
        let hello = match say {
            Say::Hello(hello) => return self.agent_hello(name, session, key, hello, now),
            other => other,
        };
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.session() == Some(session)) else {
            return;
        };
        node.seen = Some(now);
        match hello {
            Say::Hello(_) => {}
            Say::Report(report) => self.agent_reported(name, report, now),
            Say::AskWhole => self.step.tell(name, true),
            Say::Telemetry(telemetry) => self.count(name, telemetry, now),
            Say::Drops(events) => self.step.drops(name.clone(), events),
            Say::Answer { query, answer } => self.answered(name, query, answer, now),
            Say::Traced(packets) => self.traced(name, packets),
            Say::Switched(switches) => self.switched(name, switches, now),
        }
    }

    fn agent_hello(
        &mut self,
        name: &NodeName,
        session: Session,
        key: Fingerprint,
        hello: Hello,
        now: Timestamp,
    ) {
        let Some(node) = self.nodes.get_mut(name) else {
            let why = format!("{name} is not a node of region {}; enrol it", self.settings.region);
            return self.step.hang_up(name.clone(), session, why);
        };
        if node.record.enrolled.is_none() {
            let why = format!("{name} has not enrolled; make a token: foreweave node add {name}");
            return self.step.hang_up(name.clone(), session, why);
        }
        let Some(keys) = node.record.keys.after_session(key) else {
            return self.step.hang_up(name.clone(), session, earlier_enrolment(name));
        };
        if let Err(why) = plausible(&hello) {
            return self.step.hang_up(name.clone(), session, why);
        }
        match node.contact {
            Contact::Connected(old) if old > session => return,
            Contact::Lost { session: Some(old), .. } if old >= session => return,
            Contact::Connected(old) if old < session => {
                self.step.hang_up(name.clone(), old, format!("a newer session of {name} has begun"));
            }
            Contact::Connected(_) | Contact::Lost { .. } | Contact::Never => {}
        }
        if keys != node.record.keys {
            node.record.keys = keys;
            self.step.put(Record::Node(node.record.clone()));
        }
        self.forget_queries(name);
        let was_cut_off = self.is_cut_off();
        let Some(node) = self.nodes.get_mut(name) else { return };
        let was_given_up = node.is_given_up();
        node.contact = Contact::Connected(session);
        node.seen = Some(now);
        node.lost = None;
        (node.begun, node.told) = (now, false);
        node.ends_released = false;
        node.version = hello.version;
        node.kernel = hello.kernel;
        node.datapath = hello.datapath;
        node.reported = Generation(0);
        node.progressed = now;
        node.session_start = node.desire.carrying();
        self.deadlines.clear(&Deadline::NodeGrace(name.clone()));
        self.deadlines.clear(&Deadline::EndGrace(name.clone()));
        self.given_up.remove(name);
        if was_cut_off {
            self.spare_ends(now);
        }
        self.forget_switches(name);
        self.topology.set_connected(name, true);
        self.announced(name, hello.underlays, now);
        self.learn_keys(name, hello.seal_keys, now);
        self.step.tell(name, true);
        self.step.announce_node(name);
        if was_given_up {
            self.announce_resources_of(name);
            self.mark_ends(name, None);
        }
        self.retry_suspended(now);
    }

    /// Underlays that differ change the links, and the circuits over them.
    fn announced(
        &mut self,
        name: &NodeName,
        underlays: Vec<proto_model::topology::Underlay>,
        now: Timestamp,
    ) {
        let before = self.topology.over_booked_ports(name);
        if !self.topology.set_underlays(name, underlays.clone()) {
            return;
        }
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.record.underlays = underlays;
        self.step.put(Record::Node(node.record.clone()));
        let circuits: Vec<_> = node.circuits.iter().copied().collect();
        for id in circuits {
            self.follow_topology(id, now);
        }
        if before != self.topology.over_booked_ports(name) {
            self.announce_promises(name, |_| true);
        }
        let ports = self.topology.ports_of(name);
        self.relieve(&ports, now);
    }

    /// Encryption keys that differ go to the other ends of the encrypted circuits that end here.
    fn learn_keys(&mut self, name: &NodeName, keys: Vec<SealKey>, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.record.seal_keys != keys) else {
            return;
        };
        node.record.seal_keys = keys;
        let lost = node.record.seal_keys.is_empty();
        self.step.put(Record::Node(node.record.clone()));
        let ends_here = |id: &CircuitId| {
            let circuit = self.circuits.get(*id)?;
            let sealed = circuit.spec.bounds.encrypted;
            (sealed && ends(circuit.phase.route()?).contains(name)).then_some(*id)
        };
        for id in node.circuits.iter().filter_map(ends_here).collect::<Vec<_>>() {
            if lost {
                self.suspend(id, no_key(name), now);
                self.queue(id, now);
            } else if self.want_objects(id).is_err() {
                self.queue(id, now);
            }
        }
    }

    /// A placed circuit whose links have changed: other outer addresses, another MTU, or another path.
    fn follow_topology(&mut self, id: CircuitId, now: Timestamp) {
        let Some(old) = self.route_of(id) else { return };
        let Some(bounds) = self.circuit(id).map(|circuit| circuit.spec.bounds.clone()) else { return };
        let mtu = |path| compile::mtu(path, &bounds, &self.topology).ok().filter(|mtu| *mtu >= MIN_MTU);
        let second = old.second().map(|lane| mtu(&lane.path));
        let first = compile::mtu_of(&old, &bounds, &self.topology).ok().filter(|mtu| *mtu >= MIN_MTU);
        let Some(first) = first else {
            if second.flatten().is_some() && self.can_promote(id, &BTreeSet::new()) {
                return self.promote(id, now);
            }
            self.suspend(id, "a link of its path has changed; another is sought".into(), now);
            return self.queue(id, now);
        };
        let mut new = Placed { mtu: first, ..old.clone() };
        if let Some(external) = &mut new.external {
            let beside =
                external.neighbour(&old.path).and_then(|at| self.topology.beside(at, external.remote));
            external.local = beside.map_or(external.local, |(local, _)| local);
        }
        if let (Some(backup), Some(Some(mtu))) = (&mut new.backup, second) {
            backup.lane.mtu = mtu;
        }
        if new != old {
            self.exchange(id, &old, &new);
            self.step.persist(id);
            self.step.announce_circuit(id);
        }
        if second == Some(None) {
            self.lose_backup(id, "a link of the backup has changed; another one is sought", now);
        } else if self.want_objects(id).is_err() {
            self.queue(id, now);
        }
    }

    pub(super) fn announce_resources_of(&mut self, name: &NodeName) {
        if let Some(node) = self.nodes.get(name) {
            for id in &node.resources {
                self.step.announce_resource(id);
            }
        }
    }

    pub(super) fn agent_gone(&mut self, name: &NodeName, session: Session, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(name).filter(|node| node.session() == Some(session)) else {
            return;
        };
        node.contact = Contact::Lost { session: Some(session), past_grace: false };
        node.lost = Some(now);
        let waited = node.awaiting.values().flatten().copied().collect();
        self.forget_queries(name);
        self.topology.set_connected(name, false);
        self.deadlines.set(Deadline::NodeGrace(name.clone()), now.plus(self.settings.timing.node_grace));
        self.step.announce_node(name);
        self.stop_waiting_for(name, waited, now);
    }

    /// What is being taken down does not wait for a host without contact: it cleans up when it comes back.
    pub(super) fn stop_waiting_for(
        &mut self,
        name: &NodeName,
        circuits: BTreeSet<CircuitId>,
        now: Timestamp,
    ) {
        for id in circuits {
            let Some(circuit) = self.circuits.get_mut(id) else { continue };
            if let Phase::Closing { waiting, .. } = &mut circuit.phase {
                waiting.remove(name);
                self.advance(id, now);
            }
        }
    }

    pub(super) fn node_given_up(&mut self, name: &NodeName, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Contact::Lost { past_grace, .. } = &mut node.contact else { return };
        *past_grace = true;
        let lost = node.lost.unwrap_or(now);
        self.given_up.insert(name.clone());
        self.deadlines.set(Deadline::EndGrace(name.clone()), lost.plus(self.settings.timing.end_grace));
        let circuits: Vec<_> = node.circuits.iter().copied().collect();
        for id in circuits {
            self.queue(id, now);
        }
        self.mark_ends(name, Some(lost));
        self.step.announce_node(name);
        self.announce_resources_of(name);
    }

    /// Its circuits are shown with the end that is lost, or without it when it is back.
    fn mark_ends(&mut self, name: &NodeName, lost: Option<Timestamp>) {
        let Some(node) = self.nodes.get(name) else { return };
        for id in &node.circuits {
            let Some(circuit) = self.circuits.get_mut(*id) else { continue };
            if !circuit.phase.route().is_some_and(|route| ends(route).contains(name)) {
                continue;
            }
            match lost {
                Some(since) => circuit.lost_ends.insert(name.clone(), since),
                None => circuit.lost_ends.remove(name),
            };
            self.step.announce_circuit(*id);
        }
    }

    /// Nobody is in contact: rather the controller is lost than its hosts.
    fn is_cut_off(&self) -> bool {
        !self.nodes.values().any(Node::is_connected)
    }

    /// After such a time the hosts do not come back all at once; none shall be late for it.
    fn spare_ends(&mut self, now: Timestamp) {
        for name in &self.given_up {
            if self.nodes.get(name).is_some_and(|node| !node.ends_released) {
                let at = now.plus(self.settings.timing.end_grace);
                self.deadlines.set(Deadline::EndGrace(name.clone()), at);
            }
        }
    }

    /// What ends at a host that is lost for good serves nobody, and holds bandwidth and labels of others.
    pub(super) fn release_ends(&mut self, name: &NodeName, now: Timestamp) {
        if self.is_cut_off() {
            let again = now.plus(self.settings.timing.end_grace);
            return self.deadlines.set(Deadline::EndGrace(name.clone()), again);
        }
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.ends_released = true;
        let circuits: Vec<_> = node.circuits.iter().copied().collect();
        for id in circuits {
            self.queue(id, now);
        }
    }

    fn agent_reported(&mut self, name: &NodeName, report: Report, now: Timestamp) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        // Of an earlier session, or of a controller that we do not know: says nothing about what we told.
        if report.generation < node.session_start || report.generation > node.desire.generation() {
            return;
        }
        let begins = node.reported == Generation(0);
        if report.generation > node.reported {
            node.reported = report.generation;
            node.progressed = now;
        }
        node.free_labels(report.generation, now);
        self.policy_reported(name);
        let Some(node) = self.nodes.get_mut(name) else { return };
        let mut affected = node.arrived(report.generation);
        affected.extend(self.note_failures(name, report, now));
        for id in affected {
            self.advance(id, now);
        }
        if begins {
            self.relieve_again(now);
        }
    }

    /// Returns the circuits that an object failed or recovered for.
    fn note_failures(&mut self, name: &NodeName, report: Report, now: Timestamp) -> BTreeSet<CircuitId> {
        let Some(node) = self.nodes.get_mut(name) else { return BTreeSet::new() };
        let failed: BTreeMap<_, _> =
            report.failed.into_iter().take(MAX_FAILURES).map(|failure| (failure.key, failure.why)).collect();
        let mut healed: Vec<_> =
            report.recovered.into_iter().filter(|key| node.failures.remove(key).is_some()).collect();
        if report.whole {
            let kept = node.failures.extract_if(.., |key, _| !failed.contains_key(key)).map(|(key, _)| key);
            healed.extend(kept);
        }
        if failed.is_empty() && healed.is_empty() {
            return BTreeSet::new();
        }
        node.failures.extend(failed.clone());
        while node.failures.len() > MAX_FAILURES {
            node.failures.pop_last();
        }
        self.step.announce_node(name);
        let mut affected = BTreeSet::new();
        for (key, why) in failed
            .into_iter()
            .map(|(key, why)| (key, Some(why)))
            .chain(healed.into_iter().map(|key| (key, None)))
        {
            match &key {
                ObjectKey::Queues(_) => self.announce_guarantees(name),
                ObjectKey::Eni(id) => self.step.announce_resource(id),
                ObjectKey::Endpoint(..)
                | ObjectKey::Hop(_)
                | ObjectKey::Rules(_)
                | ObjectKey::Peer(_)
                | ObjectKey::Trace(_)
                | ObjectKey::Policy => {}
            }
            for id in self.circuits_of(name, &key) {
                self.note_trouble(id, name, &key, why.as_ref(), now);
                affected.insert(id);
            }
        }
        affected
    }

    /// Where its queues come and go, a reservation is kept or only accounted; the circuit works either way.
    fn announce_guarantees(&mut self, name: &NodeName) {
        let Some(node) = self.nodes.get(name) else { return };
        node.circuits.iter().for_each(|id| self.step.announce_circuit(*id));
    }

    fn note_trouble(
        &mut self,
        id: CircuitId,
        node: &NodeName,
        key: &ObjectKey,
        why: Option<&String>,
        now: Timestamp,
    ) {
        let Some(circuit) = self.circuits.get_mut(id) else { return };
        let place = (node.clone(), key.clone());
        let concern = concern(circuit, node, key);
        let troubles = match concern {
            Concern::Path => &mut circuit.trouble,
            Concern::Backup => &mut circuit.protection.trouble,
            Concern::Nobody => return,
        };
        match why {
            Some(why) => troubles.insert(place, why.clone()),
            None => troubles.remove(&place),
        };
        let (deadline, troubled, waits) = match concern {
            Concern::Backup => {
                let protection = &circuit.protection;
                (Deadline::Backup(id), !protection.trouble.is_empty(), !protection.waiting.is_empty())
            }
            Concern::Path | Concern::Nobody => {
                (Deadline::Trouble(id), !circuit.trouble.is_empty(), circuit.phase.waiting().is_some())
            }
        };
        let at = now.plus(self.settings.timing.build_patience);
        match (troubled, waits) {
            (true, _) => self.deadlines.set_if_none(deadline, at),
            (false, true) => self.deadlines.set(deadline, at),
            (false, false) => self.deadlines.clear(&deadline),
        }
        self.step.announce_circuit(id);
    }

    /// Placed circuits that an object of a node is part of; none when the node shall not have it.
    fn circuits_of(&self, node: &NodeName, key: &ObjectKey) -> Vec<CircuitId> {
        let Some(object) = self.nodes.get(node).and_then(|at| at.desire.get(key)) else { return Vec::new() };
        let ids: Vec<CircuitId> = match object {
            Object::Endpoint(end) => vec![end.circuit],
            Object::Rules(set) => vec![set.circuit],
            Object::Hop(hop) => vec![hop.circuit],
            Object::Peer(_) | Object::Trace(_) | Object::Policy(_) => Vec::new(),
            Object::Eni(eni) => {
                let member = self.resources.get(&eni.resource);
                member.map(|member| member.circuits.iter().copied().collect()).unwrap_or_default()
            }
        };
        let placed = |id: &CircuitId| self.circuits.get(*id).is_some_and(|c| c.phase.route().is_some());
        ids.into_iter().filter(placed).collect()
    }
}

/// Why a host cannot be the end of an encrypted circuit.
pub(super) fn no_key(name: &NodeName) -> String {
    format!("{name} has announced no encryption key; its agent cannot encrypt")
}

/// Bounds on what an agent announces.
fn plausible(hello: &Hello) -> Result<(), String> {
    const MAX_UNDERLAYS: usize = 64;
    const MAX_ADDRESSES: usize = 64;
    let underlays = hello.underlays.len();
    if underlays > MAX_UNDERLAYS {
        return Err(format!("{underlays} underlays are announced, at most {MAX_UNDERLAYS} are allowed"));
    }
    match hello.underlays.iter().find(|underlay| underlay.addresses.len() > MAX_ADDRESSES) {
        Some(crowded) => Err(format!(
            "{} has {} addresses, at most {MAX_ADDRESSES} are allowed",
            crowded.interface,
            crowded.addresses.len()
        )),
        None => Ok(()),
    }
}
