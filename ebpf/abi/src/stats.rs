//! Counters of the data plane; each exists per CPU and is summed by the reader.
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of `STATS`, by slot: what went through one circuit at this host. Transit counts as received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stats {
    /// Packets that this host's workload sent into the circuit; a GSO packet counts as its segments.
    pub sent_packets: u64,
    /// Bytes of these, inner IP length.
    pub sent_bytes: u64,
    /// Packets that came out of the circuit here, or passed through.
    pub received_packets: u64,
    pub received_bytes: u64,
}

/// Value of `REASONS`, by [`crate::Reason`]: everything that was dropped, nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Dropped {
    pub packets: u64,
    pub bytes: u64,
}

/// Key of `DROPS`: the same drops, told apart by circuit and rule.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct DropKey {
    /// 0 when the packet could not be attributed to a circuit.
    pub circuit: u64,
    pub reason: u32,
    /// Rule that denied; 0 for the default deny and for reasons that are not the firewall's.
    pub rule: u32,
}
