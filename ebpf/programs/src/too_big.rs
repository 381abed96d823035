//! Tells a workload that its packet is longer than the circuit carries: which packets are answered, and with what.
use crate::bytes::Bytes;
use crate::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6};
use crate::network::Network;
use crate::transport::{Kind, Transport};
use crate::tunnel::{self, fold};
use crate::words::quarters;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a block in which the quoted packet is read and summed up.
const BLOCK: u32 = 16;
/// The most that is quoted, in blocks: an IPv4 error stays within 576 bytes (RFC 1812 §4.3.2.3) …
const QUOTE_IPV4: u32 = (576 - Ipv4::LENGTH - Icmp::LENGTH) / BLOCK;
/// … and an IPv6 one within the least MTU of IPv6 (RFC 4443 §2.4 c).
const QUOTE_IPV6: u32 = (1_280 - Ipv6::LENGTH - Icmp::LENGTH) / BLOCK;

/// Type 3, code 4 (RFC 1191) and type 2, code 0 (RFC 4443 §3.2): the MTU is in the last four bytes of both.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub checksum: [u8; 2],
    pub mtu: [u8; 4],
}

impl Icmp {
    pub const LENGTH: u32 = 8;
}

/// What stands in front of the quoted packet.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Error4 {
    pub ethernet: Ethernet,
    pub ip: Ipv4,
    pub icmp: Icmp,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Error6 {
    pub ethernet: Ethernet,
    pub ip: Ipv6,
    pub icmp: Icmp,
}

/// Bytes by which an error is longer than what it quotes.
#[inline(always)]
pub fn longer(family: u8) -> u32 {
    Icmp::LENGTH + if family == 4 { Ipv4::LENGTH } else { Ipv6::LENGTH }
}

/// Whether the sender may be told (RFC 1812 §4.3.2.7, RFC 4443 §2.4 e): not about errors, redirects and later fragments;
/// in IPv4 only if it forbade fragments, because it asks for errors by that. Multicast never comes so far.
#[inline(always)]
pub fn is_answerable<B: Bytes>(bytes: &B, network: &Network, transport: &Transport) -> bool {
    let asked = match transport.kind {
        Kind::Tcp | Kind::Udp | Kind::EchoRequest | Kind::EchoReply | Kind::Other => true,
        // Redirects.
        Kind::IcmpOther => !matches!((network.family, transport.icmp_type), (4, 5) | (6, 137)),
        Kind::IcmpError | Kind::IcmpErrorEcho | Kind::Hidden => false,
    };
    asked && (network.family != 4 || forbids_fragments(bytes))
}

#[inline(always)]
fn forbids_fragments<B: Bytes>(bytes: &B) -> bool {
    let ip: Option<Ipv4> = bytes.read(Ethernet::LENGTH);
    ip.is_some_and(|ip| ip.fragment[0] & Ipv4::DONT_FRAGMENT[0] != 0)
}

/// What is quoted of a packet, summed up one block at a time; for the reason of [`crate::segment::Options`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Quote {
    /// Checksum so far, not yet folded, in the machine's byte order.
    sum: u64,
    done: u32,
    /// Bytes: as many as may be, in whole blocks.
    pub length: u32,
}

impl Quote {
    /// Blocks of the longest one.
    pub const MOST: u32 = QUOTE_IPV6;

    #[inline(always)]
    pub fn of(network: &Network) -> Self {
        let most = if network.family == 4 { QUOTE_IPV4 } else { QUOTE_IPV6 };
        Self { sum: 0, done: 0, length: (network.length / BLOCK).min(most) * BLOCK }
    }

