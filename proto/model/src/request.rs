//! What API clients ask, and what they are answered; one variant per verb.
mod wish;

pub use wish::{CircuitRequest, PolicyChange, RuleChange, RuleEdit};

use crate::access::{Fingerprint, Role};
use crate::circuit::Circuit;
use crate::insight::{Series, Subject};
use crate::intent::Intent;
use crate::plan::{Discovery, Plan};
use crate::report::{DropCount, Traffic};
use crate::resource::{Liveness, Metadata, Resource, Status};
use crate::rule::Rule;
use crate::shortage::{Line, Shortage};
use crate::together::{PlaceRequest, Placement};
use crate::topology::{Forecast, LinkId, LinkValues, Measured, NodeState, Quantity, Underlay};
use crate::trace::Filter;
use crate::trail::{Trail, Wonder};
use crate::{Bandwidth, CircuitId, CircuitName, Generation, NodeName, ResourceId, Timestamp, Until};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A circuit by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CircuitRef {
    Id(CircuitId),
    Name(CircuitName),
}

impl std::str::FromStr for CircuitRef {
    type Err = crate::name::NotAName;
    /// `c42` is a number, anything else a name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('c').and_then(|digits| digits.parse().ok()) {
            Some(id) => Ok(Self::Id(CircuitId(id))),
            None => text.parse().map(Self::Name),
        }
    }
}

impl std::fmt::Display for CircuitRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    RegisterResource {
        id: ResourceId,
        metadata: Metadata,
        intents: Vec<Intent>,
        lease: Option<Duration>,
    },
    UpdateResourceStatus {
        id: ResourceId,
        status: Status,
    },
    /// Refused while circuits end at it, unless `force`, which closes them first.
    RemoveResource {
        id: ResourceId,
        force: bool,
    },
    GetResource {
        id: ResourceId,
    },
    ListResources,
    /// With a source: its own intents when `intents` is empty, and paths from it.
    DiscoverResources {
        source: Option<ResourceId>,
        intents: Vec<Intent>,
    },
    /// A repeated key within 24 hours gives the first answer; with other content it is refused.
    CreateCircuit {
        circuit: CircuitRequest,
        idempotency_key: Option<String>,
    },
    PlanCircuit {
        circuit: CircuitRequest,
    },
    /// Several at once; what does not fit is refused in the answer.
    PlaceCircuits(PlaceRequest),
    GetCircuit {
        circuit: CircuitRef,
    },
    ListCircuits,
    DeleteCircuit {
        circuit: CircuitRef,
    },
    /// Moves the end of a circuit; none: it does not end by itself any more.
    ExtendCircuit {
        circuit: CircuitRef,
        until: Option<Until>,
    },
    /// Why it runs where it runs: the plan as decided.
    ExplainCircuit {
        circuit: CircuitRef,
    },
    /// How its paths, or a link, were lately and are expected to be.
    Series {
        of: Subject,
        quantity: Quantity,
        past: Duration,
    },
    UpdateFirewallRule(RuleChange),
    /// The last change of the rules stays. Refused when it has been taken back, with the time.
    ConfirmRules {
        circuit: CircuitRef,
    },
    /// The last change of the rules is taken back at once instead of at its time.
    RollbackRules {
        circuit: CircuitRef,
    },
    ListNodes,
    GetPolicy {
        node: NodeName,
    },
    SetPolicy(PolicyChange),
    /// The last change of the host's policy stays. Refused when it has been taken back, with the time.
    ConfirmPolicy {
        node: NodeName,
    },
    /// The last change of the host's policy is taken back at once instead of at its time.
    RollbackPolicy {
        node: NodeName,
    },
    RemoveNode {
        node: NodeName,
    },
    /// The token's hash; the daemon made the token.
    CreateToken {
        node: NodeName,
        hash: [u8; 32],
        expires: Timestamp,
    },
    /// From an agent that enrols; consumes the token, and ends every earlier enrolment of the node.
    Enrol {
        node: NodeName,
        hash: [u8; 32],
        /// The key that its certificate will be for.
        #[serde(default)]
        key: Fingerprint,
    },
    /// From an enrolled agent that shows its certificate and wants the next one. The old one is good until the first
    /// session with the new one.
    Renew {
        node: NodeName,
        shown: Fingerprint,
        key: Fingerprint,
    },
    SetLink {
        link: LinkId,
        values: LinkValues,
    },
    /// What was set of it, as if it never had been.
    ForgetLink {
        link: LinkId,
    },
    ListLinks,
    /// Links that are expected to be asked for more than they hold.
    ListShortages(Line),
    /// Of one host, or of all.
    ListDrops {
        #[serde(default)]
        node: Option<NodeName>,
    },
    /// What would become of a packet; answered once the hosts on its way have.
    Why(Wonder),
    /// Follow a circuit's packets until `until`, at these hosts (none: all that it crosses).
    StartTrace {
        circuit: CircuitRef,
        filter: Filter,
        snaplen: u16,
        lasts: Duration,
        nodes: Vec<NodeName>,
    },
    /// Stop what [`Request::StartTrace`] began.
    StopTrace {
        circuit: CircuitId,
        until: Timestamp,
    },
    Status,
}

