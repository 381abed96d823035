//! Probes (STAMP, RFC 8762 and 8972): tells requests from answers, and turns the one into the other.
use crate::headers::{ETHERTYPE_IPV4, Ethernet, Ipv4, PROTOCOL_UDP, Udp};
use crate::tunnel::{Link4, Link6, fold, replaced};
use ebpf_abi::probe::{
    AUTHENTICATED, Answer, DEFECT_PORT, ERROR_ESTIMATE, INNER, PORT, REFLECTOR, Request, SENDER, Stamp,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a request or an answer without extensions.
pub const LENGTH: u32 = size_of::<Request>() as u32;
/// TTL and hop limit of the answer to a link probe, so that it tells whether it crossed a router (as TWAMP, RFC 5357 §4.2).
pub const TTL: u8 = 255;

/// Which of the three a probe is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    Request = 1,
    Answer = 2,
    Defect = 3,
}

/// What stands before the STAMP packet in a path probe, behind the VXLAN header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Inside {
    pub ethernet: Ethernet,
    pub ip: Ipv4,
    pub udp: Udp,
}

const _: () = assert!(size_of::<Inside>() as u32 == INNER);

impl Inside {
    /// What it is; none when path probes do not look like this. `room`: bytes of the frame from the IP header on.
    #[inline(always)]
    pub fn role(&self, room: u32) -> Option<Role> {
        let datagram = u32::from(u16::from_be_bytes(self.udp.length));
        let packet = u32::from(u16::from_be_bytes(self.ip.total_length));
        let pieces = Ipv4::MORE_FRAGMENTS | Ipv4::FRAGMENT_OFFSET;
        let well_formed = self.ethernet.ethertype() == ETHERTYPE_IPV4
            && self.ip.version_ihl == 0x45
            && self.ip.protocol == PROTOCOL_UDP
            && u16::from_be_bytes(self.ip.fragment) & pieces == 0
            && self.udp.checksum == [0; 2]
            && datagram >= Udp::LENGTH + LENGTH
            && packet == Ipv4::LENGTH + datagram
            && packet <= room;
        if well_formed { self.direction() } else { None }
    }

    #[inline(always)]
    fn direction(&self) -> Option<Role> {
        const REFLECTORS: [u8; 2] = PORT.to_be_bytes();
        const DEFECTS: [u8; 2] = DEFECT_PORT.to_be_bytes();
        let Ipv4 { source, destination, .. } = self.ip;
        if source == SENDER && destination == REFLECTOR && self.udp.destination == REFLECTORS {
            Some(if self.udp.source == DEFECTS { Role::Defect } else { Role::Request })
        } else if source == REFLECTOR && destination == SENDER && self.udp.source == REFLECTORS {
            Some(Role::Answer)
        } else {
            None
        }
    }

    /// Back to where it came from. No checksum notices: the sums that cover it stay the same.
    #[inline(always)]
    pub fn turned(mut self) -> Self {
        (self.ethernet.source, self.ethernet.destination) = (self.ethernet.destination, self.ethernet.source);
        (self.ip.source, self.ip.destination) = (self.ip.destination, self.ip.source);
        (self.udp.source, self.udp.destination) = (self.udp.destination, self.udp.source);
        self
    }
}

/// The answer to a request (RFC 8762 §4.3.1); `number`: the reflector's own (stateful mode). The session identifier is
/// copied (RFC 8972 §3).
#[inline(always)]
pub fn answer(request: &Request, number: u32, received: u64, answered: u64, ttl: u8) -> Answer {
    Answer {
        sequence: number.to_be_bytes(),
        timestamp: Stamp::of(answered),
        error_estimate: ERROR_ESTIMATE,
        session: request.session,
        received: Stamp::of(received),
        sender_sequence: request.sequence,
        sender_timestamp: request.timestamp,
        sender_error_estimate: request.error_estimate,
        must_be_zero: [0; 2],
        sender_ttl: ttl,
        must_be_zero2: [0; 3],
    }
}

/// Whether a packet of this many bytes, extensions included, is of the authenticated mode (RFC 8762 §4.2.2, §4.3.2): its
/// bytes 4 to 15 are zero, where the other mode has a time and an error estimate, which is never zero (RFC 4656 §4.1.2).
#[inline(always)]
pub fn is_authenticated(packet: &Request, length: u32) -> bool {
    let words = words(packet);
    length >= AUTHENTICATED && words[1] | words[2] | words[3] == 0
}

/// The difference that the answer in place of its request makes to a checksum in the machine's byte order.
#[inline(always)]
pub fn difference(request: &Request, answer: &Answer) -> u32 {
    let (old, new): ([u32; 11], [u32; 11]) = (words(request), zerocopy::transmute!(*answer));
    let mut sum = 0u64;
    for i in 0..old.len() {
        sum += u64::from(!old[i]) + u64::from(new[i]);
    }
    u32::from(fold(sum))
}

