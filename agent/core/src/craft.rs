//! Makes the frame of a packet that somebody wonders about, as its workload would send it.
use ebpf_abi::Mac;
use ebpf_abi::seal::Tag;
use proto_model::query::{Body, Packet, Tunnel};
use std::net::IpAddr;
use zerocopy::IntoBytes;

const TTL: u8 = 64;
/// Carried by packets that have room for something.
const PAYLOAD: &[u8] = b"foreweave-why";
/// Source port of a plain device's tunnel.
const SPECIMEN: u16 = 50_000;
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

/// The same as a plain VXLAN device sends it, without UDP checksum (RFC 6935). None: the outer addresses are of two
/// families.
pub fn wrapped(tunnel: &Tunnel, port: u16, inner: &[u8]) -> Option<Vec<u8>> {
    let length = 16 + length(inner);
    let body = Body::Udp { source: SPECIMEN, destination: port };
    let outer = Packet { source: tunnel.source, destination: tunnel.destination, body, size: None };
    let mut frame = frame(&outer, [0; 6])?;
    frame.truncate(frame.len() - PAYLOAD.len() - 8);
    let family = if tunnel.source.is_ipv4() { 4 } else { 6 };
    if family == 4 {
        frame[16..18].copy_from_slice(&(20 + length).to_be_bytes());
        frame[24..26].fill(0);
        let sum = checksum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum);
    } else {
        frame[18..20].copy_from_slice(&length.to_be_bytes());
    }
    frame.extend([SPECIMEN.to_be_bytes(), port.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat());
    frame.extend([8, 0, 0, 0]);
    frame.extend((tunnel.label.value() << 8).to_be_bytes());
    frame.extend(inner);
    Some(frame)
}

/// A packet as the agent gives it back that decrypted it: [`Tag`] in place of the link layer. None: as [`frame`].
pub fn decrypted(packet: &Packet, came: &Tag) -> Option<Vec<u8>> {
    let mut frame = frame(packet, [0; 6])?;
    let tag = Tag::packet(came.index(), came.circuit(), u16::from_be_bytes([frame[12], frame[13]]));
    frame[..size_of::<Tag>()].copy_from_slice(tag.as_bytes());
    Some(frame)
}

fn payload(packet: &Packet) -> Vec<u8> {
    let (mut bytes, sum_at) = match packet.body {
        Body::Tcp { source, destination, answer } => (tcp(source, destination, answer), Some(16)),
        Body::Udp { source, destination } => (udp(source, destination), Some(6)),
        Body::Echo { id, answer } => (echo(id, answer, packet.source.is_ipv6()), Some(2)),
        Body::Other(_) => (PAYLOAD.to_vec(), None),
    };
    lengthen(&mut bytes, packet);
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

fn lengthen(bytes: &mut Vec<u8>, packet: &Packet) {
    let header = if packet.source.is_ipv4() { 20 } else { 40 };
    let wanted = packet.size.map_or(0, |size| usize::from(size).saturating_sub(header));
    if wanted > bytes.len() {
        bytes.resize(wanted, 0);
    }
    if let Body::Udp { .. } = packet.body {
        let whole = length(bytes);
        bytes[4..6].copy_from_slice(&whole.to_be_bytes());
    }
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
        Packet { source: address(source), destination: address(destination), body, size: None }
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
            for size in [None, Some(30), Some(333), Some(1900)] {
                let packet = Packet { size, ..packet(source, destination, body) };
                let frame = frame(&packet, MAC).expect("one family");
                let least = size.map_or(0, usize::from);
                assert!(frame.len() == 14 + least || least < 100, "{packet}: {}", frame.len());
                check(&packet, &frame);
            }
        }
    }

    fn check(packet: &Packet, frame: &[u8]) {
        let v4 = packet.source.is_ipv4();
        let (ip, payload) = frame[14..].split_at(if v4 { 20 } else { 40 });
        assert!(!v4 || is_sound(&[ip]), "{packet}");
        let plain = v4 && matches!(packet.body, Body::Echo { .. });
        let pseudo = if plain { Vec::new() } else { pseudo_header(packet, length(payload)) };
        assert!(is_sound(&[&pseudo, payload]), "{packet}: {payload:02x?}");
    }

    #[test]
    fn a_plain_devices_frame_is_read_as_a_tunnels() {
        let inside = frame(&packet("fd00::1", "fd00::2", Body::Other(47)), MAC).expect("one family");
        for (source, destination) in [("192.0.2.9", "192.0.2.2"), ("2001:db8::9", "2001:db8::2")] {
            let address = |text: &str| text.parse().expect("address");
            let label = proto_model::Label::new(0x2_0003).expect("a label");
            let tunnel = Tunnel { source: address(source), destination: address(destination), label };
            let whole = wrapped(&tunnel, 4789, &inside).expect("one family");
            let outer = crate::frame::outer(&whole, 4789).expect("ours");
            assert_eq!(
                (outer.source, outer.destination, outer.label),
                (tunnel.source, tunnel.destination, 0x2_0003)
            );
            assert_eq!(whole[outer.inner..], inside);
            assert!(tunnel.source.is_ipv6() || is_sound(&[&whole[14..34]]));
            let (at, ip) = if tunnel.source.is_ipv4() { (16, 0) } else { (18, 40) };
            assert_eq!(usize::from(u16::from_be_bytes([whole[at], whole[at + 1]])), whole.len() - 14 - ip);
        }
    }

    #[test]
    fn a_packet_of_two_families_has_no_frame() {
        assert_eq!(frame(&packet("100.64.0.1", "fd00::2", Body::Other(47)), MAC), None);
    }
}
