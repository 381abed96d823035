//! Connections that a circuit's firewall has admitted.
use crate::Address;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of `CONNTRACK`. The sides are the circuit's, not the opener's, so both directions of a connection have one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConnKey {
    pub circuit: u64,
    /// Address at the circuit's source.
    pub source: Address,
    /// Address at the circuit's destination.
    pub destination: Address,
    /// Port at the circuit's source, network order; for ICMP echo the identifier, in both fields.
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    /// IP protocol number; ICMPv6 counts as ICMP (1) with its own address family.
    pub protocol: u8,
    /// ICMP echo: the direction of the requests, as [`crate::Direction`], since both ends may use one identifier; else 0.
    pub asker: u8,
    pub reserved: [u8; 2],
}

/// Value of `CONNTRACK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Conn {
    /// `CLOCK_BOOTTIME`-independent: `bpf_ktime_get_ns` (monotonic) at which the entry counts as gone.
    pub expires: u64,
    /// Version of the rule set that allowed it.
    pub version: u32,
    /// Rule that allowed it.
    pub rule: u32,
    /// One of the `STATE_*` below.
    pub state: u8,
    /// Who opened it, as [`crate::Direction`].
    pub opener: u8,
    /// TCP: bit 0 a FIN was seen forward, bit 1 in reverse.
    pub fins: u8,
    pub reserved: [u8; 5],
}

impl Conn {
    /// The opener has spoken; TCP: SYN seen.
    pub const STATE_NEW: u8 = 1;
    /// Both sides have spoken; TCP: handshake answered.
    pub const STATE_ESTABLISHED: u8 = 2;
    /// TCP: FIN from both sides, or a RST.
    pub const STATE_CLOSING: u8 = 3;
}

/// Idle timeouts in seconds, after Linux' nf_conntrack defaults, except that an established TCP connection is
/// forgotten after 8 hours instead of 5 days: the table is bounded and evicts the least recently used.
pub mod timeout {
    pub const TCP_NEW: u64 = 120;
    pub const TCP_ESTABLISHED: u64 = 8 * 3600;
    pub const TCP_CLOSING: u64 = 10;
    pub const UDP_NEW: u64 = 30;
    pub const UDP_ESTABLISHED: u64 = 120;
    pub const ICMP: u64 = 30;
    pub const OTHER: u64 = 600;
    pub const FRAGMENT: u64 = 30;
}

/// Key of `FRAGMENTS`: which datagram a fragment belongs to (RFC 791, RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentKey {
    pub circuit: u64,
    pub source: Address,
    pub destination: Address,
    pub identification: u32,
    /// IPv4: the protocol, which RFC 791 makes part of the identity; IPv6: 0.
    pub protocol: u8,
    pub reserved: [u8; 3],
}

/// Value of `FRAGMENTS`: the ports that the first fragment showed. Later fragments are judged by them; a fragment
/// that comes before its first one is dropped by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fragment {
    pub expires: u64,
    pub source_port: [u8; 2],
    pub destination_port: [u8; 2],
    /// As in [`ConnKey`]; later fragments of IPv6 do not repeat it.
    pub protocol: u8,
    /// As in [`ConnKey`].
    pub asker: u8,
    pub reserved: [u8; 2],
}