    /// Adds one block; true when that was the last.
    #[inline(always)]
    pub fn step<B: Bytes>(&mut self, bytes: &B) -> bool {
        if self.done >= self.length {
            return true;
        }
        let block: Option<[u32; 4]> = bytes.read(Ethernet::LENGTH + self.done);
        let Some([a, b, c, d]) = block else { return true };
        self.sum += u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d);
        self.done += BLOCK;
        false
    }

    /// Whether all of it could be read.
    #[inline(always)]
    pub fn is_whole(&self) -> bool {
        self.done == self.length
    }

    /// All of it, outside of the kernel.
    #[cfg(not(target_arch = "bpf"))]
    pub fn walked<B: Bytes>(mut self, bytes: &B) -> Self {
        for _ in 0..Self::MOST {
            if self.step(bytes) {
                break;
            }
        }
        self
    }
}

impl Error4 {
    /// To the sender of `frame`, in the name of the address that it wrote to: the circuit is the way there, an interface
    /// of its own the fabric has none, and no filter of the workload's takes it for a stranger's.
    #[inline(always)]
    pub fn of(frame: &Ethernet, network: &Network, mtu: u32, quote: &Quote) -> Self {
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: ((quote.length + longer(4)) as u16).to_be_bytes(),
            identification: [0; 2],
            fragment: Ipv4::DONT_FRAGMENT,
            ttl: tunnel::TTL,
            protocol: PROTOCOL_ICMP,
            checksum: [0; 2],
            source: last(&network.destination),
            destination: last(&network.source),
        };
        ip.checksum = tunnel::checksum(&ip);
        let mut icmp = Icmp { kind: 3, code: 4, checksum: [0; 2], mtu: mtu.to_be_bytes() };
        icmp.checksum = finish(quote.sum + of_icmp(&icmp));
        Self { ethernet: turned(frame, ETHERTYPE_IPV4), ip, icmp }
    }
}

impl Error6 {
    /// As [`Error4::of`].
    #[inline(always)]
    pub fn of(frame: &Ethernet, network: &Network, mtu: u32, quote: &Quote) -> Self {
        let length = quote.length + Icmp::LENGTH;
        let ip = Ipv6 {
            version_class_label: [0x60, 0, 0, 0],
            payload_length: (length as u16).to_be_bytes(),
            next: PROTOCOL_ICMPV6,
            hop_limit: tunnel::TTL,
            source: network.destination,
            destination: network.source,
        };
        let mut icmp = Icmp { kind: 2, code: 0, checksum: [0; 2], mtu: mtu.to_be_bytes() };
        let mut all = quote.sum + of_icmp(&icmp);
        for quarter in [quarters(&network.source), quarters(&network.destination)].as_flattened() {
            all += u64::from(*quarter);
        }
        all += u64::from(length.to_be()) + u64::from(u32::from(PROTOCOL_ICMPV6).to_be());
        icmp.checksum = finish(all);
        Self { ethernet: turned(frame, ETHERTYPE_IPV6), ip, icmp }
    }
}

#[inline(always)]
fn last(address: &ebpf_abi::Address) -> [u8; 4] {
    [address[12], address[13], address[14], address[15]]
}

#[inline(always)]
fn turned(frame: &Ethernet, ethertype: u16) -> Ethernet {
    Ethernet { destination: frame.source, source: frame.destination, ethertype: ethertype.to_be_bytes() }
}

#[inline(always)]
fn of_icmp(icmp: &Icmp) -> u64 {
    u64::from(u32::from_ne_bytes([icmp.kind, icmp.code, 0, 0])) + u64::from(u32::from_ne_bytes(icmp.mtu))
}

