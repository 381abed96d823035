//! Reads frames as far as people want to know what they are: outer headers, inner addresses and ports, and an identity
//! that a packet keeps from host to host.
use ebpf_abi::seal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
/// VXLAN's own eight bytes (RFC 7348 §5), after those of UDP.
const VXLAN: usize = 8;
/// Extension headers that are looked through, as many as the data plane does.
const EXTENSIONS: usize = 6;

/// What stands before the inner frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub label: u32,
    /// Where the inner Ethernet header begins.
    pub inner: usize,
}

/// What a workload sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// IP protocol number, extension headers left out.
    pub protocol: u8,
    /// Of TCP and UDP; of ICMP 0, and type and code.
    pub source_port: u16,
    pub destination_port: u16,
    pub identity: u64,
}

/// None: it is not one of our tunnel's frames.
pub fn outer(frame: &[u8], port: u16) -> Option<Outer> {
    let ip = network(frame.get(ETHERNET..)?, be16(frame, 12)?)?;
    let udp = ETHERNET + ip.payload;
    let ours = ip.protocol == UDP && !ip.later && be16(frame, udp + 2)? == port;
    let vxlan = frame.get(udp + 8..udp + 8 + VXLAN).filter(|_| ours)?;
    let label = u32::from_be_bytes([0, vxlan[4], vxlan[5], vxlan[6]]);
    Some(Outer { source: ip.source, destination: ip.destination, label, inner: udp + 8 + VXLAN })
}

/// The packet in a workload's frame; none: too little of it is there, or it is no IP.
pub fn inner(frame: &[u8]) -> Option<Inner> {
    let packet = frame.get(ETHERNET..)?;
    let ip = network(packet, be16(frame, 12)?)?;
    let payload = packet.get(ip.payload..).unwrap_or_default();
    let (source_port, destination_port) = if ip.later { (0, 0) } else { ports(ip.protocol, payload) };
    let mut hash = Hash::new();
    hash.add(&packet[ip.addresses.clone()]);
    hash.add(&[ip.protocol]);
    hash.add(&ip.identification);
    identify(&mut hash, if ip.later { 0 } else { ip.protocol }, payload);
    Some(Inner {
        source: ip.source,
        destination: ip.destination,
        protocol: ip.protocol,
        source_port,
        destination_port,
        identity: hash.0,
    })
}

/// Whether a tunnel's frame carries an encrypted packet; see `ebpf_abi::seal`.
pub fn is_sealed(frame: &[u8], port: u16) -> bool {
    let inside = outer(frame, port).and_then(|outer| inner(&frame[outer.inner..]));
    inside.is_some_and(|inside| {
        inside.source == IpAddr::from(seal::SENDER)
            && inside.destination == IpAddr::from(seal::RECEIVER)
            && (inside.protocol, inside.destination_port) == (UDP, seal::PORT)
    })
}

struct Network {
    source: IpAddr,
    destination: IpAddr,
    addresses: std::ops::Range<usize>,
    /// IPv4: identification and offset; IPv6: flow label, and those of a fragment.
    identification: [u8; 8],
    protocol: u8,
    /// From the IP header on.
    payload: usize,
    /// A fragment that is not the first.
    later: bool,
}

fn network(packet: &[u8], ethertype: u16) -> Option<Network> {
    match ethertype {
        IPV4 => ipv4(packet),
        IPV6 => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Network> {
    let head: &[u8; 20] = packet.first_chunk()?;
    let address = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]).into();
    let mut identification = [0; 8];
    identification[..4].copy_from_slice(&head[4..8]);
    Some(Network {
        source: address(12),
        destination: address(16),
        addresses: 12..20,
        identification,
        protocol: head[9],
        payload: usize::from(head[0] & 0xf) * 4,
        later: u16::from_be_bytes([head[6], head[7]]) & 0x1fff != 0,
    })
}

fn ipv6(packet: &[u8]) -> Option<Network> {
    let head: &[u8; 40] = packet.first_chunk()?;
    let address = |at: usize| {
        let octets: [u8; 16] = head[at..at + 16].try_into().unwrap_or_default();
        IpAddr::from(Ipv6Addr::from(octets))
    };
    let mut found = Network {
        source: address(8),
        destination: address(24),
        addresses: 8..40,
        identification: [head[1] & 0xf, head[2], head[3], 0, 0, 0, 0, 0],
        protocol: head[6],
        payload: 40,
        later: false,
    };
    for _ in 0..EXTENSIONS {
        let Some(extension) = packet.get(found.payload..found.payload + 8) else { break };
        match found.protocol {
            // Hop-by-hop, routing, destination options (RFC 8200 §4).
            0 | 43 | 60 => found.payload += 8 * (1 + usize::from(extension[1])),
            44 => {
                found.later = u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 != 0;
                found.identification[4..].copy_from_slice(&extension[4..8]);
                found.identification[3] = extension[3];
                found.payload += 8;
            }
            _ => break,
        }
        found.protocol = extension[0];
    }
    Some(found)
}

fn ports(protocol: u8, payload: &[u8]) -> (u16, u16) {
    let pair = |at| be16(payload, at).unwrap_or(0);
    match protocol {
        6 | 17 => (pair(0), pair(2)),
        1 | 58 => (0, pair(0)),
        _ => (0, 0),
    }
}

