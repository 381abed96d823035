//! Makes the frame of a packet that somebody wonders about, as its workload would send it.
use ebpf_abi::Mac;
use proto_model::query::{Body, Packet};
use std::net::IpAddr;

const TTL: u8 = 64;
/// Carried by packets that have room for something.
const PAYLOAD: &[u8] = b"foreweave-why";
const SYN: u8 = 2;
const ACK: u8 = 16;

/// `mac`: of the workload's interface, which addresses its frames to itself, as it has no ARP. None: the two addresses are
/// of two families.
pub fn frame(packet: &Packet, mac: Mac) -> Option<Vec<u8>> {
    let payload = payload(packet);
    let protocol = packet.protocol();
    let mut frame = [mac, mac].concat();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            let mut ip = vec![0x45, 0];
            ip.extend((20 + length(&payload)).to_be_bytes());
            ip.extend([0, 0, 0x40, 0, TTL, protocol, 0, 0]);
            ip.extend(source.octets());
            ip.extend(destination.octets());
            let sum = checksum(&[&ip]);
            ip[10..12].copy_from_slice(&sum);
            frame.extend(ip);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length(&payload).to_be_bytes());
            frame.extend([protocol, TTL]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    }
    frame.extend(payload);
    Some(frame)
}

fn payload(packet: &Packet) -> Vec<u8> {
    let (mut bytes, sum_at) = match packet.body {
        Body::Tcp { source, destination, answer } => (tcp(source, destination, answer), Some(16)),
        Body::Udp { source, destination } => (udp(source, destination), Some(6)),
        Body::Echo { id, answer } => (echo(id, answer, packet.source.is_ipv6()), Some(2)),
        Body::Other(_) => (PAYLOAD.to_vec(), None),
    };
    if let Some(at) = sum_at {
        let pseudo = match packet.body {
            // RFC 792: ICMP of IPv4 has none.
            Body::Echo { .. } if packet.source.is_ipv4() => Vec::new(),
            Body::Tcp { .. } | Body::Udp { .. } | Body::Echo { .. } | Body::Other(_) => {
                pseudo_header(packet, length(&bytes))
            }
        };
        let sum = checksum(&[&pseudo, &bytes]);
        bytes[at..at + 2].copy_from_slice(&sum);
    }
    bytes
}

fn tcp(source: u16, destination: u16, answer: bool) -> Vec<u8> {
    let flags = if answer { SYN | ACK } else { SYN };
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, u8::from(answer), 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

fn udp(source: u16, destination: u16) -> Vec<u8> {
    let length = 8 + length(PAYLOAD);
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    bytes.extend(PAYLOAD);
    bytes
}

fn echo(id: u16, answer: bool, v6: bool) -> Vec<u8> {
    let kind = match (v6, answer) {
        (false, false) => 8,
        (false, true) => 0,
        (true, false) => 128,
        (true, true) => 129,
    };
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(id.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(PAYLOAD);
    bytes
}

/// RFC 9293 §3.1, RFC 8200 §8.1.
fn pseudo_header(packet: &Packet, length: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for address in [packet.source, packet.destination] {
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes.extend([0, packet.protocol()]);
    bytes.extend(length.to_be_bytes());
    bytes
}

/// What is crafted here is short.
fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

/// RFC 1071; every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn packet(source: &str, destination: &str, body: Body) -> Packet {
        let address = |text: &str| text.parse().expect("address");
        Packet { source: address(source), destination: address(destination), body }
    }

    /// Sums to all ones together with its own checksum (RFC 1071 §1).
    fn is_sound(parts: &[&[u8]]) -> bool {
        checksum(parts) == [0, 0]
    }

    #[test]
    fn checksums_of_every_kind_are_right_in_both_families() {
        let ends = [("100.64.0.1", "100.64.0.2"), ("fd00::1", "fd00::2")];
        let bodies = [
            Body::Tcp { source: 40_000, destination: 5432, answer: false },
            Body::Tcp { source: 5432, destination: 40_000, answer: true },
            Body::Udp { source: 9, destination: 53 },
            Body::Echo { id: 7, answer: false },
            Body::Echo { id: 7, answer: true },
        ];
        for ((source, destination), body) in ends.into_iter().flat_map(|e| bodies.map(|body| (e, body))) {
            let packet = packet(source, destination, body);
            let frame = frame(&packet, MAC).expect("one family");
            let v4 = packet.source.is_ipv4();
            let (ip, payload) = frame[14..].split_at(if v4 { 20 } else { 40 });
            assert!(!v4 || is_sound(&[ip]), "{packet}");
            let plain = v4 && matches!(body, Body::Echo { .. });
            let pseudo = if plain { Vec::new() } else { pseudo_header(&packet, length(payload)) };
            assert!(is_sound(&[&pseudo, payload]), "{packet}: {payload:02x?}");
        }
    }

    #[test]
    fn a_packet_of_two_families_has_no_frame() {
        assert_eq!(frame(&packet("100.64.0.1", "fd00::2", Body::Other(47)), MAC), None);
    }
}