#[inline(always)]
fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn frame(v6: bool, protocol: u8, dont: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![6; 6];
        frame.extend([7; 6]);
        let length = payload.len() as u16;
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend([0xfd; 16]);
            frame.extend([0xfc; 16]);
        } else {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + length).to_be_bytes());
            frame.extend([0, 7, dont, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        frame.extend(payload);
        frame
    }

    fn udp(length: u16) -> Vec<u8> {
        let mut udp = vec![0, 9, 0, 53];
        udp.extend(length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend((8..length).map(|i| (i * 7) as u8));
        udp
    }

    /// RFC 1071 by the book: pairs, most significant byte first.
    fn book(parts: &[&[u8]]) -> u16 {
        let all = parts.concat();
        let mut sum =
            all.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(*p.get(1).unwrap_or(&0))).sum::<u32>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn answer(frame: &[u8], mtu: u32) -> Vec<u8> {
        let (network, transport) = parse(frame).expect("well formed");
        assert!(is_answerable(&frame, &network, &transport));
        let quote = Quote::of(&network).walked(&frame);
        assert!(quote.is_whole());
        let link: Ethernet = frame.read(0).expect("a header");
        let mut out = if network.family == 4 {
            Error4::of(&link, &network, mtu, &quote).as_bytes().to_vec()
        } else {
            Error6::of(&link, &network, mtu, &quote).as_bytes().to_vec()
        };
        assert_eq!(out.len() as u32, Ethernet::LENGTH + longer(network.family));
        out.extend(&frame[14..14 + quote.length as usize]);
        out
    }

    #[test]
    fn ipv4_is_told_the_mtu_with_544_bytes_of_its_packet() {
        let out = answer(&frame(false, 17, 0x40, &udp(1_480)), 1_350);
        assert_eq!(out.len(), 14 + 20 + 8 + 544);
        assert_eq!(out[..14], [7, 7, 7, 7, 7, 7, 6, 6, 6, 6, 6, 6, 8, 0]);
        assert_eq!((out[14], &out[16..18], out[23]), (0x45, &572u16.to_be_bytes()[..], 1));
        assert_eq!((book(&[&out[14..34]]), book(&[&out[34..]])), (0xffff, 0xffff));
        assert_eq!(out[26..34], [10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(out[34..36], [3, 4]);
        assert_eq!(out[38..42], [0, 0, 5, 70], "RFC 1191: 16 bits unused, 16 bits MTU");
    }

    #[test]
    fn ipv6_is_told_the_mtu_within_1280_bytes() {
        let out = answer(&frame(true, 17, 0, &udp(1_400)), 1_350);
        assert_eq!(out.len(), 14 + 1_280);
        assert_eq!(out[18..21], [4, 216, 58]);
        assert_eq!((out[22..38].to_vec(), out[38..54].to_vec()), (vec![0xfc; 16], vec![0xfd; 16]));
        assert_eq!(out[54..56], [2, 0]);
        assert_eq!(out[58..62], 1_350u32.to_be_bytes());
        let pseudo = [&out[22..54], &[0, 0, 4, 216], &[0, 0, 0, 58]].concat();
        assert_eq!(book(&[&pseudo, &out[54..]]), 0xffff);
    }

    #[test]
    fn errors_redirects_later_fragments_and_whoever_allows_fragments_are_not_told() {
        let of = |frame: &[u8]| {
            let (network, transport) = parse(frame).expect("well formed");
            is_answerable(&frame, &network, &transport)
        };
        let quote = {
            let mut quote = frame(false, 17, 0, &udp(40))[14..].to_vec();
            quote[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
            quote
        };
        assert!(of(&frame(false, 17, 0x40, &udp(100))));
        assert!(!of(&frame(false, 17, 0, &udp(100))), "may be cut, but not by us");
        assert!(of(&frame(true, 17, 0, &udp(100))));
        assert!(!of(&frame(false, 1, 0x40, &[&[3, 1, 0, 0, 0, 0, 0, 0][..], &quote].concat())));
        assert!(!of(&frame(false, 1, 0x40, &[5, 1, 0, 0, 0, 0, 0, 0])));
        assert!(!of(&frame(true, 58, 0, &[137, 0, 0, 0, 0, 0, 0, 0])));
        assert!(of(&frame(false, 1, 0x40, &[8, 0, 0, 0, 0, 0, 0, 0])), "an echo is answered");
        let later = [&[17, 0, 0, 24, 0, 0, 0, 9][..], &[0; 64]].concat();
        assert!(!of(&frame(true, 44, 0, &later)));
    }

    #[test]
    fn no_more_is_quoted_than_there_is() {
        let (network, _) = parse(&frame(true, 17, 0, &udp(1_180))).expect("well formed");
        assert_eq!(Quote::of(&network).length, 1_216);
    }
}