impl Request {
    /// The least role that may ask. `Enrol` and `Renew` are not for clients: token and certificate are their permission.
    pub fn role(&self) -> Role {
        match self {
            Self::GetResource { .. }
            | Self::ListResources
            | Self::DiscoverResources { .. }
            | Self::PlanCircuit { .. }
            | Self::GetCircuit { .. }
            | Self::ListCircuits
            | Self::ExplainCircuit { .. }
            | Self::Series { .. }
            | Self::ListNodes
            | Self::GetPolicy { .. }
            | Self::ListLinks
            | Self::ListShortages(_)
            | Self::ListDrops { .. }
            | Self::Why(_)
            | Self::Enrol { .. }
            | Self::Renew { .. }
            | Self::Status => Role::Viewer,
            Self::PlaceCircuits(request) if request.dry_run => Role::Viewer,
            Self::RegisterResource { .. }
            | Self::PlaceCircuits(_)
            | Self::UpdateResourceStatus { .. }
            | Self::RemoveResource { .. }
            | Self::CreateCircuit { .. }
            | Self::DeleteCircuit { .. }
            | Self::ExtendCircuit { .. }
            | Self::ConfirmRules { .. }
            | Self::RollbackRules { .. }
            | Self::UpdateFirewallRule(_)
            | Self::StartTrace { .. }
            | Self::StopTrace { .. } => Role::Operator,
            Self::RemoveNode { .. }
            | Self::CreateToken { .. }
            | Self::SetLink { .. }
            | Self::ForgetLink { .. }
            | Self::SetPolicy(_)
            | Self::ConfirmPolicy { .. }
            | Self::RollbackPolicy { .. } => Role::Admin,
        }
    }
}

/// A resource with what the controller thinks of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceView {
    pub resource: Resource,
    pub liveness: Liveness,
    pub circuits: Vec<CircuitId>,
    /// Why its host cannot make its interface, in its agent's words. Empty: it can, or has not been asked to: that takes a
    /// circuit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// A node as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    pub name: NodeName,
    pub state: NodeState,
    pub underlays: Vec<Underlay>,
    pub datapath: Vec<String>,
    pub version: String,
    pub kernel: String,
    /// Last contact; none: never.
    pub seen: Option<Timestamp>,
    /// Desired and reported generation.
    pub desired: Generation,
    pub reported: Generation,
    /// What it could not bring about, and why.
    pub failures: Vec<crate::report::Failure>,
    /// Public halves of its encryption keys, the newest first.
    #[serde(default)]
    pub seal_keys: Vec<crate::SealKey>,
    /// Rules of its policy.
    #[serde(default)]
    pub policy_rules: u32,
    /// It has not reported its policy in force.
    #[serde(default)]
    pub policy_pending: bool,
}