#[inline(always)]
fn words(request: &Request) -> [u32; 11] {
    zerocopy::transmute!(*request)
}

/// A link probe back to its sender. The checksum is changed, not computed anew, so that damage stays visible.
#[inline(always)]
pub fn turn4(head: &mut Link4) {
    (head.ethernet.source, head.ethernet.destination) = (head.ethernet.destination, head.ethernet.source);
    let ip = &mut head.ip;
    let before = u32::from_be_bytes([ip.ttl, ip.protocol, 0, 0]);
    ip.ttl = TTL;
    let changes = [(before, u32::from_be_bytes([ip.ttl, ip.protocol, 0, 0]))];
    ip.checksum = replaced(u16::from_be_bytes(ip.checksum), &changes).to_be_bytes();
    (ip.source, ip.destination) = (ip.destination, ip.source);
}

/// The same over IPv6.
#[inline(always)]
pub fn turn6(head: &mut Link6) {
    (head.ethernet.source, head.ethernet.destination) = (head.ethernet.destination, head.ethernet.source);
    head.ip.hop_limit = TTL;
    (head.ip.source, head.ip.destination) = (head.ip.destination, head.ip.source);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebpf_abi::probe::Stamp;
    use zerocopy::FromZeros;

    fn inside() -> Inside {
        let mut inside = Inside::new_zeroed();
        inside.ethernet.ethertype = ETHERTYPE_IPV4.to_be_bytes();
        inside.ip = Ipv4 {
            version_ihl: 0x45,
            total_length: [0, 20 + 8 + 44],
            protocol: PROTOCOL_UDP,
            source: SENDER,
            destination: REFLECTOR,
            ..inside.ip
        };
        inside.udp.source = [0x9c, 0x40];
        inside.udp.destination = PORT.to_be_bytes();
        inside.udp.length = [0, 8 + 44];
        inside
    }

    #[test]
    fn turned_request_is_an_answer_and_the_other_way_round() {
        let request = inside();
        assert_eq!(request.role(72), Some(Role::Request));
        assert_eq!(request.turned().role(72), Some(Role::Answer));
        assert_eq!(request.turned().turned(), request);
        assert_eq!(request.role(71), None, "the frame is too short");
    }

    #[test]
    fn defect_is_told_from_a_request_by_its_source_port_alone() {
        let mut defect = inside();
        defect.udp.source = DEFECT_PORT.to_be_bytes();
        assert_eq!(defect.role(72), Some(Role::Defect));
        assert_eq!(defect.role(71), None, "the frame is too short");
        assert_eq!(
            defect.turned().role(72),
            Some(Role::Answer),
            "as programs that know of none would answer it"
        );
    }

    #[test]
    fn changed_sum_equals_the_computed_one() {
        let sum = |bytes: &[u8]| {
            fold(bytes.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum())
        };
        for round in 0..=255u8 {
            let request = Request {
                sequence: [round, 1, 2, 255 - round],
                timestamp: Stamp { seconds: [round; 4], nanos: [0, 7, round, 9] },
                error_estimate: [0x80, round],
                session: [round, round],
                must_be_zero: [round.wrapping_mul(7); 28],
            };
            let answer = answer(&request, u32::from(round) << 20, 1 << 60, (1 << 60) + 999, round);
            // Both are right for a sum of zero; the rest has one form only.
            let changed = fold(u64::from(sum(request.as_bytes())) + u64::from(difference(&request, &answer)));
            assert_eq!(changed % 0xffff, sum(answer.as_bytes()) % 0xffff, "round {round}");
        }
    }

    #[test]
    fn time_beyond_32_bits_of_seconds_begins_anew() {
        let nanos = ((1u64 << 32) + 5) * 1_000_000_000 + 6;
        assert_eq!(Stamp::of(nanos).nanos(), 5_000_000_006);
        assert_eq!(Stamp::of(4_000_000_000_999_999_999).nanos(), 4_000_000_000_999_999_999);
    }

    #[test]
    fn authenticated_mode_is_known_by_length_and_zeros() {
        let plain = Request { timestamp: Stamp::of(1), ..Request::new_zeroed() };
        let zeros = Request { sequence: [9; 4], ..Request::new_zeroed() };
        assert!(is_authenticated(&zeros, AUTHENTICATED) && is_authenticated(&zeros, AUTHENTICATED + 12));
        assert!(!is_authenticated(&zeros, AUTHENTICATED - 1) && !is_authenticated(&plain, AUTHENTICATED));
    }
}
