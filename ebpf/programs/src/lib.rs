//! The pure half of the data plane: what a packet is, whether it may pass, and how its headers change. The programs in
//! `main.rs` add the kernel; tests and fuzzers read byte slices instead.
#![cfg_attr(target_arch = "bpf", no_std)]
#![forbid(unsafe_code)]

pub mod bytes;
pub mod firewall;
pub mod headers;
pub mod meter;
pub mod network;
pub mod rules;
pub mod seal;
pub mod segment;
pub mod stamp;
pub mod too_big;
pub mod transport;
pub mod tunnel;
pub mod words;

use bytes::Bytes;
use ebpf_abi::Reason;
use headers::{ETHERTYPE_ARP, ETHERTYPE_QINQ, ETHERTYPE_VLAN, Ethernet};
use network::{Extent, Network};

/// The Ethernet and IP header of a workload's frame, which starts at `at`.
///
/// # Errors
/// `Truncated`, `VlanTag`, `NotUnicast` for ARP, and those of [`network::read`].
#[inline(always)]
pub fn workload_frame<B: Bytes>(bytes: &B, at: u32) -> Result<Network, Reason> {
    let ethernet: Ethernet = bytes.read(at).ok_or(Reason::Truncated)?;
    match ethernet.ethertype() {
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(Reason::VlanTag),
        ETHERTYPE_ARP => Err(Reason::NotUnicast),
        ethertype => network::read(bytes, at + Ethernet::LENGTH, ethertype, Extent::Complete),
    }
}

/// A whole frame, as the endpoint programs read it: the entry for fuzzers.
///
/// # Errors
/// The reason for which the data plane would drop it before looking at any circuit or rule.
#[cfg(not(target_arch = "bpf"))]
pub fn parse(frame: &[u8]) -> Result<(Network, transport::Transport), Reason> {
    let network = workload_frame(&frame, 0)?;
    let transport = transport::read(&frame, &network)?;
    Ok((network, transport))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::network::Part;
    use crate::transport::Kind;
    use crate::tunnel;
    use ebpf_abi::Reason;

    fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 7]);
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(payload);
        frame
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend([next, 64]);
        frame.extend([0xfd; 16]);
        frame.extend([0xfc; 16]);
        frame.extend(payload);
        frame
    }

    const SYN: [u8; 20] = [0, 9, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
    const UDP: [u8; 8] = [0, 9, 0, 53, 0, 8, 0, 0];

    #[test]
    fn frame_cut_at_any_byte_is_truncated_or_malformed_but_never_read() {
        for frame in [
            ipv4(6, 0, &SYN),
            ipv4(17, 0, &UDP),
            ipv4(1, 0, &[8, 0, 0, 0, 0, 1, 0, 2]),
            ipv6(6, &SYN),
            ipv6(0, &[&[60, 0, 0, 0, 0, 0, 0, 0][..], &[6, 0, 0, 0, 0, 0, 0, 0], &SYN].concat()),
        ] {
            assert!(parse(&frame).is_ok(), "{frame:?}");
            for length in 0..frame.len() {
                assert_eq!(parse(&frame[..length]).map(|_| ()), Err(Reason::Truncated), "{length} bytes");
            }
        }
    }

    #[test]
    fn padding_behind_the_packet_is_no_part_of_it() {
        let mut frame = ipv4(17, 0, &UDP[..4]);
        frame.extend([0; 40]);
        assert_eq!(parse(&frame).map(|_| ()), Err(Reason::Truncated));
    }

    #[test]
    fn fragments_are_told_apart_in_both_families() {
        let part = |frame: &[u8]| parse(frame).map(|(network, transport)| (network.part, transport.kind));
        assert_eq!(part(&ipv4(17, 0x2000, &UDP)), Ok((Part::First, Kind::Udp)));
        assert_eq!(part(&ipv4(17, 0x0003, &UDP)), Ok((Part::Later, Kind::Hidden)));
        let six = |bits: u16| {
            let [a, b] = bits.to_be_bytes();
            ipv6(44, &[&[17, 0, a, b, 0, 0, 0, 9][..], &UDP].concat())
        };
        assert_eq!(part(&six(1)), Ok((Part::First, Kind::Udp)));
        assert_eq!(part(&six(24)), Ok((Part::Later, Kind::Hidden)));
        assert_eq!(part(&six(0)), Ok((Part::Whole, Kind::Udp)), "RFC 6946: an atomic fragment is whole");
    }

    #[test]
    fn icmp_error_carries_the_ports_that_it_quotes() {
        let quoted = {
            let mut packet = ipv4(17, 0, &UDP)[14..].to_vec();
            packet[12..16].copy_from_slice(&[10, 0, 0, 2]);
            packet[16..20].copy_from_slice(&[10, 0, 0, 1]);
            packet
        };
        let error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        let (_, transport) = parse(&ipv4(1, 0, &error)).expect("well formed");
        assert_eq!((transport.kind, transport.protocol), (Kind::IcmpError, 17));
        assert_eq!((transport.source_port, transport.destination_port), ([0, 9], [0, 53]));
    }

    #[test]
    fn changed_checksum_equals_the_computed_one() {
        let mut ip = crate::headers::Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: [0, 100],
            identification: [1, 2],
            fragment: [0x40, 0],
            ttl: 64,
            protocol: 17,
            checksum: [0; 2],
            source: [192, 0, 2, 1],
            destination: [192, 0, 2, 2],
        };
        for i in 0..=255u8 {
            ip.checksum = tunnel::checksum(&ip);
            let old = u32::from_be_bytes(ip.source);
            ip.source = [i, i.wrapping_mul(7), 255 - i, 0];
            let changes = [(old, u32::from_be_bytes(ip.source))];
            let changed = tunnel::replaced(u16::from_be_bytes(ip.checksum), &changes);
            assert_eq!(changed.to_be_bytes(), tunnel::checksum(&ip), "source {:?}", ip.source);
        }
    }
}
