//! Probes (STAMP, RFC 8762) as they travel, whom they are answered for, and the answers as the agent reads them.
//!
//! There are two kinds. A *link probe* is plain STAMP between two underlay neighbours: UDP to port 862. A *path probe*
//! travels inside a circuit's own tunnel, under its label, so that it crosses what its packets cross: VXLAN with the
//! bit [`OAM`] set, then [`Ethernet, IPv4, UDP`](INNER) with fixed, link-local addresses, then the same STAMP packet.
//! The far end's program answers by the way that belongs to the label under which the probe came.
//!
//! A [*defect message*](Defect) is a path probe that is not answered: a host says by a circuit's one way that the interface
//! on which the other one begins has no carrier, which the far end of a cable that goes through a switch cannot see
//! (as the Remote Defect Indication of RFC 6428 §3.2 and ITU-T Y.1731, except that those take the way that failed).
use crate::Address;
use crate::flow::{BACKUP, Flow, PRIMARY};
use crate::label::LabelEntry;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// IANA's port of TWAMP and STAMP reflectors (RFC 8762 §4.1).
pub const PORT: u16 = 862;
/// Bit of the VXLAN flags that marks a path probe: the place of the O bit of VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe §3.1).
/// A plain VXLAN end, which never has a path probe sent to it, ignores or drops it.
pub const OAM: u8 = 0x01;
/// Inner addresses of a path probe: link-local (RFC 3927), so that nothing ever routes one that escapes.
pub const SENDER: [u8; 4] = [169, 254, 86, 1];
pub const REFLECTOR: [u8; 4] = [169, 254, 86, 2];
/// Inner UDP source port of a defect message; a request of the agent has another one. Programs that do not know of defects
/// answer one like a request, under a [sequence number](DEFECT_SEQUENCE) that no probe has.
pub const DEFECT_PORT: u16 = 49_153;
/// A path's numbers begin at 0: it is 497 days away at a probe each 10 ms.
pub const DEFECT_SEQUENCE: u32 = u32::MAX;
/// Bytes in front of the STAMP packet of a path probe, from the inner Ethernet header on: Ethernet, IPv4, UDP.
pub const INNER: u32 = 14 + 20 + 8;
/// Answers per peer and second that the programs give; more are dropped.
pub const PER_SECOND: u64 = 1_000;
/// Answers per peer and second that the agent is told of; more are dropped. A link is probed ten times a second.
pub const TOLD_PER_SECOND: u32 = 100;

/// Bytes of the shortest packet of the authenticated mode (RFC 8762 §4.2.2).
pub const AUTHENTICATED: u32 = 112;

/// Unauthenticated Session-Sender packet (RFC 8762 §4.2.1, RFC 8972 §3): network order, 44 bytes like the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    pub sequence: [u8; 4],
    pub timestamp: Stamp,
    pub error_estimate: [u8; 2],
    pub session: [u8; 2],
    pub must_be_zero: [u8; 28],
}

/// In place of a request: [`Request`] with the number of a path in the first eight of the bytes that must be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Defect {
    pub sequence: [u8; 4],
    pub timestamp: Stamp,
    pub error_estimate: [u8; 2],
    pub session: [u8; 2],
    /// The path that begins on an interface without a carrier, by the number that both ends have for it.
    pub dead: [u8; 8],
    pub must_be_zero: [u8; 20],
}

/// Unauthenticated Session-Reflector packet (RFC 8762 §4.3.1, RFC 8972 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Answer {
    /// The reflector's own, counted up with each answer (stateful mode): tells losses of the two directions apart.
    pub sequence: [u8; 4],
    /// When it was sent.
    pub timestamp: Stamp,
    pub error_estimate: [u8; 2],
    pub session: [u8; 2],
    /// When the request came.
    pub received: Stamp,
    pub sender_sequence: [u8; 4],
    pub sender_timestamp: Stamp,
    pub sender_error_estimate: [u8; 2],
    pub must_be_zero: [u8; 2],
    /// TTL or hop limit that the request came with; of a path probe, that of the outer header.
    pub sender_ttl: u8,
    pub must_be_zero2: [u8; 3],
}

/// Time since 1970 (TAI) as PTPv2 truncates it (RFC 8186): seconds and nanoseconds, network order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stamp {
    pub seconds: [u8; 4],
    pub nanos: [u8; 4],
}

/// Z = 1 (PTPv2 format), S = 0 (no claim about synchronisation), scale 0, multiplier 1 (RFC 8762 §4.2.1, RFC 4656 §4.1.2).
pub const ERROR_ESTIMATE: [u8; 2] = [0x40, 0x01];

