//! A node: contact with its agent, what it shall have, what it said.
use crate::desire::Desire;
use crate::io::Session;
use crate::labels::Labels;
use crate::record::NodeRecord;
use proto_model::desired::ObjectKey;
use proto_model::report::{DropCount, Failure};
use proto_model::request::NodeView;
use proto_model::topology::{LinkId, NodeState};
use proto_model::{CircuitId, Generation, Label, ResourceId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An agent that has been here for so long has told its counters, or has none.
const COUNTED: Duration = Duration::from_secs(10);
/// Failures that a view shows.
const SHOWN_FAILURES: usize = 100;

/// Contact with the node's agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    Never,
    Connected(Session),
    Lost {
        /// The session that ended, if this life of the controller saw one.
        session: Option<Session>,
        /// For so long that its resources count as lost.
        past_grace: bool,
    },
}

#[derive(Clone, Debug)]
pub struct Node {
    pub record: NodeRecord,
    pub contact: Contact,
    pub seen: Option<Timestamp>,
    /// When its session began, and whether it has told counters in it.
    pub begun: Timestamp,
    pub told: bool,
    /// When its counters were read last, by its agent's clock; none: that was not told.
    pub counted: Option<Timestamp>,
    /// When contact was lost; after a start of the controller, when that was.
    pub lost: Option<Timestamp>,
    /// Lost for so long that circuits that end here are released.
    pub ends_released: bool,
    pub version: String,
    pub kernel: String,
    pub datapath: Vec<String>,
    pub desire: Desire,
    pub reported: Generation,
    /// When `reported` last grew, or the session began.
    pub progressed: Timestamp,
    /// First generation that was told in this session.
    pub session_start: Generation,
    pub failures: BTreeMap<ObjectKey, String>,
    /// Generation with its policy, until it has reported it.
    pub policy_waiting: Option<Generation>,
    pub labels: Labels,
    /// Labels that are free once the node has reported the generation without them.
    pub held: BTreeMap<Generation, Vec<Label>>,
    /// Circuits that wait for a generation of this node.
    pub awaiting: BTreeMap<Generation, BTreeSet<CircuitId>>,
    pub resources: BTreeSet<ResourceId>,
    /// Whose path crosses it.
    pub circuits: BTreeSet<CircuitId>,
    /// Links that it shall measure.
    pub peers: usize,
    /// Links that it or their other end has no room for measuring. At most as many as it has links.
    pub unmeasured: BTreeSet<LinkId>,
    pub drops: BTreeMap<(Option<CircuitId>, String, u32), (u64, u64)>,
}

impl Node {
    pub fn new(record: NodeRecord, rest: Duration, now: Timestamp) -> Self {
        // Above every number of an earlier life of the controller: generations are counted up far slower than
        // microseconds.
        let start = Generation(now.0 / 1_000 + 1);
        Self {
            record,
            contact: Contact::Never,
            seen: None,
            begun: now,
            told: false,
            counted: None,
            lost: None,
            ends_released: false,
            version: String::new(),
            kernel: String::new(),
            datapath: Vec::new(),
            desire: Desire::new(start),
            reported: Generation(0),
            progressed: now,
            session_start: start,
            failures: BTreeMap::new(),
            policy_waiting: None,
            labels: Labels::new(rest, now),
            held: BTreeMap::new(),
            awaiting: BTreeMap::new(),
            resources: BTreeSet::new(),
            circuits: BTreeSet::new(),
            peers: 0,
            unmeasured: BTreeSet::new(),
            drops: BTreeMap::new(),
        }
    }

    pub fn session(&self) -> Option<Session> {
        match self.contact {
            Contact::Connected(session) => Some(session),
            Contact::Never | Contact::Lost { .. } => None,
        }
    }

    pub fn is_connected(&self) -> bool {
        self.session().is_some()
    }

    /// Without contact for so long that its resources count as lost.
    pub fn is_given_up(&self) -> bool {
        matches!(self.contact, Contact::Lost { past_grace: true, .. })
    }

    /// Frees the labels that a report up to `generation` shows to be gone.
    pub fn free_labels(&mut self, generation: Generation, now: Timestamp) {
        while let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= generation) {
            for label in entry.remove() {
                self.labels.give_back(label, now);
            }
        }
    }

    /// Takes the circuits that waited for a generation up to this one.
    pub fn arrived(&mut self, generation: Generation) -> BTreeSet<CircuitId> {
        let later = self.awaiting.split_off(&generation.next());
        std::mem::replace(&mut self.awaiting, later).into_values().flatten().collect()
    }

    /// The counters count up since the agent's maps were made, so the newest value is the whole truth.
    /// At the bound, counts of circuits that are gone make room.
    pub fn count_drops(
        &mut self,
        counts: Vec<DropCount>,
        bound: usize,
        is_there: impl Fn(CircuitId) -> bool,
    ) {
        let mut made_room = false;
        for count in counts {
            let key = (count.circuit, count.reason, count.rule);
            let is_new = !self.drops.contains_key(&key);
            if is_new && self.drops.len() >= bound && !made_room {
                self.drops.retain(|(circuit, _, _), _| circuit.is_none_or(&is_there));
                made_room = true;
            }
            if !is_new || self.drops.len() < bound {
                self.drops.insert(key, (count.packets, count.bytes));
            }
        }
    }

    /// An agent counts every 2 s and tells what moved; when a session is older than that, what it has not told is nothing.
    pub fn has_told_counters(&self, now: Timestamp) -> bool {
        self.told || now.since(self.begun) >= COUNTED
    }

    pub fn drop_counts(&self) -> impl Iterator<Item = DropCount> + '_ {
        self.drops.iter().map(|((circuit, reason, rule), (packets, bytes))| DropCount {
            circuit: *circuit,
            reason: reason.clone(),
            rule: *rule,
            packets: *packets,
            bytes: *bytes,
        })
    }

    pub fn view(&self, links_left_out: usize, max_links: usize) -> NodeView {
        let mut datapath = self.datapath.clone();
        if links_left_out > 0 {
            datapath.push(format!(
                "{links_left_out} links to other hosts are not used: the region's bound of {max_links} links is reached"
            ));
        }
        let failures = self.failures.iter().take(SHOWN_FAILURES);
        NodeView {
            name: self.record.name.clone(),
            state: match self.contact {
                Contact::Never => NodeState::Expected,
                Contact::Connected(_) => NodeState::Connected,
                Contact::Lost { .. } => NodeState::Lost,
            },
            underlays: self.record.underlays.clone(),
            datapath,
            version: self.version.clone(),
            kernel: self.kernel.clone(),
            seen: self.seen,
            desired: self.desire.generation(),
            reported: self.reported,
            failures: failures.map(|(key, why)| Failure { key: key.clone(), why: why.clone() }).collect(),
            seal_keys: self.record.seal_keys.clone(),
            policy_rules: self.record.policy.rules.len() as u32,
            policy_pending: self.policy_waiting.is_some(),
        }
    }
}
