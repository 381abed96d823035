//! How packets of encrypted circuits travel between the programs and the sealer, a process of the agent's that encrypts and
//! decrypts them.
//!
//! The sealer has two TAP interfaces. Through [`PLAIN`] it gets packets of workloads that the firewall has let into an
//! encrypted circuit, and gives back those that came out of one; through [`CIPHER`] it gives and gets the messages
//! (WireGuard) that carry them. A message travels in its circuit like any packet of a workload: VXLAN under the
//! circuit's labels, then [Ethernet, IPv4, UDP](SENDER) with fixed, link-local addresses, then the message. So transit
//! hosts and standard tools need to know nothing of it, and superpackets of messages stay whole where the kernel
//! keeps superpackets whole. The sealer gives messages without the tunnel's headers, and gets them with all of these.
//!
//! In place of an Ethernet header, every frame on the two interfaces has a [`Tag`].
use crate::label;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Indexes of `SEALERS`, whose values are the interfaces' indexes (`u32`); 0: nothing is encrypted here.
pub const PLAIN: u32 = 0;
pub const CIPHER: u32 = 1;
/// Entries of `SEALERS`.
pub const SEALERS: u32 = 2;

/// Addresses of the packets that carry messages: link-local (RFC 3927), so that nothing ever routes one that escapes.
pub const SENDER: [u8; 4] = [169, 254, 86, 3];
pub const RECEIVER: [u8; 4] = [169, 254, 86, 4];
/// Destination port of these packets, WireGuard's customary one.
pub const PORT: u16 = 51820;

/// What stands in place of the Ethernet header: whose the frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Tag {
    /// [`Tag::PACKET`] or [`Tag::REFUSED`].
    pub mark: u8,
    /// Index in `LABELS` of a label under which this end of the circuit receives; network order.
    pub index: [u8; 3],
    /// Network order.
    pub circuit: [u8; 8],
    /// Of a packet: its EtherType. Of a refusal: the [`crate::Reason`] as a number. Network order.
    pub kind: [u8; 2],
}

impl Tag {
    /// What follows is an IP packet. The number is a locally administered unicast address's first byte, because the
    /// kernel takes the tag for an Ethernet header.
    pub const PACKET: u8 = 0x02;
    /// From the sealer: it dropped a packet of this circuit, and the program is to count it. Nothing follows.
    pub const REFUSED: u8 = 0x06;

    #[inline(always)]
    pub const fn packet(index: u32, circuit: u64, ethertype: u16) -> Self {
        Self::new(Self::PACKET, index, circuit, ethertype)
    }

    #[inline(always)]
    pub const fn refused(index: u32, circuit: u64, reason: u16) -> Self {
        Self::new(Self::REFUSED, index, circuit, reason)
    }

    #[inline(always)]
    const fn new(mark: u8, index: u32, circuit: u64, kind: u16) -> Self {
        let [_, a, b, c] = index.to_be_bytes();
        Self { mark, index: [a, b, c], circuit: circuit.to_be_bytes(), kind: kind.to_be_bytes() }
    }

    /// Always one that `LABELS` has.
    #[inline(always)]
    pub const fn index(&self) -> u32 {
        let [a, b, c] = self.index;
        label::index(u32::from_be_bytes([0, a, b, c]))
    }

    #[inline(always)]
    pub const fn circuit(&self) -> u64 {
        u64::from_be_bytes(self.circuit)
    }

    #[inline(always)]
    pub const fn kind(&self) -> u16 {
        u16::from_be_bytes(self.kind)
    }
}

/// Value of `SEALS`, by circuit: what the agent needs to encrypt for an end of it here, kept so that a restarted agent
/// goes on without a controller. No program reads it. The keys are public ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SealRow {
    pub circuit: u64,
    /// Of the far host, the newest first; zero: there is none.
    pub keys: [[u8; 32]; 2],
    /// Index of this end's first receive label.
    pub slot: u32,
    /// Bytes of the longest packet, up to which packets are padded.
    pub mtu: u16,
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<Tag>() == 14 && size_of::<SealRow>() == 80);
