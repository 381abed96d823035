//! Builds the fabric from what was kept; agents that forward go on as if nothing had happened.
use super::Fabric;
use super::place::ends;
use super::why::Journeys;
use crate::choice::live::Live;
use crate::circuit::{Circuit, Circuits, Phase, Waiting};
use crate::compile;
use crate::deadlines::{Deadline, Deadlines};
use crate::forecast::Forecasts;
use crate::past::Pasts;
use crate::protection::{Protection, Retiring};
use crate::rate::Rate;
use crate::record::{CircuitRecord, Counters, Lane, Life, Placed, Record, RecordKey};
use crate::registry::nodes::Contact;
use crate::registry::resources::Resources;
use crate::settings::{BadSetting, Settings};
use crate::topology::Topology;
use proto_model::circuit::Path;
use proto_model::intent::Bounds;
use proto_model::report::Traffic;
use proto_model::resource::Status;
use proto_model::{CircuitId, Generation, Label, NodeName, ResourceId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why stored state cannot be used. Each write was one transaction, so none of these happens by a crash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Setting(#[from] BadSetting),
    #[error("stored state has two records under {0:?}")]
    Twice(RecordKey),
    #[error("stored resource {resource} is on host {node}, which is not stored")]
    NoNode { resource: ResourceId, node: NodeName },
    #[error("stored resource {0} has the fabric address of another one")]
    AddressTwice(ResourceId),
    #[error("stored circuit {circuit} ends at {resource}, which is not stored")]
    NoResource { circuit: CircuitId, resource: ResourceId },
    #[error("stored circuit {circuit} crosses {node}, which is not stored")]
    NoHop { circuit: CircuitId, node: NodeName },
    #[error("stored circuit {circuit}: its path has {nodes} hosts, {links} links and {labels} labels")]
    Malformed { circuit: CircuitId, nodes: usize, links: usize, labels: usize },
    #[error("stored circuit {0} has a backup between other hosts than its path")]
    OtherEnds(CircuitId),
    #[error("stored circuit {circuit}: label {label} of {node} is another circuit's")]
    LabelTwice { circuit: CircuitId, node: NodeName, label: Label },
    #[error("stored circuit {circuit} has the number of one that is still to come (next is {next})")]
    Number { circuit: CircuitId, next: u64 },
}

impl Fabric {
    /// Takes the records in any order. Gates that were open stay open; what was suspended is tried again.
    pub fn restore(
        settings: Settings,
        records: impl IntoIterator<Item = Record>,
        now: Timestamp,
    ) -> Result<Self, RestoreError> {
        settings.check()?;
        let mut by_key = BTreeMap::new();
        for record in records {
            let key = record.key();
            if by_key.insert(key.clone(), record).is_some() {
                return Err(RestoreError::Twice(key));
            }
        }
        let mut fabric = Self::empty(settings, now);
        // The order of the keys: counters, nodes, tokens, links, resources, circuits, decisions, idempotency keys; so
        // each record finds what it refers to.
        for record in by_key.into_values() {
            fabric.take(record, now)?;
        }
        fabric.settle(now);
        Ok(fabric)
    }

    fn empty(settings: Settings, now: Timestamp) -> Self {
        Self {
            topology: Topology::new(settings.limits.links),
            nodes: BTreeMap::new(),
            resources: Resources::new(settings.prefix, settings.timing.rest),
            circuits: Circuits::default(),
            tokens: BTreeMap::new(),
            keys: BTreeMap::new(),
            keys_by_age: BTreeSet::new(),
            counters: Counters::default(),
            deadlines: Deadlines::default(),
            given_up: BTreeSet::new(),
            work: BTreeSet::new(),
            backups: BTreeMap::new(),
            over_booked: BTreeSet::new(),
            seeking: BTreeSet::new(),
            lacking: BTreeSet::new(),
            sweep: 0,
            swept: CircuitId(0),
            forecasts: Forecasts::default(),
            ran: crate::telemetry::Store::default(),
            noted: CircuitId(0),
            foreseen: 0,
            looked_at: CircuitId(0),
            sought: CircuitId(0),
            choice: Live::new(settings.reroute.step),
            next_frame: None,
            eager: BTreeSet::new(),
            preferred: CircuitId(0),
            standings: super::standing::Standings::default(),
            silences: crate::silence::Silences::default(),
            doubtful: BTreeSet::new(),
            journeys: Journeys::default(),
            traces: BTreeMap::new(),
            started: now,
            step: super::Step::default(),
            outputs: VecDeque::new(),
            settings,
        }
    }

    fn take(&mut self, record: Record, now: Timestamp) -> Result<(), RestoreError> {
        match record {
            Record::Counters(counters) => self.counters = counters,
            Record::Node(node) => {
                let (name, enrolled) = (node.name.clone(), node.enrolled.is_some());
                self.add_node(node, now);
                if let Some(node) = self.nodes.get_mut(&name).filter(|_| enrolled) {
                    node.contact = Contact::Lost { session: None, past_grace: false };
                    node.lost = Some(now);
                    self.deadlines.set(Deadline::NodeGrace(name), now.plus(self.settings.timing.node_grace));
                }
            }
            Record::Token(token) => {
                self.deadlines.set(Deadline::Token(token.hash), token.expires);
                self.tokens.insert(token.hash, token);
            }
            Record::Link(id, values) => self.topology.configure(id, values),
            Record::Resource(resource) => self.take_resource(resource, now)?,
            Record::Circuit(circuit) => self.take_circuit(circuit, now)?,
            Record::Decision(id, plan) => {
                if let Some(circuit) = self.circuits.get_mut(id) {
                    circuit.decision = Some(Box::new(plan));
                }
            }
            Record::Idempotency(record) => {
                let until = record.at.plus(self.settings.timing.idempotency);
                self.deadlines.set(Deadline::Idempotency(record.key.clone()), until);
                self.keys_by_age.insert((record.at, record.key.clone()));
                self.keys.insert(record.key.clone(), record);
            }
        }
        Ok(())
    }

    fn take_resource(
        &mut self,
        mut resource: proto_model::resource::Resource,
        now: Timestamp,
    ) -> Result<(), RestoreError> {
        let (id, node) = (resource.id.clone(), resource.metadata.node.clone());
        let Some(at) = self.nodes.get_mut(&node) else {
            return Err(RestoreError::NoNode { resource: id, node });
        };
        at.resources.insert(id.clone());
        resource.renewed = now;
        if let Some(lease) = resource.lease {
            self.deadlines.set(Deadline::Lease(id.clone()), now.plus(lease));
        }
        if !self.resources.restore(resource, now) {
            return Err(RestoreError::AddressTwice(id));
        }
        Ok(())
    }

    fn take_circuit(&mut self, record: CircuitRecord, now: Timestamp) -> Result<(), RestoreError> {
        let id = record.id;
        let next = self.counters.next_circuit;
        if id.0 > next {
            return Err(RestoreError::Number { circuit: id, next });
        }
        let closing = matches!(record.life, Life::Closing { .. });
        if let Some(lane) = &record.retiring {
            whole_lane(id, lane, false)?;
        }
        for resource in [&record.spec.source, &record.spec.destination] {
            match self.resources.get_mut(resource) {
                Some(member) if !closing => {
                    member.circuits.insert(id);
                }
                Some(_) => {}
                None if closing => {}
                None => return Err(RestoreError::NoResource { circuit: id, resource: resource.clone() }),
            }
        }
        if let Life::Scheduled { path } = &record.life {
            self.promise(&record.spec, path);
        }
        let (Life::Placed { route, .. } | Life::Opening { route } | Life::Closing { route: Some(route) }) =
            &record.life
        else {
            self.insert_restored(record);
            return Ok(());
        };
        let route = route.clone();
        whole(id, &route)?;
        if !closing {
            self.claim(id, &route, now)?;
            self.occupy(id, &record.spec, &route);
        }
        self.insert_restored(record);
        Ok(())
    }

    fn claim(&mut self, id: CircuitId, route: &Placed, now: Timestamp) -> Result<(), RestoreError> {
        for node in &route.hosts() {
            if !self.nodes.contains_key(node) {
                return Err(RestoreError::NoHop { circuit: id, node: node.clone() });
            }
        }
        for (node, label) in compile::labels(route) {
            let free = self.nodes.get_mut(&node).is_some_and(|at| at.labels.claim(label, now));
            if !free {
                return Err(RestoreError::LabelTwice { circuit: id, node, label });
            }
        }
        Ok(())
    }

    fn insert_restored(&mut self, record: CircuitRecord) {
        let phase = match record.life {
            Life::Placed { route, opened: true } => Phase::Active { route },
            Life::Placed { route, opened: false } => Phase::Building { route, waiting: Waiting::new() },
            Life::Opening { route } => Phase::Opening { route, waiting: Waiting::new() },
            Life::Suspended { why } => Phase::Suspended { why },
            Life::Scheduled { path } => Phase::Scheduled { path },
            Life::Closing { route } => Phase::Closing { route, waiting: Waiting::new() },
        };
        self.circuits.insert(Circuit {
            id: record.id,
            spec: record.spec,
            phase,
            rules: record.rules,
            rules_version: record.rules_version,
            next_rule: record.next_rule,
            revert: record.revert,
            reverted: record.reverted,
            created: record.created,
            since: record.since,
            decision: None,
            trouble: BTreeMap::new(),
            lost_ends: BTreeMap::new(),
            rules_waiting: Waiting::new(),
            // From when on they have reported it is known when all is there.
            leaving: record.leaving.into_iter().map(|node| (node, Generation(0))).collect(),
            protection: Protection {
                retiring: record.retiring.map(|lane| Retiring { lane, waiting: Waiting::new() }),
                ..Protection::default()
            },
            rate: Rate::default(),
            moving: None,
            moved: None,
            past: Pasts::default(),
            at_source: Traffic::default(),
            at_destination: Traffic::default(),
            noted: Default::default(),
        });
    }

    /// Labels of a circuit that is being closed rest until each host has reported without them. Those that hosts had
    /// reported before may be another circuit's by now.
    fn hold_left_over(&mut self, route: &Placed, now: Timestamp) {
        for (node, label) in compile::labels(route) {
            if let Some(at) = self.nodes.get_mut(&node)
                && at.labels.claim(label, now)
            {
                at.held.entry(at.desire.carrying()).or_default().push(label);
            }
        }
    }

    /// After the labels of all circuits: a host that was removed meanwhile and enrolled again may have given them anew.
    fn claim_retiring(&mut self, id: CircuitId, lane: &Lane, now: Timestamp) {
        let mut claimed = Vec::new();
        for (node, label) in compile::lane_labels(lane) {
            let free = self.nodes.get_mut(&node).is_some_and(|at| at.labels.claim(label, now));
            if !free {
                return self.disclaim(id, claimed, now);
            }
            claimed.push((node, label));
        }
    }

    fn disclaim(&mut self, id: CircuitId, labels: Vec<(NodeName, Label)>, now: Timestamp) {
        for (node, label) in labels {
            if let Some(at) = self.nodes.get_mut(&node) {
                at.labels.give_back(label, now);
            }
        }
        if let Some(circuit) = self.circuits.get_mut(id) {
            circuit.protection.retiring = None;
            self.step.persist(id);
        }
    }

    /// Everything is there: what each node shall have follows from it.
    fn settle(&mut self, now: Timestamp) {
        self.resources.settle();
        let closing: Vec<_> = self.circuits.iter().filter_map(|circuit| left_over(&circuit.phase)).collect();
        for route in closing {
            self.hold_left_over(&route, now);
        }
        let retiring =
            |circuit: &Circuit| Some((circuit.id, circuit.protection.retiring.as_ref()?.lane.clone()));
        let retiring: Vec<_> = self.circuits.iter().filter_map(retiring).collect();
        for (id, lane) in retiring {
            self.claim_retiring(id, &lane, now);
        }
        self.nodes.values_mut().for_each(|node| node.labels.settle());
        let ids: Vec<_> = self.circuits.iter().map(|circuit| circuit.id).collect();
        for id in ids {
            self.settle_circuit(id, now);
            self.note_standing(id);
        }
        let crossed: Vec<_> = self.backups.keys().cloned().collect();
        self.relieve(&crossed, now);
        self.retry_suspended(now);
        self.finish_step();
    }

    fn settle_circuit(&mut self, id: CircuitId, now: Timestamp) {
        let Some(circuit) = self.circuits.get(id) else { return };
        let phase = circuit.phase.clone();
        let leaving: Vec<_> = circuit.leaving.keys().cloned().collect();
        self.note_leaving(id, leaving);
        if self.circuits.get(id).and_then(|circuit| circuit.phase.route()).is_some() {
            self.settle_backup(id, now);
        }
        if let Err(broken) = self.want_objects(id) {
            return self.suspend(id, format!("its path cannot be used: {broken}"), now);
        }
        self.wait_for_backup(id, now);
        self.watch_ends(id);
        // A version that is kept may never have been told.
        self.wait_for_rules(id);
        match phase {
            Phase::Building { route, .. } => {
                self.be_patient(id, now);
                self.wait_for(id, route.path.nodes);
            }
            // Whether the ends were told before the end of the last life, only they know.
            Phase::Opening { route, .. } => {
                self.be_patient(id, now);
                self.wait_for(id, ends(&route));
            }
            Phase::Active { .. } => {}
            Phase::Suspended { .. } => self.note_leaving(id, self.hosts_of_ends(id)),
            Phase::Scheduled { .. } => self.watch_start(id),
            // No agent is in contact, so there is nobody to wait for.
            Phase::Closing { route, .. } => {
                let hosts = route.map(|route| route.hosts()).unwrap_or_default();
                self.note_leaving(id, hosts);
                self.advance(id, now);
            }
        }
        if let Some(route) = self.route_of(id) {
            self.wait_for_ends(id, &route);
        }
        if self.down_end(id) && self.circuits.get(id).is_some_and(|circuit| circuit.phase.route().is_some()) {
            self.suspend(id, "one of its ends is down".into(), now);
        }
    }

    /// They may have what it had before the controller's last life ended.
    fn hosts_of_ends(&self, id: CircuitId) -> Vec<NodeName> {
        let ends = self.circuits.get(id).map(|circuit| [&circuit.spec.source, &circuit.spec.destination]);
        let members = ends.into_iter().flatten().filter_map(|end| self.resources.get(end));
        members.map(|member| member.resource.metadata.node.clone()).collect()
    }

    /// One whose links are gone is another circuit's no more than it is this one's path's trouble.
    fn settle_backup(&mut self, id: CircuitId, now: Timestamp) {
        let Some(route) = self.route_of(id) else { return };
        let mtu = |lane: &Lane| compile::mtu(&lane.path, &Bounds::default(), &self.topology);
        if let Some(broken) = route.second().and_then(|lane| mtu(lane).err()) {
            self.drop_backup(id, &format!("the backup cannot be used: {broken}; another one is sought"), now);
            self.step.persist(id);
        }
        self.note_lacking(id);
    }

    fn down_end(&self, id: CircuitId) -> bool {
        let Some(circuit) = self.circuits.get(id) else { return false };
        [&circuit.spec.source, &circuit.spec.destination]
            .into_iter()
            .any(|end| self.resources.get(end).is_some_and(|member| member.resource.status == Status::Down))
    }
}

fn left_over(phase: &Phase) -> Option<Placed> {
    match phase {
        Phase::Closing { route, .. } => route.clone(),
        Phase::Building { .. }
        | Phase::Opening { .. }
        | Phase::Active { .. }
        | Phase::Suspended { .. }
        | Phase::Scheduled { .. } => None,
    }
}

/// The numbers of hosts, links and labels fit each other.
fn whole(id: CircuitId, route: &Placed) -> Result<(), RestoreError> {
    let external = route.external.is_some();
    whole_lane(id, &route.lane(), route.local.is_some() || external && route.path.links.is_empty())?;
    let Some(lane) = route.second() else { return Ok(()) };
    let same = |of: fn(&Path) -> Option<&NodeName>| of(&lane.path) == of(&route.path);
    if lane.path.links.is_empty() || !same(|path| path.nodes.first()) || !same(|path| path.nodes.last()) {
        return Err(RestoreError::OtherEnds(id));
    }
    whole_lane(id, lane, false)
}

fn whole_lane(id: CircuitId, lane: &Lane, local: bool) -> Result<(), RestoreError> {
    let (nodes, links) = (lane.path.nodes.len(), lane.path.links.len());
    let labels = lane.forward.len() + lane.reverse.len();
    let fit = nodes == links + 1
        && lane.forward.len() == links
        && lane.reverse.len() == links
        && local == (nodes == 1);
    if fit { Ok(()) } else { Err(RestoreError::Malformed { circuit: id, nodes, links, labels }) }
}
