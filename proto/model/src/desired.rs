//! What the controller wants of one node: objects by key, numbered by generation.
//!
//! On connect an agent is told the whole of it, then differences between two generations. A gap in the numbers makes
//! the agent ask for the whole again. So the loss of any message is harmless.
use crate::policy::Policy;
use crate::query::{QueryId, Question};
use crate::resource::Attachment;
use crate::rule::RuleSet;
use crate::topology::LinkId;
use crate::trace::Filter;
use crate::{
    Bandwidth, CircuitId, FabricAddress, Generation, Label, Latency, Loss, NodeName, PathId, ResourceId,
    Seal, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What an object is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ObjectKey {
    Eni(ResourceId),
    Endpoint(CircuitId, Side),
    Hop(Label),
    Rules(CircuitId),
    Peer(LinkId),
    Trace(CircuitId),
    /// There is one at most.
    Policy,
    /// The queues of an underlay interface: no object, but what its owner's configuration asks for; a report names them.
    Queues(String),
}

/// Which end of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    Source,
    Destination,
}

/// One thing that a node shall have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Object {
    Eni(Eni),
    Endpoint(Endpoint),
    Hop(Hop),
    Rules(RuleSet),
    Peer(Peer),
    Trace(Trace),
    Policy(Policy),
}

/// An ephemeral network interface: a veth pair whose inner side the workload uses. It exists as long as a circuit
/// ends at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eni {
    pub resource: ResourceId,
    pub attachment: Attachment,
    /// Name of the inner side, at most 15 bytes.
    pub interface: String,
    pub address: FabricAddress,
    /// The smallest MTU of its circuits.
    pub mtu: u16,
}

/// One end of a circuit on this node. The workload gets a route to `remote` through its ENI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub circuit: CircuitId,
    pub side: Side,
    /// The resource here, whose [`Eni`] is among the objects too.
    pub resource: ResourceId,
    /// The resource at the other end.
    pub remote: FabricAddress,
    pub leg: Leg,
    /// Whether the workload's packets may enter.
    pub gate: Gate,
    /// Bytes of the longest IP packet that the circuit carries, by whichever way. 0: a controller that does not say.
    #[serde(default)]
    pub mtu: u16,
    /// From then on, by this host's clock, nothing of this end is there any more, whoever speaks or is silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Its packets leave this host encrypted, and come in no other way. None: in the clear; always so for
    /// [`Leg::Local`], whose packets do not leave the host.
    #[serde(default)]
    pub seal: Option<Seal>,
    /// Of what leaves here by either way.
    #[serde(default, skip_serializing_if = "Share::is_none")]
    pub share: Share,
}

/// What a circuit has of the links, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// What it always gets, as the underlay counts it, with tunnel headers; zero: best effort.
    pub reserved: Bandwidth,
    /// What it never exceeds, as its workloads count it: bytes of IP packets. None: whatever is free.
    pub limit: Option<Bandwidth>,
}

impl Share {
    pub fn is_none(&self) -> bool {
        self.reserved.is_zero() && self.limit.is_none()
    }
}

/// How an endpoint reaches the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leg {
    /// Through tunnels. `receive` has two entries while a circuit moves: the old path's and the new one's.
    /// `path` names what it crosses: ends with the same number share one measurement.
    Tunnel { path: PathId, send: NextHop, receive: Vec<Receive>, backup: Option<Box<Backup>> },
    /// The other end is this resource on the same node. The label gives the endpoint its counters.
    Local { resource: ResourceId, label: Label },
}

/// The second way of a protected circuit. The end receives under both labels all the time, and decides alone which way
/// it sends; a packet that came under `receive` is not answered differently from one that came the first way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    pub path: PathId,
    pub send: NextHop,
    pub receive: Receive,
    /// Of the circuit: the way in use is left when it breaks them and the other does not. None: the agent's own
    /// judgement of what is suddenly bad.
    pub max_rtt: Option<Latency>,
    pub max_loss: Option<Loss>,
}

/// A neighbour on an underlay link, which this node measures (STAMP, RFC 8762) and whose probes it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub link: LinkId,
    /// This node's underlay address …
    pub local: IpAddr,
    /// … and the neighbour's, of the same family.
    pub remote: IpAddr,
    /// STAMP session identifier (SSID, RFC 8972 §3), the same at both ends; never 0.
    pub session: u16,
    /// Of the link, as the controller books it; none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Bandwidth>,
}

/// The packets of this circuit are told while the host's own clock is before `until`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    pub circuit: CircuitId,
    pub until: Timestamp,
    pub filter: Filter,
    /// Bytes of each frame that are told; at most [`crate::trace::SNAPLEN`].
    pub snaplen: u16,
}

/// Closed until every hop has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gate {
    Closed,
    Open,
}

/// One direction of a circuit through this node: packets that arrive under `receive.label` go on to `send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    pub circuit: CircuitId,
    /// The end that the packets come from.
    pub from_side: Side,
    pub receive: Receive,
    pub send: NextHop,
    /// For this direction; zero: best effort.
    #[serde(default, skip_serializing_if = "Bandwidth::is_nothing")]
    pub reserved: Bandwidth,
}

/// Where packets go, and under which label the node there takes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NextHop {
    pub node: NodeName,
    /// Outer source; an underlay address of this node.
    pub local: IpAddr,
    /// Outer destination; of the same family.
    pub remote: IpAddr,
    pub label: Label,
}

/// Under which label packets arrive here, and from where; from elsewhere they are dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Receive {
    pub label: Label,
    /// Outer destination: this node's address.
    pub local: IpAddr,
    /// Outer source: the previous node's.
    pub from: IpAddr,
}

impl Object {
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Eni(eni) => ObjectKey::Eni(eni.resource.clone()),
            Self::Endpoint(end) => ObjectKey::Endpoint(end.circuit, end.side),
            Self::Hop(hop) => ObjectKey::Hop(hop.receive.label),
            Self::Rules(set) => ObjectKey::Rules(set.circuit),
            Self::Peer(peer) => ObjectKey::Peer(peer.link.clone()),
            Self::Trace(trace) => ObjectKey::Trace(trace.circuit),
            Self::Policy(_) => ObjectKey::Policy,
        }
    }
}

/// A difference between two desired states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Put(Object),
    Remove(ObjectKey),
}

/// What the controller tells an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tell {
    /// All objects, as of `generation`; what is not among them shall not be there.
    Whole { generation: Generation, objects: Vec<Object> },
    /// From `from` to `to`; useless to an agent that is not at `from`.
    Changes { from: Generation, to: Generation, changes: Vec<Change> },
    /// A question; answered by [`crate::report::Say::Answer`], or lost with the session.
    Ask { query: QueryId, question: Question },
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Eni(resource) => write!(f, "interface of {resource}"),
            Self::Endpoint(circuit, Side::Source) => write!(f, "source end of {circuit}"),
            Self::Endpoint(circuit, Side::Destination) => write!(f, "destination end of {circuit}"),
            Self::Hop(label) => write!(f, "hop under label {label}"),
            Self::Rules(circuit) => write!(f, "rules of {circuit}"),
            Self::Peer(link) => write!(f, "measurement of {link}"),
            Self::Trace(circuit) => write!(f, "trace of {circuit}"),
            Self::Policy => f.write_str("policy"),
            Self::Queues(interface) => write!(f, "queues of {interface}"),
        }
    }
}
