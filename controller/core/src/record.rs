//! What is promised and therefore kept: one record per durable object. Samples are never among them.
use crate::external::External;
use proto_model::access::Fingerprint;
use proto_model::circuit::{CircuitSpec, Path};
use proto_model::plan::Plan;
use proto_model::resource::Resource;
use proto_model::rule::{Revert, Rule};
use proto_model::together::{PlaceRequest, Placement};
use proto_model::topology::{LinkId, LinkValues, Underlay};
use proto_model::{CircuitId, Label, NodeName, ResourceId, SealKey, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RecordKey {
    Counters,
    Node(NodeName),
    Token([u8; 32]),
    Link(LinkId),
    Resource(ResourceId),
    Circuit(CircuitId),
    /// The plan as decided; apart from the circuit, because it is large and seldom written.
    Decision(CircuitId),
    Idempotency(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Counters(Counters),
    Node(NodeRecord),
    Token(TokenRecord),
    Link(LinkId, LinkValues),
    Resource(Resource),
    Circuit(CircuitRecord),
    Decision(CircuitId, Plan),
    Idempotency(IdempotencyRecord),
}

/// Numbers that are never used twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub next_circuit: u64,
}

/// An enrolled (or expected) node; its last announced underlays let paths be planned over it after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub name: NodeName,
    pub enrolled: Option<Timestamp>,
    #[serde(default)]
    pub keys: Keys,
    pub underlays: Vec<Underlay>,
    /// Public halves of its encryption keys as last announced, the newest first.
    #[serde(default)]
    pub seal_keys: Vec<SealKey>,
    #[serde(default)]
    pub policy: PolicyRecord,
}

/// What the owner of a host put before the rules of its circuits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// 0: there never was one.
    pub version: u32,
    pub rules: Vec<Rule>,
    /// The next rule id to give; 0 is 1.
    pub next_rule: u32,
    /// The rules wait for a confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<Revert>,
    /// When the last change was taken back because nobody had confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted: Option<Timestamp>,
}

/// Which certificates open a session of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keys {
    /// Not enrolled, or enrolled before keys were recorded: then the first session records its key.
    #[default]
    Unknown,
    One(Fingerprint),
    /// A new certificate was given out; the first session with it ends the old one.
    Renewing {
        old: Fingerprint,
        new: Fingerprint,
    },
}

impl Keys {
    /// After a session with `key` has begun; none: it is of an earlier enrolment.
    pub fn after_session(self, key: Fingerprint) -> Option<Self> {
        match self {
            Self::Unknown => Some(Self::One(key)),
            Self::One(only) => (only == key).then_some(self),
            Self::Renewing { new, .. } if new == key => Some(Self::One(new)),
            Self::Renewing { old, .. } => (old == key).then_some(self),
        }
    }

    /// After a certificate for `key` was given to the one who showed `shown`; none: it has no right to it.
    pub fn after_renewal(self, shown: Fingerprint, key: Fingerprint) -> Option<Self> {
        let old = match self {
            Self::Unknown => shown,
            Self::One(only) if only == shown => shown,
            // Who shows the new one has it; who shows the old one lost the answer and asks again.
            Self::Renewing { old, new } if old == shown || new == shown => shown,
            Self::One(_) | Self::Renewing { .. } => return None,
        };
        Some(if old == key { Self::One(key) } else { Self::Renewing { old, new: key } })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub hash: [u8; 32],
    pub node: NodeName,
    pub expires: Timestamp,
}

/// A circuit with everything that was allocated for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitRecord {
    pub id: CircuitId,
    pub spec: CircuitSpec,
    pub life: Life,
    pub rules: Vec<Rule>,
    pub rules_version: u32,
    /// The next rule id to give.
    pub next_rule: u32,
    /// The rules wait for a confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<Revert>,
    /// When the last change was taken back because nobody had confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted: Option<Timestamp>,
    pub created: Timestamp,
    pub since: Timestamp,
    /// The path that it was on before: its ends receive it until both have reported that they send the new one.
    #[serde(default)]
    pub retiring: Option<Lane>,
    /// Hosts that were told to let go of something of it, and had not reported that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<NodeName>,
}