impl Stamp {
    #[inline(always)]
    pub const fn of(nanos: u64) -> Self {
        Self {
            seconds: ((nanos / 1_000_000_000) as u32).to_be_bytes(),
            nanos: ((nanos % 1_000_000_000) as u32).to_be_bytes(),
        }
    }

    /// Nanoseconds, seconds counted modulo 2^32.
    #[inline(always)]
    pub const fn nanos(self) -> u64 {
        u32::from_be_bytes(self.seconds) as u64 * 1_000_000_000 + u32::from_be_bytes(self.nanos) as u64
    }
}

/// Key of `PEERS`: who may ask, and under which session.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct PeerKey {
    pub remote: Address,
    /// SSID, host order; 0 is a sender without RFC 8972.
    pub session: u32,
}

/// Value of `PEERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Peer {
    /// The running second (`bpf_ktime_get_ns` / 10⁹), and what was answered in it.
    pub second: u64,
    pub spent: u64,
    /// Answers since the peer was added: the reflector's sequence number.
    pub answered: u32,
    /// Its own answers of the running second that the agent was told of.
    pub told: u32,
}

/// One answer to a probe of this host, or a defect that the far end told, as the program saw it arrive: a record of the ring
/// buffer `PROBES`. A defect has label 0 and session 0, which is nobody's answer for agents that do not know of defects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reply {
    /// Path probe: the label under which it came. Link probe: 0.
    pub label: u32,
    /// Of the request. Defect: the group of the circuit under whose label it came.
    pub sequence: u32,
    /// Of the answer. Defect: by which of the group's ways it came, [`PRIMARY`] or [`BACKUP`].
    pub reflected: u32,
    pub session: u16,
    /// [`Reply::ANSWER`] or [`Reply::DEFECT`].
    pub kind: u8,
    pub reserved: u8,
    /// Outer source.
    pub from: Address,
    /// When the request came and was answered, by the reflector's clock (RFC 8762's T2 and T3): nanoseconds, seconds modulo
    /// 2³². Defect: the number of the dead path, and 0.
    pub received: u64,
    pub answered: u64,
    /// When the answer came: `bpf_ktime_get_ns` of this host, which nobody sets. T1 is what the sender remembers, by the
    /// same clock; what the answer says of it is not needed.
    pub arrived: u64,
}

const _: () = assert!(size_of::<Request>() == 44 && size_of::<Answer>() == 44 && size_of::<Defect>() == 44);

impl Reply {
    pub const ANSWER: u8 = 0;
    pub const DEFECT: u8 = 1;
}

/// By which way of the circuit's own flow a packet came under this label, [`PRIMARY`] or [`BACKUP`]: the one by which the
/// label's answers go. None: that flow has no two ways, or is another circuit's, or its ways are just being replaced.
#[inline(always)]
pub fn came_by(entry: &LabelEntry, flow: &Flow) -> Option<u32> {
    if flow.circuit != entry.circuit || flow.group == 0 || !flow.leaves_host() || entry.out_label == 0 {
        None
    } else if entry.back == flow.target && entry.out_label == flow.label {
        Some(PRIMARY)
    } else if entry.back == flow.backup_target && entry.out_label == flow.backup_label {
        Some(BACKUP)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn a_packet_came_by_the_way_by_which_its_answer_would_go() {
        let flow = Flow {
            circuit: 7,
            kind: Flow::TUNNEL,
            group: 3,
            target: 1,
            label: 0x101,
            backup_target: 2,
            backup_label: 0x202,
            ..Flow::new_zeroed()
        };
        let entry = |back, out_label| LabelEntry { circuit: 7, back, out_label, ..LabelEntry::new_zeroed() };
        assert_eq!(came_by(&entry(1, 0x101), &flow), Some(PRIMARY));
        assert_eq!(came_by(&entry(2, 0x202), &flow), Some(BACKUP));
        assert_eq!(came_by(&entry(1, 0x101), &Flow { kind: Flow::SEALED, ..flow }), Some(PRIMARY));
        assert_eq!(came_by(&entry(1, 0x202), &flow), None, "a way that is being left");
        assert_eq!(came_by(&entry(1, 0x101), &Flow { circuit: 8, ..flow }), None, "another circuit's");
        assert_eq!(came_by(&entry(1, 0x101), &Flow { group: 0, ..flow }), None, "not protected");
        assert_eq!(
            came_by(&entry(1, 0x101), &Flow { kind: Flow::PEER, ..flow }),
            None,
            "never leaves the host"
        );
        let none = Flow { label: 0, ..flow };
        assert_eq!(came_by(&entry(1, 0), &none), None, "no way back");
    }
}
