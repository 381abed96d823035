//! What communicates: virtual machines, containers, serverless instances, hosts.
use crate::intent::Intent;
use crate::rule::Protocol;
use crate::{FabricAddress, Name, NodeName, ResourceId, ServiceName, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// What sort of thing a resource is; shown to people, no rule depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    VirtualMachine,
    Container,
    Serverless,
    Host,
}

/// Where on its host a resource's ENI is put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attachment {
    /// A network namespace by path, e.g. `/run/netns/web` or `/proc/1234/ns/net`.
    Path(String),
    /// A network namespace by its name under `/run/netns` (iproute2).
    Named(String),
    /// The network namespace of a process.
    Process(u32),
    /// The host's own network namespace.
    Host,
    /// Not on the host but next to it: a plain kernel VXLAN device with this underlay address, and no agent.
    External(IpAddr),
}

/// What a resource offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: ServiceName,
    /// [`Protocol::Tcp`] or [`Protocol::Udp`].
    pub protocol: Protocol,
    /// Not 0.
    pub port: u16,
}

/// What its owner says of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    pub form: Form,
    /// Its network location: the host that it runs on.
    pub node: NodeName,
    pub attachment: Attachment,
    /// Name of the ENI inside the attachment; default: `fw` and the fabric host number.
    pub interface: Option<String>,
    /// Addresses in its own network; for people and for search; may overlap with those of others.
    pub addresses: Vec<IpAddr>,
    /// Capabilities and labels, e.g. `gpu: a100`.
    pub labels: BTreeMap<Name, String>,
    /// At most 64.
    pub services: Vec<Service>,
}

/// How a resource is, as its owner or its host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Up,
    /// Works, but is found last.
    Degraded,
    /// Keeps its circuits, is not found for new ones.
    Draining,
    /// Not found; its circuits are closed.
    Down,
}

/// Why a resource cannot be found at the moment, beside its own status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Liveness {
    Alive,
    /// Its lease ran out.
    Expired,
    /// Its node has been lost for longer than the grace period.
    NodeLost,
}

/// A registered resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    pub id: ResourceId,
    pub metadata: Metadata,
    /// At most 64.
    pub intents: Vec<Intent>,
    pub status: Status,
    /// Allocated at registration, kept until it is removed.
    pub address: FabricAddress,
    /// Registration must be renewed this often (by any status update); none: it lives as long as its node.
    pub lease: Option<Duration>,
    pub registered: Timestamp,
    pub renewed: Timestamp,
}