/// What neither a host on the way nor segmentation or checksum offload changes.
fn identify(hash: &mut Hash, protocol: u8, payload: &[u8]) {
    let part = |range: std::ops::Range<usize>| {
        let end = range.end.min(payload.len());
        payload.get(range.start..end).unwrap_or_default()
    };
    match protocol {
        6 => {
            // Ports, sequence and acknowledgement numbers; flags, but those that segmentation leaves to the last piece.
            hash.add(part(0..12));
            part(13..14).iter().for_each(|flags| hash.add(&[flags & !(FIN | PSH)]));
        }
        17 => [part(0..4), part(8..40)].iter().for_each(|bytes| hash.add(bytes)),
        1 | 58 => [part(0..2), part(4..40)].iter().for_each(|bytes| hash.add(bytes)),
        _ => hash.add(part(0..32)),
    }
}

/// Of RFC 9293 §3.1.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>), 64 bits: not against enemies, to tell packets apart.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::craft;
    use proto_model::query::{Body, Packet};

    fn frame(source: &str, destination: &str, body: Body) -> Vec<u8> {
        let address = |text: &str| text.parse().expect("address");
        let packet = Packet { source: address(source), destination: address(destination), body, size: None };
        craft::frame(&packet, [2; 6]).expect("one family")
    }

    fn wrapped(inside: &[u8], v6: bool) -> Vec<u8> {
        let mut whole = vec![2; 12];
        let payload = (16 + inside.len()) as u16;
        if v6 {
            whole.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            whole.extend(payload.to_be_bytes());
            whole.extend([17, 64]);
            whole.extend("2001:db8::1".parse::<Ipv6Addr>().expect("address").octets());
            whole.extend("2001:db8::2".parse::<Ipv6Addr>().expect("address").octets());
        } else {
            whole.extend([8, 0, 0x45, 0]);
            whole.extend((20 + payload).to_be_bytes());
            whole.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        }
        whole.extend([0xc0, 0, 0x12, 0xb5]);
        whole.extend(payload.to_be_bytes());
        whole.extend([0, 0, 8, 0, 0, 0, 0xab, 0xcd, 0xef, 0]);
        whole.extend(inside);
        whole
    }

    /// Segmentation leaves PSH and FIN to the last piece (`tcp_gso_segment`), and what puts pieces together takes them over.
    #[test]
    fn the_first_piece_of_a_superpacket_has_its_identity_and_the_second_has_not() {
        const FLAGS: usize = 14 + 20 + 13;
        const SEQUENCE: usize = 14 + 20 + 7;
        let body = Body::Tcp { source: 9, destination: 80, answer: false };
        let piece = frame("100.64.0.1", "100.64.0.2", body);
        let identity = |frame: &[u8]| inner(frame).expect("readable").identity;
        let (mut whole, mut second, mut reset) = (piece.clone(), piece.clone(), piece.clone());
        whole[FLAGS] |= FIN | PSH;
        second[SEQUENCE] ^= 1;
        reset[FLAGS] |= 0x04;
        assert_eq!(identity(&whole), identity(&piece));
        assert_ne!(identity(&second), identity(&piece));
        assert_ne!(identity(&reset), identity(&piece));
    }

    #[test]
    fn a_packet_keeps_its_identity_inside_any_tunnel() {
        for (source, destination) in [("100.64.0.1", "100.64.0.2"), ("fd00::1", "fd00::2")] {
            let inside = frame(source, destination, Body::Tcp { source: 9, destination: 80, answer: false });
            let bare = inner(&inside).expect("readable");
            assert_eq!((bare.protocol, bare.source_port, bare.destination_port), (6, 9, 80));
            for v6 in [false, true] {
                let whole = wrapped(&inside, v6);
                let found = outer(&whole, 4789).expect("ours");
                assert_eq!(found.label, 0xab_cdef);
                assert_eq!(found.source.is_ipv6(), v6);
                assert_eq!(inner(&whole[found.inner..]), Some(bare));
            }
        }
    }

    #[test]
    fn packets_that_differ_have_different_identities() {
        let bodies = [
            Body::Tcp { source: 9, destination: 80, answer: false },
            Body::Tcp { source: 9, destination: 81, answer: false },
            Body::Tcp { source: 9, destination: 80, answer: true },
            Body::Udp { source: 9, destination: 80 },
            Body::Echo { id: 1, answer: false },
            Body::Echo { id: 2, answer: false },
            Body::Other(47),
        ];
        let ends = [("100.64.0.1", "100.64.0.2"), ("100.64.0.2", "100.64.0.1"), ("fd00::1", "fd00::2")];
        let all: std::collections::BTreeSet<u64> = ends
            .iter()
            .flat_map(|(a, b)| bodies.map(|body| inner(&frame(a, b, body)).expect("readable").identity))
            .collect();
        assert_eq!(all.len(), ends.len() * bodies.len());
    }

    #[test]
    fn a_checksum_that_hardware_fills_in_does_not_change_the_identity() {
        let mut one =
            frame("100.64.0.1", "100.64.0.2", Body::Tcp { source: 9, destination: 80, answer: false });
        let before = inner(&one).map(|inner| inner.identity);
        one[14 + 20 + 16] ^= 0xff;
        assert_eq!(inner(&one).map(|inner| inner.identity), before);
    }

    #[test]
    fn whatever_is_cut_off_is_not_read() {
        let whole = wrapped(&frame("fd00::1", "fd00::2", Body::Udp { source: 1, destination: 2 }), true);
        for length in 0..whole.len() {
            if let Some(found) = outer(&whole[..length], 4789) {
                inner(&whole[found.inner..length]);
            }
            inner(&whole[..length]);
        }
        assert_eq!(outer(&whole, 4790), None);
    }
}
