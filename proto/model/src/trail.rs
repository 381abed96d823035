//! Why a packet would pass or not: what each host on its way says, and what follows from it.
use crate::query::{Packet, Ran};
use crate::{CircuitId, CircuitName, NodeName, ResourceId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A resource by name, or by one of its fabric addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whom {
    Resource(ResourceId),
    Address(IpAddr),
}

impl std::str::FromStr for Whom {
    type Err = crate::name::NotAName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => text.parse().map(Self::Resource),
        }
    }
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resource(id) => id.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What is wondered about: the packet with which `source` opens a connection to `destination`, or the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wonder {
    pub source: Whom,
    pub destination: Whom,
    /// IP protocol number; ICMP is 1 in both families.
    pub protocol: u8,
    /// Of TCP and UDP.
    pub port: u16,
    /// Of the opener; for ICMP the identifier of the echo.
    pub source_port: u16,
    /// The packet that `destination` answers with.
    pub answer: bool,
    /// IPv6 where the addresses do not say.
    pub v6: bool,
    /// Bytes of the IP packet, up to [`crate::query::PACKET`]; none: a short one.
    #[serde(default)]
    pub size: Option<u16>,
}

/// How it would end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The workload at the other end gets it.
    Passes,
    /// A host of the fabric drops it.
    Dropped,
    /// A host could not be asked, or did not know.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    pub packet: Packet,
    /// The circuit between the two; none: there is none.
    pub circuit: Option<(CircuitId, CircuitName)>,
    pub hops: Vec<TrailHop>,
    pub verdict: Verdict,
    /// The end of it, in a sentence.
    pub sentence: String,
    /// What would make it pass, or where to look; empty when there is nothing to say.
    pub advice: String,
}

/// One host's part. Frames are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailHop {
    pub node: NodeName,
    pub ran: Ran,
    /// Text of `ran.rule`; empty when it is 0 or not known.
    pub rule: String,
    /// Who gets it next.
    pub next: Option<NodeName>,
    /// What else is to say: by which way and why.
    pub note: String,
}
