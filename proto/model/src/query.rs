//! What a running host is asked about its data plane, and what it answers. Asking changes nothing, and a question is lost
//! with the session that it was asked in.
use crate::report::Way;
use crate::{CircuitId, FabricAddress, Label};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Pairs a question with its answer; the controller counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueryId(pub u64);

/// Bytes of the longest frame in a question or an answer.
pub const FRAME: usize = 2048;

/// Bytes of the longest IP packet that can be wondered about: with all headers of a tunnel it is not longer than [`FRAME`].
pub const PACKET: u16 = 1900;

/// A packet that somebody wonders about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Who sends it; both are of one family.
    pub source: IpAddr,
    pub destination: IpAddr,
    pub body: Body,
    /// Bytes of the IP packet, up to [`PACKET`]; one whose headers alone are longer is as long as these. None: short.
    #[serde(default)]
    pub size: Option<u16>,
}

/// What it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The segment that opens a connection (SYN), or the one that answers it (SYN and ACK).
    Tcp {
        source: u16,
        destination: u16,
        answer: bool,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    /// An echo request, or its reply.
    Echo {
        id: u16,
        answer: bool,
    },
    /// A protocol without ports, by number.
    Other(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// What becomes of this packet when the workload with this address sends it?
    Sent { workload: FabricAddress, packet: Packet },
    /// What becomes of this frame when it comes from the underlay? Its link-layer addresses do not matter. `packet` is
    /// what it carries, which nobody could read out of an encrypted one.
    Arrives { frame: Vec<u8>, packet: Packet },
    /// What becomes of a packet that a plain VXLAN device with this fabric address sends?
    Enters { workload: FabricAddress, tunnel: Tunnel, packet: Packet },
}

/// Outer addresses and VNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub label: Label,
}

/// The live programs ran over the live maps, and wrote nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Ran(Ran),
    /// The host could not tell, and why.
    Unable(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// The program that decided.
    pub program: String,
    /// Interface on which the packet came in.
    pub interface: String,
    /// VNI under which it came.
    pub label: Option<Label>,
    /// None: it belongs to no circuit.
    pub circuit: Option<CircuitId>,
    /// The rule that decided; 0: the default deny, or none was asked.
    pub rule: u32,
    pub connection: Connection,
    #[serde(default)]
    pub sealing: Sealing,
    pub fate: Fate,
}

/// Whether the packet is encrypted on the underlay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sealing {
    #[default]
    Clear,
    /// It is. A host on the way sees that much and no more.
    Sealed,
    /// It ought to be, but this end has agreed on no keys with the other at the moment: packets wait for that.
    NoSession,
}

/// What the connection table says of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connection {
    /// It was not asked.
    #[default]
    None,
    /// The packet would open a connection.
    WouldOpen,
    /// It belongs to one whose opener alone has spoken.
    Opening,
    /// It belongs to one in which both have spoken.
    Established,
    /// It belongs to one that ends.
    Closing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// On to the next host.
    Sent(Sent),
    /// Handed to the workload behind this interface.
    Delivered { interface: String },
    Dropped {
        /// Its name, and the same as a sentence.
        reason: String,
        text: String,
        /// Of what was too big: bytes of the longest IP packet that would have passed here, where the program knows.
        #[serde(default)]
        room: Option<u16>,
    },
    /// The fabric leaves it to the kernel.
    NotOurs,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Interface that it leaves by.
    pub interface: String,
    /// Outer addresses.
    pub local: IpAddr,
    pub remote: IpAddr,
    /// VNI under which it goes on.
    pub label: Label,
    /// Which of the circuit's ways; none in transit.
    pub way: Option<Way>,
    /// As it leaves, outer headers first; at most [`FRAME`] bytes.
    pub frame: Vec<u8>,
}

impl Packet {
    /// The protocol as a rule would name it.
    pub fn protocol(&self) -> u8 {
        match self.body {
            Body::Tcp { .. } => 6,
            Body::Udp { .. } => 17,
            Body::Echo { .. } if self.source.is_ipv6() => 58,
            Body::Echo { .. } => 1,
            Body::Other(number) => number,
        }
    }
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::net::SocketAddr;
        let Self { source, destination, body, size } = self;
        match body {
            Body::Tcp { source: from, destination: to, .. } | Body::Udp { source: from, destination: to } => {
                let name = if matches!(body, Body::Tcp { .. }) { "tcp" } else { "udp" };
                let (from, to) = (SocketAddr::new(*source, *from), SocketAddr::new(*destination, *to));
                write!(f, "{name} {from} → {to}")?;
            }
            Body::Echo { id, answer } => {
                let what = if *answer { "reply" } else { "request" };
                write!(f, "icmp echo {what} {source} → {destination} id {id}")?;
            }
            Body::Other(number) => write!(f, "protocol {number} {source} → {destination}")?,
        }
        size.map_or(Ok(()), |size| write!(f, ", {size} bytes"))
    }
}
