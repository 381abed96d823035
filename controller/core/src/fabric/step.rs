//! Collects what one input brings about, and sends it out together: durable writes first.
use super::Fabric;
use crate::guarantee;
use crate::io::{Output, Session, Ticket, Write};
use crate::record::{Record, RecordKey};
use proto_model::desired::{Change, Object, Tell};
use proto_model::report::DropEvent;
use proto_model::request::{Event, Response};
use proto_model::trace::Traced;
use proto_model::{CircuitId, Label, NodeName, Refusal, ResourceId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    writes: BTreeMap<RecordKey, Write>,
    replies: Vec<Output>,
    hang_ups: Vec<Output>,
    drops: Vec<Output>,
    asks: Vec<Output>,
    /// Circuits whose record changed.
    persist: BTreeSet<CircuitId>,
    /// Nodes whose desire changed, and whether they shall be told the whole.
    tell: BTreeMap<NodeName, bool>,
    circuits: BTreeSet<CircuitId>,
    resources: BTreeSet<ResourceId>,
    nodes: BTreeSet<NodeName>,
    gone: Vec<Event>,
    /// Labels that nobody shall listen under any longer.
    let_go: Vec<(NodeName, Label)>,
}

impl Step {
    pub(super) fn put(&mut self, record: Record) {
        self.writes.insert(record.key(), Write::Put(record));
    }
    pub(super) fn delete(&mut self, key: RecordKey) {
        self.writes.insert(key.clone(), Write::Delete(key));
    }
    pub(super) fn reply(&mut self, ticket: Ticket, answer: Result<Response, Refusal>) {
        self.replies.push(Output::Reply { ticket, answer });
    }
    pub(super) fn hang_up(&mut self, node: NodeName, session: Session, why: String) {
        self.hang_ups.push(Output::HangUp { node, session, why });
    }
    pub(super) fn drops(&mut self, node: NodeName, events: Vec<DropEvent>) {
        self.drops.push(Output::Drops { node, events });
    }
    pub(super) fn traced(&mut self, node: NodeName, packets: Vec<Traced>) {
        self.drops.push(Output::Traced { node, packets });
    }
    /// Asks a host, after it has been told what it shall have.
    pub(super) fn ask(&mut self, node: NodeName, session: Session, tell: Tell) {
        self.asks.push(Output::Tell { node, session, tell });
    }
    pub(super) fn persist(&mut self, circuit: CircuitId) {
        self.persist.insert(circuit);
    }
    pub(super) fn tell(&mut self, node: &NodeName, whole: bool) {
        match self.tell.get_mut(node) {
            Some(known) => *known |= whole,
            None => {
                self.tell.insert(node.clone(), whole);
            }
        }
    }
    pub(super) fn announce_circuit(&mut self, id: CircuitId) {
        self.circuits.insert(id);
    }
    pub(super) fn announce_resource(&mut self, id: &ResourceId) {
        self.resources.insert(id.clone());
    }
    pub(super) fn announce_node(&mut self, name: &NodeName) {
        self.nodes.insert(name.clone());
    }
    pub(super) fn hold(&mut self, labels: Vec<(NodeName, Label)>) {
        self.let_go.extend(labels);
    }
    pub(super) fn announce_gone(&mut self, event: Event) {
        self.gone.push(event);
    }
}

impl Fabric {
    /// Wants an object of a node, to be told at the end of the step.
    pub(super) fn desire(&mut self, node: &NodeName, object: Object) {
        if let Some(at) = self.nodes.get_mut(node) {
            at.desire.put(object);
            self.step.tell(node, false);
        }
    }

    pub(super) fn finish_step(&mut self) {
        self.refresh_peers();
        let mut step = std::mem::take(&mut self.step);
        for id in &step.circuits {
            self.note_standing(*id);
        }
        for event in &step.gone {
            if let Event::CircuitGone { id, .. } = event {
                self.note_standing(*id);
            }
        }
        for (node, label) in std::mem::take(&mut step.let_go) {
            if let Some(at) = self.nodes.get_mut(&node) {
                at.held.entry(at.desire.carrying()).or_default().push(label);
            }
        }
        for id in std::mem::take(&mut step.persist) {
            self.forget_left(id);
            if let Some(circuit) = self.circuits.get(id) {
                step.put(Record::Circuit(circuit.record()));
            }
        }
        self.outputs.extend(step.writes.into_values().map(Output::Write));
        self.outputs.extend(step.hang_ups);
        for (node, whole) in step.tell {
            self.tell(node, whole);
        }
        self.outputs.extend(step.asks);
        self.outputs.extend(step.replies);
        self.outputs.extend(step.drops);
        self.announce(step.nodes, step.resources, step.circuits);
        self.outputs.extend(step.gone.into_iter().map(Output::Announce));
    }

    fn tell(&mut self, name: NodeName, whole: bool) {
        let Some(node) = self.nodes.get_mut(&name) else { return };
        let changes = node.desire.flush();
        if let Some(Tell::Changes { changes, .. }) = &changes {
            for change in changes {
                if let Change::Remove(key) = change {
                    node.failures.remove(key);
                }
            }
        }
        let Some(session) = node.session() else { return };
        let tell = if whole { Some(node.desire.whole()) } else { changes };
        if whole {
            node.session_start = node.session_start.max(node.desire.generation());
        }
        if let Some(tell) = tell {
            self.outputs.push_back(Output::Tell { node: name, session, tell });
        }
    }

    fn announce(
        &mut self,
        nodes: BTreeSet<NodeName>,
        resources: BTreeSet<ResourceId>,
        circuits: BTreeSet<CircuitId>,
    ) {
        let nodes = nodes.iter().filter_map(|name| self.node_view(name)).map(Event::Node);
        let resources = resources.iter().filter_map(|id| self.resource_view(id)).map(Event::Resource);
        let circuits = circuits
            .iter()
            .filter_map(|id| self.circuits.get(*id))
            .map(|c| Event::Circuit(guarantee::view(c, &self.topology, &self.nodes)));
        let events: Vec<_> = nodes.chain(resources).chain(circuits).map(Output::Announce).collect();
        self.outputs.extend(events);
    }
}
