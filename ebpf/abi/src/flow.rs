//! What an endpoint needs to send a workload's packet into its circuit.
use crate::{Address, Mac};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of `FLOWS`: the interface that a workload's packet came in on, and where it wants to go.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowKey {
    /// Index of the host side of the workload's ENI.
    pub eni: u32,
    /// Fabric address of the other end.
    pub remote: Address,
}

/// Value of `FLOWS`. A circuit has one per address family; its absence is the closed gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    pub circuit: u64,
    /// The only source address that the workload may use (anti-spoofing).
    pub local: Address,
    /// Repeats the key, so that a reader that raced with the reuse of a hash element notices.
    pub remote: Address,
    /// Slot in `STATS`: the index of this endpoint's own receive label.
    pub slot: u32,
    /// [`Flow::TUNNEL`]: index into `NEXT_HOPS`. [`Flow::PEER`] and [`Flow::EGRESS`]: index of the other
    /// resource's host-side interface.
    pub target: u32,
    /// Label that the next hop allocated (24 bits); unused when the other end is on this host.
    pub label: u32,
    /// Inner destination MAC: the far ENI's.
    pub mac: Mac,
    /// Inner source MAC: the far ENI's host side.
    pub gateway: Mac,
    /// Direction of packets that this workload sends, as [`crate::Direction`].
    pub direction: u8,
    pub kind: u8,
    /// Bytes of the longest IP packet that either way carries; 0: not known, nothing is held to it.
    pub mtu: u16,
    /// Slot in `GROUPS` that says by which way it is sent; 0: it has no backup.
    pub group: u16,
    /// Number of this end among those with a bandwidth or a limit, see [`crate::share`]; 0: it has neither.
    pub class: u16,
    /// [`Flow::TUNNEL`] with a group: index into `NEXT_HOPS` of the backup …
    pub backup_target: u32,
    /// … and the label that the next hop there allocated.
    pub backup_label: u32,
}

/// Values of `GROUPS`: circuits that share both ways and what they ask of them turn together, by one write.
pub const PRIMARY: u32 = 0;
pub const BACKUP: u32 = 1;

const _: () = assert!(crate::maps::GROUPS <= 1 << 16);

impl Flow {
    /// The other end is on another host: encapsulate and send to `NEXT_HOPS[target]`.
    pub const TUNNEL: u8 = 1;
    /// The other end is in another namespace of this host: `bpf_redirect_peer(target)`.
    pub const PEER: u8 = 2;
    /// The other end is this host itself, whose ENI has both sides here: `bpf_redirect(target)`.
    pub const EGRESS: u8 = 3;
    /// As [`Flow::TUNNEL`], but the agent encrypts the packets first (see [`crate::seal`]).
    pub const SEALED: u8 = 4;

    /// Whether the other end is on another host: then `target` is a slot in `NEXT_HOPS`, else an interface.
    #[inline(always)]
    pub const fn leaves_host(&self) -> bool {
        matches!(self.kind, Self::TUNNEL | Self::SEALED)
    }
}

/// Value of `NEXT_HOPS`: the next host on a path, with its link-layer addresses resolved by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NextHop {
    /// Outer source address.
    pub local: Address,
    /// Outer destination address.
    pub remote: Address,
    /// Interface towards it; 0 means that the slot is empty.
    pub ifindex: u32,
    /// MAC of that interface.
    pub source_mac: Mac,
    /// MAC of the neighbour that leads there: the host itself or a gateway.
    pub neighbour_mac: Mac,
    /// [`NextHop::RESOLVED`] when `neighbour_mac` is known. Without it the kernel resolves the neighbour
    /// (`bpf_redirect_neigh`), which is slower and only tcx can do.
    pub flags: u16,
    /// Bytes of the longest frame, Ethernet header included, that XDP may put out there; 0: that interface takes no
    /// frames from XDP, and the kernel would lose them without a word. Only set with [`NextHop::RESOLVED`].
    pub longest: u16,
}

impl NextHop {
    pub const RESOLVED: u16 = 1;
}
