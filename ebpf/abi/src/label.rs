//! What a host does with a packet that arrives under a label it allocated.
use crate::{Address, Mac};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A label is a VNI (24 bits): the low bits index `LABELS`, the high bits say which use of that slot it is, so that
/// a late packet of a released circuit is not delivered into the next one.
pub const INDEX_BITS: u32 = 17;
/// Slots in `LABELS`: the most labels that one host can receive on. Index 0 is never allocated.
pub const CAPACITY: u32 = 1 << INDEX_BITS;

/// The slot of a label in `LABELS` and `STATS`.
#[inline(always)]
pub const fn index(label: u32) -> u32 {
    label & (CAPACITY - 1)
}

/// Value of `LABELS`: two cache lines, the first of which has all that transit needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LabelEntry {
    /// The whole label; differs from the packet's when the slot was reused, 0 when it is free.
    pub label: u32,
    /// One of [`LabelEntry::TRANSIT`], [`LabelEntry::PEER`], [`LabelEntry::EGRESS`].
    pub kind: u8,
    /// Direction of packets that arrive under this label, as [`crate::Direction`].
    pub direction: u8,
    /// Delivery: 1 when only encrypted packets are taken under this label (see [`crate::seal`]); else 0.
    pub sealed: u8,
    pub reserved: u8,
    pub circuit: u64,
    /// The only outer source from which this label is accepted.
    pub from: Address,
    /// The outer destination it must come to.
    pub to: Address,
    /// Transit: index into `NEXT_HOPS`. Delivery: index of the ENI's host side.
    pub target: u32,
    /// Transit: the label that the next hop allocated. Delivery: the label under which the way leads back, for the
    /// answer to a probe; 0: none.
    pub out_label: u32,
    /// Delivery: the MAC of the workload's ENI.
    pub mac: Mac,
    /// Delivery: the MAC of the ENI's host side, the inner source the workload sees.
    pub gateway: Mac,
    /// Delivery: the inner source must be the far resource …
    pub remote_v6: Address,
    /// … and the inner destination this one.
    pub local_v6: Address,
    pub remote_v4: [u8; 4],
    pub local_v4: [u8; 4],
    /// Delivery: index into `NEXT_HOPS` of the way back.
    pub back: u32,
    /// Delivery: as `Flow::mtu`, for what the far end announces.
    pub mtu: u16,
    /// Transit: the circuit's class in the queues, see [`crate::share`]; 0: none of its own.
    pub class: u16,
    /// Fills the second of two cache lines, so that no entry shares one with its neighbour.
    pub reserved2: [u8; 12],
}

impl LabelEntry {
    /// Swap the label and send to the next hop.
    pub const TRANSIT: u8 = 1;
    /// Decapsulate and hand to a workload in another namespace: `bpf_redirect_peer(target)`.
    pub const PEER: u8 = 2;
    /// Decapsulate and hand to an ENI that has both sides on the host: `bpf_redirect(target)`.
    pub const EGRESS: u8 = 3;
}

const _: () = assert!(size_of::<LabelEntry>() == 128);