/// The durable part of a circuit's state. After a restart a placed circuit is built again, which costs the agents
/// nothing when they have it already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// `opened`: both ends have reported open gates.
    Placed {
        route: Placed,
        opened: bool,
    },
    Suspended {
        why: String,
    },
    Closing {
        route: Option<Placed>,
    },
    /// The ends may have been told to open; they have not reported it.
    Opening {
        route: Placed,
    },
    /// Its bandwidth is promised on this path from its start to its end.
    Scheduled {
        path: Path,
    },
}

/// A path with its labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub path: Path,
    pub mtu: u16,
    /// Labels that node `i + 1` of the path receives forward packets under, one per link.
    pub forward: Vec<Label>,
    /// Labels that node `i` of the path receives reverse packets under, one per link. For a path of one node: empty.
    pub reverse: Vec<Label>,
    /// For a path of one node: the labels that give its two ends their counters.
    pub local: Option<(Label, Label)>,
    /// One end is a plain VXLAN device, next to the host at that end of the path.
    #[serde(default)]
    pub external: Option<External>,
    /// The second way.
    #[serde(default)]
    pub backup: Option<Backup>,
    /// Why there is no backup, or what it shares with the path; empty: nothing to say.
    #[serde(default)]
    pub protection: String,
}

/// Another path with its labels, between the same two hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    pub path: Path,
    pub mtu: u16,
    /// As in [`Placed`].
    pub forward: Vec<Label>,
    pub reverse: Vec<Label>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    pub lane: Lane,
    /// Its transit hosts have reported it; so the ends are told of it.
    pub ready: bool,
}

impl Placed {
    /// Without a backup.
    pub fn on(lane: Lane) -> Self {
        let Lane { path, mtu, forward, reverse } = lane;
        let protection = String::new();
        Self { path, mtu, forward, reverse, local: None, external: None, backup: None, protection }
    }

    pub fn lane(&self) -> Lane {
        let Self { path, mtu, forward, reverse, .. } = self;
        Lane { path: path.clone(), mtu: *mtu, forward: forward.clone(), reverse: reverse.clone() }
    }

    pub fn second(&self) -> Option<&Lane> {
        self.backup.as_ref().map(|backup| &backup.lane)
    }

    /// That either way crosses.
    pub fn hosts(&self) -> BTreeSet<NodeName> {
        let second = self.second().map(|lane| lane.path.nodes.as_slice()).unwrap_or_default();
        self.path.nodes.iter().chain(second).cloned().collect()
    }

    /// Bytes of an IP packet that fit through either way.
    pub fn mtu_of_both(&self) -> u16 {
        self.second().map_or(self.mtu, |lane| lane.mtu.min(self.mtu))
    }
}

/// The answer to a request with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    pub key: String,
    /// Debug text of the request is not enough: the request itself, to tell a repetition from a mistake.
    pub request: proto_model::request::CircuitRequest,
    pub circuit: CircuitId,
    pub at: Timestamp,
    /// The request was for several circuits, of which those above are the first; and what was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<Together>,
}

/// Several circuits that were asked for together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    pub request: PlaceRequest,
    pub answer: Placement,
}

impl Record {
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Counters(_) => RecordKey::Counters,
            Self::Node(node) => RecordKey::Node(node.name.clone()),
            Self::Token(token) => RecordKey::Token(token.hash),
            Self::Link(id, _) => RecordKey::Link(id.clone()),
            Self::Resource(resource) => RecordKey::Resource(resource.id.clone()),
            Self::Circuit(circuit) => RecordKey::Circuit(circuit.id),
            Self::Decision(id, _) => RecordKey::Decision(*id),
            Self::Idempotency(record) => RecordKey::Idempotency(record.key.clone()),
        }
    }
}