/// The policy of a host as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    pub node: NodeName,
    /// One larger with every change; 0: there never was one.
    pub version: u32,
    /// Empty: no policy.
    pub rules: Vec<Rule>,
    /// The host has not reported it in force.
    pub pending: bool,
    /// The rules are taken back then, unless they are confirmed before.
    pub confirm_by: Option<Timestamp>,
}

/// A link as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    pub id: LinkId,
    pub values: LinkValues,
    /// In use order: configured, else the driver's.
    pub capacity: Option<Bandwidth>,
    pub reserved: Bandwidth,
    /// Both ends are connected and have an address of one family.
    pub usable: bool,
    /// Why not; empty when usable.
    pub why: String,
    /// By the agents of both ends, each with its name, lately.
    pub measured: Vec<(NodeName, Measured)>,
    /// As far ahead as decisions look; at most one per quantity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forecasts: Vec<Forecast>,
    /// What it is seen to carry from the first of its ends to the second, and back; none: nothing is known.
    #[serde(default)]
    pub load: [Option<Bandwidth>; 2],
    /// Of its capacity, what nobody uses in the fuller direction; none: that is not known.
    #[serde(default)]
    pub available: Option<Bandwidth>,
    /// What reservations leave to traffic that is none of theirs; nothing where that is held back or not counted.
    #[serde(default)]
    pub others: Bandwidth,
    /// As much as is expected of it within an hour at most, and not as much as there is now.
    #[serde(default)]
    pub others_expected: bool,
}

/// A circuit with its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitView {
    pub circuit: Circuit,
    /// Hosts of its ends that have not reported these rules in force; empty while nothing is placed.
    #[serde(default)]
    pub rules_pending: Vec<NodeName>,
    /// At the source's and the destination's host, as last told.
    pub at_source: Traffic,
    pub at_destination: Traffic,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    pub version: String,
    pub nodes_connected: u32,
    pub nodes: u32,
    pub resources: u32,
    pub circuits_active: u32,
    pub circuits: u32,
    /// Every way that they have crosses a link that answers no probe.
    #[serde(default)]
    pub circuits_silent: u32,
    pub started: Timestamp,
}

/// What hosts have told of their drops, and which have not told all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropsView {
    pub drops: Vec<(NodeName, DropCount)>,
    /// Hosts whose agent has come a moment ago and has not told its counters yet.
    pub unheard: Vec<NodeName>,
    /// Hosts that are not connected: what they counted since they last told it is not known.
    pub absent: Vec<NodeName>,
}

/// Where a circuit that was deleted still is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Hosts that have not reported it gone.
    pub pending: Vec<NodeName>,
    /// Those of them that are not connected: each removes it when its agent is back.
    pub absent: Vec<NodeName>,
}

/// What a client is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    Resource(ResourceView),
    Resources(Vec<ResourceView>),
    Discovered(Vec<Discovery>),
    Circuit(CircuitView),
    Circuits(Vec<CircuitView>),
    Deleted(Left),
    Plan(Plan),
    Placement(Placement),
    Series(Series),
    Rules {
        circuit: CircuitId,
        version: u32,
        rules: Vec<Rule>,
        /// Hosts that have not reported them in force.
        #[serde(default)]
        pending: Vec<NodeName>,
        /// They are taken back then, unless they are confirmed before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm_by: Option<Timestamp>,
    },
    Nodes(Vec<NodeView>),
    Policy(PolicyView),
    Link(LinkView),
    Links(Vec<LinkView>),
    Shortages(Vec<Shortage>),
    Drops(DropsView),
    Why(Trail),
    Tracing {
        circuit: CircuitId,
        name: CircuitName,
        until: Timestamp,
        nodes: Vec<NodeName>,
        /// Those of them that are not connected: they tell nothing before they are.
        #[serde(default)]
        absent: Vec<NodeName>,
    },
    Status(StatusView),
    Done,
}

/// What watchers are told when something changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    Circuit(CircuitView),
    CircuitGone {
        id: CircuitId,
        /// Hosts that may still have it.
        #[serde(default)]
        left: Left,
    },
    Resource(ResourceView),
    ResourceGone(ResourceId),
    Node(NodeView),
    NodeGone(NodeName),
}
