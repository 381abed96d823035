//! Packets of a circuit as hosts saw them pass.
use crate::{CircuitId, Label, Timestamp};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The most bytes of a frame that are told: as many as a record of the data plane has.
pub const SNAPLEN: u16 = 256;
/// The longest that a circuit is followed by one request.
pub const LONGEST: std::time::Duration = std::time::Duration::from_secs(600);

/// Which packets of the circuit; of a packet whose ports do not show, the protocol alone decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// IP protocol number; none: all. ICMP is 1 in both families.
    pub protocol: Option<u8>,
    /// Source or destination port of TCP or UDP; none: all.
    pub port: Option<u16>,
}

/// What a host did with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// The workload here sent it, and it may pass.
    Entered,
    /// On its way between two hosts.
    PassedOn,
    /// Handed to the workload here.
    Delivered,
    /// By name of the reason; rule 0 is the default deny, or none.
    Dropped { reason: String, rule: u32 },
}

/// Where in a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    Eni,
    Tcx,
    Xdp,
    /// Between the agent's encryption and the programs.
    Seal,
}

/// One packet at one hook of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// By the host's clock, TAI less its offset to UTC as the kernel knows it.
    pub at: Timestamp,
    pub circuit: CircuitId,
    pub hook: Hook,
    pub act: Act,
    /// Interface on which it came.
    pub interface: String,
    /// VNI under which it came, and under which it goes on.
    pub label: Option<Label>,
    pub out_label: Option<Label>,
    /// Same for the same packet at every host.
    pub identity: u64,
    /// Inner addresses; none when the packet could not be read that far.
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    /// IP protocol number; 0 when unknown.
    pub protocol: u8,
    /// ICMP: type and code in the destination port.
    pub source_port: u16,
    pub destination_port: u16,
    /// It is encrypted: addresses and ports are those of the message that carries it.
    #[serde(default)]
    pub sealed: bool,
    /// Bytes of the frame.
    pub length: u32,
    /// Bytes of payload per segment of a superpacket; 0: a plain packet.
    pub segment: u32,
    /// Packets that this host did not tell just before this one, for lack of room.
    pub missed: u64,
    /// The frame's first bytes; empty unless they were asked for.
    pub bytes: Vec<u8>,
}
